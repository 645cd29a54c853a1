"""What the consortium service answers about bundles: on offer, fetched, accepted, rejected."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from polyclinic_common.bundle.statements import BundleRejection
from polyclinic_common.consortium import consortium_pb2 as pb
from polyclinic_common.consortium.consortium_pb2_grpc import ConsortiumServicer
from polyclinic_common.consortium.transport import FETCH_S, MODEL_PART
from polyclinic_common.errors import BundleError, Code
from polyclinic_common.identity.site_key import verify
from polyclinic_common.identity.statement import read_signed
from polyclinic_server.consortium.signatures import envelope_of, with_signatures
from polyclinic_server.folder import ServerFolder
from polyclinic_server.service.guard import caller, require_deadline
from polyclinic_server.service.lists import fitting
from polyclinic_server.service.places import Places
from polyclinic_server.store.database import bad_request
from polyclinic_server.store.store import Store
from polyclinic_server.store.tables import OfferedBundle, Site

MOST_FETCHES = 16  # each keeps a thread of the server, and a bundle in memory
MOST_OF_A_SITE = 2
WITHDRAWALS_SENT = 1000  # of less than two kilobytes each


class BundleCalls(ConsortiumServicer):
    """Answers what hospitals ask and say about bundles."""

    def __init__(self, folder: ServerFolder, store: Store):
        self._folder = folder
        self._store = store
        self._fetches = Places(MOST_FETCHES, MOST_OF_A_SITE)

    def ListBundles(
        self, request: pb.BundlesRequest, context: grpc.ServicerContext
    ) -> pb.BundleList:
        """Return the latest bundles, as many as a message holds, with what hospitals decided."""
        return pb.BundleList(bundles=fitting(map(self._listed, self._store.bundles())))

    def ListWithdrawals(
        self, request: pb.WithdrawalsRequest, context: grpc.ServicerContext
    ) -> pb.WithdrawalList:
        """Return a page of what was called back, as the operator signed it."""
        found = self._store.withdrawals(request.after, WITHDRAWALS_SENT)
        return pb.WithdrawalList(statements=found)

    def FetchBundle(
        self, request: pb.BundleRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.BundlePart]:
        """Send a bundle in parts, with the signatures of the hospitals that accept it."""
        require_deadline(context, FETCH_S)
        with self._fetches.taken(caller(self._store, context).name):
            found = self._store.bundle(request.digest.hex())
            content = with_signatures(found.content, self._store.decisions(found.digest))
            for start in range(0, len(content), MODEL_PART):
                yield pb.BundlePart(content=content[start : start + MODEL_PART])

    def SignBundle(self, request: pb.BundleSignature, context: grpc.ServicerContext) -> pb.Accepted:
        """Keep a hospital's signature under a bundle that was not called back."""
        site = caller(self._store, context)
        with self._fetches.taken(site.name):
            found, identity = self._decidable(site, request.digest.hex())
            self._refuse_withdrawn(found.digest)
            signed = envelope_of(found.content).signed_bytes
            if not verify(identity, signed, request.signature):
                raise bad_request("a signature under a bundle is not the calling hospital's")
            self._store.accept_bundle(found.digest, site.name, identity, request.signature)
        return pb.Accepted()

    def RejectBundle(self, request: pb.Signed, context: grpc.ServicerContext) -> pb.Accepted:
        """Keep a hospital's rejection of a bundle, with its coded reason."""
        site = caller(self._store, context)
        rejection = read_signed(BundleRejection, request.statement)
        found, identity = self._decidable(site, rejection.digest.hex())
        named = rejection.identity, rejection.study_hash.hex(), rejection.run
        if named != (identity, found.study, found.run):
            raise bad_request("a rejection is not the calling hospital's, or of another bundle")
        self._store.reject_bundle(
            found.digest, site.name, identity, rejection.code, request.statement
        )
        return pb.Accepted()

    def _listed(self, bundle: OfferedBundle) -> pb.OfferedBundle:
        decisions = [
            pb.BundleDecision(site=each.site, state=each.state, code=each.code)
            for each in self._store.decisions(bundle.digest)
        ]
        return pb.OfferedBundle(
            digest=bytes.fromhex(bundle.digest),
            study_hash=bytes.fromhex(bundle.study),
            run=bundle.run,
            size=bundle.size,
            released=bundle.released,
            decisions=decisions,
        )

    def _decidable(self, site: Site, digest: str) -> tuple[OfferedBundle, bytes]:
        """Return a bundle on which a hospital may decide, and the key that it signs with."""
        found = self._store.bundle(digest)
        signed = self._store.study(bytes.fromhex(found.study))
        study = signed.read(self._folder.operator.public)
        if site.identity is None or site.name not in study.roster.sites:
            raise bad_request("the study of the bundle does not name this hospital")
        return found, site.identity

    def _refuse_withdrawn(self, digest: str) -> None:
        if self._store.is_withdrawn(digest):
            raise BundleError(
                Code.BUNDLE_WITHDRAWN,
                f"The operator called bundle {digest[:12]} back.",
                "Stop using it: polyclinic client model list says why.",
            )
