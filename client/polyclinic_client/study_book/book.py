"""The book of studies in a site's folder: what was frozen, what others signed, what was approved.

``SITE/studies/HASH/`` holds, readable by its owner only: the study as the operator signed it, the
mapping, the frozen table with its keyed digest, how often each rule of the mapping applied, this
hospital's declaration, and from approval on everybody's declarations and this hospital's approval.
Everything is checked again when it is read.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from polyclinic_client.folder.layout import APPROVAL, STUDIES
from polyclinic_client.folder.membership import Membership, read_peers, unusable
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.entries import Approval
from polyclinic_client.records.sqlite_file import MODE
from polyclinic_client.study_book.frozen_table import _as_parquet, freeze
from polyclinic_client.study_book.price import planned_releases
from polyclinic_client.study_book.roster import CheckedRoster, check_roster, require_verified
from polyclinic_common.consortium.signed import SignedStudy, find_signed
from polyclinic_common.consortium.statements import Declaration
from polyclinic_common.data.settled import SettledRule
from polyclinic_common.errors import Code, ConsortiumError, DataError, MessageError, StudyError
from polyclinic_common.identity.roster import Roster
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.packing import pack, unpack
from polyclinic_common.study.manifest import Study

MANIFEST, SIGNATURE = "study.json", "study.sig"
MAPPING, TABLE, DIGEST = "mapping.toml", "table.parquet", "table.hmac"
SETTLED = "settled.json"
DECLARATION, ROSTER = "declaration.bin", "roster.bin"
_SETTLED: TypeAdapter[tuple[SettledRule, ...]] = TypeAdapter(tuple[SettledRule, ...])


@dataclass(frozen=True)
class KeptStudy:
    """A study that this hospital approved: what a node answers with.

    Attributes
    ----------
    study : Study
        The study, its signature and hash checked.
    name : str
        This hospital's name in it.
    roster : Roster
        All hospitals.
    verified : frozenset of bytes
        Identity keys verified outside the system, this hospital's own included.
    declared : mapping
        Declared patients of every hospital, by name.
    approval : Approval
        What stands in the ledger: prices and number of releases, over all runs of the study.
    """

    study: Study
    name: str
    roster: Roster
    verified: frozenset[bytes]
    declared: Mapping[str, int]
    approval: Approval


class StudyBook:
    """The studies of one site.

    Parameters
    ----------
    site : SiteFolder
        The site, open.
    membership : Membership
        What it learnt when it joined.
    """

    def __init__(self, site: SiteFolder, membership: Membership):
        self._site = site
        self._membership = membership
        self._path = site.path / STUDIES

    @staticmethod
    def open(site: SiteFolder) -> StudyBook:
        """Return the book of a site.

        Raises
        ------
        ConsortiumError
            C025 if the site has not joined a consortium.
        """
        return StudyBook(site, Membership.read(site.path))

    def approved(self) -> list[KeptStudy]:
        """Return the studies that a node may answer for today: approved, unexpired, all whole.

        Raises
        ------
        ConsortiumError
            C014, C018 or C003 if what is kept of an approved study is not what was approved.
        """
        paths = sorted(self._path.glob(f"*/{APPROVAL}"))
        found = [self.approved_study(bytes.fromhex(path.parent.name)) for path in paths]
        return [each for each in found if each is not None]

    def approved_study(self, study_hash: bytes) -> KeptStudy | None:
        """Return a study that a node may answer for today; None if it may not.

        Raises
        ------
        ConsortiumError
            As `approved`.
        """
        approval = self._site.ledger.approval(study_hash)
        kept = (self._folder(study_hash) / APPROVAL).exists()
        if approval is None or not kept or approval.expires < self._site.ledger.today():
            return None
        if self._membership.name not in self.study(study_hash).training_sites:
            return None  # held out as a whole; an earlier version let it approve
        return self._approved(study_hash, approval)

    def study(self, study_hash: bytes) -> Study:
        """Return a kept study, its signature checked.

        Raises
        ------
        ConsortiumError
            C020 if no data were added for it, C014 if it is not what the operator signed.
        """
        return self._signed(study_hash).read(self._membership.operator_key)

    def find(self, word: str) -> SignedStudy:
        """Return a kept study by its id or the start of its hash; no server is asked.

        Raises
        ------
        ConsortiumError
            C020 if none or several match, C014 if one is not what the operator signed.
        """
        kept = [self._signed(bytes.fromhex(path.name)) for path in sorted(self._path.glob("*"))]
        try:
            return find_signed(kept, self._membership.operator_key, word)
        except StudyError:
            raise _no_data(
                f"Data were added for no study {word!r}, or for several.",
                "; of several, name one by its hash.",
            ) from None

    def table(self, study_hash: bytes) -> pd.DataFrame:
        """Return the frozen table of a study, in the contract's columns.

        Raises
        ------
        ConsortiumError
            C020 if there is none, C021 if it is not what was frozen.
        """
        content = self._read(study_hash, TABLE)
        digest = self._read(study_hash, DIGEST)
        if not hmac.compare_digest(digest, self._digest(study_hash, content)):
            raise ConsortiumError(
                Code.SNAPSHOT_DAMAGED,
                "The frozen table of the study is not what was frozen; nothing leaves.",
                "Put the site's folder back from a copy.",
            )
        return pd.read_parquet(io.BytesIO(content))

    def settled(self, study_hash: bytes) -> tuple[SettledRule, ...]:
        """Return how often each rule of the mapping applied to the frozen table.

        Empty for a table that an earlier version froze.

        Raises
        ------
        ConsortiumError
            C003 if the file is damaged.
        """
        path = self._folder(study_hash) / SETTLED
        if not path.exists():
            return ()
        try:
            return _SETTLED.validate_json(self._read(study_hash, SETTLED))
        except ValidationError:
            raise unusable(path) from None

    def declaration(self, study_hash: bytes) -> Declaration:
        """Return what this hospital declared for a study.

        Raises
        ------
        ConsortiumError
            C020 if no data were added, C003 if the file is damaged.
        """
        try:
            return read_signed(Declaration, self._read(study_hash, DECLARATION))
        except MessageError:
            raise unusable(self._folder(study_hash) / DECLARATION) from None

    def signed_declaration(self, study_hash: bytes) -> bytes:
        """Return this hospital's declaration as it signed it."""
        return self._read(study_hash, DECLARATION)

    def holds(self, study_hash: bytes) -> bool:
        """Say whether data were added for a study."""
        return (self._folder(study_hash) / DECLARATION).exists()

    def require_open(self, study_hash: bytes) -> None:
        """Refuse to change the table of a study that is approved.

        Raises
        ------
        DataError
            D010.
        """
        if self._site.ledger.approval(study_hash) is not None:
            raise DataError(
                Code.FILE_EXISTS,
                "The study is approved, and its table stays as it was frozen.",
                "Ask the operator for a new version of the study to take new data.",
            )

    def add(
        self,
        signed: SignedStudy,
        frame: pd.DataFrame,
        mapping: bytes,
        declaration: bytes,
        settled: tuple[SettledRule, ...] = (),
    ) -> None:
        """Freeze a checked table for a study, with this hospital's signed declaration.

        Parameters
        ----------
        settled : tuple of SettledRule
            What the mapping settled: kept beside the table, for this hospital alone.

        Raises
        ------
        DataError
            As `require_open`.
        """
        study_hash = signed.hash
        self.require_open(study_hash)
        study = signed.read(self._membership.operator_key)
        content = _as_parquet(freeze(study, frame))
        for name, part in (
            (MANIFEST, signed.manifest),
            (SIGNATURE, signed.signature),
            (MAPPING, mapping),
            (SETTLED, _SETTLED.dump_json(settled)),
            (TABLE, content),
            (DIGEST, self._digest(study_hash, content)),
            (DECLARATION, declaration),
        ):
            self._write(study_hash, name, part)

    def keep_approval(self, study_hash: bytes, checked: CheckedRoster, approval: bytes) -> None:
        """Keep the roster that was approved, and the signed approval."""
        self._write(study_hash, ROSTER, pack(checked.statements))
        self._write(study_hash, APPROVAL, approval)

    def check(self, study: Study, statements: tuple[bytes, ...]) -> CheckedRoster:
        """Check a roster against this hospital's own key and the peers that it verified."""
        own = (self._membership.name, self._site.identity.public)
        return check_roster(study, statements, own, read_peers(self._site.path))

    def _approved(self, study_hash: bytes, approval: Approval) -> KeptStudy:
        study = self.study(study_hash)
        checked = self.check(study, self._statements(study_hash))
        require_verified(study, checked)
        name = self._membership.name
        if planned_releases(study, checked.declared, name) != approval.planned:
            raise unusable(self._folder(study_hash) / ROSTER)
        return KeptStudy(study, name, checked.roster, checked.verified, checked.declared, approval)

    def _statements(self, study_hash: bytes) -> tuple[bytes, ...]:
        try:
            parts = unpack(self._read(study_hash, ROSTER))
        except MessageError:
            raise unusable(self._folder(study_hash) / ROSTER) from None
        if not isinstance(parts, tuple):
            raise unusable(self._folder(study_hash) / ROSTER)
        return tuple(part for part in parts if isinstance(part, bytes))

    def _signed(self, study_hash: bytes) -> SignedStudy:
        signed = SignedStudy(self._read(study_hash, MANIFEST), self._read(study_hash, SIGNATURE))
        if signed.hash != study_hash:
            raise unusable(self._folder(study_hash) / MANIFEST)
        return signed

    def _digest(self, study_hash: bytes, content: bytes) -> bytes:
        message = pack(["polyclinic table", study_hash, hashlib.sha256(content).digest()])
        return hmac.digest(self._site.ledger.secret, message, "sha256")

    def _folder(self, study_hash: bytes) -> Path:
        return self._path / study_hash.hex()

    def _read(self, study_hash: bytes, name: str) -> bytes:
        try:
            return (self._folder(study_hash) / name).read_bytes()
        except FileNotFoundError:
            raise _no_data(f"No data were added for the study {study_hash.hex()[:12]}.") from None
        except OSError:
            raise unusable(self._folder(study_hash) / name) from None

    def _write(self, study_hash: bytes, name: str, content: bytes) -> None:
        """Write a file whole or not at all, readable by its owner only."""
        folder = self._folder(study_hash)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = folder / f"{name}.part"
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / name)


