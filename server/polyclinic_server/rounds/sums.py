"""The server's part of mode secure-sum: key exchange, chains of attempts, closing statements.

The server only carries what hospitals signed and adds up masked vectors. Nothing that it could
leave out, change or repeat here breaks a hospital's privacy: hospitals check for themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from polyclinic_common.errors import Code, RunError
from polyclinic_common.models.score_head import Vector
from polyclinic_common.packing import Value, pack, unpack
from polyclinic_common.release_id import broadcast_hash
from polyclinic_common.secure_sum.chain import Attempt, Chain
from polyclinic_common.secure_sum.masks import Integers, unmasked_sum
from polyclinic_common.secure_sum.session import session_of
from polyclinic_common.wire import (
    AnnouncedKeys,
    AnsweredKeys,
    ClosedSum,
    CloseRequest,
    Introduction,
    MaskedVector,
    OpenRequest,
    Reason,
    Refusal,
    Release,
    Request,
    SettleRequest,
    SumRecord,
    SumRequest,
)
from polyclinic_server.rounds.mail import Ask
from polyclinic_server.rounds.signatories import Signatories

ASKS_BEFORE_EXCLUSION = 2
MOST_ASKS = 50
MOST_EXCHANGES = 5
RESTARTED = Refusal(Reason.OUT_OF_ORDER)
Signed = type[AnnouncedKeys] | type[AnsweredKeys] | type[ClosedSum]


@dataclass(frozen=True)
class Carried:
    """What passes from one sum to the next, and to a coordinator that goes on with a run.

    Attributes
    ----------
    previous : SumRecord or None
        The last sum that came out.
    closings : tuple of bytes
        Closing statements of it.
    chain : tuple
        The attempts of the next sum that may have been asked for already: hospitals answer no
        other beginning.
    """

    previous: SumRecord | None = None
    closings: tuple[bytes, ...] = ()
    chain: Chain = ()

    def to_bytes(self) -> bytes:
        """Return it as bytes, for a checkpoint."""
        last, fields = self.previous, list[Value]()
        if last is not None:
            fields = [last.before, last.round_number, last.kind, last.chain, last.broadcast]
        return pack([fields, self.closings, self.chain])

    @staticmethod
    def from_bytes(data: bytes) -> Carried:
        """Read it back from this server's own checkpoint; empty at the start of a run."""
        if not data:
            return Carried()
        parts: Any = unpack(data)
        fields, closings, chain = parts
        return Carried(SumRecord(*fields) if fields else None, closings, chain)


Keep = Callable[[Carried], None]


