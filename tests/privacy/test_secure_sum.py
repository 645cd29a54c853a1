"""The secure sum: each test is named after the attack that fails, or the promise that is kept.

The only randomness is that of keys from the operating system. A look at uniform bytes raises a
false alarm with probability 1e-9 (`looks_uniform` of the kit); fewer than 300 looks, all together
below 3e-7. The power against the mutations named here is 1, except for events below 2^-60.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from polyclinic_common.errors import Code, MessageError
from polyclinic_common.identity.roster import Member, Roster
from polyclinic_common.identity.site_key import Identity, verify
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.packing import Value, pack, unpack
from polyclinic_common.release_id import ReleaseId
from polyclinic_common.secure_sum.chain import (
    Chain,
    counted,
    extends,
    is_nested,
    statements_needed,
    transcript,
)
from polyclinic_common.secure_sum.masks import View, Words, mask_key, masked, unmasked_sum
from polyclinic_common.secure_sum.session import Agreed, KeyExchange
from polyclinic_common.secure_sum.settlement import AnsweredSum
from polyclinic_common.secure_sum.statements import Closing, KeyAnnouncement, KeyAnswer
from tests.kits.secure_sum import (
    EXPIRES,
    HOSPITALS,
    NOBODY,
    NOW,
    RELEASE,
    RUN,
    STUDY,
    Party,
    agree,
    everyone,
    looks_uniform,
    other_epoch,
    parties,
    roster_of,
    summed,
    view_of,
)

LENGTH = 4096
LEAST, MOST = -(2**63), 2**63 - 1


def refused(action: Callable[[], object]) -> str:
    """Return why an action is refused."""
    with pytest.raises(MessageError) as error:
        action()
    assert error.value.code in {Code.PROTOCOL_REFUSED, Code.MESSAGE_INVALID}
    return error.value.what


def parts(statement: bytes) -> tuple[bytes, bytes]:
    """Return body and signature of a statement."""
    match unpack(statement):
        case (bytes() as body, bytes() as signature):
            return body, signature
    raise AssertionError


# Keys, announcements and answers


def test_copied_ephemeral_key_is_refused() -> None:
    """A colluder announces an honest hospital's key as its own."""
    first, honest, colluder = parties(3)
    stolen = read_signed(KeyAnnouncement, honest.announced)
    for copied in ({"agreement_key": stolen.agreement_key}, {"kem_key": stolen.kem_key}):
        shown = [first.announced, honest.announced, colluder.said(**copied)]
        assert "twice" in refused(partial(first.answer, shown))


@pytest.mark.parametrize("spelling", ["highest bit", "plus the field's prime"])
def test_copied_ephemeral_key_in_another_spelling_is_refused(spelling: str) -> None:
    """X25519 ignores the highest bit and reduces modulo 2^255 - 19 (RFC 7748)."""
    first, honest, colluder = parties(3)
    number = int.from_bytes(read_signed(KeyAnnouncement, honest.announced).agreement_key, "little")
    if spelling == "highest bit":
        other = number | 1 << 255
    else:
        number = 9  # only numbers below 19 have a second spelling of 255 bits
        other = number + 2**255 - 19
    same, copy = number.to_bytes(32, "little"), other.to_bytes(32, "little")
    assert first.exchange._keys.agree(same) == first.exchange._keys.agree(copy)
    shown = [first.announced, honest.said(agreement_key=same), colluder.said(agreement_key=copy)]
    assert "canonical" in refused(lambda: first.answer(shown))


def test_copied_ephemeral_key_cancels_no_mask() -> None:
    """Even if it were accepted: the pair is in the mask key, so the two streams differ."""
    agreed = agree(parties(3))
    own, honest, colluder = everyone(3)
    view = view_of(agreed[own], (everyone(3),), LENGTH)
    copy = replace(view.participants[1], identity=colluder)
    view = replace(view, participants=(*view.participants[:2], copy))
    secret = agreed[own].secrets[honest]
    honest_key = mask_key(view.digest(), (view.participants[0], view.participants[1]), secret)
    copied_key = mask_key(view.digest(), (view.participants[0], copy), secret)
    assert honest_key != copied_key


@pytest.mark.parametrize("point", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18])
def test_all_zero_secret_is_refused(point: int) -> None:
    """A key of small order makes a secret that everybody knows."""
    party = parties(2)[0]
    small = point.to_bytes(32, "little")
    assert "cannot be used" in refused(lambda: party.exchange._keys.agree(small))


