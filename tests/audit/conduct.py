"""Defects in what a hospital does besides computing: sampling, votes, closing, settling, ticks."""

from __future__ import annotations

from typing import Any

from polyclinic_client.compute import sampling
from polyclinic_client.gate import due, gate
from polyclinic_client.ledger import rules
from polyclinic_client.run import vote_responder
from polyclinic_common.privacy import votes
from polyclinic_common.secure_sum import chain, settlement
from tests.audit.registry import mutation, put


@mutation("test_sampling_is_poisson.py", audited=False)
def sampling_rate_doubled() -> None:
    """Patients are taken twice as often as charged."""
    honest = sampling.SystemSampler.rows

    def rows(sampler: Any, patients: int, rate: float, moment: Any) -> Any:
        return honest(sampler, patients, 2.0 * rate, moment)

    put(sampling.SystemSampler, "rows", rows)


@mutation("test_sampling_is_poisson.py", audited=False)
def one_sample_for_all_steps() -> None:
    """The first sample is used in every step."""
    honest, drawn = sampling.SystemSampler.rows, dict[tuple[Any, ...], Any]()

    def rows(sampler: Any, patients: int, rate: float, moment: Any) -> Any:
        key = sampler, patients, rate
        if key not in drawn:
            drawn[key] = honest(sampler, patients, rate, moment)
        return drawn[key]

    put(sampling.SystemSampler, "rows", rows)


def exchange_votes(said: Any) -> None:
    """Exchange how a vote is randomised, wherever it is called."""
    put(votes, "randomised", said)
    put(vote_responder, "randomised", said)


@mutation("test_votes_are_random.py")
def the_truth_told_too_often() -> None:
    """A vote is randomised at twice the epsilon that it is charged."""
    honest = votes.randomised
    exchange_votes(lambda truth, epsilon, word: honest(truth, 2.0 * epsilon, word))


@mutation("test_votes_are_random.py", audited=False)
def an_abstention_tells() -> None:
    """Who abstains says no as often as somebody who means it."""
    honest = votes.randomised
    exchange_votes(lambda truth, epsilon, word: honest(bool(truth), epsilon, word))


@mutation("test_ledger.py", audited=False)
def an_attempt_answered_after_closing() -> None:
    """A site that signed that it answers no further attempt answers one."""
    honest = rules.check_attempt

    def check(state: Any, attempt: Any, *more: Any) -> Any:
        held = state.releases.get(attempt.release)
        if held is None:
            return honest(state, attempt, *more)
        closed, held.closed = held.closed, None
        try:
            return honest(state, attempt, *more)
        finally:
            held.closed = closed

    put(rules, "check_attempt", check)


@mutation("test_secure_sum.py", audited=False)
def settled_with_one_statement_too_few() -> None:
    """A sum costs its headline with one closing statement less than the rule asks for."""
    honest = chain.statements_needed
    put(settlement, "statements_needed", lambda *rule: honest(*rule) - 1)


@mutation("test_gate.py", audited=False)
def answers_leave_when_they_are_ready() -> None:
    """An answer leaves as soon as it is computed: its time tells the cohort's size."""
    put(due.Due, "at", lambda waited, now: waited.steps[0]._replace(moment=now))


@mutation("test_gate.py", audited=False)
def answers_leave_at_once() -> None:
    """The gate works out the tick, writes it down, and does not wait for it."""
    honest = gate.Gate.__init__

    def made(guard: Any, *arguments: Any, **names: Any) -> None:
        honest(guard, *arguments, **names)
        guard._clock = Hurried(guard._clock)

    put(gate.Gate, "__init__", made)


class Hurried:
    """A clock that nobody waits for."""

    def __init__(self, clock: Any):
        self._clock = clock

    def now(self) -> float:
        moment: float = self._clock.now()
        return moment

    def wait_until(self, moment: float) -> None:
        """Return at once."""
