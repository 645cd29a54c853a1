"""Whatever is put into a faultless table, at whatever share: mended exactly, or declared missing.

A deviation changes some cells of a clean table in a way whose meaning is known here, by hand. The
table must be refused and, with its own proposals in effect, be the clean table or the clean table
with those cells missing; or be usable at once because it means the same.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.kits import door_tables as made
from tests.kits.door import Door, Values

STUDIES = {
    "dose": (made.DOSE, made.dose_table),
    "surv": (made.SURV, made.surv_table),
    "bin": (made.BIN, made.bin_table),
}


def same(cell: str) -> str:
    return cell


def blank(_: str) -> str:
    return ""


def times(factor: float, digits: int = 5) -> Callable[[str], str]:
    return lambda cell: f"{float(cell) * factor:.{digits}f}"


@dataclass(frozen=True)
class Kind:
    """A deviation: what it does to a cell, and what the cell then means.

    Attributes
    ----------
    study, column
        Where.
    change
        From a clean cell to the one that stands in the table.
    means
        From the clean cell to the right value, if it is understood; blank is always right where
        `or_missing`.
    silent
        Whether it may be usable at once: it means the same to everybody.
    or_missing
        Whether the cells may be declared missing instead.
    fill
        What a person would answer.
    """

    study: str
    column: str
    change: Callable[[str], str]
    means: Callable[[str], str] = same
    silent: bool = False
    or_missing: bool = False
    fill: tuple[tuple[str, str], ...] = ()


KINDS = {
    "unreadable": Kind("dose", "weight", lambda _: "see letter", blank, fill=(("see letter", ""),)),
    "error of a spreadsheet": Kind("dose", "crp", lambda _: "#VALUE!", blank, silent=True),
    "a date": Kind("dose", "age", lambda _: "1954-03-02", blank),
    "unknown word": Kind(
        "dose", "sex", lambda _: "divers", blank, or_missing=True, fill=(("divers", ""),)
    ),
    "code outside": Kind("dose", "weight", lambda _: "-9", blank),
    "code outside, with a point": Kind("dose", "weight", lambda _: "-99.0", blank),
    "code far outside": Kind("dose", "height", lambda _: "999", blank),
    "outside the range": Kind("dose", "crp", lambda cell: f"{250 + float(cell):.2f}", blank),
    "infinite": Kind("dose", "crp", lambda _: "inf", blank),
    "huge": Kind("dose", "crp", lambda _: "1e308", blank),
    "outcome outside": Kind("dose", "dose", lambda _: "999", blank),
    "outcome just outside": Kind("dose", "dose", lambda _: "105.5", blank),
    "outcome nought": Kind("dose", "dose", lambda _: "0", blank),
    "metres": Kind("dose", "height", times(0.01)),
    "millimetres": Kind("dose", "height", times(10)),
    "inches": Kind("dose", "height", times(1 / 2.54)),
    "grams": Kind("dose", "weight", times(1000)),
    "decimal comma": Kind("dose", "crp", made.decimal_comma),
    "decimal comma in the outcome": Kind("dose", "dose", made.decimal_comma),
    "censored below": Kind("dose", "crp", lambda _: "<5", lambda _: "5", or_missing=True),
    "censored above": Kind("dose", "age", lambda _: "89+", lambda _: "89", or_missing=True),
    "censored with a word": Kind("dose", "age", lambda _: ">89", lambda _: "89", or_missing=True),
    "unit in the cell": Kind("dose", "weight", lambda cell: f"{cell} kg"),
    "unit without blank": Kind("dose", "height", lambda cell: f"{cell}cm"),
    "pounds in the cell": Kind("dose", "weight", lambda c: f"{float(c) / 0.45359237:.5f} lb"),
    "plus sign": Kind("dose", "weight", lambda cell: f"+{cell}", silent=True),
    "exponent": Kind("dose", "weight", lambda cell: f"{float(cell):.3e}", silent=True),
    "full-width digits": Kind("dose", "weight", made.full_width, silent=True),
    "arabic digits": Kind(
        "dose", "age", lambda c: c.translate({48 + i: 0x660 + i for i in range(10)}), silent=True
    ),
    "blanks round a number": Kind("dose", "weight", lambda c: f"\u00a0{c} ", silent=True),
    "zero-width in a number": Kind("dose", "weight", lambda c: f"{c}\u200b", silent=True),
    "minus sign of a typesetter": Kind("surv", "risk", lambda c: c.replace("-", "\u2212"),
                                       silent=True),
    "truth as a word": Kind("dose", "amiodarone", lambda c: "TRUE" if c == "1" else "FALSE",
                            silent=True),
    "truth with a point": Kind("dose", "amiodarone", lambda c: f"{c}.0", silent=True),
    "case": Kind("bin", "prior", str.upper),
    "case of the outcome": Kind("bin", "response", str.title),
    "zero-width in a word": Kind("bin", "response", lambda c: f"{c}\u200b", silent=True),
    "blanks round a word": Kind("bin", "response", lambda c: f" {c}\t", silent=True),
    "other strand": Kind("dose", "VKORC1", lambda c: c.translate(str.maketrans("CT", "GA")),
                         or_missing=True),
    "no call": Kind("dose", "VKORC1", lambda _: "./.", blank, silent=True),
    "no call in words": Kind("dose", "VKORC1", lambda _: "no call", blank, silent=True),
    "suballele": Kind("dose", "CYP2C9", lambda c: c.replace("*1", "*1A"), silent=True),
    "unknown allele": Kind("dose", "CYP2C9", lambda _: "*1/*97", blank, fill=(("*1/*97", ""),)),
    "time beyond a life": Kind("surv", "time", lambda _: "99999", blank),
    "negative time": Kind("surv", "time", lambda c: f"-{c}", blank),
    "time as a date": Kind("surv", "time", lambda _: "2021-05-01", blank),
    "third word of the event": Kind("surv", "event", lambda _: "2", blank,
                                    fill=(("2", ""), ("0", "0"), ("1", "1"))),
    "missing word": Kind("bin", "response", lambda _: "NA", blank, silent=True),
    "missing word of the study": Kind("bin", "prior", lambda _: "unknown", blank, silent=True,
                                      fill=(("unknown", ""),)),
}  # fmt: skip

SHARES = (0.0, 0.02, 0.1, 0.4, 0.6, 0.95, 1.0)  # 0.0 is one cell
ROWS = (9, 150)


def few(examples: int) -> settings:
    """Return settings for so many examples; a failure is small enough as it is."""
    return settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def folder() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp())
    try:
        yield place
    finally:
        shutil.rmtree(place)


def arrays(place: Path, study: str, table: made.Table) -> Values:
    """Return what training would see of a table that needs no mapping, usable or not."""
    return Door(place, study, table, "wanted.csv").values()


def equal(left: Values, right: Values) -> bool:
    """Say whether two tables give the same, to the last digits of a factor."""
    if left.patients != right.patients:
        return False
    pairs = [(left.x, right.x), (left.y, right.y), (left.mask, right.mask)]
    return all(np.allclose(a, b, rtol=0, atol=1e-4) and a.shape == b.shape for a, b in pairs)


def judged(kind: Kind, rows: int, share: float, seed: int) -> None:
    """Put a deviation into a table and see what becomes of it."""
    text, table = STUDIES[kind.study]
    clean = table(rows)
    at = made.every(share, rows, seed)
    dirty = clean.edit(kind.column, kind.change, at)
    if dirty == clean:
        return
    with folder() as place:
        right = [arrays(place, text, clean.edit(kind.column, kind.means, at))]
        missing = arrays(place, text, clean.edit(kind.column, blank, at))
        door = Door(place, text, dirty)
        answer, proposed = door.proposal()
        assert "Traceback" not in answer.said
        if answer.status == 0:
            assert equal(door.values(), right[0]), f"usable at once, and wrong: {answer.said}"
            assert kind.silent, f"usable in silence: {answer.said}"
            return
        mended = any(line.startswith("# ") for line in proposed.splitlines())
        if not mended:  # nothing to mend: nobody has a known outcome, or all are of one kind
            assert len(at) >= rows - 3, f"refused without a mending line: {answer.said}"
            return
        first, second = door.follow(1, dict(kind.fill)), None
        if first.status != 0:
            answer, proposed = door.proposal()
            if any(line.startswith("# ") for line in proposed.splitlines()):
                second = door.follow(2, dict(kind.fill))
        status = second.status if second else first.status
        if status != 0:
            assert len(at) >= rows - 3, f"not usable after its proposals: {first.said}"
            return
        allowed = [*right, missing] if kind.or_missing or kind.means is blank else right
        assert any(equal(door.values(), values) for values in allowed), (
            f"its proposals make it something else:\n{door.mapping}"
        )


@pytest.mark.parametrize("name", list(KINDS))
@few(3)
@given(rows=st.sampled_from(ROWS), share=st.sampled_from(SHARES), seed=st.integers(0, 10_000))
def test_a_deviation_is_mended_exactly_or_declared_missing(
    name: str, rows: int, share: float, seed: int
) -> None:
    judged(KINDS[name], rows, share, seed)


@few(12)
@given(
    names=st.lists(st.sampled_from(sorted(KINDS)), min_size=2, max_size=4, unique=True),
    share=st.sampled_from(SHARES[:5]),
    rows=st.sampled_from(ROWS),
    seed=st.integers(0, 10_000),
)
def test_several_deviations_at_once_never_hide_each_other(
    names: list[str], share: float, rows: int, seed: int
) -> None:
    """In other columns: each is what it would be alone."""
    kinds: dict[str, Kind] = {}
    for name in names:
        kind = KINDS[name]
        if kind.study == "dose":
            kinds.setdefault(kind.column, kind)
    clean = made.dose_table(rows)
    dirty, right, missing = clean, clean, clean
    for number, kind in enumerate(kinds.values()):
        at = made.every(share, rows, seed + number)
        dirty = dirty.edit(kind.column, kind.change, at)
        right = right.edit(kind.column, kind.means, at)
        missing = missing.edit(kind.column, blank if kind.or_missing else kind.means, at)
    if dirty == clean:
        return
    fill = {cell: word for kind in kinds.values() for cell, word in kind.fill}
    with folder() as place:
        wanted = arrays(place, made.DOSE, right)
        door = Door(place, made.DOSE, dirty)
        if door.check().status != 0:
            answer = door.follow(3, fill)
            assert answer.status == 0, answer.said
        found = door.values()
        if any(kind.or_missing for kind in kinds.values()):
            assert found.patients == wanted.patients
            return
        assert equal(found, wanted), str(door.mapping)


@pytest.mark.parametrize("rows", ROWS)
@few(3)
@given(many=st.sampled_from([1, 3, 9]), seed=st.integers(0, 10_000))
def test_a_number_given_twice_is_refused_and_mended(rows: int, many: int, seed: int) -> None:
    clean = made.bin_table(rows)
    again = [clean.rows[i] for i in made.every(many / rows, rows, seed)]
    with folder() as place:
        door = Door(place, made.BIN, clean.plus(again))
        assert door.check().status != 0
        assert door.follow().status == 0
        assert equal(door.values(), arrays(place, made.BIN, clean))


@pytest.mark.parametrize("rows", ROWS)
@few(3)
@given(many=st.sampled_from([1, 3]), seed=st.integers(0, 10_000))
def test_a_blank_number_is_refused_and_mended(rows: int, many: int, seed: int) -> None:
    clean = made.bin_table(rows)
    at = made.every(many / rows, rows, seed)
    dirty = clean.edit("patient", blank, at)
    with folder() as place:
        door = Door(place, made.BIN, dirty)
        assert door.check().status != 0
        assert door.follow().status == 0
        left = clean.keep([i for i in range(rows) if i not in at])
        assert equal(door.values(), arrays(place, made.BIN, left))


FOOTERS = ["Total", "Sum", "Summe", "(9 rows affected)", "N = 9", "End of report"]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("footer", FOOTERS)
def test_a_footer_of_the_right_width_is_no_patient(rows: int, footer: str) -> None:
    clean = made.dose_table(rows)
    dirty = clean.plus([(footer, *[""] * 11)])
    with folder() as place:
        door = Door(place, made.DOSE, dirty)
        assert door.check().status != 0
        assert door.follow().status == 0
        assert equal(door.values(), arrays(place, made.DOSE, clean))


def _seen(clean: made.Table, one: str, other: str) -> bool:
    """Say whether an exchange shows: in one row or two it looks like wrong entries."""
    if (one, other) != ("age", "crp"):
        return True
    pairs = zip(map(float, clean.column(one)), map(float, clean.column(other)), strict=True)
    return sum(not 18 <= crp <= 90 or not 0 <= age <= 200 for age, crp in pairs) >= 3


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("pair", [("height", "weight"), ("sex", "smoking"), ("age", "crp"),
                                  ("VKORC1", "CYP2C9"), ("weight", "dose")])  # fmt: skip
def test_two_columns_exchanged_are_exchanged_again_or_refused(
    rows: int, pair: tuple[str, str]
) -> None:
    one, other = pair
    clean = made.dose_table(rows)
    dirty = clean.with_column(one, clean.column(other)).with_column(other, clean.column(one))
    with folder() as place:
        right = arrays(place, made.DOSE, clean)
        without = arrays(
            place, made.DOSE, clean.edit(one, blank, range(rows)).edit(other, blank, range(rows))
        )
        door = Door(place, made.DOSE, dirty)
        fill = dict.fromkeys((*clean.column(one), *clean.column(other)), "")
        assert door.check().status != 0
        if door.follow(3, fill).status == 0 and _seen(clean, one, other):
            found = door.values()
            assert equal(found, right) or equal(found, without), str(door.mapping)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", ["age", "weight", "sex", "VKORC1", "CYP2C9", "dose", "patient"])
def test_a_column_absent_is_refused_or_told(rows: int, name: str) -> None:
    with folder() as place:
        door = Door(place, made.DOSE, made.dose_table(rows).without(name))
        answer = door.check()
        assert f"{name} is absent" in answer.said or answer.status != 0
        if name in ("dose", "patient"):
            assert answer.status != 0


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(
    "name", ["postcode", "weight_lb", "Weight2", "comment", "dose at discharge"]
)
def test_an_extra_column_is_told_and_changes_nothing(rows: int, name: str) -> None:
    clean = made.dose_table(rows)
    with folder() as place:
        door = Door(place, made.DOSE, clean.with_column(name, ["1"] * rows))
        answer = door.check()
        assert name in answer.said
        assert door.follow().status == 0
        assert equal(door.values(), arrays(place, made.DOSE, clean))
