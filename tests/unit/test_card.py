"""The model card: complete, honest about what nobody stated, and the same in every form."""

from __future__ import annotations

import datetime as dt
import html
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from polyclinic_common.bundle.bundle import bundle_of
from polyclinic_common.bundle.card import NOTICE, Card, Item
from polyclinic_common.bundle.card_fields import ASKED, FIELDS
from polyclinic_common.bundle.card_file import card_template, load_card_toml
from polyclinic_common.bundle.card_page import card_html
from polyclinic_common.bundle.chai import card_xml
from polyclinic_common.bundle.figures import Table
from polyclinic_common.bundle.here import RECALIBRATED
from polyclinic_common.bundle.local_calibration import Bins, LocalCalibration, keep, kept_at
from polyclinic_common.bundle.refit import Changed, Refit
from polyclinic_common.canonical import canonical_json
from polyclinic_common.cli.card import ADDED
from polyclinic_common.cli.model import app
from polyclinic_common.errors import BundleError, Code
from polyclinic_simulations.audit.coverage import study_of
from tests.kits.cards import evaluation_of, made_up_card, simulated_bundle, usual_card
from tests.kits.small import small_study, write_study

TRIPOD = """1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13
14 15 16 17 18a 18b 18c 18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c""".split()


def read_again(card: Card) -> Card:
    """Return a card as it is read from a bundle."""
    content = canonical_json(card.model_dump(mode="json", exclude_none=True))
    return Card.model_validate_json(content)


def test_every_item_of_tripod_is_on_the_card() -> None:
    assert len(TRIPOD) == 52
    assert {number.rstrip("abcdefg") for number in TRIPOD} == {str(n) for n in range(1, 28)}
    items = usual_card().items
    assert {f"tripod.{number}" for number in TRIPOD} <= items.keys()
    assert len(items) == sum(map(len, FIELDS.values()))


@pytest.mark.parametrize("kind", ["continuous", "binary", "survival"])
def test_a_card_is_made_of_every_kind_of_study_also_without_a_figure(kind: str) -> None:
    study = small_study(kind, evaluation={})
    card = made_up_card(study, evaluation_of(()))
    assert read_again(card) == card
    assert "is not known" in str(card.items["tripod.23a"].value)
    assert "nobody can tell" in card_html(card)


def test_what_only_people_know_is_empty_and_names_who_fills_it() -> None:
    card, asked = usual_card(), {field.id: field for field in ASKED}
    assert {item.id for item in card.empty} == asked.keys()
    page = card_html(card)
    for item in card.empty:
        assert item.who == asked[item.id].who
        assert f'<a href="#{item.id}">' in page
    assert page.count("Not filled in; to be filled in by the") == len(asked)


def test_what_people_state_stands_there_as_theirs_and_as_text() -> None:
    said = "Nobody <b>paid</b>.\n\nNobody had a say."
    card = usual_card({"tripod.18a": said})
    item = card.items["tripod.18a"]
    assert (item.source, item.value, item.who) == ("people", said, None)
    page = card_html(card)
    assert "<p>Nobody &lt;b&gt;paid&lt;/b&gt;.</p>" in page
    assert page.count("Stated by people, not checked.") == 1


def test_people_cannot_overwrite_what_the_system_states() -> None:
    card = usual_card({"privacy.promise": "perfect privacy", "tripod.23a": "the best"})
    assert card.items["privacy.promise"].source == "system"
    assert "perfect privacy" not in card_html(card)


@pytest.mark.parametrize("simulated", [False, True])
def test_it_is_said_to_be_no_medical_device_wherever_it_is_shown(simulated: bool) -> None:
    card = usual_card(simulated=simulated)
    assert card_html(card).count(NOTICE) >= 2
    assert card_xml(card).count(NOTICE) >= 2


def test_a_simulation_is_marked_in_every_form() -> None:
    card = read_again(usual_card(simulated=True))
    page, xml = card_html(card), card_xml(card)
    assert card.simulated
    assert "<title>SIMULATED: " in page
    assert '<p class="simulated" role="note"><strong>SIMULATED</strong> No hospital' in page
    assert "<ModelName>SIMULATED: " in xml
    assert "<ReleaseStage>SIMULATED: " in xml
    real = usual_card()
    assert "SIMULATED" not in card_html(real) + card_xml(real)


