"""What a hospital answers: one site for every study and run that it approved."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import scipy.optimize  # noqa: F401  (heavy: before the first answer, whose time is public)
from flwr.app import RecordDict

from polyclinic_client.compute.training import Gradients, OpacusGradients
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.gate.due import Due
from polyclinic_client.gate.gate import Gate
from polyclinic_client.gate.ladder import Ladder
from polyclinic_client.gate.tick import Clock, SystemClock
from polyclinic_client.ledger.journalled import check_journalled
from polyclinic_client.records.journal import Failed
from polyclinic_client.run.approved_study import ApprovedStudy, approved_with
from polyclinic_client.run.assembly import make_gate, make_ladder, make_site, steps_reached
from polyclinic_client.run.responder import Responder, Turn, silenced
from polyclinic_client.run.update_responder import Memory
from polyclinic_client.study_book.book import StudyBook
from polyclinic_common.errors import LedgerError, MessageError
from polyclinic_common.privacy.noise import SystemNoise
from polyclinic_common.wire import (
    CloseRequest,
    Reason,
    Request,
    SettleRequest,
    decode_request,
)

MOST_RUNS = 16  # kept open at a time: who asks for many runs costs no memory
START = 0  # the public seed of a consortium's models


@dataclass
class SiteBook:
    """Answers every message: for runs of approved studies as their site, else with a refusal.

    Which runs an approval covers, and how many releases, the ledger knows.

    Parameters
    ----------
    folder : SiteFolder
        Identity, ledger and journal.
    find : callable
        Gives the approved study with a hash, or None.
    clock : Clock
        The time.
    """

    folder: SiteFolder
    find: Callable[[str], ApprovedStudy | None]
    clock: Clock = field(default_factory=SystemClock)
    _studies: dict[str, ApprovedStudy] = field(default_factory=dict)
    _sites: OrderedDict[tuple[str, str], Responder] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self._reached = steps_reached(self.folder)
        self._refusals = make_gate(None, Ladder(), self.folder, self.clock)

    def answer(
        self, content: RecordDict, memory: Memory, tell: Callable[[Due], object] = lambda _: None
    ) -> RecordDict:
        """Return what leaves in answer to a message.

        Parameters
        ----------
        tell : callable
            Told when the answer leaves, before any patient is read.

        Raises
        ------
        SilenceError
            If nothing may leave.
        """
        with silenced(self._refusals, self.folder.journal) as turn:
            turn.tell, request = tell, _read(content)
            site = self._site(request, turn)
            return site.answer_in(turn, request, memory)

    def _site(self, request: Request | None, turn: Turn) -> Responder:
        """Return who answers a request; the turn is told when the answer leaves.

        That is fixed before the table is read: how long reading takes tells how long the table is.
        """
        found = self._kept(request)
        if not isinstance(found, Responder):
            return self._first(*found, turn)
        turn.take(found.gate, request)
        return found

    def _kept(self, request: Request | None) -> Responder | tuple[ApprovedStudy, Request]:
        """Return the site that answers a request, or the study that one has to be made for."""
        if request is None:
            return self._refusing("", "", Reason.NOT_APPROVED)
        wanted = request.study_hash, request.run_id
        entry = self._approved(*wanted)
        ends = wanted in self._sites and isinstance(request, CloseRequest | SettleRequest)
        if entry is None and not ends:
            return self._refusing(*wanted, Reason.NOT_APPROVED)
        if isinstance(request, SettleRequest) and not self.folder.ledger.releases_of(wanted[1]):
            return self._refusing(*wanted, Reason.OUT_OF_ORDER)
        if entry is None or wanted in self._sites:
            return self._sites[wanted]
        return entry, request

    def _first(self, entry: ApprovedStudy, request: Request, turn: Turn) -> Responder:
        """Return the site of a run, made for its first message."""
        gradients = OpacusGradients(entry.study, entry.encoding)
        gradients.clipped()  # what it imports takes seconds, whoever the patients are
        turn.take(
            make_gate(entry.study, make_ladder(entry, self._reached), self.folder, self.clock),
            request,
        )
        turn.begin(first=True)
        site = self._make(entry, request.run_id, turn.gate, gradients)
        self._sites[entry.study.hash(), request.run_id] = site
        while len(self._sites) > MOST_RUNS:
            self._sites.popitem(last=False)
        return site

    def _make(self, entry: ApprovedStudy, run: str, gate: Gate, gradients: Gradients) -> Responder:
        """Return the site of a run; here the table is read."""
        noise = SystemNoise(self.folder.ledger.secret)
        return make_site(entry, run, self.folder, gate, gradients, noise, START)

    def _refusing(self, study_hash: str, run: str, reason: Reason) -> Responder:
        return Responder(study_hash, run, None, self._refusals, self.folder.journal, reason=reason)

    def _approved(self, study_hash: str, run: str) -> ApprovedStudy | None:
        """Return a study if it is approved now, for this run.

        What was approved is read and checked once a run, its table once in all; that it is still
        approved, and not expired, at every message.
        """
        begun = (study_hash, run) in self._sites
        entry = self._studies.get(study_hash) if begun else None
        entry = entry or self._looked_up(study_hash)
        if entry is None:
            return None
        ledger = self.folder.ledger
        approval = ledger.approval(bytes.fromhex(study_hash), run)
        return None if approval is None or approval.expires < ledger.today() else entry

    def _looked_up(self, study_hash: str) -> ApprovedStudy | None:
        entry, held = self.find(study_hash), self._studies.pop(study_hash, None)
        if entry is not None:
            self._studies[study_hash] = held if held and held == entry else entry
        return self._studies.get(study_hash)


def open_sites(path: Path) -> SiteBook:
    """Open what the hospital in a folder has approved; called by name in the worker.

    Raises
    ------
    LedgerError
        As `SiteFolder.open`; L006 if the journal names what the ledger does not hold. It is
        journalled, and this worker answers nothing.
    """
    folder = SiteFolder.open(path)
    try:
        check_journalled(folder.ledger, folder.journal.events())
    except LedgerError as error:
        folder.journal.write(Failed(code=error.code.value))
        folder.close()
        raise
    return SiteBook(folder, partial(find_approved, StudyBook.open(folder)))


def find_approved(book: StudyBook, study_hash: str) -> ApprovedStudy | None:
    """Return an approved study by its hash; None if a node may not answer for it."""
    try:
        wanted = bytes.fromhex(study_hash)
    except ValueError:
        return None
    found = book.approved_study(wanted)
    if found is None:
        return None
    table = partial(book.table, wanted)
    return approved_with(
        found.study, found.roster, found.verified, found.declared, found.name, table
    )


def _read(content: RecordDict) -> Request | None:
    """Return a request; None where it is none."""
    try:
        return decode_request(content)
    except MessageError:
        return None
