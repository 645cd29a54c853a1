"""A simulation reads the mapping of `data check`, refuses the same, and says what was settled."""

from __future__ import annotations

import pandas as pd
import pytest

from polyclinic_common.data.mapping import parse_mapping
from polyclinic_common.errors import DataError
from polyclinic_simulations import simulate
from polyclinic_simulations.draft.from_table import Roles, several_rows
from polyclinic_simulations.draft.mapped import translate_hospitals
from tests.kits.small import small_study, small_table


def test_a_mapping_gives_the_result_of_the_clean_table_and_without_it_is_refused() -> None:
    study, clean = small_study(), small_table()
    messy = clean.assign(sex=clean["sex"].map({"female": "w", "male": "m"}))
    messy = pd.concat([messy, messy.head(3)], ignore_index=True)
    rules = parse_mapping(
        '[patients]\nrows = "first"\n[columns.sex]\nsource = "sex"\n'
        'codes = { "w" = "female", "m" = "male" }',
        "map.toml",
    )
    with pytest.raises(DataError) as caught:
        simulate(study, messy, modes=["none"])
    assert "data check --propose" in str(caught.value.problems)
    told = translate_hospitals(rules, messy, study)
    assert {(each.rule, each.count) for each in told.settled} == {("codes", 123), ("rows", 6)}
    done, wanted = (
        simulate(study, frame, mapping=mapping, modes=["none"]).cells[0].test
        for frame, mapping in ((messy, rules), (clean, None))
    )
    assert done.overall == wanted.overall


def test_several_rows_without_a_patient_column_give_a_warning() -> None:
    frame = pd.concat([small_table(9), small_table(9)]).rename(columns={"patient": "record_id"})
    said = several_rows(frame, Roles("hospital", "response"))
    assert "18 of 18 rows" in said
    assert "--patient-column record_id" in said
    assert not several_rows(frame, Roles("hospital", "response", patient="record_id"))
    assert not several_rows(small_table(9), Roles("hospital", "response"))
