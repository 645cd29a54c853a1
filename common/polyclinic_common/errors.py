"""Errors a user can cause: a stable code, one sentence on what happened, one on what to do next.

Every code is listed in ``docs/errors.md``. Nothing computed from patients may stand in a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Stable error codes; the letter names the concern, a number is never reused."""

    STUDY_UNREADABLE = "S001"
    STUDY_SYNTAX = "S002"
    STUDY_INVALID = "S003"
    STUDY_UNKNOWN = "S004"
    STUDY_EXPIRED = "S005"
    STUDY_NEWER = "S006"
    TABLE_UNREADABLE = "D001"
    TABLE_ENCODING = "D002"
    TABLE_EMPTY = "D003"
    MAPPING_INVALID = "D004"
    COLUMN_ABSENT = "D005"
    DATA_UNUSABLE = "D007"
    SITE_UNKNOWN = "D008"
    DATA_FOLDER = "D009"
    FILE_EXISTS = "D010"
    COLUMN_LEAKS = "D011"
    EVENT_OTHER = "D012"
    PRIVACY_PARAMETER = "P001"
    PRIVACY_DELTA = "P002"
    PRIVACY_CLIP_VOID = "P003"
    PRIVACY_PLAN = "P004"
    PRIVACY_REFUTED = "P005"
    PRIVACY_PLACE = "P006"
    MODEL_UNREADABLE = "M001"
    MODEL_SHAPE = "M002"
    MODEL_COLUMN = "M003"
    MESSAGE_INVALID = "W001"
    RUN_TOO_FEW_SITES = "R001"
    RUN_DIVERGED = "R002"
    RUN_CHECKPOINT = "R003"
    RUN_UNKNOWN = "R004"
    RUN_EXISTS = "R005"
    RUN_GOING = "R006"
    RUN_STOPPED = "R007"
    RUN_OVER = "R008"
    RUN_CUT_OFF = "R009"
    RUN_SPOILED = "R010"
    RUN_UNFINISHED = "R011"
    SIMULATION_EMPTY = "X001"
    SIMULATION_OUTPUT = "X002"
    SIMULATION_OPTION = "X003"
    TRY_FAILED = "X004"
    CLUSTER_UNREACHABLE = "X007"
    CLUSTER_DIFFERS = "X008"
    LEDGER_ABSENT = "L001"
    LEDGER_DAMAGED = "L002"
    LEDGER_STORE = "L003"
    LEDGER_OVER_BUDGET = "L004"
    LEDGER_CONFLICT = "L005"
    LEDGER_BEHIND = "L006"
    LEDGER_EXISTS = "L007"
    LEDGER_NOT_APPROVED = "L008"
    LEDGER_SHORT = "L009"
    ACCOUNT_EXISTS = "A001"
    ACCOUNT_LOST = "A002"
    ACCOUNTS_OVERLAP = "A003"
    ACCOUNTS_ABSENT = "A004"
    ACCOUNTS_DAMAGED = "A005"
    ACCOUNT_ENDED = "A006"
    ACCOUNT_RULE = "A007"
    GATE_REFUSED = "G001"
    GATE_LATE = "G002"
    PROTOCOL_REFUSED = "K001"
    SERVER_EXISTS = "C001"
    SERVER_ABSENT = "C002"
    CONSORTIUM_FILE = "C003"
    AUTHORITY_AWAY = "C004"
    INVITATION_UNREADABLE = "C005"
    INVITATION_UNKNOWN = "C006"
    INVITATION_USED = "C007"
    INVITATION_EXPIRED = "C008"
    TOO_MANY_TRIES = "C009"
    FINGERPRINT_DIFFERS = "C010"
    NOT_REACHED = "C011"
    CERTIFICATE_REFUSED = "C012"
    SITE_STATE = "C013"
    STUDY_SIGNATURE = "C014"
    STUDY_NOT_OURS = "C015"
    STUDY_MODE = "C016"
    PEERS_UNVERIFIED = "C017"
    ROSTER_REFUSED = "C018"
    ROSTER_INCOMPLETE = "C019"
    SNAPSHOT_ABSENT = "C020"
    SNAPSHOT_DAMAGED = "C021"
    REQUEST_INVALID = "C022"
    SERVER_FAULT = "C023"
    PREFLIGHT_FAILED = "C024"
    NOT_JOINED = "C025"
    PORT_TAKEN = "C027"
    ROSTER_FIXED = "C028"
    FOLDER_EXPOSED = "C029"
    ROWS_FULL = "C030"
    ADDRESS_INVALID = "C031"
    STUDY_TOO_LARGE = "C032"
    PROXY_INVALID = "C033"
    STUDY_CLOSED = "C034"
    SERVER_OLDER = "C035"
    SERVER_UNREACHABLE = "V001"
    SERVER_START = "V002"
    NODE_START = "N001"
    NODE_WORKER = "N002"
    BUNDLE_DAMAGED = "B001"
    BUNDLE_UNSIGNED = "B002"
    BUNDLE_SIGNER = "B003"
    BUNDLE_STUDY = "B004"
    BUNDLE_CERTIFICATE = "B005"
    PATIENT_INVALID = "B010"
    TABLE_UNLIKE = "B011"
    CALIBRATION_TOO_FEW = "B020"
    REFIT_IMPOSSIBLE = "B021"
    CALIBRATION_DAMAGED = "B022"
    CALIBRATION_FOREIGN = "B023"
    WATCH_STUDY = "B030"
    LOOKS_DAMAGED = "B031"
    CARD_INVALID = "B040"
    CARD_UNREADABLE = "B041"
    AUDIT_UNUSABLE = "B042"
    ONNX_ABSENT = "B050"
    PAGE_PORT = "B060"
    BUNDLE_WITHDRAWN = "B070"
    TRUST_ABSENT = "B071"
    WITHDRAWAL_REFUSED = "B072"
    TRUST_DAMAGED = "B073"
    BUNDLE_UNKNOWN = "B074"
    WITHDRAWALS_WENT_BACK = "B075"
    REASON_INVALID = "B076"


