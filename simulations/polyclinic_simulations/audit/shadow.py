"""Canaries: crafted patients, each with a coordinate of the gradient that nobody else touches.

The study is widened by one public column a canary. A canary is a few equal patients who have
nothing but a huge value in its column, at a model whose weights there are zero: their gradient,
clipped, lies in the weights that read this column, at the full length of the clip, and nowhere
else. Real classes do the rest: encoding, network, plan, gradients, clip, grid and noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.encoding import Cohort, Encoding
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import Matrix, Network, Vector, cut, weight_count
from polyclinic_common.study import Study, parse_study
from polyclinic_simulations.compute.fast_gradients import ClosedForm

PANEL, HUGE = "shadow", 1e6
Members = NDArray[np.bool_]


@dataclass(frozen=True)
class Shadows:
    """A widened study with its canaries.

    Attributes
    ----------
    study : Study
        With one column more for each canary.
    canaries : int
        Number of canaries.
    """

    study: Study
    canaries: int

    @staticmethod
    def of(study: Study, canaries: int) -> Shadows:
        """Widen a study."""
        data = study.model_dump(mode="json", exclude_none=True)
        panel = {
            "name": PANEL,
            "kind": "panel",
            "columns": [f"{PANEL} {number}" for number in range(canaries)],
            "unit": "1",
            "range": [-1, 1],
            "source": "crafted for the audit",
        }
        data["cohort"]["features"].append(panel)
        return Shadows(parse_study(data, study.id), canaries)

    @cached_property
    def encoding(self) -> Encoding:
        """The encoding of the widened study."""
        return Encoding(self.study)

    @cached_property
    def network(self) -> Network:
        """The network of the widened study."""
        return build_network(self.study, self.encoding)

    @cached_property
    def weights(self) -> Vector:
        """The model that is sent out, shape (d,): nothing reads the columns, all layers pass on."""
        weights = np.zeros(weight_count(self.network))
        layers = cut(self.network, weights)
        for matrix, _ in layers.hidden[1:]:
            matrix[:] = 1.0
        if layers.hidden:
            layers.last[:] = 1.0
        return weights

    def cohort(self, member: Members, copies: int) -> Cohort:
        """Return the patients of the canaries that are in, `copies` of each.

        Parameters
        ----------
        member : array of shape (canaries,)
            Which canaries are in.
        """
        columns = self._columns[np.repeat(np.flatnonzero(member), copies)]
        x = np.zeros((len(columns), self.encoding.width))
        x[np.arange(len(columns)), columns] = HUGE
        ones = np.ones((len(columns), self.encoding.outputs))
        return Cohort(x, ones, ones)

    def scores(self, vector: Vector) -> Vector:
        """Return how far a sum reaches in every canary's direction, shape (canaries,)."""
        scores: Vector = self._direction @ self._readers(vector)[:, self._columns]
        return scores

    @cached_property
    def _columns(self) -> NDArray[np.int64]:
        """Where the canaries' columns stand, shape (canaries,)."""
        names = {name: place for place, name in enumerate(self.encoding.columns)}
        return np.array([names[f"{PANEL} {PANEL} {number}"] for number in range(self.canaries)])

    @cached_property
    def _direction(self) -> Vector:
        """Unit vector of a canary's gradient among the weights that read its column."""
        first = self.cohort(np.arange(self.canaries) == 0, 1)
        engine = ClosedForm(self.network, self.study.loss, clip=None)
        gradient = engine.gradient_sum(self.weights, [(first.x, first.y, first.mask)])
        along = self._readers(gradient)[:, self._columns[0]]
        return np.asarray(along / np.linalg.norm(along))

    def _readers(self, vector: Vector) -> Matrix:
        """Return the weights that read the columns, shape (units of the first layer, columns)."""
        layers = cut(self.network, vector)
        return layers.hidden[0][0] if layers.hidden else layers.last[None, :]
