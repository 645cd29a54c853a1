"""What the ledger allows: pure checks of a state against the next row, each a coded refusal.

Every refusal is a function of messages and public mechanisms; none depends on a patient.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter

from polyclinic_client.ledger.entries import (
    UNDER_WAY,
    Approval,
    Attempted,
    Planned,
    Price,
    Reserved,
)
from polyclinic_client.ledger.state import ApprovalState, LedgerState, ReleaseState
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.privacy.account import fits, spent_epsilon
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.secure_sum.chain import Chain, extends, is_nested

_TOLD = "Report it to the operator; what the ledger holds stands."


def conflict(what: str) -> LedgerError:
    """Return the error for a request that contradicts what the ledger holds."""
    return LedgerError(Code.LEDGER_CONFLICT, what, _TOLD)


def over_budget(what: str) -> LedgerError:
    """Return the error for a request that costs more than was agreed."""
    return LedgerError(
        Code.LEDGER_OVER_BUDGET,
        what,
        "See what is left: polyclinic client ledger budget; topup raises the limit.",
    )


def not_approved(what: str) -> LedgerError:
    """Return the error for a request that this hospital did not agree to."""
    return LedgerError(
        Code.LEDGER_NOT_APPROVED, what, "Approve the study first, if the hospital agrees to it."
    )


def check_caps(epsilon_cap: float, fallback_cap: float | None) -> None:
    """Refuse limits that are none."""
    for cap in (epsilon_cap, fallback_cap):
        if cap is not None and not 0 < cap < math.inf:
            raise LedgerError(
                Code.PRIVACY_PARAMETER,
                f"Epsilon {cap:g} is no limit.",
                "Give a positive, finite epsilon.",
            )


def check_approve(state: LedgerState, approval: Approval, today: dt.date) -> None:
    """Refuse an approval that is expired or contradictory, or could not be carried through."""
    if today > approval.expires:
        raise _expired(approval)
    key = (approval.study_hash, approval.run)
    if key in state.approvals:
        raise conflict("This study was approved before, on other terms or until withdrawn.")
    if approval.run in state.closed_runs:
        raise conflict(f"The run {approval.run} is closed.")
    if len({item.kind for item in approval.planned}) != len(approval.planned):
        raise conflict("An approval names a kind of release twice.")
    total = state.counted + state.outstanding(today) + approval.worst_case()
    _check_total(total, state.epsilon_cap, state.delta, "the account's limit")
    if state.fallback_cap is not None:
        bounds = [
            each.approval.all_at_fallback(each.reserved) for each in state.open_approvals(today)
        ]
        total = sum(bounds, state.fallback + approval.all_at_fallback())
        _check_total(total, state.fallback_cap, state.delta, "the limit at fallback")


def check_reserve(
    state: LedgerState, wanted: Reserved, today: dt.date, settling: tuple[ReleaseId, ...] = ()
) -> None:
    """Refuse a new release that was not approved, is out of its time, or costs too much.

    `settling` are releases that the same transaction settles at headline first.
    """
    release = wanted.release
    if release.run in state.closed_runs:
        raise conflict(f"The run {release.run} is closed.")
    if state.study_of.get(release.run, wanted.study_hash) != wanted.study_hash:
        raise conflict(f"The run {release.run} belongs to another study.")
    approved = check_approved(state, wanted.study_hash, release.run, today)
    item = _item(approved, release.kind)
    if (item.headline, item.fallback) != (wanted.headline, wanted.fallback):
        raise not_approved(f"The {release} would cost something else than was approved.")
    if approved.reserved[release.kind] >= item.releases:
        raise over_budget(f"All {item.releases} approved releases of this kind were made.")
    _check_lost_rounds(approved, release, settling)
    counted = state.counted_with(settling)
    if not fits(counted, wanted.fallback, state.epsilon_cap, state.delta):
        raise over_budget(f"The {release} would pass the account's limit {state.epsilon_cap:g}.")
    cap = state.fallback_cap
    if cap is not None and not fits(state.fallback, wanted.fallback, cap, state.delta):
        raise over_budget(f"The {release} would pass the limit at fallback {cap:g}.")


def check_same(held: ReleaseState, wanted: Reserved) -> None:
    """Refuse a second, different request for a release that is reserved already."""
    if not held.reserved.asks_the_same(wanted):
        raise conflict(f"The {wanted.release} was reserved for another model, history or format.")


def check_usable(state: LedgerState, release: ReleaseId, today: dt.date) -> ReleaseState:
    """Return a reserved release whose vector may still leave."""
    held = held_release(state, release)
    if release.run in state.closed_runs:
        raise conflict(f"The run {release.run} is closed.")
    if held.dropped:
        raise conflict(f"The {release} was begun before rows of the ledger were lost.")
    check_approved(state, held.reserved.study_hash, release.run, today)
    return held


def check_attempt(
    state: LedgerState, attempt: Attempted, own: bytes, today: dt.date
) -> ReleaseState:
    """Refuse an attempt that is not the next, or the same, of this release's one chain."""
    release = attempt.release
    held = check_usable(state, release, today)
    if held.closed is not None or held.settled is not None:
        raise conflict(f"This site has closed the {release}.")
    if attempt.chain and not is_nested(attempt.chain):
        raise conflict(f"The attempts of the {release} are not nested.")
    if attempt.chain and own not in attempt.chain[-1]:
        raise conflict(f"This site is not in the last attempt of the {release}.")
    if not extends(held.chain, attempt.chain):
        raise conflict(f"The attempts of the {release} do not extend those answered before.")
    if held.attempts.get(attempt.moment, attempt.payload) != attempt.payload:
        raise conflict(f"Another payload was made for this attempt of the {release}.")
    return held


