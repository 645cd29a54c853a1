"""The kinds of release: an entry says what leaves, when, and out of which part of the budget.

To add one, write its entry here and what computes it at the hospital
(:mod:`polyclinic_client.compute.sums`); node, gate, server, approval and audit follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.evaluation import layout
from polyclinic_common.models import calibration
from polyclinic_common.models.head import length_of
from polyclinic_common.release_id import VOTE
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.plain_words import each_round

UPDATE, GRADIENT, STATISTICS = "update", "gradient", "statistics"
METRICS, CALIBRATION = "metrics", "calibration"
STATISTICS_SHARE = 0.1
STATISTICS_CLIP = math.sqrt(2.0)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of release.

    Attributes
    ----------
    name : str
        How ledger, journal and messages call it.
    asked : callable
        Whether a study makes releases of this kind.
    rounds : callable
        In which rounds of a run they may be asked for.
    words : callable
        When a hospital sends what, in one clause.
    once : bool
        Whether it leaves in one of its rounds only.
    what : str
        What one is called where there is no study to tell more; empty is its name.
    """

    name: str
    asked: Callable[[Study], bool]
    rounds: Callable[[Study], Sequence[int]]
    words: Callable[[Study], str]
    once: bool = False
    what: str = ""

    def times(self, study: Study) -> int:
        """Return how many releases a run makes, if it is not cut short."""
        return 1 if self.once else len(self.rounds(study))


@dataclass(frozen=True, kw_only=True)
class SumKind(Kind):
    """A kind whose releases are sums over patients, each a vector within a public length.

    Attributes
    ----------
    length : callable
        Entries of the sum.
    clip : callable
        Bound on one patient's vector, Euclidean norm.
    beside : callable
        Share of the budget's mu^2 that it takes before training gets the rest.
    of_training : float
        Share of training's mu^2 that it takes, before the gradients get the rest.
    numbers : callable or None
        Entries that are computed of one patient; None where they are those of the sum.
    """

    length: Callable[[Study], int]
    clip: Callable[[Study], float]
    beside: Callable[[Study], float] = lambda _: 0.0
    of_training: float = 0.0
    numbers: Callable[[Study], int] | None = None

    @property
    def is_training(self) -> bool:
        """Whether it is what training gets the rest of the budget for."""
        return self.name in {GRADIENT, UPDATE}


def _training_rounds(study: Study) -> range:
    return range(1, study.training_rounds + 1)


def _starts_with_statistics(study: Study) -> bool:
    return study.training.start == "statistics" and study.privacy.mode == "secure-sum"


def _statistics_length(study: Study) -> int:
    width = Encoding(study).width
    return width * (width + 1) // 2 + width


def _calibration_share(study: Study) -> float:
    asked = study.training.calibration
    return asked.share if asked is not None else 0.0


def _metrics_share(study: Study) -> float:
    private = study.evaluation.private
    return private.share if private is not None and study.metric_rounds else 0.0


def _noisy(study: Study, what: str) -> str:
    """Return what leaves: with noise in the private modes, under masks in a secure sum."""
    masks = " under masks" if study.privacy.mode == "secure-sum" else ""
    return f"{'' if study.privacy.mode == 'none' else 'noisy '}{what}{masks}"


def _update_words(study: Study) -> str:
    what = "sum of gradients" if study.strategy == "descent" else "change of the model"
    return f"{each_round(study)}: one {_noisy(study, what)}"


def _calibration_words(study: Study) -> str:
    sums, clip = _noisy(study, "sums about level and slope"), calibration.BOUNDS[study.loss].clip
    often = f"In each of {study.calibration.steps} rounds after them"
    return f"{often}: six {sums}, one patient's six within length {clip:.3g}"


def _metrics_words(study: Study) -> str:
    count = len(study.metric_rounds)
    often = f"{'Up to ' if study.may_stop_early else ''}{count} times, the last at the end"
    if count == 1:
        often = "Once, at the end"
    return f"{often}: {_noisy(study, 'sums about held-out patients')}"


KINDS: tuple[Kind, ...] = (
    SumKind(
        name=STATISTICS,
        what="sums of products",
        asked=_starts_with_statistics,
        rounds=_training_rounds,
        once=True,
        words=lambda study: f"First, once: {_noisy(study, 'sums of products of columns')}",
        length=_statistics_length,
        clip=lambda _: STATISTICS_CLIP,
        of_training=STATISTICS_SHARE,
    ),
    SumKind(
        name=GRADIENT,
        what="sum of gradients",
        asked=lambda study: study.privacy.mode == "secure-sum",
        rounds=_training_rounds,
        words=lambda study: f"{each_round(study)}: one {_noisy(study, 'sum of gradients')}",
        length=length_of,
        clip=lambda study: study.clip,
    ),
    SumKind(
        name=UPDATE,
        what="update",
        asked=lambda study: study.privacy.mode != "secure-sum",
        rounds=_training_rounds,
        words=_update_words,
        length=length_of,
        clip=lambda study: study.clip,
    ),
    SumKind(
        name=CALIBRATION,
        what="sums about level and slope",
        asked=lambda study: study.training.calibration is not None,
        rounds=lambda study: study.calibration_rounds,
        words=_calibration_words,
        length=lambda _: calibration.ENTRIES,
        clip=lambda study: calibration.BOUNDS[study.loss].clip,
        beside=_calibration_share,
        numbers=lambda study: calibration.ENTRIES * Encoding(study).outputs,
    ),
    SumKind(
        name=METRICS,
        what="sums about held-out patients",
        asked=lambda study: bool(study.metric_rounds),
        rounds=lambda study: study.metric_rounds,
        words=_metrics_words,
        length=lambda study: layout.make_layout(study).length,
        clip=lambda _: layout.CLIP,
        beside=_metrics_share,
    ),
    Kind(
        name=VOTE,
        what="randomised vote",
        asked=lambda study: (
            study.evaluation.acceptance is not None and study.privacy.mode != "none"
        ),
        rounds=lambda study: range(1, study.rounds + 1),
        once=True,
        words=lambda _: "At the end, once: one randomised vote on the model",
    ),
)
"""All kinds, in the order of a round."""


def kinds_of(study: Study) -> tuple[Kind, ...]:
    """Return the kinds of release that a study makes, in the order of a round."""
    return tuple(kind for kind in KINDS if kind.asked(study))


def called(name: str) -> str:
    """Return what a release of this kind is called; its name where nothing else is known."""
    return next((kind.what for kind in KINDS if kind.name == name and kind.what), name)
