"""The mapping that stands between a hospital's extract and the contract's columns.

No extract has the study's column names. A mapping file names, for each column of the contract,
the column of the extract it comes from, the factor between their units and the meaning of codes::

    [columns.weight]
    source = "GEWICHT_LB"
    factor = 0.45359237

    [columns.sex]
    source = "SEX"
    codes = { "1" = "male", "2" = "female" }
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from polyclinic_common.data.cells import translate_codes, translate_numbers, translate_strand
from polyclinic_common.data.csv_file import TableForm, form_lines
from polyclinic_common.data.deviation import FILL_IN, settling_lines, toml
from polyclinic_common.data.misfits import MAY_BE_ABSENT, misfits, source_of
from polyclinic_common.data.patients import settle_patients
from polyclinic_common.data.rules import ColumnSource, Mapping, ValueRules
from polyclinic_common.data.settled import SettledRule, settled_rows, settled_values
from polyclinic_common.data.units import PLAIN_UNITS, Conversion, canonical_unit, conversions_to
from polyclinic_common.data.values import as_text
from polyclinic_common.data.vocabulary import understood
from polyclinic_common.errors import Code, DataError, Problem
from polyclinic_common.files import decoded
from polyclinic_common.study.columns import Declared, declared_columns
from polyclinic_common.study.manifest import Study
from polyclinic_common.text import odd_letters

if TYPE_CHECKING:
    import pandas as pd

ALIKE = 0.6
MOST_CANDIDATES = 3
FEWEST_LETTERS = 4  # of a name that is looked for within a text
IN_BRACKETS = 0.9  # a unit that is not known may change everything
# Names of one quantity, in letters and digits, as hospitals have exported them.
NAMES = (
    {
        "patient",
        "patientid",
        "pid",
        "id",
        "mrn",
        "subject",
        "subjectid",
        "patnr",
        "patientnumber",
        "recordid",
    },
    {"weight", "wt", "bodyweight", "gewicht", "poids", "peso", "wtkg"},
    {"height", "ht", "bodyheight", "größe", "groesse", "taille", "altezza", "talla"},
    {"age", "alter", "ageatindex", "ageatstart", "âge", "edad", "età"},
    {"sex", "gender", "geschlecht", "sexe", "sesso", "sexo"},
    {"systolic", "sbp", "bpsys", "sysbp", "systolicbloodpressure"},
    {"diastolic", "dbp", "bpdia", "diabp", "diastolicbloodpressure"},
    {"time", "followup", "futime", "ostime", "time2event", "timetoevent"},
    {"event", "status", "death", "died", "fustat", "osstatus", "vitalstatus"},
    {"response", "outcome", "result", "ansprechen", "réponse", "risposta", "respuesta"},
    {"stage", "stadium", "stade", "stadio", "estadio"},
    {"hospital", "site", "center", "centre", "clinic", "klinik", "institution"},
    {"crp", "creactiveprotein"},
)


@dataclass(frozen=True)
class Translated:
    """A table in the contract's columns, and what the mapping settled on the way.

    Attributes
    ----------
    frame : DataFrame
        The table.
    settled : tuple of SettledRule
        Every rule of the mapping, and how often it applied.
    unused : tuple of str
        Columns of the extract of which nothing gets into the table.
    """

    frame: pd.DataFrame
    settled: tuple[SettledRule, ...]
    unused: tuple[str, ...] = ()


def load_mapping(path: Path) -> Mapping:
    """Read and validate the mapping file at `path`.

    Raises
    ------
    DataError
        If the file cannot be read, is no TOML or has a wrong field.
    """
    try:
        text = decoded(path.read_bytes())
    except (OSError, UnicodeDecodeError):
        raise _invalid(f"The mapping {path.name} cannot be read as UTF-8 text.") from None
    return parse_mapping(text, path.name)


def parse_mapping(text: str, name: str) -> Mapping:
    """Validate the text of a mapping file; `name` names it in errors.

    Raises
    ------
    DataError
        D004 if it is no TOML or has a wrong field.
    """
    try:
        return Mapping.model_validate(tomllib.loads(text))
    except ValidationError as error:
        problems = [
            Problem(
                f"{name}, {'.'.join(_place(detail['loc']))}",
                f"{detail['msg']}.",
                "Correct it; `data map` shows an example.",
            )
            for detail in error.errors(include_url=False, include_input=False)
        ]
        raise _invalid(f"The mapping {name} is not valid.", problems) from None
    except tomllib.TOMLDecodeError as error:
        what = f"The mapping {name} is not valid TOML: {error}."
        raise _invalid(what, remedy=odd_letters(text)) from None


def _place(where: tuple[str | int, ...]) -> list[str]:
    """Return where something is wrong, without keys that are cells of the table."""
    names = [str(name) for name in where]
    cut = next((n for n, name in enumerate(names) if n > 1 and name in {"codes", "units"}), 99)
    return names[: cut + 1]


def _invalid(what: str, problems: Sequence[Problem] = (), remedy: str = "") -> DataError:
    remedy = remedy or "Mend the mapping and try again."
    return DataError(Code.MAPPING_INVALID, what, remedy, problems)


def apply_mapping(mapping: Mapping, frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return the extract `frame` in the contract's columns: the table of `translate`."""
    return translate(mapping, frame, study).frame


