"""Everything that an operator's server does, in one process: consortium service, nodes, runs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

from polyclinic_common.consortium.signed import sign_model
from polyclinic_common.errors import PolyclinicError
from polyclinic_server.config import AUTHORITY, SERVER, SERVER_KEY, ServerFolder
from polyclinic_server.service.serve import serve_consortium
from polyclinic_server.store.store import Store
from polyclinic_server.superlink.runs import CUT_OFF, RUNS, Event, RunFolder
from polyclinic_server.superlink.supervise import Addresses, Settings, supervise

LOOK_S = 0.5
log = logging.getLogger(__name__)


def serve(folder: ServerFolder, ready: Callable[[Addresses], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises
    ------
    ConsortiumError
        C003 if a key or certificate is not there, C027 if a port is taken.
    """
    handle = serve_consortium(folder)
    try:
        settings = Settings(
            folder=folder.path,
            certificate=folder.path / SERVER,
            key=folder.path / SERVER_KEY,
            authority=folder.path / AUTHORITY,
            host=folder.settings.listen,
            port=folder.settings.ports.fleet,
        )
        mirror = partial(_mirroring, RunMirror(folder, handle.store))
        supervise(settings, handle.may_connect, ready, [mirror])
    finally:
        handle.stop()
        log.info("stopped")


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
        for event in run.events()[self._told.get(run.path, 0) :]:
            self._tell(run, event)
            self._told[run.path] = self._told.get(run.path, 0) + 1
        if run.status() != CUT_OFF:
            self._cut_off.discard(run.path)
        elif run.path not in self._cut_off:
            self._cut_off.add(run.path)
            note = "cut off; the operator can go on with it"
            self._store.record_run(run.name, state="stopped", note=note)

    def _tell(self, run: RunFolder, event: Event) -> None:
        match event.what:
            case "started" | "round":
                self._store.record_run(run.name, state="running", round_number=event.round, note="")
            case "waiting":
                waiting = ", ".join(sorted(event.waiting_for))
                self._store.record_run(run.name, note=f"waiting for {waiting}")
            case "stopped" | "failed":
                self._store.record_run(run.name, state=event.what, note=event.text)
            case "finished":
                self._release(run)
                self._store.record_run(run.name, state="finished", note="")

    def _release(self, run: RunFolder) -> None:
        """Offer the finished model, signed by the operator."""
        content, study = run.model.read_bytes(), run.description().parsed_study
        digest = hashlib.sha256(content).digest()
        study_hash = bytes.fromhex(study.hash())
        signature = sign_model(self._folder.operator, study_hash, run.name, digest)
        self._store.release_model(run.name, digest, signature, content)


@contextlib.asynccontextmanager
async def _mirroring(mirror: RunMirror) -> AsyncIterator[None]:
    looking = asyncio.create_task(_look(mirror))
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.to_thread(mirror.look)


async def _look(mirror: RunMirror) -> None:
    while True:
        await asyncio.to_thread(mirror.look)
        await asyncio.sleep(LOOK_S)
