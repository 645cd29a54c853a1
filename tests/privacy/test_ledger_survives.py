"""Killed, copied, shared: never a double spend, a second noise draw or a silent reset."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from polyclinic_client.ledger.ledger import Ledger
from polyclinic_client.ledger.recovery import read_rows, recover, write_rows
from polyclinic_client.records.chained_log import Row
from polyclinic_client.records.entry import LedgerHead
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.privacy.account import spent_epsilon
from tests.kits.copies import copy_of, put_back
from tests.kits.ledger import (
    CHAIN,
    DELTA,
    EPOCH,
    FALLBACK,
    HEADLINE,
    ME,
    STUDY,
    approval,
    attempt,
    digest,
    draw,
    make_ledger,
    open_ledger,
    release,
    reserve,
)

pytestmark = pytest.mark.slow

# Run in a process of its own: kills itself right before or right after the COMMIT of one step.
DYING = """
import os, signal, sys
from pathlib import Path
from polyclinic_client.ledger import file
from polyclinic_client.records.chained_log import ChainedLog
from tests.kits.ledger import *

folder, step, moment = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)

class Dying:
    def __init__(self, connection):
        self.connection = connection
    def __getattr__(self, name):
        return getattr(self.connection, name)
    def execute(self, statement, *values):
        if statement == "COMMIT" and moment == "before commit":
            die()
        if "INTO vectors" in statement and moment == "before vector":
            die()
        done = self.connection.execute(statement, *values)
        if statement == "COMMIT" and moment == "after commit":
            die()
        return done

def arm():
    if moment == "before row":
        ChainedLog.append = die
    elif moment == "before witness":
        file.write_witness = die
    else:
        ledger._log.connection = Dying(ledger._log.connection)

ledger = open_ledger(folder)
steps = {
    "reserve": lambda: reserve(ledger, 1, seed=1),
    "attempt": lambda: attempt(ledger, 1),
    "close": lambda: ledger.record_closing(release(1), CHAIN),
    "settle": lambda: ledger.settle(release(1), "headline", b"statements"),
    "close run": lambda: ledger.close_run("run"),
}
for name, do in steps.items():
    if name == step:
        arm()
    do()
raise SystemExit("still alive")
"""
STEPS = ("reserve", "attempt", "close", "settle", "close run")
MOMENTS = ("before row", "before commit", "after commit", "before witness")


def killed(folder: Path, step: str, moment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(folder), step, moment],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def finish(ledger: Ledger) -> None:
    """Do everything again, as a restarted node does."""
    assert np.array_equal(reserve(ledger, 1, seed=2).vector, draw(2))
    attempt(ledger, 1)
    ledger.record_closing(release(1), CHAIN)
    ledger.settle(release(1), "headline", b"statements")


@pytest.mark.parametrize("moment", [*MOMENTS, "before vector"])
def test_killed_while_reserving(tmp_path: Path, moment: str) -> None:
    """Either nothing happened, or charge and vector are both there."""
    with make_ledger(tmp_path, witness=tmp_path / "witness"):
        pass
    killed(tmp_path, "reserve", moment)
    with open_ledger(tmp_path) as ledger:
        ledger.verify()
        if moment in {"after commit", "before witness"}:
            assert ledger.budget().spent == spent_epsilon({FALLBACK: 1}, DELTA)
            assert np.array_equal(reserve(ledger, 1, seed=2).vector, draw(1))
        else:
            assert ledger.budget().spent == 0
            assert ledger.stored(release(1)) is None
            finish(ledger)
        assert ledger.budget().releases == 1


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_between_reserving_and_sending(tmp_path: Path, moment: str) -> None:
    """The stored vector goes on; a payload that may have left is never replaced by another."""
    with make_ledger(tmp_path, witness=tmp_path / "witness"):
        pass
    killed(tmp_path, "attempt", moment)
    with open_ledger(tmp_path) as ledger:
        ledger.verify()
        assert np.array_equal(reserve(ledger, 1, seed=2).vector, draw(1))
        assert ledger.budget().spent == spent_epsilon({FALLBACK: 1}, DELTA)
        recorded = ledger.payload_is_recorded(release(1), EPOCH, 1, digest("payload"))
        assert recorded == (moment in {"after commit", "before witness"})
        if recorded:
            with pytest.raises(LedgerError):
                attempt(ledger, 1, payload_hash=digest("other"))
        attempt(ledger, 1)


@pytest.mark.parametrize("step", ["close", "settle"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_closing_or_settling(tmp_path: Path, step: str, moment: str) -> None:
    """The price is one of the two; done again it is the headline's, once."""
    with make_ledger(tmp_path, witness=tmp_path / "witness"):
        pass
    killed(tmp_path, step, moment)
    with open_ledger(tmp_path) as ledger:
        ledger.verify()
        settled = step == "settle" and moment in {"after commit", "before witness"}
        charge = HEADLINE if settled else FALLBACK
        assert ledger.budget().spent == spent_epsilon({charge: 1}, DELTA)
        ledger.record_closing(release(1), CHAIN)
        ledger.settle(release(1), "headline", b"statements")
        assert ledger.budget().spent == spent_epsilon({HEADLINE: 1}, DELTA)
        with pytest.raises(LedgerError):
            attempt(ledger, 1)


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_a_run_is_closed(tmp_path: Path, moment: str) -> None:
    with make_ledger(tmp_path, witness=tmp_path / "witness"):
        pass
    killed(tmp_path, "close run", moment)
    with open_ledger(tmp_path) as ledger:
        ledger.verify()
        ledger.close_run("run")
        assert ledger.stored(release(1)) is None
        assert ledger.budget().spent == spent_epsilon({HEADLINE: 1}, DELTA)


