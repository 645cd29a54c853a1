"""One patient moves a site's sum by at most the clip, whoever the patient is.

Every trap of Opacus that the design names has a test here that fails without its handling.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyclinic_client.compute.gradients import OpacusRows
from polyclinic_client.compute.integers import GridSums, Moment, NoisyIntegers, SummedRows
from polyclinic_client.compute.local_releases import SampledCohort
from polyclinic_client.compute.patients import BLOCK, Block, GradientEngine, Patients
from polyclinic_client.compute.row_network import RowLinear, RowNetwork, RowTanh
from polyclinic_client.compute.sampling import SystemSampler
from polyclinic_client.compute.training import OpacusGradients
from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.errors import PrivacyError
from polyclinic_common.models.losses import LOSSES, PatientLoss, logistic
from polyclinic_common.models.score_head import (
    Network,
    Vector,
    cut,
    weight_count,
)
from polyclinic_common.privacy.noise import NoiseSource, SystemNoise
from polyclinic_common.privacy.sum_plan import plan_sum
from polyclinic_common.release_id import ReleaseId
from polyclinic_simulations.compute.ghost_norms import ClippedByGhostNorms
from polyclinic_simulations.compute.unclipped import Unclipped
from tests.kits.gradients import ClippedRows
from tests.kits.noise import NoNoise
from tests.kits.small import small_study

CLIP = 0.7
WIDTH = 6
ENGINES = ["hooks", "ghost"]


def engine(
    kind: str,
    hidden: tuple[int, ...] = (),
    outputs: int = 1,
    loss: PatientLoss = logistic,
) -> GradientEngine:
    network = Network(WIDTH, hidden, outputs)
    if kind == "ghost":
        return ClippedByGhostNorms(network, loss, CLIP)
    return ClippedRows(network, "logistic", CLIP)


def cohort(size: int, outputs: int = 1, seed: int = 0, scale: float = 1.0) -> Cohort:
    rng = np.random.default_rng(seed)
    x = scale * rng.uniform(-1, 1, (size, WIDTH))
    return Cohort(x, (rng.random((size, outputs)) < 0.5).astype(float), np.ones((size, outputs)))


def blocks(patients: Cohort) -> list[Block]:
    return Patients(patients).blocks()


def weights_for(hidden: tuple[int, ...], outputs: int = 1, seed: int = 1) -> Vector:
    size = weight_count(Network(WIDTH, hidden, outputs))
    return np.random.default_rng(seed).normal(0, 1, size)


def one_by_one(hidden: tuple[int, ...], outputs: int, patients: Cohort, weights: Vector) -> Vector:
    """The clipped sum from first principles: one ordinary backward pass a patient."""
    plain = Unclipped(Network(WIDTH, hidden, outputs), logistic)
    total = np.zeros(weights.size)
    for row in range(len(patients)):
        gradient = plain.gradient_sum(weights, blocks(patients.take(np.array([row]))))
        total += gradient * min(1.0, CLIP / float(np.linalg.norm(gradient)))
    return total


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("hidden", [(), (5,), (4, 3)])
@pytest.mark.parametrize("outputs", [1, 4])
def test_the_sum_is_that_of_gradients_clipped_one_by_one(
    kind: str, hidden: tuple[int, ...], outputs: int
) -> None:
    patients, weights = cohort(40, outputs), weights_for(hidden, outputs)
    found = engine(kind, hidden, outputs).gradient_sum(weights, blocks(patients))
    np.testing.assert_allclose(
        found, one_by_one(hidden, outputs, patients, weights), rtol=1e-5, atol=1e-5
    )


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(ENGINES),
    scale=st.sampled_from([1e-3, 1.0, 1e3, 1e9]),
    seed=st.integers(0, 2**31),
)
def test_no_patient_moves_the_sum_by_more_than_the_clip(kind: str, scale: float, seed: int) -> None:
    patients, weights = cohort(12, seed=seed, scale=scale), weights_for((5,), seed=seed)
    clipped = engine(kind, (5,))
    everybody = clipped.gradient_sum(weights, blocks(patients))
    without_last = clipped.gradient_sum(weights, blocks(patients.take(np.arange(11))))
    assert np.linalg.norm(everybody - without_last) <= CLIP * (1 + 1e-9)


HOSTILE = [np.nan, np.inf, -np.inf, 1e30, -1e30, -0.0, 5e-324]


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_row_neither_spoils_the_sum_nor_exceeds_the_clip(kind: str, value: float) -> None:
    """Opacus trap: in hooks mode one NaN or Inf feature turns every parameter to NaN."""
    patients, weights = cohort(10), weights_for((5,))
    x = patients.x.copy()
    x[3, :] = value
    hostile = Cohort(x, patients.y, patients.mask)
    others = patients.take(np.array([row for row in range(10) if row != 3]))
    clipped = engine(kind, (5,))
    with_hostile = clipped.gradient_sum(weights, blocks(hostile))
    without = clipped.gradient_sum(weights, blocks(others))
    assert np.isfinite(with_hostile).all()
    assert np.linalg.norm(with_hostile - without) <= CLIP * (1 + 1e-9)


def test_a_loss_of_another_shape_is_refused_instead_of_voiding_the_clip() -> None:
    """Opacus trap: in ghost mode a loss of shape (B, 1) silently does not clip."""

    def column_loss(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return logistic(logits, target, mask)[:, None]

    made = engine("ghost", loss=column_loss)
    with pytest.raises(PrivacyError) as caught:
        made.gradient_sum(weights_for(()), blocks(cohort(5)))
    assert caught.value.code == "P003"


@pytest.mark.parametrize("hidden", [(), (7, 3)])
@pytest.mark.parametrize("target", [0, 17, BLOCK - 1])
def test_a_patients_gradient_is_bitwise_independent_of_the_others(
    hidden: tuple[int, ...], target: int
) -> None:
    """All others replaced by padding: the patient's own gradient keeps every bit."""
    weights = weights_for(hidden)
    alone = cohort(BLOCK, seed=5)
    only = Cohort(*(np.zeros_like(part) for part in (alone.x, alone.y, alone.mask)))
    for part, source in ((only.x, alone.x), (only.y, alone.y), (only.mask, alone.mask)):
        part[target] = source[target]
    rows = OpacusRows(RowNetwork(Network(WIDTH, hidden, 1)), "logistic")
    found = [
        rows.patient_gradients(weights, blocks(patients)[0])[target] for patients in (alone, only)
    ]
    assert np.array_equal(*found)


