"""The gate: what is not exactly a permitted, charged release stays inside, and is written down."""

from __future__ import annotations

import dataclasses
import hashlib
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyclinic_client.folder.layout import JOURNAL
from polyclinic_client.gate import permitted as gate_permitted
from polyclinic_client.gate.due import FACTOR, OVER, Due
from polyclinic_client.gate.gate import Gate
from polyclinic_client.gate.ladder import Ladder
from polyclinic_client.gate.permitted import Permitted
from polyclinic_client.gate.tick import SystemClock
from polyclinic_client.records.journal import Asked, Climbed, Event, Journal, Left, Refused
from polyclinic_common.errors import Code, GateError, LedgerError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.secure_sum.statements import KeyAnnouncement
from polyclinic_common.wire import (
    AnnouncedKeys,
    AnsweredKeys,
    CastVote,
    ClosedSum,
    MaskedVector,
    PrivateUpdate,
    Reason,
    Receipt,
    Refusal,
    Release,
    TrainRequest,
    decode_reply,
)
from tests.kits import gate as kit
from tests.kits.gate import (
    ARRIVAL,
    OTHER_WORDS,
    SESSION,
    TICK,
    TOLD_NUMBER,
    UPDATE,
    WORDS,
    FakeClock,
    House,
    asked,
    asked_for,
    closing,
    forced,
    good_releases,
    key_answer,
    make_house,
    masked,
    permitted,
    spend,
    update,
)
from tests.kits.ledger import (
    CHAIN,
    FALLBACK,
    LEFT_OUT,
    ME,
    PEERS,
    STUDY,
    digest,
    release,
    reserve,
)

ROOT = Path(__file__).parents[2]
KINDS = get_args(Release)
CHARGED = {MaskedVector, PrivateUpdate, CastVote}
OTHER = Identity.from_private(bytes([1]) * 32)
TOLD = f"patient 17 has {TOLD_NUMBER}"


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = make_house(tmp_path / "site")
    spend(made)
    return made


def content(records: RecordDict) -> bytes:
    """Return the bytes that an answer carries."""
    record = records["polyclinic"]
    assert isinstance(record, ConfigRecord)
    return b"".join(part for part in record.values() if isinstance(part, bytes))


def assert_stopped(house: House, leaving: Any, question: Asked | None = None) -> None:
    """Assert that nothing leaves, that it is written down, and that no text tells anything."""
    before, rows = len(house.events()), len(house.ledger.export_rows())
    waits = len(house.clock.waits)
    with pytest.raises(GateError) as error:
        house.let_out(leaving, question)
    assert error.value.code == Code.GATE_REFUSED
    shown = "".join(traceback.format_exception(error.value))
    assert TOLD_NUMBER not in shown
    first, second = house.events()[before:]
    assert isinstance(first, Asked)
    assert isinstance(second, Refused)
    assert second.reason == "G001"
    assert len(house.clock.waits) == waits
    assert len(house.ledger.export_rows()) == rows


# What may leave


@pytest.mark.parametrize("name", ["masked", "update", "keys", "answer", "closed", "refusal"])
def test_what_is_permitted_leaves_and_the_journal_says_what_it_was(house: House, name: str) -> None:
    leaving = good_releases(house)[name]
    question = asked_for(leaving)
    before = len(house.events())
    records = house.let_out(leaving)
    read = decode_reply(records)
    for field in dataclasses.fields(read):
        assert np.array_equal(getattr(read, field.name), getattr(leaving, field.name))
    first, *middle, left = house.events()[before:]
    assert first == question
    assert isinstance(left, Left)
    assert left.kind == leaving.label
    assert left.size == len(content(records))
    assert left.sha256 == hashlib.sha256(content(records)).digest()
    assert (left.run, left.round_number) == ("run", question.round_number)
    if type(leaving) in CHARGED:
        assert (left.cost, left.free_because) == (FALLBACK, "")
    else:
        assert (left.cost, left.free_because) == (None, leaving.free)
    assert [type(event) for event in middle] == ([Refused] if name == "refusal" else [])


