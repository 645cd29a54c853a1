"""Nothing but what the gate lets out leaves a site: by the code's shape, by what it does, by what
it says when something goes wrong, and after kill -9.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import signal
import sqlite3
import struct
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Set
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from polyclinic_client.folder.layout import JOURNAL, LEDGER, read_identity
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.records.journal import Asked, Failed, Journal, Left, Refused, SettledEvent
from polyclinic_client.run.refusals import SilenceError
from polyclinic_common.errors import Code, DataError, LedgerError
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.wire import (
    PrivateUpdate,
    Reason,
    Refusal,
    SumRequest,
    TrainRequest,
    decode_reply,
    encode_reply,
    encode_request,
)
from polyclinic_server.rounds.state import State
from polyclinic_simulations.engines.inline import InlineGrid
from polyclinic_simulations.federation.federation import Federation, build_federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import start_weights, train_federated
from tests.kits import watched_run
from tests.kits.clock import SetClock, noon
from tests.kits.gate import (
    ARRIVAL,
    TICK,
    TOLD_NUMBER,
    TOLD_PATIENT,
    Draws,
    House,
    app_of,
    context,
    make_house,
    message,
)
from tests.kits.ledger import ME, STUDY
from tests.kits.small import small_study, small_table, write_study
from tests.kits.typed import Running

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "client" / "polyclinic_client"
TOLD = f"{TOLD_PATIENT} has {TOLD_NUMBER}"
MODES = ("secure-sum", "local")

# The code's shape

OUTWARD = {
    *("socket", "socketserver", "ssl", "select", "selectors", "asyncio", "asyncore"),
    *("subprocess", "multiprocessing", "pty", "ctypes", "cffi", "_posixsubprocess", "_socket"),
    *("urllib", "urllib3", "http", "httpx", "requests", "aiohttp", "grpc", "websockets", "zmq"),
    *("ftplib", "smtplib", "poplib", "imaplib", "telnetlib", "xmlrpc", "webbrowser", "syslog"),
    *("importlib", "runpy", "code", "shutil", "tempfile", "fileinput", "mmap", "dbm", "logging"),
    *("mlflow", "wandb", "ray", "flwr_datasets", "boto3", "paramiko"),
}
STARTING = {"system", "popen", "fork", "forkpty", "kill", "startfile", "putenv", "sendfile"}
WRITING = {
    *("write_text", "write_bytes", "touch", "mkdir", "unlink", "rename", "replace", "symlink_to"),
    *("fdopen", "mkfifo", "tofile", "to_csv", "to_parquet", "to_pickle", "to_sql", "to_json"),
    *("savez", "savetxt", "save_file", "write_new", "write_atomically", "executescript"),
}
OURS = {
    *("Ledger", "Journal", "SiteFolder", "ChainedLog", "ConsortiumClient", "StudyBook"),
    "Registry",
}
ADAPTER = "node/fleet.py"


class Room(NamedTuple):
    """What the files of a folder may touch; see the house rules in docs/architecture.md.

    Attributes
    ----------
    outward : set of str
        Libraries that reach the network or other processes, or start something.
    writes : bool
        Whether it may make, change or remove files.
    patients : bool
        Whether patients are in its hands.
    flower : set of str
        What it takes of Flower's public interface.
    """

    outward: Set[str] = frozenset()
    writes: bool = False
    patients: bool = False
    flower: Set[str] = frozenset()


ROOMS = {
    "compute": Room(patients=True),
    "run": Room(
        patients=True,
        flower={"Array", "ArrayRecord", "Context", "Message", "RecordDict", "ClientApp"},
    ),
    "gate": Room(flower={"ConfigRecord", "RecordDict"}),
    "records": Room(writes=True),
    "ledger": Room(writes=True),
    "accounts": Room(writes=True),
    "study_book": Room(writes=True, patients=True),
    "folder": Room(writes=True, outward={"ssl"}),
    "worker": Room(patients=True, flower={"RecordDict"}),
    "node": Room(
        writes=True,
        outward={
            *("httpx", "ssl", "logging", "http", "socketserver", "multiprocessing", "subprocess"),
        },
    ),
    "consortium": Room(
        writes=True,
        outward={"grpc", "http", "importlib", "shutil", "socket", "ssl", "urllib"},
    ),
    "backup": Room(writes=True, outward={"logging", "subprocess"}),
    "page": Room(),
    "watch": Room(writes=True, patients=True),
    "cli": Room(writes=True, outward={"logging", "shutil"}),
    "": Room(outward={"urllib"}),  # what several rooms share
}
PIPE = "worker/worker.py"
FILES = {
    # Has nothing but a pipe to the node; writes /proc/self/oom_score_adj.
    PIPE: Room(writes=True, patients=True, outward={"ctypes", "importlib", "multiprocessing"}),
    "accounts/patients.py": Room(patients=True),
    "cli/similar.py": Room(patients=True),
}
"""Files that may touch less than their room, or are the one way out of it."""


def room_of(name: str) -> Room:
    """Return the rule of a file; a folder without one is refused."""
    return FILES.get(name, ROOMS[name.rpartition("/")[0]])


def client_trees() -> Iterator[tuple[str, ast.Module]]:
    paths = sorted(CLIENT.rglob("*.py"))
    assert len(paths) > 20
    for path in paths:
        yield path.relative_to(CLIENT).as_posix(), ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield every imported (module, name), name empty for whole modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative"
            yield from ((node.module or "", alias.name) for alias in node.names)


def mentioned(tree: ast.Module) -> Iterator[str]:
    """Yield every name that is read, called, taken from something, imported, or in a string."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                yield name
            case ast.Constant(value=str() as text) if text.isidentifier():
                yield text