RACING = """
import hashlib, sys
from pathlib import Path
from tests.kits.ledger import *
ledger, seed = open_ledger(Path(sys.argv[1])), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(30):
    try:
        print(hashlib.sha256(reserve(ledger, number, seed=1000 * seed + number).vector).hexdigest())
    except Exception as error:
        print(error.code.value)
"""


def race(folder: Path) -> list[list[str]]:
    """Let two processes reserve the same rounds at once; return what each was given."""
    both = [
        subprocess.Popen(
            [sys.executable, "-c", RACING, str(folder), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in (1, 2)
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate(timeout=60)[0].split() for process in both]


def test_two_processes_never_draw_twice_for_one_release(tmp_path: Path) -> None:
    with make_ledger(tmp_path, approve=False) as ledger:
        ledger.approve(approval(30, lost_rounds=30))
    first, second = race(tmp_path)
    assert first == second
    assert len(set(first)) == 30
    with open_ledger(tmp_path) as ledger:
        ledger.verify()
        assert ledger.budget().spent == spent_epsilon({FALLBACK: 30}, DELTA)


def test_two_processes_together_stay_within_the_limit(tmp_path: Path) -> None:
    with make_ledger(tmp_path, approve=False) as ledger:
        ledger.approve(approval(30, lost_rounds=30))
        ledger.set_caps(spent_epsilon({FALLBACK: 10}, DELTA))
    for given in race(tmp_path):
        assert given[10:] == ["L004"] * 20
    with open_ledger(tmp_path) as ledger:
        assert ledger.budget().releases == 10


# Yesterday's copy


def yesterday(folder: Path, *, witness: bool) -> tuple[LedgerHead, list[Row]]:
    """Spend a round, copy, spend two more, put the copy back; return head and rows as they were."""
    with make_ledger(folder, witness=folder / "witness" if witness else None) as ledger:
        reserve(ledger, 1)
        attempt(ledger, 1)
    copy_of(folder)
    with open_ledger(folder) as ledger:
        reserve(ledger, 2)
        attempt(ledger, 2)
        reserve(ledger, 3)
        head, rows = ledger.head(), ledger.export_rows()
    put_back(folder)
    return head, rows


def test_yesterdays_copy_is_refused_by_its_witness(tmp_path: Path) -> None:
    yesterday(tmp_path, witness=True)
    for _ in range(2):
        with pytest.raises(LedgerError) as caught:
            open_ledger(tmp_path)
        assert caught.value.code == Code.LEDGER_BEHIND
    with pytest.raises(LedgerError) as caught:
        recover(tmp_path / "ledger.sqlite", ME)
    assert caught.value.code == Code.LEDGER_BEHIND


def test_yesterdays_copy_is_refused_by_what_peers_saw(tmp_path: Path) -> None:
    head, _ = yesterday(tmp_path, witness=False)
    with open_ledger(tmp_path) as ledger:
        with pytest.raises(LedgerError) as caught:
            ledger.check_not_behind([head])
        assert caught.value.code == Code.LEDGER_BEHIND
        for number in range(5):  # going on from the copy as if nothing had been: a fork
            ledger.set_caps(100.0 + number)
        with pytest.raises(LedgerError) as caught:
            ledger.check_not_behind([head])
        assert caught.value.code == Code.LEDGER_BEHIND


def mended(folder: Path, head: LedgerHead, **how: object) -> tuple[Ledger, int, int]:
    done = recover(folder / "ledger.sqlite", ME, claims=[head], **how)  # type: ignore[arg-type]
    ledger = open_ledger(folder)
    ledger.check_not_behind([head, ledger.head()])
    ledger.verify()
    return ledger, done.reimported, done.charged


def test_own_rows_come_back_and_their_vectors_do_not(tmp_path: Path) -> None:
    head, rows = yesterday(tmp_path, witness=True)
    ledger, reimported, charged = mended(tmp_path, head, rows=rows)
    assert (reimported, charged) == (3, 0)
    assert ledger.head() == head
    assert ledger.budget().spent == spent_epsilon({FALLBACK: 3}, DELTA)
    assert np.array_equal(reserve(ledger, 1, seed=9).vector, draw(0))
    for number in (2, 3):  # dropped for the open round: never a second draw
        with pytest.raises(LedgerError) as caught:
            reserve(ledger, number, seed=9)
        assert caught.value.code == Code.LEDGER_CONFLICT
        with pytest.raises(LedgerError) as caught:
            attempt(ledger, number)
        assert caught.value.code == Code.LEDGER_CONFLICT
    assert not ledger.payload_is_recorded(release(2), EPOCH, 1, digest("payload"))
    assert ledger.payload_is_recorded(release(1), EPOCH, 1, digest("payload"))
    reserve(ledger, 4)


@pytest.mark.parametrize("witness", [True, False])
def test_what_is_lost_is_charged_as_the_whole_outstanding_reservation(
    tmp_path: Path, witness: bool
) -> None:
    head, _ = yesterday(tmp_path, witness=witness)
    ledger, reimported, charged = mended(tmp_path, head, charge_lost=True)
    assert (reimported, charged) == (0, 5)
    assert ledger.head().counter > head.counter
    assert ledger.budget().spent == spent_epsilon({FALLBACK: 6}, DELTA)
    for number in (1, 2, 4):
        with pytest.raises(LedgerError):
            reserve(ledger, number)
    with pytest.raises(LedgerError):
        attempt(ledger, 1)


def test_releases_begun_before_a_loss_stay_dropped_under_a_new_approval(tmp_path: Path) -> None:
    with make_ledger(tmp_path, approve=False) as ledger:
        ledger.approve(approval(run=None))
        reserve(ledger, 1)
        attempt(ledger, 1)
        lost = LedgerHead(ledger.head().counter + 1, digest("a head that others saw"))
    recover(tmp_path / "ledger.sqlite", ME, claims=[lost], charge_lost=True)
    with open_ledger(tmp_path) as ledger:
        ledger.approve(approval())
        assert not ledger.payload_is_recorded(release(1), EPOCH, 1, digest("payload"))
        with pytest.raises(LedgerError):
            reserve(ledger, 1)
        with pytest.raises(LedgerError):
            attempt(ledger, 1)
        reserve(ledger, 2)


def test_what_was_open_when_rows_were_lost_never_settles_at_headline(tmp_path: Path) -> None:
    """A lost row may be a further attempt: the chain that is left need not be the one answered."""
    with make_ledger(tmp_path) as ledger:
        for number in (1, 2):
            reserve(ledger, number)
            attempt(ledger, number)
        ledger.record_closing(release(1), CHAIN)
        lost = LedgerHead(ledger.head().counter + 1, digest("a head that others saw"))
    recover(tmp_path / "ledger.sqlite", ME, claims=[lost], charge_lost=True)
    with open_ledger(tmp_path) as ledger:
        ledger.record_closing(release(2), CHAIN)
        ledger.settle(release(1), "headline", b"proof")
        with pytest.raises(LedgerError) as caught:
            ledger.settle(release(2), "headline", b"proof")
        assert caught.value.code == Code.LEDGER_CONFLICT


def test_a_study_approved_and_finished_after_the_copy_is_charged_by_the_witness(
    tmp_path: Path,
) -> None:
    with make_ledger(tmp_path, approve=False, witness=tmp_path / "witness"):
        pass
    copy_of(tmp_path)
    with open_ledger(tmp_path) as ledger:
        ledger.approve(approval(4))
        reserve(ledger, 1)
        reserve(ledger, 2)
        ledger.close_run("run")
        head = ledger.head()
    put_back(tmp_path)
    ledger, _, charged = mended(tmp_path, head, charge_lost=True)
    assert charged == 2
    assert ledger.budget().spent == spent_epsilon({FALLBACK: 2}, DELTA)


@pytest.mark.parametrize("rows_back", [True, False])
def test_a_copy_that_was_written_to_is_charged_from_the_fork_on(
    tmp_path: Path, rows_back: bool
) -> None:
    head, rows = yesterday(tmp_path, witness=False)
    with open_ledger(tmp_path) as ledger:
        known = ledger.head()
        for number in (2, 4, 5):
            reserve(ledger, number, seed=7)
    kept: Sequence[Row] = rows if rows_back else ()
    done = recover(
        tmp_path / "ledger.sqlite", ME, claims=[known, head], rows=kept, charge_lost=True
    )
    assert done.charged == 5  # rounds 2 to 6 may have been drawn on the lost branch
    with open_ledger(tmp_path) as ledger:
        assert ledger.budget().spent == spent_epsilon({FALLBACK: 4 + 5}, DELTA)
        ledger.check_not_behind([known, head, ledger.head()])


@pytest.mark.parametrize("how", ["withdrawn", "closed", "merged"])
def test_what_ended_on_a_copy_before_peers_spoke_is_charged(tmp_path: Path, how: str) -> None:
    """All that is missing has higher numbers, and yet the copy's last row is not shared."""
    with make_ledger(tmp_path):
        copy_of(tmp_path)
    with open_ledger(tmp_path) as ledger:
        for number in (1, 2, 3, 4):
            reserve(ledger, number)
        head, true = ledger.head(), ledger.budget().spent
    put_back(tmp_path)
    with open_ledger(tmp_path) as ledger:
        last = ledger.head().counter
        {
            "withdrawn": lambda: ledger.withdraw(STUDY, "run"),
            "closed": lambda: ledger.close_run("run"),
            "merged": lambda: ledger.charge_lost(last, last, {FALLBACK: 1}),
        }[how]()
        assert ledger.head().counter < head.counter
    ledger, _, charged = mended(tmp_path, head, charge_lost=True)
    assert charged == 6
    assert ledger.budget().spent >= true
    assert recover(tmp_path / "ledger.sqlite", ME, claims=[head], charge_lost=True).charged == 0


@pytest.mark.parametrize("rows_back", [True, False])
def test_what_ended_before_a_row_that_others_know_is_not_charged(
    tmp_path: Path, rows_back: bool
) -> None:
    with make_ledger(tmp_path):
        copy_of(tmp_path)
    with open_ledger(tmp_path) as ledger:
        reserve(ledger, 1)
        ledger.withdraw(STUDY, "run")
        ledger.approve(approval(2, run="later"))
        known, rows = ledger.head(), ledger.export_rows()
        if not rows_back:
            shutil.rmtree(tmp_path / "copy")
            copy_of(tmp_path)
        reserve(ledger, 1, run="later")
        head = ledger.head()
    put_back(tmp_path)
    done = recover(
        tmp_path / "ledger.sqlite",
        ME,
        claims=[head] if rows_back else [known, head],
        rows=rows if rows_back else (),
        charge_lost=True,
    )
    assert (done.reimported, done.charged) == (3 if rows_back else 0, 2)


def test_rows_of_another_hospital_or_changed_are_not_taken(tmp_path: Path) -> None:
    _, rows = yesterday(tmp_path, witness=True)
    cheaper = rows[-1]._replace(body=rows[-1].body.replace(b'"shares":1', b'"shares":9'))
    rehashed = cheaper._replace(hash=cheaper.link("ledger"))
    other = Identity.generate()
    with Ledger.create(tmp_path / "other", other, delta=DELTA, epsilon_cap=9.0) as ledger:
        foreign = ledger.export_rows()
    for wrong in ([cheaper], [rehashed], foreign):
        with pytest.raises(LedgerError) as caught:
            recover(tmp_path / "ledger.sqlite", ME, rows=wrong, charge_lost=True)
        assert caught.value.code == Code.LEDGER_DAMAGED


def test_rows_that_several_have_kept_come_back_once(tmp_path: Path) -> None:
    head, rows = yesterday(tmp_path, witness=True)
    ledger, reimported, charged = mended(tmp_path, head, rows=[*rows, *rows[::-1]])
    assert (reimported, charged) == (3, 0)
    assert ledger.head() == head


def test_kept_rows_of_a_branch_that_was_declared_lost_do_not_keep_the_newer_ones_out(
    tmp_path: Path,
) -> None:
    head, old = yesterday(tmp_path, witness=True)
    recover(tmp_path / "ledger.sqlite", ME, claims=[head], charge_lost=True)
    with open_ledger(tmp_path) as ledger:
        ledger.approve(approval(2, run="later"))
        reserve(ledger, 1, run="later")
        head, rows, spent = ledger.head(), ledger.export_rows(), ledger.budget().spent
    put_back(tmp_path)
    ledger, reimported, charged = mended(tmp_path, head, rows=[*old, *rows])
    assert (reimported, charged) == (3, 0)
    assert (ledger.head(), ledger.budget().spent) == (head, spent)


def test_rows_survive_as_text(tmp_path: Path) -> None:
    _, rows = yesterday(tmp_path, witness=True)
    text = tmp_path / "rows.jsonl"
    text.write_text(write_rows(rows))
    assert read_rows(text) == rows
    for wrong in ("[]", "{}", "x", json.dumps({"sequence": "x"})):
        text.write_text(wrong)
        with pytest.raises(LedgerError) as caught:
            read_rows(text)
        assert caught.value.code == Code.LEDGER_DAMAGED


# The witness and the reset


def test_a_witness_that_is_gone_or_forged_stops_the_ledger(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with make_ledger(tmp_path, witness=witness) as ledger:
        head = ledger.head()
    content = witness.read_bytes()
    counter = f'"counter":{head.counter}'.encode()
    assert counter in content
    witness.write_bytes(content.replace(counter, b'"counter":1'))
    for wrong, code in ((None, Code.LEDGER_DAMAGED), (b"", Code.LEDGER_DAMAGED)):
        if wrong is not None:
            witness.write_bytes(wrong)
        with pytest.raises(LedgerError) as caught:
            open_ledger(tmp_path)
        assert caught.value.code == code
    witness.unlink()
    with pytest.raises(LedgerError) as caught:
        open_ledger(tmp_path)
    assert caught.value.code == Code.LEDGER_BEHIND
    recover(tmp_path / "ledger.sqlite", ME, new_witness=True)
    with open_ledger(tmp_path) as ledger:
        reserve(ledger, 1)


def test_a_new_ledger_of_a_known_hospital_is_a_declared_reset(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with make_ledger(tmp_path, witness=witness) as ledger:
        reserve(ledger, 1)
        head = ledger.head()
    for file in tmp_path.glob("ledger.sqlite*"):
        file.unlink()
    for known in ({"witness": witness}, {"known": [head]}):
        with pytest.raises(LedgerError) as caught:
            make_ledger(tmp_path, **known)
        assert caught.value.code == Code.LEDGER_EXISTS
        assert not list(tmp_path.glob("ledger.sqlite*"))
    with make_ledger(
        tmp_path, witness=witness, known=[head], declared_reset=True, approve=False
    ) as ledger:
        assert ledger.budget().declared_reset
        assert ledger.head().counter > head.counter
        ledger.check_not_behind([head])
    with open_ledger(tmp_path) as ledger:
        assert ledger.budget().declared_reset


def test_an_old_database_under_a_newer_write_ahead_file_is_whole_or_refused(
    tmp_path: Path,
) -> None:
    """A copy of the main file alone is put back while the newer write-ahead file stays."""
    ledger = make_ledger(tmp_path)
    ledger._log.checkpoint()
    old = (tmp_path / "ledger.sqlite").read_bytes()
    for number in (1, 2):
        reserve(ledger, number, vector=np.zeros(5000, dtype=np.int64))
    ledger._log.checkpoint()
    ledger.set_caps(50.0)
    head = ledger.head()
    newer = (tmp_path / "ledger.sqlite-wal").read_bytes()
    ledger.close()
    (tmp_path / "ledger.sqlite").write_bytes(old)
    (tmp_path / "ledger.sqlite-wal").write_bytes(newer)
    with suppress(LedgerError), open_ledger(tmp_path) as again:
        again.verify()
        assert again.head() == head
        assert again.budget().releases == 2


def test_recovering_a_sound_ledger_changes_nothing(tmp_path: Path) -> None:
    with make_ledger(tmp_path, witness=tmp_path / "witness") as ledger:
        reserve(ledger, 1)
        head, rows = ledger.head(), ledger.export_rows()
    for how in ({}, {"charge_lost": True}, {"rows": rows, "claims": [head], "charge_lost": True}):
        done = recover(tmp_path / "ledger.sqlite", ME, **how)
        assert (done.reimported, done.charged) == (0, 0)
    with open_ledger(tmp_path) as ledger:
        assert ledger.head() == head
        assert ledger.approval(STUDY, "run") is not None
