"""From a published study to an approved one, at hospitals that trust neither server nor peers."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy import update
from typer.testing import CliRunner

from polyclinic_client.cli.study import app as commands
from polyclinic_client.compute.training import OpacusGradients, local_mechanism
from polyclinic_client.consortium.offers import offers, show_study
from polyclinic_client.consortium.participation import (
    add_data,
    approve,
    find_study,
    propose,
    withdraw,
)
from polyclinic_client.folder.layout import read_identity
from polyclinic_client.folder.membership import Membership
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.run.terms import Terms
from polyclinic_client.study_book.book import StudyBook
from polyclinic_client.study_book.frozen_table import freeze
from polyclinic_client.study_book.price import planned_releases
from polyclinic_client.study_book.roster import check_roster
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.consortium.statements import (
    ANY_RUN,
    Declaration,
    StudyApproval,
    rounded,
)
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.holdout import declared_for_training
from polyclinic_common.errors import Code, PolyclinicError
from polyclinic_common.identity import certificates
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.study.manifest import Study
from polyclinic_server.consortium.publish import participants, publish_study, published_studies
from polyclinic_server.store.tables import Part, PublishedStudy
from tests.kits.loopback import Loopback
from tests.kits.noise import NoNoise
from tests.kits.recorder import Recorder
from tests.kits.small import small_study, small_table, study_data


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Loopback]:
    """Return three hospitals that know each other, and a published study."""
    made = Loopback(tmp_path)
    made.join_all()
    made.verify_all()
    made.publish()
    yield made
    made.stop()


def code_of(call: Callable[..., object], *arguments: Any, **more: Any) -> Code:
    with pytest.raises(PolyclinicError) as caught:
        call(*arguments, **more)
    assert caught.value.remedy
    return caught.value.code


def test_a_study_is_approved_by_all_and_a_node_finds_all_it_needs(three: Loopback) -> None:
    three.approve_all()
    (published,) = published_studies(three.server)
    assert published.approved == tuple(three.names)
    study_hash = bytes.fromhex(published.hash)
    assert [s.name for s in three.handle.store.approved_sites(study_hash)] == three.names
    for name in three.names:
        with SiteFolder.open(three.path(name)) as site:
            (approved,) = StudyBook.open(site).approved()
            table = StudyBook.open(site).table(study_hash)
        assert approved.study.hash() == published.hash
        assert approved.name == name
        assert dict(approved.declared) == dict.fromkeys(three.names, 60)
        assert {m.name: m.identity for m in approved.roster.members} == {
            other: read_identity(three.path(other)).public for other in three.names
        }
        assert approved.verified == frozenset(approved.roster.identities)
        assert len(Encoding(approved.study).encode(table, name)) == 60
        Terms(
            study_hash=study_hash,
            run="run",
            roster=approved.roster,
            verified=approved.verified,
            m=approved.study.m,
            c=approved.study.c,
            rounds=approved.study.training.rounds,
            plans={},
        )


def test_a_run_addresses_only_who_approved(three: Loopback) -> None:
    for name in three.names:
        three.add(name)
    for name in three.names:
        assert code_of(participants, three.server, "small-binary") == Code.RUN_TOO_FEW_SITES
        three.approve(name)
    study, found = participants(three.server, "small-binary")
    assert [(each.name, each.declared) for each in found] == [(name, 60) for name in three.names]
    for each in found:
        key = certificates.read_key(three.path(each.name) / "tls.key").public_key()
        assert load_pem_public_key(each.node_key.encode()) == key
    assert participants(three.server, study.hash()[:8])[1] == found
    assert code_of(participants, three.server, "another") == Code.STUDY_UNKNOWN
    three.handle.store.revoke("site 1")
    assert code_of(participants, three.server, "small-binary") == Code.RUN_TOO_FEW_SITES


def test_the_ledger_carries_the_approval_for_any_run(three: Loopback) -> None:
    three.approve_all()
    with SiteFolder.open(three.path("site 0")) as site:
        budget = site.ledger.budget()
        (line,) = budget.lines
        assert (line.run, line.kind, line.releases, line.lost_rounds) == (None, "gradient", 6, 1)
        assert 1.0 < budget.promised < 1.3
        assert site.ledger.approval(bytes.fromhex(line.study_hash), "any run") is not None


def test_approving_again_changes_nothing_and_withdrawing_ends_it(three: Loopback) -> None:
    three.approve_all()
    with three.at("site 0") as (site, client):
        rows = len(site.ledger.export_rows())
        approve(site, client, propose(site, client, find_study(client, "small-binary").hash))
        assert len(site.ledger.export_rows()) == rows
        withdraw(site, client, find_study(client, "small-binary").hash)
        assert StudyBook.open(site).approved() == []
        withdraw(site, client, find_study(client, "small-binary").hash)
    (published,) = published_studies(three.server)
    assert published.approved == ("site 1", "site 2")
    assert code_of(lambda: three.approve("site 0")) == Code.LEDGER_CONFLICT


def test_withdrawing_needs_no_server(three: Loopback) -> None:
    three.approve_all()
    three.handle.stop()
    with three.at("site 0") as (site, client):
        study_hash = StudyBook.open(site).find("small-binary").hash
        assert withdraw(site, client, study_hash) is False
        assert StudyBook.open(site).approved() == []
    three.restart()
    with three.at("site 0") as (site, client):
        assert withdraw(site, client, study_hash) is True
    assert published_studies(three.server)[0].approved == ("site 1", "site 2")


def test_an_approved_study_keeps_its_table(three: Loopback) -> None:
    three.approve_all()
    assert code_of(three.add, "site 0") == Code.FILE_EXISTS
    with three.at("site 0") as (site, client):
        book, signed = StudyBook.open(site), find_study(client, "small-binary")
        before = book.table(signed.hash)
        refused = code_of(book.add, signed, small_table(9, 1), b"", b"")
        assert refused == Code.FILE_EXISTS
        assert book.table(signed.hash).equals(before)


def test_an_account_that_cannot_carry_a_study_refuses_it(tmp_path: Path) -> None:
    made = Loopback(tmp_path)
    try:
        for name in made.names:
            made.join(name, epsilon_cap=0.5)
        made.verify_all()
        made.publish()
        for name in made.names:
            made.add(name)
        assert code_of(lambda: made.approve("site 0")) == Code.LEDGER_OVER_BUDGET
        (published,) = published_studies(made.server)
        assert published.approved == ()
    finally:
        made.stop()


@pytest.mark.parametrize(("delta", "refused"), [(1 / 60, True), (0.99 / 60, False)])
def test_an_account_whose_delta_leaves_a_patient_unprotected_approves_nothing(
    tmp_path: Path, delta: float, refused: bool
) -> None:
    made = Loopback(tmp_path)
    try:
        made.join("site 0", delta=delta)
        for name in made.names[1:]:
            made.join(name)
        made.verify_all()
        made.publish()
        for name in made.names:
            made.add(name)
        if refused:
            assert code_of(lambda: made.approve("site 0")) == Code.PRIVACY_DELTA
        else:
            made.approve("site 0")
        (published,) = published_studies(made.server)
        assert published.approved == (() if refused else ("site 0",))
    finally:
        made.stop()


# Studies that are refused


def test_a_study_that_the_operator_did_not_sign_is_refused(three: Loopback) -> None:
    other = SignedStudy.sign(small_study(sites=3, id="forged-study"), Identity.generate())
    three.handle.store.publish(other)
    with three.at("site 0") as (site, client):
        assert code_of(lambda: find_study(client, "forged-study")) == Code.STUDY_SIGNATURE
        assert code_of(lambda: offers(site, client)) == Code.STUDY_SIGNATURE


def test_a_study_altered_on_the_server_is_refused(three: Loopback) -> None:
    """The operator's signature is over the hash: nobody can change a letter of the manifest."""
    (kept,) = three.handle.store.studies()
    for altered in (
        kept.manifest.replace(b'"epsilon":1.0', b'"epsilon":9.0'),
        kept.manifest + b" ",
    ):
        assert altered != kept.manifest
        with three.handle.store.engine.begin() as connection:
            connection.execute(update(PublishedStudy).values(manifest=altered))
        with three.client("site 0") as client:
            assert code_of(lambda: find_study(client, "small-binary")) == Code.STUDY_SIGNATURE


