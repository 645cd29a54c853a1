"""The benchmark of the secure sum measures sums that come out; no time is judged here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polyclinic_simulations.bench.flower_secagg import QUANTA, run_round
from polyclinic_simulations.bench.secure_sum import PARTS, bare_masks, measure_sum
from polyclinic_simulations.bench.sum_sites import MASKS, Case, Consortium


@pytest.fixture(scope="module")
def vectors() -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    return [generator.integers(-(2**40), 2**40, 30) for _ in range(20)]


def test_masked_vectors_of_the_benchmark_sum_to_the_plain_sum(tmp_path: Path) -> None:
    consortium = Consortium(Case(hospitals=4, length=60, patients=5, rounds=3), tmp_path)
    for number in (1, 2, 3):
        total = consortium.sum(number)
        plain = consortium.plain(number)
        assert len(plain) == 4
        assert all(vector.any() for vector in plain)
        np.testing.assert_array_equal(total, np.sum(plain, axis=0))
    for watch in consortium.watches.values():
        spent, busy = watch.take()
        assert set(PARTS) <= set(spent)
        assert spent.keys() == busy.keys()
    consortium.close()


def test_bare_masks_sum_the_same_vectors(vectors: list[np.ndarray]) -> None:
    *_, total = bare_masks(vectors)
    np.testing.assert_array_equal(total, np.sum(vectors, axis=0))


def test_secagg_sums_the_same_vectors_to_its_rounding(vectors: list[np.ndarray]) -> None:
    """20 clients on a ring of 13: each vector is rounded by less than a quantum."""
    floats = [vector / 2.0**40 for vector in vectors]
    found = run_round(floats, bound=1.0)
    off = np.abs(found.total - np.sum(floats, axis=0)).max() * QUANTA / 2.0
    assert 0.0 < off < len(vectors) + 1
    assert all(len(times) == len(vectors) for times in found.site_ms.values())


def test_a_case_says_that_its_sums_were_right() -> None:
    found = measure_sum(3, 40, 2)
    assert found.exact
    assert found.secagg_off <= 3 * 1.5
    assert tuple(found.site_ms) == PARTS
    assert found.site_ms[MASKS].low > 0.0
