"""Read a sheet of an Excel workbook (.xlsx) as columns of what people see in its cells.

Text stays text; a cell that holds a fraction stays a number, so that no mark of decimals or
thousands, which are for text, is looked for in it.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from datetime import date, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from polyclinic_common.data.csv_file import TableForm, refuse_repeated_names
from polyclinic_common.data.iso import iso_word
from polyclinic_common.data.text_file import content_of, unreadable

if TYPE_CHECKING:
    import pandas as pd
    from python_calamine import CalamineWorkbook

WORKBOOK, OLD_WORKBOOK = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
SIGNS = (WORKBOOK, OLD_WORKBOOK)
PROTECTED = "EncryptedPackage".encode("utf-16-le")
SIGNIFICANT_DIGITS = 15  # as spreadsheets show numbers: 0.1 + 0.2 is 0.3
SAVE_AGAIN = "Save the sheet as CSV (UTF-8), or the workbook anew as .xlsx"
_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml")
_ERROR_CELL = re.compile(rb'<c\b[^>]*\st="e"')

Word = str | float
Cell = int | float | str | bool | time | date | timedelta


def is_workbook(path: Path) -> bool:
    """Say whether a file begins as workbooks do."""
    return content_of(path, len(WORKBOOK)).startswith(SIGNS)


def read_workbook(path: Path, form: TableForm) -> pd.DataFrame:
    """Return a sheet's columns: of the one that `form` names, or of the first one shown.

    Raises
    ------
    DataError
        D001 if the file is damaged, protected or of another kind, the sheet is absent, a column
        has no name or that of another, or lines stand above the header that `form` does not state.
    """
    import pandas as pd  # noqa: PLC0415

    rows = _rows(path, form)
    _refuse_title(path, rows, form)
    used = rows[form.skip : len(rows) - form.footer]
    if form.comment is not None:
        used = [row for row in used if not str(row[0]).startswith(form.comment)]
    filled = [row for row in used if any(row)]
    header, *body = filled or [[]]
    held = [place for place in range(len(header)) if any(row[place] for row in filled)]
    names = [str(header[place]).strip() for place in held]
    if "" in names:
        number = held[names.index("")] + 1
        raise unreadable(path, f"has no name for column {number}", "Name it or drop it.")
    refuse_repeated_names(names, path.name)
    columns = [[row[place] for row in body] for place in held]
    return pd.DataFrame(dict(zip(names, columns, strict=True)), dtype=object)


def sheet_form(path: Path, form: TableForm) -> TableForm:
    """Return `form` with the rows that seem to stand above the header of its sheet.

    Raises
    ------
    DataError
        D001 as `read_workbook`.
    """
    return form.model_copy(update={"skip": max(form.skip, _rows_above(_rows(path, form)))})


def _refuse_title(path: Path, rows: Sequence[Sequence[Word]], form: TableForm) -> None:
    above = _rows_above(rows)
    if above > form.skip:
        raise unreadable(
            path,
            f"has {above} rows above its header",
            f"Take them out, or state in the mapping: [table] skip = {above}",
        )


def _rows_above(rows: Sequence[Sequence[Word]]) -> int:
    """Return how many rows stand above the first one of which at least half the cells are filled.

    Titles fill one cell or two; a header fills them all, or all but a forgotten name.
    """
    width = len({place for row in rows for place, cell in enumerate(row) if cell})
    filled = (number for number, row in enumerate(rows) if 2 * sum(map(bool, row)) >= width > 0)
    return next(filled, 0)


def _rows(path: Path, form: TableForm) -> list[list[Word]]:
    """Return the sheet's rows from its first on, without blank ones at the end."""
    from python_calamine import CalamineError, CalamineWorkbook  # noqa: PLC0415

    content = content_of(path)
    _require_xlsx(path, content)
    try:
        with CalamineWorkbook.from_filelike(io.BytesIO(content)) as workbook:
            sheet = workbook.get_sheet_by_name(_sheet(path, workbook, form))
            rows = [[word_of(cell) for cell in row] for row in sheet.to_python(False)]
    except CalamineError:
        raise unreadable(path, "is a damaged workbook", f"{SAVE_AGAIN}.") from None
    while rows and not any(rows[-1]):
        rows.pop()
    return rows


def _require_xlsx(path: Path, content: bytes) -> None:
    """Refuse what is no .xlsx, is damaged, or has cells that show an error."""
    if PROTECTED in content:
        raise unreadable(path, "is protected by a password", f"{SAVE_AGAIN} without a password.")
    if content.startswith(OLD_WORKBOOK):
        raise unreadable(path, "is a workbook of the old kind (.xls)", f"{SAVE_AGAIN}.")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            names = parts.namelist()
            wrong = any(_ERROR_CELL.search(parts.read(n)) for n in names if _SHEET.fullmatch(n))
    except (zipfile.BadZipFile, EOFError, NotImplementedError):
        raise unreadable(path, "is a damaged workbook", f"{SAVE_AGAIN}.") from None
    if "xl/workbook.xml" not in names:
        raise unreadable(path, "is no workbook of Excel (.xlsx)", f"Unpack it, or: {SAVE_AGAIN}.")
    if wrong:
        raise unreadable(
            path,
            "has cells that show an error, such as #N/A or #DIV/0!",
            "Mend or empty them (in every sheet), or save the sheet as CSV (UTF-8).",
        )


def _sheet(path: Path, workbook: CalamineWorkbook, form: TableForm) -> str:
    """Return the name of the sheet to read."""
    from python_calamine import SheetTypeEnum, SheetVisibleEnum  # noqa: PLC0415

    if form.sheet in workbook.sheet_names:
        return form.sheet
    shown = [
        sheet.name
        for sheet in workbook.sheets_metadata
        if sheet.typ == SheetTypeEnum.WorkSheet and sheet.visible == SheetVisibleEnum.Visible
    ]
    if form.sheet is None and shown:
        return shown[0]
    what = "shows no sheet" if form.sheet is None else f"has no sheet named {form.sheet!r}"
    named = ", ".join(map(repr, workbook.sheet_names))
    raise unreadable(path, what, f"State `[table] sheet` in the mapping: one of {named}.")


def word_of(value: Cell) -> Word:
    """Return a cell as people see it: whole numbers without a point, TRUE and FALSE, ISO days.

    A fraction is returned as a number.
    """
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        shown = value if value.is_integer() else float(f"{value:.{SIGNIFICANT_DIGITS}g}")
        return str(int(shown)) if shown.is_integer() else shown
    if isinstance(value, date):
        return iso_word(value)
    if isinstance(value, time):
        return value.isoformat()
    return str(value)
