"""The closed form equals Opacus, over random models and data."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic_client.compute.patients import Patients
from polyclinic_common.data.encoding import Cohort
from polyclinic_common.models.losses import LOSSES
from polyclinic_common.models.score_head import Network, weight_count
from polyclinic_simulations.compute.fast_gradients import ClosedForm
from polyclinic_simulations.compute.unclipped import Unclipped
from tests.kits.gradients import ClippedRows

SHAPES = st.tuples(
    st.integers(2, 9),
    st.lists(st.integers(1, 7), max_size=3).map(tuple),
    st.integers(1, 5),
    st.sampled_from(sorted(LOSSES)),
)


@settings(max_examples=60, deadline=None)
@given(shape=SHAPES, size=st.integers(0, 20), seed=st.integers(0, 2**31), clip=st.floats(0.05, 5))
def test_clipped_and_plain_sums_equal_those_of_opacus(
    shape: tuple[int, tuple[int, ...], int, str], size: int, seed: int, clip: float
) -> None:
    width, hidden, outputs, loss = shape
    rng = np.random.default_rng(seed)
    network = Network(width, hidden, outputs)
    weights = rng.normal(0, 1.5, weight_count(network))
    y, mask = rng.random((2, size, outputs)) < 0.6
    cohort = Cohort(rng.uniform(-1, 1, (size, width)), y.astype(float), mask.astype(float))
    exact, padded = Patients(cohort, block=None).blocks(), Patients(cohort).blocks()
    fast, plain = ClosedForm(network, loss, clip), ClosedForm(network, loss, None)
    hooks = ClippedRows(network, loss, clip)
    torch_plain = Unclipped(network, LOSSES[loss])
    for ours, reference in ((fast, hooks), (plain, torch_plain)):
        found = ours.gradient_sum(weights, exact)
        expected = reference.gradient_sum(weights, padded)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
