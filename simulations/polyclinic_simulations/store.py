"""Finished cells on disk, so that an interrupted simulation goes on where it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from polyclinic_common.canonical import canonical_hash, write_atomically
from polyclinic_server.observers import Checkpoint
from polyclinic_simulations.results import Cell
from polyclinic_simulations.training import Setting

ENGINE = "inline"


@dataclass(frozen=True)
class CellStore:
    """Finished cells, one file each, named by everything that determines them.

    Attributes
    ----------
    folder : Path or None
        Where cells are kept; None keeps nothing.
    identity : str
        Hash of study, data and version.
    """

    folder: Path | None
    identity: str

    def run_id(self, setting: Setting, seed: int) -> str:
        """Return the name of a cell's run."""
        key = [self.identity, setting.mode, setting.epsilon, seed, ENGINE]
        return canonical_hash(key)[:16]

    def read(self, setting: Setting, seed: int) -> Cell | None:
        """Return a finished cell, or None; a damaged file counts as none."""
        if self.folder is None:
            return None
        try:
            return Cell.model_validate_json(self._path(setting, seed).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, setting: Setting, cell: Cell) -> None:
        """Keep a finished cell and drop its checkpoint."""
        if self.folder is not None:
            write_atomically(self._path(setting, cell.seed), cell.model_dump_json().encode())
            self._checkpoint_path(setting, cell.seed).unlink(missing_ok=True)

    def checkpoint(self, setting: Setting, seed: int) -> Checkpoint | None:
        """Return the observer that lets this cell's run go on after an interruption."""
        if self.folder is None:
            return None
        return Checkpoint(self._checkpoint_path(setting, seed), self.run_id(setting, seed))

    def _path(self, setting: Setting, seed: int) -> Path:
        return Path(self.folder or ".", "cells", f"{self.run_id(setting, seed)}.json")

    def _checkpoint_path(self, setting: Setting, seed: int) -> Path:
        return Path(self.folder or ".", "cells", f"{self.run_id(setting, seed)}.safetensors")