def test_nothing_is_claimed_that_no_law_or_authority_said() -> None:
    said = card_html(usual_card()) + card_xml(usual_card()) + card_template(small_study())
    for claim in ("required by", "by law", "compliant", "complies", "certified", "cleared", "FDA"):
        assert claim.lower() not in said.lower(), claim


def test_the_card_as_read_gives_the_same_page_and_xml() -> None:
    card = usual_card()
    again = read_again(card)
    assert again == card
    assert (card_html(again), card_xml(again)) == (card_html(card), card_xml(card))


def test_the_page_fetches_and_runs_nothing() -> None:
    page = card_html(usual_card())
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert " src=" not in page
    assert "default-src 'none'" in page


def test_a_field_is_empty_or_stated_never_both() -> None:
    for wrong in (
        {"source": "empty", "value": "x"},
        {"source": "system", "value": ""},
        {"source": "empty", "value": ""},
        {"source": "people", "value": "x", "who": "operator"},
    ):
        with pytest.raises(ValidationError):
            Item.model_validate({"id": "tripod.1", "title": "Title", **wrong})


def test_the_template_reads_as_it_is_and_asks_for_everything(tmp_path: Path) -> None:
    text = card_template(small_study())
    file = tmp_path / "card.toml"
    file.write_text(text)
    assert load_card_toml(file) == {}
    filled = "\n".join(
        line.removeprefix("# ").replace('""', f'"said {number}"') if line.endswith('= ""') else line
        for number, line in enumerate(text.splitlines())
    )
    assert max(map(len, text.splitlines())) <= 100
    file.write_text(filled)
    people = load_card_toml(file)
    assert people.keys() == {field.id for field in ASKED}
    assert len(set(people.values())) == len(ASKED)
    card = usual_card(people)
    assert not card.empty
    assert "not filled in" not in (card_html(card) + card_xml(card)).lower()