def test_all_zero_secret_is_refused_in_the_exchange() -> None:
    first, second, third = parties(3)
    announced = [first.announced, second.announced, third.said(agreement_key=bytes(32))]
    answers = [each.answer(announced) for each in (first, second)]
    bad = KeyAnswer(
        identity=third.identity.public,
        study_hash=STUDY,
        run=RUN,
        session=read_signed(KeyAnswer, answers[0]).session,
        ciphertexts=(),
        receipts=(),
    ).signed(third.identity)
    assert "cannot be used" in refused(lambda: first.exchange.agree([*answers, bad]))


def test_repeated_identity_is_refused() -> None:
    first, second, third = parties(3)
    again = second.said(epoch=b"n" * 16, agreement_key=b"k" * 31 + b"\0", kem_key=b"")
    shown = [each.announced for each in (first, second, third)] + [again]
    assert "twice" in refused(lambda: first.answer(shown))


def test_replayed_announcement_of_an_earlier_epoch_is_refused() -> None:
    """A restarted node finds its own old announcement instead of the new one."""
    before, other, third = parties(3)
    after = Party(before.identity, roster_of(HOSPITALS[:3]))
    shown = [before.announced, other.announced, third.announced]
    assert "own announcement" in refused(lambda: after.answer(shown))
    assert "twice" in refused(lambda: other.answer([*shown, after.announced]))


def test_replayed_announcement_of_a_peer_gives_no_secret() -> None:
    """A peer's old keys are shown to one hospital: the peer's answer names another exchange."""
    honest, restarted, third = parties(3)
    after = Party(restarted.identity, roster_of(HOSPITALS[:3]))
    old = [honest.announced, restarted.announced, third.announced]
    new = [honest.announced, after.announced, third.announced]
    honest.answer(old)
    answers = [after.answer(new), third.answer(new)]
    assert "other announcements" in refused(lambda: honest.exchange.agree(answers))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"run": "other run"}, "another study or run"),
        ({"study_hash": bytes(32)}, "another study or run"),
        ({"roster_hash": bytes(32)}, "different rosters"),
        ({"expires": NOW - 1}, "expired"),
    ],
)
def test_announcement_of_another_study_run_roster_or_time_is_refused(
    changes: dict[str, Any], why: str
) -> None:
    first, second, third = parties(3)
    shown = [first.announced, second.announced, third.said(**changes)]
    assert why in refused(lambda: first.answer(shown))


def test_expired_announcement_is_refused() -> None:
    members = parties(3)
    shown = [each.announced for each in members]
    assert "expired" in refused(lambda: members[0].answer(shown, now=EXPIRES + 1))
    members[0].answer(shown, now=EXPIRES)


def test_keys_say_when_the_first_of_them_expires() -> None:
    members = parties(3)
    members[2].announced = members[2].announce(expires=EXPIRES - 100)
    assert {each.expires for each in agree(members).values()} == {EXPIRES - 100}


def test_hospital_outside_the_roster_is_refused() -> None:
    first, second, _ = parties(3)
    stranger = Party(HOSPITALS[5], roster_of(HOSPITALS[:3]))
    shown = [first.announced, second.announced, stranger.announced]
    assert "outside the roster" in refused(lambda: first.answer(shown))


def test_forged_signature_is_refused() -> None:
    first, second, third = parties(3)
    body, signature = parts(third.announced)
    other = second.identity.sign(body)
    flipped = bytes([signature[0] ^ 1, *signature[1:]])
    changed = body.replace(third.identity.public, second.identity.public)
    for forged in (
        pack([body, other]),
        pack([body, flipped]),
        pack([body, b""]),
        pack([changed, signature]),
        pack([body + b"x", signature]),
        pack([body]),
        body,
    ):
        shown = [first.announced, second.announced, forged]
        refused(partial(first.answer, shown))


def test_one_kind_of_statement_never_passes_for_another() -> None:
    """The label is signed: an announcement is no answer and no closing."""
    members = parties(3)
    announced = [each.announced for each in members]
    answer = members[0].answer(announced)
    closing = answered((everyone(3),)).closing(HOSPITALS[0], *STANDING)
    kinds = (KeyAnnouncement, KeyAnswer, Closing)
    statements = (announced[0], answer, closing)
    for kind in kinds:
        for own, statement in zip(kinds, statements, strict=True):
            if kind is own:
                assert read_signed(kind, statement).identity == HOSPITALS[0].public
            else:
                refused(partial(read_signed, kind, statement))


