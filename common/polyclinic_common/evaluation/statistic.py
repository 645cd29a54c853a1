r"""What one held-out patient adds to a metric sum: for every metric a vector of norm at most 1.

A mean of numbers :math:`u \in [0, 1]` is summed as :math:`2u - 1`: between its extremes lies
twice the norm of a sum of u itself, so the same noise blurs the mean half as much. Where u can be
other than 0 or 1 its square goes along with a tenth of the squared norm: it gives the variance
that an interval needs. What depends on pairs of patients (AUC, concordance) is read from a
histogram, to which a patient adds a single one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.encoding import start_logits
from polyclinic_common.rowwise import logit
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Survival

Floats = NDArray[np.float64]
SQUARE_SHARE = 0.1
BINARY_EDGES = (-1.5, -0.75, -0.25, 0.25, 0.75, 1.5)  # of risk bins: logits above the base rate
SURVIVAL_EDGES = (-0.5, 0.5)
TIME_BINS = 8


@dataclass(frozen=True)
class Judged:
    """Patients with what the model said of them and what came true, all of shape (n,).

    `predicted` is in the units of :func:`polyclinic_common.models.predict.predict`.
    """

    predicted: Floats
    value: Floats
    event: Floats


class Statistic(Protocol):
    """What patients add for one metric.

    Attributes
    ----------
    size : int
        Entries.
    """

    @property
    def size(self) -> int:
        """Entries of a patient's vector."""
        ...

    def rows(self, judged: Judged) -> Floats:
        """Return every patient's vector, shape (n, size), each of norm at most 1."""
        ...


@dataclass(frozen=True)
class Count:
    """The number of patients."""

    size: int = 1

    def rows(self, judged: Judged) -> Floats:
        """Return a one for every patient."""
        return np.ones((len(judged.predicted), 1))


@dataclass(frozen=True)
class Mean:
    """The mean of a number u in [0, 1] for every patient.

    Attributes
    ----------
    of : callable
        Gives u; what lies outside [0, 1] is clipped.
    yes_or_no : bool
        Whether u is always 0 or 1.
    scale : float
        The metric is `scale` times the mean of u, or its root.
    root : bool
        Whether the metric is the square root of that.
    """

    of: Callable[[Judged], Floats]
    yes_or_no: bool = False
    scale: float = 1.0
    root: bool = False

    @property
    def size(self) -> int:
        """One entry, or two with the square."""
        return 1 if self.yes_or_no else 2

    @property
    def weights(self) -> Floats:
        """Weights of the entries, whose squares add up to 1."""
        return np.sqrt([1.0] if self.yes_or_no else [1.0 - SQUARE_SHARE, SQUARE_SHARE])

    def rows(self, judged: Judged) -> Floats:
        """Return 2u - 1, and 2u^2 - 1 with it, weighted."""
        u = np.clip(self.of(judged), 0.0, 1.0)
        powers = np.column_stack([u, u * u][: self.size])
        return np.asarray((2.0 * powers - 1.0) * self.weights)


