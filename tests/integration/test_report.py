"""The report opens offline, says what is promised, and survives whatever a run leaves undefined."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from polyclinic_common.evaluation.metrics import METRICS
from polyclinic_common.evaluation.observed import levels_of
from polyclinic_common.privacy import gdp, rdp
from polyclinic_common.releases.plain_words import describe
from polyclinic_common.study import Study, parse_study
from polyclinic_common.study.plain_words import outcome_in_words, treatment_in_words
from polyclinic_common.study.sections import Mode
from polyclinic_simulations.report import render_report, write_report
from polyclinic_simulations.report.calibration_words import warning
from polyclinic_simulations.report.comparison import compare
from polyclinic_simulations.report.console import print_result
from polyclinic_simulations.report.drawing import look
from polyclinic_simulations.report.measures import measure_of
from polyclinic_simulations.results.results import (
    AtTime,
    Baselines,
    CalibrationBin,
    Cell,
    Counted,
    Figures,
    Metrics,
    PrivacySpent,
    Reliability,
    Result,
    RiskGroup,
    Scores,
    SiteSummary,
    Timing,
)

WIDEST = 9  # columns of the widest table: they fit a sheet of paper
SITES = tuple(f"hospital {number:02d}" for number in range(1, 13))
OUTCOMES: dict[str, dict[str, Any]] = {
    "continuous": {
        "kind": "continuous",
        "column": "weekly dose",
        "unit": "mg/week",
        "range": [0, 150],
        "source": "label of the drug",
    },
    "binary": {
        "kind": "binary",
        "column": "disease",
        "positive": "yes",
        "negative": "no",
        "source": "angiography",
    },
    "survival": {
        "kind": "survival",
        "time": "days",
        "event": "recurrence",
        "occurred": "1",
        "censored": "0",
        "unit": "days",
        "grid": [365, 730, 1095, 1460, 1825, 2190],
        "source": "years since surgery",
    },
}
TYPICAL = {
    "mae": 8.1,
    "rmse": 11.2,
    "within_20": 0.47,
    "accuracy": 0.82,
    "auc": 0.88,
    "brier": 0.13,
    "c_index": 0.68,
    "td_auc": 0.71,
    "ibs": 0.18,
}


def make_study(kind: str, **changes: Any) -> Study:
    age = {"name": "age", "kind": "numeric", "unit": "years", "range": [18, 90], "source": "adults"}
    sex = {"name": "sex", "kind": "categorical", "levels": ["female", "male"], "source": "form"}
    data: dict[str, Any] = {
        "polyclinic": 1,
        "id": f"report-{kind}",
        "version": "1.0.0",
        "title": f"A study with a {kind} outcome",
        "purpose": "Predict the outcome of treatment from what is known before it.",
        "expires": "2035-12-31",
        "roster": {"sites": SITES},
        "cohort": {"patient_id": "patient", "site": "hospital", "features": [age, sex]},
        "treatment": {
            "kind": "arms",
            "column": "arm",
            "arms": ["control", "drug X"],
            "assignment": "observational",
            "source": "protocol section 6",
        },
        "outcome": OUTCOMES[kind],
        "subgroups": [{"column": "sex"}, {"column": "age", "cuts": [50, 65]}],
    }
    return parse_study(data | changes, "study.toml")


def groups_of(study: Study) -> list[str]:
    levels = [f"sex = {level}" for level in levels_of(study, "sex")]
    return [*levels, "age < 50", "age 50 to 65", "age ≥ 65"]


class Maker:
    """Makes believable results; `loss` is how far a model stays behind the best, as a share."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.random = np.random.default_rng(7)

    def metrics(self, loss: float, spread: float) -> Metrics:
        scores: Metrics = dict.fromkeys(METRICS)
        for metric in self.study.metrics:
            worse = 1.0 if METRICS[metric].lower_is_better else -0.55
            share = 1 + worse * loss + self.random.normal(0, spread)
            scores[metric] = TYPICAL[metric] * share
        return scores

    def scores(self, loss: float) -> Scores:
        overall = self.metrics(loss, 0.012)
        return Scores(
            resampled={
                metric: [value * (1 + step) for step in np.linspace(-0.02, 0.02, 50)]
                for metric, value in overall.items()
                if value is not None
            },
            overall=overall,
            by_site={site: self.metrics(loss, 0.05) for site in SITES},
            by_subgroup={name: self.metrics(loss, 0.03) for name in groups_of(self.study)},
        )

    def cells(self, epsilons: list[float | None], seeds: int) -> list[Cell]:
        base = {
            (seed, name): self.scores(loss)
            for seed in range(seeds)
            for name, loss in {
                "trivial": 0.48,
                "local_only_non_private": 0.13,
                "pooled_same_trainer": 0.012,
                "pooled_converged": 0.0,
            }.items()
        }
        return [
            self.cell(epsilon, seed, {name: s for (at, name), s in base.items() if at == seed})
            for epsilon in epsilons
            for seed in range(seeds)
        ]

    def cell(self, epsilon: float | None, seed: int, base: dict[str, Scores]) -> Cell:
        loss = 0.015 if epsilon is None else 0.015 + 0.06 / epsilon
        alone = None if epsilon is None else self.scores(min(0.5, 0.2 + 0.2 / epsilon))
        private = epsilon is not None
        return Cell(
            mode="local" if private else "none",
            epsilon=epsilon,
            strategy="descent",
            sites=None,
            drop=0.0,
            seed=seed,
            engine="inline",
            gradients="fast",
            study_hash=self.study.hash(),
            privacy=PrivacySpent(
                epsilon=epsilon,
                epsilon_two_hospitals=None if epsilon is None else 2.154 * epsilon,
                delta=1e-5 if private else None,
                unit=gdp.UNIT,
                adjacency=gdp.ADJACENCY,
                accountant=gdp.ACCOUNTANT if private else "none",
            ),
            test=self.scores(loss),
            baselines=Baselines(local_only_private=alone, **base),
            timing=Timing(total_s=2.31, train_s=0.84, rounds=60),
            figures=self.figures(loss),
        )

    def figures(self, loss: float) -> Figures:
        rounds = list(range(5, 65, 5))
        main = self.study.metrics[0]
        worse = 1.0 if METRICS[main].lower_is_better else -0.55
        path = [loss + 0.4 * float(np.exp(-at / 12)) for at in rounds]
        noise = self.random.normal(0, 0.008, len(rounds))
        values: list[float | None] = [
            TYPICAL[main] * (1 + worse * p + n) for p, n in zip(path, noise, strict=True)
        ]
        kind = self.study.outcome.kind
        scale = 60.0 if kind == "continuous" else 1.0
        bins = [
            CalibrationBin(
                predicted=scale * p, observed=scale * (p + self.random.normal(0, 0.03)), patients=34
            )
            for p in (0.12, 0.3, 0.45, 0.6, 0.8)
        ]
        common: dict[str, Any] = {"curve_rounds": rounds, "curve_values": values}
        if kind == "continuous":
            truth = self.random.gamma(5, 7, 900)
            guess = 0.6 * truth + 14 + self.random.normal(0, 6, 900)
            joint, _, _ = np.histogram2d(truth, guess, bins=24, range=[[0, 150], [0, 150]])
            return Figures(
                **common,
                calibration=bins,
                joint=joint.astype(int).tolist(),
                joint_range=(0.0, 150.0),
            )
        return Figures(
            **common,
            calibration=bins,
            risk_groups=self.risk_groups() if kind == "survival" else [],
        )

    def risk_groups(self) -> list[RiskGroup]:
        times = [0.0, *OUTCOMES["survival"]["grid"]]
        hazards = {"low predicted risk": 1.2e-4, "medium": 2.6e-4, "high predicted risk": 5.2e-4}
        return [
            RiskGroup(
                name=name,
                times=times,
                survival=[float(np.exp(-hazard * time)) for time in times],
                patients=57,
            )
            for name, hazard in hazards.items()
        ]


