"""How predictions fare against outcomes that are known by now; silent while they are few."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic_client.watch.budget import CALIBRATION, FEWEST, TILT
from polyclinic_client.watch.chances import Chances, Known
from polyclinic_client.watch.cusum import Cusum, cusum
from polyclinic_client.watch.finding import Finding
from polyclinic_client.watch.limits import Limit, limits, tilt_of
from polyclinic_client.watch.ranking import concordance
from polyclinic_common.bundle.conformal import on_scale
from polyclinic_common.data.encoding import inverse_transform
from polyclinic_common.evaluation.interval import Reading, Z
from polyclinic_common.models.predict import Prediction
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Binary, Continuous, Survival

Floats = NDArray[np.float64]
BY_CHANCE = 0.5
LEAST = 1e-9
MEAN_OF = {"none": "", "sqrt": " (of square roots)", "log": " (of logarithms)"}
RANKING = {"binary": "auc", "survival": "c_index"}


@dataclass(frozen=True)
class Performance:
    """What known outcomes say of the model.

    Attributes
    ----------
    patients : int
        Patients with a known outcome and a prediction.
    observed, expected : float
        Events seen and predicted; for numbers, means of outcomes and predictions, taken on the
        scale of the model and told in the outcome's unit.
    chances : Chances
        The outcomes one by one.
    sums : Cusum
        The calibration CUSUM.
    limits : tuple of Limit
        Of every look so far, this one last.
    tilt : float
        How outcomes go with scores beyond what is predicted.
    ranking : Reading or None
        Discrimination here, with its 95 % interval; None where it is undefined.
    released : Reading or None
        The same as the consortium released it, where it did.
    error : Reading or None
        Mean absolute error here, for numbers, in the outcome's unit.
    released_error : Reading or None
        The same as released.
    """

    patients: int
    observed: float
    expected: float
    chances: Chances
    sums: Cusum
    limits: tuple[Limit, ...]
    tilt: float
    ranking: Reading | None
    released: Reading | None
    error: Reading | None = None
    released_error: Reading | None = None

    @property
    def limit(self) -> Limit:
        """Limits of this look."""
        return self.limits[-1]

    @property
    def is_more(self) -> bool:
        """Whether the sum for more than predicted lies higher in proportion to its limit."""
        share = self.sums.more[-1] / max(self.limit.more, LEAST)
        return bool(share >= self.sums.less[-1] / max(self.limit.less, LEAST))

    @property
    def is_off(self) -> bool:
        """Whether calibration is in alarm."""
        return bool(self.sums.more[-1] > self.limit.more or self.sums.less[-1] > self.limit.less)

    @property
    def is_tilted(self) -> bool:
        """Whether outcomes go with the scores less than predicted, beyond chance."""
        return self.tilt < self.limit.tilt

    @property
    def since(self) -> int:
        """How many patients were judged before the larger sum last left zero."""
        larger = self.sums.more if self.is_more else self.sums.less
        zeros = np.flatnonzero(larger <= 0.0)
        return int(self.chances.owner[zeros[-1]]) + 1 if zeros.size else 0


def judge(
    study: Study,
    known: Known,
    prediction: Prediction,
    released: Mapping[str, Reading],
    earlier: Sequence[int],
) -> Performance | None:
    """Return what known outcomes say; None below 20 of them.

    Parameters
    ----------
    prediction : Prediction
        Of all n patients.
    released : mapping of str to Reading
        The released metrics by name.
    earlier : sequence of int
        How many outcomes were known at earlier looks.
    """
    chances = known.chances
    if known.patients < FEWEST or not len(chances):
        return None
    looks = {chances.until(count) for count in earlier if FEWEST <= count < known.patients}
    stops = sorted({*(stop for stop in looks if stop), len(chances)})
    outcome, share = study.outcome, TILT
    told, value = prediction.value[known.judged], known.outcome.value[known.judged]
    observed, expected, error = float(chances.seen.sum()), 0.0, None
    if isinstance(outcome, Continuous):
        observed, expected = _mean(outcome, value), _mean(outcome, told)
        share, error = TILT / 2.0, _error(np.abs(value - told))
    elif chances.risk is not None:
        expected = float(chances.risk.sum())
    return Performance(
        patients=known.patients,
        observed=observed,
        expected=expected,
        chances=chances,
        sums=cusum(chances),
        limits=limits(chances, stops, CALIBRATION, share),
        tilt=tilt_of(chances),
        ranking=_ranking(study, known, told),
        released=released.get(RANKING.get(study.outcome.kind, "")),
        error=error,
        released_error=released.get("mae"),
    )


def _ranking(study: Study, known: Known, told: Floats) -> Reading | None:
    value, event = known.outcome.value[known.judged], known.outcome.event[known.judged]
    if isinstance(study.outcome, Binary):
        return concordance(told, 1.0 - value, value)
    if isinstance(study.outcome, Survival):
        return concordance(told, value, event)
    return concordance(told, -value, event)


def _mean(outcome: Continuous, values: Floats) -> float:
    """Return the mean on the scale of the model, in the outcome's unit."""
    return float(inverse_transform(outcome, on_scale(outcome, values).mean()))


