"""Building blocks of the manifest shared by its parts."""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
)
from pydantic_core import PydanticCustomError

from polyclinic_common.text import canonical_word, is_control, tidy


class Part(BaseModel):
    """A part of a manifest: immutable, nothing unknown, no NaN, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


NAME = r"^[A-Za-z0-9]([A-Za-z0-9 _.\-:/()>+*]{0,78}[A-Za-z0-9_.\-:/()>+*])?$"
NAME_RULE = (
    "Begin with an ASCII letter or digit and use only these, blanks inside and _.-:/()>+*, "
    "at most 80 characters."
)
Name = Annotated[str, Field(pattern=NAME)]
LONGEST_SITE = 80
SITE_RULE = (
    "Write it as people do: letters, digits, blanks and punctuation but brackets [] {} and "
    "backslashes, beginning with a letter, a digit or an apostrophe, at most "
    f"{LONGEST_SITE} characters."
)
_NOT_IN_SITES = frozenset("[]{}\\@")
_OTHER_IN_SITES = frozenset("+>|")


def _shown_as_it_is(text: str) -> str:
    """Refuse a text that could look like something else where people read and approve it."""
    control = next((letter for letter in text if is_control(letter)), None)
    if control is not None:
        raise PydanticCustomError(
            "control_character",
            "the text holds the control character U+{code}",
            {"code": f"{ord(control):04X}", "remedy": "Take it out; write the text in one line."},
        )
    return text


Text = Annotated[str, AfterValidator(_shown_as_it_is)]
Source = Annotated[Text, Field(min_length=3, description="where the public value comes from")]
Unit = Annotated[Text, Field(min_length=1)]


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    if not low < high:
        raise PydanticCustomError(
            "range_upside_down",
            "range [{low}, {high}] is upside down or empty",
            {"low": low, "high": high, "remedy": "Write the lower bound first."},
        )
    return bounds


def _producible(word: str) -> str:
    """Refuse a word that no table can hold: one read as missing, or as another word."""
    canonical = canonical_word(word)
    if canonical is None:
        raise PydanticCustomError(
            "word_missing",
            "the word counts as missing in every table",
            {"remedy": "Leave it out, or name another word; missing is encoded on its own."},
        )
    if canonical != word:
        raise PydanticCustomError(
            "word_not_canonical",
            "every table's cell of this word is read as {canonical}",
            {"canonical": canonical, "remedy": f"Write {canonical!r}."},
        )
    return word


def is_site_name(text: str) -> bool:
    """Say whether a hospital can be called so: as people write its name, and safe to show."""
    return (
        0 < len(text) <= LONGEST_SITE
        and tidy(text) == text
        and (text[0].isalnum() or text[0] in "'\u2019")
        and any(letter.isalnum() for letter in text)
        and all(_may_name(letter) for letter in text)
    )


def _may_name(letter: str) -> bool:
    kind = unicodedata.category(letter)
    plain = kind[0] in "LMNP" and letter not in _NOT_IN_SITES
    return letter == " " or letter in _OTHER_IN_SITES or plain


def _site_name(text: str) -> str:
    if not is_site_name(text):
        seen = tidy(text)
        remedy = f"Write {seen!r}." if seen != text and is_site_name(seen) else SITE_RULE
        raise PydanticCustomError(
            "site_name", "the name cannot be a hospital's", {"remedy": remedy}
        )
    return text


Word = Annotated[Text, AfterValidator(_producible)]
Site = Annotated[Text, AfterValidator(_site_name), AfterValidator(_producible)]
Range = Annotated[tuple[float, float], AfterValidator(_ascending)]


def _pairs(labels: object) -> object:
    """Return a mapping as pairs, which cannot be changed; anything else as it is."""
    return tuple(labels.items()) if isinstance(labels, dict) else labels


# What coded levels are called, for readers alone: `{ "0" = "female", "1" = "male" }`.
Labels = Annotated[tuple[tuple[Text, Text], ...], BeforeValidator(_pairs), PlainSerializer(dict)]


def no_labels() -> Any:
    """Return the field of labels: absent unless given, so that older studies keep their hash."""
    return Field(default=(), exclude_if=lambda labels: not labels)


def check_labels(labels: tuple[tuple[str, str], ...], levels: tuple[str, ...]) -> None:
    """Refuse a label for what is no level, and two levels with one label."""
    names = [name for _, name in labels]
    wrong = [level for level, _ in labels if level not in levels]
    if wrong or len(set(names)) < len(names):
        raise PydanticCustomError(
            "labels_do_not_fit",
            "the labels name something else than the levels, or two levels alike",
            {"remedy": "Give each level one label of its own, or leave it out."},
        )


def check_vocabulary(words: tuple[str, ...], *, at_least: int) -> tuple[str, ...]:
    """Refuse a vocabulary that is too small and a word that stands twice."""
    if len(words) < at_least:
        raise PydanticCustomError(
            "vocabulary_empty",
            "the vocabulary has {count} entries",
            {"count": len(words), "remedy": f"List at least {at_least}."},
        )
    twice = [word for word, count in Counter(words).items() if count > 1]
    if twice:
        raise PydanticCustomError(
            "vocabulary_repeats",
            "{word} stands twice",
            {"word": twice[0], "remedy": "List every entry once."},
        )
    return words
