"""Whoever accepts what is proposed gets in: at most three rounds, each with less to say."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyclinic_common.data.check import report_table
from polyclinic_common.data.deviation import FILL_IN
from polyclinic_common.data.mapping import first_mapping, parse_mapping, translate
from polyclinic_common.data.propose import propose, without_proposals
from polyclinic_common.data.report import CheckReport
from polyclinic_common.errors import DataError
from polyclinic_common.study import Study
from tests.kits.door_studies import (
    binary_study,
    binary_table,
    dose_study,
    dose_table,
    survival_study,
    survival_table,
)

pytestmark = pytest.mark.slow

ROUNDS = 3
Change = Callable[[str], str]


def report(study: Study, frame: pd.DataFrame, text: str) -> CheckReport:
    mapping = parse_mapping(text, "map.toml")
    return report_table(study, translate(mapping, frame, study), mapping)


def accept(text: str) -> str:
    return "\n".join(line.removeprefix("# ") for line in text.splitlines())


def by_hand(text: str, reports: list[CheckReport]) -> bool:
    """Say whether a person must write something: what to fill in, or lines in effect to change.

    Columns that a mapping names already and that were probably exchanged have no line to add.
    """
    left = reports[-1].deviations if reports else ()
    return FILL_IN in text or any("exchanged" in each.cause and not each.lines for each in left)


def rounds(study: Study, frame: pd.DataFrame, text: str = "") -> tuple[list[CheckReport], str]:
    """Accept everything, again and again; return what was reported, and the last mapping."""
    reports = [report(study, frame, text)]
    while not reports[-1].usable and len(reports) <= ROUNDS + 1:
        text = accept(propose(without_proposals(text), reports[-1].deviations))
        if FILL_IN in text:
            break
        reports.append(report(study, frame, text))
    return reports, text


CELLS: dict[str, Change] = {
    "age": lambda v: v + " years",
    "height": lambda v: f"{float(v) / 100:.2f}",
    "crp": lambda v: v.replace(".", ","),
    "weight": lambda _: "-9",
    "sex": lambda v: {"female": "w", "male": "m"}[v],
    "smoking": str.upper,
    "amiodarone": lambda v: {"0": "nein", "1": "ja"}[v],
    "vkorc1": lambda v: v.replace("/", ";"),
    "cyp2c9": lambda v: v.replace("*1", "*1A"),
    "dose": lambda _: "999",
}
OTHERS = ("?!", "n.d.", "unknown", "<5", "90+", "-1", "1e400", "\u200b", "'", '"', "a\\b", "ß\x7f")
NAMES = {"patient": "MRN", "age": "Alter", "weight": "weight_lb", "sex": "Geschlecht"}


@st.composite
def messy(draw: st.DrawFn) -> pd.DataFrame:
    """Return the faultless table with deviations of several kinds, in one cell or in all."""
    rows = draw(st.sampled_from([9, 40]))
    frame = dose_table(rows)
    for column in draw(st.sets(st.sampled_from(sorted(CELLS)), max_size=5)):
        most = 0.5 if column == "dose" else 1.0  # without any outcome there is nothing to settle
        share = draw(st.sampled_from([1 / rows, 0.3, most]))
        chosen = np.arange(rows) < max(1, round(share * rows))
        frame.loc[chosen, column] = frame.loc[chosen, column].map(CELLS[column])
    for column in draw(st.sets(st.sampled_from(sorted(CELLS)), max_size=3)):
        frame.loc[draw(st.integers(0, rows - 1)), column] = draw(st.sampled_from(OTHERS))
    if draw(st.booleans()):
        frame = pd.concat([frame, frame.head(2)], ignore_index=True)
    if draw(st.booleans()):
        frame.loc[len(frame)] = ["Total", *[""] * (frame.shape[1] - 1)]
    renamed = draw(st.sets(st.sampled_from(sorted(NAMES)), max_size=2))
    frame = frame.rename(columns={column: NAMES[column] for column in renamed})
    return frame.drop(columns=draw(st.sets(st.sampled_from(["crp", "cyp2c9"]), max_size=2)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(frame=messy())
def test_after_accepting_everything_there_is_less_and_three_rounds_end_usable(
    frame: pd.DataFrame,
) -> None:
    reports, text = rounds(dose_study(), frame)
    if by_hand(text, reports):
        return  # a person has to write what nobody can know; see below
    assert reports[-1].usable, (text, reports[-1].deviations)
    assert len(reports) - 1 <= ROUNDS
    for before, after in pairwise(reports):
        said = {(each.place, each.what, each.lines) for each in before.deviations}
        assert not said & {(each.place, each.what, each.lines) for each in after.deviations}


def drafted(study: Study, frame: pd.DataFrame) -> str:
    """Return what `data map` writes."""
    text = first_mapping(study, list(frame.columns))
    return propose(text, report(study, frame, text).deviations)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(frame=messy())
def test_who_accepts_all_that_data_map_writes_ends_usable_too(frame: pd.DataFrame) -> None:
    text = accept(drafted(dose_study(), frame))
    if by_hand(text, []):
        return
    reports, text = rounds(dose_study(), frame, text)
    assert by_hand(text, reports) or reports[-1].usable, (text, reports[-1].deviations)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(frame=messy(), data=st.data())
def test_what_was_left_unaccepted_is_proposed_again_and_breaks_nothing(
    frame: pd.DataFrame, data: st.DataObject
) -> None:
    """Accepted section by section, in any order: the file stays one that can be read."""
    text = drafted(dose_study(), frame)
    for _ in range(2):
        parts = text.split("\n\n")
        chosen = data.draw(st.lists(st.booleans(), min_size=len(parts), max_size=len(parts)))
        text = "\n\n".join(
            accept(part) if yes else part for part, yes in zip(parts, chosen, strict=True)
        )
        if FILL_IN in accept(text):
            return
        text = propose(without_proposals(text), report(dose_study(), frame, text).deviations)
    text = accept(text)
    if FILL_IN not in text:
        reports, text = rounds(dose_study(), frame, text)
        assert by_hand(text, reports) or reports[-1].usable, (text, reports[-1].deviations)


def test_what_a_person_wrote_stays_and_only_proposals_go() -> None:
    text = """# Extract of the ward, 2024
