"""A released model as one file: `STUDY-VERSION-RUN.polyclinic`.

Nothing in it is executed, and nothing of it is used before all of it was checked: every byte
(:mod:`polyclinic_common.bundle.archive`), the statement about its members, every signature in the
envelope, the study, and that the certificate's epsilon follows from mechanisms which are those of
the study.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from polyclinic_common.bundle.archive import damaged, pack_members, read_file, unpack_members
from polyclinic_common.bundle.card import Card
from polyclinic_common.bundle.certificate import Certificate
from polyclinic_common.bundle.contents import Evaluation, History
from polyclinic_common.bundle.envelope import Envelope, Facts
from polyclinic_common.bundle.weights import SavedWeights
from polyclinic_common.canonical import canonical_json
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.errors import BundleError, Code, ConsortiumError, ModelError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.study.manifest import Study

ENDING = ".polyclinic"
ENVELOPE = "statement.dsse.json"
STUDY, SIGNATURE, WEIGHTS = "study.json", "study.signature", "weights.safetensors"
CARD, CERTIFICATE = "card.json", "certificate.json"
EVALUATION, HISTORY = "evaluation.json", "history.json"
MEMBERS = (STUDY, SIGNATURE, WEIGHTS, CARD, CERTIFICATE, EVALUATION, HISTORY)

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Bundle:
    """A released model with its papers.

    Attributes
    ----------
    members : mapping of str to bytes
        What the file holds beside the envelope, as it was signed.
    study : Study
        The study as its operator signed it.
    model : SavedWeights
        The weights, and what calibration did to them.
    card : Card
        The model card.
    certificate : Certificate
        What it has cost.
    evaluation : Evaluation
        How good it is.
    history : History
        How it came about.
    facts : Facts
        What every signature is about.
    envelope : Envelope
        The signatures.
    """

    members: Mapping[str, bytes]
    study: Study
    model: SavedWeights
    card: Card
    certificate: Certificate
    evaluation: Evaluation
    history: History
    facts: Facts
    envelope: Envelope

    @property
    def digest(self) -> str:
        """The name of the bundle, whoever signs it."""
        return self.envelope.digest

    @property
    def file_name(self) -> str:
        """What the file is called."""
        facts = self.facts
        return f"{facts.study}-{facts.study_version}-{facts.run}{ENDING}"

    @property
    def signers(self) -> tuple[str, ...]:
        """Keys of everybody who signed, hexadecimal, the operator's first."""
        return tuple(self.envelope.signatures)

    def signed(self, identity: Identity) -> Bundle:
        """Return the bundle with one more signature."""
        return replace(self, envelope=self.envelope.signed(identity))

    def to_bytes(self) -> bytes:
        """Return the file."""
        return pack_members({ENVELOPE: self.envelope.to_json(), **self.members})


@dataclass(frozen=True)
class Draft:
    """What a bundle is made of, before its card was written and anybody signed it."""

    signed_study: SignedStudy
    study: Study
    model: SavedWeights
    certificate: Certificate
    evaluation: Evaluation
    history: History

    def signed(self, operator: Identity, facts: Facts, people: Mapping[str, str]) -> Bundle:
        """Return the bundle, signed by its operator.

        Parameters
        ----------
        people : mapping
            What people state on the card, of
            :func:`polyclinic_common.bundle.card_file.load_card_toml`.
        """
        from polyclinic_common.bundle.card_making import make_card  # noqa: PLC0415  (heavy)

        declared = self.history.declared
        card = make_card(self.study, facts, self.evaluation, self.certificate, declared, people)
        members = {
            STUDY: self.signed_study.manifest,
            SIGNATURE: self.signed_study.signature,
            WEIGHTS: self.model.to_bytes(),
            CARD: _json(card),
            CERTIFICATE: _json(self.certificate),
            EVALUATION: _json(self.evaluation),
            HISTORY: _json(self.history),
        }
        return Bundle(
            members,
            self.study,
            self.model,
            card,
            self.certificate,
            self.evaluation,
            self.history,
            facts,
            Envelope.about(members, facts).signed(operator),
        )


def read_bundle(path: Path) -> Bundle:
    """Return the bundle in a file, all of it checked but for who its signers are.

    Raises
    ------
    BundleError
        B001 if the file is damaged, B002 if its operator did not sign it, B005 if its epsilon does
        not follow from its mechanisms, or these are not its study's.
    StudyError
        S006 if its study needs a newer version.
    """
    return bundle_of(read_file(path), path.name)


def bundle_of(content: bytes, name: str) -> Bundle:
    """Return the bundle in these bytes; `name` names them in errors. See `read_bundle`."""
    members = unpack_members(content, name)
    if tuple(members) != (ENVELOPE, *MEMBERS):
        raise damaged(name)
    envelope = Envelope.read(members.pop(ENVELOPE), name)
    facts = envelope.facts(members, name)
    if not envelope.signatures or not all(map(envelope.is_signed_by, envelope.signatures)):
        raise _unsigned(name)
    if next(iter(envelope.signatures)) != facts.operator:
        raise _unsigned(name)
    study = _study(SignedStudy(members[STUDY], members[SIGNATURE]), facts, name)
    certificate = _read(Certificate, members[CERTIFICATE], name)
    certificate.check(study)
    return Bundle(
        members,
        study,
        _weights(members[WEIGHTS], study, name),
        _read(Card, members[CARD], name),
        certificate,
        _read(Evaluation, members[EVALUATION], name),
        _read(History, members[HISTORY], name),
        facts,
        envelope,
    )


def _json(value: BaseModel) -> bytes:
    return canonical_json(value.model_dump(mode="json"))


def _read(kind: type[M], content: bytes, name: str) -> M:
    try:
        return kind.model_validate_json(content)
    except ValidationError:
        raise damaged(name) from None


def _study(signed: SignedStudy, facts: Facts, name: str) -> Study:
    """Return the study, if the bundle's operator signed it and the bundle is about it."""
    try:
        study = signed.read(bytes.fromhex(facts.operator))
    except ConsortiumError:
        raise _unsigned(name) from None
    named = (study.id, study.version, hashlib.sha256(signed.manifest).hexdigest())
    if named != (facts.study, facts.study_version, facts.study_hash):
        raise damaged(name)
    return study


def _weights(content: bytes, study: Study, name: str) -> SavedWeights:
    try:
        return SavedWeights.read(content, study)
    except ModelError:
        raise damaged(name) from None


def _unsigned(name: str) -> BundleError:
    return BundleError(
        Code.BUNDLE_UNSIGNED,
        f"The file {name} is not signed by the operator that it names, or a signature is wrong.",
        "Get the file anew from whoever released it; use nothing of this one.",
    )
