"""Job J as a bare loop over Opacus: what the same training costs without any federation code.

Opacus' own module, clipping, noise and optimizer; plain torch layers in float64; batches are
Poisson samples of the same expected size; models are averaged after every round.
"""

from __future__ import annotations

import math
import time
import warnings
from itertools import pairwise

import numpy as np
import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from polyclinic_simulations.bench.size import CLIP, SEED, Size, made_up_patients

# Noise multiplier and learning rate do not change the time of a step.
NOISE_MULTIPLIER, LEARNING_RATE = 1.0, 0.5

# Opacus hooks a first layer whose input needs no gradient; torch remarks on that at every call.
warnings.filterwarnings("ignore", message="Full backward hook is firing")


def train(size: Size) -> float:
    """Train and return the seconds that the rounds took."""
    sites = [_tensors(size, site) for site in range(size.sites)]
    network = GradSampleModule(_network(size), loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.SGD(network.parameters(), lr=LEARNING_RATE),
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=CLIP,
        expected_batch_size=size.batch,
        loss_reduction="mean",
    )
    generator = np.random.default_rng(SEED)
    model = [parameter.detach().clone() for parameter in network.parameters()]
    began = time.perf_counter()
    for _ in range(size.rounds):
        trained = [_epoch(network, optimizer, model, site, size, generator) for site in sites]
        model = [torch.stack(parts).mean(dim=0) for parts in zip(*trained, strict=True)]
    return time.perf_counter() - began


def _tensors(size: Size, site: int) -> tuple[Tensor, Tensor]:
    x, y = made_up_patients(size, site)
    return torch.from_numpy(x), torch.from_numpy(y)


def _network(size: Size) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size_in, size_out in pairwise((size.columns, *size.hidden)):
        layers += [nn.Linear(size_in, size_out), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear((size.columns, *size.hidden)[-1], 1)).double()


def _epoch(
    network: GradSampleModule,
    optimizer: DPOptimizer,
    model: list[Tensor],
    site: tuple[Tensor, Tensor],
    size: Size,
    generator: np.random.Generator,
) -> list[Tensor]:
    """Take one epoch of DP-SGD steps from `model` and return where it ends."""
    x, y = site
    rate = min(1.0, size.batch / len(x))
    with torch.no_grad():
        for parameter, start in zip(network.parameters(), model, strict=True):
            parameter.copy_(start)
    for _ in range(math.ceil(1.0 / rate)):
        rows = np.flatnonzero(generator.random(len(x)) < rate)
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(network(x[rows]), y[rows], reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return [parameter.detach().clone() for parameter in network.parameters()]
