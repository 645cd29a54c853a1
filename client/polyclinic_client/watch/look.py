"""One look at a released model: newer patients, their known outcomes, a verdict with reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polyclinic_client.watch.budget import FEWEST
from polyclinic_client.watch.chances import Known, known_of
from polyclinic_client.watch.finding import Finding, Verdict, in_order, verdict_of
from polyclinic_client.watch.inputs import ColumnTest, compare_inputs, input_findings
from polyclinic_client.watch.look_log import LookEntry
from polyclinic_client.watch.performance import Performance, judge, performance_findings
from polyclinic_client.watch.rows import row_findings, rows_of
from polyclinic_common.bundle.conformal import on_scale
from polyclinic_common.bundle.flags import inputs_of
from polyclinic_common.bundle.predictor import Predicted
from polyclinic_common.evaluation.interval import Reading
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Continuous, outcome_columns

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
NORMAL = 1.2533141373155001
"""Standard deviation over mean absolute value, of a normal distribution."""


@dataclass(frozen=True)
class Look:
    """What one look found.

    Attributes
    ----------
    study : Study
        The study.
    rows : int
        Rows of the table.
    known : Known
        Whose outcome is known, and whose is not, among rows that are one patient each.
    tests : tuple of ColumnTest
        All comparisons of inputs.
    performance : Performance or None
        None below 20 known outcomes.
    findings : tuple of Finding
        Why the model is not fine; empty if it is.
    notes : tuple of str
        What was not judged, or read otherwise than usual.
    """

    study: Study
    rows: int
    known: Known
    tests: tuple[ColumnTest, ...]
    performance: Performance | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return verdict_of(self.findings)

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        match self.verdict:
            case "fine" if self.performance is None:
                return "Fine as far as inputs go; performance is not judged yet."
            case "fine":
                return "Fine: neither inputs nor outcomes have left what was to be expected."
            case "look":
                return "Look: something has changed that a person should see."
            case "recalibrate":
                return "Recalibrate: predictions are off, and a refit at this hospital mends it."
        return "Withdraw: the model should not be used here."

    def as_dict(self) -> dict[str, Any]:
        """Return the look as plain data for ``--json``."""
        found = self.performance
        return {
            "verdict": self.verdict,
            "headline": self.headline,
            "rows": self.rows,
            "outcomes": self.known.patients,
            "outcomes_not_known_yet": self.known.waiting,
            "outcomes_not_understood": self.known.unread,
            "without_prediction": self.known.unpredicted,
            "findings": [asdict(each) for each in self.findings],
            "notes": list(self.notes),
            "performance": None if found is None else _told(found),
            "inputs": [
                asdict(each) | {"conversion": None if not each.conversion else str(each.conversion)}
                for each in self.tests
            ],
        }


def take_look(
    table: pd.DataFrame,
    newer: pd.DataFrame,
    predicted: Predicted,
    released: Mapping[str, Reading],
    earlier: Sequence[LookEntry] = (),
) -> Look:
    """Return what newer patients say of a model at this hospital.

    Parameters
    ----------
    table : DataFrame
        This hospital's frozen table of the study.
    newer : DataFrame of n rows
        All newer patients so far in the contract's columns, oldest first.
    predicted : Predicted
        The model's predictions for them.
    released : mapping of str to Reading
        The released metrics of all patients, by name.
    earlier : sequence of LookEntry
        Earlier looks.
    """
    study, rows = predicted.study, rows_of(predicted.study, newer)
    single, prediction = newer.loc[rows.single], predicted.prediction.take(rows.single)
    given, error = predicted.given[rows.single], _standard_error(study, released)
    known = known_of(study, single, prediction, given, error or 1.0)
    if error is None and isinstance(study.outcome, Continuous) and known.patients:
        own = float(np.sqrt(np.mean(known.chances.seen**2))) or 1.0
        known = known_of(study, single, prediction, given, own)
    performance = judge(study, known, prediction, released, [each.known for each in earlier])
    tests = compare_inputs(study, table, newer.loc[rows.first])
    no_outcome = [*_absent_outcomes(study, table, newer)]
    findings = [*_absent(study, table, newer), *input_findings(study, tests)]
    findings += [*row_findings(study, rows), *no_outcome, *_unread_outcomes(study, known)]
    if performance is not None:
        findings += performance_findings(study, performance)
    notes = [*_few(known), *_notes(study, len(newer), known, error, earlier)]
    if known.waiting and not no_outcome:
        notes.append(_waiting(known))
    return Look(study, len(newer), known, tests, performance, in_order(findings), tuple(notes))


def _absent(study: Study, table: pd.DataFrame, newer: pd.DataFrame) -> Iterator[Finding]:
    """Yield the columns that the study's table had and the newer one has not."""
    for declared in inputs_of(study):
        gone = [each for each in declared.columns if each in table and each not in newer]
        if gone:
            yield Finding(
                declared.name,
                "look",
                f"{len(gone)} of {len(declared.columns)} columns of {declared.name} are not in the "
                "table: it is read as missing for everybody.",
                "Name its column in the mapping; `polyclinic data map` proposes one.",
                spoils=True,
            )


