"""The public rule that keeps the patients of a second account apart from those of the others."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from polyclinic_client.records.entry import Entry
from polyclinic_common.errors import Code, ConsortiumError, Problem
from polyclinic_common.files import decoded
from polyclinic_common.text import is_control

APPROVERS = 2


def _shown_as_it_is(text: str) -> str:
    """Refuse what would not stand on a screen as it is written."""
    if any(is_control(letter) for letter in text) or text != text.strip():
        raise ValueError("control characters, or blanks at an end")
    return text


Words = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_shown_as_it_is)]


class Approver(Entry):
    """Who answers for it that the rule keeps patients apart."""

    name: Words
    role: Words
    date: Words


class SecondRule(Entry):
    """What decides, for every patient and without looking at any result, whose account counts.

    Attributes
    ----------
    why : str
        Why no patient can be on both sides.
    by : str
        What decides: the year of admission, the department.
    here, elsewhere : tuple of str
        Its values in the second account, and in every other account of the hospital; disjoint.
    approvers : tuple of Approver
        At least two people.
    """

    why: Words
    by: Words
    here: Annotated[tuple[Words, ...], Field(min_length=1, max_length=100)]
    elsewhere: Annotated[tuple[Words, ...], Field(min_length=1, max_length=100)]
    approvers: Annotated[tuple[Approver, ...], Field(min_length=APPROVERS)]

    @model_validator(mode="after")
    def _keeps_apart(self) -> Self:
        if {each.casefold() for each in self.here} & {each.casefold() for each in self.elsewhere}:
            raise ValueError("a value stands on both sides")
        if len({each.name.casefold() for each in self.approvers}) < APPROVERS:
            raise ValueError("it needs two different approvers")
        return self

    def line(self) -> str:
        """Return the rule in one line."""
        names = " and ".join(f"{each.name} ({each.role})" for each in self.approvers)
        return (
            f"{self.by} here {', '.join(self.here)}; elsewhere {', '.join(self.elsewhere)}; "
            f"agreed by {names}"
        )


def read_rule(path: Path) -> SecondRule:
    """Return the rule in a TOML file.

    Raises
    ------
    ConsortiumError
        A007 if it cannot be read or keeps nothing apart.
    """
    try:
        return SecondRule.model_validate(tomllib.loads(decoded(path.read_bytes())))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise refused_rule(f"{path} cannot be read as TOML") from None
    except ValidationError as error:
        problems = [
            Problem(".".join(map(str, each["loc"])) or "rule", f"{each['msg']}.", "Mend it.")
            for each in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise refused_rule(f"{path} is no rule that keeps patients apart", problems) from None


def refused_rule(why: str, problems: list[Problem] | None = None) -> ConsortiumError:
    """Return the error for a second account that nobody may open so."""
    return ConsortiumError(
        Code.ACCOUNT_RULE,
        f"A second account was refused: {why}.",
        "Write why, by, here, elsewhere and two [[approvers]] (name, role, date) as "
        "client/README.md shows; both type their names.",
        problems or (),
    )
