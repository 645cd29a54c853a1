"""The manifest: every error names its remedy, and the hash names the study everywhere."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.data.values import as_text
from polyclinic_common.errors import Code, StudyError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.releases.plain_words import describe
from polyclinic_common.study import Study, load_study, parse_study
from polyclinic_common.study.load import TEMPLATE
from polyclinic_common.text import MISSING_WORDS

Data = dict[str, Any]
Spoil = Callable[[Data], None]
TEMPLATE_HASH = "6ba166d52a9c85091524bb753dfc4d98466b0d8b941664d15639b219b6440d2c"
FIRST_HASH = "a2e697bd2bdcd7846c4d406c81f288fa8436e26e57814d215768ddad5e1ee6f9"


def template() -> Data:
    return tomllib.loads(TEMPLATE.read_text(encoding="utf-8"))


def survival(**changes: object) -> Data:
    return {
        "kind": "survival",
        "time": "days",
        "event": "event",
        "occurred": "1",
        "censored": "0",
        "unit": "days",
        "grid": [365, 730],
        "source": "protocol",
        **changes,
    }


def change(section: str, **fields: object) -> Callable[[Data], None]:
    return lambda data: data[section].update(fields)


def change_feature(index: int, **fields: object) -> Callable[[Data], None]:
    return lambda data: data["cohort"]["features"][index].update(fields)


def replace(**fields: object) -> Callable[[Data], None]:
    return lambda data: data.update(fields)


def menu(*entries: Data, **changes: Data) -> Callable[[Data], None]:
    def spoil(data: Data) -> None:
        data["training"]["menu"] = list(entries)
        data["evaluation"]["private"] = {}
        for section, fields in changes.items():
            data[section].update(fields)

    return spoil


TWO: tuple[Data, Data] = ({"learning_rate": 4}, {"learning_rate": 16, "momentum": 0.5})

WHOLE = {"kind": "sites", "sites": ["south"]}


def with_hospitals(hospitals: int, train: int, mode: str = "secure-sum", **rule: int) -> Spoil:
    """Return what names so many hospitals and lets only so many of them train."""

    def spoil(data: Data) -> None:
        names = [f"hospital {index}" for index in range(hospitals)]
        data["roster"]["sites"] = names
        data["privacy"] = {"mode": mode, **rule}
        if train < hospitals:
            data["evaluation"]["holdout"] = {"kind": "sites", "sites": names[train:]}

    return spoil


WRONG = {
    "unknown field": (change("privacy", epsilonn=1.0), "privacy.epsilonn", "1.0", "spelling"),
    "missing field": (replace(outcome={"kind": "binary"}), "outcome.binary.column", "", "Add"),
    "range upside down": (
        change_feature(0, range=[90, 18]),
        "cohort.features.0.numeric.range",
        "[90.0, 18.0]",
        "lower bound first",
    ),
    "column used twice": (change_feature(2, name="age"), "cohort", "age", "one place only"),
    "epsilon zero": (change("privacy", epsilon=0), "privacy.epsilon", "0", "positive"),
    "epsilon negative": (change("privacy", epsilon=-1), "privacy.epsilon", "-1", "positive"),
    "epsilon as text": (change("privacy", epsilon="1"), "privacy.epsilon", "'1'", "Correct"),
    "delta too large": (change("privacy", delta=0.1), "privacy.delta", "0.1", "below 1 /"),
    "2m <= roster + c": (change("privacy", m=2, c=1), "privacy.m", "m = 2", "Raise m"),
    "grid not increasing": (
        replace(outcome=survival(grid=[730, 365])),
        "outcome.survival.grid",
        "not increasing",
        "later than the one before",
    ),
    "empty vocabulary": (
        change_feature(2, levels=[]),
        "cohort.features.2.categorical.levels",
        "0 entries",
        "at least 2",
    ),
    "vocabulary word that counts as missing": (
        change_feature(2, levels=["female", "NA"]),
        "cohort.features.2.categorical.levels.1",
        "'NA'",
        "Leave it out",
    ),
    "empty vocabulary word": (
        change_feature(1, levels=["I", "", "II"]),
        "cohort.features.1.ordinal.levels.1",
        "''",
        "Leave it out",
    ),
    "vocabulary word that is read as another": (
        change_feature(1, levels=["1.0", "2"]),
        "cohort.features.1.ordinal.levels.0",
        "read as 1 (found '1.0')",
        "Write '1'",
    ),
    "vocabulary word with blanks around it": (
        change("treatment", arms=["control", " drug X"]),
        "treatment.arms.arms.1",
        "read as drug X",
        "Write 'drug X'",
    ),
    "answer that counts as missing": (
        change("outcome", negative="None"),
        "outcome.binary.negative",
        "'None'",
        "Leave it out",
    ),
    "event that is read as another word": (
        replace(outcome=survival(occurred="1.00")),
        "outcome.survival.occurred",
        "read as 1",
        "Write '1'",
    ),
    "split word that counts as missing": (
        change("evaluation", holdout={"kind": "column", "column": "split", "test": "null"}),
        "evaluation.holdout.column.test",
        "'null'",
        "Leave it out",
    ),
    "site that is read as another word": (
        replace(roster={"sites": ["2.0", "south"]}),
        "roster.sites.0",
        "read as 2",
        "Write '2'",
    ),
    "allele that no diplotype holds": (
        replace(
            cohort={
                **template()["cohort"],
                "features": [{"name": "G", "kind": "diplotype", "alleles": ["2"], "source": "lab"}],
            }
        ),
        "cohort.features.0.diplotype.alleles.0",
        "'2'",
        "Correct",
    ),
    "column with a blank at its end": (
        change("cohort", patient_id="patient "),
        "cohort.patient_id",
        "'patient '",
        "Correct",
    ),
    "metric of another outcome": (
        change("evaluation", metrics=["mae"]),
        "evaluation.metrics",
        "mae",
        "accuracy, auc, brier",
    ),
    "no such metric": (
        change("evaluation", metrics=["f1"]),
        "evaluation.metrics.0",
        "'f1'",
        "Correct",
    ),
    "menu of one": (menu({"learning_rate": 4}), "training.menu", "1 entries", "2 to 5"),
    "menu of six": (
        menu(*({"learning_rate": 4 + number} for number in range(6))),
        "training.menu",
        "6 entries",
        "2 to 5",
    ),
    "menu that repeats itself": (menu(TWO[0], TWO[0]), "training.menu", "same setting", "once"),
    "menu that repeats a default": (
        menu({"learning_rate": 4}, {"learning_rate": 4, "momentum": 0.9}),
        "training.menu",
        "same setting",
        "once",
    ),
    "menu that overrides what hospitals do": (
        menu({"learning_rate": 4}, {"rounds": 5}),
        "training.menu.1.rounds",
        "5",
        "spelling",
    ),
    "menu without metrics": (
        change("training", menu=list(TWO)),
        "training.menu",
        "metrics to choose by",
        "Add [evaluation.private]",
    ),
    "menu with metrics in between": (
        menu(*TWO, evaluation={"private": {"every": 5}}),
        "training.menu",
        "at no other time",
        "Leave out `every`",
    ),
    "menu that stops early": (
        menu(*TWO, evaluation={"private": {"every": 60, "patience": 1}}),
        "training.menu",
        "at no other time",
        "`patience`",
    ),
    "menu of another strategy": (
        menu(*TWO, training={"strategy": "fedavg"}, privacy={"mode": "local"}),
        "training.menu",
        "descent",
        "full schedule",
    ),
    "menu of sampled steps": (
        menu(*TWO, training={"schedule": "sampled"}, privacy={"mode": "local"}),
        "training.menu",
        "descent",
        "full schedule",
    ),
    "menu from sufficient statistics": (
        menu(*TWO, training={"start": "statistics"}, privacy={"mode": "none"}),
        "training.menu",
        "base rates",
        "`start`",
    ),
    "metrics of hospitals that are held out": (
        change("evaluation", holdout=WHOLE, private={}),
        "evaluation.private",
        "release nothing",
        "hold out patients of every hospital",
    ),
    "votes of hospitals that are held out": (
        change("evaluation", holdout=WHOLE, acceptance={"epsilon": 0.1}),
        "evaluation.acceptance",
        "neither metrics nor votes",
        "Leave it out",
    ),
    "one hospital that trains in a secure sum": (
        with_hospitals(9, train=1),
        "privacy.m",
        "m = 1 and c = 1 do not fit 1 hospitals that train",
        'Let at least two hospitals train, or use mode "local"',
    ),
    "no hospital that trains": (
        with_hospitals(9, train=0),
        "evaluation.holdout.sites",
        "not a proper part",
        "leave some for training",
    ),
    "more hospitals in a round than train": (
        with_hospitals(9, train=6, m=7, c=2),
        "privacy.m",
        "A round needs m = 7 hospitals, and 6 train",
        "Lower m",
    ),
    "infinite epsilon": (change("privacy", epsilon=float("inf")), "privacy.epsilon", "", "Correct"),
}


@pytest.mark.parametrize(("spoil", "field", "value", "remedy"), WRONG.values(), ids=WRONG)
def test_every_error_names_file_field_value_and_remedy(
    spoil: Callable[[Data], None], field: str, value: str, remedy: str
) -> None:
    data = template()
    spoil(data)
    with pytest.raises(StudyError) as caught:
        parse_study(data, "mine.toml")
    assert caught.value.code is Code.STUDY_INVALID
    problem = caught.value.problems[0]
    assert problem.place == f"mine.toml, {field}"
    assert value in problem.what
    assert remedy in problem.remedy


def test_all_wrong_fields_are_reported_at_once() -> None:
    data = template()
    change("privacy", epsilon=0, delta=1)(data)
    change_feature(0, range=[1, 0])(data)
    with pytest.raises(StudyError, match="3 problems") as caught:
        parse_study(data, "mine.toml")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    "word", [*sorted(MISSING_WORDS), " yes", "1.0", "-3.00", "0.5", "1e5", "🙂"]
)
def test_a_vocabulary_holds_exactly_the_words_that_a_table_can_give(word: str) -> None:
    data = template()
    change_feature(2, levels=["other", word])(data)
    if as_text(pd.Series([word]))[0] == word:
        assert parse_study(data, "mine.toml").cohort.features[2].name == "sex"
    else:
        with pytest.raises(StudyError):
            parse_study(data, "mine.toml")


def test_the_template_is_a_valid_study() -> None:
    assert load_study(TEMPLATE).id == "my-study"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, Code.STUDY_UNREADABLE),
        (b"title = 'K\xf6ln'", Code.STUDY_UNREADABLE),
        (b"title = ", Code.STUDY_SYNTAX),
        (b"", Code.STUDY_INVALID),
    ],
    ids=["absent", "latin-1", "no TOML", "empty"],
)
def test_a_file_that_is_no_study_gives_a_coded_error(
    tmp_path: Path, content: bytes | None, code: Code
) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StudyError) as caught:
        load_study(path)
    assert caught.value.code is code


def test_the_hash_is_the_known_one() -> None:
    assert load_study(TEMPLATE).hash() == TEMPLATE_HASH


def test_a_study_without_the_newer_fields_keeps_the_hash_it_had() -> None:
    """Of a template that knew neither ridge nor calibration: what was approved stays approved."""
    data = template()
    assert data["training"].pop("ridge") == "release"
    assert data["training"].pop("calibration")
    data["privacy"]["clip"] = 0.7  # the default of then, which every signed form holds
    study = parse_study(data, "mine.toml")
    assert study.hash() == FIRST_HASH
    assert "calibration" not in str(study.canonical())
    assert (study.rounds, study.training.ridge) == (60, "round")


def reverse(value: object) -> object:
    """Return `value` with the keys of every table in reverse order."""
    if isinstance(value, dict):
        return {key: reverse(value[key]) for key in reversed(value)}
    return [reverse(entry) for entry in value] if isinstance(value, list) else value


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    data = reverse(template())
    assert isinstance(data, dict)
    assert parse_study(data, "mine.toml").hash() == TEMPLATE_HASH


@pytest.mark.parametrize(
    "write_out",
    [
        change("privacy", clip=0.5, m=3, c=1),
        change("training", rounds=60, learning_rate=32.0, momentum=0.9, average_from=0.5),
        change("evaluation", metrics=["accuracy", "auc", "brier"]),
        change("model", loss="logistic", hidden=[]),
        replace(synthetic=False),
        change("privacy", epsilon=1),
        change("training", calibration={}),
        change_feature(0, range=[18.0, 90.0]),
    ],
)
def test_writing_out_a_default_does_not_change_the_hash(write_out: Callable[[Data], None]) -> None:
    data = template()
    write_out(data)
    assert parse_study(data, "mine.toml").hash() == TEMPLATE_HASH


@pytest.mark.parametrize(
    "alter",
    [
        change("privacy", epsilon=1.5),
        change("training", ridge="round"),
        change("training", calibration={"steps": 5}),
        change("cohort", site_indicator=True),
        change_feature(0, range=[18, 91]),
        change_feature(1, levels=["II", "I", "III"]),
        replace(expires="2031-01-01"),
    ],
)
def test_any_change_of_meaning_changes_the_hash(alter: Callable[[Data], None]) -> None:
    data = template()
    alter(data)
    assert parse_study(data, "mine.toml").hash() != TEMPLATE_HASH


def test_writing_out_a_default_in_a_menu_does_not_change_the_hash() -> None:
    short, long, other = template(), template(), template()
    menu({"learning_rate": 4}, {"momentum": 0.5})(short)
    menu(
        {"learning_rate": 4, "momentum": 0.9, "average_from": 0.5},
        {"learning_rate": 32, "momentum": 0.5},
    )(long)
    menu({"momentum": 0.5}, {"learning_rate": 4})(other)
    assert parse_study(short, "mine.toml").hash() == parse_study(long, "mine.toml").hash()
    assert parse_study(short, "mine.toml").hash() != parse_study(other, "mine.toml").hash()


@pytest.mark.parametrize("alter", [replace(), menu(*TWO)])
def test_a_study_survives_its_own_canonical_form(alter: Callable[[Data], None]) -> None:
    data = template()
    alter(data)
    study = parse_study(data, "mine.toml")
    assert parse_study(study.canonical(), "again").hash() == study.hash()


def words(study: Study) -> str:
    return " ".join(line for section in describe(study) for line in section.lines)


def test_plain_words_state_the_whole_promise() -> None:
    text = words(load_study(TEMPLATE))
    for promise in (
        "Mode secure-sum",
        "epsilon = 1 and delta = 1e-05",
        "Unit: patient",
        "Adjacency: add or remove one patient",
        "m = 3 of 4",
        "c = 1",
        "2030-12-31",
        "25% of the patients",
        "age cut at 50, 65",
        "no site indicator",
        "Then, 4 times, every hospital that trains sends six sums",
        "one patient's six within length 1.41. Together they cost 10 % of the budget",
    ):
        assert promise in text


def test_plain_words_say_what_a_menu_trains_and_what_choosing_costs() -> None:
    data = template()
    menu(*TWO, {"momentum": 0.2})(data)
    text = words(parse_study(data, "mine.toml"))
    for said in (
        "In each of 180 rounds",
        "Three settings are trained one after the other, 60 rounds each",
        "learning rate 4, momentum 0.9; learning rate 16, momentum 0.5; learning rate 32, ",
        "each setting has a third of the budget",
        "1.73 times that of a study with one setting",
        "a decision on what was released and paid for alone",
        "at the end of each of the three settings",
    ):
        assert said in text
    change("privacy", mode="none")(data)
    text = words(parse_study(data, "mine.toml"))
    assert "the exact accuracy of the held-out patients decides" in text
    assert "budget" not in text


def test_plain_words_say_that_mode_none_protects_nobody() -> None:
    data = template()
    change("privacy", mode="none")(data)
    text = words(parse_study(data, "mine.toml"))
    assert "nothing protects the patients" in text
    assert "epsilon" not in text


def test_plain_words_warn_of_the_site_indicator() -> None:
    data = template()
    change("cohort", site_indicator=True)(data)
    assert "shows how each hospital differs" in words(parse_study(data, "mine.toml"))


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (survival(), "time until event is 1, followed for up to 730 days"),
        (
            {
                "kind": "continuous",
                "column": "dose",
                "unit": "mg/week",
                "range": [5, 100],
                "transform": "sqrt",
                "source": "label",
            },
            "dose, a number in mg/week, on the sqrt scale",
        ),
    ],
)
def test_plain_words_name_every_kind_of_outcome(outcome: Data, expected: str) -> None:
    data = template()
    data["outcome"] = outcome
    assert expected in words(parse_study(data, "mine.toml"))


def whole_study(train: int, **options: Any) -> Study:
    """Return a study of nine hospitals of which only the first so many train."""
    data = template()
    with_hospitals(9, train, **options)(data)
    return parse_study(data, "mine.toml")


@pytest.mark.parametrize("mode", ["secure-sum", "local", "none"])
@pytest.mark.parametrize(
    ("train", "m", "c"), [(2, 2, 1), (3, 3, 1), (4, 3, 1), (7, 6, 1), (8, 6, 2), (9, 7, 2)]
)
def test_default_m_and_c_count_the_hospitals_that_train(
    mode: str, train: int, m: int, c: int
) -> None:
    """Computed here by hand: those of a study that names the training hospitals alone."""
    study = whole_study(train, mode=mode)
    assert study.training_sites == study.roster.sites[:train]
    assert (study.m, study.c) == (m, c)
    assert (study.canonical()["privacy"]["m"], study.canonical()["privacy"]["c"]) == (m, c)


@pytest.mark.parametrize("mode", ["local", "none"])
def test_one_hospital_may_train_where_nothing_is_summed(mode: str) -> None:
    study = whole_study(1, mode=mode)
    assert (study.training_sites, study.m) == (("hospital 0",), 1)


def test_a_study_signed_when_held_out_hospitals_counted_is_still_read() -> None:
    """Its operator and hospitals would else be stuck with one that nobody can list or withdraw."""
    data, operator = whole_study(6).model_dump(mode="json", exclude_none=True), Identity.generate()
    data["privacy"] |= {"m": 7, "c": 2}
    signed = SignedStudy.sign(Study.model_validate_json(json.dumps(data)), operator)
    assert signed.read(operator.public).m == 7


def test_plain_words_count_training_and_held_out_hospitals() -> None:
    text = words(whole_study(7))
    assert "7 hospitals train, 2 held out." in text
    assert "at least m = 6 of 7 hospitals; up to c = 1 of them" in text
    assert "all patients of hospital 7, hospital 8, which send nothing" in text
    assert "1 hospital trains, 8 held out." in words(whole_study(1, mode="local"))
    assert "9 hospitals: hospital 0," in words(whole_study(9))
