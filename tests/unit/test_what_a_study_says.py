"""What people approve says what a hospital computes and what leaves it, in every mode."""

from __future__ import annotations

from typing import Any

import pytest

from polyclinic_client.study_book.price import planned_releases
from polyclinic_common.release_id import VOTE
from polyclinic_common.releases.kinds import CALIBRATION, GRADIENT, METRICS, STATISTICS, UPDATE
from polyclinic_common.releases.plain_words import describe, leaving
from tests.kits.small import small_study

WORDS = {
    GRADIENT: "noisy sum of gradients under masks",
    UPDATE: "noisy change of the model",
    STATISTICS: "sums of products of columns",
    CALIBRATION: "sums about level and slope",
    METRICS: "sums about held-out patients",
    VOTE: "randomised vote",
}
LOCAL = {"privacy": {"mode": "local"}}
METRICS_AND_VOTE = {"evaluation": {"private": {"every": 3}, "acceptance": {"epsilon": 0.1}}}
STUDIES: list[tuple[str, dict[str, Any]]] = [
    ("binary", {}),
    ("binary", LOCAL | {"training": {"rounds": 6, "strategy": "fedavg"}}),
    ("binary", METRICS_AND_VOTE),
    ("binary", LOCAL | METRICS_AND_VOTE | {"training": {"rounds": 6, "strategy": "fedadam"}}),
    ("survival", {"training": {"rounds": 6, "calibration": {}}} | METRICS_AND_VOTE),
    ("continuous", {"training": {"rounds": 6, "calibration": {}, "strategy": "fedavg"}} | LOCAL),
    ("continuous", {"training": {"rounds": 6, "start": "statistics"}}),
    ("binary", {"training": {"rounds": 6, "schedule": "sampled"}}),
    ("binary", {"training": {"rounds": 6, "personalisation": "mr-mtl"}}),
]


@pytest.mark.parametrize(("kind", "changes"), STUDIES)
def test_every_kind_that_is_charged_is_named_and_none_else(
    kind: str, changes: dict[str, Any]
) -> None:
    study = small_study(kind, **changes)
    charged = {
        planned.kind
        for planned in planned_releases(study, dict.fromkeys(study.roster.sites, 120), "site 0")
    }
    said = " ".join(leaving(study))
    assert {kind for kind, words in WORDS.items() if words in said} == charged
    assert set(WORDS) >= charged


@pytest.mark.parametrize(
    ("training", "words", "not_said"),
    [
        ({}, "sends one gradient over its whole cohort", "batches"),
        ({"schedule": "sampled", "epochs": 3, "batch": 16},
         "3 epochs of steps on random batches of about 16 patients", "gradient over"),
        ({"strategy": "fedadam"}, "combines these by fedadam", "sends one gradient"),
        ({"personalisation": "mr-mtl"}, "a model of its own", "sends one gradient"),
    ],
)  # fmt: skip
def test_training_is_told_as_it_is_done(
    training: dict[str, Any], words: str, not_said: str
) -> None:
    study = small_study(training={"rounds": 6} | training)
    told = " ".join(line for section in describe(study) for line in section.lines)
    assert words in told
    assert not_said not in told