def check_closing(state: LedgerState, release: ReleaseId, chain: Chain) -> ReleaseState:
    """Refuse to close over a chain that does not extend the one answered."""
    held = held_release(state, release)
    if held.closed is not None and held.closed != chain:
        raise conflict(f"The {release} was closed over other attempts.")
    if (chain and not is_nested(chain)) or not extends(held.chain, chain):
        raise conflict(f"The attempts closed do not extend those answered for the {release}.")
    return held


def check_settle(state: LedgerState, release: ReleaseId, at: Price) -> ReleaseState:
    """Refuse to settle at headline what is not closed over this site's own chain, or to go back."""
    held = held_release(state, release)
    if at == held.settled:
        return held
    if held.settled == "headline":
        raise conflict(f"The {release} is settled at headline.")
    if at == "headline" and held.at_fallback and not held.closed_as_answered:
        raise conflict(f"The {release} is not closed over the attempts that this site answered.")
    return held


def check_approved(
    state: LedgerState, study_hash: bytes, run: str, today: dt.date
) -> ApprovalState:
    """Return the approval that covers a run and has neither ended nor expired."""
    approved = state.approval_for(study_hash, run)
    if approved is None or approved.ended is not None:
        raise not_approved(f"This hospital has no approval for the run {run} of that study.")
    if today > approved.approval.expires:
        raise _expired(approved.approval)
    return approved


def held_release(state: LedgerState, release: ReleaseId) -> ReleaseState:
    """Return a reserved release."""
    held = state.releases.get(release)
    if held is None:
        raise conflict(f"The {release} was never reserved.")
    return held


def _item(approved: ApprovalState, kind: str) -> Planned:
    item = approved.approval.plan_of(kind)
    if item is None:
        raise not_approved(f"The approval names no release of kind {kind}.")
    return item


def _check_lost_rounds(
    approved: ApprovalState, release: ReleaseId, settling: tuple[ReleaseId, ...]
) -> None:
    lost = {
        (each.run, each.round_number) for each in approved.unsettled if each not in settling
    } - {(release.run, release.round_number)}
    if len(lost) >= approved.approval.lost_rounds + UNDER_WAY:
        raise over_budget(
            f"{len(lost)} earlier rounds stand at fallback; "
            f"{approved.approval.lost_rounds} were approved to stay there."
        )


def _check_total(total: Counter[Charge], cap: float, delta: float, what: str) -> None:
    needed = spent_epsilon(total, delta)
    if needed > cap:
        raise over_budget(
            f"With all that is approved the account could reach epsilon {needed:.3g}, "
            f"beyond {what} {cap:g}."
        )


def _expired(approval: Approval) -> LedgerError:
    return LedgerError(
        Code.STUDY_EXPIRED,
        f"The approval ended on {approval.expires.isoformat()}.",
        "A study with a later date needs a new approval.",
    )
