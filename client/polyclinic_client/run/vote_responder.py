"""A hospital's vote on a trained model: compared on its own held-out patients, then randomised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polyclinic_client.compute.integers import Moment
from polyclinic_client.compute.opinion import Opinion
from polyclinic_client.ledger.ledger import Ledger, Stored
from polyclinic_client.run.refusals import RefusalError
from polyclinic_client.run.stored_release import Wanted, stored_release
from polyclinic_common.models.score_head import LARGEST_WEIGHT, Vector
from polyclinic_common.privacy.charges import Vote
from polyclinic_common.privacy.streams import derived_stream
from polyclinic_common.privacy.votes import randomised
from polyclinic_common.release_id import VOTE, ReleaseId, broadcast_hash
from polyclinic_common.secure_sum.masks import Integers
from polyclinic_common.wire import CastVote, Reason, VoteRequest

Coin = Callable[[bytes], int]


def system_coin(secret: bytes) -> Coin:
    """Return what gives a fresh random word for a context."""
    return lambda context: int(derived_stream(secret, context).words(1)[0])


class VoteResponder:
    """Answers the vote requests of one run: one vote, charged, stored, and the same when repeated.

    Parameters
    ----------
    study_hash : bytes
        The study.
    length, rounds : int
        Weights of the model; rounds of the run, at the end of which there is one vote.
    charge : Vote
        What the vote costs.
    opinion : Opinion
        What this hospital thinks of a model.
    ledger : Ledger
        This hospital's ledger.
    coin : callable
        Gives a random word.
    begin : callable
        Called before patients are read, once all is done that follows from the message alone.
    """

    def __init__(
        self,
        study_hash: bytes,
        length: int,
        rounds: int,
        *,
        charge: Vote,
        opinion: Opinion,
        ledger: Ledger,
        coin: Coin,
        begin: Callable[[], None] = lambda: None,
    ):
        self._study_hash = study_hash
        self._length = length
        self._rounds = rounds
        self._charge = charge
        self._opinion = opinion
        self._ledger = ledger
        self._coin = coin
        self._begin = begin

    def vote(self, request: VoteRequest) -> CastVote:
        """Return this hospital's vote on the model of a request."""
        weights = request.weights
        fits = weights.shape == (self._length,) and (np.abs(weights) <= LARGEST_WEIGHT).all()
        if request.round_number > self._rounds or not fits:
            raise RefusalError(Reason.OUT_OF_ORDER)
        release = ReleaseId(request.run_id, request.round_number, VOTE)
        wanted = Wanted(
            release=release,
            study_hash=self._study_hash,
            headline=self._charge,
            fallback=self._charge,
            broadcast=broadcast_hash(weights),
            clip=1.0,
            grid_exponent=0,
            length=1,
        )
        said = stored_release(
            self._ledger, wanted, lambda moment: self.draw(weights, moment), _said
        )
        return CastVote(request.study_hash, request.run_id, request.round_number, said)

    def draw(self, weights: Vector, moment: Moment) -> Integers:
        """Return what would be stored: the opinion, randomised; nothing is charged here."""
        self._begin()
        truth = self._opinion(weights)
        told = np.array([-1 if truth is None else int(truth)], dtype=np.int64)
        said = randomised(truth, self._charge.epsilon, self._coin(moment.context(told)))
        return np.array([int(said)], dtype=np.int64)


def _said(stored: Stored) -> tuple[int, bytes]:
    """Return the vote that is stored, and what the gate sees of it."""
    said = int(stored.vector[0])
    return said, bytes([said])
