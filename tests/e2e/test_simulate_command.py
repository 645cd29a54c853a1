"""`polyclinic simulate`, typed as a user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.kits.small import write_study

POLYCLINIC = Path(sys.executable).with_name("polyclinic")


def polyclinic(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [POLYCLINIC, *words], cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )


def test_a_table_becomes_a_report(tmp_path: Path) -> None:
    study, table = write_study(tmp_path)
    done = polyclinic(
        *f"simulate {study} --data {table} --epsilon 0.5 2 --mode local none --seeds 2".split(),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "Trained together, ε = 0.5" in done.stdout
    assert "add or remove one patient" in done.stdout
    result = json.loads((tmp_path / "polyclinic-out/small/result.json").read_text())
    settings = [(cell["mode"], cell["epsilon"], cell["seed"]) for cell in result["cells"]]
    assert settings == [
        *[("local", 0.5, 0), ("local", 0.5, 1), ("local", 2.0, 0), ("local", 2.0, 1)],
        *[("none", None, 0), ("none", None, 1)],
    ]
    assert (tmp_path / "polyclinic-out/small/report.html").exists()
    as_json = polyclinic(
        *f"simulate --epsilon 0.5 2 --seeds 2 --json {study} --data {table}".split(), cwd=tmp_path
    )
    assert len(json.loads(as_json.stdout)["cells"]) == 4


def test_a_menu_shows_what_was_chosen_and_what_it_cost(tmp_path: Path) -> None:
    study, table = write_study(tmp_path)
    menu = "menu = [{ learning_rate = 0.001 }, { learning_rate = 4, momentum = 0.5 }]"
    private = '[evaluation.private]\nmetrics = ["mae"]'
    study.write_text("\n".join([study.read_text(), menu, private]))
    words = f"simulate {study} --data {table} --epsilon 20".split()
    done = polyclinic(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for shown in (done.stdout, (tmp_path / "polyclinic-out/small/report.html").read_text()):
        assert "learning rate 4, momentum 0.5" in shown
        assert "1.41 times that of a study with one setting" in shown
    as_json = polyclinic(*words, "--json", cwd=tmp_path)
    (cell,) = json.loads(as_json.stdout)["cells"]
    assert [each["learning_rate"] for each in cell["menu"]] == [0.001, 4.0]
    assert sum(each["chosen"] for each in cell["menu"]) == 1
    shown = polyclinic("study", "show", str(study), cwd=tmp_path).stdout
    assert "Two settings are trained one after the other, 6 rounds each" in " ".join(shown.split())
    study.write_text(study.read_text().replace(private, ""))
    refused = polyclinic("study", "check", str(study), cwd=tmp_path)
    assert refused.returncode == 10
    assert "Add [evaluation.private]" in refused.stderr


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(tmp_path: Path) -> None:
    words = [str(POLYCLINIC), *"simulate gbsg2 --epsilon 1 4 --seeds 20 --out out".split()]
    process = subprocess.Popen(
        words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    cells = tmp_path / "out" / "cells"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(cells.glob("*.json"))) < 2:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "goes on from there" in errors
    kept = {path: path.stat().st_mtime_ns for path in cells.glob("*.json")}
    assert len(kept) >= 2
    again = polyclinic(*"simulate gbsg2 --epsilon 1 --seeds 1 --out out".split(), cwd=tmp_path)
    assert again.returncode == 0, again.stderr
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
        done = polyclinic(*words, cwd=tmp_path)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
        assert f"error {code}" in done.stderr
        assert "→" in done.stderr
    as_json = polyclinic("simulate", "nonsense", "--json", cwd=tmp_path)
    assert json.loads(as_json.stderr)["error"] == "S004"


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
    words = [str(POLYCLINIC), *"simulate gbsg2 --seeds 30 --workers 2 --out out".split()]
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL)
    cells = tmp_path / "out" / "cells"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(cells.glob("*.json")):
        time.sleep(0.1)
    workers = children_of(process.pid)
    assert workers
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in workers):
        time.sleep(0.2)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    again = polyclinic(*"simulate gbsg2 --seeds 1 --out out".split(), cwd=tmp_path)
    assert again.returncode == 0, again.stderr


def test_a_table_in_other_words_is_refused_and_gets_in_by_the_proposed_mapping(
    tmp_path: Path,
) -> None:
    study, table = write_study(tmp_path)
    plain = f"simulate {study} --data {table} --mode none --json".split()
    wanted = json.loads(polyclinic(*plain, cwd=tmp_path).stdout)
    table.write_text(table.read_text().replace(",male,", ",m,").replace(",female,", ",w,"))
    refused = polyclinic(*plain, cwd=tmp_path)
    assert refused.returncode != 0
    assert "D007" in refused.stderr
    assert "--map" in refused.stderr
    propose = f"data check {study} {table} --propose map.toml".split()
    assert polyclinic(*propose, cwd=tmp_path).returncode != 0
    proposed = (tmp_path / "map.toml").read_text()
    accepted = [line.removeprefix("# ") for line in proposed.splitlines()]
    (tmp_path / "map.toml").write_text("\n".join(accepted))
    done = polyclinic(*plain, "--map", "map.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cells"][0]["test"] == wanted["cells"][0]["test"]
