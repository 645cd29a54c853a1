"""The tables of the store. Times are Unix seconds; nothing here is secret, nothing is of patients.

A change needs a migration beside it; a test compares the two.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import JSON, BigInteger, ForeignKey, LargeBinary, MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SiteState = Literal["invited", "joined", "revoked"]
RunState = Literal["running", "stopped", "finished", "failed"]
Decision = Literal["accepted", "rejected"]
NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class Table(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {int: BigInteger, bytes: LargeBinary, list[int]: JSON}  # noqa: RUF012


class Site(Table):
    """A hospital: its name, the certificate that it holds and the key that it signs with."""

    __tablename__ = "sites"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    identity: Mapped[bytes | None] = mapped_column(unique=True)
    certificate: Mapped[str | None]
    serial: Mapped[int | None] = mapped_column(unique=True)
    expires: Mapped[int | None]
    last_seen: Mapped[int | None]
    version: Mapped[str | None] = mapped_column(String(40))


class Invited(Table):
    """An invitation: the hash of its secret, never the secret."""

    __tablename__ = "invitations"

    id: Mapped[bytes] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(ForeignKey("sites.name"))
    secret_hash: Mapped[bytes]
    expires: Mapped[int]
    used: Mapped[int | None]


class PublishedStudy(Table):
    """A study as its operator signed it; `hash` is hexadecimal; `closed` is when it was closed."""

    __tablename__ = "studies"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    manifest: Mapped[bytes]
    signature: Mapped[bytes]
    published: Mapped[int]
    closed: Mapped[int | None]


class Part(Table):
    """A hospital's part in a study: what it declared, approved and withdrew, as it signed it."""

    __tablename__ = "parts"

    study: Mapped[str] = mapped_column(ForeignKey("studies.hash"), primary_key=True)
    site: Mapped[str] = mapped_column(ForeignKey("sites.name"), primary_key=True)
    identity: Mapped[bytes]
    declared: Mapped[int]
    declaration: Mapped[bytes]
    approval: Mapped[bytes | None]
    withdrawal: Mapped[bytes | None]


class Run(Table):
    """A run by our id; it may span several Flower runs."""

    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    study: Mapped[str] = mapped_column(ForeignKey("studies.hash"))
    state: Mapped[str] = mapped_column(String(16))
    round: Mapped[int]
    rounds: Mapped[int]
    note: Mapped[str]
    started: Mapped[int]
    changed: Mapped[int]
    flower_runs: Mapped[list[int]]


class KeptRow(Table):
    """A row of a hospital's ledger, kept for its recovery."""

    __tablename__ = "kept_rows"

    site: Mapped[str] = mapped_column(ForeignKey("sites.name"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[bytes]


class ReleasedModel(Table):
    """A model that a run released: SHA-256 of its bytes and the operator's signature."""

    __tablename__ = "models"

    run: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    digest: Mapped[bytes]
    signature: Mapped[bytes]
    content: Mapped[bytes]


class OfferedBundle(Table):
    """A released model as one file, signed by the operator; `digest` (hexadecimal) names it."""

    __tablename__ = "bundles"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    study: Mapped[str] = mapped_column(ForeignKey("studies.hash"))
    run: Mapped[str] = mapped_column(ForeignKey("runs.id"))
    released: Mapped[int]
    size: Mapped[int]
    content: Mapped[bytes] = mapped_column(deferred=True)


class BundleDecision(Table):
    """What a hospital decided on a bundle: `state` is its latest decision.

    `code` says why it rejected; it is empty while it accepts. What it signed before stays.
    """

    __tablename__ = "bundle_decisions"

    bundle: Mapped[str] = mapped_column(ForeignKey("bundles.digest"), primary_key=True)
    identity: Mapped[bytes] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(ForeignKey("sites.name"))
    state: Mapped[str] = mapped_column(String(16))
    code: Mapped[str] = mapped_column(String(40))
    signature: Mapped[bytes | None]
    rejection: Mapped[bytes | None]


class WithdrawnBundle(Table):
    """A bundle that the operator called back, as it signed that."""

    __tablename__ = "bundle_withdrawals"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    bundle: Mapped[str] = mapped_column(ForeignKey("bundles.digest"), unique=True)
    statement: Mapped[bytes]