def test_a_receipt_leaves_once_the_run_is_closed(house: House) -> None:
    assert_stopped(house, Receipt("run"))
    house.ledger.close_run("run")
    assert_stopped(house, Receipt("run"), asked(run="other"))
    assert_stopped(house, Receipt(TOLD), asked())
    assert decode_reply(house.let_out(Receipt("run"))) == Receipt("run")


def test_every_kind_is_charged_or_has_its_argument() -> None:
    assert {kind for kind in KINDS if not kind.free} == CHARGED
    assert all(hasattr(kind, "kind") or "kind" in kind.__annotations__ for kind in CHARGED)


@pytest.mark.parametrize("kind", KINDS)
def test_the_privacy_document_names_every_kind(kind: type) -> None:
    assert f"`{kind.__name__}`" in (ROOT / "docs" / "privacy.md").read_text()


# What may not


class Grown(Refusal):
    """A subclass could carry anything."""


class GrownVector(MaskedVector):
    """A subclass could carry anything."""


class Unknown(StrEnum):
    """Not a reason of the protocol."""

    TOLD = TOLD


class Talking(np.ndarray):
    """An array that shows the gate other bytes than it is."""

    def tobytes(self, order: Any = None) -> bytes:
        return OTHER_WORDS.tobytes()


def bit_flipped() -> Any:
    vector = OTHER_WORDS.copy()
    vector[3] ^= np.uint64(1)
    return vector


def fields_of(leaving: Any) -> dict[str, Any]:
    return {field.name: getattr(leaving, field.name) for field in dataclasses.fields(leaving)}


