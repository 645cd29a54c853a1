"""What hospitals sign about a study before any run, and what an identity vouches for at joining.

A statement is made and read as every statement of the protocol (`secure_sum.statements`). Its field
`run` is empty: it holds for every run of the study.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import Field

from polyclinic_common.errors import Code, PrivacyError
from polyclinic_common.identity.certificates import key_hash
from polyclinic_common.identity.site_key import Identity, verify
from polyclinic_common.identity.statement import Count, Digest, Statement
from polyclinic_common.packing import pack

ANY_RUN = ""
ROUNDED_TO = 10  # patients
MOST_DECLARED = 1 << 23  # patients: twice as many fit into a sum (`releases.shares.most_patients`)


class Declaration(Statement):
    """A hospital takes part in the making of a study's roster: its name and declared size.

    Before approval nothing else leaves: no number here answers a question of the study.

    Attributes
    ----------
    name : str
        Public name in the study.
    declared : int
        Declared patients: a round number that the hospital chooses to make public.
    held_out : int
        0. Earlier versions signed a count of held-out patients here; it is read, and never used.
    """

    label: ClassVar[str] = "polyclinic declaration"

    name: str
    declared: Annotated[int, Field(ge=1)]
    held_out: Count = 0

    def signed(self, identity: Identity) -> bytes:
        """Return the declaration with its signature; one that tells more than a size is not signed.

        Raises
        ------
        ValueError
            If it counts held-out patients.
        """
        if self.held_out != 0:
            raise ValueError("a declaration tells nothing of held-out patients")
        return super().signed(identity)

    def require_size(self) -> None:
        """Refuse a size with which no sum could be planned, for anybody in the study.

        Raises
        ------
        PrivacyError
            P001, with the hospital's name.
        """
        if self.declared > MOST_DECLARED:
            raise PrivacyError(
                Code.PRIVACY_PARAMETER,
                f"{self.name} declares {self.declared} patients; a sum is made for at most "
                f"{MOST_DECLARED} of a hospital.",
                "That hospital adds its data again with a smaller size: `polyclinic client data "
                "add`, with --declare.",
            )


class StudyApproval(Statement):
    """A hospital lets a study run on its patients, within these limits.

    Attributes
    ----------
    roster_hash : bytes
        The roster it was shown.
    declared : int
        Its own declared patients.
    lost_rounds : int
        How many rounds may stay at fallback.
    epsilon_cap, fallback_cap : float
        The account's limits when it approved; 0 where there is none.
    """

    label: ClassVar[str] = "polyclinic approval"

    roster_hash: Digest
    declared: Annotated[int, Field(ge=1)]
    lost_rounds: Count
    epsilon_cap: float
    fallback_cap: float


class Withdrawal(Statement):
    """A hospital ends its approval of a study."""

    label: ClassVar[str] = "polyclinic withdrawal"


def rounded(patients: int) -> int:
    """Return a number of patients as it may be declared: to the nearest ten, at least ten."""
    return max(ROUNDED_TO, ROUNDED_TO * round(patients / ROUNDED_TO))


def vouch(
    identity: Identity, invitation: bytes, name: str, key: ec.EllipticCurvePublicKey
) -> bytes:
    """Return the identity's signature that this TLS key is its hospital's."""
    return identity.sign(_voucher(identity.public, invitation, name, key))


def is_vouched(
    public: bytes, invitation: bytes, name: str, key: ec.EllipticCurvePublicKey, voucher: bytes
) -> bool:
    """Say whether the identity key `public` vouches for a TLS key."""
    return verify(public, _voucher(public, invitation, name, key), voucher)


def _voucher(public: bytes, invitation: bytes, name: str, key: ec.EllipticCurvePublicKey) -> bytes:
    return pack(["polyclinic joining", invitation, name, public, key_hash(key)])
