"""The page at the bedside as people meet it: a bundle in a file, served by the typed command."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from polyclinic_common.bundle.bundle import Bundle, Draft
from polyclinic_common.bundle.certificate import Certificate
from polyclinic_common.bundle.contents import Evaluation, History
from polyclinic_common.bundle.envelope import Facts
from polyclinic_common.bundle.here import ModelHere
from polyclinic_common.bundle.opening import NO_DEVICE, SIMULATED, OpenedBundle
from polyclinic_common.bundle.predictor import Predictor
from polyclinic_common.bundle.untrained import FROZEN
from polyclinic_common.bundle.weights import SavedWeights
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.evaluation.interval import Reading
from polyclinic_common.evaluation.observed import subgroup_names
from polyclinic_common.evaluation.reading import GroupReading, RoundReadings
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.models.head import build_network, initial_weights
from polyclinic_common.models.score_head import Vector, cut
from polyclinic_common.study.manifest import Study
from polyclinic_common.version import VERSION

ROOT = Path(__file__).parents[2]
POLYCLINIC = "from polyclinic_common.cli.main import main; main()"


def plausible_weights(study: Study, seed: int = 1) -> Vector:
    """Return the public starting point with a score that says something."""
    encoding, rng = Encoding(study), np.random.default_rng(seed)
    weights = initial_weights(study, encoding, 0)
    last = cut(build_network(study, encoding), weights).last
    last[:] = rng.normal(0.0, 0.6, last.shape) * encoding.row_scale / 2.0
    return weights


def judged(study: Study) -> Evaluation:
    """Return an evaluation in which a figure is clear, one lost, and a group too small."""
    name = study.metrics[0]
    figures: dict[str, Reading | None] = {name: Reading(0.71, 0.64, 0.78), study.metrics[1]: None}
    first, *_, last = (group for _, group in subgroup_names(study))
    groups = (
        GroupReading("overall", "all", 240.0, 9.0, suppressed=False, metrics=figures),
        GroupReading("subgroup", first, 120.0, 9.0, suppressed=False, metrics=figures),
        GroupReading("subgroup", last, 12.0, 9.0, suppressed=True, metrics={}),
    )
    return Evaluation(metrics=(RoundReadings(study.rounds, groups),))


def released(
    study: Study, weights: Vector | None = None, evaluation: Evaluation | None = None
) -> Bundle:
    """Return a model as a simulation releases it."""
    operator = Identity.generate()
    signed = SignedStudy.sign(study, operator)
    declared = dict.fromkeys(study.training_sites, 100)
    facts = Facts(
        study=study.id,
        study_version=study.version,
        study_hash=signed.hash.hex(),
        run="run-1",
        version=VERSION,
        made="2026-11-29",
        simulated=True,
        operator=operator.public.hex(),
    )
    draft = Draft(
        signed,
        study,
        SavedWeights(plausible_weights(study) if weights is None else weights),
        Certificate.of(study, declared),
        judged(study) if evaluation is None else evaluation,
        History(rounds=study.rounds, answered=dict.fromkeys(declared, 1), declared=declared),
    )
    return draft.signed(operator, facts, {})


def here_of(bundle: Bundle, hospital: str | None = None) -> ModelHere:
    """Return a model that no hospital calibrated."""
    opened = OpenedBundle(bundle, None, (SIMULATED, NO_DEVICE))
    predictor = Predictor(bundle.study, bundle.model.weights, hospital)
    return ModelHere(opened, predictor, None)


@dataclass
class Served:
    """A page that is served, and what its process has printed."""

    address: str
    process: subprocess.Popen[str]
    printed: str = ""

    def stop(self) -> int:
        """Press Ctrl-C and return the exit status."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        self.printed += out + err
        return self.process.returncode


@contextmanager
def served(folder: Path, bundle: Bundle, table: pd.DataFrame | None = None) -> Iterator[Served]:
    """Serve a bundle by the command that people type; it is stopped at the end.

    Parameters
    ----------
    folder : Path
        Stands for the hospital's own folder, which may hold its `table` of the study.
    """
    file = folder / bundle.file_name
    file.write_bytes(bundle.to_bytes())
    if table is not None:
        rows = folder / FROZEN.format(bundle.facts.study_hash)
        rows.parent.mkdir(parents=True)
        table.to_parquet(rows)
    process = subprocess.Popen(
        [sys.executable, "-c", POLYCLINIC, "predict", str(file), "--serve", "--site", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    page = Served(process.stdout.readline().strip(), process)
    try:
        assert page.address, process.stderr and process.stderr.read()
        yield page
    finally:
        if process.poll() is None:
            page.stop()