def test_the_same_fields_under_another_label_are_no_closing() -> None:
    """What a hospital signs elsewhere (rows of its ledger) is never a statement."""
    body = unpack(parts(answered((everyone(3),)).closing(HOSPITALS[0], *STANDING))[0])
    assert isinstance(body, tuple)
    for label in ("polyclinic row", "", b"polyclinic closing", 7):
        other = pack([label, *body[1:]])
        signed = pack([other, HOSPITALS[0].sign(other)])
        assert "is not a closing" in refused(partial(read_signed, Closing, signed))


@given(st.binary(max_size=200))
def test_rubbish_is_no_statement(data: bytes) -> None:
    for statement in (data, pack([data, bytes(64)]), pack([pack(["polyclinic closing"]), data])):
        refused(partial(read_signed, Closing, statement))


def test_key_of_small_order_or_wrong_length_verifies_nothing_by_accident() -> None:
    assert not verify(b"", b"message", bytes(64))
    assert not verify(bytes(31), b"message", bytes(64))
    assert not verify(b"\xff" * 32, b"message", bytes(64))


def test_another_sessions_answers_are_refused() -> None:
    """Hospitals that were shown different announcements share no mask."""
    members = parties(3)
    shown = [each.announced for each in members]
    others = [*shown[:2], members[2].announce(expires=EXPIRES + 1)]
    members[0].answer(shown)
    foreign = [members[1].answer(others), members[2].answer(others)]
    assert "other announcements" in refused(lambda: members[0].exchange.agree(foreign))


def test_answer_given_twice_or_by_a_stranger_is_refused() -> None:
    members = parties(3)
    shown = [each.announced for each in members]
    answers = [each.answer(shown) for each in members]
    assert "other announcements" in refused(
        lambda: members[0].exchange.agree([*answers, answers[1]])
    )
    session = read_signed(KeyAnswer, answers[0]).session
    stranger = KeyAnswer(
        identity=HOSPITALS[6].public,
        study_hash=STUDY,
        run=RUN,
        session=session,
        ciphertexts=(),
        receipts=(),
    ).signed(HOSPITALS[6])
    assert "other announcements" in refused(lambda: members[0].exchange.agree([*answers, stranger]))


def test_answer_without_the_ciphertext_for_this_hospital_is_refused() -> None:
    members = parties(3)
    shown = [each.announced for each in members]
    answers = [each.answer(shown) for each in members]
    without = read_signed(KeyAnswer, answers[0]).model_copy(update={"ciphertexts": ()})
    kept = [without.signed(members[0].identity), *answers[1:]]
    if read_signed(KeyAnnouncement, shown[0]).kem_key:
        assert "ciphertext" in refused(lambda: members[2].exchange.agree(kept))


def test_refused_announcements_leave_the_exchange_as_it_was() -> None:
    """A key that cannot be used, shown late, does not mix two exchanges."""
    members = parties(3)
    shown = [each.announced for each in members]
    answers = [each.answer(shown) for each in members]
    broken = [*shown[:2], members[2].said(kem_key=b"x" * 7)]
    refused(lambda: members[0].answer(broken))
    kept = members[0].exchange.agree(answers)
    assert (
        kept.secrets[everyone(3)[1]] == members[1].exchange.agree(answers).secrets[everyone(3)[0]]
    )


def test_nobody_is_agreed_with_before_answering() -> None:
    members = parties(3)
    shown = [each.announced for each in members]
    answers = [each.answer(shown) for each in members[1:]]
    refused(lambda: members[0].exchange.agree(answers))


def test_roster_with_one_key_twice_is_refused() -> None:
    """One hospital under two names would count twice in the size of the roster."""
    key = HOSPITALS[0].public
    refused(lambda: Roster.of({"a": key, "b": key}))
    refused(lambda: Roster.of({"a": key, "b": key[:31]}))
    refused(lambda: Roster((Member("b", everyone(2)[1]), Member("a", everyone(2)[0]))))


# Masks


