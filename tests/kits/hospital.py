"""A hospital as its node puts it together, with as few patients as a test likes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic_client.compute.integers import Moment
from polyclinic_client.compute.training import Gradients
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.entries import Planned
from polyclinic_client.run.approved_study import ApprovedStudy
from polyclinic_client.run.assembly import make_gate, make_ladder, make_site, steps_reached
from polyclinic_client.run.responder import Responder
from polyclinic_client.run.sum_responder import SumResponder
from polyclinic_client.run.update_responder import UpdateResponder
from polyclinic_client.run.vote_responder import VoteResponder
from polyclinic_client.study_book.price import planned_in
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.evaluation.observed import held_out_cohort
from polyclinic_common.models.head import initial_weights
from polyclinic_common.models.score_head import Vector
from polyclinic_common.privacy.noise import SystemNoise
from polyclinic_common.release_id import ReleaseId, broadcast_hash
from polyclinic_common.releases.schedule import Schedule, declared_for
from polyclinic_common.study import Study
from polyclinic_simulations.compute.trainer import Trainer
from tests.kits.gate import FakeClock
from tests.kits.ledger import DELTA, ME
from tests.kits.secure_sum import HOSPITALS, roster_of
from tests.kits.small import small_table

DECLARED = 10


@dataclass
class Hospital:
    """One hospital of a study.

    Attributes
    ----------
    patients : int
        Patients that are trained on, and as many held out; 10 are declared, whatever is true.
    """

    study: Study
    path: Path
    patients: int = 0
    gradients: str = "opacus"

    @property
    def name(self) -> str:
        return self.study.roster.sites[0]

    @property
    def declared(self) -> dict[str, int]:
        return dict.fromkeys(self.study.roster.sites, DECLARED)

    @cached_property
    def folder(self) -> SiteFolder:
        return SiteFolder.create(self.path, delta=DELTA, epsilon_cap=100.0, identity=ME)

    @cached_property
    def computing(self) -> Gradients:
        return Trainer(self.gradients).private(self.study, Encoding(self.study))

    @cached_property
    def planned(self) -> dict[str, Planned]:
        """What the hospital approves, by kind."""
        found = planned_in(
            Schedule.of(
                self.study,
                declared_for(self.study, self.declared, self.name),
                self.computing.path,
            )
        )
        return {each.kind: each for each in found}

    def cohorts(self) -> tuple[Cohort, Cohort]:
        encoding = Encoding(self.study)
        table = small_table(max(1, self.patients), sites=1)
        rows = np.arange(self.patients)
        train = encoding.encode(table, self.name).take(rows)
        return train, held_out_cohort(encoding, table, self.name).take(rows)

    @cached_property
    def approved(self) -> ApprovedStudy:
        others = HOSPITALS[1 : len(self.study.roster.sites)]
        roster = roster_of([ME, *others])
        known = frozenset(roster.identities)
        return ApprovedStudy(
            self.study, roster, known, self.declared, self.name, DECLARED, self.cohorts
        )

    @cached_property
    def site(self) -> Responder:
        ladder = make_ladder(self.approved, steps_reached(self.folder))
        gate = make_gate(self.study, ladder, self.folder, FakeClock())
        noise = SystemNoise(self.folder.ledger.secret)
        return make_site(self.approved, "run", self.folder, gate, self.computing, noise, 0)

    @cached_property
    def weights(self) -> Vector:
        return initial_weights(self.study, self.approved.encoding, 0)

    @property
    def voter(self) -> VoteResponder:
        voter = self.site._voter
        assert voter is not None
        return voter

    def length(self, kind: str) -> int:
        """Return the entries that the site expects to store."""
        answers = self.site._answers
        if isinstance(answers, SumResponder):
            return answers._terms.plans[kind].length
        assert isinstance(answers, UpdateResponder)
        return answers._mechanisms[kind].length

    def draw(self, kind: str, number: int, own: Vector | None = None) -> NDArray[np.int64]:
        """Return what the site would store for round `number`."""
        moment = Moment(ReleaseId("run", number, kind), broadcast_hash(self.weights))
        answers: Any = self.site._answers
        if isinstance(answers, SumResponder):
            return answers._sources[kind].draw(self.weights, moment)
        started = self.weights if own is None else own
        drawn: NDArray[np.int64] = answers._mechanisms[kind].draw(self.weights, started, moment)
        return drawn
