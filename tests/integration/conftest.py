"""A module's own study, simulated once for all of its tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyclinic_simulations import simulate
from polyclinic_simulations.results.results import Result


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulate the module's STUDY on its TABLE in its MODES, with two seeds."""
    out = tmp_path_factory.mktemp("simulated")
    _simulated(request, out)
    return out


@pytest.fixture(scope="module")
def result(request: pytest.FixtureRequest, folder: Path) -> Result:
    """Return the result again, from what is kept in the folder."""
    return _simulated(request, folder)


def _simulated(request: pytest.FixtureRequest, out: Path) -> Result:
    module = request.module
    return simulate(module.STUDY, module.TABLE, modes=module.MODES, seeds=2, out=out)
