"""What a simulation found: the typed form of ``result.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PrivateAttr

from polyclinic_common.errors import Code, SimulationError
from polyclinic_common.evaluation.interval import Reading
from polyclinic_common.evaluation.reading import GroupReading, RoundReadings
from polyclinic_common.study.manifest import Study
from polyclinic_server.rounds.state import Verdict

if TYPE_CHECKING:
    import pandas as pd

Metrics = dict[str, float | None]
SettingKey = tuple[str, float | None, str, int | None, float]
ModelKey = tuple[SettingKey, int]
Model = tuple[Study, NDArray[np.float64]]
"""A study as a cell trained it, and the weights, shape (d,)."""


class Record(BaseModel):
    """Immutable, nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Scores(Record):
    """Metrics of one model on the test patients; null where undefined.

    `resampled` are the overall metrics with the test patients resampled, the same patients for
    every model; left out of ``result.json``.
    """

    overall: Metrics
    by_site: dict[str, Metrics]
    by_subgroup: dict[str, Metrics]
    resampled: dict[str, list[float | None]] = {}

    def mean_of_sites(self, metric: str) -> float | None:
        """Return the unweighted mean over the sites where `metric` is defined."""
        values = [scores[metric] for scores in self.by_site.values()]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None


class SumSpent(Record):
    """What belongs to the price of a secure sum.

    `epsilon_fallback` holds if all others collude, or the cryptography fails. `noise_excess` is the
    noise of a sum of all hospitals, relative to a trusted server's. `verified` hospitals know each
    other's keys. `rounds_at_fallback` is the most that one hospital lost to exclusion.
    """

    epsilon_fallback: float
    m: int
    c: int
    hospitals: int
    verified: int
    noise_excess: float
    rounds_at_fallback: int


class PrivacySpent(Record):
    """What the run promised every patient and what it spent; both are null without privacy.

    `epsilon_promised` is what the study promises at most; null in results of earlier versions.
    `epsilon` is what was spent, in the largest account of the hospitals: less where training
    stopped early, more where rounds were lost to exclusion. `sums` is null but in mode secure-sum,
    where `epsilon` is the headline: it holds if at most c participants collude.
    `epsilon_two_hospitals` is that of a patient in the cohorts of two of them. `epsilon_prv`, for
    information, is the tighter figure of a numerical accountant where sampling was used and it
    gave one.
    """

    epsilon: float | None
    epsilon_promised: float | None = None
    epsilon_two_hospitals: float | None = None
    epsilon_prv: float | None = None
    delta: float | None
    unit: str
    adjacency: str
    accountant: str
    sums: SumSpent | None = None


class SharedBaselines(Record):
    """Baselines that do not depend on epsilon, null where there is none.

    `trivial` predicts the same for everybody. `local_only_*` is the hospital that stays out: every
    test patient is judged by the own hospital's model. `pooled_*` needs the data in one place.
    `local_only_*` and `pooled_same_trainer` train as the cell beside them does.
    `published_formulas` are all formulas that the table brings predictions of, by name; the first
    of them is `published`. `published_patients` says on how many of the `test_patients` (those
    whose outcome is known) each can be computed. `nobody` answers no for everybody (yes/no
    outcomes).
    """

    trivial: Scores
    nobody: Scores | None = None
    local_only_non_private: Scores | None
    pooled_same_trainer: Scores
    pooled_converged: Scores
    cox: Scores | None = None
    published: Scores | None = None
    published_formulas: dict[str, Scores] = {}
    published_patients: dict[str, int] = {}
    test_patients: int = 0


class Baselines(SharedBaselines):
    """All baselines of a cell, on the same test patients."""

    local_only_private: Scores | None = None


class Timing(Record):
    """Seconds: of the whole cell, of the rounds alone; and the number of rounds."""

    total_s: float
    train_s: float
    rounds: int


class CalibrationBin(Record):
    """Patients with similar predictions: mean predicted, mean observed, how many."""

    predicted: float
    observed: float
    patients: int


class RiskGroup(Record):
    """Kaplan-Meier estimate of one third of predicted risk, at the times of the grid."""

    name: str
    times: list[float]
    survival: list[float]
    patients: int


class TimeCalibration(Record):
    """Share of patients without the event at a time of the grid: mean predicted, and observed.

    `observed` by Kaplan-Meier; null where nobody is followed until then. `fifths` are the same for
    fifths of predicted risk, the lowest first; those that nobody is followed in are left out.
    """

    time: float
    predicted: float
    observed: float | None
    fifths: list[CalibrationBin]


class Counted(Record):
    """Outcomes or events of patients with similar predictions: expected, and observed.

    `variance` is that of the observed number, were the predictions right.
    """

    patients: int
    expected: float
    observed: float
    variance: float


class AtTime(Record):
    """Share of patients with an event by a time of the grid: predicted, and by Kaplan-Meier."""

    time: float
    predicted: float
    observed: float


