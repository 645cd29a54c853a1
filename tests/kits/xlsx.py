"""A small writer of workbooks for tests: cells as Excel stores them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
PARTS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
LINKS = "http://schemas.openxmlformats.org/package/2006/relationships"
TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
DAY, CLOCK = 1, 2
STYLES = (0, 14, 21)

Stored = str | int | float | bool | tuple[float, int] | None


def letter(place: int) -> str:
    return chr(ord("A") + place)


def cell(place: str, value: Stored) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
    if isinstance(value, tuple):
        return f'<c r="{place}" s="{value[1]}"><v>{value[0]}</v></c>'
    if isinstance(value, str) and value.startswith("#"):
        return f'<c r="{place}" t="e"><v>{value}</v></c>'
    if isinstance(value, str):
        return f'<c r="{place}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
    return f'<c r="{place}"><v>{value!r}</v></c>'


def sheet(rows: Sequence[Sequence[Stored]]) -> str:
    written = "".join(
        f'<row r="{n}">{"".join(cell(f"{letter(p)}{n}", value) for p, value in enumerate(row))}'
        "</row>"
        for n, row in enumerate(rows, 1)
    )
    return f'<worksheet xmlns="{MAIN}"><sheetData>{written}</sheetData></worksheet>'


def link(number: int, kind: str, target: str) -> str:
    return f'<Relationship Id="rId{number}" Type="{PARTS}/{kind}" Target="{target}"/>'


def workbook(sheets: Mapping[str, Sequence[Sequence[Stored]]], hidden: Sequence[str] = ()) -> bytes:
    """Return a workbook with these sheets, some of them hidden."""
    named, links = "", link(99, "styles", "styles.xml")
    for n, name in enumerate(sheets, 1):
        state = ' state="hidden"' if name in hidden else ""
        named += f'<sheet name="{name}" sheetId="{n}"{state} r:id="rId{n}"/>'
        links += link(n, "worksheet", f"worksheets/sheet{n}.xml")
    styles = "".join(f'<xf numFmtId="{number}"/>' for number in STYLES)
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{TYPES}"><Default Extension="xml" '
        f'ContentType="application/xml"/><Override PartName="/xl/workbook.xml" '
        f'ContentType="{KIND}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{LINKS}">'
        f"{link(1, 'officeDocument', 'xl/workbook.xml')}</Relationships>",
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{PARTS}"><sheets>{named}</sheets>'
        "</workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{LINKS}">{links}</Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{MAIN}"><cellXfs>{styles}</cellXfs></styleSheet>',
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in parts.items():
            packed.writestr(name, text)
        for n, rows in enumerate(sheets.values(), 1):
            packed.writestr(f"xl/worksheets/sheet{n}.xml", sheet(rows))
    return content.getvalue()
