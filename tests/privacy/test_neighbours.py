"""Two cohorts that differ by one patient: nothing but the noisy sum can tell them apart.

Whole runs are replayed on both, with no noise, so that whatever differs is the patient's doing.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict
from numpy.typing import NDArray

import polyclinic_client
import polyclinic_common
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.records.journal import Left
from polyclinic_client.run.responder import Responder
from polyclinic_common.data.encoding import Cohort
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.charges import GaussianSum
from polyclinic_common.releases.schedule import Schedule
from polyclinic_server.rounds.state import State
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import Federation, build_federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import start_weights, train_federated
from tests.kits.noise import NoNoise
from tests.kits.small import small_study, small_table

EPSILON, DELTA, ROUNDS = 1.0, 1e-5, 3
HOSTILE = [np.nan, np.inf, -np.inf, 1e30, -1e30, -0.0, 5e-324]
ROOMS = tuple(
    str(Path(next(iter(room.__path__)))) for room in (polyclinic_client, polyclinic_common)
)
MODES = ["secure-sum", "local"]
KEYS = [Identity.from_private(bytes([number]) * 32) for number in (1, 2, 3)]
MINE, OTHERS = KEYS[0].public, [key.public for key in KEYS[1:]]


@dataclass
class Seen:
    """What one run let anybody see, site by site."""

    messages: list[list[str]] = field(default_factory=list)
    lines: list[tuple[str, int]] = field(default_factory=list)
    vectors: dict[bytes, list[NDArray[np.int64]]] = field(default_factory=dict)
    charges: list[GaussianSum] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)


def federation(mode: str, extra: float | None) -> Federation:
    """Return three hospitals; the first has one patient more, all of whose numbers are `extra`."""
    study = small_study(privacy={"mode": mode}, training={"rounds": ROUNDS})
    made = build_federation(study, small_table(60), seed=0)
    first = made.sites[0]
    last = first.train.take(np.arange(1))
    row = Cohort(*(np.full_like(part, extra or 0.0) for part in (last.x, last.y, last.mask)))
    if extra is not None and np.isfinite(extra):
        row = Cohort(row.x, row.y, np.ones_like(row.mask))
    both = first.train if extra is None else Cohort.concatenate([first.train, row])
    return replace(made, sites=(replace(first, train=both), *made.sites[1:]))


@contextmanager
def watched(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Note the parts of every answer (the journal has their sizes), the lines run, the vectors."""
    answer, reserve = Responder.answer, Ledger.reserve

    def trace(frame: Any, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ROOMS):
            return None
        if event == "line":
            seen.lines.append((frame.f_code.co_filename, frame.f_lineno))
        return trace

    def answered(site: Responder, content: RecordDict, memory: Any) -> RecordDict:
        sys.settrace(trace)
        try:
            reply = answer(site, content, memory)
        finally:
            sys.settrace(None)
        seen.messages.append([f"{name}: {sorted(part)}" for name, part in reply.items()])
        return reply

    def reserved(ledger: Ledger, *names: Any, vector: Any, headline: Any, **wanted: Any) -> Any:
        seen.vectors.setdefault(ledger._identity.public, []).append(np.array(vector))
        seen.charges.append(headline)
        return reserve(ledger, *names, vector=vector, headline=headline, **wanted)

    keys = iter(KEYS)
    with monkeypatch.context() as patched:
        patched.setattr(Identity, "generate", staticmethod(lambda: next(keys)))
        patched.setattr(Responder, "answer", answered)
        patched.setattr(Ledger, "reserve", reserved)
        yield


