"""Why a hospital may say that it rejects a bundle: a public list of words."""

from __future__ import annotations

from typing import Literal

Rejecting = Literal[
    "performance", "calibration", "subgroup", "local-data", "intended-use", "governance", "other"
]
REJECTING: dict[Rejecting, str] = {
    "performance": "it does not predict well enough here",
    "calibration": "its predictions are too high or too low here",
    "subgroup": "it serves a group of patients badly",
    "local-data": "the data that it needs are not recorded so here",
    "intended-use": "it is not meant for what it would be used for here",
    "governance": "a body of this hospital did not agree",
    "other": "another reason, which people tell each other",
}
