"""The hospitals of one simulated run: folders with real ledgers and journals, approvals, sites.

The function that makes a node's sites makes these (:mod:`polyclinic_client.run.assembly`). What
differs from a node `bypassed` lists, and the report names it.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from flwr.app import Context

from polyclinic_client.compute.training import Gradients
from polyclinic_client.folder.layout import read_identity
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.entries import Approval
from polyclinic_client.run.approved_study import ApprovedStudy
from polyclinic_client.run.assembly import make_gate, make_ladder, make_site, steps_reached
from polyclinic_client.run.flower_app import Answers
from polyclinic_client.study_book.price import planned_in
from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.identity.roster import Roster
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.releases.schedule import Schedule, declared_for
from polyclinic_common.releases.shares import most_patients
from polyclinic_server.rounds.plan import reaches_of
from polyclinic_server.rounds.reach import Reaches
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import Federation, SiteData
from polyclinic_simulations.federation.setting import Setting


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
        "Commits of ledger and journal are not synced to the disk; a node waits for that.",
    ]


class HurriedClock:
    """A clock on which nothing takes time but waiting, and waiting is over at once.

    So no answer is late, however many hospitals share this machine.
    """

    def __init__(self) -> None:
        self._time = time.time()

    def now(self) -> float:
        """Return when the last wait was over, Unix seconds; at first the machine's time."""
        return self._time

    def wait_until(self, moment: float) -> None:
        """Return at once."""
        self._time = max(self._time, moment)


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
    schedules: dict[int, Schedule] = field(default_factory=dict)

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

    @property
    def sum_plans(self) -> dict[str, SumPlan]:
        """Grid and noise of every kind of secure sum; empty in mode local."""
        return self._schedule(max(self.federation.declared.values())).secure_sums

    @property
    def reaches(self) -> Reaches:
        """What every hospital can have computed."""
        federation = self.federation
        sizes = {site.name: site.declared_in_all for site in self._sites}
        path = self._gradients.path
        return reaches_of(federation.study, self.sum_plans, sizes, federation.declared, path)

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
            self.opened[index] = SiteFolder.open(self._folder(index), durable=False)
        return self.opened[index]

    def _found(self, index: int) -> None:
        """Make a hospital's folder: its limit is what its approval can come to."""
        approval, delta = self._approval(index), self.federation.study.privacy.delta
        cap = spent_epsilon(approval.worst_case(), delta)
        shutil.rmtree(self._folder(index), ignore_errors=True)
        with SiteFolder.create(
            self._folder(index), delta=delta, epsilon_cap=cap, durable=False
        ) as made:
            made.ledger.approve(approval)

    def _approval(self, index: int) -> Approval:
        """Return what the hospital approves: the planned rounds, and some lost to exclusion."""
        federation, study = self.federation, self.federation.study
        name = self._sites[index].name
        return Approval(
            study_hash=bytes.fromhex(study.hash()),
            run=self.run_id,
            planned=planned_in(self._schedule(declared_for(study, federation.declared, name))),
            lost_rounds=math.ceil(2 * self.setting.drop * study.rounds),
            expires=study.expires,
        )

    def _schedule(self, declared: int) -> Schedule:
        """Return the schedule of a hospital of this size: made once, however many have it."""
        if declared not in self.schedules:
            study, path = self.federation.study, self._gradients.path
            self.schedules[declared] = Schedule.of(study, declared, path)
        return self.schedules[declared]

    def _make(self, index: int) -> Answers:
        federation, folder, site = self.federation, self._open(index), self._sites[index]
        approved = ApprovedStudy(
            federation.study,
            self.roster,
            frozenset(self.roster.identities),
            federation.declared,
            site.name,
            site.declared_in_all,
            lambda: (site.train, site.held_out),
        )
        ladder = make_ladder(approved, steps_reached(folder))
        return make_site(
            approved,
            self.run_id,
            folder,
            make_gate(federation.study, ladder, folder, HurriedClock()),
            self._gradients,
            self.trainer.noise(folder.ledger.secret),
            federation.seed,
            tuple(site.published.values()),
        )

    @property
    def _gradients(self) -> Gradients:
        return self.trainer.private(self.federation.study, self.federation.encoding)


def _undeclared(name: str) -> PrivacyError:
    return PrivacyError(
        Code.PRIVACY_PARAMETER,
        f"{name} has more patients than its declared size allows.",
        "Declare a size of at least half the patients.",
    )
