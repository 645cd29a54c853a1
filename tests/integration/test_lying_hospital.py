"""One hospital that signs nonsense is left out; it cannot end the run of the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import RecordDict

from polyclinic_client.folder.layout import LEDGER, read_identity
from polyclinic_client.ledger.witness import read_invented
from polyclinic_client.records.entry import LedgerHead
from polyclinic_client.run.flower_app import Answers
from polyclinic_client.run.update_responder import Memory
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.secure_sum.statements import MOST_ROWS, KeyAnnouncement, KeyAnswer
from polyclinic_common.wire import AnnouncedKeys, AnsweredKeys, decode_reply, encode_reply
from polyclinic_server.rounds.state import State
from polyclinic_simulations.federation.federation import build_federation
from polyclinic_simulations.federation.hospitals import Hospitals
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import start_weights, train_federated
from tests.kits.small import small_study, small_table

STRANGER = Identity.generate()
Lie = Callable[[bytes, Identity], bytes]


def announced(**changes: object) -> Lie:
    def lie(statement: bytes, own: Identity) -> bytes:
        said = read_signed(KeyAnnouncement, statement)
        return said.model_copy(update=changes).signed(own)

    return lie


def answered(**changes: object) -> Lie:
    def lie(statement: bytes, own: Identity) -> bytes:
        return read_signed(KeyAnswer, statement).model_copy(update=changes).signed(own)

    return lie


def cut_short(statement: bytes, own: Identity) -> bytes:
    said = read_signed(KeyAnswer, statement)
    few = tuple((peer, text[:-1]) for peer, text in said.ciphertexts)
    return answered(ciphertexts=few or ((STRANGER.public, b""),))(statement, own)


LIES: dict[str, tuple[type, Lie]] = {
    "a forged announcement": (AnnouncedKeys, lambda said, _: said[:-1] + bytes([said[-1] ^ 1])),
    "a stranger's announcement": (
        AnnouncedKeys,
        lambda said, _: announced(identity=STRANGER.public)(said, STRANGER),
    ),
    "another run": (AnnouncedKeys, announced(run="another")),
    "another study": (AnnouncedKeys, announced(study_hash=bytes(32))),
    "another roster": (AnnouncedKeys, announced(roster_hash=bytes(32))),
    "an expired key": (AnnouncedKeys, announced(expires=1)),
    "a key of low order": (AnnouncedKeys, announced(agreement_key=bytes(32))),
    "a key in another spelling": (AnnouncedKeys, announced(agreement_key=b"\xff" * 32)),
    "a ledger longer than any": (AnnouncedKeys, announced(counter=MOST_ROWS + 1)),
    "no key of ML-KEM": (AnnouncedKeys, announced(kem_key=b"\xff" * 1184)),
    "a forged answer": (AnsweredKeys, lambda said, _: said[:-1] + bytes([said[-1] ^ 1])),
    "no statement": (AnsweredKeys, lambda _, __: os.urandom(64)),
    "another session": (AnsweredKeys, answered(session=bytes(32))),
    "ciphertexts cut short": (AnsweredKeys, cut_short),
}


class Liar:
    def __init__(self, real: Answers, kind: type, lie: Lie, own: Identity):
        self.real, self.kind, self.lie, self.own = real, kind, lie, own

    def answer(self, content: RecordDict, memory: Memory) -> RecordDict:
        said = decode_reply(self.real.answer(content, memory))
        if isinstance(said, AnnouncedKeys | AnsweredKeys) and isinstance(said, self.kind):
            said = replace(said, statement=self.lie(said.statement, self.own))
        return encode_reply(said)


def spent_with(
    lies: tuple[type, Lie], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[float]:
    """Return what every hospital has spent in a run of which the first one lies."""
    real = Hospitals.site

    def site(hospitals: Hospitals, index: int) -> Answers:
        answers = real(hospitals, index)
        return Liar(answers, *lies, identity(folder, 0)) if index == 0 else answers

    monkeypatch.setattr(Hospitals, "site", site)
    setting = Setting("secure-sum", 1.0, "descent")
    study = setting.apply(small_study("continuous", sites=4, training={"rounds": 2}))
    made = build_federation(study, small_table(200, sites=4), seed=0)
    start = State.start(start_weights(made))
    trained = train_federated(made, setting, run_id="run", start=start, folder=folder)
    assert trained.rounds == 2
    return [trained.budgets[f"site {index}"].spent for index in range(4)]


def identity(folder: Path, index: int) -> Identity:
    return read_identity(folder / f"{index + 1:03d}")


@pytest.mark.parametrize("kind", LIES)
def test_a_hospital_that_signs_nonsense_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    liar, *others = spent_with(LIES[kind], tmp_path, monkeypatch)
    assert liar == 0.0
    assert min(others) > 0.9


def test_a_hospital_does_not_answer_with_anothers_statement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds two signed statements of another cannot have that other left out."""

    def lie(statement: bytes, _: Identity) -> bytes:
        other = identity(tmp_path, 1)
        return announced(identity=other.public)(statement, other)

    liar, *others = spent_with((AnnouncedKeys, lie), tmp_path, monkeypatch)
    assert liar == 0.0
    assert min(others) > 0.9


@pytest.mark.parametrize("counter", [MOST_ROWS, 2**63 - 1])
@pytest.mark.parametrize("kind", [AnnouncedKeys, AnsweredKeys])
def test_a_hospital_that_invents_heads_of_the_others_ledgers_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counter: int, kind: type
) -> None:
    """It is heard, nobody believes it, and every other hospital notes who it was."""

    def lie(statement: bytes, own: Identity) -> bytes:
        others = sorted(identity(tmp_path, index).public for index in range(1, 4))
        heads = tuple((other, counter, bytes(32)) for other in others)
        change = announced(heads=heads) if kind is AnnouncedKeys else answered(receipts=heads)
        return change(statement, own)

    assert min(spent_with((kind, lie), tmp_path, monkeypatch)) > 0.9
    liar = identity(tmp_path, 0).public
    for index in range(1, 4):
        noted = read_invented(tmp_path / f"{index + 1:03d}" / LEDGER)
        assert noted == {liar: LedgerHead(counter, bytes(32))}
