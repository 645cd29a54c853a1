"""What only people know of a model: the file `card.toml`, read and begun."""

from __future__ import annotations

import textwrap
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, StringConstraints, ValidationError, create_model
from pydantic_core import ErrorDetails, PydanticCustomError

from polyclinic_common.bundle.card_fields import ASKED, PEOPLE, Who, section_of
from polyclinic_common.bundle.certificate import Record
from polyclinic_common.errors import BundleError, Code, Problem
from polyclinic_common.files import decoded
from polyclinic_common.study.manifest import Study
from polyclinic_common.text import is_control, odd_letters

COMMAND = "polyclinic model card-template STUDY"
LONGEST = 20_000


def _prose(text: str) -> str:
    """Refuse a letter that moves or hides others; lines may end."""
    control = next((each for each in text if is_control(each) and each not in "\n\t"), None)
    if control is not None:
        raise PydanticCustomError(
            "control_character",
            "the text holds the control character U+{code}",
            {"code": f"{ord(control):04X}", "remedy": "Take it out."},
        )
    return text


Prose = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST, strict=True),
    AfterValidator(_prose),
]


def _section(who: Who) -> type[BaseModel]:
    fields: dict[str, Any] = {field.key: (Prose, "") for field in ASKED if field.who == who}
    return create_model(section_of(who), __base__=Record, **fields)


_SECTIONS = {section_of(who): _section(who) for who in PEOPLE}
_File = create_model(
    "_File",
    __base__=Record,
    **{name: (kind, kind()) for name, kind in _SECTIONS.items()},  # type: ignore[call-overload]
)


def load_card_toml(path: Path) -> dict[str, str]:
    """Return what people wrote about a model: text by field of the card, filled ones alone.

    Raises
    ------
    BundleError
        B040 with one problem for every unknown or wrong field; B041 if the file cannot be read.
    """
    try:
        text = decoded(path.read_bytes())
    except (OSError, UnicodeDecodeError):
        raise BundleError(
            Code.CARD_UNREADABLE,
            f"The file {path} is not there, or cannot be read as UTF-8 text.",
            f"Check the path and its permissions; `{COMMAND}` writes a first one.",
        ) from None
    try:
        read = _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BundleError(
            Code.CARD_UNREADABLE,
            f"The file {path.name} is not valid TOML: {error}.",
            odd_letters(text) or "Mend the line that is named.",
        ) from None
    except ValidationError as error:
        raise _invalid(path.name, error.errors(include_url=False)) from None
    written = read.model_dump(exclude_unset=True)
    return {
        field.id: written[section_of(field.who)][field.key]
        for field in ASKED
        if field.who is not None and field.key in written.get(section_of(field.who), {})
    }


def _invalid(name: str, details: list[ErrorDetails]) -> BundleError:
    problems = [_problem(name, detail) for detail in details]
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return BundleError(
        Code.CARD_INVALID,
        f"The file {name} has {count}.",
        f"Mend each; `{COMMAND}` writes a file with every field and what it asks.",
        problems,
    )


def _problem(name: str, detail: ErrorDetails) -> Problem:
    place = [str(step) for step in detail["loc"]]
    remedy = str(detail.get("ctx", {}).get("remedy", "Write it as text in quotation marks."))
    what = f"{detail['msg'].rstrip('.')}."
    if detail["type"] == "extra_forbidden":
        what = "The card has no such field." if len(place) > 1 else "The file has no such section."
        known = _SECTIONS[place[0]].model_fields if len(place) > 1 else _SECTIONS
        remedy = f"Remove it or correct its spelling; there are: {', '.join(known)}."
    elif detail["type"] == "string_too_short":
        what, remedy = "The text is empty.", "Write it, or leave the field out: the card says so."
    elif detail["type"] == "model_type":
        what, remedy = "This is no section.", f"Write [{place[0]}] in a line of its own."
    return Problem(f"{name}, {'.'.join(place)}", what, remedy)


def card_template(study: Study) -> str:
    """Return a first `card.toml` for a study: every field that people fill, all commented out."""
    parts = [
        f"# What only people know of a model of the study {study.id} {study.version}.\n"
        "# Take the # away from a field and write between its quotation marks. What is left out\n"
        "# stands on the card as not filled in, with who should fill it.\n"
        "# Write nothing that tells of a single patient: the card is public.\n"
    ]
    for who in PEOPLE:
        lines = [f"[{section_of(who)}]"]
        for field in ASKED:
            if field.who == who:
                asked = f"{field.title} ({field.id}): {field.asks}"
                lines += ["", *textwrap.wrap(asked, 98, initial_indent="# ",
                                             subsequent_indent="#   "),
                          f'# {field.key} = ""']  # fmt: skip
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)
