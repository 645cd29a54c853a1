"""What server and sites say to each other: every kind of message, and nothing else.

Every class carries its label; one that a site sends says why it is free, or nothing if the ledger
holds its price, under its round and kind.

A message checks itself when it is made: a wrong type, shape, range, or a number that is not
finite is refused with pydantic's `ValidationError`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from polyclinic_common.identity.statement import Statement
from polyclinic_common.release_id import VOTE, ReleaseId
from polyclinic_common.secure_sum.chain import Chain, transcript
from polyclinic_common.secure_sum.statements import Closing, KeyAnnouncement, KeyAnswer

MAX_LENGTH = 1 << 21  # 16 MiB, in one call
STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, extra="forbid")


class Reason(StrEnum):
    """Why a site refuses; each depends on messages and public parameters alone."""

    NOT_APPROVED = "not_approved"
    EXPIRED = "expired"
    BAD_SIGNATURE = "bad_signature"
    OUT_OF_ORDER = "out_of_order"
    PARTICIPANT_RULE = "participant_rule"
    OVER_BUDGET = "over_budget"


def _vector(dtype: str) -> AfterValidator:
    def check(vector: NDArray[np.generic]) -> NDArray[np.generic]:
        if vector.dtype != np.dtype(dtype) or vector.ndim != 1:
            raise PydanticCustomError(
                "vector", "the vector is not one-dimensional {t}", {"t": dtype}
            )
        if not 1 <= vector.size <= MAX_LENGTH:
            raise PydanticCustomError("vector", "the vector has no permitted length")
        if not np.isfinite(vector).all():
            raise PydanticCustomError("vector", "the vector is not finite")
        return vector

    return AfterValidator(check)


Name = Annotated[str, Field(max_length=64)]
Round = Annotated[int, Field(ge=1, le=1_000_000)]
Digest = Annotated[bytes, Field(min_length=32, max_length=32)]
Signed = Annotated[bytes, Field(max_length=1 << 20)]
Statements = Annotated[tuple[Signed, ...], Field(max_length=1000)]
Weights = Annotated[np.ndarray, _vector("float64")]
Words = Annotated[np.ndarray, _vector("uint64")]


@dataclass(frozen=True, config=STRICT)
class SumRecord:
    """A finished sum of the run's history.

    Attributes
    ----------
    before : bytes
        Digest of all sums before it; empty at the start of a run.
    round_number, kind, chain, broadcast : int, str, Chain, bytes
        The sum: its name, its final chain, and the hash of the model that was sent out.
    """

    before: bytes
    round_number: Round
    kind: Name
    chain: Chain
    broadcast: Digest

    def digest(self, run: str) -> bytes:
        """Return the digest of the history up to and with this sum."""
        release = ReleaseId(run, self.round_number, self.kind)
        return transcript(self.before, release, self.chain, self.broadcast)


@dataclass(frozen=True, config=STRICT)
class TrainRequest:
    """The server asks a site for a private release of one round; `weights` are the model."""

    label: ClassVar[str] = "train_request"
    study_hash: Name
    run_id: Name
    round_number: Round
    kind: Name
    weights: Weights


@dataclass(frozen=True, config=STRICT)
class OpenRequest:
    """The server asks a site for the keys of a run."""

    label: ClassVar[str] = "open_request"
    study_hash: Name
    run_id: Name


@dataclass(frozen=True, config=STRICT)
class Introduction:
    """The server passes on all sites' announcements."""

    label: ClassVar[str] = "introduction"
    study_hash: Name
    run_id: Name
    announcements: Statements


@dataclass(frozen=True, config=STRICT)
class SumRequest:
    """The server asks a site for its masked vector.

    Attributes
    ----------
    chain : Chain
        All attempts of this sum; the last is the one asked for.
    previous : SumRecord or None
        The sum before this one; None in the first of a run.
    answers : tuple of bytes
        All sites' key answers.
    closings : tuple of bytes
        Closing statements of earlier sums that the server has collected.
    weights : array of shape (d,), float64
        The current model.
    """

    label: ClassVar[str] = "sum_request"
    study_hash: Name
    run_id: Name
    round_number: Round
    kind: Name
    chain: Chain
    previous: SumRecord | None
    answers: Statements
    closings: Statements
    weights: Weights


