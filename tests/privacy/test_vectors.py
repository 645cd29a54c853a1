"""The product gives the known answers of ``tests/vectors/secure_sum.json``, byte for byte.

The file was made by a script that shares no code with the product; it gives the same file again.
"""

from __future__ import annotations

import json
from ast import literal_eval
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from polyclinic_common.identity.roster import Roster
from polyclinic_common.identity.site_key import Identity, fingerprint
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.packing import Value, pack, unpack
from polyclinic_common.release_id import ReleaseId, broadcast_hash
from polyclinic_common.secure_sum import session
from polyclinic_common.secure_sum.chain import Chain, transcript
from polyclinic_common.secure_sum.keys import EphemeralKeys
from polyclinic_common.secure_sum.masks import View, mask_key, masked, unmasked_sum
from polyclinic_common.secure_sum.session import Agreed, KeyExchange
from polyclinic_common.secure_sum.settlement import AnsweredSum
from polyclinic_common.secure_sum.statements import Closing, KeyAnswer
from tests.vectors.make_secure_sum import FILE, make

KNOWN: dict[str, Any] = json.loads(FILE.read_text())
SITES: dict[str, dict[str, Any]] = KNOWN["sites"]
NAMES = list(SITES)
STUDY, RUN = bytes.fromhex(KNOWN["study_hash"]), str(KNOWN["run"])
CHAIN: Chain = tuple(tuple(map(bytes.fromhex, attempt)) for attempt in KNOWN["chain"])
RELEASE = ReleaseId(RUN, KNOWN["round"], KNOWN["kind"])
ROSTER = Roster.of({name: bytes.fromhex(site["identity"]) for name, site in SITES.items()})
BROADCAST, HISTORY = bytes.fromhex(KNOWN["broadcast"]), bytes.fromhex(KNOWN["history"])


class FixedKeys(EphemeralKeys):
    """The known ephemeral keys of a site."""

    def __init__(self, site: dict[str, Any]):
        self.epoch = bytes.fromhex(site["epoch"])
        agreement = bytes.fromhex(site["agreement_private"])
        self._agreement = X25519PrivateKey.from_private_bytes(agreement)
        self.agreement_key = self._agreement.public_key().public_bytes_raw()
        self._kem = MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(site["kem_seed"]))
        self.kem_key = self._kem.public_key().public_bytes_raw()


def identity(name: str) -> Identity:
    return Identity.from_private(bytes.fromhex(SITES[name]["identity_private"]))


def exchange(name: str) -> KeyExchange:
    made = KeyExchange(identity(name), STUDY, RUN, ROSTER)
    made._keys = FixedKeys(SITES[name])
    return made


def heads(statement: bytes, place: int) -> dict[bytes, tuple[int, bytes]]:
    """Return the ledger heads at a place of a statement's body."""
    body: Any = unpack(unpack(statement)[0])  # type: ignore[index, arg-type]
    return {peer: (counter, head) for peer, counter, head in body[place]}


def known(name: str, what: str) -> bytes:
    return bytes.fromhex(SITES[name][what])


@pytest.fixture
def agreed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Agreed]:
    """Every site's result of the exchange, with the known ciphertexts in place of fresh ones."""
    texts = {
        (pair.split()[0], known(pair.split()[1], "kem_public")): (
            bytes.fromhex(found["secret"])[32:],
            bytes.fromhex(found["ciphertext"]),
        )
        for pair, found in KNOWN["pairs"].items()
    }
    exchanges = {name: exchange(name) for name in NAMES}
    announced = [known(name, "announcement") for name in NAMES]
    answers = []
    for name, each in exchanges.items():
        monkeypatch.setattr(session, "encapsulate", lambda key, name=name: texts[name, key])
        seen = heads(known(name, "answer"), 6)
        answers.append(each.answer(announced, KNOWN["expires"], seen))
    assert answers == [known(name, "answer") for name in NAMES]
    return {name: each.agree(answers) for name, each in exchanges.items()}


def view(agreed: Agreed) -> View:
    return View(
        study_hash=STUDY,
        release=RELEASE,
        length=len(SITES[NAMES[0]]["vector"]),
        clip=KNOWN["clip"],
        grid_exponent=KNOWN["grid_exponent"],
        roster_hash=ROSTER.hash(),
        participants=tuple(agreed.participants[key] for key in CHAIN[-1]),
        chain=CHAIN,
        broadcast=BROADCAST,
        history=HISTORY,
    )


