"""Whether a table that is about to be frozen holds patients of another account: asked here alone.

What comes of it is seen by the person at the hospital who adds the table, or enters an account with
its frozen tables into a registry again. Nothing leaves at either, and nothing later asks again: no
node, no approval, no answer to a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyclinic_client.accounts.account import account_of, most_of
from polyclinic_client.accounts.patients import joined, keyed_hashes, parted
from polyclinic_client.accounts.registry import Account, Registry
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.study_book.book import StudyBook
from polyclinic_common.errors import Code, ConsortiumError

if TYPE_CHECKING:
    import pandas as pd


def admit_table(site: SiteFolder, study_hash: bytes, numbers: pd.Series) -> None:
    """Enter the patients of a table, unless another account of this hospital holds some of them.

    Those of the table that stands frozen stay beside them until `keep_table`: what is done between
    can fail, and then the former table is still the one that takes part.

    Parameters
    ----------
    numbers : Series
        Permanent patient numbers.

    Raises
    ------
    ConsortiumError
        A003 if accounts overlap, now or from before: both are marked, and neither takes a table
        until they are merged. As `account_of` besides.
    """
    with account_of(site) as (registry, account):
        if account.overlapping:
            raise overlap()
        hashes = keyed_hashes(registry.key, numbers)
        overlaps = mark_overlap(registry, account, hashes)
        if not overlaps:
            put_patients(registry, site, study_hash, hashes | held_of(registry, site, study_hash))
            registry.put(account.noted(most_of(site.ledger)))
    if overlaps:  # only now, for an error inside would undo the marks
        raise overlap()


def keep_table(site: SiteFolder, study_hash: bytes) -> None:
    """Let the patients of the frozen table alone stand for a study, now that it is there.

    Raises
    ------
    ConsortiumError
        As `account_of` and `StudyBook.table`.
    """
    with account_of(site) as (registry, _):
        enter_frozen(registry, site, study_hash)


def enter_frozen(registry: Registry, site: SiteFolder, study_hash: bytes) -> frozenset[bytes]:
    """Write the patients of a frozen table down and return their hashes.

    Those of an approved table stay, whatever table comes later.
    """
    book = StudyBook.open(site)
    numbers = book.table(study_hash)[book.study(study_hash).cohort.patient_id]
    hashes = keyed_hashes(registry.key, numbers)
    if any(key[0] == study_hash for key in site.ledger.state.approvals):
        hashes |= held_of(registry, site, study_hash)
    put_patients(registry, site, study_hash, hashes)
    return hashes


def put_patients(
    registry: Registry, site: SiteFolder, study_hash: bytes, hashes: frozenset[bytes]
) -> None:
    """Write hashes of patients down for a study, in the place of what stands there."""
    registry.put_table(site.identity.public, study_hash, joined(hashes))


def held_of(registry: Registry, site: SiteFolder, study_hash: bytes) -> frozenset[bytes]:
    """Return the patients that stand written down for a study of this account."""
    key = [site.identity.public, study_hash]
    held = [parted(patients) for *entry, patients in registry.tables() if entry == key]
    return frozenset().union(*held)


def mark_overlap(registry: Registry, account: Account, hashes: frozenset[bytes]) -> bool:
    """Mark an account and all others that hold some of these patients; say whether any do."""
    others = _met(registry, account, hashes)
    for each in (account, *others) if others else ():
        registry.put(each.model_copy(update={"overlapping": True}))
    return bool(others)


def _met(registry: Registry, account: Account, hashes: frozenset[bytes]) -> list[Account]:
    """Return the other accounts that hold some of these patients, or took over one that does."""
    held = registry.accounts()
    met = {
        _standing(held, identity)
        for identity, _, patients in registry.tables()
        if not hashes.isdisjoint(parted(patients))
    }
    return [held[identity] for identity in met - {account.identity} if identity in held]


def _standing(held: dict[bytes, Account], identity: bytes) -> bytes:
    """Return the account that counts the spending of this one."""
    while identity in held and held[identity].into:
        identity = held[identity].into
    return identity


def overlap(otherwise: str = "nothing was kept or sent") -> ConsortiumError:
    """Return the error for accounts that overlap; it says neither whom nor how many."""
    return ConsortiumError(
        Code.ACCOUNTS_OVERLAP,
        f"Two accounts of this hospital hold the same patients; {otherwise}.",
        "Merge them into the one that stays: polyclinic client accounts merge --site FOLDER",
    )
