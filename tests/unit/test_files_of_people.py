"""Files that people write with whatever editor they have, and the names that they write in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from polyclinic_common.errors import Code, ConsortiumError, StudyError
from polyclinic_common.study.base import is_site_name
from polyclinic_common.study.load import TEMPLATE, load_study
from polyclinic_common.text import alike, tidy
from polyclinic_server.cli.main import app
from polyclinic_server.folder import CONFIG, ServerFolder

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_study_is_read_with_the_mark_that_an_editor_put_before_it(
    tmp_path: Path, encoding: str
) -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    file = tmp_path / "study.toml"
    file.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert load_study(file).hash() == load_study(TEMPLATE).hash()


@pytest.mark.parametrize("letter", ["\u00a0", "\u200b", "\u201c"])
def test_a_letter_that_no_eye_sees_is_named_by_line_and_column(tmp_path: Path, letter: str) -> None:
    file = tmp_path / "study.toml"
    file.write_text(f'polyclinic = 1\nid{letter} = "x"\n', encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        load_study(file)
    assert caught.value.code is Code.STUDY_SYNTAX
    assert f"Line 2, column 3 holds U+{ord(letter):04X}" in caught.value.remedy


@pytest.mark.parametrize(
    "name",
    [
        *("Universitätsklinikum Köln", "St. Mary's", "St. Mary\u2019s", "Johnson & Johnson"),
        *("'s-Hertogenbosch", "東京病院", "Hôtel-Dieu (Paris) > ICU + 2", "x" * 80, "site_1*"),
    ],
)
def test_hospitals_are_named_as_people_write_them(name: str) -> None:
    assert is_site_name(name)
    assert tidy(name) == name


@pytest.mark.parametrize(
    "name",
    ["", " a", "a  b", "-a", "a\n", "a\u200bb", "a\u202eb", "Ko\u0308ln", "[b]", "x" * 81, "'"],
)
def test_what_could_look_like_another_name_is_none(name: str) -> None:
    assert not is_site_name(name)


def test_names_are_the_same_where_people_read_the_same() -> None:
    assert alike("St. Mary\u2019s  HOSPITAL") == alike("st. mary's hospital")
    assert alike("Ko\u0308ln\u00a0\u2013 Nord") == alike("Köln - Nord")
    assert alike("Köln") != alike("Koln")


@pytest.mark.parametrize(
    "words",
    [
        ("Cons", "https://polyclinic.example.org"),
        ("Cons", "polyclinic example.org"),
        ("Cons", "a" * 79),
        ("Cons", "localhost", "--also", ""),
        ("Cons", "localhost", "--also", "a:1"),
        ("Cons", "localhost", "--first-port", "65535"),
        ("Cons", "localhost", "--first-port", "0"),
        ("Cons", "localhost", "--listen", "http://0.0.0.0"),
        ("", "localhost"),
    ],
)
def test_init_refuses_what_a_lower_layer_would_and_leaves_nothing(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    folder = tmp_path / "server"
    done = CliRunner().invoke(app, ["init", *words, "--folder", str(folder)])
    assert isinstance(done.exception, ConsortiumError), done.exception
    assert done.exception.code is Code.ADDRESS_INVALID
    assert not folder.exists()


def test_init_takes_what_people_write_and_its_settings_survive_an_editor(tmp_path: Path) -> None:
    folder, name = tmp_path / "server", "Verbund „Herz & Gefäß“ der Universitätskliniken " * 3
    words = ["init", name, "Klinikum-Köln.example.org", "--also", "[::1]", "--listen", "::"]
    done = CliRunner().invoke(app, [*words, "--folder", str(folder)])
    assert done.exit_code == 0, done.exception
    file = folder / CONFIG
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    settings = ServerFolder.open(folder).settings
    assert settings.name == name.strip()
    assert (settings.address, settings.listen) == ("xn--klinikum-kln-ejb.example.org", "::")
