"""The noise audited: what somebody who sees every release can tell about a patient, at least.

The audit plays a hospital and its worst reader, for every kind of release that a study makes. Many
canaries in one run: Steinke, Nasr and Jagielski, Privacy auditing with one training run (NeurIPS
2023); step by step, with Gaussian DP: Nasr et al., Tight auditing of differentially private machine
learning (USENIX Security 2023). What is assumed, and what follows for the whole account:
``docs/audit.md``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import Code, SimulationError
from polyclinic_common.release_id import VOTE
from polyclinic_common.releases.kinds import GRADIENT, UPDATE
from polyclinic_common.releases.schedule import Schedule
from polyclinic_common.study import Study
from polyclinic_simulations.audit.bounds import error_of_one
from polyclinic_simulations.audit.findings import Finding
from polyclinic_simulations.audit.noise_of_one import AuditedVector
from polyclinic_simulations.audit.noise_of_training import AuditedSteps, AuditedSums
from polyclinic_simulations.audit.noise_of_votes import AuditedVote
from polyclinic_simulations.compute.trainer import Trainer

CANARIES = 500
Audit = Callable[[float], list[Finding]]
"""Plays a hospital and its readers, and proves bounds with this error each."""


@dataclass(frozen=True)
class NoiseAudit:
    """One audit.

    Attributes
    ----------
    findings : tuple of Finding
        What every reader of every kind of release proves.
    """

    study: str
    mode: str
    epsilon: float
    delta: float
    rounds: int
    gradients: str
    seconds: float
    findings: tuple[Finding, ...]

    @property
    def refuted(self) -> bool:
        """Whether a claim is refuted."""
        return any(finding.refuted for finding in self.findings)

    def as_dict(self) -> dict[str, object]:
        """Return the audit for ``--json``."""
        return asdict(self) | {"refuted": self.refuted}


def audit_noise(
    study: Study,
    gradients: str = "opacus",
    canaries: int = CANARIES,
    kinds: Sequence[str] = (),
) -> NoiseAudit:
    """Audit the noise of a study's releases.

    Parameters
    ----------
    gradients : {"opacus", "fast"}
        As a hospital's node computes them, or as a simulation does.
    kinds : sequence of str
        Which kinds of release; none given takes all that the study makes.

    Raises
    ------
    SimulationError
        X003 for a study without privacy, or that makes no release of a kind.
    """
    if study.privacy.mode == "none":
        raise SimulationError(
            Code.SIMULATION_OPTION,
            f"Study {study.id} adds no noise: its mode is none.",
            "Give a study of mode secure-sum or local.",
        )
    began = time.perf_counter()
    made = kinds_of(study, gradients)
    for kind in kinds:
        if kind not in made:
            raise SimulationError(
                Code.SIMULATION_OPTION,
                f"Study {study.id} releases no {kind}.",
                f"Choose from what it releases: {', '.join(made)}.",
            )
    chosen = [kind for kind in made if kind in (kinds or made)]
    error = error_of_one(sum(readers(study, kind) for kind in chosen))
    audits = [auditor(study, kind, gradients, canaries) for kind in chosen]
    return NoiseAudit(
        study=study.id,
        mode=study.privacy.mode,
        epsilon=study.privacy.epsilon,
        delta=study.privacy.delta,
        rounds=study.rounds,
        gradients=gradients,
        findings=tuple(finding for audit in audits for finding in audit(error)),
        seconds=time.perf_counter() - began,
    )


def kinds_of(study: Study, gradients: str) -> list[str]:
    """Return the kinds of release that a hospital of the study plans, in the order of a round."""
    path = Trainer(gradients).private(study, Encoding(study)).path
    return [each.name for each in Schedule.of(study, CANARIES, path).releases]


def readers(study: Study, kind: str) -> int:
    """Return how many readers a kind of release has: of sums both, of all else one."""
    return 2 if study.privacy.mode == "secure-sum" and kind != VOTE else 1


def auditor(study: Study, kind: str, gradients: str, canaries: int) -> Audit:
    """Return what audits a kind of release."""
    if kind == VOTE:
        return AuditedVote(study).findings
    if kind == GRADIENT or (kind == UPDATE and study.strategy == "descent"):
        return AuditedSums.of(study, gradients, canaries).findings
    if kind == UPDATE:
        return AuditedSteps.of(study, gradients, canaries).findings
    return AuditedVector(study, kind, gradients).findings
