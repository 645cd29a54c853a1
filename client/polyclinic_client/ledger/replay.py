"""What everything that left has cost, from the journal alone: a second opinion on the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from polyclinic_client.journal import Left, Noted, Settled
from polyclinic_client.ledger.budget import Budget
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.charges import Charge

Name = tuple[str, int, str]


@dataclass(frozen=True)
class Replay:
    """The account as the journal tells it, beside the ledger's.

    Attributes
    ----------
    delta : float
        Delta of the account.
    releases : int
        Charged releases that left, each (run, round, sum) once.
    spent, fallback : float
        Epsilon with what the journal says is settled at headline, and with nothing settled.
    ledger_spent, ledger_fallback : float
        The same from the ledger. It counts a release from before it leaves, so it may hold more:
        what was reserved and never left, and what was charged for rows that were lost.
    """

    delta: float
    releases: int
    spent: float
    fallback: float
    ledger_spent: float
    ledger_fallback: float

    def as_dict(self) -> dict[str, object]:
        """Return the figures for ``--json``."""
        return asdict(self)


def replay(journal: Iterable[Noted], ledger: Budget) -> Replay:
    """Recompute an account from its journal and compare it with the ledger.

    Raises
    ------
    LedgerError
        L009 if more left than the ledger has charged.
    """
    left, settled = charges_of(journal)
    found = Replay(
        ledger.delta,
        len(left),
        spent_epsilon(Counter((left | settled).values()), ledger.delta),
        spent_epsilon(Counter(left.values()), ledger.delta),
        ledger.spent,
        ledger.fallback,
    )
    if found.spent > found.ledger_spent or found.fallback > found.ledger_fallback:
        raise LedgerError(
            Code.LEDGER_SHORT,
            f"The journal's releases cost epsilon {found.spent:.6f} (fallback "
            f"{found.fallback:.6f}), the ledger counts {found.ledger_spent:.6f} "
            f"(fallback {found.ledger_fallback:.6f}).",
            "Stop taking part; the ledger is an old copy or was not asked: verify both files.",
        )
    return found


def charges_of(journal: Iterable[Noted]) -> tuple[dict[Name, Charge], dict[Name, Charge]]:
    """Return what left at the price of leaving, and what of it was settled at headline.

    A release that was asked for again leaves again, and counts once. A row that names no sum (an
    older journal's) counts on its own.
    """
    left: dict[Name, Charge] = {}
    settled: dict[Name, Charge] = {}
    for noted in journal:
        match noted.event:
            case Left(cost=cost) as event if cost is not None:
                left[_name(event, event.sum or str(noted.sequence))] = cost
            case Settled(cost=cost) as event:
                settled[_name(event, event.sum)] = cost
    return left, {name: cost for name, cost in settled.items() if name in left}


def _name(event: Left | Settled, which: str) -> Name:
    return event.run, event.round_number, which
