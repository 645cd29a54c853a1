"""Genotypes and patient numbers at the door: the right value, or a question to a person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from polyclinic_common.data.check import check_table
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.genotype import diplotype_copies, hla_copies, other_strand
from polyclinic_common.data.mapping import parse_mapping, translate
from polyclinic_common.data.natural import columns_in_units
from polyclinic_common.errors import DataError
from polyclinic_common.models.coefficients import rows_of
from polyclinic_common.models.matching import UnlikeError, link
from polyclinic_common.models.vectors import load_model
from polyclinic_common.study import Study
from polyclinic_common.study.features import Diplotype, Hla
from polyclinic_simulations import simulate
from tests.kits import door_tables as made
from tests.kits.door import Door
from tests.kits.door_studies import _study, binary_study, binary_table, dose_study, dose_table
from tests.kits.translated import accepted, assert_same_as_clean, checked, put, some

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


def left_out(study: Study, frame: pd.DataFrame) -> str:
    """Return the accepted mapping in which every word that is asked for has no value."""
    text = accepted(study, frame)
    if "FILL IN" in text:
        with pytest.raises(DataError):
            translate(parse_mapping(text, "m"), frame, study)
    return text.replace('"FILL IN"', '""')


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
def test_mixed_strands_are_refused_with_counts_and_can_be_left_out(share: float) -> None:
    clean = dose_table()
    spoilt = put(clean, "vkorc1", clean["vkorc1"].map(SWAPPED), some(clean, share))
    number = int(some(clean, share).sum())
    (found,) = checked(dose_study(), spoilt).deviations
    assert found.count == number
    assert f"{200 - number} on the stated one only" in found.what
    assert "strand" not in str(found.lines)
    without = clean.assign(vkorc1=clean["vkorc1"].where(~some(clean, share)))
    assert_same_as_clean(dose_study(), spoilt, without)
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
    assert np.isnan(copies(dose_study(), frame, left_out(dose_study(), frame))[:20]).all()


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
    text = left_out(dose_study(), frame)
    done = translate(parse_mapping(text, "m"), frame, dose_study())
    assert np.isnan(diplotype_copies(feature, done.frame["cyp2c9"].head(20))).all()


@pytest.mark.parametrize("cell", ["*1/*3", "1/3", "*3/*1", "*1|*3", "*1 / *3"])
def test_star_alleles_are_read_in_any_order(cell: str) -> None:
    feature = Diplotype(name="cyp2c9", kind="diplotype", alleles=("*2", "*3"), source="PharmVar")
    assert diplotype_copies(feature, pd.Series([cell])).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    "cell",
    ["CYP2C9*1/*3", "CYP2C9 *1/*3", "CYP2C9*1/CYP2C9*3", "cyp2c9*3|*1", "CYP2C9*1 CYP2C9*3"],
)
def test_star_alleles_behind_their_gene_are_read_as_they_stand(cell: str) -> None:
    feature = Diplotype(name="cyp2c9", kind="diplotype", alleles=("*2", "*3"), source="PharmVar")
    assert diplotype_copies(feature, pd.Series([cell])).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("cell", ["CYP2D6*1/*3", "XCYP2C9*1/*3", "CYP2C9*1/CYP2D6*3", "CYP2C9*1"])
def test_star_alleles_of_another_gene_are_not_read(cell: str) -> None:
    feature = Diplotype(name="cyp2c9", kind="diplotype", alleles=("*2", "*3"), source="PharmVar")
    assert np.isnan(diplotype_copies(feature, pd.Series([cell]))).all()


@pytest.mark.parametrize(
    ("column", "cell", "line"),
    [
        ("vkorc1", "0/1", 'codes = { "0/1" = "FILL IN" }'),
        ("vkorc1", "2", 'codes = { "2" = "FILL IN" }'),
        ("cyp2c9", "*1/*2x1", 'codes = { "*1/*2x1" = "FILL IN" }'),
        ("vkorc1", "N/N", 'missing = ["N/N"]'),
        ("cyp2c9", "no call", 'missing = ["no call"]'),
    ],
)
def test_a_genotype_of_another_notation_is_asked_for_and_no_call_is_missing(
    column: str, cell: str, line: str
) -> None:
    frame = put(dose_table(), column, cell, some(dose_table(), 0.1))
    (found,) = checked(dose_study(), frame).deviations
    assert found.lines == (line,)


# HLA alleles

HLA = Hla(
    name="hla_b", kind="hla", gene="HLA-B", alleles=("*57:01", "*15:02"), source="IPD-IMGT/HLA"
)


def hla_study() -> Study:
    return _study("binary", [HLA.model_dump(mode="json")])


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("HLA-B*57:01/HLA-B*15:02", [1.0, 1.0]),
        ("B*57:01/B*07:02", [1.0, 0.0]),
        ("*57:01/*07:02", [1.0, 0.0]),
        ("57:01/07:02", [1.0, 0.0]),
        ("*15:02|*15:02", [0.0, 2.0]),
        ("*57:01, *57:01", [2.0, 0.0]),
        ("B*57:01;B*15:02", [1.0, 1.0]),
        ("HLA-B *57:01 HLA-B *07:02", [1.0, 0.0]),
        ("*57:01:01:01/*15:02:01", [1.0, 1.0]),
        ("hla-b*07:02/hla-b*08:01", [0.0, 0.0]),
        ("*57:101/*15:021", [0.0, 0.0]),
        ("*57:03/*15:01", [0.0, 0.0]),
    ],
)
def test_two_hla_alleles_are_copies_of_those_declared(cell: str, wanted: list[float]) -> None:
    assert hla_copies(HLA, pd.Series([cell])).tolist() == [wanted]


NO_HLA = [
    "*57/*07:02", "B*5701/B*0702", "5701/0702", "HLA-A*57:01/HLA-A*02:01", "B*57:01/C*07:02",
    "*57:01N/*07:02", "*57:01:01:02Q/*07:02", "*57:01L/*07:02", "*57:01S/*07:02", "*57:01",
    "*57:01/", "*57:01/*07:02/*08:01", "57:01:07:02", "B57/B7", "DRB*57:01/DRB*07:02",
    "*57:01/-", "57 01/07 02", "*57:01+*07:02", "*57:1/*07:2", "", "NA",
]  # fmt: skip


@pytest.mark.parametrize("cell", NO_HLA)
def test_what_names_no_two_alleles_of_the_gene_is_not_understood(cell: str) -> None:
    assert np.isnan(hla_copies(HLA, pd.Series([cell]))).all()


def hla_table(rows: int = 200) -> pd.DataFrame:
    cells = np.random.default_rng(7).choice(
        ["*57:01/*07:02", "*15:02/*15:02", "*07:02/*08:01"], rows
    )
    return binary_table(rows).assign(hla_b=cells)


def test_hla_alleles_that_are_not_understood_refuse_the_table_until_somebody_says() -> None:
    study, clean = hla_study(), hla_table()
    assert checked(study, clean).usable
    frame = put(clean, "hla_b", "B*5701/B*0702", some(clean, 0.1))
    (found,) = checked(study, frame).deviations
    assert found.lines == ('codes = { "B*5701/B*0702" = "FILL IN" }',)
    for lines in ('codes = { "B*5701/B*0702" = "*57:01/*07:02" }', 'others = "missing"'):
        assert checked(study, frame, f'[columns.hla_b]\nsource = "hla_b"\n{lines}').usable


def test_hla_copies_are_encoded_and_count_per_copy_in_natural_units() -> None:
    study, frame = hla_study(), hla_table(10)
    frame.loc[0, "hla_b"] = None
    encoding = Encoding(study)
    at = [encoding.columns.index(f"hla_b {each}") for each in ("*57:01", "*15:02", "missing")]
    x = encoding.encode(frame, "site 0").x * encoding.row_scale
    copies = hla_copies(HLA, frame["hla_b"])
    np.testing.assert_allclose(x[:, at[:2]], np.nan_to_num(copies), atol=1e-12)
    assert x[:, at[2]].tolist() == [1.0] + [0.0] * 9
    columns = columns_in_units(HLA)
    assert [(c.name, c.unit) for c in columns[:2]] == [
        ("hla_b *57:01", "copy"),
        ("hla_b *15:02", "copy"),
    ]


def test_alleles_of_different_numbers_of_fields_are_refused() -> None:
    with pytest.raises(ValidationError):
        Hla(name="b", kind="hla", gene="HLA-B", alleles=("*57:01", "*15"), source="IPD")


def test_a_start_of_another_hla_gene_is_refused() -> None:
    other = HLA.model_copy(update={"gene": "HLA-A"})
    assert link(HLA, HLA) == (1.0, 0.0)
    with pytest.raises(UnlikeError):
        link(HLA, other)


def test_an_hla_study_trains_and_its_table_of_coefficients_counts_copies(tmp_path: Path) -> None:
    frame = hla_table(240)
    carriers = frame["hla_b"].str.contains("57:01")
    frame["response"] = np.where(carriers, "yes", "no")
    frame["hospital"] = [f"site {row % 4}" for row in range(240)]
    simulate(hla_study(), frame, modes=["none"], seeds=1, out=tmp_path)
    (file,) = sorted(tmp_path.rglob("*.safetensors"))[:1]
    saved = load_model(file)
    rows = rows_of(hla_study(), Encoding(hla_study()), saved.weights)
    found = {row.name: row for row in rows}
    assert found["hla_b *57:01"].coefficient > 0.5 > found["hla_b *15:02"].coefficient
    assert found["hla_b *57:01"].unit == "copy"


def test_study_check_notes_a_snp_whose_strand_no_table_shows(tmp_path: Path) -> None:
    for effect, noted in (("G", True), ("T", False)):
        features = (made.numeric("age", "years", 18, 90), made.snp("VKORC1", "C", effect))
        study = made.study("dose", "the dose", features, made.DOSE_OUTCOME)
        door = Door(tmp_path, study, made.dose_table())
        answer = door.type("study", "check", door.study)
        assert answer.status == 0
        assert ("Note: VKORC1" in answer.said) is noted


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
        [str(n) for n in range(3, 686, 13)],
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


def test_another_genes_star_allele_is_never_proposed_as_this_genes() -> None:
    study, table = dose_study(), dose_table()
    table.loc[:4, "cyp2c9"] = "CYP2C19*1/CYP2C19*2A"
    (found,) = checked(study, table).deviations
    assert found.place == "cyp2c9"
    assert '"*1/*2"' not in str(found.lines)
