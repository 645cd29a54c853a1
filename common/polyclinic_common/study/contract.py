"""What a study declares, and what follows from it."""

from __future__ import annotations

import datetime as dt
from typing import Literal, Self

from pydantic import Field

from polyclinic_common.study.base import Name, Part, Text
from polyclinic_common.study.features import Feature, columns_of
from polyclinic_common.study.outcomes import (
    Continuous,
    Outcome,
    Survival,
    Treatment,
    outcome_columns,
)
from polyclinic_common.study.sections import (
    METRICS_OF,
    CalibrationSection,
    EvaluationSection,
    MenuEntry,
    MetricName,
    ModelSection,
    Privacy,
    RosterSection,
    SplitColumn,
    Strategy,
    Subgroup,
    TestSites,
    Training,
)
from polyclinic_common.version import VERSION_RULE

STUDY_ID = r"^[a-z0-9][a-z0-9-]{1,40}$"
STUDY_VERSION = r"^\d+\.\d+\.\d+$"
Loss = Literal["squared", "huber", "logistic", "hazard"]
LOSSES_OF: dict[str, tuple[Loss, ...]] = {
    "continuous": ("squared", "huber"),
    "binary": ("logistic",),
    "survival": ("hazard",),
}
CLIP = {"squared": 0.25, "huber": 0.25, "logistic": 0.5, "hazard": 0.5}
LEARNING_RATE = {"squared": 8.0, "huber": 8.0, "logistic": 32.0, "hazard": 32.0}
MLP_LEARNING_RATE_SHARE = 0.125


class CohortSection(Part):
    """Who is studied, and which columns describe a patient."""

    patient_id: Name
    site: Name
    site_indicator: bool = False
    features: tuple[Feature, ...] = Field(min_length=1)


