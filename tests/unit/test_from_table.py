"""A table gives a manifest that loads, or a coded error up front; never anything else."""

from __future__ import annotations

import csv
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from polyclinic_common.data.check import check_table
from polyclinic_common.data.values import as_text
from polyclinic_common.errors import Code, PolyclinicError
from polyclinic_common.study import Study
from polyclinic_common.study.outcomes import Binary, Survival
from polyclinic_simulations.draft.from_table import Roles, draft_study, taken_for_event
from tests.kits.small import small_table

BINARY = Roles("hospital", "response")


def draft(
    folder: Path, frame: pd.DataFrame, roles: Roles = BINARY, name: str = "t"
) -> tuple[Study, pd.DataFrame]:
    frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\r\n")
    return draft_study(folder / f"{name}.csv", roles, folder / "out")


def renamed(sites: list[str]) -> pd.DataFrame:
    return small_table(sites=len(sites)).replace(
        {"hospital": {f"site {index}": name for index, name in enumerate(sites)}}
    )


REFUSED = {
    "emoji in a site": (renamed(["north", "🏥 south"]), BINARY, "D007"),
    "bracket in a site": (renamed(["north", "[Köln]"]), BINARY, "D007"),
    "site of underscores": (renamed(["north", "___"]), BINARY, "D007"),
    "one hospital": (renamed(["north"]), BINARY, "D007"),
    "sites that are one word": (renamed(["1", "1.0"]), BINARY, "D007"),
    "no site": (small_table().assign(hospital="NA"), BINARY, "D007"),
    "outcome with a name beyond ASCII": (
        small_table().rename(columns={"response": "Ansprechen in %"}),
        Roles("hospital", "Ansprechen in %"),
        "D007",
    ),
    "a column named twice": (
        small_table(),
        Roles("hospital", "response", patient="response"),
        "D007",
    ),
    "outcome named as a published formula": (
        small_table().rename(columns={"dose": "published dose"}),
        Roles("hospital", "published dose"),
        "D007",
    ),
    "times all zero": (
        small_table().assign(days=0),
        Roles("hospital", "days", event="event"),
        "D007",
    ),
    "no feature": (small_table()[["hospital", "response"]], BINARY, "D005"),
}


@pytest.mark.parametrize(("frame", "roles", "code"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_a_study_is_refused_before_anything_is_written(
    tmp_path: Path, frame: pd.DataFrame, roles: Roles, code: str
) -> None:
    with pytest.raises(PolyclinicError) as caught:
        draft(tmp_path, frame, roles)
    assert caught.value.code == code
    assert not (tmp_path / "out").exists()
    assert "Köln" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("level", [1_234_560 + index % 9 for index in range(120)]),
        ("level", [1e15 + index for index in range(120)]),
        ("level", [index * 1e-9 for index in range(120)]),
        ("word", ["🙂\r!" if index % 2 else '"a"\\\x7f\rb' for index in range(120)]),
        ("day of visit", ["yes" if index % 2 else "no" for index in range(120)]),
        ("größe", list(range(120))),
        ("published dose", list(range(120))),
        ("row", list(range(120))),
    ],
)
def test_odd_columns_make_a_draft_that_loads_and_keeps_their_values(
    tmp_path: Path, column: str, values: list[Any]
) -> None:
    study, frame = draft(tmp_path, small_table().assign(**{column: values}))
    assert as_text(frame[column]).tolist() == as_text(pd.Series(values)).tolist()
    assert as_text(frame[study.cohort.patient_id]).is_unique
    declared = {feature.name: feature for feature in study.cohort.features}
    if column in {"größe", "published dose"}:
        assert column not in declared
        return
    feature = declared.get(column)
    if feature is not None and feature.kind == "numeric":
        low, high = feature.range
        assert low <= min(values) + (high - low) / 50
        assert high >= max(values) - (high - low) / 50


