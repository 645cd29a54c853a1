"""Built-in studies: their cohorts are those of the publications, and each one runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from polyclinic_common.data.check import check_table
from polyclinic_common.errors import PolyclinicError
from polyclinic_common.study import Study, load_study
from polyclinic_common.study.features import Numeric
from polyclinic_common.study.outcomes import Survival
from polyclinic_simulations import simulate
from polyclinic_simulations.studies import BUILT_IN, resolve
from polyclinic_simulations.studies.dosing import CLINICAL, PHARMACOGENETIC
from polyclinic_simulations.studies.iwpc.loader import (
    enzyme_inducer,
    filled_vkorc1,
    in_analysis_cohort,
    repaired,
    years,
)
from polyclinic_simulations.studies.registry import HERE, find_study

PUBLIC = ("actg175", "heart", "iwpc", "tcga-brca")
WITHOUT_FOLDER = ("gbsg2", "warfarin")
DOSE = "published pharmacogenetic formula"


def test_built_in_studies_are_named_by_their_id() -> None:
    assert set(BUILT_IN) == {*PUBLIC, *WITHOUT_FOLDER}


def assert_usable_everywhere(study: Study, table: pd.DataFrame) -> None:
    assert set(table[study.cohort.site]) == set(study.roster.sites)
    assert set(study.columns()) <= set(table.columns)
    for site, rows in table.groupby(study.cohort.site):
        assert check_table(study, rows).problems == (), site


def assert_keeps_every_default(study: Study) -> None:
    """One setting of training and privacy serves every study."""
    assert study.privacy.model_fields_set == set()
    assert study.training.model_fields_set == {"ridge", "calibration"}
    assert study.training == find_study("gbsg2").training
    assert study.training.ridge == "release"


@pytest.mark.parametrize("name", WITHOUT_FOLDER)
def test_study_without_folder_is_usable_at_every_site_and_runs(name: str) -> None:
    study, table = resolve(name, None)
    assert_usable_everywhere(study, table)
    assert_keeps_every_default(study)
    assert study.id == name
    assert simulate(name, modes=["none"]).cells[0].mode == "none"


@pytest.mark.realdata
@pytest.mark.parametrize("name", PUBLIC)
def test_public_study_is_usable_at_every_site_and_runs(name: str, realdata: Path) -> None:
    study, table = resolve(name, realdata)
    assert_usable_everywhere(study, table)
    assert_keeps_every_default(study)
    assert study.id == name
    assert simulate(name, realdata, modes=["none"]).cells[0].mode == "none"


@pytest.mark.parametrize("name", PUBLIC)
def test_public_study_without_its_folder_says_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(PolyclinicError) as caught:
        resolve(name, tmp_path)
    assert caught.value.code == "D009"


def errors(table: pd.DataFrame, formula: str) -> tuple[float, float]:
    """Return mean absolute error and share within 20 %, where the formula can be computed."""
    known = table[table[formula].notna()]
    error = (known[formula] - known["dose"]).abs()
    return float(error.mean()), float((error <= 0.2 * known["dose"]).mean())


@pytest.mark.realdata
def test_iwpc_cohort_and_formulas_are_those_of_the_publication(realdata: Path) -> None:
    """The publication has 5,052 patients at 21 sites; the public file holds 16 of them."""
    _, table = resolve("iwpc", realdata)
    assert (len(table), table["site"].nunique()) == (3926, 16)
    assert table[DOSE].notna().sum() == 3063
    assert errors(table, DOSE) == pytest.approx((7.9, 0.46), rel=0.02)
    assert errors(table, "published clinical formula") == pytest.approx((9.7, 0.39), rel=0.02)
    assert errors(table, "published fixed 35 mg") == pytest.approx((13.0, 0.286), rel=0.02)


@pytest.mark.parametrize("column", ["height", "weight"])
def test_iwpc_body_size_is_the_cited_percentiles_rounded_to_tens(column: str) -> None:
    study = load_study(HERE / "iwpc" / "study.toml")
    (feature,) = (f for f in study.cohort.features if f.name == column)
    assert isinstance(feature, Numeric)
    cited = [float(number) for number in re.findall(r"\d+\.\d", feature.source)]
    assert feature.range == tuple(round(number, -1) for number in cited)
    assert "Vital Health Stat 3, no. 50" in feature.source


def test_tcga_brca_starts_from_the_cited_survival() -> None:
    path = HERE / "tcga_brca" / "study.toml"
    outcome = load_study(path).outcome
    assert isinstance(outcome, Survival)
    assert f"{outcome.event_free:.0%}".replace("%", " %") in path.read_text()


@pytest.mark.realdata
def test_actg175_arms_have_the_event_rates_of_the_publication(realdata: Path) -> None:
    study, table = resolve("actg175", realdata)
    assert len(table) == 2139
    rates = table.groupby("arm")["event"].mean()
    expected = {
        "zidovudine": 0.34,
        "zidovudine and didanosine": 0.20,
        "zidovudine and zalcitabine": 0.21,
        "didanosine": 0.23,
    }
    assert rates.round(2).to_dict() == expected
    later = {"cd420", "cd496", "cd820", "offtrt", "r"}
    assert not later & set(table.columns)
    sizes = table.groupby("hospital").size()
    assert sizes.max() > 3 * sizes.min()
    assert study.treatment is not None


@pytest.mark.realdata
def test_tcga_brca_has_the_regions_and_folds_of_flamby(realdata: Path) -> None:
    study, table = resolve("tcga-brca", realdata)
    counts = table.groupby(["region", "split"]).size().unstack()
    train = [248, 156, 164, 129, 129, 40]
    test = [63, 40, 42, 33, 33, 11]
    assert list(counts.loc[list(study.roster.sites), "train"]) == train
    assert list(counts.loc[list(study.roster.sites), "test"]) == test
    assert len(table) == table["patient"].nunique() == 1088
    folds = pd.read_csv(realdata / "tcga_brca" / "train_test_split.csv").set_index("pid")["fold2"]
    numbers = table["region"].map(study.roster.sites.index).astype(str)
    assert list(table["split"] + "_" + numbers) == list(folds[table["patient"]])


def test_warfarin_twin_is_synthetic_says_so_and_never_changes() -> None:
    study, table = resolve("warfarin", None)
    pd.testing.assert_frame_equal(table, resolve("warfarin", None)[1])
    assert study.synthetic
    assert "synthetic" in study.title.lower()
    assert table["patient"].str.startswith("synthetic").all()
    assert table["site"].str.startswith("synthetic").all()
    sizes = table.groupby("site").size()
    assert (len(table), len(sizes)) == (5000, 21)
    assert sizes.max() > 5 * sizes.min()
    assert errors(table, DOSE)[0] == pytest.approx(8.5, abs=0.2)


def test_warfarin_twin_has_ancestries_and_gaps_of_a_consortium() -> None:
    _, table = resolve("warfarin", None)
    effect_alleles = table["vkorc1"].str.count("A") / 2
    by_race = effect_alleles.groupby(table["race"]).mean()
    assert by_race["White"] == pytest.approx(0.39, abs=0.03)
    assert by_race["Asian"] == pytest.approx(0.89, abs=0.03)
    assert by_race["Black or African American"] == pytest.approx(0.12, abs=0.04)
    asian = (table["race"] == "Asian").groupby(table["site"]).mean()
    assert asian.min() < 0.02
    assert asian.max() == 1.0
    never = table["height"].isna().groupby(table["site"]).all()
    assert set(never[never].index) == {f"synthetic site {number}" for number in (9, 10, 13, 18)}


def snps(rows: list[tuple[str | None, ...]]) -> pd.DataFrame:
    columns = ["-1639", "2255", "1173", "1542"]
    names = ["Race (OMB)", *(f"VKORC1 {column} consensus" for column in columns)]
    return pd.DataFrame(rows, columns=names, dtype=object)


def test_vkorc1_is_filled_by_the_published_rule() -> None:
    rows: list[tuple[tuple[str | None, ...], str | None]] = [
        (("White", "A/G", "C/C", "C/C", "G/G"), "A/G"),  # typed: nothing is filled
        (("White", None, "C/C", None, None), "G/G"),
        (("Asian", None, "T/T", None, None), "A/A"),
        (("White", None, "C/T", "C/C", None), "A/G"),  # 2255 goes before 1173
        (("White", None, None, "T/T", "G/G"), "A/A"),  # 1173 goes before 1542
        (("Black or African American", None, "T/T", None, None), None),
        (("Black or African American", None, "T/T", "C/T", None), "A/G"),
        (("Unknown", None, "C/C", None, "C/C"), None),
        (("Unknown", None, None, "C/C", None), "G/G"),
        (("White", None, None, None, "G/G"), "G/G"),
        (("Asian", None, None, None, "C/C"), "A/A"),
        (("Asian", None, None, None, "C/G"), "A/G"),
        (("Black or African American", None, None, None, "C/C"), None),
        (("White", None, None, None, None), None),
    ]
    filled = filled_vkorc1(snps([row for row, _ in rows]))
    assert [None if pd.isna(word) else word for word in filled] == [want for _, want in rows]


TARGET = "Target INR"
INTERVAL = "Estimated Target INR Range Based on Indication"


def test_spreadsheet_dates_become_ranges_again() -> None:
    damaged = pd.DataFrame(
        {"Age": ["19-Oct", "60 - 69", "90+", None], INTERVAL: ["3-Feb", "4-Mar", "2-3.5", None]}
    )
    whole = repaired(damaged)
    assert list(whole["Age"][:3]) == ["10 - 19", "60 - 69", "90+"]
    assert list(whole[INTERVAL][:3]) == ["2-3", "3-4", "2-3.5"]
    np.testing.assert_array_equal(years(whole["Age"]), [15, 65, 95, np.nan])


def test_analysis_cohort_follows_every_clause_of_the_rule() -> None:
    good = {
        "Subject Reached Stable Dose of Warfarin": "1",
        "Therapeutic Dose of Warfarin": "35",
        TARGET: None,
        INTERVAL: "2-3",
        "CYP2C9 consensus": "*1/*1",
        "VKORC1 -1639 consensus": None,
        "VKORC1 497 consensus": "T/T",
    }
    changes: list[tuple[dict[str, str | None], bool]] = [
        ({}, True),
        ({TARGET: "2"}, True),
        ({TARGET: "3"}, True),
        ({TARGET: "1.75"}, False),
        ({TARGET: "3.25"}, False),
        ({INTERVAL: "2.5-3.5"}, False),
        ({INTERVAL: None}, True),
        ({"Subject Reached Stable Dose of Warfarin": "0"}, False),
        ({"Subject Reached Stable Dose of Warfarin": None}, False),
        ({"Therapeutic Dose of Warfarin": None}, False),
        ({"CYP2C9 consensus": None}, False),
        ({"VKORC1 497 consensus": None}, False),
    ]
    table = pd.DataFrame([good | change for change, _ in changes], dtype=object)
    assert list(in_analysis_cohort(table)) == [kept for _, kept in changes]


def test_one_inducer_is_enough_and_none_recorded_is_missing() -> None:
    names = ["Carbamazepine (Tegretol)", "Phenytoin (Dilantin)", "Rifampin or Rifampicin"]
    rows = [("0", "1", None), ("0", None, None), (None, None, None)]
    answers = enzyme_inducer(pd.DataFrame(rows, columns=names, dtype=object))
    assert list(answers[:2]) == ["1", "0"]
    assert pd.isna(answers[2])


def test_formulas_give_hand_computed_doses() -> None:
    """A White man of 65, 170 cm, 80 kg; then an Asian woman on amiodarone, poor metaboliser."""
    patients = pd.DataFrame(
        {
            "age": [65, 75, 65],
            "height": [170.0, 150.0, np.nan],
            "weight": [80.0, 50.0, 80.0],
            "race": ["White", "Asian", None],
            "vkorc1": ["G/G", "A/A", None],
            "cyp2c9": ["*1/*1", "*1/*3", "*1/*11"],
            "amiodarone": ["0", "1", None],
            "enzyme_inducer": [None, "0", "1"],
        }
    )
    first = 5.6044 - 0.2614 * 6 + 0.0087 * 170 + 0.0128 * 80
    second = 5.6044 - 0.2614 * 7 + 0.0087 * 150 + 0.0128 * 50
    second += -0.1092 - 1.6974 - 0.9357 - 0.5503
    np.testing.assert_allclose(PHARMACOGENETIC.root_dose(patients), [first, second, np.nan])
    first = 4.0376 - 0.2546 * 6 + 0.0118 * 170 + 0.0134 * 80
    second = 4.0376 - 0.2546 * 7 + 0.0118 * 150 + 0.0134 * 50 - 0.6752 - 0.5695
    np.testing.assert_allclose(CLINICAL.root_dose(patients), [first, second, np.nan])