class SecureSums:
    """The sums of one run, one after the other.

    Parameters
    ----------
    study_hash, run_id : str
        What is trained, and the name of the run.
    identities : mapping
        Identity key of every hospital of the run, by name.
    fewest : int
        m: fewest members of an attempt.
    ask : Ask
        Asks hospitals.
    carried : Carried
        What the sums so far left behind.
    """

    def __init__(
        self,
        study_hash: str,
        run_id: str,
        identities: Mapping[str, bytes],
        fewest: int,
        ask: Ask,
        carried: Carried,
    ):
        self._study_hash = study_hash
        self._run_id = run_id
        self._sites = tuple(identities)
        self._site_of = {key: site for site, key in identities.items()}
        self._signatories = Signatories(bytes.fromhex(study_hash), run_id, identities)
        self._fewest = fewest
        self._ask = ask
        self.carried = carried
        self._away: set[str] = set()
        self._present: frozenset[bytes] = frozenset()
        self._session = b""
        self._answers: tuple[bytes, ...] = ()
        self._agreed: set[str] = set()

    def sum(
        self, round_number: int, weights: Vector, kind: str, length: int, keep: Keep
    ) -> tuple[Integers, tuple[str, ...]]:
        """Return the sum of the hospitals' noisy integers, shape (length,), and whose they are.

        `keep` keeps what is carried, durably, before hospitals are asked for a new attempt.

        Raises
        ------
        RunError
            If fewer than m hospitals can be brought to answer one and the same attempt.
        """
        self._look_for_returned()
        request = SumRequest(
            self._study_hash,
            self._run_id,
            round_number,
            kind,
            self.carried.chain,
            self.carried.previous,
            (),
            self.carried.closings,
            weights,
        )
        request, arrived = self._complete(self._reach(request), length, keep)
        closings = self._signatories.closings({s: said.closing for s, said in arrived.items()})
        self.carried = Carried(_record(request), tuple(sorted(closings.values())))
        return unmasked_sum([said.vector for said in arrived.values()]), tuple(sorted(arrived))

    def close(self) -> None:
        """Collect the closing statements of the last sum and pass them on; the run is over."""
        if self.carried.previous is None:
            return
        request = CloseRequest(
            self._study_hash, self._run_id, self.carried.previous, self.carried.closings
        )
        last = [self._site_of[key] for key in self.carried.previous.chain[-1]]
        closed = self._gather(request, last, ClosedSum, self._signatories.closings)
        closings = tuple(sorted(closed.values()))
        self._ask(SettleRequest(self._study_hash, self._run_id, closings), self._sites)

    def _complete(
        self, request: SumRequest, length: int, keep: Keep
    ) -> tuple[SumRequest, dict[str, MaskedVector]]:
        """Ask until every member of one attempt has answered it; leave out who stays silent."""
        asked = exchanges = 0
        arrived: dict[str, MaskedVector] = {}
        replies: dict[str, Release] = {}
        members: list[str] = []
        while asked < MOST_ASKS:
            self._keep_chain(request.chain, keep)
            members = [self._site_of[key] for key in request.chain[-1]]
            replies = self._ask_members(request, [s for s in members if s not in arrived])
            asked += 1
            if RESTARTED in replies.values() and exchanges < MOST_EXCHANGES:
                self._answers = ()
                request, arrived, exchanges = self._reach(request), {}, exchanges + 1
                continue
            arrived |= {
                site: reply
                for site, reply in replies.items()
                if isinstance(reply, MaskedVector)
                and _answers(reply, request, self._session, length)
            }
            if len(arrived) == len(members):
                return request, arrived
            if asked >= ASKS_BEFORE_EXCLUSION and len(arrived) >= self._fewest:
                self._away |= set(members) - set(arrived)
                request = replace(request, chain=(*request.chain, self._keys_of(arrived)))
                asked, arrived = 0, {}
        what = f"Round {request.round_number}"
        raise too_few(what, self._fewest, arrived, replies, members)

    def _keep_chain(self, chain: Chain, keep: Keep) -> None:
        if chain != self.carried.chain:
            self.carried = replace(self.carried, chain=chain)
            keep(self.carried)

    def _ask_members(self, request: SumRequest, sites: Sequence[str]) -> dict[str, Release]:
        """Ask for masked vectors; the key answers go along only to those who have no masks yet."""
        new = [site for site in sites if site not in self._agreed]
        replies = self._ask(replace(request, answers=self._answers), new) if new else {}
        replies |= self._ask(request, [site for site in sites if site in self._agreed])
        self._agreed |= {site for site, said in replies.items() if isinstance(said, MaskedVector)}
        return replies

    def _reach(self, request: SumRequest) -> SumRequest:
        """Exchange keys where that is due; begin a chain, or leave out who is not there."""
        for _ in range(MOST_EXCHANGES):
            if not self._answers:
                self._exchange_keys()
            asked = request.chain[-1] if request.chain else tuple(sorted(self._present))
            there = tuple(key for key in asked if key in self._present)
            if len(there) >= self._fewest:
                grown = () if (there,) == request.chain[-1:] else (there,)
                return replace(request, chain=(*request.chain, *grown))
            self._away.clear()  # the chain leaves no choice: they must come back
            self._answers = ()
        missing = [self._site_of[key] for key in set(asked) - self._present]
        raise too_few(f"Round {request.round_number}", self._fewest, (), {}, missing)

    def _look_for_returned(self) -> None:
        """Knock at hospitals that were left out; with who answers, keys are exchanged anew."""
        if not self._away:
            return
        opened = OpenRequest(self._study_hash, self._run_id)
        said = self._ask(opened, sorted(self._away), wait=False)
        returned = set(self._signatories.announcements(_statements(said, AnnouncedKeys)))
        if returned:
            self._away -= returned
            self._answers = ()
        self._present -= set(self._keys_of(self._away))

    def _exchange_keys(self) -> None:
        """Collect announcements and answers of all hospitals that are not away."""
        opened = OpenRequest(self._study_hash, self._run_id)
        there = [site for site in self._sites if site not in self._away]
        announced = self._gather(opened, there, AnnouncedKeys, self._signatories.announcements)
        statements = tuple(sorted(announced.values()))
        introduction = Introduction(self._study_hash, self._run_id, statements)
        answered = self._gather(
            introduction,
            list(announced),
            AnsweredKeys,
            partial(self._signatories.answers, announced=announced),
        )
        self._answers = tuple(sorted(answered.values()))
        self._session = session_of(statements)
        self._agreed = set()
        self._away |= set(there) - set(answered)
        self._present = frozenset(self._keys_of(answered))

    def _gather(
        self,
        request: Request,
        sites: Sequence[str],
        kind: Signed,
        standing: Callable[[Mapping[str, bytes]], dict[str, bytes]],
    ) -> dict[str, bytes]:
        """Ask until all have answered with this kind, or m have and the others were asked twice.

        Returns
        -------
        dict
            What they signed, by site; what does not stand counts as silence.
        """
        found: dict[str, bytes] = {}
        replies: dict[str, Release] = {}
        for asked in range(1, MOST_ASKS + 1):
            replies |= self._ask(request, [site for site in sites if site not in found])
            found = standing(_statements(replies, kind))
            enough = self._fewest if asked >= ASKS_BEFORE_EXCLUSION else len(sites)
            if len(found) >= min(enough, len(sites)):
                break
        if len(found) < self._fewest:
            raise too_few(request.label, self._fewest, found, replies, sites)
        return found

    def _keys_of(self, sites: Iterable[str]) -> Attempt:
        chosen = set(sites)
        return tuple(sorted(key for key, site in self._site_of.items() if site in chosen))


