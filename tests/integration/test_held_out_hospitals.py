"""Whole hospitals held out: those that train are counted, the others send nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from polyclinic_client.consortium.offers import offers, show_study
from polyclinic_client.consortium.participation import find_study
from polyclinic_client.folder.layout import read_identity
from polyclinic_client.folder.membership import Membership
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.run.approved_study import approved_with
from polyclinic_client.run.update_responder import Memory
from polyclinic_client.study_book.book import StudyBook
from polyclinic_client.study_book.price import plan_approval, planned_in
from polyclinic_client.study_book.roster import check_roster
from polyclinic_client.worker.site_book import SiteBook, find_approved
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.consortium.statements import ANY_RUN, Declaration, StudyApproval
from polyclinic_common.errors import Code, PolyclinicError
from polyclinic_common.identity.roster import Roster
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.releases.schedule import Schedule
from polyclinic_common.study import Study, load_study
from polyclinic_common.wire import (
    OpenRequest,
    Reason,
    Refusal,
    TrainRequest,
    decode_reply,
    encode_request,
)
from polyclinic_server.consortium.publish import participants, published_studies
from polyclinic_server.rounds.combiner import Descent
from polyclinic_server.rounds.state import State
from polyclinic_server.runs import operate
from polyclinic_server.runs.folder import RunDescription
from polyclinic_server.runs.start import start_run
from polyclinic_simulations import simulate
from polyclinic_simulations.draft.from_table import Roles, draft_study
from polyclinic_simulations.federation.federation import Federation, build_federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import run_plan, start_weights, train_federated
from polyclinic_simulations.report.console import print_result
from polyclinic_simulations.report.page import render_report
from tests.kits.loopback import Loopback
from tests.kits.small import small_study, small_table

NINE = [f"site {index}" for index in range(9)]
RULES = {2: (2, 1), 3: (3, 1), 7: (6, 1)}  # m and c of a study that names so many hospitals
EPSILON, DELTA = 1.0, 1e-5


def whole_study(train: int, hospitals: int = 9, **changes: Any) -> Study:
    """Return a study of which only the first so many hospitals train."""
    names = [f"site {index}" for index in range(hospitals)]
    evaluation = {"holdout": {"kind": "sites", "sites": names[train:]}}
    return small_study(sites=hospitals, evaluation=evaluation, **changes)


def table_of_nine() -> pd.DataFrame:
    return small_table(360, sites=9)


# In a simulation


@pytest.mark.parametrize("train", RULES)
@pytest.mark.parametrize(
    ("mode", "schedule"),
    [
        ("secure-sum", "full"),
        ("local", "full"),
        ("local", "sampled"),
        ("none", "full"),
        ("none", "sampled"),
    ],
)
def test_every_mode_trains_at_the_training_hospitals_with_default_m_and_c(
    mode: str, schedule: str, train: int, tmp_path: Path
) -> None:
    training = {"rounds": 4, "schedule": schedule, "batch": 16, "calibration": {"steps": 2}}
    study = whole_study(train, training=training, privacy={"mode": mode})
    result = simulate(study, table_of_nine(), out=tmp_path)
    (cell,) = result.cells
    judged = {name for name, found in cell.test.by_site.items() if found["auc"] is not None}
    assert judged == set(NINE[train:])
    hospitals = {path.name for path in tmp_path.glob("sites/*/*") if path.is_dir()}
    assert len(hospitals) == (0 if mode == "none" else train), "who kept a ledger"
    if mode != "none":
        assert cell.privacy.epsilon == pytest.approx(EPSILON, abs=5e-3)  # parts are rounded down
        assert (cell.privacy.epsilon or 9.0) <= EPSILON
    if mode == "secure-sum":
        sums = cell.privacy.sums
        assert sums is not None
        assert (sums.m, sums.c) == RULES[train]
        assert (sums.hospitals, sums.verified) == (train, train)
        noise = np.sqrt(train / (sums.m - sums.c))  # times a trusted server's
        assert sums.noise_excess == pytest.approx(noise, rel=1e-3)


def pair(train: int, mode: str) -> tuple[Federation, Federation]:
    """Return nine hospitals of which some train, and these alone with the same patients.

    There the others' patients stand at the first hospital, marked by a column as held out.
    """
    options: dict[str, Any] = {"training": {"rounds": 6}, "privacy": {"mode": mode}}
    table = table_of_nine()
    out = table["hospital"].isin(NINE[train:])
    marked = table.assign(
        hospital=table["hospital"].mask(out, NINE[0]), fold=np.where(out, "test", "train")
    )
    column = {"holdout": {"kind": "column", "column": "fold", "test": "test"}}
    alone = small_study(sites=train, evaluation=column, **options)
    return (
        build_federation(whole_study(train, **options), table, 0),
        build_federation(alone, marked, 0),
    )


@pytest.mark.parametrize("train", RULES)
@pytest.mark.parametrize("mode", ["secure-sum", "local"])
def test_noise_charge_ridge_and_divisor_are_those_of_the_training_hospitals_alone(
    mode: str, train: int
) -> None:
    setting, found = Setting(mode, EPSILON, "descent"), []
    for made in pair(train, mode):
        assert (made.study.m, made.study.c) == RULES[train]
        sums = Schedule.of(made.study, max(made.declared.values()), "rows").secure_sums
        assert bool(sums) == (mode == "secure-sum")
        plan = run_plan(made, setting, "run", {}, 1.0, sums)
        assert isinstance(plan.combiner, Descent)
        (optimizer,) = plan.combiner.optimizers
        planned = planned_in(Schedule.of(made.study, max(made.declared.values())))
        found.append((sums, plan.fewest, plan.combiner.declared, optimizer.ridge, planned))
    assert found[0] == found[1]
    assert found[0][2] == dict.fromkeys(NINE[:train], 40)


@pytest.mark.parametrize("train", RULES)
def test_the_model_is_that_of_the_training_hospitals_alone(train: int) -> None:
    setting, models = Setting("none", None, "descent"), []
    for made in pair(train, "none"):
        start = State.start(start_weights(made))
        models.append(train_federated(made, setting, run_id="run", start=start).weights)
    assert np.array_equal(models[0], models[1])


@pytest.mark.parametrize("kind", ["binary", "continuous", "survival"])
def test_report_and_terminal_count_those_that_train(
    kind: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    evaluation = {"holdout": {"kind": "sites", "sites": NINE[7:]}}
    study = small_study(kind, sites=9, evaluation=evaluation, training={"rounds": 2})
    result = simulate(study, table_of_nine())
    print_result(study, result, tmp_path)
    terminal = " ".join(capsys.readouterr().out.split())
    report = " ".join(re.sub(r"<[^>]+>", " ", render_report(study, result)).split())
    for text in (terminal, report):
        assert "7 hospitals train, 2 held out." in text
        assert "7 hospitals know each other" in text
        assert "9 hospitals" not in text
    assert "Headline if at most 1 of 7 hospitals collude" in terminal
    assert "Trained across 7 hospitals" in report
    assert "at most c = 1 of 7 hospitals collude with the server; a round needs m = 6" in report


def test_a_study_drafted_from_a_table_can_hold_out_hospitals(tmp_path: Path) -> None:
    table, out = tmp_path / "mine.csv", tmp_path / "out"
    table_of_nine()[["hospital", "age", "sex", "response"]].to_csv(table, index=False)
    draft_study(table, Roles("hospital", "response"), out)
    text = (out / "mine.toml").read_text().replace("[training]\n", "[training]\nrounds = 3\n")
    text += '[evaluation]\nholdout = { kind = "sites", sites = ["site 7", "site 8"] }\n'
    manifest = tmp_path / "mine.toml"
    manifest.write_text(text)
    assert load_study(manifest).m == RULES[7][0]
    result = simulate(manifest, out / "mine-table.csv", modes=["secure-sum", "local", "none"])
    assert [cell.mode for cell in result.cells] == ["secure-sum", "local", "none"]


def refused(study: Study, **options: Any) -> PolyclinicError:
    with pytest.raises(PolyclinicError) as caught:
        simulate(study, table_of_nine(), **options)
    return caught.value


def test_one_training_hospital_is_refused_before_anything_runs_where_it_cannot_do() -> None:
    alone = whole_study(1, training={"rounds": 2}, privacy={"mode": "local"})
    assert simulate(alone, table_of_nine(), modes=["local", "none"]).cells[0].privacy.epsilon
    error = refused(alone, modes=["secure-sum"])
    assert error.code == Code.STUDY_INVALID
    assert "at least two hospitals train" in error.problems[0].remedy
    error = refused(alone, drops=[0.1])
    assert (error.code, error.remedy) == (Code.SIMULATION_OPTION, "Leave out --drop.")


# In a consortium


@pytest.fixture
def three_of_four(tmp_path: Path) -> Iterator[Loopback]:
    """Return four hospitals that know each other, and a study that holds the last one out."""
    made = Loopback(tmp_path, hospitals=4)
    made.join_all()
    made.verify_all()
    made.publish(whole_study(3, 4))
    yield made
    made.stop()


def test_a_consortium_runs_with_the_training_hospitals_alone(three_of_four: Loopback) -> None:
    train = three_of_four.names[:3]
    for name in train:
        three_of_four.add(name)
    for name in train:
        three_of_four.approve(name)
    study, found = participants(three_of_four.server, "small-binary")
    assert [each.name for each in found] == train
    assert (study.m, study.c) == RULES[3]
    (published,) = published_studies(three_of_four.server)
    assert (list(published.sites), published.m) == (train, 3)
    with SiteFolder.open(three_of_four.path(train[0])) as site:
        (approved,) = StudyBook.open(site).approved()
    assert [member.name for member in sorted(approved.roster.members, key=lambda m: m.name)] == (
        train
    )
    assert set(approved.declared) == set(train)


def test_a_hospital_that_is_held_out_is_told_so_and_sends_nothing(three_of_four: Loopback) -> None:
    out = three_of_four.names[3]
    with pytest.raises(PolyclinicError, match="it sends nothing") as caught:
        three_of_four.add(out)
    assert caught.value.code == Code.STUDY_NOT_OURS
    with three_of_four.at(out) as (site, client):
        (offer,) = offers(site, client)
        assert (offer.here, offer.sites) == ("held out", 3)
        signed = find_study(client, "small-binary")
        sections = {each.title: each.lines for each in show_study(site, client, signed).sections}
        declaration = declared(signed.hash, out, site.identity, 60)
        with pytest.raises(PolyclinicError) as caught:  # by a client that does not ask itself
            client.declare(declaration)
    assert caught.value.code == Code.REQUEST_INVALID
    assert sections["What leaves this hospital, and what it costs"][0].startswith("Nothing")
    assert sections["What all of it costs this hospital"] == ("Nothing: it takes no part.",)
    assert not three_of_four.handle.store.parts(signed.hash)


def declared(study_hash: bytes, name: str, key: Identity, size: int) -> bytes:
    return Declaration(
        identity=key.public, study_hash=study_hash, run=ANY_RUN, name=name, declared=size
    ).signed(key)


def test_a_run_leaves_out_a_held_out_hospital_that_an_earlier_version_let_approve(
    three_of_four: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It declared more than all others, and stands in the store as approved."""
    (published,) = published_studies(three_of_four.server)
    store, out = three_of_four.handle.store, three_of_four.names[3]
    key, study_hash = read_identity(three_of_four.path(out)), bytes.fromhex(published.hash)
    signed = declared(study_hash, out, key, 5000)
    store.declare(out, read_signed(Declaration, signed), signed)
    for name in published.sites:
        three_of_four.add(name)
    for name in published.sites:
        three_of_four.approve(name)
    approval = StudyApproval(
        identity=key.public,
        study_hash=study_hash,
        run=ANY_RUN,
        roster_hash=bytes(32),
        declared=5000,
        lost_rounds=1,
        epsilon_cap=3.0,
        fallback_cap=3.0,
    )
    store.approve(out, approval, approval.signed(key), published.sites)
    assert [site.name for site in store.approved_sites(study_hash)] == three_of_four.names
    told = list[RunDescription]()
    monkeypatch.setattr(operate, "start_run", lambda _, description: told.append(description))
    start_run(three_of_four.server, "small-binary")
    (description,) = told
    assert (set(description.sites), description.fewest) == (set(published.sites), 3)
    assert description.largest == 60
    (published,) = published_studies(three_of_four.server)
    assert published.declared == published.approved == published.sites


