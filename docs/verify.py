"""Check a released model without Polyclinic: read this, then run it; needs `cryptography` alone.

    python verify.py FILE [OPERATOR'S KEY, hexadecimal]

Every byte of every member, every signature, the study's signature by the same operator, and the
epsilon that follows from the certificate's mechanisms. Formulas: docs/privacy.md, docs/replay.py.
"""

import base64
import hashlib
import json
import sys
import zipfile
from math import erfc, exp, isclose, sqrt
from statistics import NormalDist

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SPARE = 1e-4  # of epsilon and of log delta: the discreteness of the noise


def require(holds, what):
    """End with the reason where something does not hold."""
    if not holds:
        raise SystemExit(f"Does not hold: {what}.")


def check(key, signature, message):
    """Check an Ed25519 signature; raises InvalidSignature."""
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, message)


def mu_squared(charge):
    """Gaussian DP of one release; mu^2 adds up."""
    if charge["kind"] == "vote":  # randomised response
        return (2 * NormalDist().inv_cdf(1 / (1 + exp(-charge["epsilon"])))) ** 2
    require(charge["kind"] == "gaussian-sum", f"{charge['kind']} cannot be added up here")
    return charge["sensitivity"] ** 2 / (charge["shares"] * charge["variance"] - 1 / 12)


def delta_of(epsilon, mu):
    """Balle and Wang, Improving the Gaussian mechanism (2018), theorem 8."""
    upper, lower = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    return erfc(upper / sqrt(2)) / 2 - exp(epsilon) * erfc(lower / sqrt(2)) / 2


with zipfile.ZipFile(sys.argv[1]) as archive:
    members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
envelope = json.loads(members.pop("statement.dsse.json"))
payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
statement, facts = json.loads(payload), json.loads(payload)["predicate"]
hashes = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
require(
    hashes == {each["name"]: each["digest"]["sha256"] for each in statement["subject"]},
    "the statement is about exactly these members",
)
for each in envelope["signatures"]:
    encoded = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    check(each["keyid"], base64.b64decode(each["sig"]), encoded)
require(envelope["signatures"][0]["keyid"] == facts["operator"], "the operator signed first")
require(sys.argv[2:] in ([], [facts["operator"]]), "this operator signed it")
require(hashes["study.json"] == facts["study_hash"], "the study is the one it names")
label, digest = b"polyclinic study", bytes.fromhex(hashes["study.json"])
body = b"l" + (2).to_bytes(8, "big") + b"t" + len(label).to_bytes(8, "big") + label
body += b"b" + len(digest).to_bytes(8, "big") + digest
check(facts["operator"], members["study.signature"], body)
certificate = json.loads(members["certificate.json"])
mode = json.loads(members["study.json"])["privacy"].get("mode", "secure-sum")
private = bool(certificate["mechanisms"])
require(certificate["mode"] == mode and private == (mode != "none"), "the study's mode is stated")
require(
    private == (certificate["epsilon"] is not None), "an epsilon is stated where there is privacy"
)
for side, name in (("headline", "epsilon"), ("fallback", "fallback_epsilon")):
    mechanisms = certificate["mechanisms"]
    mu = sqrt(sum(each["times"] * mu_squared(each[side]) for each in mechanisms))
    wanted = certificate["delta"] * exp(-SPARE) if mechanisms else 0.0
    found = delta_of(certificate[name] - SPARE, mu) if mechanisms else 0.0
    require(isclose(found, wanted, rel_tol=1e-6), f"the {name} follows from the mechanisms")
sys.stdout.write(
    f"All of it holds. {'SIMULATED. ' * facts['simulated']}Operator's key: {facts['operator']}\n"
)
