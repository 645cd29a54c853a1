"""Training can start from a saved model or from given coefficients, and says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import PolyclinicError
from polyclinic_common.models.network import initial_weights
from polyclinic_common.models.predict import predict
from polyclinic_common.models.start import read_start
from polyclinic_simulations import simulate
from tests.conftest import small_study, small_table


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