def _statements(replies: Mapping[str, Release], kind: Signed) -> dict[str, bytes]:
    return {site: said.statement for site, said in replies.items() if isinstance(said, kind)}


def too_few(
    what: str,
    fewest: int,
    answered: Iterable[str],
    replies: Mapping[str, Release],
    sites: Iterable[str],
) -> RunError:
    """Return the error that names silent and refusing hospitals."""
    have = set(answered)
    reasons = [f"{site}: {why(replies.get(site))}" for site in sites if site not in have]
    return too_few_for(what, fewest, len(have), reasons)


def too_few_for(what: str, fewest: int, have: int, reasons: Iterable[str]) -> RunError:
    """Return the error for so many answers, with a reason for each that is missing."""
    return RunError(
        Code.RUN_TOO_FEW_SITES,
        f"{what} has {have} answers, {fewest} are needed ({'; '.join(reasons)}).",
        "Ask the sites named; a silent site may be offline.",
    )


def why(reply: Release | None) -> str:
    """Say why a reply, or none, is no answer."""
    if reply is None:
        return "silent"
    return reply.reason.value if isinstance(reply, Refusal) else "wrong answer"


def _record(request: SumRequest) -> SumRecord:
    """Return what the history keeps of a completed sum."""
    before = b"" if request.previous is None else request.previous.digest(request.run_id)
    return SumRecord(
        before, request.round_number, request.kind, request.chain, broadcast_hash(request.weights)
    )


def _answers(reply: MaskedVector, request: SumRequest, session: bytes, length: int) -> bool:
    """Say whether a masked vector belongs to exactly this attempt."""
    return (
        (reply.session, reply.vector.size) == (session, length)
        and (reply.study_hash, reply.run_id) == (request.study_hash, request.run_id)
        and (reply.round_number, reply.kind) == (request.round_number, request.kind)
        and reply.attempt == len(request.chain)
    )
