"""What a hospital answers: one site for every study and run that it approved."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from flwr.app import RecordDict

from polyclinic_client.gate import Gate, SystemClock, tick_length
from polyclinic_client.held_out import metrics_source
from polyclinic_client.member import Member
from polyclinic_client.node.approved import Approved, find_approved
from polyclinic_client.refusals import SilenceError
from polyclinic_client.site import UNREADABLE, Site, note_failure
from polyclinic_client.site_folder import SiteFolder
from polyclinic_client.studies import StudyBook
from polyclinic_client.terms import Terms
from polyclinic_client.training import OpacusGradients, local_mechanisms, sum_sources
from polyclinic_client.updates import Memory, Updates
from polyclinic_client.voting import BetterHere, Voter, system_coin
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import MessageError
from polyclinic_common.models.network import build_network, initial_weights, weight_count
from polyclinic_common.privacy.noise import SystemNoise
from polyclinic_common.privacy.plan import METRICS, NODE_PATH, secure_sum_plans, vote_of
from polyclinic_common.wire import (
    CloseRequest,
    Reason,
    Request,
    SettleRequest,
    decode_request,
)

MOST_RUNS = 16  # kept open at a time: who asks for many runs costs no memory
START = 0  # the public seed of a consortium's models
SHORTEST = (0, 0)  # of patients and weights: the shortest tick


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
        gate = _gate(self.folder, entry)
        due = gate.due()
        self._sites[wanted] = make_site(entry, wanted[1], self.folder, gate)
        while len(self._sites) > MOST_RUNS:
            self._sites.popitem(last=False)
        return self._sites[wanted], due

    def _refusing(self, study_hash: str, run: str, reason: Reason) -> tuple[Site, float]:
        gate = _gate(self.folder, None)
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
    """Open what the hospital in a folder has approved; called by name in the worker."""
    folder = SiteFolder.open(path)
    return SiteBook(folder, partial(find_approved, StudyBook.open(folder)))


def make_site(entry: Approved, run: str, folder: SiteFolder, gate: Gate) -> Site:
    """Return the site of a run of an approved study."""
    study = entry.study
    encoding = Encoding(study)
    length = weight_count(build_network(study, encoding))
    answers: Member | Updates
    if study.privacy.mode == "secure-sum":
        answers = _member(entry, run, folder, encoding, length)
    else:
        answers = _updates(entry, folder, encoding, length)
    voter = _voter(entry, folder, encoding, length)
    return Site(study.hash(), run, answers, gate, folder.journal, voter)


def _gate(folder: SiteFolder, entry: Approved | None) -> Gate:
    """Return the gate of a study, or the one with the shortest tick where there is none."""
    tick = tick_length(*SHORTEST)
    if entry is not None:
        length = weight_count(build_network(entry.study, Encoding(entry.study)))
        tick = tick_length(entry.declared[entry.name] * entry.study.training.epochs, length)
    return Gate(folder.identity.public, folder.ledger, folder.journal, tick, SystemClock())


def _member(
    entry: Approved, run: str, folder: SiteFolder, encoding: Encoding, length: int
) -> Member:
    study = entry.study
    sizes = entry.declared.values()
    plans = secure_sum_plans(study, encoding.width, length, NODE_PATH, sizes)
    noise = SystemNoise(folder.ledger.secret)
    sources = sum_sources(OpacusGradients(study, encoding), entry.cohort, plans, noise)
    if METRICS in plans:
        sources[METRICS] = metrics_source(encoding, entry.held_out, plans[METRICS], noise)
    terms = Terms(
        study_hash=bytes.fromhex(study.hash()),
        run=run,
        roster=entry.roster,
        verified=entry.verified,
        m=study.m,
        c=study.c,
        rounds=study.rounds,
        plans=plans,
        metric_rounds=study.metric_rounds,
    )
    return Member(terms, folder.identity, folder.ledger, sources, lambda: folder.ledger.now() / 1e3)


def _updates(entry: Approved, folder: SiteFolder, encoding: Encoding, length: int) -> Updates:
    study = entry.study
    return Updates(
        bytes.fromhex(study.hash()),
        length,
        study.rounds,
        personal=study.training.personalisation == "mr-mtl",
        ledger=folder.ledger,
        mechanisms=local_mechanisms(
            encoding,
            OpacusGradients(study, encoding),
            entry.cohort,
            entry.held_out,
            entry.declared[entry.name],
            SystemNoise(folder.ledger.secret),
        ),
        metric_rounds=study.metric_rounds,
    )


def _voter(entry: Approved, folder: SiteFolder, encoding: Encoding, length: int) -> Voter | None:
    """Return what votes, against the study's public base rate; None where there is no vote."""
    study, charge = entry.study, vote_of(entry.study)
    if charge is None:
        return None
    incumbent = initial_weights(study, encoding, START)
    return Voter(
        bytes.fromhex(study.hash()),
        length,
        study.rounds,
        charge=charge,
        opinion=BetterHere(encoding, entry.held_out, incumbent),
        ledger=folder.ledger,
        coin=system_coin(folder.ledger.secret),
    )


def _read(content: RecordDict) -> Request | None:
    """Return a request; None where it is none."""
    try:
        return decode_request(content)
    except MessageError:
        return None
