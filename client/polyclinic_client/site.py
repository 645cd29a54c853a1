"""One site in one run: its frozen cohort, its engine, its noise, and what it answers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from polyclinic_client.gradients import (
    Block,
    GradientEngine,
    Unclipped,
    blocks,
    clipped_engine,
)
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.models.losses import LOSSES
from polyclinic_common.models.network import Vector, build_network, weight_count
from polyclinic_common.privacy import gdp
from polyclinic_common.privacy.noise import NoiseSource
from polyclinic_common.study.manifest import Study
from polyclinic_common.wire import PrivateUpdate, Reason, Refusal, TrainRequest


class Mechanism(Protocol):
    """Turns patients (padded blocks) and a model into what may leave the site."""

    def release(self, weights: Vector, patients: Sequence[Block]) -> Vector:
        """Return the release for one round, shape (d,), float64."""
        ...


@dataclass(frozen=True)
class GaussianSum:
    """Sum of clipped gradients plus the full noise: private on its own (mode `local`).

    Attributes
    ----------
    engine : GradientEngine
        Gives sums of sensitivity `clip`.
    deviation : float
        Standard deviation of the noise on every coordinate: noise multiplier times clip.
    """

    engine: GradientEngine
    noise: NoiseSource
    deviation: float

    def release(self, weights: Vector, patients: Sequence[Block]) -> Vector:
        """Return the noisy clipped sum."""
        total = self.engine.gradient_sum(weights, patients)
        return total + self.noise.gaussian(total.size, self.deviation)


@dataclass(frozen=True)
class PlainSum:
    """The gradient sum itself (mode `none`): for simulation only, no node offers it."""

    engine: GradientEngine

    def release(self, weights: Vector, patients: Sequence[Block]) -> Vector:
        """Return the sum of gradients."""
        return self.engine.gradient_sum(weights, patients)


def local_mechanism(
    study: Study, encoding: Encoding, epsilon: float, noise: NoiseSource
) -> GaussianSum:
    """Return the mechanism of mode `local` for all rounds of `study` at (epsilon, delta)."""
    engine = clipped_engine(build_network(study, encoding), LOSSES[study.loss], study.clip)
    multiplier = gdp.noise_multiplier(epsilon, study.privacy.delta, study.training.rounds)
    return GaussianSum(engine, noise, multiplier * study.clip)


def plain_mechanism(study: Study, encoding: Encoding) -> PlainSum:
    """Return the mechanism of mode `none`."""
    return PlainSum(Unclipped(build_network(study, encoding), LOSSES[study.loss]))


class Site:
    """Answers the requests of one run.

    Parameters
    ----------
    study : Study
        The study this site takes part in.
    encoding : Encoding
        Its encoding.
    cohort : Cohort
        The frozen snapshot of this site's patients.
    mechanism : Mechanism
        What is released a round.
    run_id : str
        The run this site joined.
    rounds_done : int
        Rounds of this run that this site has answered already.
    """

    def __init__(
        self,
        study: Study,
        encoding: Encoding,
        cohort: Cohort,
        mechanism: Mechanism,
        *,
        run_id: str,
        rounds_done: int = 0,
    ):
        self._study_hash = study.hash()
        self._expires = study.expires
        self._rounds = study.training.rounds
        self._length = weight_count(build_network(study, encoding))
        self._patients = blocks(cohort)
        self._mechanism = mechanism
        self._run_id = run_id
        self._last_round = rounds_done

    def answer(self, request: TrainRequest) -> PrivateUpdate | Refusal:
        """Return this site's release for a round, or why it refuses.

        A refusal depends on the message and public parameters alone, never on patients.
        """
        reason = self._why_not(request)
        if reason is not None:
            return Refusal(reason)
        self._last_round = request.round_number
        vector = self._mechanism.release(request.weights, self._patients)
        return PrivateUpdate(request.study_hash, request.run_id, request.round_number, vector)

    def _why_not(self, request: TrainRequest) -> Reason | None:
        if request.study_hash != self._study_hash or request.run_id != self._run_id:
            return Reason.NOT_APPROVED
        if dt.datetime.now(dt.UTC).date() > self._expires:
            return Reason.EXPIRED
        if request.round_number > self._rounds:
            return Reason.OVER_BUDGET
        if request.round_number <= self._last_round:
            return Reason.OUT_OF_ORDER
        if request.weights.shape != (self._length,) or not np.isfinite(request.weights).all():
            return Reason.BAD_MESSAGE
        return None
