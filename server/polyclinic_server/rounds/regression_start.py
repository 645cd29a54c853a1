"""A start for linear regression from one noisy sum of sufficient statistics."""

from __future__ import annotations

import numpy as np

from polyclinic_common.models.score_head import LARGEST_WEIGHT, Vector


def solve_statistics(total: Vector, start: Vector, deviation: float) -> Vector:
    r"""Return the weights that the noisy statistics suggest, shape (d,).

    Solves :math:`(A + \lambda I)(w - w_0) = b - A w_0` with :math:`\lambda = 2\sigma\sqrt d`, about
    the largest eigenvalue of the noise on A: a public number that keeps the system definite.

    Parameters
    ----------
    total : array of shape (d (d + 1) / 2 + d,)
        Sum of the patients' vectors, noise included
        (:mod:`polyclinic_client.compute.regression_sums`).
    start : array of shape (d,)
        Public starting point, towards which the ridge pulls.
    deviation : float
        Standard deviation of the noise on every entry of `total`.
    """
    size = start.size
    first, second = np.triu_indices(size)
    matrix = np.zeros((size, size))
    triangle = total[: first.size] / np.where(first == second, 1.0, np.sqrt(2.0))
    matrix[first, second] = triangle
    matrix[second, first] = triangle
    ridge = 2.0 * deviation * np.sqrt(size) * np.eye(size)
    step = np.linalg.lstsq(matrix + ridge, total[first.size :] - matrix @ start)[0]
    bounded = np.clip(start + step, -LARGEST_WEIGHT, LARGEST_WEIGHT)
    return np.asarray(bounded, dtype=np.float64)