def _absent_outcomes(study: Study, table: pd.DataFrame, newer: pd.DataFrame) -> Iterator[Finding]:
    """Yield a finding where a column of the outcome is gone: nothing would ever become known."""
    gone = [e for e in outcome_columns(study.outcome) if e in table and e not in newer]
    if gone:
        yield Finding(
            "outcome",
            "look",
            f"The table has no {' and no '.join(gone)}, which this hospital's table of the study "
            "had: no outcome can be read, and nothing is said of performance.",
            "Name its column in the mapping; leave cells empty where an outcome is not known yet.",
        )


def _unread_outcomes(study: Study, known: Known) -> Iterator[Finding]:
    if known.unread:
        yield Finding(
            "outcome",
            "look",
            f"{known.unread} outcomes are not understood, or outside the public range: they are "
            "not judged.",
            f"Say in the mapping what they mean: `polyclinic data check` names the cells of "
            f"{' and '.join(outcome_columns(study.outcome))}.",
        )


def _standard_error(study: Study, released: Mapping[str, Reading]) -> float | None:
    """Return the released standard error of a number on the scale of the model, None if none was.

    It is released in the outcome's unit: half of what it spans around the study's typical value,
    as for intervals from released errors.
    """
    outcome = study.outcome
    if not isinstance(outcome, Continuous) or not {"rmse", "mae"} & released.keys():
        return None
    error = released["rmse"].value if "rmse" in released else NORMAL * released["mae"].value
    around = on_scale(outcome, outcome.start + max(error, 0.0) * np.array([-1.0, 1.0]))
    return float(np.ptp(around)) / 2.0 or None


def _few(known: Known) -> Iterator[str]:
    if known.patients < FEWEST:
        yield (
            f"{known.patients} outcomes are known: nothing is said of performance below {FEWEST}."
        )


def _waiting(known: Known) -> str:
    return (
        f"The outcome of {known.waiting} of {len(known.judged)} patients is not known yet: they "
        "are not judged, and count neither for nor against the model. If one answer becomes known "
        "sooner than the other, leave out patients until both could be known."
    )


def _notes(
    study: Study, rows: int, known: Known, error: float | None, earlier: Sequence[LookEntry]
) -> Iterator[str]:
    if known.unpredicted:
        yield f"{known.unpredicted} patients with a known outcome get no prediction: not judged."
    if isinstance(study.outcome, Continuous) and error is None:
        yield "No error of the model was released: deviations are measured by their own size here."
    if earlier and rows < earlier[-1].rows:
        yield (
            f"The table has {rows} rows; at the last look there were {earlier[-1].rows}. Give all "
            "newer patients so far, oldest first."
        )


def _told(found: Performance) -> dict[str, Any]:
    def plain(reading: Reading | None) -> dict[str, float] | None:
        return None if reading is None else asdict(reading)

    return {
        "observed": found.observed,
        "expected": found.expected,
        "more": float(found.sums.more[-1]),
        "less": float(found.sums.less[-1]),
        "limit_more": found.limit.more,
        "limit_less": found.limit.less,
        "tilt": found.tilt,
        "tilt_limit": found.limit.tilt,
        "ranking": plain(found.ranking),
        "released_ranking": plain(found.released),
        "error": plain(found.error),
        "released_error": plain(found.released_error),
    }
