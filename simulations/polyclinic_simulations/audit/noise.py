"""The noise audited: what somebody who sees every step can tell about a patient, at least.

The audit plays a hospital and its worst reader. Half of the canaries are in the hospital's cohort.
Round by round the hospital's own code draws the noisy integer sum, and the reader guesses from
each canary's coordinate whether it is in. Many canaries in one run: Steinke, Nasr and Jagielski,
Privacy auditing with one training run (NeurIPS 2023); step by step, with Gaussian DP: Nasr et al.,
Tight auditing of differentially private machine learning (USENIX Security 2023). What is assumed,
and what follows for the whole account: ``docs/audit.md``.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic_client.integers import Moment, NoisyIntegers
from polyclinic_client.training import sum_source, sum_sources
from polyclinic_common.data.encoding import Cohort
from polyclinic_common.errors import Code, SimulationError
from polyclinic_common.privacy import gdp
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.charges import GaussianSum
from polyclinic_common.privacy.noise import SystemNoise
from polyclinic_common.privacy.plan import GRADIENT, local_sum_plan, noise_plan, secure_sum_plans
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.secure_sum.chain import ReleaseId, broadcast_hash
from polyclinic_common.study import Study
from polyclinic_simulations.audit.bounds import Guesses, chance_of_correlation, error_of_one
from polyclinic_simulations.audit.shadow import Members, Shadows
from polyclinic_simulations.trainer import Trainer

CANARIES = 500
LEAST_STEPS = 60
LEAST_CHANCE = 1e-6  # of a correlation among independent noise: below, the noise repeats

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """What one reader proves.

    Attributes
    ----------
    reader : str
        ``headline`` sees the sum of h honest hospitals, ``fallback`` one hospital's own vector.
    claimed : float
        Epsilon of all rounds as charged.
    at_least : float
        Lower bound on it.
    guesses : Guesses
        What the bound rests on.
    correlation_chance : float
        How likely fresh noise is to look as repetitive as this.
    """

    reader: str
    claimed: float
    at_least: float
    guesses: Guesses
    correlation_chance: float

    @property
    def refuted(self) -> bool:
        """Whether the claim cannot be true, or the noise repeats."""
        return self.at_least > self.claimed or self.correlation_chance < LEAST_CHANCE


@dataclass(frozen=True)
class NoiseAudit:
    """One audit.

    Attributes
    ----------
    canaries, copies, steps : int
        Canaries, patients of each, and rounds that were observed.
    findings : tuple of Finding
        What every reader proves.
    """

    study: str
    mode: str
    epsilon: float
    delta: float
    rounds: int
    gradients: str
    canaries: int
    copies: int
    steps: int
    seconds: float
    findings: tuple[Finding, ...]

    @property
    def refuted(self) -> bool:
        """Whether a claim is refuted."""
        return any(finding.refuted for finding in self.findings)

    def as_dict(self) -> dict[str, object]:
        """Return the audit for ``--json``."""
        return asdict(self) | {"refuted": self.refuted}


def audit_noise(study: Study, gradients: str = "opacus", canaries: int = CANARIES) -> NoiseAudit:
    """Audit the noise of a study's gradient sums.

    Parameters
    ----------
    gradients : {"opacus", "fast"}
        As a hospital's node computes them, or as a simulation does.

    Raises
    ------
    SimulationError
        X003 for a study whose steps are not sums over whole cohorts.
    """
    if study.privacy.mode == "none" or study.training.schedule != "full":
        raise SimulationError(
            Code.SIMULATION_OPTION,
            f"The noise of study {study.id} cannot be audited step by step.",
            "Give a study of mode secure-sum or local with the full schedule.",
        )
    began = time.perf_counter()
    audited = Audited.of(study, gradients, canaries)
    steps = max(LEAST_STEPS, study.rounds)
    findings = tuple(audited.finding(*seen) for seen in audited.scores(steps).items())
    return NoiseAudit(
        study=study.id,
        mode=study.privacy.mode,
        epsilon=study.privacy.epsilon,
        delta=study.privacy.delta,
        rounds=study.rounds,
        gradients=gradients,
        canaries=canaries,
        copies=audited.copies,
        steps=steps,
        seconds=time.perf_counter() - began,
        findings=findings,
    )


@dataclass(frozen=True)
class Audited:
    """A hospital whose noise is audited, with canaries in its cohort.

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
    def of(study: Study, gradients: str, canaries: int) -> Audited:
        """Make the hospital; its canaries have as many copies as one step's mu goes into 1."""
        shadows, trainer = Shadows.of(study, canaries), Trainer(gradients)
        copies = math.ceil(1.0 / _plan(shadows, trainer, canaries).headline.mu)
        plan = _plan(shadows, trainer, canaries * copies)
        member = np.random.default_rng(0).permutation(canaries) < canaries // 2
        return Audited(shadows, trainer, plan, member, copies)

    @property
    def charges(self) -> dict[str, GaussianSum]:
        """What a round costs, by reader; in mode local there is one price."""
        if self.shadows.study.privacy.mode == "local":
            return {"fallback": self.plan.fallback}
        return {"headline": self.plan.headline, "fallback": self.plan.fallback}

    def scores(self, steps: int) -> dict[str, Scores]:
        """Return what every reader sees at the canaries' coordinates, in clips, (steps, canaries).

        Beside the hospital's own vector the headline holds those of h - 1 other honest ones. They
        have no patients here: the reader knows all others, and would subtract them.
        """
        study, weights = self.shadows.study, self.shadows.weights
        nobody = self.shadows.cohort(np.zeros_like(self.member), 1)
        others = study.m - study.c - 1 if "headline" in self.charges else 0
        cohorts = [self.shadows.cohort(self.member, self.copies), *[nobody] * others]
        sources = [self._source(number, cohort) for number, cohort in enumerate(cohorts)]
        broadcast = broadcast_hash(weights)
        found: dict[str, list[Scores]] = {reader: [] for reader in self.charges}
        for number in range(1, steps + 1):
            moment = Moment(ReleaseId("audit", number, GRADIENT), broadcast)
            vectors = [source.draw(weights, moment) for source in sources]
            for reader, seen in found.items():
                total = vectors[0] if reader == "fallback" else np.sum(vectors, axis=0)
                vector = np.asarray(total * (self.plan.grid / self.plan.clip), dtype=np.float64)
                seen.append(self.shadows.scores(vector))
        return {reader: np.stack(seen) for reader, seen in found.items()}

    def finding(self, reader: str, scores: Scores) -> Finding:
        """Return what these scores prove against what a reader's rounds are charged.

        Who is mu-GDP for a patient is k mu-GDP for k of them (Dong, Roth and Su, 2022, theorem 2):
        the bound for a canary of k copies is divided by k. The threshold is fixed: half-way.
        """
        study, rounds = self.shadows.study, self.plan.rounds
        guesses = Guesses.at(scores, self.member, self.copies / 2)
        mu = guesses.mu_at_least(error_of_one(len(self.charges))) / self.copies
        noise = scores - self.copies * self.member
        return Finding(
            reader=reader,
            claimed=spent_epsilon({self.charges[reader]: rounds}, study.privacy.delta),
            at_least=gdp.epsilon_of(mu * math.sqrt(rounds), study.privacy.delta),
            guesses=guesses,
            correlation_chance=min(chance_of_correlation(noise), chance_of_correlation(noise.T)),
        )

    def _source(self, number: int, cohort: Cohort) -> NoisyIntegers:
        """Return what draws a hospital's sums, made as a node of the study's mode makes it."""
        study, noise = self.shadows.study, SystemNoise(bytes([number]))
        gradients = self.trainer.private(study, self.shadows.encoding)
        if study.privacy.mode == "local":
            return sum_source(gradients, cohort, self.plan, noise)
        return sum_sources(gradients, cohort, {GRADIENT: self.plan}, noise)[GRADIENT]


def _plan(shadows: Shadows, trainer: Trainer, patients: int) -> SumPlan:
    """Return the plan of a hospital's gradient sums, as a hospital of the study makes it."""
    study, path = shadows.study, trainer.private(shadows.study, shadows.encoding).path
    if study.privacy.mode == "secure-sum":
        return secure_sum_plans(study, path, [patients])[GRADIENT]
    plan = noise_plan(study, patients, study.privacy.epsilon)
    return local_sum_plan(study, path, patients, plan)
