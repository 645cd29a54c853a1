"""Engines that run the same ServerApp and ClientApp on one machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from polyclinic_simulations.engines import inline

Lost = Callable[[int, str], bool]


@dataclass(frozen=True)
class Engine:
    """How messages travel.

    Attributes
    ----------
    run : callable
        Runs both apps with a number of sites; the last argument says which messages are lost, by
        partition and group.
    nodes_in_order : callable
        Gives Flower's node of every partition, in order.
    """

    run: Callable[[ServerApp, ClientApp, int, Lost], None]
    nodes_in_order: Callable[[Grid], list[int]]


ENGINES = {"inline": Engine(inline.run, inline.nodes_in_order)}
