"""What commands print."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

from polyclinic_common.errors import PolyclinicError
from polyclinic_common.text import is_control, plain


def print_error(error: PolyclinicError, *, as_json: bool) -> None:
    """Print a coded error to standard error: a table for people, JSON for machines."""
    if as_json:
        sys.stderr.write(json.dumps(error.as_dict()) + "\n")
        return
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"[bold red]error {error.code.value}[/] {_shown(error.what)}")
    for problem in error.problems:
        console.print(f"  [bold]{_shown(problem.place)}[/]: {_shown(problem.what)}")
        console.print(f"    [green]→[/] {_shown(problem.remedy)}")
    console.print(f"  [green]→[/] {_shown(error.remedy)}")


def _shown(text: str) -> str:
    return escape(plain(text))


def print_json(value: Any) -> None:
    """Print `value` as JSON to standard output, control characters escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    escaped = (
        json.dumps(letter)[1:-1] if letter != "\n" and is_control(letter) else letter
        for letter in text
    )
    sys.stdout.write("".join(escaped) + "\n")
