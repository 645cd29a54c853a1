"""The report's sentences, computed from the numbers."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit

from polyclinic_common.privacy import gdp
from polyclinic_common.study import Study
from polyclinic_common.study.sections import LOWER_IS_BETTER, Fraction, SplitColumn
from polyclinic_simulations.comparison import Comparison, Line, difference
from polyclinic_simulations.measures import Measure
from polyclinic_simulations.results import PrivacySpent, mean_and_error

CLEAR = 0.975

MODES = {
    "secure-sum": "Mode secure-sum: every hospital adds its share of the noise and hides its sum "
    "under masks that cancel only when all are added up. The server sees one noisy sum a round, "
    "over all hospitals, and no hospital's own. This holds against a malicious server as long as "
    "at most c hospitals work together with it; if all others do, the fallback ε holds.",
    "local": "Mode local: noise is added inside each hospital, before anything leaves it. What a "
    "hospital sends is private on its own, so patients need not trust the server, its operator or "
    "the other hospitals.",
    "none": "Mode none: there is no protection. It exists in simulation only, to show what privacy "
    "costs; a hospital's node refuses it.",
}


def conclusion(comparison: Comparison, measure: Measure, sites: int) -> str:
    """Say what was found: the headline and its alternatives."""
    head = comparison.headline
    sites = head.cells[0].sites or sites
    how = "without privacy" if head.epsilon is None else f"with ε = {head.epsilon:g} promised"
    says = measure.says.format(measure.phrase(head.overall(measure.key)))
    hospitals = "one hospital" if sites == 1 else f"{sites} hospitals"
    found = [f"Trained across {hospitals} {how}, the model {says}."]
    pooled = comparison.baseline("pooled_converged")
    if pooled is not None:
        value = measure.phrase(pooled.overall(measure.key))
        found.append(
            f"With all data pooled in one place and no privacy, the {measure.name} is {value}."
        )
    alone = [
        (comparison.baseline("local_only_private"), "with the same privacy"),
        (comparison.baseline("local_only_non_private"), "without any privacy"),
    ]
    reached = [
        f"{measure.phrase(line.overall(measure.key))} {words}" for line, words in alone if line
    ]
    if reached:
        found.append(f"A hospital on its own reaches {' and '.join(reached)}.")
    return " ".join(found)


def verdicts(comparison: Comparison, measure: Measure) -> list[str]:
    """Compare the headline with its alternatives, seed by seed."""
    head = comparison.headline
    rivals = [
        (comparison.baseline("trivial"), "the same prediction for everybody"),
        (comparison.baseline("local_only_non_private"), "a hospital's own model without privacy"),
        (comparison.baseline("published"), _formula_rival(comparison)),
    ]
    if head.epsilon is not None:
        same = comparison.open or comparison.baseline("pooled_same_trainer")
        rivals.append((same, "the same training without privacy"))
    found = [_verdict(head, line, measure, what) for line, what in rivals if line is not None]
    found += [_along_epsilon(comparison, measure), _across_variants(comparison, measure)]
    return [verdict for verdict in found if verdict]


def _formula_rival(comparison: Comparison) -> str:
    fewer = " (on fewer patients, see Results)" if formula_words(comparison) else ""
    return f"the published formula{fewer}"


def _verdict(head: Line, other: Line, measure: Measure, what: str) -> str:
    """Compare two lines; clear means that the 95 % t-interval over the runs leaves out zero."""
    differences = difference(head, other, measure.key)
    mean, error = mean_and_error(differences)
    if mean is None:
        return ""
    sign = -1.0 if measure.key in LOWER_IS_BETTER else 1.0
    word = "better" if mean * sign > 0 else "worse"
    by = measure.apart(differences if mean > 0 else [-value for value in differences])
    if error is None:
        return f"Against {what}: {word} by {by}, in this one run."
    if abs(mean) > float(stdtrit(len(differences) - 1, CLEAR)) * error:
        return f"Against {what}: clearly {word}, by {by}."
    return f"Against {what}: no clear difference ({word} by {by})."


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
    known.sort(key=lambda pair: pair[0], reverse=measure.key not in LOWER_IS_BETTER)
    best, worst = known[0][1], known[-1][1]
    return (
        f"Of {len(known)} variants with {head.plain_setting}, best is {best.variant[2:]} "
        f"({measure.phrase(best.overall(measure.key))}), last {worst.variant[2:]} "
        f"({measure.phrase(worst.overall(measure.key))})."
    )


def spread_words(study: Study, seeds: int) -> str:
    """Say what ± means."""
    if seeds < 2:
        return "One run only: how much the figures vary from run to run is unknown."
    varies = "the split into training and test patients, and the noise"
    if not isinstance(study.evaluation.holdout, Fraction):
        varies = "start and noise; the test patients are the same in every run"
    return (
        f"± is one standard error over {seeds} runs, which differ in {varies}. "
        "It does not include that another group of patients would give other figures. Differences "
        "are taken run by run, and called clear where their 95 % interval leaves out zero."
    )


def holdout_words(study: Study) -> str:
    """Say on which patients the models are judged."""
    holdout = study.evaluation.holdout
    if isinstance(holdout, Fraction):
        return (
            f"{100 * holdout.fraction:g} % of the patients of each hospital, another choice in "
            "every run; never used for training."
        )
    if isinstance(holdout, SplitColumn):
        return f"Patients whose {holdout.column} is {holdout.test}; never used for training."
    return f"All patients of {', '.join(holdout.sites)}; never used for training."


def epsilon_words(spent: PrivacySpent) -> str:
    """Say what epsilon and delta promised, what was spent, and what that bounds."""
    if spent.epsilon is None or spent.delta is None:
        return ""
    promised = ""
    if spent.epsilon_promised is not None:
        promised = f"Promised was ε = {spent.epsilon_promised:.3g} at most. "
    return (
        "ε bounds what anybody can learn about one patient because that patient took part. "
        f"{promised}Spent was ε = {spent.epsilon:.3g}: with that, whoever sees everything that is "
        "released can raise or lower the odds that a given patient was among the data by a factor "
        f"of at most {odds(spent.epsilon)}: a suspicion of 50 % becomes "
        f"{suspicion(spent.epsilon)} at most. δ = {decimal(spent.delta)} is, roughly, the chance "
        f"that this bound fails: 1 in {1 / spent.delta:,.0f}."
    )


def decimal(number: float) -> str:
    """Write a small number without exponent."""
    return np.format_float_positional(number, trim="-")


def odds(epsilon: float) -> str:
    """Return the factor by which odds can change, to three digits."""
    return f"{float(f'{math.exp(epsilon):.3g}'):,.12g}"


def suspicion(epsilon: float) -> str:
    """Return how far a suspicion of 50 % can rise."""
    percent = 100 / (1 + math.exp(-epsilon))
    return "more than 99.9 %" if percent > 99.9 else f"{percent:.3g} %"


def sum_words(spent: PrivacySpent) -> str:
    """Say what the headline of a secure sum rests on, and what remains without that."""
    sums = spent.sums
    if spent.epsilon is None or sums is None:
        return ""
    lost = ""
    if sums.rounds_at_fallback:
        lost = (
            f" A hospital lost up to {sums.rounds_at_fallback} rounds to exclusion after it had "
            "sent its share; they are counted at fallback."
        )
    return (
        f"The headline, ε = {spent.epsilon:.3g} spent, holds if at most c = {sums.c} of "
        f"{sums.hospitals} hospitals collude with the server; a round needs m = {sums.m}. If all "
        f"others collude, or the cryptography fails, the fallback holds: "
        f"ε = {sums.epsilon_fallback:.3g} spent. "
        f"{sums.verified} hospitals know each other's keys. With all present the noise is "
        f"{sums.noise_excess:.2f} times that of a trusted server.{lost}"
    )


def two_hospitals(spent: PrivacySpent) -> str:
    """Return the epsilon of a patient in two hospitals' cohorts, rounded up."""
    if spent.epsilon_two_hospitals is None:
        return ""
    return f"{math.ceil(100 * spent.epsilon_two_hospitals) / 100:.2f}"


