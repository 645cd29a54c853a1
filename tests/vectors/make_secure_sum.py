"""Makes secure_sum.json: known answers of the secure sum, written down without the product code.

    python -m tests.vectors.make_secure_sum

Everything is derived from the fixed private keys below, except the ML-KEM ciphertexts:
encapsulation is randomised, so those in the file are kept where there are some.
"""

from __future__ import annotations

import hashlib
import json
import struct
from itertools import combinations
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FILE = Path(__file__).with_name("secure_sum.json")
STUDY, RUN, ROUND, KIND = hashlib.sha256(b"a study").digest(), "run-1", 2, "gradient"
EXPIRES, CLIP, GRID = 1_900_000_000, 0.25, -20
WEIGHTS = [0.0, -0.0, 1.5, -1e-300]
NAMES = ["Ahus", "Berg", "Çeşme"]
VECTORS = [
    [1, -1, 2**63 - 1, -(2**63)],
    [2, -2, 1, -1],
    [3, -(2**40), 2**63 - 1, -(2**63)],
]


def pack(value: Any) -> bytes:
    """The encoding, once more."""
    if isinstance(value, int):
        return b"i" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"f" + struct.pack(">d", value)
    if isinstance(value, bytes):
        return b"b" + struct.pack(">Q", len(value)) + value
    if isinstance(value, str):
        return b"t" + struct.pack(">Q", len(value.encode())) + value.encode()
    return b"l" + struct.pack(">Q", len(value)) + b"".join(pack(item) for item in value)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class Site:
    """A hospital with fixed keys."""

    def __init__(self, number: int):
        self.name = NAMES[number]
        self.identity_key = Ed25519PrivateKey.from_private_bytes(bytes([number + 1]) * 32)
        self.agreement_private = bytes([number + 0x41]) * 32
        self.agreement = X25519PrivateKey.from_private_bytes(self.agreement_private)
        self.kem_seed = bytes([number + 0x61]) * 64
        self.kem = MLKEM768PrivateKey.from_seed_bytes(self.kem_seed)
        self.epoch = bytes([number + 0x31]) * 16
        self.identity = self.identity_key.public_key().public_bytes_raw()
        self.agreement_public = self.agreement.public_key().public_bytes_raw()
        self.kem_public = self.kem.public_key().public_bytes_raw()
        self.reset = int(number == 1)  # one of the three began its ledger anew
        self.counter, self.head = 10 + number, sha(b"head %d" % number)
        self.vector = VECTORS[number]

    def signed(self, body: bytes) -> bytes:
        return pack([body, self.identity_key.sign(body)])

    def participant(self) -> list[bytes]:
        return [self.identity, self.agreement_public + self.kem_public, self.epoch]


def make(kept: dict[str, str]) -> dict[str, Any]:
    """Return all known answers; `kept` holds ciphertexts in hexadecimal by the pair's names."""
    sites = sorted((Site(number) for number in range(3)), key=lambda site: site.identity)
    members = [[site.name, site.identity] for site in sites]
    roster_hash = sha(pack(["polyclinic roster", members]))
    announced = {site.name: announcement(site, roster_hash) for site in sites}
    signed = {site.name: site.signed(announced[site.name]) for site in sites}
    session = sha(pack(["polyclinic session", sorted(signed.values())]))
    pairs = {f"{low.name} {high.name}": (low, high) for low, high in combinations(sites, 2)}
    texts = {
        name: bytes.fromhex(kept[name]) if name in kept else high.kem.public_key().encapsulate()[1]
        for name, (_, high) in pairs.items()
    }
    answers = {site.name: site.signed(answer(site, session, pairs, texts)) for site in sites}
    chain = [[site.identity for site in sites]] * 2
    content = b"".join(struct.pack("<d", weight) for weight in WEIGHTS)
    broadcast = sha(pack(["polyclinic broadcast", content]))
    first = sha(pack(["polyclinic transcript", b"", [RUN, 1, KIND], chain[:1], broadcast]))
    digest = view(sites, roster_hash, chain, broadcast, first)
    streams: dict[str, dict[str, str]] = {}
    sent = {site.name: list(site.vector) for site in sites}
    for name, (low, high) in pairs.items():
        secret, key, stream = mask(low, high, texts[name], digest)
        masks = struct.unpack(f"<{len(VECTORS[0])}Q", stream)
        sent[low.name] = [a + b for a, b in zip(sent[low.name], masks, strict=True)]
        sent[high.name] = [a - b for a, b in zip(sent[high.name], masks, strict=True)]
        streams[name] = {
            "ciphertext": texts[name].hex(),
            "ciphertext_hash": sha(texts[name]).hex(),
            "secret": secret.hex(),
            "mask_key": key.hex(),
            "stream": stream.hex(),
        }
    standing = [sites[0].counter + 5, sha(b"head at closing")]
    closed = [RUN, ROUND, KIND, chain, broadcast, *standing]
    closing = pack(["polyclinic closing", sites[0].identity, STUDY, *closed])
    return {
        "packing": [{"value": repr(value), "bytes": pack(value).hex()} for value in EXAMPLES],
        "study_hash": STUDY.hex(),
        "run": RUN,
        "round": ROUND,
        "kind": KIND,
        "expires": EXPIRES,
        "clip": CLIP,
        "grid_exponent": GRID,
        "sites": {
            site.name: {
                "identity_private": site.identity_key.private_bytes_raw().hex(),
                "identity": site.identity.hex(),
                "fingerprint": sha(b"polyclinic identity" + site.identity).hex()[:32],
                "agreement_private": site.agreement_private.hex(),
                "agreement_public": site.agreement_public.hex(),
                "kem_seed": site.kem_seed.hex(),
                "kem_public": site.kem_public.hex(),
                "epoch": site.epoch.hex(),
                "counter": site.counter,
                "head": site.head.hex(),
                "declared_reset": site.reset,
                "announcement": signed[site.name].hex(),
                "answer": answers[site.name].hex(),
                "vector": site.vector,
                "masked": [str(number % 2**64) for number in sent[site.name]],
            }
            for site in sites
        },
        "roster_hash": roster_hash.hex(),
        "session": session.hex(),
        "chain": [[key.hex() for key in attempt] for attempt in chain],
        "weights": [weight.hex() for weight in WEIGHTS],
        "broadcast": broadcast.hex(),
        "history": first.hex(),
        "history_after": sha(
            pack(["polyclinic transcript", first, [RUN, ROUND, KIND], chain, broadcast])
        ).hex(),
        "view_digest": digest.hex(),
        "pairs": streams,
        "sum": [
            (sum(column) + 2**63) % 2**64 - 2**63
            for column in zip(*(site.vector for site in sites), strict=True)
        ],
        "closing_counter": standing[0],
        "closing_head": sha(b"head at closing").hex(),
        "closing_body": closing.hex(),
        "closing": sites[0].signed(closing).hex(),
    }


