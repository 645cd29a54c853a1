"""How good the model of a finished run is: what hospitals released about it, and their verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from polyclinic_common.evaluation.reading import GroupReading, RoundReadings
from polyclinic_common.files import write_atomically
from polyclinic_common.releases.kinds import METRICS
from polyclinic_server.rounds.metric_sums import MetricReader
from polyclinic_server.rounds.state import State, Verdict
from polyclinic_server.runs.folder import Record

FILE = "quality.json"


class Quality(Record):
    """What is known of a finished model, all of it paid for.

    Attributes
    ----------
    metrics : tuple of RoundReadings
        Private metrics of every group, by the round after which they were released.
    verdict : Verdict or None
        The hospitals' votes, where the study asks for them.
    settings : int
        How many settings of a menu were trained; 0 without one, and in files of earlier versions.
    chosen : int or None
        Which of them became the model, counted from 1; None without a menu.
    """

    metrics: tuple[RoundReadings, ...] = ()
    verdict: Verdict | None = None
    settings: int = 0
    chosen: int | None = None

    @classmethod
    def of(cls, evaluation: MetricReader | None, state: State) -> Self:
        """Return what the final state of a run says."""
        if evaluation is None:
            return cls(verdict=state.verdict)
        read = [
            RoundReadings(said.round_number, evaluation.read(said)) for said in state.kept(METRICS)
        ]
        chosen = None if state.chosen is None else state.chosen + 1
        settings = len(state.candidates)
        return cls(metrics=tuple(read), verdict=state.verdict, settings=settings, chosen=chosen)

    def write(self, run: Path) -> None:
        """Keep it in the folder of a run."""
        write_atomically(run / FILE, self.model_dump_json(indent=2).encode())

    @classmethod
    def read(cls, run: Path) -> Self:
        """Return what the folder of a run holds; nothing before its end."""
        file = run / FILE
        return cls.model_validate_json(file.read_bytes()) if file.exists() else cls()

    def lines(self) -> list[str]:
        """Return it for people."""
        said = [
            f"after round {released.round_number}, {group.name or group.kind}: {_words(group)}"
            for released in self.metrics
            for group in released.groups
        ]
        if self.chosen is not None:
            number = f"{self.chosen} of {self.settings}" if self.settings else f"{self.chosen}"
            said.append(
                f"chosen: setting {number}, for the best of these "
                "released metrics alone; the best of several noisy values flatters"
            )
        if self.verdict is not None:
            verdict = self.verdict
            said.append(
                f"verdict: {'accepted' if verdict.accepted else 'not accepted'} "
                f"({verdict.in_favour} of {verdict.votes} noisy votes in favour, "
                f"estimated {verdict.estimated:.1f})"
            )
        return said


def _words(group: GroupReading) -> str:
    if group.suppressed:
        return "too few patients to be shown"
    return ", ".join(
        f"{name} lost in the noise"
        if reading is None
        else f"{name} {reading.value:.3f} ({reading.low:.3f} to {reading.high:.3f})"
        for name, reading in group.metrics.items()
    )
