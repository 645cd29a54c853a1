"""Simulate a study: the call behind ``polyclinic simulate`` and for notebooks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, get_args

from polyclinic_common.canonical import canonical_hash
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.mapping import load_mapping
from polyclinic_common.data.rules import Mapping
from polyclinic_common.errors import Code, SimulationError, StudyError
from polyclinic_common.evaluation.observed import observe
from polyclinic_common.files import write_atomically
from polyclinic_common.models.head import initial_weights
from polyclinic_common.models.start import read_start
from polyclinic_common.models.vectors import load_model
from polyclinic_common.privacy import gdp
from polyclinic_common.releases.plans import noise_plan
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.sections import Mode
from polyclinic_common.version import VERSION
from polyclinic_simulations.draft.mapped import translate_hospitals
from polyclinic_simulations.federation.federation import refuse_repeated, refuse_unusable
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.results.exact_metrics import reported_metrics
from polyclinic_simulations.results.results import Cell, Model, Result, plain_json
from polyclinic_simulations.studies import resolve
from polyclinic_simulations.sweep.digests import start_digest, table_digest
from polyclinic_simulations.sweep.store import Job, Piece, Store
from polyclinic_simulations.sweep.summaries import summarise_sites
from polyclinic_simulations.sweep.watcher import Silent, Watcher

if TYPE_CHECKING:
    import pandas as pd

ENGINE = "inline"
LARGEST_EPSILON = 50.0
SMALLEST_DECLARED = 10


def simulate(
    study: str | Path | Study,
    data: str | Path | pd.DataFrame | None = None,
    *,
    mapping: str | Path | Mapping | None = None,
    modes: Sequence[str] = (),
    epsilons: Sequence[float] = (),
    strategies: Sequence[str] = (),
    sites: Sequence[int] = (),
    drops: Sequence[float] = (),
    seeds: int = 1,
    gradients: str = "fast",
    engine: str = ENGINE,
    start: str | Path | None = None,
    out: str | Path | None = None,
    workers: int = 1,
    cluster: str | None = None,
    watcher: Watcher | None = None,
    bundle: bool = False,
) -> Result:
    """Simulate a federation and compare it with honest baselines.

    Parameters
    ----------
    study : str, Path or Study
        Name of a built-in study, a manifest file, or a manifest.
    data : str, Path, DataFrame or None
        A table in the study's columns, or one that `mapping` brings into them; for a built-in
        study the data folder.
    mapping : str, Path, Mapping or None
        Mapping of the table's columns to the study's, as a hospital has it: what is not understood
        of the table is refused unless it says what it means.
    modes : sequence of str
        ``"secure-sum"``, ``"local"``, ``"none"`` (default: the study's).
    epsilons : sequence of float
        Privacy budgets of the private modes (default: the study's).
    strategies : sequence of str
        How releases are combined (default: the study's).
    sites : sequence of int
        Spread all patients over so many made-up hospitals (default: the study's hospitals).
    drops : sequence of float
        Probabilities of a hospital to miss a round (default: 0).
    seeds : int
        How many seeds; each fixes a split and an initialisation, never noise. Where every seed
        would give the same (a fixed split without privacy), one is run.
    gradients : str
        ``"fast"`` (closed form) or ``"opacus"``, which a hospital's node runs; equal up to
        rounding.
    engine : str
        ``"inline"`` (messages are calls) or ``"ray"`` (Flower's own simulation, extra ``ray``).
    start : str, Path or None
        Warm start: a saved model (``.safetensors``, one of ``out/models``), whose columns are
        matched by name, or coefficients of a linear model (``.csv`` in natural units, ``.json``
        of encoded columns). One fitted on these patients is outside the privacy guarantee.
    out : str, Path or None
        Folder for finished cells, ``result.json``, ``cells.csv`` and ``report.html``; None keeps
        nothing. Called again with the same folder, only what is missing is run.
    workers : int
        Processes to use; with Ray one, which shares its work among Ray's.
    cluster : str or None
        Address of a Ray cluster (extra ``ray``) whose machines run the cells instead of this one.
    watcher : Watcher or None
        Told how it gets on.
    bundle : bool
        Write every model to ``out/bundles`` as the file that a consortium releases.

    Returns
    -------
    Result
        Every cell with its baselines; it predicts for patients, and gives coefficients.

    Examples
    --------
    >>> from polyclinic_simulations import simulate
    >>> result = simulate("gbsg2", epsilons=[1, 4], seeds=5)  # doctest: +SKIP
    >>> result.to_frame().groupby(["mode", "epsilon"]).c_index.mean()  # doctest: +SKIP
    >>> result.predict(patients), result.coefficients()  # doctest: +SKIP
    """
    start, out = _path(start), _path(out)
    rules = load_mapping(Path(mapping)) if isinstance(mapping, str | Path) else mapping
    manifest, frame = _load(study, data, rules)
    unused: tuple[str, ...] = ()
    if rules is not None:
        translated = translate_hospitals(rules, frame, manifest)
        frame, unused = translated.frame, translated.unused
    settings = make_settings(manifest, modes, epsilons, strategies, sites, drops)
    _refuse_options(seeds, gradients, engine)
    _refuse_cluster(cluster, engine)
    _refuse_moving(engine, settings)
    _refuse_expired(manifest)
    refuse_unusable(manifest, frame, rules, unused)
    if any(setting.sites is not None for setting in settings):
        refuse_repeated(manifest, frame)
    if any(setting.epsilon is not None for setting in settings):
        gdp.check_delta(manifest.privacy.delta, len(frame))
    identity = canonical_hash(
        [
            manifest.hash(),
            table_digest(frame),
            VERSION,
            engine,
            gradients,
            start_digest(start),
        ]
    )
    started = _starts(start, manifest, settings)
    with output_folder(out) as folder:
        job = Job(manifest, frame, Store(folder, identity), engine, gradients, start)
        processes = 1 if engine == "ray" else workers
        _run_missing(job, settings, seeds, processes, watcher or Silent(), cluster)
        ran = [
            (setting, _gather(job, setting, seed))
            for setting in settings
            for seed in setting.seeds(manifest, seeds)
        ]
        result = Result(
            study=manifest.id,
            study_hash=manifest.hash(),
            version=VERSION,
            main_metric=reported_metrics(manifest, observe(manifest, frame).value)[0],
            sites=summarise_sites(manifest, frame),
            cells=[cell for _, cell in ran],
            warm_start=start.name if start is not None else None,
            warm_start_columns=started,
        )
        result.keep_models(
            {(cell.setting, cell.seed): _model(job, setting, cell.seed) for setting, cell in ran}
        )
        if out is not None:
            _write(manifest, result, out)
        if bundle:
            from polyclinic_simulations.sweep.bundles import write_bundles  # noqa: PLC0415  (Flower)

            write_bundles(job, settings, seeds)
    return result


def _starts(start: Path | None, study: Study, settings: Sequence[Setting]) -> list[str]:
    """Say how a warm start and the columns of every setting meet; refuse one that does not fit."""
    if start is None:
        return []
    said: list[str] = []
    for trained in {setting.sites: setting.apply(study) for setting in settings}.values():
        encoding = Encoding(trained)
        said += read_start(start, trained, encoding, initial_weights(trained, encoding, 0)).words()
    return list(dict.fromkeys(said))


@contextmanager
def output_folder(out: Path | None) -> Iterator[Path]:
    """Give the output folder, or one that is thrown away; what the disk refuses is coded."""
    try:
        with TemporaryDirectory() as scratch:
            folder = out or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            yield folder
    except OSError as error:
        raise SimulationError(
            Code.SIMULATION_OUTPUT,
            f"The output folder cannot be used ({error.strerror}).",
            "Check the path, its permissions and the free disk space; finished cells are kept.",
        ) from error


def _run_missing(
    job: Job,
    settings: list[Setting],
    seeds: int,
    workers: int,
    watcher: Watcher,
    cluster: str | None = None,
) -> None:
    """Do whatever is not kept from an earlier call; baselines first, they take longest."""
    pieces = [
        Piece(seed, setting, baselines=True)
        for seed in range(seeds)
        for setting in dict.fromkeys(setting.alone for setting in settings)
        if seed in setting.seeds(job.study, seeds)
        and job.store.read_baselines(setting, seed) is None
    ]
    pieces += [
        Piece(seed, setting)
        for seed in range(seeds)
        for setting in settings
        if seed in setting.seeds(job.study, seeds) and job.store.read_run(setting, seed) is None
    ]
    if pieces and cluster is not None:
        from polyclinic_simulations.sweep.cluster import run_on_cluster  # noqa: PLC0415  (Flower, Ray)

        run_on_cluster(job, pieces, cluster, watcher)
    elif pieces:
        from polyclinic_simulations.sweep.pool import run_pieces  # noqa: PLC0415  (Flower: a second)

        run_pieces(job, pieces, workers, watcher)


def _gather(job: Job, setting: Setting, seed: int) -> Cell:
    store, beside = job.store, setting.alone.seeds(job.study, seed + 1)[-1]
    run, shared = store.read_run(setting, seed), store.read_baselines(setting, beside)
    if run is None or shared is None:
        raise SimulationError(
            Code.SIMULATION_OUTPUT,
            "A finished cell could not be read back from the output folder.",
            "Check that the disk is not full and nobody else writes there; run it again.",
        )
    return Cell.of(run, shared)


def _model(job: Job, setting: Setting, seed: int) -> Model:
    """Return the study as a finished run trained it, and its model's weights."""
    path = job.store.model_path(setting, seed)
    return Model(setting.apply(job.study), load_model(path).weights)


def _load(
    study: str | Path | Study, data: str | Path | pd.DataFrame | None, mapping: Mapping | None
) -> tuple[Study, pd.DataFrame]:
    import pandas as pd  # noqa: PLC0415

    if isinstance(study, Study) and isinstance(data, pd.DataFrame):
        return study, data
    if isinstance(study, Study) or isinstance(data, pd.DataFrame):
        raise StudyError(
            Code.STUDY_UNKNOWN,
            "A study and a table must both be given as objects, or both as names and files.",
            "Read the table with polyclinic_common.data.files.read_table.",
        )
    return resolve(study, _path(data), mapping)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _refuse_engine(engine: str) -> None:
    if engine == "ray":
        from polyclinic_simulations.engines.ray import refuse_absent  # noqa: PLC0415  (Flower)

        refuse_absent()
    elif engine != ENGINE:
        raise SimulationError(
            Code.SIMULATION_OPTION, f"There is no engine {engine!r}.", "Use inline or ray."
        )


def _refuse_options(seeds: int, gradients: str, engine: str) -> None:
    if seeds < 1:
        raise SimulationError(
            Code.SIMULATION_OPTION, f"{seeds} seeds cannot be run.", "Give at least one seed."
        )
    if gradients not in {"fast", "opacus"}:
        raise SimulationError(
            Code.SIMULATION_OPTION, f"There are no gradients {gradients!r}.", "Use fast or opacus."
        )
    _refuse_engine(engine)


def _refuse_cluster(cluster: str | None, engine: str) -> None:
    """Refuse a cluster without Ray, or one under Ray's own simulation."""
    if cluster is None:
        return
    if engine != ENGINE:
        raise SimulationError(
            Code.SIMULATION_OPTION,
            "On a cluster every cell runs inline, in one process.",
            "Leave out --engine ray or --cluster.",
        )
    from polyclinic_simulations.engines.ray import refuse_absent  # noqa: PLC0415  (Flower)

    refuse_absent(own=False)


def _refuse_moving(engine: str, settings: Sequence[Setting]) -> None:
    """Refuse a secure sum over Ray: a hospital's keys live in the memory of one process."""
    if engine == "ray" and any(setting.mode == "secure-sum" for setting in settings):
        raise SimulationError(
            Code.SIMULATION_OPTION,
            "Ray moves a hospital from process to process, and its keys for the secure sum live in "
            "the memory of one.",
            "Leave out --engine ray, or add --mode local.",
        )


def _refuse_expired(study: Study) -> None:
    if dt.datetime.now(dt.UTC).date() > study.expires:
        raise StudyError(
            Code.STUDY_EXPIRED,
            f"The study {study.id} expired on {study.expires}.",
            "Set a later date in `expires`; every hospital would have to approve it again.",
        )


def make_settings(
    study: Study,
    modes: Sequence[str],
    epsilons: Sequence[float],
    strategies: Sequence[str],
    sites: Sequence[int],
    drops: Sequence[float],
) -> list[Setting]:
    """Return every combination to run, each once, in the order asked for; bad ones are refused."""
    budgets = [float(epsilon) for epsilon in epsilons] or [study.privacy.epsilon]
    private = [(mode, epsilon) for mode in modes or [study.privacy.mode] for epsilon in budgets]
    found = [
        Setting(mode, None if mode == "none" else epsilon, strategy, count, float(drop))
        for count in list[int | None](sites) or [None]
        for drop in drops or [0.0]
        for strategy in strategies or [study.strategy]
        for mode, epsilon in private
    ]
    for setting in found:
        _refuse_setting(study, setting)
    return list(dict.fromkeys(found))


def _refuse_setting(study: Study, setting: Setting) -> None:
    """Refuse a setting that cannot be run, before anything is run."""
    if setting.mode not in get_args(Mode):
        modes = ", ".join(get_args(Mode))
        what, remedy = f"There is no mode {setting.mode!r}.", f"Use one of: {modes}."
    elif setting.epsilon is not None and setting.epsilon > LARGEST_EPSILON:
        what, remedy = f"An epsilon of {setting.epsilon} protects nobody.", "Use at most 50."
    elif not 0 <= setting.drop < 0.5:
        what, remedy = f"A dropout of {setting.drop} cannot be run.", "Use 0 to below 0.5."
    elif setting.sites is not None and not 2 <= setting.sites <= 1000:
        what, remedy = f"{setting.sites} hospitals cannot be run.", "Use 2 to 1000."
    elif setting.sites is not None and study.evaluation.holdout.kind == "sites":
        what, remedy = "A study that holds out whole sites cannot be spread.", "Leave out --sites."
    elif setting.drop > 0 and setting.sites is None and len(study.training_sites) == 1:
        what, remedy = "One hospital trains, and no round can miss it.", "Leave out --drop."
    else:
        if setting.epsilon is not None:
            gdp.mu_of(min(setting.epsilon, LARGEST_EPSILON), study.privacy.delta)
        noise_plan(setting.apply(study), SMALLEST_DECLARED, setting.epsilon)
        return
    raise SimulationError(Code.SIMULATION_OPTION, what, remedy)


def _write(study: Study, result: Result, out: Path) -> None:
    from polyclinic_simulations.report import write_report  # noqa: PLC0415  (matplotlib)

    write_atomically(out / "result.json", plain_json(result).encode())
    write_atomically(out / "cells.csv", result.to_frame().to_csv(index=False).encode())
    write_report(study, result, out / "report.html")
