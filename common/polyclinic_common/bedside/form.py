"""The form for one patient, made from the study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from polyclinic_common.bundle.outcome_words import in_words
from polyclinic_common.study.columns import Declared, _labels_of, declared_columns
from polyclinic_common.study.features import Diplotype, Hla, Panel, Snp
from polyclinic_common.study.manifest import Study

MOST_INPUTS = 12  # columns of a panel; a longer one is asked for as lines of names and values
SITE = "site"
Kind = Literal["number", "choice", "text", "lines"]


@dataclass(frozen=True)
class Field:
    """One question of the form.

    Attributes
    ----------
    key : str
        Its name in the form: unique, and safe as an identifier in HTML.
    column : str
        The contract's column; of lines, the panel.
    label, hint : str
        What is asked, and what may be entered, in words.
    kind : str
        A number, a choice of words, a text, or lines of names and values.
    unit : str
        Unit of a number.
    options : tuple of (str, str)
        Of a choice: words as they stand in tables, and what they are called.
    declared : Declared, optional
        What the study declares; None for the hospital.
    """

    key: str
    column: str
    label: str
    hint: str
    kind: Kind
    unit: str = ""
    options: tuple[tuple[str, str], ...] = ()
    declared: Declared | None = None


@dataclass(frozen=True)
class Group:
    """Questions that belong together, and what is to be said before them."""

    title: str
    fields: tuple[Field, ...]
    note: str = ""


def form_of(study: Study) -> tuple[Group, ...]:
    """Return the questions of a study, in groups; groups without a question are left out."""
    found: dict[str, list[Field]] = {}
    asked = [each for each in declared_columns(study) if each.role in {"feature", "treatment"}]
    for index, declared in enumerate(asked):
        found.setdefault(_group(declared), []).extend(_fields(study, f"q{index}", declared))
    if study.cohort.site_indicator:
        found["Hospital"] = [_site(study)]
    notes = {"Treatment": _treatment_note(study)}
    order = ("Patient", "Genes", "Panels", "Treatment", "Hospital")
    return tuple(
        Group(title, tuple(found[title]), notes.get(title, "")) for title in order if title in found
    )


def _group(declared: Declared) -> str:
    if declared.role == "treatment":
        return "Treatment"
    if isinstance(declared.feature, Snp | Diplotype | Hla):
        return "Genes"
    return "Panels" if isinstance(declared.feature, Panel) else "Patient"


def _fields(study: Study, key: str, declared: Declared) -> Iterator[Field]:
    """Yield the question for a column; of a short panel, one for each of its columns."""
    name, label = declared.name, in_words(declared.name)
    if isinstance(declared.feature, Panel) and len(declared.columns) > MOST_INPUTS:
        yield Field(key, name, label, _lines_hint(declared), "lines", declared.unit, (), declared)
    elif declared.bounds is not None:
        for index, column in enumerate(declared.columns):
            yield _number(f"{key}-{index}", column, declared)
    elif declared.words:
        called = _labels_of(study, name)
        options = tuple((word, called.get(word, word)) for word in declared.words)
        yield Field(key, name, label, _source(declared), "choice", "", options, declared)
    else:
        hint = f"For example {_example(declared)}. {_source(declared)}"
        yield Field(key, name, label, hint, "text", declared=declared)


def _number(key: str, column: str, declared: Declared) -> Field:
    low, high = declared.bounds or (0.0, 0.0)
    hint = f"{low:g} to {high:g} {declared.unit}; beyond, the nearer end counts."
    return Field(key, column, in_words(column), hint, "number", declared.unit, (), declared)


def _lines_hint(declared: Declared) -> str:
    low, high = declared.bounds or (0.0, 0.0)
    return (
        f"One line for each value: its name, a blank, the number; for example "
        f"“{declared.columns[0]} {(low + high) / 2:g}”. Numbers in {declared.unit}, {low:g} to "
        f"{high:g}. {len(declared.columns)} names are known; those not listed are missing."
    )


def _source(declared: Declared) -> str:
    """Return where the study has a vocabulary from: it often says what the words mean."""
    return f"Study’s source: {declared.feature.source}." if declared.feature else ""


def _example(declared: Declared) -> str:
    feature = declared.feature
    if isinstance(feature, Snp):
        return f"{feature.reference}/{feature.effect}"
    if isinstance(feature, Hla):
        return f"{feature.alleles[0]}/{feature.alleles[-1]}"
    return f"{feature.reference}/{feature.alleles[0]}" if isinstance(feature, Diplotype) else ""


def _treatment_note(study: Study) -> str:
    if study.treatment is None:
        return ""
    note = "The prediction is for a patient who is given this."
    if study.treatment.assignment == "observational":
        note += (
            " Treatment was not assigned by chance in this study: comparing two predictions does "
            "not tell which treatment is better."
        )
    return note


def _site(study: Study) -> Field:
    hint = "The model knows how these hospitals differ; another one counts as none of them."
    options = tuple((name, name) for name in study.roster.sites)
    return Field(SITE, study.cohort.site, "Hospital", hint, "choice", "", options)
