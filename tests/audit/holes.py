"""Defects in a part of the noise, or of the patients: everything else is as it should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import numpy as np

from polyclinic_client.compute import integers, patients
from polyclinic_client.compute.calibration_sums import SummedCalibration
from polyclinic_client.compute.metric_sums import SummedMetrics
from polyclinic_client.compute.regression_sums import SummedStatistics
from polyclinic_common.models import calibration
from polyclinic_common.privacy import noise
from tests.audit.registry import mutation, put


@dataclass(frozen=True)
class Spoiled:
    """A noise source of which a part is spoiled."""

    source: Any
    spoil: Callable[[Any], Any]

    def discrete(self, size: int, variance: int, context: bytes) -> Any:
        return self.spoil(self.source.discrete(size, variance, context))


def spoil_sums(where: Callable[[Any], bool], spoil: Callable[[Any], Any]) -> None:
    """Spoil the noise of some of the integer sums."""
    honest = integers.NoisyIntegers.draw

    def draw(source: Any, weights: Any, moment: Any) -> Any:
        if where(source):
            source = replace(source, noise=Spoiled(source.noise, spoil))
        return honest(source, weights, moment)

    put(integers.NoisyIntegers, "draw", draw)


def without(place: Any) -> Callable[[Any], Any]:
    """Return what takes the noise away from some coordinates."""

    def spoil(drawn: Any) -> Any:
        drawn[place] = 0
        return drawn

    return spoil


@mutation("test_every_coordinate_is_noisy.py")
def no_noise_on_the_last_coordinate() -> None:
    """Every sum has noise on all coordinates but the last."""
    spoil_sums(lambda _: True, without(-1))


@mutation("test_every_coordinate_is_noisy.py")
def no_noise_on_the_first_metric() -> None:
    """The first coordinate of metrics has no noise."""
    spoil_sums(lambda source: isinstance(source.sums, SummedMetrics), without(0))


@mutation("test_every_coordinate_is_noisy.py")
def no_noise_on_statistics() -> None:
    """Sufficient statistics have no noise at all."""
    spoil_sums(lambda source: isinstance(source.sums, SummedStatistics), without(slice(None)))


@mutation("test_every_coordinate_is_noisy.py")
def no_noise_on_calibration() -> None:
    """Calibration sums have no noise at all."""
    spoil_sums(lambda source: isinstance(source.sums, SummedCalibration), without(slice(None)))


@mutation("test_calibration.py")
def calibration_unclamped() -> None:
    """The score of a patient counts in calibration as far as it goes, and nothing is clipped."""

    def integer_sum(sums: Any, weights: Any, blocks: Any) -> Any:
        total = np.zeros(calibration.ENTRIES, dtype=np.int64)
        for x, y, mask in blocks:
            rows = calibration.contributions(sums.encoding, weights, x, y, mask)
            total += np.rint(rows / sums.grid).astype(np.int64).sum(axis=0)
        return total

    put(calibration, "LARGEST_SCORE", np.inf)
    put(SummedCalibration, "integer_sum", integer_sum)


@mutation("test_every_coordinate_is_noisy.py")
def no_noise_on_an_empty_cohort() -> None:
    """Nobody needs no protection: which tells that nobody is there."""
    spoil_sums(lambda source: len(source.patients) == 0, without(slice(None)))


@mutation("test_every_coordinate_is_noisy.py")
def coordinates_share_their_noise() -> None:
    """The second half of the coordinates has the noise of the first."""

    def folded(drawn: Any) -> Any:
        return np.resize(drawn[: -(-drawn.size // 2)], drawn.size)

    spoil_sums(lambda _: True, folded)


@mutation("test_every_coordinate_is_noisy.py")
def steps_share_their_noise() -> None:
    """The noise of sampled steps is drawn once and used in every step."""
    honest, drawn = noise.SystemNoise.gaussian, dict[tuple[int, float], Any]()

    @wraps(honest)
    def again(source: Any, size: int, deviation: float) -> Any:
        if (size, deviation) not in drawn:
            drawn[size, deviation] = honest(source, size, deviation)
        return drawn[size, deviation].copy()

    put(noise.SystemNoise, "gaussian", again)


@dataclass(frozen=True)
class ByPlace:
    """Gradients of which those in odd places are a billionth too large."""

    engine: Any

    def patient_gradients(self, weights: Any, block: Any) -> Any:
        rows = np.array(self.engine.patient_gradients(weights, block))
        rows[1::2] *= 1.0 + 1e-9
        return rows


@mutation("test_rows_add_up.py", audited=False)
def a_gradient_depends_on_its_place() -> None:
    """A patient's gradient is another one in an odd row of a block."""
    honest = integers.SummedRows.integer_sum

    def summed(sums: Any, weights: Any, blocks: Any) -> Any:
        return honest(replace(sums, engine=ByPlace(sums.engine)), weights, blocks)

    put(integers.SummedRows, "integer_sum", summed)


@mutation("test_small_cohorts.py", audited=False)
def an_empty_cohort_raises() -> None:
    """Nobody makes no block of padding, and what adds up blocks may fail."""
    honest = patients.Patients.blocks

    def blocks(cohort: Any, rows: Any = None) -> Any:
        return honest(cohort, rows) if len(cohort) else []

    put(patients.Patients, "blocks", blocks)