def two_hospitals_words(spent: PrivacySpent) -> str:
    """Say what becomes of epsilon in two hospitals' cohorts, and how that is counted."""
    if spent.epsilon is None or spent.epsilon_two_hospitals is None:
        return ""
    how = "twice the highest Rényi curve of a hospital, as the curves of both add up"
    if spent.accountant == gdp.ACCOUNTANT:
        how = "twice the parameter μ of Gaussian DP, which would cover also rows in one common sum"
    return f"the spent ε = {spent.epsilon:.3g} becomes {two_hospitals(spent)} ({how})"


def prv_words(spent: PrivacySpent) -> str:
    """Say what the numerical accountant of a sampled run finds."""
    if spent.epsilon is None or spent.epsilon_prv is None:
        return ""
    return (
        f"ε = {spent.epsilon_prv:.3g} by privacy loss random variables (PRV), which holds for the "
        "plan as it was fixed in advance, all its rounds. What was spent, as the hospitals' "
        f"ledgers count and enforce it, is ε = {spent.epsilon:.3g}{_of_promised(spent)}."
    )


def _of_promised(spent: PrivacySpent) -> str:
    if spent.epsilon_promised is None:
        return ""
    return f" of ε = {spent.epsilon_promised:.3g} promised"


def formula_words(comparison: Comparison) -> list[str]:
    """Say of every published formula that it is scored on fewer patients, where it is."""
    beside = comparison.headline.cells[0].baselines
    return [
        f"Published: {name} is scored on {scored} of {beside.test_patients} test patients (first "
        "run), those with every value that it needs; all other models are scored on all of them."
        for name, scored in beside.published_patients.items()
        if scored < beside.test_patients
    ]


