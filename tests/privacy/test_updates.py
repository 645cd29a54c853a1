"""A site of mode local sends one draw a round, whoever else of its node draws meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from polyclinic_client.ledger.entries import Planned
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.run.update_responder import Memory, UpdateResponder
from polyclinic_common.releases.kinds import UPDATE
from polyclinic_common.wire import TrainRequest
from tests.kits.gate import Draws
from tests.kits.ledger import FALLBACK, STUDY, approval, draw, make_ledger, open_ledger

REQUEST = TrainRequest(STUDY.hex(), "run", 1, UPDATE, np.zeros(4))
PLANNED = (Planned(kind=UPDATE, releases=6, headline=FALLBACK, fallback=FALLBACK),)


def updates(ledger: Ledger, draws: Draws) -> UpdateResponder:
    return UpdateResponder(STUDY, 4, 6, personal=False, ledger=ledger, mechanisms={UPDATE: draws})


def test_the_draw_that_was_stored_first_is_the_one_that_leaves(tmp_path: Path) -> None:
    with make_ledger(tmp_path, approve=False) as mine, open_ledger(tmp_path) as other:
        mine.approve(approval(planned=PLANNED))
        faster = updates(other, Draws())
        beaten = Draws(act=lambda: faster.update(REQUEST, Memory()), count=10)
        sent = updates(mine, beaten).update(REQUEST, Memory())
        assert beaten.count == 11
        assert np.array_equal(sent.vector, draw(1) * 2.0**-20)
        assert sum(mine.state.counted.values()) == 1
