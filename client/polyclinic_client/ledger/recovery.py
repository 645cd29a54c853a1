"""Bringing a ledger up to what others have seen of it: rows that come back, and rows that do not.

Nothing here can lower what is counted: rows come back as they were signed, or are charged as if
everything that was approved had been spent at fallback.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyclinic_client.ledger.entries import (
    Approval,
    Approved,
    Lost,
    read_entry,
)
from polyclinic_client.ledger.file import KIND
from polyclinic_client.ledger.journalled import Draw, compared
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.ledger.state import LedgerState
from polyclinic_client.ledger.witness import Testimony, read_witness
from polyclinic_client.records.chained_log import Row
from polyclinic_client.records.entry import LedgerHead
from polyclinic_client.records.journal import Noted
from polyclinic_client.records.sqlite_file import coded, damaged
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.privacy.charges import Charge


@dataclass(frozen=True)
class Recovery:
    """What a recovery did.

    Attributes
    ----------
    reimported : int
        Rows that came back.
    charged : int
        Releases charged for rows that did not, 0 if none is missing.
    """

    reimported: int
    charged: int


def recover(
    path: Path,
    identity: Identity,
    *,
    witness: Path | None = None,
    rows: Sequence[Row] = (),
    claims: Sequence[LedgerHead] = (),
    journal: Iterable[Noted] = (),
    charge_lost: bool = False,
    new_witness: bool = False,
) -> Recovery:
    """Bring a restored ledger up to date.

    Parameters
    ----------
    rows : sequence of Row
        This hospital's own signed rows, kept by others or saved from a damaged disk.
    claims : sequence of LedgerHead
        What others have seen of this ledger; what it cannot have had is ignored.
    journal : iterable of Noted
        This hospital's journal: what it says left and is not in the ledger is charged, once.
    charge_lost : bool
        Whether what cannot be brought back may be charged: for every approval that had not ended,
        all releases not on record, at fallback. These approvals end.
    new_witness : bool
        Whether to begin a new witness; the old one, if any, is then not asked.

    Raises
    ------
    LedgerError
        L002 if a row is not this hospital's, L006 if rows are missing and may not be charged.
    """
    with Ledger.open_unwitnessed(path, identity, witness) as ledger:
        testimony = _testimony(ledger, identity, new_witness)
        gone = _missing(ledger, rows, identity.public)
        back = _continuing(ledger, gone)
        if back:
            ledger.reimport(back)
            gone = [row for row in gone if row not in back and not _is_forgiven(ledger, row)]
        reimported = len(back)
        heads = [*claims] + ([testimony.head] if testimony else [])
        heads = [head for head in heads if ledger.believes(head)]
        held, left = compared(ledger, journal)
        charged = 0
        unknown = [head.counter for head in heads if not ledger.knows(head)]
        unknown += [row.sequence for row in gone]
        unknown += [draw.head.counter for draw in left if draw.head is not None]
        if unknown:
            if not charge_lost:
                raise _rows_missing(max(unknown))
            last = ledger.head().counter
            told = [*claims, *_before(held, left)] + ([ledger.head()] if reimported else [])
            sure = _confirmed(ledger, told, gone, min(unknown))
            since = min(last if min(unknown) > last else sure, _written_before(ledger, left))
            in_force = _in_force(ledger.state, since, min(since, sure))
            charges = _held_at_most(ledger.state, since, in_force, gone, testimony, left)
            ledger.charge_lost(max(unknown), since, charges)
            charged = charges.total()
        ledger.write_witness()
        return Recovery(reimported, charged)


def read_rows(path: Path) -> list[Row]:
    """Return rows written by `write_rows`.

    Raises
    ------
    LedgerError
        L001 if there is no such file, L002 if it does not hold rows.
    """
    with coded(path):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    try:
        return [Row.read(line) for line in lines if line.strip()]
    except (ValueError, KeyError, TypeError):
        raise damaged(path, "it does not hold a ledger's rows, one JSON object a line") from None


def write_rows(rows: Sequence[Row]) -> str:
    """Return rows as text, one JSON object a line."""
    return "".join(row.text() + "\n" for row in rows)


def _testimony(ledger: Ledger, identity: Identity, new_witness: bool) -> Testimony | None:
    if ledger.witness is None or new_witness:
        return None
    return read_witness(ledger.witness, identity.public)


def _missing(ledger: Ledger, rows: Sequence[Row], public: bytes) -> list[Row]:
    """Return the rows that the ledger lacks, in order, each once: several may keep the same."""
    own = {row.hash for row in ledger.export_rows()}
    for row in rows:
        if row.hash != row.link(KIND) or not row.is_signed_by(public):
            raise damaged(ledger.path, f"the row {row.sequence} offered is not this hospital's")
    return sorted({row.hash: row for row in rows if row.hash not in own}.values())


def _continuing(ledger: Ledger, gone: list[Row]) -> list[Row]:
    """Return the missing rows from this ledger's last one to the newest; none if they do not meet.

    Others may have kept rows of an earlier branch as well, which the newer one declares lost.
    """
    missing = {row.hash: row for row in gone}
    found: list[Row] = []
    link = gone[-1].hash if gone else b""
    while link in missing:
        found.append(missing[link])
        link = missing[link].previous
    return found[::-1] if link == ledger.export_rows()[-1].hash else []


def _is_forgiven(ledger: Ledger, row: Row) -> bool:
    return ledger.forgives(LedgerHead(row.sequence, row.hash))


def _confirmed(ledger: Ledger, told: list[LedgerHead], gone: list[Row], lowest: int) -> int:
    """Return the last row below `lowest` that others name, or that a missing row follows.

    What this ledger holds after it may have been written when it had been put back, although
    all that is missing has higher numbers. The witness confirms nothing: it is this ledger's own.
    """
    own = {row.hash: row.sequence for row in ledger.export_rows()}
    confirmed = [head.counter for head in told if ledger.knows(head)]
    confirmed += [own[row.previous] for row in gone if row.previous in own]
    return max((counter for counter in confirmed if counter < lowest), default=0)


def _before(held: list[Draw], left: list[Draw]) -> list[LedgerHead]:
    """Return the rows that charged what left before the first lost draw: surely shared."""
    first = left[0].time if left else 0
    return [draw.head for draw in held if draw.head is not None and draw.time < first]


def _written_before(ledger: Ledger, left: list[Draw]) -> int:
    """Return the last row from before anything lost had left: later ones are of another branch."""
    rows = ledger.export_rows()
    if left:
        rows = [row for row in rows if row.time <= left[0].time]
    return max((row.sequence for row in rows), default=0)


def _held_at_most(
    state: LedgerState,
    since: int,
    in_force: list[tuple[Approval, Counter[str]]],
    gone: list[Row],
    testimony: Testimony | None,
    left: list[Draw],
) -> Counter[Charge]:
    """Return all that rows lost after `since` can have held, at fallback.

    What the journal says left is within what its approval is charged at; only what left under
    an approval that was lost as well comes on top.
    """
    approvals, charges = _foreign(gone)
    in_force = in_force + _unknown(state, approvals)
    for approval, done in in_force:
        charges += approval.all_at_fallback(done)
    covered: Counter[Charge] = Counter()
    beyond: Counter[Charge] = Counter()
    for draw in left:
        known = any(_covers(approval, draw) for approval, _ in in_force)
        (covered if known else beyond)[draw.cost] += 1
    charges = (charges | covered) + beyond
    if testimony is not None:
        most = Counter({share.charge: share.count for share in testimony.most})
        charges |= most - state.fallback_until(since)
    return charges


def _in_force(state: LedgerState, since: int, sure: int) -> list[tuple[Approval, Counter[str]]]:
    """Return approvals that others may not have seen end, with what was reserved until `since`.

    An end written after `sure` may be of this copy alone: on the lost branch the study went on.
    """
    found: list[tuple[Approval, Counter[str]]] = []
    for approved in state.approvals.values():
        if approved.ended is not None and approved.ended <= sure:
            continue
        done = Counter(
            held.reserved.release.kind
            for held in state.releases.values()
            if held.approved is approved and held.sequence <= since
        )
        found.append((approved.approval, done))
    return found


def _unknown(state: LedgerState, others: list[Approval]) -> list[tuple[Approval, Counter[str]]]:
    """Return approvals of lost rows that are not known otherwise, nothing reserved under them."""
    found: list[tuple[Approval, Counter[str]]] = []
    known = {(each.approval.study_hash, each.approval.run) for each in state.approvals.values()}
    for approval in others:
        if (approval.study_hash, approval.run) not in known:
            known.add((approval.study_hash, approval.run))
            found.append((approval, Counter()))
    return found


def _covers(approval: Approval, draw: Draw) -> bool:
    """Say whether a draw can have been reserved under an approval."""
    item = approval.plan_of(draw.release.kind)
    run = approval.run in (None, draw.release.run)
    return run and item is not None and item.fallback == draw.cost


def _foreign(gone: list[Row]) -> tuple[list[Approval], Counter[Charge]]:
    """Return approvals among lost rows, and what these charged for earlier losses.

    What they reserved is within what their approvals are charged at.
    """
    approvals: list[Approval] = []
    charges: Counter[Charge] = Counter()
    for row in gone:
        match read_entry(row.body):
            case Approved(approval=approval):
                approvals.append(approval)
            case Lost(charges=shares):
                charges.update({share.charge: share.count for share in shares})
    return approvals, charges


def _rows_missing(counter: int) -> LedgerError:
    return LedgerError(
        Code.LEDGER_BEHIND,
        f"Rows up to number {counter} were seen by others and are not here.",
        "Give them with --rows, or charge all that they can have held with --charge-lost.",
    )
