"""Joining: keys are made here, a request goes out, a certificate comes back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509

from polyclinic_client.accounts.account import (
    ONLY,
    Beginning,
    account_of,
    begin_account,
    note_joined,
)
from polyclinic_client.consortium.channel import open_channel
from polyclinic_client.consortium.trust import known_trust
from polyclinic_client.folder.layout import IDENTITY, LEDGER, begin_again, read_identity
from polyclinic_client.folder.membership import (
    AUTHORITY,
    MEMBERSHIP,
    TLS,
    TLS_KEY,
    Membership,
    unusable,
)
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.ledger import Ledger
from polyclinic_common.consortium.address import host_port
from polyclinic_common.consortium.consortium_pb2 import JoinReply, JoinRequest
from polyclinic_common.consortium.consortium_pb2_grpc import EnrolmentStub
from polyclinic_common.consortium.invitation import Invitation
from polyclinic_common.consortium.statements import vouch
from polyclinic_common.consortium.transport import LARGEST_JOINING, UNARY_S, read_error
from polyclinic_common.errors import Code, ConsortiumError, LedgerError
from polyclinic_common.files import write_atomically
from polyclinic_common.identity import certificates
from polyclinic_common.version import VERSION

DELTA = 1e-5
EPSILON_CAP = 2.0
LOOK = "Find out why: polyclinic client preflight INVITATION. Then join again, with the same words."


@dataclass(frozen=True)
class Limits:
    """The limits of an account, as a person typed them; None where nothing was typed.

    Attributes
    ----------
    delta, epsilon_cap, fallback_cap, witness
        As `Ledger.create`.
    """

    delta: float | None = None
    epsilon_cap: float | None = None
    fallback_cap: float | None = None
    witness: Path | None = None

    def make(self, path: Path, how: Beginning) -> SiteFolder:
        """Make a site with these limits."""
        return SiteFolder.create(
            path,
            delta=DELTA if self.delta is None else self.delta,
            epsilon_cap=EPSILON_CAP if self.epsilon_cap is None else self.epsilon_cap,
            fallback_cap=self.fallback_cap,
            witness=self.witness,
            declared_reset=how.declared_reset,
        )

    def differ(self, ledger: Ledger) -> bool:
        """Say whether an account has other limits than those typed."""
        kept = ledger.state.epsilon_cap, ledger.state.fallback_cap, ledger.witness
        typed = self.epsilon_cap, self.fallback_cap, self.witness
        others = (a is not None and a != b for a, b in zip(typed, kept, strict=True))
        return any(others) or self._has_other_delta(ledger)

    def set(self, ledger: Ledger) -> None:
        """Give an account that holds something, or is known to others, the limits typed.

        Raises
        ------
        LedgerError
            P001 if one is none, P002 if another delta was typed: that cannot be changed.
        """
        if self._has_other_delta(ledger):
            raise LedgerError(
                Code.PRIVACY_DELTA,
                f"This account has delta {ledger.delta:g}, and an account keeps its delta.",
                f"Leave --delta out, or type {ledger.delta:g}.",
            )
        typed = self.epsilon_cap is not None or self.fallback_cap is not None
        if typed and self.differ(ledger):
            kept = ledger.state.epsilon_cap
            ledger.set_caps(
                kept if self.epsilon_cap is None else self.epsilon_cap, self.fallback_cap
            )

    def _has_other_delta(self, ledger: Ledger) -> bool:
        return self.delta is not None and self.delta != ledger.delta


def join(
    path: Path,
    invitation: Invitation,
    *,
    accounts: Path,
    delta: float | None = None,
    epsilon_cap: float | None = None,
    fallback_cap: float | None = None,
    witness: Path | None = None,
    how: Beginning = ONLY,
) -> Membership:
    """Make a site's keys, ledger and journal, and have its TLS key certified.

    Whatever stops it, the same call goes on with the same keys, and with the limits typed last:
    that the site has joined is written down when all else is there.

    Parameters
    ----------
    path : Path
        The site's folder.
    accounts : Path
        The registry of this hospital's accounts; made where there is none.
    delta, epsilon_cap, fallback_cap, witness
        Of the ledger, as `Ledger.create`; None takes the default, or leaves what an account has.
    how : Beginning
        Of an account that is not this hospital's first.

    Raises
    ------
    ConsortiumError
        C025 if this site has joined already; as `begin_account`; what the server refuses; C011 if
        it is not reached, C033 if the proxy that the environment names cannot be used.
    LedgerError
        As `SiteFolder.create`; L001 if there is a key without a ledger.
    """
    if (path / MEMBERSHIP).exists():
        raise ConsortiumError(
            Code.NOT_JOINED,
            f"The site in {path} has joined a consortium already.",
            "Use it: one account counts for all studies. To be certified anew by the same "
            f"consortium, move {MEMBERSHIP} away and join again: keys and ledger stay.",
        )
    _make_account(path, accounts, Limits(delta, epsilon_cap, fallback_cap, witness), how)
    if not (path / TLS_KEY).exists():
        certificates.write_private(
            path / TLS_KEY, certificates.key_pem(certificates.generate_key())
        )
    key = certificates.read_key(path / TLS_KEY)
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
    known_trust(path).write(path)
    return membership


def _make_account(path: Path, accounts: Path, limits: Limits, how: Beginning) -> None:
    """Make the site and its account, or go on with those that an earlier call made."""
    there = (path / IDENTITY).exists()
    if there and not (path / LEDGER).exists():
        raise _without_ledger(path)

    def made() -> SiteFolder:
        return SiteFolder.open(path) if there else limits.make(path, how)

    begin_account(accounts, path, made, how)
    if there and _is_made_anew(path, limits):
        begin_again(path)
    if not (path / IDENTITY).exists():  # an earlier call was cut off while it was made anew
        limits.make(path, how).close()


def _is_made_anew(path: Path, limits: Limits) -> bool:
    """Give a site that is there the limits typed; say if it has to be made anew for that.

    It may be while its ledger holds its first row alone and it never joined: nobody has seen that
    row, and nothing is forgotten with it.
    """
    with SiteFolder.open(path) as site:
        if not limits.differ(site.ledger):
            return False
        with account_of(site) as (_, account):
            unseen = not account.name and not account.most
        if unseen and site.ledger.head().counter == 1 and not site.ledger.declared_reset:
            return True
        limits.set(site.ledger)
        return False


def _enrol(path: Path, invitation: Invitation, key: certificates.Key) -> JoinReply:
    """Send the request over a connection that only the invitation's authority can have made."""
    identity = read_identity(path)
    request = JoinRequest(
        invitation=invitation.id,
        secret=invitation.secret,
        signing_request=certificates.make_request(key, invitation.site),
        identity=identity.public,
        voucher=vouch(identity, invitation.id, invitation.site, key.public_key()),
        version=VERSION,
    )
    trusted = grpc.ssl_channel_credentials(certificates.pem(invitation.certificate))
    with open_channel(invitation.host, invitation.port, trusted, LARGEST_JOINING) as channel:
        try:
            return EnrolmentStub(channel).Join(request, timeout=UNARY_S)
        except grpc.RpcError as error:
            address = host_port(invitation.host, invitation.port)
            raise read_error(error, address, LOOK) from None


def _write_certificates(
    path: Path, invitation: Invitation, reply: JoinReply, key: certificates.Key
) -> None:
    certificate = x509.load_der_x509_certificate(reply.certificate)
    if certificates.public_bytes_of(certificate) != certificates.public_bytes(key.public_key()):
        raise unusable(path / TLS)
    write_atomically(path / TLS, certificates.pem(certificate))
    write_atomically(path / AUTHORITY, certificates.pem(invitation.certificate))


def _without_ledger(path: Path) -> LedgerError:
    return LedgerError(
        Code.LEDGER_ABSENT,
        f"{path} holds a hospital's key and no ledger.",
        f"If it has never joined a consortium, remove {IDENTITY} there and join again. If it has, "
        "put the ledger back from a copy: a new one would forget what was spent.",
    )