def translate(mapping: Mapping, frame: pd.DataFrame, study: Study) -> Translated:
    """Bring the extract `frame` into the contract's columns, as somebody wrote down.

    A contract column that the mapping leaves out is taken from the column of the same name, where
    there is one; columns that the contract does not know are dropped.

    Raises
    ------
    DataError
        With one problem for every entry of the mapping that does not fit study or table, and for
        every code that stands in no cell.
    """
    translated = translate_columns(mapping, frame, study)
    contract, settled = settle_rows(mapping, translated.frame, study)
    return Translated(contract, translated.settled + settled, translated.unused)


def settle_rows(
    mapping: Mapping, frame: pd.DataFrame, study: Study
) -> tuple[pd.DataFrame, tuple[SettledRule, ...]]:
    """Return the rows of one hospital's table that count, and what the mapping settled of them."""
    frame, applied = settle_patients(mapping.patients, frame, study)
    return frame, tuple(settled_rows(study.cohort.patient_id, mapping.patients, applied))


def translate_columns(mapping: Mapping, frame: pd.DataFrame, study: Study) -> Translated:
    """Do what `translate` does, and leave all rows in: of several hospitals' tables in one.

    Raises
    ------
    DataError
        As `translate`.
    """
    import pandas as pd  # noqa: PLC0415

    problems = list(misfits(mapping, frame, study))
    if problems:
        raise _invalid("The mapping does not fit the study and the table.", problems)
    columns: dict[str, pd.Series] = {}
    used, settled = set[str](), list[SettledRule]()
    for declared in declared_columns(study):
        sources = {
            column: source
            for column in declared.columns
            if (source := source_of(mapping, column)) in frame.columns
        }
        used.update(sources.values())
        done = AppliedRules(mapping, declared)
        for column, source in sources.items():
            columns[column] = done.translate(column, frame[source])
        settled += done.settled(len(frame), len(declared.columns) - len(sources))
        problems += done.unmatched()
    if problems:
        raise _invalid("Codes of the mapping stand in no cell of the table.", problems)
    unused = tuple(str(name) for name in frame.columns if name not in used)
    return Translated(pd.DataFrame(columns, index=frame.index), tuple(settled), unused)


class AppliedRules:
    """The rules of a column, or of all columns of a panel, and how often each of them applied."""

    def __init__(self, mapping: Mapping, declared: Declared):
        self._mapping, self._declared = mapping, declared
        self._applied: dict[str, Counter[str]] = {}
        self._left: dict[str, set[str]] = {}
        entries = [column for column in declared.columns if column in mapping.columns]
        for place in (*entries, *([declared.name] if declared.name in mapping.panels else [])):
            self._applied[place] = Counter()

    def translate(self, column: str, values: pd.Series) -> pd.Series:
        """Return a column in the study's words and unit."""
        rules = self._mapping.rules_of(column, self._declared.name)
        place = column if column in self._mapping.columns else self._declared.name
        values, applied, unmatched = _translate(rules, self._declared, values)
        self._applied.setdefault(place, Counter()).update(applied)
        self._left[place] = self._left.get(place, set(unmatched)) & set(unmatched)
        return values

    def settled(self, rows: int, absent: int) -> Iterator[SettledRule]:
        """Yield the rules, of a table of so many rows that lacks so many of the columns."""
        for place, applied in self._applied.items():
            given = self._given(place)
            rules = self._mapping.rules_of(place, self._declared.name)
            if given.absent and isinstance(given, ColumnSource):
                yield SettledRule(place, "absent", rows)
            elif given.absent:
                yield SettledRule(place, "absent columns", absent)
            if not isinstance(given, ColumnSource) or not given.absent:
                yield from settled_values(place, given, rules, applied)

    def unmatched(self) -> Iterator[Problem]:
        """Yield a problem for every code that stands in no cell."""
        for place, codes in self._left.items():
            section = "columns" if place in self._mapping.columns else "panels"
            yield from (_unmatched(f"{section}.{place}", code) for code in sorted(codes))

    def _given(self, place: str) -> ValueRules:
        columns = self._mapping.columns
        return columns.get(place) or self._mapping.panels.get(place) or ValueRules()


