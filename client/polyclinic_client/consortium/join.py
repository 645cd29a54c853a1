"""Joining: keys are made here, a request goes out, a certificate comes back."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from pathlib import Path

import grpc
from cryptography import x509

from polyclinic_client.accounts.account import ONLY, Beginning, begin_account, note_joined
from polyclinic_client.consortium.membership import (
    AUTHORITY,
    MEMBERSHIP,
    TLS,
    TLS_KEY,
    Membership,
    unusable,
)
from polyclinic_client.site_files import IDENTITY, read_identity
from polyclinic_client.site_folder import SiteFolder
from polyclinic_common import pki
from polyclinic_common.consortium.consortium_pb2 import JoinReply, JoinRequest
from polyclinic_common.consortium.consortium_pb2_grpc import EnrolmentStub
from polyclinic_common.consortium.invitation import Invitation
from polyclinic_common.consortium.statements import vouch
from polyclinic_common.consortium.transport import LARGEST_JOINING, UNARY_S, limits, read_error
from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_common.files import write_atomically


def join(
    path: Path,
    invitation: Invitation,
    *,
    accounts: Path,
    delta: float,
    epsilon_cap: float,
    fallback_cap: float | None = None,
    witness: Path | None = None,
    how: Beginning = ONLY,
) -> Membership:
    """Make a site's keys, ledger and journal, and have its TLS key certified.

    If the server cannot be reached, the folder stays: the same call goes on with the same keys.

    Parameters
    ----------
    path : Path
        The site's folder.
    accounts : Path
        The registry of this hospital's accounts; made where there is none.
    delta, epsilon_cap, fallback_cap, witness
        Of the new ledger, as `Ledger.create`.
    how : Beginning
        Of an account that is not this hospital's first.

    Raises
    ------
    ConsortiumError
        C025 if this site has joined already; as `begin_account`; what the server refuses; C011 if
        it is not reached.
    LedgerError
        As `SiteFolder.create`.
    """
    if (path / MEMBERSHIP).exists():
        raise ConsortiumError(
            Code.NOT_JOINED,
            f"The site in {path} has joined a consortium already.",
            "Use it: one account counts for all studies. To be certified anew by the same "
            f"consortium, move {MEMBERSHIP} away and join again: keys and ledger stay.",
        )
    made = partial(
        SiteFolder.create,
        path,
        delta=delta,
        epsilon_cap=epsilon_cap,
        fallback_cap=fallback_cap,
        witness=witness,
        declared_reset=how.declared_reset,
    )
    there = (path / IDENTITY).exists()
    begin_account(accounts, path, partial(SiteFolder.open, path) if there else made, how)
    if not (path / TLS_KEY).exists():
        pki.write_private(path / TLS_KEY, pki.key_pem(pki.generate_key()))
    key = pki.read_key(path / TLS_KEY)
    reply = _enrol(path, invitation, key)
    _write_certificates(path, invitation, reply, key)
    membership = Membership(
        name=invitation.site,
        consortium=reply.consortium,
        host=invitation.host,
        enrolment_port=invitation.port,
        port=reply.port,
        fleet_port=reply.fleet_port,
        operator_key=reply.operator_key,
    )
    note_joined(path, membership.name, membership.consortium)
    membership.write(path)
    return membership


def _enrol(path: Path, invitation: Invitation, key: pki.Key) -> JoinReply:
    """Send the request over a connection that only the invitation's authority can have made."""
    identity, address = read_identity(path), f"{invitation.host}:{invitation.port}"
    request = JoinRequest(
        invitation=invitation.id,
        secret=invitation.secret,
        signing_request=pki.make_request(key, invitation.site),
        identity=identity.public,
        voucher=vouch(identity, invitation.id, invitation.site, key.public_key()),
        version=version("polyclinic"),
    )
    trusted = grpc.ssl_channel_credentials(pki.pem(invitation.certificate))
    with grpc.secure_channel(address, trusted, limits(LARGEST_JOINING)) as channel:
        try:
            return EnrolmentStub(channel).Join(request, timeout=UNARY_S)
        except grpc.RpcError as error:
            raise read_error(error, address) from None


def _write_certificates(path: Path, invitation: Invitation, reply: JoinReply, key: pki.Key) -> None:
    certificate = x509.load_der_x509_certificate(reply.certificate)
    if pki.public_bytes_of(certificate) != pki.public_bytes(key.public_key()):
        raise unusable(path / TLS)
    write_atomically(path / TLS, pki.pem(certificate))
    write_atomically(path / AUTHORITY, pki.pem(invitation.certificate))
