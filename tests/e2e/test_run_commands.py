"""Runs as operator and hospitals type them: real processes, TLS, ledgers; deaths on the way.

One consortium of four hospitals for all tests (m = 3, c = 1), a study for each.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.entries import Price
from polyclinic_server.runs.folder import CUT_OFF, ENDS, RUNS, RunFolder
from tests.kits.typed import Running, refusal, typed, wait_for
from tests.kits.typed_consortium import TypedConsortium

ROUNDS = 6
LONG = 10
HEAVY_S = 150.0  # for what takes seconds on a quiet machine


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TypedConsortium]:
    """Return a consortium of four hospitals that know each other, server and nodes up."""
    made = TypedConsortium(tmp_path_factory.mktemp("house"), hospitals=4)
    made.up()
    try:
        for name in made.names:
            made.join(name, "--epsilon-cap", 20)
        made.verify_all()
        made.node_up(*made.names)
        yield made
    finally:
        for node in made.nodes.values():
            node.popen.kill()
        if made.process is not None:
            made.process.popen.kill()


def offer(house: TypedConsortium, study: str, rounds: int = ROUNDS, **changes: Any) -> str:
    """Return a study that every hospital has approved."""
    privacy = {"epsilon": 0.5, "mode": "secure-sum"}
    name = house.offer(id=study, training={"rounds": rounds}, privacy=privacy, **changes)
    house.approve(name)
    return name


def start(house: TypedConsortium, study: str) -> str:
    return str(house.operate("run", "start", study, "--detach")["run"])


def events(house: TypedConsortium, run: str) -> list[dict[str, Any]]:
    """Return a run's events as `run show --json` prints them."""
    found: list[dict[str, Any]] = house.operate("run", "show", run)["events"]
    return found


def folder_of(house: TypedConsortium, run: str) -> RunFolder:
    return RunFolder.named(house.server / RUNS, run)


def state(house: TypedConsortium, run: str) -> dict[str, Any]:
    (found,) = [each for each in house.operate("run", "list") if each["run"] == run]
    return dict(found)


def answered(house: TypedConsortium, run: str) -> dict[int, list[str]]:
    """Return who answered, by round; a round is written down once."""
    rounds = [each for each in folder_of(house, run).events() if each.what == "round"]
    numbers = [each.round for each in rounds]
    assert len(numbers) == len(set(numbers))
    return {each.round: list(each.sites) for each in rounds}


def wait_for_round(house: TypedConsortium, run: str, number: int) -> None:
    wait_for(f"round {number}", lambda: number in answered(house, run), HEAVY_S)


def ends(house: TypedConsortium, run: str, how: str = "finished") -> None:
    wait_for("end", lambda: folder_of(house, run).status() in (*ENDS, CUT_OFF), HEAVY_S)
    assert state(house, run)["state"] == how, events(house, run)[-1]


def charged(house: TypedConsortium, name: str, run: str) -> dict[tuple[str, int], Price | None]:
    """Return what one hospital paid for a run: by kind and round, the price; none paid twice."""
    with SiteFolder.open(house.site(name), read_only=True) as site:
        site.ledger.verify()
        site.journal.verify()
        held = site.ledger.releases_of(run)
    prices: dict[tuple[str, int], Price | None] = {
        (h.reserved.release.kind, h.reserved.release.round_number): h.settled for h in held
    }
    assert len(prices) == len(held)
    return prices


def all_paid_once(house: TypedConsortium, run: str, rounds: int = ROUNDS) -> None:
    for name in house.names:
        expected = {("gradient", number): "headline" for number in range(1, rounds + 1)}
        assert charged(house, name, run) == expected


