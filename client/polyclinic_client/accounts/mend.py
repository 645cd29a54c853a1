"""Folding accounts into one for good, and entering a site into a registry that does not know it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from polyclinic_client.accounts.account import (
    Beginning,
    account_of,
    charge,
    entry_of,
    exists,
    in_this_folder,
    keep_place,
    most_of,
    require_stands,
)
from polyclinic_client.accounts.registry import Account, Registry
from polyclinic_client.accounts.tables import enter_frozen, mark_overlap, overlap
from polyclinic_client.folder.layout import STUDIES
from polyclinic_client.folder.membership import Membership
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.journalled import check_journalled
from polyclinic_client.study_book.book import TABLE
from polyclinic_common.errors import Code, ConsortiumError, LedgerError
from polyclinic_common.privacy.charges import Charge


def merge(site: SiteFolder) -> tuple[Account, ...]:
    """Fold all other accounts of the registry into this one, for good; return those folded.

    Their approvals end, so that nothing more is released from them, and all that they can have
    spent is charged here as lost, at fallback: what their ledgers say and what was noted at their
    approvals, whichever is more. Cut off in the middle and called again, it can
    charge them twice, and never less than once.

    Raises
    ------
    ConsortiumError
        A001 if there is no other, and as `account_of`.
    LedgerError
        If another's ledger cannot be closed, L006 if its journal names what its ledger lacks;
        nothing is charged then.
    """
    with account_of(site) as (registry, account):
        others = [
            each
            for each in registry.accounts().values()
            if each.stands and each.identity != account.identity
        ]
        if not others:
            raise ConsortiumError(
                Code.ACCOUNT_EXISTS,
                "This is the only account that the registry knows.",
                "There is nothing to merge.",
            )
        charge(site.ledger, sum((_closed(each) for each in others), Counter[Charge]()))
        registry.put(*(each.ended(account.identity) for each in others))
        alone = {"overlapping": False, "rule": None}
        registry.put(account.model_copy(update=alone).noted(most_of(site.ledger)))
    return tuple(others)


def restore(site: SiteFolder, accounts: Path, how: Beginning) -> None:
    """Enter a site's account, and the patients of its frozen tables, into a registry.

    They are compared with those of the accounts that stand there already. The account is entered
    whatever comes of it.

    Raises
    ------
    ConsortiumError
        A001 if another account stands there and no rule keeps them apart, A006 if this one was
        ended, A004 and A005 as `Registry.open`, C020 and C021 as `StudyBook.table`;
        A003 at the end if accounts overlap: both are marked, as by `admit_table`.
    """
    with Registry.open(accounts, create=True) as registry, registry.writing():
        held = registry.accounts()
        account = held.get(site.identity.public)
        if account is None:
            others = [each for each in held.values() if each.stands]
            if others and how.rule is None:
                raise exists(others[0])
            account = entry_of(site, how.rule)
        require_stands(account)
        member = Membership.read(site.path)
        known = {"name": member.name, "consortium": member.consortium}
        account = in_this_folder(account, site.path).model_copy(update=known)
        account = account.noted(most_of(site.ledger))
        registry.put(account)
        overlaps = mark_overlap(registry, account, _frozen(registry, site))
    keep_place(site.path, accounts)
    if overlaps:
        raise overlap("the account was entered, and takes no further table")


def _frozen(registry: Registry, site: SiteFolder) -> frozenset[bytes]:
    """Enter the patients of all frozen tables of a site and return their hashes."""
    files = sorted((site.path / STUDIES).glob(f"*/{TABLE}"))
    entered = [enter_frozen(registry, site, bytes.fromhex(file.parent.name)) for file in files]
    return frozenset().union(*entered)


def _closed(account: Account) -> Counter[Charge]:
    """End all approvals of an account and return the most that it can have spent.

    What was noted of it counts as well: its ledger can have been put back from an older copy.
    """
    folder = Path(account.folder)
    if account.is_lost():
        return account.spent
    with SiteFolder.open(folder) as other:
        ledger = other.ledger
        ledger.head()
        _require_journalled(other)
        for study_hash, run in list(ledger.state.approvals):
            ledger.withdraw(study_hash, run)
        return account.spent | most_of(ledger)


def _require_journalled(other: SiteFolder) -> None:
    """Refuse an account whose journal names more than its ledger, and say which it is."""
    try:
        check_journalled(other.ledger, other.journal.events())
    except LedgerError as error:
        raise LedgerError(error.code, f"In {other.path}: {error.what}", error.remedy) from None
