"""What the rows of a ledger say together; pure, and brought up to date row by row."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field

from polyclinic_client.ledger.entries import (
    UNDER_WAY,
    AnyEntry,
    Approval,
    Approved,
    Attempted,
    CapsSet,
    Closed,
    HeadsSeen,
    Lost,
    Opened,
    Price,
    Reserved,
    RunClosed,
    SeenHead,
    Settled,
    Withdrawn,
)
from polyclinic_client.records.entry import unreadable
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.secure_sum.chain import Chain
from polyclinic_common.secure_sum.statements import MOST_ROWS

ApprovalKey = tuple[bytes, str | None]


@dataclass
class ApprovalState:
    """An approval and what was reserved under it, by kind."""

    approval: Approval
    sequence: int
    reserved: Counter[str] = field(default_factory=Counter)
    unsettled: dict[ReleaseId, None] = field(default_factory=dict)
    ended: int | None = None

    def is_open(self, today: dt.date) -> bool:
        """Say whether anything may still be reserved under it."""
        return self.ended is None and today <= self.approval.expires

    def rounds_at_fallback(self) -> set[tuple[str, int]]:
        """Return the rounds with a release that counts more than its headline."""
        return {(release.run, release.round_number) for release in self.unsettled}

    def outstanding(self) -> Counter[Charge]:
        """Return the most that the releases still to come can count."""
        charges: Counter[Charge] = Counter()
        may_be_lost = max(0, self.approval.lost_rounds + UNDER_WAY - len(self.rounds_at_fallback()))
        for item in self.approval.planned:
            left = item.releases - self.reserved[item.kind]
            at_fallback = min(left, may_be_lost)
            charges[item.fallback] += at_fallback
            charges[item.headline] += left - at_fallback
        return +charges


@dataclass
class ReleaseState:
    """Where one release stands."""

    reserved: Reserved
    sequence: int
    approved: ApprovalState
    chain: Chain = ()
    attempts: dict[tuple[bytes, int], bytes] = field(default_factory=dict)
    closed: Chain | None = None
    settled: Price | None = None
    dropped: bool = False
    answers_lost: bool = False

    @property
    def closed_as_answered(self) -> bool:
        """Whether it was closed over the chain answered, to which no lost answer can belong."""
        return self.closed == self.chain != () and not self.answers_lost

    @property
    def counts(self) -> Charge:
        """What the release counts as: fallback until it is settled at headline."""
        return self.reserved.headline if self.settled == "headline" else self.reserved.fallback

    @property
    def at_fallback(self) -> bool:
        """Whether it counts more than its headline."""
        return self.settled != "headline" and self.reserved.headline != self.reserved.fallback


class LedgerState:
    """The account of a hospital.

    Attributes
    ----------
    opened : Opened
        The first row.
    epsilon_cap, fallback_cap : float, float or None
        Limits of the whole account.
    counted : Counter of Charge
        The account: settled releases at what they settled, all others at fallback.
    fallback : Counter of Charge
        Every release at fallback.
    settled : Counter of Charge
        Settled releases alone.
    forgiven : list of (int, int)
        Rows strictly between two numbers were lost or reset, and said so.
    """

    def __init__(self) -> None:
        self.opened: Opened | None = None
        self.epsilon_cap = 0.0
        self.fallback_cap: float | None = None
        self.counted: Counter[Charge] = Counter()
        self.fallback: Counter[Charge] = Counter()
        self.settled: Counter[Charge] = Counter()
        self.lost: Counter[Charge] = Counter()
        self.approvals: dict[ApprovalKey, ApprovalState] = {}
        self.releases: dict[ReleaseId, ReleaseState] = {}
        self.closed_runs: set[str] = set()
        self.study_of: dict[str, bytes] = {}
        self.heads: dict[bytes, SeenHead] = {}
        self.forgiven: list[tuple[int, int]] = []

    @property
    def delta(self) -> float:
        """Delta of the account; 0 before the first row."""
        return self.opened.delta if self.opened else 0.0

    def approval_for(self, study_hash: bytes, run: str) -> ApprovalState | None:
        """Return the approval of exactly this run, else the study's for any run."""
        return self.approvals.get((study_hash, run)) or self.approvals.get((study_hash, None))

    def open_approvals(self, today: dt.date) -> list[ApprovalState]:
        """Return the approvals under which something may still be reserved."""
        return [each for each in self.approvals.values() if each.is_open(today)]

    def outstanding(self, today: dt.date) -> Counter[Charge]:
        """Return the most that the open approvals can still count."""
        total: Counter[Charge] = Counter()
        for each in self.open_approvals(today):
            total += each.outstanding()
        return total

    def most(self) -> Counter[Charge]:
        """Return every release made, and every one that is still approved, at fallback."""
        total = self.fallback.copy()
        for each in self.approvals.values():
            if each.ended is None:
                total += each.approval.all_at_fallback(each.reserved)
        return total

    def fallback_until(self, sequence: int) -> Counter[Charge]:
        """Return the releases reserved up to a row, at fallback."""
        return Counter(
            held.reserved.fallback for held in self.releases.values() if held.sequence <= sequence
        )

    def counted_with(self, settling: tuple[ReleaseId, ...]) -> Counter[Charge]:
        """Return the account as it is once these releases are settled at headline."""
        counted = self.counted.copy()
        for release in settling:
            state = self.releases[release]
            counted[state.counts] -= 1
            counted[state.reserved.headline] += 1
        return counted

    def apply(self, entry: AnyEntry, sequence: int) -> None:  # noqa: C901, PLR0912
        """Take in a row; it was checked before it was written."""
        match entry:
            case Opened():
                self.opened = entry
                self.epsilon_cap, self.fallback_cap = entry.epsilon_cap, entry.fallback_cap
                self.forgiven.append((0, sequence))
            case CapsSet():
                self.epsilon_cap, self.fallback_cap = entry.epsilon_cap, entry.fallback_cap
            case Approved(approval=approval):
                key = (approval.study_hash, approval.run)
                self.approvals[key] = ApprovalState(approval, sequence)
            case Withdrawn():
                self.approvals[entry.study_hash, entry.run].ended = sequence
            case Reserved():
                self._reserve(entry, sequence)
            case Attempted():
                state = self.releases[entry.release]
                state.chain = entry.chain
                state.attempts[entry.moment] = entry.payload
            case Closed():
                self.releases[entry.release].closed = entry.chain
            case Settled():
                self._settle(entry)
            case RunClosed():
                self.closed_runs.add(entry.run)
                for key, approved in self.approvals.items():
                    if key[1] == entry.run and approved.ended is None:
                        approved.ended = sequence
            case HeadsSeen():
                self.heads |= {
                    head.identity: head for head in entry.heads if head.counter <= MOST_ROWS
                }
            case Lost():
                self._lose(entry, sequence)

    def _reserve(self, entry: Reserved, sequence: int) -> None:
        approved = self.approval_for(entry.study_hash, entry.release.run)
        if approved is None:
            raise unreadable("a release was reserved without approval")
        state = ReleaseState(entry, sequence, approved)
        self.releases[entry.release] = state
        self.study_of.setdefault(entry.release.run, entry.study_hash)
        self.counted[entry.fallback] += 1
        self.fallback[entry.fallback] += 1
        approved.reserved[entry.release.kind] += 1
        if state.at_fallback:
            approved.unsettled[entry.release] = None

    def _settle(self, entry: Settled) -> None:
        state = self.releases[entry.release]
        self.counted[state.counts] -= 1
        if state.settled is not None:
            self.settled[state.counts] -= 1
        state.settled = entry.at
        self.counted[state.counts] += 1
        self.settled[state.counts] += 1
        if not state.at_fallback:
            state.approved.unsettled.pop(entry.release, None)

    def _lose(self, entry: Lost, sequence: int) -> None:
        for share in entry.charges:
            self.counted[share.charge] += share.count
            self.fallback[share.charge] += share.count
            self.lost[share.charge] += share.count
        for approved in self.approvals.values():
            approved.ended = approved.ended or sequence
        for state in self.releases.values():
            state.dropped = True
            state.answers_lost = state.answers_lost or state.closed is None
        self.forgiven.append((entry.since, sequence))
