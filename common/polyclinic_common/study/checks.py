"""What makes a contract one that can be kept: each refusal names place and remedy."""

from __future__ import annotations

from collections import Counter

from pydantic_core import PydanticCustomError

from polyclinic_common.study.contract import LOSSES_OF, Contract, columns_with_use
from polyclinic_common.study.features import Categorical, Ordinal
from polyclinic_common.study.outcomes import Arms
from polyclinic_common.study.sections import METRICS_OF, TestSites


def _check_columns_used_once(study: Contract) -> None:
    names = [column for column, _ in columns_with_use(study)]
    names += [f.name for f in study.cohort.features if f.kind == "panel"]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise PydanticCustomError(
            "column_used_twice",
            "column {column} is used twice",
            {"column": twice[0], "at": "cohort", "remedy": "Use every column in one place only."},
        )


def _check_loss_and_metrics(study: Contract) -> None:
    kind = study.outcome.kind
    if study.loss not in LOSSES_OF[kind]:
        raise PydanticCustomError(
            "loss_does_not_fit",
            "loss {loss} does not fit a {kind} outcome",
            {
                "loss": study.loss,
                "kind": kind,
                "at": "model.loss",
                "remedy": f"Use {' or '.join(LOSSES_OF[kind])}.",
            },
        )
    private = study.evaluation.private
    asked = (*study.metrics, *((private and private.metrics) or ()))
    wrong = [metric for metric in asked if metric not in METRICS_OF[kind]]
    if wrong:
        raise PydanticCustomError(
            "metric_does_not_fit",
            "metric {metric} does not fit a {kind} outcome",
            {
                "metric": wrong[0],
                "kind": kind,
                "at": "evaluation.metrics",
                "remedy": f"Choose from {', '.join(METRICS_OF[kind])}.",
            },
        )


def _check_participants(study: Contract) -> None:
    """Refuse a rule under which two sums of a round could come out, or none be protected.

    An m beyond the hospitals that train is let pass here: earlier versions signed it, counting
    hospitals that are held out. No round of it starts, and `parse_study` takes none.
    """
    size, m, c = len(study.training_sites), study.m, study.c
    alone = size == 1 and study.privacy.mode != "secure-sum"
    if m > len(study.roster.sites) or not (alone or (m > c and 2 * m > size + c)):
        remedy = "Raise m, lower c, or leave both out to take the defaults."
        if size == 1:
            remedy = 'Let at least two hospitals train, or use mode "local".'
        raise PydanticCustomError(
            "participant_rule",
            "m = {m} and c = {c} do not fit {size} hospitals that train: "
            "c < m <= hospitals and 2m > hospitals + c must hold",
            {
                "m": m,
                "c": c,
                "size": size,
                "at": "privacy.m",
                "remedy": remedy,
            },
        )


def _check_strategy(study: Contract) -> None:
    training = study.training
    sums = training.schedule == "full" and training.personalisation == "none"
    if (study.strategy == "descent" and not sums) or (
        study.strategy == "fedprox" and training.schedule == "full"
    ):
        raise PydanticCustomError(
            "strategy_does_not_fit",
            "strategy {strategy} does not fit the {schedule} schedule or the personalisation",
            {
                "strategy": study.strategy,
                "schedule": training.schedule,
                "at": "training.strategy",
                "remedy": "Use fedavg, or leave it out to take what fits.",
            },
        )


def _check_mode(study: Contract) -> None:
    if study.privacy.mode == "secure-sum" and study.strategy != "descent":
        raise PydanticCustomError(
            "mode_does_not_fit",
            "mode secure-sum adds up gradients of whole cohorts; strategy {strategy} needs more",
            {
                "strategy": study.strategy,
                "at": "privacy.mode",
                "remedy": 'Use mode "local", or the full schedule with strategy "descent".',
            },
        )


def _check_start(study: Contract) -> None:
    fits = (
        study.privacy.mode == "secure-sum"
        and study.model.kind == "linear"
        and study.outcome.kind == "continuous"
    )
    if study.training.start == "statistics" and study.privacy.mode != "none" and not fits:
        raise PydanticCustomError(
            "start_does_not_fit",
            "sufficient statistics need mode secure-sum, a linear model and a continuous outcome",
            {"at": "training.start", "remedy": "Leave it out to start from public base rates."},
        )


