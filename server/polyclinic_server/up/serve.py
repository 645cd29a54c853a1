"""Everything that an operator's server does, in one process: consortium service, nodes, runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

from polyclinic_common.consortium.address import read_host
from polyclinic_server.descriptors import raise_limit
from polyclinic_server.folder import AUTHORITY, SERVER, SERVER_KEY, ServerFolder
from polyclinic_server.runs.mirror import RunMirror, log
from polyclinic_server.service.serve import serve_consortium
from polyclinic_server.up.supervise import Addresses, Settings, supervise

LOOK_S = 0.5


def serve(folder: ServerFolder, ready: Callable[[Addresses], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises
    ------
    ConsortiumError
        C003 if a key or certificate is not there, C027 if a port is taken, C029 if others may
        read or change what the folder holds.
    ServerError
        V002 if the system lets it open too few files.
    """
    folder.require_private()
    raise_limit()
    handle = serve_consortium(folder)
    try:
        settings = Settings(
            folder=folder.path,
            certificate=folder.path / SERVER,
            key=folder.path / SERVER_KEY,
            authority=folder.path / AUTHORITY,
            host=read_host(folder.settings.listen),
            port=folder.settings.ports.fleet,
        )
        mirror = partial(_mirroring, RunMirror(folder, handle.store))
        supervise(settings, handle.may_connect, ready, [mirror])
    finally:
        handle.stop()
        log.info("stopped")


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
