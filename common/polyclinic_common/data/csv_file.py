"""Read a CSV file as its form is stated; what does not fit is refused by line number.

Nothing about the form is guessed into effect. Where a file does not fit, `seen_form` looks at how
it seems to be written, and the error says what to state in ``[table]`` of the mapping.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polyclinic_common.data.row_shape import (
    fits_header,
    lines_above,
    lines_below,
    most_frequent_width,
)
from polyclinic_common.data.text_file import Lines, lines_of, seen_encoding, unreadable, unzipped
from polyclinic_common.errors import Code, DataError
from polyclinic_common.study.base import Part

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = (",", ";", "\t", "|")
LINES_LOOKED_AT = 200
MOST_KEPT_WORDS = 20_000  # of a column
ROWS_AT_ONCE = 1000

Encoding = Literal["utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1"]
ENCODINGS = get_args(Encoding)
Decimal = Literal[".", ",", "either"]
Thousands = Literal[",", ".", " ", "'"]


class TableForm(Part):
    """How a CSV file or a sheet of a workbook is written: ``[table]`` of a mapping.

    Attributes
    ----------
    separator : str
        Between cells.
    encoding : str
        Of a file without a byte order mark.
    skip : int
        Lines above the header that are no part of the table; a line ``sep=`` is not counted.
    footer : int
        Lines at the end that are no part of the table.
    comment : str, optional
        How a line begins that is no part of the table.
    sheet : str, optional
        Name of a workbook's sheet (default: the first one shown).
    decimal, thousands : str, optional
        Marks in the numbers of every column that does not state its own.
    """

    separator: Literal[",", ";", "\t", "|"] = ","
    encoding: Encoding = "utf-8"
    skip: int = Field(default=0, ge=0)
    footer: int = Field(default=0, ge=0)
    comment: str | None = Field(default=None, min_length=1)
    sheet: str | None = Field(default=None, min_length=1)
    decimal: Decimal | None = None
    thousands: Thousands | None = None


def read_csv(path: Path, form: TableForm) -> pd.DataFrame:
    """Return a CSV file as columns of text.

    Raises
    ------
    DataError
        D001 if a row has too few or too many cells, a quotation mark stays open or two columns
        carry one name, or as `lines_of`; D002 if a byte is not of the stated encoding.
    """
    import pandas as pd  # noqa: PLC0415

    if form.sheet is not None:
        raise unreadable(path, "is no workbook", "Take `sheet` out of [table] in the mapping.")
    text, form = _lines(path, form)
    rows = _rows(path, text, form)
    _, first = next(rows, (0, None))
    if first is None:
        return pd.DataFrame()
    names = _header(path, first, text, form)
    columns: list[list[NDArray[np.object_]]] = [[] for _ in names]
    fitted = (
        cells if len(cells) == len(names) else _fitted(path, number, cells, len(names), text, form)
        for number, cells in rows
    )
    words: list[dict[str, str]] = [{} for _ in names]
    while some := list(islice(fitted, ROWS_AT_ONCE)):
        for column, kept, cells in zip(columns, words, zip(*some, strict=True), strict=True):
            few = len(kept) < MOST_KEPT_WORDS
            same = map(kept.setdefault, cells, cells) if few else cells  # one copy of a word
            column.append(np.array(list(same), dtype=object))
    empty = np.array([], dtype=object)
    named = {n: np.concatenate([empty, *c]) for n, c in zip(names, columns, strict=True) if n}
    return pd.DataFrame(named, copy=False)


def _lines(path: Path, form: TableForm) -> tuple[Lines, TableForm]:
    """Return the lines of a file and its form, with what the file itself says put in."""
    text = lines_of(path, form.encoding, SEPARATORS)
    if text.separator and form.separator == TableForm().separator:
        form = TableForm.model_validate(form.model_dump() | {"separator": text.separator})
    return text, form


def _rows(path: Path, text: Lines, form: TableForm) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the last line and the cells of every row that is not blank."""
    used = text.lines[form.skip : len(text.lines) - form.footer]
    passed = text.before + form.skip

    def wanted() -> Iterator[str]:
        nonlocal passed
        for line in used:
            passed += 1
            if form.comment is None or not line.startswith(form.comment):
                yield line

    reader = csv.reader(wanted(), delimiter=form.separator, strict=True)
    try:
        for cells in reader:
            if cells:
                yield passed, cells
    except csv.Error as error:
        raise unreadable(
            path,
            f"cannot be read from line {passed} on: {error}",
            "Look for a quotation mark that stays open, or a file that was cut off there.",
        ) from None


def _header(path: Path, cells: list[str], text: Lines, form: TableForm) -> list[str]:
    names = [name.strip() for name in cells]
    _require_form(path, text, form, len(names))
    while len(names) > 1 and not names[-1]:
        names.pop()
    if "" in names:
        raise unreadable(
            path,
            f"has no name for column {names.index('') + 1}",
            "Name it or drop it; lines above the header: state `[table] skip` in the mapping.",
        )
    refuse_repeated_names(names, path.name)
    return names


