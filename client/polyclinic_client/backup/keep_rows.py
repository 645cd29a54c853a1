"""Lets the consortium keep this hospital's signed ledger rows, for recovery: ``python -m … SITE``.

A process of its own, which :mod:`polyclinic_client.backup.row_keeper` starts; it ends when the
new rows are kept. They leave sealed.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.folder.layout import LEDGER, read_identity
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_common.errors import Code, PolyclinicError
from polyclinic_common.files import write_atomically

KEPT, FULL = "rows-kept", "rows-full"
log = logging.getLogger(__name__)


def keep_rows(site: Path) -> int:
    """Send the rows that the consortium does not keep yet; return how many there were.

    Raises
    ------
    ConsortiumError
        C011 if the server cannot be reached, C030 if it keeps no more.
    LedgerError
        If the ledger cannot be read.
    """
    mark = site / KEPT
    kept = int(mark.read_text(encoding="ascii")) if mark.exists() else 0
    with Ledger.open_unwitnessed(site / LEDGER, read_identity(site), read_only=True) as ledger:
        rows = ledger.export_rows(kept)
    if rows:
        with ConsortiumClient.open(site) as client:
            client.keep_rows(rows)
        write_atomically(mark, str(rows[-1].sequence).encode())
    (site / FULL).unlink(missing_ok=True)
    return len(rows)


def warn_once(site: Path, error: PolyclinicError) -> None:
    """Say that the consortium keeps no more rows, unless that was said; the node works on."""
    if not (site / FULL).exists():
        log.warning("[%s] %s %s", error.code, error.what, error.remedy)
        write_atomically(site / FULL, b"")


def main(site: Path) -> int:
    """Keep the rows of a site; return the exit status, 0 too where no more are taken."""
    try:
        keep_rows(site)
    except PolyclinicError as error:
        if error.code != Code.ROWS_FULL:
            return error.exit_status
        warn_once(site, error)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
