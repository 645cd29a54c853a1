"""The App Bundle that Flower wants with a run: a form that names the installed coordinator.

There is no code in it. The server starts its own coordinator for a run that came with exactly
this bundle, and for no other; hospitals never see it.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache

RUN = "run"
_PROJECT = f"""\
[project]
name = "polyclinic"
version = "1.0.0"
description = "Names the coordinator that is installed at the server."
license = {{ file = "LICENSE" }}
dependencies = ["flwr>=1.41,<1.42"]

[tool.flwr.app]
publisher = "polyclinic"
fab-format-version = 1
flwr-version-target = "1.41.0"

[tool.flwr.app.components]
serverapp = "polyclinic_server.runs.process:main"
clientapp = "polyclinic_server.runs.process:main"

[tool.flwr.app.config]
{RUN} = ""
"""
_LICENSE = "Apache-2.0\n"
_DAY_ZERO = (1980, 1, 1, 0, 0, 0)


@cache
def make_bundle() -> bytes:
    """Return the bundle: the same bytes at every call."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in (("pyproject.toml", _PROJECT), ("LICENSE", _LICENSE)):
            archive.writestr(zipfile.ZipInfo(name, _DAY_ZERO), text)
    return file.getvalue()


def bundle_hash() -> str:
    """Return what Flower knows the bundle by."""
    return hashlib.sha256(make_bundle()).hexdigest()
