"""What the journal says of the ledger: every draw that left, and whether its charge is there.

The journal is written before anything leaves, and names the ledger's row that charged it. So it is
a witness, in every mode: a ledger that was put back from a copy lacks rows that the journal names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from polyclinic_client.ledger.file import LedgerFile
from polyclinic_client.records.entry import LedgerHead
from polyclinic_client.records.journal import Left, Noted, SettledEvent
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.release_id import ReleaseId

UNMASKED = "private_update"  # the same bytes whenever the same draw leaves


@dataclass
class Draw:
    """A noisy vector, or a vote, that left once or more often.

    Attributes
    ----------
    release : ReleaseId
        Run, round and sum.
    cost : Charge
        What it was charged at when it left.
    time : int
        When it was first noted that it leaves, milliseconds since 1970.
    head : LedgerHead or None
        The ledger's row that charged it; None in rows of earlier versions.
    settled : Charge or None
        Its headline, if it was settled.
    """

    release: ReleaseId
    cost: Charge
    time: int
    head: LedgerHead | None
    settled: Charge | None = None


def draws_of(journal: Iterable[Noted]) -> dict[ReleaseId, list[Draw]]:
    """Return everything charged that left, by release, each draw once.

    What is asked for again leaves again, and is the same draw. Two draws of one release are
    there only if a ledger was put back; both count. A settlement is of the last one.
    """
    found: dict[ReleaseId, dict[bytes, Draw]] = {}
    for noted in journal:
        match noted.event:
            case Left(cost=cost) as left if cost is not None:
                which = left.sum or str(noted.sequence)  # an older journal's rows name no sum
                release = ReleaseId(left.run, left.round_number, which)
                _add(found.setdefault(release, {}), left, Draw(release, cost, noted.time, left.row))
            case SettledEvent() as settled:
                release = ReleaseId(settled.run, settled.round_number, settled.sum)
                if release in found:
                    last = next(reversed(found[release].values()))
                    last.settled = settled.cost
    return {release: list(draws.values()) for release, draws in found.items()}


def _add(draws: dict[bytes, Draw], left: Left, draw: Draw) -> None:
    """Add a draw under what tells it from others; an earlier version tells less of the same one."""
    older = left.sha256 if left.kind == UNMASKED else b""
    if draw.head is None:
        draws.setdefault(older, draw)
    elif draw.head.digest not in draws:
        same = draws.pop(older, draw)
        same.head = draw.head
        draws[draw.head.digest] = same


def compared(ledger: LedgerFile, journal: Iterable[Noted]) -> tuple[list[Draw], list[Draw]]:
    """Return the draws that left and whose charge the ledger counts, and those that it lacks.

    Both in the order in which they left. Rows of earlier versions of the journal name no row of
    the ledger and are passed over.
    """
    held: list[Draw] = []
    lacking: list[Draw] = []
    draws = [draw for found in draws_of(journal).values() for draw in found]
    for draw in sorted(draws, key=lambda draw: draw.time):
        if draw.head is not None:
            (held if _is_held(ledger, draw, draw.head) else lacking).append(draw)
    return held, lacking


def check_journalled(ledger: LedgerFile, journal: Iterable[Noted]) -> None:
    """Refuse to go on if something left whose charge is not in the ledger.

    Raises
    ------
    LedgerError
        L006 if the ledger was put back from a copy that is older than the journal.
    """
    _, missing = compared(ledger, journal)
    if missing:
        raise LedgerError(
            Code.LEDGER_BEHIND,
            f"The journal names {len(missing)} releases that left and whose charge is not in the "
            f"ledger, the {missing[0].release} first; nothing leaves.",
            "Stop the node, then: polyclinic client ledger recover --from-consortium; "
            "what does not come back is charged with --charge-lost.",
        )


def _is_held(ledger: LedgerFile, draw: Draw, head: LedgerHead) -> bool:
    if ledger.forgives(head):
        return True
    held = ledger.state.releases.get(draw.release)
    named = held is not None and (held.sequence, held.reserved.fallback) == (head[0], draw.cost)
    return named and ledger.holds(head)
