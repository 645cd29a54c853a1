"""Find a study by name or file, and its data."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pandas as pd

from polyclinic_common.data.files import read_table
from polyclinic_common.data.mapping import load_mapping, translate
from polyclinic_common.data.rules import Mapping
from polyclinic_common.errors import Code, DataError, SimulationError, StudyError
from polyclinic_common.study import Study, load_study

HERE = Path(__file__).parent
DATA_VARIABLE = "POLYCLINIC_DATA"
MANIFESTS = {path.parent.name.replace("_", "-"): path for path in sorted(HERE.glob("*/study.toml"))}
"""Manifests by name: the entry point of this package in the group ``polyclinic.studies``."""
BUILT_IN = tuple(MANIFESTS)
Loader = Callable[[Path | None], pd.DataFrame]


def resolve(
    study: str | Path, data: Path | None, mapping: Mapping | None = None
) -> tuple[Study, pd.DataFrame]:
    """Return a study and its table in the contract's columns, or as `mapping` finds it.

    Parameters
    ----------
    study : str or Path
        Name of a built-in study, or a manifest file.
    data : Path or None
        A table for a manifest file; a folder for a built-in study (default: the folder that
        POLYCLINIC_DATA names).
    mapping : Mapping, optional
        How the table of a manifest file is written; it is not translated here.
    """
    manifest = find_study(study)
    if str(study) in BUILT_IN:
        if mapping is not None:
            raise SimulationError(
                Code.SIMULATION_OPTION,
                "A built-in study has a mapping of its own.",
                "Leave out --map, or name a manifest file and its table.",
            )
        module = str(study).replace("-", "_")
        loader: Loader = import_module(f"{__package__}.{module}.loader").load
        return manifest, settled(manifest, HERE / module, loader(data or _data_folder()))
    if data is None:
        raise DataError(
            Code.TABLE_UNREADABLE,
            "A manifest file needs a table.",
            "Add --data TABLE with a CSV or Parquet file in the study's columns.",
        )
    return manifest, read_table(data, None if mapping is None else mapping.table)


def settled(study: Study, folder: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a public table with what its mapping says of values that the study does not expect."""
    mapping = folder / "settled.toml"
    if not mapping.exists():
        return frame
    return frame.assign(**translate(load_mapping(mapping), frame, study).frame)


def find_study(study: str | Path) -> Study:
    """Return a built-in study by its name, or the one of a manifest file.

    Raises
    ------
    StudyError
        S004 if there is none of that name, or what the manifest breaks.
    """
    if str(study) in BUILT_IN:
        return load_study(MANIFESTS[str(study)])
    path = Path(study)
    if path.suffix != ".toml":
        raise StudyError(
            Code.STUDY_UNKNOWN,
            f"There is no built-in study {str(study)!r}.",
            f"Name one of {', '.join(BUILT_IN)}, or a manifest file ending in .toml.",
        )
    return load_study(path)


def _data_folder() -> Path | None:
    folder = os.environ.get(DATA_VARIABLE)
    return Path(folder) if folder else None


def required_folder(data: Path | None, *parts: str) -> Path:
    """Return the folder `parts` below the data folder, or refuse with what to do."""
    if data is not None and (folder := data.joinpath(*parts)).is_dir():
        return folder
    raise DataError(
        Code.DATA_FOLDER,
        f"The folder {'/'.join(parts)} with this study's public data was not found.",
        f"Set {DATA_VARIABLE} to the data folder, or name it with --data.",
    )
