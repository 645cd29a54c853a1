"""What all tests may ask for, and a watch over the registry of whoever runs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from polyclinic_client.accounts.registry import default_registry

pytest.register_assert_rewrite("tests.kits")  # a failed assert of a kit then shows its values
from tests.kits.required import unavailable  # noqa: E402


@pytest.fixture(autouse=True, scope="session")
def real_registry() -> Iterator[None]:
    """See that no test entered an account into the registry of whoever runs the tests."""
    place = default_registry()
    before = place.read_bytes() if place.exists() else None
    yield
    assert (place.read_bytes() if place.exists() else None) == before


@pytest.fixture
def realdata() -> Path:
    """Return the folder of public data sets."""
    folder = os.environ.get("POLYCLINIC_DATA")
    if not folder or not Path(folder).is_dir():
        unavailable("realdata", "set POLYCLINIC_DATA to the folder of public data sets")
    return Path(str(folder))


@pytest.fixture
def ray_scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the folder in which Ray keeps its files; skip where Ray is absent."""
    if find_spec("ray") is None:
        unavailable("ray", "install the extra ray")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # one worker starts sooner
    with TemporaryDirectory() as folder:  # tmp_path is too long for the name of a socket
        short = partial(TemporaryDirectory, dir=folder)
        monkeypatch.setattr("polyclinic_simulations.engines.ray.TemporaryDirectory", short)
        yield Path(folder)
