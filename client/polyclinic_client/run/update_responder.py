"""One hospital in one run of mode local: private updates, each charged before it leaves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from polyclinic_client.compute.local_releases import Mechanism
from polyclinic_client.ledger.ledger import Ledger, Stored
from polyclinic_client.run.refusals import RefusalError
from polyclinic_client.run.stored_release import Wanted, stored_release
from polyclinic_client.run.terms import fits
from polyclinic_common.models.score_head import LARGEST_WEIGHT, Vector
from polyclinic_common.release_id import ReleaseId, broadcast_hash
from polyclinic_common.releases.kinds import UPDATE
from polyclinic_common.wire import PrivateUpdate, Reason, Receipt, SettleRequest, TrainRequest


@dataclass
class Memory:
    """What a site remembers of a run between rounds, beside its ledger.

    Attributes
    ----------
    personal : array of shape (d,) or None
        Its own model, where the study personalises.
    """

    personal: Vector | None = None


class UpdateResponder:
    """Answers the train requests of one run.

    Parameters
    ----------
    study_hash : bytes
        The study.
    length, rounds : int
        Weights of the model; rounds of the run.
    personal : bool
        Whether this site keeps a model of its own.
    ledger : Ledger
        This hospital's ledger.
    mechanisms : mapping
        What draws a release, by kind.
    rounds_of : mapping
        In which rounds a kind may be asked for; what is not named, in all.
    begin : callable
        Called before patients are read, once all is done that follows from the message alone.
    """

    def __init__(
        self,
        study_hash: bytes,
        length: int,
        rounds: int,
        *,
        personal: bool,
        ledger: Ledger,
        mechanisms: Mapping[str, Mechanism],
        rounds_of: Mapping[str, Collection[int]] | None = None,
        begin: Callable[[], None] = lambda: None,
    ):
        self._study_hash = study_hash
        self._length = length
        self._rounds = rounds
        self._personal = personal
        self._ledger = ledger
        self._mechanisms = mechanisms
        self._rounds_of = rounds_of or {}
        self._begin = begin

    def update(self, request: TrainRequest, memory: Memory) -> PrivateUpdate:
        """Return this site's release: drawn once, stored, and the same again when asked again."""
        release = ReleaseId(request.run_id, request.round_number, request.kind)
        self._check(release, request.weights)
        mechanism = self._mechanisms[release.kind]
        own = request.weights if memory.personal is None else memory.personal

        def payload(stored: Stored) -> tuple[Vector, bytes]:
            vector = np.ldexp(stored.vector, stored.grid_exponent)
            return vector, vector.tobytes()

        vector = stored_release(
            self._ledger,
            self._wanted(release, request.weights),
            lambda moment: mechanism.draw(request.weights, own, moment),
            payload,
            begin=self._begin,
        )
        if self._personal and release.kind == UPDATE:
            memory.personal = request.weights + vector
        return PrivateUpdate(
            request.study_hash, request.run_id, request.round_number, release.kind, vector
        )

    def settle(self, request: SettleRequest) -> Receipt:
        """End the run and erase what was stored."""
        self._ledger.close_run(request.run_id)
        return Receipt(request.run_id)

    def _check(self, release: ReleaseId, weights: Vector) -> None:
        if release.kind not in self._mechanisms or release.round_number > self._rounds:
            raise RefusalError(Reason.OVER_BUDGET)
        rounds = [
            each.reserved.release.round_number for each in self._ledger.releases_of(release.run)
        ]
        early = release.round_number < max(rounds, default=0)
        if early or not fits(release, self._rounds_of):
            raise RefusalError(Reason.OUT_OF_ORDER)
        if weights.shape != (self._length,) or not (np.abs(weights) <= LARGEST_WEIGHT).all():
            raise RefusalError(Reason.OUT_OF_ORDER)

    def _wanted(self, release: ReleaseId, weights: Vector) -> Wanted:
        mechanism = self._mechanisms[release.kind]
        return Wanted(
            release=release,
            study_hash=self._study_hash,
            headline=mechanism.charge,
            fallback=mechanism.charge,
            broadcast=broadcast_hash(weights),
            clip=mechanism.clip,
            grid_exponent=mechanism.grid_exponent,
            length=mechanism.length,
        )
