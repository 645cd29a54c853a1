"""A hospital's vote is randomised, charged, sent to abstain too, and the same when repeated."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom

from polyclinic_client.compute.opinion import BetterHere, Opinion, concordance, smaller_before
from polyclinic_client.ledger.entries import Planned
from polyclinic_client.records import journal
from polyclinic_client.run.flower_app import make_client_app
from polyclinic_client.run.responder import Responder
from polyclinic_client.run.update_responder import UpdateResponder
from polyclinic_client.run.vote_responder import VoteResponder, system_coin
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import GateError, PrivacyError
from polyclinic_common.evaluation.observed import held_out_cohort
from polyclinic_common.models.head import initial_weights
from polyclinic_common.models.score_head import Vector
from polyclinic_common.privacy import gdp
from polyclinic_common.privacy.charges import Vote
from polyclinic_common.privacy.votes import (
    chance_of_acceptance,
    estimated_in_favour,
    is_accepted,
    randomised,
)
from polyclinic_common.release_id import VOTE
from polyclinic_common.releases.shares import training_share
from polyclinic_common.wire import (
    CastVote,
    Reason,
    Refusal,
    VoteRequest,
    decode_reply,
    encode_request,
)
from polyclinic_simulations.federation.setting import Setting
from tests.kits.gate import House, context, make_house, message
from tests.kits.ledger import STUDY
from tests.kits.small import small_study, small_table

EPSILON, ROUNDS = 0.8, 6
CHARGE = Vote(epsilon=EPSILON)
WORDS = 2**64


@dataclass
class Asked:
    """An opinion that counts how often it was asked."""

    truth: bool | None
    count: int = 0

    def __call__(self, candidate: Vector) -> bool | None:
        self.count += 1
        return self.truth


@pytest.fixture
def house(tmp_path: Path) -> House:
    planned = (Planned(kind=VOTE, releases=1, headline=CHARGE, fallback=CHARGE),)
    return make_house(tmp_path / "site", planned=planned)


def voter(house: House, opinion: Opinion, word: int | None = None) -> VoteResponder:
    coin = system_coin(b"") if word is None else lambda _: word
    return VoteResponder(
        STUDY, 4, ROUNDS, charge=CHARGE, opinion=opinion, ledger=house.ledger, coin=coin
    )


def request(**changes: Any) -> VoteRequest:
    fields: dict[str, Any] = {"study_hash": STUDY.hex(), "run_id": "run", "round_number": ROUNDS}
    return VoteRequest(**fields | {"weights": np.zeros(4)} | changes)


def ask(house: House, made: VoteResponder | None, asked: VoteRequest) -> object:
    updates = UpdateResponder(STUDY, 4, ROUNDS, personal=False, ledger=house.ledger, mechanisms={})
    site = Responder(STUDY.hex(), "run", updates, house.gate, house.journal, made)
    content: RecordDict = encode_request(asked)
    app = make_client_app(lambda _: site)
    return decode_reply(app(message(content), context()).content)


def test_the_truth_is_told_as_often_as_the_price_says() -> None:
    """60,000 votes each way.

    The truth is told with probability p = 0.69. A count outside 5.2 standard deviations has
    probability below 4e-7 over both tests; told with probability p + 0.02 (epsilon 0.9) the test
    fails with probability above 0.9999.
    """
    count, truth = 60_000, float(expit(EPSILON))
    coin = system_coin(b"secret")
    for said in (True, False):
        told = sum(randomised(said, EPSILON, coin(b"test")) is said for _ in range(count))
        assert abs(told - count * truth) < 5.2 * np.sqrt(count * truth * (1 - truth))


@pytest.mark.parametrize("epsilon", [1e-6, 0.1, 1.0, 20.0])
def test_no_vote_tells_more_than_its_price(epsilon: float) -> None:
    """The chance of a yes, counted in words of 64 bits, of the three things a hospital can mean."""

    def chances(truth: bool | None) -> tuple[int, int]:
        low, high = 0, WORDS  # words below the border say the same
        first = randomised(truth, epsilon, 0)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (middle, high) if randomised(truth, epsilon, middle) is first else (low, middle)
            )
        return (high, WORDS - high) if first else (WORDS - high, high)

    laws = [chances(truth) for truth in (True, False, None)]
    for one in laws:
        for other in laws:
            for mine, theirs in zip(one, other, strict=True):
                assert mine <= theirs * np.exp(epsilon) * (1 + 1e-12) + 1


def test_votes_are_read_without_bias_and_a_quorum_is_found_as_often_as_stated() -> None:
    votes, epsilon, in_favour = 16, 2.0, 12
    truth = float(expit(epsilon))
    law = np.convolve(
        binom.pmf(np.arange(in_favour + 1), in_favour, truth),
        binom.pmf(np.arange(votes - in_favour + 1), votes - in_favour, 1 - truth),
    )
    found = [estimated_in_favour(yes, votes, epsilon) for yes in range(votes + 1)]
    assert law @ found == pytest.approx(in_favour)
    assert chance_of_acceptance(16, 16, 2.0, 0.5) > 0.99
    assert chance_of_acceptance(0, 16, 2.0, 0.5) < 1e-3
    assert chance_of_acceptance(16, 16, 0.1, 0.5) < 0.75
    assert not is_accepted(0, 0, 1.0, 0.5)


@pytest.mark.parametrize("truth", [True, False, None])
def test_a_repeated_request_gets_the_same_vote_and_the_patients_are_asked_once(
    truth: bool | None, house: House
) -> None:
    opinion = Asked(truth)
    said = [ask(house, voter(house, opinion), request()) for _ in range(20)]
    assert isinstance(said[0], CastVote)
    assert len({vote.in_favour for vote in said if isinstance(vote, CastVote)}) == 1
    assert len(said) == 20
    assert opinion.count == 1
    assert house.ledger.state.counted == Counter({CHARGE: 1})


def test_every_vote_stands_in_the_journal_with_its_price(house: House) -> None:
    ask(house, voter(house, Asked(None)), request())
    left = [
        noted.event for noted in house.journal.events() if isinstance(noted.event, journal.Left)
    ]
    assert [event.cost for event in left] == [CHARGE]


def test_a_vote_that_was_turned_is_stopped_at_the_gate(house: House) -> None:
    made = voter(house, Asked(True), word=0)
    cast = made.vote(request())
    asked = journal.Asked(
        who="server", what="vote_request", study_hash=STUDY, run="run", round_number=ROUNDS
    )
    turned = CastVote(cast.study_hash, cast.run_id, cast.round_number, 1 - cast.in_favour)
    with pytest.raises(GateError):
        house.gate.let_out(turned, asked, house.due())
    house.gate.let_out(cast, asked, house.due())


@pytest.mark.parametrize(
    "changes",
    [
        {"round_number": ROUNDS + 1},
        {"weights": np.zeros(3)},
        {"weights": np.full(4, 1e7)},
    ],
)
def test_a_request_out_of_place_is_refused_before_anything_is_charged(
    changes: dict[str, Any], house: House
) -> None:
    opinion = Asked(True)
    assert ask(house, voter(house, opinion), request(**changes)) == Refusal(Reason.OUT_OF_ORDER)
    assert opinion.count == 0
    assert not house.ledger.state.counted


def test_a_second_model_is_not_voted_on(house: House) -> None:
    ask(house, voter(house, Asked(True)), request())
    other = request(weights=np.ones(4))
    assert ask(house, voter(house, Asked(True)), other) == Refusal(Reason.OUT_OF_ORDER)


def test_a_hospital_that_did_not_approve_a_vote_sends_none(tmp_path: Path) -> None:
    house = make_house(tmp_path / "other")
    opinion = Asked(True)
    assert ask(house, voter(house, opinion), request()) == Refusal(Reason.NOT_APPROVED)
    assert opinion.count == 0


@pytest.mark.parametrize("kind", ["continuous", "binary", "survival"])
def test_a_hospital_is_in_favour_of_what_is_better_on_its_own_patients(kind: str) -> None:
    encoding = Encoding(small_study(kind))
    held_out = held_out_cohort(encoding, small_table(200), "site 0")
    base = initial_weights(encoding.study, encoding, 0)
    good, bad = base.copy(), base.copy()
    good[0], bad[0] = 1.0, -1.0  # age matters
    assert BetterHere(encoding, held_out, base)(good) is True
    assert BetterHere(encoding, held_out, base)(bad) is False
    assert BetterHere(encoding, held_out, good)(good) is False


def test_a_hospital_with_too_few_patients_abstains_and_a_better_formula_is_preferred() -> None:
    encoding = Encoding(small_study("continuous"))
    base = initial_weights(encoding.study, encoding, 0)
    good = base.copy()
    good[0] = 1.0
    few = held_out_cohort(encoding, small_table(4), "site 0")
    assert BetterHere(encoding, few, base)(good) is None
    many = held_out_cohort(encoding, small_table(200), "site 0")
    perfect = many.y[:, 0].copy()
    assert BetterHere(encoding, many, base, (perfect,))(good) is False
    nearly_absent = np.where(np.arange(200) < 3, perfect, np.nan)
    assert BetterHere(encoding, many, base, (nearly_absent,))(good) is True


def test_the_concordance_is_that_of_all_pairs() -> None:
    random = np.random.default_rng(1)
    risk, time = random.integers(0, 9, 300) / 2.0, random.integers(1, 50, 300) / 1.0
    event = random.random(300) < 0.6
    right = [
        1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
        for i in np.flatnonzero(event)
        for j in range(300)
        if time[i] < time[j]
    ]
    assert concordance(risk, time, event) == sum(right) / len(right)
    assert concordance(risk, time, np.zeros(300, dtype=bool)) == 0.0


@settings(max_examples=300, deadline=None)
@given(
    patients=st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 6), st.booleans()), max_size=40)
)
def test_the_concordance_counts_ties_as_counting_every_pair_does(
    patients: list[tuple[int, int, bool]],
) -> None:
    risk, time = (np.array([one[k] for one in patients], dtype=float) / 3 for k in (0, 1))
    event = np.array([one[2] for one in patients], dtype=bool)
    pairs = [(i, j) for i in np.flatnonzero(event) for j in range(len(risk)) if time[i] < time[j]]
    right = sum(0.5 + 0.5 * np.sign(risk[i] - risk[j]) for i, j in pairs)
    assert concordance(risk, time, event) == right / max(1, len(pairs))


@given(numbers=st.lists(st.integers(0, 30), max_size=31))
def test_smaller_numbers_before_are_counted_exactly(numbers: list[int]) -> None:
    counted = smaller_before(np.array(numbers, dtype=np.int64))
    assert counted.tolist() == [sum(x < y for x in numbers[:i]) for i, y in enumerate(numbers)]


class Touched(np.ndarray):
    """Numbers that count how many numbers are computed from them."""

    count = 0

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **more: Any) -> Any:
        plain = [np.asarray(each) if isinstance(each, Touched) else each for each in inputs]
        if "out" in more:
            more["out"] = tuple(np.asarray(each) for each in more["out"])
        found = np.asarray(getattr(ufunc, method)(*plain, **more))
        Touched.count += found.size
        return found.view(Touched)


def test_comparing_does_not_grow_with_the_square_of_the_patients() -> None:
    """Counted in numbers that are computed, not in seconds; all pairs are 268 million."""
    random, count = np.random.default_rng(3), 1 << 14
    risk, time = (random.random(count).view(Touched) for _ in range(2))
    Touched.count = 0
    assert 0.45 < concordance(risk, time, np.ones(count, dtype=bool)) < 0.55
    assert 0 < Touched.count < 100 * count


def test_a_vote_on_many_patients_needs_little_memory() -> None:
    """All pairs at once would be 64 million, half a gigabyte in float64."""
    random = np.random.default_rng(2)
    encoding = Encoding(small_study("survival"))
    many = held_out_cohort(encoding, small_table(8000), "site 0")
    many.y[:, :2] = np.column_stack([random.random(8000), np.ones(8000)])
    base = initial_weights(encoding.study, encoding, 0)
    tracemalloc.start()
    try:
        assert BetterHere(encoding, many, base)(base) is False
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100e6


def test_the_vote_is_paid_out_of_the_studys_budget_or_the_study_is_refused() -> None:
    def study(epsilon: float) -> Any:
        made = small_study(evaluation={"acceptance": {"epsilon": epsilon}})
        return Setting("secure-sum", 1.0, "descent").apply(made)

    mu = gdp.mu_of(1.0, 1e-5)
    assert training_share(study(0.1)) == pytest.approx(1 - (Vote(epsilon=0.1).mu / mu) ** 2)
    with pytest.raises(PrivacyError, match="leave nothing"):
        training_share(study(0.5))
