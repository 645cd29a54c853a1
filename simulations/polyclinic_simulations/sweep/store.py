"""Pieces of work, and finished ones on disk: an interrupted simulation goes on where it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from polyclinic_common.canonical import canonical_hash
from polyclinic_common.files import write_atomically
from polyclinic_common.study.manifest import Study
from polyclinic_server.rounds.observers import Checkpoint
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.results.results import Record, Run, SharedBaselines

if TYPE_CHECKING:
    import pandas as pd

Kept = TypeVar("Kept", bound=Record)
Files = Mapping[str, bytes]
"""Contents of files by their path below the output folder."""
CELLS, SITES = "cells", "sites"


@dataclass(frozen=True)
class Store:
    """One file for every finished run, and one for the baselines that runs share.

    Names are hashes of everything that determines the content, so that a changed study, table or
    version never meets old files.

    Attributes
    ----------
    folder : Path
        Where files are kept.
    identity : str
        Hash of study, data, version and way of computing.
    """

    folder: Path
    identity: str

    def run_id(self, setting: Setting, seed: int) -> str:
        """Return the name of a run."""
        return canonical_hash([self.identity, *setting.key, seed])[:16]

    def read_run(self, setting: Setting, seed: int) -> Run | None:
        """Return a finished run, if it and its model are kept."""
        if not self.model_path(setting, seed).is_file():
            return None
        return self._read(Run, self.run_id(setting, seed))

    def read_baselines(self, setting: Setting, seed: int) -> SharedBaselines | None:
        """Return the baselines beside a setting, if kept."""
        return self._read(SharedBaselines, self._baselines_name(setting, seed))

    def write_run(self, setting: Setting, run: Run) -> None:
        """Keep a finished run and drop its checkpoint."""
        self._write(run, self.run_id(setting, run.seed))
        self.checkpoint(setting, run.seed).path.unlink(missing_ok=True)

    def write_baselines(self, setting: Setting, seed: int, baselines: SharedBaselines) -> None:
        """Keep the baselines beside a setting."""
        self._write(baselines, self._baselines_name(setting, seed))

    def checkpoint(self, setting: Setting, seed: int) -> Checkpoint:
        """Return the observer that lets this run go on after an interruption."""
        name = self.run_id(setting, seed)
        return Checkpoint(self.folder / CELLS / f"{name}.safetensors", name)

    def hospitals(self, setting: Setting, seed: int) -> Path:
        """Return where a run's hospitals keep their ledgers and journals."""
        return self.folder / SITES / self.run_id(setting, seed)

    def model_path(self, setting: Setting, seed: int) -> Path:
        """Return where a run's model is kept."""
        return self.folder / "models" / f"{self.run_id(setting, seed)}.safetensors"

    def keep(self, piece: Piece, files: Files) -> None:
        """Keep what a piece wrote on another machine, in the place of what was begun here.

        The cell comes last: with it the piece counts as finished.
        """
        if not piece.baselines:
            self.checkpoint(piece.setting, piece.seed).path.unlink(missing_ok=True)
            shutil.rmtree(self.hospitals(piece.setting, piece.seed), ignore_errors=True)
        for name in sorted(files, key=lambda name: name.startswith(f"{CELLS}/")):
            path = (self.folder / name).resolve()
            if not path.is_relative_to(self.folder.resolve()):
                raise ValueError(f"{name} lies outside the output folder")
            secret = name.startswith(f"{SITES}/")
            path.parent.mkdir(mode=0o700 if secret else 0o777, parents=True, exist_ok=True)
            write_atomically(path, files[name])
            if secret:
                path.chmod(0o600)

    def _baselines_name(self, setting: Setting, seed: int) -> str:
        return canonical_hash([self.identity, "baselines", *setting.alone.key, seed])[:16]

    def _read(self, kind: type[Kept], name: str) -> Kept | None:
        """Read a kept file; an absent or damaged one counts as not kept."""
        try:
            return kind.model_validate_json((self.folder / CELLS / f"{name}.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def _write(self, record: Record, name: str) -> None:
        path = self.folder / CELLS / f"{name}.json"
        write_atomically(path, record.model_dump_json().encode())


@dataclass(frozen=True)
class Job:
    """What all pieces of one simulation share."""

    study: Study
    frame: pd.DataFrame
    store: Store
    engine: str
    gradients: str
    start: Path | None = None


@dataclass(frozen=True)
class Piece:
    """One piece: a run, or the baselines beside it (`setting` is then its own `alone`)."""

    seed: int
    setting: Setting
    baselines: bool = False

    def units(self, study: Study) -> float:
        """Return the work in it, in rounds of a federation."""
        alone = 0 if self.setting.epsilon is None else study.training.rounds
        return study.training.rounds if self.baselines else study.rounds + alone


def collect(folder: Path) -> Files:
    """Return all files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
