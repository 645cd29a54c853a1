"""Bundles in the store: on offer, decided upon by hospitals, called back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session, undefer

from polyclinic_common.errors import BundleError, Code
from polyclinic_server.store.database import Database
from polyclinic_server.store.tables import BundleDecision, Decision, OfferedBundle, WithdrawnBundle


class Bundles(Database):
    """What was released, who accepted or rejected it, and the list of what was called back."""

    def offer_bundle(self, digest: str, study: str, run: str, content: bytes) -> None:
        """Offer a bundle to the hospitals; the same one again changes nothing.

        Parameters
        ----------
        digest, study : str
            That of the bundle, and its study's hash, in hexadecimal.
        """
        with self._session() as session:
            if session.get(OfferedBundle, digest) is None:
                session.add(
                    OfferedBundle(
                        digest=digest,
                        study=study,
                        run=run,
                        released=self.now(),
                        size=len(content),
                        content=content,
                    )
                )

    def bundles(self) -> Sequence[OfferedBundle]:
        """Return all bundles, the latest first, without their content."""
        order = OfferedBundle.released.desc(), OfferedBundle.digest
        with self._session() as session:
            return session.scalars(select(OfferedBundle).order_by(*order)).all()

    def bundle(self, digest: str) -> OfferedBundle:
        """Return a bundle with its content: the file as the operator signed it.

        Raises
        ------
        BundleError
            B074 if there is none.
        """
        with self._session() as session:
            found = session.get(OfferedBundle, digest, options=[undefer(OfferedBundle.content)])
            if found is None:
                raise BundleError(
                    Code.BUNDLE_UNKNOWN,
                    f"This consortium has no bundle {digest[:12]}.",
                    "See: polyclinic client model list, or polyclinic server release list",
                )
            return found

    def decisions(self, digest: str) -> Sequence[BundleDecision]:
        """Return what hospitals decided on a bundle, by name."""
        with self._session() as session:
            found = select(BundleDecision).filter_by(bundle=digest).order_by(BundleDecision.site)
            return session.scalars(found).all()

    def accept_bundle(self, digest: str, site: str, identity: bytes, signature: bytes) -> None:
        """Keep a hospital's signature under a bundle; a second one replaces nothing."""
        with self._session() as session:
            decision = _decided(session, digest, site, identity, "accepted")
            decision.signature = decision.signature or signature

    def reject_bundle(
        self, digest: str, site: str, identity: bytes, code: str, statement: bytes
    ) -> None:
        """Keep a hospital's rejection of a bundle, in the place of an earlier one."""
        with self._session() as session:
            decision = _decided(session, digest, site, identity, "rejected", code)
            decision.rejection = statement

    def withdraw_bundle(self, digest: str, sign: Callable[[int], bytes]) -> bytes:
        """Call a bundle back; one that was called back stays so, with its first reason.

        Parameters
        ----------
        sign : callable
            Returns the signed withdrawal with the number it is given: the next one.

        Returns
        -------
        bytes
            The signed withdrawal that stands.
        """
        with self._session() as session:
            found = session.scalars(select(WithdrawnBundle).filter_by(bundle=digest)).first()
            if found is None:
                last = session.scalar(select(func.max(WithdrawnBundle.number))) or 0
                statement = sign(last + 1)
                found = WithdrawnBundle(number=last + 1, bundle=digest, statement=statement)
                session.add(found)
            return found.statement

    def withdrawals(self, after: int = 0, most: int | None = None) -> list[bytes]:
        """Return what was called back, as it was signed, in order, after that number."""
        with self._session() as session:
            query = (
                select(WithdrawnBundle.statement)
                .where(WithdrawnBundle.number > after)
                .order_by(WithdrawnBundle.number)
                .limit(most)
            )
            return list(session.scalars(query))

    def is_withdrawn(self, digest: str) -> bool:
        """Say whether a bundle was called back."""
        with self._session() as session:
            query = select(WithdrawnBundle.number).filter_by(bundle=digest)
            return session.scalars(query).first() is not None


def _decided(
    session: Session, digest: str, site: str, identity: bytes, state: Decision, code: str = ""
) -> BundleDecision:
    """Return a hospital's row for a bundle, with its latest decision."""
    decision = session.get(BundleDecision, (digest, identity))
    if decision is None:
        decision = BundleDecision(bundle=digest, identity=identity, site=site)
        session.add(decision)
    decision.state, decision.code = state, code
    return decision
