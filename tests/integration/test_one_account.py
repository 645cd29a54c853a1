"""One hospital, one account, against a real consortium: joining, adding data, merging, mending."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyclinic_client.accounts.account import ONLY, PLACE, Beginning
from polyclinic_client.accounts.mend import merge, restore
from polyclinic_client.accounts.registry import Account, Registry
from polyclinic_client.accounts.rule import SecondRule
from polyclinic_client.consortium.join import join
from polyclinic_client.consortium.participation import add_data, find_study
from polyclinic_client.consortium.peers import list_peers
from polyclinic_client.folder.layout import read_identity
from polyclinic_client.folder.membership import MEMBERSHIP
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.page.overview import overview
from polyclinic_client.records.journal import PeerReset
from polyclinic_client.study_book.book import StudyBook
from polyclinic_client.worker.site_book import find_approved
from polyclinic_common.errors import Code, PolyclinicError
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.release_id import ReleaseId
from tests.kits.loopback import Loopback
from tests.kits.rule import RULE
from tests.kits.small import small_study, small_table
from tests.kits.typed_consortium import MAPPING, as_extract

BY_RULE = Beginning(rule=SecondRule.model_validate(RULE))
RESET = Beginning(declared_reset=True)
FIRST, SECOND = "site 0", "site 1"  # two names in the consortium, one hospital


@pytest.fixture
def twice(tmp_path: Path) -> Iterator[Loopback]:
    """Return a consortium in which one hospital has two accounts, as a public rule allows."""
    made = Loopback(tmp_path)
    made.join(FIRST)
    made.join(SECOND, accounts=made.accounts(FIRST), how=BY_RULE)
    made.join("site 2")
    made.verify_all()
    made.publish()
    yield made
    made.stop()


def code_of(call: Any, *arguments: Any, **more: Any) -> Code:
    with pytest.raises(PolyclinicError) as caught:
        call(*arguments, **more)
    assert caught.value.remedy
    if caught.value.code is Code.ACCOUNTS_OVERLAP:  # it says neither who nor how many
        assert not any(letter.isdigit() for letter in str(caught.value).replace("A003", ""))
    return caught.value.code


def add(made: Loopback, name: str, numbers: list[str], word: str = "small-binary") -> None:
    """Add a table of patients with these numbers."""
    frame = small_table(len(numbers), 1).assign(patient=numbers)
    extract, mapping = made.folder / "extract.csv", made.folder / "map.toml"
    as_extract(frame).to_csv(extract, index=False)
    mapping.write_text(MAPPING, encoding="utf-8")
    with made.at(name) as (site, client):
        add_data(site, client, find_study(client, word), extract, mapping)


def numbers(start: int, count: int = 60) -> list[str]:
    return [f"P{number:05}" for number in range(start, start + count)]


def accounts_of(made: Loopback) -> list[Account]:
    with Registry.open(made.accounts(FIRST)) as registry:
        return list(registry.accounts().values())


def most(made: Loopback, name: str) -> Counter[Any]:
    with made.at(name) as (site, _):
        site.ledger.head()
        return site.ledger.state.most()


def reserve(site: SiteFolder, study_hash: bytes, number: int) -> Charge:
    """Let a release be charged and stored as a node does; return its price at fallback."""
    (approved,) = site.ledger.state.approvals.values()
    (planned,) = approved.approval.planned
    site.ledger.reserve(
        ReleaseId("run", number, planned.kind),
        study_hash,
        headline=planned.headline,
        fallback=planned.fallback,
        broadcast=bytes(32),
        transcript=b"",
        clip=0.25,
        grid_exponent=-20,
        vector=np.zeros(4, dtype=np.int64),
    )
    return planned.fallback


# Overlap


def test_a_table_with_patients_of_another_account_is_neither_kept_nor_declared(
    twice: Loopback,
) -> None:
    add(twice, FIRST, numbers(0))
    one_in_common = [" p\u200b00059", *numbers(1000, 59)]
    assert code_of(add, twice, SECOND, one_in_common) == Code.ACCOUNTS_OVERLAP
    with twice.at(SECOND) as (site, client):
        signed = find_study(client, "small-binary")
        assert not StudyBook.open(site).holds(signed.hash)
        declared = {entry.name for entry in client.roster(signed.hash)}
        assert site.ledger.export_rows() == site.ledger.export_rows()[:1]
    assert declared == {FIRST}
    assert [each.overlapping for each in accounts_of(twice)] == [True, True]
    for name in (FIRST, SECOND):  # for good, whatever table comes next
        assert code_of(add, twice, name, numbers(5000)) == Code.ACCOUNTS_OVERLAP
        assert "OVERLAPS" in overview(twice.path(name)).account


def test_accounts_that_the_rule_keeps_apart_take_part_both(twice: Loopback) -> None:
    add(twice, FIRST, numbers(0))
    add(twice, SECOND, numbers(1000))
    add(twice, "site 2", numbers(0))  # another hospital, whom nobody asks
    for name in twice.names:
        twice.approve(name)
    assert RULE["by"] in overview(twice.path(SECOND)).account
    assert "one of 2" in overview(twice.path(FIRST)).account
    assert "the only one" in overview(twice.path("site 2")).account


def test_a_table_added_again_in_place_of_a_wrong_one_is_compared_as_it_is_now(
    twice: Loopback,
) -> None:
    add(twice, FIRST, numbers(0))
    add(twice, FIRST, numbers(2000))
    add(twice, SECOND, numbers(0))
    assert not any(each.overlapping for each in accounts_of(twice))


def test_a_table_whose_adding_failed_does_not_make_the_frozen_one_forgotten(
    twice: Loopback,
) -> None:
    add(twice, FIRST, numbers(0))
    with twice.at(FIRST) as (site, client):
        signed = find_study(client, "small-binary")
        as_extract(small_table(60, 1).assign(patient=numbers(2000))).to_csv(
            twice.folder / "extract.csv", index=False
        )
        twice.handle.stop()  # the declaration does not get through
        files = twice.folder / "extract.csv", twice.folder / "map.toml"
        assert code_of(add_data, site, client, signed, *files) == Code.NOT_REACHED
        assert set(StudyBook.open(site).table(signed.hash)["patient"]) == set(numbers(0))
    twice.restart()
    assert code_of(add, twice, SECOND, numbers(0)) == Code.ACCOUNTS_OVERLAP


def test_patients_of_an_approved_table_stay_known_after_it_was_withdrawn(twice: Loopback) -> None:
    for name, start in ((FIRST, 0), (SECOND, 1000), ("site 2", 0)):
        add(twice, name, numbers(start))
    twice.approve(FIRST)
    with twice.at(FIRST) as (site, client):
        site.ledger.withdraw(find_study(client, "small-binary").hash)
    add(twice, FIRST, numbers(3000))
    twice.publish(small_study(sites=3, id="next-study"))
    assert code_of(add, twice, SECOND, numbers(0), "next-study") == Code.ACCOUNTS_OVERLAP


def test_nothing_after_data_add_asks_the_registry_about_patients(
    twice: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Approval and node go the same way whether accounts overlap or not."""
    for name, start in ((FIRST, 0), (SECOND, 1000), ("site 2", 0)):
        add(twice, name, numbers(start))
    with Registry.open(twice.accounts(FIRST)) as registry, registry.writing():
        for each in registry.accounts().values():
            registry.put(each.model_copy(update={"overlapping": True}))

    def asked(_: Registry) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(Registry, "tables", asked)
    for name in twice.names:
        twice.approve(name)
    twice.accounts(FIRST).unlink()
    with twice.at(FIRST) as (site, _):
        book = StudyBook.open(site)
        (approved,) = book.approved()
        found = find_approved(book, approved.study.hash())
        assert found is not None
        assert len(found.cohort.x) > 0