UNKNOWN: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "text": lambda: TOLD,
    "bytes": TOLD.encode,
    "array": lambda: OTHER_WORDS,
    "records": lambda: RecordDict({"patients": ArrayRecord({"x": Array(UPDATE)})}),
    "class": lambda: Refusal,
    "request": lambda: TrainRequest(STUDY.hex(), "run", 1, "update", UPDATE),
    "error": lambda: ValueError(TOLD),
    "subclass": lambda: Grown(Reason.EXPIRED),
    "subclass of a charged kind": lambda: GrownVector(**fields_of(masked())),
    "extra attribute": lambda: forced(Refusal(Reason.EXPIRED), note=TOLD),
    "extra attribute of a charged kind": lambda: forced(masked(), note=TOLD),
    "no attribute": lambda: object.__new__(Refusal),
    "unknown reason": lambda: forced(Refusal(Reason.EXPIRED), reason=Unknown.TOLD),
    "reason in words": lambda: forced(Refusal(Reason.EXPIRED), reason=TOLD),
    "reason that spells like one": lambda: forced(Refusal(Reason.EXPIRED), reason="expired"),
}
VECTORS: dict[str, Callable[[], Any]] = {
    "two dimensions": lambda: forced(masked(), vector=OTHER_WORDS.reshape(2, 2)),
    "no number": lambda: forced(masked(), vector=OTHER_WORDS[:0]),
    "another dtype": lambda: forced(masked(), vector=OTHER_WORDS.astype(np.int64)),
    "floats": lambda: forced(masked(), vector=UPDATE),
    "big-endian": lambda: forced(masked(), vector=OTHER_WORDS.astype(">u8")),
    "single precision": lambda: forced(update(), vector=UPDATE.astype(np.float32)),
    "objects": lambda: forced(update(), vector=np.array([TOLD], dtype=object)),
    "a list": lambda: forced(update(), vector=UPDATE.tolist()),
    "not a number": lambda: forced(update(), vector=np.array([0.5, -1.0, 2.0, np.nan])),
    "infinite": lambda: forced(update(), vector=np.array([0.5, -1.0, 2.0, np.inf])),
    "subclass of an array": lambda: forced(masked(), vector=WORDS.view(Talking)),
    "one number more": lambda: masked(vector=np.append(OTHER_WORDS, np.uint64(0))),
    "one number less": lambda: masked(vector=OTHER_WORDS[:3].copy()),
    "one bit": lambda: masked(vector=bit_flipped()),
    "one bit of an update": lambda: update(vector=np.nextafter(UPDATE, 9.0)),
    "sign of zero": lambda: update(vector=np.array([0.5, -1.0, 2.0, -0.0])),
}
MISPLACED: dict[str, Callable[[House], Any]] = {
    "not reserved": lambda _: masked(round_number=3),
    "update not reserved": lambda _: update(round_number=2),
    "payload of another round": lambda _: masked(vector=WORDS),
    "another attempt": lambda _: masked(attempt=2),
    "another session": lambda _: masked(session=digest("other")),
    "another study": lambda _: masked(study_hash=bytes([1] * 32).hex()),
    "an update of another study": lambda _: update(study_hash=bytes([1] * 32).hex()),
    "another run": lambda _: masked(run_id="other"),
    "another kind": lambda _: masked(kind="metric"),
    "an update as a masked vector": lambda _: masked(kind="update", round_number=1),
    "a masked vector as an update": lambda _: update(vector=OTHER_WORDS.view(np.float64)),
    "text as study": lambda _: masked(study_hash=TOLD),
    "text as run": lambda _: masked(run_id=TOLD),
    "text as kind": lambda _: masked(kind=TOLD),
    "long text as kind": lambda _: forced(masked(), kind=TOLD * 10),
    "text as run of a receipt": lambda _: Receipt(TOLD),
    "text as session": lambda _: forced(masked(), session=TOLD.encode()),
    "numpy number as round": lambda _: forced(masked(), round_number=np.int64(2)),
    "truth as attempt": lambda _: forced(masked(), attempt=True),
    "half a round": lambda _: forced(masked(), round_number=2.0),
    "closing of a round that is open": lambda house: masked(closing=closing(house, round_number=2)),
    "text as closing": lambda _: masked(closing=TOLD.encode()),
    "another hospital's closing": lambda house: masked(
        closing=closing(house, identity=OTHER.public, signer=OTHER)
    ),
    "receipt for a run that goes on": lambda _: Receipt("run"),
}
STATEMENTS: dict[str, Callable[[House], Any]] = {
    "text": lambda _: ClosedSum(TOLD.encode()),
    "nothing": lambda _: ClosedSum(b""),
    "text in the place of bytes": lambda _: forced(ClosedSum(b""), statement=TOLD),
    "answer signed by another hospital": lambda _: AnsweredKeys(
        key_answer(identity=OTHER.public, signer=OTHER)
    ),
    "answer with a false signature": lambda _: AnsweredKeys(key_answer(signer=OTHER)),
    "closing signed by another hospital": lambda house: ClosedSum(
        closing(house, identity=OTHER.public, signer=OTHER)
    ),
    "answer of another run": lambda _: AnsweredKeys(key_answer(run=TOLD)),
    "answer of another study": lambda _: AnsweredKeys(key_answer(study_hash=digest("other"))),
    "text as ciphertext": lambda _: AnsweredKeys(
        key_answer(ciphertexts=((PEERS[0], TOLD.encode()),))
    ),
    "closing as answer": lambda house: AnsweredKeys(closing(house)),
    "closing as announcement": lambda house: AnnouncedKeys(closing(house)),
    "answer as closing": lambda _: ClosedSum(key_answer()),
    "closing of an open round": lambda house: ClosedSum(
        closing(house, round_number=2, broadcast=digest("model 2"))
    ),
    "closing of an unknown round": lambda house: ClosedSum(closing(house, round_number=5)),
    "closing over another chain": lambda house: ClosedSum(closing(house, chain=LEFT_OUT)),
    "closing over no chain": lambda house: ClosedSum(closing(house, chain=())),
    "closing of another model": lambda house: ClosedSum(
        closing(house, broadcast=digest("model 2"))
    ),
    "closing of text": lambda house: ClosedSum(closing(house, kind=TOLD)),
    "closing of another run": lambda house: ClosedSum(closing(house, run="other")),
    "closing with rows that are not there": lambda house: ClosedSum(closing(house, counter=99)),
    "closing with the head of another ledger": lambda house: ClosedSum(
        closing(house, head=digest("other"))
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_of_no_kind_stays_inside(house: House, name: str) -> None:
    assert_stopped(house, UNKNOWN[name](), asked(2, 1))


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_that_is_not_the_one_charged_stays_inside(house: House, name: str) -> None:
    assert_stopped(house, VECTORS[name]())


@pytest.mark.parametrize("name", MISPLACED)
def test_a_release_out_of_its_place_stays_inside(house: House, name: str) -> None:
    """Even where the question is the one that it would answer."""
    assert_stopped(house, MISPLACED[name](house))


@pytest.mark.parametrize("kind", ["metrics", "statistics"])
@pytest.mark.parametrize("release", [masked, update])
def test_a_vector_of_a_kind_that_was_not_charged_stays_inside(
    house: House, release: Callable[..., MaskedVector | PrivateUpdate], kind: str
) -> None:
    """Though one of another kind was, of the same run and round."""
    assert_stopped(house, release(kind=kind))


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_that_the_ledger_does_not_bear_out_stays_inside(
    house: House, name: str
) -> None:
    assert_stopped(house, STATEMENTS[name](house))


@pytest.mark.parametrize(
    "changes",
    [
        {"round_number": 1},
        {"attempt": 2},
        {"attempt": 0},
        {"run": "other"},
        {"study_hash": digest("other")},
        {"study_hash": b""},
    ],
)
def test_a_charged_payload_leaves_only_for_its_own_question(
    house: House, changes: dict[str, Any]
) -> None:
    assert_stopped(house, masked(), asked(2, 1).model_copy(update=changes))


@pytest.mark.parametrize("rounds", [{}, {"gradient": (9,), "update": (9,), "vote": (9,)}])
@pytest.mark.parametrize("name", ["masked", "update"])
def test_what_is_charged_leaves_in_the_rounds_of_the_schedule_alone(
    house: House, name: str, rounds: dict[str, tuple[int, ...]]
) -> None:
    leaving = good_releases(house)[name]
    question = asked_for(leaving)
    assert permitted(house.ledger).charge(leaving, question) is not None
    with pytest.raises(GateError, match="no such release"):
        Permitted(ME.public, house.ledger, rounds).charge(leaving, question)


@dataclasses.dataclass(frozen=True)
class Beside:
    """A kind of message that somebody added to the protocol, and to nothing else."""

    label: ClassVar[str] = "beside"
    free: ClassVar[str] = ""
    told: str = TOLD


def test_a_new_kind_of_message_stays_inside_until_a_rule_says_that_it_may_leave(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_permitted, "Release", Release | Beside)
    leaving: Any = Beside()
    with pytest.raises(GateError, match="no rule"):
        permitted(house.ledger).charge(leaving, asked())


def test_an_announcement_tells_nothing_but_this_ledgers_head(house: House) -> None:
    said = read_signed(KeyAnnouncement, kit.announcement(house))
    hostile: list[dict[str, Any]] = [
        {"head": TOLD.encode()},
        {"counter": said.counter + 1},
        {"heads": ((PEERS[0], 1, TOLD.encode()),)},
        {"kem_key": TOLD.encode()},
        {"run": TOLD},
        {"declared_reset": 1},
    ]
    for changes in hostile:
        assert_stopped(house, AnnouncedKeys(said.model_copy(update=changes).signed(ME)))
    house.ledger.note_heads({PEERS[0]: (7, digest("head"))})
    for heads in (((PEERS[0], 8, digest("head")),), ((PEERS[0], 7, TOLD.encode()),)):
        assert_stopped(house, AnnouncedKeys(said.model_copy(update={"heads": heads}).signed(ME)))
    earlier = ((PEERS[0], 7, digest("head")),)
    house.let_out(AnnouncedKeys(said.model_copy(update={"heads": earlier}).signed(ME)))
    assert_stopped(house, AnnouncedKeys(kit.announcement(house, signer=OTHER)))


def test_a_vector_without_masks_stays_inside(house: House) -> None:
    """Even if this very payload was written down."""
    stored = reserve(house.ledger, 3)
    bare = stored.vector.view(np.uint64)
    house.ledger.record_attempt(release(3), epoch=SESSION, chain=CHAIN, payload_hash=kit.sha(bare))
    assert_stopped(house, masked(round_number=3, vector=bare.copy()))


def test_nothing_of_a_closed_run_leaves(house: House) -> None:
    house.ledger.close_run("run")
    for leaving in (masked(), update()):
        assert_stopped(house, leaving)


def test_nothing_leaves_of_rows_that_were_lost(house: House) -> None:
    house.ledger.charge_lost(50, 1, {FALLBACK: 1})
    for leaving in (masked(), update()):
        assert_stopped(house, leaving)


# Rubbish

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=80),
    st.binary(max_size=80),
    st.sampled_from([Reason.EXPIRED, OTHER_WORDS, UPDATE, UPDATE[:, None], SESSION]),
    st.lists(st.integers(), max_size=3),
)
NAMES = sorted({field.name for kind in KINDS for field in dataclasses.fields(kind)} | {"note"})


