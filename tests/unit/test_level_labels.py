"""Labels name coded levels for readers: they change no hash where absent, and no encoding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import StudyError
from polyclinic_common.releases.plain_words import describe
from polyclinic_common.study import parse_study
from polyclinic_common.study.plain_words import group_in_words, treatment_in_words
from tests.kits.small import small_table, study_data

LABELS = {"female": "women", "male": "men"}


def data_with(labels: dict[str, str] | None) -> dict[str, Any]:
    data = study_data()
    if labels is not None:
        data["cohort"]["features"][1]["labels"] = labels
    return data


def test_a_study_without_labels_keeps_its_canonical_form() -> None:
    study = parse_study(data_with(None), "study.toml")
    assert "labels" not in str(study.canonical())
    assert parse_study(data_with({}), "study.toml").hash() == study.hash()


def test_a_labelled_study_reads_back_from_its_canonical_form() -> None:
    study = parse_study(data_with(LABELS), "study.toml")
    again = parse_study(study.canonical(), "study.toml")
    assert again.cohort == study.cohort
    assert again.hash() == study.hash() != parse_study(data_with(None), "study.toml").hash()


def test_labels_change_no_encoding() -> None:
    table = small_table()
    bare, labelled = (
        Encoding(parse_study(data_with(labels), "study.toml")).encode(table, "site 0").x
        for labels in (None, LABELS)
    )
    np.testing.assert_array_equal(bare, labelled)


def test_readers_see_labels_beside_the_codes() -> None:
    data = data_with(LABELS)
    data["treatment"] = {
        "kind": "arms",
        "column": "arm",
        "arms": ["0", "1"],
        "labels": {"0": "zidovudine", "1": "didanosine"},
        "assignment": "randomised",
        "source": "protocol",
    }
    study = parse_study(data, "study.toml")
    shown = " ".join(line for section in describe(study) for line in section.lines)
    assert "categorical: female (women), male (men)" in shown
    assert "0 (zidovudine) or 1 (didanosine)" in treatment_in_words(study)
    assert group_in_words(study, "sex = female") == "sex = women"
    assert group_in_words(study, "age < 50") == "age < 50"


@pytest.mark.parametrize("labels", [{"other": "women"}, {"female": "same", "male": "same"}])
def test_labels_of_no_level_and_two_alike_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(StudyError) as refused:
        parse_study(data_with(labels), "study.toml")
    assert any("labels" in problem.what for problem in refused.value.problems)
