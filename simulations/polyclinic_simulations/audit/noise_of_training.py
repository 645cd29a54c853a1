"""The noise of gradients and of steps at a site: many canaries, each with a coordinate of its own.

Half of the canaries are in the hospital's cohort. Round by round the hospital's own code draws the
release, and the reader guesses from each canary's coordinate whether it is in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from polyclinic_client.compute.integers import Moment, NoisyIntegers
from polyclinic_client.compute.local_releases import ModelRelease
from polyclinic_client.compute.sums import AtHand, noisy_sum
from polyclinic_client.compute.training import local_mechanism
from polyclinic_common.data.encoding import Cohort
from polyclinic_common.models.score_head import Vector
from polyclinic_common.privacy.charges import GaussianSum, SampledSteps
from polyclinic_common.privacy.noise import SystemNoise
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.release_id import ReleaseId, broadcast_hash
from polyclinic_common.releases.kinds import GRADIENT, UPDATE
from polyclinic_common.releases.plans import noise_plan
from polyclinic_common.releases.schedule import Schedule
from polyclinic_common.study import Study
from polyclinic_simulations.audit.bounds import Guesses
from polyclinic_simulations.audit.findings import FALLBACK, HEADLINE, Finding, Price, Scores
from polyclinic_simulations.audit.shadow import HUGE, Members, Shadows
from polyclinic_simulations.compute.trainer import Trainer

LEAST_STEPS = 60
FEWER = 5  # times: a canary of sampled steps is the better seen the fewer patients there are
GENTLE = 20.0  # value of a canary that takes several steps, in clips: no step makes it certain


@dataclass(frozen=True)
class AuditedSums:
    """A hospital whose gradient sums are audited, with canaries in its cohort.

    Attributes
    ----------
    member : array of shape (canaries,)
        Which canaries are in: half of them.
    copies : int
        Equal patients of a canary, so many that a step nearly gives it away.
    """

    shadows: Shadows
    trainer: Trainer
    plan: SumPlan
    member: Members
    copies: int

    @staticmethod
    def of(study: Study, gradients: str, canaries: int) -> AuditedSums:
        """Make the hospital; its canaries have as many copies as one step's mu goes into 1."""
        shadows, trainer = Shadows.of(study, canaries), Trainer(gradients)
        copies = math.ceil(1.0 / _plan(shadows, trainer, canaries).headline.mu)
        plan = _plan(shadows, trainer, canaries * copies)
        return AuditedSums(shadows, trainer, plan, half_of(canaries), copies)

    @property
    def canaries(self) -> tuple[int, int]:
        """Canaries, and copies of each."""
        return self.member.size, self.copies

    @property
    def kind(self) -> str:
        """How the study calls its gradient sums."""
        return UPDATE if self.shadows.study.privacy.mode == "local" else GRADIENT

    @property
    def charges(self) -> dict[str, GaussianSum]:
        """What a round costs, by reader; in mode local there is one price."""
        if self.kind == UPDATE:
            return {FALLBACK: self.plan.fallback}
        return {HEADLINE: self.plan.headline, FALLBACK: self.plan.fallback}

    def scores(self, steps: int) -> dict[str, Scores]:
        """Return what every reader sees at the canaries' coordinates, in clips, (steps, canaries).

        Beside the hospital's own vector the headline holds those of h - 1 other honest ones. They
        have no patients here: the reader knows all others, and would subtract them.
        """
        study, weights = self.shadows.study, self.shadows.weights
        nobody = self.shadows.cohort(np.zeros_like(self.member), 1)
        others = study.m - study.c - 1 if HEADLINE in self.charges else 0
        cohorts = [self.shadows.cohort(self.member, self.copies), *[nobody] * others]
        sources = [self._source(number, cohort) for number, cohort in enumerate(cohorts)]
        broadcast = broadcast_hash(weights)
        found: dict[str, list[Scores]] = {reader: [] for reader in self.charges}
        for number in range(1, steps + 1):
            moment = Moment(ReleaseId("audit", number, self.kind), broadcast)
            vectors = [source.draw(weights, moment) for source in sources]
            for reader, seen in found.items():
                total = vectors[0] if reader == FALLBACK else np.sum(vectors, axis=0)
                vector = np.asarray(total * (self.plan.grid / self.plan.clip), dtype=np.float64)
                seen.append(self.shadows.scores(vector))
        return {reader: np.stack(seen) for reader, seen in found.items()}

    def findings(self, error: float) -> list[Finding]:
        """Return what every reader proves. The threshold is fixed: half-way."""
        study, rounds = self.shadows.study, self.plan.rounds
        found = []
        for reader, scores in self.scores(max(LEAST_STEPS, rounds)).items():
            price = Price(self.kind, reader, self.charges[reader], rounds, study.privacy.delta)
            guesses = Guesses.at(scores, self.member, self.copies / 2)
            noise = scores - self.copies * self.member
            found.append(price.proved(guesses, self.canaries, error, [noise, noise.T]))
        return found

    def _source(self, number: int, cohort: Cohort) -> NoisyIntegers:
        """Return what draws a hospital's sums, made as a node of the study's mode makes it."""
        study, noise = self.shadows.study, SystemNoise(bytes([number]))
        gradients = self.trainer.private(study, self.shadows.encoding)
        return noisy_sum(
            self.kind, AtHand(self.shadows.encoding, gradients, cohort, cohort), self.plan, noise
        )


