"""The ledger's rules: what is approved, what fits, one draw a release, one chain, one price."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyclinic_client.ledger.budget import caps_needed
from polyclinic_client.ledger.entries import Planned
from polyclinic_client.ledger.ledger import Ledger, Stored
from polyclinic_client.ledger.recovery import recover
from polyclinic_client.ledger.witness import read_claims
from polyclinic_client.records.entry import LedgerHead
from polyclinic_common.errors import Code, PolyclinicError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.charges import SampledSteps, Vote
from tests.kits.clock import SetClock
from tests.kits.ledger import (
    CHAIN,
    DELTA,
    EPOCH,
    FALLBACK,
    HEADLINE,
    LEFT_OUT,
    ME,
    PEERS,
    STUDY,
    approval,
    attempt,
    digest,
    draw,
    make_ledger,
    open_ledger,
    release,
    request,
    reserve,
)

EVENING = int(dt.datetime(2030, 1, 1, 23, 59, tzinfo=dt.UTC).timestamp() * 1000)
DAY = 24 * 3600 * 1000


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return make_ledger(tmp_path)


def refusal(call: Callable[..., Any], *arguments: Any, **named: Any) -> Code:
    """Return the code with which a call is refused."""
    with pytest.raises(PolyclinicError) as caught:
        call(*arguments, **named)
    return caught.value.code


def reserve_and_attempt(ledger: Ledger, reserved: int, attempted: int) -> None:
    with ledger.one_commit():
        reserve(ledger, reserved)
        attempt(ledger, attempted)


def settle(ledger: Ledger, number: int) -> None:
    """Take a round to headline."""
    attempt(ledger, number)
    ledger.record_closing(release(number), CHAIN)
    ledger.settle(release(number), "headline", b"statements")


def spent(headline: int, fallback: int) -> float:
    return spent_epsilon({HEADLINE: headline, FALLBACK: fallback}, DELTA)


# What is approved


def test_nothing_is_reserved_without_approval(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, approve=False)
    assert refusal(reserve, ledger) == Code.LEDGER_NOT_APPROVED
    ledger.approve(approval())
    other = {"study_hash": digest("another study")}
    assert refusal(reserve, ledger, **other) == Code.LEDGER_NOT_APPROVED
    assert refusal(reserve, ledger, run="another run") == Code.LEDGER_NOT_APPROVED
    assert refusal(reserve, ledger, headline=FALLBACK) == Code.LEDGER_NOT_APPROVED
    assert refusal(reserve, ledger, fallback=HEADLINE) == Code.LEDGER_NOT_APPROVED
    metric = release(1, kind="metric")
    assert (
        refusal(ledger.reserve, metric, STUDY, vector=draw(0), **request())
        == Code.LEDGER_NOT_APPROVED
    )
    assert ledger.budget().releases == 0
    reserve(ledger)


def test_no_more_releases_than_approved(ledger: Ledger) -> None:
    for number in range(6):
        reserve(ledger, number)
        settle(ledger, number)
    assert refusal(reserve, ledger, 6) == Code.LEDGER_OVER_BUDGET
    reserve(ledger, 5)


def test_an_approval_for_any_run_counts_over_all_runs(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, approve=False)
    ledger.approve(approval(2, run=None))
    reserve(ledger, 1, run="first")
    reserve(ledger, 1, run="second")
    assert refusal(reserve, ledger, 1, run="third") == Code.LEDGER_OVER_BUDGET


def test_nothing_is_reserved_or_sent_after_expiry(tmp_path: Path) -> None:
    clock = SetClock(EVENING)
    ledger = make_ledger(tmp_path, approve=False, clock=clock)
    ledger.approve(approval(expires=dt.date(2030, 1, 1)))
    reserve(ledger, 1)
    attempt(ledger, 1)
    clock.time = EVENING + 60_000
    assert refusal(reserve, ledger, 1) == Code.STUDY_EXPIRED
    assert refusal(reserve, ledger, 2) == Code.STUDY_EXPIRED
    assert refusal(attempt, ledger, 1) == Code.STUDY_EXPIRED
    assert refusal(ledger.approve, approval(expires=dt.date(2030, 1, 1), run="x")) == (
        Code.STUDY_EXPIRED
    )


def test_a_clock_that_was_wrong_once_ends_no_later_study(tmp_path: Path) -> None:
    clock = SetClock(EVENING)
    with make_ledger(tmp_path, approve=False, clock=clock) as ledger:
        for run, last in (("run", dt.date(2030, 1, 1)), ("later", dt.date(2030, 1, 3))):
            ledger.approve(approval(run=run, expires=last))
        clock.time = EVENING + 20_000 * DAY
        asked = request(1)
        code = refusal(ledger.check, release(1), STUDY, length=4, **asked)
        assert code == Code.STUDY_EXPIRED
        clock.time = EVENING
        assert refusal(reserve, ledger, 1) == Code.STUDY_EXPIRED
        assert ledger.today() == dt.date(2030, 1, 2)
        reserve(ledger, 1, run="later")


def test_a_clock_set_back_does_not_revive_a_study(tmp_path: Path) -> None:
    clock = SetClock(EVENING)
    ledger = make_ledger(tmp_path, approve=False, clock=clock)
    ledger.approve(approval(expires=dt.date(2030, 1, 1)))
    clock.time = EVENING + DAY
    ledger.note_heads({PEERS[0]: (1, b"h" * 32)})
    clock.time = EVENING - DAY
    assert refusal(reserve, ledger, 1) == Code.STUDY_EXPIRED
    assert refusal(reserve, open_ledger(tmp_path, clock=clock), 1) == Code.STUDY_EXPIRED


def test_a_withdrawn_approval_lets_nothing_out(ledger: Ledger) -> None:
    reserve(ledger, 1)
    ledger.withdraw(STUDY, "run")
    assert ledger.approval(STUDY, "run") is None
    assert refusal(attempt, ledger, 1) == Code.LEDGER_NOT_APPROVED
    assert refusal(reserve, ledger, 1) == Code.LEDGER_NOT_APPROVED
    assert refusal(reserve, ledger, 2) == Code.LEDGER_NOT_APPROVED
    assert refusal(ledger.approve, approval()) == Code.LEDGER_CONFLICT


def test_an_approval_is_given_once(ledger: Ledger) -> None:
    rows = ledger.head().counter
    ledger.approve(approval())
    assert ledger.head().counter == rows
    assert ledger.approval(STUDY, "run") == approval()
    assert refusal(ledger.approve, approval(7)) == Code.LEDGER_CONFLICT


# What fits


def test_an_approval_that_could_not_be_carried_through_is_refused(tmp_path: Path) -> None:
    wanted = approval(10, lost_rounds=1)
    needed, at_fallback = caps_needed(wanted, DELTA)
    assert needed == pytest.approx(spent(7, 3))
    assert at_fallback == pytest.approx(spent(0, 10))
    ledger = make_ledger(tmp_path, approve=False, cap=needed * 0.999)
    assert refusal(ledger.approve, wanted) == Code.LEDGER_OVER_BUDGET
    ledger.set_caps(needed, at_fallback * 0.999)
    assert refusal(ledger.approve, wanted) == Code.LEDGER_OVER_BUDGET
    ledger.set_caps(needed, at_fallback)
    ledger.approve(wanted)
    assert refusal(ledger.approve, approval(1, run="second")) == Code.LEDGER_OVER_BUDGET


def test_a_new_limit_keeps_the_one_at_fallback_that_another_process_has_set(
    tmp_path: Path,
) -> None:
    with make_ledger(tmp_path, cap=3.0) as one, open_ledger(tmp_path) as other:
        assert other.budget().fallback_cap is None
        one.set_caps(3.0, 2.0)
        other.set_caps(4.0)
        assert (one.budget().epsilon_cap, one.budget().fallback_cap) == (4.0, 2.0)


def test_unsettled_releases_count_at_fallback(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    reserve(ledger, 1)
    reserve(ledger, 2)
    assert ledger.budget().spent == pytest.approx(spent(0, 2))
    settle(ledger, 1)
    assert ledger.budget().spent == pytest.approx(spent(1, 1))
    assert ledger.budget().settled == pytest.approx(spent(1, 0))
    assert ledger.budget().fallback == pytest.approx(spent(0, 2))


@pytest.mark.parametrize("unsettled", [True, False])
def test_a_release_that_passes_the_limit_is_refused(tmp_path: Path, unsettled: bool) -> None:
    ledger = make_ledger(tmp_path)
    ledger.set_caps(spent(0, 3) if unsettled else spent(2, 1))
    for number in (1, 2):
        reserve(ledger, number)
        if not unsettled:
            settle(ledger, number)
    reserve(ledger, 3)
    assert refusal(reserve, ledger, 4) == Code.LEDGER_OVER_BUDGET
    assert ledger.budget().releases == 3
    assert ledger.budget().spent <= ledger.budget().epsilon_cap


def test_a_release_fits_only_if_it_fits_at_fallback(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    ledger.set_caps(spent(1, 2) * 1.001)
    reserve(ledger, 1)
    reserve(ledger, 2)
    assert refusal(reserve, ledger, 3) == Code.LEDGER_OVER_BUDGET
    settle(ledger, 1)
    reserve(ledger, 3)


def test_the_limit_at_fallback_counts_settled_releases_at_fallback_too(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    ledger.set_caps(100.0, spent(0, 2))
    for number in (1, 2):
        reserve(ledger, number)
        settle(ledger, number)
    assert refusal(reserve, ledger, 3) == Code.LEDGER_OVER_BUDGET


def test_no_more_rounds_are_lost_than_approved(tmp_path: Path) -> None:
    """Two rounds are under way at any moment; one more may stay at fallback here."""
    ledger = make_ledger(tmp_path, approve=False)
    ledger.approve(approval(20, lost_rounds=1))
    for number in (1, 2, 3):
        reserve(ledger, number)
    assert refusal(reserve, ledger, 4) == Code.LEDGER_OVER_BUDGET
    settle(ledger, 3)
    reserve(ledger, 4)
    ledger.settle(release(2), "fallback")
    assert refusal(reserve, ledger, 5) == Code.LEDGER_OVER_BUDGET


def test_releases_private_on_their_own_are_never_lost(tmp_path: Path) -> None:
    """Mode local: headline and fallback are one price, and nothing is closed."""
    ledger = make_ledger(tmp_path, approve=False)
    steps = SampledSteps(rate=0.05, multiplier=2.0, steps=10)
    planned = Planned(kind="update", releases=30, headline=steps, fallback=steps)
    ledger.approve(approval(planned=(planned,), lost_rounds=0))
    for number in range(30):
        update = release(number, kind="update")
        asked = request(number, headline=steps, fallback=steps)
        ledger.reserve(update, STUDY, vector=draw(number), **asked)
        ledger.record_attempt(update, epoch=EPOCH, chain=(), payload_hash=digest("update"))
        assert ledger.payload_is_recorded(update, EPOCH, 0, digest("update"))
    assert ledger.budget().spent == pytest.approx(spent_epsilon({steps: 30}, DELTA))


def test_check_refuses_what_reserve_would_refuse_and_writes_nothing(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, approve=False)

    def check(number: int, **changes: Any) -> Any:
        settling = changes.pop("settling", ())
        length = changes.pop("length", 4)
        return ledger.check(
            release(number), STUDY, length=length, settling=settling, **request(number, **changes)
        )

    assert refusal(check, 1) == Code.LEDGER_NOT_APPROVED
    ledger.approve(approval(20, lost_rounds=0))
    rows = ledger.head().counter
    assert check(1) is None
    assert ledger.head().counter == rows
    stored = reserve(ledger, 1)
    assert np.array_equal(check(1).vector, stored.vector)
    assert refusal(check, 1, length=5) == Code.LEDGER_CONFLICT
    reserve(ledger, 2)
    assert refusal(check, 3) == Code.LEDGER_OVER_BUDGET
    assert check(3, settling=[release(1), release(1)]) is None
    assert refusal(check, 3) == Code.LEDGER_OVER_BUDGET


# One draw


def test_a_second_draw_of_a_release_is_never_stored(ledger: Ledger) -> None:
    first = reserve(ledger, 1, seed=1)
    again = reserve(ledger, 1, seed=2)
    assert np.array_equal(again.vector, first.vector)
    assert np.array_equal(again.vector, draw(1))
    held = ledger.stored(release(1))
    assert held is not None
    assert np.array_equal(held.vector, draw(1))
    assert held.vector.dtype == np.int64
    assert ledger.budget().releases == 1


@pytest.mark.parametrize(
    "change",
    [
        {"broadcast": digest("another model")},
        {"transcript": digest("another history")},
        {"clip": 0.5},
        {"grid_exponent": -21},
        {"vector": np.zeros(5, dtype=np.int64)},
    ],
)
def test_a_stored_release_is_not_given_for_another_request(
    ledger: Ledger, change: dict[str, Any]
) -> None:
    reserve(ledger, 1)
    assert refusal(reserve, ledger, 1, **change) == Code.LEDGER_CONFLICT
    assert ledger.budget().releases == 1


def test_the_stored_vector_cannot_be_written_to_or_exchanged(ledger: Ledger) -> None:
    stored = reserve(ledger, 1)
    with pytest.raises(ValueError, match="read-only"):
        stored.vector[0] = 0
    ledger._log.connection.execute("UPDATE vectors SET content = zeroblob(32)")
    assert refusal(ledger.stored, release(1)) == Code.LEDGER_DAMAGED
    assert refusal(reserve, ledger, 1) == Code.LEDGER_DAMAGED
    assert refusal(ledger.verify) == Code.LEDGER_DAMAGED


def test_extreme_integers_are_kept_exactly(ledger: Ledger) -> None:
    vector = np.array([2**63 - 1, -(2**63), 0, -1], dtype=np.int64)
    reserve(ledger, 1, vector=vector)
    held = ledger.stored(release(1))
    assert held is not None
    assert np.array_equal(held.vector, vector)


def test_a_closed_run_keeps_hashes_and_no_vectors(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    marked = np.frombuffer(b"NOISYVECTOR-AS-IT-LEFT-THE-SITE!", dtype=np.int64)
    reserve(ledger, 1, vector=marked)
    attempt(ledger, 1)
    files = list(tmp_path.glob("ledger.sqlite*"))
    assert any(marked.tobytes() in file.read_bytes() for file in files)
    ledger.close_run("run")
    assert not any(marked.tobytes() in file.read_bytes() for file in files)
    assert ledger.stored(release(1)) is None
    assert not ledger.payload_is_recorded(release(1), EPOCH, 1, digest("payload"))
    for number in (1, 2):
        assert refusal(reserve, ledger, number) == Code.LEDGER_CONFLICT
    assert refusal(attempt, ledger, 1) == Code.LEDGER_CONFLICT
    assert refusal(ledger.approve, approval()) == Code.LEDGER_CONFLICT
    other = digest("another study")
    assert refusal(ledger.approve, approval(study_hash=other)) == Code.LEDGER_CONFLICT
    assert ledger.budget().releases == 1
    ledger.verify()


# One chain


def test_only_a_chain_that_extends_the_one_answered_is_answered(ledger: Ledger) -> None:
    smaller = (*CHAIN, tuple(sorted((ME.public, *PEERS[:2]))))
    other = (*CHAIN, tuple(sorted((ME.public, *PEERS[1:]))))
    not_nested = (smaller[1], CHAIN[0])
    reserve(ledger, 1)
    assert refusal(attempt, ledger, 1, LEFT_OUT) == Code.LEDGER_CONFLICT
    assert refusal(attempt, ledger, 1, not_nested) == Code.LEDGER_CONFLICT
    attempt(ledger, 1)
    attempt(ledger, 1, smaller, payload_hash=digest("second payload"))
    for chain in (CHAIN, other, (smaller[1],), ()):
        assert refusal(attempt, ledger, 1, chain) == Code.LEDGER_CONFLICT
    held = ledger.stored(release(1))
    assert held is not None
    assert held.chain == smaller


def test_an_attempt_has_one_payload(ledger: Ledger) -> None:
    reserve(ledger, 1)
    assert not ledger.payload_is_recorded(release(1), EPOCH, 1, digest("payload"))
    attempt(ledger, 1)
    assert ledger.payload_is_recorded(release(1), EPOCH, 1, digest("payload"))
    assert not ledger.payload_is_recorded(release(1), EPOCH, 1, digest("other"))
    assert not ledger.payload_is_recorded(release(1), EPOCH, 2, digest("payload"))
    assert not ledger.payload_is_recorded(release(2), EPOCH, 1, digest("payload"))
    rows = ledger.head().counter
    attempt(ledger, 1)
    assert ledger.head().counter == rows
    assert refusal(attempt, ledger, 1, payload_hash=digest("other")) == Code.LEDGER_CONFLICT
    attempt(ledger, 1, epoch=b"f" * 16, payload_hash=digest("other"))
    assert ledger.payload_is_recorded(release(1), b"f" * 16, 1, digest("other"))


def test_an_attempt_needs_a_reservation(ledger: Ledger) -> None:
    assert refusal(attempt, ledger, 1) == Code.LEDGER_CONFLICT


@pytest.mark.parametrize("how", ["closed", "settled"])
def test_no_attempt_after_a_release_is_over(ledger: Ledger, how: str) -> None:
    reserve(ledger, 1)
    attempt(ledger, 1)
    if how == "closed":
        ledger.record_closing(release(1), CHAIN)
    else:
        ledger.settle(release(1), "fallback")
    assert refusal(attempt, ledger, 1) == Code.LEDGER_CONFLICT
    smaller = (*CHAIN, tuple(sorted((ME.public, *PEERS[:2]))))
    assert refusal(attempt, ledger, 1, smaller) == Code.LEDGER_CONFLICT


# One price


def test_headline_needs_a_closing_over_the_own_chain(ledger: Ledger) -> None:
    reserve(ledger, 1)
    assert refusal(ledger.settle, release(1), "headline") == Code.LEDGER_CONFLICT
    attempt(ledger, 1)
    assert refusal(ledger.settle, release(1), "headline") == Code.LEDGER_CONFLICT
    ledger.record_closing(release(1), LEFT_OUT)
    assert refusal(ledger.settle, release(1), "headline") == Code.LEDGER_CONFLICT
    assert refusal(ledger.record_closing, release(1), CHAIN) == Code.LEDGER_CONFLICT
    reserve(ledger, 2)
    ledger.record_closing(release(2), ())
    assert refusal(ledger.settle, release(2), "headline") == Code.LEDGER_CONFLICT


def test_a_release_costs_headline_or_fallback_and_never_both(ledger: Ledger) -> None:
    reserve(ledger, 1)
    attempt(ledger, 1)
    ledger.settle(release(1), "fallback")
    assert ledger.budget().spent == pytest.approx(spent(0, 1))
    ledger.record_closing(release(1), CHAIN)
    for _ in range(2):  # late statements; twice
        ledger.settle(release(1), "headline", b"statements")
        assert ledger.budget().spent == pytest.approx(spent(1, 0))
        assert ledger.budget().settled == pytest.approx(spent(1, 0))
    assert refusal(ledger.settle, release(1), "fallback") == Code.LEDGER_CONFLICT
    assert ledger.budget().spent == pytest.approx(spent(1, 0))


def test_one_transaction_closes_settles_and_reserves_or_does_none_of_it(ledger: Ledger) -> None:
    reserve(ledger, 1)
    attempt(ledger, 1)
    rows = ledger.head().counter

    def all_at_once(number: int, run: str = "run", seed: int = 0) -> Stored:
        with ledger.one_commit():
            ledger.record_closing(release(1), CHAIN)
            ledger.settle(release(1), "headline", b"proof")
            return reserve(ledger, number, seed, run)

    assert refusal(all_at_once, 9, "x") == Code.LEDGER_NOT_APPROVED
    assert ledger.head().counter == rows
    assert ledger.budget().spent == pytest.approx(spent(0, 1))
    all_at_once(2, seed=2)
    assert ledger.budget().spent == pytest.approx(spent(1, 1))
    assert np.array_equal(all_at_once(2, seed=3).vector, draw(2))


def test_a_run_belongs_to_one_study(tmp_path: Path) -> None:
    """A second study of the same run could close and settle what the first has released."""
    other = digest("another study")
    with make_ledger(tmp_path) as ledger:
        ledger.approve(approval(study_hash=other))
        reserve(ledger, 1)
        assert refusal(reserve, ledger, 2, study_hash=other) == Code.LEDGER_CONFLICT
        reserve(ledger, 2)


def test_calls_in_one_commit_are_all_on_the_disk_or_none(tmp_path: Path) -> None:
    with make_ledger(tmp_path) as ledger:
        rows = ledger.head().counter
        assert refusal(reserve_and_attempt, ledger, 1, 2) == Code.LEDGER_CONFLICT
        assert ledger.head().counter == rows
        assert ledger.stored(release(1)) is None
        reserve_and_attempt(ledger, 1, 1)
    with open_ledger(tmp_path) as ledger:
        assert ledger.verify() == rows + 2
        assert ledger.payload_is_recorded(release(1), EPOCH, 1, digest("payload"))


def test_the_account_survives_reopening(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    for number in range(4):
        reserve(ledger, number)
    settle(ledger, 0)
    ledger.note_heads({PEERS[0]: (7, b"h" * 32), PEERS[1]: (3, b"o" * 32)})
    ledger.note_heads({PEERS[0]: (6, b"lower"), PEERS[1]: (4, b"i" * 32)})
    secret, salt, head, budget = ledger.secret, ledger.salt, ledger.head(), ledger.budget()
    ledger.close()
    with open_ledger(tmp_path) as again:
        assert (again.secret, again.salt, again.head()) == (secret, salt, head)
        assert again.budget() == budget
        assert again.heads_seen == {PEERS[0]: (7, b"h" * 32), PEERS[1]: (4, b"i" * 32)}
    assert len(secret) == len(salt) == 32
    assert secret != salt


# What still fits


def test_the_planner_names_what_still_fits(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, approve=False, cap=3.0)
    assert ledger.budget().next_epsilon == pytest.approx(3.0, abs=0.01)
    ledger.approve(approval(10, lost_rounds=0))
    budget = ledger.budget()
    assert budget.spent == 0
    assert budget.promised == pytest.approx(spent(8, 2))
    (line,) = budget.lines
    assert (line.done, line.left, line.releases) == (0, 10, 10)
    more = line.more_fit
    assert spent(8 + more, 2) <= 3.0 < spent(9 + more, 2)
    vote = Vote(epsilon=0.1)
    ledger.approve(
        approval(run="r", planned=(Planned(kind="v", releases=1, headline=vote, fallback=vote),))
    )
    assert ledger.budget().next_epsilon < budget.next_epsilon


def test_an_account_of_a_thousand_entries_answers_within_ten_milliseconds(tmp_path: Path) -> None:
    """Processor time, the best of five: other work on the machine does not count."""
    ledger = make_ledger(tmp_path, approve=False, cap=1e4)
    ledger.approve(approval(1000, lost_rounds=1000))
    for number in range(1000):
        reserve(ledger, number)
    times = []
    for _ in range(5):
        start = time.process_time()
        ledger.budget()
        times.append(time.process_time() - start)
    assert min(times) < 0.01


# Heads and rollback


def test_claims_of_the_own_history_are_accepted_and_others_refused(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    early = ledger.head()
    reserve(ledger, 1)
    ledger.check_not_behind([early, ledger.head()])
    late = ledger.head()
    for claim in (
        (late.counter + 1, late.digest),
        (late.counter, early.digest),
        (early.counter, late.digest),
        (0, b""),
    ):
        assert refusal(ledger.check_not_behind, [claim]) == Code.LEDGER_BEHIND


def test_what_a_peer_has_seen_is_kept_for_recovery(tmp_path: Path) -> None:
    with make_ledger(tmp_path) as ledger:
        ledger.check_not_behind([ledger.head()])
        assert read_claims(ledger.path) == []
        ahead = LedgerHead(99, b"a" * 32)
        assert refusal(ledger.check_not_behind, [ahead]) == Code.LEDGER_BEHIND
        assert read_claims(ledger.path) == [ahead]
    done = recover(tmp_path / "ledger.sqlite", ME, claims=[ahead], charge_lost=True)
    assert done.charged == 6


def test_the_head_does_not_tell_what_the_rows_say(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    row = ledger.export_rows()[-1]
    assert ledger.head().counter == row.sequence
    assert row.hash not in ledger.head().digest
    assert ledger.salt not in b"".join(row.body for row in ledger.export_rows())
    assert ledger.secret not in b"".join(row.body for row in ledger.export_rows())


def test_limits_that_are_none_are_coded_errors(tmp_path: Path) -> None:
    for wrong in ({"epsilon_cap": 0.0}, {"delta": 0.0}, {"delta": 1.0}):
        arguments = {"delta": DELTA, "epsilon_cap": 1.0} | wrong
        assert refusal(Ledger.create, tmp_path / "l", Identity.generate(), **arguments) in {
            Code.PRIVACY_PARAMETER,
            Code.PRIVACY_DELTA,
        }
    ledger = make_ledger(tmp_path)
    for cap in (0.0, -1.0, float("nan"), float("inf")):
        assert refusal(ledger.set_caps, cap) == Code.PRIVACY_PARAMETER
        assert refusal(ledger.set_caps, 1.0, cap) == Code.PRIVACY_PARAMETER
