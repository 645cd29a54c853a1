"""What a site's folder knows of bundles: whose they are, for which studies, what was called back.

The client writes it, also while nothing is predicted; `predict` and `model verify` read it and need
no network. The list of withdrawals grows and never shrinks.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polyclinic_common.bundle.statements import BundleWithdrawal, read_withdrawal
from polyclinic_common.errors import BundleError, Code
from polyclinic_common.files import write_atomically
from polyclinic_common.identity.statement import Digest
from polyclinic_common.text import plain

TRUST = "trust.json"
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Trust(BaseModel):
    """What a hospital knows of its consortium's bundles.

    Attributes
    ----------
    consortium, name : str
        Its name, and this hospital's in it; empty in files that do not say.
    operator_key : bytes
        The Ed25519 key under which its bundles and withdrawals are signed; pinned at joining.
    approved : tuple of str
        Hashes of the studies that this hospital approved.
    withdrawals : tuple of bytes
        What was called back, as the operator signed it, numbered from 1 without a gap.
    asked : datetime or None
        When the consortium last answered what it called back; None if it never did.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="hex", val_json_bytes="hex"
    )

    consortium: str
    name: str = ""
    operator_key: Digest
    approved: tuple[Hash, ...] = ()
    withdrawals: tuple[bytes, ...] = ()
    asked: dt.datetime | None = None

    @staticmethod
    def read(folder: Path) -> Trust:
        """Return what the site in a folder knows, its withdrawals checked.

        Raises
        ------
        BundleError
            B071 if the folder holds no such file, B073 if the file cannot be used, B072 if a
            withdrawal in it is not the operator's.
        """
        file = folder / TRUST
        if not file.is_file():
            raise BundleError(
                Code.TRUST_ABSENT,
                f"{folder} does not say whose bundles this hospital trusts.",
                "Join a consortium, or run: polyclinic client model list",
            )
        try:
            trust = Trust.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            raise _unusable(file) from None
        if [each.number for each in trust.withdrawn()] != trust._numbers():
            raise _unusable(file)
        return trust

    def write(self, folder: Path) -> None:
        """Write it to a site's folder."""
        write_atomically(folder / TRUST, self.model_dump_json(indent=2).encode())

    def withdrawn(self) -> tuple[BundleWithdrawal, ...]:
        """Return what was called back, in order.

        Raises
        ------
        BundleError
            B072 if one is not the operator's.
        """
        return tuple(read_withdrawal(self.operator_key, each) for each in self.withdrawals)

    def withdrawal(self, digest: str) -> BundleWithdrawal | None:
        """Return the withdrawal of a bundle, None if it was not called back."""
        found = (each for each in self.withdrawn() if each.digest.hex() == digest)
        return next(found, None)

    def refuse_withdrawn(self, digest: str) -> None:
        """Refuse a bundle that was called back.

        Parameters
        ----------
        digest : str
            The bundle's, in hexadecimal.

        Raises
        ------
        BundleError
            B070, with the operator's reason.
        """
        found = self.withdrawal(digest)
        if found is not None:
            raise BundleError(
                Code.BUNDLE_WITHDRAWN,
                f"The operator called bundle {digest[:12]} back on {found.day}: "
                f"{plain(found.reason)} (withdrawal {found.number}).",
                "Stop using it; ask the operator which bundle takes its place.",
            )

    def refuse_foreign(self, operator: str) -> None:
        """Refuse a bundle of another operator.

        Parameters
        ----------
        operator : str
            The key that signed it first, in hexadecimal.

        Raises
        ------
        BundleError
            B003.
        """
        if operator != self.operator_key.hex():
            raise BundleError(
                Code.BUNDLE_SIGNER,
                f"The bundle is not signed by the operator of {plain(self.consortium)}.",
                "Do not use it; ask the operator where it comes from.",
            )

    def learnt(
        self, withdrawals: Sequence[bytes], approved: Iterable[str], asked: dt.datetime
    ) -> Trust:
        """Return what is known once the consortium has sent its whole list of withdrawals.

        Raises
        ------
        BundleError
            B072 if one is not the operator's, B075 if the list is shorter than what was known, or
            tells it otherwise: a list never goes back.
        """
        known = len(self.withdrawals)
        if tuple(withdrawals[:known]) != self.withdrawals:
            raise _went_back(known)
        found = self.model_copy(
            update={
                "withdrawals": tuple(withdrawals),
                "approved": tuple(sorted(approved)),
                "asked": asked,
            }
        )
        if [each.number for each in found.withdrawn()] != found._numbers():
            raise _went_back(known)
        return found

    def _numbers(self) -> list[int]:
        return list(range(1, len(self.withdrawals) + 1))


def _unusable(file: Path) -> BundleError:
    return BundleError(
        Code.TRUST_DAMAGED,
        f"{file} is damaged or cannot be read; no bundle is trusted by it.",
        "Put the file back from a copy; or remove it and run: polyclinic client model list",
    )


def _went_back(known: int) -> BundleError:
    return BundleError(
        Code.WITHDRAWALS_WENT_BACK,
        f"The consortium's list of withdrawn bundles has a gap or differs from the {known} that "
        "this hospital knows; what it knows is kept.",
        "Telephone the operator: its store may have been put back from an old copy.",
    )