# Merging


def test_merging_ends_the_other_account_and_charges_all_it_can_have_spent(twice: Loopback) -> None:
    for name, start in ((FIRST, 0), (SECOND, 1000), ("site 2", 0)):
        add(twice, name, numbers(start))
    for name in twice.names:
        twice.approve(name)
    study_hash = bytes.fromhex(small_study(sites=3).hash())
    before = most(twice, FIRST)
    with twice.at(SECOND) as (site, _):
        spent = reserve(site, study_hash, 1)
    with twice.at(FIRST) as (site, _):
        (folded,) = merge(site)
        assert site.ledger.state.lost == {spent: 6}  # all that was noted when it was approved
        assert site.ledger.approval(study_hash) is None
    assert folded.folder == str(twice.path(SECOND))
    assert most(twice, FIRST) == Counter({spent: 6})
    assert before.total() == 6
    with twice.at(SECOND) as (site, _):
        assert code_of(reserve, site, study_hash, 2) == Code.LEDGER_NOT_APPROVED
        assert site.ledger.approval(study_hash) is None
        assert find_approved(StudyBook.open(site), study_hash.hex()) is None
    twice.publish(small_study(sites=3, id="next-study"))
    assert code_of(add, twice, SECOND, numbers(7000), "next-study") == Code.ACCOUNT_ENDED
    assert code_of(twice.approve, SECOND) in {Code.ACCOUNT_ENDED, Code.ROSTER_INCOMPLETE}
    add(twice, FIRST, numbers(1000), "next-study")  # the patients of both are one account's now
    with twice.at(FIRST) as (site, _):
        assert code_of(merge, site) == Code.ACCOUNT_EXISTS


