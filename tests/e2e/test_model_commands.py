"""`polyclinic simulate --bundle`, `model` and `predict`, typed as people type them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from polyclinic_common.identity.site_key import Identity
from tests.kits.bundles import bundle_of_study
from tests.kits.small import small_study, small_table
from tests.kits.typed import SCRIPT, typed, typed_here

PATIENT = ("--patient", "age=61", "sex=female")
KINDS = ("binary", "continuous", "survival")


@pytest.fixture(scope="module", params=KINDS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the one bundle of a simulated run."""
    folder = tmp_path_factory.mktemp(request.param)
    study = small_study(request.param, privacy={"mode": "local"})
    manifest = study.model_dump_json(exclude_none=True)
    (folder / "study.json").write_text(manifest, encoding="utf-8")
    (folder / "study.toml").write_text(_as_toml(json.loads(manifest)), encoding="utf-8")
    small_table(200).to_csv(folder / "table.csv", index=False)
    done = typed(
        "simulate", "study.toml", "--data", "table.csv", "--bundle", "--out", "out", folder=folder
    )
    assert done.status == 0, done.err
    (made,) = (folder / "out" / "bundles").iterdir()
    return made


@pytest.fixture(scope="module")
def yes_no(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of a yes/no study, made without a simulation."""
    made = bundle_of_study(
        small_study("binary"), Identity.generate(), weights=np.ones(6) / 4, simulated=True
    )
    file = tmp_path_factory.mktemp("yes-no") / made.file_name
    file.write_bytes(made.to_bytes())
    return file


def answer(*words: object) -> Any:
    done = typed_here(*words, "--json")
    assert done.status == 0, done.err
    return json.loads(done.out)


def refusal(*words: object) -> tuple[str, str]:
    done = typed_here(*words, "--json")
    assert done.status != 0, done.out
    found = json.loads(done.err.splitlines()[-1])
    return found["error"], found["remedy"]


def _as_toml(manifest: dict[str, object]) -> str:
    import tomli_w

    return tomli_w.dumps(manifest)


def test_a_simulated_bundle_is_verified_and_marked(bundle: Path) -> None:
    said = typed_here("model", "verify", bundle)
    assert said.status == 0, said.err
    assert "SIMULATED" in said.out
    assert answer("model", "verify", bundle)["simulated"] is True


def test_verifying_needs_no_network(yes_no: Path) -> None:
    words = ["unshare", "--net", "--map-root-user", str(SCRIPT), "model", "verify", str(yes_no)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_damaged_file_is_refused_by_every_command(yes_no: Path, tmp_path: Path) -> None:
    content = bytearray(yes_no.read_bytes())
    content[len(content) // 2] ^= 1
    bad = tmp_path / yes_no.name
    bad.write_bytes(bytes(content))
    for words in (("model", "verify"), ("model", "show"), ("model", "card", "--out", "x.html")):
        assert refusal(*words[:2], bad, *words[2:])[0] == "B001"
    assert refusal("predict", bad, *PATIENT)[0] == "B001"
    assert refusal("predict", tmp_path / "absent.polyclinic", *PATIENT)[0] == "B001"


def test_a_model_is_told_in_plain_words_with_coefficients(bundle: Path) -> None:
    said = typed_here("model", "show", bundle)
    assert said.status == 0, said.err
    for words in ("A small study", "Privacy", "SIMULATED", "by noise alone", "age"):
        assert words in said.out
    found = {each["name"]: each for each in answer("model", "show", bundle)["coefficients"]}
    age = found["age"]
    assert age["low"] < age["value"] < age["high"]
    assert "per years" in age["unit"]


def test_one_patient_is_told_with_reasons(bundle: Path) -> None:
    said = typed_here("predict", bundle, *PATIENT)
    assert said.status == 0, said.err
    for words in ("age", "61 years", "typical", "not a medical device", "SIMULATED", "epsilon"):
        assert words in said.out
    found = answer("predict", bundle, *PATIENT)
    assert found["given"] is True
    assert {each["feature"] for each in found["reasons"]} == {"age", "sex"}


def test_a_table_gives_the_same_as_its_patients_one_by_one(bundle: Path, tmp_path: Path) -> None:
    table = small_table(6, seed=5)[["patient", "age", "sex"]]
    table.to_csv(tmp_path / "new.csv", index=False)
    found = answer("predict", bundle, tmp_path / "new.csv")["patients"]
    assert [each["patient"] for each in found] == list(map(str, table["patient"]))
    for row, each in zip(table.itertuples(), found, strict=True):
        alone = answer("predict", bundle, "--patient", f"age={row.age}", f"sex={row.sex}")
        assert alone["prediction"] == each["prediction"]
    for name in ("out.csv", "out.parquet"):
        done = typed_here("predict", bundle, tmp_path / "new.csv", "--out", tmp_path / name)
        assert done.status == 0, done.err
    written = pd.read_parquet(tmp_path / "out.parquet")
    with (tmp_path / "out.csv").open(encoding="utf-8") as file:
        assert next(csv.reader(file)) == list(written.columns)
    again = refusal("predict", bundle, tmp_path / "new.csv", "--out", tmp_path / "out.csv")
    assert again[0] == "D010"


def test_one_odd_patient_blocks_no_other(yes_no: Path, tmp_path: Path) -> None:
    table = small_table(30)[["patient", "age", "sex"]].astype(str)
    table.loc[4, "sex"] = "Sailor"
    table.loc[5, "age"] = "300"
    table.to_csv(tmp_path / "new.csv", index=False)
    found = answer("predict", yes_no, tmp_path / "new.csv")["patients"]
    assert [row for row, each in enumerate(found) if not each["given"]] == [4]
    assert found[5]["flags"][0]["kind"] == "clamped"
    strict = answer("predict", yes_no, tmp_path / "new.csv", "--strict")["patients"]
    assert [row for row, each in enumerate(strict) if not each["given"]] == [4, 5]
    said = typed_here("predict", yes_no, tmp_path / "new.csv")
    assert "Sailor" not in said.out + said.err


def test_another_unit_and_an_absent_column_refuse_the_table(yes_no: Path, tmp_path: Path) -> None:
    table = small_table(30)[["patient", "age", "sex"]]
    table.assign(age=table["age"] * 12).to_csv(tmp_path / "months.csv", index=False)
    assert refusal("predict", yes_no, tmp_path / "months.csv")[0] == "B011"
    table.drop(columns="sex").to_csv(tmp_path / "absent.csv", index=False)
    code, remedy = refusal("predict", yes_no, tmp_path / "absent.csv")
    assert (code, "--map" in remedy) == ("B011", True)
    (tmp_path / "map.toml").write_text("[columns.sex]\nabsent = true\n", encoding="utf-8")
    with_map = answer("predict", yes_no, tmp_path / "absent.csv", "--map", tmp_path / "map.toml")
    assert all(each["given"] for each in with_map["patients"])


def test_a_patient_who_cannot_be_read_is_refused(yes_no: Path) -> None:
    for given in ("weight=80", "age", "age=61 years old", "sex=sailor"):
        assert refusal("predict", yes_no, "--patient", given)[0] == "B010"


def test_predicting_imports_no_torch(yes_no: Path) -> None:
    program = (
        "import sys; from polyclinic_common.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'scipy', 'flwr', 'opacus', 'matplotlib'} & set(sys.modules)\n"
    )
    words = [sys.executable, "-c", program, "predict", str(yes_no), *PATIENT]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