class Contract(Part):
    """What a study declares: the fields of a manifest, and what follows from them.

    Attributes
    ----------
    needs : str, optional
        The first version of Polyclinic that reads it; without it every version does. It is written
        when a manifest is read from a file, and never recomputed.
    """

    polyclinic: Literal[1]
    needs: str | None = Field(default=None, pattern=f"^{VERSION_RULE.pattern}$")
    id: str = Field(pattern=STUDY_ID)
    version: str = Field(pattern=STUDY_VERSION)
    title: Text = Field(min_length=3)
    purpose: Text = Field(min_length=3)
    expires: dt.date
    synthetic: bool = False
    roster: RosterSection
    cohort: CohortSection
    treatment: Treatment | None = None
    outcome: Outcome
    model: ModelSection = ModelSection()
    privacy: Privacy = Privacy()
    training: Training = Training()
    evaluation: EvaluationSection = EvaluationSection()
    subgroups: tuple[Subgroup, ...] = ()

    @property
    def loss(self) -> Loss:
        """Loss per patient (default: the first that fits the outcome)."""
        return self.model.loss or LOSSES_OF[self.outcome.kind][0]

    @property
    def clip(self) -> float:
        """Bound on the Euclidean norm of one patient's gradient."""
        return self.privacy.clip or CLIP[self.loss]

    @property
    def learning_rate(self) -> float:
        """Server learning rate: 8 / L, with L the smoothness of the loss on unit rows."""
        if self.training.learning_rate is not None:
            return self.training.learning_rate
        share = MLP_LEARNING_RATE_SHARE if self.model.kind == "mlp" else 1.0
        return share * LEARNING_RATE[self.loss]

    @property
    def strategy(self) -> Strategy:
        """How what the sites release is combined."""
        sums = self.training.schedule == "full" and self.training.personalisation == "none"
        return self.training.strategy or ("descent" if sums else "fedavg")

    @property
    def local_learning_rate(self) -> float:
        """Learning rate of steps taken at a site: 1 / L, as no momentum dampens them."""
        return self.learning_rate / 8.0

    @property
    def training_rounds(self) -> int:
        """Rounds in which the model is trained: of all settings together, where there is a menu."""
        return self.training.rounds * max(1, len(self.training.menu))

    @property
    def rounds(self) -> int:
        """Rounds of a run: those of training, and those of calibration after them."""
        calibration = self.training.calibration
        return self.training_rounds + (calibration.steps if calibration else 0)

    @property
    def calibration_rounds(self) -> range:
        """Rounds in which level and slope are set right; none without calibration."""
        return range(self.training_rounds + 1, self.rounds + 1)

    @property
    def may_stop_early(self) -> bool:
        """Whether training ends once metrics get no better."""
        private = self.evaluation.private
        return private is not None and private.patience is not None

    @property
    def settings(self) -> tuple[Self, ...]:
        """What is trained, one after the other: a study a setting; itself without a menu."""
        return tuple(map(self.trained_with, self.training.menu)) or (self,)

    def trained_with(self, entry: MenuEntry) -> Self:
        """Return the study with one setting and no menu; an empty entry takes the study's own."""
        own = {"learning_rate": self.learning_rate, "menu": ()}
        own |= entry.model_dump(exclude_none=True)
        return self.model_copy(update={"training": self.training.model_copy(update=own)})

    @property
    def metrics(self) -> tuple[MetricName, ...]:
        """Metrics reported (default: all that fit the outcome)."""
        return self.evaluation.metrics or METRICS_OF[self.outcome.kind]

    @property
    def private_metrics(self) -> tuple[MetricName, ...]:
        """Metrics released privately; none in mode none."""
        private = self.evaluation.private
        if private is None or self.privacy.mode == "none":
            return ()
        return private.metrics or self.metrics

    @property
    def deciding_metric(self) -> MetricName:
        """The metric that chooses from a menu: the first that is released."""
        private = self.evaluation.private
        return ((private and private.metrics) or self.metrics)[0]

    @property
    def error_bound(self) -> float:
        """Error beyond which errors count as this large in released metrics: a public number."""
        private = self.evaluation.private
        if private is not None and private.error_bound is not None:
            return private.error_bound
        if not isinstance(self.outcome, Continuous):
            return 1.0
        low, high = self.outcome.range
        return (high - low) / 3.0

    @property
    def calibration(self) -> CalibrationSection:
        """How level and slope are set right after training; there must be something to return."""
        if self.training.calibration is None:
            raise ValueError("the study has no calibration")
        return self.training.calibration

    @property
    def metric_rounds(self) -> tuple[int, ...]:
        """Rounds after which metrics are released: at least the last of every setting."""
        private, last = self.evaluation.private, self.rounds
        if private is None or not self.private_metrics:
            return ()
        every = private.every or (self.training.rounds if self.training.menu else last)
        trained = self.training_rounds + (1 if self.training.menu else 0)
        return (*range(every, min(trained, last), every), last)

    @property
    def training_sites(self) -> tuple[str, ...]:
        """Hospitals that train; those that are held out as a whole send nothing."""
        holdout = self.evaluation.holdout
        out = holdout.sites if isinstance(holdout, TestSites) else ()
        return tuple(site for site in self.roster.sites if site not in out)

    @property
    def c(self) -> int:
        """Colluding participants tolerated."""
        size = len(self.training_sites)
        default = 1 if size <= 7 else 2 if size <= 25 else size // 10
        return self.privacy.c or default

    @property
    def m(self) -> int:
        """Fewest participants of a round."""
        size = len(self.training_sites)
        default = size if size <= 3 else size - self.c
        return self.privacy.m or default

    def columns(self) -> dict[str, str]:
        """Return every column of the contract with the part of the manifest that uses it."""
        return dict(columns_with_use(self))


def columns_with_use(study: Contract) -> list[tuple[str, str]]:
    """Return every column of the contract with the part of the manifest that uses it."""
    used = [(study.cohort.patient_id, "patient id"), (study.cohort.site, "site")]
    used += [(column, "feature") for f in study.cohort.features for column in columns_of(f)]
    if study.treatment is not None:
        used.append((study.treatment.column, "treatment"))
    used += [(column, "outcome") for column in outcome_columns(study.outcome)]
    if isinstance(study.evaluation.holdout, SplitColumn):
        used.append((study.evaluation.holdout.column, "split"))
    return used


def time_grid(study: Contract) -> tuple[float, ...]:
    """Return the right ends of the intervals of a survival study, else an empty tuple."""
    return study.outcome.grid if isinstance(study.outcome, Survival) else ()
