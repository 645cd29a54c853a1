"""What a site knows of bundles never goes back, and holds only what the operator signed."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from polyclinic_common.bundle.rejecting import REJECTING, Rejecting
from polyclinic_common.bundle.statements import BundleWithdrawal, read_withdrawal
from polyclinic_common.bundle.trust import TRUST, Trust
from polyclinic_common.errors import BundleError, Code
from polyclinic_common.identity.site_key import Identity

OPERATOR, OTHER = Identity.generate(), Identity.generate()
FIRST, SECOND = bytes([1]) * 32, bytes([2]) * 32
NOW = dt.datetime(2026, 12, 1, 8, 0, tzinfo=dt.UTC)
STUDY = "ab" * 32


def withdrawal(
    number: int, digest: bytes = FIRST, signer: Identity = OPERATOR, reason: str = "wrong units"
) -> bytes:
    body = BundleWithdrawal(
        identity=signer.public,
        study_hash=bytes(32),
        run="f" * 32,
        number=number,
        digest=digest,
        reason=reason,
        day="2026-12-01",
    )
    return body.signed(signer)


ONE, TWO = withdrawal(1), withdrawal(2, SECOND)


def trust(*withdrawals: bytes) -> Trust:
    return Trust(consortium="NoDap", operator_key=OPERATOR.public, withdrawals=withdrawals)


def code_of(error: pytest.ExceptionInfo[BundleError]) -> Code:
    return error.value.code


def test_what_is_written_is_read(tmp_path: Path) -> None:
    known = trust().learnt([ONE, TWO], [STUDY], NOW)
    known.write(tmp_path)
    assert Trust.read(tmp_path) == known
    assert [each.number for each in known.withdrawn()] == [1, 2]
    assert known.asked == NOW


def test_a_withdrawn_bundle_is_refused_with_the_operators_reason() -> None:
    with pytest.raises(BundleError, match="wrong units") as error:
        trust(ONE).refuse_withdrawn(FIRST.hex())
    assert code_of(error) is Code.BUNDLE_WITHDRAWN
    trust(ONE).refuse_withdrawn(SECOND.hex())


def test_another_operators_bundle_is_refused() -> None:
    trust().refuse_foreign(OPERATOR.public.hex())
    with pytest.raises(BundleError) as error:
        trust().refuse_foreign(OTHER.public.hex())
    assert code_of(error) is Code.BUNDLE_SIGNER


@pytest.mark.parametrize(
    "told",
    [
        [],
        [ONE],
        [TWO, ONE],
        [withdrawal(1, SECOND), TWO],
        [withdrawal(1, reason="another"), TWO],
        [ONE, TWO, withdrawal(4)],
        [ONE, TWO, withdrawal(2, SECOND)],
    ],
    ids=["none", "shorter", "swapped", "other bundle", "other reason", "gap", "number again"],
)
def test_a_list_that_goes_back_or_differs_is_refused(told: list[bytes]) -> None:
    with pytest.raises(BundleError) as error:
        trust(ONE, TWO).learnt(told, [STUDY], NOW)
    assert code_of(error) is Code.WITHDRAWALS_WENT_BACK


@pytest.mark.parametrize(
    "told",
    [withdrawal(1, signer=OTHER), ONE[:-1] + bytes([ONE[-1] ^ 1]), b"", OPERATOR.public],
    ids=["another key", "flipped bit", "nothing", "no statement"],
)
def test_what_the_operator_did_not_sign_calls_nothing_back(told: bytes) -> None:
    with pytest.raises(BundleError) as error:
        trust().learnt([told], [], NOW)
    assert code_of(error) is Code.WITHDRAWAL_REFUSED
    with pytest.raises(BundleError) as error:
        read_withdrawal(OPERATOR.public, told)
    assert code_of(error) is Code.WITHDRAWAL_REFUSED


def test_a_site_without_the_file_is_told_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as error:
        Trust.read(tmp_path)
    assert code_of(error) is Code.TRUST_ABSENT


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("withdrawals", "withdrawal", Code.TRUST_DAMAGED),
        (OPERATOR.public.hex(), OTHER.public.hex(), Code.WITHDRAWAL_REFUSED),
        (ONE.hex(), withdrawal(1, signer=OTHER).hex(), Code.WITHDRAWAL_REFUSED),
        (f'"{ONE.hex()}",', "", Code.TRUST_DAMAGED),
        (STUDY, STUDY[1:], Code.TRUST_DAMAGED),
    ],
    ids=["field", "key", "withdrawal", "one gone", "hash"],
)
def test_a_file_that_was_changed_is_refused(tmp_path: Path, old: str, new: str, code: Code) -> None:
    trust().learnt([ONE, TWO], [STUDY], NOW).write(tmp_path)
    file = tmp_path / TRUST
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(BundleError) as error:
        Trust.read(tmp_path)
    assert code_of(error) is code


def test_a_reason_is_one_line_of_plain_text() -> None:
    for reason in ("", "  ", "two\nlines", "\u202eturned", "x" * 301):
        with pytest.raises(ValidationError):
            withdrawal(1, reason=reason)


def test_every_code_of_a_rejection_has_its_words() -> None:
    assert set(REJECTING) == set(get_args(Rejecting))
