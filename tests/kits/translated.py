"""What a table becomes under a mapping, and whether that is what the clean table becomes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from polyclinic_common.data.check import check_table
from polyclinic_common.data.deviation import FILL_IN
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.mapping import parse_mapping, translate
from polyclinic_common.data.propose import propose
from polyclinic_common.data.report import CheckReport
from polyclinic_common.evaluation.observed import observe
from polyclinic_common.study import Study


def checked(study: Study, frame: pd.DataFrame, text: str = "") -> CheckReport:
    mapping = parse_mapping(text, "map.toml")
    done = translate(mapping, frame, study)
    return check_table(study, done.frame, mapping)


def accepted(study: Study, frame: pd.DataFrame, text: str = "") -> str:
    """Return the mapping in which a person has accepted every proposal."""
    proposals = propose(text, checked(study, frame, text).deviations)
    lines = [line.removeprefix("# ") for line in proposals.splitlines()]
    return "\n".join(lines)


def assert_same_as_clean(
    study: Study, frame: pd.DataFrame, clean: pd.DataFrame, text: str = "", answer: str = ""
) -> None:
    """Refused as it stands; with the proposals accepted, exactly the result of the clean table.

    `answer` is what a person fills in where only a person can know.
    """
    report = checked(study, frame, text)
    assert not report.usable
    assert all(each.lines and each.count for each in report.deviations)
    written = accepted(study, frame, text).replace(FILL_IN, answer)
    mapping = parse_mapping(written, "map.toml")
    done = translate(mapping, frame, study)
    assert check_table(study, done.frame, mapping).usable, written
    got, wanted = (Encoding(study).encode(each, "site 0") for each in (done.frame, clean))
    np.testing.assert_allclose(got.x, wanted.x, atol=1e-9)
    np.testing.assert_allclose(got.y, wanted.y, atol=1e-9)
    np.testing.assert_array_equal(got.mask, wanted.mask)
    np.testing.assert_allclose(
        observe(study, done.frame).value, observe(study, clean).value, rtol=1e-9
    )


def some(frame: pd.DataFrame, share: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    chosen = np.zeros(len(frame), dtype=np.bool_)
    chosen[: max(1, round(share * len(frame)))] = True
    return chosen


def put(frame: pd.DataFrame, column: str, values: Any, rows: Any) -> pd.DataFrame:
    """Return a copy with `values` in some rows of a column."""
    changed = frame.copy()
    changed.loc[rows, column] = values if isinstance(values, str) else values[rows]
    return changed
