"""Learns what the consortium called back, so that predicting knows it without a network.

As a process of its own, ``python -m … SITE``, it is started by a node
(:mod:`polyclinic_client.node.trust_keeper`) and ends when that is done.
"""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.folder.layout import approved_studies
from polyclinic_client.folder.membership import Membership
from polyclinic_common.bundle.trust import TRUST, Trust
from polyclinic_common.errors import PolyclinicError


def known_trust(site: Path) -> Trust:
    """Return what a site knows of bundles; a site that joined anew elsewhere begins anew.

    Raises
    ------
    ConsortiumError
        C025 if it has not joined.
    BundleError
        As `Trust.read`.
    """
    member = Membership.read(site)
    mine = {"consortium": member.consortium, "name": member.name}
    new = Trust(operator_key=member.operator_key, **mine)
    known = Trust.read(site) if (site / TRUST).exists() else new
    same = known.operator_key == member.operator_key
    return known.model_copy(update=mine) if same else new


def learn(site: Path, client: ConsortiumClient) -> Trust:
    """Ask what was called back, keep it, and return all that is known now.

    Raises
    ------
    ConsortiumError
        C011 if the server is not reached, C035 if it is of an earlier version.
    BundleError
        B072, B075 if what it says is not signed, or goes back; as `known_trust`.
    """
    told = client.withdrawals()
    trust = known_trust(site).learnt(told, approved_studies(site), dt.datetime.now(dt.UTC))
    trust.write(site)
    return trust


def main(site: Path) -> int:
    """Learn for a site; return the exit status."""
    try:
        with ConsortiumClient.open(site) as client:
            learn(site, client)
    except PolyclinicError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
