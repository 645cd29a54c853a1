"""What a mapping settled is told to the hospital three times, and to nobody else.

It is in the report, on the approval screen and in the journal; what leaves holds neither counts
nor mapping nor cells.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from polyclinic_client.cli.main import app as client_app
from polyclinic_client.consortium.participation import add_data, find_study, propose
from polyclinic_client.folder.layout import JOURNAL, read_identity
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.replay import replay
from polyclinic_client.records.journal import Journal, TableEvent
from polyclinic_client.study_book.book import SETTLED, StudyBook
from polyclinic_common.consortium.statements import ANY_RUN, StudyApproval
from polyclinic_common.errors import Code, PolyclinicError
from tests.kits.loopback import Loopback
from tests.kits.recorder import Recorder
from tests.kits.small import small_table

NAME, ID, PATIENTS = "site 0", "small-binary", 157
CELLS = ("QXwomanQX", "QXmanQX", "-7.25", "QXobjectedQX")
MAPPING = f"""
[patients]
rows = "first"
exclude = ["{CELLS[3]}", "P9999"]
[columns.age]
source = "QX ALTER"
missing = ["{CELLS[2]}"]
[columns.sex]
source = "QX SEX"
codes = {{ "{CELLS[0]}" = "female", "{CELLS[1]}" = "male" }}
"""
TOLD = {
    "patient: rows left out, of patients in `exclude` (1 of 2 are in the table): 1.",
    "patient: rows of patients who have several (the first counts, as it stands): 6.",
    "age: cells taken for missing, by `missing`: 37.",
    f"sex: cells read by `codes`: {PATIENTS + 4}.",
}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Loopback]:
    made = Loopback(tmp_path)
    made.join_all()
    made.verify_all()
    made.publish()
    yield made
    made.stop()


def clean() -> pd.DataFrame:
    frame = small_table(PATIENTS, 1).astype(object)
    frame.loc[:36, "age"] = None
    return frame


def messy() -> pd.DataFrame:
    """Return the same patients as a hospital may have them."""
    frame = clean()
    frame.loc[:36, "age"] = CELLS[2]
    frame["sex"] = frame["sex"].map({"female": CELLS[0], "male": CELLS[1]})
    again, objected = frame.tail(3).assign(response="no"), frame.tail(1)
    frame = pd.concat([frame, again, objected.assign(patient=CELLS[3])], ignore_index=True)
    return frame.rename(columns={"age": "QX ALTER", "sex": "QX SEX"}).assign(remark="QX private")


def add(house: Loopback, frame: pd.DataFrame, mapping: str | None) -> set[str]:
    """Add a table as a hospital does; return what its report says was settled."""
    table, file = house.folder / "table.csv", house.folder / "own-map.toml"
    frame.to_csv(table, index=False)
    file.write_text(mapping or "", encoding="utf-8")
    with house.at(NAME) as (site, client):
        signed = find_study(client, ID)
        report, _ = add_data(site, client, signed, table, file if mapping else None)
    report.require_usable()
    return {str(each) for each in report.settled}


def notes(house: Loopback) -> list[TableEvent]:
    with Journal.open(
        house.path(NAME) / JOURNAL, read_identity(house.path(NAME)), read_only=True
    ) as journal:
        assert journal.verify()
        return [each.event for each in journal.events() if isinstance(each.event, TableEvent)]


def others_add(house: Loopback) -> None:
    for name in house.names[1:]:
        house.add(name)


def approve_typed(house: Loopback, *more: str) -> Any:
    words = ["study", "approve", ID, "--site", str(house.path(NAME)), *more]
    done = CliRunner().invoke(client_app, words, input="y\n")
    assert done.exit_code == 0, done.output
    return done


def test_a_mapping_changes_no_byte_of_what_leaves(house: Loopback, recorder: Recorder) -> None:
    """The same patients, faultless or by a mapping: the same bytes, when added and approved."""
    others_add(house)
    recorder.sent.clear()
    assert add(house, clean(), None) == set()
    without = list(recorder.sent)
    recorder.sent.clear()
    assert add(house, messy(), MAPPING) == TOLD
    assert recorder.sent == without
    recorder.sent.clear()
    approve_typed(house)
    assert recorder.sent
    for sent in (*without, *recorder.sent):
        for word in ("QX", *CELLS, "exclude", "`missing`", "codes", "the first counts", "settled"):
            assert word.encode() not in sent


def test_the_signed_approval_follows_from_public_numbers_alone(
    house: Loopback, recorder: Recorder
) -> None:
    """Byte by byte what one makes of study, roster, declared size and limits."""
    others_add(house)
    add(house, messy(), MAPPING)
    with house.at(NAME) as (site, client):
        proposal = propose(site, client, find_study(client, ID).hash)
        assert {str(each) for each in proposal.settled} == TOLD
        budget = site.ledger.budget()
        rebuilt = StudyApproval(
            identity=site.identity.public,
            study_hash=bytes.fromhex(proposal.study.hash()),
            run=ANY_RUN,
            roster_hash=proposal.checked.roster.hash(),
            declared=160,
            lost_rounds=proposal.approval.lost_rounds,
            epsilon_cap=budget.epsilon_cap,
            fallback_cap=budget.fallback_cap or 0.0,
        ).signed(site.identity)
    recorder.sent.clear()
    approve_typed(house)
    assert [rebuilt in sent for sent in recorder.sent].count(True) == 1


def test_what_was_settled_is_on_the_approval_screen_and_in_the_journal(house: Loopback) -> None:
    others_add(house)
    add(house, messy(), MAPPING)
    shown = " ".join(approve_typed(house).stderr.split())
    for each in TOLD:
        assert " ".join(each.split()) in shown
    added, approved = notes(house)
    assert (added.what, approved.what) == ("added", "approved")
    assert added.settled == approved.settled
    assert {(each.column, each.rule, each.count) for each in added.settled} == {
        ("patient", "exclude", 1),
        ("patient", "rows", 6),
        ("age", "missing", 37),
        ("sex", "codes", PATIENTS + 4),
    }
    words = ["journal", "show", "--site", str(house.path(NAME))]
    printed = " ".join(CliRunner().invoke(client_app, words).output.split())
    assert "age: cells taken for missing, by `missing`: 37." in printed
    as_json = json.loads(CliRunner().invoke(client_app, [*words, "--json"]).output)
    assert [row["what"] for row in as_json if row["entry"] == "table"] == ["added", "approved"]
    with SiteFolder.open(house.path(NAME), read_only=True) as site:
        assert replay(site.journal.events(), site.ledger).releases == 0


def test_what_is_kept_of_it_holds_no_cell(house: Loopback) -> None:
    """The mapping itself is kept, as it was; of the table's cells nothing else is."""
    add(house, messy(), MAPPING)
    (folder,) = (house.path(NAME) / "studies").iterdir()
    kept = {path: path.read_bytes() for path in house.path(NAME).rglob("*") if path.is_file()}
    assert folder / SETTLED in kept
    for path, content in kept.items():
        if path.name != "mapping.toml":
            assert not any(cell.encode() in content for cell in CELLS), path.name
    assert (folder / SETTLED).stat().st_mode & 0o777 == 0o600


def test_a_table_that_an_earlier_version_froze_is_approved_without_it(house: Loopback) -> None:
    others_add(house)
    add(house, messy(), MAPPING)
    (folder,) = (house.path(NAME) / "studies").iterdir()
    (folder / SETTLED).unlink()
    assert "settled; it stays here: nothing" in " ".join(approve_typed(house).stderr.split())


def test_a_damaged_record_of_it_stops_the_approval(house: Loopback) -> None:
    others_add(house)
    add(house, messy(), MAPPING)
    (folder,) = (house.path(NAME) / "studies").iterdir()
    (folder / SETTLED).write_bytes(b'[{"column": 7}]')
    with SiteFolder.open(house.path(NAME)) as site, pytest.raises(PolyclinicError) as caught:
        StudyBook.open(site).settled(bytes.fromhex(folder.name))
    assert caught.value.code is Code.CONSORTIUM_FILE