def _unmatched(place: str, code: str) -> Problem:
    return Problem(
        place,
        f"The code {code!r} stands in no cell of the column.",
        "Write it as the cells do (`data check` without --map shows some), or take it out of "
        "`codes` or `missing`.",
    )


def _translate(
    rules: ValueRules, declared: Declared, values: pd.Series
) -> tuple[pd.Series, dict[str, int], list[str]]:
    """Apply codes, then what else the rules say; what nobody understands stays as it stands."""
    import pandas as pd  # noqa: PLC0415

    cells = values
    values, applied, unmatched = translate_codes(values, rules)
    if rules.as_is:
        applied["as_is"] = int(values.notna().sum())
    if rules.strand is not None:
        values = translate_strand(cells, values, rules) if rules.strand == "other" else values
        applied["strand"] = int(as_text(values).notna().sum())
    if declared.bounds is not None:
        if rules.of_numbers or rules.others:
            values, more = translate_numbers(values, rules, declared.bounds)
            applied |= more
    elif rules.others is not None:
        words = as_text(values)
        known = understood(declared, pd.Index(words.dropna().unique()))
        strange = words.notna() & ~words.isin(known)
        values = values.astype(object).where(~strange)
        applied |= {"others": int(strange.sum())}
    return values, applied, unmatched


def first_mapping(
    study: Study,
    table_columns: Sequence[str],
    form: TableForm | None = None,
    frame: pd.DataFrame | None = None,
) -> str:
    """Return a mapping file to edit: the sources that are certain, and candidates for the others.

    Only a column of the same name is a line in effect; everything else is commented, with its
    reason. Lines that begin with ``##`` explain.

    Parameters
    ----------
    form : TableForm, optional
        How the table seems to be written.
    frame : DataFrame, optional
        The table itself: words that stand in it find a column that its name does not.
    """
    sure = sure_sources(study, table_columns)
    lines = [
        f"## Mapping of a table to the study {study.id} {study.version}.",
        "## Check it: `data check` or `client data add`, with --map THIS_FILE.",
    ]
    stated = form_lines(form or TableForm())
    if stated:
        lines += ["", "## How the table seems to be written:", "# [table]"]
        lines += [f"# {line}" for line in stated]
    for declared in declared_columns(study):
        for column in declared.columns:
            if column in sure or len(declared.columns) == 1:
                lines += [
                    "",
                    *_entry(
                        declared, column, sure.get(column), table_columns, sure.values(), frame
                    ),
                ]
    named = "\n".join(lines)
    unused = [name for name in table_columns if toml(name) not in named]
    if unused:
        lines += ["", "## Columns of the table that are not used:"]
        lines += [f"##   {toml(name)}" for name in unused]
    return "\n".join(lines) + "\n"


def _entry(
    declared: Declared,
    column: str,
    source: str | None,
    table_columns: Sequence[str],
    taken: Collection[str],
    frame: pd.DataFrame | None,
) -> list[str]:
    head = f"## {declared.role}; {declared.what}"
    if source is not None:
        return [head, f"[columns.{toml(column)}]", f"source = {toml(source)}"]
    left = [name for name in table_columns if name not in taken]
    found = candidates(declared, column, left)
    if not found and frame is not None:
        found = _by_words(declared, frame, left)
    if not found and declared.role in MAY_BE_ABSENT:
        line = f"# source = {toml(FILL_IN)}" if left else "# absent = true"
        why = "##   no column of a similar name; if the table has none: absent = true"
        return [head, f"# [columns.{toml(column)}]", line, why]
    if not found:
        return [head, f"## [columns.{toml(column)}]: no column of a similar name"]
    first, *others = found[:MOST_CANDIDATES]
    entry = [head, f"# [columns.{toml(column)}]", f"# source = {toml(first.name)}  # {first}"]
    if first.conversion is not None:
        settled = {"factor": first.conversion.factor, "offset": first.conversion.offset}
        entry += [f"# {line}" for line in settling_lines(ValueRules(), settled)]
    return [*entry, *(f"##   or source = {toml(other.name)}  # {other}" for other in others)]


def _by_words(
    declared: Declared, frame: pd.DataFrame, names: Sequence[str]
) -> tuple[Candidate, ...]:
    """Return columns in which two or more words of the study stand, and no other."""
    return tuple(
        Candidate(name, ALIKE, "the study's words stand in it")
        for name in names
        if declared.words
        if len(words := set(as_text(frame[name]).dropna())) > 1 and words <= set(declared.words)
    )