def test_a_manifest_signed_in_another_form_is_refused(three: Loopback) -> None:
    """Signed by the operator, but not canonical: two byte strings for one study would be two."""
    operator = three.server.operator
    loose = json.dumps(json.loads(SignedStudy.sign(small_study(sites=3), operator).manifest))
    import hashlib

    from polyclinic_common.packing import pack

    body = pack(["polyclinic study", hashlib.sha256(loose.encode()).digest()])
    signed = SignedStudy(loose.encode(), operator.sign(body))
    assert code_of(lambda: signed.read(operator.public)) == Code.STUDY_SIGNATURE


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"roster": {"sites": ["north", "south", "east"]}}, Code.STUDY_NOT_OURS),
        ({"privacy": {"mode": "none"}}, Code.STUDY_MODE),
        ({"expires": "2020-01-01"}, Code.STUDY_EXPIRED),
    ],
)
def test_a_study_is_refused_for_what_it_says(
    three: Loopback, changes: dict[str, Any], code: Code
) -> None:
    study = small_study(sites=3, id="odd-study", **changes)
    three.handle.store.publish(SignedStudy.sign(study, three.server.operator))
    assert code_of(lambda: three.add("site 0", "odd-study")) == code
    if code is not Code.STUDY_NOT_OURS:
        assert code_of(lambda: publish_study(three.server, study)) == code


