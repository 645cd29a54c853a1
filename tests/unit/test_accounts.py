"""The registry of a hospital's accounts: what it refuses, what it remembers, whom it compares."""

from __future__ import annotations

import pwd
import shutil
import stat
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from polyclinic_client.accounts import registry as registry_module
from polyclinic_client.accounts.account import (
    ONLY,
    Beginning,
    account_of,
    begin_account,
    note_spending,
    place_of,
)
from polyclinic_client.accounts.mend import merge
from polyclinic_client.accounts.patients import canonical_number, joined, keyed_hashes, parted
from polyclinic_client.accounts.registry import Registry, default_registry
from polyclinic_client.accounts.rule import SecondRule, read_rule
from polyclinic_client.folder.layout import LEDGER
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.records.journal import Left
from polyclinic_common.errors import Code, ConsortiumError, LedgerError, PolyclinicError
from tests.kits.ledger import FALLBACK, approval, reserve
from tests.kits.rule import RULE

RESET = Beginning(declared_reset=True)


def begin(accounts: Path, path: Path, how: Beginning = ONLY) -> Path:
    """Begin an account as joining does."""
    make = partial(
        SiteFolder.create, path, delta=1e-5, epsilon_cap=9.0, declared_reset=how.declared_reset
    )
    begin_account(accounts, path, make, how)
    return path


def code_of(call: Any, *arguments: Any, **more: Any) -> Code:
    with pytest.raises(PolyclinicError) as caught:
        call(*arguments, **more)
    assert caught.value.remedy
    return caught.value.code


@pytest.fixture
def accounts(tmp_path: Path) -> Path:
    """Return where a registry may lie."""
    return tmp_path / "state" / "accounts.sqlite"


@pytest.fixture
def spent(tmp_path: Path, accounts: Path) -> Path:
    """Return the folder of an account that has approved six releases and made two."""
    path = begin(accounts, tmp_path / "one")
    with SiteFolder.open(path) as site:
        site.ledger.approve(approval(6))
        note_spending(site)
        for number in (1, 2):
            reserve(site.ledger, number)
    return path


# One account


def test_only_its_owner_reads_the_registry_and_it_has_a_key_of_its_own(
    tmp_path: Path, accounts: Path
) -> None:
    begin(accounts, tmp_path / "one")
    assert stat.S_IMODE(accounts.stat().st_mode) == 0o600
    assert stat.S_IMODE(accounts.parent.stat().st_mode) == 0o700
    with Registry.open(accounts) as one, Registry.open(tmp_path / "other", create=True) as other:
        assert len(one.key) == 32
        assert one.key != other.key


def test_a_second_folder_is_refused_and_the_first_is_named(tmp_path: Path, accounts: Path) -> None:
    first = begin(accounts, tmp_path / "one")
    with pytest.raises(ConsortiumError) as caught:
        begin(accounts, tmp_path / "two")
    assert caught.value.code == Code.ACCOUNT_EXISTS
    assert str(first) in caught.value.remedy
    assert "--second-account" in caught.value.remedy
    assert not (tmp_path / "two").exists()
    begin(accounts, first)  # an interrupted call, again


