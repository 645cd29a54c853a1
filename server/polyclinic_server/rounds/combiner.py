"""How what the sites released becomes the next model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
)

from polyclinic_common.models.score_head import Vector
from polyclinic_common.study.manifest import Study
from polyclinic_server.rounds.optimizer import Optimizer, largest_ridge
from polyclinic_server.rounds.state import State

_NAME = "weights"


class Combiner(Protocol):
    """Combines one round."""

    def step(self, state: State, updates: Mapping[str, Vector]) -> State:
        """Return the state after a round, from every answering site's vector."""
        ...


@dataclass(frozen=True)
class Descent:
    """Gradient sums over declared patients, then the server's own optimizer: one a setting."""

    optimizers: Sequence[Optimizer]
    declared: Mapping[str, int]

    def step(self, state: State, updates: Mapping[str, Vector]) -> State:
        """Descend along the mean gradient."""
        total = np.sum(list(updates.values()), axis=0)
        return self.descend(state, total, list(updates))

    def descend(self, state: State, total: Vector, sites: Sequence[str]) -> State:
        """Descend along the gradient sum of these sites, over their declared patients."""
        divisor = sum(self.declared[site] for site in sites)
        optimizer = self.optimizers[len(state.candidates)]
        return optimizer.step(state, np.asarray(total / divisor, dtype=np.float64))


@dataclass(frozen=True)
class FlowerStrategy:
    """Changes of the model, combined by a strategy of Flower; weights are declared patients.

    The strategy's own moments (FedAdam and its kin) lie in the state, so that a run can go on
    from a checkpoint.
    """

    strategy: FedAvg
    declared: Mapping[str, int]
    rounds: int
    average_from: float

    def step(self, state: State, updates: Mapping[str, Vector]) -> State:
        """Let the strategy combine the sites' models."""
        replies = [
            _reply(number, state.weights + change, self.declared[site])
            for number, (site, change) in enumerate(updates.items(), start=1)
        ]
        _restore(self.strategy, state)
        arrays, _ = self.strategy.aggregate_train(state.round_number + 1, replies)
        if arrays is None:
            return state
        weights = np.asarray(arrays[_NAME].numpy(), dtype=np.float64)
        following = state.advance(weights, self.rounds, self.average_from)
        return replace(following, velocity=_moments(self.strategy, state))


def _reply(node: int, weights: Vector, declared: int) -> Message:
    content = RecordDict(
        {
            "arrays": ArrayRecord({_NAME: Array(weights)}),
            "metrics": MetricRecord({"num-examples": declared}),
        }
    )
    return Message(content, node, MessageType.TRAIN)


def _restore(strategy: FedAvg, state: State) -> None:
    """Give an adaptive strategy the current model and its moments."""
    if isinstance(strategy, FedAdam | FedYogi | FedAdagrad):
        strategy.current_arrays = {_NAME: state.weights}
        first, second = np.split(state.velocity, 2) if state.round_number else (None, None)
        strategy.m_t = None if first is None else {_NAME: first}
        strategy.v_t = None if second is None else {_NAME: second}


def _moments(strategy: FedAvg, state: State) -> Vector:
    if isinstance(strategy, FedAdam | FedYogi | FedAdagrad) and strategy.m_t and strategy.v_t:
        return np.concatenate([strategy.m_t[_NAME], strategy.v_t[_NAME]])
    return state.velocity


def make_strategy(study: Study) -> FedAvg:
    """Return Flower's strategy that the study names, with Flower's own settings."""
    if study.strategy == "krum":
        return Krum(num_malicious_nodes=study.c)
    if study.strategy == "fedprox":
        return FedProx(proximal_mu=study.training.pull)
    plain: dict[str, type[FedAvg]] = {
        "fedavg": FedAvg,
        "fedadam": FedAdam,
        "fedyogi": FedYogi,
        "fedadagrad": FedAdagrad,
        "fedmedian": FedMedian,
        "fedtrimmedavg": FedTrimmedAvg,
    }
    return plain[study.strategy]()


def make_combiner(
    study: Study, start: Vector, ridge: float, declared: Mapping[str, int]
) -> Combiner:
    """Return how `study` combines what the sites release."""
    training = study.training
    if study.strategy != "descent":
        return FlowerStrategy(
            make_strategy(study), declared, training.rounds, training.average_from
        )
    optimizers = [
        Optimizer(
            learning_rate=each.learning_rate,
            momentum=each.training.momentum,
            ridge=min(ridge, largest_ridge(each.learning_rate, each.training.momentum)),
            start=start,
            rounds=training.rounds,
            average_from=each.training.average_from,
        )
        for each in study.settings
    ]
    return Descent(optimizers, declared)
