"""The hospitals of one simulated run: folders with real ledgers and journals, approvals, sites.

What a node calls is called here: gradients, noise, stored rows, masks, ledger, gate. What differs
from a node `bypassed` lists, and the report names it.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from flwr.app import Context

from polyclinic_client.app import Answers
from polyclinic_client.gate import Gate, SystemClock, tick_length
from polyclinic_client.held_out import metrics_source
from polyclinic_client.ledger.entries import Approval, Planned
from polyclinic_client.mechanisms import Mechanism
from polyclinic_client.member import Member
from polyclinic_client.site import Site
from polyclinic_client.site_files import read_identity
from polyclinic_client.site_folder import SiteFolder
from polyclinic_client.terms import Terms
from polyclinic_client.training import local_mechanisms, sum_sources
from polyclinic_client.updates import Updates
from polyclinic_client.voting import BetterHere, Voter, system_coin
from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.models.network import build_network, initial_weights, weight_count
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.plan import (
    METRICS,
    UPDATE,
    VOTE,
    most_patients,
    secure_sum_plans,
    vote_of,
)
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.secure_sum.identity import Roster
from polyclinic_simulations.federation import Federation, SiteData
from polyclinic_simulations.setting import Setting
from polyclinic_simulations.trainer import Trainer


def bypassed(engine: str, gradients: str) -> list[str]:
    """Say, in sentences, what a simulated run leaves out of what a node does."""
    found = ["Messages are calls in one process: no network, TLS or enrolment."]
    if engine != "inline":
        found = ["Messages travel through Ray on one machine: no TLS, no enrolment."]
    if gradients != "opacus":
        found.append("Gradients are computed in closed form; a node computes them through Opacus.")
    return [
        *found,
        "Replies do not wait for the public tick.",
        "Hospitals know each other's identity keys without a telephone call.",
        "All hospitals' keys, ledgers and journals lie on one disk.",
    ]


class HurriedClock(SystemClock):
    """The clock of this machine, without waiting."""

    def wait_until(self, moment: float) -> None:
        """Return at once."""


@dataclass(frozen=True)
class Hospitals:
    """Makes a run's sites, each where its first message arrives, in whatever process that is.

    Attributes
    ----------
    folder : Path
        One folder a hospital in it.
    run_id : str
        The run that all hospitals approve.
    """

    federation: Federation
    setting: Setting
    run_id: str
    trainer: Trainer
    folder: Path
    made: dict[int, Answers] = field(default_factory=dict)
    opened: dict[int, SiteFolder] = field(default_factory=dict)

    def __call__(self, context: Context) -> Answers:
        """Return the site of a Flower context."""
        return self.site(int(context.node_config["partition-id"]))

    def site(self, index: int) -> Answers:
        """Return the site number `index`."""
        if index not in self.made:
            self.made[index] = self._make(index)
        return self.made[index]

    def restart(self, index: int) -> None:
        """Forget what the site's node had in memory."""
        self.made.pop(index, None)
        if index in self.opened:
            self.opened.pop(index).close()

    def found(self) -> None:
        """Make every hospital's folder, with its approval of this run; existing ones are kept."""
        for index, site in enumerate(self._sites):
            if len(site.train) > most_patients(site.declared):
                raise _undeclared(site.name)
            if not (self._folder(index) / "journal.sqlite").exists():
                self._found(index)

    def close(self) -> None:
        """Close all ledgers and journals."""
        for index in list(self.opened):
            self.restart(index)

    def folders(self) -> Mapping[str, SiteFolder]:
        """Return every hospital's folder, by name."""
        return {site.name: self._open(index) for index, site in enumerate(self._sites)}

    @property
    def _sites(self) -> tuple[SiteData, ...]:
        return self.federation.training_sites

    @cached_property
    def sum_plans(self) -> dict[str, SumPlan]:
        """Grid and noise of every kind of secure sum; empty in mode local."""
        federation, study = self.federation, self.federation.study
        if study.privacy.mode != "secure-sum":
            return {}
        path = self.trainer.private(study, federation.encoding).path
        declared = list(federation.declared.values())
        return secure_sum_plans(study, federation.encoding.width, self._length, path, declared)

    @cached_property
    def identities(self) -> dict[str, bytes]:
        """Every hospital's identity key, by name."""
        return {
            site.name: read_identity(self._folder(index)).public
            for index, site in enumerate(self._sites)
        }

    @cached_property
    def roster(self) -> Roster:
        """All hospitals with their identity keys."""
        return Roster.of(self.identities)

    def _folder(self, index: int) -> Path:
        return self.folder / f"{index + 1:03d}"

    def _open(self, index: int) -> SiteFolder:
        if index not in self.opened:
            self.opened[index] = SiteFolder.open(self._folder(index))
        return self.opened[index]

    def _found(self, index: int) -> None:
        """Make a hospital's folder: its limit is what its approval can come to."""
        approval, delta = self._approval(index), self.federation.study.privacy.delta
        cap = spent_epsilon(approval.worst_case(), delta)
        shutil.rmtree(self._folder(index), ignore_errors=True)
        with SiteFolder.create(self._folder(index), delta=delta, epsilon_cap=cap) as made:
            made.ledger.approve(approval)

    def _approval(self, index: int) -> Approval:
        """Return what the hospital approves: the planned rounds, and some lost to exclusion."""
        study, rounds = self.federation.study, self.federation.study.rounds
        planned = [
            Planned(
                kind=kind,
                releases=plan.rounds,
                headline=plan.headline,
                fallback=plan.fallback,
            )
            for kind, plan in self.sum_plans.items()
        ]
        if not planned:
            counts = {UPDATE: rounds, METRICS: len(study.metric_rounds)}
            planned = [
                Planned(
                    kind=kind, releases=counts[kind], headline=each.charge, fallback=each.charge
                )
                for kind, each in self._mechanisms(index, b"").items()
            ]
        vote = vote_of(study)
        if vote is not None:
            planned.append(Planned(kind=VOTE, releases=1, headline=vote, fallback=vote))
        return Approval(
            study_hash=bytes.fromhex(study.hash()),
            run=self.run_id,
            planned=tuple(planned),
            lost_rounds=math.ceil(2 * self.setting.drop * rounds),
            expires=study.expires,
        )

    def _make(self, index: int) -> Answers:
        study, folder = self.federation.study, self._open(index)
        declared = self._sites[index].declared
        tick = tick_length(declared * study.training.epochs, self._length)
        gate = Gate(folder.identity.public, folder.ledger, folder.journal, tick, HurriedClock())
        answers = (
            self._member(index) if study.privacy.mode == "secure-sum" else self._updates(index)
        )
        return Site(study.hash(), self.run_id, answers, gate, folder.journal, self._voter(index))

    @property
    def _length(self) -> int:
        return weight_count(build_network(self.federation.study, self.federation.encoding))

    def _member(self, index: int) -> Member:
        federation, folder, study = self.federation, self._open(index), self.federation.study
        gradients = self.trainer.private(study, federation.encoding)
        noise = self.trainer.noise(folder.ledger.secret)
        site, plans = self._sites[index], self.sum_plans
        sources = sum_sources(gradients, site.train, plans, noise)
        if METRICS in plans:
            held_out = metrics_source(federation.encoding, site.held_out, plans[METRICS], noise)
            sources[METRICS] = held_out
        terms = Terms(
            study_hash=bytes.fromhex(study.hash()),
            run=self.run_id,
            roster=self.roster,
            verified=frozenset(self.roster.identities),
            m=study.m,
            c=study.c,
            rounds=study.rounds,
            plans=self.sum_plans,
            metric_rounds=study.metric_rounds,
        )
        return Member(
            terms, folder.identity, folder.ledger, sources, lambda: folder.ledger.now() / 1000
        )

    def _updates(self, index: int) -> Updates:
        study, folder = self.federation.study, self._open(index)
        return Updates(
            bytes.fromhex(study.hash()),
            self._length,
            study.rounds,
            personal=study.training.personalisation == "mr-mtl",
            ledger=folder.ledger,
            mechanisms=self._mechanisms(index, folder.ledger.secret),
            metric_rounds=study.metric_rounds,
        )

    def _voter(self, index: int) -> Voter | None:
        """Return what votes for a hospital: against the base rate and published formulas."""
        federation, site, folder = self.federation, self._sites[index], self._open(index)
        study, charge = federation.study, vote_of(federation.study)
        if charge is None:
            return None
        incumbent = initial_weights(study, federation.encoding, federation.seed)
        formulas = tuple(site.published.values())
        return Voter(
            bytes.fromhex(study.hash()),
            self._length,
            study.rounds,
            charge=charge,
            opinion=BetterHere(federation.encoding, site.held_out, incumbent, formulas),
            ledger=folder.ledger,
            coin=system_coin(folder.ledger.secret),
        )

    def _mechanisms(self, index: int, secret: bytes) -> dict[str, Mechanism]:
        encoding, site = self.federation.encoding, self._sites[index]
        gradients = self.trainer.private(encoding.study, encoding)
        noise = self.trainer.noise(secret)
        return local_mechanisms(
            encoding, gradients, site.train, site.held_out, site.declared, noise
        )


def _undeclared(name: str) -> PrivacyError:
    return PrivacyError(
        Code.PRIVACY_PARAMETER,
        f"{name} has more patients than its declared size allows.",
        "Declare a size of at least half the patients.",
    )
