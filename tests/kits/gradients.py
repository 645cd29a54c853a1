"""Clipped sums of patients' gradients in float64, to compare other ways of computing with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polyclinic_client.compute.gradients import OpacusRows
from polyclinic_client.compute.patients import Block
from polyclinic_client.compute.row_network import RowNetwork
from polyclinic_common.models.score_head import Network, Vector


class ClippedRows:
    """The gradients that Opacus gives, each clipped, and added up; a row that overflows is zero."""

    def __init__(self, network: Network, loss: str, clip: float):
        self._rows = OpacusRows(RowNetwork(network), loss)
        self._clip = clip

    def gradient_sum(self, weights: Vector, blocks: Sequence[Block]) -> Vector:
        """Return the sum over the patients of all blocks, shape (d,)."""
        total = np.zeros(weights.size)
        for block in blocks:
            rows = self._rows.patient_gradients(weights, block)
            with np.errstate(over="ignore", invalid="ignore"):
                norms = np.linalg.norm(rows, axis=1)
            usable = np.isfinite(norms)
            factor = self._clip / np.maximum(norms[usable], self._clip)
            total += factor @ rows[usable]
        return total