@dataclass(frozen=True)
class AuditedSteps:
    """A hospital of mode local whose steps are audited, with canaries in its cohort.

    Attributes
    ----------
    declared : int
        Declared patients: all copies of all canaries.
    member, copies
        As in `AuditedSums`.
    """

    shadows: Shadows
    trainer: Trainer
    declared: int
    member: Members
    copies: int

    @staticmethod
    def of(study: Study, gradients: str, canaries: int) -> AuditedSteps:
        """Make the hospital; a canary's copies together reach a deviation of a round's noise."""
        canaries //= FEWER
        shadows, trainer = Shadows.of(study, canaries), Trainer(gradients)
        copies = 1
        for _ in range(3):  # the more are declared, the rarer each is sampled
            made = AuditedSteps(shadows, trainer, canaries * copies, half_of(canaries), copies)
            copies = math.ceil(1.0 / made.signal)
        return made

    @property
    def canaries(self) -> tuple[int, int]:
        """Canaries, and copies of each."""
        return self.member.size, self.copies

    @cached_property
    def mechanism(self) -> ModelRelease:
        """What draws the hospital's releases, made as its node makes it."""
        study, encoding = self.shadows.study, self.shadows.encoding
        gradients, noise = self.trainer.private(study, encoding), SystemNoise(b"audit")
        cohort = self.shadows.cohort(self.member, self.copies)
        if noise_plan(study, self.declared, None).steps > 1:
            cohort = replace(cohort, x=cohort.x * (GENTLE * study.clip / HUGE))
        made = local_mechanism(study, gradients, cohort, self.declared, noise)
        if not isinstance(made, ModelRelease):
            raise TypeError(type(made).__name__)
        return made

    @property
    def kept(self) -> Vector:
        """How much of every step of a round is left at its end: the pull takes from early ones."""
        steps = self.mechanism.steps
        left = 1.0 - steps.learning_rate * steps.pull
        return np.asarray(left ** np.arange(steps.count), dtype=np.float64)

    @property
    def signal(self) -> float:
        """What a patient adds to a round's change, in deviations of its noise."""
        match self.mechanism.charge:
            case GaussianSum() as whole:
                step = whole.mu / math.sqrt(self.kept.size)
            case SampledSteps() as sampled:
                step = sampled.rate / sampled.multiplier
            case other:
                raise TypeError(other.kind)
        return step * float(self.kept.sum() / np.linalg.norm(self.kept))

    def scores(self, rounds: int) -> Scores:
        """Return how far the canaries' coordinates moved, in clips a step, (rounds, canaries)."""
        study, weights, steps = self.shadows.study, self.shadows.weights, self.mechanism.steps
        unit = 2.0**self.mechanism.grid_exponent * self.declared
        unit /= steps.learning_rate * study.clip * self.kept.sum()
        seen = []
        for number in range(1, rounds + 1):
            moment = Moment(ReleaseId("audit", number, UPDATE), broadcast_hash(weights))
            drawn = self.mechanism.draw(weights, weights, moment)
            seen.append(self.shadows.scores(np.asarray(-unit * drawn, dtype=np.float64)))
        return np.stack(seen)

    def findings(self, error: float) -> list[Finding]:
        """Return what a reader of the hospital's changes proves. The threshold is half-way."""
        study, member = self.shadows.study, self.member
        scores = self.scores(FEWER * max(LEAST_STEPS, study.rounds))
        charge, delta = self.mechanism.charge, study.privacy.delta
        price = Price(UPDATE, FALLBACK, charge, study.rounds, delta)
        guesses = Guesses.at(scores, member, self.copies / 2)
        means = [scores[:, group].mean(axis=1, keepdims=True) for group in (member, ~member)]
        noise = scores - np.where(member, *means)
        return [price.proved(guesses, self.canaries, error, [noise, noise.T])]


def half_of(canaries: int) -> Members:
    """Return which canaries are in: half of them, always the same."""
    return np.random.default_rng(0).permutation(canaries) < canaries // 2


def _plan(shadows: Shadows, trainer: Trainer, patients: int) -> SumPlan:
    """Return the plan of a hospital's gradient sums, as a hospital of the study makes it."""
    study, path = shadows.study, trainer.private(shadows.study, shadows.encoding).path
    kind = GRADIENT if study.privacy.mode == "secure-sum" else UPDATE
    return Schedule.of(study, patients, path).plan(kind)
