"""Earlier looks at a model, as far as the next one needs them: counts and verdicts, nothing else.

``SITE/monitor/DIGEST.jsonl``, a line a look, readable by its owner only.
"""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polyclinic_client.watch.finding import Verdict
from polyclinic_common.errors import BundleError, Code

FOLDER = "monitor"
MODE, FOLDER_MODE = 0o600, 0o700


class LookEntry(BaseModel):
    """What is kept of a look: the day, rows, patients with a known outcome, and the verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    day: dt.date
    rows: int = Field(ge=0)
    known: int = Field(ge=0)
    verdict: Verdict


class LookLog:
    """The looks at one model at one hospital.

    Parameters
    ----------
    site : Path
        The site's folder.
    digest : str
        Names the bundle.
    """

    def __init__(self, site: Path, digest: str):
        self.path = site / FOLDER / f"{digest}.jsonl"

    def read(self) -> tuple[LookEntry, ...]:
        """Return all looks, the first first.

        Raises
        ------
        BundleError
            B031 if the file cannot be used.
        """
        if not self.path.exists():
            return ()
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
            return tuple(map(LookEntry.model_validate_json, lines))
        except (OSError, UnicodeDecodeError, ValidationError):
            raise BundleError(
                Code.LOOKS_DAMAGED,
                f"The log of earlier looks {self.path} is damaged or cannot be read.",
                "Put it back from a copy; without it, remove it, and looks are counted anew.",
            ) from None

    def add(self, entry: LookEntry) -> None:
        """Keep a look, unless it is the last one over again: the same table is the same look."""
        last = self.read()[-1:]
        if last and last[0].model_dump(exclude={"day"}) == entry.model_dump(exclude={"day"}):
            return
        self.path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, MODE)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(entry.model_dump_json() + "\n")
