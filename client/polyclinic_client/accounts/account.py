"""The account of one site: begun when it joins, known by its registry from then on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from polyclinic_client.accounts.registry import Account, Registry, absent
from polyclinic_client.accounts.rule import SecondRule
from polyclinic_client.folder.layout import IDENTITY, read_identity, read_unfinished
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_common.errors import Code, ConsortiumError, LedgerError
from polyclinic_common.files import write_atomically
from polyclinic_common.privacy.charges import Charge

PLACE = "account.json"


@dataclass(frozen=True)
class Beginning:
    """How an account is begun where the machine has known others.

    Attributes
    ----------
    declared_reset : bool
        Whether the hospital knowingly begins anew after an account whose folder is lost.
    rule : SecondRule or None
        What keeps its patients apart from those of accounts that stand.
    """

    declared_reset: bool = False
    rule: SecondRule | None = None


ONLY = Beginning()


def begin_account(
    accounts: Path, path: Path, make: Callable[[], SiteFolder], how: Beginning = ONLY
) -> None:
    """Enter a site's account into the registry, in one transaction with the making of its ledger.

    Parameters
    ----------
    accounts : Path
        The registry; made where there is none.
    path : Path
        The site's folder.
    make : callable
        Makes the folder, or opens the one that an earlier, interrupted call has made.
    how : Beginning
        Of an account that is not the only one.

    Raises
    ------
    ConsortiumError
        A001 if another account stands, A002 if one is lost and no reset is declared, A006 if this
        one was ended, A004 and A005 as `Registry.open`.
    """
    identity = read_identity(path) if (path / IDENTITY).exists() else read_unfinished(path)
    own = identity.public if identity is not None else None
    with Registry.open(accounts, create=True) as registry, registry.writing():
        held = registry.accounts()
        if own in held:
            require_stands(held[own])
            registry.put(in_this_folder(held[own], path))
        else:
            lost = _replaced(list(held.values()), how)
            with make() as site:
                _carry(site.ledger, lost, how)
                registry.put(entry_of(site, how.rule, lost))
                registry.put(*(each.ended(site.identity.public) for each in lost))
    keep_place(path, accounts)


def note_joined(path: Path, name: str, consortium: str) -> None:
    """Write down which hospital of which consortium an account is."""
    with SiteFolder.open(path) as site, account_of(site) as (registry, account):
        registry.put(account.model_copy(update={"name": name, "consortium": consortium}))


def note_spending(site: SiteFolder) -> None:
    """Write down the most that an account can have spent: for the day when its ledger is lost.

    Raises
    ------
    ConsortiumError
        As `account_of`.
    """
    with account_of(site) as (registry, account):
        registry.put(account.noted(most_of(site.ledger)))


def require_account(site: SiteFolder) -> None:
    """Refuse to go on for a site whose account does not stand in its registry.

    Raises
    ------
    ConsortiumError
        As `account_of`.
    """
    with account_of(site):
        pass


@contextmanager
def account_of(site: SiteFolder) -> Iterator[tuple[Registry, Account]]:
    """Hold the registry that a site's account stands in.

    Raises
    ------
    ConsortiumError
        A004 if the registry is gone or does not know it, A005 if it cannot be used, A006 if the
        account was ended, A001 if the folder is a copy of one that is still there.
    """
    place = place_of(site.path)
    with Registry.open(place) as registry, registry.writing():
        account = registry.accounts().get(site.identity.public)
        if account is None:
            raise absent(f"The registry of accounts {place} does not know this site.")
        require_stands(account)
        yield registry, in_this_folder(account, site.path)


def in_this_folder(account: Account, path: Path) -> Account:
    """Return an account with the folder that it is in now; a copy of that folder is refused."""
    if not _is_same(account.folder, path):
        if not account.is_lost():
            raise ConsortiumError(
                Code.ACCOUNT_EXISTS,
                f"{path} is a copy of {account.folder}: two ledgers of one account.",
                f"Use the first: --site {account.folder}; remove the copy.",
            )
        return account.model_copy(update={"folder": str(path.absolute())})
    return account


def require_stands(account: Account) -> None:
    """Refuse an account that was ended."""
    if not account.stands:
        raise ConsortiumError(
            Code.ACCOUNT_ENDED,
            "This account was ended; another account of this hospital counts what it spent.",
            "See which: polyclinic client accounts list",
        )


def place_of(path: Path) -> Path:
    """Return the registry that a site was entered into.

    Raises
    ------
    ConsortiumError
        A004 if it was entered into none: by a version that had none, or the note is damaged.
    """
    try:
        plain = json.loads((path / PLACE).read_text(encoding="utf-8"))
        return Path(str(plain["accounts"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise absent(f"The site in {path} stands in no registry of accounts.") from None


def keep_place(path: Path, accounts: Path) -> None:
    """Keep in a site's folder where its registry lies."""
    text = json.dumps({"accounts": str(accounts.absolute())}, indent=2)
    write_atomically(path / PLACE, text.encode())


