"""The server of the kit: the product's `supervise`, with a list of revoked serial numbers."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cryptography import x509
from flwr.supercore.corestate import in_memory_corestate

from polyclinic_server.superlink import fleet_gate, listeners
from polyclinic_server.superlink.flower_link import SuperLink
from polyclinic_server.up import supervise as supervise_module
from polyclinic_server.up.supervise import Addresses, Settings, supervise

told = json.loads(sys.argv[1])
revoked = Path(told["revoked"])
settings = Settings(
    folder=Path(told["folder"]),
    certificate=Path(told["certificate"]),
    key=Path(told["key"]),
    authority=Path(told["authority"]),
    host="127.0.0.1",
    port=told["port"],
)
if told["quick_s"]:
    listeners.HEAD_S = fleet_gate.BODY_S = fleet_gate.HOLD_S = told["quick_s"]
if told["hasty"]:
    setattr(in_memory_corestate, "HEARTBEAT_DEFAULT_INTERVAL", 0.5)  # noqa: B010
    supervise_module.KEEP_S = 0.1
if told["passive"]:
    setattr(SuperLink, "next_task", lambda _: None)  # noqa: B010
start_process = asyncio.create_subprocess_exec


async def start_witnessed(*words: str, **more: Any) -> asyncio.subprocess.Process:
    """Start the kit's coordinator instead of the product's."""
    *command, _ = words
    return await start_process(*command, "tests.kits.run_coordinator", **more)


if told["witnessed"]:
    setattr(asyncio, "create_subprocess_exec", start_witnessed)  # noqa: B010


def may_connect(certificate: x509.Certificate) -> bool:
    return str(certificate.serial_number) not in revoked.read_text().split()


def ready(addresses: Addresses) -> None:
    part = Path(told["ready"]).with_suffix(".part")
    part.write_text(json.dumps(asdict(addresses)))
    part.rename(told["ready"])


supervise(settings, may_connect, ready)