def test_a_column_named_row_stays_the_patients_own(tmp_path: Path) -> None:
    table = small_table().assign(row=[index % 30 for index in range(120)])
    study, frame = draft(tmp_path, table)
    assert study.cohort.patient_id == "row 2"
    assert frame["row"].tolist() == table["row"].astype(str).tolist()
    assert "row" in study.columns()


def test_a_range_of_seven_digits_is_exact(tmp_path: Path) -> None:
    dose = [1_234_561 + 0.25 * (index % 20) for index in range(120)]
    study, _ = draft(tmp_path, small_table().assign(dose=dose), Roles("hospital", "dose"))
    assert study.outcome.kind == "continuous"
    assert study.outcome.range == (1_234_561.0, 1_234_566.0)


def test_follow_up_that_is_mostly_zero_still_gives_a_grid(tmp_path: Path) -> None:
    days = [0.0 if index % 20 else 8.0 for index in range(120)]
    table = small_table().assign(days=days, event=["1", "0"] * 60)
    study, _ = draft(tmp_path, table, Roles("hospital", "days", event="event"))
    assert study.outcome.kind == "survival"
    assert study.outcome.grid == (1, 2, 3, 4, 5, 6, 7, 8)


@pytest.mark.parametrize("name", ["___", "cells", "Größe 1", "x" * 90])
def test_any_file_name_gives_a_draft(tmp_path: Path, name: str) -> None:
    study, _ = draft(tmp_path, small_table(), name=name)
    assert study.id.isascii()
    assert not (tmp_path / "out" / "cells.csv").exists()  # the results' name


def test_a_parquet_table_with_blanks_around_names_and_lists_for_values(tmp_path: Path) -> None:
    table = small_table().assign(seen=pd.Series([[1], [2]] * 60)).rename(columns={"age": " age "})
    table.to_parquet(tmp_path / "t.parquet")
    study, frame = draft_study(tmp_path / "t.parquet", BINARY, tmp_path / "out")
    assert "age" in study.columns()
    assert set(frame["seen"]) == {"[1]", "[2]"}


def test_the_same_table_uses_its_draft_again(tmp_path: Path) -> None:
    first, table = draft(tmp_path, small_table())
    again, same = draft(tmp_path, small_table())
    assert again.hash() == first.hash()
    pd.testing.assert_frame_equal(table, same)


@pytest.mark.parametrize("name", ["t.toml", "t-table.csv"])
def test_an_edited_draft_is_kept_and_the_command_that_goes_on_is_named(
    tmp_path: Path, name: str
) -> None:
    draft(tmp_path, small_table())
    edited = tmp_path / "out" / name
    edited.write_text(edited.read_text() + "# mine\n")
    with pytest.raises(PolyclinicError) as caught:
        draft(tmp_path, small_table())
    assert caught.value.code is Code.FILE_EXISTS
    out = tmp_path / "out"
    command = f"polyclinic simulate {out}/t.toml --data {out}/t-table.csv --out {out}"
    assert f"`{command}`" in caught.value.remedy
    assert edited.read_text().endswith("# mine\n")


def test_a_folder_that_cannot_be_used_gives_a_coded_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(PolyclinicError) as caught:
        draft(tmp_path, small_table())
    assert caught.value.code is Code.SIMULATION_OUTPUT


LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
GOOD_NAMES = ["age", "a b", "row", "row 2", "intercept", "dose/day", "site", "1.0"]
ODD_NAMES = st.sampled_from(["published x", "größe", "_", ""]) | st.text(LETTERS, max_size=5)
NUMBERS = (st.floats() | st.integers(-3, 3) | st.integers()).map(str)
WORDS = st.sampled_from(["0", "1", "1.0", "yes", " no "]) | st.text(LETTERS, max_size=4)
SITES = st.sampled_from(["north", "south", "east 1", "1", "1.0"])


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    """Return a header and rows: sites, then columns of two words, of numbers or of anything."""
    size, odd = draw(st.integers(2, 12)), draw(st.integers(0, 3)) == 0
    names = st.sampled_from(GOOD_NAMES) | ODD_NAMES if odd else st.sampled_from(GOOD_NAMES)
    header = draw(st.lists(names, min_size=3, max_size=6, unique=not odd))
    columns = [draw(st.lists(SITES | WORDS if odd else SITES, min_size=size, max_size=size))]
    for _ in header:
        words = st.sampled_from(draw(st.lists(WORDS, min_size=2, max_size=3)))
        cells = draw(st.sampled_from([words, NUMBERS, WORDS | NUMBERS]))
        columns.append(draw(st.lists(cells, min_size=size, max_size=size)))
    return [["hospital", *header], *map(list, zip(*columns, strict=True))]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(tables(), st.booleans(), st.booleans())