EXAMPLES: list[Any] = [
    0, -1, 2**63 - 1, -(2**63), 0.0, -0.0, 1.5, b"", b"\x00\xff", "", "Çeşme", [], [[]],
    ["label", 1, 1.0, b"1", "1", [b"a", [b"b"]]],
]  # fmt: skip


def announcement(site: Site, roster_hash: bytes) -> bytes:
    """Body of a key announcement that has seen one other ledger."""
    seen = [[bytes([9]) * 32, 4, sha(b"seen")]]
    fields = [site.identity, STUDY, RUN, site.epoch, EXPIRES, roster_hash]
    fields += [site.agreement_public, site.kem_public, site.counter, site.head, seen]
    fields += [site.reset]
    return pack(["polyclinic key announcement", *fields])


def answer(
    site: Site, session: bytes, pairs: dict[str, tuple[Site, Site]], texts: dict[str, bytes]
) -> bytes:
    """Body of a key answer by a hospital that has seen everybody's ledger one row ago."""
    peers = {p.identity: p for pair in pairs.values() for p in pair if p is not site}
    sent = [[high.identity, texts[name]] for name, (low, high) in pairs.items() if low is site]
    receipts = [
        [peer.identity, peer.counter - 1, sha(b"earlier" + peer.head)]
        for _, peer in sorted(peers.items())
    ]
    fields = [site.identity, STUDY, RUN, session, sorted(sent), receipts]
    return pack(["polyclinic key answer", *fields])


def view(
    sites: list[Site],
    roster_hash: bytes,
    chain: list[list[bytes]],
    broadcast: bytes,
    history: bytes,
) -> bytes:
    """Digest of the view of the second attempt."""
    what = ["polyclinic view", 1, STUDY, [RUN, ROUND, KIND], [len(VECTORS[0]), CLIP, GRID]]
    who = [roster_hash, [site.participant() for site in sites], chain]
    return sha(pack([what, who, broadcast, history]))


def mask(low: Site, high: Site, ciphertext: bytes, digest: bytes) -> tuple[bytes, bytes, bytes]:
    """Secret, mask key and keystream of a pair."""
    public = X25519PublicKey.from_public_bytes(high.agreement_public)
    secret = low.agreement.exchange(public) + high.kem.decapsulate(ciphertext)
    people = [low.participant(), high.participant()]
    info = sha(pack(["polyclinic mask", digest, people, sha(ciphertext)]))
    key = HKDF(SHA256(), length=32, salt=None, info=info).derive(secret)
    cipher = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    return secret, key, cipher.update(bytes(8 * len(VECTORS[0])))


def ciphertexts() -> dict[str, str]:
    """Return the ciphertexts of the file, by pair; none if there is no file."""
    if not FILE.exists():
        return {}
    pairs = json.loads(FILE.read_text())["pairs"]
    return {name: found["ciphertext"] for name, found in pairs.items()}


if __name__ == "__main__":
    FILE.write_text(json.dumps(make(ciphertexts()), indent=1, ensure_ascii=False) + "\n")
