"""How long a hospital may take to answer: public seconds for every kind of work, known beforehand.

They follow from the study and declared sizes alone, and cover the work for every true size that
the declared one allows, on a machine several times slower than the one that was measured.
``python -m polyclinic_simulations.bench.pace`` measures again and prints the figures beside these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from polyclinic_client.gate.due import LEAST_TICK_S
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import weight_count
from polyclinic_common.release_id import VOTE
from polyclinic_common.releases.kinds import SumKind, kinds_of
from polyclinic_common.releases.plans import noise_plan
from polyclinic_common.releases.shares import most_patients
from polyclinic_common.study.columns import declared_columns
from polyclinic_common.study.manifest import Study
from polyclinic_common.wire import Request, SumRequest, TrainRequest, VoteRequest

SLOWER = 4.0  # a slow or busy machine, against the one that was measured


class Cost(NamedTuple):
    """Seconds that a kind of work takes: ``fixed + n (patient + numbers * number)``."""

    fixed: float
    patient: float
    number: float

    def of(self, patients: float, numbers: float) -> float:
        """Return the seconds for so many patients, with so many numbers of each."""
        return self.fixed + patients * (self.patient + numbers * self.number)


# Measured on one thread of an AMD EPYC of 2023, rounded up. Gradients, and what a patient passes
# forward through (FORWARD_S), are doubled: sums in one fixed order are slower than library ones.
FIRST_COST = Cost(0.1, 2e-6, 2.5e-7)  # numbers: columns of the table and of the encoding
COLUMN_S = 5e-4  # of the first answer, for each of them
GRADIENT_COST = Cost(0.03, 9e-6, 4e-8)  # numbers: weights; patients: rows that pass in all steps
SUM_COST = Cost(0.03, 4e-6, 5e-8)  # of any other sum; numbers: entries of a patient's vector
VOTE_COST = Cost(0.03, 1e-6, 0.0)
RANK_S = 1.2e-5  # of a vote on survival, for every patient: of order n log n, held up to 2^20
FORWARD_S = 1e-8  # for every patient and weight, once for metrics and twice for a vote
STEP_S = 2e-3  # a sampled step, whoever is in it
DRAW_S = 1e-8  # for every patient and sampled step: who is in it
ENTRY_S = 4e-6  # for every entry of what leaves: noise, storing, encoding
MASK_S = 5e-9  # for every entry and other hospital


@dataclass(frozen=True)
class Pace:
    """Public seconds within which a hospital's work is done.

    Attributes
    ----------
    first : float
        What the first answer of a run takes besides: reading and encoding the frozen table.
    work : mapping
        For every kind of release into which patients go.
    """

    first: float
    work: Mapping[str, float]

    def seconds(self, request: Request | None, *, first: bool) -> float | None:
        """Return what an answer may take; None if no patient is read for it."""
        kind = kind_of(request)
        found = self.work.get(kind, max(self.work.values(), default=0.0)) if kind else 0.0
        found += self.first if first else 0.0
        return found or None


NO_PATIENTS = Pace(0.0, {})
"""Of a hospital that reads no patient: it refuses."""


def kind_of(request: Request | None) -> str:
    """Return the kind of release that a request asks for; empty if no patient goes into it."""
    match request:
        case SumRequest() | TrainRequest():
            return request.kind
        case VoteRequest():
            return VOTE
    return ""


def pace_of(study: Study, declared: int, trained: int) -> Pace:
    """Return the pace of a hospital, for every number of patients that the declared one allows.

    Parameters
    ----------
    declared : int
        Declared patients of this hospital, all of them.
    trained : int
        Of these, how many count as trained on.
    """
    encoding, most = Encoding(study), most_patients(declared)
    weights = weight_count(build_network(study, encoding))
    table = sum(len(each.columns) for each in declared_columns(study)) + encoding.width
    forward = most * weights * FORWARD_S
    work = {VOTE: _voting(study, most, forward)}
    for kind in kinds_of(study):
        if isinstance(kind, SumKind) and kind.is_training:
            work[kind.name] = _training(study, trained, most, weights)
        elif isinstance(kind, SumKind):
            entries = (kind.numbers or kind.length)(study)
            work[kind.name] = SUM_COST.of(most, entries) + forward + _leaving(study, entries)
    ticks = {kind: _on_ticks(seconds) for kind, seconds in work.items()}
    return Pace(_on_ticks(FIRST_COST.of(most, table) + table * COLUMN_S), ticks)


def _voting(study: Study, most: int, forward: float) -> float:
    """Return the seconds of a vote, asked for or not."""
    rank = most * RANK_S if study.outcome.kind == "survival" else 0.0
    return VOTE_COST.of(most, 0) + 2.0 * forward + rank


def _training(study: Study, trained: int, most: int, weights: int) -> float:
    """Return the seconds of a gradient sum, or of a round's steps at the hospital."""
    plan, batch = noise_plan(study, trained, None), study.training.batch
    if plan.sampling_rate == 1.0:
        pass_s = GRADIENT_COST.of(most, weights) + weights * ENTRY_S
        return plan.steps * pass_s + _leaving(study, weights)
    mean = plan.sampling_rate * most
    sample = mean + 8.0 * math.sqrt(mean)  # more are drawn once in 10^14 steps
    rows = sample + batch + 2.0 * math.sqrt(batch)  # blocks are filled up with zeros
    step_s = STEP_S + most * DRAW_S + GRADIENT_COST.of(rows, weights) - GRADIENT_COST.fixed
    return plan.steps * (step_s + weights * ENTRY_S) + _leaving(study, weights)


def _leaving(study: Study, entries: int) -> float:
    return entries * (ENTRY_S + len(study.training_sites) * MASK_S)


def _on_ticks(seconds: float) -> float:
    return max(1, math.ceil(SLOWER * seconds / LEAST_TICK_S)) * LEAST_TICK_S
