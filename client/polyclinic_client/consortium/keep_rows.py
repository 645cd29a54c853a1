"""Lets the consortium keep this hospital's signed ledger rows, for recovery: ``python -m … SITE``.

A process of its own, which :mod:`polyclinic_client.consortium.row_keeper` starts; it ends when the
new rows are kept. They leave sealed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.site_files import LEDGER, read_identity
from polyclinic_common.errors import PolyclinicError
from polyclinic_common.files import write_atomically

KEPT = "rows-kept"


def keep_rows(site: Path) -> int:
    """Send the rows that the consortium does not keep yet; return how many there were.

    Raises
    ------
    ConsortiumError
        C011 if the server cannot be reached.
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
    return len(rows)


if __name__ == "__main__":
    try:
        keep_rows(Path(sys.argv[1]))
    except PolyclinicError as error:
        sys.exit(error.exit_status)
