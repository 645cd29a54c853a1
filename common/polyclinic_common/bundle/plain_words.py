"""A released model in plain words."""

from __future__ import annotations

from collections.abc import Iterator

from polyclinic_common.bundle.bundle import Bundle
from polyclinic_common.bundle.opening import OpenedBundle
from polyclinic_common.bundle.verification import findings
from polyclinic_common.evaluation.reading import GroupReading
from polyclinic_common.study.plain_words import Section, asked, group_in_words

NOT_JUDGED = "too few patients to judge"


def describe(opened: OpenedBundle) -> tuple[Section, ...]:
    """Return what a bundle is, how good its model is, at what price, and who says so."""
    bundle = opened.bundle
    history = bundle.history
    made = [f"Run {bundle.facts.run}, made on {bundle.facts.made}; {history.rounds} rounds."]
    made += [
        f"{name}: about {declared} patients"
        + (f", in {history.answered[name]} rounds" if name in history.answered else "")
        for name, declared in history.declared.items()
    ]
    return (
        Section("What is predicted", asked(bundle.study)),
        Section("How it came about", tuple(made)),
        Section("How good it is", tuple(_quality(bundle))),
        Section("Privacy", (bundle.certificate.sentence, *bundle.certificate.not_promised)),
        Section("Checked", tuple(findings(opened))),
    )


def _quality(bundle: Bundle) -> Iterator[str]:
    groups = bundle.evaluation.groups
    if not groups:
        yield "Nothing about its quality left the hospitals."
    for group in groups:
        yield f"{_named(bundle, group)}: {_words(group)}"
    for name, value in bundle.evaluation.exact.items():
        yield f"exact on held-out patients, which a simulation alone knows: {name} {value:.3f}"
    if bundle.evaluation.verdict is not None:
        yield bundle.evaluation.verdict.sentence


def _named(bundle: Bundle, group: GroupReading) -> str:
    return group_in_words(bundle.study, group.name) if group.name else group.kind


def _words(group: GroupReading) -> str:
    if group.suppressed:
        return NOT_JUDGED
    return ", ".join(
        f"{name} not clear of the noise"
        if reading is None
        else f"{name} {reading.value:.3f} ({reading.low:.3f} to {reading.high:.3f})"
        for name, reading in group.metrics.items()
    )
