"""The server's part of mode secure-sum: key exchange, chains of attempts, closing statements.

The server only carries what hospitals signed and adds up masked vectors. Nothing that it could
leave out, change or repeat here breaks a hospital's privacy: hospitals check for themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from polyclinic_common.errors import Code, RunError
from polyclinic_common.models.network import Vector
from polyclinic_common.packing import Value, pack, unpack
from polyclinic_common.secure_sum.chain import Attempt, broadcast_hash
from polyclinic_common.secure_sum.masks import Integers, unmasked_sum
from polyclinic_common.secure_sum.session import session_of
from polyclinic_common.secure_sum.statements import KeyAnswer, read_signed
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

ASKS_BEFORE_EXCLUSION = 2
MOST_ASKS = 50
MOST_EXCHANGES = 5
RESTARTED = Refusal(Reason.OUT_OF_ORDER)
R = TypeVar("R", bound=AnnouncedKeys | AnsweredKeys | ClosedSum)
Ask = Callable[[Request, Sequence[str]], Mapping[str, Release]]


@dataclass(frozen=True)
class Carried:
    """What passes from one sum to the next: the last sum, and closing statements of it."""

    previous: SumRecord | None = None
    closings: tuple[bytes, ...] = ()

    def to_bytes(self) -> bytes:
        """Return it as bytes, for a checkpoint."""
        if self.previous is None:
            return pack([[], self.closings])
        last = self.previous
        fields: Value = [last.before, last.round_number, last.kind, last.chain, last.broadcast]
        return pack([fields, self.closings])

    @staticmethod
    def from_bytes(data: bytes) -> Carried:
        """Read it back from this server's own checkpoint; empty at the start of a run."""
        if not data:
            return Carried()
        parts: Any = unpack(data)
        fields, closings = parts
        return Carried(SumRecord(*fields) if fields else None, closings)