def test_an_approved_study_that_expires_is_not_answered_any_more(
    three: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.approve_all()
    with SiteFolder.open(three.path("site 0")) as site:
        monkeypatch.setattr(type(site.ledger), "today", lambda _: dt.date(2100, 1, 1))
        assert StudyBook.open(site).approved() == []


# Data


def test_data_in_another_unit_are_refused_and_leave_no_trace(
    three: Loopback, tmp_path: Path
) -> None:
    frame = small_table(200, 1)
    frame["age"] *= 12  # months
    frame.to_csv(tmp_path / "months.csv", index=False)
    with three.at("site 0") as (site, client):
        signed = find_study(client, "small-binary")
        report, declared = add_data(site, client, signed, tmp_path / "months.csv", None)
        assert (report.usable, declared) == (False, 0)
        (problem,) = report.problems
        assert problem.place == "age"
        assert "factor" in problem.remedy
        assert not (site.path / "studies").exists()
    assert three.handle.store.parts(signed.hash) == []


def test_what_is_frozen_encodes_as_what_came(tmp_path: Path) -> None:
    for kind in ("binary", "continuous", "survival"):
        study, frame = small_study(kind, sites=3), small_table(150, 1).astype(object)
        frame.loc[3, "age"], frame.loc[4, "age"], frame.loc[5, "sex"] = "unknown", 250, None
        before = Encoding(study).encode(frame, "site 0")
        after = Encoding(study).encode(freeze(study, frame), "site 0")
        for name in ("x", "y", "mask"):
            assert np.array_equal(getattr(before, name), getattr(after, name)), (kind, name)


def test_a_frozen_table_is_private_and_its_change_is_noticed(three: Loopback) -> None:
    three.approve_all()
    (folder,) = (three.path("site 0") / "studies").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in folder.iterdir())
    table = folder / "table.parquet"
    other = next((three.path("site 1") / "studies").iterdir()) / "table.parquet"
    table.write_bytes(other.read_bytes())
    with SiteFolder.open(three.path("site 0")) as site:
        refused = code_of(lambda: StudyBook.open(site).table(bytes.fromhex(folder.name)))
    assert refused == Code.SNAPSHOT_DAMAGED


def test_a_declared_size_is_round_and_holds_the_patients(three: Loopback, tmp_path: Path) -> None:
    assert [rounded(n) for n in (1, 14, 16, 444)] == [10, 10, 20, 440]
    small_table(90, 1).to_csv(tmp_path / "t.csv", index=False)
    with three.at("site 0") as (site, client):
        signed = find_study(client, "small-binary")
        refused = code_of(lambda: add_data(site, client, signed, tmp_path / "t.csv", None, 20))
        assert refused == Code.PRIVACY_PARAMETER
        assert add_data(site, client, signed, tmp_path / "t.csv", None)[1] == 90


def test_nothing_is_approved_without_data(three: Loopback) -> None:
    assert code_of(lambda: three.approve("site 0")) == Code.SNAPSHOT_ABSENT


