"""Treatment and outcome of a study."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from polyclinic_common.study.base import (
    Labels,
    Name,
    Part,
    Range,
    Source,
    Unit,
    Word,
    check_labels,
    check_vocabulary,
    no_labels,
)

# The longest life on record lasted 122 years.
LONGEST_LIFE = {"days": 45_000.0, "weeks": 6_500.0, "months": 1_500.0, "years": 125.0}


class Arms(Part):
    """Treatment arms; encoded as indicators; `labels` name them for readers."""

    kind: Literal["arms"]
    column: Name
    arms: tuple[Word, ...]
    assignment: Literal["randomised", "observational"]
    source: Source
    labels: Labels = no_labels()

    @field_validator("arms")
    @classmethod
    def _arms(cls, arms: tuple[str, ...]) -> tuple[str, ...]:
        return check_vocabulary(arms, at_least=2)

    @model_validator(mode="after")
    def _labels_fit(self) -> Arms:
        check_labels(self.labels, self.arms)
        return self


class Dose(Part):
    """A dose given; encoded as a number."""

    kind: Literal["dose"]
    column: Name
    unit: Unit
    range: Range
    assignment: Literal["randomised", "observational"]
    source: Source


Treatment = Annotated[Arms | Dose, Field(discriminator="kind")]


class Continuous(Part):
    """A number to be predicted, on its own scale or on a transform of it.

    `typical` is the public value that training starts from (default: middle of the range).
    """

    kind: Literal["continuous"]
    column: Name
    unit: Unit
    range: Range
    source: Source
    transform: Literal["none", "sqrt", "log"] = "none"
    typical: float | None = None

    @property
    def start(self) -> float:
        """Value that training starts from: `typical`, or the middle of the transformed range."""
        low, high = self.range
        if self.typical is not None:
            return self.typical
        if self.transform == "sqrt":
            return ((math.sqrt(low) + math.sqrt(high)) / 2.0) ** 2
        return math.sqrt(low * high) if self.transform == "log" else (low + high) / 2.0

    @model_validator(mode="after")
    def _transform_fits_range(self) -> Continuous:
        low, high = self.range
        lowest = {"none": low, "sqrt": 0.0, "log": 1e-12}[self.transform]
        if low < lowest:
            raise PydanticCustomError(
                "transform_range",
                "a {transform} transform is undefined at {low}",
                {
                    "transform": self.transform,
                    "low": low,
                    "remedy": "Raise the lower bound of the range or drop the transform.",
                },
            )
        if self.typical is not None and not low <= self.typical <= high:
            raise PydanticCustomError(
                "typical_outside",
                "the typical value {typical} lies outside the range",
                {"typical": self.typical, "remedy": "Give a value inside the range."},
            )
        return self


class Binary(Part):
    """A yes/no outcome; `base_rate` is the public probability that training starts from."""

    kind: Literal["binary"]
    column: Name
    positive: Word
    negative: Word
    source: Source
    base_rate: float = Field(default=0.5, gt=0, lt=1)

    @model_validator(mode="after")
    def _two_answers(self) -> Binary:
        if self.positive == self.negative:
            raise PydanticCustomError(
                "same_answer",
                "positive and negative are both {answer}",
                {"answer": self.positive, "remedy": "Name the two different answers."},
            )
        return self


class Survival(Part):
    """Time to an event, on a public grid.

    `grid` holds the right ends of the intervals of the discrete-time hazard; follow-up beyond the
    last is censored there. `event_free` is the public share of patients without an event at its
    end, from which training starts.
    """

    kind: Literal["survival"]
    time: Name
    event: Name
    occurred: Word
    censored: Word
    unit: Unit
    grid: tuple[Annotated[float, Field(gt=0)], ...]
    source: Source
    event_free: float = Field(default=0.5, gt=0, lt=1)

    @field_validator("grid")
    @classmethod
    def _increasing(cls, grid: tuple[float, ...]) -> tuple[float, ...]:
        if len(grid) < 2 or any(not left < right for left, right in pairwise(grid)):
            raise PydanticCustomError(
                "grid_not_increasing",
                "the time grid is not increasing or has fewer than two times",
                {"remedy": "List at least two times, each later than the one before."},
            )
        return grid

    @model_validator(mode="after")
    def _two_answers(self) -> Survival:
        if self.occurred == self.censored or self.time == self.event:
            raise PydanticCustomError(
                "same_answer",
                "event and censoring (or time and event column) carry the same name",
                {"remedy": "Give time and event columns of their own, and two different codes."},
            )
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest time of follow-up that can be true, in `unit`: from 0 to a life."""
        return 0.0, LONGEST_LIFE.get(self.unit.strip().lower(), math.inf)


Outcome = Annotated[Continuous | Binary | Survival, Field(discriminator="kind")]


def outcome_columns(outcome: Outcome) -> tuple[str, ...]:
    """Return the contract's columns that hold the outcome."""
    if isinstance(outcome, Survival):
        return (outcome.time, outcome.event)
    return (outcome.column,)
