"""Conformal intervals hold what they promise on doses: of synthetic patients, and of real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyclinic_simulations.bench.coverage import (
    SPLITS,
    Coverage,
    judged,
    on_own_scale,
    together,
)
from polyclinic_simulations.studies import resolve

HIGH = "highest third of predictions"


def coverage(name: str, data: Path | None = None) -> tuple[Coverage, Coverage]:
    """Return the coverage over 200 splits of one seed, on the model's scale and on the dose's."""
    study, frame = resolve(name, data)
    patients = judged(study, frame, seed=0, epsilon=1.0)
    return (
        together(name, "sqrt", [patients], SPLITS),
        together(name, "none", [on_own_scale(patients)], SPLITS),
    )


def require(found: Coverage, on_dose: Coverage) -> None:
    assert abs(found.mean - 0.9) <= 0.03
    assert 0.0 < found.worst[1] < found.mean
    assert found.groups[HIGH] > on_dose.groups[HIGH] + 0.02  # who needs much is missed less often


@pytest.mark.slow
def test_nine_of_ten_synthetic_patients_lie_in_their_interval() -> None:
    require(*coverage("warfarin"))


@pytest.mark.realdata
@pytest.mark.slow
def test_nine_of_ten_real_patients_lie_in_their_interval(realdata: Path) -> None:
    require(*coverage("iwpc", realdata))