@st.composite
def misshapen(draw: st.DrawFn) -> Any:
    """Return an object of a permitted kind with anything in its fields, or something else."""
    kind = draw(st.sampled_from([*KINDS, Grown, GrownVector, TrainRequest]))
    made = object.__new__(kind)
    whole = draw(st.booleans())
    names = [field.name for field in dataclasses.fields(kind)]
    names = names if whole else draw(st.lists(st.sampled_from(NAMES), unique=True))
    return forced(made, **{name: draw(ANYTHING) for name in names})


@st.composite
def nearly_right(draw: st.DrawFn) -> Any:
    """Return a release that may leave, with one field changed to anything."""
    made = draw(st.sampled_from([masked, update]))()
    name = draw(st.sampled_from([field.name for field in dataclasses.fields(made)]))
    value = draw(ANYTHING)
    if type(value) is type(getattr(made, name)) and np.array_equal(value, getattr(made, name)):
        value = None
    return forced(made, **{name: value})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = make_house(tmp_path_factory.mktemp("gate") / "site")
    spend(made)
    yield made
    made.folder.close()


def is_permitted(leaving: Any, house: House) -> bool:
    """Say whether rubbish happens to be one of the few things that may leave."""
    if type(leaving) is Refusal:
        return set(vars(leaving)) == {"reason"} and leaving.reason is Reason.EXPIRED
    if type(leaving) is ClosedSum:
        said = vars(leaving).get("statement")
        return (
            set(vars(leaving)) == {"statement"} and type(said) is bytes and said == closing(house)
        )
    return (
        type(leaving) is MaskedVector
        and set(vars(leaving)) == set(fields_of(masked()))
        and type(fields_of(leaving)["closing"]) is bytes
        and fields_of(leaving)["closing"] in {b"", closing(house)}
        and all(
            type(value) is type(fields_of(masked())[name])
            and np.array_equal(value, fields_of(masked())[name])
            for name, value in fields_of(leaving).items()
            if name != "closing"
        )
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(leaving=st.one_of(ANYTHING, misshapen(), nearly_right()))
def test_rubbish_stays_inside_without_a_crash(shared: House, leaving: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        if not is_permitted(leaving, shared):
            assert_stopped(shared, leaving, asked(2, 1) if type(leaving) is MaskedVector else None)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    number=st.integers(1, 4),
    attempt=st.integers(1, 3),
    words=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6),
    session=st.sampled_from([SESSION, digest("other")]),
)
def test_no_well_formed_vector_leaves_that_is_not_charged(
    shared: House, number: int, attempt: int, words: list[int], session: bytes
) -> None:
    vector = np.array(words, dtype=np.uint64)
    leaving = masked(round_number=number, attempt=attempt, session=session, vector=vector)
    charged = (number, attempt, session) in {(1, 1, SESSION), (2, 1, SESSION)}
    charged = charged and np.array_equal(vector, (WORDS, OTHER_WORDS)[number - 1])
    if not charged:
        assert_stopped(shared, leaving)


