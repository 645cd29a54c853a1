"""A run goes to its end whatever dies on the way, and no hospital pays or answers twice.

Real processes over real TLS on loopback; one consortium for all tests, a run for each.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.records.journal import Bundle, Failed, Left, Refused
from polyclinic_common.errors import RunError
from polyclinic_common.models.vectors import load_vectors
from polyclinic_server.runs.folder import RunFolder
from polyclinic_server.runs.operate import resume_run, start_run, stop_run
from polyclinic_server.superlink.app_bundle import bundle_hash
from tests.kits.consortium import LONG_S, Consortium, consortium, wait_for, wait_for_event

ROUNDS = 6
RUNS = ("whole", "worker", "node", "server", "coordinator", "early", "away", "stop")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    folder = tmp_path_factory.mktemp("consortium")
    with consortium(folder, sites=4, rounds=ROUNDS, runs=RUNS) as made:
        made.start_server()
        for name in made.names:
            made.start_node(name)
        yield made


def start(house: Consortium, run: str, patience_s: float = 8.0) -> RunFolder:
    return start_run(house.server_folder, house.describe(run, patience_s=patience_s))


def worker_of(house: Consortium, name: str) -> int:
    (worker,) = house.processes[name].children
    return worker


def finish(house: Consortium, run: RunFolder) -> None:
    """Wait for the end and check what every hospital paid: each round once."""
    wait_for_event(run, "finished")
    vectors, _ = load_vectors(run.model)
    assert np.isfinite(vectors["weights"]).all()
    for name in house.names:
        with SiteFolder.open(house.site_folder(name), read_only=True) as site:
            site.ledger.verify()
            held = site.ledger.releases_of(run.name)
            rounds = [each.reserved.release.round_number for each in held]
            assert len(rounds) == len(set(rounds)) <= ROUNDS
            assert all(site.ledger.stored(each.reserved.release) is None for each in held)


def answered(run: RunFolder) -> dict[int, set[str]]:
    return {event.round: set(event.sites) for event in run.events() if event.what == "round"}


def test_a_run_goes_through_and_what_left_is_journalled(house: Consortium) -> None:
    run = start(house, "whole", patience_s=60.0)  # workers import torch
    finish(house, run)
    assert set(answered(run)) == set(range(1, ROUNDS + 1))
    assert all(sites == set(house.names) for sites in answered(run).values())
    for name in house.names:
        events = house.journal(name)
        left = [event for event in events if isinstance(event, Left)]
        assert sum(event.kind == "masked_vector" for event in left) == ROUNDS
        assert all(event.tick % 250 == 0 for event in left)
        assert not [event for event in events if isinstance(event, Refused | Failed)]
        bundles = [event.sha256.hex() for event in events if isinstance(event, Bundle)]
        assert bundles == [bundle_hash()]
        with SiteFolder.open(house.site_folder(name), read_only=True) as site:
            settled = [each.settled for each in site.ledger.releases_of("whole")]
            assert len(settled) == ROUNDS
            assert all(settled)


def test_a_worker_that_dies_costs_silence_and_a_line_in_the_journal(house: Consortium) -> None:
    run = start(house, "worker")
    wait_for_event(run, "round", 1)
    os.kill(worker_of(house, "site 1"), signal.SIGKILL)
    finish(house, run)
    assert house.processes["site 1"].popen.poll() is None  # type: ignore[union-attr]
    failures = [event.code for event in house.journal("site 1") if isinstance(event, Failed)]
    assert failures == ["N002"]


def test_a_node_that_is_killed_goes_on_with_a_new_epoch(house: Consortium) -> None:
    run = start(house, "node")
    wait_for_event(run, "round", 1)
    house.kill("site 2")
    house.start_node("site 2")
    finish(house, run)
    assert "site 2" in answered(run)[ROUNDS]


def test_a_server_that_is_killed_goes_on_where_it_stood(house: Consortium) -> None:
    run = start(house, "server")
    wait_for_event(run, "round", 2)
    house.kill("server")
    time.sleep(0.5)
    reached = max(answered(run))
    with run.alone():  # refused as long as the coordinator lives
        pass
    house.start_server()
    resume_run(house.server_folder, "server")
    finish(house, run)
    assert sorted(event.round for event in run.events() if event.what == "round") == list(
        range(1, ROUNDS + 1)
    )
    assert reached < ROUNDS


def test_a_coordinator_that_is_killed_leaves_a_run_that_can_go_on(house: Consortium) -> None:
    run = start(house, "coordinator")
    wait_for_event(run, "round", 1)
    (coordinator,) = house.processes["server"].children
    os.kill(coordinator, signal.SIGKILL)
    wait_for("end", lambda: run.status() == "cut off")
    assert [event.what for event in run.follow()][-1] != "finished"
    resume_run(house.server_folder, "coordinator")
    finish(house, run)


def test_a_run_that_never_started_says_so_and_can_go_on(house: Consortium) -> None:
    """Its coordinator is killed while it starts, and then the server and the coordinator."""
    wait_for("rest", lambda: not house.processes["server"].children)
    run = start(house, "early")
    os.kill(starting_coordinator(house), signal.SIGKILL)
    assert wait_for_event(run, "failed").code == "R009"
    resume_run(house.server_folder, "early")
    starting_coordinator(house)
    house.kill("server")
    assert run.status() == "submitted"
    house.start_server()
    assert [event.what for event in run.events()] == ["submitted", "failed"] * 2
    resume_run(house.server_folder, "early")
    finish(house, run)


def starting_coordinator(house: Consortium) -> int:
    """Return the process of a coordinator that imports what it needs, which takes seconds."""
    server = house.processes["server"]
    wait_for("coordinator", lambda: bool(server.children))
    (process,) = server.children
    return process


def test_a_hospital_that_vanishes_is_done_without_and_comes_back(house: Consortium) -> None:
    """Its node is frozen, as if the network were gone, until a round came out without it."""
    run = start(house, "away")
    wait_for_event(run, "round", 1)
    house.processes["site 3"].popen.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
    wait_for("round without", lambda: any(len(s) == 3 for s in answered(run).values()), LONG_S)
    house.processes["site 3"].popen.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    finish(house, run)
    present = [("site 3" in sites) for _, sites in sorted(answered(run).items())]
    assert present[0]
    assert not all(present)
    assert present[-1]
    waited_for = [event.waiting_for for event in run.events() if event.what == "waiting"]
    assert any("site 3" in waiting for waiting in waited_for)


def test_an_operator_stops_a_run_and_goes_on(house: Consortium) -> None:
    """A node is frozen so that the run is not over before it is stopped."""
    run = start(house, "stop")
    wait_for_event(run, "round", 1)
    house.processes["site 3"].popen.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
    with pytest.raises(RunError, match="already"):
        resume_run(house.server_folder, "stop")
    stop_run(house.server_folder, "stop")
    house.processes["site 3"].popen.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    assert wait_for_event(run, "stopped").code == "R007"
    resume_run(house.server_folder, "stop")
    finish(house, run)


def test_a_coordinator_may_take_longer_to_start_than_flower_waits(tmp_path: Path) -> None:
    """On a busy machine that is more than half a minute; here Flower waits half a second."""
    with consortium(tmp_path) as house:
        house.start_server(hasty=True)
        run = start(house, "run-1")
        wait_for_event(run, "started")