def test_from_approvals_to_a_model_at_the_hospitals(house: TypedConsortium, tmp_path: Path) -> None:
    study = house.offer(id="whole", training={"rounds": ROUNDS}, privacy={"epsilon": 0.5})
    house.approve(study, *house.names[:2])
    code, remedy = refusal("server", "run", "start", study, "--folder", house.server)
    assert (code, remedy) == ("R001", "Ask these to approve it: site 2, site 3.")
    house.approve(study, "site 2")
    few = ("server", "run", "start", study, "--folder", house.server, "--min-sites", 4)
    code, remedy = refusal(*few)
    assert (code, "--min-sites" in remedy) == ("R001", True)
    house.approve(study, "site 3")
    assert house.operate("run", "list") == []
    done = typed("server", "run", "start", study, "--min-sites", 1, "--folder", house.server)
    assert done.status == 0, done.err
    assert "Finished" in done.out
    (listed,) = house.operate("run", "list")
    run = listed["run"]
    assert (listed["state"], listed["round"], listed["of"]) == ("finished", ROUNDS, ROUNDS)
    assert "whole" in typed("server", "run", "list", "--folder", house.server).out
    assert set(answered(house, run)) == set(range(1, ROUNDS + 1))
    assert all(sites == house.names for sites in answered(house, run).values())
    shown = typed("server", "run", "show", run[:8], "--folder", house.server).out
    assert f"round {ROUNDS}: 4 hospitals" in shown
    all_paid_once(house, run)
    status = house.at("site 0", "status")
    assert status["runs"] == [f"{run[:12]} finished, round {ROUNDS} of {ROUNDS}"]
    left = [each for each in house.at("site 0", "journal", "show") if each["entry"] == "left"]
    assert sum(each["kind"] == "masked_vector" for each in left) == ROUNDS
    budget = house.at("site 0", "ledger", "budget")
    assert budget["spent"] == budget["settled"] == pytest.approx(0.5, abs=1e-6)
    replayed = house.at("site 0", "ledger", "replay")
    assert replayed["spent"] == pytest.approx(budget["spent"], abs=1e-9)
    for words in (("status",), ("journal", "show"), ("ledger", "budget"), ("ledger", "replay")):
        assert typed("client", *words, "--site", house.site("site 0")).status == 0
    out = tmp_path / "model.safetensors"
    fetch = ("model", "fetch", "--weights")
    house.at("site 0", *fetch, run[:8], "--out", out)
    assert out.read_bytes() == (house.server / "runs" / run / "model.safetensors").read_bytes()
    rows = typed("study", "coefficients", str(out)).out.splitlines()
    assert [row.partition(",")[0] for row in rows[:3]] == ["name", "intercept", "age"]
    assert house.refused_at("site 0", *fetch, run, "--out", out)[0] == "D010"
    assert house.refused_at("site 0", *fetch, "nosuch", "--out", tmp_path / "x")[0] == "R004"
    assert refusal("server", "run", "resume", run, "--folder", house.server)[0] == "R008"
    assert refusal("server", "run", "stop", run, "--folder", house.server)[0] == "R008"
    assert refusal("server", "run", "show", "nosuch", "--folder", house.server)[0] == "R004"


def test_a_run_that_is_stopped_goes_on(house: TypedConsortium) -> None:
    run = start(house, offer(house, "stopped", LONG))
    wait_for_round(house, run, 1)
    assert refusal("server", "run", "resume", run, "--folder", house.server)[0] == "R006"
    assert house.operate("run", "stop", run) == {"run": run, "stopping": True}
    ends(house, run, "stopped")
    assert state(house, run)["round"] < LONG
    said = events(house, run)[-1]
    assert (said["code"], "run resume" in said["text"]) == ("R007", True)
    assert "stopped" in house.at("site 1", "status")["runs"][0]
    done = house.operate("run", "resume", run)
    assert (done["run"], done["rounds"]) == (run, LONG)
    all_paid_once(house, run, LONG)


def test_a_killed_server_goes_on_and_nobody_pays_twice(house: TypedConsortium) -> None:
    watching = Running(
        house.folder / "watching.log",
        *("server", "run", "start", offer(house, "killed"), "--folder", house.server),
    )
    watching.wait_for("Ctrl-C stops watching")
    run = watching.said().split("Run ")[1].split(".")[0]
    wait_for_round(house, run, 2)
    house.kill_server()
    assert max(answered(house, run)) < ROUNDS
    assert watching.popen.wait(timeout=20) == 15
    assert "R009" in watching.said()
    assert "Traceback" not in watching.said()
    assert state(house, run)["state"] == "cut off"
    house.up()
    assert "cut off" in house.at("site 1", "status")["runs"][0]
    house.operate("run", "resume", run)
    assert set(answered(house, run)) == set(range(1, ROUNDS + 1))
    all_paid_once(house, run)


def test_a_killed_node_takes_part_again(house: TypedConsortium) -> None:
    run = start(house, offer(house, "node"))
    wait_for_round(house, run, 2)
    house.kill_node("site 2")
    house.node_up("site 2")
    ends(house, run)
    assert "site 2" in answered(house, run)[ROUNDS]
    for name in house.names:
        paid = charged(house, name, run)
        assert set(paid.values()) == {"headline"}
        if name != "site 2":
            assert len(paid) == ROUNDS


