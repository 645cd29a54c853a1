"""A menu between real processes: trained, chosen from by what was released, and charged once."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import numpy as np

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.records.journal import Failed, Refused
from polyclinic_common.models.vectors import load_vectors
from polyclinic_common.releases.kinds import GRADIENT, METRICS
from polyclinic_server.runs.operate import resume_run, start_run
from polyclinic_server.runs.quality import Quality
from tests.kits.consortium import consortium, wait_for, wait_for_event

ROUNDS = 3
MENU = [{"learning_rate": 1e-3}, {"learning_rate": 4.0}]
CHANGES = {
    "training": {"rounds": ROUNDS, "menu": MENU},
    "privacy": {"epsilon": 30.0},
    "evaluation": {"private": {"metrics": ["mae"], "share": 0.5}},
}


def test_a_menu_goes_to_its_end_although_its_coordinator_is_killed_on_the_way(
    tmp_path: Path,
) -> None:
    with consortium(tmp_path, sites=3, changes=CHANGES) as house:
        house.start_server()
        for name in house.names:
            house.start_node(name)
        run = start_run(house.server_folder, house.describe("run-1"))
        wait_for_event(run, "round", ROUNDS)
        (coordinator,) = house.processes["server"].children
        os.kill(coordinator, signal.SIGKILL)
        wait_for("end", lambda: run.status() == "cut off")
        resume_run(house.server_folder, "run-1")
        assert wait_for_event(run, "finished").round == 2 * ROUNDS
        quality = Quality.read(run.path)
        readings = [said.groups[0].metrics["mae"] for said in quality.metrics]
        values = [np.inf if reading is None else reading.value for reading in readings]
        assert quality.chosen == int(np.argmin(values)) + 1
        assert f"chosen: setting {quality.chosen} of 2" in " ".join(quality.lines())
        assert np.isfinite(load_vectors(run.model)[0]["weights"]).all()
        for name in house.names:
            with SiteFolder.open(house.site_folder(name), read_only=True) as site:
                site.ledger.verify()
                held = site.ledger.releases_of("run-1")
                spent = site.ledger.budget().settled
            kinds = Counter(each.reserved.release.kind for each in held)
            assert kinds == {GRADIENT: 2 * ROUNDS, METRICS: 2}
            assert 0.9 * 30 < spent <= 30
            assert not [e for e in house.journal(name) if isinstance(e, Refused | Failed)]
