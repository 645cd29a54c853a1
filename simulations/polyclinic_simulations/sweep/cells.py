"""The work of a simulation, piece by piece: one federated run, or one seed's baselines."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from polyclinic_common.models.start import read_start
from polyclinic_common.models.vectors import save_model
from polyclinic_server.rounds.state import State
from polyclinic_simulations.baselines.baselines import (
    local_only,
    on_formula,
    scores_by_site,
    scores_of,
    shared_baselines,
)
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import Federation, build_federation, spread
from polyclinic_simulations.federation.menu import tried_settings
from polyclinic_simulations.federation.observers import Progress, RoundHistory, SiteModels
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import start_weights, train_federated
from polyclinic_simulations.results.results import Run, Timing
from polyclinic_simulations.sweep.figures import make_figures
from polyclinic_simulations.sweep.spending import spent
from polyclinic_simulations.sweep.store import Job, Piece

CURVE_POINTS = 12
Advance = Callable[[float], None]


def run_piece(job: Job, piece: Piece, advance: Advance) -> None:
    """Do one piece of work and keep what it found."""
    federation = federation_of(job, piece.setting, piece.seed)
    if piece.baselines:
        baselines = shared_baselines(federation, piece.setting, Trainer(job.gradients))
        job.store.write_baselines(piece.setting, piece.seed, baselines)
        advance(piece.units(job.study))
    else:
        job.store.write_run(piece.setting, run_cell(job, federation, piece.setting, advance))


def federation_of(job: Job, setting: Setting, seed: int) -> Federation:
    """Return the hospitals of a run, split by its seed."""
    frame = job.frame if setting.sites is None else spread(job.study, job.frame, setting.sites)
    federation = build_federation(setting.apply(job.study), frame, seed)
    if job.start is None:
        return federation
    study, encoding = federation.study, federation.encoding
    start = read_start(job.start, study, encoding, start_weights(federation))
    return replace(federation, start=start.weights)


def run_cell(job: Job, federation: Federation, setting: Setting, advance: Advance) -> Run:
    """Train one federation, score it, and score hospitals on their own with the same privacy."""
    study, seed, began = federation.study, federation.seed, time.perf_counter()
    rounds = study.training.rounds
    checkpoint = job.store.checkpoint(setting, seed)
    if study.training.personalisation != "none":  # the sites' own models are in no checkpoint
        checkpoint.path.unlink(missing_ok=True)
    start = checkpoint.load() or State.start(start_weights(federation))
    history = RoundHistory(every=max(1, rounds // CURVE_POINTS))
    models = SiteModels(start.weights)
    advance(start.round_number)
    trained = train_federated(
        federation,
        setting,
        run_id=job.store.run_id(setting, seed),
        start=start,
        observers=[checkpoint, Progress(lambda _: advance(1.0)), history, models],
        trainer=Trainer(job.gradients),
        engine=job.engine,
        folder=job.store.hospitals(setting, seed),
    )
    known = None if trained.calibrated is None else trained.calibrated.level_and_slope
    save_model(job.store.model_path(setting, seed), study, trained.weights, known)
    if trained.chosen is not None:
        history = history.of_setting(trained.chosen, rounds)
    alone = None
    if setting.epsilon is not None:
        alone = local_only(federation, setting, Trainer(job.gradients))
        advance(rounds)
    common = scores_of(federation, trained.weights)
    names = [site.name for site in federation.sites]
    personal = study.training.personalisation != "none"
    found = models.models if personal else {}
    kept = {name: found.get(name, trained.weights) for name in names}
    own = scores_by_site(federation, kept) if personal else None
    return Run(
        mode=setting.mode,
        epsilon=setting.epsilon,
        strategy=setting.strategy,
        sites=setting.sites,
        drop=setting.drop,
        seed=seed,
        engine=job.engine,
        gradients=job.gradients,
        study_hash=study.hash(),
        privacy=spent(federation, trained.budgets, trained.sums),
        private=list(trained.metrics),
        menu=tried_settings(federation, trained.candidates, trained.metrics, trained.chosen),
        verdict=trained.verdict,
        test=own or common,
        on_formula=on_formula(federation, kept),
        broadcast=common if own else None,
        local_only_private=alone,
        figures=make_figures(federation, trained.weights, history),
        timing=Timing(
            total_s=time.perf_counter() - began, train_s=trained.seconds, rounds=trained.rounds
        ),
    )
