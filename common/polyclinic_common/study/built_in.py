"""Studies that installed components bring, by name.

A component registers a mapping of names to manifest files under the entry-point group
``polyclinic.studies``; one whose component is not installed is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from polyclinic_common.errors import Code, StudyError

GROUP = "polyclinic.studies"


def built_in_studies() -> Mapping[str, Path]:
    """Return the manifests of all built-in studies, by name."""
    found: dict[str, Path] = {}
    for entry in entry_points(group=GROUP):
        if find_spec(entry.module.partition(".")[0]) is not None:
            found |= entry.load()
    return dict(sorted(found.items()))


def manifest_of(given: Path) -> Path:
    """Return a manifest that was given by its path, or by the name of a built-in study.

    Raises
    ------
    StudyError
        S004 if it is neither.
    """
    if given.suffix or given.exists():
        return given
    known = built_in_studies()
    if str(given) in known:
        return known[str(given)]
    raise StudyError(
        Code.STUDY_UNKNOWN,
        f"There is no study file and no built-in study {str(given)!r}.",
        f"Name a manifest file, or one of the built-in studies: {', '.join(known) or 'none here'}.",
    )
