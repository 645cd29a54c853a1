"""Has this hospital learn what the consortium called back, while its node runs.

By a process that ends when that is done, so that the node stays small. It is started on a public
grid of moments, once the node has answered nothing for a while, as rows are kept
(:mod:`polyclinic_client.backup.row_keeper`): when it runs tells nothing of how long computing took.
"""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from polyclinic_client.node.rest import Rest

GRID_S = 10.0
EVERY_S = 600.0
LONGEST_S = 60.0  # the node answers nothing meanwhile
log = logging.getLogger(__name__)


class TrustKeeper(threading.Thread):
    """Asks what was called back: soon after the node's start, then every ten minutes.

    Parameters
    ----------
    site : Path
        The site's folder.
    rest : Rest
        Of the node.
    clock, sleep : callable
        Tell Unix time in seconds, and wait for some.
    """

    def __init__(
        self,
        site: Path,
        rest: Rest,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ):
        super().__init__(daemon=True)
        self._site = site
        self._rest = rest
        self._clock = clock
        self._sleep = sleep
        self._due = 0.0

    def run(self) -> None:
        """Look again and again, at whole multiples of ten seconds of Unix time."""
        while True:
            now = self._clock()
            self._sleep(math.floor(now / GRID_S + 1) * GRID_S - now)
            self.look()

    def look(self) -> None:
        """Have it asked if it is time and no message was answered for ten seconds."""
        if self._clock() < self._due:
            return
        with self._rest.used(GRID_S) as rested:
            if rested:
                self._due = self._clock() + EVERY_S
                self._ask()

    def _ask(self) -> None:
        command = [sys.executable, "-m", "polyclinic_client.consortium.trust", str(self._site)]
        try:
            subprocess.run(  # noqa: S603  (this very interpreter)
                command, check=True, start_new_session=True, timeout=LONGEST_S
            )  # a session of its own: Ctrl-C is for the node
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            log.warning("what was called back could not be learnt: %s", type(error).__name__)
