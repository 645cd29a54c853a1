"""Attacks on membership find what is there to be found, and no more than epsilon allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

from polyclinic_simulations.audit.attack import lira, rmia, success
from polyclinic_simulations.audit.membership import audit_membership, halves, most_hits
from polyclinic_simulations.audit.membership_plot import membership_plot
from tests.kits.small import small_study, small_table
from tests.kits.typed import answer, output


def test_lira_reaches_the_best_curve_where_signals_are_normal() -> None:
    """Signals that shift by mu: the area of the best attack is Phi(mu / sqrt 2)."""
    generator, mu = np.random.default_rng(1), 1.0
    member = halves(400, 400)
    offset = generator.normal(0, 20, 400)
    scores = lira(offset + generator.normal(size=member.shape) + mu * member, member)
    found = success(scores, member)
    assert found.auc == pytest.approx(float(ndtr(mu / np.sqrt(2))), abs=0.02)
    assert found.hit_rate == pytest.approx(most_hits(mu), abs=0.02)
    assert found.hit_rate_interval[0] < found.hit_rate < found.hit_rate_interval[1]


def test_attacks_find_nobody_where_membership_leaves_no_trace() -> None:
    member = halves(64, 400)
    signal = np.random.default_rng(2).normal(size=member.shape)
    for scores in (lira(signal, member), rmia(signal)):
        found = success(scores, member)
        assert found.auc == pytest.approx(0.5, abs=0.01)
        assert found.hit_rate == pytest.approx(0.01, abs=0.005)


def test_rmia_is_above_chance_where_members_are_likelier() -> None:
    member = halves(32, 300)
    likelihood = np.random.default_rng(3).normal(size=member.shape) - 1.0 + 0.8 * member
    assert success(rmia(likelihood), member).auc > 0.65


def test_every_patient_is_in_half_of_the_models() -> None:
    member = halves(10, 31)
    assert member.shape == (10, 31)
    assert (member.sum(axis=0) == 5).all()


@pytest.mark.parametrize("kind", ["binary", "continuous", "survival"])
def test_private_models_give_less_away_than_others(kind: str) -> None:
    """Non-private models of 120 patients are attacked with success, private ones within epsilon.

    Area at epsilon 1 at most Phi(0.27 / sqrt 2) = 0.575; the margin is six standard errors.
    """
    audit = audit_membership(small_study(kind), small_table(), models=16)
    private, plain = audit.attacked
    assert private.rmia.auc < 0.575 + 0.08
    assert private.lira.auc < 0.575 + 0.08
    assert max(plain.rmia.auc, plain.lira.auc) > 0.5
    assert audit.ceiling == pytest.approx(0.0198, abs=1e-4)
    assert "LiRA finds" in membership_plot(audit).alt


def test_the_command_prints_writes_and_draws(tmp_path: Path) -> None:
    command = ("audit", "membership", "gbsg2", "--models", 8)
    shown = output(*command, "--out", tmp_path / "roc.svg")
    for word in ("LiRA", "RMIA", "no privacy", "by any attack"):
        assert word in shown
    assert (tmp_path / "roc.svg").read_text().startswith("<svg")
    assert answer(*command)["models"] == 8
