"""Training can start from a saved model or from given coefficients, and says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from polyclinic_common.cli.main import main
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import PolyclinicError
from polyclinic_common.models.head import initial_weights
from polyclinic_common.models.predict import predict
from polyclinic_common.models.start import read_start
from polyclinic_common.study import parse_study
from polyclinic_simulations import simulate
from tests.kits.small import small_study, small_table, study_data
from tests.kits.typed_consortium import as_toml


def test_a_saved_model_goes_on_where_it_stopped(tmp_path: Path) -> None:
    study, table = small_study(training={"rounds": 30}), small_table(300)
    simulate(study, table, modes=["none"], out=tmp_path)
    (model,) = (tmp_path / "models").iterdir()
    short = small_study(training={"rounds": 1, "learning_rate": 1e-9})
    cold = simulate(short, table, modes=["none"]).cells[0].test.overall["brier"]
    result = simulate(short, table, modes=["none"], start=model, out=tmp_path / "warm")
    warm = result.cells[0].test.overall["brier"]
    assert warm is not None
    assert cold is not None
    assert warm < cold - 0.02
    assert result.warm_start == model.name
    assert "outside the guarantee" in (tmp_path / "warm" / "report.html").read_text()


def test_a_study_with_more_columns_starts_from_one_with_fewer(tmp_path: Path) -> None:
    wide = study_data(training={"rounds": 1, "learning_rate": 1e-9})
    narrow = study_data(training={"rounds": 30})
    narrow["cohort"] = wide["cohort"] | {"features": wide["cohort"]["features"][:1]}
    narrow["subgroups"] = []
    wide["cohort"] |= {"site_indicator": True}
    table = small_table(300)
    before = simulate(parse_study(narrow, "n.toml"), table, modes=["none"], out=tmp_path / "n")
    (model,) = (tmp_path / "n" / "models").iterdir()
    after = simulate(
        parse_study(wide, "w.toml"), table, modes=["none"], start=model, out=tmp_path / "w"
    )
    assert after.cells[0].test.overall["brier"] == pytest.approx(
        before.cells[0].test.overall["brier"], abs=1e-6
    )
    said = "new, started at zero: sex, hospital"
    assert after.warm_start_columns == [said]
    assert said in (tmp_path / "w" / "report.html").read_text()


def test_a_typed_start_says_what_is_new_and_what_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # no processes for one round
    small_table().to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "c.csv").write_text(
        "name,coefficient,unit\nintercept,0.2,\nage,0.3,decades\nlabs,1,\n"
    )
    (tmp_path / "s.toml").write_text(as_toml(study_data(training={"rounds": 1})))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main("simulate s.toml --data t.csv --mode none --start c.csv --out o".split())
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "outside the guarantee" in shown
    assert "new, started at zero: age missing, sex" in shown
    assert "gone, left out: labs" in shown
    assert "converted: age" in shown


def test_coefficients_are_those_of_the_unscaled_columns(tmp_path: Path) -> None:
    study = small_study()
    encoding = Encoding(study)
    start = initial_weights(study, encoding, seed=0)
    path = tmp_path / "coefficients.json"
    path.write_text(json.dumps({"age": 1.5, "sex = male": -0.5}))
    weights = read_start(path, study, encoding, start).weights
    table = small_table(20)
    cohort = encoding.encode(table, "site 0")
    age = np.clip((table.age.to_numpy() - 20) / 60 * 2 - 1, -1, 1)
    logit = 1.5 * age - 0.5 * (table.sex == "male").to_numpy()
    found = predict(study, encoding, weights, cohort.x).value
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logit)), rtol=1e-12)


def refused(path: Path) -> str:
    with pytest.raises(PolyclinicError) as caught:
        simulate(small_study(), small_table(), modes=["none"], start=path)
    return caught.value.code


def test_a_start_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    absent, wrong, unknown = (tmp_path / name for name in ("a.json", "w.json", "u.json"))
    wrong.write_text("[1, 2]")
    unknown.write_text(json.dumps({"height": 1.0}))
    assert refused(absent) == "M001"
    assert refused(wrong) == "M001"
    assert refused(unknown) == "M002"
    simulate(small_study("survival"), small_table(), modes=["none"], out=tmp_path / "other")
    (model,) = (tmp_path / "other" / "models").iterdir()
    assert refused(model) == "M002"
