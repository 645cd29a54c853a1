"""Training with the noise of a run drawn once for all hospitals: the same numbers, far sooner.

Plans, optimizer and calibration are the product's; what is left out is who adds which share of the
noise, and the rounding to the grid. For comparisons of settings over many draws, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from polyclinic_client.compute.patients import Patients
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.models.calibration import ENTRIES, contributions
from polyclinic_common.models.head import build_network, initial_weights
from polyclinic_common.models.score_head import Vector
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.releases.kinds import CALIBRATION, GRADIENT
from polyclinic_common.releases.schedule import Schedule
from polyclinic_common.study import Study
from polyclinic_server.rounds.optimizer import Optimizer, largest_ridge
from polyclinic_server.rounds.plan import make_calibrator, suggested_ridge
from polyclinic_server.rounds.state import State
from polyclinic_simulations.compute.fast_gradients import ClosedForm


@dataclass(frozen=True)
class Trusted:
    """A study of mode secure-sum, trained on pooled patients with the noise of all its hospitals.

    Attributes
    ----------
    epsilon : float or None
        None trains without clip and noise.
    patients : int
        Declared patients, spread evenly over the hospitals.
    """

    study: Study
    epsilon: float | None
    patients: int

    @cached_property
    def encoding(self) -> Encoding:
        """The study's encoding."""
        return Encoding(self.study)

    @cached_property
    def declared(self) -> Mapping[str, int]:
        """Declared patients of every hospital."""
        sites = self.study.roster.sites
        return dict.fromkeys(sites, max(10, round(self.patients / len(sites) / 10) * 10))

    @cached_property
    def _at_epsilon(self) -> Study:
        """The study with the budget of this training."""
        privacy = self.study.privacy.model_copy(update={"epsilon": self.epsilon})
        return (
            self.study
            if self.epsilon is None
            else self.study.model_copy(update={"privacy": privacy})
        )

    @cached_property
    def plans(self) -> Mapping[str, SumPlan]:
        """Grid and noise of every kind of sum."""
        if self.epsilon is None:
            return {}
        return Schedule.of(self._at_epsilon, max(self.declared.values()), "products").secure_sums

    def trained(self, cohort: Cohort, seed: int, ridge_factor: float = 1.0) -> Vector:
        """Return the model, shape (d,); noise is drawn from `seed`, for this is an experiment."""
        study, rng = self.study, np.random.default_rng(seed)
        start, blocks = initial_weights(study, self.encoding, 0), Patients(cohort, None).blocks()
        clip = None if self.epsilon is None else study.clip
        engine = ClosedForm(build_network(study, self.encoding), study.loss, clip)
        optimizer, state = self._optimizer(start, ridge_factor), State.start(start)
        total = sum(self.declared.values())
        for _ in range(study.training_rounds):
            gradient = engine.gradient_sum(state.weights, blocks)
            gradient = gradient + self._noise(GRADIENT, rng, start.size)
            state = optimizer.step(state, gradient / total)
        calibrator = make_calibrator(self._at_epsilon, self.epsilon, self.declared)
        if calibrator is None:
            return state.average
        for number in calibrator.rounds:
            rows = (contributions(self.encoding, state.average, *block) for block in blocks)
            sums = np.sum([each.sum(axis=0) for each in rows], 0)
            sums = sums + self._noise(CALIBRATION, rng, ENTRIES)
            state = calibrator.advance(state, number, sums, len(self.declared))
        return state.average

    def _noise(self, kind: str, rng: np.random.Generator, length: int) -> Vector:
        if self.epsilon is None:
            return np.zeros(length)
        deviation = self.plans[kind].deviation * np.sqrt(len(self.declared))
        return rng.normal(0.0, deviation, length)

    def _optimizer(self, start: Vector, factor: float) -> Optimizer:
        study = self.study
        momentum, rate = study.training.momentum, study.learning_rate
        ridge = factor * suggested_ridge(self._at_epsilon, self.epsilon, self.declared)
        return Optimizer(
            learning_rate=rate,
            momentum=momentum,
            ridge=min(ridge, largest_ridge(rate, momentum)),
            start=start,
            rounds=study.training.rounds,
            average_from=study.training.average_from,
        )
