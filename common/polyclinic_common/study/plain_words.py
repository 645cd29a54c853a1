"""A study in plain words, and what it declares of each of its columns."""

from __future__ import annotations

import math
from dataclasses import dataclass

from polyclinic_common.study.columns import _labels_of, _levels_in_words, declared_columns
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Arms, Continuous, Survival
from polyclinic_common.study.sections import Fraction, MenuEntry, SplitColumn, Subgroup


@dataclass(frozen=True)
class Section:
    """A heading and its lines."""

    title: str
    lines: tuple[str, ...]


def group_in_words(study: Study, name: str) -> str:
    """Return what a subgroup is called: its level by its label, where it has one."""
    for subgroup in study.subgroups:
        level = name.removeprefix(f"{subgroup.column} = ")
        label = _labels_of(study, subgroup.column).get(level)
        if level != name and label is not None:
            return f"{subgroup.column} = {label}"
    return name


def asked(study: Study) -> tuple[str, ...]:
    """Say what is asked, and of whom."""
    lines = [study.title, study.purpose, f"Outcome: {outcome_in_words(study)}"]
    if study.treatment is not None:
        lines.append(f"Treatment: {treatment_in_words(study)}")
    if study.synthetic:
        lines.append("The patients of this study are synthetic.")
    return tuple(lines)


def outcome_in_words(study: Study) -> str:
    """Say what is predicted."""
    outcome = study.outcome
    if isinstance(outcome, Survival):
        end = f"{outcome.grid[-1]:g} {outcome.unit}"
        return f"time until {outcome.event} is {outcome.occurred}, followed for up to {end}."
    if isinstance(outcome, Continuous):
        scale = "" if outcome.transform == "none" else f", on the {outcome.transform} scale"
        return f"{outcome.column}, a number in {outcome.unit}{scale}."
    return f"whether {outcome.column} is {outcome.positive} rather than {outcome.negative}."


def treatment_in_words(study: Study) -> str:
    """Say what treatment was given, and how it was assigned."""
    treatment = study.treatment
    if treatment is None:
        return "none declared."
    given = (
        " or ".join(_levels_in_words(treatment.arms, treatment.labels))
        if isinstance(treatment, Arms)
        else f"in {treatment.unit}"
    )
    warning = ""
    if treatment.assignment == "observational":
        warning = " Not assigned by chance: nothing here estimates its effect."
    return f"{treatment.column}, {given} ({treatment.assignment}).{warning}"


def read(study: Study) -> tuple[str, ...]:
    """Say which columns are read, and what is declared of each."""
    return tuple(f"{d.name} ({d.role}): {d.what}" for d in declared_columns(study))


def computed(study: Study) -> tuple[str, ...]:
    """Say what is fitted, and how."""
    layers = " and ".join(map(str, study.model.hidden))
    kind = (
        f"a multilayer perceptron with {layers} hidden units"
        if layers
        else f"a {study.model.kind} model"
    )
    return (
        f"Fitted: {kind} with the {study.loss} loss.",
        *_trained(study),
        *menu_in_words(study),
        f"One patient's gradient is clipped to length {study.clip:g}."
        if study.privacy.mode != "none"
        else "Gradients are not clipped.",
        *_calibrated(study),
    )


def each_round(study: Study) -> str:
    """Say in how many rounds the model is trained; fewer where training may stop early."""
    upto = "up to " if study.may_stop_early else ""
    return f"In each of {upto}{study.training_rounds} rounds"


def _trained(study: Study) -> tuple[str, ...]:
    """Say what a hospital computes and sends, round by round, and how it is combined."""
    training, often = study.training, f"{each_round(study)} every hospital that trains"
    lines = []
    if training.start == "statistics" and study.privacy.mode != "none":
        lines.append(
            "First every hospital that trains sends sums of products of its columns, from which "
            "the server computes where training starts."
        )
    if study.strategy == "descent":
        lines.append(f"{often} sends one gradient over its whole cohort; the server combines them.")
    else:
        steps = "one step over its whole cohort"
        if training.schedule == "sampled":
            epochs = "1 epoch" if training.epochs == 1 else f"{training.epochs} epochs"
            steps = f"{epochs} of steps on random batches of about {training.batch} patients"
        lines.append(
            f"{often} trains the model by {steps} and sends how it changed; the server combines "
            f"these by {study.strategy}."
        )
    if training.personalisation != "none":
        lines.append("Every hospital keeps a model of its own, pulled towards the mean of all.")
    return tuple(lines)


