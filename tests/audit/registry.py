"""Where defects are registered, and how one is put into the product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MUTATIONS: dict[str, Callable[[], None]] = {}


def mutation(apply: Callable[[], None]) -> Callable[[], None]:
    """Register a defect under its function's name, with blanks."""
    MUTATIONS[apply.__name__.replace("_", " ")] = apply
    return apply


def put(owner: Any, name: str, value: Any) -> None:
    """Exchange an attribute that is there."""
    assert hasattr(owner, name), f"{owner} has no {name}: the mutation has no object"
    setattr(owner, name, value)
