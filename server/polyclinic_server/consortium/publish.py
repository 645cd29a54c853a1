"""Publishing studies, and how far their hospitals are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from polyclinic_common.consortium.signed import SignedStudy, find_signed
from polyclinic_common.consortium.statements import Declaration
from polyclinic_common.consortium.transport import LARGEST_STUDY
from polyclinic_common.errors import Code, ConsortiumError, RunError, StudyError
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.study.manifest import Study
from polyclinic_common.text import alike
from polyclinic_server.folder import ServerFolder
from polyclinic_server.store.store import Store


@dataclass(frozen=True)
class Published:
    """A study, its hospitals that train, and which of them declared a size and approved it.

    Attributes
    ----------
    closed : bool
        Whether it was taken off the offer.
    """

    id: str
    version: str
    title: str
    hash: str
    expires: str
    m: int
    sites: tuple[str, ...]
    declared: tuple[str, ...]
    approved: tuple[str, ...]
    closed: bool = False


def publish_study(folder: ServerFolder, study: Study) -> list[str]:
    """Sign a study and offer it; return the hospitals that train and were never invited.

    Raises
    ------
    ConsortiumError
        C016 if it promises no privacy, C032 if no hospital could fetch it, C013 if it names a
        hospital otherwise than it was invited, C034 if it was closed.
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
    signed = SignedStudy.sign(study, folder.operator)
    _require_fetchable(signed)
    store = folder.open_store()
    try:
        invited = [site.name for site in store.sites()]
        _require_as_invited(study, invited)
        store.require_open(signed.hash, "Give it a new version, and publish that.")
        store.publish(signed)
    finally:
        store.close()
    return [name for name in study.training_sites if name not in invited]


def close_study(folder: ServerFolder, word: str) -> Published:
    """Take a study off the offer for good, so that hospitals see its live version alone.

    Parameters
    ----------
    word : str
        Its id, or the start of its hash.

    Raises
    ------
    StudyError
        S004 if no open study, or several, match.
    RunError
        R006 if a run of it goes on.
    """
    store = folder.open_store()
    try:
        signed = find_signed(_open(store), folder.operator.public, word)
        going = [
            run.id
            for run in store.runs()
            if run.study == signed.hash.hex() and run.state == "running"
        ]
        if going:
            raise RunError(
                Code.RUN_GOING,
                f"The run {going[0]} of this study goes on.",
                f"Wait for its end, or: polyclinic server run stop {going[0]}",
            )
        store.close_study(signed.hash)
        return _published(store, signed, folder.operator.public, closed=True)
    finally:
        store.close()


def published_studies(folder: ServerFolder) -> list[Published]:
    """Return all studies with their hospitals' progress, in the order of publication."""
    store = folder.open_store()
    found = [
        _published(
            store,
            SignedStudy(each.manifest, each.signature),
            folder.operator.public,
            closed=each.closed is not None,
        )
        for each in store.studies()
    ]
    store.close()
    return found


@dataclass(frozen=True)
class EnrolledSite:
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


def participants(folder: ServerFolder, word: str) -> tuple[Study, list[EnrolledSite]]:
    """Return a study, by its id or the start of its hash, and the hospitals that approved it.

    Raises
    ------
    StudyError
        S004 if no open study, or several, match; S005 if it has expired.
    RunError
        R001 if fewer than m hospitals have approved it.
    PrivacyError
        P001 if a hospital declares more patients than a sum holds.
    """
    store = folder.open_store()
    operator_key = folder.operator.public
    signed = find_signed(_open(store), operator_key, word)
    study = signed.read(operator_key)
    parts = store.parts(signed.hash)
    declared = {part.site: read_signed(Declaration, part.declaration) for part in parts}
    for declaration in declared.values():  # one that an earlier version took
        declaration.require_size()
    found = [
        EnrolledSite(
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


def _open(store: Store) -> list[SignedStudy]:
    """Return the studies that are not closed."""
    return [
        SignedStudy(each.manifest, each.signature)
        for each in store.studies()
        if each.closed is None
    ]


def _require_fetchable(signed: SignedStudy) -> None:
    size = len(signed.manifest)
    if size > LARGEST_STUDY:
        raise ConsortiumError(
            Code.STUDY_TOO_LARGE,
            f"The study has {size} bytes, and hospitals can fetch {LARGEST_STUDY}.",
            "Name fewer columns, or shorter names and sources: a panel can be split, or chosen "
            "from public knowledge beforehand.",
        )


def _require_as_invited(study: Study, invited: Sequence[str]) -> None:
    """Refuse a name that people read as an invited hospital's and that is written otherwise."""
    known = {alike(name): name for name in invited}
    for name in study.roster.sites:
        twin = known.get(alike(name), name)
        if name not in invited and twin != name:
            raise ConsortiumError(
                Code.SITE_STATE,
                f"The study names {name!r}, and the hospital was invited as {twin!r}.",
                f"Write {twin!r} in the study's roster.",
            )


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


def _published(
    store: Store, signed: SignedStudy, operator_key: bytes, *, closed: bool
) -> Published:
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
        closed=closed,
    )
