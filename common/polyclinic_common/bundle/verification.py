"""What was checked of a bundle, in sentences."""

from __future__ import annotations

from polyclinic_common.bundle.opening import OpenedBundle
from polyclinic_common.errors import BundleError, Code
from polyclinic_common.identity.site_key import fingerprint
from polyclinic_common.text import plain


def require_approved(opened: OpenedBundle) -> None:
    """Refuse, in a hospital's folder, a study that this hospital did not approve.

    Raises
    ------
    BundleError
        B004.
    """
    if opened.trust is not None and not opened.is_approved:
        raise BundleError(
            Code.BUNDLE_STUDY,
            f"The study {opened.bundle.study.id} {opened.bundle.study.version} of this model is "
            "none that this hospital approved.",
            "See `polyclinic client study list`; for a hospital that only uses the model, work "
            "outside its folder with --operator.",
        )


def findings(opened: OpenedBundle) -> list[str]:
    """Return what holds of an opened bundle, in sentences that are safe to print."""
    bundle, facts = opened.bundle, opened.bundle.facts
    operator = fingerprint(bytes.fromhex(facts.operator))
    known = "a key that was thrown away" if facts.simulated else f"the operator, {operator}"
    keys = len(bundle.signers) - 1
    others = f", and by {keys} more, of keys that nobody here knows" if keys else ""
    study = f"{facts.study} {facts.study_version} ({facts.study_hash[:12]})"
    approved = "; this hospital approved it" if opened.is_approved else ""
    found = [
        f"Bundle {bundle.digest[:16]}: every byte is as it was signed.",
        f"Signed by {known}{others}; every signature holds.",
        f"Study {study}, signed by the same operator{approved}.",
        f"Privacy: {bundle.certificate.sentence}",
        f"These figures follow from the {_count(opened)} that the certificate lists, which are "
        "those of the study.",
        *(() if facts.simulated else (_recall(opened),)),
        *opened.notes,
    ]
    return [plain(sentence) for sentence in found]


def _recall(opened: OpenedBundle) -> str:
    """Say since when nothing is known of a bundle's being called back; a server can hide it."""
    asked = None if opened.trust is None else opened.trust.asked
    if asked is None:
        return "Whether it was called back is not known here."
    return f"Not called back, as the consortium said on {asked:%Y-%m-%d at %H:%M} UTC."


def _count(opened: OpenedBundle) -> str:
    made = sum(each.times for each in opened.bundle.certificate.mechanisms)
    kinds = len(opened.bundle.certificate.mechanisms)
    return f"{made} releases of {kinds} kinds"
