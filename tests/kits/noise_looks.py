"""Looks at many draws of noise, coordinate by coordinate: what fresh noise would not do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, chi2, norm, t

DRAWS = 1000
LOW_BITS = 4
FAMILIES = 5  # of tests in one look, each with an equal share of its false alarms

Matrix = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Look:
    """One look at draws of noise.

    Fresh noise is complained of with probability `error` at most: the five families below share it
    equally, and within a family all its comparisons do (Bonferroni). Two equal draws are beyond
    that: with a deviation of 2^12 units and six coordinates, a thousand draws hold two equal ones
    with probability below 1000^2 / 2 * (2^13 sqrt(pi))^-6 < 1e-19.

    Attributes
    ----------
    error : float
        How likely fresh noise is to be complained of.
    """

    error: float

    @property
    def share(self) -> float:
        """Error of one family."""
        return self.error / FAMILIES

    def complaints(self, draws: NDArray[np.int64], mean: Matrix, variance: float) -> list[str]:
        """Say what is wrong with draws of shape (n, d), n even, which should have this variance."""
        z = (draws - mean) / np.sqrt(variance)
        wrong = {
            "mean": self._off_centre(z),
            "variance": self._wrong_size(z),
            "independence": self._dependent(z),
        }
        found = [f"{what} of coordinates {where_in(bad)}" for what, bad in wrong.items()]
        found = [said for said, bad in zip(found, wrong.values(), strict=True) if bad.any()]
        if self._wrong_on_the_whole(z):
            found.append("variance of all coordinates together")
        if len(np.unique(draws, axis=0)) < len(draws):
            found.append("two draws are equal")
        return found

    def unfair_bits(self, draws: NDArray[np.int64]) -> list[str]:
        """Say which low bits of integers do not look like fair coins, alone and from draw to draw.

        A discrete Gaussian with a deviation of 2^12 gives its low bits with probability 1/2 to
        within e^(-2 pi^2 2^24 / 2^8).
        """
        found = []
        for bit in range(LOW_BITS):
            bits = (draws >> bit) & 1
            for what, coins in (("", bits), (" of pairs", bits[0::2] ^ bits[1::2])):
                n, ones = len(coins), coins.sum(axis=0)
                rare = self.share / 2 / (2 * LOW_BITS * coins.shape[1])
                bad = (binom.cdf(ones, n, 0.5) < rare) | (binom.sf(ones - 1, n, 0.5) < rare)
                if bad.any():
                    found.append(f"bit {bit}{what} of coordinates {where_in(bad)}")
        return found

    def variance_bounds(self, coordinates: int, n: int = DRAWS) -> tuple[float, float]:
        """Return the bounds on the sum of squares of one of so many coordinates, over n draws."""
        rare = self.share / 2 / coordinates
        return float(chi2.ppf(rare, n)), float(chi2.isf(rare, n))

    def chance_to_catch(self, factor: float, coordinates: int) -> float:
        """Return how likely noise times `factor` in one of so many coordinates is caught."""
        low, high = self.variance_bounds(coordinates)
        return float(chi2.cdf(low / factor**2, DRAWS) + chi2.sf(high / factor**2, DRAWS))

    def _off_centre(self, z: Matrix) -> Bools:
        limit = norm.isf(self.share / 2 / z.shape[1])
        return np.asarray(np.abs(z.sum(axis=0)) > limit * np.sqrt(len(z)))

    def _wrong_size(self, z: Matrix) -> Bools:
        low, high = self.variance_bounds(z.shape[1], len(z))
        squares = (z * z).sum(axis=0)
        return np.asarray((squares < low) | (squares > high))

    def _wrong_on_the_whole(self, z: Matrix) -> bool:
        """Say whether all squares together are too small or large: it sees noise 5 % too small."""
        squares, rare = float((z * z).sum()), self.share / 2
        return not chi2.ppf(rare, z.size) < squares < chi2.isf(rare, z.size)

    def _dependent(self, z: Matrix) -> Bools:
        """Say which coordinates go with another, or with any of the draw before.

        Pairs of draws are taken apart, so that all rows are independent; the correlation of two
        columns of n normal numbers is Student's t with n - 2 degrees of freedom.
        """
        d, pairs = z.shape[1], np.hstack([z[0::2], z[1::2]])
        n, columns = pairs.shape
        with np.errstate(invalid="ignore", divide="ignore"):  # a column without noise
            r = np.nan_to_num(np.abs(np.corrcoef(pairs, rowvar=False)), nan=1.0)
        np.fill_diagonal(r, 0.0)
        limit = float(t.isf(self.share / (columns * (columns - 1)), n - 2))
        bad = (r > limit / np.sqrt(n - 2 + limit**2)).any(axis=0)
        return np.asarray(bad[:d] | bad[d:])


def where_in(bad: Bools) -> list[int]:
    return [int(place) for place in np.flatnonzero(bad)]
