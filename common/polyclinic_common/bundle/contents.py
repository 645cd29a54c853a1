"""What a bundle says beside the model: how good it is, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from polyclinic_common.bundle.certificate import Record
from polyclinic_common.evaluation.reading import GroupReading, RoundReadings


class Votes(Record):
    """The hospitals' noisy votes on the model.

    Attributes
    ----------
    votes, in_favour : int
        Votes that came, and randomised yeses among them.
    estimated : float
        Unbiased estimate of the hospitals in favour.
    accepted : bool
        Whether the estimate reaches the quorum.
    """

    votes: int
    in_favour: int
    estimated: float
    accepted: bool

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        return (
            f"{'Accepted' if self.accepted else 'Not accepted'} by vote: {self.in_favour} of "
            f"{self.votes} noisy votes in favour, {self.estimated:.1f} by estimate."
        )


class Evaluation(Record):
    """How good the model is, as far as anybody may know.

    Attributes
    ----------
    metrics : tuple of RoundReadings
        Private metrics of every group, by the round after which they were released.
    verdict : Votes or None
        Where the study asks for votes.
    settings, chosen : int, int or None
        How many settings a menu tried, and which of them became the model, from 1.
    exact : mapping of str to float
        Exact scores on held-out patients: a simulation alone can know them.
    weight_deviation : float or None
        Standard deviation, at most, that the noise alone gives to every weight; None where it is
        not known, or there is no noise.
    """

    metrics: tuple[RoundReadings, ...] = ()
    verdict: Votes | None = None
    settings: int = 0
    chosen: int | None = None
    exact: Mapping[str, float] = Field(default_factory=dict)
    weight_deviation: float | None = None

    @property
    def overall(self) -> GroupReading | None:
        """What is known of all patients together under the final model."""
        return next((group for group in self.groups if group.kind == "overall"), None)

    @property
    def groups(self) -> tuple[GroupReading, ...]:
        """What is known of every group of patients under the final model.

        Where a release follows those of the menu's settings, after calibration, it is that one.
        """
        if not self.metrics:
            return ()
        by_setting = self.chosen is not None and len(self.metrics) == self.settings
        return self.metrics[self.chosen - 1 if by_setting and self.chosen else -1].groups


class History(Record):
    """How the model came about.

    Attributes
    ----------
    rounds : int
        Rounds of the run.
    answered : mapping of str to int
        In how many of them each hospital's release stands.
    declared : mapping of str to int
        Declared patients of every hospital of the run: public in its consortium.
    transcript : str
        Digest of all secure sums of the run, which every hospital's journal holds; empty in other
        modes.
    events : str
        SHA-256 of what the coordinator wrote down; empty in a simulation.
    """

    rounds: int
    answered: Mapping[str, int]
    declared: Mapping[str, int]
    transcript: str = ""
    events: str = ""
