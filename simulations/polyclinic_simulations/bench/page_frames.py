"""Memory of several processes, with pages that they share counted once (proc(5), pagemap)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PAGE_BYTES, ENTRY_BYTES = os.sysconf("SC_PAGE_SIZE"), 8
HIGHEST = 1 << 47  # where the addresses of programs end
PRESENT, FRAME = np.uint64(1 << 63), np.uint64((1 << 55) - 1)


def counted_once_mb(processes: Iterable[int]) -> float | None:
    """Return the resident memory of processes; None where frames are shown to root only."""
    frames = np.concatenate([_frames(process) for process in processes])
    if not frames.any():
        return None
    return float(np.unique(frames).size * PAGE_BYTES / 1e6)


def _frames(process: int) -> NDArray[np.uint64]:
    """Return the frames of a process's resident pages."""
    found = [np.empty(0, dtype=np.uint64)]
    folder = Path(f"/proc/{process}")
    with (folder / "pagemap").open("rb") as pagemap:
        for line in (folder / "maps").read_text(encoding="utf-8").splitlines():
            start, end = (int(each, 16) for each in line.split()[0].split("-"))
            if end > HIGHEST:
                continue
            pages, first = (end - start) // PAGE_BYTES, start // PAGE_BYTES
            data = os.pread(pagemap.fileno(), pages * ENTRY_BYTES, first * ENTRY_BYTES)
            entries = np.frombuffer(data, dtype=np.uint64)
            found.append(entries[entries >= PRESENT] & FRAME)
    return np.concatenate(found)
