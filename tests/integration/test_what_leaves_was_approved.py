"""Whatever a gate lets out stands, with its price, in the text that was approved; and nothing else.

A random valid study is trained by the real parts of a consortium in one process. What left is read
from the hospitals' journals; the texts' words and prices are looked for by this file's own table
and by the accountant, not by what wrote them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.entries import Planned
from polyclinic_client.records.journal import Left
from polyclinic_common.errors import PrivacyError, StudyError
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.releases.plain_words import describe, leaving
from polyclinic_common.releases.schedule import Schedule, declared_for
from polyclinic_common.study import Study
from polyclinic_server.rounds.state import State
from polyclinic_simulations.federation.federation import Federation, build_federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import start_weights, train_federated
from tests.kits.small import small_study, small_table

WORDS: dict[str, str | tuple[str, ...]] = {
    "gradient": "noisy sum of gradients under masks",
    "update": ("noisy sum of gradients", "noisy change of the model"),
    "statistics": "sums of products of columns",
    "calibration": "sums about level and slope",
    "metrics": "sums about held-out patients",
    "vote": "randomised vote",
}
FREE = {
    "announced_keys": "announcements of keys",
    "answered_keys": "answers to them",
    "closed_sum": "closing statements",
    "receipt": "receipts",
}
MENU = [{"learning_rate": 2.0}, {"learning_rate": 8.0}]


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Return a kind of outcome and what a study says beside it; not all of it fits together."""

    def maybe(section: dict[str, Any], key: str, *values: Any) -> None:
        if draw(st.booleans()):
            section[key] = draw(st.sampled_from(values))

    training: dict[str, Any] = {"rounds": draw(st.integers(2, 4))}
    maybe(training, "schedule", "sampled")
    maybe(training, "strategy", "fedavg", "fedprox", "fedadam", "fedmedian")
    maybe(training, "personalisation", "mr-mtl")
    maybe(training, "start", "statistics")
    maybe(training, "calibration", {"share": 0.1, "steps": 1}, {"share": 0.2, "steps": 2})
    maybe(training, "menu", MENU)
    private: dict[str, Any] = {}
    maybe(private, "every", 1, 2)
    maybe(private, "by_site", True)
    maybe(private, "patience", 1)
    maybe(private, "share", 0.05, 0.3)
    evaluation: dict[str, Any] = {}
    maybe(evaluation, "private", private)
    maybe(evaluation, "acceptance", {"epsilon": 0.1})
    privacy = {"mode": draw(st.sampled_from(["secure-sum", "local"]))}
    kind = draw(st.sampled_from(["binary", "survival", "continuous"]))
    return kind, {"training": training, "evaluation": evaluation, "privacy": privacy}


def is_named(words: str | tuple[str, ...], line: str) -> bool:
    return any(each in line for each in ((words,) if isinstance(words, str) else words))


def number_in(line: str) -> int:
    """Return how often a line says that something leaves."""
    found = re.search(r"In each of (?:up to )?(\d+) rounds|(\d+) times,", line)
    return 1 if found is None else int(found[1] or found[2])


def shown(price: Charge, times: int, delta: float) -> str:
    return f"{math.ceil(1000.0 * spent_epsilon({price: times}, delta)) / 1000.0:.3f}"


def trained(study: Study, folder: Path) -> Federation:
    made = build_federation(study, small_table(60), seed=0)
    setting = Setting(study.privacy.mode, study.privacy.epsilon, study.strategy)
    start = State.start(start_weights(made))
    train_federated(made, setting, run_id="run", start=start, folder=folder)
    return made


def left_of(folder: SiteFolder) -> list[Left]:
    events = (noted.event for noted in folder.journal.events())
    return [event for event in events if isinstance(event, Left)]


def planned_of(folder: SiteFolder) -> Iterator[Planned]:
    for held in folder.ledger.state.approvals.values():
        yield from held.approval.planned


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes())
@example(
    (
        "continuous",
        {
            "training": {"rounds": 3, "start": "statistics", "calibration": {}},
            "evaluation": {"private": {"every": 1}, "acceptance": {"epsilon": 0.1}},
        },
    )
)
@example(
    (
        "binary",
        {
            "privacy": {"mode": "local"},
            "training": {"rounds": 3, "calibration": {}},
            "evaluation": {"private": {}, "acceptance": {"epsilon": 0.1}},
        },
    )
)
@example(("survival", {"training": {"rounds": 2, "menu": MENU}, "evaluation": {"private": {}}}))
@example(
    (
        "binary",
        {
            "privacy": {"mode": "local"},
            "training": {"rounds": 2, "schedule": "sampled", "strategy": "fedadam"},
        },
    )
)
@example(
    (
        "binary",
        {"privacy": {"mode": "local"}, "training": {"rounds": 2, "personalisation": "mr-mtl"}},
    )
)
def test_every_kind_that_left_was_named_with_its_price_and_none_else(
    chosen: tuple[str, dict[str, Any]],
) -> None:  # fmt: skip
    kind, said = chosen
    with TemporaryDirectory() as place:
        try:
            made = trained(small_study(kind, **said), Path(place))
        except (StudyError, PrivacyError):
            assume(False)
        for index, site in enumerate(made.training_sites):
            with SiteFolder.open(Path(place, f"{index + 1:03d}"), durable=False) as folder:
                check(made, site.name, folder)


def check(made: Federation, name: str, folder: SiteFolder) -> None:
    study, left = made.study, left_of(folder)
    schedule = Schedule.of(study, declared_for(study, made.declared, name), "products")
    lines = leaving(study, schedule)
    without_sizes = [line for section in describe(study) for line in section.lines]
    named = {kind for kind, words in WORDS.items() if any(is_named(words, line) for line in lines)}
    if study.privacy.mode == "secure-sum":
        named.discard("update")  # whose words are among those of a gradient under masks
    charged = {event.sum: event.cost for event in left if event.cost is not None}
    assert named == set(charged)
    for planned in planned_of(folder):
        line = next(line for line in lines if is_named(WORDS[planned.kind], line))
        delta = study.privacy.delta
        assert charged[planned.kind] == planned.fallback
        for price in (planned.headline, planned.fallback):
            assert f"epsilon {shown(price, planned.releases, delta)}" in line.replace(
                " or ", " epsilon "
            )
        assert any(is_named(WORDS[planned.kind], line) for line in without_sizes)
    for kind, words in WORDS.items():
        if kind in charged:
            line = next(line for line in lines if is_named(words, line))
            often = len({event.round_number for event in left if event.sum == kind})
            most = number_in(line)
            assert often <= most if "up to" in line.lower() else often == most, line
    free = {event.kind for event in left if event.cost is None}
    told = {label for label, words in FREE.items() if any(words in line for line in lines)}
    assert free <= told
    assert told == (set(FREE) if study.privacy.mode == "secure-sum" else {"receipt"})


def test_a_kind_that_is_not_in_the_schedule_is_missed_by_the_check(tmp_path: Path) -> None:
    """The check above would see it: a schedule without metrics does not tell what left."""
    study = small_study(training={"rounds": 2}, evaluation={"private": {}})
    made = trained(study, tmp_path)
    with SiteFolder.open(tmp_path / "001", durable=False) as folder:
        check(made, "site 0", folder)
        told = small_study(training={"rounds": 2})
        schedule = Schedule.of(told, 60, "products")
        named = " ".join(leaving(told, schedule))
        assert not is_named(WORDS["metrics"], named)
        assert "metrics" in {event.sum for event in left_of(folder)}