def test_a_lost_account_is_merged_at_the_most_that_was_noted(twice: Loopback) -> None:
    for name, start in ((FIRST, 0), (SECOND, 1000), ("site 2", 0)):
        add(twice, name, numbers(start))
    twice.approve(SECOND)
    noted = most(twice, SECOND)
    assert noted.total() == 6
    shutil.rmtree(twice.path(SECOND))
    with twice.at(FIRST) as (site, _):
        merge(site)
        assert site.ledger.state.lost == noted


# Beginning anew


def test_an_approval_is_noted_before_anything_can_be_spent_under_it(twice: Loopback) -> None:
    for name, start in ((FIRST, 0), (SECOND, 1000), ("site 2", 0)):
        add(twice, name, numbers(start))
    kept = twice.accounts(FIRST).read_bytes()
    twice.accounts(FIRST).unlink()
    assert code_of(twice.approve, FIRST) == Code.ACCOUNTS_ABSENT
    with twice.at(FIRST) as (site, _):
        assert StudyBook.open(site).approved() == []
    twice.accounts(FIRST).write_bytes(kept)
    twice.approve(FIRST)
    assert accounts_of(twice)[0].spent == most(twice, FIRST)


def test_a_deleted_folder_joins_again_only_as_a_declared_reset_with_its_spending(
    tmp_path: Path,
) -> None:
    made = Loopback(tmp_path)
    try:
        made.join_all()
        made.verify_all()
        made.publish()
        made.approve_all()
        noted = most(made, FIRST)
        shutil.rmtree(made.path(FIRST))
        made.handle.store.revoke(FIRST)
        assert code_of(made.join, FIRST) == Code.ACCOUNT_LOST
        made.join(FIRST, how=RESET)
        with made.at(FIRST) as (site, _):
            assert site.ledger.declared_reset
            assert site.ledger.state.counted == noted
            assert noted.total() == 6
    finally:
        made.stop()


def test_a_hospital_is_certified_anew_with_the_account_it_has(tmp_path: Path) -> None:
    made = Loopback(tmp_path)
    try:
        before = read_identity(made.join(FIRST)).public
        made.handle.store.revoke(FIRST)
        (made.path(FIRST) / MEMBERSHIP).unlink()
        made.join(FIRST)
        with made.client(FIRST) as client:
            assert client.status().name == FIRST
        assert read_identity(made.path(FIRST)).public == before
        assert len(accounts_of(made)) == 1
    finally:
        made.stop()


def test_an_account_that_never_joined_stands_in_nobodys_way(tmp_path: Path) -> None:
    made = Loopback(tmp_path)
    try:
        made.handle.stop()
        here = partial(join, accounts=made.accounts(FIRST), delta=1e-5, epsilon_cap=3.0)
        invitation = made.invite(FIRST)
        assert code_of(here, tmp_path / "lost", invitation) == Code.NOT_REACHED
        shutil.rmtree(tmp_path / "lost")
        made.restart()
        here(made.path(FIRST), invitation)
        assert [each.stands for each in accounts_of(made)] == [False, True]
    finally:
        made.stop()


