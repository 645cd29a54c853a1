"""Finding the bundle that a person means."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from polyclinic_common.errors import BundleError, Code

SHORTEST = 4  # letters of a run or digest


class Named(Protocol):
    """A bundle on offer: what it is called by."""

    @property
    def digest(self) -> str:
        """Its digest, in hexadecimal."""

    @property
    def run(self) -> str:
        """Its run."""


N = TypeVar("N", bound=Named)


def matching(offered: Iterable[N], word: str) -> list[N]:
    """Return the bundles whose run or digest begins with a word of four letters or more."""
    if len(word) < SHORTEST:
        return []
    return [each for each in offered if each.digest.startswith(word) or each.run.startswith(word)]


def find_bundle(offered: Iterable[N], word: str, remedy: str) -> N:
    """Return the one bundle that matches.

    Raises
    ------
    BundleError
        B074 if none or several do.
    """
    found = matching(offered, word)
    if len(found) != 1:
        several = ", ".join(each.digest[:12] for each in found)
        raise BundleError(
            Code.BUNDLE_UNKNOWN,
            f"Several bundles match {word!r}: {several}."
            if found
            else f"There is no bundle of {word!r}.",
            "Name one by its digest." if found else remedy,
        )
    return found[0]
