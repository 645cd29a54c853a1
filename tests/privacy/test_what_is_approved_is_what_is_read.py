"""What people read before they approve cannot be forged by the texts of a study or of a server."""

from __future__ import annotations

import copy
import tomllib
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic_client.page.overview import Overview
from polyclinic_common.cli.output import print_error, print_json
from polyclinic_common.errors import Code, ConsortiumError, Problem, StudyError
from polyclinic_common.study import parse_study
from polyclinic_common.study.load import TEMPLATE

FORBIDDEN = ("Cc", "Cf", "Zl", "Zp")
FEATURES = [
    {"name": "VKORC1", "kind": "snp", "reference": "G", "effect": "A", "source": "dbSNP"},
    {"name": "CYP2C9", "kind": "diplotype", "alleles": ["*2", "*3"], "source": "PharmVar"},
    {
        "name": "panel",
        "kind": "panel",
        "columns": ["gene 1", "gene 2"],
        "unit": "log2",
        "range": [0, 20],
        "source": "array",
    },
]
OUTCOMES = [
    {"kind": "continuous", "column": "dose", "unit": "mg", "range": [1, 9], "source": "label"},
    {"kind": "binary", "column": "ill", "positive": "yes", "negative": "no", "source": "registry"},
    {
        "kind": "survival",
        "time": "days",
        "event": "died",
        "occurred": "yes",
        "censored": "no",
        "unit": "days",
        "grid": [365, 730],
        "source": "protocol",
    },
]
Path = tuple[str | int, ...]


def full_study(outcome: int) -> dict[str, Any]:
    """Return a study in which every kind of free text stands."""
    data = tomllib.loads(TEMPLATE.read_text(encoding="utf-8"))
    data["cohort"]["features"] += copy.deepcopy(FEATURES)
    data["outcome"] = copy.deepcopy(OUTCOMES[outcome])
    data["evaluation"] = {"holdout": {"kind": "column", "column": "split", "test": "held out"}}
    if outcome == 0:
        data["treatment"] = {
            "kind": "dose",
            "column": "given",
            "unit": "mg",
            "range": [0, 9],
            "assignment": "observational",
            "source": "label",
        }
    return data


def texts(data: object, at: Path = ()) -> Iterator[Path]:
    """Give the place of every text."""
    if isinstance(data, str):
        yield at
    for key, part in data.items() if isinstance(data, dict) else ():
        yield from texts(part, (*at, key))
    for index, part in enumerate(data) if isinstance(data, list) else ():
        yield from texts(part, (*at, index))


def spoilt(data: dict[str, Any], at: Path, letter: str, where: int) -> dict[str, Any]:
    """Return the study with a letter put into one of its texts."""
    changed = copy.deepcopy(data)
    part: Any = changed
    for step in at[:-1]:
        part = part[step]
    text = part[at[-1]]
    part[at[-1]] = text[: where % (len(text) + 1)] + letter + text[where % (len(text) + 1) :]
    return changed


@pytest.mark.parametrize("outcome", range(3))
def test_the_study_without_control_characters_is_accepted(outcome: int) -> None:
    parse_study(full_study(outcome), "mine.toml")


@pytest.mark.parametrize("outcome", range(3))
@pytest.mark.parametrize("letter", ["\n", "\x1b", "\x9b", "\u202e", "\u200d", "\u2028"])
def test_no_text_of_a_study_may_hold_a_control_character(outcome: int, letter: str) -> None:
    data = full_study(outcome)
    for at in texts(data):
        with pytest.raises(StudyError) as caught:
            parse_study(spoilt(data, at, letter, 1), "mine.toml")
        assert caught.value.code is Code.STUDY_INVALID, at


@settings(max_examples=300, deadline=None)
@given(
    outcome=st.integers(0, 2),
    place=st.integers(0, 1000),
    where=st.integers(0, 100),
    letter=st.characters(categories=("Cc", "Cf", "Zl", "Zp")),
)
def test_whatever_is_accepted_holds_none(outcome: int, place: int, where: int, letter: str) -> None:
    data = full_study(outcome)
    places = list(texts(data))
    changed = spoilt(data, places[place % len(places)], letter, where)
    try:
        accepted = str(parse_study(changed, "mine.toml").canonical())
    except StudyError:
        return
    assert not any(unicodedata.category(each) in FORBIDDEN for each in accepted)
    assert letter not in accepted


def test_the_refusal_names_place_and_remedy() -> None:
    data = full_study(1) | {"title": "Harmless\n5 of 5 hospitals verified"}
    with pytest.raises(StudyError) as caught:
        parse_study(data, "mine.toml")
    (problem,) = caught.value.problems
    assert problem.place == "mine.toml, title"
    assert "U+000A" in problem.what
    assert "one line" in problem.remedy


HOSTILE = "a\x1b[8mb\u202ec\nd"


def test_a_printed_error_holds_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    """An error may hold what a server said."""
    problem = Problem(HOSTILE, HOSTILE, HOSTILE)
    error = ConsortiumError(Code.REQUEST_INVALID, HOSTILE, HOSTILE, [problem])
    print_error(error, as_json=False)
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 4
    assert not set(shown) & set("\x1b\u202e")


def test_printed_json_escapes_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"note": HOSTILE + "ü"})
    shown = capsys.readouterr().out
    assert not set(shown) & set("\x1b\u202e")
    assert "ü" in shown


def test_a_run_s_note_cannot_forge_another_line() -> None:
    """A run's state and note are the server's words."""
    shown = Overview(
        name="north",
        consortium=HOSTILE,
        address="server:1",
        server=HOSTILE,
        node=HOSTILE,
        fingerprint="1f3a",
        certificate_days=1,
        verified_peers=(),
        approved=(),
        spent=0.0,
        promised=0.0,
        limit=1.0,
        runs=(HOSTILE,),
        ticks=(),
        account=HOSTILE,
        begun_anew=(HOSTILE,),
    ).lines()
    assert not set("".join(shown)) & set("\x1b\u202e\n")
