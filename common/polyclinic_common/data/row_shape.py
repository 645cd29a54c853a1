"""What the shapes of a file's rows say of its form: separator, lines above and below the table."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

MOST_BELOW = 20


@dataclass(frozen=True)
class Row:
    """A row that is not blank: its cells, and how many lines stand before and through its end."""

    before: int
    end: int
    cells: list[str]


def rows_of(lines: Sequence[str], separator: str, *, strict: bool = False) -> list[Row]:
    """Return the rows of `lines` that are not blank.

    Raises
    ------
    csv.Error
        If `strict` and a quotation mark stays open or stands within a cell.
    """
    reader = csv.reader(lines, delimiter=separator, strict=strict)
    found, before = [], 0
    for cells in reader:
        if cells:
            found.append(Row(before, reader.line_num, cells))
        before = reader.line_num
    return found


def most_frequent_width(lines: Sequence[str], separator: str) -> tuple[int, int]:
    """Return how many rows have the most frequent number of cells above one, and that number."""
    counts = Counter(len(row.cells) for row in rows_of(lines, separator))
    many = [(times, width) for width, times in counts.items() if width > 1]
    return max(many, default=(0, 0))


def lines_above(lines: Sequence[str], separator: str, width: int) -> int:
    """Return how many lines stand above the first row with `width` cells, none of them empty."""
    fits = [
        row.before
        for row in rows_of(lines, separator)
        if len(row.cells) == width and all(row.cells)
    ]
    return min(fits, default=0)


def lines_below(lines: Sequence[str], separator: str) -> int:
    """Return how many lines at the end are no rows of the table whose header comes first.

    None if a row above them does not fit the header, if they are many, or if a single line without
    an end does not fit: that is what a file looks like that was cut off.
    """
    try:
        rows = rows_of(lines, separator, strict=True)
    except csv.Error:
        return 0
    fits = [fits_header(row.cells, len(rows[0].cells)) for row in rows]
    if not rows or fits[-1]:
        return 0
    table = rows[: fits.index(False)]
    below = len(lines) - table[-1].end
    cut_off = below == 1 and not lines[-1].endswith(("\n", "\r"))
    if any(fits[len(table) :]) or below > MOST_BELOW or len(table) <= 1 or cut_off:
        return 0
    return below


def fits_header(cells: list[str], width: int) -> bool:
    """Say whether a row has the header's cells, or only empty ones beyond them."""
    return len(cells) == width or (
        len(cells) > width and not any(cell.strip() for cell in cells[width:])
    )
