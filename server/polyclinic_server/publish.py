"""Publishing studies, and how far their hospitals are."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from polyclinic_common.consortium.signed import SignedStudy, find_signed
from polyclinic_common.consortium.statements import Declaration
from polyclinic_common.errors import Code, ConsortiumError, RunError, StudyError
from polyclinic_common.secure_sum.statements import read_signed
from polyclinic_common.study.manifest import Study
from polyclinic_server.config import ServerFolder
from polyclinic_server.store.store import Store


@dataclass(frozen=True)
class Published:
    """A study, its hospitals that train, and which of them declared a size and approved it."""

    id: str
    version: str
    title: str
    hash: str
    expires: str
    m: int
    sites: tuple[str, ...]
    declared: tuple[str, ...]
    approved: tuple[str, ...]


def publish_study(folder: ServerFolder, study: Study) -> list[str]:
    """Sign a study and offer it; return the hospitals that train and were never invited.

    Raises
    ------
    ConsortiumError
        C016 if it promises no privacy.
    StudyError
        S005 if it has expired.
    """
    if study.privacy.mode == "none":
        raise ConsortiumError(
            Code.STUDY_MODE,
            "The study promises no privacy (mode none), so every hospital would refuse it.",
            'Use mode "secure-sum" or "local"; mode none is for simulation.',
        )
    _require_current(study)
    store = folder.open_store()
    store.publish(SignedStudy.sign(study, folder.operator))
    invited = {site.name for site in store.sites()}
    store.close()
    return [name for name in study.training_sites if name not in invited]


def published_studies(folder: ServerFolder) -> list[Published]:
    """Return all studies with their hospitals' progress, in the order of publication."""
    store = folder.open_store()
    found = [
        _published(store, SignedStudy(each.manifest, each.signature), folder.operator.public)
        for each in store.studies()
    ]
    store.close()
    return found


@dataclass(frozen=True)
class Participant:
    """A hospital that a run may address.

    Attributes
    ----------
    node_key : str
        Public key of its certificate (PEM): what Flower knows its node by.
    declared : int
        Its declared patients.
    identity : bytes
        Its identity key: what it signs with.
    """

    name: str
    node_key: str
    declared: int
    identity: bytes


def participants(folder: ServerFolder, word: str) -> tuple[Study, list[Participant]]:
    """Return a study, by its id or the start of its hash, and the hospitals that approved it.

    Raises
    ------
    StudyError
        S004 if no study, or several, match; S005 if it has expired.
    RunError
        R001 if fewer than m hospitals have approved it.
    PrivacyError
        P001 if a hospital declares more patients than a sum holds.
    """
    store = folder.open_store()
    operator_key = folder.operator.public
    offered = [SignedStudy(each.manifest, each.signature) for each in store.studies()]
    signed = find_signed(offered, operator_key, word)
    study = signed.read(operator_key)
    parts = store.parts(signed.hash)
    declared = {part.site: read_signed(Declaration, part.declaration) for part in parts}
    for declaration in declared.values():  # one that an earlier version took
        declaration.require_size()
    found = [
        Participant(
            site.name,
            _node_key(str(site.certificate)),
            declared[site.name].declared,
            declared[site.name].identity,
        )
        for site in store.approved_sites(signed.hash)
        if site.name in study.training_sites
    ]
    store.close()
    _require_current(study)
    if len(found) < study.m:
        missing = [name for name in study.training_sites if name not in {p.name for p in found}]
        raise RunError(
            Code.RUN_TOO_FEW_SITES,
            f"{len(found)} hospitals have approved the study; a run needs {study.m}.",
            f"Ask these to approve it: {', '.join(missing)}.",
        )
    return study, found


def _node_key(certificate: str) -> str:
    shown = x509.load_pem_x509_certificate(certificate.encode())
    key = shown.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return key.decode()


def _require_current(study: Study) -> None:
    if study.expires < dt.datetime.now(dt.UTC).date():
        raise StudyError(
            Code.STUDY_EXPIRED,
            f"The study has expired on {study.expires}.",
            "Set a later date in the study.",
        )


def _published(store: Store, signed: SignedStudy, operator_key: bytes) -> Published:
    study = signed.read(operator_key)
    parts = [part for part in store.parts(signed.hash) if part.site in study.training_sites]
    return Published(
        id=study.id,
        version=study.version,
        title=study.title,
        hash=signed.hash.hex(),
        expires=study.expires.isoformat(),
        m=study.m,
        sites=study.training_sites,
        declared=tuple(part.site for part in parts),
        approved=tuple(part.site for part in parts if part.approval is not None),
    )
