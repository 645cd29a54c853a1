"""Bundles at the operator's: offered to the hospitals, and called back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from polyclinic_common.bundle.bundle import Bundle
from polyclinic_common.bundle.find import find_bundle, matching
from polyclinic_common.bundle.statements import (
    LONGEST_REASON,
    BundleWithdrawal,
    read_withdrawal,
)
from polyclinic_common.errors import BundleError, Code
from polyclinic_server.folder import ServerFolder
from polyclinic_server.store.store import Store
from polyclinic_server.store.tables import OfferedBundle

REMEDY = "See: polyclinic server release list"


@dataclass(frozen=True)
class Released:
    """A bundle, what hospitals decided on it, and whether it was called back.

    Attributes
    ----------
    digest, study_hash : str
        In hexadecimal.
    accepted : tuple of str
        Hospitals that signed it, beside the operator.
    rejected : mapping of str to str
        Why hospitals rejected it, by name.
    withdrawn : str
        The operator's reason, after its number and day; empty while the bundle stands.
    """

    digest: str
    study_hash: str
    run: str
    released: dt.datetime
    accepted: tuple[str, ...]
    rejected: Mapping[str, str]
    withdrawn: str = ""


def offer_bundle(folder: ServerFolder, bundle: Bundle) -> list[str]:
    """Offer a bundle to the hospitals; return others of its run that stand on offer, by digest.

    Raises
    ------
    BundleError
        B003 if another operator signed it, B070 if this very bundle was called back.
    """
    if bundle.facts.operator != folder.operator.public.hex():
        raise BundleError(
            Code.BUNDLE_SIGNER,
            "The bundle is not signed with this server's key.",
            "Make it anew: polyclinic server release RUN",
        )
    store = folder.open_store()
    try:
        if store.is_withdrawn(bundle.digest):
            raise BundleError(
                Code.BUNDLE_WITHDRAWN,
                f"This very bundle, {bundle.digest[:12]}, was called back.",
                "Mend what was wrong with it: another content has another name.",
            )
        facts = bundle.facts
        store.offer_bundle(bundle.digest, facts.study_hash, facts.run, bundle.to_bytes())
        return [
            each.digest
            for each in _standing(store)
            if each.run == facts.run and each.digest != bundle.digest
        ]
    finally:
        store.close()


def released_bundles(folder: ServerFolder) -> list[Released]:
    """Return all bundles, the latest first."""
    store = folder.open_store()
    try:
        withdrawn = {each.digest.hex(): each for each in _withdrawals(folder, store)}
        return [_released(store, each, withdrawn.get(each.digest)) for each in store.bundles()]
    finally:
        store.close()


def withdraw_bundle(folder: ServerFolder, word: str, reason: str) -> BundleWithdrawal:
    """Call a bundle back for good; one that was called back keeps its first reason.

    Parameters
    ----------
    word : str
        Its run or its digest, or the start of one.
    reason : str
        One line, which every hospital reads.

    Raises
    ------
    BundleError
        B074 if none or several match, B076 if the reason cannot be shown.
    """
    operator, day = folder.operator, dt.datetime.now(dt.UTC).date().isoformat()
    store = folder.open_store()
    try:
        found = _meant(store, word)

        def sign(number: int) -> bytes:
            return _statement(found, operator.public, number, reason, day).signed(operator)

        sign(1)  # a reason that cannot be shown is refused, whatever stands
        return read_withdrawal(operator.public, store.withdraw_bundle(found.digest, sign))
    finally:
        store.close()


def _meant(store: Store, word: str) -> OfferedBundle:
    """Return the bundle meant: one that stands, or if there is none such, one called back."""
    standing = _standing(store)
    return find_bundle(standing if matching(standing, word) else store.bundles(), word, REMEDY)


def _standing(store: Store) -> list[OfferedBundle]:
    return [each for each in store.bundles() if not store.is_withdrawn(each.digest)]


def _withdrawals(folder: ServerFolder, store: Store) -> list[BundleWithdrawal]:
    return [read_withdrawal(folder.operator.public, each) for each in store.withdrawals()]


def _statement(
    bundle: OfferedBundle, operator_key: bytes, number: int, reason: str, day: str
) -> BundleWithdrawal:
    try:
        return BundleWithdrawal(
            identity=operator_key,
            study_hash=bytes.fromhex(bundle.study),
            run=bundle.run,
            number=number,
            digest=bytes.fromhex(bundle.digest),
            reason=reason.strip(),
            day=day,
        )
    except ValidationError:
        raise BundleError(
            Code.REASON_INVALID,
            "The reason is empty, too long, or holds something else than plain text.",
            f"Give --reason one line of at most {LONGEST_REASON} letters.",
        ) from None


def _released(store: Store, bundle: OfferedBundle, withdrawal: BundleWithdrawal | None) -> Released:
    decisions = store.decisions(bundle.digest)
    return Released(
        digest=bundle.digest,
        study_hash=bundle.study,
        run=bundle.run,
        released=dt.datetime.fromtimestamp(bundle.released, dt.UTC),
        accepted=tuple(each.site for each in decisions if each.state == "accepted"),
        rejected={each.site: each.code for each in decisions if each.state == "rejected"},
        withdrawn="" if withdrawal is None else withdrawal.sentence,
    )
