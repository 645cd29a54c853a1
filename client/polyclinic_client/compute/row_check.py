"""A check of this machine, made once in every process that computes on patients.

That a row's result depends on the row alone follows from how it is computed
(:mod:`polyclinic_common.rowwise`), if the machine rounds as IEEE 754 says. Here that is tried: the
same row among other rows, in other places, in blocks of other heights must give the same bits.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from polyclinic_client.compute.gradients import OpacusRows
from polyclinic_client.compute.row_network import RowNetwork
from polyclinic_common import rowwise
from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.models.score_head import LARGEST_WEIGHT, Network, weight_count

NETWORKS = (
    (Network(8, (), 1), "squared"),
    (Network(9, (), 5), "hazard"),
    (Network(6, (7,), 1), "logistic"),
    (Network(12, (5, 3), 1), "huber"),
)
HEIGHTS = (1, 2, 3, 5, 8, 13, 35)
FUNCTIONS = (rowwise.exp, rowwise.expit, rowwise.tanh, rowwise.log)
SEED = 20261128


@cache
def check_rows() -> None:
    """Compute made-up rows alone and among others, and compare every bit.

    Raises
    ------
    PrivacyError
        P006 if a row's result depends on anything but the row.
    """
    generator = np.random.default_rng(SEED)
    same = all(_is_place_free(*case, generator) for case in NETWORKS)
    if not (same and all(_is_lane_free(function, generator) for function in FUNCTIONS)):
        raise PrivacyError(
            Code.PRIVACY_PLACE,
            "On this machine what is computed of a patient depends on who else is there; "
            "nothing leaves.",
            "Use another machine or processor, and report this as a defect with its model.",
        )


def _is_place_free(network: Network, loss: str, generator: np.random.Generator) -> bool:
    """Say whether rows give the same gradients at the top and at the end of blocks of any height.

    The weights lie far apart, up to the largest that a server may send.
    """
    most = max(HEIGHTS)
    exponents = generator.uniform(-9.0, 0.0, weight_count(network))
    weights = LARGEST_WEIGHT * 10.0**exponents * generator.choice([-1.0, 1.0], exponents.size)
    x = generator.uniform(-1.0, 1.0, (most, network.width))
    y = generator.integers(0, 2, (most, network.outputs)).astype(np.float64)
    rows = OpacusRows(RowNetwork(network), loss)

    def gradients(first: int, last: int) -> bytes:
        block = x[first:last], y[first:last], np.ones((last - first, network.outputs))
        return rows.patient_gradients(weights, block).tobytes()

    one_by_one = [gradients(row, row + 1) for row in range(most)]
    return all(
        gradients(first, first + height) == b"".join(one_by_one[first : first + height])
        for height in HEIGHTS
        for first in (0, most - height)
    )


def _is_lane_free(function: rowwise.Function, generator: np.random.Generator) -> bool:
    """Say whether a function gives the same bits for a number in every place of a vector."""
    values = np.exp2(generator.uniform(-20.0, 9.0, max(HEIGHTS)))
    one_by_one = [function(values[place : place + 1]).tobytes() for place in range(values.size)]
    return all(
        function(values[first : first + height]).tobytes()
        == b"".join(one_by_one[first : first + height])
        for height in HEIGHTS
        for first in (0, values.size - height)
    )
