"""The noise of sums that a patient enters as a whole: sufficient statistics and metrics.

There is one canary, whose patients add a vector of the length of the clip. The hospital's own code
draws the release again and again, with the canary and without it, and the reader guesses from how
far the sum reaches in that vector's direction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from polyclinic_client.compute.integers import Moment, NoisyIntegers
from polyclinic_client.compute.patients import Block
from polyclinic_client.compute.sums import AtHand, noisy_sum
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.evaluation.layout import EVENT, MEMBERS, OUTCOME
from polyclinic_common.evaluation.observed import subgroup_names
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import Matrix, Vector, cut, weight_count
from polyclinic_common.privacy.charges import GaussianSum
from polyclinic_common.privacy.noise import SystemNoise
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.release_id import ReleaseId, broadcast_hash
from polyclinic_common.releases.kinds import CALIBRATION, METRICS, STATISTICS
from polyclinic_common.releases.schedule import Schedule
from polyclinic_common.secure_sum.masks import Integers
from polyclinic_common.study import Study
from polyclinic_simulations.audit.bounds import Guesses
from polyclinic_simulations.audit.findings import FALLBACK, HEADLINE, Finding, Price, Scores
from polyclinic_simulations.compute.trainer import Trainer

DRAWS = 1000  # with the canary, and as many without
APART = 3.0  # mu of all copies of a canary: what so many guesses prove best
LOOKED_AT = 60  # draws of which no two may be correlated
CERTAIN = 30.0  # logit at which a model is as wrong as can be


@dataclass(frozen=True)
class AuditedVector:
    """A hospital whose statistics or metrics are audited.

    Attributes
    ----------
    kind : str
        Statistics or metrics.
    """

    study: Study
    kind: str
    gradients: str

    @cached_property
    def encoding(self) -> Encoding:
        """The study's encoding."""
        return Encoding(self.study)

    @cached_property
    def plan(self) -> SumPlan:
        """Grid and noise, where as many patients are declared as draws are made."""
        path = Trainer(self.gradients).private(self.study, self.encoding).path
        return Schedule.of(self.study, DRAWS, path).plan(self.kind)

    @property
    def charges(self) -> dict[str, GaussianSum]:
        """What a release costs, by reader; in mode local there is one price."""
        if self.study.privacy.mode == "local":
            return {FALLBACK: self.plan.fallback}
        return {HEADLINE: self.plan.headline, FALLBACK: self.plan.fallback}

    @cached_property
    def weights(self) -> Vector:
        """The model that is sent out: sure of what does not come true, and by one feature more so.

        The feature is that of `_trained_on`, where calibration asks how far a patient's score goes.
        """
        network = build_network(self.study, self.encoding)
        weights = np.zeros(weight_count(network))
        layers = cut(network, weights)
        layers.baseline[:] = CERTAIN / self.encoding.intercept
        if self.kind == CALIBRATION:
            layers.last[0] = 1.0
        return weights

    def canary(self, copies: int) -> Cohort:
        """Return so many equal patients, each of whom reaches the clip."""
        row = self._held_out() if self.kind == METRICS else self._trained_on()
        return Cohort(*(np.repeat(part, copies, axis=0) for part in row))

    def source(self, cohort: Cohort, number: int = 0) -> NoisyIntegers:
        """Return what draws a hospital's sums, made as a node makes it."""
        noise = SystemNoise(bytes([number]))
        gradients = Trainer(self.gradients).private(self.study, self.encoding)
        at_hand = AtHand(self.encoding, gradients, cohort, cohort)
        return noisy_sum(self.kind, at_hand, self.plan, noise)

    def findings(self, error: float) -> list[Finding]:
        """Return what every reader proves. The threshold is fixed: half-way."""
        found = []
        for reader, charge in self.charges.items():
            copies = math.ceil(APART / charge.mu)
            drawn = {copies: self._drawn(copies, reader), 0: self._drawn(0, reader)}
            inside, outside = (self.along(vectors) > copies / 2 for vectors in drawn.values())
            guesses = Guesses(int(inside.sum()), DRAWS, int(outside.sum()), DRAWS)
            price = Price(self.kind, reader, charge, self.plan.rounds, self.study.privacy.delta)
            alone = drawn[0]
            found.append(price.proved(guesses, (1, copies), error, [alone[:LOOKED_AT], alone.T]))
        return found

    def along(self, vectors: Scores) -> Scores:
        """Return how many copies of the canary vectors of shape (n, length) hold."""
        one = self._sum_of(self.canary(1))
        return np.asarray(vectors @ one / (one @ one))

    def _drawn(self, copies: int, reader: str) -> Scores:
        """Return what a reader sees in many releases, in grid units, (draws, length)."""
        others = self.study.m - self.study.c - 1 if reader == HEADLINE else 0
        own = self.source(self.canary(copies))
        sources = [own if copies else _of_nobody(own, self.weights)]
        nobody = [self.source(self.canary(0), 1 + each) for each in range(others)]
        sources += [_of_nobody(source, self.weights) for source in nobody]
        moments = [
            Moment(ReleaseId("audit", number, self.kind), broadcast_hash(self.weights))
            for number in range(1, DRAWS + 1)
        ]
        return np.stack(
            [
                np.sum([source.draw(self.weights, moment) for source in sources], axis=0)
                for moment in moments
            ]
        ).astype(np.float64)

    def _sum_of(self, cohort: Cohort) -> Vector:
        source = self.source(cohort)
        total = source.sums.integer_sum(self.weights, source.patients.blocks())
        return total.astype(np.float64)

    def _trained_on(self) -> tuple[Matrix, Matrix, Matrix]:
        """Return a patient with one feature, at norm 1, and the target that moves a sum most."""
        x = np.zeros((1, self.encoding.width))
        x[0, 0] = 1.0
        ones = np.ones((1, self.encoding.outputs))
        if self.kind == STATISTICS:
            return x, ones, ones
        x[0, -1] = self.encoding.intercept
        return x, 0.0 * ones, ones

    def _held_out(self) -> tuple[Matrix, Matrix, Matrix]:
        """Return a patient in as many tables as one can be in, of whom the model is wrong."""
        x = np.zeros((1, self.encoding.width))
        x[0, -1] = self.encoding.intercept
        sites, groups = len(self.study.roster.sites), subgroup_names(self.study)
        truth = np.zeros((1, MEMBERS + sites + len(groups)))
        truth[0, EVENT] = 1.0
        truth[0, OUTCOME] = self._least_outcome()
        ways = [way for way, _ in groups]
        first = [MEMBERS + sites + ways.index(way) for way in sorted(set(ways))]
        truth[0, [MEMBERS, *first]] = 1.0
        return x, truth, np.ones((1, 1))

    def _least_outcome(self) -> float:
        outcome = self.study.outcome
        return float(outcome.range[0]) if outcome.kind == "continuous" else 0.0


@dataclass(frozen=True)
class Constant:
    """A sum that is worked out once: that of nobody is always the same."""

    total: Integers

    def integer_sum(self, weights: Vector, blocks: Sequence[Block]) -> Integers:  # noqa: ARG002
        """Return the sum."""
        return self.total


def _of_nobody(source: NoisyIntegers, weights: Vector) -> NoisyIntegers:
    """Return what draws the same noise without going through no patients again."""
    total = source.sums.integer_sum(weights, source.patients.blocks())
    return replace(source, sums=Constant(total))
