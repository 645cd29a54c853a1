"""What a hospital answers: one site for every study and run that it approved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import RecordDict

from polyclinic_client.gate import Gate, SystemClock, tick_length
from polyclinic_client.member import Member
from polyclinic_client.site import Site
from polyclinic_client.site_folder import SiteFolder
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

SHORTEST = (0, 0)  # of patients and weights: the shortest tick


@dataclass(frozen=True)
class Approved:
    """A study that this hospital approved for one run.

    Attributes
    ----------
    study : Study
        The study.
    run : str
        The run.
    roster : Roster
        All hospitals of the run.
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
    run: str
    roster: Roster
    verified: frozenset[bytes]
    declared: Mapping[str, int]
    name: str
    cohort: Cohort


@dataclass
class SiteBook:
    """Answers every message: for approved runs as their site, for others with a refusal.

    Parameters
    ----------
    folder : SiteFolder
        Identity, ledger and journal.
    approved : sequence of Approved
        What this hospital approved.
    """

    folder: SiteFolder
    approved: Sequence[Approved]
    _sites: dict[tuple[str, str], Site] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Know what is approved; a site is made with its first message."""
        self._entries = {(each.study.hash(), each.run): each for each in self.approved}

    def answer(self, content: RecordDict, memory: Memory) -> RecordDict:
        """Return what leaves in answer to a message.

        Raises
        ------
        SilenceError
            If nothing may leave.
        """
        return self._site(_wanted(content)).answer(content, memory)

    def _site(self, wanted: tuple[str, str]) -> Site:
        if wanted not in self._entries:
            gate = self._gate(*SHORTEST)
            return Site(*wanted, None, gate, self.folder.journal)
        if wanted not in self._sites:
            self._sites[wanted] = make_site(self._entries[wanted], self.folder)
        return self._sites[wanted]

    def _gate(self, declared: int, length: int) -> Gate:
        return _gate(self.folder, declared, length)


def make_site(entry: Approved, folder: SiteFolder) -> Site:
    """Return the site of an approved run."""
    study = entry.study
    encoding = Encoding(study)
    length = weight_count(build_network(study, encoding))
    gate = _gate(folder, entry.declared[entry.name] * study.training.epochs, length)
    make = _member if study.privacy.mode == "secure-sum" else _updates
    answers = make(entry, folder, encoding, length)
    return Site(study.hash(), entry.run, answers, gate, folder.journal)


def _gate(folder: SiteFolder, declared: int, length: int) -> Gate:
    tick = tick_length(declared, length)
    return Gate(folder.identity.public, folder.ledger, folder.journal, tick, SystemClock())


def _member(entry: Approved, folder: SiteFolder, encoding: Encoding, length: int) -> Member:
    study = entry.study
    sizes = list(entry.declared.values())
    plans = secure_sum_plans(study, encoding.width, length, node_path(length), sizes)
    gradients = OpacusGradients(study, encoding)
    noise = SystemNoise(folder.ledger.secret)
    sources = sum_sources(gradients, entry.cohort, plans, noise)
    terms = Terms(
        study_hash=bytes.fromhex(study.hash()),
        run=entry.run,
        roster=entry.roster,
        verified=entry.verified,
        m=study.m,
        c=study.c,
        rounds=study.training.rounds,
        plans=plans,
    )
    return Member(terms, folder.identity, folder.ledger, sources, lambda: folder.ledger.now() / 1e3)


def _updates(entry: Approved, folder: SiteFolder, encoding: Encoding, length: int) -> Updates:
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
