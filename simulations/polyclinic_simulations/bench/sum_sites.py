"""Hospitals and server of mode secure-sum, composed as in a run, each with a stopwatch hung on.

All hospitals share one cohort of made-up patients: 50 cohorts of 10^5 columns would not fit.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polyclinic_client.compute.integers import NoisyIntegers
from polyclinic_client.compute.patients import Patients
from polyclinic_client.folder.layout import read_identity
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.gate.gate import Gate
from polyclinic_client.gate.ladder import Ladder
from polyclinic_client.gate.permitted import Permitted
from polyclinic_client.ledger.entries import Approval, Planned
from polyclinic_client.run.responder import Responder
from polyclinic_client.run.sum_responder import SumResponder
from polyclinic_client.run.terms import Terms
from polyclinic_client.run.update_responder import Memory
from polyclinic_common.data.encoding import Cohort
from polyclinic_common.identity.roster import Roster
from polyclinic_common.models.score_head import Network
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.noise import SystemNoise
from polyclinic_common.privacy.sum_plan import SumPlan, plan_sum
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.releases.kinds import GRADIENT
from polyclinic_common.secure_sum.masks import Integers
from polyclinic_common.wire import Release, Request, SumRequest, decode_reply, encode_request
from polyclinic_server.rounds.sums import Carried, SecureSums
from polyclinic_simulations.bench.size import CLIP, DELTA, EPSILON, Size, made_up_patients
from polyclinic_simulations.bench.stopwatch import Stopwatch
from polyclinic_simulations.compute.fast_gradients import ClosedForm, RoundedProducts
from polyclinic_simulations.federation.hospitals import HurriedClock

GRADIENTS, NOISE, MASKS, LEDGER, GATE = "gradients", "noise", "masks", "ledger", "gate"
REST, KEYS, MESSAGES, SUM, AWAY = "rest", "keys", "messages", "sum", "at the sites"
STUDY, RUN = bytes(range(32)), "benchmark"
LEDGER_CALLS = ("check", "reserve", "record_attempt", "record_closing", "settle", "releases_of")


@dataclass(frozen=True)
class Case:
    """What is measured: hospitals, entries of the vector, patients of the cohort, rounds."""

    hospitals: int
    length: int
    patients: int
    rounds: int

    @property
    def colluding(self) -> int:
        """c, as a study's default for so many hospitals."""
        return 1 if self.hospitals <= 7 else 2 if self.hospitals <= 25 else self.hospitals // 10

    @property
    def fewest(self) -> int:
        """m, as a study's default."""
        return self.hospitals if self.hospitals <= 3 else self.hospitals - self.colluding

    def plan(self) -> SumPlan:
        """Return grid and noise."""
        return plan_sum(
            EPSILON, DELTA, self.rounds, self.length, CLIP, self.fewest - self.colluding,
            path="products", most_patients=2 * self.patients,
        )  # fmt: skip


