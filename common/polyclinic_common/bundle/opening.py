"""Whether a bundle may be used here: who signed it, and what this hospital knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from polyclinic_common.bundle.bundle import Bundle, read_bundle
from polyclinic_common.bundle.trust import TRUST, Trust
from polyclinic_common.errors import BundleError, Code
from polyclinic_common.identity.site_key import fingerprint

SIMULATED = "SIMULATED: no hospital took part, and nothing about this model was signed by anybody."
NO_DEVICE = "Research software, not a medical device: no model decides on a treatment."


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle that may be used here.

    Attributes
    ----------
    bundle : Bundle
        The bundle.
    trust : Trust or None
        What this hospital knows; None outside a hospital's folder.
    notes : tuple of str
        What has to be told wherever something of it is shown.
    """

    bundle: Bundle
    trust: Trust | None
    notes: tuple[str, ...]

    @property
    def hospital(self) -> str | None:
        """Name of this hospital in its consortium, where its folder says so."""
        return None if self.trust is None else self.trust.name or None

    @property
    def is_approved(self) -> bool:
        """Whether this hospital approved the study."""
        return self.trust is not None and self.bundle.facts.study_hash in self.trust.approved


def open_bundle(file: Path, site: Path, operator: str | None = None) -> OpenedBundle:
    """Return a bundle whose signer is known here, and which was not called back.

    Parameters
    ----------
    site : Path
        The hospital's folder; it need not exist.
    operator : str, optional
        Fingerprint of the operator, as it was told on another way.

    Raises
    ------
    BundleError
        As `read_bundle`; B003 if nobody here knows who signed it, B070 if it was called back.
    """
    bundle = read_bundle(file)
    trust = Trust.read(site) if (site / TRUST).is_file() else None
    if bundle.facts.simulated:
        return OpenedBundle(bundle, None, (SIMULATED, NO_DEVICE))
    if trust is not None:
        trust.refuse_withdrawn(bundle.digest)
    _refuse_stranger(bundle, trust, operator)
    opened = OpenedBundle(bundle, trust, (NO_DEVICE,))
    if trust is not None and not opened.is_approved:
        note = "This hospital did not approve the study: the model was not trained on its patients."
        return OpenedBundle(bundle, trust, (note, NO_DEVICE))
    return opened


def _refuse_stranger(bundle: Bundle, trust: Trust | None, operator: str | None) -> None:
    key = bytes.fromhex(bundle.facts.operator)
    if operator is not None:
        known = _digits(operator) == _digits(fingerprint(key))
    else:
        known = trust is not None and trust.operator_key == key
    if not known:
        raise BundleError(
            Code.BUNDLE_SIGNER,
            f"The bundle is signed by the key {fingerprint(key)}, which nobody here knows.",
            "Compare it with the operator's by telephone and give it as --operator, or work in the "
            "folder of a hospital of its consortium (--site).",
        )


def _digits(shown: str) -> str:
    return "".join(shown.split()).lower()
