"""Has this hospital's ledger rows kept at the consortium while its node runs.

By a process that ends when that is done, so that the node stays small. When a row was written tells
when computing ended, so that decides nothing here: rows leave on a public grid of moments, once the
node has answered nothing for a while, and answers end on public ticks.
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

from polyclinic_client.folder.layout import LEDGER
from polyclinic_client.node.rest import Rest

EVERY_S = 10.0
LONGEST_S = 120.0  # the node answers nothing meanwhile
log = logging.getLogger(__name__)


class RowKeeper(threading.Thread):
    """Has new rows kept while a node runs, whenever its ledger has changed.

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
        self._kept_at = 0.0

    def run(self) -> None:
        """Look again and again, at whole multiples of ten seconds of Unix time."""
        while True:
            now = self._clock()
            self._sleep(math.floor(now / EVERY_S + 1) * EVERY_S - now)
            self.look(EVERY_S)

    def look(self, rest_s: float = 0.0) -> None:
        """Have new rows kept now, if there are any and no message was answered for so long.

        Not after one that was cut off: whether it left a row tells how far computing had come.
        """
        with self._rest.used(rest_s) as rested:
            changed_at = self._changed_at()
            if rested and changed_at != self._kept_at and self._keep():
                self._kept_at = changed_at

    def _changed_at(self) -> float:
        files = [self._site / LEDGER, self._site / f"{LEDGER}-wal"]
        return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)

    def _keep(self) -> bool:
        command = [sys.executable, "-m", "polyclinic_client.backup.keep_rows", str(self._site)]
        try:
            status = subprocess.run(  # noqa: S603  (this very interpreter)
                command, check=False, start_new_session=True, timeout=LONGEST_S
            ).returncode  # a session of its own: Ctrl-C is for the node
        except subprocess.TimeoutExpired:
            status = -1
        if status != 0:
            log.warning("rows of the ledger could not be kept at the consortium: status %d", status)
        return status == 0
