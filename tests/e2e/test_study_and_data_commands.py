"""The commands `polyclinic study` and `polyclinic data`, typed as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.kits.typed import answer, typed

TABLE = """PID,AGE,Stage,SEX,ARM,Response
1,50,I,1,control,yes
2,61,II,2,drug X,no
3,72,III,2,control,no
"""
MAPPING = """
[columns.patient]
source = "PID"
[columns.age]
source = "AGE"
[columns.stage]
source = "Stage"
[columns.sex]
source = "SEX"
codes = { "1" = "female", "2" = "male" }
[columns.arm]
source = "ARM"
[columns.response]
source = "Response"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert typed("study", "new", "--out", "study.toml", folder=tmp_path).status == 0
    (tmp_path / "table.csv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "map.toml").write_text(MAPPING, encoding="utf-8")
    return tmp_path


def spoil(folder: Path, old: str, new: str) -> None:
    path = folder / "study.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_new_study_can_be_checked_and_read(folder: Path) -> None:
    checked = typed("study", "check", "study.toml", folder=folder)
    assert checked.status == 0
    for fact in (
        "my-study",
        "0.1.0",
        "north, south",
        "age, stage, sex",
        "binary",
        "secure-sum",
        "1.0",
    ):
        assert fact in checked.out
    shown = typed("study", "show", "study.toml", folder=folder)
    assert shown.status == 0
    plain = " ".join(shown.out.split())
    assert "Unit: patient" in plain
    assert "Adjacency: add or remove one patient." in plain
    hashed = answer("study", "check", "study.toml", folder=folder)["hash"]
    assert hashed in plain
    sections = json.loads(typed("study", "show", "study.toml", "--json", folder=folder).out)[
        "sections"
    ]
    assert "What every patient is promised" in [section["title"] for section in sections]


def test_a_study_is_never_overwritten(folder: Path) -> None:
    before = (folder / "study.toml").read_bytes()
    again = typed("study", "new", "--out", "study.toml", folder=folder)
    assert again.status == 11
    assert "D010" in again.err
    assert (folder / "study.toml").read_bytes() == before
    assert typed("study", "new", "--out", "no/such/folder.toml", folder=folder).status == 11


def test_the_template_goes_to_standard_output_without_a_file(folder: Path) -> None:
    assert typed("study", "new", folder=folder).out == (folder / "study.toml").read_text(
        encoding="utf-8"
    )


def test_a_wrong_study_is_refused_with_place_value_and_remedy(folder: Path) -> None:
    spoil(folder, "epsilon = 1.0", "epsilon = -1.0")
    wrong = typed("study", "check", "study.toml", folder=folder)
    assert wrong.status == 10
    assert wrong.out == ""
    for word in ("S003", "study.toml, privacy.epsilon", "-1.0", "Give a positive epsilon"):
        assert word in wrong.err
    as_json = json.loads(typed("study", "check", "study.toml", "--json", folder=folder).err)
    assert as_json["error"] == "S003"
    assert as_json["problems"][0]["place"] == "study.toml, privacy.epsilon"


def test_an_absent_study_is_refused(folder: Path) -> None:
    assert typed("study", "show", "none.toml", folder=folder).status == 10


def test_a_usable_table_ends_with_status_zero_and_leaves_no_trace(folder: Path) -> None:
    before = sorted((p.name, p.read_bytes()) for p in folder.iterdir())
    done = typed("data", "check", "study.toml", "table.csv", "--map", "map.toml", folder=folder)
    assert done.status == 0
    assert done.err == ""
    assert "usable" in done.out
    assert sorted((p.name, p.read_bytes()) for p in folder.iterdir()) == before


def test_an_unusable_table_is_reported_in_full_and_then_refused(folder: Path) -> None:
    (folder / "table.csv").write_text(TABLE + "3,50,I,1,control,yes\n", encoding="utf-8")
    command = ("data", "check", "study.toml", "table.csv", "--map", "map.toml")
    done = typed(*command, folder=folder)
    assert done.status == 11
    assert "patients in several rows: 1" in " ".join(done.out.split())
    assert "D007" in done.err
    as_json = typed(*command, "--json", folder=folder)
    assert as_json.status == 11
    report = json.loads(as_json.out)
    assert report["usable"] is False
    assert report["duplicate_rows"] == 2
    assert json.loads(as_json.err)["error"] == "D007"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "D001"),
        (b"PID;AGE\n1;50\n", "D001"),
        ("PID,NAME\n1,Zoë\n".encode("latin-1"), "D002"),
        (b"", "D003"),
        (b"PID,AGE\n", "D003"),
    ],
    ids=["absent", "semicolons", "latin-1", "empty", "no rows"],
)
def test_a_file_that_is_no_table_is_refused(folder: Path, content: bytes | None, code: str) -> None:
    (folder / "table.csv").unlink()
    if content is not None:
        (folder / "table.csv").write_bytes(content)
    done = typed("data", "check", "study.toml", "table.csv", folder=folder)
    assert done.status == 11
    assert code in done.err


def test_a_mapping_that_does_not_fit_is_refused(folder: Path) -> None:
    (folder / "map.toml").write_text('[columns.age]\nsource = "ALTER"\n', encoding="utf-8")
    done = typed("data", "check", "study.toml", "table.csv", "--map", "map.toml", folder=folder)
    assert done.status == 11
    assert "D004" in done.err
    assert "'ALTER'" in done.err


def test_a_first_mapping_is_written_once_and_can_be_used(folder: Path) -> None:
    words = ("data", "map", "study.toml", "table.csv")
    printed = typed(*words, folder=folder)
    assert printed.status == 0
    assert '[columns."age"]' in printed.out
    assert '# source = "PID"' in printed.out
    assert typed(*words, "--out", "new.toml", folder=folder).status == 0
    assert (folder / "new.toml").read_text(encoding="utf-8") == printed.out
    assert typed(*words, "--out", "new.toml", folder=folder).status == 11
    done = typed("data", "check", "study.toml", "table.csv", "--map", "new.toml", folder=folder)
    assert "The patient id column is absent." in done.err


@pytest.mark.parametrize(
    "command",
    [("study", "check"), ("study", "new"), ("study", "show"), ("data", "check"), ("data", "map")],
)
def test_every_help_page_has_an_example(tmp_path: Path, command: tuple[str, str]) -> None:
    helped = typed(*command, "--help", folder=tmp_path)
    assert helped.status == 0
    assert f"polyclinic {' '.join(command)}" in " ".join(helped.out.split())
