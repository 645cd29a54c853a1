r"""Every coordinate of every kind of release carries the noise that is charged, on its own.

The hospital has no patient at all, so that what it draws is noise and nothing else. Its site is
put together as a node's, with the system's noise; the variance looked for is worked out from the
price in its approval alone. Coordinate by coordinate, over a thousand draws: mean 0; a sum of
squares within two-sided bounds of chi-square; no correlation with another coordinate, or with any
of the draw before; fair low bits of what is an integer sum; and no two draws alike.

False alarm of all tests of this module together: 1e-6 at most. Each look (a kind of release in one
study) gets an equal share of that, and divides it among all its comparisons
(:class:`tests.kits.noise_looks.Look`): with 19 looks of up to 220 coordinates a coordinate's sum
of squares is complained of below 0.70 or above 1.35 of what it should be.

Power: one coordinate with noise times 0.7 (variance 0.49) is caught with probability above
1 - 1e-9, one without noise for certain, all with noise times 0.95 above 1 - 1e-9 in the vectors of
40 and more; `test_the_power_is_what_is_said` computes it. (Votes: ``test_votes_are_random.py``.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chi2

from polyclinic_common.privacy.charges import GaussianSum, SampledSteps
from polyclinic_common.releases.plans import CHANGE_EXPONENT
from polyclinic_common.study import Study
from tests.kits.hospital import DECLARED, Hospital
from tests.kits.noise_looks import DRAWS, Look
from tests.kits.small import small_study

FALSE_ALARM = 1e-6
LOCAL: dict[str, Any] = {"mode": "local"}
TABLES: dict[str, Any] = {"private": {"by_site": True, "subgroups": True, "share": 0.3}}
MLP: dict[str, Any] = {"kind": "mlp", "hidden": [3]}
CALIBRATED: dict[str, Any] = {"rounds": 2, "calibration": {"steps": 2}}
SAMPLED: dict[str, Any] = {"rounds": 2, "schedule": "sampled", "batch": 4}


def local(training: dict[str, Any] | None = None, **more: Any) -> Study:
    return small_study(training=training or {"rounds": 2}, privacy=LOCAL, **more)


STUDIES: dict[str, Study] = {
    "binary": small_study("binary", evaluation=TABLES),
    "calibrated": small_study("survival", training=CALIBRATED),
    "calibrated sums": local(CALIBRATED),
    "calibrated steps": local(CALIBRATED | {"strategy": "fedavg"}),
    "continuous": small_study(
        "continuous",
        training={"rounds": 2, "start": "statistics"},
        evaluation={"private": {}},
    ),
    "survival": small_study("survival", evaluation={"private": {"by_site": True}}),
    "menu": small_study(
        model=MLP,
        training={"rounds": 2, "menu": [{"momentum": 0.5}, {"momentum": 0.9}]},
        evaluation={"private": {"subgroups": True}},
    ),
    "local sums": local(evaluation=TABLES),
    "whole steps": local({"rounds": 2, "strategy": "fedavg"}),
    "several whole steps": local(SAMPLED | {"batch": 50, "epochs": 3}),
    "sampled steps": local(SAMPLED),
    "fedprox": local(SAMPLED | {"strategy": "fedprox", "pull": 0.08}, model=MLP),
    "personal": local({"rounds": 2, "personalisation": "mr-mtl", "pull": 0.1}),
    "personal samples": local(SAMPLED | {"personalisation": "mr-mtl", "pull": 0.1}),
}
SUMS = [
    *[("binary", kind, "opacus") for kind in ("gradient", "metrics")],
    *[("continuous", kind, "opacus") for kind in ("statistics", "gradient", "metrics")],
    *[("calibrated", kind, "opacus") for kind in ("gradient", "calibration")],
    *[("calibrated sums", kind, "opacus") for kind in ("update", "calibration")],
    ("calibrated steps", "calibration", "opacus"),
    *[("survival", kind, "opacus") for kind in ("gradient", "metrics")],
    *[("menu", kind, "opacus") for kind in ("gradient", "metrics")],
    *[("local sums", kind, "opacus") for kind in ("update", "metrics")],
    ("binary", "gradient", "fast"),
    ("local sums", "update", "fast"),
]
STEPS = {
    "whole steps": "opacus",
    "calibrated steps": "opacus",
    "several whole steps": "opacus",
    "sampled steps": "opacus",
    "fedprox": "fast",
    "personal": "opacus",
    "personal samples": "fast",
}
LOOK = Look(FALSE_ALARM / (len(SUMS) + len(STEPS)))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Blocks are small: more threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_kind_of_release_is_looked_at(tmp_path: Path) -> None:
    """What a study of this list makes is drawn below; together they make all kinds."""
    made = {
        (name, kind)
        for name, study in STUDIES.items()
        for kind in Hospital(study, tmp_path / name).planned
    }
    assert made == {(name, kind) for name, kind, _ in SUMS} | {(name, "update") for name in STEPS}
    kinds = {"gradient", "statistics", "metrics", "update", "calibration"}
    assert {kind for _, kind in made} == kinds


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind", "gradients"), SUMS)
def test_every_coordinate_of_a_sum_has_the_noise_that_is_charged(
    name: str, kind: str, gradients: str, tmp_path: Path
) -> None:
    hospital = Hospital(STUDIES[name], tmp_path / "site", gradients=gradients)
    planned = hospital.planned[kind]
    charge, whole = planned.fallback, planned.headline
    assert isinstance(charge, GaussianSum)
    assert isinstance(whole, GaussianSum)
    assert (charge.variance, charge.length, charge.shares) == (whole.variance, whole.length, 1)
    draws = drawn(hospital, kind)
    assert draws.dtype == np.int64
    assert draws.shape[1] == charge.length == hospital.length(kind)
    nothing = np.zeros(charge.length)
    assert LOOK.complaints(draws, nothing, charge.variance) == []
    assert LOOK.unfair_bits(draws) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_every_coordinate_of_a_change_has_the_noise_of_all_its_steps(
    name: str, tmp_path: Path
) -> None:
    """A step leads from w to w - r (noise / n + p (w - w0)), with rate r, n patients and pull p.

    Of a cohort of nobody, k steps from w lead to w0 + q^k (w - w0) + e with q = 1 - r p, and e has
    variance (r s / n)^2 (1 + q^2 + ... + q^(2 (k - 1))), s the deviation of one step's noise.
    """
    study = STUDIES[name]
    hospital = Hospital(study, tmp_path / "site", gradients=STEPS[name])
    steps, deviation, patients = priced(hospital)
    rate, training = study.local_learning_rate, study.training
    pulled = training.personalisation == "mr-mtl" or study.strategy == "fedprox"
    decay = 1.0 - rate * (training.pull if pulled else 0.0)
    unit = 2.0**CHANGE_EXPONENT
    variance = (rate * deviation / patients / unit) ** 2
    variance *= sum(decay ** (2 * step) for step in range(steps))
    own = hospital.weights + np.linspace(-0.5, 0.5, hospital.weights.size)
    draws = drawn(hospital, "update", own)
    assert draws.shape[1] == hospital.weights.size == hospital.length("update")
    mean = decay**steps * (own - hospital.weights) / unit
    assert variance > 2**24
    assert LOOK.complaints(draws, mean, variance + 1 / 12) == []


def priced(hospital: Hospital) -> tuple[int, float, float]:
    """Return steps, deviation of a step's noise and expected patients, as the price says."""
    study, charge = hospital.study, hospital.planned["update"].fallback
    if isinstance(charge, SampledSteps):
        return charge.steps, charge.multiplier * study.clip, charge.rate * DECLARED
    assert isinstance(charge, GaussianSum)
    steps, rest = divmod(charge.length, hospital.weights.size)
    assert rest == 0
    grid = study.clip * math.sqrt(steps) / charge.sensitivity
    return steps, grid * math.sqrt(charge.variance), DECLARED


