"""One site in one run: what it answers to the server, and when it refuses."""

from __future__ import annotations

import datetime as dt

import numpy as np

from polyclinic_client.mechanisms import Mechanism, Memory
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.models.network import LARGEST_WEIGHT, build_network, weight_count
from polyclinic_common.study.manifest import Study
from polyclinic_common.wire import PrivateUpdate, Reason, Refusal, TrainRequest


class Site:
    """Answers the requests of one run.

    Parameters
    ----------
    study : Study
        The study this site takes part in.
    mechanism : Mechanism
        What is released a round.
    run_id : str
        The run this site joined.
    """

    def __init__(self, study: Study, mechanism: Mechanism, run_id: str):
        self._study_hash = study.hash()
        self._expires = study.expires
        self._rounds = study.training.rounds
        self._length = weight_count(build_network(study, Encoding(study)))
        self._mechanism = mechanism
        self._run_id = run_id

    def answer(self, request: TrainRequest, memory: Memory) -> PrivateUpdate | Refusal:
        """Return this site's release for a round, or why it refuses; updates `memory`.

        A refusal depends on the message and public parameters alone, never on patients.
        """
        reason = self._why_not(request, memory)
        if reason is not None:
            return Refusal(reason)
        memory.last_round = request.round_number
        vector = self._mechanism.release(request.weights, memory)
        return PrivateUpdate(request.study_hash, request.run_id, request.round_number, vector)

    def _why_not(self, request: TrainRequest, memory: Memory) -> Reason | None:
        if request.study_hash != self._study_hash or request.run_id != self._run_id:
            return Reason.NOT_APPROVED
        if dt.datetime.now(dt.UTC).date() > self._expires:
            return Reason.EXPIRED
        if request.round_number > self._rounds:
            return Reason.OVER_BUDGET
        if request.round_number <= memory.last_round:
            return Reason.OUT_OF_ORDER
        fits = request.weights.shape == (self._length,)
        if not fits or not (np.abs(request.weights) <= LARGEST_WEIGHT).all():
            return Reason.BAD_MESSAGE
        return None
