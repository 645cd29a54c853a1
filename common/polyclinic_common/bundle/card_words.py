"""What the system knows of a released model, in words and small tables, by field of the card."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from polyclinic_common.bundle.card import NOTICE, ONLY_SIMULATED, Value
from polyclinic_common.bundle.card_results import (
    NOT_RELEASED,
    Known,
    calibration_table,
    fairness_words,
    hospitals_table,
    main_figure,
    patients_table,
    performance_table,
    votes_words,
)
from polyclinic_common.bundle.figures import Table, metric_scale
from polyclinic_common.evaluation.metrics import METRICS
from polyclinic_common.study.columns import declared_columns
from polyclinic_common.study.outcomes import Binary, Continuous, Survival
from polyclinic_common.study.plain_words import (
    about_hospitals,
    computed,
    hospitals_in_words,
    judged,
    outcome_in_words,
    treatment_in_words,
)
from polyclinic_common.study.sections import TestSites


def _title(known: Known) -> Value:
    kind = "neural network" if known.study.model.hidden else "linear"
    count = len(known.study.training_sites)
    where = f"across {count} hospitals" if count > 1 else "at one hospital"
    return f"{known.study.title}: development of a {kind} prediction model {where}"


def _summary(known: Known) -> Value:
    study = known.study
    return (
        study.purpose,
        f"Predicted: {outcome_in_words(study)}",
        hospitals_in_words(study),
        main_figure(known),
        *(["The patients of this study are synthetic."] if study.synthetic else []),
    )


def _version(known: Known) -> Value:
    facts = known.facts
    return (
        f"{facts.study} {facts.study_version}, run {facts.run}, written by Polyclinic "
        f"{facts.version}"
    )


def _keywords(known: Known) -> Value:
    treated = () if known.study.treatment is None else ("treatment response",)
    kind = {"continuous": "regression", "binary": "risk", "survival": "time to event"}
    return (
        kind[known.study.outcome.kind],
        *treated,
        "federated learning",
        "differential privacy",
    )


def _intended(known: Known) -> Value:
    study = known.study
    lines = [study.title, study.purpose, f"It predicts {outcome_in_words(study)}"]
    if study.treatment is not None:
        lines.append(f"Treatment: {treatment_in_words(study)}")
    return (*lines, NOTICE)


def _how_to_use(known: Known) -> Value:
    named = [each.name for each in declared_columns(known.study) if each.role == "feature"]
    return (
        f"polyclinic predict FILE --patient {named[0]}=… for one patient; "
        "polyclinic predict FILE TABLE for a table with the study's columns.",
        "polyclinic model verify FILE checks file and signatures first.",
    )


def _limits(known: Known) -> Value:
    study = known.study
    lines = [
        "Outside the declared ranges of its columns: such a value is set to the nearest end and "
        "the prediction is marked.",
        "With a word that no vocabulary of the study holds: no number is given.",
    ]
    if study.cohort.site_indicator:
        lines.append(
            "At a hospital outside the study the model does without the part that is particular to "
            "each hospital, and was not tried."
        )
    else:
        lines.append("At a hospital outside the study it was not tried.")
    if study.treatment is not None:
        lines.append("It gives no interval for, and no proof of, what a treatment does for one "
                     "person.")  # fmt: skip
        if study.treatment.assignment == "observational":
            lines.append("Treatment was not assigned by chance: nothing here estimates its effect.")
    return tuple(lines)


def _outcome(known: Known) -> Value:
    outcome = known.study.outcome
    lines = [
        f"Predicted: {outcome_in_words(known.study)}",
        f"Source of its definition: {outcome.source}.",
    ]
    if isinstance(outcome, Survival):
        lines.append(
            f"Times: {', '.join(f'{end:g}' for end in outcome.grid)} {outcome.unit}. Competing "
            "events are not modelled."
        )
    return tuple(lines)


def _predictors(known: Known) -> Value:
    roles = {"feature": "predictor", "treatment": "treatment", "site": "hospital"}
    used = [
        each
        for each in declared_columns(known.study)
        if each.role in {"feature", "treatment"}
        or (each.role == "site" and known.study.cohort.site_indicator)
    ]
    return Table(
        caption="Columns that a prediction is made from",
        columns=("Column", "Role", "What is declared of it"),
        rows=tuple(
            (each.name, roles[each.role],
             each.what if each.role != "site" else "one indicator a hospital")
            for each in used
        ),
    )  # fmt: skip


def _measures(known: Known) -> Value:
    study = known.study
    return tuple(
        f"{metric_scale(study, METRICS[name]).name}: {METRICS[name].meaning}."
        for name in study.metrics
    )


def _updating(known: Known) -> Value:
    calibration = known.study.training.calibration
    if calibration is None:
        return "None: the model is as training left it. A hospital may recalibrate its own copy."
    return (
        f"After training, level and slope of the predictions were set right from noisy sums, in "
        f"{calibration.steps} steps. A hospital may recalibrate its own copy."
    )


def _output(known: Known) -> Value:
    outcome = known.study.outcome
    if isinstance(outcome, Continuous):
        return f"A number in {outcome.unit}."
    if isinstance(outcome, Binary):
        return f"The probability that {outcome.column} is {outcome.positive}. No threshold is set."
    return (
        f"The probability to be without the event at {len(outcome.grid)} times up to "
        f"{outcome.grid[-1]:g} {outcome.unit}. No threshold is set."
    )


def _training_against_evaluation(known: Known) -> Value:
    if isinstance(known.study.evaluation.holdout, TestSites):
        return "Judged at hospitals at which it was not trained."
    return (
        "Judged on held-out patients of the hospitals at which it was trained: how it does "
        "elsewhere, or later, was not looked at."
    )


def _promise(known: Known) -> Value:
    certificate = known.certificate
    lines = [certificate.sentence, certificate.trust, f"Accountant: {certificate.accountant}."]
    if certificate.audit is not None:
        lines += certificate.audit.sentences
    return tuple(lines)


def _model(known: Known) -> Value:
    hidden = known.study.model.hidden
    shown = "" if hidden else " polyclinic model show FILE prints every coefficient."
    return f"All weights stand in the file that this card belongs to.{shown}"


def _limitations(known: Known) -> Value:
    study, lines = known.study, list[str]()
    if known.facts.simulated:
        lines.append(ONLY_SIMULATED)
    if study.privacy.mode != "none":
        lines.append(
            "Weights and metrics hold noise, which protects patients: another run of the same "
            "study gives another model."
        )
    lines += [
        "The number of patients is declared by each hospital and checked by nobody else.",
        "A hospital that sends wrong sums can make the model wrong; only gross errors are noticed.",
    ]
    if known.evaluation.chosen is not None:
        lines.append(
            "The model is the best of several by released, noisy metrics: these flatter it, and "
            "their intervals do not count that."
        )
    if not known.evaluation.groups and not known.evaluation.exact:
        lines.append(NOT_RELEASED)
    return tuple(lines)


def _said(value: Value) -> Callable[[Known], Value]:
    return lambda _: value


SYSTEM: Mapping[str, Callable[[Known], Value]] = {
    "tripod.1": _title,
    "tripod.2": _summary,
    "chai.ReleaseDate": lambda known: known.facts.made,
    "chai.ReleaseVersion": _version,
    "chai.RegulatoryApproval": _said(NOTICE),
    "chai.Keywords": _keywords,
    "use.intended": _intended,
    "chai.HowToUse": _how_to_use,
    "tripod.27a": _said(
        (
            "A missing value has an indicator of its own, in training and in prediction. Every "
            "prediction says which columns were missing, outside their range, or not understood.",
            "A whole column in another unit, or with other words, stops a table.",
        )
    ),
    "use.limits": _limits,
    "tripod.4": lambda known: f"To develop and judge a model. {known.study.purpose}",
    "tripod.6a": lambda known: hospitals_in_words(known.study),
    "tripod.6c": lambda known: f"Given: {treatment_in_words(known.study)}",
    "tripod.7": _said(
        (
            "Every hospital maps its own table to the columns of the study by rules in a file of "
            "its own. A table with words, units or numbers that no rule explains is refused.",
            "No statistic of the patients is used to prepare them: ranges and vocabularies are "
            "public and stand in the study.",
        )
    ),
    "tripod.8a": _outcome,
    "tripod.9b": _predictors,
    "tripod.11": _said(
        "A missing predictor is encoded as an indicator of its own; nothing is imputed. Patients "
        "without a known outcome are not trained on."
    ),
    "tripod.12a": lambda known: judged(known.study),
    "tripod.12b": _said(
        "Numbers are mapped from their declared range to −1 to 1 and cut there; each word of a "
        "vocabulary is an indicator. No predictor was selected by the data."
    ),
    "tripod.12c": lambda known: computed(known.study),
    "tripod.12d": lambda known: about_hospitals(known.study)[1:],
    "tripod.12e": _measures,
    "tripod.12f": _updating,
    "tripod.12g": _said(
        "The file holds the weights and the study; polyclinic predict encodes a patient by the "
        "code that encoded the training patients."
    ),
    "tripod.13": _said("Nothing is resampled or reweighted."),
    "tripod.14": fairness_words,
    "tripod.15": _output,
    "tripod.16": _training_against_evaluation,
    "privacy.promise": _promise,
    "privacy.not_promised": lambda known: known.certificate.not_promised,
    "tripod.18e": _said(
        "Patient records never left their hospital and are not shared; ask the hospitals."
    ),
    "tripod.18f": lambda known: (
        f"Trained and judged by Polyclinic {known.facts.version}, as the study in the file says."
    ),
    "maintenance.tools": _said(
        (
            "polyclinic client monitor FILE TABLE compares newer patients of a hospital with those "
            "that it knew.",
            "The operator can withdraw the model; predictions are refused from then on wherever "
            "that is known.",
        )
    ),
    "tripod.21": patients_table,
    "tripod.22": _model,
    "tripod.23a": performance_table,
    "results.calibration": calibration_table,
    "tripod.23b": hospitals_table,
    "results.votes": votes_words,
    "tripod.24": _updating,
    "tripod.26": _limitations,
}
"""What each field says that the system fills."""
