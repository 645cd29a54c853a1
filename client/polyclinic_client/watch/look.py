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
        Newer patients.
    known : Known
        Whose outcome is known, and whose is not.
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
    study, prediction = predicted.study, predicted.prediction
    error = _standard_error(released)
    known = known_of(study, newer, prediction, predicted.given, error or 1.0)
    if error is None and isinstance(study.outcome, Continuous) and known.patients:
        own = float(np.sqrt(np.mean(known.chances.seen**2))) or 1.0
        known = known_of(study, newer, prediction, predicted.given, own)
    performance = judge(study, known, prediction, released, [each.known for each in earlier])
    tests = compare_inputs(study, table, newer)
    findings = [*_absent(study, table, newer), *input_findings(study, tests)]
    findings += _unread_outcomes(study, known)
    if performance is not None:
        findings += performance_findings(study, performance)
    notes = tuple(_notes(study, len(newer), known, error, earlier))
    return Look(study, len(newer), known, tests, performance, in_order(findings), notes)


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


def _standard_error(released: Mapping[str, Reading]) -> float | None:
    """Return the released standard error of a prediction of a number, None if none was."""
    if "rmse" in released:
        return max(released["rmse"].value, np.finfo(float).tiny)
    return NORMAL * released["mae"].value if "mae" in released else None


def _notes(
    study: Study, rows: int, known: Known, error: float | None, earlier: Sequence[LookEntry]
) -> Iterator[str]:
    if known.patients < FEWEST:
        yield (
            f"{known.patients} outcomes are known: nothing is said of performance below {FEWEST}."
        )
    if known.waiting:
        yield (
            f"The outcome of {known.waiting} of {rows} patients is not known yet: they are not "
            "judged, and count neither for nor against the model. If one answer becomes known "
            "sooner than the other, leave out patients until both could be known."
        )
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
