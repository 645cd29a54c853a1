"""Who signed a bundle: an in-toto statement about all of its members, in a DSSE envelope.

Formats: in-toto Attestation Framework, Statement v1; Dead Simple Signing Envelope v1.0. Keys are
the Ed25519 keys that operators and hospitals have anyway; a key's id is the key, in hexadecimal.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from securesystemslib.dsse import Envelope as DsseEnvelope
from securesystemslib.exceptions import Error as DsseError
from securesystemslib.signer import Signature  # type: ignore[attr-defined]

from polyclinic_common.bundle.archive import damaged
from polyclinic_common.canonical import canonical_json
from polyclinic_common.identity.site_key import PUBLIC_BYTES, Identity, verify

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:polyclinic:released-model:1"
KEY = rf"^[0-9a-f]{{{2 * PUBLIC_BYTES}}}$"
SHA256 = r"^[0-9a-f]{64}$"


class Facts(BaseModel):
    """What a bundle is about; every signature covers it.

    Attributes
    ----------
    study, study_version, study_hash : str
        The study that was trained.
    run : str
        The run whose model it is.
    version : str
        The version of Polyclinic that wrote the bundle.
    made : str
        Day on which it was made, ISO 8601.
    simulated : bool
        Whether no hospital took part: all of it happened on one machine.
    operator : str
        Key that signs first, hexadecimal; in a simulation one that is thrown away.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    study: str
    study_version: str
    study_hash: str = Field(pattern=SHA256)
    run: str
    version: str
    made: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    simulated: bool
    operator: str = Field(pattern=KEY)


@dataclass(frozen=True)
class Envelope:
    """A signed statement about the members of a bundle.

    Attributes
    ----------
    payload : bytes
        The statement, canonical JSON.
    signatures : mapping of str to bytes
        Signatures by the key's id, in the order in which they were made.
    """

    payload: bytes
    signatures: Mapping[str, bytes]

    @staticmethod
    def about(members: Mapping[str, bytes], facts: Facts) -> Envelope:
        """Return an unsigned statement about these members."""
        subjects = [
            {"name": name, "digest": {"sha256": hashlib.sha256(content).hexdigest()}}
            for name, content in members.items()
        ]
        statement = {
            "_type": STATEMENT_TYPE,
            "subject": subjects,
            "predicateType": PREDICATE_TYPE,
            "predicate": facts.model_dump(),
        }
        return Envelope(canonical_json(statement), {})

    @staticmethod
    def read(content: bytes, name: str) -> Envelope:
        """Return the envelope that `to_json` wrote; signatures are not looked at.

        Raises
        ------
        BundleError
            B001 if it is none.
        """
        try:
            found = DsseEnvelope.from_dict(json.loads(content))
            signed = {key: bytes.fromhex(each.signature) for key, each in found.signatures.items()}
        except (DsseError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise damaged(name) from None
        envelope = Envelope(found.payload, signed)
        keys = all(re.fullmatch(KEY, key) for key in signed)
        if not keys or found.payload_type != PAYLOAD_TYPE or envelope.to_json() != content:
            raise damaged(name)
        return envelope

    @property
    def digest(self) -> str:
        """SHA-256 of the statement: it names the bundle, whoever signs."""
        return hashlib.sha256(self.payload).hexdigest()

    @property
    def signed_bytes(self) -> bytes:
        """What is signed: DSSE's pre-authentication encoding."""
        return bytes(self._dsse().pae())

    def facts(self, members: Mapping[str, bytes], name: str) -> Facts:
        """Return what the statement says, if it is about exactly these members.

        Raises
        ------
        BundleError
            B001 if it is not.
        """
        try:
            statement: dict[str, Any] = json.loads(self.payload)
            facts = Facts.model_validate(statement["predicate"])
        except (ValueError, KeyError, TypeError, ValidationError, RecursionError):
            raise damaged(name) from None
        if Envelope.about(members, facts).payload != self.payload:
            raise damaged(name)
        return facts

    def signed(self, identity: Identity) -> Envelope:
        """Return the envelope with one more signature."""
        return self.with_signature(identity.public.hex(), identity.sign(self.signed_bytes))

    def with_signature(self, key: str, signature: bytes) -> Envelope:
        """Return the envelope with a signature that was made elsewhere; it is not looked at."""
        return Envelope(self.payload, {**self.signatures, key: signature})

    def is_signed_by(self, key: str) -> bool:
        """Say whether the holder of this key signed the statement."""
        signature = self.signatures.get(key)
        return signature is not None and verify(bytes.fromhex(key), self.signed_bytes, signature)

    def to_json(self) -> bytes:
        """Return the envelope as DSSE writes it."""
        return canonical_json(self._dsse().to_dict())

    def _dsse(self) -> DsseEnvelope:
        signatures = {key: Signature(key, each.hex()) for key, each in self.signatures.items()}
        return DsseEnvelope(self.payload, PAYLOAD_TYPE, signatures)
