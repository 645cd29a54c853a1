"""A study in plain words, and what leaves a hospital in it: told from the schedule alone."""

from __future__ import annotations

import math

from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.releases.kinds import Kind, SumKind, kinds_of
from polyclinic_common.releases.schedule import Schedule, Scheduled
from polyclinic_common.releases.shares import share_of, vote_of
from polyclinic_common.study import plain_words
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.plain_words import Section

LEAVING = "What leaves a hospital, and what it costs"
SHOWN = 1000.0  # epsilons are shown in thousandths, rounded up

FREE = {
    "secure-sum": "announcements of keys and answers to them, closing statements, receipts",
    "local": "receipts",
}
"""What leaves beside the releases, by mode; refusals may leave in both."""


def describe(study: Study) -> tuple[Section, ...]:
    """Say in plain words what the study asks, reads, computes, promises and releases."""
    return (
        Section("What is asked", plain_words.asked(study)),
        Section("Which columns are read", plain_words.read(study)),
        Section("What is computed", plain_words.computed(study)),
        Section("What every patient is promised", plain_words.promised(study)),
        Section(LEAVING, leaving(study)),
        Section("What could tell something about a hospital", plain_words.about_hospitals(study)),
        Section("How the model is judged", plain_words.judged(study)),
        Section("Who takes part, and until when", plain_words.takes_part(study)),
    )


def leaving(study: Study, schedule: Schedule | None = None) -> tuple[str, ...]:
    """Say everything that leaves a hospital that trains.

    Parameters
    ----------
    schedule : Schedule or None
        Of this hospital: then prices are exact. None gives parts of the budget.
    """
    if study.privacy.mode == "none":
        return (
            "Nothing leaves a hospital: only a simulation runs mode none.",
            *(f"{kind.words(study)}." for kind in kinds_of(study)),
        )
    return (
        *(f"{kind.words(study)}. {_price(study, kind, schedule)}" for kind in kinds_of(study)),
        "Every patient is charged for all of it, held out or not.",
        f"At no cost, for no patient goes into them: {FREE[study.privacy.mode]}, refusals.",
        "Once: the hospital's name, its declared (rounded) number of patients, its approval.",
        "Its signed ledger heads, so that others notice if an old copy is put back, and the rows "
        "of its ledger, sealed for the hospital alone, so that a lost one can be written again.",
        "Nothing else: no patient's row, no exact count, no un-noised number, no text of an error.",
    )


def _price(study: Study, kind: Kind, schedule: Schedule | None) -> str:
    if schedule is not None and isinstance(kind, SumKind):
        return _exact(schedule[kind.name], study.privacy.delta)
    if not isinstance(kind, SumKind):
        return _vote_price(study)
    part = f"{100.0 * share_of(study, kind):.3g} % of the budget (of the sum of squares of mu)"
    return f"{_whole(kind.times(study))} {part}."


def _vote_price(study: Study) -> str:
    """Return what a vote costs by itself, and as which epsilon the account counts it."""
    vote = vote_of(study)
    if vote is None:
        raise ValueError("the study asks for no vote")
    counted = shown_epsilon(vote, 1, study.privacy.delta)
    return f"It costs epsilon {vote.epsilon:g} by itself; the account counts epsilon {counted}."


def _exact(release: Scheduled, delta: float) -> str:
    """Return what all releases of a kind cost together, at headline and at fallback."""
    headline, fallback = release.headline, release.fallback
    if headline is None or fallback is None:
        raise ValueError(f"releases of kind {release.name} have no price")
    said = f"{_whole(release.times)} epsilon {shown_epsilon(headline, release.times, delta)}"
    if fallback != headline:
        said += f", or {shown_epsilon(fallback, release.times, delta)} if all others collude"
    return f"{said}."


def _whole(times: int) -> str:
    return "It costs" if times == 1 else "Together they cost"


def shown_epsilon(price: Charge, times: int, delta: float) -> str:
    """Return the epsilon of so many releases at a price, rounded up to thousandths."""
    return f"{math.ceil(SHOWN * spent_epsilon({price: times}, delta)) / SHOWN:.3f}"