def test_there_are_steps_of_all_lengths(tmp_path: Path) -> None:
    steps = {name: priced(Hospital(STUDIES[name], tmp_path / name))[0] for name in STEPS}
    assert steps == {
        "whole steps": 1,
        "calibrated steps": 1,
        "several whole steps": 3,
        "sampled steps": 3,
        "fedprox": 3,
        "personal": 1,
        "personal samples": 3,
    }


def drawn(hospital: Hospital, kind: str, own: Any = None) -> NDArray[np.int64]:
    return np.stack([hospital.draw(kind, number, own) for number in range(1, DRAWS + 1)])


# What would be seen


def fresh(d: int = 12) -> NDArray[np.int64]:
    return np.rint(np.random.default_rng(4).normal(0.0, 2.0**13, (DRAWS, d))).astype(np.int64)


def changed(change: Callable[[NDArray[np.int64]], Any]) -> NDArray[np.int64]:
    draws = fresh()
    change(draws)
    return draws


def scaled(place: Any, factor: float) -> Callable[[NDArray[np.int64]], None]:
    def change(draws: NDArray[np.int64]) -> None:
        draws[:, place] = np.rint(factor * draws[:, place])

    return change


HOLES: dict[str, tuple[Callable[[NDArray[np.int64]], Any], str]] = {
    "no noise on the last": (scaled(-1, 0.0), "variance of coordinates [11]"),
    "no noise on the first": (scaled(0, 0.0), "variance of coordinates [0]"),
    "less on one": (scaled(3, 0.7), "variance of coordinates [3]"),
    "more on one": (scaled(3, 1.4), "variance of coordinates [3]"),
    "a little less on all": (scaled(slice(None), 0.95), "variance of all coordinates together"),
    "one drawn twice": (
        lambda draws: draws.__setitem__((slice(None), 5), draws[:, 2]),
        "independence of coordinates [2, 5]",
    ),
    "half of another's": (
        lambda draws: draws.__setitem__(
            (slice(None), 5), (draws[:, 5] + draws[:, 2]) / np.sqrt(2.0)
        ),
        "independence of coordinates [2, 5]",
    ),
    "one drawn for two rounds": (
        lambda draws: draws.__setitem__((slice(1, None, 2), 7), draws[0::2, 7]),
        "independence of coordinates [7]",
    ),
    "moved on by a place": (
        lambda draws: draws.__setitem__((slice(1, None, 2), slice(1, None)), draws[0::2, :-1]),
        "independence of coordinates",
    ),
    "drawn again much later": (
        lambda draws: draws.__setitem__(900, draws[3]),
        "two draws are equal",
    ),
    "off centre": (lambda draws: draws.__iadd__(4000), "mean of coordinates"),
}


