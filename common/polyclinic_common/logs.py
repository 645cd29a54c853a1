"""Logs of the long-running processes: one JSON object a line on standard error.

No patient data reach them: what fails is named by a code or a class, never by the text of an
exception from outside Polyclinic.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys

LOGGERS = ("polyclinic_server", "polyclinic_client")


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "from": record.name,
            "what": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
        return json.dumps(line, ensure_ascii=False)


def start(level: int = logging.INFO) -> None:
    """Write what Polyclinic's own modules log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.addHandler(handler)