def test_metrics_and_votes_are_charged_and_shown(house: TypedConsortium) -> None:
    evaluation = {"private": {"every": 3}, "acceptance": {"epsilon": 0.1}}
    run = start(house, offer(house, "metrics", evaluation=evaluation))
    ends(house, run)
    for name in house.names:
        paid = charged(house, name, run)
        votes = [release for release in paid if release[0] == "vote"]
        assert len(votes) == 1
        del paid[votes[0]]  # it has one price and is never settled
        sums = [("gradient", number) for number in range(1, ROUNDS + 1)]
        expected = [*sums, ("metrics", 3), ("metrics", ROUNDS)]
        assert paid == dict.fromkeys(expected, "headline")
    shown = house.operate("run", "show", run)
    assert shown["state"] == "finished"
    assert shown["verdict"]["votes"] == len(house.names)
    assert [each["round_number"] for each in shown["metrics"]] == [3, ROUNDS]
    plain = typed("server", "run", "show", run, "--folder", house.server).out
    assert "accuracy" in plain
    assert "verdict" in plain


def test_a_ledger_of_yesterday_is_noticed_and_mended(
    house: TypedConsortium, tmp_path: Path
) -> None:
    first, second = offer(house, "today"), offer(house, "tomorrow", rounds=LONG)
    house.node_down("site 3")
    yesterday = tmp_path / "yesterday"
    shutil.copytree(house.site("site 3"), yesterday)
    house.node_up("site 3")
    house.operate("run", "start", first)
    house.node_down("site 3")
    shutil.rmtree(house.site("site 3"))
    shutil.copytree(yesterday, house.site("site 3"))
    house.node_up("site 3")
    run = start(house, second)
    wait_for_round(house, run, 2)
    assert answered(house, run)[2] == house.names[:3]
    assert charged(house, "site 3", run) == {}
    journal = house.at("site 3", "journal", "show")
    assert {each["run"] for each in journal if each.get("code") == "L006"} == {run}
    told = typed("client", "journal", "show", "--run", run, "--site", house.site("site 3")).out
    assert "client ledger recover" in told
    house.operate("run", "stop", run)
    ends(house, run, "stopped")
    house.node_down("site 3")
    mended = house.at("site 3", "ledger", "recover", "--from-consortium")
    assert mended["reimported"] > 0
    assert mended["charged"] == 0
    house.node_up("site 3")
    house.operate("run", "resume", run)
    assert "site 3" in answered(house, run)[LONG]
    assert len(charged(house, "site 3", run)) < LONG


def test_what_runs_already_is_not_started_again(house: TypedConsortium, tmp_path: Path) -> None:
    again = ("server", "up", "--folder", house.server)
    assert refusal(*again)[0] == "C027"
    second = typed("client", "up", "--site", house.site("site 0"))
    assert second.status == 21
    assert "N001" in second.err
    assert "Ctrl-C" not in second.out
    assert typed("client", "up", "--site", tmp_path / "nobody").status == 22
    assert house.at("site 0", "status")["node"] == "connected"


def test_what_runs_for_long_stops_quietly(house: TypedConsortium) -> None:
    assert house.process is not None
    run = start(house, offer(house, "quiet", LONG))
    wait_for_round(house, run, 1)
    assert house.nodes["site 0"].signal(signal.SIGINT) == 0
    house.nodes["site 1"].popen.terminate()
    assert house.nodes["site 1"].popen.wait(timeout=20) == 0
    assert house.process.signal(signal.SIGINT) == 0
    for started in (house.nodes["site 0"], house.nodes["site 1"], house.process):
        assert "Traceback" not in started.said(), started.said()
        assert json.loads(started.said().splitlines()[-1])["what"] == "stopped"
    house.up()
    house.node_up("site 0", "site 1")
    house.operate("run", "resume", run)
    all_paid_once(house, run, LONG)


def test_a_revoked_hospital_is_shut_out_at_once(house: TypedConsortium) -> None:
    run = start(house, offer(house, "revoked"))
    wait_for_round(house, run, 1)
    house.operate("site", "revoke", "site 3")
    wait_for("refusal", lambda: "status 403" in house.nodes["site 3"].said())
    ends(house, run)
    assert answered(house, run)[ROUNDS] == house.names[:3]
