"""The name of a release, and the hash of the model that it answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.packing import pack

VOTE = "vote"
"""The kind of the one release that has a message of its own."""


@dataclass(frozen=True)
class ReleaseId:
    """One release of a site: the run, its round, and the kind of vector."""

    run: str
    round_number: int
    kind: str

    def __str__(self) -> str:
        return f"{self.kind} of round {self.round_number} of run {self.run}"


def broadcast_hash(weights: NDArray[np.float64]) -> bytes:
    """Return the 32-byte hash that names a model that is sent out: little-endian float64."""
    content = np.ascontiguousarray(weights, dtype="<f8")
    head = pack(["polyclinic broadcast", b""])[:-8] + content.nbytes.to_bytes(8, "big")
    digest = hashlib.sha256(head)  # of the packed pair, without a copy of a long vector
    digest.update(content.data)
    return digest.digest()