# When it leaves


class SlowJournal(Journal):
    """A journal whose disk takes its time."""

    def __init__(self, journal: Journal, clock: FakeClock, seconds: float):
        self._journal, self._clock, self._seconds = journal, clock, seconds

    def write(self, *events: Event) -> None:
        self._clock.time += self._seconds
        self._journal.write(*events)


@dataclasses.dataclass
class Way:
    """How an answer went: when it was due, when it left, and what was written down of climbs."""

    due: Due
    left: float
    climbs: list[Climbed]


def way(
    house: House, arrival: float, computing: float, writing: float = 0.0, *, patients: bool = True
) -> Way:
    """Let an answer out that takes so long to compute and to write down, on a ladder of its own."""
    clock, before = house.clock, house.journal._log.head.sequence
    journal = SlowJournal(house.journal, clock, writing)
    gate = Gate(permitted(house.ledger), journal, Ladder(STUDY, kit.PACE), clock)
    clock.time = arrival
    request = TrainRequest(STUDY.hex(), "run", 1, "update", UPDATE) if patients else None
    due = gate.due(request)
    clock.time += computing
    gate.let_out(Refusal(Reason.EXPIRED), asked(), due)
    events = house.events(before)
    return Way(due, clock.waits[-1], [each for each in events if isinstance(each, Climbed)])