@pytest.mark.parametrize("name", HOLES)
def test_a_hole_in_the_noise_is_seen(name: str) -> None:
    change, said = HOLES[name]
    assert any(each.startswith(said) for each in LOOK.complaints(changed(change), zero(), 2.0**26))


def test_an_even_number_in_one_place_is_seen_and_fresh_noise_is_not() -> None:
    assert LOOK.complaints(fresh(), zero(), 2.0**26) == []
    assert LOOK.unfair_bits(fresh()) == []
    even = changed(lambda draws: draws.__setitem__((slice(None), 4), 2 * (draws[:, 4] // 2)))
    assert LOOK.unfair_bits(even)[0] == "bit 0 of coordinates [4]"
    again = changed(
        lambda draws: draws.__setitem__(
            (slice(1, None, 2), 4), 16 * (draws[1::2, 4] // 16) + draws[0::2, 4] % 16
        )
    )
    assert LOOK.unfair_bits(again)[0] == "bit 0 of pairs of coordinates [4]"


def zero() -> Any:
    return np.zeros(12)


def test_the_power_is_what_is_said() -> None:
    longest = 220
    low, high = LOOK.variance_bounds(longest)
    assert 0.70 < low / DRAWS < high / DRAWS < 1.35
    assert LOOK.chance_to_catch(0.7, longest) > 1 - 1e-9
    assert LOOK.chance_to_catch(1e-9, longest) == 1.0
    numbers = 40 * DRAWS
    at_least = chi2.ppf(LOOK.share / 2, numbers)
    assert chi2.cdf(at_least / 0.95**2, numbers) > 1 - 1e-9
