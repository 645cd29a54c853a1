"""`polyclinic client monitor`: verdicts, exit statuses, what is kept, and what is refused."""

from __future__ import annotations

import datetime as dt
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from polyclinic_client.cli.monitor import STATUS
from polyclinic_client.folder.membership import Membership
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.study_book.book import StudyBook
from polyclinic_client.watch.finding import Verdict
from polyclinic_common.bundle.bundle import Draft
from polyclinic_common.bundle.certificate import Certificate
from polyclinic_common.bundle.contents import Evaluation, History
from polyclinic_common.bundle.predictor import Predictor
from polyclinic_common.bundle.trust import Trust
from polyclinic_common.bundle.weights import SavedWeights
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.consortium.statements import ANY_RUN, Declaration
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import EXIT_STATUS, BundleError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.models.head import initial_weights
from polyclinic_common.study import Study
from polyclinic_server.runs.release import facts_of
from polyclinic_simulations.try_out.typed import Typed
from tests.kits.ledger import DELTA
from tests.kits.other_studies import AGE, SEX, study
from tests.kits.typed import typed_here

WEIGHT = AGE | {"name": "weight", "unit": "kg", "range": [30, 250]}
OPERATOR = Identity.generate()
MONTHS = (60, 120)


class Ward(NamedTuple):
    """A hospital's folder, the released model, its study, and a model of another study."""

    site: Path
    bundle: Path
    study: Study
    other: Path


def people(count: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "patient": [f"P{seed}-{index}" for index in range(count)],
            "age": rng.uniform(30, 75, count).round(),
            "sex": rng.choice(["female", "male"], count),
            "weight": rng.normal(80, 13, count).round(1),
        }
    )


def weights_of(of: Study) -> np.ndarray:
    weights = initial_weights(of, Encoding(of), 0)
    return weights + np.random.default_rng(1).normal(0, 1.0, weights.size)


def released(of: Study, folder: Path) -> Path:
    """Write a released model of a study."""
    declared = dict.fromkeys(of.roster.sites, 100)
    draft = Draft(
        SignedStudy.sign(of, OPERATOR),
        of,
        SavedWeights(weights_of(of)),
        Certificate.of(of, declared),
        Evaluation(),
        History(rounds=1, answered=declared, declared=declared),
    )
    bundle = draft.signed(OPERATOR, facts_of(of, "run", OPERATOR.public, simulated=False), {})
    file = folder / bundle.file_name
    file.write_bytes(bundle.to_bytes())
    return file


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Ward:
    folder = tmp_path_factory.mktemp("ward")
    site, contract = folder / "site", study(AGE, SEX, WEIGHT)
    signed = SignedStudy.sign(contract, OPERATOR)
    membership = Membership(
        name="site 0",
        consortium="Test",
        host="localhost",
        enrolment_port=1,
        port=2,
        fleet_port=3,
        operator_key=OPERATOR.public,
    )
    with SiteFolder.create(site, delta=DELTA, epsilon_cap=9.0) as made:
        membership.write(site)
        declaration = Declaration(
            identity=made.identity.public,
            study_hash=signed.hash,
            run=ANY_RUN,
            name="site 0",
            declared=300,
        ).signed(made.identity)
        frozen = people(300, 7).assign(response="no")
        StudyBook(made, membership).add(signed, frozen, b"", declaration)
    Trust(consortium="Test", operator_key=OPERATOR.public, approved=(contract.hash(),)).write(site)
    other = study(AGE, SEX, id="another")
    return Ward(site, released(contract, folder), contract, released(other, folder))


def newer(ward: Ward, folder: Path, count: int = 120, shift: float = 0.0) -> Path:
    """Write newer patients whose outcomes are drawn from what is predicted, but for a shift."""
    frame, rng = people(count, 3), np.random.default_rng(4)
    told = Predictor(ward.study, weights_of(ward.study), "site 0").predict(frame)
    logit = np.log(told.prediction.value / (1 - told.prediction.value))
    yes = rng.random(count) < 1 / (1 + np.exp(-logit - shift))
    path = folder / "newer.csv"
    frame.assign(response=np.where(yes, "yes", "no")).to_csv(path, index=False)
    return path


def monitor(ward: Ward, table: Path, *words: object, bundle: Path | None = None) -> Typed:
    return typed_here(
        "client", "monitor", bundle or ward.bundle, table, "--site", ward.site, *words
    )