def account_line(path: Path, identity: bytes) -> str:
    """Return in one line how the account of a site stands; a registry that is gone is no error."""
    try:
        with Registry.open(place_of(path)) as registry:
            held = registry.accounts()
    except ConsortiumError as error:
        return f"{error.what} [{error.code}]"
    own = held.get(identity)
    if own is None or not own.stands:
        return "ended, or unknown to its registry: polyclinic client accounts list"
    others = sum(each.stands for each in held.values()) - 1
    line = f"one of {others + 1} of this hospital" if others else "the only one of this hospital"
    if own.overlapping:
        line += "; OVERLAPS with another: polyclinic client accounts merge"
    return line if own.rule is None else f"{line}; {own.rule.line()}"


def most_of(ledger: Ledger) -> Counter[Charge]:
    """Return every release that was made, and every one that is approved, at fallback."""
    ledger.head()  # takes in what other processes have written
    return ledger.state.most()


def charge(ledger: Ledger, charges: Counter[Charge]) -> None:
    """Charge what other accounts of this hospital can have spent; running approvals end."""
    if charges:
        last = ledger.head().counter
        ledger.charge_lost(last, last, charges)


def exists(account: Account) -> ConsortiumError:
    """Return the error for a second account beside one that stands."""
    return ConsortiumError(
        Code.ACCOUNT_EXISTS,
        f"This machine has an account of this hospital already: {account.folder}.",
        f"Use it: --site {account.folder}. A second one needs --second-account RULE.toml: a public "
        "rule that keeps its patients apart, and two approvers.",
    )


def entry_of(site: SiteFolder, rule: SecondRule | None, before: Sequence[Account] = ()) -> Account:
    """Return a site's account as it is entered, in the place of lost ones."""
    return Account(
        identity=site.identity.public,
        folder=str(site.path.absolute()),
        made=site.ledger.now(),
        rule=rule,
        overlapping=any(each.overlapping for each in before),
    ).noted(most_of(site.ledger))


def _replaced(held: list[Account], how: Beginning) -> list[Account]:
    """Return the lost accounts that a new one takes the place of."""
    standing = [each for each in held if each.stands]
    lost = [each for each in standing if each.is_lost()]
    there = [each for each in standing if each not in lost]
    if there and how.rule is None:
        raise exists(there[0])
    spent = [each for each in lost if each.name or each.most]  # the others never came to anything
    if spent and not how.declared_reset:
        raise ConsortiumError(
            Code.ACCOUNT_LOST,
            f"This hospital has an account in {spent[0].folder}, and the folder is not there.",
            "Put it back or mount it; if it was moved, use it where it is; if it is lost for good: "
            "--declare-reset, which other hospitals see and which keeps what was spent.",
        )
    return lost


def _carry(ledger: Ledger, lost: list[Account], how: Beginning) -> None:
    """Charge a new ledger with all that lost accounts can have spent, once."""
    if how.declared_reset and not ledger.declared_reset:
        raise LedgerError(
            Code.LEDGER_EXISTS,
            f"{ledger.path} is there already, and was begun without a declared reset.",
            "Declare the reset in a new folder.",
        )
    owed = sum((each.spent for each in lost), Counter[Charge]())
    charge(ledger, owed - ledger.state.lost)  # an interrupted call may have charged it already


def _is_same(folder: str, path: Path) -> bool:
    """Say whether two paths lead to one folder; one that is gone is compared by its name."""
    try:
        return path.samefile(folder)
    except OSError:
        return str(path.absolute()) == folder
