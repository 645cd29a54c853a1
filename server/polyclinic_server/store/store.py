"""The store of a server: one class over SQLAlchemy; every method is one transaction."""

from __future__ import annotations

import hmac
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from cryptography import x509
from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker

from polyclinic_common import pki
from polyclinic_common.consortium.invitation import Invitation, hash_secret
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.consortium.statements import Declaration, StudyApproval, Withdrawal
from polyclinic_common.errors import Code, ConsortiumError, StudyError
from polyclinic_server.store.migrate import upgrade
from polyclinic_server.store.tables import (
    Invited,
    KeptRow,
    Part,
    PublishedStudy,
    ReleasedModel,
    Run,
    RunState,
    Site,
)

SEEN_EVERY_S = 30
_BUSY_S = 15


def now() -> int:
    """Return Unix time in seconds."""
    return int(time.time())


class Store:
    """What the server remembers.

    Parameters
    ----------
    url : str
        A database URL, for example ``sqlite:////var/lib/polyclinic/store.sqlite``; its schema is
        brought up to date.
    """

    def __init__(self, url: str):
        self._engine = create_engine(url)
        if make_url(url).get_backend_name() == "sqlite":
            event.listen(self._engine, "connect", _careful)
            event.listen(self._engine, "begin", _alone)
        upgrade(self._engine)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)

    @property
    def engine(self) -> Engine:
        """The engine, for tools that look at the schema."""
        return self._engine

    def close(self) -> None:
        """Give up all connections."""
        self._engine.dispose()

    # Sites

    def invite(self, invitation: Invitation) -> None:
        """Write down an invitation; earlier ones of the same hospital end.

        Raises
        ------
        ConsortiumError
            C013 if a hospital of that name has joined.
        """
        with self._session() as session:
            site = session.get(Site, invitation.site)
            if site is not None and site.state == "joined":
                raise _state(f"{invitation.site} has joined already.", "Revoke it first.")
            if site is None:
                session.add(Site(name=invitation.site, state="invited"))
                session.flush()
            for earlier in session.scalars(select(Invited).filter_by(site=invitation.site)):
                earlier.expires = min(earlier.expires, now())
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
            if found.expires <= now():
                raise _invitation(Code.INVITATION_EXPIRED, "has expired")
            holder = session.scalar(select(Site).filter_by(identity=identity))
            if holder is not None and holder is not site:
                raise _state(
                    "These keys belong to another hospital of this consortium.",
                    "Make new ones: join in a new folder.",
                )
            made = certify(site.name)
            found.used = now()
            site.state, site.identity = "joined", identity
            site.certificate, site.serial = pki.pem(made).decode(), made.serial_number
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
            return _known(session.get(Site, name), name)

    def site_of(self, serial: int) -> Site | None:
        """Return the hospital that holds the certificate with this serial number."""
        with self._session() as session:
            return session.scalar(select(Site).filter_by(serial=serial))

    def revoke(self, name: str) -> None:
        """Shut a hospital out: at its next call nothing is answered; open invitations end."""
        with self._session() as session:
            _known(session.get(Site, name), name).state = "revoked"
            for invited in session.scalars(select(Invited).filter_by(site=name)):
                invited.expires = min(invited.expires, now())

    def seen(self, name: str, version: str | None = None) -> None:
        """Note that a hospital called, to within half a minute, and which version it runs."""
        with self._session() as session:
            site = session.get_one(Site, name)
            if version is not None and site.version != version:
                site.version = version
            if site.last_seen is None or site.last_seen + SEEN_EVERY_S <= now():
                site.last_seen = now()

    # Studies and what hospitals signed about them

    def publish(self, signed: SignedStudy) -> None:
        """Offer a study to its hospitals; the same one again changes nothing."""
        with self._session() as session:
            if session.get(PublishedStudy, signed.hash.hex()) is None:
                session.add(
                    PublishedStudy(
                        hash=signed.hash.hex(),
                        manifest=signed.manifest,
                        signature=signed.signature,
                        published=now(),
                    )
                )

    def studies(self) -> Sequence[PublishedStudy]:
        """Return all studies, in the order in which they were published."""
        with self._session() as session:
            ordered = select(PublishedStudy).order_by(PublishedStudy.published, PublishedStudy.hash)
            return session.scalars(ordered).all()

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
                .where(Site.state == "joined", Site.expires > now(), Site.identity == Part.identity)
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

    def approve(self, site: str, approval: StudyApproval, signed: bytes) -> None:
        """Keep a hospital's approval.

        Raises
        ------
        ConsortiumError
            C022 if it has not declared this size before.
        """
        with self._session() as session:
            part = session.get(Part, (approval.study_hash.hex(), site))
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

    # Runs and what comes of them

    def begin_run(self, study_hash: bytes, rounds: int) -> Run:
        """Write down a new run and return it; its id is ours, not Flower's."""
        run = Run(
            id=uuid.uuid4().hex,
            study=study_hash.hex(),
            state="running",
            round=0,
            rounds=rounds,
            note="",
            started=now(),
            changed=now(),
            flower_runs=[],
        )
        with self._session() as session:
            session.add(run)
        return run

    def record_run(
        self,
        run: str,
        *,
        state: RunState | None = None,
        round_number: int | None = None,
        note: str | None = None,
        flower_run: int | None = None,
    ) -> None:
        """Write down how far a run is; None leaves a value as it is.

        Raises
        ------
        ConsortiumError
            C026 if there is no such run.
        """
        with self._session() as session:
            found = _run(session.get(Run, run), run)
            found.state = state or found.state
            found.round = found.round if round_number is None else round_number
            found.note = found.note if note is None else note
            if flower_run is not None:
                found.flower_runs = [*found.flower_runs, flower_run]
            found.changed = now()

    def runs(self) -> Sequence[Run]:
        """Return all runs, the latest first."""
        with self._session() as session:
            return session.scalars(select(Run).order_by(Run.started.desc(), Run.id)).all()

    def run(self, run: str) -> Run:
        """Return one run.

        Raises
        ------
        ConsortiumError
            C026 if there is no such run.
        """
        with self._session() as session:
            return _run(session.get(Run, run), run)

    def release_model(self, run: str, digest: bytes, signature: bytes, content: bytes) -> None:
        """Offer a run's model to the hospitals; a run releases one."""
        with self._session() as session:
            session.merge(
                ReleasedModel(run=run, digest=digest, signature=signature, content=content)
            )

    def model(self, run: str) -> ReleasedModel:
        """Return a run's model.

        Raises
        ------
        ConsortiumError
            C026 if it has released none.
        """
        with self._session() as session:
            found = session.get(ReleasedModel, run)
            if found is None:
                raise _no_run(f"The run {run} has released no model.")
            return found

    def keep_rows(self, site: str, rows: Sequence[tuple[int, bytes]]) -> None:
        """Keep rows of a hospital's ledger for its recovery; what is kept is never replaced."""
        with self._session() as session:
            for sequence, content in rows:
                if session.get(KeptRow, (site, sequence)) is None:
                    session.add(KeptRow(site=site, sequence=sequence, content=content))

    def rows(self, site: str, after: int, most: int) -> Sequence[KeptRow]:
        """Return at most `most` kept rows of a hospital with a number above `after`, in order."""
        with self._session() as session:
            query = (
                select(KeptRow)
                .where(KeptRow.site == site, KeptRow.sequence > after)
                .order_by(KeptRow.sequence)
                .limit(most)
            )
            return session.scalars(query).all()

    def count_rows(self, site: str) -> int:
        """Return how many rows of a hospital are kept."""
        with self._session() as session:
            counted = select(func.count()).select_from(KeptRow).filter_by(site=site)
            return session.scalar(counted) or 0

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with self._sessions.begin() as session:
            yield session