[columns.sex]
source = "sex"  # as the ward writes it
## 3 are words that the study does not know.
# missing = ["?!"]

# [columns.age]
## 7 values are out of range.
# outside = "missing"

## feature; numeric
# our own remark
"""
    assert (
        without_proposals(text)
        == """# Extract of the ward, 2024
[columns.sex]
source = "sex"  # as the ward writes it

## feature; numeric
# our own remark"""
    )


def test_codes_to_fill_in_are_asked_for_by_name() -> None:
    frame = dose_table().assign(sex=lambda f: f["sex"].map({"female": "A", "male": "B"}))
    _, text = rounds(dose_study(), frame)
    assert FILL_IN in text
    with pytest.raises(DataError) as caught:
        report(dose_study(), frame, text)
    assert "female, male" in caught.value.problems[0].remedy


# Nothing that stands in a cell is quoted where others may read


CELL = "Zq9"
KINDS: dict[str, tuple[Study, pd.DataFrame]] = {
    "words": (dose_study(), dose_table().assign(sex=CELL)),
    "few words": (dose_study(), dose_table().assign(smoking=[CELL] + ["never"] * 199)),
    "genotypes": (dose_study(), dose_table().assign(vkorc1=CELL, cyp2c9=CELL)),
    "no numbers": (dose_study(), dose_table().assign(weight=CELL)),
    "bounds": (dose_study(), dose_table().assign(crp="<4711")),
    "units": (dose_study(), dose_table().assign(crp="4711 Zq9")),
    "commas": (dose_study(), dose_table().assign(crp="47,11")),
    "out of range": (dose_study(), dose_table().assign(weight="4711")),
    "codes": (dose_study(), dose_table().assign(weight=["-9999"] + ["70"] * 199)),
    "event": (survival_study(), survival_table().assign(event=CELL)),
    "third event": (survival_study(), survival_table().assign(event=["0", "1", CELL, "1"] * 100)),
    "times": (survival_study(), survival_table().assign(days="4711")),
    "repeated": (binary_study(), binary_table().assign(patient=["Zq9", "zQ9 "] * 100)),
    "shortened": (binary_study(), binary_table().assign(patient="4.711E+11")),
    "content": (
        binary_study(),
        binary_table().assign(
            patient=[CELL, *[f"p{n}" for n in range(199)]],
            **{name: ["", *["no"] * 199] for name in ("prior", "response")},
            age=["", *["50"] * 199],
        ),
    ),
    "absent": (binary_study(), binary_table().drop(columns="prior").assign(other=CELL)),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_no_error_quotes_a_cell_and_the_hospitals_own_report_shows_at_most_five(kind: str) -> None:
    study, frame = KINDS[kind]
    found = report(study, frame, "")
    assert found.deviations
    with pytest.raises(DataError) as caught:
        found.require_usable()
    said: Any = [str(caught.value), caught.value.as_dict(), [str(p) for p in found.problems]]
    for cell in (CELL, CELL.lower(), "4711", "47,11", "4.711", "9999"):
        assert cell not in json.dumps(said, ensure_ascii=False)
    for each in found.as_dict()["deviations"]:
        assert len(each["examples"]) <= 5
        assert all(len(example) <= 20 for example in each["examples"])
        assert CELL not in each["what"] + each["cause"] + each["place"]


def test_errors_of_a_mapping_quote_no_other_code() -> None:
    """The keys of codes are cells of the table; the one that stands in none is named."""
    frame = dose_table().assign(sex=[CELL, *["male"] * 199])
    codes = f'codes = {{ "{CELL}" = "female", "Xy" = "male" }}'
    with pytest.raises(DataError) as caught:
        report(dose_study(), frame, f'[columns.sex]\nsource = "sex"\n{codes}')
    assert "'Xy' stands in no cell" in str(caught.value.as_dict())
    assert CELL not in str(caught.value.as_dict())
    with pytest.raises(DataError) as caught:
        parse_mapping(f'[columns.sex]\nsource = "sex"\ncodes = {{ "{CELL}" = 1 }}', "map.toml")
    assert CELL not in str(caught.value.as_dict())
    assert "columns.sex.codes" in str(caught.value.as_dict())
