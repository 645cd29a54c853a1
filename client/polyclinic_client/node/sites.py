"""What a hospital answers: one site for every study and run that it approved."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from flwr.app import RecordDict

from polyclinic_client.gate import Gate, SystemClock, tick_length
from polyclinic_client.member import Member
from polyclinic_client.site import Site
from polyclinic_client.site_folder import SiteFolder
from polyclinic_client.studies import StudyBook
from polyclinic_client.terms import Terms
from polyclinic_client.training import OpacusGradients, local_mechanism, sum_sources
from polyclinic_client.updates import Memory, Updates
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.errors import MessageError
from polyclinic_common.models.network import build_network, weight_count
from polyclinic_common.privacy.noise import SystemNoise
from polyclinic_common.privacy.plan import node_path, secure_sum_plans
from polyclinic_common.secure_sum.identity import Roster
from polyclinic_common.study.manifest import Study
from polyclinic_common.wire import decode_request

MOST_RUNS = 16  # kept open at a time: who asks for many runs costs no memory
SHORTEST = (0, 0)  # of patients and weights: the shortest tick


@dataclass(frozen=True)
class Approved:
    """A study that this hospital approved, with its patients.

    Attributes
    ----------
    study : Study
        The study.
    roster : Roster
        All hospitals of the study.
    verified : frozenset of bytes
        Identity keys that this hospital compared outside the system.
    declared : mapping
        Declared patients of every hospital, by name.
    name : str
        This hospital.
    cohort : Cohort
        Its patients, encoded.
    """

    study: Study
    roster: Roster
    verified: frozenset[bytes]
    declared: Mapping[str, int]
    name: str
    cohort: Cohort


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
    _sites: OrderedDict[tuple[str, str], Site] = field(default_factory=OrderedDict)

    def answer(self, content: RecordDict, memory: Memory) -> RecordDict:
        """Return what leaves in answer to a message.

        Raises
        ------
        SilenceError
            If nothing may leave.
        """
        return self._site(_wanted(content)).answer(content, memory)

    def _site(self, wanted: tuple[str, str]) -> Site:
        if wanted not in self._sites:
            entry = self.find(wanted[0])
            if entry is None:
                return Site(*wanted, None, _gate(self.folder, *SHORTEST), self.folder.journal)
            self._sites[wanted] = make_site(entry, wanted[1], self.folder)
            while len(self._sites) > MOST_RUNS:
                self._sites.popitem(last=False)
        return self._sites[wanted]


def open_sites(path: Path) -> SiteBook:
    """Open what the hospital in a folder has approved; called by name in the worker."""
    folder = SiteFolder.open(path)
    return SiteBook(folder, partial(_entry, StudyBook.open(folder)))


def _entry(book: StudyBook, study_hash: str) -> Approved | None:
    try:
        wanted = bytes.fromhex(study_hash)
    except ValueError:
        return None
    found = book.approved_study(wanted)
    if found is None:
        return None
    cohort = Encoding(found.study).encode(book.table(wanted), found.name)
    return Approved(found.study, found.roster, found.verified, found.declared, found.name, cohort)


def make_site(entry: Approved, run: str, folder: SiteFolder) -> Site:
    """Return the site of a run of an approved study."""
    study = entry.study
    encoding = Encoding(study)
    length = weight_count(build_network(study, encoding))
    gate = _gate(folder, entry.declared[entry.name] * study.training.epochs, length)
    make = _member if study.privacy.mode == "secure-sum" else _updates
    answers = make(entry, run, folder, encoding, length)
    return Site(study.hash(), run, answers, gate, folder.journal)


def _gate(folder: SiteFolder, declared: int, length: int) -> Gate:
    tick = tick_length(declared, length)
    return Gate(folder.identity.public, folder.ledger, folder.journal, tick, SystemClock())


def _member(
    entry: Approved, run: str, folder: SiteFolder, encoding: Encoding, length: int
) -> Member:
    study = entry.study
    sizes = list(entry.declared.values())
    plans = secure_sum_plans(study, encoding.width, length, node_path(length), sizes)
    gradients = OpacusGradients(study, encoding)
    noise = SystemNoise(folder.ledger.secret)
    sources = sum_sources(gradients, entry.cohort, plans, noise)
    terms = Terms(
        study_hash=bytes.fromhex(study.hash()),
        run=run,
        roster=entry.roster,
        verified=entry.verified,
        m=study.m,
        c=study.c,
        rounds=study.training.rounds,
        plans=plans,
    )
    return Member(terms, folder.identity, folder.ledger, sources, lambda: folder.ledger.now() / 1e3)


def _updates(
    entry: Approved, _: str, folder: SiteFolder, encoding: Encoding, length: int
) -> Updates:
    study = entry.study
    mechanism = local_mechanism(
        study,
        OpacusGradients(study, encoding),
        entry.cohort,
        entry.declared[entry.name],
        SystemNoise(folder.ledger.secret),
    )
    return Updates(
        bytes.fromhex(study.hash()),
        length,
        study.training.rounds,
        personal=study.training.personalisation == "mr-mtl",
        ledger=folder.ledger,
        mechanism=mechanism,
    )


def _wanted(content: RecordDict) -> tuple[str, str]:
    """Return study and run of a request; empty where it cannot be read."""
    try:
        request = decode_request(content)
    except MessageError:
        return "", ""
    return request.study_hash, request.run_id