def test_the_statuses_of_verdicts_are_those_of_no_error() -> None:
    errors = {*EXIT_STATUS.values(), 1, 2, 130}
    assert STATUS["fine"] == 0
    assert not errors & {status for name, status in STATUS.items() if name != "fine"}
    assert len(set(STATUS.values())) == 4
    assert issubclass(BundleError, Exception)


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "fine"), (1.5, "recalibrate")])
def test_the_verdict_is_words_a_status_json_and_a_page(
    ward: Ward, tmp_path: Path, shift: float, verdict: Verdict
) -> None:
    table, page = newer(ward, tmp_path, shift=shift), tmp_path / "look.html"
    done = monitor(ward, table, "--json", "--html", page)
    assert done.status == STATUS[verdict], done.err
    told = json.loads(done.out)
    assert told["verdict"] == verdict
    assert told["outcomes"] == 120
    assert told["headline"] in page.read_text()
    shown = monitor(ward, table)
    assert shown.status == STATUS[verdict]
    assert told["headline"] in shown.out
    assert "not a medical device" in shown.out
    assert "not a medical device" in page.read_text()
    again = monitor(ward, table, "--html", page)
    assert again.status == EXIT_STATUS["D"]


def test_a_refit_mends_what_the_verdict_asked_it_to(ward: Ward, tmp_path: Path) -> None:
    table = newer(ward, tmp_path, shift=1.5)
    assert monitor(ward, table).status == STATUS["recalibrate"]
    words = ("model", "calibrate", ward.bundle, table, "--refit", "--hospital", "site 0")
    done = typed_here(*words, "--site", ward.site)
    assert done.status == 0, done.err
    mended = monitor(ward, table)
    assert mended.status == STATUS["fine"], mended.out
    assert "recalibrated" in mended.out.lower()
    assert "judged kindly" in mended.out
    for file in (ward.site / "calibrations").iterdir():
        file.unlink()


def test_a_look_keeps_counts_alone_and_for_its_owner_only(ward: Ward, tmp_path: Path) -> None:
    for file in (ward.site / "monitor").glob("*"):
        file.unlink()
    for count in MONTHS:
        table = newer(ward, tmp_path, count)
        for _ in range(2):
            assert monitor(ward, table).status == 0
    (log,) = (ward.site / "monitor").iterdir()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["rows"] for line in lines] == list(MONTHS)
    assert {key for line in lines for key in line} == {"day", "rows", "known", "verdict"}
    assert all(dt.date.fromisoformat(line["day"]) for line in lines)


def test_a_look_opens_no_connection_and_starts_no_process(ward: Ward, tmp_path: Path) -> None:
    table, page = newer(ward, tmp_path), tmp_path / "look.html"
    words = ["client", "monitor", ward.bundle, table, "--site", ward.site, "--html", page]
    code = (
        "import sys\n"
        "def heard(event, arguments):\n"
        "    if event.startswith(('socket.', 'subprocess.', 'os.system', 'os.fork', 'os.exec')):\n"
        "        raise SystemExit(f'heard {event}')\n"
        "from polyclinic_common.cli.main import main\n"
        "sys.addaudithook(heard)\n"
        f"main({[str(word) for word in words]!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert page.exists()


def test_a_damaged_log_is_refused_and_says_what_to_do(ward: Ward, tmp_path: Path) -> None:
    assert monitor(ward, newer(ward, tmp_path)).status == 0
    (log,) = (ward.site / "monitor").iterdir()
    whole = log.read_text()
    log.write_text(whole + '{"rows": -1}\n')
    done = monitor(ward, newer(ward, tmp_path), "--json")
    assert done.status == EXIT_STATUS["B"]
    assert json.loads(done.err)["error"] == "B031"
    log.write_text(whole)


def test_a_model_of_another_study_is_refused(ward: Ward, tmp_path: Path) -> None:
    done = monitor(ward, newer(ward, tmp_path), "--json", bundle=ward.other)
    assert done.status == EXIT_STATUS["B"]
    assert json.loads(done.err)["error"] == "B030"


def test_a_mapping_is_read_and_a_code_that_no_newer_patient_has_is_no_error(
    ward: Ward, tmp_path: Path
) -> None:
    table = newer(ward, tmp_path)
    frame = pd.read_csv(table).rename(columns={"weight": "LB"})
    frame.assign(LB=(frame["LB"] / 0.45359237).round(2)).to_csv(table, index=False)
    mapping = tmp_path / "map.toml"
    mapping.write_text('[columns.weight]\nsource = "LB"\nmissing = ["999"]\nfactor = 0.45359237\n')
    assert monitor(ward, table, "--map", mapping).status == 0
    mapping.write_text('[columns.weight]\nsource = "LB"\n')
    done = monitor(ward, table, "--map", mapping, "--json")
    assert done.status == STATUS["look"]
    assert "lb to kg" in done.out
