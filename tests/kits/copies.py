"""Copies of a ledger, as a backup makes and restores them."""

from __future__ import annotations

import shutil
from pathlib import Path


def copy_of(folder: Path, name: str = "copy") -> Path:
    """Copy the ledger as a backup does; return the copy's folder."""
    copy = folder / name
    copy.mkdir()
    for file in folder.glob("ledger.sqlite*"):
        shutil.copy(file, copy / file.name)
    return copy


def put_back(folder: Path, name: str = "copy") -> None:
    for file in folder.glob("ledger.sqlite*"):
        file.unlink()
    for file in (folder / name).iterdir():
        shutil.copy(file, folder / file.name)
