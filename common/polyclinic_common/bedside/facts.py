"""What the page says about the model itself, whoever the patient is: from its card and papers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from polyclinic_common.bundle.bias import ABOUT_GAPS, LOST
from polyclinic_common.bundle.bundle import Bundle
from polyclinic_common.bundle.card import ONLY_SIMULATED, Card, Item
from polyclinic_common.bundle.card_results import NOT_RELEASED
from polyclinic_common.bundle.figures import Table
from polyclinic_common.bundle.opening import NO_DEVICE, SIMULATED, OpenedBundle
from polyclinic_common.bundle.outcome_words import in_words
from polyclinic_common.identity.site_key import fingerprint
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.plain_words import outcome_in_words, treatment_in_words

SHOWN = (
    *("chai.IntendedUseAndWorkflow", "chai.PrimaryIntendedUsers", "tripod.3b", "tripod.27b"),
    *("chai.CautionedOutOfScopeSettings", "chai.ClinicalRiskLevel", "tripod.26"),
    "tripod.26.people",
)
"""Fields of the card that whoever asks the model has to read."""


@dataclass(frozen=True)
class ModelFacts:
    """What is known of the model.

    Attributes
    ----------
    title, predicts : str
        Of the study.
    warnings : tuple of (str, str)
        What stands above everything else, a mark and a sentence: simulated, synthetic.
    use : tuple of (str, str)
        Intended use and limits, by title.
    quality : tuple of Table
        How good the model is, of all patients and by group, where anything was released.
    judged : tuple of str
        What has to be said about that.
    privacy : tuple of str
        What every patient it was trained on was promised, and what not.
    papers : tuple of (str, str)
        Study, run, and who signed.
    """

    title: str
    predicts: str
    warnings: tuple[tuple[str, str], ...]
    use: tuple[tuple[str, str], ...]
    quality: tuple[Table, ...]
    judged: tuple[str, ...]
    privacy: tuple[str, ...]
    papers: tuple[tuple[str, str], ...]


def model_facts(opened: OpenedBundle) -> ModelFacts:
    """Return what is known of a released model."""
    bundle = opened.bundle
    study, certificate, card = bundle.study, bundle.certificate, bundle.card
    return ModelFacts(
        title=study.title,
        predicts=f"Predicts {outcome_in_words(study)}",
        warnings=tuple(_warnings(study, card)),
        use=tuple(_use(opened, card)),
        quality=tuple(_quality(card)),
        judged=tuple(_judged(bundle, card)),
        privacy=(
            _sentence(certificate.sentence),
            *(f"Not promised: {each}" for each in certificate.not_promised),
        ),
        papers=tuple(_papers(opened)),
    )


def _warnings(study: Study, card: Card) -> Iterator[tuple[str, str]]:
    if card.simulated:
        yield "SIMULATED", _sentence(ONLY_SIMULATED.partition(": ")[2])
    if study.synthetic:
        yield "SYNTHETIC PATIENTS", "Nobody this model was trained on exists."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _use(opened: OpenedBundle, card: Card) -> Iterator[tuple[str, str]]:
    study = opened.bundle.study
    yield "Not a medical device", card.notice
    yield "Purpose", study.purpose
    if study.treatment is not None:
        yield "Treatment", treatment_in_words(study)
    for name in SHOWN:
        item = card.items.get(name)
        if item is not None:
            yield item.title, _said(item)
    for note in opened.notes:
        if note not in {SIMULATED, NO_DEVICE}:
            yield "At this hospital", note


def _said(item: Item) -> str:
    if item.source == "empty":
        return f"Not filled in; to be filled in by the {item.who}."
    if isinstance(item.value, Table):
        return item.value.caption
    text = item.value if isinstance(item.value, str) else " ".join(item.value)
    return f"{text} (stated by people, not checked)" if item.source == "people" else text


def _quality(card: Card) -> Iterator[Table]:
    if card.performance:
        yield Table(
            caption="All held-out patients, with 95 % intervals",
            columns=("Figure", "Value"),
            rows=tuple(
                (each.scale.name, LOST if each.reading is None else each.scale.text(each.reading))
                for each in card.performance
            ),
        )
    if card.calibration is not None:
        yield card.calibration.table
    for bias in card.bias:
        yield bias.table


def _judged(bundle: Bundle, card: Card) -> Iterator[str]:
    study = bundle.study
    if not card.performance:
        yield NOT_RELEASED
    if card.bias:
        yield ABOUT_GAPS
    elif study.subgroups:
        columns = ", ".join(dict.fromkeys(in_words(each.column) for each in study.subgroups))
        yield (
            f"How it does for groups of patients ({columns}) was not released: whether it serves "
            "them alike is not known."
        )
    if bundle.evaluation.verdict is not None:
        yield bundle.evaluation.verdict.sentence


def _papers(opened: OpenedBundle) -> Iterator[tuple[str, str]]:
    bundle, facts = opened.bundle, opened.bundle.facts
    approved = ", approved by this hospital" if opened.is_approved else ""
    yield "Study", f"{facts.study} {facts.study_version}, hash {facts.study_hash[:12]}{approved}"
    yield "Run", f"{facts.run}, made on {facts.made}"
    yield "Bundle", bundle.digest[:16]
    yield "Hospitals", _hospitals(bundle)
    for key in bundle.signers:
        # Anybody can add a signature, and a bundle does not say which keys are hospitals'.
        who = "a key that is not known here"
        if key == facts.operator:
            who = "a key that was thrown away" if facts.simulated else "the operator"
        yield f"Signed by {who}", fingerprint(bytes.fromhex(key))


def _hospitals(bundle: Bundle) -> str:
    """Say how many hospitals took part, as the operator signed it, or were simulated."""
    if bundle.facts.simulated:
        return f"{len(bundle.history.declared)} simulated; none took part"
    return f"{sum(rounds > 0 for rounds in bundle.history.answered.values())} took part"
