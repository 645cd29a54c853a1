"""What an operator signs: studies, and the models that come of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polyclinic_common.canonical import canonical_json
from polyclinic_common.errors import Code, ConsortiumError, StudyError
from polyclinic_common.identity.site_key import Identity, verify
from polyclinic_common.packing import pack
from polyclinic_common.study.base import Text
from polyclinic_common.study.contract import STUDY_ID, STUDY_VERSION
from polyclinic_common.study.load import refuse_newer
from polyclinic_common.study.manifest import Study
from polyclinic_common.version import VERSION_RULE

SHORTEST_PREFIX = 6


class Heading(BaseModel):
    """What a study of any version says of itself."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(pattern=STUDY_ID)
    version: str = Field(pattern=STUDY_VERSION)
    title: Text
    expires: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    needs: str | None = Field(default=None, pattern=f"^{VERSION_RULE.pattern}$")


@dataclass(frozen=True)
class SignedStudy:
    """A study as it travels.

    Attributes
    ----------
    manifest : bytes
        The canonical JSON; its SHA-256 is the study's hash.
    signature : bytes
        The operator's Ed25519 signature.
    """

    manifest: bytes
    signature: bytes

    @staticmethod
    def sign(study: Study, operator: Identity) -> SignedStudy:
        """Return a study signed by its operator."""
        manifest = canonical_json(study.canonical())
        return SignedStudy(manifest, operator.sign(_study_body(manifest)))

    @property
    def hash(self) -> bytes:
        """The 32 bytes that name the study."""
        return hashlib.sha256(self.manifest).digest()

    def heading(self, operator_key: bytes) -> Heading:
        """Return what every version can say of the study, newer ones' studies included.

        Raises
        ------
        ConsortiumError
            C014 if the operator did not sign it, or it is no study.
        """
        if not verify(operator_key, _study_body(self.manifest), self.signature):
            raise _not_signed("A study")
        try:
            return Heading.model_validate_json(self.manifest, strict=True)
        except ValidationError:
            raise _not_signed("A manifest") from None

    def read(self, operator_key: bytes) -> Study:
        """Return the study.

        Raises
        ------
        ConsortiumError
            C014 if the operator did not sign it, or it is not the canonical form of a study.
        StudyError
            S006 if it needs a newer version than this one.
        """
        refuse_newer(self.heading(operator_key).model_dump())
        try:
            study = Study.model_validate_json(self.manifest, strict=True)
        except ValidationError:
            raise _not_signed("A manifest") from None
        if canonical_json(study.canonical()) != self.manifest:
            raise _not_signed("A manifest in another form")
        return study


def find_signed(offered: Iterable[SignedStudy], operator_key: bytes, word: str) -> SignedStudy:
    """Return the study that a person means: by its id, or at least six digits of its hash.

    Raises
    ------
    StudyError
        S004 if none or several match.
    ConsortiumError
        C014 if one of those offered is not signed by the operator.
    """
    matching = [
        signed
        for signed in offered
        if signed.heading(operator_key).id == word
        or (len(word) >= SHORTEST_PREFIX and signed.hash.hex().startswith(word))
    ]
    if len(matching) != 1:
        raise StudyError(
            Code.STUDY_UNKNOWN,
            f"There is {'more than one' if matching else 'no'} study {word!r} on offer.",
            "Name one by its hash, as `study list` shows it.",
        )
    return matching[0]


def sign_model(operator: Identity, study_hash: bytes, run: str, digest: bytes) -> bytes:
    """Return the operator's signature under a released model (SHA-256 of its bytes)."""
    return operator.sign(_model_body(study_hash, run, digest))


def check_model(
    operator_key: bytes, study_hash: bytes, run: str, content: bytes, signature: bytes
) -> None:
    """Refuse a model that the operator did not sign as this run's.

    Raises
    ------
    ConsortiumError
        C014.
    """
    body = _model_body(study_hash, run, hashlib.sha256(content).digest())
    if not verify(operator_key, body, signature):
        raise _not_signed("A model")


def _study_body(manifest: bytes) -> bytes:
    return pack(["polyclinic study", hashlib.sha256(manifest).digest()])


def _model_body(study_hash: bytes, run: str, digest: bytes) -> bytes:
    return pack(["polyclinic model", study_hash, run, digest])


def _not_signed(what: str) -> ConsortiumError:
    return ConsortiumError(
        Code.STUDY_SIGNATURE,
        f"{what} was refused: it is not what this consortium's operator signed.",
        "Approve nothing and telephone the operator.",
    )
