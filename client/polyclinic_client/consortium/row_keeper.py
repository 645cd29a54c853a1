"""Has this hospital's ledger rows kept at the consortium while its node runs.

By a process that ends when that is done, so that the node stays small, and only while the ledger
rests: when a row was written tells when computing ended.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

from polyclinic_client.site_files import LEDGER

EVERY_S = 10.0
log = logging.getLogger(__name__)


class RowKeeper(threading.Thread):
    """Has new rows kept while a node runs, whenever its ledger has changed.

    Parameters
    ----------
    site : Path
        The site's folder.
    """

    def __init__(self, site: Path):
        super().__init__(daemon=True)
        self._site = site
        self._kept_at = 0.0
        self._looking = threading.Lock()

    def run(self) -> None:
        """Look again and again."""
        pause = threading.Event()
        while not pause.wait(EVERY_S):
            if time.time() - self._changed_at() >= EVERY_S:
                self.look()

    def look(self) -> None:
        """Have new rows kept now, if there are any."""
        with self._looking:
            changed_at = self._changed_at()
            if changed_at != self._kept_at and self._keep():
                self._kept_at = changed_at

    def _changed_at(self) -> float:
        files = [self._site / LEDGER, self._site / f"{LEDGER}-wal"]
        return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)

    def _keep(self) -> bool:
        command = [sys.executable, "-m", "polyclinic_client.consortium.keep_rows", str(self._site)]
        status = subprocess.run(  # noqa: S603  (this very interpreter)
            command, check=False, start_new_session=True
        ).returncode  # a session of its own: Ctrl-C is for the node
        if status != 0:
            log.warning("rows of the ledger could not be kept at the consortium: status %d", status)
        return status == 0
