"""The page on loopback: a free port, a secret path, and no log of what is asked."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvicorn

from polyclinic_common.bedside.answer import Asked
from polyclinic_common.bedside.facts import model_facts
from polyclinic_common.bedside.form import SITE, form_of
from polyclinic_common.bedside.guard import LOOPBACK, Guard
from polyclinic_common.bedside.page import Page, policy
from polyclinic_common.bundle.here import ModelHere
from polyclinic_common.bundle.similar import OwnPatients
from polyclinic_common.errors import BundleError, Code

if TYPE_CHECKING:
    import pandas as pd

TOKEN_BYTES = 32
MOST_CONNECTIONS = 16
GRACE_S = 1


def serve(
    here: ModelHere,
    say: Callable[[str], None],
    *,
    table: pd.DataFrame | None = None,
    port: int = 0,
) -> None:
    """Serve the page of a model on 127.0.0.1 until Ctrl-C; blocks.

    Parameters
    ----------
    here : ModelHere
        The model as this hospital uses it; the form begins with this hospital.
    say : callable
        Told the address, once, as soon as it answers.
    table : DataFrame, optional
        This hospital's own patients, in the contract's columns: similar ones are then shown.
    port : int
        Port on loopback; 0 takes a free one.

    Raises
    ------
    BundleError
        B060 if the port is taken.
    """
    predictor = here.predictor
    own = None if table is None else OwnPatients(predictor.study, predictor.weights, table)
    start = {SITE: predictor.site} if predictor.site is not None else {}
    page = Page(form_of(predictor.study), model_facts(here.opened), Asked(here, own), start)
    with listen(port) as listening:
        path, free = secret_path(), listening.getsockname()[1]
        say(f"http://{LOOPBACK}:{free}{path}")
        run(Guard(page, path, free, policy()), listening)


def secret_path() -> str:
    """Return a path that nobody guesses."""
    return f"/{secrets.token_urlsafe(TOKEN_BYTES)}/"


def listen(port: int) -> socket.socket:
    """Return a socket that listens on loopback.

    Raises
    ------
    BundleError
        B060 if the port is taken or may not be used.
    """
    try:
        return socket.create_server((LOOPBACK, port))
    except (OSError, OverflowError):
        raise BundleError(
            Code.PAGE_PORT,
            f"The page cannot listen on port {port} of this machine.",
            "Stop what listens there, or leave the port out to take a free one.",
        ) from None


def run(guarded: Guard, listening: socket.socket) -> None:
    """Answer requests until Ctrl-C; nothing is logged, for a log could name a patient."""
    config = uvicorn.Config(
        guarded,
        log_config=None,
        access_log=False,
        log_level="critical",
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_S,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