def _calibrated(study: Study) -> tuple[str, ...]:
    """Say how level and slope are set right after training."""
    if study.training.calibration is None:
        return ("Level and slope of the predictions stay as training leaves them.",)
    return (
        f"Then, {study.calibration.steps} times, every hospital that trains sends six sums: how "
        "far level and slope of the trained model's predictions are off, and how that changes with "
        "both. The server sets the two right.",
    )


def promised(study: Study) -> tuple[str, ...]:
    """Say what differential privacy promises every patient."""
    privacy = study.privacy
    if privacy.mode == "none":
        return (
            "Mode none: nothing protects the patients. It serves as a baseline in simulation; "
            "a hospital's node refuses it.",
        )
    odds = math.exp(privacy.epsilon)
    summed = privacy.mode == "secure-sum"
    how = "what a hospital sends is private on its own, before it leaves."
    who = "Whoever sees everything that a hospital sends"
    if summed:
        how = (
            "every hospital adds its share of the noise and hides its sum under masks; the server "
            "sees one noisy sum over all hospitals, and no hospital's own."
        )
        who = f"The server, with up to c = {study.c} hospitals that work with it,"
    fallback = (
        "If more hospitals than that collude, or the cryptography fails, a weaker promise is left, "
        "the fallback: the hospital's own share of the noise. It is printed beside the headline.",
    )
    return (
        f"Mode {privacy.mode}: {how}",
        f"Differential privacy with epsilon = {privacy.epsilon:g} and delta = {privacy.delta:g} "
        "over all rounds of this study.",
        "Unit: patient (all rows of one patient together). Adjacency: add or remove one patient.",
        f"{who} can change the odds that a given patient was there by at most a factor of "
        f"{odds:.3g}, except with a probability of about {privacy.delta:g}.",
        *(fallback if summed else ()),
        f"A round needs at least m = {study.m} of {len(study.training_sites)} hospitals"
        + (f"; up to c = {study.c} of them may collude." if summed else "."),
    )


def about_hospitals(study: Study) -> tuple[str, ...]:
    """Say what is not hidden about a hospital."""
    lines = [
        "The promise holds for single patients, not for a hospital: averages over its patients "
        "may be inferred from what it sends.",
    ]
    if study.cohort.site_indicator:
        lines.append(
            f"The hospital itself ({study.cohort.site}) is a feature of the model: the released "
            "model shows how each hospital differs from the others."
        )
    else:
        lines.append("No column of the model names the hospital (no site indicator).")
    private = study.evaluation.private
    if study.private_metrics and private is not None and private.by_site:
        lines.append(
            "Metrics are released by hospital: everybody learns, up to the noise, how well the "
            "model does at each one, and so how its patients differ."
        )
    return tuple(lines)


def judged(study: Study) -> tuple[str, ...]:
    """Say who is held out, and which metrics tell how good the model is."""
    holdout = study.evaluation.holdout
    if isinstance(holdout, Fraction):
        held_out = f"{holdout.fraction:.0%} of the patients, chosen by a hash of the patient id"
    elif isinstance(holdout, SplitColumn):
        held_out = f"patients whose {holdout.column} is {holdout.test}"
    else:
        held_out = f"all patients of {', '.join(holdout.sites)}, which send nothing"
    lines = [f"Held out from training: {held_out}.", f"Metrics: {', '.join(study.metrics)}."]
    lines += [f"Reported apart: {_bands(subgroup)}." for subgroup in study.subgroups]
    return (*lines, *_released_metrics(study), *_votes(study))


def _released_metrics(study: Study) -> tuple[str, ...]:
    """Say what about the metrics leaves the hospitals, and what it costs."""
    private = study.evaluation.private
    if private is None or not study.private_metrics:
        return ("No metric leaves the hospitals: how good the model is only a simulation shows.",)
    often = "at the end"
    if private.every:
        often = f"after every {private.every} rounds before training's last, and at the end"
    if study.training.menu:
        often += f" of each of the {NUMBERS[len(study.training.menu)]} settings"
        often += ", and once more after calibration" if study.training.calibration else ""
    others = [*(["by hospital"] if private.by_site else [])]
    others += ["by subgroup"] if private.subgroups and study.subgroups else []
    tables = f" overall and {' and '.join(others)}" if others else ""
    metrics = ", ".join(study.private_metrics)
    bounded = {"mae", "rmse"} & set(study.private_metrics)
    bound = f" Errors beyond {study.error_bound:g} count as this large." if bounded else ""
    return (
        f"Released from held-out patients {often}: {metrics}{tables}, as one noisy sum.{bound}",
        f"A group with fewer than {private.smallest} patients by the noisy count is not shown.",
        *_stops(study, private.patience),
    )


