"""A ledger driven at random against a simple model of what really left."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from numpy.typing import NDArray

from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.ledger.recovery import recover
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.secure_sum.chain import Chain
from tests.kits.ledger import (
    CHAIN,
    DELTA,
    FALLBACK,
    HEADLINE,
    LEFT_OUT,
    ME,
    PEERS,
    STUDY,
    approval,
    digest,
    draw,
    release,
    request,
)

CAP = spent_epsilon({FALLBACK: 4}, DELTA)
LOWER_CAP = spent_epsilon({FALLBACK: 3}, DELTA)
RUNS = ("first", "second")
SMALLER: Chain = (*CHAIN, tuple(sorted((ME.public, *PEERS[:2]))))
OTHER: Chain = (*CHAIN, tuple(sorted((ME.public, *PEERS[1:]))))
releases = st.builds(release, st.integers(1, 3), st.sampled_from(RUNS))


class LedgerMachine(RuleBasedStateMachine):
    """The model: every vector of which a payload was recorded has left, and is never forgotten.

    What really was spent does not depend on the ledger: a vector that left costs fallback, or
    headline once it was closed over its own chain and settled. The machine may kill and reopen
    the ledger, put an old copy back, and recover with or without the lost rows.
    """

    @initialize()
    def begin(self) -> None:
        memory = Path("/dev/shm")  # noqa: S108
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.path = self.folder / "ledger.sqlite"
        self.draws = 0
        self.cap = LOWER_CAP
        self.drawn: dict[ReleaseId, NDArray[np.int64]] = {}
        self.left: dict[ReleaseId, set[bytes]] = {}  # vectors that left, by release
        self.payloads: dict[tuple[ReleaseId, int], bytes] = {}
        self.settled: set[ReleaseId] = set()
        self.over: set[ReleaseId] = set()
        self.answered: dict[ReleaseId, Chain] = {}
        self.closed: dict[ReleaseId, Chain] = {}
        self.ledger = Ledger.create(
            self.path,
            ME,
            delta=DELTA,
            epsilon_cap=CAP,
            witness=self.folder / "witness",
        )
        for run in RUNS:
            self.ledger.approve(approval(2, lost_rounds=2, run=run))
        self.ledger.set_caps(LOWER_CAP)
        self.copy()
        for run in RUNS:
            self.answer(release(1, run))

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder)

    def reserve(self, release: ReleaseId) -> None:
        self.draws += 1
        try:
            stored = self.ledger.reserve(
                release, STUDY, vector=draw(self.draws), **request(release.round_number)
            )
        except LedgerError:
            return
        first = self.drawn.setdefault(release, stored.vector)
        assert np.array_equal(stored.vector, first)

    @rule(release=releases)
    def answer(self, release: ReleaseId) -> None:
        """As a site answers: reserve, then send."""
        self.reserve(release)
        self.send(release, CHAIN)

    @rule(release=releases, headline=st.booleans())
    def finish(self, release: ReleaseId, headline: bool) -> None:
        """As a round ends: close over the own chain, then settle."""
        self.close(release, CHAIN)
        self.settle(release, headline)

    @rule(release=releases, chain=st.sampled_from([CHAIN, SMALLER, OTHER]))
    def send(self, release: ReleaseId, chain: Chain) -> None:
        stored = self.ledger.stored(release)
        payload = digest(f"{stored.vector.tolist() if stored else None} {len(chain)} {chain}")
        try:
            self.ledger.record_attempt(release, epoch=b"e" * 16, chain=chain, payload_hash=payload)
        except LedgerError:
            return
        assert self.ledger.payload_is_recorded(release, b"e" * 16, len(chain), payload)
        assert stored is not None
        assert release not in self.over
        assert self.payloads.setdefault((release, len(chain)), payload) == payload
        self.answered[release] = chain
        self.left.setdefault(release, set()).add(stored.vector.tobytes())

    @rule(release=releases, chain=st.sampled_from([CHAIN, SMALLER, LEFT_OUT]))
    def close(self, release: ReleaseId, chain: Chain) -> None:
        try:
            self.ledger.record_closing(release, chain)
        except LedgerError:
            return
        self.over.add(release)
        self.closed[release] = chain

    @rule(release=releases, headline=st.booleans())
    def settle(self, release: ReleaseId, headline: bool) -> None:
        try:
            self.ledger.settle(release, "headline" if headline else "fallback", b"proof")
        except LedgerError:
            return
        if headline:
            assert self.closed[release] == self.answered[release]
            self.settled.add(release)

    @precondition(lambda self: len(self.left) > 2)
    @rule(run=st.sampled_from(RUNS))
    def close_run(self, run: str) -> None:
        self.ledger.close_run(run)
        self.over |= {each for each in self.left if each.run == run}

    @rule()
    def raise_the_limit(self) -> None:
        self.cap *= 1.1
        self.ledger.set_caps(self.cap)

    @rule()
    def reopen(self) -> None:
        """Without closing first: as after a kill."""
        old = self.ledger
        self.ledger = Ledger.open(self.path, ME)
        old.close()

    @rule()
    def copy(self) -> None:
        self.ledger._log.checkpoint()
        shutil.copy(self.path, self.folder / "copy")
        self.copied = self.ledger.head()

    @precondition(lambda self: self.left and self.ledger.head() != self.copied)
    @rule(rows_back=st.booleans())
    def put_the_copy_back(self, rows_back: bool) -> None:
        rows, head = self.ledger.export_rows(), self.ledger.head()
        self.ledger.close()
        for file in self.folder.glob("ledger.sqlite*"):
            file.unlink()
        shutil.copy(self.folder / "copy", self.path)
        with pytest.raises(LedgerError) as caught:
            Ledger.open(self.path, ME)
        assert caught.value.code == Code.LEDGER_BEHIND
        recover(
            self.path, ME, rows=rows if rows_back else (), claims=[head], charge_lost=not rows_back
        )
        self.ledger = Ledger.open(self.path, ME)
        self.ledger.check_not_behind([head])
        if not rows_back:
            self.over |= set(self.left)

    @invariant()
    def never_counts_less_than_what_left(self) -> None:
        spent = self.ledger.budget().spent
        assert spent >= spent_epsilon(self.truth(), DELTA) - 1e-9

    @invariant()
    def no_release_leaves_as_two_draws(self) -> None:
        assert all(len(vectors) == 1 for vectors in self.left.values())

    @invariant()
    def what_left_stays_within_the_limit(self) -> None:
        assert spent_epsilon(self.truth(), DELTA) <= self.cap

    def truth(self) -> Counter[Charge]:
        charges: Counter[Charge] = Counter()
        for each, vectors in self.left.items():
            charges[HEADLINE if each in self.settled else FALLBACK] += len(vectors)
        return charges


LedgerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestLedgerMachine = pytest.mark.slow(LedgerMachine.TestCase)
