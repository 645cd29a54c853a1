"""Columns, outcomes and numbers of a study as people write them."""

from __future__ import annotations

import math
import re

from polyclinic_common.data.values import TRUTHS
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Binary, Continuous

YES = frozenset({*TRUTHS[0], "yes", "Yes"})
FIGURES = 500  # least steps in which a range is told
GENE = re.compile(r"(?!rs\d)[a-z]+\d[a-z\d]*")


def in_words(name: str) -> str:
    """Return a column's name as people write it: ``Tumour size``, ``CYP2C9``."""
    if GENE.fullmatch(name):
        return name.upper()
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def event_in_words(study: Study) -> str:
    """Return what may happen to a patient: ``disease``, or ``vital status: dead``."""
    outcome = study.outcome
    if isinstance(outcome, Continuous):
        return in_words(outcome.column).lower()
    column, word = (
        (outcome.column, outcome.positive)
        if isinstance(outcome, Binary)
        else (outcome.event, outcome.occurred)
    )
    name = column.replace("_", " ")
    return name if word in YES else f"{name}: {word}"


def number(value: float, outcome: Continuous) -> str:
    """Return a number in the unit of the outcome, as finely as its range deserves."""
    low, high = outcome.range
    return f"{rounded(value, high - low)} {outcome.unit}"


def rounded(value: float, width: float) -> str:
    """Return a number as finely as the width of the range that it lies in deserves."""
    decimals = max(0, math.ceil(-math.log10(width / FIGURES)))
    return f"{value:.{decimals}f}"