def test_the_gate_alone_encodes_what_leaves() -> None:
    users = {name for name, tree in client_trees() if "encode_reply" in mentioned(tree)}
    assert users == {"gate/gate.py"}
    for name, tree in client_trees():
        used = set(mentioned(tree))
        assert not used & {"_encode", "encode_request", "__import__"}, name
        assert "import_module" not in used or name == PIPE, name
        modules = {module for module, _ in imported(tree)}
        assert "polyclinic_common.wire.codec" not in modules, name
        assert ("polyclinic_common.wire", "*") not in set(imported(tree)), name
        assert ("polyclinic_common", "wire") not in set(imported(tree)), name


def test_the_site_alone_hands_to_the_gate() -> None:
    users = {name for name, tree in client_trees() if "let_out" in mentioned(tree)} - {
        "gate/gate.py"
    }
    assert users == {"run/responder.py"}


def test_flower_is_met_in_one_adapter_and_messages_are_made_in_one_place() -> None:
    for name, tree in client_trees():
        if name == ADAPTER:
            continue
        found = {what for module, what in imported(tree) if module.partition(".")[0] == "flwr"}
        assert found <= room_of(name).flower, name
        whole = {module for module, what in imported(tree) if not what}
        assert not any(module.partition(".")[0] == "flwr" for module in whole), name


def test_a_file_reaches_out_only_if_its_folder_may() -> None:
    for name, tree in client_trees():
        tops = {module.partition(".")[0] for module, _ in imported(tree)} & OUTWARD
        assert tops <= room_of(name).outward, f"{name} imports {tops}"
        used = set(mentioned(tree))
        bad = used & STARTING | {
            word for word in used if word.startswith(("exec", "spawn", "fork"))
        }
        bad -= {"execute", "executemany", "executable"}
        assert not bad or "subprocess" in room_of(name).outward, f"{name} uses {bad}"


