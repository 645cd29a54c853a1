"""Building blocks of the manifest shared by its parts."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Part(BaseModel):
    """A part of a manifest: immutable, nothing unknown, no NaN, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


NAME = r"^[A-Za-z0-9][A-Za-z0-9 _.\-:/()>+*]{0,79}$"
Name = Annotated[str, Field(pattern=NAME)]
Source = Annotated[str, Field(min_length=3, description="where the public value comes from")]


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    if not low < high:
        raise PydanticCustomError(
            "range_upside_down",
            "range [{low}, {high}] is upside down or empty",
            {"low": low, "high": high, "remedy": "Write the lower bound first."},
        )
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]


def check_vocabulary(words: tuple[str, ...], *, at_least: int) -> tuple[str, ...]:
    """Refuse an empty vocabulary, a blank word and a word that stands twice."""
    if len(words) < at_least:
        raise PydanticCustomError(
            "vocabulary_empty",
            "the vocabulary has {count} entries",
            {"count": len(words), "remedy": f"List at least {at_least}."},
        )
    if any(not word.strip() or word != word.strip() for word in words):
        raise PydanticCustomError(
            "vocabulary_blank",
            "an entry is blank or has blanks around it",
            {"remedy": "Write every entry without surrounding blanks."},
        )
    twice = [word for word, count in Counter(words).items() if count > 1]
    if twice:
        raise PydanticCustomError(
            "vocabulary_repeats",
            "{word} stands twice",
            {"word": twice[0], "remedy": "List every entry once."},
        )
    return words