def test_what_a_held_out_hospital_declared_to_an_earlier_version_counts_for_nothing() -> None:
    study, keys = whole_study(3, 4), [Identity.generate() for _ in range(4)]
    statements = [
        declared(bytes.fromhex(study.hash()), name, key, 60 + 1000 * (name == "site 3"))
        for name, key in zip(study.roster.sites, keys, strict=True)
    ]
    checked = check_roster(study, statements, ("site 0", keys[0].public), {})
    assert checked.declared == dict.fromkeys(study.training_sites, 60)
    assert set(checked.roster.identities) == {key.public for key in keys[:3]}


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
def test_the_node_of_a_held_out_hospital_refuses_what_an_earlier_version_approved(
    mode: str, tmp_path: Path
) -> None:
    study, operator = whole_study(3, 4, privacy={"mode": mode}), Identity.generate()
    signed, frame = SignedStudy.sign(study, operator), small_table(60, 1)
    with SiteFolder.create(tmp_path / "site", delta=DELTA, epsilon_cap=9.0) as site:
        keys = [site.identity, *(Identity.generate() for _ in range(3))]
        statements = [
            declared(signed.hash, name, key, 60)
            for name, key in zip(reversed(study.roster.sites), keys, strict=True)
        ]
        membership = Membership(
            name="site 3",
            consortium="Test",
            host="localhost",
            enrolment_port=1,
            port=2,
            fleet_port=3,
            operator_key=operator.public,
        )
        book = StudyBook(site, membership)
        book.add(signed, frame, b"", statements[0])
        site.ledger.approve(plan_approval(study, dict.fromkeys(NINE[:3], 60), "site 0", 1))
        book.keep_approval(signed.hash, book.check(study, tuple(statements)), b"")
        assert site.ledger.approval(signed.hash) is not None
        assert book.approved() == []
        sites = SiteBook(site, lambda wanted: find_approved(book, wanted))
        length = 5
        for request in (
            OpenRequest(study.hash(), "run"),
            TrainRequest(study.hash(), "run", 1, "update", np.zeros(length)),
        ):
            said = decode_reply(sites.answer(encode_request(request), Memory()))
            assert said == Refusal(Reason.NOT_APPROVED)


@pytest.mark.parametrize("column", ["absent", "held out elsewhere", "a name of its own"])
def test_a_training_hospital_trains_on_all_its_patients_whatever_its_site_column_says(
    column: str,
) -> None:
    """A node's table need not have that column: the hospital is whose the folder is."""
    study, frame, keys = whole_study(3, 4), small_table(60, 1), Identity.generate()
    frame = frame.drop(columns="hospital")
    if column != "absent":
        frame["hospital"] = "site 3" if column.startswith("held") else "ward 7"
    roster = Roster.of({"site 0": keys.public})
    declared_sizes = dict.fromkeys(study.training_sites, 60)
    found = approved_with(study, roster, frozenset(), declared_sizes, "site 0", lambda: frame)
    assert (len(found.cohort), len(found.held_out)) == (60, 0)
