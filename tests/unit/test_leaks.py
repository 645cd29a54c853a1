"""Columns that all but tell the outcome are named; noise is not, however small the table."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hypergeom, spearmanr

from polyclinic_common.data.check import report_table
from polyclinic_common.data.leaks import (
    AUC,
    CORRELATION,
    Leak,
    chance_of,
    find_leaks,
    in_two,
    mean_ranks,
    strength_of,
)
from polyclinic_common.data.mapping import translate
from polyclinic_common.data.rules import Mapping
from polyclinic_common.study import Study
from tests.kits.small import small_study, small_table, study_data
from tests.kits.typed import typed_here
from tests.kits.typed_consortium import as_toml

KINDS = ("binary", "continuous", "survival")
FEATURES: dict[str, dict[str, Any]] = {
    "x": {"kind": "numeric", "unit": "mg", "range": [-5, 5]},
    "word": {"kind": "categorical", "levels": list("abcdefghijkl")},
    "step": {"kind": "ordinal", "levels": list("abcd")},
    "snp": {"kind": "snp", "reference": "G", "effect": "A"},
    "cyp": {"kind": "diplotype", "alleles": ["*2", "*3"]},
    "genes": {"kind": "panel", "columns": ["g1", "g2"], "unit": "log2", "range": [-5, 5]},
}


def study(kind: str, *names: str) -> Study:
    features = [{"name": name, "source": "test"} | FEATURES[name] for name in names]
    cohort = study_data()["cohort"] | {"features": features}
    return small_study(kind, cohort=cohort, subgroups=[])


def outcomes(count: int, seed: int = 0) -> pd.DataFrame:
    """Return outcomes of every kind: every other patient answers, one in three has the event."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "patient": [f"p{index}" for index in range(count)],
            "hospital": "site 0",
            "response": rng.permutation(["yes", "no"] * (count // 2)),
            "dose": rng.uniform(1, 99, count),
            "days": rng.exponential(200, count).round(1),
            "event": rng.permutation((["1", "0", "0"] * count)[:count]),
        }
    )


def named(kind: str, table: pd.DataFrame, *names: str) -> list[Leak]:
    return list(find_leaks(study(kind, *names), table))