words = st.one_of(
    st.sampled_from([LEAST, LEAST + 1, -1, 0, 1, MOST - 1, MOST]), st.integers(LEAST, MOST)
)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.integers(1, 9), st.data())
def test_the_sum_of_k_masked_vectors_equals_the_plain_sum(
    count: int, length: int, draw: st.DataObject
) -> None:
    """Modulo 2^64, extremes and wrap-around included."""
    rows = draw.draw(
        st.lists(st.lists(words, min_size=length, max_size=length), min_size=count, max_size=count)
    )
    agreed = agree(parties(count))
    chain = (everyone(count),)
    sent = [
        masked(
            np.array(row, dtype=np.int64).view(np.uint64),
            view_of(agreed[own], chain, length),
            own,
            agreed[own].secrets,
        )
        for own, row in zip(chain[0], rows, strict=True)
    ]
    exact = [sum(column) for column in zip(*rows, strict=True)]
    wrapped = [(total - LEAST) % 2**64 + LEAST for total in exact]
    assert unmasked_sum(sent).tolist() == wrapped


def test_vectors_of_other_lengths_are_not_summed() -> None:
    """A vector of length one would be spread over all entries."""
    vectors = [np.zeros(4, dtype=np.uint64), np.ones(1, dtype=np.uint64)]
    refused(lambda: unmasked_sum(vectors))
    refused(lambda: unmasked_sum(vectors[::-1]))


def test_masking_leaves_the_stored_vector_as_it_is() -> None:
    agreed = agree(parties(3))
    own = everyone(3)[1]
    vector = np.arange(5, dtype=np.uint64)
    vector.flags.writeable = False
    view = view_of(agreed[own], (everyone(3),), 5)
    one, two = (masked(vector, view, own, agreed[own].secrets) for _ in range(2))
    assert (vector == np.arange(5)).all()
    assert (one == two).all()


def views_with(
    agreed: dict[bytes, Agreed], asked: Chain, odd: bytes, changes: dict[str, Any]
) -> dict[bytes, View]:
    """Return everybody's view, one of them changed."""
    views = {own: view_of(agreed[own], asked, LENGTH) for own in asked[-1]}
    views[odd] = replace(views[odd], **changes)
    return views


ANOTHER: dict[str, dict[str, Any]] = {
    "study": {"study_hash": bytes(32)},
    "run": {"release": replace(RELEASE, run="other")},
    "round": {"release": replace(RELEASE, round_number=4)},
    "kind": {"release": replace(RELEASE, kind="metrics")},
    "length": {"length": LENGTH + 1},
    "clip": {"clip": 0.5},
    "grid": {"grid_exponent": -21},
    "roster": {"roster_hash": bytes(32)},
    "model": {"broadcast": bytes(32)},
    "history": {"history": bytes(32)},
    "start of the history": {"history": b""},
    "chain": {"chain": (everyone(4), everyone(3))},
    "repeated attempt": {"chain": (everyone(3), everyone(3))},
}


@pytest.mark.parametrize("what", ANOTHER)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_split_view_gives_uniform_rubbish(what: str, place: int) -> None:
    """One of three hospitals is shown something else: no sum comes out, of no two of them either.

    False alarm 4e-9 a case. Mutation: the field is not in the view; then the sum of all is
    the plain sum, whose upper bytes are constant, and the look fails with certainty.
    """
    agreed = agree(parties(3))
    chain = (everyone(3),)
    vectors = {own: np.arange(LENGTH, dtype=np.uint64) for own in chain[0]}
    honest = views_with(agreed, chain, chain[0][place], {})
    assert not looks_uniform(summed(vectors, honest, agreed))
    views = views_with(agreed, chain, chain[0][place], ANOTHER[what])
    assert looks_uniform(summed(vectors, views, agreed))
    for left_out in chain[0]:
        pair = {own: vector for own, vector in vectors.items() if own != left_out}
        assert looks_uniform(summed(pair, views, agreed))


def test_split_view_of_the_participants_gives_uniform_rubbish() -> None:
    """Another set, another epoch or another key of one participant: no common mask."""
    agreed = agree(parties(4))
    chain = (everyone(4),)
    vectors = {own: np.zeros(LENGTH, dtype=np.uint64) for own in chain[0]}
    participants = view_of(agreed[chain[0][0]], chain, LENGTH).participants
    other_key = (
        replace(participants[0], ephemeral=participants[0].ephemeral[:-1]),
        *participants[1:],
    )
    smaller = (everyone(4)[:3],)
    cases: tuple[dict[str, Any], ...] = (
        {"participants": other_epoch(participants)},
        {"participants": other_key},
        {"participants": participants[:3], "chain": smaller},
    )
    for changes in cases:
        views = views_with(agreed, chain, chain[0][2], changes)
        assert looks_uniform(summed(vectors, views, agreed))


