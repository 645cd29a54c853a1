"""Training of a federation: the ServerApp and ClientApp of a real consortium, over an engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from flwr.serverapp import Grid

from polyclinic_client.ledger.budget import Budget
from polyclinic_client.run.flower_app import Answers, make_client_app
from polyclinic_common.evaluation.reading import RoundReadings
from polyclinic_common.models.head import initial_weights
from polyclinic_common.models.score_head import Vector
from polyclinic_common.privacy.sum_plan import SumPlan
from polyclinic_common.releases.kinds import GRADIENT, METRICS
from polyclinic_common.releases.schedule import Schedule
from polyclinic_server.rounds.coordinator import make_server_app
from polyclinic_server.rounds.metric_sums import MetricReader
from polyclinic_server.rounds.observers import Checkpoint, Observer
from polyclinic_server.rounds.plan import RunPlan, make_plan
from polyclinic_server.rounds.reach import Reaches
from polyclinic_server.rounds.state import Calibrated, State, Verdict
from polyclinic_simulations.compute.plain import PlainSite
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.engines import ENGINES
from polyclinic_simulations.federation.federation import Federation
from polyclinic_simulations.federation.hospitals import Hospitals
from polyclinic_simulations.federation.menu import exact_choice
from polyclinic_simulations.federation.observers import Progress
from polyclinic_simulations.federation.outages import Outages
from polyclinic_simulations.federation.setting import Setting


@dataclass(frozen=True)
class Trained:
    """A federated model.

    Attributes
    ----------
    weights : array of shape (d,)
        The model.
    rounds : int
        Rounds: fewer than planned if training stopped early.
    seconds : float
        What they took.
    budgets : mapping
        Every hospital's account, by name; empty in mode none.
    sums : SumPlan or None
        Grid and noise of the secure sum.
    metrics : tuple of RoundReadings
        The private metrics, round by round.
    verdict : Verdict or None
        The hospitals' votes on the model, where the study asks for them.
    candidates : tuple of array of shape (d,)
        The models of a menu, a setting each.
    chosen : int or None
        Which of them is the model; None without a menu.
    calibrated : Calibrated or None
        Level and slope, where the study asks for them.
    """

    weights: Vector
    rounds: int
    seconds: float
    budgets: Mapping[str, Budget]
    sums: SumPlan | None
    metrics: tuple[RoundReadings, ...] = ()
    verdict: Verdict | None = None
    candidates: tuple[Vector, ...] = ()
    chosen: int | None = None
    calibrated: Calibrated | None = None


@dataclass(frozen=True)
class PlainSites:
    """Makes the sites of mode none."""

    federation: Federation
    trainer: Trainer
    made: dict[int, Answers] = field(default_factory=dict)
    identities: Mapping[str, bytes] = field(default_factory=dict)
    reaches: Reaches = field(default_factory=dict)

    def site(self, index: int) -> Answers:
        """Return the site number `index`."""
        if index not in self.made:
            federation = self.federation
            study, site = federation.study, federation.training_sites[index]
            seed = (federation.seed, index)
            mechanism = self.trainer.plain(
                study, federation.encoding, site.train, site.declared, seed
            )
            self.made[index] = PlainSite(mechanism, study.training.personalisation == "mr-mtl")
        return self.made[index]

    def restart(self, index: int) -> None:
        """Forget what the site had in memory."""
        self.made.pop(index, None)


def train_federated(
    federation: Federation,
    setting: Setting,
    *,
    run_id: str,
    start: State,
    observers: Sequence[Observer] = (),
    trainer: Trainer | None = None,
    engine: str = "inline",
    folder: Path | None = None,
) -> Trained:
    """Train over one of the engines.

    Parameters
    ----------
    folder : Path or None
        Where the hospitals keep their ledgers and journals; None throws them away.
    """
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(TemporaryDirectory()))
        trainer = trainer or Trainer()
        if setting.epsilon is None:
            seconds, rounds, state = _run(
                federation,
                setting,
                PlainSites(federation, trainer),
                {},
                run_id,
                start,
                observers,
                engine,
            )
            return Trained(
                state.average,
                rounds,
                seconds,
                {},
                None,
                candidates=state.candidates,
                chosen=state.chosen,
                calibrated=state.calibrated,
            )
        hospitals = Hospitals(federation, setting, run_id, trainer, place)
        stack.callback(hospitals.close)
        hospitals.found()
        plans = hospitals.sum_plans
        seconds, rounds, state = _run(
            federation, setting, hospitals, plans, run_id, start, observers, engine
        )
        budgets = {name: each.ledger.budget() for name, each in hospitals.folders().items()}
        return Trained(
            state.average,
            rounds,
            seconds,
            budgets,
            plans.get(GRADIENT),
            readings(federation, state),
            state.verdict,
            state.candidates,
            state.chosen,
            state.calibrated,
        )


def keeper(observers: Sequence[Observer]) -> Callable[[State], None]:
    """Return what keeps a state in every checkpoint among the observers."""

    def keep(state: State) -> None:
        for observer in observers:
            if isinstance(observer, Checkpoint):
                observer.write(state)

    return keep


def evaluation_of(federation: Federation) -> MetricReader | None:
    """Return how metrics are asked for and read, if the study releases any."""
    study, declared = federation.study, max(federation.declared.values())
    if not study.metric_rounds:
        return None
    patients = {site.name: site.declared_in_all for site in federation.training_sites}
    return MetricReader.of(study, Schedule.of(study, declared).plan(METRICS), patients)


def readings(federation: Federation, state: State) -> tuple[RoundReadings, ...]:
    """Return the private metrics of a finished run."""
    evaluation = evaluation_of(federation)
    if evaluation is None:
        return ()
    return tuple(RoundReadings(m.round_number, evaluation.read(m)) for m in state.kept(METRICS))


def _run(
    federation: Federation,
    setting: Setting,
    sites: Hospitals | PlainSites,
    sums: Mapping[str, SumPlan],
    run_id: str,
    start: State,
    observers: Sequence[Observer],
    engine: str,
) -> tuple[float, int, State]:
    """Return the seconds that the rounds took, how many there were, and the state after them."""
    names = [site.name for site in federation.training_sites]
    finished: list[State] = []
    told: list[int] = []
    watching = [*observers, Progress(told.append)]
    chosen = ENGINES[engine]

    def plan_of(grid: Grid) -> tuple[RunPlan, State]:
        nodes = dict(zip(names, chosen.nodes_in_order(grid), strict=True))
        plan = run_plan(federation, setting, run_id, nodes, chosen.timeout_s, sums)
        identities, reaches = sites.identities, sites.reaches
        keep = keeper(observers)
        return replace(plan, keep=keep, identities=identities, reaches=reaches), start

    client_app = make_client_app(Outages(sites, setting.drop, federation.seed))
    began = time.perf_counter()
    chosen.run(make_server_app(plan_of, watching, finished.append), client_app, len(names))
    rounds = start.round_number + len(told)
    return time.perf_counter() - began, rounds, finished[0]


def run_plan(
    federation: Federation,
    setting: Setting,
    run_id: str,
    nodes: dict[str, int],
    timeout_s: float,
    sums: Mapping[str, SumPlan] | None = None,
) -> RunPlan:
    """Return the coordinator's plan; where every release is private on its own, one is enough."""
    study = federation.study
    return make_plan(
        study,
        run_id,
        nodes,
        federation.declared,
        start_weights(federation),
        sums or {},
        setting.epsilon,
        fewest=study.m if sums else 1,
        timeout_s=timeout_s,
        evaluation=evaluation_of(federation),
        choose=exact_choice(federation) if setting.epsilon is None else None,
    )


def start_weights(federation: Federation) -> Vector:
    """Return the warm start, or the public starting point under this federation's seed."""
    if federation.start is not None:
        return federation.start
    return initial_weights(federation.study, federation.encoding, federation.seed)
