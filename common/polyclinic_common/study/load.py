"""Read a manifest and say in plain words what is wrong with it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from polyclinic_common.errors import Code, Problem, StudyError
from polyclinic_common.files import decoded
from polyclinic_common.study.manifest import Study
from polyclinic_common.text import odd_letters
from polyclinic_common.version import VERSION, VERSION_RULE, is_newer

TEMPLATE = Path(__file__).with_name("template.toml")

REMEDIES = {
    "missing": "Add this field; `polyclinic study new` shows an example.",
    "extra_forbidden": "Remove it or correct its spelling; `polyclinic study new` lists all.",
    "union_tag_invalid": "Choose one of the kinds named.",
    "union_tag_not_found": "Add `kind`.",
}
DEFAULT_REMEDY = "Correct the value; `polyclinic study new` shows an example."


def load_study(path: Path) -> Study:
    """Read and validate the manifest at `path`.

    Raises
    ------
    StudyError
        With one problem for every wrong field: its place, its value and a remedy.
    """
    try:
        text = decoded(path.read_bytes())
    except FileNotFoundError:
        raise StudyError(
            Code.STUDY_UNREADABLE,
            f"There is no study file {path}.",
            "Check the path; `polyclinic study new` writes a first one.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(
            Code.STUDY_UNREADABLE,
            f"The study file {path} cannot be read as UTF-8 text.",
            "Check its permissions and its encoding.",
        ) from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(
            Code.STUDY_SYNTAX,
            f"The study file {path} is not valid TOML: {error}.",
            odd_letters(text) or "Mend the line that is named.",
        ) from error
    return parse_study(data, path.name)


def refuse_newer(data: Mapping[str, Any]) -> None:
    """Refuse a study that says it needs a newer version than this one.

    Raises
    ------
    StudyError
        S006, with the version.
    """
    needs = data.get("needs")
    if isinstance(needs, str) and VERSION_RULE.fullmatch(needs) and is_newer(needs):
        raise StudyError(
            Code.STUDY_NEWER,
            f"The study {data.get('id')} needs Polyclinic {needs} or newer; this is {VERSION}.",
            f"Install version {needs} here; nothing of the site's folder has to change.",
        )


def parse_study(data: dict[str, Any], file_name: str) -> Study:
    """Validate plain data as a study; `file_name` is only named in problems.

    Raises
    ------
    StudyError
        S003 with one problem for every wrong field; S006 if it needs a newer version.
    """
    refuse_newer(data)
    try:
        # As JSON, strict validation takes lists for tuples and texts for dates, and nothing else.
        study = Study.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise _invalid(file_name, [_problem(detail, file_name) for detail in details]) from error
    train = len(study.training_sites)
    if study.m > train:
        what = f"A round needs m = {study.m} hospitals, and {train} train."
        remedy = "Lower m, or leave m and c out to take the defaults."
        raise _invalid(file_name, [Problem(f"{file_name}, privacy.m", what, remedy)])
    return study.with_needs()


def _invalid(file_name: str, problems: list[Problem]) -> StudyError:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return StudyError(
        Code.STUDY_INVALID,
        f"The study {file_name} has {count}.",
        "Mend each and run `polyclinic study check` again.",
        problems,
    )


def _problem(detail: ErrorDetails, file_name: str) -> Problem:
    context = detail.get("ctx", {})
    where = str(context.get("at") or ".".join(str(step) for step in detail["loc"]) or "study")
    remedy = str(context.get("remedy") or REMEDIES.get(detail["type"], DEFAULT_REMEDY))
    what = detail["msg"].rstrip(".")
    value = detail["input"]
    if detail["type"] != "missing" and isinstance(value, str | int | float | bool):
        what += f" (found {value!r})"
    return Problem(f"{file_name}, {where}", f"{what}.", remedy)
