"""What an attack on a study's noise found, as `polyclinic audit noise STUDY --json` prints it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from polyclinic_common.errors import BundleError, Code
from polyclinic_common.study.manifest import Study


class AuditFinding(BaseModel):
    """What one reader of one kind of release proves.

    Attributes
    ----------
    kind : str
        Kind of release.
    reader : {"headline", "fallback"}
        Who reads: the sum of honest hospitals, or one hospital's own release.
    claimed, at_least : float
        Epsilon of all releases of the kind as charged, and the lower bound on it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    kind: str
    reader: Literal["headline", "fallback"]
    claimed: float = Field(ge=0)
    at_least: float = Field(ge=0)


class NoiseAudit(BaseModel):
    """An audit of the noise that a study's releases carry; it supplements a proof, and is none.

    Attributes
    ----------
    study, mode, epsilon, delta : str, str, float, float
        What was audited.
    gradients : str
        How its releases were computed.
    findings : tuple of AuditFinding
        What was found.
    refuted : bool
        Whether a claim cannot be true.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    study: str
    mode: str
    epsilon: float
    delta: float
    gradients: str
    findings: tuple[AuditFinding, ...] = Field(min_length=1)
    refuted: bool

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, a sentence a reader and kind."""
        return tuple(
            f"Noise audit of {each.kind}, {each.reader}: epsilon is at least {each.at_least:.3g} "
            f"where {each.claimed:.3g} is claimed; how much larger it is an attack does not show."
            for each in self.findings
        )


def read_noise_audit(path: Path, study: Study) -> NoiseAudit:
    """Return the audit in a file.

    Raises
    ------
    BundleError
        B042 if the file holds no audit, one of another study or budget, or one that refutes what
        is claimed.
    """
    try:
        (audit,) = TypeAdapter(list[NoiseAudit]).validate_json(path.read_bytes())
    except (OSError, ValidationError, ValueError):
        raise _unusable(path, "holds no single audit of noise") from None
    wanted = (study.id, study.privacy.mode, study.privacy.epsilon, study.privacy.delta)
    if (audit.study, audit.mode, audit.epsilon, audit.delta) != wanted:
        raise _unusable(path, "is about another study, mode or budget")
    if audit.refuted or any(each.at_least > each.claimed for each in audit.findings):
        raise _unusable(path, "refutes what is claimed")
    return audit


def _unusable(path: Path, why: str) -> BundleError:
    return BundleError(
        Code.AUDIT_UNUSABLE,
        f"The noise audit {path.name} {why}.",
        "Write one with `polyclinic audit noise STUDY --json`; release nothing that is refuted.",
    )
