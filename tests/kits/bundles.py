"""Bundles of a small study, made without a run."""

from __future__ import annotations

from pydantic import BaseModel

from polyclinic_common.bundle.bundle import Bundle, Draft
from polyclinic_common.bundle.certificate import Certificate
from polyclinic_common.bundle.contents import Evaluation, History
from polyclinic_common.bundle.envelope import Facts
from polyclinic_common.bundle.weights import SavedWeights
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.models.head import initial_weights
from polyclinic_common.study.manifest import Study
from polyclinic_common.version import VERSION

DAY = "2026-12-01"


class BareCard(BaseModel):
    """A card with one line."""

    title: str


def bundle_of_study(
    study: Study, operator: Identity, run: str, title: str = "", *, simulated: bool = False
) -> Bundle:
    """Return the model with which a study starts, as a bundle; another title is another bundle."""
    declared = dict.fromkeys(study.training_sites, 60)
    facts = Facts(
        study=study.id,
        study_version=study.version,
        study_hash=study.hash(),
        run=run,
        version=VERSION,
        made=DAY,
        simulated=simulated,
        operator=operator.public.hex(),
    )
    return Draft(
        SignedStudy.sign(study, operator),
        SavedWeights(initial_weights(study, Encoding(study), 0)),
        BareCard(title=title or study.title),
        Certificate.of(study, declared),
        Evaluation(),
        History(rounds=study.rounds, answered={}, declared=declared),
    ).signed(operator, study, facts)
