"""The rows of the ledger: what was approved, reserved, attempted, closed and settled.

Rows hold mechanisms (charges), never epsilons: what they cost together is computed from them.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from polyclinic_client.records.entry import Digest, Entry, unreadable
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.secure_sum.chain import Chain

Price = Literal["headline", "fallback"]
UNDER_WAY = 2  # rounds whose closing statements cannot be here yet: this one and the one before


class Planned(Entry):
    """So many releases of one kind, each at this price.

    Attributes
    ----------
    kind : str
        Kind of release, for example ``gradient``.
    releases : int
        How many: the rounds of a study.
    headline, fallback : Charge
        The price if at most c participants collude, and the price of the own share alone; equal
        where a release is private on its own (mode local).
    """

    kind: str
    releases: Annotated[int, Field(ge=1)]
    headline: Charge
    fallback: Charge


class Approval(Entry):
    """What this hospital agreed to.

    Attributes
    ----------
    study_hash : bytes
        The study, 32 bytes.
    run : str or None
        The one run that is allowed; None allows any.
    planned : tuple of Planned
        Releases and their prices, one item a kind.
    lost_rounds : int
        How many rounds may stay at fallback. Not counted are the round that is reserved and the
        one before it, whose closing statements arrive with the next request.
    expires : date
        The last day (UTC) on which anything leaves.
    """

    study_hash: Digest
    run: str | None = None
    planned: Annotated[tuple[Planned, ...], Field(min_length=1)]
    lost_rounds: Annotated[int, Field(ge=0)]
    expires: dt.date

    def plan_of(self, kind: str) -> Planned | None:
        """Return the item for a kind of release."""
        return next((item for item in self.planned if item.kind == kind), None)

    def worst_case(self) -> Counter[Charge]:
        """Return the most that the account can count for this approval at any moment.

        Two rounds more than `lost_rounds` at fallback: those that are under way.
        """
        charges: Counter[Charge] = Counter()
        for item in self.planned:
            at_fallback = min(item.releases, self.lost_rounds + UNDER_WAY)
            charges[item.fallback] += at_fallback
            charges[item.headline] += item.releases - at_fallback
        return +charges

    def all_at_fallback(self, less: Mapping[str, int] | None = None) -> Counter[Charge]:
        """Return every release, but for the numbers in `less`, at fallback."""
        charges: Counter[Charge] = Counter()
        for item in self.planned:
            charges[item.fallback] += max(0, item.releases - (less or {}).get(item.kind, 0))
        return +charges


class Opened(Entry):
    """The ledger was made; `declared_reset` if this hospital had one before."""

    entry: Literal["opened"] = "opened"
    delta: Annotated[float, Field(gt=0, lt=1)]
    epsilon_cap: Annotated[float, Field(gt=0)]
    fallback_cap: Annotated[float, Field(gt=0)] | None = None
    declared_reset: bool = False


class CapsSet(Entry):
    """The hospital set new limits."""

    entry: Literal["caps"] = "caps"
    epsilon_cap: Annotated[float, Field(gt=0)]
    fallback_cap: Annotated[float, Field(gt=0)] | None = None


class Approved(Entry):
    """The hospital approved a study."""

    entry: Literal["approved"] = "approved"
    approval: Approval


class Withdrawn(Entry):
    """The hospital withdrew an approval."""

    entry: Literal["withdrawn"] = "withdrawn"
    study_hash: Digest
    run: str | None = None


class Expired(Entry):
    """An approval was found to have expired: the time of this row keeps it so."""

    entry: Literal["expired"] = "expired"
    study_hash: Digest
    run: str | None = None


class Reserved(Entry):
    """A release was charged, at fallback, and its noisy vector stored with this row."""

    entry: Literal["reserved"] = "reserved"
    release: ReleaseId
    study_hash: Digest
    headline: Charge
    fallback: Charge
    broadcast: Digest
    transcript: bytes
    clip: float
    grid_exponent: int
    length: int
    vector: Digest

    def asks_the_same(self, other: Reserved) -> bool:
        """Say whether both are the same request; the vectors may differ."""
        return self.model_copy(update={"vector": other.vector}) == other


class Attempted(Entry):
    """A masked payload was made for an attempt of a release."""

    entry: Literal["attempted"] = "attempted"
    release: ReleaseId
    epoch: bytes
    chain: Chain
    payload: Digest

    @property
    def moment(self) -> tuple[bytes, int]:
        """Epoch and number of the attempt."""
        return self.epoch, len(self.chain)


class Closed(Entry):
    """No further attempt of a release will be answered."""

    entry: Literal["closed"] = "closed"
    release: ReleaseId
    chain: Chain


class Settled(Entry):
    """What a release has cost; `proof` holds the closing statements."""

    entry: Literal["settled"] = "settled"
    release: ReleaseId
    at: Price
    proof: bytes = b""


class RunClosed(Entry):
    """A run is over; its stored vectors are erased."""

    entry: Literal["run-closed"] = "run-closed"
    run: str


class SeenHead(Entry):
    """The head of another hospital's ledger: counter and salted hash."""

    identity: Digest
    counter: Annotated[int, Field(ge=0)]
    digest: Digest


class HeadsSeen(Entry):
    """Heads of other hospitals' ledgers, higher than those seen before."""

    entry: Literal["heads"] = "heads"
    heads: tuple[SeenHead, ...]


class Share(Entry):
    """So many equal charges."""

    charge: Charge
    count: Annotated[int, Field(ge=1)]


def shares_of(charges: Mapping[Charge, int]) -> tuple[Share, ...]:
    """Return a multiset of charges as rows hold it."""
    return tuple(Share(charge=each, count=count) for each, count in charges.items() if count > 0)


class Lost(Entry):
    """Rows were lost for good; whatever they can have held is charged at fallback.

    Attributes
    ----------
    since : int
        The last row that is surely the one that others know.
    charges : tuple of Share
        What is charged for the lost rows.
    """

    entry: Literal["lost"] = "lost"
    since: int
    charges: tuple[Share, ...]


AnyEntry = Annotated[
    Opened
    | CapsSet
    | Approved
    | Withdrawn
    | Expired
    | Reserved
    | Attempted
    | Closed
    | Settled
    | RunClosed
    | HeadsSeen
    | Lost,
    Field(discriminator="entry"),
]
_ADAPTER: TypeAdapter[AnyEntry] = TypeAdapter(AnyEntry)


def read_entry(body: bytes) -> AnyEntry:
    """Return the entry of a row's body.

    Raises
    ------
    LedgerError
        L002 if this version knows no such entry.
    """
    try:
        return _ADAPTER.validate_json(body)
    except ValidationError:
        raise unreadable("of an unknown form") from None
