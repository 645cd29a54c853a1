"""Enrolment: an invitation and two keys in, a certificate out."""

from __future__ import annotations

import logging

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from polyclinic_common.consortium.consortium_pb2 import JoinReply, JoinRequest
from polyclinic_common.consortium.consortium_pb2_grpc import EnrolmentServicer
from polyclinic_common.consortium.statements import is_vouched
from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_common.identity import certificates
from polyclinic_server.folder import ServerFolder
from polyclinic_server.service.rate import RateLimit
from polyclinic_server.store.database import bad_request
from polyclinic_server.store.store import Store

log = logging.getLogger(__name__)


class Enrolment(EnrolmentServicer):
    """Answers those who hold an invitation; who has none learns nothing.

    Parameters
    ----------
    folder, store : ServerFolder, Store
        The server.
    tries : RateLimit
        Has counted the call already; a join that succeeds is taken back.
    """

    def __init__(self, folder: ServerFolder, store: Store, tries: RateLimit):
        self._folder = folder
        self._store = store
        self._tries = tries

    def Join(self, request: JoinRequest, context: grpc.ServicerContext) -> JoinReply:
        """Check invitation, signing request and voucher; certify the hospital."""
        site = self._invited(request.invitation, request.secret)
        key = certificates.read_request(request.signing_request)
        invitation, identity = request.invitation, request.identity
        if not is_vouched(identity, invitation, site, key, request.voucher):
            raise bad_request("the identity key does not vouch for the signing request")
        made = self._store.join(
            invitation,
            identity,
            certificates.public_bytes(key),
            lambda name: self._folder.authority().certify_site(key, name),
        )
        self._tries.forgive(context.peer())
        self._store.seen(site, request.version)
        log.info("%s joined with certificate %x", site, made.serial_number)
        settings = self._folder.settings
        return JoinReply(
            certificate=made.public_bytes(Encoding.DER),
            operator_key=self._folder.operator.public,
            consortium=settings.name,
            port=settings.ports.consortium,
            fleet_port=settings.ports.fleet,
        )

    def _invited(self, invitation: bytes, secret: bytes) -> str:
        """Return whom an invitation is for; count its wrong secrets, from wherever they come."""
        self._tries.check_guesses(invitation)
        try:
            return self._store.invited(invitation, secret)
        except ConsortiumError as error:
            if error.code == Code.INVITATION_UNKNOWN:
                self._tries.guessed(invitation)
            raise
