"""How somebody at a hospital gets a table in: types a command, reads, deletes `# `, types again."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.testing import assert_array_equal

from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.files import read_table
from polyclinic_common.data.holdout import held_out
from polyclinic_common.data.mapping import load_mapping, parse_mapping, translate
from polyclinic_common.data.values import as_text
from polyclinic_common.study import load_study
from polyclinic_simulations.try_out.typed import Typed
from tests.kits.door_tables import Table
from tests.kits.typed import typed_here

_BLANK = re.compile(r'("(?:[^"\\]|\\.)*")(\s*=\s*)"FILL IN"')


class Answer(Typed):
    """What a command said."""

    @property
    def said(self) -> str:
        """Everything on the screen, in one line."""
        return " ".join((self.out + " " + self.err).split())


@dataclass(frozen=True)
class Values:
    """What training and scoring would see of a table."""

    patients: tuple[str, ...]
    held: Any
    x: Any
    y: Any
    mask: Any


def accepted(text: str, fill: dict[str, str] | None = None) -> str:
    """Return a proposed mapping with every proposal in effect, and blanks filled in."""

    def filled(match: re.Match[str]) -> str:
        cell = json.loads(match[1])
        return f"{match[1]}{match[2]}{json.dumps((fill or {})[cell])}"

    lines = [line[2:] if line.startswith("# ") else line for line in text.splitlines()]
    return "\n".join(_BLANK.sub(filled, line) for line in lines) + "\n"


class Door:
    """A study, a hospital's file and the mapping so far.

    Parameters
    ----------
    folder : Path
        An empty folder.
    study : str
        The manifest.
    table : Table, str or bytes
        The hospital's file.
    name : str
        Its name.
    """

    def __init__(self, folder: Path, study: str, table: Table | str | bytes, name: str = "t.csv"):
        self.folder = folder
        self.study = folder / "study.toml"
        self.study.write_text(study, encoding="utf-8")
        self.table = folder / name
        data = table.text() if isinstance(table, Table) else table
        self.table.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
        self.mapping: str | None = None
        self.rounds = 0

    def _map(self) -> list[object]:
        if self.mapping is None:
            return []
        place = self.folder / "map.toml"
        place.write_text(self.mapping, encoding="utf-8")
        return ["--map", place]

    def type(self, *words: object) -> Answer:
        """Type a command; what it says is returned without the folder's name."""
        answer = typed_here(*words)
        here = str(self.folder)
        return Answer(answer.status, answer.out.replace(here, ""), answer.err.replace(here, ""))

    def check(self) -> Answer:
        """Type `data check`."""
        return self.type("data", "check", self.study, self.table, *self._map())

    def report(self) -> dict[str, Any]:
        """Return what `data check --json` reports."""
        answer = self.type("data", "check", self.study, self.table, *self._map(), "--json")
        found: dict[str, Any] = json.loads(answer.out)
        return found

    def proposal(self) -> tuple[Answer, str]:
        """Type `data check --propose` and return what it said and wrote."""
        self.rounds += 1
        place = self.folder / f"next{self.rounds}.toml"
        words = ("data", "check", self.study, self.table, *self._map(), "--propose", place)
        answer = self.type(*words)
        return answer, place.read_text(encoding="utf-8") if place.exists() else ""

    def draft(self) -> str:
        """Return what `data map` writes."""
        answer = self.type("data", "map", self.study, self.table)
        assert answer.status == 0, answer.said
        return answer.out

    def follow(self, rounds: int = 3, fill: dict[str, str] | None = None) -> Answer:
        """Accept every proposal, at most so many times, and return the last check's answer."""
        answer = Answer(-1, "", "")
        for _ in range(rounds):
            answer, text = self.proposal()
            if answer.status == 0:
                return answer
            assert any(line.startswith("# ") for line in text.splitlines()), (
                f"refused without a mending line: {answer.said}"
            )
            self.mapping = accepted(text, fill)
        return self.check()

    def values(self) -> Values:
        """Return what training would see of the table under the mapping so far."""
        study = load_study(self.study)
        mapping = load_mapping(Path(str(self._map()[1]))) if self.mapping else parse_mapping("", "")
        frame = translate(mapping, read_table(self.table, mapping.table), study).frame
        cohort = Encoding(study).encode(frame, study.roster.sites[0])
        ids = tuple(as_text(frame[study.cohort.patient_id]))
        arrays = (held_out(study, frame), cohort.x, cohort.y, cohort.mask)
        return Values(ids, *(np.asarray(array) for array in arrays))


def values_of(folder: Path, study: str, table: Table) -> Values:
    """Return what training sees of a faultless table; see that it passes without a word."""
    folder.mkdir(exist_ok=True)
    door = Door(folder, study, table)
    answer = door.check()
    assert answer.status == 0, answer.said
    return door.values()


def assert_same(found: Values, wanted: Values, exact: bool = True) -> None:
    """See that two tables give the same patients and the same arrays."""
    assert found.patients == wanted.patients
    for name in ("held", "x", "y", "mask"):
        left, right = getattr(found, name), getattr(wanted, name)
        if exact:
            assert_array_equal(left, right, err_msg=name)
        else:
            np.testing.assert_allclose(
                left.astype(float), right.astype(float), rtol=0, atol=2e-3, err_msg=name
            )


def mends(
    folder: Path,
    study: str,
    table: Table | str | bytes,
    wanted: Table,
    *,
    fill: dict[str, str] | None = None,
    rounds: int = 3,
    exact: bool = True,
    name: str = "t.csv",
) -> Door:
    """See that a table is refused, that its proposals mend it, and that it is then `wanted`."""
    door = Door(folder, study, table, name)
    first = door.check()
    assert first.status != 0, f"usable in silence: {first.said}"
    assert "Traceback" not in first.said
    last = door.follow(rounds, fill)
    assert last.status == 0, f"not usable after its own proposals: {last.said}\n{door.mapping}"
    assert_same(door.values(), values_of(folder / "wanted", study, wanted), exact)
    return door
