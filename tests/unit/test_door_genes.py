"""Genotypes and patient numbers at the door: the right value, or a question to a person."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from polyclinic_common.data.check import check_table
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.genotype import diplotype_copies, other_strand
from polyclinic_common.data.mapping import parse_mapping, translate
from polyclinic_common.errors import DataError
from polyclinic_common.study import Study
from polyclinic_common.study.features import Diplotype
from tests.unit.door_kit import _study, binary_study, binary_table, dose_study, dose_table
from tests.unit.test_door_values import accepted, assert_same_as_clean, checked, put, some

SWAPPED = {"C/C": "G/G", "C/T": "A/G", "T/T": "A/A"}
COPIES = {"C/C": 0.0, "C/T": 1.0, "T/T": 2.0}
VKORC1 = '[columns.vkorc1]\nsource = "vkorc1"\n'


def copies(study: Study, frame: pd.DataFrame, text: str = "") -> list[float]:
    """Return copies of T of every patient, NaN where missing, as training sees them."""
    done = translate(parse_mapping(text, "m"), frame, study)
    encoding = Encoding(study)
    x = encoding.encode(done.frame, "site 0").x * encoding.row_scale
    at = encoding.columns.index("vkorc1")
    return [float(v) for v in np.where(x[:, at + 1] == 1.0, np.nan, x[:, at] + 1.0)]


def palindromic_study() -> Study:
    snp = {"name": "vkorc1", "kind": "snp", "reference": "C", "effect": "G", "source": "rs8050894"}
    return _study("binary", [snp])


def palindromic_table() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    return binary_table(50).assign(vkorc1=rng.choice(["C/C", "C/G", "G/G"], 50))


def test_a_column_that_fits_on_the_other_strand_is_turned_by_one_line() -> None:
    clean = dose_table()
    spoilt = clean.assign(vkorc1=clean["vkorc1"].map(SWAPPED))
    assert_same_as_clean(dose_study(), spoilt, clean)
    text = accepted(dose_study(), spoilt)
    assert 'strand = "other"' in text
    assert copies(dose_study(), spoilt, text) == [COPIES[word] for word in clean["vkorc1"]]


@pytest.mark.parametrize("share", [0.005, 0.4, 0.9])
def test_mixed_strands_are_refused_with_counts_and_no_line(share: float) -> None:
    clean = dose_table()
    spoilt = put(clean, "vkorc1", clean["vkorc1"].map(SWAPPED), some(clean, share))
    number = int(some(clean, share).sum())
    (found,) = checked(dose_study(), spoilt).deviations
    assert found.count == number
    assert f"{200 - number} on the stated one only" in found.what
    assert not found.lines
    for strand in ("same", "other"):
        assert not checked(dose_study(), spoilt, f'{VKORC1}strand = "{strand}"').usable


def test_a_palindromic_snp_asks_for_the_strand_and_counts_by_the_answer() -> None:
    study, table = palindromic_study(), palindromic_table()
    (found,) = checked(study, table).deviations
    assert found.lines == ('strand = "same"',)
    of_g = [float(word.count("G")) for word in table["vkorc1"]]
    for strand, wanted in (("same", of_g), ("other", [2.0 - n for n in of_g])):
        text = f'{VKORC1}strand = "{strand}"'
        assert checked(study, table, text).usable
        assert copies(study, table, text) == wanted


def test_what_a_code_says_is_in_the_study_s_strand_already() -> None:
    frame = dose_table(10).assign(vkorc1=["A/A"] * 9 + ["mut"])
    text = f'{VKORC1}strand = "other"\ncodes = {{ "mut" = "C/T" }}'
    assert copies(dose_study(), frame, text) == [2.0] * 9 + [1.0]


def test_a_strand_is_for_snps_alone() -> None:
    with pytest.raises(DataError) as caught:
        checked(dose_study(), dose_table(), '[columns.sex]\nsource = "sex"\nstrand = "other"')
    assert "A strand needs a SNP" in caught.value.problems[0].what


@pytest.mark.parametrize(
    ("word", "turned"),
    [("C/T", "G/A"), ("ct", "ga"), ("AT/A", "AT/T"), ("./.", "./."), ("NC", "NC"), ("cat", "atg")],
)
def test_the_other_strand_of_a_word(word: str, turned: str) -> None:
    assert other_strand(word) == turned


@pytest.mark.parametrize("cell", ["C/T", "C|T", "c:t", "CT", " t/c ", "C , T"])
def test_spellings_of_one_copy_are_read_as_they_stand(cell: str) -> None:
    frame = put(dose_table(), "vkorc1", cell, some(dose_table(), 0.5))
    assert checked(dose_study(), frame).usable
    assert copies(dose_study(), frame)[:100] == [1.0] * 100


@pytest.mark.parametrize(
    "cell",
    [
        "C;T",
        "C-T",
        "[C];[T]",
        "rs9923231C/rs9923231T",
        "rs9923231 reference (C)/rs9923231 variant (T)",
    ],
)
def test_notations_of_laboratories_are_one_copy_once_accepted(cell: str) -> None:
    frame = put(dose_table(), "vkorc1", cell, some(dose_table(), 0.1))
    assert not checked(dose_study(), frame).usable
    assert copies(dose_study(), frame, accepted(dose_study(), frame))[:20] == [1.0] * 20


@pytest.mark.parametrize(
    "cell",
    [
        "./.",
        ".|.",
        "NC",
        "no call",
        "--",
        "00",
        "N/N",
        "C/.",
        "C",
        "C>T",
        "0/1",
        "0/0",
        "1",
        "C/T/T",
    ],
)
def test_no_calls_half_calls_and_numbers_are_never_counted(cell: str) -> None:
    frame = put(dose_table(), "vkorc1", cell, some(dose_table(), 0.1))
    assert not checked(dose_study(), frame).usable
    assert np.isnan(copies(dose_study(), frame)[:20]).all()
    assert np.isnan(copies(dose_study(), frame, accepted(dose_study(), frame))[:20]).all()


@pytest.mark.parametrize(
    "cell",
    [
        "*1x2",
        "*1x2/*1",
        "*2XN/*1",
        "*1/*2x2",
        "*1/*2 or *3/*3",
        "*1/*2;*1/*3",
        "*1/*13",
        "*1/*2+*3",
        "*2+*3",
    ],
)
def test_copy_numbers_ambiguous_and_unknown_alleles_are_never_two_alleles(cell: str) -> None:
    feature = Diplotype(name="cyp2c9", kind="diplotype", alleles=("*2", "*3"), source="PharmVar")
    assert np.isnan(diplotype_copies(feature, pd.Series([cell]))).all()
    frame = put(dose_table(), "cyp2c9", cell, some(dose_table(), 0.1))
    text = accepted(dose_study(), frame)
    done = translate(parse_mapping(text, "m"), frame, dose_study())
    assert np.isnan(diplotype_copies(feature, done.frame["cyp2c9"].head(20))).all()


@pytest.mark.parametrize("cell", ["*1/*3", "1/3", "*3/*1", "*1|*3", "*1 / *3"])
def test_star_alleles_are_read_in_any_order(cell: str) -> None:
    feature = Diplotype(name="cyp2c9", kind="diplotype", alleles=("*2", "*3"), source="PharmVar")
    assert diplotype_copies(feature, pd.Series([cell])).tolist() == [[0.0, 1.0]]


# Patient numbers


def numbered(numbers: list[str]) -> pd.DataFrame:
    return binary_table(len(numbers)).assign(patient=numbers)


def codes(seed: int = 1) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{n:06d}" for n in rng.choice(1_000_000, 200, replace=False)]


def test_zeros_that_a_spreadsheet_took_are_put_back_by_their_line() -> None:
    whole = codes()
    spoilt = numbered([str(int(each)) for each in whole])
    (found,) = checked(binary_study(), spoilt).deviations
    assert found.count == sum(each.startswith("0") for each in whole)
    assert found.lines == ("width = 6",)
    assert_same_as_clean(binary_study(), spoilt, numbered(whole))
    text = accepted(binary_study(), spoilt)
    done = translate(parse_mapping(text, "m"), spoilt, binary_study())
    assert done.frame["patient"].tolist() == whole
    as_is = '[columns.patient]\nsource = "patient"\nas_is = true'
    assert checked(binary_study(), spoilt, as_is).usable


def test_a_zero_that_is_left_tells_of_those_that_were_taken() -> None:
    frame = numbered(["00120", "31415", *(str(n) for n in range(200, 250))])
    (found,) = checked(binary_study(), frame).deviations
    assert (found.count, found.lines) == (50, ("width = 5",))


def test_one_patient_with_and_without_zeros_is_one_patient() -> None:
    frame = numbered(["00123", "123", *(f"{n:05d}" for n in range(40_000, 40_050))])
    found = checked(binary_study(), frame, "[patients]\nwidth = 5")
    assert found.duplicate_rows == 2
    assert not found.usable


@pytest.mark.parametrize(
    "numbers",
    [
        [str(n) for n in range(1, 1001)],
        [str(n) for n in range(9_900, 10_900)],
        ["7", "12", "340", *(str(n) for n in range(1_500, 9_500, 400))],
        [f"p{n}" for n in range(5, 200)],
        [f"{n:04d}" for n in range(100)],
        ["7", "12", "340", "9120"],
    ],
)
def test_numbers_that_count_up_have_lost_nothing(numbers: list[str]) -> None:
    assert checked(binary_study(), numbered(numbers)).usable


def test_who_objected_is_found_by_the_widened_number_too() -> None:
    whole = codes()
    gone = next(each for each in whole if each.startswith("0"))
    frame = numbered([str(int(each)) for each in whole])
    for written in (gone, str(int(gone)), f" {gone}\u200b"):
        text = f'[patients]\nwidth = 6\nexclude = ["{written}"]'
        done = translate(parse_mapping(text, "m"), frame, binary_study())
        assert gone not in set(done.frame["patient"])
        assert len(done.frame) == 199
        assert check_table(binary_study(), done.frame, parse_mapping(text, "m")).usable
