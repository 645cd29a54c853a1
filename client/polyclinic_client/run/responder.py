"""One site in one run: reads a request, has it answered, and sends the answer to the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from flwr.app import RecordDict

from polyclinic_client.gate.due import Due
from polyclinic_client.gate.gate import Gate
from polyclinic_client.records.journal import Asked, Failed, Journal
from polyclinic_client.run.refusals import REASON_OF, RefusalError, SilenceError
from polyclinic_client.run.sum_responder import SumResponder
from polyclinic_client.run.update_responder import Memory, UpdateResponder
from polyclinic_client.run.vote_responder import VoteResponder
from polyclinic_common.errors import Code, LedgerError, MessageError, PolyclinicError
from polyclinic_common.wire import (
    CloseRequest,
    Introduction,
    OpenRequest,
    Reason,
    Refusal,
    Release,
    Request,
    SettleRequest,
    SumRequest,
    TrainRequest,
    VoteRequest,
    decode_request,
)

SERVER = "server"
UNREADABLE = Asked(who=SERVER, what="unreadable", study_hash=b"", run="")


@dataclass
class Turn:
    """One message that is being answered.

    Attributes
    ----------
    gate : Gate
        Where the answer leaves.
    due : Due
        When it leaves.
    asked : Asked
        What the journal keeps of the message.
    request : Request or None
        The message, once it is read.
    tell : callable
        Told whenever it is settled when the answer leaves.
    begun : bool
        Whether patients have been read for it.
    """

    gate: Gate
    due: Due
    asked: Asked = UNREADABLE
    request: Request | None = None
    tell: Callable[[Due], object] = lambda _: None
    begun: bool = False

    def take(self, gate: Gate, request: Request | None) -> None:
        """Have a message answered at a gate."""
        gate.turn, self.gate, self.request = self, gate, request
        self._settle(gate.due(request))

    def begin(self, *, first: bool = False) -> None:
        """Wait for the next tick and count from there what the answer is given.

        To be called when all is done that follows from the message alone, and patients are read
        from here on. So what an answer is given is one length for every step of the ladder: neither
        the moment of arrival nor work that the message brings can shift it against the time that
        computing takes, which would be a ruler. Only the first call of a turn counts.
        """
        if self.begun:
            return
        self.begun = True
        self.gate.wait_for_tick()
        self._settle(self.gate.due(self.request, first=first))

    def _settle(self, due: Due) -> None:
        self.due = due
        self.tell(due)


class Responder:
    """Answers the requests of one run.

    Parameters
    ----------
    study_hash, run_id : str
        The study and the run that this site joined.
    answers : SumResponder, UpdateResponder or None
        What answers: in mode secure-sum, or in mode local; None refuses everything.
    gate : Gate
        Where every answer leaves.
    journal : Journal
        Where failures are written down.
    voter : VoteResponder or None
        What votes on the trained model, where the study asks for it.
    reason : Reason
        Why requests are refused that are not for this study and run, or that nothing answers.
    """

    def __init__(
        self,
        study_hash: str,
        run_id: str,
        answers: SumResponder | UpdateResponder | None,
        gate: Gate,
        journal: Journal,
        voter: VoteResponder | None = None,
        reason: Reason = Reason.NOT_APPROVED,
    ):
        self._study_hash = study_hash
        self._run_id = run_id
        self._answers = answers
        self._gate = gate
        self._journal = journal
        self._voter = voter
        self._reason = reason

    @property
    def gate(self) -> Gate:
        """Where its answers leave."""
        return self._gate

    def answer(self, content: RecordDict, memory: Memory) -> RecordDict:
        """Return what leaves in answer to a message; updates `memory`.

        Raises
        ------
        SilenceError
            If nothing may leave; what failed is in the journal.
        """
        with silenced(self._gate, self._journal) as turn:
            turn.take(self._gate, _read(content))
            return self.answer_in(turn, turn.request, memory)

    def answer_in(self, turn: Turn, request: Request | None, memory: Memory) -> RecordDict:
        """Return what leaves in answer to a request, when the turn's answer is due."""
        if request is None:
            return self._gate.let_out(Refusal(Reason.NOT_APPROVED), turn.asked, turn.due)
        turn.asked = _asked(request)
        return self._gate.let_out(self._release(request, memory), turn.asked, turn.due)

    def _release(self, request: Request, memory: Memory) -> Release:
        named = (request.study_hash, request.run_id)
        if self._answers is None or named != (self._study_hash, self._run_id):
            return Refusal(self._reason)
        try:
            return self._dispatch(request, memory)
        except RefusalError as error:
            return Refusal(error.reason)
        except LedgerError as error:
            if error.code not in REASON_OF:
                raise
            if error.code == Code.LEDGER_BEHIND:  # the hospital has to do something about it
                self._journal.write(Failed(code=error.code.value, run=request.run_id))
            return Refusal(REASON_OF[error.code])

    def _dispatch(self, request: Request, memory: Memory) -> Release:
        """Have a request answered by what it is meant for."""
        match self._answers, request:
            case _, VoteRequest() if self._voter is not None:
                return self._voter.vote(request)
            case UpdateResponder() as updates, TrainRequest():
                return updates.update(request, memory)
            case (UpdateResponder() | SumResponder()) as answers, SettleRequest():
                return answers.settle(request)
            case SumResponder() as member, (
                OpenRequest() | Introduction() | SumRequest() | CloseRequest()
            ):
                return member.answer(request)
        return Refusal(Reason.OUT_OF_ORDER)


@contextmanager
def silenced(gate: Gate, journal: Journal) -> Iterator[Turn]:
    """Turn whatever fails while a message is answered into silence, written down by its kind alone.

    Silence lasts until an answer would have left. Flower sends the text of what passes here.
    """
    turn = Turn(gate, gate.due())
    try:
        yield turn
    except Exception as error:  # noqa: BLE001  (whatever it is, its text and its time may tell)
        with suppress(Exception):  # where nothing can be written down, nothing leaves either
            journal.write(turn.asked, Failed(code=_code(error), run=turn.asked.run))
        turn.gate.stay_silent(turn.due)
        raise SilenceError from None


def _read(content: RecordDict) -> Request | None:
    try:
        return decode_request(content)
    except MessageError:
        return None


def _code(error: Exception) -> str:
    """Return a stable name of what failed: its code or its class, never its text."""
    return error.code.value if isinstance(error, PolyclinicError) else type(error).__name__[:200]


def _asked(request: Request) -> Asked:
    """Return what the journal keeps of a request: never free text, names cut to what is known."""
    try:
        study = bytes.fromhex(request.study_hash)
    except ValueError:
        study = b""
    chain = request.chain if isinstance(request, SumRequest) else ()
    number = (
        request.round_number if isinstance(request, TrainRequest | SumRequest | VoteRequest) else 0
    )
    return Asked(
        who=SERVER,
        what=request.label,
        study_hash=study,
        run=request.run_id,
        round_number=number,
        attempt=len(chain),
    )
