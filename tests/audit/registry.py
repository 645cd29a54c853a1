"""Where defects are registered, and how one is put into the product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mutation:
    """A defect.

    Attributes
    ----------
    apply : callable
        Puts it into the product.
    first : str
        The test module that should see it, which is run before the others.
    audited : bool
        Whether it is in the way of the audit of the noise at all.
    """

    apply: Callable[[], None]
    first: str
    audited: bool


MUTATIONS: dict[str, Mutation] = {}


def mutation(first: str, *, audited: bool = True) -> Callable[[Callable[[], None]], None]:
    """Register a defect under its function's name, with blanks."""

    def register(apply: Callable[[], None]) -> None:
        MUTATIONS[apply.__name__.replace("_", " ")] = Mutation(apply, first, audited)

    return register


def put(owner: Any, name: str, value: Any) -> None:
    """Exchange an attribute that is there."""
    assert hasattr(owner, name), f"{owner} has no {name}: the mutation has no object"
    setattr(owner, name, value)
