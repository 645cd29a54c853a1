"""The study manifest: the contract that everybody signs."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from polyclinic_common.canonical import canonical_hash
from polyclinic_common.study.base import Name, Part, Text
from polyclinic_common.study.features import Categorical, Feature, Ordinal, columns_of
from polyclinic_common.study.menu import MenuEntry, check_menu
from polyclinic_common.study.outcomes import (
    Arms,
    Continuous,
    Outcome,
    Survival,
    Treatment,
    outcome_columns,
)
from polyclinic_common.study.sections import (
    METRICS_OF,
    Calibration,
    Evaluation,
    Metric,
    Model,
    Privacy,
    Roster,
    SplitColumn,
    Strategy,
    Subgroup,
    TestSites,
    Training,
)
from polyclinic_common.version import VERSION_RULE, numbers_of

STUDY_ID = r"^[a-z0-9][a-z0-9-]{1,40}$"
STUDY_VERSION = r"^\d+\.\d+\.\d+$"
Loss = Literal["squared", "huber", "logistic", "hazard"]
LOSSES_OF: dict[str, tuple[Loss, ...]] = {
    "continuous": ("squared", "huber"),
    "binary": ("logistic",),
    "survival": ("hazard",),
}
CLIP = {"squared": 0.25, "huber": 0.25, "logistic": 0.7, "hazard": 0.7}
NEWER = {("training", "ridge"): "0.2.0", ("training", "calibration"): "0.2.0"}
"""Fields that came later, with their version: studies without them keep the hash they had."""
NEWER_FEATURES = {"hla": "0.2.0"}
LEARNING_RATE = {"squared": 8.0, "huber": 8.0, "logistic": 32.0, "hazard": 32.0}
MLP_LEARNING_RATE_SHARE = 0.125


class Cohort(Part):
    """Who is studied, and which columns describe a patient."""

    patient_id: Name
    site: Name
    site_indicator: bool = False
    features: tuple[Feature, ...] = Field(min_length=1)


class Study(Part):
    """A complete study. `canonical` is what is hashed and signed: no default is left open in it.

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
    roster: Roster
    cohort: Cohort
    treatment: Treatment | None = None
    outcome: Outcome
    model: Model = Model()
    privacy: Privacy = Privacy()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
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
    def settings(self) -> tuple[Study, ...]:
        """What is trained, one after the other: a study a setting; itself without a menu."""
        return tuple(map(self.trained_with, self.training.menu)) or (self,)

    def trained_with(self, entry: MenuEntry) -> Study:
        """Return the study with one setting and no menu; an empty entry takes the study's own."""
        own = {"learning_rate": self.learning_rate, "menu": ()}
        own |= entry.model_dump(exclude_none=True)
        return self.model_copy(update={"training": self.training.model_copy(update=own)})

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics reported (default: all that fit the outcome)."""
        return self.evaluation.metrics or METRICS_OF[self.outcome.kind]

    @property
    def private_metrics(self) -> tuple[Metric, ...]:
        """Metrics released privately; none in mode none."""
        private = self.evaluation.private
        if private is None or self.privacy.mode == "none":
            return ()
        return private.metrics or self.metrics

    @property
    def deciding_metric(self) -> Metric:
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
    def calibration(self) -> Calibration:
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
        return dict(_columns_with_use(self))

    def canonical(self) -> dict[str, Any]:
        """Return the canonical form: plain data, every default filled in."""
        data = self.model_dump(mode="json")
        if isinstance(self.outcome, Continuous):
            data["outcome"]["typical"] = self.outcome.start
        data["model"]["loss"] = self.loss
        data["privacy"] |= {"clip": self.clip, "m": self.m, "c": self.c}
        data["training"] |= {"learning_rate": self.learning_rate, "strategy": self.strategy}
        varied = set(MenuEntry.model_fields)
        menu = [each.training.model_dump(include=varied) for each in self.settings]
        data["training"]["menu"] = menu if self.training.menu else []
        for section, field in set(NEWER) - self._newer():
            del data[section][field]
        if self.needs is None:
            del data["needs"]
        data["evaluation"]["metrics"] = list(self.metrics)
        if self.evaluation.private is not None:
            metrics = self.evaluation.private.metrics or self.metrics
            data["evaluation"]["private"]["metrics"] = list(metrics)
        return data

    def with_needs(self) -> Study:
        """Return the study with the version that it needs written into it."""
        came = [NEWER[place] for place in self._newer()]
        came += [NEWER_FEATURES[f.kind] for f in self.cohort.features if f.kind in NEWER_FEATURES]
        came += [self.needs] if self.needs is not None else []
        return self.model_copy(update={"needs": max(came, key=numbers_of, default=None)})

    def _newer(self) -> set[tuple[str, str]]:
        """Return the newer fields that do not hold their default."""
        return {place for place in NEWER if not _at_default(getattr(self, place[0]), place[1])}

    def hash(self) -> str:
        """SHA-256 of the canonical form; it names the study everywhere."""
        return canonical_hash(self.canonical())

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        _check_columns_used_once(self)
        _check_loss_and_metrics(self)
        _check_holdout(self)
        _check_participants(self)
        _check_strategy(self)
        _check_mode(self)
        _check_start(self)
        _check_calibration(self)
        _check_subgroups(self)
        check_menu(self)
        return self


def _at_default(part: Part, field: str) -> bool:
    return bool(getattr(part, field) == type(part).model_fields[field].default)


def _columns_with_use(study: Study) -> list[tuple[str, str]]:
    used = [(study.cohort.patient_id, "patient id"), (study.cohort.site, "site")]
    used += [(column, "feature") for f in study.cohort.features for column in columns_of(f)]
    if study.treatment is not None:
        used.append((study.treatment.column, "treatment"))
    used += [(column, "outcome") for column in outcome_columns(study.outcome)]
    if isinstance(study.evaluation.holdout, SplitColumn):
        used.append((study.evaluation.holdout.column, "split"))
    return used


def _check_columns_used_once(study: Study) -> None:
    names = [column for column, _ in _columns_with_use(study)]
    names += [f.name for f in study.cohort.features if f.kind == "panel"]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise PydanticCustomError(
            "column_used_twice",
            "column {column} is used twice",
            {"column": twice[0], "at": "cohort", "remedy": "Use every column in one place only."},
        )


def _check_loss_and_metrics(study: Study) -> None:
    kind = study.outcome.kind
    if study.loss not in LOSSES_OF[kind]:
        raise PydanticCustomError(
            "loss_does_not_fit",
            "loss {loss} does not fit a {kind} outcome",
            {
                "loss": study.loss,
                "kind": kind,
                "at": "model.loss",
                "remedy": f"Use {' or '.join(LOSSES_OF[kind])}.",
            },
        )
    private = study.evaluation.private
    asked = (*study.metrics, *((private and private.metrics) or ()))
    wrong = [metric for metric in asked if metric not in METRICS_OF[kind]]
    if wrong:
        raise PydanticCustomError(
            "metric_does_not_fit",
            "metric {metric} does not fit a {kind} outcome",
            {
                "metric": wrong[0],
                "kind": kind,
                "at": "evaluation.metrics",
                "remedy": f"Choose from {', '.join(METRICS_OF[kind])}.",
            },
        )


def _check_participants(study: Study) -> None:
    """Refuse a rule under which two sums of a round could come out, or none be protected.

    An m beyond the hospitals that train is let pass here: earlier versions signed it, counting
    hospitals that are held out. No round of it starts, and `parse_study` takes none.
    """
    size, m, c = len(study.training_sites), study.m, study.c
    alone = size == 1 and study.privacy.mode != "secure-sum"
    if m > len(study.roster.sites) or not (alone or (m > c and 2 * m > size + c)):
        remedy = "Raise m, lower c, or leave both out to take the defaults."
        if size == 1:
            remedy = 'Let at least two hospitals train, or use mode "local".'
        raise PydanticCustomError(
            "participant_rule",
            "m = {m} and c = {c} do not fit {size} hospitals that train: "
            "c < m <= hospitals and 2m > hospitals + c must hold",
            {
                "m": m,
                "c": c,
                "size": size,
                "at": "privacy.m",
                "remedy": remedy,
            },
        )


def _check_strategy(study: Study) -> None:
    training = study.training
    sums = training.schedule == "full" and training.personalisation == "none"
    if (study.strategy == "descent" and not sums) or (
        study.strategy == "fedprox" and training.schedule == "full"
    ):
        raise PydanticCustomError(
            "strategy_does_not_fit",
            "strategy {strategy} does not fit the {schedule} schedule or the personalisation",
            {
                "strategy": study.strategy,
                "schedule": training.schedule,
                "at": "training.strategy",
                "remedy": "Use fedavg, or leave it out to take what fits.",
            },
        )


def _check_mode(study: Study) -> None:
    if study.privacy.mode == "secure-sum" and study.strategy != "descent":
        raise PydanticCustomError(
            "mode_does_not_fit",
            "mode secure-sum adds up gradients of whole cohorts; strategy {strategy} needs more",
            {
                "strategy": study.strategy,
                "at": "privacy.mode",
                "remedy": 'Use mode "local", or the full schedule with strategy "descent".',
            },
        )


def _check_start(study: Study) -> None:
    fits = (
        study.privacy.mode == "secure-sum"
        and study.model.kind == "linear"
        and study.outcome.kind == "continuous"
    )
    if study.training.start == "statistics" and study.privacy.mode != "none" and not fits:
        raise PydanticCustomError(
            "start_does_not_fit",
            "sufficient statistics need mode secure-sum, a linear model and a continuous outcome",
            {"at": "training.start", "remedy": "Leave it out to start from public base rates."},
        )


def _check_calibration(study: Study) -> None:
    if study.training.calibration is not None and study.training.personalisation != "none":
        raise PydanticCustomError(
            "calibration_does_not_fit",
            "calibration sets one model right, and here every hospital has its own",
            {
                "at": "training.calibration",
                "remedy": "Leave it out, or leave out `personalisation`.",
            },
        )


def _check_holdout(study: Study) -> None:
    holdout = study.evaluation.holdout
    if isinstance(holdout, TestSites):
        released = [part for part in ("private", "acceptance") if getattr(study.evaluation, part)]
        if released:
            raise PydanticCustomError(
                "private_test_sites",
                "hospitals that are held out as a whole release nothing, neither metrics nor votes",
                {
                    "at": f"evaluation.{released[0]}",
                    "remedy": "Leave it out, or hold out patients of every hospital.",
                },
            )
        unknown = [site for site in holdout.sites if site not in study.roster.sites]
        if unknown or not study.training_sites:
            raise PydanticCustomError(
                "test_sites",
                "the test sites are not a proper part of the roster",
                {
                    "at": "evaluation.holdout.sites",
                    "remedy": "Name sites of the roster, and leave some for training.",
                },
            )


def _check_subgroups(study: Study) -> None:
    declared = {f.name: f for f in study.cohort.features}
    arms = study.treatment.column if isinstance(study.treatment, Arms) else None
    for index, subgroup in enumerate(study.subgroups):
        feature = declared.get(subgroup.column)
        has_levels = isinstance(feature, Categorical | Ordinal) or subgroup.column == arms
        is_number = feature is not None and feature.kind == "numeric"
        if not (has_levels and subgroup.cuts is None) and not (is_number and subgroup.cuts):
            raise PydanticCustomError(
                "subgroup_column",
                "subgroup {column} is no declared column, or its cuts do not fit its kind",
                {
                    "column": subgroup.column,
                    "at": f"subgroups.{index}",
                    "remedy": "Name a categorical column or the arms without cuts, "
                    "or a numeric column with cuts.",
                },
            )


def time_grid(study: Study) -> tuple[float, ...]:
    """Return the right ends of the intervals of a survival study, else an empty tuple."""
    return study.outcome.grid if isinstance(study.outcome, Survival) else ()
