"""Three made studies with faultless tables, and what can go wrong with a table.

Nothing of the product is imported here: what a table means is said by hand.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

SITES = ("north", "south", "east", "west")

_HEAD = """\
polyclinic = 1
id = "{id}"
version = "0.1.0"
title = "Made study {id}"
purpose = "Predict {what} from what is known before treatment."
expires = 2030-12-31
[roster]
sites = ["north", "south", "east", "west"]
[cohort]
patient_id = "patient"
site = "hospital"
site_indicator = false
"""

_TAIL = """
[model]
kind = "linear"
[privacy]
mode = "secure-sum"
epsilon = 1.0
delta = 1e-5
[training]
rounds = 60
ridge = "release"
[evaluation]
holdout = { kind = "fraction", fraction = 0.25 }
"""


def numeric(name: str, unit: str, low: float, high: float) -> str:
    """Return a numeric feature of a study, as TOML."""
    return (
        f'[[cohort.features]]\nname = "{name}"\nkind = "numeric"\nunit = "{unit}"\n'
        f'range = [{low}, {high}]\nsource = "protocol"\n'
    )


def worded(name: str, kind: str, levels: Sequence[str]) -> str:
    """Return a categorical or ordinal feature of a study, as TOML."""
    words = ", ".join(f'"{level}"' for level in levels)
    return (
        f'[[cohort.features]]\nname = "{name}"\nkind = "{kind}"\nlevels = [{words}]\n'
        'source = "protocol"\n'
    )


def snp(name: str, reference: str, effect: str) -> str:
    """Return a SNP of a study, as TOML."""
    return (
        f'[[cohort.features]]\nname = "{name}"\nkind = "snp"\nreference = "{reference}"\n'
        f'effect = "{effect}"\nsource = "rs9923231"\n'
    )


CYP2C9 = (
    '[[cohort.features]]\nname = "CYP2C9"\nkind = "diplotype"\nalleles = ["*2", "*3"]\n'
    'source = "PharmVar CYP2C9"\n'
)


def study(name: str, what: str, features: Sequence[str], outcome: str) -> str:
    """Return a whole manifest."""
    return _HEAD.format(id=name, what=what) + "".join(features) + outcome + _TAIL


DOSE_FEATURES = (
    numeric("age", "years", 18, 90),
    numeric("height", "cm", 140, 210),
    numeric("weight", "kg", 40, 200),
    numeric("crp", "mg/L", 0, 200),
    worded("sex", "categorical", ("female", "male")),
    worded("smoking", "categorical", ("never", "former", "current")),
    worded("amiodarone", "ordinal", ("0", "1")),
    snp("VKORC1", "C", "T"),
    CYP2C9,
)
DOSE_OUTCOME = (
    '[outcome]\nkind = "continuous"\ncolumn = "dose"\nunit = "mg/week"\nrange = [7, 105]\n'
    'transform = "sqrt"\nsource = "stable dose"\n'
)
DOSE = study("dose", "the dose", DOSE_FEATURES, DOSE_OUTCOME)


def surv_outcome(grid: Sequence[float] = (180, 365, 730, 1095, 1460), unit: str = "days") -> str:
    """Return the outcome of *surv* with another grid, or another unit of time."""
    return (
        f'[outcome]\nkind = "survival"\ntime = "time"\nevent = "event"\noccurred = "1"\n'
        f'censored = "0"\nunit = "{unit}"\ngrid = {list(grid)}\nsource = "registry"\n'
    )


SURV_FEATURES = (numeric("age", "years", 18, 90), numeric("risk", "points", -4, 4))
SURV = study("surv", "survival", SURV_FEATURES, surv_outcome())

BIN_FEATURES = (
    numeric("age", "years", 18, 90),
    worded("prior", "categorical", ("yes", "no")),
)
BIN_OUTCOME = (
    '[outcome]\nkind = "binary"\ncolumn = "response"\npositive = "yes"\nnegative = "no"\n'
    'source = "RECIST 1.1"\nbase_rate = 0.4\n'
)
BIN = study("bin", "the response", BIN_FEATURES, BIN_OUTCOME)


@dataclass(frozen=True)
class Table:
    """A table as text cells, and how a file of it is written."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[str]:
        """Return the cells of one column."""
        at = self.header.index(name)
        return [row[at] for row in self.rows]

    def with_column(self, name: str, cells: Sequence[str]) -> Table:
        """Return the table with other cells in one column, which may be a new one."""
        if name not in self.header:
            rows = tuple((*row, cell) for row, cell in zip(self.rows, cells, strict=True))
            return Table((*self.header, name), rows)
        at = self.header.index(name)
        rows = tuple(
            (*row[:at], cell, *row[at + 1 :]) for row, cell in zip(self.rows, cells, strict=True)
        )
        return replace(self, rows=rows)

    def edit(self, name: str, change: Callable[[str], str], at: Sequence[int]) -> Table:
        """Return the table with `change` applied to a column in the rows `at`."""
        chosen = set(at)
        cells = [change(c) if i in chosen else c for i, c in enumerate(self.column(name))]
        return self.with_column(name, cells)

    def renamed(self, **names: str) -> Table:
        """Return the table with other names of columns."""
        return replace(self, header=tuple(names.get(name, name) for name in self.header))

    def without(self, name: str) -> Table:
        """Return the table without one column."""
        at = self.header.index(name)
        rows = tuple(row[:at] + row[at + 1 :] for row in self.rows)
        return Table(self.header[:at] + self.header[at + 1 :], rows)

    def keep(self, at: Sequence[int]) -> Table:
        """Return the table with the rows `at` only."""
        return replace(self, rows=tuple(self.rows[i] for i in at))

    def plus(self, rows: Sequence[Sequence[str]]) -> Table:
        """Return the table with more rows at its end."""
        return replace(self, rows=(*self.rows, *(tuple(row) for row in rows)))

    def text(self, separator: str = ",", end: str = "\n", quote: bool = False) -> str:
        """Return the table as the text of a CSV file."""
        out = io.StringIO()
        writer = csv.writer(
            out,
            delimiter=separator,
            lineterminator=end,
            quoting=csv.QUOTE_ALL if quote else csv.QUOTE_MINIMAL,
        )
        writer.writerow(self.header)
        writer.writerows(self.rows)
        return out.getvalue()


