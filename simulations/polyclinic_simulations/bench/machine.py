"""The machine's description: enough to compare figures, nothing that names the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from polyclinic_simulations.bench.records import Machine
from polyclinic_simulations.report.page import LIBRARIES


def describe_machine() -> Machine:
    """Return processor, memory and versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        cpu=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(memory / 1e9, 1),
        system=platform.system(),
        python=platform.python_version(),
        libraries={name: version(name) for name in LIBRARIES},
        load=round(os.getloadavg()[0], 2),
    )


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
