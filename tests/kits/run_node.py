"""A node of the kit: the product's `run_node`; on demand it dies with an answer in its hand."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path

from polyclinic_client.node.fleet import Fleet, Received, from_bytes
from polyclinic_client.node.main import NodeSettings, run_node
from polyclinic_common.wire import MaskedVector, decode_reply

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
told = json.loads(sys.argv[1])
send = Fleet.reply


def send_or_die(fleet: Fleet, received: Received, content: bytes) -> None:
    """Be killed in place of sending the vector of one run and round."""
    said = decode_reply(from_bytes(content))
    if isinstance(said, MaskedVector) and [said.run_id, said.round_number] == told["dies"]:
        os.kill(os.getpid(), signal.SIGKILL)
    send(fleet, received, content)


if told["dies"]:
    setattr(Fleet, "reply", send_or_die)  # noqa: B010

run_node(
    NodeSettings(
        folder=Path(told["folder"]),
        address=told["address"],
        certificate=Path(told["certificate"]),
        key=Path(told["key"]),
        authority=Path(told["authority"]),
        opener="tests.kits.consortium:open_site",
    )
)