def make_result(study: Study, epsilons: list[float | None] | None = None, seeds: int = 5) -> Result:
    sizes = [round(14 * 1.17**rank) for rank in range(len(SITES))]
    return Result(
        study=study.id,
        study_hash=study.hash(),
        version="0.1.0",
        main_metric=study.metrics[0],
        sites=[
            SiteSummary(
                name=site,
                train=round(size * 0.75),
                test=size - round(size * 0.75),
                missing_share=0.01 * (index % 4),
                outcome=f"{38 + index} % events",
            )
            for index, (site, size) in enumerate(zip(SITES, sizes, strict=True))
        ],
        cells=Maker(study).cells([1.0, None] if epsilons is None else epsilons, seeds),
    )


class Page(HTMLParser):
    """What a browser would load, and what a reader would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "srcset", "data", "action"}:
                self.loaded.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "style":
            return
        self.text += data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


@pytest.mark.parametrize("kind", sorted(OUTCOMES))
def test_the_file_needs_nothing_from_outside(kind: str, tmp_path: Path) -> None:
    study = make_study(kind)
    write_report(study, make_result(study, [0.5, 1.0, 4.0, None]), tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert all(link.startswith(("#", "data:")) for link in page.loaded)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert not re.search(r"url\(\s*['\"]?(?!#)|@import", html)
    anchors = {link[1:] for link in page.loaded if link.startswith("#")}
    assert anchors <= set(page.ids)


@pytest.mark.parametrize("kind", sorted(OUTCOMES))
def test_ids_are_unique_so_that_plots_do_not_mix(kind: str) -> None:
    study = make_study(kind)
    ids = Page(render_report(study, make_result(study, [0.5, 1.0, None]))).ids
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("kind", sorted(OUTCOMES))
def test_the_promise_and_every_group_are_printed(kind: str) -> None:
    study = make_study(kind)
    text = Page(render_report(study, make_result(study))).text
    assert "ε = 1" in text
    assert "δ = 0.00001" in text
    assert "1 in 100,000" in text
    assert "add or remove one patient" in text
    assert "ε = 1 becomes 2.16" in text
    for name in (*SITES, *groups_of(study)):
        assert name in text


@pytest.mark.parametrize(
    ("kind", "has", "has_not"),
    [
        ("continuous", ["Calibration", "Predicted against observed"], ["Survival by predicted"]),
        ("binary", ["Calibration"], ["Predicted against observed", "Survival by predicted"]),
        ("survival", ["Calibration", "Survival by predicted"], ["Predicted against observed"]),
    ],
)
def test_plots_fit_the_outcome(kind: str, has: list[str], has_not: list[str]) -> None:
    study = make_study(kind)
    text = Page(render_report(study, make_result(study))).text
    assert all(words in text for words in has)
    assert not any(words in text for words in has_not)


@pytest.mark.parametrize(("epsilons", "plotted"), [([0.5, 1.0], True), ([1.0, None], False)])
def test_privacy_is_plotted_against_utility_when_several_epsilon_ran(
    epsilons: list[float | None], plotted: bool
) -> None:
    study = make_study("survival")
    text = Page(render_report(study, make_result(study, epsilons))).text
    assert ("Privacy against accuracy" in text) is plotted


def test_the_conclusion_says_the_numbers_of_the_table() -> None:
    study = make_study("survival")
    page = Page(render_report(study, make_result(study)))
    conclusion = re.search(
        r"with ε = 1 promised, the model ranks .*? C-index of (\S+ ± \S+)", page.text
    )
    assert conclusion is not None
    row = next(row for row in page.rows if row[:3] == ["Trained together", "local", "1"])
    assert row[3] == conclusion.group(1)


def test_hostile_names_stay_text() -> None:
    attack = "<script>alert(1)</script>"
    study = make_study("binary", title=attack, purpose=f"{attack} $x_1$")
    result = make_result(study)
    first = result.sites[0].model_copy(update={"name": f"{attack}$^", "outcome": attack})
    page = Page(
        render_report(study, result.model_copy(update={"sites": [first, *result.sites[1:]]}))
    )
    assert "script" not in page.tags
    assert attack in page.text


def test_undefined_metrics_are_dashes() -> None:
    study = make_study("binary")
    result = make_result(study, [1.0], seeds=2)
    nothing: Metrics = dict.fromkeys(METRICS)
    empty = Scores(
        overall=nothing,
        by_site=dict.fromkeys(SITES, nothing),
        by_subgroup=dict.fromkeys(groups_of(study), nothing),
    )
    bare = Figures(curve_rounds=[1], curve_values=[None], calibration=[])
    cells = [cell.model_copy(update={"test": empty, "figures": bare}) for cell in result.cells]
    page = Page(render_report(study, result.model_copy(update={"cells": cells})))
    row = next(row for row in page.rows if row[:3] == ["Trained together", "local", "1"])
    assert row[3:] == ["–"] * 6
    assert "None" not in page.text
    assert "nan" not in page.text


def test_one_run_has_no_error() -> None:
    study = make_study("survival")
    page = Page(render_report(study, make_result(study, seeds=1)))
    assert "One run only" in page.text
    assert not any("±" in cell for row in page.rows for cell in row if "runs" not in cell)


@pytest.mark.parametrize("kind", sorted(OUTCOMES))
def test_without_privacy_nothing_is_promised(kind: str) -> None:
    study = make_study(kind)
    text = Page(render_report(study, make_result(study, [None], seeds=2))).text
    assert "there is no protection" in text
    assert "no bound" in text
    assert "add or remove one patient" not in text


def stopped_early(result: Result) -> Result:
    """Return the result as if training had stopped early, in one of the runs less so."""
    cells = []
    for cell in result.cells:
        spent, rounds = (0.31, 12) if cell.seed == 0 else (0.42, 20)
        change = {"epsilon": spent, "epsilon_promised": cell.epsilon}
        privacy = cell.privacy.model_copy(update=change if cell.epsilon is not None else {})
        timing = cell.timing.model_copy(update={"rounds": rounds})
        cells.append(cell.model_copy(update={"privacy": privacy, "timing": timing}))
    return result.model_copy(update={"cells": cells})


def test_after_early_stopping_the_promised_epsilon_is_told_from_the_spent_one() -> None:
    study = make_study("binary")
    page = Page(render_report(study, stopped_early(make_result(study, [1.0], seeds=2))))
    assert "Promised was ε = 1 at most. Spent was ε = 0.42: with that, whoever" in page.text
    assert "by a factor of at most 1.52" in page.text  # of what was spent
    header = next(row for row in page.rows if "ε spent" in row)
    assert header[:3] == ["Mode", "ε promised", "ε spent"]
    row = next(row for row in page.rows if row[0] == "local" and len(row) == len(header))
    assert row[1:3] == ["1", "0.42"]
    assert "with ε = 1 promised, the model" in page.text
    for bare in re.findall(r"(\w+(?: was)?) ε = 0\.\d+", page.text):
        assert "pent" in bare


def test_the_console_tells_the_promised_epsilon_from_the_spent_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    study = make_study("binary")
    print_result(study, stopped_early(make_result(study, [1.0], seeds=2)), tmp_path)
    shown = " ".join(capsys.readouterr().out.split())
    words = "every patient was promised ε = 1.000 at most, spent was at most ε = 0.420"
    assert f"{words} (in runs of 12 to 20 rounds)" in shown
    print_result(study, stopped_early(make_result(study, [1.0], seeds=1)), tmp_path)
    words = "every patient was promised ε = 1.000 at most, spent was ε = 0.310, δ"
    assert words in " ".join(capsys.readouterr().out.split())


def test_results_of_an_earlier_version_are_still_read_and_say_what_was_spent() -> None:
    study = make_study("binary")
    result = make_result(study)
    old = result.model_dump(mode="json")
    for cell in old["cells"]:
        cell["privacy"].pop("epsilon_promised", None)
    text = Page(render_report(study, Result.model_validate(old))).text
    assert "took part. Spent was ε = 1" in text


def sampled(result: Result) -> Result:
    """Return the result as a sampled run would have given it."""
    cells = []
    for cell in result.cells:
        spent = cell.privacy
        if spent.epsilon is not None:
            change = {
                "epsilon_prv": 0.871,
                "epsilon_two_hospitals": 1.683,
                "accountant": rdp.ACCOUNTANT,
            }
            spent = spent.model_copy(update=change)
        cells.append(cell.model_copy(update={"privacy": spent}))
    return result.model_copy(update={"cells": cells})


def test_a_sampled_run_shows_prv_for_information_and_what_two_hospitals_cost() -> None:
    study = make_study("binary")
    full = Page(render_report(study, make_result(study)))
    assert "PRV" not in full.text
    assert "twice the parameter μ" in full.text
    page = Page(render_report(study, sampled(make_result(study))))
    header = next(row for row in page.rows if "ε by PRV, for information only" in row)
    row = next(
        row for row in page.rows if row[:3] == ["local", "–", "1"] and len(row) == len(header)
    )
    assert row[-2:] == ["1.69", "0.871"]
    assert "ε = 1 becomes 1.69 (twice the highest Rényi curve" in page.text
    assert "What was spent, as the hospitals' ledgers count and enforce it, is ε = 1." in page.text
    none = next(row for row in page.rows if row[0] == "none" and len(row) == len(header))
    assert none[-2] == "no bound"
    assert none[-1].startswith("–")  # the parser adds what follows the table


def with_formula(result: Result, scored: int) -> Result:
    """Return the result with a formula that can judge `scored` of 200 patients."""
    cells = []
    for cell in result.cells:
        same = {"clinical formula": cell.baselines.pooled_converged} if scored < 200 else {}
        beside = cell.baselines.model_copy(
            update={
                "published": cell.baselines.trivial,
                "published_formulas": {"clinical formula": cell.baselines.trivial},
                "published_patients": {"clinical formula": scored},
                "test_patients": 200,
            }
        )
        cells.append(cell.model_copy(update={"baselines": beside, "on_formula": same}))
    return result.model_copy(update={"cells": cells})


def test_a_formula_that_misses_patients_says_how_many_it_has() -> None:
    study = make_study("continuous")
    some = Page(render_report(study, with_formula(make_result(study), 150)))
    assert "clinical formula is scored on 150 of 200 test patients" in some.text
    assert "a formula from the literature, not fitted here" in some.text
    assert "both on the 150 of 200 test patients who have every value that it needs" in some.text
    assert any(row[0] == "Published: clinical formula (150 of 200 patients)" for row in some.rows)
    every = Page(render_report(study, with_formula(make_result(study), 200)))
    assert "is scored on" not in every.text
    assert "both on the" not in every.text
    assert "Against the published formula clinical formula: " in every.text


def test_formula_and_model_stand_on_the_same_patients_and_the_model_on_all_beside_them() -> None:
    study = make_study("continuous")
    result = with_formula(make_result(study, [1.0]), 150)
    page = Page(render_report(study, result))
    header = next(row for row in page.rows if "Model, same patients" in row)
    row = next(row for row in page.rows if row[0] == "clinical formula" and len(row) == len(header))
    shown = dict(zip(header, row, strict=True))
    measure = measure_of(study, "mae")
    cells = result.cells
    assert shown["Patients"] == "150 of 200"
    for name, scores in {
        "Formula": [cell.baselines.published_formulas["clinical formula"] for cell in cells],
        "Model, same patients": [cell.on_formula["clinical formula"] for cell in cells],
        "Model, all test patients": [cell.test for cell in cells],
    }.items():
        assert shown[name].startswith(measure.text([each.overall["mae"] for each in scores]))


def calibrated(result: Result, bins: list[tuple[float, float]]) -> Result:
    """Return the result with these bins (predicted, observed) of 60 patients in private cells."""
    made = [CalibrationBin(predicted=p, observed=o, patients=60) for p, o in bins]
    cells = [
        cell.model_copy(update={"figures": cell.figures.model_copy(update={"calibration": made})})
        if cell.epsilon is not None
        else cell
        for cell in result.cells
    ]
    return result.model_copy(update={"cells": cells})


@pytest.mark.parametrize("kind", ["binary", "survival"])
@pytest.mark.parametrize(
    ("bins", "said"),
    [
        ([(0.42, 0.07), (0.45, 0.3), (0.5, 0.55), (0.57, 0.92)], "too close together"),
        ([(0.02, 0.3), (0.4, 0.5), (0.98, 0.7)], "too far apart"),
        ([(0.4, 0.2), (0.6, 0.4), (0.8, 0.6)], "They are too high"),
        ([(0.2, 0.4), (0.4, 0.6), (0.6, 0.8)], "They are too low"),
    ],
)
def test_probabilities_that_are_clearly_off_are_warned_of(
    kind: str, bins: list[tuple[float, float]], said: str
) -> None:
    study = make_study(kind)
    text = Page(render_report(study, calibrated(make_result(study), bins))).text
    assert "must not be read as probabilities" in text
    assert "Without privacy: " in text
    assert said in text
    assert "Remedy: " in text


@pytest.mark.parametrize(
    "bins",
    [
        [(0.1, 0.13), (0.5, 0.45), (0.9, 0.86)],  # nearly right
        [(0.4, 0.48), (0.5, 0.42), (0.6, 0.68)],  # no more than chance makes of 60 patients
    ],
)
def test_no_warning_where_chance_explains_the_calibration(bins: list[tuple[float, float]]) -> None:
    study = make_study("binary")
    text = Page(render_report(study, calibrated(make_result(study), bins))).text
    assert "must not be read as probabilities" not in text


def rare(study: Study, expected: list[float], observed: list[float], slope: float) -> Result:
    """Return a result of private and plain cells; predicted and observed deaths of 200 each."""

    def reliability(predicted: list[float], slope: float) -> Reliability:
        fifths = [
            Counted(patients=200, expected=e, observed=o, variance=e * (1 - e / 200))
            for e, o in zip(predicted, observed, strict=True)
        ]
        return Reliability(fifths=fifths, slope=slope, slope_error=0.15)

    cells = []
    for cell in make_result(study, [1.0, None], seeds=3).cells:
        private = cell.epsilon is not None
        found = reliability(expected if private else observed, slope if private else 1.0)
        figures = cell.figures.model_copy(update={"reliability": found})
        cells.append(cell.model_copy(update={"figures": figures}))
    return make_result(study, []).model_copy(update={"cells": cells})


SEEN = [4.0, 6.0, 8.0, 10.0, 42.6]
TOO_FEW = [6.0, 6.4, 7.0, 8.8, 21.2]


def test_a_rare_outcome_that_is_predicted_too_seldom_is_warned_of() -> None:
    """7 % die, 0.70 of them are predicted, of the highest fifth 10.6 % and 21.3 % die."""
    study = make_study("binary")
    text = Page(render_report(study, rare(study, TOO_FEW, SEEN, 1.0))).text
    assert "must not be read as probabilities" in text
    assert "0.70 times as many are predicted as were observed (49.4 and 70.6 of 1000" in text
    assert "in the highest fifth of predictions 10.6 % are predicted and 21.3 % observed" in text
    assert "The clip: the rare patients" in text
    assert "Noise: the ridge" not in text


def test_a_total_that_is_off_is_warned_of_though_no_fifth_is() -> None:
    study = make_study("binary")
    few = [0.72 * seen for seen in SEEN]
    text = Page(render_report(study, rare(study, few, SEEN, 1.0))).text
    assert "0.72 times as many are predicted as were observed" in text
    assert "fifth of predictions" not in text.partition("0.72 times")[2].partition("Remedy")[0]


def test_flattened_probabilities_are_put_down_to_the_ridge() -> None:
    study = make_study("binary")
    flat = [12.0, 13.0, 14.0, 15.0, 16.6]
    text = Page(render_report(study, rare(study, flat, SEEN, 2.2))).text
    assert "the calibration slope is 2.20" in text
    assert "Noise: the ridge that steadies training" in text
    assert "The clip" not in text


def test_what_mends_probabilities_is_never_what_the_study_has() -> None:
    study = make_study("binary")
    result = rare(study, TOO_FEW, SEEN, 1.6)
    comparison = compare(study, result)
    assert comparison is not None

    def remedy(**training: object) -> str:
        changed = study.training.model_copy(update=training)
        return warning(study.model_copy(update={"training": changed}), comparison).partition(
            "Remedy: "
        )[2]

    ridge, phase = 'training.ridge = "release"', "[training.calibration]"
    both, first = remedy(), remedy(ridge="release")
    assert ridge in both
    assert phase in both
    assert ridge not in first
    assert phase in first
    last = remedy(ridge="release", calibration={"share": 0.1})
    assert ridge not in last
    assert phase not in last
    assert "more patients or a larger epsilon; or recalibrate locally" in last


def test_a_hospital_that_was_held_out_and_differs_is_called_drift() -> None:
    holdout = {"kind": "sites", "sites": [SITES[0]]}
    study = make_study("binary", evaluation={"holdout": holdout})
    result = rare(study, TOO_FEW, SEEN, 1.0)
    plain = [cell.model_copy(update={"figures": result.cells[0].figures}) for cell in result.cells]
    text = Page(render_report(study, result.model_copy(update={"cells": plain}))).text
    assert "it differs from those that train (drift)" in text
    assert "recalibrate locally" in text
    assert "training.ridge" not in text


def test_events_by_a_time_of_the_grid_are_warned_of() -> None:
    study = make_study("survival")
    result = rare(study, SEEN, SEEN, 1.0)
    assert "must not be read" not in Page(render_report(study, result)).text
    early = [AtTime(time=365.0, predicted=0.05, observed=0.02)]
    cells = []
    for cell in result.cells:
        found = cell.figures.reliability
        assert found is not None
        found = found.model_copy(update={"by_time": early})
        figures = cell.figures.model_copy(update={"reliability": found})
        cells.append(cell.model_copy(update={"figures": figures}))
    text = Page(render_report(study, result.model_copy(update={"cells": cells}))).text
    assert "by time 365 5.0 % are predicted and 2.0 % observed" in text


def test_nine_settings_leave_no_table_wider_than_a_page_and_no_minus_zero() -> None:
    study = make_study("binary")
    local = make_result(study, [0.5, 1.0, 2.0, 4.0, None])
    summed = [
        cell.model_copy(update={"mode": "secure-sum"})
        for cell in local.cells
        if cell.epsilon is not None
    ]
    result = local.model_copy(update={"cells": [*summed, *local.cells]})
    html = render_report(study, result)
    page = Page(html)
    assert max(len(row) for row in page.rows) <= WIDEST
    assert not re.search(r"[-−]0(\.0+)?(?![.\d])", page.text)
    for mode in ("secure-sum", "local"):
        for epsilon in ("0.5", "1", "2", "4"):
            assert f"Trained together, ε = {epsilon}, mode {mode}" in page.text
    for mode in ("mode secure-sum", "mode local", "mode none"):
        assert mode in html


def test_modes_differ_by_colour_and_by_mark() -> None:
    looks = [look(mode) for mode in (*get_args(Mode), None)]
    assert len({colour for colour, _ in looks}) == len({mark for _, mark in looks}) == 4


def test_groups_without_any_patient_have_no_row() -> None:
    study = make_study("binary")
    result = make_result(study)
    nothing: Metrics = dict.fromkeys(METRICS)

    def emptied(scores: Scores) -> Scores:
        return scores.model_copy(update={"by_site": scores.by_site | {SITES[0]: nothing}})

    cells = [
        cell.model_copy(
            update={
                "test": emptied(cell.test),
                "baselines": cell.baselines.model_copy(
                    update={
                        "local_only_non_private": emptied(cell.baselines.local_only_non_private)
                        if cell.baselines.local_only_non_private
                        else None
                    }
                ),
            }
        )
        for cell in result.cells
    ]
    page = Page(render_report(study, result.model_copy(update={"cells": cells})))
    named = [row[0] for row in page.rows if row]
    assert named.count(SITES[0]) == 1  # in the table of the data alone
    assert named.count(SITES[1]) > 1


def test_coded_levels_are_called_by_their_labels() -> None:
    sex = {
        "name": "sex",
        "kind": "categorical",
        "levels": ["0", "1"],
        "labels": {"0": "female", "1": "male"},
        "source": "form",
    }
    cohort = {"patient_id": "patient", "site": "hospital", "features": [sex]}
    study = make_study("binary", cohort=cohort, subgroups=[{"column": "sex"}])
    page = Page(render_report(study, make_result(study)))
    assert any(row[0] == "sex = female" for row in page.rows if row)
    assert "categorical: 0 (female), 1 (male)" in page.text
    assert "sex = 0" not in page.text


@pytest.mark.parametrize("kind", sorted(OUTCOMES))
def test_report_and_study_show_use_the_same_words(kind: str) -> None:
    study = make_study(kind)
    text = Page(render_report(study, make_result(study))).text
    shown = " ".join(line for section in describe(study) for line in section.lines)
    for words in (outcome_in_words(study), treatment_in_words(study)):
        assert words in text
        assert words in shown
    assert "nothing here estimates its effect" in text


def test_nothing_finished_is_said() -> None:
    study = make_study("binary", subgroups=[])
    result = make_result(study, []).model_copy(update={"sites": []})
    assert "No run has finished" in Page(render_report(study, result)).text


def test_synthetic_patients_are_labelled() -> None:
    real, synthetic = make_study("binary"), make_study("binary", synthetic=True)
    assert "Synthetic patients" in Page(render_report(synthetic, make_result(synthetic))).text
    assert "ynthetic" not in Page(render_report(real, make_result(real))).text


def test_the_same_result_gives_the_same_page() -> None:
    study = make_study("survival")
    result = make_result(study, [0.5, 1.0, 2.0, 4.0, None])
    first = render_report(study, result)
    assert render_report(study, result) == first
