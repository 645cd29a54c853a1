"""Without noise and with a clip that never binds, every mode is the same training, up to the grid.

What may remain is rounding. A hospital whose sum is rounded once (products) moves every entry of
the gradient sum by at most half a grid unit; one whose patients are rounded one by one (rows) moves
it by half a unit for each of them. `furthest` carries that through all rounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from polyclinic_client.compute.gradients import OpacusRows
from polyclinic_client.compute.local_releases import SumRelease
from polyclinic_client.compute.patients import Patients
from polyclinic_client.compute.row_network import RowNetwork
from polyclinic_client.compute.training import local_mechanism
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import Vector
from polyclinic_common.releases.kinds import GRADIENT
from polyclinic_server.rounds import plan
from polyclinic_server.rounds.observers import Round
from polyclinic_server.rounds.state import State
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import Federation, build_federation
from polyclinic_simulations.federation.hospitals import Hospitals
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import start_weights, train_federated
from tests.kits.noise import NoNoise
from tests.kits.small import small_study, small_table

CLIP = 2.0
CURVATURE = {"binary": 0.25, "continuous": 1.0}  # of the loss, at most


@pytest.fixture(autouse=True)
def no_ridge(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server pulls towards the start by what the noise of a mode suggests: not here."""
    monkeypatch.setattr(plan, "noise_ridge", lambda *_: 0.0)


@dataclass(frozen=True)
class Way:
    """One way to train the same federation."""

    mode: str
    gradients: str = "fast"
    engine: str = "inline"

    @property
    def setting(self) -> Setting:
        return Setting(self.mode, None if self.mode == "none" else 50.0, "descent")

    @property
    def trainer(self) -> Trainer:
        return Trainer(self.gradients, noise=NoNoise)

    def federation(self, kind: str) -> Federation:
        study = small_study(kind, privacy={"clip": CLIP})
        return build_federation(self.setting.apply(study), small_table(), seed=0)


PLAIN = Way("none")


class Broadcasts:
    """An observer that keeps every model that was sent out."""

    def __init__(self, start: Vector):
        self.models = [start]

    def after_round(self, finished: Round) -> None:
        assert len(finished.sites) == 3
        self.models.append(finished.state.weights)


def trained(way: Way, kind: str) -> Vector:
    """Train, and make sure that no patient's gradient was clipped."""
    made = way.federation(kind)
    start = start_weights(made)
    seen = Broadcasts(start)
    weights = train_federated(
        made,
        way.setting,
        run_id="run",
        start=State.start(start),
        observers=[seen],
        trainer=way.trainer,
        engine=way.engine,
    ).weights
    study = made.study
    hooks = OpacusRows(RowNetwork(build_network(study, made.encoding)), study.loss)
    blocks = Patients(made.pooled).blocks()
    norms = [
        np.linalg.norm(hooks.patient_gradients(model, block), axis=1).max()
        for model in seen.models
        for block in blocks
    ]
    assert max(norms) <= CLIP - grid_of(way, made) * math.sqrt(start.size) / 2
    return weights


def grid_of(way: Way, made: Federation) -> float:
    """Return the coarsest grid on which a hospital's sums lie; 0 in mode none."""
    if way.mode == "none":
        return 0.0
    if way.mode == "secure-sum":
        hospitals = Hospitals(made, way.setting, "run", way.trainer, Path())
        return hospitals.sum_plans[GRADIENT].grid
    private = way.trainer.private(made.study, made.encoding)
    grids = []
    for site in made.sites:
        mechanism = local_mechanism(made.study, private, site.train, site.declared, NoNoise())
        assert isinstance(mechanism, SumRelease)
        grids.append(mechanism.plan.grid)
    return max(grids)