def test_what_reaches_out_holds_no_patient() -> None:
    """Whatever it imports, and what that imports, has no patients in its hands."""
    trees = dict(client_trees())
    within = {name: set(ours(tree)) for name, tree in trees.items()}
    reaching = [
        name
        for name, tree in trees.items()
        if {module.partition(".")[0] for module, _ in imported(tree)} & OUTWARD
        and name not in {PIPE, "cli/study.py"}
    ]
    assert len(reaching) > 12
    for name in reaching:
        found, waiting = set[str](), [name]
        while waiting:
            for module in within.get(waiting.pop(), set()) - found:
                found.add(module)
                waiting.append(f"{module.replace('.', '/')}.py")
        patients = {m for m in found if room_of(f"{m.replace('.', '/')}.py").patients}
        assert not patients, f"{name} reaches {patients}"


def test_what_watches_a_released_model_reaches_nothing_that_sends() -> None:
    """Its room imports no other of the client; its command reaches disk and studies, no more."""
    trees = dict(client_trees())
    within = {name: set(ours(tree)) for name, tree in trees.items()}
    rooms = {name: {module.partition(".")[0] for module in to} for name, to in within.items()}
    watching = [name for name in trees if name.startswith("watch/")]
    assert len(watching) > 8
    for name in watching:
        assert rooms[name] <= {"watch"}, name
    found, waiting = set[str](), ["cli/monitor.py"]
    while waiting:
        for module in within.get(waiting.pop(), set()) - found:
            found.add(module)
            waiting.append(f"{module.replace('.', '/')}.py")
    sending = {"node", "consortium", "backup", "gate", "run", "worker", "page", "proxy"}
    assert {"watch.look", "study_book.book"} <= found
    assert not {module for module in found if module.partition(".")[0] in sending}


def ours(tree: ast.Module) -> Iterator[str]:
    """Yield the modules of the client package that a module imports, without the package's name."""
    for module, _ in imported(tree):
        package, _, rest = module.partition(".")
        if package == "polyclinic_client":
            yield rest


def opens_for_writing(node: ast.AST) -> bool:
    """Say whether a call can make, change or remove a file; a mode that is no literal counts."""
    match node:
        case ast.Call(func=ast.Name(id="open")):
            found = _mode(node.args[1:2], node.keywords)
        case ast.Call(func=ast.Attribute(attr="open", value=ast.Name(id="os" | "io"))):
            found = True
        case ast.Call(func=ast.Attribute(attr="open", value=ast.Name(id=owner))) if owner in OURS:
            found = False
        case ast.Call(func=ast.Attribute(attr="open")):
            found = _mode(node.args[:1], node.keywords)
        case ast.Call(func=ast.Attribute(attr="connect")):
            found = True
        case ast.Call(func=ast.Attribute(attr="save", value=ast.Name(id="np" | "torch"))):
            found = True
        case ast.Call(func=ast.Name(id="replace")):
            found = False  # of dataclasses
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
            found = name in WRITING
        case _:
            found = False
    return found


def _mode(positional: list[ast.expr], keywords: list[ast.keyword]) -> bool:
    modes = [*positional, *(each.value for each in keywords if each.arg == "mode")]
    return any(
        not isinstance(mode, ast.Constant) or any(letter in str(mode.value) for letter in "wax+")
        for mode in modes
    )


def test_a_file_opens_others_for_writing_only_if_its_folder_may() -> None:
    found = {
        name
        for name, tree in client_trees()
        if any(opens_for_writing(node) for node in ast.walk(tree))
    }
    assert not {name for name in found if not room_of(name).writes}
    assert {"records/sqlite_file.py", "folder/layout.py", "ledger/witness.py"} <= found


def test_every_folder_has_a_rule() -> None:
    assert {name.rpartition("/")[0] for name, _ in client_trees()} == set(ROOMS)


@pytest.mark.parametrize(
    ("code", "writes"),
    [
        ("open('x')", False),
        ("open('x', 'w')", True),
        ("open('x', mode='ab')", True),
        ("open('x', how)", True),
        ("path.open('r+')", True),
        ("path.open()", False),
        ("path.write_text('x')", True),
        ("os.open('x', 1)", True),
        ("sqlite3.connect('x')", True),
        ("np.save('x', y)", True),
        ("Journal.open(path, key, read_only=True)", False),
    ],
)
def test_the_look_at_the_code_sees_what_opens_files(code: str, writes: bool) -> None:
    assert any(opens_for_writing(node) for node in ast.walk(ast.parse(code))) == writes