class SecureSums:
    """The sums of one run, one after the other.

    Parameters
    ----------
    study_hash, run_id : str
        What is trained, and the name of the run.
    sites : sequence of str
        All hospitals of the run.
    fewest : int
        m: fewest members of an attempt.
    ask : callable
        Sends a request to some hospitals and returns what came back in time, by hospital.
    carried : Carried
        What the sums so far left behind.
    """

    def __init__(
        self,
        study_hash: str,
        run_id: str,
        sites: Sequence[str],
        fewest: int,
        ask: Ask,
        carried: Carried,
    ):
        self._study_hash = study_hash
        self._run_id = run_id
        self._sites = tuple(sites)
        self._fewest = fewest
        self._ask = ask
        self.carried = carried
        self._site_of: dict[bytes, str] = {}
        self._present: frozenset[bytes] = frozenset()
        self._session = b""
        self._answers: tuple[bytes, ...] = ()
        self._agreed: set[str] = set()

    def sum(
        self, round_number: int, weights: Vector, kind: str, length: int
    ) -> tuple[Integers, tuple[str, ...]]:
        """Return the sum of the hospitals' noisy integers, shape (length,), and whose they are.

        Raises
        ------
        RunError
            If fewer than m hospitals can be brought to answer one and the same attempt.
        """
        if not self._answers:
            self._exchange_keys()
        request = SumRequest(
            self._study_hash,
            self._run_id,
            round_number,
            kind,
            (tuple(sorted(self._present)),),
            self.carried.previous,
            (),
            self.carried.closings,
            weights,
        )
        request, arrived = self._complete(request, length)
        closings = tuple(sorted(said.closing for said in arrived.values() if said.closing))
        self.carried = Carried(_record(request), closings)
        return unmasked_sum([said.vector for said in arrived.values()]), tuple(sorted(arrived))

    def close(self) -> None:
        """Collect the closing statements of the last sum and pass them on; the run is over."""
        if self.carried.previous is None:
            return
        if not self._site_of:
            self._exchange_keys()
        request = CloseRequest(
            self._study_hash, self._run_id, self.carried.previous, self.carried.closings
        )
        last = [
            self._site_of[key] for key in self.carried.previous.chain[-1] if key in self._site_of
        ]
        closed = self._gather(request, last, ClosedSum, enough=len(last))
        closings = tuple(sorted(said.statement for said in closed.values()))
        self._ask(SettleRequest(self._study_hash, self._run_id, closings), self._sites)

    def _complete(
        self, request: SumRequest, length: int
    ) -> tuple[SumRequest, dict[str, MaskedVector]]:
        """Ask until every member of one attempt has answered it; leave out who stays silent."""
        asked = exchanges = 0
        arrived: dict[str, MaskedVector] = {}
        replies: dict[str, Release] = {}
        members: list[str] = []
        while asked < MOST_ASKS:
            members = [self._site_of[key] for key in request.chain[-1]]
            replies = self._ask_members(request, [s for s in members if s not in arrived])
            asked += 1
            if RESTARTED in replies.values() and exchanges < MOST_EXCHANGES:
                self._exchange_keys()
                request, arrived, exchanges = self._within_reach(request), {}, exchanges + 1
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
                request = replace(request, chain=(*request.chain, self._keys_of(arrived)))
                asked, arrived = 0, {}
        what = f"Round {request.round_number}"
        raise too_few(what, self._fewest, arrived, replies, members)

    def _ask_members(self, request: SumRequest, sites: Sequence[str]) -> dict[str, Release]:
        """Ask for masked vectors; the key answers go along only to those who have no masks yet."""
        new = [site for site in sites if site not in self._agreed]
        replies = dict(self._ask(replace(request, answers=self._answers), new)) if new else {}
        replies |= self._ask(request, [site for site in sites if site in self._agreed])
        self._agreed |= {site for site, said in replies.items() if isinstance(said, MaskedVector)}
        return replies

    def _within_reach(self, request: SumRequest) -> SumRequest:
        """Leave out members who were not there when keys were exchanged anew, if m are left."""
        present = tuple(key for key in request.chain[-1] if key in self._present)
        if present == request.chain[-1] or len(present) < self._fewest:
            return request
        return replace(request, chain=(*request.chain, present))

    def _exchange_keys(self) -> None:
        """Collect announcements and answers of all hospitals that can be reached."""
        opened = OpenRequest(self._study_hash, self._run_id)
        announced = self._gather(opened, self._sites, AnnouncedKeys, enough=len(self._sites))
        statements = tuple(sorted(said.statement for said in announced.values()))
        introduction = Introduction(self._study_hash, self._run_id, statements)
        names = list(announced)
        answered = self._gather(introduction, names, AnsweredKeys, enough=len(names))
        self._answers = tuple(sorted(said.statement for said in answered.values()))
        self._session = session_of(statements)
        self._agreed = set()
        present = {
            read_signed(KeyAnswer, said.statement).identity: site for site, said in answered.items()
        }
        self._present = frozenset(present)
        self._site_of |= present

    def _gather(
        self, request: Request, sites: Sequence[str], kind: type[R], enough: int
    ) -> dict[str, R]:
        """Ask until `enough` hospitals have answered with this kind, or until it is hopeless."""
        found: dict[str, R] = {}
        replies: dict[str, Release] = {}
        for _ in range(MOST_ASKS):
            replies |= self._ask(request, [site for site in sites if site not in found])
            found = {site: said for site, said in replies.items() if isinstance(said, kind)}
            if len(found) >= enough:
                break
        if len(found) < self._fewest:
            raise too_few(request.label, self._fewest, found, replies, sites)
        return found

    def _keys_of(self, sites: Iterable[str]) -> Attempt:
        chosen = set(sites)
        return tuple(sorted(key for key, site in self._site_of.items() if site in chosen))


def too_few(
    what: str,
    fewest: int,
    answered: Iterable[str],
    replies: Mapping[str, Release],
    sites: Iterable[str],
) -> RunError:
    """Return the error that names silent and refusing hospitals."""
    have = set(answered)
    reasons = [f"{site}: {_why(replies.get(site))}" for site in sites if site not in have]
    return RunError(
        Code.RUN_TOO_FEW_SITES,
        f"{what} has {len(have)} answers, {fewest} are needed ({'; '.join(reasons)}).",
        "Ask the sites named; a silent site may be offline.",
    )


def _why(reply: Release | None) -> str:
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
