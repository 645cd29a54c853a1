"""`simulate` as a notebook calls it: paths as text, odd tables answered with a code."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from polyclinic_common.errors import Code, DataError
from polyclinic_simulations import simulate
from tests.kits.small import small_study, small_table


@pytest.mark.parametrize("kind", [str, Path])
def test_the_output_folder_may_be_text_or_a_path(kind: type, tmp_path: Path) -> None:
    simulate(small_study(), small_table(), modes=["none"], out=kind(tmp_path / "out"))
    assert (tmp_path / "out" / "result.json").exists()


def test_manifest_table_and_start_may_be_text(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    small_table().to_csv(table, index=False)
    manifest = Path("common/polyclinic_common/study/template.toml")
    with pytest.raises(DataError):  # the table is read, and is another study's
        simulate(str(manifest), str(table))
    (tmp_path / "start.json").write_text('{"age": 0.4}')
    result = simulate(
        small_study(), small_table(), modes=["none"], start=str(tmp_path / "start.json")
    )
    assert result.warm_start == "start.json"


def test_a_column_of_lists_gives_a_coded_error() -> None:
    visits = pd.Series([[1, 2], [3]] * 60)
    with pytest.raises(DataError) as caught:
        simulate(small_study(), small_table().assign(visits=visits), modes=["none"])
    assert caught.value.code is Code.DATA_UNUSABLE
    assert "'visits'" in caught.value.what