def _check_calibration(study: Contract) -> None:
    if study.training.calibration is not None and study.training.personalisation != "none":
        raise PydanticCustomError(
            "calibration_does_not_fit",
            "calibration sets one model right, and here every hospital has its own",
            {
                "at": "training.calibration",
                "remedy": "Leave it out, or leave out `personalisation`.",
            },
        )


def _check_holdout(study: Contract) -> None:
    holdout = study.evaluation.holdout
    if isinstance(holdout, TestSites):
        released = [part for part in ("private", "acceptance") if getattr(study.evaluation, part)]
        if released:
            raise PydanticCustomError(
                "private_test_sites",
                "hospitals that are held out as a whole release nothing, neither metrics nor votes",
                {
                    "at": f"evaluation.{released[0]}",
                    "remedy": "Leave it out, or hold out patients of every hospital.",
                },
            )
        unknown = [site for site in holdout.sites if site not in study.roster.sites]
        if unknown or not study.training_sites:
            raise PydanticCustomError(
                "test_sites",
                "the test sites are not a proper part of the roster",
                {
                    "at": "evaluation.holdout.sites",
                    "remedy": "Name sites of the roster, and leave some for training.",
                },
            )


def _check_subgroups(study: Contract) -> None:
    declared = {f.name: f for f in study.cohort.features}
    arms = study.treatment.column if isinstance(study.treatment, Arms) else None
    for index, subgroup in enumerate(study.subgroups):
        feature = declared.get(subgroup.column)
        has_levels = isinstance(feature, Categorical | Ordinal) or subgroup.column == arms
        is_number = feature is not None and feature.kind == "numeric"
        if not (has_levels and subgroup.cuts is None) and not (is_number and subgroup.cuts):
            raise PydanticCustomError(
                "subgroup_column",
                "subgroup {column} is no declared column, or its cuts do not fit its kind",
                {
                    "column": subgroup.column,
                    "at": f"subgroups.{index}",
                    "remedy": "Name a categorical column or the arms without cuts, "
                    "or a numeric column with cuts.",
                },
            )


FEWEST, MOST = 2, 5


def _check_menu(study: Contract) -> None:
    """Refuse a menu that is too short or too long, repeats itself, or cannot be chosen from."""
    menu, private = study.training.menu, study.evaluation.private
    if not menu:
        return
    if not FEWEST <= len(menu) <= MOST:
        raise PydanticCustomError(
            "menu_size",
            "the menu has {count} entries",
            {
                "count": len(menu),
                "at": "training.menu",
                "remedy": f"List {FEWEST} to {MOST} settings, or leave the menu out.",
            },
        )
    if len({each.training for each in study.settings}) < len(menu):
        raise PydanticCustomError(
            "menu_repeats",
            "two entries of the menu are the same setting",
            {
                "at": "training.menu",
                "remedy": "List every setting once; what an entry leaves out is as in [training].",
            },
        )
    if private is None:
        raise _unfit(
            "needs metrics to choose by, and none are released",
            "Add [evaluation.private], or leave the menu out.",
        )
    if private.every is not None or private.patience is not None:
        raise _unfit(
            "releases metrics at the end of every setting and at no other time",
            "Leave out `every` and `patience`, or the menu.",
        )
    if study.strategy != "descent" or study.training.start == "statistics":
        raise _unfit(
            'needs the full schedule with strategy "descent", started from base rates',
            'Leave out `start`, use strategy "descent" with the full schedule, or leave the menu '
            "out.",
        )


def _unfit(what: str, remedy: str) -> PydanticCustomError:
    return PydanticCustomError(
        "menu_does_not_fit",
        "a menu {what}",
        {"what": what, "at": "training.menu", "remedy": remedy},
    )


def check_contract(study: Contract) -> None:
    """Refuse a contract that contradicts itself; the first contradiction is named."""
    for check in (
        _check_columns_used_once,
        _check_loss_and_metrics,
        _check_holdout,
        _check_participants,
        _check_strategy,
        _check_mode,
        _check_start,
        _check_calibration,
        _check_subgroups,
        _check_menu,
    ):
        check(study)
