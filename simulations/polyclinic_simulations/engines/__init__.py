"""Engines that run the same ServerApp and ClientApp on one machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from polyclinic_simulations.engines import inline, ray


@dataclass(frozen=True)
class Engine:
    """How messages travel.

    Attributes
    ----------
    run : callable
        Runs both apps with a number of sites.
    nodes_in_order : callable
        Gives Flower's node of every partition, in order.
    timeout_s : float
        Seconds to wait for answers in one round.
    """

    run: Callable[[ServerApp, ClientApp, int], None]
    nodes_in_order: Callable[[Grid], list[int]]
    timeout_s: float


ENGINES = {
    "inline": Engine(inline.run, inline.nodes_in_order, timeout_s=0.0),
    "ray": Engine(ray.run, ray.nodes_in_order, timeout_s=ray.TIMEOUT_S),
}
