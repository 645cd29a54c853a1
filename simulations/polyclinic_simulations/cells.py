"""Run the cells of a simulation: one federated run each, beside its baselines."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pandas as pd

from polyclinic_common.privacy import gdp
from polyclinic_common.study.manifest import Study
from polyclinic_server.observers import History, Observer, Progress
from polyclinic_server.optimizer import State
from polyclinic_simulations.baselines import local_only, non_private, scores_of
from polyclinic_simulations.federation import Federation, build_federation
from polyclinic_simulations.figures import make_figures
from polyclinic_simulations.results import Baselines, Cell, PrivacySpent, Scores, Timing
from polyclinic_simulations.store import ENGINE, CellStore
from polyclinic_simulations.training import Setting, start_weights, train_federated
from polyclinic_simulations.watcher import Watcher

CURVE_POINTS = 12


def run_cells(
    study: Study,
    frame: pd.DataFrame,
    settings: list[Setting],
    seeds: range,
    store: CellStore,
    watcher: Watcher,
) -> Iterator[Cell]:
    """Yield every cell: the kept ones at once, the others after running them."""
    missing = {seed: [s for s in settings if store.read(s, seed) is None] for seed in seeds}
    watcher.begin(sum(map(len, missing.values())), study.training.rounds)
    for seed in seeds:
        kept = [store.read(s, seed) for s in settings if s not in missing[seed]]
        yield from (cell for cell in kept if cell is not None)
        if not missing[seed]:
            continue
        watcher.working_on(f"seed {seed}: baselines without privacy")
        federation = build_federation(study, frame, seed)
        gdp.check_delta(study.privacy.delta, sum(federation.declared.values()))
        base = non_private(federation)
        for setting in missing[seed]:
            cell = _run_cell(federation, setting, base, store, watcher)
            store.write(setting, cell)
            yield cell


def _run_cell(
    federation: Federation,
    setting: Setting,
    base: dict[str, Scores | None],
    store: CellStore,
    watcher: Watcher,
) -> Cell:
    study, seed, began = federation.study, federation.seed, time.perf_counter()
    name = setting.mode if setting.epsilon is None else f"{setting.mode} ε={setting.epsilon:g}"
    watcher.working_on(f"seed {seed}: {name}")
    history = History(every=max(1, study.training.rounds // CURVE_POINTS))
    observers: list[Observer] = [Progress(lambda _: watcher.round_done()), history]
    checkpoint = store.checkpoint(setting, seed)
    start = State.start(start_weights(federation))
    if checkpoint is not None:
        start = checkpoint.load() or start
        observers.append(checkpoint)
    trained = train_federated(
        federation,
        setting,
        run_id=store.run_id(setting, seed),
        start=start,
        observers=observers,
    )
    if setting.epsilon is not None:
        watcher.working_on(f"seed {seed}: {name}, hospitals on their own")
        base = base | {"local_only_private": local_only(federation, setting)}
    return Cell(
        mode=setting.mode,
        epsilon=setting.epsilon,
        seed=seed,
        engine=ENGINE,
        privacy=_spent(study, setting),
        test=scores_of(federation, trained.weights),
        baselines=Baselines.model_validate(base),
        figures=make_figures(federation, trained.weights, history),
        timing=Timing(
            total_s=time.perf_counter() - began,
            train_s=trained.seconds,
            rounds=study.training.rounds,
        ),
    )


def _spent(study: Study, setting: Setting) -> PrivacySpent:
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
