"""Read a CSV file as its form is stated; what does not fit is refused by line number.

Nothing about the form is guessed into effect. Where a file does not fit, `seen_form` looks at how
it seems to be written, and the error says what to state in ``[table]`` of the mapping.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from polyclinic_common.errors import Code, DataError
from polyclinic_common.study.base import Part

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = (",", ";", "\t", "|")
LINES_LOOKED_AT = 200
MOST_KEPT_WORDS = 100_000
BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
ZIPPED, WORKBOOK = b"\x1f\x8b", b"PK\x03\x04"

Decimal = Literal[".", ",", "either"]
Thousands = Literal[",", ".", " ", "'"]


class TableForm(Part):
    """How a CSV file is written: ``[table]`` of a mapping.

    Attributes
    ----------
    separator : str
        Between cells.
    encoding : str
        Of a file without a byte order mark.
    skip : int
        Lines above the header that are no part of the table.
    footer : int
        Lines at the end that are no part of the table.
    comment : str, optional
        How a line begins that is no part of the table.
    decimal, thousands : str, optional
        Marks in the numbers of every column that does not state its own.
    """

    separator: Literal[",", ";", "\t", "|"] = ","
    encoding: Literal["utf-8", "utf-16", "cp1252", "latin-1"] = "utf-8"
    skip: int = Field(default=0, ge=0)
    footer: int = Field(default=0, ge=0)
    comment: str | None = Field(default=None, min_length=1)
    decimal: Decimal | None = None
    thousands: Thousands | None = None


def read_csv(path: Path, form: TableForm) -> pd.DataFrame:
    """Return a CSV file as columns of text.

    Raises
    ------
    DataError
        D001 if a row has too few or too many cells, a quotation mark stays open or two columns
        carry one name; D002 if a byte is not of the stated encoding.
    OSError
        If the file cannot be read.
    """
    import pandas as pd  # noqa: PLC0415

    lines, form = _lines(path, form)
    names: list[str] = []
    columns: list[list[str]] = []
    keep = _Kept()
    for number, cells in _rows(path, lines, form):
        if not names:
            names = _header(path, cells, lines, form)
            columns = [[] for _ in names]
            continue
        if len(cells) != len(names):
            fitted = _fitted(path, number, cells, len(names), lines, form)
        else:
            fitted = cells
        for column, cell in zip(columns, fitted, strict=True):
            column.append(keep(cell))
    named = {name: column for name, column in zip(names, columns, strict=True) if name}
    return pd.DataFrame(named, dtype=object)


class _Kept:
    """Keeps one copy of a word that stands in many cells."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}

    def __call__(self, word: str) -> str:
        if len(self.words) < MOST_KEPT_WORDS:
            return self.words.setdefault(word, word)
        return self.words.get(word, word)


def _lines(path: Path, form: TableForm) -> tuple[list[str], TableForm]:
    """Return the lines of a file and its form, with what the file itself says put in."""
    content = path.read_bytes()
    if content.startswith(ZIPPED):
        content = gzip.decompress(content)
    if content.startswith(WORKBOOK):
        raise _unreadable(path, "is a workbook", "Save the sheet as CSV (UTF-8).")
    encoding = next((e for mark, e in BYTE_ORDER_MARKS if content.startswith(mark)), form.encoding)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            Code.TABLE_ENCODING,
            f"The table {path.name} is not {encoding.upper()} text: line "
            f"{content.count(10, 0, error.start) + 1}, byte {error.start + 1} of the file.",
            'Export it again as UTF-8, or state the encoding in the mapping: [table] encoding = "'
            f'{"cp1252" if encoding == "utf-8" else "utf-8"}"',
        ) from None
    lines = list(io.StringIO(text, newline=""))
    if lines and lines[0].lower().startswith("sep=") and lines[0][4:5] in SEPARATORS:
        stated = form.model_dump() | {"separator": lines[0][4], "skip": form.skip + 1}
        form = TableForm.model_validate(stated)
    return lines, form


