"""Studies in the store, and what hospitals signed about them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select, tuple_

from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.consortium.statements import Declaration, StudyApproval, Withdrawal
from polyclinic_common.errors import Code, ConsortiumError, StudyError
from polyclinic_server.store.database import Database, bad_request
from polyclinic_server.store.tables import Part, PublishedStudy, Site

INSTEAD = (
    "Take the version on offer (polyclinic client study list), or ask the operator for a new one."
)


class Studies(Database):
    """What was published, declared, approved and withdrawn, as it was signed."""

    def publish(self, signed: SignedStudy) -> None:
        """Offer a study to its hospitals; the same one again changes nothing."""
        with self._session() as session:
            if session.get(PublishedStudy, signed.hash.hex()) is None:
                session.add(
                    PublishedStudy(
                        hash=signed.hash.hex(),
                        manifest=signed.manifest,
                        signature=signed.signature,
                        published=self.now(),
                    )
                )

    def studies(self) -> Sequence[PublishedStudy]:
        """Return all studies, in the order in which they were published."""
        with self._session() as session:
            ordered = select(PublishedStudy).order_by(PublishedStudy.published, PublishedStudy.hash)
            return session.scalars(ordered).all()

    def open_studies(self, largest: int, after: bytes = b"") -> list[str]:
        """Return the hashes of the studies on offer, in order of publication.

        Parameters
        ----------
        largest : int
            Those with more bytes are left out.
        after : bytes
            Hash of the study that they follow; empty for all.
        """
        order = PublishedStudy.published, PublishedStudy.hash
        query = (
            select(PublishedStudy.hash)
            .where(PublishedStudy.closed.is_(None))
            .where(func.length(PublishedStudy.manifest) <= largest)
            .order_by(*order)
        )
        with self._session() as session:
            last = session.get(PublishedStudy, after.hex())
            if last is not None:
                query = query.where(tuple_(*order) > (last.published, last.hash))
            return list(session.scalars(query)) if last is not None or not after else []

    def close_study(self, study_hash: bytes) -> None:
        """Take a study off the offer for good; what hospitals signed of it stays."""
        with self._session() as session:
            found = session.get_one(PublishedStudy, study_hash.hex())
            found.closed = found.closed or self.now()

    def require_open(self, study_hash: bytes, remedy: str = INSTEAD) -> None:
        """Refuse to go on with a study that was closed.

        Parameters
        ----------
        remedy : str
            What to do instead.

        Raises
        ------
        ConsortiumError
            C034.
        """
        with self._session() as session:
            found = session.get(PublishedStudy, study_hash.hex())
            if found is not None and found.closed is not None:
                raise ConsortiumError(
                    Code.STUDY_CLOSED,
                    f"The study {found.hash[:12]} was closed by the operator.",
                    remedy,
                )

    def study(self, study_hash: bytes) -> SignedStudy:
        """Return one study.

        Raises
        ------
        StudyError
            S004 if there is none.
        """
        with self._session() as session:
            found = session.get(PublishedStudy, study_hash.hex())
            if found is None:
                raise StudyError(
                    Code.STUDY_UNKNOWN,
                    f"This consortium has no study {study_hash.hex()[:12]}.",
                    "See: polyclinic client study list, or polyclinic server study list",
                )
            return SignedStudy(found.manifest, found.signature)

    def parts(self, study_hash: bytes) -> Sequence[Part]:
        """Return what the hospitals signed about a study, by name."""
        with self._session() as session:
            found = select(Part).filter_by(study=study_hash.hex()).order_by(Part.site)
            return session.scalars(found).all()

    def approved_sites(self, study_hash: bytes) -> list[Site]:
        """Return the hospitals that may be addressed in a study: approved, joined, by name."""
        with self._session() as session:
            query = (
                select(Site)
                .join(Part, Part.site == Site.name)
                .where(Part.study == study_hash.hex(), Part.approval.is_not(None))
                .where(
                    Site.state == "joined",
                    Site.expires > self.now(),
                    Site.identity == Part.identity,
                )
                .order_by(Site.name)
            )
            return list(session.scalars(query))

    def approvals_by_site(self) -> dict[str, int]:
        """Return how many studies each hospital has approved."""
        with self._session() as session:
            query = (
                select(Part.site, func.count())
                .where(Part.approval.is_not(None))
                .group_by(Part.site)
            )
            return dict(session.execute(query).tuples().all())

    def declare(self, site: str, declaration: Declaration, signed: bytes) -> None:
        """Keep a hospital's declaration; the same one again changes nothing.

        Raises
        ------
        ConsortiumError
            C028 if the roster is fixed: a hospital's approval of it stands.
        """
        with self._session() as session:
            study = declaration.study_hash.hex()
            part = session.get(Part, (study, site))
            if part is not None and part.declaration == signed:
                return
            approved = select(Part).where(Part.study == study, Part.approval.is_not(None))
            if session.scalars(approved).first() is not None:
                raise _fixed()
            if part is None:
                part = Part(study=study, site=site)
                session.add(part)
            part.identity, part.declared = declaration.identity, declaration.declared
            part.declaration = signed

    def approve(
        self, site: str, approval: StudyApproval, signed: bytes, roster: Sequence[str]
    ) -> None:
        """Keep a hospital's approval.

        Parameters
        ----------
        roster : sequence of str
            The hospitals that the study names. An approval fixes the roster, so all must have
            declared: else the first to approve would shut the others out.

        Raises
        ------
        ConsortiumError
            C019 if a hospital of the roster has not declared; C022 if this one has not declared
            this size before.
        """
        with self._session() as session:
            study = approval.study_hash.hex()
            declared = set(session.scalars(select(Part.site).filter_by(study=study)))
            missing = [name for name in roster if name not in declared]
            if missing:
                raise _incomplete(missing)
            part = session.get(Part, (study, site))
            if part is None or part.declared != approval.declared:
                raise bad_request("an approval does not fit the hospital's declaration")
            part.approval, part.withdrawal = signed, None

    def withdraw(self, site: str, withdrawal: Withdrawal, signed: bytes) -> None:
        """Keep a hospital's withdrawal; its approval ends."""
        with self._session() as session:
            part = session.get(Part, (withdrawal.study_hash.hex(), site))
            if part is None:
                raise bad_request("there is nothing to withdraw")
            part.approval, part.withdrawal = None, signed


def _incomplete(missing: Sequence[str]) -> ConsortiumError:
    return ConsortiumError(
        Code.ROSTER_INCOMPLETE,
        f"Not all hospitals of the study have added their data yet: {', '.join(missing)} missing.",
        "Ask them to add their data; then approve again.",
    )


def _fixed() -> ConsortiumError:
    return ConsortiumError(
        Code.ROSTER_FIXED,
        "The roster of the study is fixed: a hospital has approved it.",
        "Ask the operator for a new version of the study.",
    )
