"""Words for the days, times and decimal numbers that typed files hold."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal


def iso_word(value: date) -> str:
    """Return a day as ``2024-05-01``; with a time of day other than midnight behind it."""
    if isinstance(value, datetime) and (value.time() != time() or value.tzinfo is not None):
        return value.isoformat(sep=" ")
    return (value.date() if isinstance(value, datetime) else value).isoformat()


def plain_decimal(value: Decimal) -> str:
    """Return a decimal number without exponent and without zeros that say nothing."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