MOMENT = st.floats(1.7e9, 2e9)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    arrival=MOMENT,
    computing=st.floats(0.0, 30.0),
    writing=st.floats(0.0, 0.6),
    patients=st.booleans(),
)
def test_a_release_leaves_exactly_on_a_public_tick(
    shared: House, arrival: float, computing: float, writing: float, *, patients: bool
) -> None:
    """Also where writing it down takes so long that the tick has passed meanwhile."""
    left = way(shared, arrival, computing, writing, patients=patients).left
    assert left / TICK == round(left / TICK)
    assert left == shared.clock.time, "it left when the tick had passed"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(arrival=MOMENT, computing=st.floats(0.0, 0.99 * TICK), patients=st.booleans())
def test_who_asks_just_before_a_tick_learns_nothing_of_computing_time(
    shared: House, arrival: float, computing: float, *, patients: bool
) -> None:
    """An answer that takes less than its time leaves at a moment fixed by the question's alone."""
    late = way(shared, arrival, computing, patients=patients)
    assert late.left == way(shared, arrival, 0.0, patients=patients).left
    assert late.left - arrival >= TICK
    assert not late.climbs


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(arrival=MOMENT, computing=st.floats(0.0, 200.0), writing=st.floats(0.0, 0.3))
def test_what_is_late_leaves_on_a_step_fixed_at_arrival_and_the_climb_is_written_down(
    shared: House, arrival: float, computing: float, writing: float
) -> None:
    """So the server learns between which two steps computing ended, once, and nothing finer."""
    found = way(shared, arrival, computing, writing)
    moments = [step.moment for step in found.due.steps]
    assert found.left in moments
    assert [step.seconds for step in found.due.steps] == [TICK * FACTOR**k for k in range(OVER)]
    if found.left > moments[0]:
        climb, missed = found.climbs[-1], found.due.steps[moments.index(found.left) - 1]
        assert (climb.study_hash, climb.step) == (STUDY, moments.index(found.left))
        assert climb.outlasted == round(missed.seconds * 1000)
        assert missed.moment < arrival + computing + (len(found.climbs) + 1) * writing
    else:
        assert not found.climbs


def test_a_step_once_climbed_is_kept_for_every_later_answer_of_the_study(house: House) -> None:
    for computing, step in ((0.0, 0), (0.6, 1), (0.0, 1), (0.3, 1), (5.0, 3), (0.0, 3)):
        house.clock.time = ARRIVAL
        due = house.due()
        house.clock.time += computing
        house.gate.let_out(Refusal(Reason.EXPIRED), asked(), due)
        lowest = Ladder(STUDY, kit.PACE).due(
            ARRIVAL, TrainRequest(STUDY.hex(), "run", 1, "update", UPDATE), first=False
        )
        assert house.clock.waits[-1] == lowest.steps[step].moment
    climbs = [each.step for each in house.events() if isinstance(each, Climbed)]
    assert climbs == [1, 3]