@pytest.mark.parametrize(
    "changes", [{"epoch": b"o" * 16}, {"ephemeral": b"o" * 32}, {"identity": everyone(4)[3]}]
)
def test_two_hospitals_shown_different_keys_of_a_third_share_no_mask(
    changes: dict[str, Any],
) -> None:
    """The whole set is in the mask key, not the pair alone."""
    agreed = agree(parties(3))
    one, two, _ = everyone(3)
    view = view_of(agreed[one], (everyone(3),), LENGTH)
    first, second, third = view.participants
    other = replace(view, participants=(first, second, replace(third, **changes)))
    shared = agreed[one].secrets[two]
    keys = [mask_key(each.digest(), (first, second), shared) for each in (view, other)]
    assert keys[0] != keys[1]


def test_gradient_and_metric_of_a_round_share_no_keystream() -> None:
    """Their difference would show the difference of the vectors. Mutation: kind not in the key."""
    agreed = agree(parties(3))
    own = everyone(3)[0]
    zeros = np.zeros(LENGTH, dtype=np.uint64)
    gradient, metric = (
        masked(
            zeros,
            view_of(agreed[own], (everyone(3),), LENGTH, release=ReleaseId(RUN, 3, kind)),
            own,
            agreed[own].secrets,
        )
        for kind in ("gradient", "metrics")
    )
    assert looks_uniform(gradient - metric)


def test_two_peers_share_no_keystream() -> None:
    """Of one site's masks no two cancel or repeat. Mutation: the pair is not in the mask key."""
    agreed = agree(parties(3))
    low, middle, high = everyone(3)
    view = view_of(agreed[middle], (everyone(3),), LENGTH)
    first, second, third = view.participants
    same = agreed[middle].secrets[high]
    digest = view.digest()
    keys = {
        mask_key(digest, pair, same)
        for pair in ((first, second), (second, third), (first, third), (second, first))
    }
    assert len(keys) == 4
    assert agreed[middle].secrets[low] != same


def test_another_ciphertext_gives_another_mask() -> None:
    agreed = agree(parties(2))
    low, high = everyone(2)
    view = view_of(agreed[low], (everyone(2),), 8)
    pair = (view.participants[0], view.participants[1])
    shared = agreed[low].secrets[high]
    other = replace(shared, ciphertext_hash=bytes(32))
    assert mask_key(view.digest(), pair, shared) != mask_key(view.digest(), pair, other)


def test_secret_changes_with_both_key_agreements() -> None:
    """X25519 and, where both have it, ML-KEM: breaking one of the two is not enough."""
    members = parties(2)
    agreed = agree(members)
    low, high = everyone(2)
    shared = agreed[low].secrets[high]
    assert shared == agreed[high].secrets[low]
    said = read_signed(KeyAnnouncement, members[1].announced)
    x25519 = members[0].exchange._keys.agree(said.agreement_key)
    assert shared.secret[:32] == x25519
    assert len(shared.secret) == (64 if said.kem_key else 32)


def test_masked_vector_is_indistinguishable_from_uniform_bytes() -> None:
    """What one of three hospitals sends, of a vector of zeros: 2^17 words.

    Looked at: each of the eight bytes by itself, and the difference of neighbours (16 looks, false
    alarm 1.6e-8), and whether any word comes twice (chance 2^33 / 2^64 < 5e-10). Mutations seen
    with certainty: a 32-bit mask (four bytes constant); two peers' streams that cancel (zeros); a
    stream of a short period.
    """
    length = 2**17
    agreed = agree(parties(3))
    own = everyone(3)[1]
    view = view_of(agreed[own], (everyone(3),), length)
    sent = masked(np.zeros(length, dtype=np.uint64), view, own, agreed[own].secrets)
    assert looks_random(sent)
    assert not looks_random(sent & np.uint64(2**32 - 1))
    assert not looks_random(np.resize(sent[:64], length))


