"""The inversion audit trains as a real run does, keeps test patients out, and sees a leak."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from polyclinic_common.data.holdout import held_out
from polyclinic_common.errors import PolyclinicError
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.charges import Charge
from polyclinic_common.releases.kinds import CALIBRATION, GRADIENT
from polyclinic_common.releases.schedule import Schedule
from polyclinic_server.rounds.state import State
from polyclinic_simulations.audit.genotypes import MISSING, Floats, of_gene, posterior
from polyclinic_simulations.audit.inversion import (
    ANCESTRY,
    FORMULA,
    Tally,
    chance_of_truth,
    dose_error,
    invert,
    leak,
    model_name,
)
from polyclinic_simulations.audit.released_model import released_model
from polyclinic_simulations.audit.targets import ModelDoses, Targets, formula_doses
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.federation.federation import build_federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import start_weights, train_federated
from polyclinic_simulations.studies import resolve
from polyclinic_simulations.studies.dosing import PHARMACOGENETIC
from tests.kits.noise import NoNoise
from tests.kits.typed import output, refusal

STUDY, TABLE = resolve("warfarin", None)
SUM, NONE = Setting("secure-sum", 1.0, "descent"), Setting("none", None, "descent")


@pytest.mark.parametrize("setting", [SUM, NONE])
def test_the_short_way_gives_the_model_of_a_whole_run(setting: Setting) -> None:
    training = STUDY.training.model_copy(update={"rounds": 6})
    study = setting.apply(STUDY.model_copy(update={"training": training}))
    federation = build_federation(study, TABLE.head(600), 0)
    trainer = Trainer(noise=NoNoise)
    start = State.start(start_weights(federation))
    whole = train_federated(federation, setting, run_id="whole", start=start, trainer=trainer)
    short = released_model(federation, setting, trainer)
    np.testing.assert_allclose(short, whole.weights, rtol=1e-9, atol=1e-12)


def test_in_the_short_way_every_hospital_adds_its_share_in_every_round() -> None:
    drawn: list[int] = []

    class Recorder(NoNoise):
        def discrete(self, size: int, variance: int, context: bytes) -> NDArray[np.int64]:
            drawn.append(variance)
            return super().discrete(size, variance, context)

    study = SUM.apply(STUDY)
    federation = build_federation(study, TABLE.head(600), 0)
    released_model(federation, SUM, Trainer(noise=Recorder))
    sites = len(study.roster.sites)
    plans = Schedule.of(study, max(federation.declared.values()), "products").secure_sums
    assert plans[GRADIENT].length == federation.encoding.width
    assert Counter(drawn) == {
        plans[GRADIENT].variance: sites * study.training.rounds,
        plans[CALIBRATION].variance: sites * study.calibration.steps,
    }
    costs: dict[Charge, int] = {plan.headline: plan.rounds for plan in plans.values()}
    assert spent_epsilon(costs, study.privacy.delta) <= 1.0


def test_test_patients_never_reach_training() -> None:
    """A test patient's row may hold anything: without noise the model keeps every bit."""
    spoilt = TABLE.head(600).copy()
    test = held_out(STUDY, spoilt, 3)
    spoilt.loc[test, "vkorc1"] = "A/A"
    spoilt.loc[test, "dose"] = 7.0
    models = [
        released_model(build_federation(SUM.apply(STUDY), frame, 3), SUM, Trainer(noise=NoNoise))
        for frame in (TABLE.head(600), spoilt)
    ]
    np.testing.assert_array_equal(models[0], models[1])
    spoilt.loc[~test, "dose"] = 7.0
    other = build_federation(SUM.apply(STUDY), spoilt, 3)
    assert not np.array_equal(models[0], released_model(other, SUM, Trainer(noise=NoNoise)))


def test_training_and_test_patients_are_scored_apart() -> None:
    """An attacker who is right of every test patient and wrong of every training patient."""
    frame = TABLE.head(300)
    targets = Targets.of(STUDY, frame)
    test = held_out(STUDY, frame, 0)[targets.rows]
    vkorc1, cyp2c9 = targets.codes["vkorc1"], targets.codes["cyp2c9"]
    right, wrong = 6 * vkorc1 + cyp2c9, 6 * ((vkorc1 + 1) % 3) + (cyp2c9 + 1) % 6
    certain = replace(targets, prior=np.eye(18)[np.where(test, right, wrong)])
    tally = Tally()
    tally.add(certain, np.full((len(test), 18), np.nan), test)
    found = tally.attack("oracle", certain, [test])
    for gene in ("vkorc1", "cyp2c9"):
        assert found.figures("test", gene, "accuracy") == (1.0, None)
        assert found.figures("train", gene, "accuracy") == (0.0, None)


def test_dose_errors_are_those_of_the_definitions() -> None:
    """Off by 0, 8, 25 and -30 mg: 20 % counts as within, 50 % not as far."""
    found = dose_error(np.array([40.0, 48.0, 65.0, 20.0]), np.array([40.0, 40.0, 40.0, 50.0]))
    assert found.mae == pytest.approx(63 / 4)
    assert (found.within_20, found.far_above, found.far_below) == (0.5, 0.25, 0.25)
    edge = dose_error(np.array([60.0, 20.0]), np.array([40.0, 40.0]))
    assert (edge.far_above, edge.far_below) == (0.0, 0.0)