def test_peers_that_declared_a_reset_are_listed(twice: Loopback) -> None:
    peer = read_identity(twice.path("site 2")).public
    with twice.at(FIRST) as (site, client):
        site.journal.write(PeerReset(identity=peer, run="run-1"))
        listed = {each.name: each.declared_reset for each in list_peers(site.path, client)}
    assert listed == {FIRST: False, SECOND: False, "site 2": True}
    shown = overview(twice.path(FIRST))
    assert shown.begun_anew == ("site 2",)
    assert any("begun anew" in line and "site 2" in line for line in shown.lines())


# A registry that was lost


def test_a_lost_registry_stops_data_add_until_every_account_is_entered_again(
    twice: Loopback,
) -> None:
    add(twice, FIRST, numbers(0))
    twice.accounts(FIRST).unlink()
    assert code_of(add, twice, FIRST, numbers(0)) == Code.ACCOUNTS_ABSENT
    assert "A004" in overview(twice.path(FIRST)).account
    with twice.at(FIRST) as (site, _):
        restore(site, twice.accounts(FIRST), ONLY)
    add(twice, FIRST, numbers(0))
    with twice.at(SECOND) as (site, _):
        assert code_of(restore, site, twice.accounts(FIRST), ONLY) == Code.ACCOUNT_EXISTS
        restore(site, twice.accounts(FIRST), BY_RULE)
    assert [each.name for each in accounts_of(twice)] == [FIRST, SECOND]
    assert code_of(add, twice, SECOND, numbers(0)) == Code.ACCOUNTS_OVERLAP


def test_accounts_that_overlapped_while_the_registry_was_lost_are_found_when_restored(
    twice: Loopback,
) -> None:
    add(twice, FIRST, numbers(0))
    twice.accounts(FIRST).unlink()
    with twice.at(SECOND) as (site, _):
        restore(site, twice.accounts(FIRST), ONLY)
    add(twice, SECOND, numbers(59))  # one in common; nobody can know yet
    for _ in range(2):
        with twice.at(FIRST) as (site, _):
            assert code_of(restore, site, twice.accounts(FIRST), BY_RULE) == Code.ACCOUNTS_OVERLAP
    assert [each.overlapping for each in accounts_of(twice)] == [True, True]
    for name in (FIRST, SECOND):
        assert code_of(add, twice, name, numbers(5000)) == Code.ACCOUNTS_OVERLAP
    with twice.at(FIRST) as (site, _):
        merge(site)
        restore(site, twice.accounts(FIRST), ONLY)
    assert [each.overlapping for each in accounts_of(twice) if each.stands] == [False]


def test_a_site_of_an_earlier_version_is_entered_with_the_tables_it_has_frozen(
    twice: Loopback,
) -> None:
    add(twice, FIRST, numbers(0))
    twice.accounts(FIRST).unlink()
    (twice.path(FIRST) / PLACE).unlink()
    assert code_of(add, twice, FIRST, numbers(0)) == Code.ACCOUNTS_ABSENT
    with twice.at(FIRST) as (site, _):
        restore(site, twice.accounts(FIRST), ONLY)
    with twice.at(SECOND) as (site, _):
        restore(site, twice.accounts(FIRST), BY_RULE)
    assert code_of(add, twice, SECOND, numbers(30)) == Code.ACCOUNTS_OVERLAP


def test_an_ended_account_is_not_restored_to_life(twice: Loopback) -> None:
    with twice.at(FIRST) as (site, _):
        merge(site)
    with twice.at(SECOND) as (site, _):
        assert code_of(restore, site, twice.accounts(FIRST), BY_RULE) == Code.ACCOUNT_ENDED


def test_the_registry_holds_no_patient_number(twice: Loopback) -> None:
    add(twice, FIRST, numbers(0))
    content = twice.accounts(FIRST).read_bytes().lower()
    assert not any(each.lower().encode() in content for each in numbers(0))
