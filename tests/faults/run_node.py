"""A node of the kit: the product's `run_node`."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from polyclinic_client.node.main import NodeSettings, run_node

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
told = json.loads(sys.argv[1])
paths = {name: Path(told[name]) for name in ("folder", "certificate", "key", "authority")}
run_node(
    NodeSettings(**paths, address=told["address"], opener="tests.faults.consortium_kit:open_site")
)