def check_study(study: Study, name: str, today: dt.date) -> None:
    """Refuse a study that this hospital may not take part in.

    The participant rule 2m > |R| + c is part of every study that can be read.

    Raises
    ------
    ConsortiumError
        C015 if it does not name this hospital, or holds it out; C016 if it promises no privacy.
    StudyError
        S005 if it has expired.
    """
    if study.privacy.mode == "none":
        raise ConsortiumError(
            Code.STUDY_MODE,
            f"The study {study.id} promises the patients nothing (mode none).",
            "Do not take part; such studies run in simulation only.",
        )
    if name not in study.roster.sites:
        raise ConsortiumError(
            Code.STUDY_NOT_OURS,
            f"The study {study.id} does not name this hospital ({name}).",
            "Take part only in studies that do; ask the operator.",
        )
    if name not in study.training_sites:
        raise ConsortiumError(
            Code.STUDY_NOT_OURS,
            f"The study {study.id} holds this hospital ({name}) out: it sends nothing.",
            "There is nothing to add or approve; judge the finished model on your own patients.",
        )
    if study.expires < today:
        raise StudyError(
            Code.STUDY_EXPIRED,
            f"The study {study.id} has expired on {study.expires}.",
            "Ask the operator for a new version of it.",
        )


def _no_data(what: str, otherwise: str = "") -> ConsortiumError:
    add = f"Run: polyclinic client data add STUDY SOURCE --map MAPPING{otherwise}"
    return ConsortiumError(Code.SNAPSHOT_ABSENT, what, add)
