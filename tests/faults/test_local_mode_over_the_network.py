"""A run of mode local between real nodes: every update is private on its own, and charged once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.records.journal import Failed, Left, Refused
from polyclinic_common.models.vectors import load_vectors
from polyclinic_common.releases.kinds import UPDATE
from polyclinic_common.releases.plans import NODE_PATH, local_charge
from polyclinic_server.runs.operate import start_run
from tests.kits.consortium import (
    LONG_S,
    PATIENTS_A_SITE,
    consortium,
    wait_for,
    wait_for_event,
)

ROUNDS, EPSILON = 3, 4.0


def test_a_run_of_mode_local_goes_through_and_every_update_is_charged_once(tmp_path: Path) -> None:
    changes = {"privacy": {"mode": "local", "epsilon": EPSILON}}
    with consortium(tmp_path, sites=3, rounds=ROUNDS, changes=changes) as house:
        house.start_server()
        for name in house.names:
            house.start_node(name)
        logs = partial(map, house.log, house.names)
        wait_for("nodes", lambda: all("INFO connected" in log for log in logs()), LONG_S)
        run = start_run(house.server_folder, house.describe("run-1", patience_s=LONG_S))
        wait_for_event(run, "finished")
        answered = [event.sites for event in run.events() if event.what == "round"]
        assert answered == [tuple(house.names)] * ROUNDS
        weights = load_vectors(run.model)[0]["weights"]
        assert np.isfinite(weights).all()
        assert weights.any()
        charge = local_charge(house.study, PATIENTS_A_SITE, NODE_PATH)
        for name in house.names:
            with SiteFolder.open(house.site_folder(name), read_only=True) as site:
                site.ledger.verify()
                held = site.ledger.releases_of("run-1")
                budget = site.ledger.budget()
                assert not any(site.ledger.stored(each.reserved.release) for each in held)
            asked = [each.reserved for each in held]
            names = [(each.release.round_number, each.release.kind) for each in asked]
            assert names == [(number, UPDATE) for number in range(1, ROUNDS + 1)]
            assert (
                {each.headline for each in asked} == {each.fallback for each in asked} == {charge}
            )
            assert budget.releases == ROUNDS
            assert budget.spent == budget.fallback == pytest.approx(EPSILON, rel=0.01)
            events = house.journal(name)
            left = [event.kind for event in events if isinstance(event, Left)]
            assert left == ["private_update"] * ROUNDS + ["receipt"]
            assert not [event for event in events if isinstance(event, Refused | Failed)]
