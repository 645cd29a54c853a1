"""A newcomer adds a head, a metric, a source or a kind of release in the places that are named.

Each patch beside this file is what such a person writes. It is applied to a copy of the packages,
and the commands that a researcher or a hospital types are run on it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from polyclinic_common.version import VERSION
from tests.kits.small import small_table, study_data

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
PACKAGES = ("common", "client", "server", "simulations")
POLYCLINIC = Path(sys.executable).with_name("polyclinic")
PLACES = {"head": 3, "metric": 2, "source": 3, "kind": 3}
"""How many files a patch touches at most: of a source, one is a line of pyproject.toml, and one
the first file of its folder."""


class House:
    """A copy of the packages, with a patch."""

    def __init__(self, folder: Path, patch: str | None):
        self.folder, self.tree = folder, folder / "tree"
        for package in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, self.tree / package, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", self.tree)
        if patch is not None:
            apply = ["git", "apply", str(HERE / f"{patch}.patch")]
            subprocess.run(apply, cwd=self.tree, check=True)
        self._install()

    def _install(self) -> None:
        """Write down the entry points, as an installation of the copy would."""
        about = self.tree / f"polyclinic-{VERSION}.dist-info"
        about.mkdir()
        about.joinpath("METADATA").write_text(f"Name: polyclinic\nVersion: {VERSION}\n")
        groups = tomllib.loads((self.tree / "pyproject.toml").read_text())["project"][
            "entry-points"
        ]
        lines = [f"[{group}]\n" + "".join(f"{n} = {at}\n" for n, at in each.items())
                 for group, each in groups.items()]  # fmt: skip
        about.joinpath("entry_points.txt").write_text("\n".join(lines))

    def type(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        paths = [self.tree, *(self.tree / package for package in PACKAGES)]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "COLUMNS": "200"}
        return subprocess.run(
            [POLYCLINIC, *map(str, words)],
            env=env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def says(self, *words: str | Path) -> str:
        done = self.type(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def write(self, kind: str, **changes: Any) -> tuple[Path, Path]:
        """Write a study and its patients."""
        study, table = self.folder / "study.toml", self.folder / "patients.csv"
        study.write_text(tomli_w.dumps(study_data(kind, 3, **changes)))
        small_table(150).to_csv(table, index=False)
        return study, table

    def simulate(self, study: Path, table: Path, *words: str) -> dict[str, Any]:
        """Simulate at epsilon 4; return the one cell of the result."""
        line = [*"--epsilon 4 --seeds 1 --workers 1 --out out --json".split(), *words]
        (cell,) = json.loads(self.says("simulate", study, "--data", table, *line))["cells"]
        return dict(cell)


@pytest.mark.parametrize("patch", PLACES)
def test_an_addition_touches_the_places_that_are_named(patch: str) -> None:
    text = (HERE / f"{patch}.patch").read_text()
    assert len(re.findall(r"^diff --git", text, re.MULTILINE)) <= PLACES[patch]


def test_a_head_is_a_file_and_a_line_of_the_registry(tmp_path: Path) -> None:
    house = House(tmp_path, "head")
    study, table = house.write("binary", model={"kind": "squares"})
    assert "a squares model" in " ".join(house.says("study", "show", study).split())
    for gradients in ("fast", "opacus"):
        cell = house.simulate(study, table, "--gradients", gradients)
        assert cell["test"]["overall"]["auc"] > 0.6
    plain = House(tmp_path / "plain", None)
    assert plain.type("study", "check", study).returncode != 0


def test_a_metric_is_an_object(tmp_path: Path) -> None:
    house = House(tmp_path, "metric")
    private = {"private": {"metrics": ["within_10"], "share": 0.5}}
    study, table = house.write("continuous", evaluation=private)
    cell = house.simulate(study, table)
    exact = cell["test"]["overall"]["within_10"]
    (overall,) = (g for g in cell["private"][-1]["groups"] if g["kind"] == "overall")
    assert 0.0 < exact < cell["test"]["overall"]["within_20"]
    assert (
        overall["metrics"]["within_10"]["low"] <= exact <= overall["metrics"]["within_10"]["high"]
    )
    assert "within 10 %" in (tmp_path / "out" / "report.html").read_text()


def test_a_source_is_a_file_and_an_entry_point(tmp_path: Path) -> None:
    house = House(tmp_path, "source")
    study, _ = house.write("binary")
    halves = tmp_path / "halves"
    halves.mkdir()
    frame = small_table(150)
    frame[:75].to_csv(halves / "a.csv", index=False)
    frame[75:].to_csv(halves / "b.csv", index=False)
    place = tmp_path / "hospital.source.toml"
    place.write_text(f'kind = "sheets"\nfolder = "{halves}"\n')
    assert "usable" in house.says("data", "check", study, place)
    assert house.simulate(study, place)["test"]["overall"]["auc"] > 0.5
    place.write_text('kind = "unheard of"\n')
    refused = house.type("data", "check", study, place)
    assert "D001" in refused.stderr
    assert "sheets" in refused.stderr


@pytest.mark.parametrize("mode", ["secure-sum", "local"])
def test_a_kind_of_release_is_an_entry_and_a_function(tmp_path: Path, mode: str) -> None:
    house = House(tmp_path, "kind")
    study, table = house.write("binary", privacy={"mode": mode})
    told = " ".join(house.says("study", "show", study).split())
    assert "noisy sums of the columns" in told
    assert "5 % of the budget" in told
    house.simulate(study, table)
    journals = list(tmp_path.glob("out/sites/*/*/journal.sqlite"))
    assert len(journals) == 3
    for journal in journals:
        with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as connection:
            seen = 'SELECT count(*) FROM rows WHERE instr(body, CAST(\'"sum":"columns"\' AS BLOB))'
            assert connection.execute(seen).fetchone()[0] > 0
