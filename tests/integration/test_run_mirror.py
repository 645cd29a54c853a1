"""What runs write down reaches the hospitals, whatever one of the run folders looks like."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from polyclinic_server.consortium.publish import publish_study
from polyclinic_server.folder import Ports, ServerFolder, Settings
from polyclinic_server.runs.folder import RUNS, Event, RunDescription, RunFolder, RunSite
from polyclinic_server.runs.mirror import RunMirror
from tests.kits.small import small_study

STUDY = small_study(sites=3)


def start(folder: ServerFolder, name: str) -> RunFolder:
    site = RunSite(node_key="key", declared=60, held_out=0, identity="00" * 32)
    description = RunDescription(
        run=name,
        study=STUDY.model_dump_json(),
        sites=dict.fromkeys(STUDY.roster.sites, site),
        largest=60,
        fewest=3,
    )
    return RunFolder.create(folder.path / RUNS, description)


def finished_without_model(run: RunFolder) -> None:
    run.note(Event(at=time.time(), what="finished", round=6))


def unreadable_events(run: RunFolder) -> None:
    (run.path / "events.jsonl").write_bytes(b"\xff{\n")


def unknown_to_the_store(run: RunFolder) -> None:
    run.note(Event(at=time.time(), what="round", round=1))


BREAKS = [finished_without_model, unreadable_events, unknown_to_the_store]


@pytest.mark.parametrize("damage", BREAKS)
def test_a_broken_run_keeps_no_other_from_its_hospitals(
    tmp_path: Path, damage: Callable[[RunFolder], None]
) -> None:
    settings = Settings(
        name="Test", address="localhost", ports=Ports(enrolment=1, consortium=2, fleet=3)
    )
    server = ServerFolder.create(tmp_path / "server", settings, ["127.0.0.1"])
    store = server.open_store()
    publish_study(server, STUDY)
    damage(start(server, "00-broken"))
    known = store.begin_run(bytes.fromhex(STUDY.hash()), rounds=6)
    whole = start(server, known.id)
    mirror = RunMirror(server, store)
    for number in (1, 2):
        whole.note(Event(at=time.time(), what="round", round=number))
        mirror.look()
        assert store.run(known.id).round == number
    store.close()