@dataclass(frozen=True, config=STRICT)
class CloseRequest:
    """The server asks a member of the last sum's last set to close it."""

    label: ClassVar[str] = "close_request"
    study_hash: Name
    run_id: Name
    previous: SumRecord
    closings: Statements


@dataclass(frozen=True, config=STRICT)
class SettleRequest:
    """The server passes on the last sum's closing statements and ends the run."""

    label: ClassVar[str] = "settle_request"
    study_hash: Name
    run_id: Name
    closings: Statements


@dataclass(frozen=True, config=STRICT)
class VoteRequest:
    """The server asks a site whether it accepts the trained model."""

    label: ClassVar[str] = "vote_request"
    kind: ClassVar[str] = VOTE
    study_hash: Name
    run_id: Name
    round_number: Round
    weights: Weights


@dataclass(frozen=True, config=STRICT)
class CastVote:
    """A site's randomised yes (1) or no (0), sent to abstain too."""

    label: ClassVar[str] = "cast_vote"
    free: ClassVar[str] = ""
    kind: ClassVar[str] = VOTE
    study_hash: Name
    run_id: Name
    round_number: Round
    in_favour: Annotated[int, Field(ge=0, le=1)]


@dataclass(frozen=True, config=STRICT)
class PrivateUpdate:
    """Mode local: a site's own noisy release, shape (d,), float64, multiples of a public grid."""

    label: ClassVar[str] = "private_update"
    free: ClassVar[str] = ""
    study_hash: Name
    run_id: Name
    round_number: Round
    kind: Name
    vector: Weights


@dataclass(frozen=True, config=STRICT)
class MaskedVector:
    """Mode secure-sum: a site's masked noisy integers, shape (d,), uint64.

    `session` names the key exchange whose masks are on it; `closing` is this site's statement on
    the sum before (empty where it has none to make).
    """

    label: ClassVar[str] = "masked_vector"
    free: ClassVar[str] = ""
    study_hash: Name
    run_id: Name
    round_number: Round
    kind: Name
    attempt: Annotated[int, Field(ge=1, le=1000)]
    session: Digest
    closing: Signed
    vector: Words


@dataclass(frozen=True, config=STRICT)
class AnnouncedKeys:
    """A signed key announcement."""

    label: ClassVar[str] = "announced_keys"
    free: ClassVar[str] = "keys and ledger heads; no patient goes into them"
    said: ClassVar[type[Statement]] = KeyAnnouncement
    statement: Signed


@dataclass(frozen=True, config=STRICT)
class AnsweredKeys:
    """A signed key answer."""

    label: ClassVar[str] = "answered_keys"
    free: ClassVar[str] = "ciphertexts and ledger heads; no patient goes into them"
    said: ClassVar[type[Statement]] = KeyAnswer
    statement: Signed


@dataclass(frozen=True, config=STRICT)
class ClosedSum:
    """A signed closing statement."""

    label: ClassVar[str] = "closed_sum"
    free: ClassVar[str] = "says which messages came; no patient goes into it"
    said: ClassVar[type[Statement]] = Closing
    statement: Signed


@dataclass(frozen=True, config=STRICT)
class Receipt:
    """The run is over for this site, and its stored vectors are erased."""

    label: ClassVar[str] = "receipt"
    free: ClassVar[str] = "says that the run is over; no patient goes into it"
    run_id: Name


@dataclass(frozen=True, config=STRICT)
class Refusal:
    """A site's refusal."""

    label: ClassVar[str] = "refusal"
    free: ClassVar[str] = "a function of messages and public mechanisms alone"
    reason: Reason


Request: TypeAlias = (
    TrainRequest
    | OpenRequest
    | Introduction
    | SumRequest
    | CloseRequest
    | SettleRequest
    | VoteRequest
)
Release: TypeAlias = (
    PrivateUpdate
    | MaskedVector
    | CastVote
    | AnnouncedKeys
    | AnsweredKeys
    | ClosedSum
    | Receipt
    | Refusal
)
