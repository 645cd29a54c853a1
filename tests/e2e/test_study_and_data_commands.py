"""The commands `polyclinic study` and `polyclinic data`, typed as people type them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("polyclinic")
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


class Typed:
    """What a command did."""

    def __init__(self, folder: Path, *words: str):
        done = subprocess.run(
            [COMMAND, *words], cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        assert "Traceback" not in self.out + self.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert Typed(tmp_path, "study", "new", "--out", "study.toml").status == 0
    (tmp_path / "table.csv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "map.toml").write_text(MAPPING, encoding="utf-8")
    return tmp_path


def spoil(folder: Path, old: str, new: str) -> None:
    path = folder / "study.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_new_study_can_be_checked_and_read(folder: Path) -> None:
    checked = Typed(folder, "study", "check", "study.toml")
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
    shown = Typed(folder, "study", "show", "study.toml")
    assert shown.status == 0
    plain = " ".join(shown.out.split())
    assert "Unit: patient" in plain
    assert "Adjacency: add or remove one patient." in plain
    hashed = json.loads(Typed(folder, "study", "check", "study.toml", "--json").out)["hash"]
    assert hashed in plain
    sections = json.loads(Typed(folder, "study", "show", "study.toml", "--json").out)["sections"]
    assert "What every patient is promised" in [section["title"] for section in sections]


def test_a_study_is_never_overwritten(folder: Path) -> None:
    before = (folder / "study.toml").read_bytes()
    again = Typed(folder, "study", "new", "--out", "study.toml")
    assert again.status == 11
    assert "D010" in again.err
    assert (folder / "study.toml").read_bytes() == before
    assert Typed(folder, "study", "new", "--out", "no/such/folder.toml").status == 11


def test_the_template_goes_to_standard_output_without_a_file(folder: Path) -> None:
    assert Typed(folder, "study", "new").out == (folder / "study.toml").read_text(encoding="utf-8")


def test_a_wrong_study_is_refused_with_place_value_and_remedy(folder: Path) -> None:
    spoil(folder, "epsilon = 1.0", "epsilon = -1.0")
    wrong = Typed(folder, "study", "check", "study.toml")
    assert wrong.status == 10
    assert wrong.out == ""
    for word in ("S003", "study.toml, privacy.epsilon", "-1.0", "Give a positive epsilon"):
        assert word in wrong.err
    as_json = json.loads(Typed(folder, "study", "check", "study.toml", "--json").err)
    assert as_json["error"] == "S003"
    assert as_json["problems"][0]["place"] == "study.toml, privacy.epsilon"


def test_an_absent_study_is_refused(folder: Path) -> None:
    assert Typed(folder, "study", "show", "none.toml").status == 10


def test_a_usable_table_ends_with_status_zero_and_leaves_no_trace(folder: Path) -> None:
    before = sorted((p.name, p.read_bytes()) for p in folder.iterdir())
    done = Typed(folder, "data", "check", "study.toml", "table.csv", "--map", "map.toml")
    assert done.status == 0
    assert done.err == ""
    assert "usable" in done.out
    assert sorted((p.name, p.read_bytes()) for p in folder.iterdir()) == before


def test_an_unusable_table_is_reported_in_full_and_then_refused(folder: Path) -> None:
    (folder / "table.csv").write_text(TABLE + "3,50,I,1,control,yes\n", encoding="utf-8")
    command = ("data", "check", "study.toml", "table.csv", "--map", "map.toml")
    done = Typed(folder, *command)
    assert done.status == 11
    assert "patients in several rows: 1" in " ".join(done.out.split())
    assert "D007" in done.err
    as_json = Typed(folder, *command, "--json")
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
    done = Typed(folder, "data", "check", "study.toml", "table.csv")
    assert done.status == 11
    assert code in done.err


def test_a_mapping_that_does_not_fit_is_refused(folder: Path) -> None:
    (folder / "map.toml").write_text('[columns.age]\nsource = "ALTER"\n', encoding="utf-8")
    done = Typed(folder, "data", "check", "study.toml", "table.csv", "--map", "map.toml")
    assert done.status == 11
    assert "D004" in done.err
    assert "'ALTER'" in done.err


def test_a_first_mapping_is_written_once_and_can_be_used(folder: Path) -> None:
    printed = Typed(folder, "data", "map", "study.toml", "table.csv")
    assert printed.status == 0
    assert '[columns."age"]' in printed.out
    assert '# source = "PID"' in printed.out
    assert Typed(folder, "data", "map", "study.toml", "table.csv", "--out", "new.toml").status == 0
    assert (folder / "new.toml").read_text(encoding="utf-8") == printed.out
    assert Typed(folder, "data", "map", "study.toml", "table.csv", "--out", "new.toml").status == 11
    done = Typed(folder, "data", "check", "study.toml", "table.csv", "--map", "new.toml")
    assert "The patient id column is absent." in done.err


@pytest.mark.parametrize(
    "command",
    [("study", "check"), ("study", "new"), ("study", "show"), ("data", "check"), ("data", "map")],
)
def test_every_help_page_has_an_example(tmp_path: Path, command: tuple[str, str]) -> None:
    helped = Typed(tmp_path, *command, "--help")
    assert helped.status == 0
    assert f"polyclinic {' '.join(command)}" in " ".join(helped.out.split())
