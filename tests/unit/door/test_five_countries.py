"""One study, five hospitals in five countries: each gets in by following messages alone.

A person types `data map`, deletes `# `, types `data check --propose`, deletes `# ` and answers what
only a person can know (`codes`): three rounds at most, and the values are the clean ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.kits import door_tables as made
from tests.kits.door import Door, accepted, assert_same, values_of

STUDY = made.study(
    "response",
    "the response",
    (
        made.numeric("age", "years", 18, 90),
        made.numeric("height", "cm", 140, 210),
        made.numeric("weight", "kg", 40, 200),
        made.numeric("platelets", "10^9/L", 10, 2000),
        made.numeric("crp", "mg/L", 0, 200),
        made.worded("sex", "categorical", ("female", "male")),
        made.worded("prior", "categorical", ("yes", "no")),
    ),
    made.BIN_OUTCOME,
)
COLUMNS = ("patient", "hospital", "age", "height", "weight", "platelets", "crp", "sex", "prior",
           "response")  # fmt: skip
ROWS = 120


def clean() -> made.Table:
    """Return the study's table as it should be."""
    base = made.dose_table(ROWS, seed=7)
    answers = made.bin_table(ROWS, seed=8)
    platelets = [str(round(20 * float(cell)) + 60) for cell in base.column("crp")]
    columns = {name: base.column(name) for name in ("hospital", "age", "height", "weight", "crp",
                                                    "sex")}  # fmt: skip
    columns |= {name: answers.column(name) for name in ("prior", "response")}
    columns |= {"platelets": platelets, "patient": [f"{i + 1:06d}" for i in range(ROWS)]}
    return made.Table(COLUMNS, tuple(zip(*(columns[name] for name in COLUMNS), strict=True)))


def words(table: made.Table, name: str, said: dict[str, str]) -> made.Table:
    return table.with_column(name, [said.get(cell, cell) for cell in table.column(name)])


@dataclass(frozen=True)
class Extract:
    """A file, what is in it, and what the person there knows."""

    data: bytes
    wanted: made.Table
    codes: dict[str, str] = field(default_factory=dict)
    name: str = "extract.csv"


def germany() -> Extract:
    table = wanted = clean()
    for name in ("height", "weight", "crp"):
        table = table.edit(name, made.decimal_comma, range(ROWS))
    table = words(table, "sex", {"female": "weiblich", "male": "männlich"})
    for name in ("prior", "response"):
        table = words(table, name, {"yes": "ja", "no": "nein"})
    table = table.with_column("Aufnahme", [f"{i % 28 + 1:02d}.05.2024" for i in range(ROWS)])
    table = table.renamed(age="Alter", height="Größe", weight="Gewicht", sex="Geschlecht")
    codes = {"weiblich": "female", "männlich": "male", "ja": "yes", "nein": "no"}
    return Extract(table.text(";", "\r\n").encode("cp1252"), wanted, codes)


def usa() -> Extract:
    table = wanted = clean()
    table = table.edit("weight", lambda cell: f"{float(cell) / 0.45359237:.5f}", range(ROWS))
    table = table.edit("height", lambda cell: f"{float(cell) / 2.54:.5f}", range(ROWS))
    table = words(table, "sex", {"female": "F", "male": "M"})
    for name in ("prior", "response"):
        table = words(table, name, {"yes": "1", "no": "0"})
    at = made.every(0.2, ROWS)
    table = table.edit("crp", lambda _: "-9", at)
    wanted = wanted.edit("crp", lambda _: "", at)
    table = table.renamed(height="height_in", weight="weight_lb", patient="record_id")
    codes = {"F": "female", "M": "male", "1": "yes", "0": "no"}
    return Extract(table.text().encode(), wanted, codes)


def france() -> Extract:
    table = wanted = clean()
    for name in ("height", "weight", "crp"):
        table = table.edit(name, made.decimal_comma, range(ROWS))
    table = table.edit(
        "platelets", lambda cell: f"{int(cell):,}".replace(",", "\u202f"), range(ROWS)
    )
    table = words(table, "sex", {"female": "femme", "male": "homme"})
    for name in ("prior", "response"):
        table = words(table, name, {"yes": "oui", "no": "non"})
    table = table.renamed(age="Âge", height="Taille", weight="Poids", sex="Sexe")
    codes = {"femme": "female", "homme": "male", "oui": "yes", "non": "no"}
    return Extract(table.text(";", "\r\n").encode("utf-8-sig"), wanted, codes)


def japan() -> Extract:
    table = wanted = clean()
    for name in ("age", "height", "platelets"):
        table = table.edit(name, made.full_width, range(ROWS))
    table = words(table, "sex", {"female": "女性", "male": "男性"})
    for name in ("prior", "response"):
        table = words(table, name, {"yes": "はい", "no": "いいえ"})
    codes = {"女性": "female", "男性": "male", "はい": "yes", "いいえ": "no"}
    return Extract(table.text("\t", "\r\n").encode("utf-16"), wanted, codes)


def india() -> Extract:
    table = wanted = clean()
    low, old = made.every(0.3, ROWS, 1), made.every(0.1, ROWS, 2)
    table = table.edit("crp", lambda _: "<5", low).edit("age", lambda _: "90+", old)
    wanted = wanted.edit("crp", lambda _: "5", low).edit("age", lambda _: "90", old)
    table = table.edit("platelets", lambda cell: f"{int(cell):,}", range(ROWS))
    table = words(table, "sex", {"female": "Female", "male": "Male"})
    for name in ("prior", "response"):
        table = words(table, name, {"yes": "YES", "no": "NO"})
    title = "Department of Oncology" + "," * 9 + "\r\nExtract of 01-May-2024" + "," * 9 + "\r\n"
    data = "sep=,\r\n" + title + table.text(",", "\r\n")
    return Extract(data.encode("utf-8-sig"), wanted)


COUNTRIES: dict[str, Callable[[], Extract]] = {
    "germany": germany,
    "usa": usa,
    "france": france,
    "japan": japan,
    "india": india,
}


def by_hand(draft: str, extract: Extract) -> str:
    """Return a draft as a person leaves it: its proposals in effect."""
    return accepted(draft, extract.codes)


def test_the_clean_table_of_the_five_is_usable(tmp_path: Path) -> None:
    values_of(tmp_path / "clean", STUDY, clean())


@pytest.mark.parametrize("country", list(COUNTRIES))
def test_an_extract_gets_in_by_following_messages_alone(tmp_path: Path, country: str) -> None:
    extract = COUNTRIES[country]()
    door = Door(tmp_path, STUDY, extract.data, extract.name)
    door.mapping = by_hand(door.draft(), extract)
    answer = door.follow(3, extract.codes)
    assert answer.status == 0, f"{answer.said}\n{door.mapping}"
    wanted = values_of(tmp_path / "wanted", STUDY, extract.wanted)
    assert_same(door.values(), wanted, exact=False)


@pytest.mark.parametrize("country", list(COUNTRIES))
def test_an_extract_is_never_usable_before_somebody_looked(tmp_path: Path, country: str) -> None:
    extract = COUNTRIES[country]()
    door = Door(tmp_path, STUDY, extract.data, extract.name)
    assert door.check().status != 0
