"""Ledger and journal keep the promises of every store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polyclinic_client.ledger.entries import CapsSet, read_entry
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.records.journal import Failed, Journal
from polyclinic_common.identity.site_key import Identity
from tests.kits.ledger import DELTA, ME
from tests.kits.stores import StoreTests


class TestLedgerStore(StoreTests):
    name = "ledger"

    def make(self, path: Path) -> Ledger:
        return Ledger.create(path, ME, delta=DELTA, epsilon_cap=1.0)

    def open(self, path: Path, identity: Identity = ME, **more: Any) -> Ledger:
        return Ledger.open(path, identity, **more)

    def write(self, store: Any, number: int) -> None:
        store.set_caps(float(number))

    def read(self, store: Any) -> list[int]:
        entries = [read_entry(row.body) for row in store.export_rows()]
        return [int(entry.epsilon_cap) for entry in entries if isinstance(entry, CapsSet)]


class TestJournalStore(StoreTests):
    name = "journal"

    def make(self, path: Path) -> Journal:
        return Journal.create(path, ME)

    def open(self, path: Path, identity: Identity = ME, **more: Any) -> Journal:
        return Journal.open(path, identity, **more)

    def write(self, store: Any, number: int) -> None:
        store.write(Failed(code="F001", round_number=number))

    def read(self, store: Any) -> list[int]:
        events = [noted.event for noted in store.events()]
        return [event.round_number for event in events if isinstance(event, Failed)]
