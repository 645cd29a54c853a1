"""Lets the consortium keep this hospital's signed ledger rows, for recovery: ``python -m … SITE``.

A process of its own, so that the node stays small; it ends when the new rows are kept. Rows leave
sealed, and only while the ledger rests: when a row was written tells when computing ended.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.site_folder import LEDGER, read_identity
from polyclinic_common.errors import PolyclinicError
from polyclinic_common.files import write_atomically

KEPT = "rows-kept"
EVERY_S = 10.0
log = logging.getLogger(__name__)


def keep_rows(site: Path) -> int:
    """Send the rows that the consortium does not keep yet; return how many there were.

    Raises
    ------
    ConsortiumError
        C011 if the server cannot be reached.
    LedgerError
        If the ledger cannot be read.
    """
    from polyclinic_client.consortium.client import ConsortiumClient  # noqa: PLC0415  (gRPC)

    mark = site / KEPT
    kept = int(mark.read_text(encoding="ascii")) if mark.exists() else 0
    with Ledger.open_unwitnessed(site / LEDGER, read_identity(site), read_only=True) as ledger:
        rows = ledger.export_rows(kept)
    if rows:
        with ConsortiumClient.open(site) as client:
            client.keep_rows(rows)
        write_atomically(mark, str(rows[-1].sequence).encode())
    return len(rows)


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


if __name__ == "__main__":
    try:
        keep_rows(Path(sys.argv[1]))
    except PolyclinicError as error:
        sys.exit(error.exit_status)
