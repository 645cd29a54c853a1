"""What is entered in the form, checked: every answer that cannot be read, with what to do.

What a person typed goes back to the same page and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from polyclinic_common.bedside.form import SITE, Field, Group
from polyclinic_common.study.columns import Declared

MOST_NAMED = 3
_LINE = re.compile(r"(.+?)(?:\s*[=;\t]\s*|\s+)(\S+)")


@dataclass(frozen=True)
class FieldProblem:
    """What is wrong with one answer, and what to do."""

    key: str
    label: str
    what: str


@dataclass(frozen=True)
class Entered:
    """What was entered.

    Attributes
    ----------
    typed : mapping
        As it was typed, by key of the field: to fill the form again.
    values : mapping
        By column of the contract; what was left empty is not in it.
    site : str or None
        The hospital of the roster; None for another one.
    problems : tuple of FieldProblem
        Answers that cannot be read; nothing is predicted then.
    """

    typed: Mapping[str, str]
    values: Mapping[str, str]
    site: str | None
    problems: tuple[FieldProblem, ...] = ()


def read_form(groups: tuple[Group, ...], posted: Mapping[str, str]) -> Entered:
    """Return what was entered; answers to no question are not looked at.

    Parameters
    ----------
    posted : mapping
        Answers by key of their field.
    """
    fields = [field for group in groups for field in group.fields]
    typed = {field.key: posted.get(field.key, "").strip() for field in fields}
    values, problems = dict[str, str](), list[FieldProblem]()
    site = None
    for field in fields:
        answer = typed[field.key]
        read, wrong = _read(field, answer) if answer else ({}, "")
        if wrong:
            problems.append(FieldProblem(field.key, field.label, wrong))
        elif field.key == SITE:
            site = answer or None
        else:
            values |= read
    return Entered(typed, values, site, tuple(problems))


def _read(field: Field, answer: str) -> tuple[dict[str, str], str]:
    """Return the values of one answer by column, and what is wrong with it; empty if nothing."""
    if field.kind == "lines":
        return _read_lines(field, answer)
    if field.kind == "number":
        return {field.column: answer}, "" if _is_number(answer) else _no_number(answer)
    if field.kind == "choice":
        known = any(answer == word for word, _ in field.options)
        return {field.column: answer}, "" if known else "Choose one of the answers listed."
    return {field.column: answer}, _no_genotype(field.declared, answer)


def _is_number(answer: str) -> bool:
    import pandas as pd  # noqa: PLC0415

    from polyclinic_common.data.values import as_number  # noqa: PLC0415

    return bool(pd.notna(as_number(pd.Series([answer], dtype=object))[0]))


def _no_number(answer: str) -> str:
    if "," in answer:
        return "Write the number with a point and without separators, such as 7.5 or 1500."
    return "Enter a number without its unit, or leave it empty."


def _no_genotype(declared: Declared | None, answer: str) -> str:
    """Return what is wrong with a genotype, with what it probably means."""
    import pandas as pd  # noqa: PLC0415

    from polyclinic_common.data.vocabulary import meant, understood  # noqa: PLC0415

    if declared is None or understood(declared, pd.Index([answer], dtype=object)):
        return ""
    guess = meant(declared, [answer]).get(answer)
    seems = f"If {guess} is meant, write it so." if guess else f"Known is: {declared.what}."
    return f"This is not read as a genotype. {seems}"


def _read_lines(field: Field, answer: str) -> tuple[dict[str, str], str]:
    """Return the values of lines of names and numbers, and which lines cannot be read."""
    known = set(field.declared.columns) if field.declared else set()
    found: dict[str, str] = {}
    wrong: list[str] = []
    for number, line in _lines(answer):
        parts = _LINE.fullmatch(line)
        name, value = parts.groups() if parts else ("", "")
        if name not in known or name in found or not _is_number(value):
            wrong.append(str(number))
        found.setdefault(name, value)
    if not wrong:
        return found, ""
    more = " and others" if len(wrong) > MOST_NAMED else ""
    named = ", ".join(wrong[:MOST_NAMED])
    return {}, (
        f"Cannot read line {named}{more}. Each holds a name that the study knows, once, a blank, "
        "and a number with a point."
    )


def _lines(answer: str) -> Iterator[tuple[int, str]]:
    numbered = ((number, line.strip()) for number, line in enumerate(answer.splitlines(), 1))
    return (each for each in numbered if each[1])