@pytest.mark.parametrize("kind", ENGINES)
def test_an_empty_cohort_gives_zero(kind: str) -> None:
    """Opacus trap: an empty batch fails, and adaptive clipping divides by its size."""
    weights = weights_for((5,))
    found = engine(kind, (5,)).gradient_sum(weights, blocks(cohort(0)))
    assert np.array_equal(found, np.zeros_like(weights))


@pytest.mark.parametrize("kind", ENGINES)
def test_padding_contributes_nothing(kind: str) -> None:
    """A network with biases has gradients even for a row of zeros; the mask removes them."""
    weights = weights_for((5,))
    patients = cohort(3)
    nobody = Cohort(patients.x, patients.y, np.zeros_like(patients.mask))
    assert not engine(kind, (5,)).gradient_sum(weights, blocks(nobody)).any()


@pytest.mark.parametrize("kind", ENGINES)
def test_the_sum_is_not_divided_by_the_true_number_of_patients(kind: str) -> None:
    """Opacus trap: its expected batch size uses the true N; twice the patients, twice the sum."""
    weights, patients = weights_for(()), cohort(10)
    clipped = engine(kind)
    once = clipped.gradient_sum(weights, blocks(patients))
    twice = clipped.gradient_sum(weights, blocks(Cohort.concatenate([patients, patients])))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-12)


def test_more_than_one_block_adds_up() -> None:
    weights, patients = weights_for(()), cohort(2 * BLOCK + 3)
    clipped = engine("hooks")
    parts = [
        patients.take(np.arange(start, min(start + 100, len(patients))))
        for start in range(0, len(patients), 100)
    ]
    separately = sum(clipped.gradient_sum(weights, blocks(part)) for part in parts)
    np.testing.assert_allclose(
        clipped.gradient_sum(weights, blocks(patients)), separately, rtol=1e-10
    )


MOMENT = Moment(ReleaseId("run", 1, "gradient"), b"broadcast")
GRID = 2.0**-12