def noise(count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return columns of every kind that know nothing of any outcome."""
    table = pd.DataFrame(
        {
            "x": rng.choice([rng.normal(size=count), rng.integers(0, 2, count)]),
            "word": rng.choice(list("abcdefghijkl"), count),
            "step": rng.choice(list("abcd"), count),
            "snp": rng.choice(["G/G", "A/G", "A/A"], count),
            "cyp": rng.choice(["*1/*1", "*1/*2", "*2/*3"], count),
            "g1": rng.exponential(size=count),
            "g2": np.where(rng.random(count) < 0.9, 0.0, rng.normal(size=count)),
        }
    ).astype(object)
    return table.mask(rng.random(table.shape) < rng.choice([0.0, 0.1, 0.9]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [4, 10, 30])
def test_noise_in_a_small_table_is_not_named(kind: str, count: int) -> None:
    """Rare answers too: here one to half of the patients are positive."""
    rng, of = np.random.default_rng(11), study(kind, *FEATURES)
    for draw in range(40):
        table = outcomes(count, draw)
        some = rng.integers(1, count // 2 + 1)
        table["response"] = np.where(rng.permutation(count) < some, "yes", "no")
        table["event"] = np.where(rng.permutation(count) < some, "1", "0")
        table["dose"] = np.where(rng.permutation(count) < some, table["dose"], 5.0)
        assert not find_leaks(of, table.join(noise(count, rng)))


@pytest.mark.parametrize("values", [range(8), [0, 0, 0, 1, 1, 2, 2, 2], [0] * 6 + [1, 2]])
@pytest.mark.parametrize("positive", [1, 3, 4])
def test_the_bound_on_chance_holds_over_all_permutations(values: list[int], positive: int) -> None:
    """Of all ways to answer, at most a share t has a bound of t or less: counted, not drawn."""
    column = np.array(values, dtype=np.float64)
    cuts = 2 * (len(set(values)) - 1)
    bounds = []
    for chosen in combinations(range(8), positive):
        upper = np.isin(np.arange(8), chosen)
        bounds.append(cuts * chance_of(column, upper))
    for bound in set(bounds):
        assert np.mean(np.array(bounds) <= bound * (1 + 1e-9)) <= bound * (1 + 1e-9)


def test_the_tail_is_fishers() -> None:
    values, upper = np.arange(30.0), np.arange(30) >= 14
    upper[[3, 20]] = upper[[20, 3]]
    assert chance_of(values, upper) == pytest.approx(
        hypergeom.sf(12, 30, 14, 14), rel=1e-9
    )  # 13 of the 14 lowest are among the 14 below
    assert chance_of(-values, upper) == pytest.approx(chance_of(values, upper), rel=1e-9)
    assert chance_of(np.arange(2000.0), np.arange(2000) >= 1000) == pytest.approx(
        1 / math.comb(2000, 1000), rel=1e-6
    )


def test_ranks_area_and_correlation_are_the_usual_ones() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 9, 50).astype(float), rng.integers(0, 5, 50).astype(float)
    found = strength_of(x, y, mean_ranks(y), CORRELATION)
    assert found == pytest.approx(abs(spearmanr(x, y).statistic), rel=1e-12)
    yes = (rng.random(50) < 0.3).astype(float)
    higher = (x[yes == 1][:, None] > x[yes == 0]) + 0.5 * (x[yes == 1][:, None] == x[yes == 0])
    area = higher.mean()
    found = strength_of(x, yes, mean_ranks(yes), AUC)
    assert found == pytest.approx(max(area, 1 - area), rel=1e-12)
    assert in_two(np.array([1.0, 1, 1, 2, 3])).tolist() == [False, False, False, True, True]


def told(leaks: list[Leak]) -> set[tuple[str, str, bool]]:
    return {(leak.column, leak.outcome, leak.missing) for leak in leaks}


@pytest.mark.parametrize("count", [40, 400])
def test_a_copy_of_the_outcome_is_named_with_its_strength(count: int) -> None:
    rng = np.random.default_rng(5)
    table = outcomes(count).join(noise(count, rng).drop(columns=["x", "word"]))
    yes = table.response == "yes"
    table["x"] = yes + rng.normal(0, 0.15, count)
    (leak,) = named("binary", table, *FEATURES.keys() - {"word"})
    assert (leak.column, leak.outcome, leak.missing, leak.measure) == ("x", "response", False, AUC)
    assert leak.strength >= 0.98
    assert leak.patients == count
    table["x"] = -np.sqrt(table.dose) + rng.normal(0, 0.05, count)
    (leak,) = named("continuous", table, *FEATURES.keys() - {"word"})
    assert (leak.column, leak.outcome, leak.measure) == ("x", "dose", CORRELATION)


def test_levels_that_are_pure_are_named() -> None:
    rng = np.random.default_rng(6)
    table = outcomes(80)
    yes = (table.response == "yes").to_numpy()
    table["word"] = np.where(yes, rng.choice(list("ace"), 80), rng.choice(list("bdf"), 80))
    assert told(named("binary", table, "word")) == {("word", "response", False)}
    table["word"] = np.array(list("gbacehdf"))[(table.dose // 12.5).astype(int)]
    assert told(named("continuous", table, "word")) == {("word", "dose", False)}


def test_a_level_for_nearly_every_patient_proves_nothing() -> None:
    table = outcomes(24)
    yes = (table.response == "yes").to_numpy()
    words = iter(list("abcdefghijkl") * 2)
    table["word"] = [next(words) for _ in yes]
    table["response"] = np.where(table["word"].isin(list("acegik")), "yes", "no")
    assert not named("binary", table, "word")  # 2^12 ways to call 12 levels good or bad


@pytest.mark.parametrize("name", ["x", "word", "snp", "cyp", "genes"])
def test_being_missing_may_tell_the_outcome(name: str) -> None:
    table = outcomes(100)
    table["x"] = table["g1"] = table["g2"] = range(100)
    table["word"], table["snp"], table["cyp"] = list("abcd") * 25, "A/G", "*1/*2"
    columns = FEATURES[name].get("columns", [name])
    table.loc[table.response == "yes", columns[0]] = None
    found = named("binary", table, name)
    assert told(found) == {(columns[0], "response", True)}
    assert "Whether it is missing all but tells response (AUC 1.000 in 100" in str(found[0])


def test_survival_is_told_by_what_tells_the_event_or_the_time() -> None:
    rng = np.random.default_rng(4)
    table = outcomes(120)
    table["x"] = table.days + rng.normal(0, 1, 120)  # the day of the last visit
    table["step"] = np.where(table.event == "1", "d", rng.choice(list("abc"), 120))
    table["snp"] = table.event.map({"1": "A/A"})
    assert told(named("survival", table, "x", "step", "snp")) == {
        ("x", "days", False),
        ("step", "event", False),
        ("snp", "event", True),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_an_honest_predictor_is_not_named(kind: str) -> None:
    """Age and sex matter much in this table: the area is 0.9 and more, the correlation 0.9."""
    table = small_table(600)
    assert not find_leaks(small_study(kind), table)
    rules = Mapping()
    report = report_table(small_study(kind), translate(rules, table, small_study(kind)), rules)
    assert report.usable
    assert report.leaks == ()


def test_the_hospital_itself_is_no_leak() -> None:
    table = small_table(120)
    table["response"] = np.where(table.hospital == "site 0", "yes", "no")
    cohort = study_data()["cohort"] | {"site_indicator": True}
    assert not find_leaks(small_study(cohort=cohort), table)


def test_data_check_warns_and_the_table_stays_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    table = small_table(100).drop(columns="hospital")
    table["sex"] = np.where(table.response == "yes", "male", "female")
    table.to_csv("t.csv", index=False)
    Path("s.toml").write_text(as_toml(study_data()))
    words = ("data", "check", "s.toml", "t.csv")
    done = typed_here(*words)
    assert done.status == 0
    assert "warning sex: Its value all but tells response (AUC 1.000 in 100 patients)." in done.out
    assert "leave the column out of the study" in done.out
    done = typed_here(*words, "--json")
    (leak,) = json.loads(done.out)["leaks"]
    assert (done.status, leak["column"], leak["strength"]) == (0, "sex", 1.0)


def test_a_drafted_study_is_not_trained_on_a_column_that_tells_the_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    table = small_table(120)[["hospital", "age", "response"]]
    table["grade"] = np.where(table.response == "yes", "II", "I")
    table.to_csv("t.csv", index=False)
    words = "simulate --from-table t.csv --outcome-column response --mode none --out o"
    for _ in range(2):
        done = typed_here(*words.split())
        assert done.status == 11
        assert "error D011" in done.err
        assert "grade: Its value all but tells response (AUC 1.000 in 120 patients)." in done.err
        assert not Path("o/cells").exists()
    going_on = "simulate o/t.toml --data o/t-table.csv --out o"
    assert f"`polyclinic {going_on}`" in done.err
    short = Path("o/t.toml")
    short.write_text(short.read_text().replace("[training]", "[training]\nrounds = 1"))
    assert typed_here(*going_on.split(), "--mode", "none").status == 0


@pytest.mark.parametrize(("cell", "patients"), [("two", 21), ("number", 26), ("levels", 33)])
def test_a_perfect_column_is_named_from_the_documented_number_of_patients(
    cell: str, patients: int
) -> None:
    """docs/leaks.md: a table of eight columns, half of the patients with the outcome."""
    others = [FEATURES["x"] | {"name": f"x{index}", "source": "test"} for index in range(7)]
    kind = FEATURES["word" if cell == "levels" else "x"]
    features = [kind | {"name": "told", "source": "test"}, *others]
    cohort = study_data()["cohort"] | {"features": features}
    of = small_study(cohort=cohort, subgroups=[])
    for count, found in ((patients - 1, 0), (patients, 1)):
        rows = np.arange(count)
        yes = rows < count // 2
        levels = np.where(
            yes, np.array(list("abcdef"))[rows % 6], np.array(list("ghijkl"))[rows % 6]
        )
        table = pd.DataFrame(
            {
                "patient": rows.astype(str),
                "response": np.where(yes, "yes", "no"),
                "told": {"two": yes * 1.0, "number": rows, "levels": levels}[cell],
            }
        )
        assert len(find_leaks(of, table)) == found