def sure_sources(study: Study, table_columns: Sequence[str]) -> dict[str, str]:
    """Return the contract columns whose name stands in the table, in letters and digits, once."""
    plain = [_plain(name) for name in table_columns]
    once = {
        word: name
        for word, name in zip(plain, table_columns, strict=True)
        if plain.count(word) == 1 and word
    }
    wanted = [(c, _plain(c)) for d in declared_columns(study) for c in d.columns]
    return {
        column: column if column in table_columns else once[word]
        for column, word in wanted
        if column in table_columns or word in once
    }


@dataclass(frozen=True)
class Candidate:
    """A column of the table that may be the one that the contract means.

    Attributes
    ----------
    name : str
        The table's column.
    score : float
        From 0 to 1: 1 where the name is the same but for a unit.
    reason : str
        Why it may be.
    conversion : Conversion or None
        From the unit in the column's name to the study's.
    """

    name: str
    score: float
    reason: str
    conversion: Conversion | None = None

    def __str__(self) -> str:
        convert = f"; {self.conversion}" if self.conversion is not None else ""
        return f"{self.reason} ({self.score:.2f}){convert}"


def candidates(
    declared: Declared, column: str, table_columns: Sequence[str]
) -> tuple[Candidate, ...]:
    """Return what may be a contract column's source, the likeliest first."""
    found = [_likeliest(declared, column, name) for name in table_columns]
    likely = [each for each in found if each.score >= ALIKE]
    return tuple(sorted(likely, key=lambda each: -each.score))


def _likeliest(declared: Declared, column: str, name: str) -> Candidate:
    """Return a column as a candidate, by what stands before a bracket that nobody can read."""
    whole = _candidate(declared, column, name)
    if "(" not in name or _unit_of_header(declared, name)[1] is not None:
        return whole
    plain = _candidate(declared, column, name.partition("(")[0])
    why = f"{plain.reason}, but for what stands in brackets"
    before = Candidate(name, IN_BRACKETS * plain.score, why)
    return max(whole, before, key=lambda each: each.score)


def _candidate(declared: Declared, column: str, name: str) -> Candidate:
    """Return a column of the table as a candidate, by its name and the unit in it."""
    stem, unit = _unit_of_header(declared, name)
    conversion = None
    if unit is not None and unit != canonical_unit(declared.unit):
        known = conversions_to(declared.unit, column)
        conversion = next((each for each in known if each.found == unit), None)
        if conversion is None:
            return Candidate(name, 0.0, "another unit")
    wanted, found = _plain(column), _plain(stem)
    if wanted == found:
        return Candidate(name, 1.0, "the same name", conversion)
    for group in NAMES:
        if wanted in group and found in group:
            return Candidate(name, 0.9, "another name of it", conversion)
    if len(found) >= FEWEST_LETTERS and found in _plain(getattr(declared.feature, "source", "")):
        return Candidate(name, 0.8, "named in the study's source of it", conversion)
    if wanted in [_plain(part) for part in _parts(stem)]:
        return Candidate(name, 0.7, "its name and more", conversion)
    ratio = SequenceMatcher(None, wanted, found).ratio()
    return Candidate(name, min(ratio, 0.89), "a similar name", conversion)


def _unit_of_header(declared: Declared, name: str) -> tuple[str, str | None]:
    """Return a column's name without the unit at its end, and that unit."""
    parts = _parts(name)
    units = {each.found for each in conversions_to(declared.unit, declared.name)}
    units.add(canonical_unit(declared.unit))
    for length in (1, 2):
        written = "/".join(parts[-length:])
        unit = canonical_unit(written)
        plain = written.lower() in PLAIN_UNITS
        if len(parts) > length and declared.bounds is not None and (unit in units or plain):
            return "_".join(parts[:-length]), unit
    return name, None


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"[\s_.()\[\],/-]+", name) if part]


def guess_sources(study: Study, table_columns: Sequence[str]) -> dict[str, str]:
    """Return the likeliest source of each contract column, each table column used at most once.

    A guess for a person to look at: only `sure_sources` are written as lines in effect.
    """
    guesses = sure_sources(study, table_columns)
    scored = [
        (candidate.score, column, candidate.name)
        for declared in declared_columns(study)
        for column in declared.columns
        if column not in guesses and len(declared.columns) == 1
        for candidate in candidates(declared, column, table_columns)
    ]
    for _, column, name in sorted(scored, key=lambda entry: -entry[0]):
        if column not in guesses and name not in guesses.values():
            guesses[column] = name
    return guesses


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
