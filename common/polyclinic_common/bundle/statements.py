"""What is signed about a bundle after it was made: it is called back, or a hospital rejects it.

Made and read as every statement (`identity.statement`). A bundle's digest names it whoever signs.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from polyclinic_common.bundle.rejecting import Rejecting
from polyclinic_common.errors import BundleError, Code, MessageError
from polyclinic_common.identity.statement import Digest, Statement, read_signed
from polyclinic_common.text import is_control

LONGEST_REASON = 300


def _one_line(text: str) -> str:
    if not text.strip() or any(is_control(letter) for letter in text):
        raise ValueError("a reason is one line of plain text")
    return text


def _day(text: str) -> str:
    return dt.date.fromisoformat(text).isoformat()


Reason = Annotated[str, Field(max_length=LONGEST_REASON), AfterValidator(_one_line)]


class BundleWithdrawal(Statement):
    """The operator calls a bundle back: nobody is to predict with it any more.

    `identity` is the operator's key, `study_hash` and `run` are those of the bundle.

    Attributes
    ----------
    number : int
        1, 2, 3 … in the order in which bundles of this consortium were called back.
    digest : bytes
        The bundle.
    reason : str
        In the operator's words, one line.
    day : str
        The day, ISO 8601.
    """

    label: ClassVar[str] = "polyclinic bundle withdrawal"

    number: Annotated[int, Field(ge=1)]
    digest: Digest
    reason: Reason
    day: Annotated[str, AfterValidator(_day)]

    @property
    def sentence(self) -> str:
        """Number, day and reason in one line."""
        return f"withdrawal {self.number} of {self.day}: {self.reason}"


class BundleRejection(Statement):
    """A hospital will not use a bundle.

    Attributes
    ----------
    digest : bytes
        The bundle.
    code : str
        Why, a word of the public list: nothing that was measured here.
    """

    label: ClassVar[str] = "polyclinic bundle rejection"

    digest: Digest
    code: Rejecting


def read_withdrawal(operator_key: bytes, signed: bytes) -> BundleWithdrawal:
    """Return a withdrawal that the operator signed.

    Raises
    ------
    BundleError
        B072 if it is none, or not this operator's.
    """
    try:
        withdrawal = read_signed(BundleWithdrawal, signed)
    except MessageError:
        raise _not_signed() from None
    if withdrawal.identity != operator_key:
        raise _not_signed()
    return withdrawal


def _not_signed() -> BundleError:
    return BundleError(
        Code.WITHDRAWAL_REFUSED,
        "A withdrawal of a bundle was refused: it is not what this consortium's operator signed.",
        "Telephone the operator; until that is clear, predict with no bundle of the consortium.",
    )
