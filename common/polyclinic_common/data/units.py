"""Conversions between units that hospitals mix up, and which of them a column may suffer from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPELLINGS: dict[str, tuple[str, ...]] = {
    "kg": ("kilogram", "kilograms", "kgs"),
    "lb": ("lbs", "pound", "pounds"),
    "cm": ("centimetre", "centimetres", "centimeter", "centimeters"),
    "in": ("inch", "inches"),
    "m": ("metre", "metres", "meter", "meters"),
    "years": ("year", "yr", "yrs", "y", "a"),
    "decades": ("decade",),
    "months": ("month", "mo", "mos"),
    "weeks": ("week", "wk", "wks"),
    "days": ("day", "d"),
    "kpa": (),
    "mmhg": ("torr",),
    "degc": ("c", "celsius", "degreescelsius"),
    "degf": ("f", "fahrenheit", "degreesfahrenheit"),
}
CANONICAL = {
    spelling: unit for unit, spellings in SPELLINGS.items() for spelling in (unit, *spellings)
}
PLAIN_UNITS = {each for each in CANONICAL if len(each) > 2} | {"kg", "lb", "cm"}
"""Units that are no other word at the end of a column's name, as ``in`` is."""
LABELS = {
    "degc": "degC",
    "degf": "degF",
    "mg/dl": "mg/dL",
    "mmol/l": "mmol/L",
    "kpa": "kPa",
    "mmhg": "mmHg",
} | {
    "umol/l": "umol/L",
    "g/l": "g/L",
    "g/dl": "g/dL",
}

DAYS_IN_YEAR = 365.25


@dataclass(frozen=True)
class Conversion:
    """A linear conversion: ``declared = found * factor + offset``."""

    found: str
    declared: str
    factor: float
    offset: float = 0.0

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `values`, measured in `found`, in `declared`."""
        with np.errstate(over="ignore"):
            return values * self.factor + self.offset

    def inverse(self) -> Conversion:
        """Return the way back."""
        return Conversion(self.declared, self.found, 1.0 / self.factor, -self.offset / self.factor)

    def __str__(self) -> str:
        shift = f" and {'add' if self.offset > 0 else 'subtract'} {abs(self.offset):.4g}"
        return (
            f"{LABELS.get(self.found, self.found)} to {LABELS.get(self.declared, self.declared)}: "
            f"multiply by {self.factor:.6g}{shift if self.offset else ''}"
        )


ANY_COLUMN = (
    Conversion("lb", "kg", 0.45359237),
    Conversion("in", "cm", 2.54),
    Conversion("m", "cm", 100.0),
    Conversion("m", "in", 1.0 / 0.0254),
    Conversion("decades", "years", 10.0),
    Conversion("months", "years", 1.0 / 12.0),
    Conversion("months", "decades", 1.0 / 120.0),
    Conversion("days", "weeks", 1.0 / 7.0),
    Conversion("days", "months", 12.0 / DAYS_IN_YEAR),
    Conversion("days", "years", 1.0 / DAYS_IN_YEAR),
    Conversion("weeks", "months", 84.0 / DAYS_IN_YEAR),
    Conversion("weeks", "years", 7.0 / DAYS_IN_YEAR),
    Conversion("kpa", "mmhg", 7.500617),
    Conversion("degf", "degc", 5.0 / 9.0, -160.0 / 9.0),
    Conversion("g/dl", "g/l", 10.0),
    Conversion("mm", "cm", 0.1),
    Conversion("g", "kg", 0.001),
)
# Molar conversions hold for one substance, recognised by the column's name.
BY_SUBSTANCE: dict[tuple[str, ...], tuple[Conversion, ...]] = {
    ("glu",): (Conversion("mmol/l", "mg/dl", 18.016),),
    ("chol", "hdl", "ldl"): (Conversion("mmol/l", "mg/dl", 38.67),),
    ("crp", "creactive"): (Conversion("mg/dl", "mg/l", 10.0),),
    ("crea",): (Conversion("umol/l", "mg/dl", 1.0 / 88.42),),
}


def canonical_unit(unit: str) -> str:
    """Return one spelling of `unit`: ``"Years"`` and ``"yr"`` are ``"years"``."""
    plain = unit.strip().lower().replace("µ", "u").replace("μ", "u").replace("°", "deg")
    plain = plain.replace(" ", "")
    return CANONICAL.get(plain, plain)


def conversions_to(unit: str, column: str) -> tuple[Conversion, ...]:
    """Return the known conversions that end in `unit`, for a column of that name.

    Parameters
    ----------
    unit : str
        The unit that the study declares.
    column : str
        The contract's column; names the substance where a conversion needs one.
    """
    known = list(ANY_COLUMN)
    for stems, conversions in BY_SUBSTANCE.items():
        if any(stem in column.lower() for stem in stems):
            known += conversions
    both_ways = known + [conversion.inverse() for conversion in known]
    wanted = canonical_unit(unit)
    return tuple(conversion for conversion in both_ways if conversion.declared == wanted)
