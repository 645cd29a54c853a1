"""Has this hospital's ledger rows kept at the consortium while its node runs.

When a row was written tells when computing ended, so that decides nothing here: rows leave on a
public grid of moments (:mod:`polyclinic_client.node.at_rest`), and answers end on public ticks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from polyclinic_client.folder.layout import LEDGER
from polyclinic_client.node.at_rest import AtRest
from polyclinic_client.node.rest import Rest

LONGEST_S = 120.0  # the node answers nothing meanwhile
log = logging.getLogger(__name__)


class RowKeeper(AtRest):
    """Has new rows kept while a node runs, whenever its ledger has changed; see `AtRest`."""

    def __init__(
        self,
        site: Path,
        rest: Rest,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ):
        super().__init__(site, rest, clock, sleep)
        self._kept_at = 0.0

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
        status = self._run_apart("polyclinic_client.backup.keep_rows", LONGEST_S)
        if status != 0:
            log.warning("rows of the ledger could not be kept at the consortium: status %d", status)
        return status == 0
