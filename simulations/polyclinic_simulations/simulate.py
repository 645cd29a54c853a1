"""Simulate a study: the call behind ``polyclinic simulate`` and for notebooks."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from polyclinic_common.canonical import canonical_hash, write_atomically
from polyclinic_common.errors import Code, SimulationError, StudyError
from polyclinic_common.privacy import gdp
from polyclinic_common.study.manifest import Study
from polyclinic_simulations.federation import refuse_unusable
from polyclinic_simulations.results import Cell, Result
from polyclinic_simulations.setting import Setting
from polyclinic_simulations.store import Job, Piece, Store
from polyclinic_simulations.studies import resolve
from polyclinic_simulations.summaries import summarise_sites
from polyclinic_simulations.watcher import Silent, Watcher


def simulate(
    study: str | Path | Study,
    data: Path | pd.DataFrame | None = None,
    *,
    modes: Sequence[str] = (),
    epsilons: Sequence[float] = (),
    seeds: int = 1,
    out: Path | None = None,
    workers: int = 1,
    watcher: Watcher | None = None,
) -> Result:
    """Simulate a federation and compare it with honest baselines.

    Parameters
    ----------
    study : str, Path or Study
        Name of a built-in study, a manifest file, or a manifest.
    data : Path, DataFrame or None
        A table in the study's columns; for a built-in study the data folder.
    modes : sequence of str
        ``"local"``, ``"none"`` (default: the study's).
    epsilons : sequence of float
        Privacy budgets of the private modes (default: the study's).
    seeds : int
        How many seeds; each fixes a split and an initialisation, never noise.
    out : Path or None
        Folder for finished cells, ``result.json`` and ``report.html``; None keeps nothing.
        Called again with the same folder, only what is missing is run.
    workers : int
        Processes to use.
    watcher : Watcher or None
        Told how it gets on.

    Returns
    -------
    Result
        Every cell with its baselines.

    Examples
    --------
    >>> from polyclinic_simulations.simulate import simulate
    >>> result = simulate("gbsg2", epsilons=[1, 4], seeds=5)  # doctest: +SKIP
    >>> result.to_frame().groupby(["mode", "epsilon"]).c_index.mean()  # doctest: +SKIP
    """
    manifest, frame = _load(study, data)
    settings = _settings(manifest, modes, epsilons)
    if seeds < 1:
        raise SimulationError(
            Code.SIMULATION_OPTION, f"{seeds} seeds cannot be run.", "Give at least one seed."
        )
    _refuse_expired(manifest)
    refuse_unusable(manifest, frame)
    if any(setting.epsilon is not None for setting in settings):
        gdp.check_delta(manifest.privacy.delta, len(frame))
    sites = summarise_sites(manifest, frame)
    identity = canonical_hash([manifest.hash(), _digest(frame), version("polyclinic")])
    with TemporaryDirectory() as scratch:
        store = Store(out or Path(scratch), identity)
        _run_missing(Job(manifest, frame, store), settings, seeds, workers, watcher or Silent())
        cells = [_gather(store, setting, seed) for setting in settings for seed in range(seeds)]
    result = Result(
        study=manifest.id,
        study_hash=manifest.hash(),
        version=version("polyclinic"),
        main_metric=manifest.metrics[0],
        sites=sites,
        cells=cells,
    )
    if out is not None:
        _write(manifest, result, out)
    return result


def _run_missing(
    job: Job, settings: list[Setting], seeds: int, workers: int, watcher: Watcher
) -> None:
    """Do whatever is not kept from an earlier call; baselines first, they take longest."""
    runs = [(seed, setting) for seed in range(seeds) for setting in settings]
    pieces = [Piece(seed, None) for seed in range(seeds) if job.store.read_baselines(seed) is None]
    pieces += [Piece(seed, s) for seed, s in runs if job.store.read_run(s, seed) is None]
    if pieces:
        from polyclinic_simulations.pool import run_pieces  # noqa: PLC0415  (torch: seconds)

        run_pieces(job, pieces, workers, watcher)


def _gather(store: Store, setting: Setting, seed: int) -> Cell:
    run, shared = store.read_run(setting, seed), store.read_baselines(seed)
    if run is None or shared is None:
        raise SimulationError(
            Code.SIMULATION_OUTPUT,
            "A finished cell could not be read back from the output folder.",
            "Check that the disk is not full and nobody else writes there; run it again.",
        )
    return Cell.of(run, shared)


def _load(
    study: str | Path | Study, data: Path | pd.DataFrame | None
) -> tuple[Study, pd.DataFrame]:
    if isinstance(study, Study) and isinstance(data, pd.DataFrame):
        return study, data
    if isinstance(study, Study) or isinstance(data, pd.DataFrame):
        raise StudyError(
            Code.STUDY_UNKNOWN,
            "A study and a table must both be given as objects, or both as names and files.",
            "Read the table with polyclinic_common.data.table.read_table.",
        )
    return resolve(study, data)


def _refuse_expired(study: Study) -> None:
    if dt.datetime.now(dt.UTC).date() > study.expires:
        raise StudyError(
            Code.STUDY_EXPIRED,
            f"The study {study.id} expired on {study.expires}.",
            "Set a later date in `expires`; every hospital would have to approve it again.",
        )


def _settings(study: Study, modes: Sequence[str], epsilons: Sequence[float]) -> list[Setting]:
    """Return the settings to run, each once, in the order asked for."""
    budgets = [float(epsilon) for epsilon in epsilons] or [study.privacy.epsilon]
    found: list[Setting] = []
    for mode in modes or [study.privacy.mode]:
        if mode not in {"local", "none"}:
            raise SimulationError(
                Code.SIMULATION_OPTION, f"There is no mode {mode!r}.", "Use local or none."
            )
        for epsilon in [None] if mode == "none" else budgets:
            if epsilon is not None:
                gdp.mu_of(epsilon, study.privacy.delta)
            if Setting(mode, epsilon) not in found:
                found.append(Setting(mode, epsilon))
    return found


def _digest(frame: pd.DataFrame) -> str:
    hashes = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    return hashlib.sha256("|".join(map(str, frame.columns)).encode() + hashes.tobytes()).hexdigest()


def _write(study: Study, result: Result, out: Path) -> None:
    from polyclinic_simulations.report import write_report  # noqa: PLC0415  (matplotlib)

    plain = result.model_dump_json(exclude={"cells": {"__all__": {"figures"}}}, indent=1)
    write_atomically(out / "result.json", plain.encode())
    write_report(study, result, out / "report.html")