def looks_random(sent: Words) -> bool:
    """Say whether every byte and every difference of neighbours looks uniform, and none repeats."""
    columns = [
        series.view(np.uint8).reshape(-1, 8)[:, byte]
        for series in (sent, np.diff(sent))
        for byte in range(8)
    ]
    fit = all(looks_uniform(np.ascontiguousarray(column)) for column in columns)
    return fit and len(np.unique(sent)) == len(sent)


# The chain of attempts


def test_non_nested_retries_are_refused() -> None:
    """S without 1, then S without 2, would isolate every hospital."""
    a, b, c, d = everyone(4)
    assert not is_nested(((b, c, d), (a, c, d)))
    assert not is_nested(((a, b, c), (a, b, c, d)))
    assert not is_nested(((a, b, c, d), (b, c, d), (a, b, c, d)))
    assert not is_nested(())
    assert not is_nested(((b, a),))
    assert not is_nested(((a, a, b),))
    assert is_nested(((a, b, c, d), (a, b, c, d), (b, c, d)))


def test_only_a_chain_that_goes_on_from_the_one_answered_is_answered() -> None:
    a, b, c, d = everyone(4)
    whole, left, right = (a, b, c, d), (b, c, d), (a, c, d)
    assert extends((whole,), (whole, left))
    assert extends((whole, left), (whole, left))
    assert extends((), (whole,))
    assert not extends((whole, left), (whole, right))
    assert not extends((whole, left), (whole,))
    assert not extends((whole,), (left,))


def test_unverified_peers_are_not_counted() -> None:
    a, b, c, d = everyone(4)
    assert counted((a, b, c, d), frozenset({a, b})) == 2
    assert counted((a, b), frozenset({c, d})) == 0


def test_the_history_names_every_sum_before() -> None:
    chain = (everyone(3),)
    base = transcript(b"", RELEASE, chain, b"b" * 32)
    others = {
        transcript(base, RELEASE, chain, b"b" * 32),
        transcript(b"", replace(RELEASE, run="x"), chain, b"b" * 32),
        transcript(b"", replace(RELEASE, round_number=9), chain, b"b" * 32),
        transcript(b"", replace(RELEASE, kind="metrics"), chain, b"b" * 32),
        transcript(b"", RELEASE, (everyone(3), everyone(2)), b"b" * 32),
        transcript(b"", RELEASE, chain, b"c" * 32),
    }
    assert len(others | {base}) == 7


# Closing statements and settlement

STANDING = (7, b"h" * 32)


def answered(chain: Chain, **changes: Any) -> AnsweredSum:
    return replace(AnsweredSum(STUDY, RELEASE, chain, b"b" * 32), **changes)


def closings(sum_: AnsweredSum, who: Iterable[Identity]) -> list[bytes]:
    return [sum_.closing(each, *STANDING) for each in who]


def settled(
    sum_: AnsweredSum, statements: list[bytes], verified: Iterable[bytes] | None = None
) -> bool:
    known = frozenset(everyone(8) if verified is None else verified)
    return bool(sum_.proof(statements, verified=known, own=HOSPITALS[0].public, m=4, c=1))


def test_headline_needs_more_statements_than_p1_less_m_plus_c() -> None:
    """|P1| = 5, m = 4, c = 1: three, and this hospital's own among them."""
    mine = answered((everyone(5),))
    assert statements_needed(mine.chain, 4, 1) == 3
    assert not settled(mine, closings(mine, HOSPITALS[:2]))
    assert settled(mine, closings(mine, HOSPITALS[:3]))
    assert not settled(mine, closings(mine, HOSPITALS[1:5]))
    assert not settled(mine, closings(mine, HOSPITALS[:2]) * 2)


def test_needed_statements_follow_the_first_set_of_the_chain() -> None:
    mine = answered((everyone(5), everyone(4)))
    assert not settled(mine, closings(mine, HOSPITALS[:2]))
    assert settled(mine, closings(mine, HOSPITALS[:3]))


def test_statements_over_another_chain_model_round_or_study_settle_nothing() -> None:
    mine = answered((everyone(5), everyone(4)))
    for other in (
        answered((everyone(5),)),
        answered((everyone(5), everyone(4), everyone(4))),
        answered(mine.chain, broadcast=bytes(32)),
        answered(mine.chain, study_hash=bytes(32)),
        answered(mine.chain, release=replace(RELEASE, round_number=4)),
        answered(mine.chain, release=replace(RELEASE, kind="metrics")),
        answered(mine.chain, release=replace(RELEASE, run="other")),
    ):
        statements = closings(mine, HOSPITALS[:2]) + closings(other, HOSPITALS[2:4])
        assert not settled(mine, statements)