class Consortium:
    """All hospitals of a case and their server, in one process; close it after use.

    Parameters
    ----------
    case : Case
        What is measured.
    folder : Path
        Where ledgers and journals lie.
    """

    def __init__(self, case: Case, folder: Path):
        self._case, self._plan = case, case.plan()
        names = [f"hospital {index + 1}" for index in range(case.hospitals)]
        self.watches = {name: Stopwatch() for name in names}
        self.server = Stopwatch()
        places = {name: folder / f"{index:03d}" for index, name in enumerate(names)}
        for place in places.values():
            _found(place, case, self._plan)
        keys = {name: read_identity(place).public for name, place in places.items()}
        self._folders = {name: SiteFolder.open(place) for name, place in places.items()}
        terms = _terms(case, Roster.of(keys), self._plan)
        cohort = _cohort(case)
        self._sites = {
            name: _site(self._folders[name], terms, cohort, self._plan, watch)
            for name, watch in self.watches.items()
        }
        self._sums = SecureSums(STUDY.hex(), RUN, keys, case.fewest, self._ask, Carried())

    def close(self) -> None:
        """Close all files."""
        for folder in self._folders.values():
            folder.close()

    @property
    def grid(self) -> float:
        """The unit of the integers."""
        return self._plan.grid

    def sum(self, round_number: int) -> Integers:
        """Carry out a round and return the sum that the server found, shape (d,)."""
        with self.server.part(SUM):
            length = self._case.length
            total, _ = self._sums.sum(round_number, np.zeros(length), GRADIENT, length, _forget)
        return total

    def plain(self, round_number: int) -> list[Integers]:
        """Return the noisy vectors of a round as they lie in the ledgers."""
        release = ReleaseId(RUN, round_number, GRADIENT)
        stored = [folder.ledger.stored(release) for folder in self._folders.values()]
        return [each.vector for each in stored if each is not None]

    def _ask(
        self,
        request: Request,
        sites: Sequence[str],
        *,
        wait: bool = True,  # noqa: ARG002
    ) -> dict[str, Release]:
        replies: dict[str, Release] = {}
        with self.server.part(MESSAGES):
            records = encode_request(request)
            for name in sites:
                part = REST if isinstance(request, SumRequest) else KEYS
                with self.server.part(AWAY), self.watches[name].part(part):
                    said = self._sites[name].answer(records, Memory())
                replies[name] = decode_reply(said)
        return replies


def _found(place: Path, case: Case, plan: SumPlan) -> None:
    """Make a hospital's folder and approve the run."""
    item = Planned(
        kind=GRADIENT, releases=case.rounds, headline=plan.headline, fallback=plan.fallback
    )
    approval = Approval(
        study_hash=STUDY, run=RUN, planned=(item,), lost_rounds=0, expires=dt.date.max
    )
    cap = 1.01 * spent_epsilon(approval.worst_case(), DELTA)
    with SiteFolder.create(place, delta=DELTA, epsilon_cap=cap) as made:
        made.ledger.approve(approval)


def _terms(case: Case, roster: Roster, plan: SumPlan) -> Terms:
    return Terms(
        study_hash=STUDY,
        run=RUN,
        roster=roster,
        verified=frozenset(roster.identities),
        m=case.fewest,
        c=case.colluding,
        rounds=case.rounds,
        plans={GRADIENT: plan},
    )


def _cohort(case: Case) -> Patients:
    """Return made-up patients, encoded, for a linear head with `length` weights."""
    values, y = made_up_patients(Size(patients=case.patients, columns=case.length - 1), 0)
    x = np.hstack([values, np.ones((case.patients, 1))]) / np.sqrt(case.length)
    return Patients(Cohort(x, y, np.ones_like(y)), block=None)


def _site(
    folder: SiteFolder, terms: Terms, patients: Patients, plan: SumPlan, watch: Stopwatch
) -> Responder:
    """Return a site with the stopwatch on its parts; its masks are `SumResponder`'s."""
    network = Network(plan.length, (), 1)
    sums = RoundedProducts(ClosedForm(network, "logistic", plan.clip), plan.grid)
    noise = SystemNoise(folder.ledger.secret)
    source = NoisyIntegers(sums, patients, noise, plan.variance)
    source_of = {GRADIENT: source}
    member = SumResponder(
        terms, folder.identity, folder.ledger, source_of, time.time, folder.journal
    )
    clock = HurriedClock()
    allowed = {GRADIENT: range(1, terms.rounds + 1)}
    permitted = Permitted(folder.identity.public, folder.ledger, allowed)
    gate = Gate(permitted, folder.journal, Ladder(), clock)
    watch.hang_on(GRADIENTS, sums, "integer_sum")
    watch.hang_on(NOISE, noise, "discrete")
    watch.hang_on(KEYS, member, "_agree")
    watch.hang_on(MASKS, member, "_mask")
    watch.hang_on(LEDGER, folder.ledger, *LEDGER_CALLS)
    watch.hang_on(GATE, gate, "let_out")
    return Responder(STUDY.hex(), RUN, member, gate, folder.journal)


def _forget(carried: Carried) -> None:
    """Keep nothing: a benchmark does not go on."""