def test_what_is_approved_is_the_study_that_data_were_added_for(three: Loopback) -> None:
    """A server that swaps a study for another of the same name gets no approval for that one."""
    for name in three.names:
        three.add(name)
    kept = small_study(sites=3)
    other = small_study(sites=3, version="9.9.9", training={"rounds": 7})
    signed = SignedStudy.sign(other, three.server.operator)
    three.handle.store.publish(signed)
    with three.at("site 0") as (site, client):
        entry = [each for each in client.studies() if each.signed.hash == signed.hash]
        assert [each.signed.read(client.membership.operator_key).id for each in entry] == [kept.id]
    asked = CliRunner().invoke(
        commands, ["approve", kept.id, "--site", str(three.path("site 0"))], input="y\n"
    )
    assert asked.exit_code == 0
    shown = " ".join(asked.stderr.split())
    for words in (
        f"{kept.id} {kept.version}: {kept.title}",
        f"hash {kept.hash()}",
        "mode secure-sum, m = 3, c = 1",
        "headline epsilon 1 at delta 1e-05",
        "fallback epsilon 1.4",
        "3 of 3 hospitals",
    ):
        assert words in shown
    with SiteFolder.open(three.path("site 0")) as site:
        assert site.ledger.approval(bytes.fromhex(kept.hash())) is not None
        assert site.ledger.approval(signed.hash) is None


# Rosters


def test_an_incomplete_roster_names_who_is_missing(three: Loopback) -> None:
    three.add("site 0")
    with pytest.raises(PolyclinicError, match="site 1, site 2") as caught:
        three.approve("site 0")
    assert caught.value.code == Code.ROSTER_INCOMPLETE


def test_unverified_peers_do_not_count(tmp_path: Path) -> None:
    made = Loopback(tmp_path)
    try:
        made.join_all()
        made.publish()
        for name in made.names:
            made.add(name)
        assert code_of(lambda: made.approve("site 0")) == Code.PEERS_UNVERIFIED
        made.verify("site 0", "site 1")
        with pytest.raises(PolyclinicError) as caught:
            made.approve("site 0")
        assert caught.value.code == Code.PEERS_UNVERIFIED
        assert "not verified: site 2" in caught.value.remedy
        made.verify("site 0", "site 2")
        made.approve("site 0")
    finally:
        made.stop()


def forge(three: Loopback, declaration: bytes) -> None:
    """Let the server say this instead of what site 1 declared."""
    with three.handle.store.engine.begin() as connection:
        changed = update(Part).where(Part.site == "site 1").values(declaration=declaration)
        connection.execute(changed)


def test_a_server_that_lies_about_the_roster_is_refused(three: Loopback) -> None:
    for name in three.names:
        three.add(name)
    (published,) = published_studies(three.server)
    study_hash = bytes.fromhex(published.hash)
    known, stranger = read_identity(three.path("site 1")), Identity.generate()

    def declared(identity: Identity, **changes: Any) -> bytes:
        fields: dict[str, Any] = {
            "study_hash": study_hash,
            "run": ANY_RUN,
            "name": "site 1",
            "declared": 60,
            "held_out": 0,
        }
        return Declaration(**(fields | {"identity": identity.public} | changes)).signed(identity)

    right = declared(known)
    lies = {
        "another hospital's key": declared(stranger),
        "a size that it did not sign": right.replace(
            (60).to_bytes(8, "big"), (6000).to_bytes(8, "big")
        ),
        "another study": declared(known, study_hash=bytes(32)),
        "one run": declared(known, run="run"),
        "a name that is not in the study": declared(known, name="site 9"),
        "a hospital twice": declared(read_identity(three.path("site 0")), name="site 0"),
        "no statement": b"",
    }
    for what, lie in lies.items():
        assert lie != right
        forge(three, lie)
        assert code_of(lambda: three.approve("site 0")) == Code.ROSTER_REFUSED, what
    forge(three, right)
    three.approve("site 0")


def test_a_hospital_in_the_roster_under_two_names_is_refused() -> None:
    """One key in two places would count twice."""
    study, keys = small_study(sites=3), [Identity.generate() for _ in range(2)]
    statements = [
        Declaration(
            identity=key.public,
            study_hash=bytes.fromhex(study.hash()),
            run=ANY_RUN,
            name=name,
            declared=10,
            held_out=0,
        ).signed(key)
        for name, key in zip(study.roster.sites, (keys[0], keys[1], keys[1]), strict=True)
    ]
    own = ("site 0", keys[0].public)
    assert code_of(lambda: check_roster(study, statements, own, {})) == Code.ROSTER_REFUSED