EXIT_STATUS = {
    "S": 10,
    "D": 11,
    "P": 12,
    "M": 13,
    "W": 14,
    "R": 15,
    "X": 16,
    "L": 17,
    "A": 23,
    "G": 18,
    "K": 19,
    "C": 22,
    "V": 20,
    "N": 21,
    "B": 24,
}


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one value: where it stands, what is wrong, how to mend it."""

    place: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what} {self.remedy}"


class PolyclinicError(Exception):
    """Base of all errors a user can cause.

    Parameters
    ----------
    code : Code
        Stable code.
    what : str
        One sentence: what happened.
    remedy : str
        One sentence: what to do next.
    problems : sequence of Problem
        Single findings, where one error reports several.
    """

    def __init__(self, code: Code, what: str, remedy: str, problems: Sequence[Problem] = ()):
        super().__init__(f"[{code}] {what} {remedy}")
        self.code = code
        self.what = what
        self.remedy = remedy
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[object, ...]:
        """Cross from a worker process to its parent as what it is."""
        return type(self), (self.code, self.what, self.remedy, self.problems)

    @property
    def exit_status(self) -> int:
        """Exit status of a command that ends with this error: one number a concern."""
        return EXIT_STATUS[self.code.value[0]]

    def as_dict(self) -> dict[str, object]:
        """Return the error for ``--json``."""
        return {
            "error": self.code.value,
            "what": self.what,
            "remedy": self.remedy,
            "problems": [vars(problem) for problem in self.problems],
        }


class StudyError(PolyclinicError):
    """A study manifest cannot be used."""


class DataError(PolyclinicError):
    """A table, mapping or data folder cannot be used."""


class PrivacyError(PolyclinicError):
    """A privacy guarantee cannot be kept; nothing is computed or sent."""


class ModelError(PolyclinicError):
    """A saved model or coefficient file cannot be used."""


class MessageError(PolyclinicError):
    """A message between server and site is not exactly what the protocol says."""


class RunError(PolyclinicError):
    """A run cannot go on."""


class ServerError(PolyclinicError):
    """The server cannot start, or cannot be reached on its own machine."""


class NodeError(PolyclinicError):
    """A hospital's node cannot start or do its work; nothing leaves."""


class LedgerError(PolyclinicError):
    """A ledger or journal cannot be used, or refuses; nothing leaves."""


class GateError(PolyclinicError):
    """Something that is not a permitted release was stopped at the gate."""


class BundleError(PolyclinicError):
    """A released model cannot be trusted, or cannot answer what it is asked."""


class ConsortiumError(PolyclinicError):
    """Something between a hospital and its consortium does not hold; nothing is changed."""


class SimulationError(PolyclinicError):
    """A simulation cannot be started or was stopped."""
