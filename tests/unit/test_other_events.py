"""A third word in an event column is refused by name: competing events are not modelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from polyclinic_common.data.check import check_table, refuse_unusable
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.mapping import apply_mapping
from polyclinic_common.data.rules import Mapping
from polyclinic_common.errors import Code, DataError
from polyclinic_common.evaluation.observed import observe
from polyclinic_simulations import simulate
from tests.kits.small import small_study, small_table

STUDY = small_study("survival")
OTHER = "of something else"


def table(**columns: Any) -> pd.DataFrame:
    """Return a survival table with three deaths of something else."""
    frame = small_table(60).assign(**columns)
    frame["event"] = frame["event"].astype(str)
    frame.loc[frame.index[:3], "event"] = OTHER
    return frame


def mapped(meaning: str) -> pd.DataFrame:
    codes = {OTHER: meaning}
    mapping = Mapping.model_validate({"columns": {"event": {"source": "event", "codes": codes}}})
    return apply_mapping(mapping, table(), STUDY)


def test_a_third_event_word_is_refused_with_a_code_and_both_ways_out() -> None:
    with pytest.raises(DataError) as caught:
        refuse_unusable(STUDY, table())
    assert caught.value.code is Code.EVENT_OTHER
    assert "competing events are not modelled" in str(caught.value)
    (problem,) = caught.value.problems
    assert problem.place == "event"
    assert "3 are neither" in problem.what
    assert "competing event" in problem.what
    (deviation,) = check_table(STUDY, table()).deviations
    assert deviation.lines == (f'missing = ["{OTHER}"]',)
    assert "`codes` to the word for censored" in deviation.otherwise


def test_no_message_holds_the_word_itself() -> None:
    with pytest.raises(DataError) as caught:
        refuse_unusable(STUDY, table())
    assert OTHER not in f"{caught.value} {caught.value.as_dict()}"


def test_one_word_in_one_row_is_enough() -> None:
    frame = small_table(500)
    frame["event"] = frame["event"].astype(str)
    frame.loc[frame.index[7], "event"] = OTHER
    report = check_table(STUDY, frame)
    assert not report.usable
    assert (report.code, report.other_events) == (Code.EVENT_OTHER, 1)


def test_a_simulation_refuses_it_with_the_same_code() -> None:
    with pytest.raises(DataError) as caught:
        simulate(STUDY, table())
    assert caught.value.code is Code.EVENT_OTHER
    assert "competing events are not modelled" in str(caught.value)


def test_a_mapping_to_censored_keeps_the_patients_until_then() -> None:
    frame = mapped("0")
    assert refuse_unusable(STUDY, frame).without_outcome == 0
    seen = observe(STUDY, frame)
    assert np.array_equal(seen.value[:3], frame["days"].to_numpy(float)[:3])
    assert not seen.event[:3].any()


def test_a_mapping_to_nothing_leaves_them_out() -> None:
    frame = mapped("")
    assert refuse_unusable(STUDY, frame).without_outcome == 3
    assert np.isnan(observe(STUDY, frame).value[:3]).all()
    assert not Encoding(STUDY).encode(frame, "site 0").mask[:3].any()


def test_a_missing_event_is_no_third_word() -> None:
    frame = small_table(60).astype({"event": object})
    frame.loc[frame.index[:3], "event"] = None
    assert check_table(STUDY, frame).usable


def test_an_event_column_that_is_not_mapped_yet_is_refused_as_such() -> None:
    words = small_table(60)["event"].astype(str).map({"1": "dead", "0": "alive"})
    with pytest.raises(DataError) as caught:
        refuse_unusable(STUDY, small_table(60).assign(event=words))
    assert caught.value.code is Code.DATA_UNUSABLE
    assert any("known outcome" in problem.what for problem in caught.value.problems)


def test_a_third_word_of_another_column_is_no_competing_event() -> None:
    frame = small_table(60)
    frame.loc[frame.index[:3], "sex"] = OTHER
    report = check_table(STUDY, frame)
    assert (report.code, report.other_events) == (Code.DATA_UNUSABLE, 0)


def test_negative_times_are_unknown_in_evaluation_as_they_are_in_training() -> None:
    frame = small_table(60).astype({"days": float})
    frame.loc[frame.index[:3], "days"] = -1.0
    assert np.isnan(observe(STUDY, frame).value[:3]).all()
    assert not Encoding(STUDY).encode(frame, "site 0").mask[:3].any()
