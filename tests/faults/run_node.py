"""A node of the kit: the product's `run_node`."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from polyclinic_client.node.main import NodeSettings, run_node

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
told = json.loads(sys.argv[1])
run_node(
    NodeSettings(
        folder=Path(told["folder"]),
        address=told["address"],
        certificate=Path(told["certificate"]),
        key=Path(told["key"]),
        authority=Path(told["authority"]),
        opener="tests.faults.consortium_kit:open_site",
    )
)