def test_closing_statements_of_unverified_peers_settle_nothing() -> None:
    mine = answered((everyone(5),))
    statements = closings(mine, HOSPITALS[:5])
    assert not settled(mine, statements, everyone(2))
    assert not settled(mine, statements, ())
    assert settled(mine, statements, everyone(3)[1:])


def test_closing_statements_from_outside_the_last_set_settle_nothing() -> None:
    mine = answered((everyone(5), everyone(4)))
    assert not settled(mine, closings(mine, (*HOSPITALS[:2], HOSPITALS[4], HOSPITALS[6])))


def test_forged_closing_statements_settle_nothing() -> None:
    mine = answered((everyone(5),))
    body, signature = parts(mine.closing(HOSPITALS[2], *STANDING))
    forged = [pack([body, HOSPITALS[6].sign(body)]), pack([body, signature[::-1]]), body, b""]
    assert not settled(mine, closings(mine, HOSPITALS[:2]) + forged)


def test_sum_without_an_attempt_is_never_settled() -> None:
    nothing = answered(())
    assert not settled(nothing, closings(nothing, HOSPITALS[:5]))
    assert nothing.closed_by(nothing.closing(HOSPITALS[0], *STANDING)) is None


def test_exchange_forgets_nothing_it_needs_between_two_answers() -> None:
    """Asked twice with the same announcements, pairs still agree on the later answers."""
    members = parties(3)
    shown = [each.announced for each in members]
    for each in members:
        each.answer(shown)
    agreed = agree(members)
    low, high = everyone(3)[0], everyone(3)[2]
    assert agreed[low].secrets[high] == agreed[high].secrets[low]


def test_claims_are_what_peers_have_seen_of_this_ledger() -> None:
    roster = roster_of(HOSPITALS[:3])
    own, knows, new = (KeyExchange(each, STUDY, RUN, roster) for each in HOSPITALS[:3])
    shown = [each.announcement(EXPIRES, (7, b"h" * 32), NOBODY) for each in (own, knows, new)]
    me = HOSPITALS[0].public
    answers = [
        own.answer(shown, NOW, NOBODY),
        knows.answer(shown, NOW, {me: (12, b"l" * 32)}),
        new.answer(shown, NOW, NOBODY),
    ]
    claims = own.agree(answers).claims
    assert claims == {HOSPITALS[1].public: (12, b"l" * 32), HOSPITALS[2].public: (0, b"")}


def test_peers_see_which_ledgers_were_begun_anew() -> None:
    roster = roster_of(HOSPITALS[:3])
    own, anew, old = (KeyExchange(each, STUDY, RUN, roster) for each in HOSPITALS[:3])
    shown = [each.announcement(EXPIRES, (7, b"h" * 32), NOBODY) for each in (own, old)]
    shown.append(anew.announcement(EXPIRES, (7, b"h" * 32), NOBODY, declared_reset=True))
    own.answer(shown, NOW, NOBODY)
    assert own.resets() == [HOSPITALS[1].public]


@pytest.mark.parametrize("last", [(), (2,), (-1,), (b"",)])
def test_an_announcement_that_does_not_say_whether_its_ledger_was_begun_anew_is_refused(
    last: tuple[Value, ...],
) -> None:
    """As one of protocol 4 does not: silence about it is no statement."""
    said = unpack(parts(parties(1)[0].announced)[0])
    assert isinstance(said, tuple)
    body = pack([*said[:-1], *last])
    refused(partial(read_signed, KeyAnnouncement, pack([body, HOSPITALS[0].sign(body)])))


@pytest.mark.parametrize("head", [b"", b"h" * 31, b"h" * 33, b"h" * 1_000_000])
def test_a_ledger_head_of_another_length_is_no_statement(head: bytes) -> None:
    """A huge one would be kept and repeated by every honest hospital, in all its runs."""
    roster = roster_of(HOSPITALS[:3])
    exchange = KeyExchange(HOSPITALS[0], STUDY, RUN, roster)
    with pytest.raises(ValidationError):
        exchange.announcement(EXPIRES, (7, head), NOBODY)
    with pytest.raises(ValidationError):
        exchange.announcement(EXPIRES, (7, b"h" * 32), {HOSPITALS[1].public: (7, head)})
