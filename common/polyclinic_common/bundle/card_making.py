"""Making the card of a released model."""

from __future__ import annotations

from collections.abc import Mapping

from polyclinic_common.bundle.bias import bias_tables, overall_calibration
from polyclinic_common.bundle.card import Card, Item, Section
from polyclinic_common.bundle.card_fields import FIELDS, Field
from polyclinic_common.bundle.card_results import Known, performance
from polyclinic_common.bundle.card_words import SYSTEM
from polyclinic_common.bundle.certificate import Certificate
from polyclinic_common.bundle.contents import Evaluation
from polyclinic_common.bundle.envelope import Facts
from polyclinic_common.study.manifest import Study


def make_card(
    study: Study,
    facts: Facts,
    evaluation: Evaluation,
    certificate: Certificate,
    declared: Mapping[str, int],
    people: Mapping[str, str],
) -> Card:
    """Return the card of a released model.

    Parameters
    ----------
    declared : mapping
        Declared patients of every hospital of the run.
    people : mapping
        What people state, of :func:`polyclinic_common.bundle.card_file.load_card_toml`.
    """
    bias = bias_tables(study, evaluation.groups)
    known = Known(study, facts, evaluation, certificate, declared, bias)
    return Card(
        name=study.title,
        simulated=facts.simulated,
        sections=tuple(
            Section(title=title, items=tuple(_item(field, known, people) for field in fields))
            for title, fields in FIELDS.items()
        ),
        performance=performance(known),
        calibration=overall_calibration(study, evaluation.groups),
        bias=bias,
    )


def _item(field: Field, known: Known, people: Mapping[str, str]) -> Item:
    if field.who is None:
        value = SYSTEM[field.id](known)
        return Item(id=field.id, title=field.title, source="system", value=value)
    if field.id in people:
        return Item(id=field.id, title=field.title, source="people", value=people[field.id])
    return Item(id=field.id, title=field.title, source="empty", who=field.who)