# What a working ClientApp does


def watch(place: Path, *words: str) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kits.watched_run", str(place), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_working_site_opens_no_socket_starts_no_process_and_writes_its_own_folder_only(
    tmp_path: Path, mode: str
) -> None:
    assert watch(tmp_path, mode) == {"": []}
    assert {path.name for path in tmp_path.iterdir()} == {"before", "sites"}
    stores = {f"{name}{end}" for name in (LEDGER, JOURNAL) for end in ("", "-wal", "-shm")}
    for site in (tmp_path / "sites").iterdir():
        assert {path.name for path in site.iterdir()} <= stores | {"identity.key"}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_the_watch_sees_every_violation_that_is_planted(tmp_path: Path, mode: str) -> None:
    seen = watch(tmp_path, mode, "planted")
    assert seen.pop("") == []
    assert set(seen) == set(watched_run.plants(tmp_path))
    assert all(seen.values()), seen


# What a site answers


@pytest.fixture
def house(tmp_path: Path) -> House:
    return make_house(tmp_path / "site")


def train_request(**changes: Any) -> TrainRequest:
    fields: dict[str, Any] = {"study_hash": STUDY.hex(), "run_id": "run", "round_number": 1}
    fields["kind"] = "update"
    return TrainRequest(**fields | {"weights": np.zeros(4)} | changes)


def ask(house: House, content: RecordDict, draws: Draws | None = None) -> object:
    return decode_reply(app_of(house, draws or Draws())(message(content), context()).content)


def unreadable() -> dict[str, RecordDict]:
    def changed(**body: Any) -> RecordDict:
        records = encode_request(train_request())
        header = records["polyclinic"]
        assert isinstance(header, ConfigRecord)
        for name, value in body.items():
            header[name] = value
        return records

    return {
        "nothing": RecordDict(),
        "another protocol": changed(protocol=1),
        "rubbish": changed(body=TOLD.encode()),
        "a field more": changed(note=TOLD),
        "metrics": RecordDict({"metrics": MetricRecord({"patients": 17})}),
        "a reply": encode_reply(Refusal(Reason.EXPIRED)),
        "an array": RecordDict({"vectors": ArrayRecord({"vector": Array(np.zeros(4))})}),
        "rubbish vector": changed(vector=b"rubbish"),
        "not finite": changed(vector=np.full(4, np.nan).tobytes()),
    }


@pytest.mark.parametrize("name", unreadable())
def test_an_unreadable_message_is_not_approved(house: House, name: str) -> None:
    assert ask(house, unreadable()[name]) == Refusal(Reason.NOT_APPROVED)
    asked, refused, left = (noted.event for noted in house.journal.events(1))
    assert isinstance(asked, Asked)
    assert asked.what == "unreadable"
    assert isinstance(refused, Refused)
    assert refused.reason == "not_approved"
    assert isinstance(left, Left)


