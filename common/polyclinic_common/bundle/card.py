"""The model card of a released model: `card.json`, the one source of its page and of its XML.

Every field says who states it: the system, or people in `card.toml`, whom nobody checks. What
nobody stated is there too, empty, with who should fill it.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from polyclinic_common.bundle.bias import BiasTable
from polyclinic_common.bundle.card_fields import Who
from polyclinic_common.bundle.certificate import Record
from polyclinic_common.bundle.figures import Figure, Table

NOTICE = (
    "This is no medical device. No authority has examined or approved it. It must not decide about "
    "a patient: it can inform people who decide, and who know the patient."
)
ONLY_SIMULATED = (
    "SIMULATED: no hospital took part. Everything happened on one machine, and whatever stands "
    "here about hospitals, patients and privacy is that of a simulation."
)


Value = str | tuple[str, ...] | Table


class Item(Record):
    """A field of the card with what it says.

    Attributes
    ----------
    id, title : str
        Its id, such as ``tripod.12c``, and what it is called.
    source : str
        Who states it; empty if nobody does yet.
    value : str, tuple of str or Table
        What is stated; an empty text if nothing is.
    who : str or None
        Who should fill it, where it is empty.
    """

    id: str
    title: str
    source: Literal["system", "people", "empty"]
    value: Value = ""
    who: Who | None = None

    @model_validator(mode="after")
    def _empty_means_empty(self) -> Self:
        if (self.source == "empty") != (not self.value) or (self.who is None) != bool(self.value):
            raise ValueError("an empty field has nobody who stated it and somebody to fill it")
        return self


class Section(Record):
    """Fields that stand together."""

    title: str
    items: tuple[Item, ...]


class Card(Record):
    """The model card.

    Attributes
    ----------
    polyclinic_card : int
        Version of this format.
    name : str
        What the model is called.
    simulated : bool
        Whether no hospital took part.
    notice : str
        That it is no medical device.
    sections : tuple of Section
        All fields.
    performance : tuple of Figure
        Released metrics of all patients, as numbers.
    calibration : BiasTable or None
        Calibration of all patients, as numbers.
    bias : tuple of BiasTable
        Performance and calibration by declared subgroup.
    """

    polyclinic_card: Literal[1] = 1
    name: str
    simulated: bool
    notice: str = NOTICE
    sections: tuple[Section, ...]
    performance: tuple[Figure, ...] = ()
    calibration: BiasTable | None = None
    bias: tuple[BiasTable, ...] = ()

    @property
    def items(self) -> dict[str, Item]:
        """All fields by id."""
        return {item.id: item for section in self.sections for item in section.items}

    @property
    def empty(self) -> tuple[Item, ...]:
        """Fields that nobody has filled."""
        return tuple(item for item in self.items.values() if item.source == "empty")
