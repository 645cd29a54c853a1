"""Simulated models as bundles: the file that a consortium releases, marked SIMULATED."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polyclinic_common.bundle.bundle import Bundle, Draft
from polyclinic_common.bundle.certificate import Certificate
from polyclinic_common.bundle.contents import Evaluation, History, Votes
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.errors import Code, SimulationError
from polyclinic_common.files import write_atomically
from polyclinic_common.identity.site_key import Identity
from polyclinic_server.rounds.noise_of_weights import weight_deviation
from polyclinic_server.runs.release import facts_of, saved_weights
from polyclinic_simulations.federation.federation import Federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.results.results import Run
from polyclinic_simulations.sweep.cells import federation_of
from polyclinic_simulations.sweep.store import Job

BUNDLES = "bundles"


def write_bundles(job: Job, settings: Sequence[Setting], seeds: int) -> list[Path]:
    """Write a bundle for every finished run, and return the files; they stay where they are.

    Raises
    ------
    SimulationError
        X003 if the study trains a model for every hospital: there is no one model to release.
    """
    if job.study.training.personalisation != "none":
        raise SimulationError(
            Code.SIMULATION_OPTION,
            "This study trains a model for every hospital: there is no one model to release.",
            "Leave out --bundle.",
        )
    written = []
    for setting in settings:
        for seed in setting.seeds(job.study, seeds):
            run = job.store.read_run(setting, seed)
            if run is not None:
                bundle = bundle_of_run(job, setting, run)
                file = job.store.folder / BUNDLES / bundle.file_name
                write_atomically(file, bundle.to_bytes())
                written.append(file)
    return written


def bundle_of_run(job: Job, setting: Setting, run: Run) -> Bundle:
    """Return the model of a finished run, signed by a key that is thrown away."""
    federation, operator = federation_of(job, setting, run.seed), Identity.generate()
    study, name = federation.study, job.store.run_id(setting, run.seed)
    draft = Draft(
        SignedStudy.sign(study, operator),
        study,
        saved_weights(job.store.model_path(setting, run.seed)),
        Certificate.of(study, federation.declared),
        _evaluation(federation, run),
        History(
            rounds=run.timing.rounds,
            answered={},
            declared={site.name: site.declared_in_all for site in federation.training_sites},
        ),
    )
    facts = facts_of(study, name, operator.public, simulated=True)
    return draft.signed(operator, facts, {})


def _evaluation(federation: Federation, run: Run) -> Evaluation:
    chosen = next((index for index, tried in enumerate(run.menu) if tried.chosen), None)
    exact = run.test.overall
    return Evaluation(
        metrics=tuple(run.private),
        verdict=None if run.verdict is None else Votes.model_validate(vars(run.verdict)),
        settings=len(run.menu),
        chosen=None if chosen is None else chosen + 1,
        exact={name: value for name, value in exact.items() if value is not None},
        weight_deviation=weight_deviation(federation.study, federation.declared, chosen),
    )
