"""What a hospital thinks of a trained model, from its own held-out patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.evaluation.layout import EVENT, OUTCOME, Floats
from polyclinic_common.evaluation.observed import Rows
from polyclinic_common.models.predict import predict
from polyclinic_common.models.score_head import Vector
from polyclinic_common.secure_sum.masks import Integers

FEWEST_PATIENTS = 5
Opinion = Callable[[Vector], bool | None]
"""What a hospital thinks of a candidate: whether it should be used; None abstains."""


@dataclass(frozen=True)
class BetterHere:
    """In favour if the candidate beats all its rivals on this hospital's held-out patients.

    Compared is the mean absolute error, the Brier score, or the concordance, on the patients whom
    a rival can be computed for. With fewer than five of them a hospital abstains.

    Attributes
    ----------
    encoding : Encoding
        Of the study.
    held_out : Cohort
        Of :func:`polyclinic_common.evaluation.observed.held_out_cohort`.
    incumbent : array of shape (d,)
        The model in use, or the study's public base rate.
    formulas : tuple of array of shape (n,)
        Predictions of published formulas, NaN where there is none.
    """

    encoding: Encoding
    held_out: Cohort
    incumbent: Vector
    formulas: tuple[Floats, ...] = ()

    def __call__(self, candidate: Vector) -> bool | None:
        """Return whether the candidate is better here."""
        mine = self._predicted(candidate)
        rivals = [self._predicted(self.incumbent), *self.formulas]
        margins = [self._margin(mine, rival) for rival in rivals]
        known = [margin for margin in margins if margin is not None]
        return all(margin > 0.0 for margin in known) if known else None

    def _predicted(self, weights: Vector) -> Floats:
        return predict(self.encoding.study, self.encoding, weights, self.held_out.x).value

    def _margin(self, mine: Floats, rival: Floats) -> float | None:
        """Return by how much the candidate beats a rival; None with too few patients."""
        value, event = self.held_out.y[:, OUTCOME], self.held_out.y[:, EVENT]
        numbers = np.column_stack([mine, rival, value, event])
        usable = (self.held_out.mask[:, 0] > 0.0) & np.isfinite(numbers).all(axis=1)
        if usable.sum() < FEWEST_PATIENTS:
            return None
        return self._skill(mine, usable) - self._skill(rival, usable)

    def _skill(self, predicted: Floats, usable: Rows) -> float:
        """Return a score, the higher the better."""
        value, event = self.held_out.y[usable, OUTCOME], self.held_out.y[usable, EVENT]
        kind, said = self.encoding.study.outcome.kind, predicted[usable]
        if kind == "survival":
            return concordance(said, value, event > 0.5)
        with np.errstate(over="ignore"):
            errors = np.abs(said - value)
            return -float((errors if kind == "continuous" else errors**2).mean())


def concordance(risk: Floats, time: Floats, event: Rows) -> float:
    """Return the share of comparable pairs that are ordered rightly, ties in risk half (Harrell).

    A pair is comparable if the earlier of two times is that of an event. All arrays are of shape
    (n,), without NaN; the time that it takes is of order n log n, its memory of order n.
    """
    moments, place = np.unique(time, return_inverse=True)
    _, rank = np.unique(risk, return_inverse=True)
    later = len(time) - np.searchsorted(np.sort(place), place, side="right")
    key = rank * len(moments) + place  # by risk, then by time
    tied = np.searchsorted(np.sort(key), [(rank + 1) * len(moments) - 1, key], side="right")
    from_last = np.lexsort((-rank, -place))  # of one time, none stands before one of higher risk
    lower = np.empty_like(rank)
    lower[from_last] = smaller_before(rank[from_last])
    twice = 2 * lower + tied[0] - tied[1]
    return float(twice[event].sum()) / 2.0 / max(1, int(later[event].sum()))


def smaller_before(numbers: Integers) -> Integers:
    """Return, for every one of n numbers from 0 to n, how many before it are smaller.

    Bit by bit from the highest, numbers that agree in all bits above are kept together, in their
    order: one with the bit set is larger than those of them before it without.
    """
    found, order = np.zeros_like(numbers), np.arange(len(numbers))
    for bit in reversed(range(int(numbers.max(initial=0)).bit_length())):
        sorted_by, is_set = numbers[order] >> (bit + 1), (numbers[order] >> bit) & 1
        unset = np.cumsum(1 - is_set)
        start = np.searchsorted(sorted_by, sorted_by, side="left")
        before = unset - np.append(0, unset)[start]  # without the bit, among those that agree
        found[order] += is_set * before
        end = np.searchsorted(sorted_by, sorted_by, side="right") - 1
        among = unset[end] - np.append(0, unset)[start]
        rank = np.where(is_set, among + np.arange(len(order)) - start - before, before - 1)
        place = start + rank
        moved = np.empty_like(order)
        moved[place] = order
        order = moved
    return found
