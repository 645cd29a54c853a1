"""The kinds of release, by name."""

from __future__ import annotations

UPDATE, GRADIENT, STATISTICS = "update", "gradient", "statistics"
METRICS, VOTE, CALIBRATION = "metrics", "vote", "calibration"