def _stops(study: Study, patience: int | None) -> tuple[str, ...]:
    if patience is None:
        return ()
    return (
        f"Training stops early once {patience} releases in a row brought no better "
        f"{study.private_metrics[0]}: a decision on what was released and paid for, alone.",
    )


def _votes(study: Study) -> tuple[str, ...]:
    """Say how hospitals decide on the trained model."""
    acceptance = study.evaluation.acceptance
    if acceptance is None or study.privacy.mode == "none":
        return ()
    truth = 1.0 / (1.0 + math.exp(-acceptance.epsilon))
    return (
        "At the end every hospital compares the model with the one in use and with published "
        "formulas on its own held-out patients, and sends one vote, also to abstain. "
        f"It tells the truth with probability {truth:.3f}.",
        f"The model is accepted if the estimated share in favour reaches {acceptance.quorum:.0%}.",
    )


def _bands(subgroup: Subgroup) -> str:
    if subgroup.cuts is None:
        return f"each level of {subgroup.column}"
    return f"{subgroup.column} cut at {', '.join(f'{cut:g}' for cut in subgroup.cuts)}"


def takes_part(study: Study) -> tuple[str, ...]:
    """Say who takes part, and until when."""
    return (
        hospitals_in_words(study),
        f"Expires on {study.expires.isoformat()}; hospitals refuse the study afterwards.",
        f"Study {study.id} {study.version}, hash {study.hash()}.",
    )


def hospitals_in_words(study: Study) -> str:
    """Count and name the hospitals: those that train, and those that are held out as a whole."""
    train, named = study.training_sites, study.roster.sites
    out = [site for site in named if site not in train]
    if not out:
        return f"{len(named)} hospitals: {', '.join(named)}."
    counted = f"{len(train)} hospitals train" if len(train) > 1 else "1 hospital trains"
    return f"{counted}, {len(out)} held out. Train: {', '.join(train)}. Held out: {', '.join(out)}."


NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}
SHARES = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 6: "a sixth"}
NAMES = {
    "learning_rate": "learning rate",
    "momentum": "momentum",
    "average_from": "averaged from",
}


def setting_in_words(study: Study, index: int) -> str:
    """Name the setting number `index`, from 0, by what the menu varies."""
    training = study.settings[index].training
    varied = [
        name
        for name in MenuEntry.model_fields
        if any(getattr(entry, name) is not None for entry in study.training.menu)
    ]
    return ", ".join(f"{NAMES[name]} {getattr(training, name):g}" for name in varied)


def menu_in_words(study: Study) -> tuple[str, ...]:
    """Say what is trained, what choosing costs, and what decides; nothing without a menu."""
    count = len(study.training.menu)
    if not count:
        return ()
    number, rounds = NUMBERS[count], study.training.rounds
    listed = "; ".join(setting_in_words(study, index) for index in range(count))
    trained = (
        f"{number.capitalize()} settings are trained one after the other, {rounds} rounds each: "
        f"{listed}."
    )
    metric = study.deciding_metric
    if study.privacy.mode == "none":
        return (
            trained,
            f"In mode none the exact {metric} of the held-out patients decides which one is kept: "
            "only a simulation can know it.",
        )
    releases = len(study.metric_rounds)
    return (
        trained,
        f"Choosing is paid for: each setting has {SHARES[count]} of the budget of training (of the "
        f"sum of squares of mu), so that its noise is {math.sqrt(count):.2f} times that of a study "
        f"with one setting; each of the {releases} releases of metrics has {SHARES[releases]} of "
        f"theirs, and {math.sqrt(releases):.2f} times the noise of one.",
        f"The setting with the best {metric} is kept (undefined counts as worst; of equal ones the "
        "first is kept): a decision on what was released and paid for alone. The best of "
        f"{number} noisy values flatters; its interval does not count that.",
    )
