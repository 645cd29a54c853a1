"""Work beside a node that talks to the consortium, at moments that tell nothing of computing.

By processes that end when it is done, so that the node stays small. It is looked for on a public
grid of moments, once the node has answered nothing for a while.
"""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

from polyclinic_client.node.rest import Rest

GRID_S = 10.0
CUT_OFF = -1


class AtRest(threading.Thread):
    """Looks for work while a node runs.

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

    def run(self) -> None:
        """Look again and again, at whole multiples of ten seconds of Unix time."""
        while True:
            now = self._clock()
            self._sleep(math.floor(now / GRID_S + 1) * GRID_S - now)
            self.look(GRID_S)

    @abstractmethod
    def look(self, rest_s: float) -> None:
        """Do what is due, if no message was answered for so long."""

    def _run_apart(self, module: str, longest_s: float) -> int:
        """Run a module for the site in a process of its own; return its status, or CUT_OFF."""
        command = [sys.executable, "-m", module, str(self._site)]
        try:
            return subprocess.run(  # noqa: S603  (this very interpreter)
                command, check=False, start_new_session=True, timeout=longest_s
            ).returncode  # a session of its own: Ctrl-C is for the node
        except subprocess.TimeoutExpired:
            return CUT_OFF
