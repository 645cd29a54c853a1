"""What is written in a mapping file and does not fit the study or the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from polyclinic_common.data.deviation import FILL_IN
from polyclinic_common.data.rules import ColumnSource, Mapping
from polyclinic_common.data.vocabulary import understood
from polyclinic_common.errors import Problem
from polyclinic_common.study.columns import Declared, declared_columns
from polyclinic_common.study.features import Panel, Snp
from polyclinic_common.study.manifest import Study
from polyclinic_common.text import canonical_word

if TYPE_CHECKING:
    import pandas as pd

MAY_BE_ABSENT = frozenset({"feature", "treatment"})


def source_of(mapping: Mapping, column: str) -> str:
    """Return the table's column that a contract column comes from; empty if it is absent."""
    entry = mapping.columns.get(column)
    return column if entry is None else entry.source


def misfits(mapping: Mapping, frame: pd.DataFrame, study: Study) -> Iterator[Problem]:
    """Yield every entry of a mapping that does not fit the study or the table."""
    contract = {column: each for each in declared_columns(study) for column in each.columns}
    for column, entry in mapping.columns.items():
        place = f"columns.{column}"
        if column in contract:
            yield from _of_column(place, column, entry, contract[column], frame)
        else:
            yield Problem(
                place, "The study has no such column.", "Use a name of `polyclinic study show`."
            )
        if not entry.absent and entry.source not in frame.columns:
            yield Problem(
                place,
                f"The table has no column {entry.source!r}.",
                "Correct `source`; upper and lower case matter. Without such a column: "
                "`absent = true` instead.",
            )
    panels = [each for each in declared_columns(study) if isinstance(each.feature, Panel)]
    for name, rules in mapping.panels.items():
        found = next((each for each in panels if each.name == name), None)
        place = f"panels.{name}"
        if found is None:
            yield Problem(
                place, "The study has no such panel.", "Use a name of `polyclinic study show`."
            )
        elif rules.absent and all(source_of(mapping, c) in frame.columns for c in found.columns):
            yield Problem(place, "No column of the panel is absent.", "Leave out `absent`.")


def _of_column(
    place: str, column: str, entry: ColumnSource, declared: Declared, frame: pd.DataFrame
) -> Iterator[Problem]:
    """Yield what is written of a contract column and cannot be."""
    if entry.absent:
        yield from _of_absent(place, column, entry, declared, frame)
    elif entry.of_numbers and declared.bounds is None:
        yield Problem(place, "A factor needs a column of numbers.", "Drop it, or use `codes`.")
    elif entry.strand is not None and not isinstance(declared.feature, Snp):
        yield Problem(place, "A strand needs a SNP.", "Drop `strand`.")
    elif entry.outside == "clamp" and declared.role == "outcome":
        yield Problem(
            place,
            "An outcome outside its range is unknown, not the range's bound.",
            'Write `outside = "missing"`.',
        )
    words = (entry.codes or {}).values()
    wrong = list(_meaningless(declared, [word for word in words if canonical_word(word)]))
    if FILL_IN in words:
        yield Problem(
            place,
            f"A code still says {FILL_IN}.",
            f"Write the study's word in its place ({declared.what}), or put the code in `missing`.",
        )
    elif wrong:
        yield Problem(
            place,
            f"`codes` give {wrong[0]!r}, which is no word of the study.",
            f"Write one of the study's words ({declared.what}) behind each =.",
        )


def _meaningless(declared: Declared, words: Sequence[str]) -> set[str]:
    """Return those of a mapping's words that the study does not know."""
    import pandas as pd  # noqa: PLC0415

    if declared.bounds is not None or (not declared.words and declared.feature is None):
        return set()
    return set(words) - set(understood(declared, pd.Index(words, dtype=object)))


def _of_absent(
    place: str, column: str, entry: ColumnSource, declared: Declared, frame: pd.DataFrame
) -> Iterator[Problem]:
    if declared.role not in MAY_BE_ABSENT:
        yield Problem(
            place, "Features and treatment alone may be absent.", "Write its `source` instead."
        )
    elif column in frame.columns:
        yield Problem(
            place,
            "The table has a column of that name.",
            "Leave out `absent`; or, if the column is something else, rename it in the extract.",
        )
    elif entry.model_dump(exclude_defaults=True).keys() - {"absent"}:
        yield Problem(
            place, "Nothing else can be said of a column that is absent.", "Leave out the rest."
        )
