"""The mapping that stands between a hospital's extract and the contract's columns.

No extract has the study's column names. A mapping file names, for each column of the contract,
the column of the extract it comes from, the factor between their units and the meaning of codes::

    [columns.weight]
    source = "GEWICHT_LB"
    factor = 0.45359237

    [columns.sex]
    source = "SEX"
    codes = { "1" = "male", "2" = "female" }
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, ValidationError

from polyclinic_common.data.table import as_number, as_text
from polyclinic_common.errors import Code, DataError, Problem
from polyclinic_common.study.base import Part
from polyclinic_common.study.describe import Declared, declared_columns
from polyclinic_common.study.manifest import Study

if TYPE_CHECKING:
    import pandas as pd

ALIKE = 0.6
MOST_LEVELS = 8


class ColumnSource(Part):
    """Where one column of the contract comes from: codes first, then ``* factor + offset``."""

    source: str = Field(min_length=1)
    factor: float = 1.0
    offset: float = 0.0
    codes: dict[str, str] | None = None


class Mapping(Part):
    """A mapping file: contract column to its source."""

    columns: dict[str, ColumnSource] = Field(default_factory=dict)


def load_mapping(path: Path) -> Mapping:
    """Read and validate the mapping file at `path`.

    Raises
    ------
    DataError
        If the file cannot be read, is no TOML or has a wrong field.
    """
    try:
        return Mapping.model_validate(tomllib.loads(path.read_bytes().decode("utf-8")))
    except ValidationError as error:
        problems = [
            Problem(
                f"{path.name}, {'.'.join(map(str, detail['loc']))}",
                f"{detail['msg']}.",
                "Correct it; `data map` shows an example.",
            )
            for detail in error.errors(include_url=False, include_input=False)
        ]
        raise _invalid(f"The mapping {path.name} is not valid.", problems) from None
    except tomllib.TOMLDecodeError as error:
        raise _invalid(f"The mapping {path.name} is not valid TOML: {error}.") from None
    except (OSError, UnicodeDecodeError):
        raise _invalid(f"The mapping {path.name} cannot be read as UTF-8 text.") from None


def _invalid(what: str, problems: Sequence[Problem] = ()) -> DataError:
    return DataError(Code.MAPPING_INVALID, what, "Mend the mapping and try again.", problems)


def apply_mapping(mapping: Mapping, frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return the extract `frame` in the contract's columns.

    A contract column that the mapping leaves out is taken from the column of the same name, where
    there is one; columns that the contract does not know are dropped.

    Raises
    ------
    DataError
        With one problem for every entry of the mapping that does not fit study or table.
    """
    import pandas as pd  # noqa: PLC0415

    problems = list(_misfits(mapping, frame, study))
    if problems:
        raise _invalid("The mapping does not fit the study and the table.", problems)
    columns = {}
    for column in study.columns():
        if column in mapping.columns:
            entry = mapping.columns[column]
            columns[column] = _translate(entry, frame[entry.source])
        elif column in frame.columns:
            columns[column] = frame[column]
    return pd.DataFrame(columns, index=frame.index)


def _misfits(mapping: Mapping, frame: pd.DataFrame, study: Study) -> Iterator[Problem]:
    contract = study.columns()
    numbers = {c for d in declared_columns(study) if d.bounds is not None for c in d.columns}
    for column, entry in mapping.columns.items():
        place = f"columns.{column}"
        if column not in contract:
            yield Problem(
                place, "The study has no such column.", "Use a name of `polyclinic study show`."
            )
        elif _is_scaled(entry) and column not in numbers:
            yield Problem(
                place, "A factor needs a column of numbers.", "Drop the factor, or use `codes`."
            )
        if entry.source not in frame.columns:
            yield Problem(
                place,
                f"The table has no column {entry.source!r}.",
                "Correct `source`; upper and lower case matter.",
            )


def _is_scaled(entry: ColumnSource) -> bool:
    return (entry.factor, entry.offset) != (1.0, 0.0)


def _translate(entry: ColumnSource, values: pd.Series) -> pd.Series:
    """Apply codes, then factor and offset; what is no number stays as it stands."""
    import pandas as pd  # noqa: PLC0415

    if entry.codes is not None:
        words = as_text(values)
        values = words.map(entry.codes).where(words.isin(list(entry.codes)), words)
    if not _is_scaled(entry):
        return values
    with np.errstate(over="ignore"):
        numbers = as_number(values) * entry.factor + entry.offset
    return pd.Series(
        np.where(np.isnan(numbers), as_text(values), numbers.astype(object)),
        index=values.index,
        dtype=object,
    )


def first_mapping(study: Study, table_columns: Sequence[str]) -> str:
    """Return a mapping file to edit: the likeliest source of every column, and what is expected."""
    guesses = guess_sources(study, table_columns)
    lines = [
        f"# Mapping of a table to the study {study.id} {study.version}. Guessed by name: check",
        "# every line, then check it: `data check` or `client data add`, with --map THIS_FILE.",
    ]
    for declared in declared_columns(study):
        for column in declared.columns:
            lines += ["", *_entry(declared, column, guesses.get(column))]
    unused = [name for name in table_columns if name not in guesses.values()]
    if unused:
        lines += ["", "# Columns of the table that are not used:"]
        lines += [f"#   {_quoted(name)}" for name in unused]
    return "\n".join(lines) + "\n"


def _entry(declared: Declared, column: str, source: str | None) -> list[str]:
    head = [f"# {declared.role}; {declared.what}"]
    if source is None:
        return [
            *head,
            f"# [columns.{_quoted(column)}]  # no column of a similar name",
            '# source = "?"',
        ]
    entry = [*head, f"[columns.{_quoted(column)}]", f"source = {_quoted(source)}"]
    if declared.bounds is not None:
        entry.append(f"# factor = 1.0  # to {declared.unit}")
    levels = declared.words[:MOST_LEVELS]
    if levels:
        pairs = ", ".join(f'"code {i + 1}" = {_quoted(word)}' for i, word in enumerate(levels))
        entry.append(f"# codes = {{ {pairs} }}")
    return entry


def _quoted(text: str) -> str:
    """Return `text` as a TOML string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def guess_sources(study: Study, table_columns: Sequence[str]) -> dict[str, str]:
    """Return the likeliest source of each contract column, each table column used at most once.

    The same name (letters and digits alone) comes first, then the greatest similarity. Columns of
    a panel are matched by the same name only: there are too many alike.
    """
    plain = {name: _plain(name) for name in table_columns}
    wanted = {c: (_plain(c), d) for d in declared_columns(study) for c in d.columns}
    by_plain = {word: name for name, word in reversed(plain.items())}
    guesses = {c: by_plain[word] for c, (word, _) in wanted.items() if word in by_plain}
    scored = [
        (SequenceMatcher(None, word, other).ratio(), column, name)
        for column, (word, declared) in wanted.items()
        if column not in guesses and len(declared.columns) == 1
        for name, other in plain.items()
    ]
    for score, column, name in sorted(scored, key=lambda entry: -entry[0]):
        if score >= ALIKE and column not in guesses and name not in guesses.values():
            guesses[column] = name
    return guesses


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
