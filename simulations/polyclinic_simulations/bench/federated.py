"""Federations of made-up patients, and the training of them that is measured."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.evaluation.observed import Observed
from polyclinic_common.study import Study, parse_study
from polyclinic_server.rounds.observers import Round
from polyclinic_server.rounds.state import State
from polyclinic_simulations.bench.size import CLIP, DELTA, EPSILON, SEED, Size, made_up_patients
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import Federation, SiteData
from polyclinic_simulations.federation.setting import Setting, made_up_hospital
from polyclinic_simulations.federation.training import start_weights, train_federated


@dataclass
class Clock:
    """An observer that notes when every round ended."""

    began: float = field(default_factory=time.perf_counter)
    ends: list[float] = field(default_factory=list)

    def after_round(self, finished: Round) -> None:  # noqa: ARG002
        """Note the time."""
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        """Seconds of every round; hospitals' folders and sites are made in the first."""
        return [end - start for start, end in pairwise([self.began, *self.ends])]


def train(federation: Federation, gradients: str, engine: str = "inline") -> list[float]:
    """Train in mode `local` and return the seconds of every round."""
    clock = Clock()
    study = federation.study
    train_federated(
        federation,
        Setting("local", study.privacy.epsilon, study.strategy),
        run_id="benchmark",
        start=State.start(start_weights(federation)),
        observers=[clock],
        trainer=Trainer(gradients),
        engine=engine,
    )
    return clock.seconds


def made_up_study(size: Size) -> Study:
    """Return the manifest of a job."""
    public = "made up"
    panel = {
        "name": "panel",
        "kind": "panel",
        "columns": [f"c{number}" for number in range(size.columns)],
        "unit": "1",
        "range": [-1, 1],
        "source": public,
    }
    data = {
        "polyclinic": 1,
        "id": "benchmark",
        "version": "1.0.0",
        "title": "Benchmark",
        "purpose": "Measuring time and memory",
        "expires": "9999-12-31",
        "synthetic": True,
        "roster": {"sites": [made_up_hospital(site) for site in range(size.sites)]},
        "cohort": {"patient_id": "patient", "site": "hospital", "features": [panel]},
        "outcome": {
            "kind": "binary",
            "column": "outcome",
            "positive": "1",
            "negative": "0",
            "source": public,
        },
        "model": {"kind": "mlp" if size.hidden else "linear", "hidden": list(size.hidden)},
        "privacy": {"mode": "local", "epsilon": EPSILON, "delta": DELTA, "clip": CLIP},
        "training": {
            "rounds": size.rounds,
            "schedule": size.schedule,
            "batch": size.batch,
            "strategy": "fedavg" if size.schedule == "sampled" else "descent",
        },
    }
    return parse_study(data, "benchmark")


def made_up_federation(size: Size) -> Federation:
    """Return a federation whose patients are all for training, encoded as a table would be."""
    study = made_up_study(size)
    encoding = Encoding(study)
    sites = [_site(encoding, size, site) for site in range(size.sites)]
    return Federation(study, encoding, SEED, tuple(sites))


def _site(encoding: Encoding, size: Size, site: int) -> SiteData:
    values, y = made_up_patients(size, site)
    x = np.empty((size.patients, encoding.width))
    x[:, :-2], x[:, -2], x[:, -1] = values, 0.0, 1.0
    x /= encoding.row_scale
    none, unknown = Cohort(x[:0], y[:0], y[:0]), Observed(np.empty(0), np.empty(0))
    train_cohort = Cohort(x, y, np.ones_like(y))
    return SiteData(made_up_hospital(site), train_cohort, unknown, none, unknown, {}, {}, none)
