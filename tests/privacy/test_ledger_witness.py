"""The witness of an open ledger: nothing goes on that it does not know, or that it knows better."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from polyclinic_client.ledger.recovery import Recovery, recover
from polyclinic_client.ledger.witness import read_witness
from polyclinic_common.errors import Code, LedgerError
from tests.kits.copies import copy_of, put_back
from tests.kits.ledger import ME, PEERS, attempt, digest, make_ledger, open_ledger, reserve


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


def test_a_witness_whose_volume_is_away_stops_an_open_ledger(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    with make_ledger(tmp_path, witness=volume / "witness") as ledger:
        before = ledger.head()
        volume.rename(tmp_path / "away")
        assert refused(reserve, ledger, 1) == Code.LEDGER_STORE
        assert ledger.head() == before
        (tmp_path / "away").rename(volume)
        reserve(ledger, 1)


def test_an_open_ledger_does_not_go_on_where_its_copy_went_on(tmp_path: Path) -> None:
    """A machine put back with its memory, or a folder copied beside the original."""
    witness = tmp_path / "witness"
    make_ledger(tmp_path, witness=witness).close()
    copy = copy_of(tmp_path)
    with open_ledger(tmp_path) as one, open_ledger(copy) as other:
        reserve(one, 1)
        head = one.head()
        before = other.head()
        for action in (reserve, attempt):
            assert refused(action, other, 1) == Code.LEDGER_BEHIND
        assert refused(other.note_heads, {PEERS[0]: (3, digest("head"))}) == Code.LEDGER_BEHIND
        assert other.head() == before
        assert read_witness(witness, ME.public).head == head
        reserve(one, 2)


def test_two_open_views_of_one_ledger_share_its_witness(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with make_ledger(tmp_path, witness=witness) as one, open_ledger(tmp_path) as other:
        for number, ledger in enumerate((one, other, other, one), start=1):
            reserve(ledger, number)
            assert read_witness(witness, ME.public).head == one.head() == other.head()


def test_a_recovery_that_is_refused_leaves_the_witness_as_it_was(tmp_path: Path) -> None:
    """Some of the lost rows come back: the witness still tells that more are missing."""
    path, witness = tmp_path / "ledger.sqlite", tmp_path / "witness"
    make_ledger(tmp_path, witness=witness).close()
    copy_of(tmp_path)
    with open_ledger(tmp_path) as ledger:
        reserve(ledger, 1)
        some = ledger.export_rows()
        reserve(ledger, 2)
        said = witness.read_bytes()
    put_back(tmp_path)
    assert refused(recover, path, ME, rows=some) == Code.LEDGER_BEHIND
    assert witness.read_bytes() == said
    assert refused(open_ledger, tmp_path) == Code.LEDGER_BEHIND
    assert recover(path, ME, charge_lost=True) == Recovery(0, 5)
    with open_ledger(tmp_path) as ledger:
        assert read_witness(witness, ME.public).head == ledger.head()