def test_of_two_that_begin_at_once_one_is_refused(tmp_path: Path, accounts: Path) -> None:
    start, codes = threading.Barrier(4), list[Code | None]()

    def race(number: int) -> None:
        start.wait(10)
        try:
            begin(accounts, tmp_path / str(number))
        except PolyclinicError as error:
            codes.append(error.code)
        else:
            codes.append(None)

    racers = [threading.Thread(target=race, args=(number,)) for number in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert Counter(codes) == {None: 1, Code.ACCOUNT_EXISTS: 3}
    with Registry.open(accounts) as registry:
        assert len(registry.accounts()) == 1


def test_a_copied_folder_is_no_second_ledger_and_a_moved_one_is_the_same_account(
    tmp_path: Path, spent: Path, accounts: Path
) -> None:
    shutil.copytree(spent, tmp_path / "copy")
    with SiteFolder.open(tmp_path / "copy") as copy:
        assert code_of(note_spending, copy) == Code.ACCOUNT_EXISTS
    shutil.rmtree(spent)
    with SiteFolder.open(tmp_path / "copy") as moved:
        note_spending(moved)
    with Registry.open(accounts) as registry:
        (account,) = registry.accounts().values()
    assert account.folder == str(tmp_path / "copy")


# A reset


def test_a_deleted_folder_is_not_forgotten_but_by_a_declared_reset_that_keeps_the_spending(
    tmp_path: Path, spent: Path, accounts: Path
) -> None:
    shutil.rmtree(spent)
    for path in (spent, tmp_path / "two"):
        assert code_of(begin, accounts, path) == Code.ACCOUNT_LOST
        assert not path.exists()
    with SiteFolder.open(begin(accounts, spent, RESET)) as site:
        assert site.ledger.declared_reset
        budget = site.ledger.budget()
        assert site.ledger.state.lost == {FALLBACK: 6}
        assert budget.spent == budget.lost > 0
    with Registry.open(accounts) as registry:
        old, new = registry.accounts().values()
        assert (old.into, new.into) == (new.identity, b"")
        assert new.spent == {FALLBACK: 6}


def test_a_reset_that_was_cut_off_charges_once(
    tmp_path: Path, spent: Path, accounts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(spent)

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(Registry, "put", cut_off)
        with pytest.raises(KeyboardInterrupt):
            begin(accounts, spent, RESET)
    begin_account(accounts, spent, partial(SiteFolder.open, spent), RESET)
    with SiteFolder.open(spent) as site:
        assert site.ledger.state.lost == {FALLBACK: 6}
    assert spent.exists()


def test_a_ledger_without_a_declared_reset_does_not_take_a_lost_ones_place(
    tmp_path: Path, spent: Path, accounts: Path
) -> None:
    shutil.rmtree(spent)
    other = begin(tmp_path / "another.sqlite", tmp_path / "two")
    again = partial(begin_account, accounts, other, partial(SiteFolder.open, other), RESET)
    assert code_of(again) == Code.LEDGER_EXISTS


def test_what_an_account_can_have_spent_never_becomes_less(spent: Path, accounts: Path) -> None:
    with SiteFolder.open(spent) as site:
        site.ledger.withdraw(bytes(32), "run")
        note_spending(site)
    with Registry.open(accounts) as registry:
        (account,) = registry.accounts().values()
    assert account.spent == {FALLBACK: 6}


# A second account on purpose


def test_a_second_account_needs_a_rule_that_keeps_apart_and_two_approvers(
    tmp_path: Path, accounts: Path
) -> None:
    begin(accounts, tmp_path / "one")
    begin(accounts, tmp_path / "two", Beginning(rule=SecondRule.model_validate(RULE)))
    with Registry.open(accounts) as registry:
        assert [each.rule is None for each in registry.accounts().values()] == [True, False]
    assert code_of(begin, accounts, tmp_path / "three") == Code.ACCOUNT_EXISTS


@pytest.mark.parametrize(
    "change",
    [
        {"elsewhere": ["2016", "2021"]},
        {"approvers": RULE["approvers"][:1]},
        {"approvers": [RULE["approvers"][0], RULE["approvers"][0]]},
        {"here": []},
        {"why": ""},
        {"by": "year\u202e"},
        {"more": "1"},
    ],
)
def test_a_rule_that_keeps_nothing_apart_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    import tomli_w

    file = tmp_path / "rule.toml"
    file.write_text(tomli_w.dumps(RULE), encoding="utf-8")
    assert read_rule(file).by == "year of admission"
    file.write_text(tomli_w.dumps(RULE | change), encoding="utf-8")
    assert code_of(read_rule, file) == Code.ACCOUNT_RULE
    assert code_of(read_rule, tmp_path / "none.toml") == Code.ACCOUNT_RULE


# Merging


def second(tmp_path: Path, accounts: Path) -> Path:
    """Begin a second account beside the one that has spent."""
    return begin(accounts, tmp_path / "two", Beginning(rule=SecondRule.model_validate(RULE)))


def test_merging_charges_what_was_noted_though_the_ledger_was_put_back(
    tmp_path: Path, accounts: Path
) -> None:
    path, copy = begin(accounts, tmp_path / "one"), tmp_path / "copy"
    shutil.copytree(path, copy)
    with SiteFolder.open(path) as site:
        site.ledger.approve(approval(6))
        note_spending(site)
    shutil.rmtree(path)
    copy.rename(path)
    with SiteFolder.open(second(tmp_path, accounts)) as site:
        merge(site)
        assert site.ledger.state.lost == {FALLBACK: 6}
    with Registry.open(accounts) as registry:
        assert [each.spent for each in registry.accounts().values()] == [{FALLBACK: 6}] * 2


def test_an_account_whose_journal_names_more_than_its_ledger_is_not_merged(
    tmp_path: Path, spent: Path, accounts: Path
) -> None:
    left = Left(
        kind="masked_update",
        sum="gradient",
        size=32,
        sha256=bytes(32),
        run="run",
        cost=FALLBACK,
        tick=0,
        ledger_row=90,
        ledger_digest=bytes(32),
    )
    with SiteFolder.open(spent) as site:
        site.journal.write(left)
    with SiteFolder.open(second(tmp_path, accounts)) as site:
        with pytest.raises(LedgerError) as caught:
            merge(site)
        assert not site.ledger.state.lost
    assert caught.value.code is Code.LEDGER_BEHIND
    assert str(spent) in caught.value.what
    assert "ledger recover" in caught.value.remedy
    with SiteFolder.open(spent) as site:
        assert site.ledger.approval(bytes(32), "run") is not None


# The file


def test_a_registry_that_is_gone_or_damaged_stops_and_is_not_made_again_by_the_way(
    spent: Path, accounts: Path
) -> None:
    with SiteFolder.open(spent) as site:
        kept = accounts.read_bytes()
        accounts.unlink()
        assert code_of(note_spending, site) == Code.ACCOUNTS_ABSENT
        assert not accounts.exists()
        accounts.write_bytes(kept[:100] + bytes(len(kept) - 100))
        assert code_of(note_spending, site) == Code.ACCOUNTS_DAMAGED
        accounts.write_bytes((spent / LEDGER).read_bytes())
        assert code_of(note_spending, site) == Code.ACCOUNTS_DAMAGED
        accounts.write_bytes(b"")
        assert code_of(note_spending, site) == Code.ACCOUNTS_DAMAGED
        accounts.write_bytes(kept.replace(b"polyclinic accounts 1", b"polyclinic accounts 2"))
        assert code_of(note_spending, site) == Code.ACCOUNTS_DAMAGED
        accounts.write_bytes(kept)
        note_spending(site)
        (spent / "account.json").unlink()
        assert code_of(note_spending, site) == Code.ACCOUNTS_ABSENT
        assert code_of(place_of, spent) == Code.ACCOUNTS_ABSENT


def test_a_site_that_the_registry_does_not_know_is_refused(tmp_path: Path, spent: Path) -> None:
    other = begin(tmp_path / "others.sqlite", tmp_path / "two")
    (other / "account.json").write_bytes((spent / "account.json").read_bytes())
    with SiteFolder.open(other) as site:
        assert code_of(note_spending, site) == Code.ACCOUNTS_ABSENT


def test_an_error_inside_undoes_everything(spent: Path, accounts: Path) -> None:
    def fails(site: SiteFolder) -> None:
        with account_of(site) as (registry, account):
            registry.put(account.ended(bytes(32)))
            raise RuntimeError

    with SiteFolder.open(spent) as site, pytest.raises(RuntimeError):
        fails(site)
    with Registry.open(accounts) as registry:
        assert [each.stands for each in registry.accounts().values()] == [True]


def test_where_the_registry_lies_follows_from_the_user_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr("os.getuid", lambda: nobody.pw_uid)
    before = default_registry()
    assert before.is_relative_to(nobody.pw_dir)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, "/elsewhere")
    assert default_registry() == before
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    assert code_of(default_registry) == Code.ACCOUNTS_ABSENT
    monkeypatch.setattr("os.getuid", lambda: 0)
    assert default_registry() == Path("/var/lib/polyclinic/accounts.sqlite")


def test_a_registry_on_a_network_disk_is_refused(
    accounts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyclinic_client.records.sqlite_file.file_system", lambda _: "nfs4")
    assert code_of(registry_module.Registry.open, accounts, create=True) == Code.ACCOUNTS_DAMAGED


# Patient numbers


@pytest.mark.parametrize(
    "written",
    [
        "ab-12",
        " AB-12 ",
        "A\u200bB-\ufeff12",
        "ＡＢ-１２",
        "AB-\u00a012",
        "aB\u00ad-12\t",
        "Ab - 12",
        "AB12",
        "AB\u201312",
        "AB\u201112",
        "'ab/12'",
        '"AB.12"',
        "AB-\u0661\u0662",
        "AB\u034f-1\ufe0f2",
        "A\u0301b12",
        "00AB-12",
        "AB\u316412",
    ],
)
def test_a_patient_number_is_the_same_however_an_extract_writes_it(written: str) -> None:
    assert canonical_number(written) == canonical_number("ab-12")


def test_numbers_meet_across_tables_whatever_program_wrote_them() -> None:
    key = bytes(32)
    texts = pd.Series(["0017", "18.0", "", "NA", "x", None])
    numbers = pd.Series([17.0, 18.0, np.nan])
    assert keyed_hashes(key, texts) > keyed_hashes(key, numbers)
    assert len(keyed_hashes(key, texts)) == 3
    assert keyed_hashes(key, pd.Series(["straße"])) == keyed_hashes(key, pd.Series(["STRASSE"]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([10**16], [1e16]),
        (["1e+16"], [10**16]),
        (["12345678901234567.0"], [12345678901234567]),
        (["1.23457E+11"], ["123457000000"]),
        (["00123A"], ["123A"]),
        (["000"], [0.0]),
        (["\u0661\u0662"], [12]),
        (["123.00\u200b"], ["123"]),
    ],
)
def test_numbers_meet_as_floats_and_without_leading_zeros(one: list[Any], other: list[Any]) -> None:
    assert keyed_hashes(bytes(32), pd.Series(one)) == keyed_hashes(bytes(32), pd.Series(other))


def test_numbers_that_differ_in_a_letter_or_a_digit_stay_apart() -> None:
    written = ["12", "120", "12a", "a12", "b12", "1200.5", "12e3", "P0012"]
    assert len({canonical_number(word) for word in written}) == len(written)


def test_hashes_are_keyed_and_come_back_sorted() -> None:
    numbers = pd.Series([f"p{number}" for number in range(50)])
    found = keyed_hashes(b"a" * 32, numbers)
    assert len(found) == 50
    assert all(len(each) == 16 for each in found)
    assert found.isdisjoint(keyed_hashes(b"b" * 32, numbers))
    content = joined(found)
    assert parted(content) == found
    assert content == joined(frozenset(sorted(found, reverse=True)))
    assert b"p17" not in content
