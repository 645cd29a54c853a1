"""Calls of a hospital to its consortium's service: typed results, coded errors, deadlines."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from polyclinic_client.consortium.bundle_calls import BundleCalls
from polyclinic_client.consortium.connection import utc
from polyclinic_client.records.chained_log import Row
from polyclinic_common.consortium import consortium_pb2 as pb
from polyclinic_common.consortium.signed import SignedStudy, check_model
from polyclinic_common.consortium.transport import (
    FETCH_S,
    STREAM_S,
    UNARY_S,
)
from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_common.version import VERSION

ROWS_AT_ONCE, BYTES_AT_ONCE = 200, 1 << 20
LARGEST_MODEL = 1 << 30  # bytes
MOST_STUDIES = 10_000  # a server that sends pages without end is not followed


@dataclass(frozen=True)
class Status:
    """How a hospital stands at the server, and the server's clock."""

    name: str
    consortium: str
    server_version: str
    server_time: dt.datetime
    certificate_ends: dt.datetime


@dataclass(frozen=True)
class Peer:
    """A hospital as the server names it; `identity` is empty until it has joined."""

    name: str
    identity: bytes
    state: str


@dataclass(frozen=True)
class Offered:
    """A study that the server offers, and how many hospitals have declared and approved."""

    signed: SignedStudy
    declared: int
    approved: int


@dataclass(frozen=True)
class RosterEntry:
    """What the server holds of one hospital for a study, as that hospital signed it."""

    name: str
    declaration: bytes
    approval: bytes


@dataclass(frozen=True)
class RunStatus:
    """How far a run is."""

    run: str
    study_hash: bytes
    state: str
    round_number: int
    rounds: int
    note: str
    changed: dt.datetime


class ConsortiumClient(BundleCalls):
    """A connection under mutual TLS; made by `open`, closed by leaving its context.

    All methods raise `ConsortiumError`: C011 if the server is not reached, C012 if it shuts this
    hospital out, and what the server refuses.
    """

    def status(self) -> Status:
        """Return how this hospital stands at the server."""
        with self._coded():
            found = self._stub.GetStatus(pb.StatusRequest(version=VERSION), timeout=UNARY_S)
        return Status(
            found.name,
            found.consortium,
            found.version,
            utc(found.time_ms / 1000),
            utc(found.certificate_ends),
        )

    def peers(self) -> list[Peer]:
        """Return all hospitals of the consortium, this one included."""
        with self._coded():
            found = self._stub.ListPeers(pb.PeersRequest(), timeout=UNARY_S)
        return [Peer(each.name, each.identity, each.state) for each in found.peers]

    def studies(self) -> list[Offered]:
        """Return the studies on offer, page by page; their signatures are not checked yet."""
        offered: list[Offered] = []
        after = b""
        while True:
            with self._coded():
                page = self._stub.ListStudies(pb.StudiesRequest(after=after), timeout=UNARY_S)
            offered += [
                Offered(SignedStudy(each.manifest, each.signature), each.declared, each.approved)
                for each in page.studies
            ]
            if not (page.more and page.studies and len(offered) < MOST_STUDIES):
                return offered
            after = offered[-1].signed.hash

    def roster(self, study_hash: bytes) -> list[RosterEntry]:
        """Return what the hospitals of a study signed; not checked yet."""
        with self._coded():
            found = self._stub.GetRoster(pb.RosterRequest(study_hash=study_hash), timeout=UNARY_S)
        return [RosterEntry(each.name, each.declaration, each.approval) for each in found.entries]

    def declare(self, signed: bytes) -> None:
        """Hand in this hospital's signed declaration."""
        with self._coded():
            self._stub.Declare(pb.Signed(statement=signed), timeout=UNARY_S)

    def approve(self, signed: bytes) -> None:
        """Hand in this hospital's signed approval."""
        with self._coded():
            self._stub.Approve(pb.Signed(statement=signed), timeout=UNARY_S)

    def withdraw(self, signed: bytes) -> None:
        """Hand in this hospital's signed withdrawal."""
        with self._coded():
            self._stub.Withdraw(pb.Signed(statement=signed), timeout=UNARY_S)

    def runs(self) -> list[RunStatus]:
        """Return all runs, the latest first."""
        with self._coded():
            found = self._stub.ListRuns(pb.RunsRequest(), timeout=UNARY_S)
        return [_run(each) for each in found.runs]

    def watch(self, run: str) -> Iterator[RunStatus]:
        """Give a run's status now and at every change, until it is over."""
        with self._coded():
            for each in self._stub.WatchRun(pb.RunRequest(run=run), timeout=STREAM_S):
                yield _run(each)

    def model(self, run: str) -> bytes:
        """Return the model that a run released, checked against the operator's signature.

        Raises
        ------
        ConsortiumError
            C014 if the operator did not sign it.
        """
        content = bytearray()
        head = pb.ModelPart()
        with self._coded():
            for part in self._stub.FetchModel(pb.RunRequest(run=run), timeout=FETCH_S):
                if part.signature:
                    head = part
                content += part.content
                if len(content) > LARGEST_MODEL:
                    break
        model = bytes(content)
        operator = self.membership.operator_key
        if hashlib.sha256(model).digest() != head.digest:
            raise ConsortiumError(
                Code.NOT_REACHED, "A model arrived in part only.", "Fetch it again."
            )
        check_model(operator, head.study_hash, run, model, head.signature)
        return model

    def keep_rows(self, rows: Sequence[Row]) -> None:
        """Let the server keep rows of this hospital's ledger, sealed, for its own recovery."""
        sealed = [pb.Row(sequence=row.sequence, content=self._seal.seal(row)) for row in rows]
        for batch in _batches(sealed):
            with self._coded():
                self._stub.KeepRows(pb.RowBatch(rows=batch), timeout=UNARY_S)

    def rows(self, after: int = 0) -> list[Row]:
        """Return the rows that the server kept; `recover` checks whether they are this ledger's.

        Raises
        ------
        LedgerError
            L002 if what comes is not what was kept.
        """
        kept: list[pb.Row] = []
        with self._coded():
            for batch in self._stub.FetchRows(pb.RowsRequest(after=after), timeout=FETCH_S):
                kept += batch.rows
        return [self._seal.unseal(row.sequence, row.content) for row in kept]


def _batches(rows: Sequence[pb.Row]) -> Iterator[list[pb.Row]]:
    """Cut rows into batches that are not too many and not too large."""
    batch: list[pb.Row] = []
    size = 0
    for row in rows:
        if batch and (len(batch) == ROWS_AT_ONCE or size + len(row.content) > BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row.content)
    if batch:
        yield batch


def _run(found: pb.RunStatus) -> RunStatus:
    return RunStatus(
        found.run,
        found.study_hash,
        found.state,
        found.round,
        found.rounds,
        found.note,
        utc(found.changed),
    )