def dose_table(rows: int = 200, seed: int = 1) -> Table:
    """Return a faultless table of *dose*; all words occur from nine rows on."""
    draw = random.Random(seed)  # noqa: S311
    cells = []
    for i in range(rows):
        copies, allele = draw.choice(["C/C", "C/T", "T/T"]), ["*1/*1", "*1/*2", "*2/*3"]
        height = draw.uniform(150, 200)
        cells.append(
            (
                f"P{i + 1:04d}",
                SITES[i % 4],
                str(draw.randint(20, 89)),
                f"{height:.1f}",
                f"{draw.uniform(45, 120):.1f}",
                f"{draw.uniform(0.2, 90):.1f}",
                ["female", "male"][i % 2],
                ["never", "former", "current"][i % 3],
                str(draw.randint(0, 1)) if i > 1 else str(i),
                copies if i > 2 else ["C/C", "C/T", "T/T"][i],
                allele[draw.randrange(3)],
                f"{draw.uniform(8, 100):.2f}",
            )
        )
    header = "patient hospital age height weight crp sex smoking amiodarone VKORC1 CYP2C9 dose"
    return Table(tuple(header.split()), tuple(cells))


def surv_table(rows: int = 400, seed: int = 2) -> Table:
    """Return a faultless table of *surv*: follow-up of 1 to 2,000 days, both words of the event."""
    draw = random.Random(seed)  # noqa: S311
    cells = []
    for i in range(rows):
        risk = draw.gauss(0, 1)
        risk = max(-3.9, min(3.9, risk))
        time = 1 + round(draw.random() * 1900)
        event = "1" if (draw.random() < 0.35 if i > 1 else i == 0) else "0"
        cells.append(
            (
                f"P{i + 1:04d}",
                SITES[i % 4],
                str(draw.randint(20, 89)),
                f"{risk:.2f}",
                str(time),
                event,
            )
        )
    return Table(("patient", "hospital", "age", "risk", "time", "event"), tuple(cells))


def bin_table(rows: int = 200, seed: int = 3) -> Table:
    """Return a faultless table of *bin*."""
    draw = random.Random(seed)  # noqa: S311
    cells = [
        (
            f"P{i + 1:04d}",
            SITES[i % 4],
            str(draw.randint(20, 89)),
            draw.choice(["yes", "no"]) if i > 1 else ["yes", "no"][i],
            draw.choice(["yes", "no"]) if i > 1 else ["yes", "no"][i],
        )
        for i in range(rows)
    ]
    return Table(("patient", "hospital", "age", "prior", "response"), tuple(cells))


def every(share: float, rows: int, seed: int = 0) -> list[int]:
    """Return a share of the rows, at least one."""
    many = max(1, round(share * rows))
    return sorted(random.Random(seed).sample(range(rows), many))  # noqa: S311


def decimal_comma(cell: str) -> str:
    """Return a number with a decimal comma."""
    return cell.replace(".", ",")


def pounds(cell: str) -> str:
    """Return kilograms as pounds, to the hundredth."""
    return f"{float(cell) / 0.45359237:.2f}"


def full_width(cell: str) -> str:
    """Return digits and letters in the full-width form that Japanese keyboards type."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in cell)
