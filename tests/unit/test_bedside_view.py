"""The page at the bedside: a form of the study, a prediction told in one order, and a guard."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from polyclinic_common.bedside.answer import Asked
from polyclinic_common.bedside.entered import Entered, read_form
from polyclinic_common.bedside.facts import model_facts
from polyclinic_common.bedside.form import MOST_INPUTS, SITE, Field, Group, form_of
from polyclinic_common.bedside.guard import FAULT, LARGEST_BODY, Guard
from polyclinic_common.bedside.hundred import percent
from polyclinic_common.bedside.page import Page, policy
from polyclinic_common.bedside.view import ResultView
from polyclinic_common.bundle.bundle import Bundle
from polyclinic_common.bundle.contents import Evaluation
from polyclinic_common.bundle.here import LEFT_OUT, OUTSIDE, RECALIBRATED, ModelHere
from polyclinic_common.bundle.local_calibration import LocalCalibration, Width
from polyclinic_common.bundle.opening import OpenedBundle
from polyclinic_common.bundle.patients import patient_frame
from polyclinic_common.bundle.predictor import Predictor, restricted_mean
from polyclinic_common.bundle.reasons import contributions
from polyclinic_common.bundle.refit import Refit
from polyclinic_common.bundle.similar import OwnPatients
from polyclinic_common.errors import ModelError
from polyclinic_common.identity.site_key import Identity, fingerprint
from polyclinic_common.models.score_head import Vector
from polyclinic_common.study import Study
from polyclinic_common.study.outcomes import Survival
from tests.kits.bedside import here_of, plausible_weights, released
from tests.kits.bundles import bundle_of_study, draft_of_study, facts_of_study
from tests.kits.other_studies import AGE, CYP, EVERY, GENES, SEX, SNP, some_weights, study
from tests.kits.small import small_study, small_table, study_data

PATH, PORT = "/secret/", 4711
HOST = f"127.0.0.1:{PORT}"
FORM = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}
LABELLED = SEX | {"labels": {"female": "women", "male": "men"}}
HLA = {"name": "b57", "kind": "hla", "gene": "HLA-B", "alleles": ["*57:01"], "source": "test"}
LONG = GENES | {"columns": [f"g {index}" for index in range(MOST_INPUTS + 1)]}
MARK = "Zaphod<b>Beeblebrox</b>"


def fields_of(of: Study) -> dict[str, Field]:
    return {field.column: field for group in form_of(of) for field in group.fields}


def entered(of: Study, **answers: str) -> Entered:
    """Return what is entered, by column."""
    keys = {column: field.key for column, field in fields_of(of).items()}
    return read_form(form_of(of), {keys[column]: answer for column, answer in answers.items()})


def result(of: Study, site: str | None = None, **answers: str) -> ResultView:
    found = entered(of, **answers)
    assert not found.problems
    own = OwnPatients(of, plausible_weights(of), small_table(60, 1))
    return Asked(here_of(released(of)), own)(Entered(found.typed, found.values, site or found.site))


# The form


def test_every_input_of_the_model_is_asked_once_and_nothing_else() -> None:
    of = study(*EVERY, HLA, indicator=True)
    groups = form_of(of)
    keys = [field.key for group in groups for field in group.fields]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch("[a-z0-9-]+", key) for key in keys)
    asked = {"age", "weight", "sex", "grade", "snp", "cyp", "g1", "g2", "g3", "b57", "hospital"}
    assert set(fields_of(of)) == asked
    assert [group.title for group in groups] == ["Patient", "Genes", "Panels", "Hospital"]


def test_questions_say_unit_range_labels_and_an_example() -> None:
    fields = fields_of(study(AGE, LABELLED, SNP, CYP, HLA))
    assert (fields["age"].kind, fields["age"].unit) == ("number", "years")
    assert "20 to 80 years" in fields["age"].hint
    assert fields["sex"].options == (("female", "women"), ("male", "men"))
    assert [fields[name].kind for name in ("snp", "cyp", "b57")] == ["text"] * 3
    for name, example in (("snp", "G/A"), ("cyp", "*1/*2"), ("b57", "*57:01/*57:01")):
        assert example in fields[name].hint
        assert not entered(study(SNP, CYP, HLA), **{name: example}).problems


def test_a_long_panel_is_asked_for_as_lines() -> None:
    of = study(AGE, LONG)
    assert fields_of(of)["genes"].kind == "lines"
    found = entered(of, genes="g 0 1.5\n\n g 1 = -2\ng 12\t3e0")
    assert not found.problems
    assert found.values == {"g 0": "1.5", "g 1": "-2", "g 12": "3e0"}
    wrong = entered(of, genes="g 0 1.5\ng 99 1\ng 0 2\ng 1 1,5\nnonsense")
    assert "Cannot read line 2, 3, 4 and others." in wrong.problems[0].what
    assert wrong.values == {}


def test_arms_are_called_as_the_study_calls_them_and_a_dose_has_its_unit() -> None:
    arms: dict[str, Any] = {
        "kind": "arms",
        "column": "arm",
        "arms": ["0", "1"],
        "labels": {"0": "zidovudine"},
        "assignment": "observational",
        "source": "test",
    }
    of = small_study(treatment=arms)
    assert fields_of(of)["arm"].options == (("0", "zidovudine"), ("1", "1"))
    assert "does not tell which treatment is better" in form_of(of)[-1].note
    dose = {"kind": "dose", "column": "given", "unit": "mg", "range": [0, 9], "source": "test"}
    of = small_study(treatment=dose | {"assignment": "randomised"})
    assert (fields_of(of)["given"].kind, fields_of(of)["given"].unit) == ("number", "mg")


@pytest.mark.parametrize(
    ("column", "answer", "says"),
    [
        ("age", "61 years", "without its unit"),
        ("age", "61,5", "with a point"),
        ("age", "inf", "Enter a number"),
        ("sex", "diverse", "Choose one"),
        ("snp", "C/T", "Known is: SNP"),
        ("cyp", "*1A/*2", "If *1/*2 is meant"),
        ("hospital", "elsewhere", "Choose one"),
    ],
)
def test_an_answer_that_cannot_be_read_is_named_beside_its_question(
    column: str, answer: str, says: str
) -> None:
    of = study(*EVERY, indicator=True)
    found = entered(of, **{column: answer})
    (problem,) = found.problems
    assert problem.key == fields_of(of)[column].key
    assert says in problem.what
    assert found.typed[problem.key] == answer
    assert column not in found.values


def test_everything_may_be_left_empty() -> None:
    of = study(*EVERY, indicator=True)
    found = entered(of)
    assert (found.problems, dict(found.values), found.site) == ((), {}, None)
    view = Asked(here_of(released(of, evaluation=Evaluation())))(found)
    assert view.figure
    assert len(view.missing) == len(EVERY)


# What is told


@pytest.mark.parametrize(
    ("share", "words"),
    [
        *((1e-9, "fewer than 1 %"), (0.009, "fewer than 1 %"), (0.012, "1 %"), (0.35, "35 %")),
        *((0.988, "99 %"), (0.992, "more than 99 %"), (1 - 1e-9, "more than 99 %")),
    ],
)
def test_a_probability_is_never_told_as_impossible_or_certain(share: float, words: str) -> None:
    assert percent(share) == words


def test_a_probability_is_the_same_as_figure_sentence_table_and_circles() -> None:
    of = small_study("binary")
    view = result(of, age="61", sex="male")
    frame = patient_frame(of, {"age": "61", "sex": "male"})
    chance = float(Predictor(of, plausible_weights(of)).predict(frame).prediction.value[0])
    count = round(100 * chance)
    assert view.hundred is not None
    assert view.figure == f"{count} %"
    assert f"one, {count} have response" in view.hundred.text
    assert view.hundred.table.rows == (("response", str(count)), ("no response", str(100 - count)))
    assert sum(icon.filled for icon in view.hundred.icons) == view.hundred.count == count
    assert len(view.hundred.icons) == 100


def test_a_course_is_told_at_every_time_and_its_mean_is_the_area_under_the_curve() -> None:
    of = small_study("survival")
    view = result(of, age="61")
    weights = plausible_weights(of)
    made = Predictor(of, weights).predict(patient_frame(of, {"age": "61"})).prediction
    assert made.survival is not None
    assert view.hundred is not None
    assert view.hundred.curve is not None
    assert isinstance(of.outcome, Survival)
    free = [round(100 * share) for share in made.survival[0]]
    rows = view.hundred.table.rows
    assert [row[0] for row in rows] == ["100 days", "200 days", "300 days", "400 days"]
    assert [row[1:] for row in rows] == [(str(n), str(100 - n)) for n in free]
    area = np.trapezoid([1.0, *made.survival[0]], [0.0, *of.outcome.grid])
    assert restricted_mean(of.outcome, made.survival)[0] == pytest.approx(area)
    assert f"On average {area:.1f} of the first 400 days" in view.notes[0]
    points = [tuple(map(float, each.split(","))) for each in view.hundred.curve.points.split()]
    down = np.array([y for _, y in points])
    shares = 1.0 - (down - down[0]) / (view.hundred.curve.up[0].at - down[0])
    assert shares == pytest.approx([1.0, *made.survival[0]], abs=1e-3)


def test_a_number_is_told_in_its_unit_with_its_interval_as_circles() -> None:
    view = result(small_study("continuous"), age="61")
    assert re.fullmatch(r"\d+\.\d mg", view.figure)
    assert view.sure is not None
    assert view.hundred is not None
    low, high = map(float, re.findall(r"[\d.]+", view.sure.text))
    assert low < float(view.figure.split()[0]) < high
    assert "Approximate" in view.sure.how
    assert (view.hundred.count, view.hundred.filled) == (90, "within the interval")
    assert "of all patients together, not only of those like this patient" in view.hundred.text
    assert view.hundred.title == view.hundred.table.caption == "In 100 patients of every kind"


def test_a_mean_time_is_told_as_finely_as_its_grid_deserves() -> None:
    """A grid in years must not round a mean of 4.3 years to 4."""
    outcome = study_data("survival")["outcome"] | {"unit": "years", "grid": [1, 2, 3.5, 5]}
    of = small_study("survival", outcome=outcome)
    made = Predictor(of, plausible_weights(of)).predict(patient_frame(of, {"age": "61"})).prediction
    assert made.survival is not None
    area = np.trapezoid([1.0, *made.survival[0]], [0.0, 1.0, 2.0, 3.5, 5.0])
    assert f"On average {area:.2f} of the first 5 years" in result(of, age="61").notes[0]


def test_without_an_interval_nothing_is_said_of_a_hundred_numbers() -> None:
    of = small_study("continuous")
    view = Asked(here_of(released(of, evaluation=Evaluation())))(entered(of, age="61"))
    assert (view.hundred, view.sure) == (None, None)


def test_reasons_stand_largest_first_with_a_bar_to_the_side_of_their_sign() -> None:
    of = small_study("binary")
    view = result(of, age="79", sex="male")
    assert view.reasons is not None
    rows = view.reasons.rows
    assert [row.label for row in rows] in (["Age", "Sex"], ["Sex", "Age"])
    factors = [float(re.findall(r"odds × ([\d.]+)", row.words)[0]) for row in rows]
    assert abs(np.log(factors[0])) >= abs(np.log(factors[1]))
    for row, factor in zip(rows, factors, strict=True):
        assert (row.bar.x >= 50.0) == (factor >= 1.0)
        assert row.bar.x + row.bar.width <= 100.0
    assert max(row.bar.width for row in rows) == 50.0


def test_a_model_of_which_no_reasons_can_be_told_predicts_all_the_same() -> None:
    of = study(*EVERY, model={"kind": "mlp", "hidden": [6, 6]})
    weights = 1e5 * some_weights(of)  # so steep that contributions do not add up
    frame = patient_frame(of, {"age": "61"})
    with pytest.raises(ModelError):
        contributions(of, weights, Predictor(of, weights).encode(frame))
    view = Asked(here_of(released(of, weights, Evaluation())))(entered(of, age="61"))
    assert view.figure
    assert view.reasons is None
    text = send(
        app(of, Evaluation(), weights=weights), "POST", headers=FORM, content=b"q0-0=61"
    ).text
    assert "No reasons can be given" in text


def test_what_is_missing_and_beyond_its_range_is_told() -> None:
    view = result(small_study("binary"), age="99")
    assert view.missing == ("sex: no value.",)
    assert view.clamped == ("age: outside 20 to 80 years; it counts as the bound.",)
    assert view.figure


def test_a_hospital_outside_the_roster_is_told_so() -> None:
    cohort = study_data()["cohort"] | {"site_indicator": True}
    of = small_study(cohort=cohort)
    assert OUTSIDE in result(of, age="50").notes
    assert OUTSIDE not in result(of, site="site 1", age="50").notes
    assert OUTSIDE not in result(small_study(), age="50").notes


def calibrated_under(name: str | None, of: Study) -> ModelHere:
    """Return a model whose level was set right, and which was measured, under one name."""
    opened = OpenedBundle(released(of), None, ())
    local = LocalCalibration(
        bundle=opened.bundle.digest,
        made=dt.date(2026, 11, 29),
        alpha=0.1,
        patients=200,
        held_out=0,
        hospital=name,
        refit=Refit(shift=0.5, slope=1.0, changed="level", patients=200),
        found=Width(half_width=0.2),
    )
    return ModelHere(opened, Predictor(of, opened.bundle.model.weights), None, local).under(name)


@pytest.mark.parametrize("made_as", ["site 1", None])
@pytest.mark.parametrize("chosen", ["site 1", "site 2", None])
def test_a_calibration_counts_for_no_other_hospital_of_the_form(
    made_as: str | None, chosen: str | None
) -> None:
    of = small_study("continuous", cohort=study_data()["cohort"] | {"site_indicator": True})
    given = entered(of, age="61", **({} if chosen is None else {"hospital": chosen}))
    view = Asked(calibrated_under(made_as, of))(given)
    plain = Asked(here_of(released(of)))(given)
    assert view.sure is not None
    if made_as == chosen:
        assert view.figure != plain.figure
        assert "patients of this hospital" in view.sure.how
        assert RECALIBRATED in view.notes
        assert LEFT_OUT not in view.notes
    else:
        assert view.figure == plain.figure
        assert view.sure == plain.sure
        assert RECALIBRATED not in view.notes
        assert LEFT_OUT in view.notes


def test_where_the_form_asks_for_no_hospital_a_calibration_counts_under_any_name() -> None:
    view = Asked(calibrated_under("site 1", small_study("continuous")))(
        entered(small_study("continuous"), age="61")
    )
    assert RECALIBRATED in view.notes
    assert LEFT_OUT not in view.notes


# The page


def app(
    of: Study,
    evaluation: Evaluation | None = None,
    hospital: str | None = None,
    weights: Vector | None = None,
) -> Guard:
    here = here_of(released(of, weights, evaluation), hospital)
    own = OwnPatients(of, here.predictor.weights, small_table(60, 1))
    start = {SITE: hospital} if hospital else {}
    page = Page(form_of(of), model_facts(here.opened), Asked(here, own), start)
    return Guard(page, PATH, PORT, policy())


def send(
    guarded: Guard,
    method: str = "GET",
    path: str = PATH,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
) -> httpx.Response:
    async def answered() -> httpx.Response:
        transport = httpx.ASGITransport(app=guarded, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
            return await client.request(method, path, headers=headers, content=content)

    return asyncio.run(answered())


@pytest.fixture(scope="module")
def guarded() -> Guard:
    return app(small_study("survival"))


ORDER = (
    *("predicted", "hundred", "interval", "reasons", "missing", "covered", "similar", "limits"),
    "asked",
)


@pytest.mark.parametrize(
    ("kind", "like"), [("binary", True), ("continuous", False), ("survival", True)]
)
def test_an_intervals_promise_is_never_told_of_patients_like_this_one(
    kind: str, like: bool
) -> None:
    text = send(app(small_study(kind)), "POST", headers=FORM, content=b"q0-0=61&q1=male").text
    assert ("100 patients like this one" in text) == like
    assert ("100 patients of every kind" in text) != like


@pytest.mark.parametrize("kind", ["binary", "continuous", "survival"])
def test_the_result_is_told_in_one_order_with_one_main_heading(kind: str) -> None:
    text = send(app(small_study(kind)), "POST", headers=FORM, content=b"q0-0=61&q1=male").text
    assert tuple(re.findall(r'<h2 id="([a-z]+)"', text)) == ORDER
    assert len(re.findall("<h1", text)) == 1
    assert "SIMULATED" in text
    assert "epsilon" in text.lower()
    assert "no medical device" in text
    assert "Signed by" in text
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(set(ids)) == len(ids)
    described = {
        each for found in re.findall('aria-describedby="([^"]+)"', text) for each in found.split()
    }
    assert described <= set(ids)


def papers_of(bundle: Bundle) -> list[tuple[str, str]]:
    return list(model_facts(OpenedBundle(bundle, None, ())).papers)


def test_hospitals_are_counted_by_what_the_operator_signed_and_no_signature_names_one() -> None:
    of, operator = small_study(), Identity.generate()
    facts = facts_of_study(of, operator, "1f0c")
    draft = draft_of_study(of, operator)
    names = dict(zip(of.training_sites, (3, 0, 2), strict=True))
    history = draft.history.model_copy(update={"answered": names})
    stranger = Identity.generate()
    made = replace(draft, history=history).signed(operator, facts, {}).signed(stranger)
    papers = papers_of(made)
    assert ("Hospitals", "2 took part") in papers
    assert papers[-2:] == [
        ("Signed by the operator", fingerprint(operator.public)),
        ("Signed by a key that is not known here", fingerprint(stranger.public)),
    ]


def test_of_a_simulation_it_is_said_how_many_hospitals_were_simulated() -> None:
    of, operator = small_study(), Identity.generate()
    papers = papers_of(bundle_of_study(of, operator, simulated=True))
    assert ("Hospitals", f"{len(of.training_sites)} simulated; none took part") in papers


def test_the_page_holds_no_script_and_loads_nothing(guarded: Guard) -> None:
    for answer in (
        send(guarded),
        send(guarded, "POST", headers=FORM, content=b"q0-0=61"),
        send(guarded, "POST", headers=FORM, content=b"q0-0=x"),
    ):
        assert not re.search(r"<script|javascript:|\son\w+=|style=|@import|url\(", answer.text)
        assert not re.findall(r'(?:src|href|action)="(?!#|\./"|data:)', answer.text)
        rules = answer.headers["content-security-policy"]
        assert "default-src 'none'" in rules
        assert "script-src" not in rules
        assert "unsafe" not in rules


def test_every_answer_forbids_keeping_framing_and_telling(guarded: Guard) -> None:
    for answer in (send(guarded), send(guarded, path="/other/")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "set-cookie" not in answer.headers


def test_what_was_typed_comes_back_as_text_alone() -> None:
    answer = send(
        app(small_study()),
        "POST",
        headers=FORM,
        content=f"q0-0={MARK}".replace("<", "%3C").encode(),
    )
    assert answer.status_code == 422
    assert "Zaphod&lt;b&gt;" in answer.text
    assert MARK not in answer.text
    assert MARK not in str(answer.headers)


def test_an_error_is_listed_at_the_top_linked_to_its_question_and_told_beside_it(
    guarded: Guard,
) -> None:
    text = send(guarded, "POST", headers=FORM, content=b"q0-0=x&q1=male").text
    assert "<title>Error: " in text
    assert text.index('<a href="#q0-0">Age</a>') < text.index("<form")
    asked = re.findall(r'<input id="q0-0"[^>]*>', text)[0]
    assert 'value="x"' in asked
    assert 'aria-invalid="true"' in asked
    assert 'aria-describedby="q0-0-hint q0-0-error"' in asked
    assert '<option value="male" selected>' in text
    assert 'id="predicted"' not in text


STRANGE: dict[str, dict[str, Any]] = {
    "another path": {"path": "/"},
    "a guessed token": {"path": "/secreT/"},
    "below it": {"path": "/secret/more"},
    "without the slash": {"path": "/secret"},
    "a question": {"path": "/secret/?q0-0=61"},
    "another host": {"headers": {"host": "evil.example"}},
    "a rebound name": {"headers": {"host": f"localhost:{PORT}"}},
    "another port": {"headers": {"host": "127.0.0.1:80"}},
    "another method": {"method": "PUT", "headers": FORM},
    "options": {"method": "OPTIONS"},
    "a form from elsewhere": {
        "method": "POST",
        "headers": FORM | {"sec-fetch-site": "cross-site", "origin": f"http://{HOST}"},
    },
    "a form from the same site": {
        "method": "POST",
        "headers": FORM | {"sec-fetch-site": "same-site"},
    },
    "a form of another origin": {
        "method": "POST",
        "headers": {"content-type": FORM["content-type"], "origin": "http://127.0.0.1:80"},
    },
    "a form from nowhere": {"method": "POST", "headers": {"content-type": FORM["content-type"]}},
    "no form": {"method": "POST", "headers": FORM | {"content-type": "text/plain"}},
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_stranger_gets_a_404_that_tells_nothing(guarded: Guard, name: str) -> None:
    content = b"q0-0=61" if STRANGE[name].get("method") == "POST" else None
    answer = send(guarded, **STRANGE[name] | {"content": content})
    assert (answer.status_code, answer.text) == (404, "Not found")


def test_a_fault_is_told_plainly_and_tells_nothing_of_the_patient() -> None:
    """The guard before a page that fails on every patient, naming them."""

    def fail(given: Entered) -> ResultView:
        raise ZeroDivisionError(str(given.values))

    of = small_study()
    page = Page(form_of(of), model_facts(here_of(released(of)).opened), fail, {})
    answer = send(
        Guard(page, PATH, PORT, policy()), "POST", headers=FORM, content=b"q0-0=61.25&q1=male"
    )
    assert (answer.status_code, answer.text) == (500, FAULT)
    assert answer.headers["content-type"].startswith("text/plain")
    assert "61.25" not in answer.text + str(answer.headers)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"] == policy()


def test_a_form_of_the_page_itself_is_answered(guarded: Guard) -> None:
    old = {"content-type": FORM["content-type"], "origin": f"http://{HOST}"}
    hidden = FORM | {"origin": "null"}  # what a browser sends that is told to send no referrer
    for headers in (FORM, old, hidden):
        assert send(guarded, "POST", headers=headers, content=b"q0-0=61").status_code == 200


def test_a_form_that_is_too_long_or_no_text_is_refused(guarded: Guard) -> None:
    large = b"q0-0=" + b"6" * LARGEST_BODY
    assert send(guarded, "POST", headers=FORM, content=large).status_code == 413
    assert (
        send(guarded, "POST", headers=FORM, content=b"&".join([b"q=1"] * 5000)).status_code == 400
    )
    assert send(guarded, "POST", headers=FORM, content=b"\xff=1").status_code == 400


def test_the_form_begins_with_this_hospital() -> None:
    cohort = study_data()["cohort"] | {"site_indicator": True}
    of = small_study(cohort=cohort)
    text = send(app(of, hospital="site 1")).text
    assert '<option value="site 1" selected>' in text


def test_the_groups_of_the_card_stand_on_the_page(guarded: Guard) -> None:
    text = send(guarded).text
    assert "too few patients to judge" in text
    assert "Gap to all patients" in text
    unknown = app(small_study("survival"), evaluation=Evaluation())
    assert "whether it serves them alike is not known" in send(unknown).text


def test_groups_without_questions_are_left_out() -> None:
    assert [group.title for group in form_of(small_study())] == ["Patient"]
    assert isinstance(form_of(small_study())[0], Group)