def test_noise_is_ours_and_torchs_seed_does_not_repeat_it() -> None:
    """Opacus trap: its noise comes from a seedable torch generator.

    Equal draws by chance: below 2^-70 (seven integers with a deviation of 2^12, or seven normals).
    """
    rows = OpacusRows(RowNetwork(Network(WIDTH, (), 1)), "logistic")
    patients, weights = Patients(cohort(5)), weights_for(())
    whole = SummedRows(rows, CLIP, GRID)
    clipped = GridSums(SummedRows(rows, CLIP, 2.0**-20), 2.0**-20)

    def integers(noise: NoiseSource) -> Vector:
        drawn = NoisyIntegers(whole, patients, noise, 2**24).draw(weights, MOMENT)
        return np.asarray(drawn * GRID, dtype=np.float64)

    def sampled(noise: NoiseSource) -> Vector:
        step = SampledCohort(clipped, patients, SystemSampler(), 1.0, noise, 1.0)
        return step.total(weights, MOMENT)

    for release in (integers, sampled):
        releases = []
        for _ in range(2):
            torch.manual_seed(0)
            releases.append(release(SystemNoise()))
        assert not np.array_equal(releases[0], releases[1])
    noiseless = clipped.gradient_sum(weights, patients.blocks())
    assert np.array_equal(sampled(NoNoise()), noiseless)
    assert np.array_equal(integers(NoNoise()), whole.integer_sum(weights, patients.blocks()) * GRID)
    np.testing.assert_allclose(
        integers(NoNoise()), noiseless, rtol=0, atol=5 * GRID * (1 + np.sqrt(weights.size) / 2)
    )


def test_wide_models_are_clipped_row_by_row_too() -> None:
    """A node takes no shortcut at any width; wide models pass in smaller blocks."""
    wide = study_of(5001, (32,))
    plan = plan_sum(1.0, 1e-5, 10, 100, CLIP, 1, path=wide.path, most_patients=64)
    assert wide.path == "rows"
    assert isinstance(wide.integer_sums(plan), SummedRows)
    everybody = Cohort(np.zeros((100, 5001)), np.zeros((100, 1)), np.ones((100, 1)))
    assert [len(x) for x, _, _ in wide.patients(everybody).blocks()] == [31] * 4
    assert {len(x) for x, _, _ in wide.patients(everybody, 4).blocks()} == {8}


def cancelling(network: Network) -> Vector:
    """Weights up to a million whose units cancel in one order of adding up and not in another."""
    weights = np.zeros(weight_count(network))
    layers = cut(network, weights)
    for matrix, _ in layers.hidden[1:]:
        matrix[:] = 1e6
    layers.hidden[-1][0][3:] = 0.0
    layers.last[:3] = 3e5, 5e5, -8e5
    return weights


def test_weights_that_a_hostile_server_chose_do_not_void_the_clip() -> None:
    """Ghost norms: one pass measures nothing, the other adds up a patient of a million clips."""
    network = Network(31, (100, 100, 100, 100), 1)
    weights = cancelling(network)
    x = np.full((1, 31), 0.17)
    patient: Block = (x, np.ones((1, 1)), np.ones((1, 1)))
    loss = LOSSES["logistic"]
    ghost = ClippedByGhostNorms(network, loss, CLIP).gradient_sum(weights, [patient])
    rows = OpacusRows(RowNetwork(network), "logistic")
    assert np.linalg.norm(ghost) > 2 * CLIP
    whole = SummedRows(rows, CLIP, 2.0**-20).integer_sum(weights, [patient])
    assert np.linalg.norm(whole * 2.0**-20) <= CLIP


def study_of(width: int, hidden: tuple[int, ...]) -> OpacusGradients:
    """Gradients of a study whose network reads `width` numbers of a patient."""
    panel = {
        "name": "panel",
        "kind": "panel",
        "columns": [f"c{number}" for number in range(width - 2)],
        "unit": "1",
        "range": [-1, 1],
        "source": "test",
    }
    columns = {"patient_id": "patient", "site": "hospital", "features": [panel]}
    model = {"kind": "mlp", "hidden": list(hidden)}
    study = small_study(cohort=columns, model=model, subgroups=[])
    return OpacusGradients(study, Encoding(study))


def test_no_layer_and_no_loss_mixes_patients() -> None:
    """Opacus trap: batch normalisation and losses over pairs void the bound on one patient."""
    network = RowNetwork(Network(WIDTH, (4,), 3))
    allowed = (RowLinear, RowTanh, torch.nn.Sequential, RowNetwork)
    assert all(isinstance(module, allowed) for module in network.modules())
    patients = cohort(6, 3)
    y, mask = torch.from_numpy(patients.y), torch.from_numpy(patients.mask)
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for loss in LOSSES.values():
        together = loss(logits, y, mask)
        apart = torch.cat(
            [loss(logits[i : i + 1], y[i : i + 1], mask[i : i + 1]) for i in range(6)]
        )
        assert torch.equal(together, apart)
