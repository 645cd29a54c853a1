"""The ledger of one hospital: one account over every file, study, run and process.

Each public method is one transaction: it first takes in what other processes wrote, checks the
request against the rules, writes, and returns after the disk has confirmed. Killed anywhere, the
ledger holds a prefix of what was asked, and nothing leaves that it does not hold.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyclinic_client.ledger import rules
from polyclinic_client.ledger.budget import Budget, budget
from polyclinic_client.ledger.entries import (
    Approval,
    Approved,
    Attempted,
    CapsSet,
    Closed,
    Expired,
    Price,
    Reserved,
    RunClosed,
    Settled,
    Withdrawn,
)
from polyclinic_client.ledger.file import LedgerFile
from polyclinic_client.ledger.state import ReleaseState
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.secure_sum.chain import Chain

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Stored:
    """A reserved release: its noisy vector as it lies in the ledger, and what was asked.

    Attributes
    ----------
    vector : array of shape (length,), int64
        The noisy integers, read-only; never drawn a second time.
    chain : Chain
        The attempts that this site has answered.
    closed : Chain or None
        The attempts over which it was closed.
    settled : {"headline", "fallback"} or None
        At what it has been settled.
    """

    release: ReleaseId
    study_hash: bytes
    headline: Charge
    fallback: Charge
    broadcast: bytes
    transcript: bytes
    clip: float
    grid_exponent: int
    vector: Integers
    chain: Chain
    closed: Chain | None
    settled: Price | None


class Ledger(LedgerFile):
    """The account of a hospital, in one SQLite file; made by `create` or `open`.

    All methods raise `LedgerError`: L002 damaged, L003 the disk refuses, and what they name.
    """

    # What the hospital decides

    def approve(self, approval: Approval) -> None:
        """Write down an approval; the same one again changes nothing.

        Raises
        ------
        LedgerError
            L004 if the account could not carry it to its end, L005 if it contradicts an earlier
            one, S005 if it is over.
        """
        with self._writing() as today:
            held = self._state.approvals.get((approval.study_hash, approval.run))
            if held is not None and held.ended is None and held.approval == approval:
                return
            rules.check_approve(self._state, approval, today)
            self._append(Approved(approval=approval))

    def withdraw(self, study_hash: bytes, run: str | None = None) -> None:
        """End an approval: nothing more is reserved or sent under it."""
        with self._writing():
            held = self._state.approvals.get((study_hash, run))
            if held is None:
                raise rules.not_approved("There is no such approval to withdraw.")
            if held.ended is None:
                self._append(Withdrawn(study_hash=study_hash, run=run))

    def set_caps(self, epsilon_cap: float, fallback_cap: float | None = None) -> None:
        """Set the account's limits; without `fallback_cap` that one stays as it is."""
        rules.check_caps(epsilon_cap, fallback_cap)
        with self._writing():
            kept = self._state.fallback_cap if fallback_cap is None else fallback_cap
            self._append(CapsSet(epsilon_cap=epsilon_cap, fallback_cap=kept))

    def approval(self, study_hash: bytes, run: str | None = None) -> Approval | None:
        """Return the approval of a study, for exactly this run or for any, if it has not ended."""
        with self._reading() as state:
            found = [(study_hash, run), (study_hash, None)]
            held = next((state.approvals[key] for key in found if key in state.approvals), None)
            return held.approval if held is not None and held.ended is None else None

    # One release

    def check(
        self,
        release: ReleaseId,
        study_hash: bytes,
        *,
        headline: Charge,
        fallback: Charge,
        broadcast: bytes,
        transcript: bytes,
        clip: float,
        grid_exponent: int,
        length: int,
        settling: Sequence[ReleaseId] = (),
    ) -> Stored | None:
        """Say, before anything is computed, whether `reserve` would be refused.

        Writes nothing, except that an approval has expired.

        Returns
        -------
        Stored or None
            What is stored for this release already.

        Raises
        ------
        LedgerError
            As `reserve`.
        """
        wanted = Reserved(
            release=release,
            study_hash=study_hash,
            headline=headline,
            fallback=fallback,
            broadcast=broadcast,
            transcript=transcript,
            clip=clip,
            grid_exponent=grid_exponent,
            length=length,
            vector=bytes(32),
        )
        with self._reading() as state, self._ending_expired(study_hash, release.run):
            held = self._held(wanted)
            if held is not None:
                return self._stored(held)
            rules.check_reserve(state, wanted, self.today(), tuple(dict.fromkeys(settling)))
            return None

    @contextmanager
    def _ending_expired(self, study_hash: bytes, run: str) -> Iterator[None]:
        """Write down that an approval has expired, so that no clock set back revives it."""
        try:
            yield
        except LedgerError as error:
            if error.code is Code.STUDY_EXPIRED:
                self._note_expired(study_hash, run)
            raise

    def _note_expired(self, study_hash: bytes, run: str) -> None:
        """Write a row whose time is past the approval's last day, if there is none yet.

        Not the clock's time: were the clock wrong, all studies would end with this one for good.
        """
        with self._writing():
            approved = self._state.approval_for(study_hash, run)
            written = dt.datetime.fromtimestamp(self._log.head.time / 1000, dt.UTC).date()
            if approved is not None and written <= approved.approval.expires:
                entry = Expired(study_hash=study_hash, run=approved.approval.run)
                self._append(entry, time=_day_after(approved.approval.expires))

    def reserve(
        self,
        release: ReleaseId,
        study_hash: bytes,
        *,
        headline: Charge,
        fallback: Charge,
        broadcast: bytes,
        transcript: bytes,
        clip: float,
        grid_exponent: int,
        vector: Integers,
    ) -> Stored:
        """Charge a release at fallback and store its noisy vector, in one transaction.

        Parameters
        ----------
        headline, fallback : Charge
            As approved.
        broadcast, transcript : bytes
            Hash of the model that was sent out; digest of the run's history.
        clip : float
            The clip.
        grid_exponent : int
            The grid is 2 to this power.
        vector : array of shape (length,), int64
            Sum plus noise, in grid units.

        Returns
        -------
        Stored
            The stored release. If one is stored for the same request already, that one: the
            vector given is then forgotten.

        Raises
        ------
        LedgerError
            L008 not approved, S005 expired, L004 over budget, approved releases used up or too
            many rounds lost, L005 contradiction to what is held; nothing is written then.
        """
        content = np.ascontiguousarray(vector, dtype="<i8").tobytes()
        wanted = Reserved(
            release=release,
            study_hash=study_hash,
            headline=headline,
            fallback=fallback,
            broadcast=broadcast,
            transcript=transcript,
            clip=clip,
            grid_exponent=grid_exponent,
            length=vector.size,
            vector=hashlib.sha256(content).digest(),
        )
        with self._writing() as today:
            held = self._held(wanted)
            if held is not None:
                return self._stored(held)
            rules.check_reserve(self._state, wanted, today)
            row = self._append(wanted)
            self._log.connection.execute(
                "INSERT INTO vectors VALUES (?, ?, ?)", (row.sequence, release.run, content)
            )
            return _as_stored(self._state.releases[release], content)

    def stored(self, release: ReleaseId) -> Stored | None:
        """Return what is stored for a release; None if it was never reserved or is erased."""
        with self._reading() as state:
            held = state.releases.get(release)
            if held is None or self._content(held) is None:
                return None
            return self._stored(held)

    def releases_of(self, run: str) -> list[ReleaseState]:
        """Return where every release of a run stands, in the order in which they were reserved."""
        with self._reading() as state:
            return [held for release, held in state.releases.items() if release.run == run]

    def record_attempt(
        self, release: ReleaseId, *, epoch: bytes, chain: Chain, payload_hash: bytes
    ) -> None:
        """Write down the payload that is about to leave; the same one again changes nothing.

        Parameters
        ----------
        epoch : bytes
            This node's epoch.
        chain : Chain
            All attempts up to this one; empty where nothing is masked (mode local).
        payload_hash : bytes
            SHA-256 of what the gate will see.

        Raises
        ------
        LedgerError
            L005 if the release is closed or settled, its vector is gone, the chain does not extend
            unchanged the one answered last, this site is not in its last attempt, or another
            payload was made.
        """
        attempt = Attempted(release=release, epoch=epoch, chain=chain, payload=payload_hash)
        with self._writing() as today:
            held = rules.check_attempt(self._state, attempt, self._identity.public, today)
            if not self._has_content(held):
                raise _vector_gone(release)
            if held.attempts.get(attempt.moment) != payload_hash:
                self._append(attempt)

    def payload_is_recorded(
        self, release: ReleaseId, epoch: bytes, attempt: int, payload_hash: bytes
    ) -> bool:
        """Say whether this payload was written down for attempt number `attempt` (from 1).

        Nothing is recorded of a release that may not leave any more.
        """
        with self._reading() as state:
            held = state.releases.get(release)
            if held is None or held.dropped or release.run in state.closed_runs:
                return False
            known = held.attempts.get((epoch, attempt)) == payload_hash
            return known and self._has_content(held)

    def record_closing(self, release: ReleaseId, chain: Chain) -> None:
        """Write down that this site answers no further attempt of a release.

        `chain` is the one that the run's history fixes; if it is not the one answered here, this
        site was left out, and fallback stays.
        """
        with self._writing():
            self._close_release(release, chain)

    def settle(self, release: ReleaseId, at: Price, proof: bytes = b"") -> None:
        """Write down what a release has cost; the same again changes nothing.

        From fallback to headline is allowed, back is not. Why a release never costs more than one
        of the two: it has one row `Reserved`, one stored vector, and counts once, at fallback,
        from before anything leaves. Headline says that no other sum than those over the own chain
        can come out, because enough members have closed it; closing is for good (no attempt is
        recorded after it), so statements that arrive late prove the same as early ones. Until
        then every decision was taken with the higher price. Going back would only be a way to
        count twice or to hide the proof.

        Raises
        ------
        LedgerError
            L005 if it is settled at headline and `at` is fallback, or if it is not closed over
            exactly the attempts that this site answered.
        """
        with self._writing():
            self._settle(release, at, proof)

    def close_run(self, run: str) -> None:
        """End a run: its stored vectors are overwritten and removed, their hashes stay."""
        with self._writing():
            if run not in self._state.closed_runs:
                self._append(RunClosed(run=run))
            self._log.connection.execute("DELETE FROM vectors WHERE run = ?", (run,))
        self._log.checkpoint()

    def budget(self) -> Budget:
        """Return what is spent and what still fits."""
        with self._reading() as state:
            return budget(state, self.today())

    def _close_release(self, release: ReleaseId, chain: Chain) -> None:
        held = rules.check_closing(self._state, release, chain)
        if held.closed is None:
            self._append(Closed(release=release, chain=chain))

    def _settle(self, release: ReleaseId, at: Price, proof: bytes) -> None:
        held = rules.check_settle(self._state, release, at)
        if held.settled != at:
            self._append(Settled(release=release, at=at, proof=proof))

    def _held(self, wanted: Reserved) -> ReleaseState | None:
        """Return what is held for a release, if it may still leave for the same request."""
        held = self._state.releases.get(wanted.release)
        if held is not None:
            rules.check_same(held, wanted)
            rules.check_usable(self._state, wanted.release, self.today())
        return held

    def _stored(self, held: ReleaseState) -> Stored:
        content = self._content(held)
        if content is None:
            raise _vector_gone(held.reserved.release)
        return _as_stored(held, content)


def _day_after(day: dt.date) -> int:
    """Return when the next day begins (UTC), in milliseconds since 1970."""
    begins = dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), dt.UTC)
    return int(begins.timestamp() * 1000)


def _vector_gone(release: ReleaseId) -> LedgerError:
    return rules.conflict(f"The vector of the {release} is lost or erased.")


def _as_stored(held: ReleaseState, content: bytes) -> Stored:
    asked = held.reserved
    return Stored(
        release=asked.release,
        study_hash=asked.study_hash,
        headline=asked.headline,
        fallback=asked.fallback,
        broadcast=asked.broadcast,
        transcript=asked.transcript,
        clip=asked.clip,
        grid_exponent=asked.grid_exponent,
        vector=np.frombuffer(content, dtype="<i8").astype(np.int64, copy=False),
        chain=held.chain,
        closed=held.closed,
        settled=held.settled,
    )
