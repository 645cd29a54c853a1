"""Mode none: sites without privacy, a baseline that exists in simulation only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from polyclinic_client.compute.integers import Moment
from polyclinic_client.compute.local_releases import Steps, make_steps
from polyclinic_client.compute.patients import GradientEngine, Patients
from polyclinic_client.compute.sampling import Sampler
from polyclinic_client.run.update_responder import Memory
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.calibration import contributions
from polyclinic_common.models.score_head import Vector
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.releases.kinds import CALIBRATION
from polyclinic_common.releases.plans import noise_plan
from polyclinic_common.wire import (
    PrivateUpdate,
    Reason,
    Receipt,
    Refusal,
    SettleRequest,
    TrainRequest,
    decode_request,
    encode_reply,
)

Seed = tuple[int, ...]


@dataclass(frozen=True)
class SeededSampler:
    """Samples from a seed, so that a run without privacy can be repeated."""

    seed: tuple[int, ...]

    def rows(self, patients: int, rate: float, moment: tuple[int, int]) -> NDArray[np.int64]:
        """Return the chosen rows."""
        generator = np.random.default_rng((*self.seed, *moment))
        return np.flatnonzero(generator.random(patients) < rate)


@dataclass(frozen=True)
class PlainStep:
    """The gradient sum of one step, unclipped and without noise."""

    engine: GradientEngine
    patients: Patients
    sampler: Sampler | None
    rate: float

    def total(self, weights: Vector, moment: Moment) -> Vector:
        """Return the sum at `weights`, shape (d,)."""
        rows = None
        if self.sampler is not None:
            when = moment.release.round_number, moment.step
            rows = self.sampler.rows(len(self.patients), self.rate, when)
        return self.engine.gradient_sum(weights, self.patients.blocks(rows))


@dataclass(frozen=True)
class PlainMechanism:
    """What a site without privacy answers: a gradient sum, or the change of a model."""

    encoding: Encoding
    step: PlainStep
    steps: Steps | None

    @staticmethod
    def make(
        encoding: Encoding, engine: GradientEngine, patients: Patients, declared: int, seed: Seed
    ) -> PlainMechanism:
        """Return the mechanism of a site with so many declared patients."""
        study = encoding.study
        plan = noise_plan(study, declared, None)
        sampler = SeededSampler(seed) if plan.sampling_rate < 1.0 else None
        step = PlainStep(engine, patients, sampler, plan.sampling_rate)
        if study.strategy == "descent":
            return PlainMechanism(encoding, step, None)
        return PlainMechanism(encoding, step, make_steps(study, step, plan, declared))

    def calibration(self, weights: Vector) -> Vector:
        """Return equations and derivatives by level and slope, shape (6,)."""
        blocks = self.step.patients.blocks()
        return np.asarray(
            np.sum([contributions(self.encoding, weights, *each).sum(axis=0) for each in blocks], 0)
        )

    def compute(self, weights: Vector, own: Vector, moment: Moment) -> Vector:
        """Return the answer of one round, shape (d,)."""
        if self.steps is None:
            return self.step.total(weights, moment)
        return self.steps.change(weights, own, moment)


@dataclass(frozen=True)
class PlainSite:
    """A site of mode none: no ledger, no journal, no gate."""

    mechanism: PlainMechanism
    personal: bool

    def answer(self, content: RecordDict, memory: Memory) -> RecordDict:
        """Return the answer to a message; updates `memory`."""
        request = decode_request(content)
        if isinstance(request, SettleRequest):
            return encode_reply(Receipt(request.run_id))
        if not isinstance(request, TrainRequest):
            return encode_reply(Refusal(Reason.OUT_OF_ORDER))
        own = request.weights if memory.personal is None else memory.personal
        release = ReleaseId(request.run_id, request.round_number, "plain")
        if request.kind == CALIBRATION:
            vector = self.mechanism.calibration(request.weights)
        else:
            vector = self.mechanism.compute(request.weights, own, Moment(release, b""))
        if self.personal:
            memory.personal = request.weights + vector
        return encode_reply(
            PrivateUpdate(
                request.study_hash, request.run_id, request.round_number, request.kind, vector
            )
        )
