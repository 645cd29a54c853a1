"""The witness of an open ledger: nothing goes on that it does not know, or that it knows better."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from polyclinic_client.ledger.witness import read_witness
from polyclinic_common.errors import Code, LedgerError
from tests.privacy.ledger_kit import ME, attempt, make_ledger, reserve


def refused(action: Callable[..., object], *arguments: object, **named: object) -> str:
    with pytest.raises(LedgerError) as caught:
        action(*arguments, **named)
    return caught.value.code


def test_a_witness_that_could_not_be_written_is_written_before_anything_goes_on(
    tmp_path: Path,
) -> None:
    """Asked again nothing is new in the ledger; its last row is still unwitnessed."""
    witness = tmp_path / "witness"
    with make_ledger(tmp_path, witness=witness) as ledger:
        reserve(ledger, 1)
        in_the_way = tmp_path / f"witness.{os.getpid()}.part"
        in_the_way.mkdir()  # as a full disk: it can be read and not written
        for _ in range(2):
            assert refused(attempt, ledger, 1) == Code.LEDGER_STORE
            assert read_witness(witness, ME.public).head != ledger.head()
        in_the_way.rmdir()
        attempt(ledger, 1)
        assert read_witness(witness, ME.public).head == ledger.head()