def run(made: Federation, folder: Path, monkeypatch: pytest.MonkeyPatch, gradients: str) -> Seen:
    seen, study = Seen(), made.study
    trainer = Trainer(gradients, noise=NoNoise)
    setting = Setting(study.privacy.mode, EPSILON, study.strategy)
    start = State.start(start_weights(made))
    with watched(seen, monkeypatch):
        train_federated(made, setting, run_id="run", start=start, trainer=trainer, folder=folder)
    for path in sorted(folder.iterdir()):
        with SiteFolder.open(path) as opened:
            events = [noted.event for noted in opened.journal.events()]
            words = [f"{event.entry} {getattr(event, 'size', '')}" for event in events]
            seen.rows.append([*words, str(opened.ledger.state.counted)])
            seen.spent.append(opened.ledger.budget().spent)
            left = {
                (event.run, event.round_number, event.sum): event.cost
                for event in events
                if isinstance(event, Left) and event.cost is not None
            }
            costs = Counter(left.values())
            assert spent_epsilon(costs, DELTA) >= seen.spent[-1], "what left is not all charged"
            assert costs == opened.ledger.state.fallback, "what left is not what is charged"
            assert costs.total() == ROUNDS
    return seen


def moved(one: Seen, other: Seen) -> float:
    """Return how far the first release of the hospital with the patient moved, in grid units."""
    difference = one.vectors[MINE][0] - other.vectors[MINE][0]
    return float(np.linalg.norm(difference.astype(np.float64)))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("gradients", ["opacus", "fast"])
def test_one_patient_moves_a_release_by_no_more_than_is_charged_and_nothing_else(
    mode: str, gradients: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first release, from one model; later models differ since noise is left out."""
    without = run(federation(mode, None), tmp_path / "without", monkeypatch, gradients)
    for number, value in enumerate(HOSTILE):
        neighbour = run(federation(mode, value), tmp_path / str(number), monkeypatch, gradients)
        assert moved(neighbour, without) <= without.charges[0].sensitivity
        for other in OTHERS:
            assert np.array_equal(neighbour.vectors[other][0], without.vectors[other][0])
        assert neighbour.messages == without.messages
        assert neighbour.charges == without.charges
        assert neighbour.rows == without.rows
        assert neighbour.spent == without.spent
        assert neighbour.lines == without.lines, "control flow depends on a patient"


@pytest.mark.parametrize("gradients", ["opacus", "fast"])
def test_a_patient_at_the_bound_moves_a_release_by_the_whole_clip(
    gradients: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above allows is reached: it would see a bound twice as loose."""
    without = run(federation("local", None), tmp_path / "without", monkeypatch, gradients)
    neighbour = run(federation("local", 1e30), tmp_path / "with", monkeypatch, gradients)
    assert moved(neighbour, without) > 0.97 * without.charges[0].sensitivity


def test_the_trace_sees_a_branch_on_a_patient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polyclinic_client.compute.integers import NoisyIntegers

    honest = NoisyIntegers.draw

    def branching(source: NoisyIntegers, weights: Any, moment: Any) -> Any:
        if len(source.patients) % 2:
            source.patients.blocks(np.arange(1))
        return honest(source, weights, moment)

    monkeypatch.setattr(NoisyIntegers, "draw", branching)
    without = run(federation("local", None), tmp_path / "without", monkeypatch, "fast")
    neighbour = run(federation("local", 1.0), tmp_path / "with", monkeypatch, "fast")
    assert neighbour.lines != without.lines


def test_h_shares_of_noise_are_what_the_headline_counts() -> None:
    """Computed here from m, c, epsilon and delta alone, for a roster of ten."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    def delta_of(mu: float, epsilon: float) -> float:
        cut = epsilon / mu
        return float(norm.sf(cut - mu / 2) - np.exp(epsilon) * norm.sf(cut + mu / 2))

    study = small_study(sites=10, privacy={"epsilon": EPSILON, "delta": DELTA})
    (plan,) = Schedule.of(study, 50, "rows").secure_sums.values()
    rounds, honest = study.training.rounds, 8 - 2
    mu = float(brentq(lambda m: delta_of(m, EPSILON) - DELTA, 1e-3, 10.0))
    needed = (study.clip * np.sqrt(rounds) / mu) ** 2 / honest
    assert needed <= plan.variance * plan.grid**2 <= needed * 1.001
