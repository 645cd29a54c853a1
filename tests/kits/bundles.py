"""Bundles of a study, made without a run."""

from __future__ import annotations

from collections.abc import Mapping

from polyclinic_common.bundle.bundle import Bundle, Draft
from polyclinic_common.bundle.certificate import Certificate
from polyclinic_common.bundle.contents import Evaluation, History
from polyclinic_common.bundle.envelope import Facts
from polyclinic_common.bundle.weights import SavedWeights
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.models.head import initial_weights
from polyclinic_common.models.score_head import Vector
from polyclinic_common.study.manifest import Study
from polyclinic_common.version import VERSION

DAY = "2026-12-01"


def facts_of_study(study: Study, operator: Identity, run: str, *, simulated: bool = False) -> Facts:
    """Return what a bundle of a study is about."""
    return Facts(
        study=study.id,
        study_version=study.version,
        study_hash=study.hash(),
        run=run,
        version=VERSION,
        made=DAY,
        simulated=simulated,
        operator=operator.public.hex(),
    )


def draft_of_study(
    study: Study,
    operator: Identity,
    weights: Vector | None = None,
    evaluation: Evaluation | None = None,
) -> Draft:
    """Return what a bundle of a study is made of: by default the model with which it starts."""
    declared = dict.fromkeys(study.training_sites, 60)
    given = initial_weights(study, Encoding(study), 0) if weights is None else weights
    return Draft(
        SignedStudy.sign(study, operator),
        study,
        SavedWeights(given),
        Certificate.of(study, declared),
        evaluation or Evaluation(),
        History(rounds=study.rounds, answered={}, declared=declared),
    )


def bundle_of_study(
    study: Study,
    operator: Identity,
    run: str = "1f0c",
    *,
    weights: Vector | None = None,
    people: Mapping[str, str] | None = None,
    evaluation: Evaluation | None = None,
    simulated: bool = False,
) -> Bundle:
    """Return a model of a study as a bundle; what people state of it makes another bundle."""
    facts = facts_of_study(study, operator, run, simulated=simulated)
    draft = draft_of_study(study, operator, weights, evaluation)
    return draft.signed(operator, facts, people or {})
