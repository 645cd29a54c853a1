"""What everything that left has cost, from the journal alone: a second opinion on the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from polyclinic_client.ledger.journalled import Draw, compared, draws_of
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.records.journal import Noted
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.release_id import ReleaseId

Nth = tuple[ReleaseId, int]
"""A release and which of its draws: 0 unless a ledger was put back."""


@dataclass(frozen=True)
class Replay:
    """The account as the journal tells it, beside the ledger's.

    Attributes
    ----------
    delta : float
        Delta of the account.
    releases : int
        Charged draws that left: each (run, round, sum) once, unless a ledger was put back.
    drawn_again : tuple of str
        Releases that left as two draws, of which the ledger has charged the lost one.
    spent, fallback : float
        Epsilon with what the journal says is settled at headline, and with nothing settled.
    ledger_spent, ledger_fallback : float
        The same from the ledger. It counts a release from before it leaves, so it may hold more:
        what was reserved and never left, and what was charged for rows that were lost.
    """

    delta: float
    releases: int
    drawn_again: tuple[str, ...]
    spent: float
    fallback: float
    ledger_spent: float
    ledger_fallback: float

    def as_dict(self) -> dict[str, object]:
        """Return the figures for ``--json``."""
        return asdict(self)


def replay(journal: Iterable[Noted], ledger: Ledger) -> Replay:
    """Recompute an account from its journal and compare it with the ledger.

    Raises
    ------
    LedgerError
        L009 if something left that the ledger has not charged, or more than it has charged.
    """
    noted, budget = list(journal), ledger.budget()
    left, settled = charges_of(noted)
    found = Replay(
        budget.delta,
        len(left),
        tuple(str(release) for release, which in left if which == 1),
        spent_epsilon(Counter((left | settled).values()), budget.delta),
        spent_epsilon(Counter(left.values()), budget.delta),
        budget.spent,
        budget.fallback,
    )
    _, missing = compared(ledger, noted)
    if missing:
        raise _short(f"{_about(missing[0], left)} was not charged. ", found)
    if found.spent > found.ledger_spent or found.fallback > found.ledger_fallback:
        raise _short("", found)
    return found


def charges_of(journal: Iterable[Noted]) -> tuple[dict[Nth, Charge], dict[Nth, Charge]]:
    """Return what left at the price of leaving, and what of it was settled at headline.

    A release that was asked for again leaves again, and counts once. Two draws of one release
    count twice.
    """
    draws = {
        (release, which): draw
        for release, found in draws_of(journal).items()
        for which, draw in enumerate(found)
    }
    left = {nth: draw.cost for nth, draw in draws.items()}
    return left, {nth: draw.settled for nth, draw in draws.items() if draw.settled is not None}


def _about(draw: Draw, left: dict[Nth, Charge]) -> str:
    again = (draw.release, 1) in left
    return f"The {draw.release}" + (" left as two draws that both count, and one" * again)


def _short(why: str, found: Replay) -> LedgerError:
    return LedgerError(
        Code.LEDGER_SHORT,
        f"{why}The journal's releases cost epsilon {found.spent:.6f} (fallback "
        f"{found.fallback:.6f}), the ledger counts {found.ledger_spent:.6f} "
        f"(fallback {found.ledger_fallback:.6f}).",
        "Stop the node; if the ledger was put back from a copy: polyclinic client ledger recover",
    )
