"""The monitor's page, looked at in a browser: WCAG 2.2 AA, narrow and wide, light and dark."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from polyclinic_client.watch.look import take_look
from polyclinic_client.watch.page import look_page
from polyclinic_common.bundle.predictor import Predictor
from polyclinic_common.evaluation.interval import Reading
from tests.kits.browser import browser, faults
from tests.kits.other_studies import EVERY, patients, some_weights, study


@pytest.mark.slow
def test_the_page_has_no_fault_that_axe_finds_and_fits_a_telephone(tmp_path: Path) -> None:
    model = study(*EVERY, kind="binary")
    newer = patients(90, 4).assign(patient=[f"P{row}" for row in range(90)])
    newer["weight"] = pd.to_numeric(newer["weight"]) / 0.45359237
    newer["response"] = np.where(np.random.default_rng(1).random(90) < 0.9, "yes", "no")
    predicted = Predictor(model, some_weights(model)).predict(newer)
    look = take_look(patients(200), newer, predicted, {"auc": Reading(0.7, 0.6, 0.8)})
    assert look.verdict != "fine"
    assert look.performance is not None
    page = tmp_path / "look.html"
    page.write_text(look_page(look, "small.polyclinic", dt.date(2026, 11, 29)), encoding="utf-8")
    with browser() as driver:
        driver.get(page.as_uri())
        assert "A small study" in driver.title
        assert faults(driver) == []
