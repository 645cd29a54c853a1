"""How a study's budget is shared out among the kinds of release."""

from __future__ import annotations

import math

from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.privacy import gdp
from polyclinic_common.privacy.charges import Vote
from polyclinic_common.releases.kinds import SumKind, kinds_of
from polyclinic_common.study.manifest import Study

ROUNDING = 1e-3


def vote_of(study: Study) -> Vote | None:
    """Return what a hospital's vote on the trained model costs; None where none is asked for."""
    acceptance = study.evaluation.acceptance
    if acceptance is None or study.privacy.mode == "none":
        return None
    return Vote(epsilon=acceptance.epsilon)


def training_share(study: Study) -> float:
    """Return the share of the budget's mu^2 that all other releases leave to training.

    The order of the differences is part of every signed price: it decides the last digit.

    Raises
    ------
    PrivacyError
        If they leave nothing.
    """
    share = 1.0
    for kind in reversed(kinds_of(study)):
        share -= kind.beside(study) if isinstance(kind, SumKind) else 0.0
    vote = vote_of(study)
    if vote is not None:
        share -= (vote.mu / gdp.mu_of(study.privacy.epsilon, study.privacy.delta)) ** 2
    if share <= 0.0:
        raise PrivacyError(
            Code.PRIVACY_PLAN,
            "Metrics, calibration and the vote leave nothing of the budget to training.",
            "Lower their shares or evaluation.acceptance.epsilon, or raise privacy.epsilon.",
        )
    return share


def share_of(study: Study, kind: SumKind) -> float:
    """Return the share of the budget's mu^2 that all releases of a kind have together."""
    if not (kind.is_training or kind.of_training):
        return kind.beside(study)
    left = training_share(study)
    if kind.of_training:
        return left * kind.of_training
    for other in kinds_of(study):
        left *= 1.0 - (other.of_training if isinstance(other, SumKind) else 0.0)
    return left


def most_patients(declared: int) -> int:
    """Return the public bound on a hospital's patients: the power of two from twice declared."""
    return 1 << (2 * declared - 1).bit_length()


def honest_shares(study: Study) -> int:
    """Return how many hospitals' noise counts in the headline: h = m - c; 1 in other modes."""
    return study.m - study.c if study.privacy.mode == "secure-sum" else 1


def part_of(epsilon: float, delta: float, share: float) -> float:
    """Return the epsilon of this share of the budget's mu^2; a part a little less, for rounding."""
    if share == 1.0:
        return epsilon
    room = gdp.mu_of(epsilon, delta) * math.sqrt(share)
    return gdp.epsilon_of(room, delta) * (1.0 - ROUNDING)
