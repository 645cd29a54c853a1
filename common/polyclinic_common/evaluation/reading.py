r"""From a noisy metric sum back to metrics with 95 % intervals; post-processing, free of charge.

An interval is for the metric of the population that the held-out patients came from: it includes
that they are a sample, and the noise. Patients add c = 2u - 1 to the sum S, of which n are held
out; their mean m is read as :math:`\hat m = S/\hat n` with variance

.. math:: (\sigma^2 + \hat m^2 V)/\hat n^2 + \mathrm{Var}(c)/\hat n, \qquad
          V = \mathrm{Var}(n - \hat n),

first-order in the errors of S and of the number of patients (delta method; van der Vaart,
Asymptotic Statistics (1998), theorem 3.1). That number is never a hospital's own count:

- counted in the sum itself (subgroups; all tables where a column holds out): :math:`\hat n` is n
  plus noise, and V the variance of that noise;
- a share :math:`\varphi` of D declared patients, held out by chance: :math:`\hat n = \varphi D`,
  and n is binomial. With an independent B = 1 for who is held out, :math:`S = \sum B c` has
  variance :math:`D(\varphi\,\mathrm E\,c^2 - \varphi^2 m^2)
  = \varphi D\,\mathrm{Var}(c) + D\varphi(1 - \varphi)\,m^2`, so that
  :math:`V = D\varphi(1 - \varphi) + \varphi^2\,100/12`, the second term for declared sizes that are
  rounded to ten. Hospitals that are held out as a whole release no metrics.

Who is held out without a known outcome adds zeros. In a counted table such a patient is not counted
either; under a public number c = 0 stands for them, and the mean of u is read as if theirs were
1/2. A share of ordered pairs
:math:`n^T A n / n^T D n` of a histogram n does not change when n is scaled, so that its cells may
be taken as Poisson: each has variance :math:`n_c + \sigma^2`. So do the survival figures of
:mod:`polyclinic_common.evaluation.survival`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from polyclinic_common.evaluation.interval import CLEAR, CLEAR_PAIRS, Reading, Z
from polyclinic_common.evaluation.layout import Floats, GroupKind, GroupTable, Layout
from polyclinic_common.evaluation.statistic import Mean, RiskHistogram
from polyclinic_common.evaluation.survival import estimate
from polyclinic_common.evaluation.survival_reading import TimeReading, read_survival, read_times
from polyclinic_common.models.score_head import Vector
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.sections import Fraction

DECLARED_VARIANCE = 100.0 / 12.0  # of a number that was rounded to ten


@dataclass(frozen=True)
class BinReading:
    """Patients of one bin of predicted probability: bounds, how many, and the observed share."""

    low: float
    high: float
    patients: float
    observed: Reading | None


@dataclass(frozen=True)
class GroupReading:
    """What is known of a group of patients.

    Attributes
    ----------
    kind, name : str
        Which group.
    patients, deviation : float
        Estimated number of patients, and its standard deviation.
    suppressed : bool
        Whether the group is too small to be shown; nothing else is given then.
    metrics : mapping
        The metrics; None where undefined.
    """

    kind: GroupKind
    name: str
    patients: float
    deviation: float
    suppressed: bool
    metrics: Mapping[str, Reading | None]
    calibration: tuple[BinReading, ...] = ()
    times: tuple[TimeReading, ...] = ()


@dataclass(frozen=True)
class RoundReadings:
    """What the private metrics say of the model after a round."""

    round_number: int
    groups: tuple[GroupReading, ...]


@dataclass(frozen=True)
class Size:
    """An estimated number of patients and its variance."""

    value: float
    variance: float


def held_out_sizes(study: Study, declared: Mapping[str, int]) -> dict[str, Size]:
    """Return how many patients each hospital holds out, as far as public numbers tell.

    Parameters
    ----------
    declared : mapping
        All declared patients of every hospital, by name.

    Returns
    -------
    dict of str to Size
        By name; empty where a column holds patients out, for nothing public tells how many.
    """
    holdout = study.evaluation.holdout
    if not isinstance(holdout, Fraction):
        return {}
    share = holdout.fraction
    rounding = share**2 * DECLARED_VARIANCE
    return {
        site: Size(patients * share, patients * share * (1.0 - share) + rounding)
        for site, patients in declared.items()
    }


def read_sum(
    layout: Layout,
    total: Floats,
    deviation: float,
    sizes: Mapping[str, Size],
    smallest: int,
    profile: Vector | None = None,
) -> tuple[GroupReading, ...]:
    """Return what a noisy metric sum says of every group.

    Parameters
    ----------
    layout : Layout
        What the entries mean.
    total : array of shape (length,)
        The noisy sum, in units of the clip.
    deviation : float
        Standard deviation of the noise on every entry, all hospitals' shares together.
    sizes : mapping
        Of :func:`held_out_sizes`, for the hospitals in the sum; tables that count their patients
        do not look at them.
    smallest : int
        Groups with fewer patients, by the noisy count, are not shown.
    profile : array of shape (K,) or None
        Survival: what the model that was judged adds to a patient's risk in every interval, of
        :func:`polyclinic_common.evaluation.survival.hazard_profile`.
    """
    return tuple(
        _read(table, total, deviation, sizes, smallest, profile) for table in layout.tables
    )


def _read(
    table: GroupTable,
    total: Floats,
    deviation: float,
    sizes: Mapping[str, Size],
    smallest: int,
    profile: Vector | None,
) -> GroupReading:
    size = _size(table, total, deviation, sizes)
    spread = math.sqrt(size.variance)
    shown = size.value >= max(smallest, CLEAR * spread)
    if not shown:
        return GroupReading(table.kind, table.name, size.value, spread, suppressed=True, metrics={})
    metrics: dict[str, Reading | None] = {}
    calibration: tuple[BinReading, ...] = ()
    times: tuple[TimeReading, ...] = ()
    for part in table.parts:
        entries, noise = total[part.entries] / part.weight, deviation / part.weight
        match part.statistic:
            case Mean() as mean if part.metric != "count":
                metrics[part.metric] = read_mean(mean, entries, noise, size)
            case RiskHistogram(ends=()) as histogram:
                metrics["auc"] = read_pairs(histogram, entries, noise)
                calibration = _calibration(histogram, entries, noise, smallest)
            case RiskHistogram() as histogram:
                found = estimate(histogram, entries, profile)
                metrics["c_index"] = read_pairs(histogram, entries, noise)
                metrics |= read_survival(found, entries, noise)
                times = read_times(histogram, entries, noise, found, smallest)
    return GroupReading(
        table.kind,
        table.name,
        size.value,
        spread,
        suppressed=False,
        metrics=metrics,
        calibration=calibration,
        times=times,
    )


def _size(table: GroupTable, total: Floats, deviation: float, sizes: Mapping[str, Size]) -> Size:
    """Return the number of patients: counted with noise where the table does, else public."""
    if (count := table.count) is not None:
        return Size(float(total[count.start] / count.weight), (deviation / count.weight) ** 2)
    known = [size for site, size in sizes.items() if table.kind == "overall" or site == table.name]
    return Size(sum(size.value for size in known), sum(size.variance for size in known))


def read_mean(mean: Mean, entries: Floats, noise: float, size: Size) -> Reading:
    """Return a mean of [0, 1] numbers, scaled, from its sums (see the module).

    Parameters
    ----------
    entries : array of shape (size,)
        Noisy sums, divided by the part's weight.
    noise : float
        Standard deviation of the noise on them.
    """
    centred = entries / mean.weights / size.value
    u = float(centred[0] + 1.0) / 2.0
    within = min(max(u, 0.0), 1.0)
    spread = within * (1.0 - within)
    if not mean.yes_or_no:
        spread = float(np.clip((centred[1] + 1.0) / 2.0 - within**2, 0.0, spread))
    blur = (noise / mean.weights[0]) ** 2 + centred[0] ** 2 * size.variance
    half = Z * math.sqrt(blur / (4.0 * size.value**2) + spread / size.value)
    ends = np.clip([u, u - half, u + half], 0.0, 1.0) * mean.scale
    value, low, high = np.sqrt(ends) if mean.root else ends
    return Reading(float(value), float(low), float(high))


def read_pairs(histogram: RiskHistogram, cells: Floats, noise: float) -> Reading | None:
    """Return the share of comparable pairs that are ordered rightly, ties half.

    Both counts of pairs are unbiased under noise: no cell is paired with itself. None where the
    number of comparable pairs is not clear of its noise.
    """
    ordered, counted = histogram.pairs()
    below = float(cells @ counted @ cells)
    both = counted + counted.T
    blur = math.hypot(
        noise * float(np.linalg.norm(both @ cells)),
        noise**2 * float(np.linalg.norm(both)) / math.sqrt(2.0),
    )
    if below < CLEAR_PAIRS * blur:
        return None
    value = float(cells @ ordered @ cells) / below
    slope = (ordered + ordered.T - value * both) @ cells / below
    half = Z * math.sqrt(float(np.square(slope) @ (np.maximum(cells, 0.0) + noise**2)))
    value, low, high = np.clip([value, value - half, value + half], 0.0, 1.0)
    return Reading(float(value), float(low), float(high))


def _calibration(
    histogram: RiskHistogram, cells: Floats, noise: float, smallest: int
) -> tuple[BinReading, ...]:
    """Return the observed share in every bin of predicted probability."""
    from scipy.special import expit  # noqa: PLC0415  (heavy)

    edges = (0.0, *map(float, expit(np.asarray(histogram.edges))), 1.0)
    found = []
    for index, (without, having) in enumerate(cells.reshape(histogram.bins, 2)):
        size = Size(float(without + having), 2.0 * noise**2)
        observed = None
        if size.value >= max(smallest, CLEAR * math.sqrt(size.variance)):
            share = float(np.clip(having / size.value, 0.0, 1.0))
            blur = noise**2 * (share**2 + (1.0 - share) ** 2) / size.value**2
            half = Z * math.sqrt(blur + share * (1.0 - share) / size.value)
            low, high = np.clip([share - half, share + half], 0.0, 1.0)
            observed = Reading(share, float(low), float(high))
        found.append(BinReading(edges[index], edges[index + 1], size.value, observed))
    return tuple(found)
