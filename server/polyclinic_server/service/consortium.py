"""The consortium service: studies, what hospitals signed about them, runs, models, kept rows.

The server checks what it is given, for early and clear errors; no promise to a patient rests on
that, since every hospital checks the same again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import grpc

from polyclinic_common.consortium import consortium_pb2 as pb
from polyclinic_common.consortium.statements import (
    ANY_RUN,
    Declaration,
    StudyApproval,
    Withdrawal,
)
from polyclinic_common.consortium.transport import FETCH_S, LARGEST_STUDY, MODEL_PART
from polyclinic_common.identity.statement import Statement, read_signed
from polyclinic_common.version import VERSION
from polyclinic_server.folder import ServerFolder
from polyclinic_server.service.bundles import MOST_OF_A_SITE, BundleCalls
from polyclinic_server.service.guard import caller, require_deadline
from polyclinic_server.service.lists import fitting
from polyclinic_server.service.places import Places
from polyclinic_server.store.database import bad_request
from polyclinic_server.store.store import Store
from polyclinic_server.store.tables import Run

MOST_WATCHERS = 16  # each keeps a thread of the server
WATCH_EVERY_S = 0.5
MOST_ROWS, MOST_BYTES = 100_000, 1 << 28  # kept for one hospital
ROWS_AT_ONCE, ROWS_SENT = 500, 12  # with the largest rows, within a message
LARGEST_ROW = 1 << 18  # bytes
OVER = {"stopped", "finished", "failed"}
S = TypeVar("S", bound=Statement)


class Consortium(BundleCalls):
    """Answers the hospitals of one consortium; `clock` tells Unix time in seconds."""

    def __init__(self, folder: ServerFolder, store: Store, clock: Callable[[], float] = time.time):
        super().__init__(folder, store)
        self._clock = clock
        self._watchers = Places(MOST_WATCHERS, MOST_OF_A_SITE)

    def GetStatus(self, request: pb.StatusRequest, context: grpc.ServicerContext) -> pb.SiteStatus:
        """Tell a hospital how it stands here, and what time it is."""
        site = caller(self._store, context)
        self._store.seen(site.name, request.version)
        return pb.SiteStatus(
            name=site.name,
            consortium=self._folder.settings.name,
            version=VERSION,
            time_ms=int(self._clock() * 1000),
            certificate_ends=site.expires or 0,
        )

    def ListPeers(self, request: pb.PeersRequest, context: grpc.ServicerContext) -> pb.PeerList:
        """Name all hospitals and their identity keys."""
        peers = [
            pb.Peer(name=site.name, identity=site.identity or b"", state=site.state)
            for site in self._store.sites()
        ]
        return pb.PeerList(peers=peers)

    def ListStudies(
        self, request: pb.StudiesRequest, context: grpc.ServicerContext
    ) -> pb.StudyList:
        """Return a page of the open studies as the operator signed them.

        One too large for a message, which an earlier version took, stops nobody: it is left out.
        """
        names = self._store.open_studies(LARGEST_STUDY, request.after)
        page = list(fitting(self._offered(name) for name in names))
        return pb.StudyList(studies=page, more=len(page) < len(names))

    def GetRoster(self, request: pb.RosterRequest, context: grpc.ServicerContext) -> pb.RosterReply:
        """Return what every hospital of a study declared and approved, as it signed it."""
        self._store.study(request.study_hash)
        entries = [
            pb.RosterEntry(
                name=part.site, declaration=part.declaration, approval=part.approval or b""
            )
            for part in self._store.parts(request.study_hash)
        ]
        return pb.RosterReply(entries=entries)

    def Declare(self, request: pb.Signed, context: grpc.ServicerContext) -> pb.Accepted:
        """Keep a hospital's name and declared size for a study."""
        site = caller(self._store, context)
        declaration = self._signed(Declaration, request, site.identity)
        self._store.require_open(declaration.study_hash)
        study = self._store.study(declaration.study_hash).read(self._folder.operator.public)
        if declaration.name != site.name or site.name not in study.training_sites:
            raise bad_request("the study does not name this hospital, or holds it out")
        declaration.require_size()
        self._store.declare(site.name, declaration, request.statement)
        return pb.Accepted()

    def Approve(self, request: pb.Signed, context: grpc.ServicerContext) -> pb.Accepted:
        """Keep a hospital's approval."""
        site = caller(self._store, context)
        approval = self._signed(StudyApproval, request, site.identity)
        self._store.require_open(approval.study_hash)
        study = self._store.study(approval.study_hash).read(self._folder.operator.public)
        self._store.approve(site.name, approval, request.statement, study.training_sites)
        return pb.Accepted()

    def Withdraw(self, request: pb.Signed, context: grpc.ServicerContext) -> pb.Accepted:
        """Keep a hospital's withdrawal: it is not addressed any more."""
        site = caller(self._store, context)
        withdrawal = self._signed(Withdrawal, request, site.identity)
        self._store.withdraw(site.name, withdrawal, request.statement)
        return pb.Accepted()

    def ListRuns(self, request: pb.RunsRequest, context: grpc.ServicerContext) -> pb.RunList:
        """Return the latest runs, as many as a message holds, the latest first."""
        return pb.RunList(runs=fitting(_status(run) for run in self._store.runs()))

    def WatchRun(
        self, request: pb.RunRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.RunStatus]:
        """Send a run's status now and at every change, until it is over."""
        with self._watchers.taken(caller(self._store, context).name):
            last = None
            while context.is_active():
                caller(self._store, context)
                status = _status(self._store.run(request.run))
                if status != last:
                    yield status
                if status.state in OVER:
                    return
                last = status
                time.sleep(WATCH_EVERY_S)

    def FetchModel(
        self, request: pb.RunRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ModelPart]:
        """Send a run's released model in parts, signature first."""
        require_deadline(context, FETCH_S)
        with self._fetches.taken(caller(self._store, context).name):
            run, model = self._store.run(request.run), self._store.model(request.run)
            head = {
                "study_hash": bytes.fromhex(run.study),
                "digest": model.digest,
                "signature": model.signature,
            }
            yield pb.ModelPart(**head)
            for start in range(0, len(model.content), MODEL_PART):
                yield pb.ModelPart(content=model.content[start : start + MODEL_PART])

    def KeepRows(self, request: pb.RowBatch, context: grpc.ServicerContext) -> pb.Accepted:
        """Keep rows of the caller's ledger, for its recovery alone."""
        site = caller(self._store, context)
        rows = [(row.sequence, row.content) for row in request.rows]
        if len(rows) > ROWS_AT_ONCE or any(len(content) > LARGEST_ROW for _, content in rows):
            raise bad_request("too many rows at once, or too large a row")
        self._store.keep_rows(site.name, rows, MOST_ROWS, MOST_BYTES)
        return pb.Accepted()

    def FetchRows(
        self, request: pb.RowsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.RowBatch]:
        """Give a hospital its own rows back."""
        require_deadline(context, FETCH_S)
        site, after = caller(self._store, context), request.after
        with self._fetches.taken(site.name):
            while found := self._store.rows(site.name, after, ROWS_SENT):
                yield pb.RowBatch(
                    rows=[pb.Row(sequence=row.sequence, content=row.content) for row in found]
                )
                after = found[-1].sequence

    def _offered(self, study_hash: str) -> pb.SignedStudy:
        name = bytes.fromhex(study_hash)
        signed, parts = self._store.study(name), self._store.parts(name)
        return pb.SignedStudy(
            manifest=signed.manifest,
            signature=signed.signature,
            declared=len(parts),
            approved=sum(1 for part in parts if part.approval is not None),
        )

    def _signed(self, kind: type[S], request: pb.Signed, identity: bytes | None) -> S:
        """Return a statement of the hospital that calls."""
        statement = read_signed(kind, request.statement)
        if statement.identity != identity or statement.run != ANY_RUN:
            raise bad_request("a statement is not the calling hospital's")
        return statement


def _status(run: Run) -> pb.RunStatus:
    return pb.RunStatus(
        run=run.id,
        study_hash=bytes.fromhex(run.study),
        state=run.state,
        round=run.round,
        rounds=run.rounds,
        note=run.note,
        changed=run.changed,
    )
