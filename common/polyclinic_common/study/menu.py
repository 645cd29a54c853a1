"""A menu: a few settings, of which a study trains each and keeps the one with the best metric.

Entries set only what the server alone decides, so that hospitals need to know nothing of them but
how many rounds there are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field
from pydantic_core import PydanticCustomError

from polyclinic_common.study.base import Part

if TYPE_CHECKING:
    from polyclinic_common.study.manifest import Study

FEWEST, MOST = 2, 5
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}
SHARES = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"}
NAMES = {
    "learning_rate": "learning rate",
    "momentum": "momentum",
    "average_from": "averaged from",
}


class MenuEntry(Part):
    """One setting of a menu; what it leaves open is as in the rest of the study."""

    learning_rate: float | None = Field(default=None, gt=0, le=1000)
    momentum: float | None = Field(default=None, ge=0, lt=1)
    average_from: float | None = Field(default=None, ge=0, lt=1)


def check_menu(study: Study) -> None:
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
    return (
        trained,
        f"Choosing is paid for: each setting has {SHARES[count]} of the budget of training, and "
        f"each release of metrics {SHARES[count]} of theirs (of the sum of squares of mu). The "
        f"noise of each is {math.sqrt(count):.2f} times that of a study with one setting.",
        f"The setting with the best {metric} is kept (undefined counts as worst; of equal ones the "
        "first is kept): a decision on what was released and paid for alone. The best of "
        f"{number} noisy values flatters; its interval does not count that.",
    )