def _error(errors: Floats) -> Reading:
    mean, half = float(errors.mean()), Z * float(errors.std(ddof=1)) / math.sqrt(len(errors))
    return Reading(mean, mean - half, mean + half)


def performance_findings(study: Study, found: Performance) -> Iterator[Finding]:
    """Yield what is wrong with the model's performance, in words."""
    if found.is_off:
        yield Finding(
            "calibration",
            "recalibrate",
            f"Outcomes have left the predictions: {_level(study, found)} {_began(found)}",
            "Set level and slope right on this hospital's patients: "
            "polyclinic model calibrate FILE TABLE --refit",
        )
    if found.is_tilted:
        yield _tilted(found)
    if _is_larger(found):
        yield Finding(
            "error",
            "look",
            f"Predictions are off by {_words(found.error)} {_unit(study)} on average, more than "
            f"was released ({_words(found.released_error)}).",
            "See whether these patients differ from those of the study; compare the columns above.",
        )


def _began(found: Performance) -> str:
    if not found.since:
        return "They were off from the first of these patients on."
    return f"The deviation began after about {found.since} of these patients."


def _level(study: Study, found: Performance) -> str:
    outcome = study.outcome
    if isinstance(outcome, Continuous):
        return (
            f"{outcome.column} is {found.observed:.4g} {outcome.unit} on average"
            f"{MEAN_OF[outcome.transform]} among {found.patients} patients, "
            f"{found.expected:.4g} was predicted."
        )
    event = outcome.positive if isinstance(outcome, Binary) else outcome.occurred
    column = outcome.column if isinstance(outcome, Binary) else outcome.event
    return (
        f"{column} is {event} for {found.observed:.0f} of {found.patients} patients with a known "
        f"outcome, {found.expected:.1f} were predicted."
    )


def _tilted(found: Performance) -> Finding:
    reason = "Predictions differ more between patients than outcomes do, beyond chance"
    ranking = found.ranking
    if ranking is not None and ranking.low <= BY_CHANCE:
        return Finding(
            "ranking",
            "withdraw",
            f"{reason}, and whether the model ranks patients better than chance cannot be seen any "
            f"more: {_words(ranking)}, where {BY_CHANCE} is chance.",
            "Stop using the model here and tell the operator; look into the columns first if any "
            "is listed.",
        )
    return Finding(
        "ranking",
        "recalibrate",
        f"{reason}: the model ranks patients less well here than it claims.",
        "Set level and slope right on this hospital's patients: "
        "polyclinic model calibrate FILE TABLE --refit",
    )


def _is_larger(found: Performance) -> bool:
    """Say whether errors are larger than released beyond chance; noise of the release included."""
    from scipy.special import ndtri  # noqa: PLC0415

    if found.error is None or found.released_error is None:
        return False
    half = found.error.high - found.error.value
    lowest = found.error.value - half / Z * float(ndtri(1.0 - TILT / 2.0))
    return lowest > found.released_error.high


def _unit(study: Study) -> str:
    return study.outcome.unit if isinstance(study.outcome, Continuous | Survival) else ""


def _words(reading: Reading | None) -> str:
    if reading is None:
        return "not known"
    return f"{reading.value:.3g} ({reading.low:.3g} to {reading.high:.3g})"
