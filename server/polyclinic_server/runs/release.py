"""From a finished run to a released model: one file, signed by the operator."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from polyclinic_common.bundle.bundle import Bundle, Draft
from polyclinic_common.bundle.certificate import Certificate
from polyclinic_common.bundle.contents import Evaluation, History, Votes
from polyclinic_common.bundle.envelope import Facts
from polyclinic_common.bundle.noise_audit import NoiseAudit
from polyclinic_common.bundle.weights import SavedWeights
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.data.holdout import declared_for_training
from polyclinic_common.errors import Code, RunError
from polyclinic_common.models.vectors import load_model
from polyclinic_common.study.manifest import Study
from polyclinic_common.version import VERSION
from polyclinic_server.folder import ServerFolder
from polyclinic_server.rounds.noise_of_weights import weight_deviation
from polyclinic_server.rounds.observers import Checkpoint
from polyclinic_server.rounds.state import State
from polyclinic_server.rounds.sums import Carried
from polyclinic_server.runs.folder import RunDescription, RunFolder
from polyclinic_server.runs.quality import Quality


def make_bundle(
    folder: ServerFolder, run: RunFolder, people: Mapping[str, str], audit: NoiseAudit | None
) -> Bundle:
    """Return the released model of a finished run, signed by the operator.

    Parameters
    ----------
    people : mapping
        What people filled in of the model card, of `load_card_toml`.
    audit : NoiseAudit or None
        What an audit of the noise found.

    Raises
    ------
    RunError
        R012 if the run has not finished.
    """
    if run.status() != "finished":
        raise RunError(
            Code.RUN_UNFINISHED,
            f"The run {run.name} has not finished: there is no model to release.",
            "See `polyclinic server run show`; go on with `polyclinic server run resume`.",
        )
    description, state = run.description(), Checkpoint(run.checkpoint, run.name).load()
    study, quality = description.parsed_study, Quality.read(run.path)
    signed = _as_signed(folder, study)
    declared = {name: site.declared for name, site in description.sites.items()}
    trained = {name: declared_for_training(study, size) for name, size in declared.items()}
    facts = facts_of(study, run.name, folder.operator.public, simulated=False)
    draft = Draft(
        signed,
        study,
        saved_weights(run.model),
        Certificate.of(study, _as_promised(description, trained), audit),
        evaluation_of(study, quality, trained),
        History(
            rounds=max(event.round for event in run.events()),
            answered=_answered(run),
            declared=declared,
            transcript=_transcript(run.name, state),
            events=hashlib.sha256(run.events_file.read_bytes()).hexdigest(),
        ),
    )
    return draft.signed(folder.operator, facts, people)


def facts_of(study: Study, run: str, operator: bytes, *, simulated: bool) -> Facts:
    """Return what every signature under a bundle is about."""
    return Facts(
        study=study.id,
        study_version=study.version,
        study_hash=study.hash(),
        run=run,
        version=VERSION,
        made=dt.datetime.now(dt.UTC).date().isoformat(),
        simulated=simulated,
        operator=operator.hex(),
    )


def saved_weights(path: Path) -> SavedWeights:
    """Return the model that a run saved."""
    saved = load_model(path)
    return SavedWeights(saved.weights, saved.level_and_slope, saved.precision)


def evaluation_of(study: Study, quality: Quality, trained: Mapping[str, int]) -> Evaluation:
    """Return what is known of how good the model is.

    Parameters
    ----------
    trained : mapping
        Declared patients that count as trained on, by hospital.
    """
    verdict = quality.verdict
    chosen = None if quality.chosen is None else quality.chosen - 1
    return Evaluation(
        metrics=quality.metrics,
        verdict=None if verdict is None else Votes.model_validate(vars(verdict)),
        settings=len(study.training.menu),
        chosen=quality.chosen,
        weight_deviation=weight_deviation(study, trained, chosen),
    )


def _as_signed(folder: ServerFolder, study: Study) -> SignedStudy:
    store = folder.open_store()
    try:
        return store.study(bytes.fromhex(study.hash()))
    finally:
        store.close()


def _as_promised(description: RunDescription, trained: Mapping[str, int]) -> Mapping[str, int]:
    """Return the sizes that prices follow from: in a secure sum of the largest in the roster."""
    if description.parsed_study.privacy.mode != "secure-sum":
        return trained
    return dict.fromkeys(trained, description.largest)


def _answered(run: RunFolder) -> dict[str, int]:
    """Return in how many rounds each hospital's release stands."""
    last = {event.round: event.sites for event in run.events() if event.what == "round"}
    counts = Counter(site for sites in last.values() for site in sites)
    return {name: counts[name] for name in run.description().sites}


def _transcript(run: str, state: State | None) -> str:
    """Return the digest of all secure sums, empty where there were none."""
    last = Carried.from_bytes(state.carried).previous if state is not None else None
    return "" if last is None else last.digest(run).hex()
