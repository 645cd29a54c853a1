"""Released models at a hospital: find, fetch, accept, reject. The commands call these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from polyclinic_client.consortium.bundle_calls import OfferedBundle
from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.consortium.trust import learn
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.records.journal import Decided
from polyclinic_common.bundle.bundle import Bundle, bundle_of
from polyclinic_common.bundle.find import find_bundle, matching
from polyclinic_common.bundle.statements import BundleRejection, Rejecting
from polyclinic_common.bundle.trust import Trust
from polyclinic_common.files import write_atomically

REMEDY = (
    "See: polyclinic client model list; of a run without a bundle, `model fetch RUN --weights` "
    "gets the bare weights."
)


def fetch(site: Path, client: ConsortiumClient, word: str) -> Bundle:
    """Return the bundle on offer that a person means, checked against the operator's key.

    Parameters
    ----------
    word : str
        Its run or its digest, or the start of one.

    Raises
    ------
    BundleError
        B070 if it was called back, B074 if none or several match, B003 if it is another operator's;
        as `bundle_of`.
    """
    trust = learn(site, client)
    wanted = _wanted(trust, client.bundles(), word)
    bundle = bundle_of(client.bundle(wanted.digest), "that was fetched")
    trust.refuse_foreign(bundle.facts.operator)
    trust.refuse_withdrawn(bundle.digest)
    return bundle


def _wanted(trust: Trust, offered: Sequence[OfferedBundle], word: str) -> OfferedBundle:
    """Return the bundle meant among those that were not called back; of these alone, say why."""
    standing = [each for each in offered if trust.withdrawal(each.digest) is None]
    if not matching(standing, word):
        for each in matching(offered, word):
            trust.refuse_withdrawn(each.digest)
    return find_bundle(standing, word, REMEDY)


def refuse_unacceptable(trust: Trust, bundle: Bundle) -> None:
    """Refuse a bundle that this hospital may not sign.

    Raises
    ------
    BundleError
        B003 if it is another operator's, B004 if its study is none that was approved here, B070 if
        it was called back.
    """
    trust.refuse_foreign(bundle.facts.operator)
    trust.refuse_withdrawn(bundle.digest)
    trust.refuse_unapproved(bundle.facts.study_hash)


def accept(site: SiteFolder, client: ConsortiumClient, bundle: Bundle, file: Path) -> Bundle:
    """Sign a bundle: into the journal, to the consortium, then into its file.

    It can be called again; the consortium keeps the first signature.

    Raises
    ------
    BundleError
        As `refuse_unacceptable`, after the consortium was asked what it called back.
    """
    refuse_unacceptable(learn(site.path, client), bundle)
    signed = bundle.signed(site.identity)
    site.journal.write(_decided(bundle, "accepted"))
    signature = signed.envelope.signatures[site.identity.public.hex()]
    client.accept_bundle(bundle.digest, signature)
    write_atomically(file, signed.to_bytes())
    return signed


def reject(site: SiteFolder, client: ConsortiumClient, bundle: Bundle, code: Rejecting) -> None:
    """Say to the consortium that this hospital will not use a bundle, journalled first.

    Raises
    ------
    BundleError
        B003 if it is another operator's.
    """
    learn(site.path, client).refuse_foreign(bundle.facts.operator)
    rejection = BundleRejection(
        identity=site.identity.public,
        study_hash=bytes.fromhex(bundle.facts.study_hash),
        run=bundle.facts.run,
        digest=bytes.fromhex(bundle.digest),
        code=code,
    )
    site.journal.write(_decided(bundle, "rejected", code))
    client.reject_bundle(rejection.signed(site.identity))


def _decided(bundle: Bundle, decision: Literal["accepted", "rejected"], code: str = "") -> Decided:
    return Decided(
        decision=decision,
        digest=bytes.fromhex(bundle.digest),
        study_hash=bytes.fromhex(bundle.facts.study_hash),
        run=bundle.facts.run,
        code=code,
    )
