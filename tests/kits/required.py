"""Optional things that a machine may be required to have."""

from __future__ import annotations

import os

import pytest

REQUIRED = {word for word in os.environ.get("POLYCLINIC_REQUIRE", "").split(",") if word}


def unavailable(what: str, why: str) -> None:
    """Skip for want of `what`; fail instead where POLYCLINIC_REQUIRE lists it."""
    if what in REQUIRED:
        pytest.fail(f"{what} is required: {why}")
    pytest.skip(why)
