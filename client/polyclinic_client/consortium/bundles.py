"""Released models at a hospital: list, fetch, accept, reject. The commands call these."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polyclinic_client.consortium.bundle_calls import OfferedBundle
from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.consortium.trust import learn
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.records.journal import Decided
from polyclinic_common.bundle.archive import damaged
from polyclinic_common.bundle.bundle import Bundle, bundle_of
from polyclinic_common.bundle.find import find_bundle, matching
from polyclinic_common.bundle.opening import NO_DEVICE, OpenedBundle
from polyclinic_common.bundle.rejecting import Rejecting
from polyclinic_common.bundle.statements import BundleRejection
from polyclinic_common.bundle.trust import Trust
from polyclinic_common.bundle.verification import require_approved
from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_common.files import write_atomically

REMEDY = (
    "See: polyclinic client model list; of a run without a bundle, `model fetch RUN --weights` "
    "gets the bare weights."
)
FETCHED = "that was fetched"


@dataclass(frozen=True)
class Listed:
    """A bundle on offer, as this hospital sees it.

    Attributes
    ----------
    digest, study_hash : str
        In hexadecimal.
    approved : bool
        Whether this hospital approved the study.
    accepted : tuple of str
        Hospitals that signed it, as the server says.
    rejected : mapping of str to str
        Why hospitals rejected it, by name, as the server says.
    withdrawn : str
        The operator's reason, after its number and day; empty while the bundle stands.
    """

    digest: str
    run: str
    study_hash: str
    released: dt.datetime
    approved: bool
    accepted: tuple[str, ...]
    rejected: Mapping[str, str]
    withdrawn: str


def listed(site: Path, client: ConsortiumClient) -> list[Listed]:
    """Return the bundles on offer, the latest first, those called back included.

    Raises
    ------
    BundleError
        As `learn`.
    """
    trust = learn(site, client)
    return [_seen(trust, each) for each in client.bundles()]


def fetch(site: Path, client: ConsortiumClient, word: str) -> Bundle:
    """Return the bundle on offer that a person means, checked whole and against the operator's key.

    Parameters
    ----------
    word : str
        Its run or its digest, or the start of one.

    Raises
    ------
    BundleError
        B070 if it was called back, B074 if none or several match, B001 if another one came, B003 if
        it is another operator's; as `bundle_of` and `learn`.
    """
    trust = learn(site, client)
    wanted = _wanted(trust, client.bundles(), word)
    bundle = bundle_of(client.bundle(wanted.digest), FETCHED)
    if bundle.digest != wanted.digest:
        raise damaged(FETCHED)
    trust.refuse_foreign(bundle.facts.operator)
    return bundle


def acceptable(site: Path, client: ConsortiumClient, bundle: Bundle) -> OpenedBundle:
    """Return a bundle that this hospital may sign, once the consortium said what it called back.

    Raises
    ------
    BundleError
        B003 if it is another operator's, B070 if it was called back, B004 if its study is none that
        was approved here, B074 if it is not on offer; as `learn`.
    """
    trust = learn(site, client)
    trust.refuse_foreign(bundle.facts.operator)
    trust.refuse_withdrawn(bundle.digest)
    opened = OpenedBundle(bundle, trust, (NO_DEVICE,))
    require_approved(opened)
    find_bundle(client.bundles(), bundle.digest, REMEDY)
    return opened


def accept(site: SiteFolder, client: ConsortiumClient, checked: OpenedBundle, file: Path) -> Bundle:
    """Sign a bundle: into the journal, to the consortium, then into its file.

    It can be called again; the consortium keeps the first signature.

    Parameters
    ----------
    checked : OpenedBundle
        Of `acceptable`.
    """
    signed = checked.bundle.signed(site.identity)
    site.journal.write(_decided(signed, "accepted"))
    signature = signed.envelope.signatures[site.identity.public.hex()]
    client.accept_bundle(signed.digest, signature)
    write_atomically(file, signed.to_bytes())
    return signed


def reject(site: SiteFolder, client: ConsortiumClient, bundle: Bundle, code: Rejecting) -> None:
    """Say to the consortium that this hospital will not use a bundle, journalled first.

    Raises
    ------
    BundleError
        B003 if it is another operator's, B074 if it is not on offer; as `learn`.
    ConsortiumError
        C015 if the study does not name this hospital: nobody asked it.
    """
    learn(site.path, client).refuse_foreign(bundle.facts.operator)
    find_bundle(client.bundles(), bundle.digest, REMEDY)
    if client.membership.name not in bundle.study.roster.sites:
        raise ConsortiumError(
            Code.STUDY_NOT_OURS,
            f"The study {bundle.study.id} does not name this hospital ({client.membership.name}).",
            "Leave the model alone, or write to the operator.",
        )
    rejection = BundleRejection(
        identity=site.identity.public,
        study_hash=bytes.fromhex(bundle.facts.study_hash),
        run=bundle.facts.run,
        digest=bytes.fromhex(bundle.digest),
        code=code,
    )
    site.journal.write(_decided(bundle, "rejected", code))
    client.reject_bundle(rejection.signed(site.identity))


def _seen(trust: Trust, offered: OfferedBundle) -> Listed:
    withdrawal = trust.withdrawal(offered.digest)
    return Listed(
        digest=offered.digest,
        run=offered.run,
        study_hash=offered.study_hash,
        released=offered.released,
        approved=offered.study_hash in trust.approved,
        accepted=offered.accepted,
        rejected=offered.rejected,
        withdrawn="" if withdrawal is None else withdrawal.sentence,
    )


def _wanted(trust: Trust, offered: Sequence[OfferedBundle], word: str) -> OfferedBundle:
    """Return the bundle meant among those that were not called back; of these alone, say why."""
    standing = [each for each in offered if trust.withdrawal(each.digest) is None]
    if not matching(standing, word):
        for each in matching(offered, word):
            trust.refuse_withdrawn(each.digest)
    return find_bundle(standing, word, REMEDY)


def _decided(bundle: Bundle, decision: Literal["accepted", "rejected"], code: str = "") -> Decided:
    return Decided(
        decision=decision,
        digest=bytes.fromhex(bundle.digest),
        study_hash=bytes.fromhex(bundle.facts.study_hash),
        run=bundle.facts.run,
        code=code,
    )
