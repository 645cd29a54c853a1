"""Model, privacy, training, evaluation and subgroups of a study, with defaults that need no tuning.

The defaults are one setting for every study (``docs/decisions/0003``): clip and learning rate
depend on the loss alone.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from polyclinic_common.study.base import Name, Part, Site, Word, check_vocabulary

Mode = Literal["secure-sum", "local", "none"]
MetricName = Literal[
    "mae", "rmse", "within_20", "accuracy", "auc", "brier", "c_index", "td_auc", "ibs"
]
SurvivalMetric = Literal["c_index", "td_auc", "ibs"]
SURVIVAL_METRICS: tuple[SurvivalMetric, ...] = ("c_index", "td_auc", "ibs")
METRICS_OF: dict[str, tuple[MetricName, ...]] = {
    "continuous": ("mae", "rmse", "within_20"),
    "binary": ("accuracy", "auc", "brier"),
    "survival": SURVIVAL_METRICS,
}


class ModelSection(Part):
    """What is fitted: a linear predictor, or a multilayer perceptron with tanh units."""

    kind: Literal["linear", "mlp"] = "linear"
    hidden: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(default=(), max_length=8)
    loss: Literal["squared", "huber", "logistic", "hazard"] | None = None

    @model_validator(mode="after")
    def _hidden_fits_kind(self) -> ModelSection:
        if (self.kind == "mlp") != bool(self.hidden):
            raise PydanticCustomError(
                "hidden_layers",
                "hidden layers and model kind {kind} do not fit",
                {"kind": self.kind, "remedy": 'Give `hidden` for "mlp" and only for it.'},
            )
        return self


class Privacy(Part):
    """What every patient is promised.

    `mode` secure-sum: hospitals release masked shares of one noisy sum. Local: every release is
    private on its own. None: no privacy; simulation only. `clip` bounds one patient's gradient
    (Euclidean norm). `m` is the fewest participants of a round and `c` the number of colluding
    participants tolerated.
    """

    mode: Mode = "secure-sum"
    epsilon: float = 1.0
    delta: float = 1e-5
    clip: float | None = Field(default=None, gt=0)
    m: int | None = Field(default=None, ge=1)
    c: int | None = Field(default=None, ge=1)

    @field_validator("epsilon")
    @classmethod
    def _epsilon(cls, epsilon: float) -> float:
        if not 0 < epsilon <= 50:
            raise PydanticCustomError(
                "epsilon_range",
                "epsilon {epsilon} is not between 0 and 50",
                {"epsilon": epsilon, "remedy": "Give a positive epsilon; 0.5 to 4 is usual."},
            )
        return epsilon

    @field_validator("delta")
    @classmethod
    def _delta(cls, delta: float) -> float:
        if not 0 < delta <= 1e-3:
            raise PydanticCustomError(
                "delta_range",
                "delta {delta} is not between 0 and 0.001",
                {"delta": delta, "remedy": "Give a delta below 1 / (number of patients)."},
            )
        return delta


StepSchedule = Literal["full", "sampled"]
Strategy = Literal[
    "descent",
    "fedavg",
    "fedprox",
    "fedadam",
    "fedyogi",
    "fedadagrad",
    "fedmedian",
    "fedtrimmedavg",
    "krum",
]


class CalibrationSection(Part):
    """After training: level and slope of the frozen score are set right by a few noisy sums.

    In each of `steps` rounds every hospital sends six sums about these two numbers. `share` is
    their part of the budget, of the sum of squares of mu.
    """

    share: float = Field(default=0.1, gt=0, lt=1)
    steps: int = Field(default=4, ge=1, le=20)


class Training(Part):
    """How the model is trained.

    `schedule` full: one gradient over the whole cohort a round. Sampled: `epochs` epochs of steps
    on random batches (each patient with the same probability, `batch` expected) between rounds.
    `strategy` descent: sites release gradient sums and the server descends (full schedule only).
    All others: sites release a change of the model and a strategy of Flower combines them.
    `personalisation` mr-mtl: every site keeps a model of its own, pulled towards the mean.
    `start` statistics: linear regression in mode secure-sum starts from one charged sum of
    sufficient statistics, for a tenth of the budget; else from public base rates.
    `pull` is the strength of that pull and of FedProx's.
    `ridge` pulls towards the start as strongly as the noise suggests: that of one release of the
    whole budget, or of one round (the rule of studies that do not say; far stronger).
    `calibration` follows after the last round; absent, none does.
    `menu` lists two to five settings: each is trained for `rounds` rounds, all are charged, and the
    one whose released metric is best is kept (``docs/decisions/0015``).
    """

    rounds: int = Field(default=60, ge=1, le=10_000)
    schedule: StepSchedule = "full"
    epochs: int = Field(default=1, ge=1, le=100)
    batch: int = Field(default=64, ge=1)
    strategy: Strategy | None = None
    personalisation: Literal["none", "mr-mtl"] = "none"
    start: Literal["base-rates", "statistics"] = "base-rates"
    pull: float = Field(default=0.1, ge=0)
    learning_rate: float | None = Field(default=None, gt=0, le=1000)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    average_from: float = Field(default=0.5, ge=0, lt=1)
    menu: tuple[MenuEntry, ...] = ()
    ridge: Literal["round", "release"] = "round"
    calibration: CalibrationSection | None = None


class Fraction(Part):
    """Hold out a share of the patients, chosen by a hash of the patient number and the seed."""

    kind: Literal["fraction"] = "fraction"
    fraction: float = Field(default=0.25, gt=0, lt=1)


class SplitColumn(Part):
    """Hold out the patients that a column marks."""

    kind: Literal["column"]
    column: Name
    test: Word


class TestSites(Part):
    """Hold out whole sites."""

    kind: Literal["sites"]
    sites: tuple[Name, ...] = Field(min_length=1)


Holdout = Annotated[Fraction | SplitColumn | TestSites, Field(discriminator="kind")]


class PrivateEvaluation(Part):
    """Metrics that leave the hospitals, as one charged noisy sum over held-out patients.

    `metrics` are released (default: all of the study's); the first gets most of the precision.
    They are released at the end, and after every so many rounds if `every` is given. `share` is
    their part of the budget, of the sum of squares of mu; training gets the rest. `by_site` and
    `subgroups` add tables. A group whose noisy count is below `smallest` is not shown.
    `error_bound` is the error beyond which errors count as this large (default: a third of the
    outcome's range). Training stops early once `patience` releases in a row brought no better value
    of the first metric.
    """

    metrics: tuple[MetricName, ...] | None = None
    every: int | None = Field(default=None, ge=1)
    share: float = Field(default=0.1, gt=0, lt=1)
    by_site: bool = False
    subgroups: bool = False
    smallest: int = Field(default=20, ge=1)
    error_bound: float | None = Field(default=None, gt=0)
    patience: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _patience_fits(self) -> PrivateEvaluation:
        if self.patience is not None and self.every is None:
            raise PydanticCustomError(
                "patience_without_releases",
                "patience counts releases during training, and there are none",
                {"remedy": "Give `every` too, or leave `patience` out."},
            )
        return self


class Acceptance(Part):
    """After training every hospital sends one randomised vote on the model.

    `epsilon` is what a vote costs each of the hospital's patients (pure epsilon), out of the
    study's budget. The model is accepted if the estimated share of hospitals in favour reaches
    `quorum`.
    """

    epsilon: float = Field(ge=1e-6, le=50)
    quorum: float = Field(default=0.5, gt=0, le=1)


class EvaluationSection(Part):
    """How the model is judged; without `private` nothing about it leaves the hospitals."""

    metrics: tuple[MetricName, ...] | None = None
    holdout: Holdout = Fraction()
    private: PrivateEvaluation | None = None
    acceptance: Acceptance | None = None


class Subgroup(Part):
    """Patients reported apart: levels of a column, or bands between `cuts` of a number."""

    column: Name
    cuts: tuple[float, ...] | None = None

    @field_validator("cuts")
    @classmethod
    def _increasing(cls, cuts: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if cuts is not None and (
            not cuts or any(not left < right for left, right in pairwise(cuts))
        ):
            raise PydanticCustomError(
                "cuts_not_increasing",
                "the cuts are empty or not increasing",
                {"remedy": "List the cuts in increasing order."},
            )
        return cuts


class RosterSection(Part):
    """The hospitals of the study, by public name."""

    sites: tuple[Site, ...]

    @field_validator("sites")
    @classmethod
    def _sites(cls, sites: tuple[str, ...]) -> tuple[str, ...]:
        return check_vocabulary(sites, at_least=1)


class MenuEntry(Part):
    """One setting of a menu; what it leaves open is as in the rest of the study.

    It sets only what the server alone decides: hospitals need to know how many rounds there are.
    """

    learning_rate: float | None = Field(default=None, gt=0, le=1000)
    momentum: float | None = Field(default=None, ge=0, lt=1)
    average_from: float | None = Field(default=None, ge=0, lt=1)