def bad_request(why: str) -> ConsortiumError:
    """Return the error for a request that the service does not take."""
    return ConsortiumError(
        Code.REQUEST_INVALID,
        f"A request was refused: {why}.",
        "Use the same version of Polyclinic at both ends.",
    )


def _careful(connection: sqlite3.Connection, _record: object) -> None:
    """Let SQLite sync every commit, check foreign keys and wait for other processes."""
    connection.isolation_level = None  # transactions are begun by `_alone`
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_S * 1000}")
    cursor.close()


def _alone(connection: Connection) -> None:
    """Begin as the only writer: SQLite has no locks on rows, and what was read must still hold."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _issued(site: Site, identity: bytes, key: bytes) -> x509.Certificate:
    """Return the certificate that a hospital has already, if the one that asks is this hospital."""
    if site.state == "joined" and site.identity == identity and site.certificate is not None:
        certificate = x509.load_pem_x509_certificate(site.certificate.encode())
        if pki.public_bytes_of(certificate) == key:
            return certificate
    raise _invitation(Code.INVITATION_USED, "was used already")


def _known(site: Site | None, name: str) -> Site:
    if site is None:
        raise _state(f"There is no hospital {name!r}.", "See: polyclinic server site list")
    return site


def _run(found: Run | None, run: str) -> Run:
    if found is None:
        raise _no_run(f"There is no run {run!r}.")
    return found


def _no_run(what: str) -> ConsortiumError:
    return ConsortiumError(Code.RUN_UNKNOWN, what, "See: polyclinic client status")


def _fixed() -> ConsortiumError:
    return ConsortiumError(
        Code.ROSTER_FIXED,
        "The roster of the study is fixed: a hospital has approved it.",
        "Ask the operator for a new version of the study.",
    )


def _state(what: str, remedy: str) -> ConsortiumError:
    return ConsortiumError(Code.SITE_STATE, what, remedy)


def _invitation(code: Code, why: str) -> ConsortiumError:
    return ConsortiumError(
        code, f"The invitation {why}.", "Ask the consortium's operator for a new one."
    )