def test_every_wrong_field_of_the_file_is_named_with_a_remedy(tmp_path: Path) -> None:
    file = tmp_path / "card.toml"
    file.write_text(
        '[operator]\nfundng = "x"\ncontact = 3\nprotocol = " "\ndeveloper = "a\\u202eb"\n'
        '[hospital]\nethics = "x"\n[statistician]\nsample_size = "all"\n'
    )
    with pytest.raises(BundleError) as caught:
        load_card_toml(file)
    assert caught.value.code is Code.CARD_INVALID
    problems = {problem.place: problem for problem in caught.value.problems}
    assert problems.keys() == {
        *(f"card.toml, operator.{key}" for key in ("fundng", "contact", "protocol", "developer")),
        "card.toml, hospital",
    }
    assert "funding" in problems["card.toml, operator.fundng"].remedy
    assert "hospitals" in problems["card.toml, hospital"].remedy
    assert "U+202E" in problems["card.toml, operator.developer"].what
    assert "card-template" in caught.value.remedy


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff", b"[operator", b'[operator]\na = \x00"'])
def test_a_file_that_is_no_toml_is_refused_without_a_traceback(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "card.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        load_card_toml(file)
    assert caught.value.code is Code.CARD_UNREADABLE


def test_tables_of_the_card_name_hospitals_columns_and_votes() -> None:
    items = usual_card().items
    patients, predictors = items["tripod.21"].value, items["tripod.9b"].value
    assert isinstance(patients, Table)
    assert patients.rows[-1] == ("all", "3,000")
    assert isinstance(predictors, Table)
    assert [row[0] for row in predictors.rows] == ["sex"]
    assert "2 of 3 noisy votes" in str(items["results.votes"].value)


def test_a_table_whose_rows_do_not_fit_is_refused() -> None:
    with pytest.raises(ValidationError):
        Table(caption="x", columns=("a", "b"), rows=(("1",),))


def test_a_bundle_in_whose_figures_something_is_unknown_is_read_again() -> None:
    bundle = simulated_bundle()
    unknown = [each for group in bundle.evaluation.groups for each in group.calibration]
    assert any(each.observed is None for each in unknown)
    again = bundle_of(bundle.to_bytes(), "model")
    assert (again.evaluation, again.card) == (bundle.evaluation, bundle.card)


def test_the_commands_write_page_xml_and_template(tmp_path: Path) -> None:
    file = tmp_path / "model.polyclinic"
    file.write_bytes(simulated_bundle({"tripod.18a": "Nobody."}).to_bytes())
    page, xml = tmp_path / "card.html", tmp_path / "card.xml"
    words = ["card", str(file), "--out", str(page), "--xml", str(xml)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert f"{len(ASKED) - 1} of {len(usual_card().items)} fields" in done.output
    assert "SIMULATED" in page.read_text(encoding="utf-8")
    assert "AppliedModelCard" in xml.read_text(encoding="utf-8")
    again = CliRunner().invoke(app, words)
    assert getattr(again.exception, "code", None) is Code.FILE_EXISTS
    assert CliRunner().invoke(app, ["card", str(file)]).exit_code == 2
    printed = CliRunner().invoke(app, ["card", str(file), "--json"])
    assert Card.model_validate_json(printed.stdout).simulated
    study, _ = write_study(tmp_path)
    template = tmp_path / "card.toml"
    done = CliRunner().invoke(app, ["card-template", str(study), "--out", str(template)])
    assert done.exit_code == 0, done.output
    assert tomllib.loads(template.read_text(encoding="utf-8")).keys() == {
        "operator", "hospitals", "clinical_lead", "statistician",
    }  # fmt: skip


def shown_at(file: Path, site: Path) -> tuple[str, str, dict[str, object]]:
    """Return the page, the XML and the JSON of a card, as a hospital's folder shows them."""
    page, xml = site.with_suffix(".html"), site.with_suffix(".xml")
    words = ["card", str(file), "--out", str(page), "--xml", str(xml), "--json"]
    done = CliRunner().invoke(app, [*words, "--site", str(site)])
    assert done.exit_code == 0, done.output
    return (
        page.read_text(encoding="utf-8"),
        xml.read_text(encoding="utf-8"),
        json.loads(done.stdout),
    )


def test_what_this_hospital_recalibrated_stands_on_the_card_as_its_own_addition(
    tmp_path: Path,
) -> None:
    bundle = simulated_bundle()
    file, here, other = tmp_path / bundle.file_name, tmp_path / "here", tmp_path / "other"
    file.write_bytes(bundle.to_bytes())
    kinds: tuple[tuple[Path, Changed], ...] = ((here, "level"), (other, "nothing"))
    for site, changed in kinds:
        site.mkdir()
        found = calibration_of(bundle.digest, changed)
        keep(found, kept_at(site, bundle.digest))
    page, xml, said = shown_at(file, here)
    plain_page, plain_xml, plain = shown_at(file, other)
    added = said.pop(ADDED)
    assert added == [f"{RECALIBRATED} Done on 2026-11-29, with 137 patients."]
    assert (said, xml) == (plain, plain_xml)
    assert page.index("the operator did not sign it") < page.index("<main")
    assert added[0] in html.unescape(page.partition("<main")[0])
    assert "Recalibrated" not in plain_page
    assert "did not sign" not in plain_page


def calibration_of(digest: str, changed: Changed) -> LocalCalibration:
    return LocalCalibration(
        bundle=digest,
        made=dt.date(2026, 11, 29),
        alpha=0.1,
        patients=200,
        held_out=0,
        refit=Refit(shift=0.25, slope=1.0, changed=changed, patients=137),
        found=Bins(edges=(0.5,), patients=(100, 100), having=(20, 60)),
    )


def test_a_card_is_made_and_shown_without_torch_and_tables() -> None:
    code = """
import sys
import polyclinic_common.bundle.card_making, polyclinic_common.bundle.card_page
import polyclinic_common.bundle.chai, polyclinic_common.bundle.card_file
sys.exit(len({"torch", "opacus", "pandas"} & sys.modules.keys()))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_menu_is_said_to_flatter() -> None:
    study = study_of("binary")
    card = made_up_card(study, evaluation_of((), chosen=1))
    assert "flatter" in str(card.items["tripod.26"].value)
