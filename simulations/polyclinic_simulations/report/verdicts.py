"""Sentences that compare: the headline with its alternatives, published formulas, no prediction."""

from __future__ import annotations

from collections.abc import Sequence

from polyclinic_simulations.report.comparison import Comparison, Line
from polyclinic_simulations.report.differences import BesideFormula, beside_formulas, difference
from polyclinic_simulations.report.measures import Measure
from polyclinic_simulations.results.intervals import Gap
from polyclinic_simulations.results.results import mean_and_error


def verdicts(comparison: Comparison, measure: Measure) -> list[str]:
    """Compare the headline with its alternatives, on the same test patients, run by run."""
    head = comparison.headline
    rivals = [
        (comparison.baseline("trivial"), "the same prediction for everybody"),
        (comparison.baseline("local_only_non_private"), "a hospital's own model without privacy"),
    ]
    if measure.key == "accuracy":
        rivals.insert(1, (comparison.baseline("nobody"), "always answering no"))
    if head.epsilon is not None:
        same = comparison.open or comparison.baseline("pooled_same_trainer")
        rivals.append((same, "the same training without privacy"))
    found = [_verdict(head, line, measure, what) for line, what in rivals if line is not None]
    found += [
        _verdict(beside.setting, beside.formula, measure, _formula_rival(beside))
        for beside in beside_formulas(comparison, head)
    ]
    found += [_along_epsilon(comparison, measure), _across_variants(comparison, measure)]
    return [verdict for verdict in found if verdict]


def _formula_rival(beside: BesideFormula) -> str:
    which = f"the published formula {beside.formula.formula}"
    if not beside.fewer:
        return which
    return (
        f"{which}, both on the {beside.patients} of {beside.everybody} test patients who have "
        "every value that it needs"
    )


def _verdict(head: Line, other: Line, measure: Measure, what: str) -> str:
    """Compare two lines; clear means that the 95 % interval leaves out zero."""
    found = difference(head, other, measure.key)
    if found is None:
        return ""
    word, by = _better(found, measure), measure.size(found.mean)
    if found.interval is None:
        return f"Against {what}: {word} by {by}; {_unknown_interval(found)}."
    interval = f"95 % interval of the difference {_interval(found, measure)}"
    if found.clear:
        return f"Against {what}: clearly {word}, by {by} ({interval})."
    return f"Against {what}: no clear difference ({word} by {by}; {interval})."


def _better(found: Gap, measure: Measure) -> str:
    sign = -1.0 if measure.lower_is_better else 1.0
    return "better" if found.mean * sign > 0 else "worse"


def _interval(found: Gap, measure: Measure) -> str:
    low, high = found.interval or (0.0, 0.0)
    return measure.interval(low, high)


def _unknown_interval(found: Gap) -> str:
    if found.noise is None:
        return "with one run the noise is unknown, so nothing is called clear"
    return "this result keeps no resampled test patients, so nothing is called clear"


def _along_epsilon(comparison: Comparison, measure: Measure) -> str:
    mode = comparison.headline.mode
    private = [line for line in comparison.alike(comparison.private) if line.mode == mode]
    if len(private) < 2:
        return ""
    first, last = private[0], private[-1]
    return (
        f"From a promised ε = {first.epsilon:g} to ε = {last.epsilon:g} the {measure.name} goes "
        f"from {measure.phrase(first.overall(measure.key))} to "
        f"{measure.phrase(last.overall(measure.key))}."
    )


def _across_variants(comparison: Comparison, measure: Measure) -> str:
    """Name the variants that did best and worst with the headline's mode and epsilon."""
    head = comparison.headline
    means = {
        line: mean_and_error(line.overall(measure.key))[0]
        for line in comparison.settings
        if (line.mode, line.epsilon) == (head.mode, head.epsilon)
    }
    known = [(mean, line) for line, mean in means.items() if mean is not None]
    if len(known) < 2:
        return ""
    known.sort(key=lambda pair: pair[0], reverse=not measure.lower_is_better)
    best, worst = known[0][1], known[-1][1]
    return (
        f"Of {len(known)} variants with {head.plain_setting}, best is {best.variant[2:]} "
        f"({measure.phrase(best.overall(measure.key))}), last {worst.variant[2:]} "
        f"({measure.phrase(worst.overall(measure.key))})."
    )


def formula_words(comparison: Comparison) -> list[str]:
    """Say of every published formula that it is scored on fewer patients, where it is."""
    beside = comparison.headline.cells[0].baselines
    return [
        f"Published: {name} is scored on {scored} of {beside.test_patients} test patients (first "
        "run), those with every value that it needs. It is compared with models on these patients "
        "alone; the model's figure for all is beside it."
        for name, scored in beside.published_patients.items()
        if scored < beside.test_patients
    ]


def nobody_words(comparison: Comparison, measures: Sequence[Measure]) -> str:
    """Say how often always answering no is right, wherever accuracy is shown."""
    nobody = comparison.baseline("nobody")
    accuracy = next((each for each in measures if each.key == "accuracy"), None)
    if nobody is None or accuracy is None:
        return ""
    return (
        f"Always answering no would be right for {accuracy.phrase(nobody.overall('accuracy'))} of "
        "the test patients: an accuracy says something only above that."
    )
