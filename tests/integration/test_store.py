"""The store of a server: migrations, and what survives where."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.orm.exc import DetachedInstanceError

from polyclinic_common.consortium.invitation import Invitation
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.errors import Code, PolyclinicError
from polyclinic_common.identity import certificates
from polyclinic_common.identity.site_key import Identity
from polyclinic_server.store.migrate import MIGRATIONS
from polyclinic_server.store.store import Store
from polyclinic_server.store.tables import Table
from tests.kits.small import small_study

AUTHORITY = certificates.Authority.create("Test consortium")


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'store.sqlite'}"


def invite(store: Store, name: str) -> Invitation:
    invitation = Invitation.create("localhost", 1, name, store.now() + 60, AUTHORITY.certificate)
    store.invite(invitation)
    return invitation


def join(store: Store, invitation: Invitation, identity: bytes = b"", seconds: float = 0.0) -> None:
    """Use an invitation; making the certificate takes so many seconds."""
    key = certificates.generate_key().public_key()

    def certify(name: str) -> certificates.Certificate:
        time.sleep(seconds)
        return AUTHORITY.certify_site(key, name)

    store.join(
        invitation.id,
        identity or Identity.generate().public,
        certificates.public_bytes(key),
        certify,
    )


def test_migrations_make_the_tables_that_the_code_declares(tmp_path: Path) -> None:
    store = Store(url(tmp_path))
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
        connection.execute(text("DROP TABLE models"))
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata)
    store.close()


def test_a_store_opens_again_with_what_it_held(tmp_path: Path) -> None:
    store = Store(url(tmp_path))
    join(store, invite(store, "site 0"))
    signed = SignedStudy.sign(small_study(sites=3), Identity.generate())
    store.publish(signed)
    store.publish(signed)
    store.close()
    again = Store(url(tmp_path))
    assert [site.name for site in again.sites()] == ["site 0"]
    assert again.study(signed.hash) == signed
    with again.engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
    assert "alembic_version" in inspect(again.engine).get_table_names()
    again.close()


def test_one_identity_is_one_hospital(tmp_path: Path) -> None:
    store = Store(url(tmp_path))
    identity = Identity.generate().public
    join(store, invite(store, "site 0"), identity)
    with pytest.raises(PolyclinicError) as caught:
        join(store, invite(store, "site 1"), identity)
    assert caught.value.code == Code.SITE_STATE
    assert store.site("site 1").state == "invited"
    store.revoke("site 0")
    join(store, invite(store, "site 0"), identity)
    store.close()


def try_to_join(
    address: str, invitation: Invitation, start: Barrier, results: multiprocessing.Queue[str]
) -> None:
    store = Store(address)
    try:
        start.wait(timeout=30)
        join(store, invitation, seconds=0.5)
        results.put("joined")
    except PolyclinicError as error:
        results.put(error.code.value)
    store.close()


def test_of_two_who_use_an_invitation_at_once_one_joins(tmp_path: Path) -> None:
    store = Store(url(tmp_path))
    invitation = invite(store, "site 0")
    store.close()
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[str] = context.Queue()
    start = context.Barrier(3)
    racers = [
        context.Process(target=try_to_join, args=(url(tmp_path), invitation, start, results))
        for _ in range(3)
    ]
    for racer in racers:
        racer.start()
    found = sorted(results.get(timeout=30) for _ in racers)
    for racer in racers:
        racer.join(timeout=10)
    assert found == [Code.INVITATION_USED.value] * 2 + ["joined"]


def test_unknown_names_are_coded_errors(tmp_path: Path) -> None:
    store = Store(url(tmp_path))
    for call, code in (
        (lambda: store.site("none"), Code.SITE_STATE),
        (lambda: store.revoke("none"), Code.SITE_STATE),
        (lambda: store.study(bytes(32)), Code.STUDY_UNKNOWN),
        (lambda: store.run("none"), Code.RUN_UNKNOWN),
        (lambda: store.record_run("none"), Code.RUN_UNKNOWN),
        (lambda: store.model("none"), Code.RUN_UNKNOWN),
        (lambda: store.bundle("none"), Code.BUNDLE_UNKNOWN),
    ):
        with pytest.raises(PolyclinicError) as caught:
            call()
        assert caught.value.code == code
    store.close()


@pytest.fixture
def released(tmp_path: Path) -> Iterator[Store]:
    """Return a store with a hospital, a run, and two bundles of it."""
    store = Store(url(tmp_path))
    join(store, invite(store, "site 0"))
    signed = SignedStudy.sign(small_study(sites=3), Identity.generate())
    store.publish(signed)
    run = store.begin_run(signed.hash, 6).id
    for digest, content in (("aa", b"first"), ("bb", b"second")):
        store.offer_bundle(digest, signed.hash.hex(), run, content)
    yield store
    store.close()


def test_a_bundle_is_kept_as_it_was_offered_first(released: Store) -> None:
    kept = released.bundle("aa")
    released.offer_bundle("aa", kept.study, kept.run, b"other bytes")
    assert released.bundle("aa").content == b"first"
    assert {each.digest: each.size for each in released.bundles()} == {"aa": 5, "bb": 6}


def test_a_listing_of_bundles_does_not_read_their_content(released: Store) -> None:
    for each in released.bundles():
        with pytest.raises(DetachedInstanceError):
            _ = each.content


def test_the_first_signature_stays_and_the_latest_decision_counts(released: Store) -> None:
    key = Identity.generate().public
    released.accept_bundle("aa", "site 0", key, b"signature")
    released.reject_bundle("aa", "site 0", key, "other", b"rejection")
    (found,) = released.decisions("aa")
    assert (found.state, found.code, found.signature) == ("rejected", "other", b"signature")
    released.accept_bundle("aa", "site 0", key, b"another signature")
    (found,) = released.decisions("aa")
    assert (found.state, found.code, found.signature) == ("accepted", "", b"signature")
    assert found.rejection == b"rejection"
    assert released.decisions("bb") == []


def test_a_hospital_that_joined_anew_signs_beside_its_earlier_key(released: Store) -> None:
    for key in (bytes(32), bytes([1]) * 32):
        released.accept_bundle("aa", "site 0", key, key)
    assert {each.signature for each in released.decisions("aa")} == {bytes(32), bytes([1]) * 32}


def test_withdrawals_have_numbers_in_a_row_and_are_never_changed(released: Store) -> None:
    def signing(word: str) -> Callable[[int], bytes]:
        return lambda number: f"{number} {word}".encode()

    assert released.withdraw_bundle("bb", signing("b")) == b"1 b"
    assert released.withdraw_bundle("bb", signing("again")) == b"1 b"
    assert released.withdraw_bundle("aa", signing("a")) == b"2 a"
    assert released.withdrawals() == [b"1 b", b"2 a"]
    assert released.withdrawals(after=1) == [b"2 a"]
    assert released.withdrawals(most=1) == [b"1 b"]


def test_a_withdrawal_that_cannot_be_signed_takes_no_number(released: Store) -> None:
    def refuse(number: int) -> bytes:
        raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        released.withdraw_bundle("aa", refuse)
    assert released.withdraw_bundle("bb", lambda number: bytes([number])) == bytes([1])
    assert not released.is_withdrawn("aa")


def test_a_store_of_an_earlier_version_takes_bundles(tmp_path: Path) -> None:
    """Its schema is that of before bundles, and what it holds stays."""
    engine = create_engine(url(tmp_path))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.execute(text("INSERT INTO sites (name, state) VALUES ('site 0', 'invited')"))
    engine.dispose()
    store = Store(url(tmp_path))
    assert [site.name for site in store.sites()] == ["site 0"]
    assert store.bundles() == []
    store.close()