def _rows(path: Path, lines: list[str], form: TableForm) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the last line and the cells of every row that is not blank."""
    used = lines[form.skip : len(lines) - form.footer]
    passed = 0

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
                yield form.skip + passed, cells
    except csv.Error as error:
        raise _unreadable(
            path,
            f"cannot be read from line {form.skip + passed} on: {error}",
            "Look for a quotation mark that stays open, or a file that was cut off there.",
        ) from None


def _header(path: Path, cells: list[str], lines: list[str], form: TableForm) -> list[str]:
    names = [name.strip() for name in cells]
    _require_form(path, lines, form, len(names))
    while len(names) > 1 and not names[-1]:
        names.pop()
    if "" in names:
        raise _unreadable(
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


def _require_form(path: Path, lines: list[str], form: TableForm, width: int) -> None:
    """Refuse a file whose first rows say that it is written in another form."""
    seen = seen_form(lines, form)
    if seen == form or (width > 1 and seen.separator == form.separator and seen.skip == form.skip):
        return
    what = f"is not separated by {_name(form.separator)}"
    if seen.separator != form.separator:
        what += f" but by {_name(seen.separator)}"
    if seen.comment != form.comment:
        what = f"begins with lines of comment ({seen.comment})"
    elif seen.skip != form.skip:
        what = f"has {seen.skip} lines above its header"
    stated = "; ".join(form_lines(seen))
    raise _unreadable(path, what, f"Export it again, or state in the mapping: [table] {stated}")


def form_lines(form: TableForm) -> list[str]:
    """Return the lines of ``[table]`` that state `form`, defaults left out."""
    stated = form.model_dump(exclude_defaults=True)
    text = {"\t": "\\t"}
    return [
        f'{name} = "{text.get(value, value)}"' if isinstance(value, str) else f"{name} = {value}"
        for name, value in stated.items()
    ]


def form_of(path: Path, form: TableForm) -> TableForm:
    """Return the form in which a table's file seems to be written; `form` if it is no CSV.

    Raises
    ------
    DataError
        If the file cannot be read as text.
    """
    if path.suffix.lower() in {".parquet", ".pq"} or not path.is_file():
        return form
    try:
        lines, stated = _lines(path, form)
    except DataError as error:
        if error.code is not Code.TABLE_ENCODING or form.encoding != "utf-8":
            raise
        form = form.model_copy(update={"encoding": "cp1252"})
        lines, stated = _lines(path, form)
    return form if stated != form else seen_form(lines, form)


def seen_form(lines: list[str], form: TableForm) -> TableForm:
    """Return the form in which a file seems to be written: `form`, unless another fits better.

    The separator is the one that most of the first lines hold equally often; what stands above the
    first line with that many cells, or begins with ``#``, is above the header.
    """
    head = lines[:LINES_LOOKED_AT]
    scored = [(_regular(head, each), each == form.separator, each) for each in SEPARATORS]
    (regular, width), _, separator = max(scored)
    if not regular:
        return form
    stated = form.model_dump() | {"separator": separator}
    remarks = [line.startswith("#") for line in head]
    if form.comment is None and form.skip == 0 and remarks[0]:
        stated["comment"] = "#"
    elif form.comment is None:
        fits = [n for n, cells in _records(head, separator) if len(cells) == width and all(cells)]
        stated["skip"] = max(min(fits, default=0), form.skip)
    if separator == ";" and form.decimal is None and any(map(_decimal_comma, head)):
        stated["decimal"] = ","
    return TableForm.model_validate(stated)


def _regular(lines: list[str], separator: str) -> tuple[int, int]:
    """Return how many rows have the most frequent number of cells above one, and that number."""
    counts = Counter(len(cells) for _, cells in _records(lines, separator))
    many = [(times, width) for width, times in counts.items() if width > 1]
    return max(many, default=(0, 0))


def _records(lines: list[str], separator: str) -> list[tuple[int, list[str]]]:
    """Return rows that are not blank, each with how many lines stand before it."""
    reader = csv.reader(lines, delimiter=separator)
    found, before = [], 0
    for cells in reader:
        if cells:
            found.append((before, cells))
        before = reader.line_num
    return found


def _decimal_comma(line: str) -> bool:
    parts = [cell.split(",") for cell in line.strip().split(";")]
    return any(len(part) == 2 and part[0].isdigit() and part[1].isdigit() for part in parts)


def _fitted(
    path: Path, number: int, cells: list[str], width: int, lines: list[str], form: TableForm
) -> list[str]:
    """Return a row without empty cells beyond the header's; refuse any other row that differs."""
    if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
        return cells[:width]
    _require_form(path, lines, form, 1)
    last = number >= len(lines) - form.footer
    cause = "a footer (state `[table] footer = 1`) or " if last else ""
    raise _unreadable(
        path,
        f"has {len(cells)} cells in line {number}, and {width} in its header",
        f"It may be {cause}a file that was cut off: export it again; a cell that holds the "
        "separator needs quotation marks.",
    )


def _name(separator: str) -> str:
    names = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
    return names[separator]


def _unreadable(path: Path, what: str, remedy: str) -> DataError:
    return DataError(Code.TABLE_UNREADABLE, f"The table {path.name} {what}.", remedy)
