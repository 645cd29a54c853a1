"""Hospitals and invitations in the store."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence

from cryptography import x509
from sqlalchemy import select
from sqlalchemy.orm import Session

from polyclinic_common.consortium.invitation import Invitation, hash_secret
from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_common.identity import certificates
from polyclinic_common.text import alike, plain
from polyclinic_server.store.database import Database, wrong_state
from polyclinic_server.store.tables import Invited, Site

SEEN_EVERY_S = 30
LONGEST_VERSION = 40


class Sites(Database):
    """Who was invited, who joined with which keys, who is shut out."""

    def invite(self, invitation: Invitation) -> None:
        """Write down an invitation; earlier ones of the same hospital end.

        Raises
        ------
        ConsortiumError
            C013 if a hospital of that name has joined, or one is written almost so.
        """
        with self._session() as session:
            site = session.get(Site, invitation.site)
            twin = None if site is not None else _alike(session, invitation.site)
            if twin is not None:
                raise wrong_state(
                    f"{invitation.site!r} and the hospital {twin!r} look the same.",
                    f"Write {twin!r}, or give another hospital a name that people can tell apart.",
                )
            if site is not None and site.state == "joined":
                raise wrong_state(f"{invitation.site} has joined already.", "Revoke it first.")
            if site is None:
                session.add(Site(name=invitation.site, state="invited"))
                session.flush()
            for earlier in session.scalars(select(Invited).filter_by(site=invitation.site)):
                earlier.expires = min(earlier.expires, self.now())
            session.add(
                Invited(
                    id=invitation.id,
                    site=invitation.site,
                    secret_hash=invitation.secret_hash,
                    expires=invitation.expires,
                )
            )

    def invited(self, id: bytes, secret: bytes) -> str:  # noqa: A002
        """Return whom an invitation is for, if its secret is right; time tells nothing of it.

        Raises
        ------
        ConsortiumError
            C006 if there is none such.
        """
        with self._session() as session:
            found = session.get(Invited, id)
            kept = found.secret_hash if found is not None else bytes(32)
            right = hmac.compare_digest(kept, hash_secret(secret))
            if found is None or not right:
                raise _invitation(Code.INVITATION_UNKNOWN, "is not known here")
            return found.site

    def join(
        self,
        id: bytes,  # noqa: A002
        identity: bytes,
        key: bytes,
        certify: Callable[[str], x509.Certificate],
    ) -> x509.Certificate:
        """Use an invitation: write down the hospital's keys and the certificate made for it.

        The same hospital may ask again with the same keys until the invitation expires, if the
        answer was lost on the way: it gets the same certificate.

        Parameters
        ----------
        id : bytes
            The invitation; its secret was checked by `invited`.
        identity : bytes
            The hospital's Ed25519 key.
        key : bytes
            Its TLS key (DER).
        certify : callable
            Makes the certificate for a name.

        Raises
        ------
        ConsortiumError
            C007 if it was used by others, C008 if it has expired, C013 if the identity is another
            hospital's.
        """
        with self._session() as session:
            found = session.get_one(Invited, id, with_for_update=True)
            site = session.get_one(Site, found.site, with_for_update=True)
            if found.used is not None:
                return _issued(site, identity, key)
            if found.expires <= self.now():
                raise _invitation(Code.INVITATION_EXPIRED, "has expired")
            holder = session.scalar(select(Site).filter_by(identity=identity))
            if holder is not None and holder is not site:
                raise wrong_state(
                    "These keys belong to another hospital of this consortium.",
                    "Make new ones: join in a new folder.",
                )
            made = certify(site.name)
            found.used = self.now()
            site.state, site.identity = "joined", identity
            site.certificate, site.serial = certificates.pem(made).decode(), made.serial_number
            site.expires = int(made.not_valid_after_utc.timestamp())
            return made

    def sites(self) -> Sequence[Site]:
        """Return all hospitals by name."""
        with self._session() as session:
            return session.scalars(select(Site).order_by(Site.name)).all()

    def site(self, name: str) -> Site:
        """Return one hospital.

        Raises
        ------
        ConsortiumError
            C013 if there is none of that name.
        """
        with self._session() as session:
            return _named(session, name)

    def site_of(self, serial: int) -> Site | None:
        """Return the hospital that holds the certificate with this serial number."""
        with self._session() as session:
            return session.scalar(select(Site).filter_by(serial=serial))

    def revoke(self, name: str) -> None:
        """Shut a hospital out: at its next call nothing is answered; open invitations end."""
        with self._session() as session:
            _named(session, name).state = "revoked"
            for invited in session.scalars(select(Invited).filter_by(site=name)):
                invited.expires = min(invited.expires, self.now())

    def seen(self, name: str, version: str | None = None) -> None:
        """Note that a hospital called, to within half a minute, and the version that it names."""
        if version is not None:
            version = plain(version[:LONGEST_VERSION])
        with self._session() as session:
            site = session.get_one(Site, name)
            if version is not None and site.version != version:
                site.version = version
            if site.last_seen is None or site.last_seen + SEEN_EVERY_S <= self.now():
                site.last_seen = self.now()


def _issued(site: Site, identity: bytes, key: bytes) -> x509.Certificate:
    """Return the certificate that a hospital has already, if the one that asks is this hospital."""
    if site.state == "joined" and site.identity == identity and site.certificate is not None:
        certificate = x509.load_pem_x509_certificate(site.certificate.encode())
        if certificates.public_bytes_of(certificate) == key:
            return certificate
    raise _invitation(Code.INVITATION_USED, "was used already")


def _named(session: Session, name: str) -> Site:
    site = session.get(Site, name)
    if site is None:
        twin = _alike(session, name)
        remedy = "See: polyclinic server site list" if twin is None else f"Write {twin!r}."
        raise wrong_state(f"There is no hospital {name!r}.", remedy)
    return site


def _alike(session: Session, name: str) -> str | None:
    """Return the name of a hospital that people would read as this one, if there is any."""
    seen = alike(name)
    return next((each for each in session.scalars(select(Site.name)) if alike(each) == seen), None)


def _invitation(code: Code, why: str) -> ConsortiumError:
    return ConsortiumError(
        code, f"The invitation {why}.", "Ask the consortium's operator for a new one."
    )
