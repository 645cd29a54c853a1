"""What one reader saw of one kind of release, and what that proves against the charge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.privacy import gdp
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.charges import Charge
from polyclinic_simulations.audit.bounds import Guesses, chance_of_correlation

LEAST_CHANCE = 1e-6  # of a correlation among independent noise: below, the noise repeats
HEADLINE, FALLBACK = "headline", "fallback"

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """What one reader proves.

    Attributes
    ----------
    kind : str
        Kind of release.
    reader : str
        ``headline`` sees the sum of h honest hospitals, ``fallback`` one hospital's own release.
    canaries, copies : int
        Canaries, and equal patients of each.
    claimed : float
        Epsilon of all releases of the kind as charged.
    at_least : float
        Lower bound on it.
    guesses : Guesses
        What the bound rests on.
    correlation_chance : float or None
        How likely fresh noise is to look as repetitive as this; None where it is not looked at.
    """

    kind: str
    reader: str
    canaries: int
    copies: int
    claimed: float
    at_least: float
    guesses: Guesses
    correlation_chance: float | None

    @property
    def refuted(self) -> bool:
        """Whether the claim cannot be true, or the noise repeats."""
        repeats = self.correlation_chance is not None and self.correlation_chance < LEAST_CHANCE
        return self.at_least > self.claimed or repeats


@dataclass(frozen=True)
class Price:
    """What the releases of one kind cost a reader's account.

    Attributes
    ----------
    charge : Charge
        Of one release.
    releases : int
        How many a run makes.
    """

    kind: str
    reader: str
    charge: Charge
    releases: int
    delta: float

    def proved(
        self,
        guesses: Guesses,
        canaries: tuple[int, int],
        error: float,
        noise: Sequence[Scores],
    ) -> Finding:
        """Return what guesses about canaries prove.

        Who is mu-GDP for a patient is k mu-GDP for k of them (Dong, Roth and Su, 2022, theorem 2):
        the bound for a canary of k copies is divided by k; T releases are mu sqrt(T).

        Parameters
        ----------
        canaries : tuple of int
            Canaries, and copies of each.
        noise : sequence of array of shape (rows, n)
            Rows that should be independent.
        """
        mu = guesses.mu_at_least(error) / canaries[1] * math.sqrt(self.releases)
        return Finding(
            self.kind,
            self.reader,
            *canaries,
            claimed=spent_epsilon({self.charge: self.releases}, self.delta),
            at_least=gdp.epsilon_of(mu, self.delta),
            guesses=guesses,
            correlation_chance=min(chance_of_correlation(rows) for rows in noise),
        )