def test_any_table_gives_a_manifest_that_loads_or_a_coded_error(
    rows: list[list[str]], survival: bool, numbered: bool
) -> None:
    site, outcome, happened, patient, *_ = rows[0]
    roles = Roles(site, outcome, happened if survival else None, patient if numbered else None)
    with TemporaryDirectory() as folder:
        table, out = Path(folder, "t.csv"), Path(folder, "out")
        with table.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
        try:
            study, frame = draft_study(table, roles, out)
        except PolyclinicError:
            event("refused")
            assert not out.exists()
            return
        event(study.outcome.kind)
        assert set(study.columns()) <= set(frame.columns)
        assert set(as_text(frame[roles.site]).dropna()) == set(study.roster.sites)
        assert draft_study(table, roles, out)[0].hash() == study.hash()


@pytest.mark.parametrize(
    ("words", "positive"),
    [
        (("LIVING", "DECEASED"), "DECEASED"),
        (("0:LIVING", "1:DECEASED"), "1:DECEASED"),
        (("1", "2"), "2"),
        (("0", "1"), "1"),
        (("survived", "died"), "died"),
        (("nein", "ja"), "ja"),
    ],
)
def test_the_event_is_the_word_that_everybody_knows(
    tmp_path: Path, words: tuple[str, str], positive: str
) -> None:
    table = small_table().assign(event=[words[index % 2] for index in range(120)])
    study, _ = draft(tmp_path, table, Roles("hospital", "days", event="event"))
    assert isinstance(study.outcome, Survival)
    assert study.outcome.occurred == positive
    assert {study.outcome.occurred, study.outcome.censored} == set(words)


def test_an_event_that_nobody_can_know_is_asked_for(tmp_path: Path) -> None:
    table = small_table().assign(response=["a" if index % 2 else "b" for index in range(120)])
    with pytest.raises(PolyclinicError) as caught:
        draft(tmp_path, table, BINARY)
    assert "--event-is" in caught.value.remedy
    roles = Roles("hospital", "response", positive="a")
    study, _ = draft(tmp_path, table, roles)
    assert isinstance(study.outcome, Binary)
    assert (study.outcome.positive, study.outcome.negative) == ("a", "b")
    assert "Taken for the positive answer: a" in taken_for_event(study, roles)


def test_a_draft_holds_every_cell_of_its_table_or_says_how_many_it_leaves_out(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(4)
    cells = [f"{value:.3f}" for value in rng.exponential(size=120)]
    table = small_table().assign(level=["broken", *cells[1:]])
    study, frame = draft(tmp_path, table)
    for _, rows in frame.groupby(study.cohort.site):
        assert not check_table(study, rows).deviations
    text = next((tmp_path / "out").glob("*.toml")).read_text(encoding="utf-8")
    assert "1 cells are no number: missing in the drafted table" in text


def test_hospitals_with_names_as_people_write_them_can_be_drafted(tmp_path: Path) -> None:
    names = ["Universitätsklinikum Köln", "St. Mary's & Friends"]
    renamed(names).to_csv(tmp_path / "table.csv", index=False)
    study, _ = draft_study(tmp_path / "table.csv", BINARY, tmp_path / "out")
    assert sorted(study.roster.sites) == sorted(names)
