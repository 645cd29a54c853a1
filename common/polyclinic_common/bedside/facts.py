"""What the page says about the model itself, whoever the patient is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from polyclinic_common.bedside.view import Table
from polyclinic_common.bundle.bundle import Bundle
from polyclinic_common.bundle.outcome_words import in_words
from polyclinic_common.evaluation.interval import Reading
from polyclinic_common.evaluation.metrics import METRICS, Metric
from polyclinic_common.evaluation.reading import GroupReading
from polyclinic_common.identity.site_key import fingerprint
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.plain_words import group_in_words, outcome_in_words, treatment_in_words

NO_DEVICE = (
    "Research software, not a medical device: it must not decide on a treatment. Whoever treats "
    "the patient decides."
)


@dataclass(frozen=True)
class ModelFacts:
    """What is known of the model.

    Attributes
    ----------
    title, predicts : str
        Of the study.
    warnings : tuple of (str, str)
        What stands above everything else: simulated, synthetic.
    use : tuple of (str, str)
        Intended use and limits.
    quality : Table or None
        How good the model is, by group of patients, where anything was released.
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
    quality: Table | None
    judged: tuple[str, ...]
    privacy: tuple[str, ...]
    papers: tuple[tuple[str, str], ...]


def model_facts(bundle: Bundle) -> ModelFacts:
    """Return what is known of a released model."""
    study, certificate = bundle.study, bundle.certificate
    quality = _quality(study, bundle.evaluation.groups)
    return ModelFacts(
        title=study.title,
        predicts=f"Predicts {outcome_in_words(study)}",
        warnings=tuple(_warnings(bundle)),
        use=tuple(_use(study)),
        quality=quality,
        judged=tuple(_judged(bundle, quality)),
        privacy=(
            f"{certificate.sentence[:1].upper()}{certificate.sentence[1:]}",
            *(f"Not promised: {each}" for each in certificate.not_promised),
        ),
        papers=tuple(_papers(bundle)),
    )


def _warnings(bundle: Bundle) -> Iterator[tuple[str, str]]:
    if bundle.facts.simulated:
        yield (
            "SIMULATED",
            "All hospitals of this model were made up on one machine, and the key that "
            "signed it was thrown away. Do not use it for any patient.",
        )
    if bundle.study.synthetic:
        yield "SYNTHETIC PATIENTS", "Nobody this model was trained on exists."


def _use(study: Study) -> Iterator[tuple[str, str]]:
    yield "Intended use", study.purpose
    yield "Not a medical device", NO_DEVICE
    yield "Predicts", outcome_in_words(study)
    if study.treatment is not None:
        yield "Treatment", treatment_in_words(study)


def _quality(study: Study, groups: tuple[GroupReading, ...]) -> Table | None:
    if not groups:
        return None
    names = list(dict.fromkeys(name for group in groups for name in group.metrics))
    shown = [METRICS[name] for name in names if name in METRICS]  # type: ignore[index]
    return Table(
        "Private figures on held-out patients, each with its 95 % interval",
        ("Patients", *(_titled(metric, study) for metric in shown)),
        tuple((_group(study, group), *_cells(group, shown)) for group in groups),
    )


def _titled(metric: Metric, study: Study) -> str:
    unit = getattr(study.outcome, "unit", "") if metric.in_outcome_unit else metric.unit
    better = "lower is better" if metric.lower_is_better else "higher is better"
    title = metric.title[:1].upper() + metric.title[1:]
    return f"{title}{f', {unit}' if unit else ''} ({better})"


def _group(study: Study, group: GroupReading) -> str:
    return "All" if group.kind == "overall" else in_words(group_in_words(study, group.name))


def _cells(group: GroupReading, shown: list[Metric]) -> Iterator[str]:
    for metric in shown:
        if group.suppressed:
            yield "too few patients to judge"
        else:
            reading = group.metrics.get(metric.name)
            yield "lost in the noise" if reading is None else _reading(metric, reading)


def _reading(metric: Metric, reading: Reading) -> str:
    value, low, high = (
        f"{metric.factor * each:.{metric.decimals}f}"
        for each in (reading.value, reading.low, reading.high)
    )
    return f"{value} ({low} to {high})"


def _judged(bundle: Bundle, quality: Table | None) -> Iterator[str]:
    study, evaluation = bundle.study, bundle.evaluation
    if quality is None:
        yield "No figure about the quality of this model was released: nobody can tell from it."
    groups = {group.kind for group in evaluation.groups}
    if study.subgroups and "subgroup" not in groups:
        columns = ", ".join(in_words(each.column).lower() for each in study.subgroups)
        yield (
            f"How it does for groups of patients ({columns}) was not released: whether it serves "
            "them alike is not known."
        )
    for name, value in evaluation.exact.items():
        metric = METRICS.get(name)  # type: ignore[call-overload]
        if metric is not None:
            shown = f"{metric.factor * value:.{metric.decimals}f}"
            yield f"{_titled(metric, study)}, exactly, as only a simulation can know it: {shown}."
    if evaluation.verdict is not None:
        yield evaluation.verdict.sentence


def _papers(bundle: Bundle) -> Iterator[tuple[str, str]]:
    facts = bundle.facts
    yield "Study", f"{facts.study} {facts.study_version}, hash {facts.study_hash[:12]}"
    yield "Run", f"{facts.run}, made on {facts.made}"
    yield "Bundle", bundle.digest[:12]
    yield "Hospitals", f"{len(bundle.history.answered)} took part"
    for key in bundle.signers:
        who = "operator" if key == facts.operator else "hospital"
        yield f"Signed by {who}", fingerprint(bytes.fromhex(key))
