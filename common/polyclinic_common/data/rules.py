"""What a person writes down about a hospital's table: the model of a mapping file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from polyclinic_common.data.csv_file import Decimal, TableForm, Thousands
from polyclinic_common.study.base import Part


class ValueRules(Part):
    """What the cells of a column mean, in the order in which it is applied.

    Attributes
    ----------
    codes : dict, optional
        What stands in a cell, and the study's word or number for it; ``""`` is an empty cell.
    missing : tuple of str
        What stands in a cell that holds no value.
    decimal, thousands : str, optional
        Marks in the column's numbers; ``either`` is comma or point.
    units : dict, optional
        Units that stand behind numbers in the cells, and the factor from each to the study's.
    censored : str, optional
        Cells like ``<5`` or ``90+``: count as the ``bound``, or as ``missing``.
    factor, offset : float
        From the column's unit to the study's: ``value * factor + offset``.
    outside_factor, outside_offset : float, optional
        The same for values that then lie outside the public range, and for no others.
    outside : str, optional
        What still lies outside counts as ``missing``, or as the bound it is beyond (``clamp``; not
        for an outcome).
    others : str, optional
        Cells that nobody understands count as ``missing``.
    strand : str, optional
        The strand on which the laboratory reports a SNP: the study's (``same``) or the ``other``.
    as_is : bool
        A person has looked at what seems improbable of the column as a whole: it is right.
    absent : bool
        The table has no such column (of a panel: not all of them); it counts as missing for every
        patient.
    """

    codes: dict[str, str] | None = None
    missing: tuple[str, ...] = ()
    decimal: Decimal | None = None
    thousands: Thousands | None = None
    units: dict[str, float] | None = None
    censored: Literal["bound", "missing"] | None = None
    factor: float = 1.0
    offset: float = 0.0
    outside_factor: float | None = None
    outside_offset: float = 0.0
    outside: Literal["clamp", "missing"] | None = None
    others: Literal["missing"] | None = None
    strand: Literal["same", "other"] | None = None
    as_is: bool = False
    absent: bool = False

    @property
    def of_numbers(self) -> bool:
        """Whether any of these rules makes sense for numbers alone."""
        own = ("decimal", "thousands", "units", "censored", "factor", "offset", "outside_factor")
        given = self.model_dump(exclude_defaults=True)
        return any(name in given for name in (*own, "outside_offset", "outside"))


class ColumnSource(ValueRules):
    """Where one column of the contract comes from, and what its cells mean; or that it is absent.

    Attributes
    ----------
    source : str
        The table's column; empty for a column that is absent.
    """

    source: str = Field(default="", validate_default=True)

    @field_validator("source")
    @classmethod
    def _either(cls, source: str, info: ValidationInfo) -> str:
        """Have a source, or none and ``absent``."""
        if info.data.get("absent", False) == bool(source):
            raise ValueError("write the table's column, or absent = true and no source")
        return source


class PatientRules(Part):
    """What is done about rows that are not one patient each.

    Attributes
    ----------
    rows : str, optional
        Of several rows of one patient the ``first`` or ``last`` counts, or their ``mean`` (of
        numbers; words that differ count as missing).
    empty : str, optional
        Rows without patient number, or with nothing else, are dropped or kept.
    exclude : tuple of str
        Patient numbers that take no part: patients who objected.
    width : int, optional
        Digits of every patient number: zeros that were lost in front are put back.
    """

    rows: Literal["first", "last", "mean"] | None = None
    empty: Literal["drop", "keep"] | None = None
    exclude: tuple[str, ...] = ()
    width: int | None = Field(default=None, ge=1, le=64)


class Mapping(Part):
    """A mapping file: how the table is written, who is in it, and what its columns mean."""

    table: TableForm = Field(default_factory=TableForm)
    patients: PatientRules = Field(default_factory=PatientRules)
    columns: dict[str, ColumnSource] = Field(default_factory=dict)
    panels: dict[str, ValueRules] = Field(default_factory=dict)

    def rules_of(self, column: str, panel: str) -> ValueRules:
        """Return what holds for a contract column, of the panel of that name if it is of one."""
        given: ValueRules | None = self.columns.get(column)
        rules = given or self.panels.get(panel) or ValueRules()
        marks = {
            name: mark
            for name, mark in (("decimal", self.table.decimal), ("thousands", self.table.thousands))
            if mark is not None and getattr(rules, name) is None
        }
        return rules.model_copy(update=marks)