HOSTILE = {
    "zip": b"PK\x03\x04 no archive",
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "array file": b"\x93NUMPY\x01\x00\x4a\x00{'descr': '<f8', 'shape': (1125899906842624,), }\n",
    "a thousand words": bytes(8 * 1000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_vector_is_refused_or_met_with_silence(house: House, name: str) -> None:
    records = encode_request(train_request())
    record = records["polyclinic"]
    assert isinstance(record, ConfigRecord)
    record["vector"] = HOSTILE[name]
    try:
        assert isinstance(ask(house, records), Refusal)
    except SilenceError as silence:
        assert_says_nothing(silence)


@pytest.mark.parametrize(
    "changes", [{"run_id": "other"}, {"study_hash": "ab" * 32}, {"study_hash": TOLD}]
)
def test_an_unknown_study_or_run_is_not_approved(house: House, changes: dict[str, Any]) -> None:
    draws = Draws()
    content = encode_request(train_request(**changes))
    assert ask(house, content, draws) == Refusal(Reason.NOT_APPROVED)
    assert draws.count == 0


def test_refusals_are_made_before_anything_is_drawn(house: House) -> None:
    draws = Draws()
    cases: list[tuple[Any, Reason]] = [
        (train_request(round_number=7), Reason.OVER_BUDGET),
        (train_request(weights=np.zeros(5)), Reason.OUT_OF_ORDER),
        (train_request(weights=np.full(4, 1e9)), Reason.OUT_OF_ORDER),
        (
            SumRequest(
                *(STUDY.hex(), "run", 1, "gradient", ((ME.public,),), None, (), (), np.zeros(4))
            ),
            Reason.OUT_OF_ORDER,
        ),
    ]
    for request, reason in cases:
        assert ask(house, encode_request(request), draws) == Refusal(reason)
    house.ledger.withdraw(STUDY, "run")
    content = encode_request(train_request())
    assert ask(house, content, draws) == Refusal(Reason.NOT_APPROVED)
    assert draws.count == 0
    assert not house.ledger.releases_of("run")


def test_over_budget_is_refused_before_anything_is_drawn(house: House) -> None:
    draws = Draws()
    house.ledger.set_caps(1e-6)
    content = encode_request(train_request())
    assert ask(house, content, draws) == Refusal(Reason.OVER_BUDGET)
    assert draws.count == 0


@pytest.fixture
def calendar() -> SetClock:
    """Return what dates the rows of `dated`."""
    return SetClock(noon("2099-01-01"))


@pytest.fixture
def dated(tmp_path: Path, calendar: SetClock) -> House:
    return make_house(tmp_path / "site", calendar=calendar)


def test_an_expired_study_is_refused_and_a_later_row_keeps_it_so(
    dated: House, calendar: SetClock
) -> None:
    """With the clock set back the ledger's time stays that of its last row."""
    draws, content = Draws(), encode_request(train_request())
    calendar.time = noon("2100-01-02")
    assert ask(dated, content, draws) == Refusal(Reason.EXPIRED)
    dated.ledger.set_caps(90.0)
    calendar.time = noon("2099-12-01")
    assert ask(dated, content, draws) == Refusal(Reason.EXPIRED)
    assert draws.count == 0


def test_a_clock_set_back_after_a_refusal_does_not_revive_an_expired_study(
    dated: House, calendar: SetClock
) -> None:
    content = encode_request(train_request())
    calendar.time = noon("2100-01-02")
    assert ask(dated, content) == Refusal(Reason.EXPIRED)
    calendar.time = noon("2099-12-01")
    assert ask(dated, content) == Refusal(Reason.EXPIRED)


# What a site says when something fails


def assert_says_nothing(silence: SilenceError) -> None:
    """Assert that neither Flower's error message nor a log would tell what failed."""
    reason = str(type(silence)) + ":<'" + str(silence) + "'>"  # as flwr's run_clientapp
    shown = "".join(traceback.format_exception(silence))
    for text in (reason, shown, repr(silence)):
        assert TOLD_NUMBER not in text
        assert TOLD_PATIENT not in text
    assert str(silence) == ""
    assert silence.__cause__ is None
    assert silence.__suppress_context__


def failing(error: BaseException) -> Callable[[], object]:
    def act() -> None:
        raise error

    return act


FAILURES: dict[str, tuple[Exception, str]] = {
    "value": (ValueError(TOLD), "ValueError"),
    "torch": (RuntimeError(TOLD), "RuntimeError"),
    "memory": (MemoryError(TOLD), "MemoryError"),
    "division": (ZeroDivisionError(TOLD), "ZeroDivisionError"),
    "key": (KeyError(TOLD), "KeyError"),
    "database": (sqlite3.ProgrammingError(TOLD), "ProgrammingError"),
    "coded": (DataError(Code.DATA_UNUSABLE, TOLD, TOLD), "D007"),
    "disk": (LedgerError(Code.LEDGER_STORE, TOLD, TOLD), "L003"),
}


def files_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_inside_is_silence_and_a_stable_code(
    house: House, name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    error, code = FAILURES[name]
    with pytest.raises(SilenceError) as silence:
        ask(house, encode_request(train_request()), Draws(failing(error)))
    assert_says_nothing(silence.value)
    asked, failed = (noted.event for noted in house.journal.events(1))
    assert isinstance(asked, Asked)
    assert failed == Failed(code=code, run="run")
    assert house.clock.waits == [house.clock.time]  # silence lasts as long as an answer would take
    assert house.clock.time % TICK == 0
    content = files_of(house.folder.path) + caplog.text.encode()
    content += "".join(capfd.readouterr()).encode()
    assert TOLD_NUMBER.encode() not in content
    assert TOLD_PATIENT.encode() not in content


def test_after_a_failure_the_next_question_is_answered(house: House) -> None:
    content = encode_request(train_request())
    with pytest.raises(SilenceError):
        ask(house, content, Draws(failing(ValueError(TOLD))))
    assert not house.ledger.releases_of("run")
    assert isinstance(ask(house, content), PrivateUpdate)


def test_what_the_gate_stops_is_silence(house: House) -> None:
    draws = Draws()
    draws.grid_exponent = 3000  # the update would be infinite
    with pytest.raises(SilenceError) as silence:
        ask(house, encode_request(train_request()), draws)
    assert_says_nothing(silence.value)
    assert not [each for each in house.journal.events() if isinstance(each.event, Left)]


@pytest.mark.parametrize("content", [RecordDict(), encode_request(train_request())])
def test_without_a_journal_there_is_silence(house: House, content: RecordDict) -> None:
    """Also for a refusal: nothing leaves that is not written down."""
    connection = house.journal._log.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(SilenceError) as silence:  # noqa: PT012
        for _ in range(100):
            ask(house, content)
    assert_says_nothing(silence.value)
    house.journal.close()
    with pytest.raises(SilenceError) as silence:
        ask(house, content)
    assert_says_nothing(silence.value)


def test_an_interrupt_is_not_taken_for_a_failure(house: House) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(house, encode_request(train_request()), Draws(failing(KeyboardInterrupt())))


# When a site's answers leave


def test_answers_leave_on_one_tick_however_long_they_took(house: House) -> None:
    """Refusals and updates alike, for all computing times below a tick."""
    moments = set()
    for number, seconds in enumerate([0.0, 0.01, 0.15, 0.2], start=1):
        house.clock.time = ARRIVAL

        def compute(taken: float = seconds) -> None:
            house.clock.time += taken

        assert isinstance(
            ask(house, encode_request(train_request(round_number=number)), Draws(compute)),
            PrivateUpdate,
        )
        moments.add(house.clock.waits[-1])
    house.clock.time = ARRIVAL
    ask(house, RecordDict())
    moments.add(house.clock.waits[-1])
    assert len(moments) == 1
    assert moments.pop() % TICK == 0


def test_times_in_a_reply_are_those_of_the_request(house: House) -> None:
    """Flower's own would tell when the reply was made, and how long it took."""
    sent = message(encode_request(train_request()))
    sent.metadata.created_at -= 5.0
    reply = app_of(house, Draws())(sent, context())
    assert reply.metadata.created_at == sent.metadata.created_at
    assert reply.metadata.ttl == sent.metadata.ttl
    assert not reply.has_error()


def test_the_same_question_gets_the_same_bytes_and_is_charged_once(house: House) -> None:
    draws, content = Draws(), encode_request(train_request())
    first, second = ask(house, content, draws), ask(house, content, draws)
    assert isinstance(first, PrivateUpdate)
    assert isinstance(second, PrivateUpdate)
    assert first.vector.tobytes() == second.vector.tobytes()
    assert draws.count == 1
    assert house.ledger.budget().releases == 1


# What a finished run has written down


TOLD_VALUE = "47.123457"


def sentinels(made: Federation) -> list[bytes]:
    """Return a patient's number and value as text, and as numbers raw and encoded.

    Eight given bytes stand by chance somewhere among 10^6 others with probability below 1e-13.
    """
    frame = told_table()
    (encoded,) = made.encoding.encode(frame[frame["patient"] == TOLD_PATIENT], "site 1").x[:, 0]
    assert any(encoded in site.train.x for site in made.training_sites)
    pairs = [f"{order}d" for order in "<>"]
    numbers = [struct.pack(pair, x) for pair in pairs for x in (float(TOLD_VALUE), encoded)]
    return [TOLD_PATIENT.encode(), TOLD_VALUE.encode(), repr(float(encoded)).encode(), *numbers]


def told_table(rows: int = 60, sites: int = 3) -> Any:
    """Return patients of whom one has a value and a number that nobody else has."""
    frame = small_table(rows, sites)
    frame.loc[4, "age"] = float(TOLD_VALUE)
    frame.loc[4, "patient"] = TOLD_PATIENT
    return frame


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes, bytes]]:
    """Return what passes between server and sites: node, request and reply."""
    passed: list[tuple[int, bytes, bytes]] = []
    honest = InlineGrid.push_messages

    def push(grid: InlineGrid, messages: Any) -> Any:
        sent = list(messages)
        numbers = list(honest(grid, sent))
        for number, each in zip(numbers, sent, strict=True):
            reply = grid._replies.get(number)
            answer = b"" if reply is None else carried(reply.content)
            passed.append((each.metadata.dst_node_id, carried(each.content), answer))
        return numbers

    monkeypatch.setattr(InlineGrid, "push_messages", push)
    return passed


def carried(records: RecordDict) -> bytes:
    record = records["polyclinic"]
    assert isinstance(record, ConfigRecord)
    return b"".join(part for part in record.values() if isinstance(part, bytes))


def run_study(folder: Path, mode: str, drop: float = 0.0, sites: int = 3) -> Federation:
    setting = Setting(mode, 1.0, "descent", drop=drop)
    study = setting.apply(small_study(sites=sites))
    made = build_federation(study, told_table(60, sites), seed=0)
    start = State.start(start_weights(made))
    train_federated(made, setting, run_id="run", start=start, folder=folder)
    return made


@pytest.mark.parametrize("mode", MODES)
def test_the_journal_of_a_run_says_who_asked_what_left_and_what_it_cost(
    tmp_path: Path, mode: str, said: list[tuple[int, bytes, bytes]]
) -> None:
    made = run_study(tmp_path, mode)
    nodes = sorted({node for node, _, _ in said})
    for node, path in zip(nodes, sorted(tmp_path.iterdir()), strict=True):
        with SiteFolder.open(path) as folder:
            rows = [noted.event for noted in folder.journal.events()][1:]
            assert folder.journal.verify() == len(rows) + 1
            events = [event for event in rows if not isinstance(event, SettledEvent)]
            asked, left = events[::2], events[1::2]
            assert all(isinstance(event, Asked) for event in asked)
            replies = [reply for to, _, reply in said if to == node]
            assert len(left) == len(replies)
            for question, answer, reply in zip(asked, left, replies, strict=True):
                assert isinstance(question, Asked)
                assert isinstance(answer, Left)
                assert question.study_hash.hex() == made.study.hash()
                assert (question.run, question.who) == ("run", "server")
                assert question.round_number == answer.round_number
                assert answer.size == len(reply)
                assert answer.sha256 == hashlib.sha256(reply).digest()
                assert (answer.cost is None) == bool(answer.free_because)
            assert costs(folder.journal) == folder.ledger.state.fallback
            assert costs(folder.journal).total() == made.study.training.rounds


def costs(journal: Journal) -> Counter[Charge]:
    """Return what a journal's releases cost, each (run, round) once however often it left."""
    charged = {
        (event.run, event.round_number): event.cost
        for event in (noted.event for noted in journal.events())
        if isinstance(event, Left) and event.cost is not None
    }
    return Counter(charged.values())


def test_in_a_run_with_dropouts_the_journal_accounts_for_every_charge_that_left(
    tmp_path: Path,
) -> None:
    made = run_study(tmp_path, "secure-sum", drop=0.4, sites=6)
    for path in sorted(tmp_path.iterdir()):
        with SiteFolder.open(path) as folder:
            left, charged = costs(folder.journal), folder.ledger.state.fallback
            assert left == charged
            assert charged.total() <= made.study.training.rounds
            journalled = [noted.event for noted in folder.journal.events()]
            assert not [event for event in journalled if isinstance(event, Failed)]


@pytest.mark.parametrize("mode", MODES)
def test_no_patient_stands_in_ledger_journal_messages_or_logs(
    tmp_path: Path,
    mode: str,
    said: list[tuple[int, bytes, bytes]],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    made = run_study(tmp_path, mode, drop=0.0)
    content = files_of(tmp_path) + b"".join(part for _, *both in said for part in both)
    content += caplog.text.encode() + "".join(capfd.readouterr()).encode()
    assert len(content) > 10_000
    secrets = sentinels(made)
    for secret in secrets:
        assert secret not in content
    with Journal.open(tmp_path / "001" / JOURNAL, read_identity(tmp_path / "001")) as journal:
        for secret in secrets[:3]:  # the search finds what is there
            journal.write(Failed(code=secret.decode()))
            assert secret in files_of(tmp_path)


# After kill -9


def start(folder: Path, study: Path, table: Path, mode: str) -> Running:
    words = f"simulate {study} --data {table} --mode {mode} --epsilon 1 --out {folder} --workers 1"
    return Running(folder.with_suffix(".log"), *words.split(), folder=folder.parent)


RESERVED = 'SELECT count(*) FROM rows WHERE instr(body, CAST(\'"entry":"reserved"\' AS BLOB))'


def reserved(folder: Path) -> int:
    """Return how many releases the ledgers hold, for somebody who looks from outside."""
    count = 0
    for path in folder.glob(f"sites/*/*/{LEDGER}"):
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
                count += connection.execute(RESERVED).fetchone()[0]
        except sqlite3.Error:
            continue
    return count


def kill_after(running: Running, folder: Path, rows: int) -> None:
    deadline = time.monotonic() + 120
    while reserved(folder) < rows:
        assert not running.has_ended(), running.said()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    assert running.signal(signal.SIGKILL) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_killed_run_goes_on_and_no_round_is_charged_twice(tmp_path: Path, mode: str) -> None:
    rounds = 40
    study, table = write_study(tmp_path)
    study.write_text(study.read_text().replace("rounds = 6", f"rounds = {rounds}"))
    folder = tmp_path / "out"
    for rows in (7, 61):
        kill_after(start(folder, study, table, mode), folder, rows)
    running = start(folder, study, table, mode)
    assert running.popen.wait(200) == 0, running.said()
    (run,) = (folder / "sites").iterdir()
    sites = sorted(run.iterdir())
    assert len(sites) == 3
    for site in sites:
        with Ledger.open(site / LEDGER, read_identity(site)) as ledger:
            ledger.verify()
            state, held = ledger.state, ledger.releases_of(run.name)
            numbers = [each.reserved.release.round_number for each in held]
            assert sorted(numbers) == list(range(1, rounds + 1))
            assert state.counted.total() == state.fallback.total() == rounds
            for each in held:
                prices = {each.reserved.headline, each.reserved.fallback}
                assert each.counts in prices
                assert ledger.stored(each.reserved.release) is None
            (kept,) = ledger._log.connection.execute("SELECT count(*) FROM vectors").fetchone()
            assert kept == 0
        with Journal.open(site / JOURNAL, read_identity(site)) as journal:
            journal.verify()
            assert costs(journal) == state.fallback
