"""The report's sentences, computed from the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from polyclinic_common.privacy import gdp
from polyclinic_common.study import Study
from polyclinic_common.study.plain_words import group_in_words
from polyclinic_common.study.sections import Fraction, SplitColumn
from polyclinic_simulations.report.comparison import Comparison, Line
from polyclinic_simulations.report.measures import Measure
from polyclinic_simulations.results.results import PrivacySpent, mean_and_error

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


def conclusion(comparison: Comparison, measures: Sequence[Measure], sites: int) -> str:
    """Say what was found: the headline and its alternatives; the first measure headlines."""
    measure, others = measures[0], measures[1:]
    head = comparison.headline
    sites = head.cells[0].sites or sites
    how = "without privacy" if head.epsilon is None else f"with ε = {head.epsilon:g} promised"
    says = measure.says.format(measure.phrase(head.overall(measure.key)))
    hospitals = "one hospital" if sites == 1 else f"{sites} hospitals"
    found = [f"Trained across {hospitals} {how}, the model {says}."]
    found += _brier_words(comparison, others)
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


def _brier_words(comparison: Comparison, others: Sequence[Measure]) -> list[str]:
    """Say beside an AUC, which only ranks, how good the probabilities are."""
    brier = next((each for each in others if each.key == "brier"), None)
    same = comparison.baseline("trivial")
    if brier is None or same is None:
        return []
    ours, theirs = (brier.phrase(x.overall("brier")) for x in (comparison.headline, same))
    return [
        f"Its probabilities have a Brier score of {ours} (0 is perfect); the same prediction for "
        f"everybody has {theirs}."
    ]


def spread_words(study: Study, head: Line, measure: Measure) -> str:
    """Say what ± means, and what it does not hold."""
    seeds, fixed = len(head.scores), not isinstance(study.evaluation.holdout, Fraction)
    said = "One run only: how much the figures vary from run to run is unknown."
    if head.once:
        said = "Every run would give these figures again: nothing in them is drawn."
    elif seeds > 1:
        varies = "the split into training and test patients, and the noise"
        if fixed:
            varies = "start and noise alone: the test patients are the same in every run"
        said = f"± is one standard error over {seeds} runs, which differ in {varies}."
    error = head.sampling_error(measure.key)
    if error is not None:
        what = "± is noise only. " if fixed and seeds > 1 else ""
        said += (
            f" {what}That other patients would give other figures is the test set's own standard "
            f"error: {measure.size(error)} for the {measure.name} of {head.label}."
        )
    return (
        f"{said} Differences are taken patient by patient and run by run; their 95 % intervals "
        "hold both the choice of test patients and the noise, and a difference is called clear "
        "where its interval leaves out zero."
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
        f"{head.label}: the largest gap is between {group_in_words(study, low)} ({lowest}) and "
        f"{group_in_words(study, high)} ({highest}): "
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