class Reliability(Record):
    """How far probabilities can be read as such.

    `fifths` are sorted by prediction. `slope` is that of the outcome on the model's score (1 is
    right, above 1 predictions lie too close together), with its standard error; null where it
    cannot be fitted. `by_time` is filled for survival alone.
    """

    fifths: list[Counted]
    slope: float | None
    slope_error: float | None
    by_time: list[AtTime] = []


class Figures(Record):
    """What the plots need; aggregates, no single patient.

    `curve_rounds` and `curve_values`: main metric of the averaged model during training.
    `calibration`: bins of predicted against observed (survival: probability of an event by the
    middle time of the grid, observed by Kaplan-Meier).
    `joint`: counts on a square grid over `joint_range`, rows observed, columns predicted
    (continuous outcomes).
    `times`: survival at every time of the grid, predicted against observed.
    """

    curve_rounds: list[int]
    curve_values: list[float | None]
    calibration: list[CalibrationBin]
    joint: list[list[int]] = []
    joint_range: tuple[float, float] | None = None
    risk_groups: list[RiskGroup] = []
    times: list[TimeCalibration] = []
    reliability: Reliability | None = None


class Tried(Record):
    """One setting of a menu: what it set, how good its model was, and whether it was kept.

    `private` is the released metric that decided, with its interval; null where it is undefined,
    and in mode none, where `exact`, on all test patients, decided.
    """

    learning_rate: float
    momentum: float
    average_from: float
    metric: str
    private: Reading | None
    exact: float | None
    chosen: bool


class SettingRecord(Record):
    """What a run did: fields of `Setting`, the seed, and how it was computed.

    `epsilon` is what was promised; `privacy` says what was spent.
    `study_hash` is the hash that the run's sites checked: of the study with this setting's mode,
    budget, strategy and hospitals.
    """

    mode: str
    epsilon: float | None
    strategy: str
    sites: int | None
    drop: float
    seed: int
    engine: str
    gradients: str
    study_hash: str


class Run(SettingRecord):
    """One federated run.

    `broadcast` is set where the study personalises: the common model's scores, beside those of
    every site's own model in `test`. `private` are the charged metrics, with 95 % intervals; all
    other scores are exact, which only a simulation can know. `on_formula` are scores on the test
    patients for whom a published formula can be computed, by its name, where that is not all of
    them. `verdict` are the hospitals' votes.
    `menu` are the settings that were trained and chosen from, in the order of `private`.
    """

    privacy: PrivacySpent
    private: list[RoundReadings]
    verdict: Verdict | None
    menu: list[Tried]
    test: Scores
    on_formula: dict[str, Scores] = {}
    broadcast: Scores | None
    local_only_private: Scores | None
    timing: Timing
    figures: Figures


class Cell(SettingRecord):
    """A run beside its baselines."""

    privacy: PrivacySpent
    private: list[RoundReadings] = []
    verdict: Verdict | None = None
    menu: list[Tried] = []
    test: Scores
    on_formula: dict[str, Scores] = {}
    broadcast: Scores | None = None
    baselines: Baselines
    timing: Timing
    figures: Figures

    @staticmethod
    def of(run: Run, shared: SharedBaselines) -> Cell:
        """Put a run beside its baselines."""
        own = {name: getattr(run, name) for name in Cell.model_fields if name != "baselines"}
        baselines = Baselines(**dict(shared), local_only_private=run.local_only_private)
        return Cell(**own, baselines=baselines)

    def private_of(self, kind: str, name: str) -> GroupReading | None:
        """Return the private metrics of a group, of the model; None if none were released."""
        named = (each for each in self.private_groups if (each.kind, each.name) == (kind, name))
        return next(named, None)

    @property
    def private_groups(self) -> Sequence[GroupReading]:
        """Private metrics of the model: those at the end, or at the end of the chosen setting.

        Where a release follows those of all settings, after calibration, it is that one.
        """
        chosen = [index for index, each in enumerate(self.menu) if each.chosen]
        if len(self.private) > len(self.menu):
            chosen = []
        return self.private[(chosen or [-1])[0]].groups if self.private else ()

    @property
    def setting(self) -> SettingKey:
        """What tells this cell from others, apart from the seed."""
        return self.mode, self.epsilon, self.strategy, self.sites, self.drop


class SiteSummary(Record):
    """A site's data in numbers (known in simulation only)."""

    name: str
    train: int
    test: int
    missing_share: float
    outcome: str