def test_the_script_gives_the_same_file_again() -> None:
    kept = {name: found["ciphertext"] for name, found in KNOWN["pairs"].items()}
    assert make(kept) == KNOWN


@pytest.mark.parametrize("example", KNOWN["packing"], ids=lambda example: example["value"])
def test_packing(example: dict[str, str]) -> None:
    value: Value = literal_eval(example["value"])
    assert pack(value).hex() == example["bytes"]


@pytest.mark.parametrize("name", NAMES)
def test_identity_and_fingerprint(name: str) -> None:
    assert identity(name).public == known(name, "identity")
    assert fingerprint(known(name, "identity")).replace(" ", "") == SITES[name]["fingerprint"]


def test_roster_hash() -> None:
    assert ROSTER.hash().hex() == KNOWN["roster_hash"]


@pytest.mark.parametrize("name", NAMES)
def test_announcement(name: str) -> None:
    site = SITES[name]
    head = (site["counter"], bytes.fromhex(site["head"]))
    seen = heads(known(name, "announcement"), 11)
    reset = bool(site["declared_reset"])
    made = exchange(name).announcement(KNOWN["expires"], head, seen, declared_reset=reset)
    assert made.hex() == site["announcement"]


def test_session_and_answers(agreed: dict[str, Agreed]) -> None:
    for name in NAMES:
        assert agreed[name].session.hex() == KNOWN["session"]
        said = read_signed(KeyAnswer, known(name, "answer"))
        assert said.session.hex() == KNOWN["session"]
        for peer, claim in agreed[name].claims.items():
            other = next(each for each in NAMES if known(each, "identity") == peer)
            assert claim == heads(known(other, "answer"), 6)[known(name, "identity")]


def test_pair_secrets_from_x25519_and_ml_kem(agreed: dict[str, Agreed]) -> None:
    for pair, found in KNOWN["pairs"].items():
        low, high = pair.split()
        for own, peer in ((low, high), (high, low)):
            shared = agreed[own].secrets[known(peer, "identity")]
            assert shared.secret.hex() == found["secret"]
            assert shared.ciphertext_hash.hex() == found["ciphertext_hash"]


def test_view_and_mask_keys(agreed: dict[str, Agreed]) -> None:
    for name in NAMES:
        assert view(agreed[name]).digest().hex() == KNOWN["view_digest"]
    for pair, found in KNOWN["pairs"].items():
        low, high = pair.split()
        held = agreed[low]
        people = (
            held.participants[known(low, "identity")],
            held.participants[known(high, "identity")],
        )
        shared = held.secrets[known(high, "identity")]
        key = mask_key(bytes.fromhex(KNOWN["view_digest"]), people, shared)
        assert key.hex() == found["mask_key"]


def test_masked_vectors_and_their_sum(agreed: dict[str, Agreed]) -> None:
    sent = [
        masked(
            np.array(SITES[name]["vector"], dtype=np.int64).view(np.uint64),
            view(agreed[name]),
            known(name, "identity"),
            agreed[name].secrets,
        )
        for name in NAMES
    ]
    assert [[str(word) for word in each] for each in sent] == [
        SITES[name]["masked"] for name in NAMES
    ]
    assert unmasked_sum(sent).tolist() == KNOWN["sum"]


def test_broadcast_and_history() -> None:
    weights = np.array([float.fromhex(weight) for weight in KNOWN["weights"]])
    assert broadcast_hash(weights) == BROADCAST
    assert transcript(b"", ReleaseId(RUN, 1, RELEASE.kind), CHAIN[:1], BROADCAST) == HISTORY
    after = transcript(HISTORY, RELEASE, CHAIN, BROADCAST)
    assert after.hex() == KNOWN["history_after"]


def test_closing_statement() -> None:
    answered = AnsweredSum(STUDY, RELEASE, CHAIN, BROADCAST)
    statement = answered.closing(
        identity(NAMES[0]), KNOWN["closing_counter"], bytes.fromhex(KNOWN["closing_head"])
    )
    assert statement.hex() == KNOWN["closing"]
    assert read_signed(Closing, statement).body().hex() == KNOWN["closing_body"]
    assert answered.closed_by(statement) == known(NAMES[0], "identity")
