"""The store of a server: one class over SQLAlchemy; every method is one transaction."""

from __future__ import annotations

from polyclinic_server.store.bundles import Bundles
from polyclinic_server.store.runs import Runs
from polyclinic_server.store.sites import Sites
from polyclinic_server.store.studies import Studies


class Store(Sites, Studies, Runs, Bundles):
    """What the server remembers; made with the URL of its database."""