def test_a_model_that_remembers_its_patients_is_seen_to_leak() -> None:
    """Least squares with half as many columns as patients learns them by heart.

    The leak is far above its error. The published formula knows no patient, and leaks nothing.
    """
    frame = TABLE.sample(100, random_state=0)
    targets = Targets.of(STUDY, frame)
    doses, known = ModelDoses.of(STUDY, targets), targets.codes["vkorc1"] != MISSING
    fixed: list[Floats] = []
    fitted: list[Floats] = []
    tests = []
    for seed in range(40):
        test = np.random.default_rng(seed).random(len(targets.table)) < 0.5
        weights = np.linalg.lstsq(doses.x[~test], np.sqrt(targets.dose[~test]), rcond=None)[0]
        for kept, candidates in (
            (fitted, np.einsum("knp,p->nk", doses.candidates, weights).clip(0.0) ** 2),
            (fixed, formula_doses(targets)),
        ):
            joint = posterior(targets.prior, candidates, targets.dose)
            kept.append(chance_of_truth(of_gene("vkorc1", joint), targets.codes["vkorc1"]))
        tests.append(test)
    found = leak(np.array(fitted), np.array(tests), known)
    assert found.mean is not None
    assert found.error is not None
    assert found.mean > max(0.02, 3 * found.error)
    none = leak(np.array(fixed), np.array(tests), known)
    assert none.mean == pytest.approx(0.0, abs=1e-12)


def test_leak_compares_every_patient_with_himself() -> None:
    """Three seeds; the fourth patient is never held out and the fifth has no genotype."""
    truth = np.array([[0.9, 0.5, 0.2, 1, 1], [0.5, 0.5, 0.4, 1, 0], [0.7, 0.9, 0.4, 1, 0]])
    test = np.array([[0, 1, 1, 0, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=bool)
    found = leak(truth, test, np.array([True, True, True, True, False]))
    gains = [0.3, 0.2, 0.2]
    assert found.patients == 3
    assert found.mean == pytest.approx(np.mean(gains))
    assert found.error == pytest.approx(np.std(gains, ddof=1) / np.sqrt(3))
    assert leak(truth, test, np.zeros(5, dtype=bool)).mean is None


def test_hostile_rows_are_not_attacked_and_break_nothing() -> None:
    hostile = pd.DataFrame(
        {
            "patient": [f"hostile {number}" for number in range(5)],
            "site": "synthetic site 1",
            "age": ["old", 45.0, 45.0, 45.0, 45.0],
            "height": [170.0, np.nan, 170.0, 170.0, 170.0],
            "weight": [80.0, 80.0, np.inf, 80.0, 80.0],
            "race": ["Martian", None, "White", "White", 7],
            "vkorc1": ["G/G", "G/G", "G/G", "nonsense", None],
            "cyp2c9": ["*1/*1", "*1/*1", "*1/*1", "*1/*11", "*77/*1"],
            "amiodarone": "?",
            "enzyme_inducer": None,
            "dose": [35.0, 35.0, 35.0, 35.0, 35.0],
        }
    )
    frame = pd.concat([TABLE.head(200), hostile], ignore_index=True)
    targets = Targets.of(STUDY, frame)
    assert targets.rows[-5:].tolist() == [False, False, False, True, True]
    assert targets.codes["vkorc1"][-2:].tolist() == [MISSING, MISSING]
    assert targets.codes["cyp2c9"][-2:].tolist() == [MISSING, MISSING]
    assert np.isfinite(formula_doses(targets)).all()
    result = invert(STUDY, frame, [1.0], seeds=2)
    assert result.patients == int(targets.rows.sum())


def test_published_knowledge_and_the_models_are_compared_on_the_same_patients() -> None:
    result = invert(STUDY, TABLE.head(800), [0.5], seeds=2)
    names = [attack.name for attack in result.attacks]
    assert names[0] == ANCESTRY
    assert names[-2:] == [model_name(0.5), model_name(None)]
    complete = np.isfinite(PHARMACOGENETIC.root_dose(TABLE.head(800)))
    complete &= TABLE.head(800)["dose"].notna().to_numpy()  # a dose outside its range is unknown
    assert result.patients == int(complete.sum())
    for patients in ("train", "test"):
        blind, _ = result.attack(ANCESTRY).figures(patients, "vkorc1", "auc")
        seeing, _ = result.attack(FORMULA).figures(patients, "vkorc1", "auc")
        assert blind is not None
        assert seeing is not None
        assert seeing > blind + 0.05
    assert result.attack(FORMULA).leak["vkorc1"].mean == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("epsilon", [-1.0, 0.0, 60.0, float("nan")])
def test_a_budget_that_cannot_be_is_refused_before_anything_is_trained(epsilon: float) -> None:
    with pytest.raises(PolyclinicError):
        invert(STUDY, TABLE.head(200), [epsilon], seeds=1)


def test_the_command_writes_result_and_plot(tmp_path: Path) -> None:
    words = "audit inversion warfarin --epsilon 1 8 --seeds 1 --out found".split()
    assert "released model, ε = 8" in output(*words, folder=tmp_path)
    result = json.loads((tmp_path / "found" / "inversion.json").read_text())
    assert result["epsilons"] == [1.0, 8.0]
    plot = (tmp_path / "found" / "inversion.svg").read_text()
    assert "Guessing VKORC1" in plot
    assert len(plot) < 200_000


def test_the_command_refuses_a_folder_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    words = "audit inversion warfarin --epsilon 1 --seeds 1 --out taken".split()
    assert refusal(*words, folder=tmp_path)[0] == "X002"