def test_what_was_approved_is_checked_again_when_it_is_read(three: Loopback) -> None:
    three.approve_all()
    (folder,) = (three.path("site 0") / "studies").iterdir()
    saved = {file.name: file.read_bytes() for file in folder.iterdir()}
    edits = {
        "study.json": (b'"epsilon":1.0', b'"epsilon":9.0', Code.CONSORTIUM_FILE),
        "study.sig": (saved["study.sig"][:1], b"\xff", Code.STUDY_SIGNATURE),
        "roster.bin": (b"site 2", b"site 9", Code.ROSTER_REFUSED),
    }
    for name, (old, new, code) in edits.items():
        (folder / name).write_bytes(saved[name].replace(old, new, 1))
        with SiteFolder.open(three.path("site 0")) as site:
            assert code_of(StudyBook.open(site).approved) == code, name
        (folder / name).write_bytes(saved[name])
    with SiteFolder.open(three.path("site 0")) as site:
        assert len(StudyBook.open(site).approved()) == 1


# What the server accepts


def test_a_hospital_speaks_for_itself_only(three: Loopback) -> None:
    study_hash = bytes.fromhex(published_studies(three.server)[0].hash)
    own, other = (read_identity(three.path(name)) for name in ("site 0", "site 1"))
    fields: dict[str, Any] = {
        "study_hash": study_hash,
        "run": ANY_RUN,
        "declared": 10,
        "held_out": 0,
    }
    with three.client("site 0") as client:
        for identity, name in ((other, "site 1"), (own, "site 1"), (other, "site 0")):
            signed = Declaration(identity=identity.public, name=name, **fields).signed(identity)
            assert code_of(client.declare, signed) == Code.REQUEST_INVALID
        unknown = fields | {"study_hash": bytes(32)}
        signed = Declaration(identity=own.public, name="site 0", **unknown).signed(own)
        assert code_of(lambda: client.declare(signed)) == Code.STUDY_UNKNOWN
    assert three.handle.store.parts(study_hash) == []


def test_a_roster_can_change_until_a_hospital_approves_it(three: Loopback) -> None:
    for name in three.names:
        three.add(name)
    three.add("site 0", patients=80)
    three.approve("site 1")
    assert code_of(lambda: three.add("site 0", patients=90)) == Code.ROSTER_FIXED
    three.approve("site 0")
    with SiteFolder.open(three.path("site 0")) as site:
        (approved,) = StudyBook.open(site).approved()
        assert len(StudyBook.open(site).table(bytes.fromhex(approved.study.hash()))) == 80
    assert approved.declared["site 0"] == 80