class Result(Record):
    """A finished simulation.

    `warm_start_columns` says which columns a warm start did not know, or knew in vain.
    """

    study: str
    study_hash: str
    version: str
    main_metric: str
    sites: list[SiteSummary]
    cells: list[Cell]
    warm_start: str | None = None
    warm_start_columns: list[str] = []
    _models: Mapping[ModelKey, Model] = PrivateAttr(default_factory=dict)

    def settings(self) -> list[list[Cell]]:
        """Return the cells of each setting, in order of first appearance."""
        groups: dict[object, list[Cell]] = {}
        for cell in self.cells:
            groups.setdefault(cell.setting, []).append(cell)
        return list(groups.values())

    def to_frame(self) -> pd.DataFrame:
        """Return one row a cell and test group, for analysis in a notebook."""
        import pandas as pd  # noqa: PLC0415

        rows = []
        for cell in self.cells:
            key = {name: getattr(cell, name) for name in SettingRecord.model_fields}
            key["epsilon_spent"] = cell.privacy.epsilon
            groups = {("overall", "all"): cell.test.overall}
            groups |= {("site", name): scores for name, scores in cell.test.by_site.items()}
            groups |= {("subgroup", n): scores for n, scores in cell.test.by_subgroup.items()}
            for (kind, name), scores in groups.items():
                private = _private_columns(cell.private_of(kind, name))
                rows.append({**key, "group": kind, "name": name, **scores, **private})
        return pd.DataFrame(rows)

    def keep_models(self, models: Mapping[ModelKey, Model]) -> None:
        """Keep the model of every cell in memory, by setting and seed; they are in no JSON."""
        self._models = models

    def predict(
        self, frame: pd.DataFrame, cell: Cell | None = None, *, site: str | None = None
    ) -> pd.DataFrame:
        """Predict for the patients of a table in the study's columns, as `polyclinic predict` does.

        Parameters
        ----------
        frame : DataFrame of n rows
            The patients; outcomes need not be in it.
        cell : Cell, optional
            One of `cells`, whose model predicts (where the study personalises: the common one);
            default: the first with privacy, else the first.
        site : str, optional
            The hospital they are from, where the study has a site indicator; else one outside it.

        Returns
        -------
        DataFrame of n rows
            What is predicted, in the units of the study, and remarks: what is missing, clamped, or
            not covered by the study, for which there is no number.

        Raises
        ------
        BundleError
            B011 if columns of the table are not what the study asks for.
        SimulationError
            X003 if the result was read from a file, which holds no models.
        """
        import pandas as pd  # noqa: PLC0415

        from polyclinic_common.bundle import answers  # noqa: PLC0415  (when it is asked)
        from polyclinic_common.bundle.patients import to_contract  # noqa: PLC0415
        from polyclinic_common.bundle.predictor import Predictor  # noqa: PLC0415

        study, weights = self._model(cell)
        made = Predictor(study, weights, site).predict(to_contract(study, frame))
        said = {answers.REMARKS: answers.remarks_of(made)}
        return pd.DataFrame(answers.columns_of(made) | said, index=frame.index)

    def coefficients(self, cell: Cell | None = None) -> pd.DataFrame:
        """Return a linear model's coefficients per unit of each column, for analysis in a notebook.

        Parameters
        ----------
        cell : Cell, optional
            As for `predict`.

        Returns
        -------
        DataFrame
            Columns name, coefficient, unit; the intercept comes first.

        Raises
        ------
        ModelError
            M002 if the model has hidden layers.
        SimulationError
            X003 if the result was read from a file, which holds no models.
        """
        import pandas as pd  # noqa: PLC0415

        from polyclinic_common.data.encoding import Encoding  # noqa: PLC0415  (when it is asked)
        from polyclinic_common.models.coefficients import rows_of  # noqa: PLC0415

        study, weights = self._model(cell)
        return pd.DataFrame([vars(row) for row in rows_of(study, Encoding(study), weights)])

    def _model(self, cell: Cell | None) -> Model:
        private = (each for each in self.cells if each.epsilon is not None)
        cell = cell or next(private, self.cells[0])
        if (cell.setting, cell.seed) not in self._models:
            raise SimulationError(
                Code.SIMULATION_OPTION,
                "This result does not hold the cell's model: results read from a file hold none.",
                "Call simulate() again with the same folder: nothing is trained anew.",
            )
        return self._models[cell.setting, cell.seed]


def plain_json(result: Result) -> str:
    """Return ``result.json``: everything but what only the report needs."""
    one = {"resampled": True}
    cell: dict[str, Any] = {
        "figures": True,
        "test": one,
        "broadcast": one,
        "on_formula": {"__all__": one},
        "baselines": {
            name: {"__all__": one} if name == "published_formulas" else one
            for name, field in Baselines.model_fields.items()
            if "Scores" in str(field.annotation)
        },
    }
    return result.model_dump_json(exclude={"cells": {"__all__": cell}}, indent=1)


def _private_columns(group: GroupReading | None) -> dict[str, float]:
    """Return private values and their intervals as columns of a table."""
    found: dict[str, float] = {}
    for metric, reading in (group.metrics if group is not None else {}).items():
        if reading is not None:
            found[f"{metric}_private"] = reading.value
            found |= {f"{metric}_low": reading.low, f"{metric}_high": reading.high}
    return found


def mean_and_error(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return mean and standard error of the values that are defined (error: two or more)."""
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    if len(known) == 1:
        return known[0], None
    return float(np.mean(known)), float(np.std(known, ddof=1) / np.sqrt(len(known)))
