"""How a site says no: a coded reason, or nothing at all."""

from __future__ import annotations

from polyclinic_common.errors import Code
from polyclinic_common.wire import Reason


class RefusalError(Exception):
    """A request is refused; the reason is all that leaves."""

    def __init__(self, reason: Reason):
        super().__init__(reason.value)
        self.reason = reason


class SilenceError(Exception):
    """Nothing leaves, not even a refusal: what failed could depend on more than messages."""


REASON_OF = {
    Code.LEDGER_OVER_BUDGET: Reason.OVER_BUDGET,
    Code.LEDGER_NOT_APPROVED: Reason.NOT_APPROVED,
    Code.STUDY_EXPIRED: Reason.EXPIRED,
    Code.LEDGER_CONFLICT: Reason.OUT_OF_ORDER,
    Code.LEDGER_BEHIND: Reason.OUT_OF_ORDER,
}
