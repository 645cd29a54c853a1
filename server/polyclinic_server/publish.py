"""Publishing studies, and how far their hospitals are."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.errors import Code, ConsortiumError, StudyError
from polyclinic_common.study.manifest import Study
from polyclinic_server.config import ServerFolder
from polyclinic_server.store.store import Store


@dataclass(frozen=True)
class Published:
    """A study and the hospitals that have declared a size and approved it."""

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
    """Sign a study and offer it; return the hospitals of its roster that were never invited.

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
    if study.expires < dt.datetime.now(dt.UTC).date():
        raise StudyError(
            Code.STUDY_EXPIRED,
            f"The study has expired on {study.expires}.",
            "Set a later date in the study.",
        )
    store = folder.open_store()
    store.publish(SignedStudy.sign(study, folder.operator))
    invited = {site.name for site in store.sites()}
    store.close()
    return [name for name in study.roster.sites if name not in invited]


def published_studies(folder: ServerFolder) -> list[Published]:
    """Return all studies with their hospitals' progress, in the order of publication."""
    store = folder.open_store()
    found = [
        _published(store, SignedStudy(each.manifest, each.signature), folder.operator.public)
        for each in store.studies()
    ]
    store.close()
    return found


def _published(store: Store, signed: SignedStudy, operator_key: bytes) -> Published:
    study, parts = signed.read(operator_key), store.parts(signed.hash)
    return Published(
        id=study.id,
        version=study.version,
        title=study.title,
        hash=signed.hash.hex(),
        expires=study.expires.isoformat(),
        m=study.m,
        sites=study.roster.sites,
        declared=tuple(part.site for part in parts),
        approved=tuple(part.site for part in parts if part.approval is not None),
    )