@dataclass(frozen=True)
class RiskHistogram:
    """Counts of patients by risk bin and by what came true.

    Attributes
    ----------
    edges : tuple of float
        Edges between risk bins, on the scale of `risk`.
    risk : callable
        Gives the risk of every patient.
    outcomes : int
        Number of things that can come true.
    outcome : callable
        Gives its number for every patient, from 0.
    ahead : array of shape (outcomes, outcomes)
        1 where a patient with the first outcome should have the higher risk of the two.
    ends : tuple of float
        Survival: right ends of the time bins; the outcomes are an event in each, then the end of
        follow-up in each and beyond the last.
    positions : tuple of int
        Survival: numbers of these ends in the study's grid, from 0.
    """

    edges: tuple[float, ...]
    risk: Callable[[Judged], Floats]
    outcomes: int
    outcome: Callable[[Judged], NDArray[np.int64]]
    ahead: Floats
    ends: tuple[float, ...] = ()
    positions: tuple[int, ...] = ()

    @property
    def bins(self) -> int:
        """Risk bins."""
        return len(self.edges) + 1

    @property
    def size(self) -> int:
        """Cells: risk bin by outcome."""
        return self.bins * self.outcomes

    def rows(self, judged: Judged) -> Floats:
        """Return a one in every patient's cell."""
        cell = np.searchsorted(self.edges, self.risk(judged)) * self.outcomes
        found = np.zeros((len(cell), self.size))
        found[np.arange(len(cell)), cell + self.outcome(judged)] = 1.0
        return found

    def pairs(self) -> tuple[Floats, Floats]:
        """Return which pairs of cells are ordered rightly (half where tied), and which count."""
        risk_bin = np.repeat(np.arange(self.bins), self.outcomes)
        higher = 0.5 + 0.5 * np.sign(risk_bin[:, None] - risk_bin[None, :])
        counted = np.tile(self.ahead, (self.bins, self.bins))
        return counted * higher, counted


def error(judged: Judged, bound: float) -> Floats:
    """Return absolute errors as a share of the bound, at most 1."""
    return np.asarray(np.minimum(np.abs(judged.predicted - judged.value) / bound, 1.0))


def is_within_20(judged: Judged) -> Floats:
    """Say for whom the prediction lies within 20 % of the truth: 1, else 0; shape (n,)."""
    near = np.abs(judged.predicted - judged.value) <= 0.2 * np.abs(judged.value)
    return np.asarray(near, dtype=np.float64)


def is_right(judged: Judged) -> Floats:
    """Say for whom the likelier answer is the true one: 1, else 0; shape (n,)."""
    right = (judged.predicted > 0.5) == (judged.value > 0.5)
    return np.asarray(right, dtype=np.float64)


def binary_histogram(study: Study) -> RiskHistogram:
    """Return the histogram of a yes/no study."""
    base = float(start_logits(study.outcome)[0])
    return RiskHistogram(
        edges=tuple(base + edge for edge in BINARY_EDGES),
        risk=lambda j: logit(j.predicted),
        outcomes=2,
        outcome=lambda j: (j.value > 0.5).astype(np.int64),
        ahead=np.array([[0.0, 0.0], [1.0, 0.0]]),
    )


def time_positions(outcome: Survival) -> tuple[int, ...]:
    """Return which times of the grid are right ends of the time bins of the histogram, from 0.

    All of them where they are few enough, else evenly spread ones; always the last.
    """
    times = len(outcome.grid)
    count = min(TIME_BINS, times)
    return tuple((k + 1) * times // count - 1 for k in range(count))


def survival_histogram(study: Study) -> RiskHistogram:
    """Return the histogram of a survival study; pairs within one time bin do not count.

    An event at the end of a bin is in it; whose follow-up ends there was followed through it.
    """
    outcome = study.outcome
    if not isinstance(outcome, Survival):
        raise TypeError(outcome.kind)
    positions = time_positions(outcome)
    ends = tuple(outcome.grid[position] for position in positions)
    last = len(ends)

    def came_true(judged: Judged) -> NDArray[np.int64]:
        when = np.searchsorted(ends, judged.value)
        event = (judged.event > 0.5) & (when < last)
        followed = np.searchsorted(ends, judged.value, side="right")
        return np.where(event, when, last + np.where(judged.event > 0.5, when, followed))

    when = np.array([*range(last), *range(last + 1)])
    event = np.arange(2 * last + 1) < last
    return RiskHistogram(
        edges=tuple(float(start_logits(outcome).mean()) + edge for edge in SURVIVAL_EDGES),
        risk=lambda j: j.predicted,
        outcomes=2 * last + 1,
        outcome=came_true,
        ahead=(event[:, None] & (when[:, None] < when[None, :])).astype(np.float64),
        ends=ends,
        positions=positions,
    )
