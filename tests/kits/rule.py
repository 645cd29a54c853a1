"""A rule for a second account, as a hospital writes it."""

from __future__ import annotations

from typing import Any

RULE: dict[str, Any] = {
    "why": "The two clinics have never shared a ward, and number their patients apart.",
    "by": "year of admission",
    "here": ["2020", "2021"],
    "elsewhere": ["2015", "2016"],
    "approvers": [
        {"name": "Ada Berg", "role": "data-protection officer", "date": "2026-01-02"},
        {"name": "Bo Dahl", "role": "medical director", "date": "2026-01-03"},
    ],
}
