"""What a released version signed and stored reads for ever, at the prices of then.

``tests/vectors/released/VERSION/`` holds what that version's own code wrote: ``signed.json``
(studies of every outcome and mode, with the approval that a hospital stored for each; a roster, a
declaration, an approval) and a site's folder with ledger and journal. `make_signed.py` wrote them;
nothing in such a folder is ever written again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.study_book.price import lost_rounds, plan_approval
from polyclinic_common.canonical import canonical_json
from polyclinic_common.consortium import signed as signed_module
from polyclinic_common.consortium.signed import SignedStudy, find_signed
from polyclinic_common.consortium.statements import Declaration, StudyApproval
from polyclinic_common.errors import Code, PolyclinicError
from polyclinic_common.identity.roster import Roster
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.study import Study, contract, parse_study
from polyclinic_common.study.sections import METRICS_OF
from polyclinic_common.version import VERSION
from polyclinic_simulations import simulate
from tests.kits.small import small_study, small_table, study_data

RELEASED = Path(__file__).parents[1] / "vectors/released"
VERSIONS = sorted(path.name for path in RELEASED.iterdir() if (path / "signed.json").exists())
VECTORS: dict[str, Any] = {
    version: json.loads((RELEASED / version / "signed.json").read_text(encoding="utf-8"))
    for version in VERSIONS
}
STUDIES = [
    pytest.param(version, each, id=f"{version}: {each['name']}")
    for version in VERSIONS
    for each in VECTORS[version]["studies"]
]


def signed_of(each: dict[str, Any]) -> SignedStudy:
    return SignedStudy(each["manifest"].encode(), bytes.fromhex(each["signature"]))


def read(version: str, each: dict[str, Any]) -> Study:
    return signed_of(each).read(bytes.fromhex(VECTORS[version]["operator"]))


def test_every_outcome_in_every_mode_was_signed_by_every_version() -> None:
    assert {"0dbf9b2", "0.1.0", VERSION} <= set(VERSIONS)
    for version in VERSIONS:
        read_ = [read(version, each) for each in VECTORS[version]["studies"]]
        kinds = {(study.outcome.kind, study.privacy.mode) for study in read_}
        assert len(kinds) == 9


@pytest.mark.parametrize(("version", "each"), STUDIES)
def test_a_signed_study_reads_under_its_hash_at_the_prices_of_then(
    version: str, each: dict[str, Any]
) -> None:
    study = read(version, each)
    assert study.hash() == each["hash"] == hashlib.sha256(each["manifest"].encode()).hexdigest()
    if each["approval"] is not None:
        declared = dict.fromkeys(study.roster.sites, 120)
        planned = plan_approval(study, declared, study.roster.sites[0], lost_rounds(study))
        assert planned.model_dump(mode="json") == each["approval"]


@pytest.mark.parametrize(("version", "each"), STUDIES)
def test_choices_are_read_as_signed_and_never_made_again(
    version: str, each: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other defaults of a later version change nothing in a study that was signed."""
    for table in (contract.CLIP, contract.LEARNING_RATE):
        for loss in table:
            monkeypatch.setitem(table, loss, 0.123)
    for kind, metrics in METRICS_OF.items():
        monkeypatch.setitem(METRICS_OF, kind, metrics[::-1])
    monkeypatch.setattr(contract, "MLP_LEARNING_RATE_SHARE", 0.5)
    study = read(version, each)
    as_signed = json.loads(each["manifest"])
    assert study.clip == as_signed["privacy"]["clip"] != 0.123
    assert study.learning_rate == as_signed["training"]["learning_rate"] != 0.123
    assert list(study.metrics) == as_signed["evaluation"]["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize(("version", "each"), STUDIES)
def test_a_signed_study_still_runs(version: str, each: dict[str, Any]) -> None:
    study = read(version, each)
    table = small_table()
    table["split"] = np.where(table.index % 4 == 0, "yes", "no")
    result = simulate(study, table)
    overall = result.cells[0].test.overall
    assert all(overall[metric] is not None for metric in study.metrics)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_roster_and_statements_read(version: str) -> None:
    vector = VECTORS[version]
    members = {name: bytes.fromhex(key) for name, key in vector["roster"]["members"].items()}
    assert Roster.of(members).hash().hex() == vector["roster"]["hash"]
    declared = read_signed(Declaration, bytes.fromhex(vector["declaration"]))
    approval = read_signed(StudyApproval, bytes.fromhex(vector["approval"]))
    assert (declared.name, declared.declared, declared.identity) == (
        "site 0", 120, members["site 0"],
    )  # fmt: skip
    assert approval.roster_hash.hex() == vector["roster"]["hash"]
    assert (approval.declared, approval.epsilon_cap, approval.fallback_cap) == (120, 2.0, 3.0)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_sites_ledger_and_journal_read_and_go_on(version: str, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    shutil.copytree(RELEASED / version / "site", folder)
    folder.chmod(0o700)
    for path in folder.iterdir():
        path.chmod(0o600)
    with SiteFolder.open(folder) as site:
        spent = site.ledger.budget().spent
        assert spent == pytest.approx(0.7540817012179742, rel=1e-12)
        assert len(list(site.journal.events())) == 5


# Newer studies


def newer(needs: str) -> bytes:
    plain = json.loads(canonical_json(small_study().canonical()))
    return canonical_json(plain | {"needs": needs, "what nobody knows yet": 1})


def signed(content: bytes, operator: Identity) -> SignedStudy:
    return SignedStudy(content, operator.sign(signed_module._study_body(content)))


def refused(call: Any) -> PolyclinicError:
    with pytest.raises(PolyclinicError) as caught:
        call()
    return caught.value


def test_a_newer_study_is_refused_with_the_version_that_it_needs() -> None:
    operator = Identity.generate()
    error = refused(lambda: signed(newer("12.3.4"), operator).read(operator.public))
    assert error.code is Code.STUDY_NEWER
    assert "12.3.4" in str(error)
    assert VERSION in str(error)


def test_a_newer_study_that_nobody_signed_says_nothing_of_versions() -> None:
    operator = Identity.generate()
    error = refused(lambda: signed(newer("12.3.4"), Identity.generate()).read(operator.public))
    assert error.code is Code.STUDY_SIGNATURE


@pytest.mark.parametrize("needs", [VERSION, "0.0.1", "x", "1" * 400 + ".0.0"])
def test_an_unknown_field_without_a_newer_version_is_no_study(needs: str) -> None:
    operator = Identity.generate()
    error = refused(lambda: signed(newer(needs), operator).read(operator.public))
    assert error.code is Code.STUDY_SIGNATURE


def test_a_newer_study_on_offer_does_not_hide_the_others() -> None:
    operator = Identity.generate()
    other = SignedStudy.sign(small_study(id="another"), operator)
    offered = [signed(newer("12.3.4"), operator), other]
    assert find_signed(offered, operator.public, "another") == other
    assert offered[0].heading(operator.public).title == "A small study"


def test_a_file_that_needs_a_newer_version_is_refused_too() -> None:
    error = refused(lambda: parse_study(study_data(needs="12.3.4", new=1), "study.toml"))
    assert error.code is Code.STUDY_NEWER


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({}, None),
        ({"training": {"rounds": 6, "ridge": "release"}}, "0.2.0"),
        ({"training": {"rounds": 6, "calibration": {}}}, "0.2.0"),
        ({"training": {"rounds": 6}, "needs": "0.1.7"}, "0.1.7"),
    ],
)
def test_a_study_names_the_version_that_its_fields_need(
    changes: dict[str, Any], needs: str | None
) -> None:
    study = small_study(**changes)
    assert study.needs == needs
    assert study.canonical().get("needs") == needs
