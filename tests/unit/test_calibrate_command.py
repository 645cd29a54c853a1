"""`polyclinic model calibrate`, as it is typed."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from polyclinic_client.folder.layout import SECRETS
from polyclinic_client.study_book.frozen_table import freeze
from polyclinic_common.bundle.bundle import Bundle, read_bundle
from polyclinic_common.bundle.here import ModelHere
from polyclinic_common.bundle.local_calibration import FOLDER, local_calibration, read_calibration
from polyclinic_common.bundle.opening import open_bundle
from polyclinic_common.bundle.trust import Trust
from polyclinic_common.bundle.untrained import FROZEN
from polyclinic_common.cli.main import main
from polyclinic_common.cli.model import app
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.holdout import held_out
from polyclinic_common.errors import Code, DataError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.models.head import initial_weights
from polyclinic_common.modes import exposed
from tests.kits.bundles import bundle_of_study
from tests.kits.small import small_study, small_table

STUDY = small_study("continuous")


def new_patients(count: int = 60) -> pd.DataFrame:
    return small_table(count, seed=2).assign(patient=[f"N{index}" for index in range(count)])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    weights = initial_weights(STUDY, Encoding(STUDY), 0)
    weights[0] = 3.0  # older patients need more: a score that says something
    made = bundle_of_study(STUDY, Identity.generate(), weights=weights, simulated=True)
    path = tmp_path / made.file_name
    path.write_bytes(made.to_bytes())
    return path


def table(folder: Path, frame: pd.DataFrame, name: str = "newer.csv") -> Path:
    path = folder / name
    frame.to_csv(path, index=False)
    return path


def typed(*words: object) -> Any:
    return CliRunner().invoke(app, ["calibrate", *map(str, words)], catch_exceptions=False)


def read(file: Path) -> Bundle:
    return read_bundle(file)


def test_without_a_site_the_result_goes_into_a_file_and_says_what_only_the_hospital_knows(
    tmp_path: Path, bundle: Path
) -> None:
    out = tmp_path / "kept.json"
    rows = table(tmp_path, new_patients())
    done = typed(bundle, rows, "--out", out, "--site", tmp_path / "none")
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "60 patients give the intervals, at 90%." in said
    assert "predicted (mg)" in said
    assert "only you can say that the model was not trained on them" in said
    assert "SIMULATED" in said
    assert read_calibration(out, read(bundle).digest).patients == 60
    assert out.stat().st_mode & 0o777 == 0o600


def test_with_neither_a_site_nor_a_file_nothing_is_read(tmp_path: Path, bundle: Path) -> None:
    done = typed(bundle, tmp_path / "absent.csv", "--site", tmp_path / "none")
    assert done.exit_code == 2
    assert "--out" in done.output


def test_in_a_sites_folder_patients_who_were_trained_on_are_left_out_and_counted(
    tmp_path: Path,
) -> None:
    site, operator = tmp_path / "site", Identity.generate()
    site.mkdir(mode=0o700)
    made = bundle_of_study(STUDY, operator)
    file = tmp_path / made.file_name
    file.write_bytes(made.to_bytes())
    Trust(
        consortium="c",
        operator_key=operator.public,
        approved=(STUDY.hash(),),
        asked=dt.datetime(2026, 11, 29, tzinfo=dt.UTC),
    ).write(site)
    old = small_table(100)
    frozen = site / FROZEN.format(made.facts.study_hash)
    frozen.parent.mkdir(parents=True)
    freeze(STUDY, old).to_parquet(frozen, index=False)
    (site / "studies").chmod(0o700)
    for path in (frozen.parent, frozen):
        path.chmod(0o700)
    out = int(held_out(STUDY, old).sum())
    both = table(tmp_path, pd.concat([old, new_patients(30)]))
    done = typed(file, both, "--site", site, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert said["looked_up"]
    assert (said["trained_left_out"], said["held_out"]) == (100 - out, out)
    assert said["patients"] == 30 + out
    assert said["file"] == str(site / FOLDER / f"{made.digest}.json")
    kept = local_calibration(site, made.digest)
    assert kept is not None
    assert kept.patients == 30 + out
    assert not [path for path in exposed(site, SECRETS) if FOLDER in str(path)]
    (site / FOLDER / f"{made.digest}.json").chmod(0o644)  # and the node would see it
    assert [path for path in exposed(site, SECRETS) if FOLDER in str(path)]
    shown = " ".join(typed(file, both, "--site", site).output.split())
    assert f"{100 - out} patients were left out: the model was trained on them" in shown
    assert f"{out} of the study's own table count" in shown


def test_a_table_goes_through_the_check_and_the_mapping(tmp_path: Path, bundle: Path) -> None:
    odd = new_patients().rename(columns={"dose": "DOSIS"})
    rows, out = table(tmp_path, odd), tmp_path / "kept.json"
    with pytest.raises(DataError) as caught:
        typed(bundle, rows, "--out", out)
    assert caught.value.code == Code.DATA_UNUSABLE
    assert not out.exists()
    mapping = tmp_path / "map.toml"
    mapping.write_text('[columns.dose]\nsource = "DOSIS"\n')
    assert typed(bundle, rows, "--map", mapping, "--out", out).exit_code == 0
    mapping.write_text(
        mapping.read_text() + '[columns.sex]\nsource = "sex"\ncodes = { "9" = "" }\n'
    )
    done = typed(bundle, rows, "--map", mapping, "--out", out)  # a code that stands in no cell
    assert done.exit_code == 0
    wrong_unit = odd.assign(DOSIS=odd["DOSIS"] * 1000)
    with pytest.raises(DataError):
        typed(bundle, table(tmp_path, wrong_unit), "--map", mapping, "--out", out)


def test_refit_changes_level_and_slope_on_half_and_says_so(tmp_path: Path, bundle: Path) -> None:
    out = tmp_path / "kept.json"
    done = typed(bundle, table(tmp_path, new_patients(200)), "--out", out, "--refit")
    said = " ".join(done.output.split())
    assert "Recalibrated here on 100 patients: level" in said
    assert "100 patients give the intervals" in said
    kept = read_calibration(out, read(bundle).digest)
    assert kept.recalibrated


def test_too_few_patients_end_with_a_code_and_no_traceback(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = table(tmp_path, new_patients(8))
    with pytest.raises(SystemExit) as ended:
        main(["model", "calibrate", str(bundle), str(rows), "--out", str(tmp_path / "kept.json")])
    told = capsys.readouterr().err
    assert ended.value.code == 24
    assert "B020" in told
    assert "Traceback" not in told
    assert not (tmp_path / "kept.json").exists()


def test_help_says_whose_patients_and_shows_an_example() -> None:
    said = " ".join(typed("--help").output.replace("│", " ").split())
    assert "must be newer than the study's table" in said
    assert "never have been trained on" in said
    assert "polyclinic model calibrate" in said


def test_yes_or_no_is_judged_as_asked(tmp_path: Path) -> None:
    study, out = small_study("binary"), tmp_path / "kept.json"
    weights = initial_weights(study, Encoding(study), 0)
    weights[:2] = [4.0, 1.0]
    made = bundle_of_study(study, Identity.generate(), weights=weights, simulated=True)
    file = tmp_path / made.file_name
    file.write_bytes(made.to_bytes())
    rows = table(tmp_path, new_patients(100))
    for method in ("bins", "venn-abers"):
        assert typed(file, rows, "--out", out, "--method", method).exit_code == 0
        assert read_calibration(out, made.digest).found.kind == method
    said = typed(file, rows, "--out", out, "--alpha", "0.2").output
    assert "at 80%" in said
    assert np.isclose(read_calibration(out, made.digest).alpha, 0.2)
    assert read_calibration(out, made.digest).hospital is None
    typed(file, rows, "--out", out, "--hospital", "site 1")
    assert read_calibration(out, made.digest).hospital == "site 1"
    here = ModelHere.of(open_bundle(file, tmp_path), tmp_path, None, out)
    assert here.predictor.site == "site 1"  # what was measured holds for no other reading
