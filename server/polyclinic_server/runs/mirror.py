"""The store learns of the runs that the folders hold."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from polyclinic_common.consortium.signed import sign_model
from polyclinic_common.errors import PolyclinicError
from polyclinic_server.folder import ServerFolder
from polyclinic_server.runs.folder import CUT_OFF, RUNS, Event, RunFolder
from polyclinic_server.store.store import Store

log = logging.getLogger(__name__)


class RunMirror:
    """Tells the store, and so the hospitals, what runs write down in their folders.

    Parameters
    ----------
    folder : ServerFolder
        The server.
    store : Store
        Its store.
    """

    def __init__(self, folder: ServerFolder, store: Store):
        self._folder = folder
        self._store = store
        self._told: dict[Path, int] = {}
        self._cut_off: set[Path] = set()
        self._damaged: set[Path] = set()
        self._over: set[Path] = set()

    def look(self) -> None:
        """Pass on what is new; what cannot be read of one run keeps no other from its hospitals."""
        for run in RunFolder.all(self._folder.path / RUNS):
            try:
                self._look_at(run)
                self._damaged.discard(run.path)
            except (OSError, ValueError, PolyclinicError) as error:
                if run.path not in self._damaged:
                    log.warning("what %s wrote cannot be used: %s", run.name, type(error).__name__)
                self._damaged.add(run.path)

    def _look_at(self, run: RunFolder) -> None:
        if run.path in self._over:
            return
        told = self._told.get(run.path, 0)
        new = run.events()[told:]
        if new:
            self._tell(run, new)
            self._told[run.path] = told + len(new)
        if new and new[-1].what == "finished":
            self._over.add(run.path)
        elif run.status() != CUT_OFF:
            self._cut_off.discard(run.path)
        elif run.path not in self._cut_off:
            self._cut_off.add(run.path)
            note = "cut off; the operator can go on with it"
            self._store.record_run(run.name, state="stopped", note=note)

    def _tell(self, run: RunFolder, new: Sequence[Event]) -> None:
        """Tell the store where a run stands after these events."""
        rounds = [event.round for event in new if event.what in ("started", "round")]
        record = partial(self._store.record_run, run.name, round_number=max(rounds, default=None))
        match new[-1]:
            case Event(what="started" | "round"):
                record(state="running", note="")
            case Event(what="waiting", waiting_for=sites):
                record(state="running", note=f"waiting for {', '.join(sorted(sites))}")
            case Event(what="stopped" | "failed" as end, text=why):
                record(state=end, note=why)
            case Event(what="finished"):
                self._release(run)
                record(state="finished", note="")

    def _release(self, run: RunFolder) -> None:
        """Offer the finished model, signed by the operator."""
        content, study = run.model.read_bytes(), run.description().parsed_study
        digest = hashlib.sha256(content).digest()
        study_hash = bytes.fromhex(study.hash())
        signature = sign_model(self._folder.operator, study_hash, run.name, digest)
        self._store.release_model(run.name, digest, signature, content)
