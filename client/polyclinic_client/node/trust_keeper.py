"""Has this hospital learn what the consortium called back, while its node runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from polyclinic_client.node.at_rest import GRID_S, AtRest
from polyclinic_client.node.rest import Rest

EVERY_S = 600.0
LONGEST_S = 60.0  # the node answers nothing meanwhile
log = logging.getLogger(__name__)


class TrustKeeper(AtRest):
    """Asks what was called back: soon after the node's start, then every ten minutes."""

    def __init__(
        self,
        site: Path,
        rest: Rest,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ):
        super().__init__(site, rest, clock, sleep)
        self._due = 0.0

    def look(self, rest_s: float = GRID_S) -> None:
        """Have it asked if it is time and no message was answered for so long."""
        if self._clock() < self._due:
            return
        with self._rest.used(rest_s) as rested:
            if rested:
                self._due = self._clock() + EVERY_S
                self._ask()

    def _ask(self) -> None:
        status = self._run_apart("polyclinic_client.consortium.trust", LONGEST_S)
        if status != 0:
            log.warning("what was called back could not be learnt: status %d", status)
