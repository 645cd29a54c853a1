"""An exported graph predicts as Polyclinic does, from the columns as they stand in the contract."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from polyclinic_common.bundle.bundle import Bundle
from polyclinic_common.bundle.onnx_graph import onnx_model
from polyclinic_common.bundle.opening import NO_DEVICE, SIMULATED
from polyclinic_common.bundle.predictor import Predictor
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import BundleError, Code
from polyclinic_common.identity.site_key import Identity, fingerprint
from polyclinic_common.models.score_head import Vector
from polyclinic_common.study import Study
from polyclinic_common.study.features import Numeric, Panel, columns_of
from tests.kits.bundles import bundle_of_study
from tests.kits.every_kind import (
    CASES,
    HLA,
    LINEAR,
    MLP,
    every_study,
    random_patients,
    random_study,
)
from tests.kits.other_studies import some_weights, study
from tests.kits.required import unavailable
from tests.kits.typed import typed_here

PATIENTS = 1000


@pytest.fixture(autouse=True)
def _onnx() -> None:
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            unavailable("onnx", f"{package} is not installed")


def fed(of: Study, frame: pd.DataFrame, site: str = "") -> dict[str, NDArray[Any]]:
    """Return patients as a graph takes them: doubles and texts of shape (n, 1), panels whole."""
    given: dict[str, NDArray[Any]] = {}
    for feature in Encoding(of).features:
        if feature.name == of.cohort.site:
            given[feature.name] = np.full((len(frame), 1), site, dtype=object)
        elif isinstance(feature, Numeric | Panel):
            given[feature.name] = frame[list(columns_of(feature))].to_numpy(dtype=np.float64)
        else:
            given[feature.name] = frame[[feature.name]].fillna("").to_numpy(dtype=object)
    return given


def run(file: bytes, given: Mapping[str, NDArray[Any]]) -> list[Vector]:
    from onnxruntime import InferenceSession

    session = InferenceSession(file, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(given)))


def assert_equal(of: Study, frame: pd.DataFrame, site: str | None, weights: Vector) -> None:
    """Compare with our own prediction, which gives no number for what the study does not know."""
    ours = Predictor(of, weights, site).predict(frame)
    value, *survival = run(onnx_model(of, weights), fed(of, frame, site or ""))
    assert value.dtype == np.float64
    np.testing.assert_allclose(value[:, 0], ours.prediction.value, rtol=0, atol=1e-6)
    if ours.prediction.survival is not None:
        np.testing.assert_allclose(survival[0], ours.prediction.survival, rtol=0, atol=1e-6)
    assert 0.2 < ours.given.mean() < 1.0
    assert np.ptp(value[ours.given]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("kind", "outcome"), CASES)
@pytest.mark.parametrize("model", [LINEAR, MLP], ids=["linear", "mlp"])
def test_a_graph_predicts_as_we_do(
    kind: str, outcome: dict[str, Any], model: dict[str, Any], seed: int
) -> None:
    of = random_study(seed, kind, model, **outcome)
    site = [None, "site 1"][seed % 2]
    assert_equal(of, random_patients(of, PATIENTS, seed), site, some_weights(of, seed))


def predictions(of: Study, **columns: list[Any]) -> list[float]:
    """Return predictions of a graph whose weights differ, a column without values missing."""
    count = len(next(iter(columns.values())))
    everything = {c: [None] * count for f in of.cohort.features for c in columns_of(f)}
    frame = pd.DataFrame(everything | {"arm": [None] * count} | columns, dtype=object)
    return list(run(onnx_model(of, some_weights(of)), fed(of, frame))[0][:, 0])


@pytest.mark.parametrize(
    ("column", "alike"),
    [
        ("snp", ["A/G", "G|A", "GA"]),
        ("cyp", ["*1/*2", "*2|*1"]),
        ("hla", ["*57:01/*07:02", "B*07:02:01, HLA-B*57:01:02", "57:01;07:02"]),
        ("sex", ["", "NA", "?"]),
    ],
)
def test_spellings_of_one_thing_are_one_thing(column: str, alike: list[str]) -> None:
    found = predictions(every_study("binary"), **{column: [*alike, "unheard of", "A/A/A"]})
    assert found[:-2] == pytest.approx([found[0]] * len(alike), abs=1e-12)
    assert np.isnan(found[-2:]).all()


def test_a_hospital_of_the_study_is_told_from_others_and_others_alike() -> None:
    of = every_study("continuous")
    frame, weights = random_patients(of, 1, 1), some_weights(of)
    frame[:] = None
    file = onnx_model(of, weights)
    sites = ["", "elsewhere", "site 0", "site 1"]
    outside, other, first, second = (run(file, fed(of, frame, site))[0].item() for site in sites)
    assert outside == other
    assert len({outside, first, second}) == 3
    without_site = weights.copy()
    names = Encoding(of).columns
    without_site[[name.startswith("hospital = ") for name in names[:-1]] + [False]] = 0.0
    assert run(onnx_model(of, without_site), fed(of, frame))[0].item() == outside


def test_a_graph_is_valid_and_says_what_it_is() -> None:
    import onnx

    of = every_study("survival", MLP)
    file = onnx_model(of, some_weights(of), {"bundle": "ab12", "simulated": "SIMULATED: all of it"})
    model = onnx.load_from_string(file)
    onnx.checker.check_model(model, full_check=True)
    said = {each.key: each.value for each in model.metadata_props}
    assert said == {"notice": NO_DEVICE, "bundle": "ab12", "simulated": "SIMULATED: all of it"}
    assert model.doc_string == f"SIMULATED: all of it A small study. {NO_DEVICE}"
    assert model.graph.input[0].doc_string == "numeric, years, 20 to 80"
    assert model.graph.input[-1].doc_string.startswith("hospital of the study")
    names = [each.name for each in model.graph.input]
    assert names == [feature.name for feature in Encoding(of).features]
    assert [each.name for each in model.graph.output] == ["risk", "survival"]
    assert file == onnx_model(
        of, some_weights(of), {k: v for k, v in said.items() if k != "notice"}
    )


def test_an_allele_of_one_field_needs_its_star() -> None:
    gene = HLA | {"alleles": ["*57", "*58"]}
    of = study(gene)
    words = ["*57/*58", "B*57:01/58:02", "57/58", "57/*58"]
    found = run(onnx_model(of, some_weights(of)), fed(of, pd.DataFrame({"hla": words})))[0][:, 0]
    ours = Predictor(of, some_weights(of)).predict(pd.DataFrame({"hla": words})).prediction.value
    assert found[0] == found[1] == pytest.approx(ours[0])
    assert np.isnan(found).tolist() == np.isnan(ours).tolist() == [False, False, True, True]


def bundle_file(folder: Path, of: Study, *, simulated: bool) -> tuple[Path, Bundle]:
    operator = Identity.generate()
    bundle = bundle_of_study(of, operator, weights=some_weights(of), simulated=simulated)
    path = folder / bundle.file_name
    path.write_bytes(bundle.to_bytes())
    return path, bundle


@pytest.mark.parametrize("simulated", [False, True])
def test_export_is_typed_and_says_where_the_model_comes_from(
    tmp_path: Path, simulated: bool
) -> None:
    import onnx

    of = every_study("continuous")
    path, bundle = bundle_file(tmp_path, of, simulated=simulated)
    key = fingerprint(bytes.fromhex(bundle.facts.operator))
    out, known = tmp_path / "model.onnx", () if simulated else ("--operator", key)
    done = typed_here("model", "export", path, "--onnx", out, "--site", tmp_path, *known)
    assert done.status == 0, done.err
    assert ("SIMULATED" in done.out) == simulated
    assert NO_DEVICE in done.out
    said = {each.key: each.value for each in onnx.load(out).metadata_props}
    assert said["bundle"] == bundle.digest
    assert (said["study"], said["study_hash"]) == (of.id, of.hash())
    assert said["notice"] == NO_DEVICE
    assert said.get("simulated") == (SIMULATED if simulated else None)
    frame = random_patients(of, 50, 0)
    ours = Predictor(of, some_weights(of)).predict(frame).prediction.value
    found = run(out.read_bytes(), fed(of, frame))[0][:, 0]
    np.testing.assert_allclose(found, ours, rtol=0, atol=1e-6)
    again = typed_here("model", "export", path, "--onnx", out, "--site", tmp_path, *known)
    assert f"error {Code.FILE_EXISTS}" in again.err


def test_a_bundle_of_a_stranger_is_not_exported(tmp_path: Path) -> None:
    path, _ = bundle_file(tmp_path, every_study("binary"), simulated=False)
    out = tmp_path / "model.onnx"
    done = typed_here("model", "export", path, "--onnx", out, "--site", tmp_path)
    assert f"error {Code.BUNDLE_SIGNER}" in done.err
    assert not out.exists()


def test_without_the_package_the_export_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    of = every_study("binary")
    with pytest.raises(BundleError) as refused:
        onnx_model(of, some_weights(of))
    assert refused.value.code == Code.ONNX_ABSENT
    assert "polyclinic[onnx]" in refused.value.remedy
