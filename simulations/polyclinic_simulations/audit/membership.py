"""Membership inference on the released model: whether anybody can tell who was in the training.

Shadow models are trained as the study trains, on random halves of all patients: with its noise, and
without clip and noise. The private ones get the noise of h honest shares once, the least that a
released model of mode secure-sum holds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from polyclinic_common.data.encoding import Cohort
from polyclinic_common.models.head import build_network
from polyclinic_common.models.score_head import logits
from polyclinic_common.privacy import gdp
from polyclinic_common.study import Study
from polyclinic_simulations.audit.attack import (
    FALSE_ALARMS,
    Design,
    Floats,
    Success,
    lira,
    rmia,
    success,
)
from polyclinic_simulations.baselines.alone import train_alone
from polyclinic_simulations.federation.federation import Federation, build_federation
from polyclinic_simulations.federation.setting import Setting

MODELS = 256


@dataclass(frozen=True)
class Attacked:
    """One way of training under both attacks."""

    training: str
    lira: Success
    rmia: Success


@dataclass(frozen=True)
class MembershipAudit:
    """Private beside non-private.

    Attributes
    ----------
    ceiling : float
        The most members that anybody can find at this epsilon, with one false alarm in a hundred.
    """

    study: str
    epsilon: float
    delta: float
    patients: int
    models: int
    ceiling: float
    seconds: float
    attacked: tuple[Attacked, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the audit for ``--json``."""
        return asdict(self)


def audit_membership(
    study: Study,
    frame: pd.DataFrame,
    models: int = MODELS,
    advance: Callable[[], object] = lambda: None,
) -> MembershipAudit:
    """Attack models of a study, private and not.

    Parameters
    ----------
    models : int
        Models of each kind: every one is attacked, with the others as its shadows.
    advance : callable
        Called after every model.
    """
    began = time.perf_counter()
    epsilon, delta = study.privacy.epsilon, study.privacy.delta
    trainings = {
        f"private, epsilon {epsilon:g}": Setting("local", epsilon, "descent"),
        "no privacy": Setting("none", None, "descent"),
    }
    attacked, patients = [], 0
    for name, setting in trainings.items():
        made = build_federation(setting.apply(study), frame, seed=0)
        everybody = Cohort.concatenate([made.pooled, *(site.test for site in made.sites)])
        known = everybody.take(np.asarray(everybody.mask.any(axis=1), dtype=np.bool_))
        member = halves(models, len(known))
        outputs = _train(made, setting, known, member, advance)
        attacked.append(_attack(name, study.loss, outputs, known, member))
        patients = len(known)
    return MembershipAudit(
        study=study.id,
        epsilon=epsilon,
        delta=delta,
        patients=patients,
        models=models,
        ceiling=most_hits(gdp.mu_of(epsilon, delta)),
        seconds=time.perf_counter() - began,
        attacked=tuple(attacked),
    )


def halves(models: int, patients: int) -> Design:
    """Return who is in the training of what: random halves, and after each the other half."""
    generator = np.random.default_rng(0)
    chosen = generator.permuted(
        np.tile(np.arange(patients) < patients // 2, (math.ceil(models / 2), 1)), axis=1
    )
    return np.stack([chosen, ~chosen], axis=1).reshape(-1, patients)[:models]


def most_hits(mu: float, alarms: float = FALSE_ALARMS) -> float:
    """Return the most members that can be found: Dong, Roth and Su (2022), equation 6."""
    return float(ndtr(ndtri(alarms) + mu))


def _train(
    made: Federation, setting: Setting, known: Cohort, member: Design, advance: Callable[[], object]
) -> Floats:
    """Return every model's outputs for all patients, shape (models, patients, K)."""
    network = build_network(made.study, made.encoding)
    outputs = []
    for chosen in member:
        declared = max(10, round(int(chosen.sum()) / 10) * 10)
        weights = train_alone(made, known.take(chosen), declared, setting)
        outputs.append(logits(network, weights, known.x))
        advance()
    return np.stack(outputs)


def _attack(name: str, loss: str, outputs: Floats, known: Cohort, member: Design) -> Attacked:
    likelihood = log_likelihood(loss, outputs, known)
    signal = outputs[:, :, 0] if outputs.shape[2] == 1 else likelihood
    return Attacked(
        name,
        success(lira(signal, member), member),
        success(rmia(likelihood), member),
    )


def log_likelihood(loss: str, outputs: Floats, known: Cohort) -> Floats:
    """Return the log-likelihood of every patient's outcome, shape (models, patients).

    A continuous outcome counts as normal, with the variance that the models leave.
    """
    if loss in {"logistic", "hazard"}:
        signs = 2.0 * known.y - 1.0
        return np.asarray((-np.logaddexp(0.0, -signs * outputs) * known.mask).sum(axis=2))
    errors = ((outputs - known.y) * known.mask)[:, :, 0]
    return np.asarray(-0.5 * errors**2 / np.mean(errors**2))
