"""A warning where probabilities are clearly off: how far, why, and what mends it."""

from __future__ import annotations

from polyclinic_common.study import Study
from polyclinic_common.study.outcomes import Binary, Survival
from polyclinic_simulations.report.calibration import Calibration, Count, calibration_of
from polyclinic_simulations.report.comparison import Comparison, Line
from polyclinic_simulations.report.measures import decimals

RARE = 0.2
FIFTHS = ("lowest", "second", "middle", "fourth", "highest")
LOCALLY = (
    "recalibrate locally: fit intercept and slope of the model's score on patients of the hospital "
    "that will use it, before anybody reads its probabilities"
)


def warning(study: Study, comparison: Comparison) -> str:
    """Warn where the headline's probabilities are clearly off; empty where they are not."""
    head, other = comparison.headline, comparison.open
    found = calibration_of(study, head)
    if found is None or not found.off:
        return ""
    without = None if other is None or other is head else calibration_of(study, other)
    beside = f" Without privacy: {_size(without)}." if without is not None else ""
    cause, remedy = _cause_and_remedy(study, head, found, without)
    return (
        f"The predicted probabilities are clearly off ({head.label}): {_size(found)}.{beside} They "
        "may put patients into the right order, but they must not be read as probabilities. "
        f"{_direction(found)} {cause} Remedy: {remedy}."
    )


def _size(found: Calibration) -> str:
    """Say how far off: in total, in the worst fifth, and by the slope."""
    total = found.total
    said = [
        f"{decimals(total.ratio, 2)} times as many are predicted as were observed "
        f"({decimals(total.expected, 1)} and {decimals(total.observed, 1)} of "
        f"{total.patients:.0f} test patients)"
    ]
    if found.worst_fifth is not None:
        place, fifth = found.worst_fifth
        which = FIFTHS[place] if len(found.fifths) == len(FIFTHS) else f"{place + 1}."
        said.append(f"in the {which} fifth of predictions {_shares(fifth)}")
    if found.worst_time is not None:
        time, count = found.worst_time
        said.append(f"by time {time:g} {_shares(count)}")
    if found.slope is not None:
        said.append(slope_words(found))
    return "; ".join(said)


def _shares(count: Count) -> str:
    shares = (100.0 * part / count.patients for part in (count.expected, count.observed))
    predicted, observed = (f"{decimals(share, 1)} %" for share in shares)
    return f"{predicted} are predicted and {observed} observed"


def slope_words(found: Calibration) -> str:
    """Return the calibration slope with its interval; empty where there is none."""
    if found.slope is None or found.slope_half is None:
        return ""
    low, high = found.slope - found.slope_half, found.slope + found.slope_half
    return (
        f"the calibration slope is {decimals(found.slope, 2)} (95 % interval {decimals(low, 2)} to "
        f"{decimals(high, 2)}; 1 is right)"
    )


def _direction(found: Calibration) -> str:
    if found.too_flat:
        return "They lie too close together: high risks are higher than predicted, low ones lower."
    if found.too_steep:
        return "They lie too far apart: high risks are lower than predicted, low ones higher."
    if found.total_off:
        return f"They are too {_side(found.total)}."
    if found.worst_fifth is not None:
        return f"They are too {_side(found.worst_fifth[1])} in that fifth."
    return f"They are too {_side(found.worst_time[1])} by that time." if found.worst_time else ""


def _side(count: Count) -> str:
    return "high" if count.expected > count.observed else "low"


def _cause_and_remedy(
    study: Study, head: Line, found: Calibration, without: Calibration | None
) -> tuple[str, str]:
    """Name what made it, and what mends that; never a remedy that the study has already."""
    same = without is not None and without.off
    private = head.epsilon is not None
    held_out = study.evaluation.holdout.kind == "sites"
    if held_out and found.total_off and (same or without is None):
        return (
            "The test patients are those of a hospital that was held out, and it differs from "
            "those that train (drift).",
            LOCALLY,
        )
    if same or not private:
        return (
            "Noise and clip are not the cause: without privacy it is off as well. The test "
            "patients differ from those that train (drift), or the model lacks what tells them "
            "apart.",
            LOCALLY,
        )
    return _private_cause(study, found), _private_remedy(study)


def _private_cause(study: Study, found: Calibration) -> str:
    said = []
    if found.too_flat or (found.total_off and _side(found.total) == "high"):
        said.append(
            "Noise: the ridge that steadies training against it pulls every prediction towards the "
            f"study's public start ({_start_words(study)})."
        )
    share = found.total.observed / found.total.patients
    if found.total.expected < found.total.observed and share < RARE:
        said.append(
            "The clip: the rare patients with the outcome have the longest gradients, and these "
            "are cut, so that the outcome is predicted too seldom."
        )
    if found.too_steep:
        said.append("Noise: it moves the weights, and predictions scatter more than outcomes do.")
    return " ".join(said) or "Noise, and the ridge and clip that go with it, are the cause."


def _start_words(study: Study) -> str:
    outcome = study.outcome
    if isinstance(outcome, Binary):
        return f"base_rate = {outcome.base_rate:g}"
    return f"event_free = {outcome.event_free:g}" if isinstance(outcome, Survival) else "its start"


def _private_remedy(study: Study) -> str:
    """Return what the study does not have yet; with both, what lies outside of training."""
    missing = []
    if getattr(study.training, "ridge", None) != "release":
        missing.append('set training.ridge = "release", a weaker ridge')
    if getattr(study.training, "calibration", None) is None:
        missing.append(
            "add a section [training.calibration], a charged second phase that fits intercept and "
            "slope of the frozen score"
        )
    if missing:
        return "; ".join(missing)
    return f"more patients or a larger epsilon; or {LOCALLY}"
