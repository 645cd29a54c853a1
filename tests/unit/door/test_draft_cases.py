"""Drafts: what is the same is in effect, everything else is a candidate with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kits import door_tables as made
from tests.kits.door import Door, accepted, assert_same, values_of

CLEAN = made.dose_table()


def in_effect(draft: str) -> list[str]:
    return [line for line in draft.splitlines() if line and not line.startswith("#")]


SAME = ["AGE", "Age", " age ", "age", "a_g_e"]


@pytest.mark.parametrize("header", SAME[:4])
def test_the_same_name_is_in_effect(tmp_path: Path, header: str) -> None:
    door = Door(tmp_path, made.DOSE, CLEAN.renamed(age=header))
    draft = door.draft()
    assert any(line.startswith("source") and "age" in line.lower() for line in in_effect(draft))


OTHER = [
    ("patient", "PatientID"), ("patient", "MRN"), ("age", "age_at_diagnosis"), ("weight", "wt"),
    ("weight", "Gewicht"), ("height", "ht"), ("height", "Größe"), ("sex", "gender"),
    ("sex", "Geschlecht"), ("smoking", "smoker"), ("crp", "C-reactive protein"),
    ("VKORC1", "rs9923231"), ("dose", "weekly_dose"), ("sex", "sexe"), ("weight", "poids"),
    ("height", "taille"), ("weight", "peso"), ("hospital", "site"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "header"), OTHER)
def test_another_name_is_a_candidate_and_not_in_effect(
    tmp_path: Path, name: str, header: str
) -> None:
    door = Door(tmp_path, made.DOSE, CLEAN.renamed(**{name: header}))
    draft = door.draft()
    assert not any(f'"{header}"' in line for line in in_effect(draft))
    candidate = f'source = "{header}"'
    assert any(candidate in line and line.startswith("#") for line in draft.splitlines()), (
        f"no candidate for {name}"
    )
    door.mapping = accepted(draft)
    assert door.check().status == 0
    assert_same(door.values(), values_of(tmp_path / "wanted", made.DOSE, CLEAN))


def test_two_columns_that_may_be_the_same_are_both_candidates(tmp_path: Path) -> None:
    table = CLEAN.renamed(weight="weight_1").with_column("weight_2", CLEAN.column("weight"))
    draft = Door(tmp_path, made.DOSE, table).draft()
    assert not any("weight_" in line for line in in_effect(draft))
    assert '"weight_1"' in draft
    assert '"weight_2"' in draft


def test_words_that_stand_in_the_table_find_the_column(tmp_path: Path) -> None:
    """`v17` holds female and male: it may be the sex."""
    draft = Door(tmp_path, made.DOSE, CLEAN.renamed(sex="v17")).draft()
    assert '# source = "v17"' in draft
    assert not any("v17" in line for line in in_effect(draft))


def test_every_candidate_has_a_reason_and_a_score(tmp_path: Path) -> None:
    draft = Door(tmp_path, made.DOSE, CLEAN.renamed(weight="wt")).draft()
    line = next(line for line in draft.splitlines() if line.startswith('# source = "wt"'))
    assert "(0." in line


def test_a_similar_name_with_other_values_is_no_proposal(tmp_path: Path) -> None:
    """`height` is no candidate for weight where nothing else is; it holds 150 to 200."""
    table = CLEAN.without("weight").renamed(height="Height_cm")
    study = made.DOSE.replace(made.DOSE_FEATURES[1], "")
    door = Door(tmp_path, study, table)
    assert '# source = "Height_cm"' not in door.draft()


FIRST = {
    "yes": ("yes", "no"), "ja": ("ja", "nein"), "oui": ("oui", "non"), "truth": ("TRUE", "FALSE"),
    "one": ("1", "0"), "si": ("si", "no"), "responder": ("responder", "non-responder"),
    "positive": ("positive", "negative"), "CR": ("response", "no response"),
    "hai": ("はい", "いいえ"), "letters": ("A", "B"), "pm": ("+", "-"),
}  # fmt: skip


@pytest.mark.parametrize("coding", list(FIRST))
def test_a_draft_of_a_binary_outcome_knows_the_positive_answer_or_asks(
    tmp_path: Path, coding: str
) -> None:
    yes, no = FIRST[coding]
    table = made.bin_table(60)
    words = [yes if cell == "yes" else no for cell in table.column("response")]
    door = Door(tmp_path, made.BIN, table.with_column("response", words))
    answer = door.type(
        *("simulate", "--from-table", door.table, "--outcome-column", "response"),
        *("--patient-column", "patient", "--mode", "none", "--out", tmp_path / "out"),
    )
    out = tmp_path / "out"
    drafts = sorted(out.rglob("*.toml")) if out.exists() else []
    text = drafts[0].read_text(encoding="utf-8") if drafts else ""
    assert f'positive = "{no}"' not in text, f"turned round: {answer.said}"
    if "--event-is" not in answer.said:
        assert f'positive = "{yes}"' in text, answer.said
        assert yes in answer.said
