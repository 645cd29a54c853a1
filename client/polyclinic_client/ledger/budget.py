"""What an account has spent, what open approvals may still spend, and what else fits."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from dataclasses import asdict, dataclass

from polyclinic_client.ledger.entries import Approval, Planned
from polyclinic_client.ledger.state import ApprovalState, LedgerState
from polyclinic_common.privacy import gdp
from polyclinic_common.privacy.account import (
    how_many_fit,
    spent_epsilon,
    two_hospitals_epsilon,
)
from polyclinic_common.privacy.charges import LEAST_VARIANCE, Charge, GaussianSum

_PROBE_VARIANCE = LEAST_VARIANCE**2
_STEPS = 100  # mu of the largest answer, in steps of the search


@dataclass(frozen=True)
class Line:
    """One kind of release of one approval.

    Attributes
    ----------
    done, left : int
        Releases made, and still allowed.
    at_fallback : int
        Rounds of the approval that stand at fallback now.
    more_fit : int
        How many more releases at this headline price the account could carry besides everything
        that is approved: room for another run of this study; 0 once the approval has ended.
    """

    study_hash: str
    run: str | None
    kind: str
    releases: int
    done: int
    left: int
    at_fallback: int
    lost_rounds: int
    expires: str
    open: bool
    more_fit: int


@dataclass(frozen=True)
class Budget:
    """The account in epsilons, all at the account's delta.

    Attributes
    ----------
    spent : float
        As counted: settled releases at what they settled, all others at fallback.
    settled : float
        Settled releases alone.
    fallback : float
        If every release counted at fallback.
    two_hospitals : float
        What was spent on a patient whom two hospitals of the runs hold.
    lost : float
        The part charged for rows that were lost.
    promised : float
        `spent` with everything that open approvals may still cost.
    next_epsilon : float
        The largest headline epsilon of a further study that fits besides what is promised.
    """

    delta: float
    epsilon_cap: float
    fallback_cap: float | None
    spent: float
    settled: float
    fallback: float
    two_hospitals: float
    lost: float
    promised: float
    next_epsilon: float
    releases: int
    declared_reset: bool
    lines: tuple[Line, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the budget for ``--json``; an infinite epsilon is null."""
        plain = asdict(self)
        return {
            name: None if isinstance(value, float) and math.isinf(value) else value
            for name, value in plain.items()
        }


def budget(state: LedgerState, today: dt.date) -> Budget:
    """Return the budget of an account."""
    delta, promised = state.delta, state.counted + state.outstanding(today)
    return Budget(
        delta=delta,
        epsilon_cap=state.epsilon_cap,
        fallback_cap=state.fallback_cap,
        spent=spent_epsilon(state.counted, delta),
        settled=spent_epsilon(state.settled, delta),
        fallback=spent_epsilon(state.fallback, delta),
        two_hospitals=two_hospitals_epsilon(state.counted, delta),
        lost=spent_epsilon(state.lost, delta),
        promised=spent_epsilon(promised, delta),
        next_epsilon=largest_epsilon(promised, state.epsilon_cap, delta),
        releases=len(state.releases),
        declared_reset=state.opened is not None and state.opened.declared_reset,
        lines=tuple(
            _line(state, promised, approved, item, today)
            for approved in state.approvals.values()
            for item in approved.approval.planned
        ),
    )


def caps_needed(approval: Approval, delta: float) -> tuple[float, float]:
    """Return the least epsilon cap and fallback cap under which an approval alone can be kept.

    The first counts, besides the rounds that may be lost, two rounds under way at fallback.
    """
    return (
        spent_epsilon(approval.worst_case(), delta),
        spent_epsilon(approval.all_at_fallback(), delta),
    )


def largest_epsilon(account: Counter[Charge], cap: float, delta: float) -> float:
    """Return the largest epsilon of further unsampled releases that fit under the cap together.

    Found by counting how many releases fit of which 10,000 alone make up the cap.
    """
    mu = gdp.mu_of(cap, delta) / _STEPS
    probe = GaussianSum(
        sensitivity=mu * math.sqrt(_PROBE_VARIANCE - 1 / 12),
        variance=_PROBE_VARIANCE,
        shares=1,
        length=1,
    )
    return gdp.epsilon_of(mu * math.sqrt(how_many_fit(account, probe, cap, delta)), delta)


def _line(
    state: LedgerState,
    promised: Counter[Charge],
    approved: ApprovalState,
    item: Planned,
    today: dt.date,
) -> Line:
    done, is_open = approved.reserved[item.kind], approved.is_open(today)
    approval, cap, delta = approved.approval, state.epsilon_cap, state.delta
    return Line(
        study_hash=approval.study_hash.hex(),
        run=approval.run,
        kind=item.kind,
        releases=item.releases,
        done=done,
        left=item.releases - done if is_open else 0,
        at_fallback=len(approved.rounds_at_fallback()),
        lost_rounds=approval.lost_rounds,
        expires=approval.expires.isoformat(),
        open=is_open,
        more_fit=how_many_fit(promised, item.headline, cap, delta) if is_open else 0,
    )
