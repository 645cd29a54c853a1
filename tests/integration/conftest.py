"""A module's own study, simulated once for all of its tests; what hospitals send, recorded."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from polyclinic_client.consortium import connection
from polyclinic_common.consortium.consortium_pb2_grpc import ConsortiumStub
from polyclinic_simulations import simulate
from polyclinic_simulations.results.results import Result
from tests.kits.recorder import Recorder


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


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Return what keeps everything that hospitals send from now on."""
    made = Recorder()

    def recorded(channel: grpc.Channel) -> ConsortiumStub:
        return ConsortiumStub(grpc.intercept_channel(channel, made))

    monkeypatch.setattr(connection, "ConsortiumStub", recorded)
    return made


def _simulated(request: pytest.FixtureRequest, out: Path) -> Result:
    module = request.module
    return simulate(module.STUDY, module.TABLE, modes=module.MODES, seeds=2, out=out)
