"""`polyclinic simulate`, typed as a user would."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.kits.small import write_study
from tests.kits.typed import Running, answer, typed, wait_for


def test_a_table_becomes_a_report(tmp_path: Path) -> None:
    study, table = write_study(tmp_path)
    done = typed(
        *f"simulate {study} --data {table} --epsilon 0.5 2 --mode local none --seeds 2".split(),
        folder=tmp_path,
    )
    assert done.status == 0, done.err
    assert "Trained together, ε = 0.5" in done.out
    assert "add or remove one patient" in done.out
    result = json.loads((tmp_path / "polyclinic-out/small/result.json").read_text())
    settings = [(cell["mode"], cell["epsilon"], cell["seed"]) for cell in result["cells"]]
    assert settings == [
        *[("local", 0.5, 0), ("local", 0.5, 1), ("local", 2.0, 0), ("local", 2.0, 1)],
        *[("none", None, 0), ("none", None, 1)],
    ]
    assert (tmp_path / "polyclinic-out/small/report.html").exists()
    words = f"simulate --epsilon 0.5 2 --seeds 2 {study} --data {table}".split()
    assert len(answer(*words, folder=tmp_path)["cells"]) == 4


def test_a_menu_shows_what_was_chosen_and_what_it_cost(tmp_path: Path) -> None:
    study, table = write_study(tmp_path)
    menu = "menu = [{ learning_rate = 0.001 }, { learning_rate = 4, momentum = 0.5 }]"
    private = '[evaluation.private]\nmetrics = ["mae"]'
    study.write_text("\n".join([study.read_text(), menu, private]))
    words = f"simulate {study} --data {table} --epsilon 20".split()
    done = typed(*words, folder=tmp_path)
    assert done.status == 0, done.err
    for shown in (done.out, (tmp_path / "polyclinic-out/small/report.html").read_text()):
        assert "learning rate 4, momentum 0.5" in shown
        assert "1.41 times that of a study with one setting" in shown
    as_json = typed(*words, "--json", folder=tmp_path)
    (cell,) = json.loads(as_json.out)["cells"]
    assert [each["learning_rate"] for each in cell["menu"]] == [0.001, 4.0]
    assert sum(each["chosen"] for each in cell["menu"]) == 1
    shown = typed("study", "show", str(study), folder=tmp_path).out
    assert "Two settings are trained one after the other, 6 rounds each" in " ".join(shown.split())
    study.write_text(study.read_text().replace(private, ""))
    refused = typed("study", "check", str(study), folder=tmp_path)
    assert refused.status == 10
    assert "Add [evaluation.private]" in refused.err


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(tmp_path: Path) -> None:
    words = "simulate gbsg2 --epsilon 1 4 --seeds 20 --out out".split()
    running = Running(tmp_path / "said.log", *words, folder=tmp_path)
    cells = tmp_path / "out" / "cells"
    wait_for("two cells", lambda: len(list(cells.glob("*.json"))) >= 2, 120)
    assert running.signal(signal.SIGINT) == 130
    assert "Traceback" not in running.said()
    assert "goes on from there" in running.said()
    kept = {path: path.stat().st_mtime_ns for path in cells.glob("*.json")}
    assert len(kept) >= 2
    again = typed(*"simulate gbsg2 --epsilon 1 --seeds 1 --out out".split(), folder=tmp_path)
    assert again.status == 0, again.err
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())


def test_mistakes_are_answered_with_a_code_and_a_remedy(tmp_path: Path) -> None:
    study, table = write_study(tmp_path)
    latin = tmp_path / "latin.csv"
    latin.write_bytes(table.read_text().replace("female", "jünger").encode("latin-1"))
    for words, code, status in (
        (["simulate", "nonsense"], "S004", 10),
        (["simulate", "missing.toml"], "S001", 10),
        (["simulate", str(study)], "D001", 11),
        (["simulate", str(study), "--data", "absent.csv"], "D001", 11),
        (["simulate", str(study), "--data", str(latin)], "D002", 11),
        (["simulate", str(study), "--data", str(table), "--epsilon", "0"], "P001", 12),
    ):
        done = typed(*words, folder=tmp_path)
        assert (done.status, "Traceback" in done.err) == (status, False), done.err
        assert f"error {code}" in done.err
        assert "→" in done.err
    as_json = typed("simulate", "nonsense", "--json", folder=tmp_path)
    assert json.loads(as_json.err)["error"] == "S004"


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def children_of(parent: int) -> list[int]:
    """Return the live children of a process, from /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def test_kill_9_leaves_no_worker_behind_and_the_same_command_goes_on(tmp_path: Path) -> None:
    words = "simulate gbsg2 --seeds 30 --workers 2 --out out".split()
    running = Running(tmp_path / "said.log", *words, folder=tmp_path)
    cells = tmp_path / "out" / "cells"
    wait_for("a cell", lambda: any(cells.glob("*.json")), 120)
    workers = children_of(running.popen.pid)
    assert workers
    running.popen.kill()
    running.popen.wait()
    wait_for("end of the workers", lambda: not any(map(is_alive, workers)), 30)
    again = typed(*"simulate gbsg2 --seeds 1 --out out".split(), folder=tmp_path)
    assert again.status == 0, again.err


def test_a_table_in_other_words_is_refused_and_gets_in_by_the_proposed_mapping(
    tmp_path: Path,
) -> None:
    study, table = write_study(tmp_path)
    plain = f"simulate {study} --data {table} --mode none --json".split()
    wanted = json.loads(typed(*plain, folder=tmp_path).out)
    table.write_text(table.read_text().replace(",male,", ",m,").replace(",female,", ",w,"))
    refused = typed(*plain, folder=tmp_path)
    assert refused.status != 0
    assert "D007" in refused.err
    assert "--map" in refused.err
    propose = f"data check {study} {table} --propose map.toml".split()
    assert typed(*propose, folder=tmp_path).status != 0
    proposed = (tmp_path / "map.toml").read_text()
    accepted = [line.removeprefix("# ") for line in proposed.splitlines()]
    (tmp_path / "map.toml").write_text("\n".join(accepted))
    done = typed(*plain, "--map", "map.toml", folder=tmp_path)
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["cells"][0]["test"] == wanted["cells"][0]["test"]