def test_an_earlier_declaration_of_one_s_own_is_refused(
    three: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that keeps an old, rightly signed size would charge this hospital by that."""
    for name in three.names:
        three.add(name)
    with SiteFolder.open(three.path("site 0")) as site:
        book = StudyBook.open(site)
        earlier = book.signed_declaration(book.find("small-binary").hash)
    three.add("site 0", patients=80)
    with three.handle.store.engine.begin() as connection:
        replaced = update(Part).where(Part.site == "site 0")
        connection.execute(replaced.values(declaration=earlier, declared=60))
    monkeypatch.setattr(type(three.handle.store), "declare", lambda *_: None)
    assert code_of(lambda: three.approve("site 0")) == Code.ROSTER_REFUSED
    monkeypatch.undo()
    three.approve("site 0")


def test_no_hospital_approves_before_all_have_declared(three: Loopback) -> None:
    """Its approval fixes the roster: the first to approve would shut the others out."""
    three.add("site 0")
    with three.at("site 0") as (site, client):
        declared = StudyBook.open(site).declaration(find_study(client, "small-binary").hash)
        early = StudyApproval(
            identity=site.identity.public,
            study_hash=declared.study_hash,
            run=ANY_RUN,
            roster_hash=bytes(32),
            declared=declared.declared,
            lost_rounds=0,
            epsilon_cap=1.0,
            fallback_cap=1.0,
        ).signed(site.identity)
        assert code_of(client.approve, early) == Code.ROSTER_INCOMPLETE
    three.approve_all()
    (published,) = published_studies(three.server)
    assert published.approved == tuple(three.names)


# What leaves


def test_nothing_of_patients_and_no_private_key_leaves_or_is_stored(
    three: Loopback, recorder: Recorder
) -> None:
    three.approve_all()
    secrets: list[bytes] = []
    for name in three.names:
        path = three.path(name)
        with SiteFolder.open(path) as site:
            secrets += [site.ledger.secret, site.identity.private]
            table = StudyBook.open(site).table(
                bytes.fromhex(published_studies(three.server)[0].hash)
            )
            site_rows = site.ledger.export_rows()
        secrets += [(path / "tls.key").read_bytes()[40:120], b"not in the contract"]
        secrets += [word.encode() for word in table["patient"]]
        assert site_rows
    secrets = [secret for secret in secrets if len(secret) >= 5]
    assert len(secrets) > 100
    seen = b"".join(recorder.sent)
    stored = b"".join(file.read_bytes() for file in three.server.path.glob("store.sqlite*"))
    assert b"polyclinic approval" in seen
    assert b"polyclinic approval" in stored
    for secret in secrets:
        assert secret not in seen
        assert secret not in stored
    assert max(map(len, recorder.sent)) < 1000


def test_invitations_are_stored_as_hashes(three: Loopback) -> None:
    invitation = three.invite("site 7")
    stored = b"".join(file.read_bytes() for file in three.server.path.glob("store.sqlite*"))
    assert invitation.secret_hash in stored
    assert invitation.secret not in stored


# Cost


@pytest.mark.parametrize(
    "training",
    [
        {"rounds": 4},
        {"rounds": 4, "strategy": "fedavg"},
        {"rounds": 4, "schedule": "sampled", "batch": 16, "epochs": 2},
    ],
)
def test_the_price_approved_is_the_price_charged(training: dict[str, Any]) -> None:
    study = small_study(sites=3, training=training, privacy={"mode": "local"})
    encoding = Encoding(study)
    cohort = encoding.encode(small_table(60, 1), "site 0")
    (planned,) = planned_releases(study, {"site 0": 60}, "site 0")
    size = declared_for_training(study, 60)
    mechanism = local_mechanism(study, OpacusGradients(study, encoding), cohort, size, NoNoise())
    assert planned.headline == planned.fallback == mechanism.charge


def test_plain_words_say_cost_peers_and_what_leaves(three: Loopback) -> None:
    with three.at("site 0") as (site, client):
        signed = find_study(client, "small-binary")
        text = words(show_study(site, client, signed).sections)
        assert "not known yet" in text
        for part in ("Headline: epsilon 1", "2 of 2 other hospitals verified", "under masks"):
            assert part in text
        assert "whose key is pinned" in text
        assert "sex, response: where only one hospital has a certain value" in text
    three.approve_all()
    with three.at("site 0") as (site, client):
        text = words(show_study(site, client, signed).sections)
        assert "At most epsilon 1." in text
        assert "fallback 1.4" in text
        (offer,) = offers(site, client)
    assert (offer.declared, offer.approved, offer.here) == (3, 3, "approved")


def words(sections: Any) -> str:
    return "\n".join(line for section in sections for line in section.lines)


def test_a_study_crosses_as_one_string_of_bytes() -> None:
    """What is signed, read and hashed again is the study that was published, for every kind."""
    operator = Identity.generate()
    for kind in ("binary", "continuous", "survival"):
        study = small_study(kind, sites=4)
        signed = SignedStudy.sign(study, operator)
        back = signed.read(operator.public)
        assert back.hash() == study.hash() == signed.hash.hex()
        assert isinstance(back, Study)
        assert math.isclose(back.privacy.epsilon, study.privacy.epsilon)


def test_a_site_that_has_not_joined_is_told_so(tmp_path: Path) -> None:
    with SiteFolder.create(tmp_path / "site", delta=1e-5, epsilon_cap=1.0) as site:
        assert code_of(lambda: StudyBook.open(site)) == Code.NOT_JOINED
    assert code_of(lambda: Membership.read(tmp_path)) == Code.NOT_JOINED
    assert study_data("binary", 3)["id"] == "small-binary"
