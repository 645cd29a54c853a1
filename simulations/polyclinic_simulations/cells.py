"""The work of a simulation, piece by piece: one federated run, or one seed's baselines."""

from __future__ import annotations

import time
from collections.abc import Callable

from polyclinic_common.privacy import gdp
from polyclinic_common.study.manifest import Study
from polyclinic_server.observers import History, Progress
from polyclinic_server.optimizer import State
from polyclinic_simulations.baselines import local_only, scores_of, shared_baselines
from polyclinic_simulations.federation import Federation, build_federation
from polyclinic_simulations.figures import make_figures
from polyclinic_simulations.results import PrivacySpent, Run, Timing
from polyclinic_simulations.setting import Setting
from polyclinic_simulations.store import ENGINE, Job, Piece, Store
from polyclinic_simulations.training import start_weights, train_federated

CURVE_POINTS = 12
Advance = Callable[[float], None]


def run_piece(job: Job, piece: Piece, advance: Advance) -> None:
    """Do one piece of work and keep what it found."""
    federation = build_federation(job.study, job.frame, piece.seed)
    if piece.setting is None:
        job.store.write_baselines(piece.seed, shared_baselines(federation))
        advance(piece.units(job.study))
    else:
        job.store.write_run(run_cell(federation, piece.setting, job.store, advance))


def run_cell(federation: Federation, setting: Setting, store: Store, advance: Advance) -> Run:
    """Train one federation, score it, and score hospitals on their own with the same privacy."""
    study, seed, began = federation.study, federation.seed, time.perf_counter()
    rounds = study.training.rounds
    history = History(every=max(1, rounds // CURVE_POINTS))
    checkpoint = store.checkpoint(setting, seed)
    start = checkpoint.load() or State.start(start_weights(federation))
    advance(start.round_number)
    trained = train_federated(
        federation,
        setting,
        run_id=store.run_id(setting, seed),
        start=start,
        observers=[Progress(lambda _: advance(1.0)), history, checkpoint],
    )
    alone = None
    if setting.epsilon is not None:
        alone = local_only(federation, setting)
        advance(rounds)
    total_s = time.perf_counter() - began
    return Run(
        mode=setting.mode,
        epsilon=setting.epsilon,
        seed=seed,
        engine=ENGINE,
        privacy=spent(study, setting),
        test=scores_of(federation, trained.weights),
        local_only_private=alone,
        figures=make_figures(federation, trained.weights, history),
        timing=Timing(total_s=total_s, train_s=trained.seconds, rounds=rounds),
    )


def spent(study: Study, setting: Setting) -> PrivacySpent:
    """Return what the noise that was really added has cost, recomputed from its level."""
    if setting.epsilon is None:
        return PrivacySpent(
            epsilon=None, delta=None, unit=gdp.UNIT, adjacency=gdp.ADJACENCY, accountant="none"
        )
    multiplier = setting.deviation(study) / study.clip
    delta = study.privacy.delta
    return PrivacySpent(
        epsilon=gdp.spent_epsilon(multiplier, study.training.rounds, delta),
        delta=delta,
        unit=gdp.UNIT,
        adjacency=gdp.ADJACENCY,
        accountant=gdp.ACCOUNTANT,
    )
