"""Cards of made-up models, judged on made-up patients by a known law."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polyclinic_common.bundle.bundle import Bundle, Draft
from polyclinic_common.bundle.card import Card
from polyclinic_common.bundle.card_making import make_card
from polyclinic_common.bundle.certificate import Certificate
from polyclinic_common.bundle.contents import Evaluation, History, Votes
from polyclinic_common.bundle.envelope import Facts
from polyclinic_common.bundle.weights import SavedWeights
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.evaluation.layout import make_layout
from polyclinic_common.evaluation.reading import (
    GroupReading,
    RoundReadings,
    held_out_sizes,
    read_sum,
)
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.models.head import initial_weights
from polyclinic_common.study import Study
from polyclinic_simulations.audit.coverage import PROFILE, Kind, draw, study_of

NOISE = 2.0  # standard deviation on every entry of the sum


def made_up_groups(
    kind: Kind, patients: int, seed: int = 0, deviation: float = NOISE, women: float = 0.4
) -> tuple[GroupReading, ...]:
    """Return what noisy sums say of patients of a known law, whose sex changes nothing."""
    study, random = study_of(kind), np.random.default_rng(seed)
    judged, truth = draw(kind, patients, random)
    truth[:, 5] = random.random(patients) < women
    truth[:, 6] = 1.0 - truth[:, 5]
    layout = make_layout(study)
    total = layout.rows(judged, truth).sum(axis=0)
    total += random.normal(0.0, deviation, layout.length)
    sizes = held_out_sizes(study, {"everywhere": 4 * patients})
    profile = PROFILE if kind == "survival" else None
    return read_sum(layout, total, deviation, sizes, 20, profile)


def evaluation_of(groups: Sequence[GroupReading], **more: Any) -> Evaluation:
    """Return an evaluation whose last round says this of the groups."""
    return Evaluation(metrics=(RoundReadings(60, tuple(groups)),) if groups else (), **more)


def made_up_card(
    study: Study,
    evaluation: Evaluation,
    people: Mapping[str, str] | None = None,
    *,
    simulated: bool = False,
) -> Card:
    """Return the card of a run in which every hospital declared 1,000 patients."""
    declared = dict.fromkeys(study.training_sites, 1000)
    certificate = Certificate.of(study, declared)
    facts = facts_of(study, bytes(32), simulated=simulated)
    return make_card(study, facts, evaluation, certificate, declared, people or {})


def usual_card(people: Mapping[str, str] | None = None, *, simulated: bool = False) -> Card:
    """Return a card with figures of groups, one of them too small, and with votes."""
    groups = made_up_groups("binary", 2000, women=0.005)
    votes = Votes(votes=3, in_favour=2, estimated=1.8, accepted=True)
    evaluation = evaluation_of(groups, verdict=votes)
    return made_up_card(study_of("binary"), evaluation, people, simulated=simulated)


def facts_of(study: Study, operator: bytes, *, simulated: bool) -> Facts:
    return Facts(
        study=study.id,
        study_version=study.version,
        study_hash=study.hash(),
        run="run-1",
        version="0.2.0",
        made="2026-11-29",
        simulated=simulated,
        operator=operator.hex(),
    )


def simulated_bundle(people: Mapping[str, str] | None = None) -> Bundle:
    """Return a bundle of an untrained model, signed by a key that is thrown away."""
    study, operator = study_of("binary"), Identity.generate()
    declared = dict.fromkeys(study.training_sites, 1000)
    weights = initial_weights(study, Encoding(study), 0)
    draft = Draft(
        SignedStudy.sign(study, operator),
        study,
        SavedWeights(weights),
        Certificate.of(study, declared),
        evaluation_of(made_up_groups("binary", 2000)),
        History(rounds=60, answered={}, declared=declared),
    )
    facts = facts_of(study, operator.public, simulated=True)
    return draft.signed(operator, facts, people or {})