def refuse_repeated_names(names: Sequence[str], table: str) -> None:
    """Refuse two columns of one name.

    Raises
    ------
    DataError
        D001 with the name.
    """
    twice = [name for name, count in Counter(map(str.strip, map(str, names))).items() if count > 1]
    if twice:
        raise DataError(
            Code.TABLE_UNREADABLE,
            f"The table {table} has two columns named {twice[0]!r}.",
            "Rename or drop one of them.",
        )


def _require_form(path: Path, text: Lines, form: TableForm, width: int) -> None:
    """Refuse a file whose first rows say that it is written in another form."""
    seen = _seen_above(text.lines, form)
    if seen == form or (width > 1 and seen.separator == form.separator and seen.skip == form.skip):
        return
    what = f"is not separated by {_name(form.separator)}"
    if seen.separator != form.separator:
        what += f" but by {_name(seen.separator)}"
    if seen.comment != form.comment:
        what = f"begins with lines of comment ({seen.comment})"
    elif seen.skip != form.skip:
        what = f"has {seen.skip} lines above its header"
        what += ", the line sep= not counted" if text.separator else ""
    raise unreadable(path, what, _state(seen))


def _state(form: TableForm) -> str:
    return f"Export it again, or state in the mapping: [table] {'; '.join(form_lines(form))}"


def form_lines(form: TableForm) -> list[str]:
    """Return the lines of ``[table]`` that state `form`, defaults left out."""
    stated = form.model_dump(exclude_defaults=True)
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in stated.items()]


def csv_form(path: Path, form: TableForm) -> TableForm:
    """Return the form in which a CSV file seems to be written.

    Raises
    ------
    DataError
        If the file cannot be read as text.
    """
    seen = seen_encoding(unzipped(path), form.encoding)
    if seen in ENCODINGS and seen != "utf-16":
        form = TableForm.model_validate(form.model_dump() | {"encoding": seen})
    text, stated = _lines(path, form)
    found = seen_form(text.lines, stated)
    if text.separator == found.separator:
        return found.model_copy(update={"separator": form.separator})
    return found


def seen_form(lines: list[str], form: TableForm) -> TableForm:
    """Return the form in which a file seems to be written: `form`, unless another fits better.

    The separator is the one that most of the first lines hold equally often; what stands above the
    first line with that many cells, or begins with ``#``, is above the header. The last lines are
    below the table if they alone have another number of cells.
    """
    seen = _seen_above(lines, form)
    if seen.footer > 0:
        return seen
    used = [
        "\n" if seen.comment is not None and line.startswith(seen.comment) else line
        for line in lines[seen.skip :]
    ]
    return seen.model_copy(update={"footer": lines_below(used, seen.separator)})


def _seen_above(lines: list[str], form: TableForm) -> TableForm:
    """Return `form` as the first lines show it: separator, what is above the header, decimals."""
    head = lines[:LINES_LOOKED_AT]
    scored = [
        (most_frequent_width(head, each), each == form.separator, each) for each in SEPARATORS
    ]
    (regular, width), _, separator = max(scored)
    if not regular:
        return form
    stated = form.model_dump() | {"separator": separator}
    if form.comment is None and form.skip == 0 and head[0].startswith("#"):
        stated["comment"] = "#"
    elif form.comment is None:
        stated["skip"] = max(lines_above(head, separator, width), form.skip)
    if separator == ";" and form.decimal is None and any(map(_decimal_comma, head)):
        stated["decimal"] = ","
    return TableForm.model_validate(stated)


def _decimal_comma(line: str) -> bool:
    parts = [cell.split(",") for cell in line.strip().split(";")]
    return any(len(part) == 2 and part[0].isdigit() and part[1].isdigit() for part in parts)


def _fitted(
    path: Path, number: int, cells: list[str], width: int, text: Lines, form: TableForm
) -> list[str]:
    """Return a row without empty cells beyond the header's; refuse any other row that differs."""
    if fits_header(cells, width):
        return cells[:width]
    _require_form(path, text, form, 1)
    what = f"has {len(cells)} cells in line {number}, and {width} in its header"
    remedy = "a file that was cut off: export it again; a cell that holds the separator needs "
    remedy += "quotation marks."
    below = seen_form(text.lines, form).footer
    last = number >= text.before + len(text.lines) - form.footer
    if below != form.footer:
        remedy = f"a footer (look at the end, and state `[table] footer = {below}`) or {remedy}"
    elif last:
        remedy = f"a footer (state `[table] footer = {form.footer + 1}`) or {remedy}"
    raise unreadable(path, what, f"It may be {remedy}")


def _name(separator: str) -> str:
    names = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
    return names[separator]
