"""Whatever is killed, what comes out of a round is the sum of what hospitals stored, each once.

Real processes over real TLS; the coordinator writes its sums down and lets the test read the
hospitals' stored vectors before it closes a run, which erases them.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.state import ReleaseState
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.releases.kinds import GRADIENT
from polyclinic_common.secure_sum.masks import Integers
from polyclinic_server.runs.folder import RunFolder
from polyclinic_server.runs.operate import resume_run, start_run
from tests.kits.consortium import (
    LONG_S,
    MAY_CLOSE,
    SUMS,
    Consortium,
    consortium,
    wait_for,
    wait_for_event,
)

ROUNDS, DIES_IN = 4, 2
RUNS = BETWEEN, KILLED = ("between", "killed")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    folder = tmp_path_factory.mktemp("consortium")
    with consortium(folder, rounds=ROUNDS, runs=RUNS) as made:
        made.start_server(witnessed=True)
        for name in made.names:
            made.start_node(name, dies=(BETWEEN, DIES_IN) if name == "site 0" else None)
        yield made


def start(house: Consortium, run: str, patience_s: float) -> RunFolder:
    return start_run(house.server_folder, house.describe(run, patience_s=patience_s))


def stored(house: Consortium, name: str, release: ReleaseId) -> Integers:
    with SiteFolder.open(house.site_folder(name), read_only=True) as site:
        held = site.ledger.stored(release)
        assert held is not None
        return held.vector


def held_by(house: Consortium, name: str, run: str) -> list[ReleaseState]:
    with SiteFolder.open(house.site_folder(name), read_only=True) as site:
        site.ledger.verify()
        held = [each for other in RUNS for each in site.ledger.releases_of(other)]
        assert site.ledger.budget().releases == len(held)  # no charge is hidden behind another
        return [each for each in held if each.reserved.release.run == run]


def sums_of(run: RunFolder) -> list[list[Any]]:
    lines = (run.path / SUMS).read_text().splitlines()
    return [json.loads(line) for line in lines]


def finish(house: Consortium, run: RunFolder) -> None:
    """Check every sum that came out against the ledgers; then close the run, and check it too."""
    wait_for_event(run, "round", ROUNDS)
    sums = sums_of(run)
    assert {number for number, *_ in sums} == set(range(1, ROUNDS + 1))
    for number, kind, total, sites in sums:
        release = ReleaseId(run.name, number, kind)
        assert len(set(sites)) == len(sites) >= house.study.m
        drawn = [stored(house, name, release) for name in sites]
        assert np.array_equal(total, np.sum(drawn, axis=0))
    (run.path / MAY_CLOSE).touch()
    wait_for_event(run, "finished")
    for name in house.names:
        rounds = [each.reserved.release.round_number for each in held_by(house, name, run.name)]
        assert len(rounds) == len(set(rounds)) <= ROUNDS


def test_a_node_killed_between_answer_and_sending_sends_what_it_had_drawn(
    house: Consortium,
) -> None:
    run, name = start(house, BETWEEN, patience_s=LONG_S), "site 0"
    process = house.processes[name].popen
    assert process is not None
    wait_for("death of the node", lambda: process.poll() is not None, LONG_S)
    assert process.returncode == -signal.SIGKILL
    assert DIES_IN not in {number for number, *_ in sums_of(run)}
    release = ReleaseId(run.name, DIES_IN, GRADIENT)
    drawn = stored(house, name, release)
    house.start_node(name)
    wait_for_event(run, "round", DIES_IN)
    assert np.array_equal(stored(house, name, release), drawn)
    (site,) = [sites for number, _, _, sites in sums_of(run) if number == DIES_IN]
    assert name in site
    finish(house, run)
    held = [e for e in held_by(house, name, run.name) if e.reserved.release == release]
    assert len(held) == 1
    assert len(held[0].attempts) == 2  # the one that was never sent, and one of the new epoch


def test_sums_are_those_of_stored_vectors_after_kills_of_worker_node_and_server(
    house: Consortium,
) -> None:
    run = start(house, KILLED, patience_s=15.0)
    wait_for_event(run, "round", 1)
    (worker,) = house.processes["site 1"].children
    os.kill(worker, signal.SIGKILL)
    wait_for_event(run, "round", 2)
    house.kill("site 2")
    house.start_node("site 2")
    wait_for_event(run, "round", 3)
    house.kill("server")
    with run.alone():  # refused as long as its coordinator lives
        pass
    house.start_server(witnessed=True)
    resume_run(house.server_folder, run.name)
    finish(house, run)
