"""Whether a table that is about to be frozen holds patients of another account: asked here alone.

What comes of it is seen by the person at the hospital who adds the table. Nothing has left by then,
and nothing later asks again: no node, no approval, no answer to a message.
"""

from __future__ import annotations

import pandas as pd

from polyclinic_client.accounts.account import account_of, most_of
from polyclinic_client.accounts.patients import joined, keyed_hashes, parted
from polyclinic_client.accounts.registry import Account, Registry
from polyclinic_client.site_folder import SiteFolder
from polyclinic_common.errors import Code, ConsortiumError


def admit_table(site: SiteFolder, study_hash: bytes, numbers: pd.Series) -> None:
    """Enter the patients of a table, unless another account of this hospital holds some of them.

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
            raise _overlap()
        hashes = keyed_hashes(registry.key, numbers)
        others = _met(registry, account, hashes)
        for each in (account, *others) if others else ():
            registry.put(each.model_copy(update={"overlapping": True}))
        if not others:
            enter_patients(registry, site, study_hash, hashes)
            registry.put(account.noted(most_of(site.ledger)))
    if others:  # only now, for an error inside would undo the marks
        raise _overlap()


def enter_patients(
    registry: Registry, site: SiteFolder, study_hash: bytes, hashes: frozenset[bytes]
) -> None:
    """Write the patients of a table down; those of an approved one stay, whatever comes later."""
    own = site.identity.public
    if any(key[0] == study_hash for key in site.ledger.state.approvals):
        held = [each for *key, each in registry.tables() if key == [own, study_hash]]
        hashes = hashes.union(*map(parted, held))
    registry.put_table(own, study_hash, joined(hashes))


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


def _overlap() -> ConsortiumError:
    return ConsortiumError(
        Code.ACCOUNTS_OVERLAP,
        "Two accounts of this hospital hold the same patients; nothing was kept or sent.",
        "Merge them into the one that stays: polyclinic client accounts merge --site FOLDER",
    )