def test_an_answer_without_patients_climbs_no_step(house: House) -> None:
    """That it is late tells nothing about them."""
    late = way(house, ARRIVAL, 100.0, patients=False)
    assert late.left == np.ceil((ARRIVAL + 100.0) / TICK) * TICK
    assert not late.climbs
    assert house.ladder.step == 0


def test_what_outlasts_the_ladder_does_not_leave_and_the_study_is_answered_no_more(
    house: House,
) -> None:
    house.clock.time = ARRIVAL
    due = house.due()
    house.clock.time = due.steps[-1].moment + 0.001
    with pytest.raises(GateError) as error:
        house.gate.let_out(Refusal(Reason.EXPIRED), asked(), due)
    assert error.value.code == Code.GATE_LATE
    house.gate.stay_silent(due)
    assert house.clock.time == due.end
    assert not [each for each in house.events() if isinstance(each, Left)]
    assert [each.step for each in house.events() if isinstance(each, Climbed)] == [OVER]
    with pytest.raises(GateError):
        house.due()
    house.gate.let_out(Refusal(Reason.EXPIRED), asked(), house.gate.due())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(arrival=MOMENT, computing=st.floats(0.0, 100.0))
def test_silence_ends_when_an_answer_would_have_left(
    shared: House, arrival: float, computing: float
) -> None:
    """What a node asks for next would tell when computing failed."""
    shared.ladder.reached.clear()
    shared.clock.time = arrival
    due = shared.due()
    shared.clock.time += computing
    shared.gate.stay_silent(due)
    silence, step = shared.clock.time, shared.ladder.step
    assert silence == way(shared, arrival, computing).left
    assert due.steps[step].moment == silence


def test_the_journal_names_the_tick(house: House) -> None:
    house.clock.time = ARRIVAL
    house.let_out(masked())
    left = house.events()[-1]
    assert isinstance(left, Left)
    assert left.tick == round(house.clock.waits[-1] * 1000)
    assert left.tick % round(TICK * 1000) == 0


def test_the_machines_clock_waits_until_the_moment_and_not_for_one_that_is_past() -> None:
    clock = SystemClock()
    moment = clock.now() + 0.05
    clock.wait_until(moment)
    assert time.time() >= moment - 0.001
    began = time.monotonic()
    clock.wait_until(clock.now() - 100)
    assert time.monotonic() - began < 1


# Written down first


def test_the_journal_has_it_on_disk_before_it_leaves(house: House, tmp_path: Path) -> None:
    found: list[int] = []

    def look() -> None:
        with Journal.open(tmp_path / "site" / JOURNAL, ME, read_only=True) as seen:
            found.append(sum(isinstance(noted.event, Left) for noted in seen.events()))

    house.clock.on_wait = look
    for number, leaving in enumerate(good_releases(house).values(), start=1):
        house.let_out(leaving)
        assert found == list(range(1, number + 1))


@pytest.mark.parametrize("name", ["masked", "update", "keys", "answer", "closed", "refusal"])
def test_with_a_full_disk_nothing_leaves(house: House, name: str) -> None:
    leaving = good_releases(house)[name]
    house.let_out(leaving)
    connection = house.journal._log.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(LedgerError) as error:  # noqa: PT012
        for _ in range(100):
            house.let_out(leaving)
    assert error.value.code == Code.LEDGER_STORE
    written = [event for event in house.events() if isinstance(event, Left)]
    assert len(house.clock.waits) == len(written)


def test_with_a_journal_that_cannot_be_written_nothing_leaves(house: House, tmp_path: Path) -> None:
    with Journal.open(tmp_path / "site" / JOURNAL, ME, read_only=True) as journal:
        clock = FakeClock()
        gate = Gate(permitted(house.ledger), journal, house.ladder, clock)
        for leaving in good_releases(house).values():
            with pytest.raises(LedgerError):
                gate.let_out(leaving, asked_for(leaving), gate.due())
        assert not clock.waits