def furthest(way: Way, kind: str) -> float:
    r"""Return how far rounding can lead the final model away, Euclidean norm.

    One round moves the mean gradient by at most e = (roundings) (grid / 2) sqrt(d) / N, N the
    declared patients. The gradient is L-Lipschitz: curvature of the loss times the squared length
    of a patient's row and intercept, n / N times. With differences w of models and v of momenta:
    v <- beta v + (1 - beta)(e + L w), w <- w + eta v.
    """
    made = way.federation(kind)
    study, patients = made.study, len(made.pooled)
    declared = sum(made.declared.values())
    roundings = patients if way.gradients == "opacus" else len(made.sites)
    error = roundings * grid_of(way, made) / 2 * math.sqrt(start_weights(made).size) / declared
    x = made.pooled.x
    rows = np.vecdot(x, x) + x[:, -1] ** 2
    smooth = CURVATURE[kind] * rows.max() * patients / declared
    model = momentum = 0.0
    for _ in range(study.training.rounds):
        gradient = error + smooth * model
        momentum = study.training.momentum * momentum + (1 - study.training.momentum) * gradient
        model += study.learning_rate * momentum
    return model


def agree(one: Way, other: Way, kind: str) -> None:
    tolerance = furthest(one, kind) + furthest(other, kind)
    found, expected = trained(one, kind), trained(other, kind)
    start = start_weights(PLAIN.federation(kind))
    moved = float(np.linalg.norm(expected - start))
    assert 0 < tolerance < 0.05 * moved
    assert np.linalg.norm(found - expected) <= tolerance


@pytest.mark.parametrize("kind", list(CURVATURE))
@pytest.mark.parametrize("mode", ["local", "secure-sum"])
def test_a_private_mode_without_noise_is_mode_none(mode: str, kind: str) -> None:
    agree(Way(mode), PLAIN, kind)


@pytest.mark.parametrize("kind", list(CURVATURE))
@pytest.mark.parametrize("gradients", ["fast", "opacus"])
def test_the_secure_sum_is_exactly_the_sum_of_what_mode_local_releases(
    gradients: str, kind: str
) -> None:
    """On one grid; integers are added modulo 2^64 in one mode, as dyadic floats in the other."""
    ways = [Way(mode, gradients) for mode in ("secure-sum", "local")]
    assert len({grid_of(way, way.federation(kind)) for way in ways}) == 1
    secure, local = (trained(way, kind) for way in ways)
    assert np.array_equal(secure, local)


@pytest.mark.parametrize("mode", ["local", "secure-sum"])
def test_the_reference_path_and_the_product_path_agree(mode: str) -> None:
    agree(Way(mode, gradients="opacus"), Way(mode), "binary")


@dataclass
class Releases:
    """An observer that keeps every round."""

    rounds: list[Round] = field(default_factory=list)

    def after_round(self, finished: Round) -> None:
        self.rounds.append(finished)


@pytest.mark.parametrize("kind", list(CURVATURE))
@pytest.mark.parametrize("gradients", ["fast", "opacus"])
def test_every_release_is_the_plain_gradient_sum_to_half_a_unit_a_rounding(
    gradients: str, kind: str
) -> None:
    """Entry by entry, at the models that were really sent out: one rounding, or one a patient."""
    way, seen = Way("local", gradients), Releases()
    made = way.federation(kind)
    broadcast, grid = start_weights(made), grid_of(way, made)
    start = State.start(broadcast)
    train_federated(
        made, way.setting, run_id="run", start=start, observers=[seen], trainer=way.trainer
    )
    assert len(seen.rounds) == made.study.training.rounds
    for finished in seen.rounds:
        for site in made.sites:
            plain = way.trainer.plain(made.study, made.encoding, site.train, site.declared, (0,))
            blocks = plain.step.patients.blocks()
            expected = plain.step.engine.gradient_sum(broadcast, blocks)
            roundings = len(site.train) if gradients == "opacus" else 1
            released = finished.updates[site.name]
            np.testing.assert_allclose(
                released, expected, rtol=0, atol=roundings * grid / 2 + 1e-12
            )
            assert np.linalg.norm(released) > 1000 * grid
        broadcast = finished.state.weights


@pytest.mark.usefixtures("ray_scratch")
def test_mode_local_over_ray_is_mode_local_and_mode_none() -> None:
    """Between engines nothing is rounded otherwise."""
    over_ray = trained(Way("local", engine="ray"), "binary")
    np.testing.assert_allclose(over_ray, trained(Way("local"), "binary"), rtol=0, atol=1e-12)
    difference = np.linalg.norm(over_ray - trained(PLAIN, "binary"))
    assert difference <= furthest(Way("local"), "binary")
