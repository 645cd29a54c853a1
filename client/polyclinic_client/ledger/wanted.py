"""What is asked of the ledger for one release."""

from __future__ import annotations

from typing import TypedDict

from polyclinic_common.privacy.charges import Charge
from polyclinic_common.release_id import ReleaseId


class Wanted(TypedDict):
    """The arguments that `Ledger.check` and `Ledger.reserve` share."""

    release: ReleaseId
    study_hash: bytes
    headline: Charge
    fallback: Charge
    broadcast: bytes
    transcript: bytes
    clip: float
    grid_exponent: int
