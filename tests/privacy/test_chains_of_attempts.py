"""Every way in which a malicious server can split a round among four or five hospitals.

A hospital is the rule by which it answers: `is_nested`, `counted`, `extends`; what the server can
add up is what linear algebra gives it. Masks are taken as perfect: a view comes out when all
honest members of its last set have answered it, and nothing else does.

The server shows every honest hospital chains of its own choice, of up to two attempts (longer ones
repeat a set or go below m), so the search goes over every map from honest hospitals to the last
chain that they answered. A hospital that answered a chain has answered all that it extends: more
answers only help the server. All hospitals then close, and colluders sign whatever helps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain as concatenated
from itertools import combinations, product

import numpy as np
import pytest

from polyclinic_common.secure_sum.chain import (
    Attempt,
    Chain,
    counted,
    extends,
    is_nested,
    statements_needed,
)

ALLOWED = [
    (size, m, c)
    for size in (4, 5)
    for m in range(1, size + 1)
    for c in range(1, m)
    if 2 * m > size + c
]


@dataclass(frozen=True)
class Found:
    """One way to split a round: which views come out, and who settles at headline."""

    views: tuple[Chain, ...]
    chains: dict[bytes, Chain]
    settled: frozenset[bytes]


@dataclass(frozen=True)
class Consortium:
    """Hospitals of one byte each; colluders come last, invented hospitals after them."""

    size: int
    m: int
    c: int
    invented: int = 0
    attempts: int = 2

    @property
    def honest(self) -> Attempt:
        return self.everyone[: self.size - self.c - self.invented]

    @property
    def everyone(self) -> Attempt:
        return tuple(bytes([number]) for number in range(self.size))

    @property
    def verified(self) -> frozenset[bytes]:
        return frozenset(self.everyone[: self.size - self.invented])

    def chains(self) -> list[Chain]:
        """Return every chain that some honest hospital would answer."""
        sets = [
            members
            for count in range(1, self.size + 1)
            for members in combinations(self.everyone, count)
            if counted(members, self.verified) >= self.m
        ]
        series = concatenated.from_iterable(
            product(sets, repeat=length) for length in range(1, self.attempts + 1)
        )
        return [chain for chain in series if is_nested(chain)]

    def splits(self) -> Iterator[Found]:
        """Yield the outcome of every map from honest hospitals to the chain answered last."""
        views = self.chains()
        choices = [[None, *(each for each in views if own in each[-1])] for own in self.honest]
        bits = {view: 1 << place for place, view in enumerate(views)}
        needs = {
            view: [place for place, own in enumerate(self.honest) if own in view[-1]]
            for view in views
        }
        answers = [
            {
                last: sum(
                    bits[view]
                    for view in views
                    if own not in view[-1] or (last is not None and extends(view, last))
                )
                for last in choices[place]
            }
            for place, own in enumerate(self.honest)
        ]
        somebody = sum(bits[view] for view in views if needs[view])
        for lasts in product(*choices):
            complete = somebody
            for place, last in enumerate(lasts):
                complete &= answers[place][last]
            if not complete:
                continue
            chains = {
                own: last for own, last in zip(self.honest, lasts, strict=True) if last is not None
            }
            settled = frozenset(own for own, last in chains.items() if self.settles(last, chains))
            yield Found(tuple(view for view in views if bits[view] & complete), chains, settled)

    def settles(self, chain: Chain, chains: dict[bytes, Chain]) -> bool:
        """Say whether enough members of the last set have closed this chain."""
        closed = tuple(
            own for own in chain[-1] if own not in self.honest or chains.get(own) == chain
        )
        return counted(closed, self.verified) >= statements_needed(chain, self.m, self.c)

    def fewest_shares(self, own: bytes, views: tuple[Chain, ...]) -> int:
        """Return the fewest honest shares of any combination of the sums that holds `own`."""
        return _fewest_shares(
            tuple(frozenset(view[-1]) & frozenset(self.honest) for view in views), own
        )


@cache
def _fewest_shares(sets: tuple[frozenset[bytes], ...], own: bytes) -> int:
    """Search all sets T that hold `own`: can the sums be combined to one over T alone?

    They can if the column of `own` is not a combination of the columns outside T.
    """
    people = sorted(frozenset().union(*sets))
    if own not in people:
        return len(people) + 1000
    table = np.array([[each in members for each in people] for members in sets], dtype=float)
    mine = table[:, [people.index(own)]]
    for count in range(1, len(people) + 1):
        for kept in combinations(people, count):
            outside = table[:, [each not in kept for each in people]]
            both = np.hstack([outside, mine])
            if own in kept and np.linalg.matrix_rank(both) > _rank(outside):
                return count
    raise AssertionError


def _rank(table: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(table)) if table.size else 0


def one_chain(views: tuple[Chain, ...]) -> bool:
    return all(
        view[: len(other)] == other or other[: len(view)] == view
        for view, other in combinations(views, 2)
    )


def test_the_allowed_rules_are_those_of_the_study() -> None:
    assert ALLOWED == [
        (4, 3, 1), (4, 4, 1), (4, 4, 2), (4, 4, 3),
        (5, 4, 1), (5, 4, 2), (5, 5, 1), (5, 5, 2), (5, 5, 3), (5, 5, 4),
    ]  # fmt: skip


@pytest.mark.parametrize(("size", "m", "c"), ALLOWED)
def test_one_chain_completes_and_headline_is_what_it_says(size: int, m: int, c: int) -> None:
    """Whatever the server shows: one chain of views, and h honest shares for who is settled.

    Fallback is honest too: with fewer statements some hospital does stand alone, unless m = |R|.
    """
    consortium = Consortium(size, m, c)
    h, alone, settled = m - c, False, False
    for found in consortium.splits():
        assert one_chain(found.views), found
        for own in consortium.honest:
            shares = consortium.fewest_shares(own, found.views)
            alone |= shares < h
            if own in found.settled:
                settled = True
                assert shares >= h, (own, found)
    assert settled
    assert alone == (m < size and h > 1)


def test_split_rule_that_is_too_loose_lets_two_chains_complete() -> None:
    """2m > |R| + c is needed: with m = 3 of 5 and c = 1 two sums with one colluder in common."""
    loose = Consortium(5, 3, 1, attempts=1)
    assert any(not one_chain(found.views) for found in loose.splits())


@pytest.mark.parametrize(("size", "m", "c"), [(4, 3, 1), (5, 4, 1)])
def test_one_statement_less_would_settle_hospitals_that_stand_alone(
    size: int, m: int, c: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of statements is as small as it can be."""
    least = statements_needed
    monkeypatch.setitem(globals(), "statements_needed", lambda *rule: least(*rule) - 1)
    consortium = Consortium(size, m, c)
    assert any(
        consortium.fewest_shares(own, found.views) < m - c
        for found in consortium.splits()
        for own in found.settled
    )


@pytest.mark.parametrize(("size", "m", "c", "invented"), [(5, 3, 1, 1), (5, 4, 1, 1)])
def test_hospitals_that_the_operator_invented_change_nothing(
    size: int, m: int, c: int, invented: int
) -> None:
    """Besides c colluders among the verified: headline holds for whoever is settled."""
    consortium = Consortium(size, m, c, invented)
    for found in consortium.splits():
        for own in found.settled:
            assert consortium.fewest_shares(own, found.views) >= m - c, (own, found)
