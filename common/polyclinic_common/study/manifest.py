"""The study manifest: the contract that everybody signs."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from polyclinic_common.canonical import canonical_hash
from polyclinic_common.study.base import Part
from polyclinic_common.study.checks import check_contract
from polyclinic_common.study.contract import Contract
from polyclinic_common.study.outcomes import (
    Continuous,
)
from polyclinic_common.study.sections import (
    MenuEntry,
)
from polyclinic_common.version import numbers_of

NEWER = {("training", "ridge"): "0.2.0", ("training", "calibration"): "0.2.0"}
"""Fields that came later, with their version: studies without them keep the hash they had."""
NEWER_FEATURES = {"hla": "0.2.0"}


class Study(Contract):
    """A complete study. `canonical` is what is hashed and signed: no default is left open in it."""

    def canonical(self) -> dict[str, Any]:
        """Return the canonical form: plain data, every default filled in."""
        data = self.model_dump(mode="json")
        if isinstance(self.outcome, Continuous):
            data["outcome"]["typical"] = self.outcome.start
        data["model"]["loss"] = self.loss
        data["privacy"] |= {"clip": self.clip, "m": self.m, "c": self.c}
        data["training"] |= {"learning_rate": self.learning_rate, "strategy": self.strategy}
        varied = set(MenuEntry.model_fields)
        menu = [each.training.model_dump(include=varied) for each in self.settings]
        data["training"]["menu"] = menu if self.training.menu else []
        for section, field in set(NEWER) - self._newer():
            del data[section][field]
        if self.needs is None:
            del data["needs"]
        data["evaluation"]["metrics"] = list(self.metrics)
        if self.evaluation.private is not None:
            metrics = self.evaluation.private.metrics or self.metrics
            data["evaluation"]["private"]["metrics"] = list(metrics)
        return data

    def with_needs(self) -> Study:
        """Return the study with the version that it needs written into it."""
        came = [NEWER[place] for place in self._newer()]
        came += [NEWER_FEATURES[f.kind] for f in self.cohort.features if f.kind in NEWER_FEATURES]
        came += [self.needs] if self.needs is not None else []
        return self.model_copy(update={"needs": max(came, key=numbers_of, default=None)})

    def _newer(self) -> set[tuple[str, str]]:
        """Return the newer fields that do not hold their default."""
        return {place for place in NEWER if not _at_default(getattr(self, place[0]), place[1])}

    def hash(self) -> str:
        """SHA-256 of the canonical form; it names the study everywhere."""
        return canonical_hash(self.canonical())

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        check_contract(self)
        return self


def _at_default(part: Part, field: str) -> bool:
    return bool(getattr(part, field) == type(part).model_fields[field].default)