def gap_words(study: Study, comparison: Comparison, measure: Measure) -> str:
    """Name the largest gap between subgroups of one column, and the same gap without privacy."""
    head, key = comparison.headline, measure.key
    gaps = []
    for names in _by_column(study, comparison.subgroups):
        means = {name: mean_and_error(head.in_subgroup(name, key))[0] for name in names}
        known = sorted((mean, name) for name, mean in means.items() if mean is not None)
        if len(known) > 1:
            gaps.append((known[-1][0] - known[0][0], known[0][1], known[-1][1]))
    if not gaps:
        return ""
    _, low, high = max(gaps)
    lowest, highest = (measure.phrase(head.in_subgroup(name, key)) for name in (low, high))
    return (
        f"{head.label}: the largest gap is between {low} ({lowest}) and {high} ({highest}): "
        f"{_gap(head, low, high, measure)}.{_gap_without_privacy(comparison, low, high, measure)}"
    )


def _gap_without_privacy(comparison: Comparison, low: str, high: str, measure: Measure) -> str:
    fitted = comparison.baseline("pooled_converged")
    if fitted is None:
        return ""
    return (
        " In the model fitted to the pooled data without privacy the same gap is "
        f"{_gap(fitted, low, high, measure)}."
    )


def _gap(line: Line, low: str, high: str, measure: Measure) -> str:
    pairs = zip(
        line.in_subgroup(low, measure.key), line.in_subgroup(high, measure.key), strict=True
    )
    return measure.apart([b - a for a, b in pairs if a is not None and b is not None])


def _by_column(study: Study, names: list[str]) -> list[list[str]]:
    """Put the names of subgroups together that cut the same column."""
    columns = sorted((subgroup.column for subgroup in study.subgroups), key=len, reverse=True)
    groups: dict[str, list[str]] = {}
    for name in names:
        column = next((c for c in columns if name.startswith(f"{c} ")), name)
        groups.setdefault(column, []).append(name)
    return list(groups.values())
