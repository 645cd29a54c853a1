"""What a hospital answers: one site for every study and run that it approved."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from flwr.app import RecordDict

from polyclinic_client.approved import Approved, approved_with
from polyclinic_client.assembly import make_gate, make_site
from polyclinic_client.gate import Gate, SystemClock
from polyclinic_client.journal import Failed
from polyclinic_client.ledger.journalled import check_journalled
from polyclinic_client.refusals import SilenceError
from polyclinic_client.site import UNREADABLE, Site, note_failure
from polyclinic_client.site_folder import SiteFolder
from polyclinic_client.studies import StudyBook
from polyclinic_client.training import OpacusGradients
from polyclinic_client.updates import Memory
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
    """

    folder: SiteFolder
    find: Callable[[str], Approved | None]
    _studies: dict[str, Approved] = field(default_factory=dict)
    _sites: OrderedDict[tuple[str, str], Site] = field(default_factory=OrderedDict)

    def answer(self, content: RecordDict, memory: Memory) -> RecordDict:
        """Return what leaves in answer to a message.

        Raises
        ------
        SilenceError
            If nothing may leave.
        """
        try:
            site, due = self._site(_read(content))
        except Exception as error:  # noqa: BLE001  (as in `Site`: what passes here ends the worker)
            note_failure(self.folder.journal, UNREADABLE, error)
            raise SilenceError from None
        return site.answer_at(due, content, memory)

    def _site(self, request: Request | None) -> tuple[Site, float]:
        """Return who answers a request, and when the answer leaves.

        The tick is fixed before the table is read: how long that takes tells how long the table is.
        """
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
            return self._sites[wanted], self._sites[wanted].due()
        gate = make_gate(entry, self.folder, SystemClock())
        due = gate.due()
        self._sites[wanted] = self._make(entry, wanted[1], gate)
        while len(self._sites) > MOST_RUNS:
            self._sites.popitem(last=False)
        return self._sites[wanted], due

    def _make(self, entry: Approved, run: str, gate: Gate) -> Site:
        """Return the site of a run."""
        gradients = OpacusGradients(entry.study, entry.encoding)
        noise = SystemNoise(self.folder.ledger.secret)
        return make_site(entry, run, self.folder, gate, gradients, noise, START)

    def _refusing(self, study_hash: str, run: str, reason: Reason) -> tuple[Site, float]:
        gate = make_gate(None, self.folder, SystemClock())
        site = Site(study_hash, run, None, gate, self.folder.journal, reason=reason)
        return site, site.due()

    def _approved(self, study_hash: str, run: str) -> Approved | None:
        """Return a study if it is approved now, for this run, with its table read at most once."""
        entry = self.find(study_hash)
        held = self._studies.pop(study_hash, None)
        if entry is None:
            return None
        self._studies[study_hash] = held if held and held == entry else entry
        if self.folder.ledger.approval(bytes.fromhex(study_hash), run) is None:
            return None
        return self._studies[study_hash]


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


def find_approved(book: StudyBook, study_hash: str) -> Approved | None:
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
