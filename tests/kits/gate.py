"""A small hospital with a gate, for the tests of what leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from polyclinic_client.compute.integers import Moment
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.gate.due import Due
from polyclinic_client.gate.gate import Gate
from polyclinic_client.gate.ladder import Ladder
from polyclinic_client.gate.pace import Pace
from polyclinic_client.gate.permitted import Permitted
from polyclinic_client.ledger.entries import Approval, Planned
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.records.chained_log import Clock, unix_ms
from polyclinic_client.records.journal import Asked, Began, Event, Journal
from polyclinic_client.run.flower_app import make_client_app
from polyclinic_client.run.responder import Responder
from polyclinic_client.run.update_responder import UpdateResponder
from polyclinic_common.identity.roster import Roster
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.secure_sum.session import KeyExchange
from polyclinic_common.secure_sum.statements import Closing, KeyAnswer
from polyclinic_common.wire import (
    AnnouncedKeys,
    AnsweredKeys,
    ClosedSum,
    MaskedVector,
    PrivateUpdate,
    Reason,
    Refusal,
    Release,
    TrainRequest,
)
from polyclinic_simulations.engines.inline import be_server
from tests.kits import ledger as kit
from tests.kits.ledger import CHAIN, FALLBACK, ME, PEERS, STUDY, digest, release

TICK = 0.25
PACE = Pace(first=1.0, work={"gradient": TICK, "update": TICK, "vote": TICK})
ARRIVAL = 1_800_000_000.1
SESSION = digest("session")
STUDIES = (STUDY.hex(), bytes([1] * 32).hex())
WORDS = np.array([1, 2, 3, 2**63], dtype=np.uint64)
OTHER_WORDS = np.array([5, 6, 7, 8], dtype=np.uint64)
UPDATE = np.array([0.5, -1.0, 2.0, 0.0])
TOLD_NUMBER = "123.456789"
TOLD_PATIENT = "PATIENT-4711"


@dataclass
class FakeClock:
    """A clock that moves when somebody waits."""

    time: float = ARRIVAL
    waits: list[float] = field(default_factory=list)
    on_wait: Callable[[], object] = lambda: None

    def now(self) -> float:
        return self.time

    def wait_until(self, moment: float) -> None:
        self.on_wait()
        self.waits.append(moment)
        self.time = max(self.time, moment)


@dataclass
class House:
    """One hospital: folder, clock and gate."""

    folder: SiteFolder
    clock: FakeClock
    gate: Gate
    ladder: Ladder

    @property
    def ledger(self) -> Ledger:
        return self.folder.ledger

    @property
    def journal(self) -> Journal:
        return self.folder.journal

    def events(self, after: int = 0) -> list[Began | Event]:
        return [noted.event for noted in self.journal.events(after)]

    def let_out(self, leaving: Any, asked: Asked | None = None) -> RecordDict:
        question = asked_for(leaving) if asked is None else asked
        return self.gate.let_out(leaving, question, self.due())

    def due(self) -> Due:
        """Return when an answer for which patients are read leaves, asked for now."""
        request = TrainRequest(STUDY.hex(), "run", 1, "update", UPDATE)
        return self.gate.due(request)


def planned(kind: str) -> Planned:
    return Planned(kind=kind, releases=6, headline=FALLBACK, fallback=FALLBACK)


def both_kinds(**changes: Any) -> Approval:
    gradient = kit.approval().planned[0]
    return kit.approval(**{"planned": (gradient, planned("update"))} | changes)


def make_house(path: Path, *, calendar: Clock = unix_ms, **changes: Any) -> House:
    """Make a hospital that has approved six gradients and six updates, dated by `calendar`."""
    account: dict[str, Any] = {"delta": kit.DELTA, "epsilon_cap": 100.0, "identity": ME}
    folder = SiteFolder.create(path, **account, clock=calendar)
    folder.ledger.approve(both_kinds(**changes))
    clock, ladder = FakeClock(), Ladder(STUDY, PACE)
    gate = Gate(permitted(folder.ledger), folder.journal, ladder, clock)
    return House(folder, clock, gate, ladder)


def permitted(ledger: Ledger, identity: bytes = ME.public) -> Permitted:
    """Return what a study permits that makes every kind of release in any round."""
    kinds = ("gradient", "update", "statistics", "calibration", "metrics", "vote")
    return Permitted(identity, ledger, dict.fromkeys(kinds, range(1, 1000)))


def sha(vector: NDArray[Any]) -> bytes:
    return hashlib.sha256(vector.tobytes()).digest()


def spend(house: House) -> None:
    """Reserve and mask rounds 1 and 2, close round 1, and reserve update 1."""
    ledger = house.ledger
    for number, words in ((1, WORDS), (2, OTHER_WORDS)):
        kit.reserve(ledger, number)
        ledger.record_attempt(release(number), epoch=SESSION, chain=CHAIN, payload_hash=sha(words))
    ledger.record_closing(release(1), CHAIN)
    name = release(1, kind="update")
    same = kit.request(1, headline=FALLBACK)
    ledger.reserve(name, STUDY, vector=kit.draw(0), **same)
    ledger.record_attempt(name, epoch=b"", chain=(), payload_hash=sha(UPDATE))


def masked(**changes: Any) -> MaskedVector:
    fields: dict[str, Any] = {
        "study_hash": STUDY.hex(),
        "run_id": "run",
        "round_number": 2,
        "kind": "gradient",
        "attempt": 1,
        "session": SESSION,
        "closing": b"",
        "vector": OTHER_WORDS,
    }
    return MaskedVector(**fields | changes)


def update(**changes: Any) -> PrivateUpdate:
    fields: dict[str, Any] = {
        "study_hash": STUDY.hex(),
        "run_id": "run",
        "round_number": 1,
        "kind": "update",
        "vector": UPDATE,
    }
    return PrivateUpdate(**fields | changes)


def closing(house: House, **changes: Any) -> bytes:
    signer = changes.pop("signer", ME)
    fields: dict[str, Any] = {
        "identity": ME.public,
        "study_hash": STUDY,
        "run": "run",
        "round_number": 1,
        "kind": "gradient",
        "chain": CHAIN,
        "broadcast": digest("model 1"),
        "counter": house.ledger.head().counter,
        "head": house.ledger.head().digest,
    }
    return Closing(**fields | changes).signed(signer)


def announcement(house: House, run: str = "run", signer: Any = ME) -> bytes:
    roster = Roster.of({"me": ME.public} | {f"peer {key.hex()[:6]}": key for key in PEERS})
    exchange = KeyExchange(signer, STUDY, run, roster)
    return exchange.announcement(2_000_000_000, house.ledger.head(), house.ledger.heads_seen)


def key_answer(**changes: Any) -> bytes:
    signer = changes.pop("signer", ME)
    fields: dict[str, Any] = {
        "identity": ME.public,
        "study_hash": STUDY,
        "run": "run",
        "session": SESSION,
        "ciphertexts": ((PEERS[0], bytes(1088)),),
        "receipts": (),
    }
    return KeyAnswer(**fields | changes).signed(signer)


def good_releases(house: House) -> dict[str, Release]:
    """Return one of every kind that may leave after `spend`."""
    return {
        "masked": masked(closing=closing(house)),
        "update": update(),
        "keys": AnnouncedKeys(announcement(house)),
        "answer": AnsweredKeys(key_answer()),
        "closed": ClosedSum(closing(house)),
        "refusal": Refusal(Reason.EXPIRED),
    }


def asked_for(leaving: Any) -> Asked:
    """Return the request that a release answers, as far as it can be one."""
    numbers = [getattr(leaving, name, 0) for name in ("round_number", "attempt")]
    round_number, attempt = (
        int(number) if isinstance(number, int | np.integer) else 0 for number in numbers
    )
    run, study = getattr(leaving, "run_id", "run"), getattr(leaving, "study_hash", "")
    names: dict[str, Any] = {
        "run": run[:200] if type(run) is str else "run",
        "study_hash": bytes.fromhex(study) if type(study) is str and study in STUDIES else STUDY,
    }
    return asked(round_number, attempt, **names)


def asked(round_number: int = 0, attempt: int = 0, **changes: Any) -> Asked:
    fields: dict[str, Any] = {
        "who": "server",
        "what": "sum_request",
        "study_hash": STUDY,
        "run": "run",
        "round_number": round_number,
        "attempt": attempt,
    }
    return Asked(**fields | changes)


def forced(leaving: Any, **changes: Any) -> Any:
    """Return a release with fields set past its own checks."""
    for name, value in changes.items():
        object.__setattr__(leaving, name, value)
    return leaving


# A site of mode local, and its ClientApp


@dataclass
class Draws:
    """A mechanism of four numbers that does what it is told, and counts."""

    act: Callable[[], object] = lambda: None
    charge: Charge = FALLBACK
    clip: float = 0.25
    grid_exponent: int = -20
    length: int = 4
    count: int = 0

    def draw(
        self, weights: NDArray[np.float64], own: NDArray[np.float64], moment: Moment
    ) -> NDArray[np.int64]:
        self.count += 1
        self.act()
        return kit.draw(self.count)


def app_of(house: House, draws: Draws, run: str = "run", rounds: int = 6) -> ClientApp:
    mechanisms = {"update": draws}
    updates = UpdateResponder(
        STUDY, 4, rounds, personal=False, ledger=house.ledger, mechanisms=mechanisms
    )
    site = Responder(STUDY.hex(), run, updates, house.gate, house.journal)
    return make_client_app(lambda _: site)


def context() -> Context:
    return Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={})


def message(content: RecordDict) -> Message:
    be_server()
    made = Message(content, 2, MessageType.TRAIN, group_id="1")
    made.metadata.__dict__["_message_id"] = "1"
    return made
