"""A hospital with one patient, or with none, answers like any other, whatever it is asked.

Whole runs of every kind of release, with the node's gradients and the system's noise: the answers
are of the same kinds and sizes, the accounts are the same, and nothing fails. (What the answers
say is noise: ``test_every_coordinate_is_noisy.py``.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyclinic_client.compute.regression_sums import SummedStatistics
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.records.journal import Failed, Left, Refused
from polyclinic_common.errors import RunError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.study import Study
from polyclinic_server.rounds.state import State
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import Federation, build_federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import start_weights, train_federated
from tests.kits.small import small_study, small_table

KEYS = [Identity.from_private(bytes([number]) * 32) for number in (1, 2, 3)]
EPSILON = 8.0
USUAL = 10
EVALUATION: dict[str, Any] = {
    "private": {"by_site": True, "subgroups": True},
    "acceptance": {"epsilon": 0.5},
}
SAMPLED: dict[str, Any] = {"rounds": 2, "schedule": "sampled", "batch": 4}


def study_of(kind: str, mode: str, model: dict[str, Any] | None = None, **training: Any) -> Study:
    return small_study(
        kind,
        model=model or {},
        training={"rounds": 2} | training,
        privacy={"mode": mode, "epsilon": EPSILON},
        evaluation=EVALUATION,
    )


STUDIES: dict[str, Study] = {
    "binary": study_of("binary", "secure-sum"),
    "statistics": study_of("continuous", "secure-sum", start="statistics"),
    "survival": study_of("survival", "secure-sum", calibration={"steps": 2}),
    "layers": study_of("binary", "secure-sum", {"kind": "mlp", "hidden": [3]}),
    "local sums": study_of("continuous", "local", calibration={"steps": 2}),
    "local survival": study_of("survival", "local"),
    "whole steps": study_of("binary", "local", strategy="fedavg"),
    "sampled steps": study_of("binary", "local", **SAMPLED),
    "fedprox": study_of("binary", "local", **SAMPLED, strategy="fedprox"),
    "personal": study_of("binary", "local", personalisation="mr-mtl"),
    "personal samples": study_of("binary", "local", **SAMPLED, personalisation="mr-mtl"),
}
KINDS = {
    "secure-sum": {"gradient", "metrics", "vote"},
    "local": {"update", "metrics", "vote"},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Blocks are small: more threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def federation(study: Study, patients: int) -> Federation:
    """Return three hospitals; the first has so many patients, and as many that are held out."""
    made = build_federation(study, small_table(75), seed=0)
    first, rows = made.sites[0], np.arange(patients)
    few = replace(
        first,
        train=first.train.take(rows),
        held_out=first.held_out.take(rows[: (patients + 1) // 2]),
    )
    sites = [replace(each, train=each.train.take(np.arange(USUAL))) for each in made.sites[1:]]
    return replace(made, sites=(few, *sites))


def run(study: Study, patients: int, folder: Path) -> list[list[str]]:
    """Return what every hospital wrote down of a run: requests, answers, their sizes and prices."""
    made, setting = (
        federation(study, patients),
        Setting(study.privacy.mode, EPSILON, study.strategy),
    )
    assert set(made.declared.values()) == {USUAL}
    start = State.start(start_weights(made))
    trainer = Trainer("opacus")
    train_federated(made, setting, run_id="run", start=start, trainer=trainer, folder=folder)
    found = []
    for path in sorted(folder.iterdir()):
        with SiteFolder.open(path) as opened:
            events = [noted.event for noted in opened.journal.events()]
            left = {event.sum for event in events if isinstance(event, Left) and event.sum}
            assert left >= KINDS[study.privacy.mode], "a kind of release is not tested"
            assert not any(isinstance(event, Failed | Refused) for event in events)
            words = [
                f"{event.entry} {getattr(event, 'size', '')} {getattr(event, 'cost', '')}"
                for event in events
            ]
            found.append([*words, str(opened.ledger.state.counted)])
    return found


@pytest.mark.parametrize("name", STUDIES)
def test_a_hospital_without_patients_or_with_one_answers_like_any_other(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, *small = [
        seen_with(STUDIES[name], patients, tmp_path / str(patients), monkeypatch)
        for patients in (USUAL, 0, 1)
    ]
    assert len(usual) == 3
    assert all(seen == usual for seen in small)


def seen_with(
    study: Study, patients: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[list[str]]:
    """Run with the same keys, so that members stand in the same order."""
    keys = cycle(KEYS)
    with monkeypatch.context() as patched:
        patched.setattr(Identity, "generate", staticmethod(lambda: next(keys)))
        return run(study, patients, folder)


def test_a_kind_that_fails_for_nobody_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As statistics once did, of which the padding alone was missing."""
    honest = SummedStatistics.integer_sum

    def failing(sums: SummedStatistics, weights: Any, blocks: Any) -> Any:
        return honest(sums, weights, [block for block in blocks if block[2].any()])

    monkeypatch.setattr(SummedStatistics, "integer_sum", failing)
    with pytest.raises(RunError, match="site 0: silent"):
        run(STUDIES["statistics"], 0, tmp_path)
