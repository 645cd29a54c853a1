"""Deviations in columns of words: words that the study does not know, and words that are absent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from polyclinic_common.data.deviation import FILL_IN, MOST_EXAMPLES, Found, shortened
from polyclinic_common.data.genotype import is_palindromic, other_strand
from polyclinic_common.data.patient_number import same_number
from polyclinic_common.data.rules import ValueRules
from polyclinic_common.data.values import as_cells, as_text, as_words
from polyclinic_common.data.vocabulary import (
    meant,
    on_other_strand,
    says_nothing,
    understood,
)
from polyclinic_common.study.columns import Declared
from polyclinic_common.study.features import Diplotype, Hla, Snp

if TYPE_CHECKING:
    import pandas as pd

MOST_CODES = 50
_ALLELES = re.compile(r"[0-9/|*>]|^[ACGT]+$", re.IGNORECASE)
FEWEST_TOLD = 10  # patients among whom an event that never occurs is remarkable


def unknown_words(declared: Declared, series: pd.Series) -> Counter[str]:
    """Return how often each word occurs that the study does not know."""
    if not declared.words and declared.feature is None:
        return Counter()
    counts = as_text(series).value_counts()
    known = set(understood(declared, counts.index))
    return Counter({str(word): int(n) for word, n in counts.items() if word not in known})


def word_deviations(
    declared: Declared, series: pd.Series, unknown: Counter[str], rules: ValueRules
) -> Iterator[Found]:
    """Yield what a column of words holds that nobody has said the meaning of."""
    outcome = declared.role == "outcome"
    present = set(as_words(series, declared.words).dropna()) if outcome else set()
    if outcome and _shifted(declared, present, unknown):
        yield _numbered_from_one(declared, unknown)
        return
    if declared.words and (nones := int((as_cells(series) == "None").sum())):
        yield Found(
            f"{nones} cells say None.",
            nones,
            ("None",),
            "No value, or the answer that there is none of it?",
            {"codes": {"None": FILL_IN}},
            'If it is no value: missing = ["None"].',
        )
    if isinstance(declared.feature, Snp):
        yield from _strand(declared, declared.feature, series, unknown, rules)
        turned = on_other_strand(declared.feature, list(unknown))
        unknown = Counter({word: n for word, n in unknown.items() if word not in turned})
    codes = meant(declared, list(unknown))
    if codes:
        counts = Counter({word: unknown[word] for word in codes})
        few = len(codes) <= MOST_CODES
        yield Found(
            f"{counts.total()} are words that the study does not know.",
            counts.total(),
            examples(counts),
            _cause(declared, codes),
            {"codes": codes} if few else {"others": "missing"},
            "If they mean something else, say so in `codes`.",
        )
    rest = Counter({word: n for word, n in unknown.items() if word not in codes})
    if rest and declared.what.startswith("event") and present & set(declared.words):
        yield _other_event(rest)
    elif rest:
        genotype = isinstance(declared.feature, Snp | Diplotype | Hla)
        calls = Counter({w: n for w, n in rest.items() if genotype and _names_alleles(w)})
        for words in (calls, rest - calls):
            if words:
                yield _without_meaning(words, int(series.notna().sum()), asked=words is calls)
    enough = series.notna().sum() >= FEWEST_TOLD
    if outcome and enough and not unknown and not rules.as_is:
        yield from _absent(declared, present)


def _strand(
    declared: Declared, snp: Snp, series: pd.Series, unknown: Counter[str], rules: ValueRules
) -> Iterator[Found]:
    """Yield genotypes of the other strand, and a SNP whose strand cannot be seen."""
    import pandas as pd  # noqa: PLC0415

    words = as_text(series).dropna()
    if is_palindromic(snp) and rules.strand is None and len(words):
        yield Found(
            "The strand of this SNP cannot be seen: its alleles read alike on both.",
            len(words),
            (),
            f"Ask the laboratory for the strand of its report. Study: {snp.source}.",
            {"strand": "same"},
            'If the laboratory reports the other strand: strand = "other".',
        )
    turned = on_other_strand(snp, list(unknown))
    if not turned:
        return
    counts = Counter({word: unknown[word] for word in turned})
    ours = len(words) - unknown.total() + sum(unknown[w] for w in meant(declared, list(unknown)))
    what = f"{counts.total()} fit on the other strand only"
    if ours or rules.strand is not None:
        yield Found(
            f"{what}, and {ours} on the stated one only.",
            counts.total(),
            examples(counts),
            "Two laboratories, or an error: no strand is right for all of them.",
            {"missing": tuple(sorted(turned))},
            "Better: ask the laboratory, and say what each means in `codes`.",
        )
        return
    plain = set(understood(declared, pd.Index([other_strand(word) for word in turned])))
    as_written = all(other_strand(word) in plain for word in turned)
    yield Found(
        f"{what}, and none on the study's.",
        counts.total(),
        examples(counts),
        "The laboratory reports the other strand.",
        {"strand": "other"} if as_written else {"codes": turned},
        "If they mean something else, say so in `codes`.",
    )


def examples(counts: Counter[str]) -> tuple[str, ...]:
    """Return the most frequent words, shortened."""
    frequent = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return tuple(shortened(word) for word, _ in frequent[:MOST_EXAMPLES])


def _cause(declared: Declared, codes: dict[str, str]) -> str:
    if all(same_number(word) == same_number(meaning) for word, meaning in codes.items()):
        return "They differ from the study's words in case, blanks or width only."
    if declared.feature is not None and not declared.words:
        return "They fit in another notation."
    return "They seem to be the same words in another language or coding."


def _names_alleles(word: str) -> bool:
    """Say whether a word looks like a genotype in some notation: it must not be lost unasked."""
    return _ALLELES.search(word) is not None and not says_nothing(word)


def _without_meaning(rest: Counter[str], present: int, *, asked: bool = False) -> Found:
    few = len(rest) <= MOST_CODES
    nothing = all(says_nothing(word) for word in rest)
    what = f"{rest.total()} are words that the study does not know."
    if few and (asked or (not nothing and 2 * rest.total() > present)):
        return Found(
            what,
            rest.total(),
            examples(rest),
            "The column is coded in another way.",
            {"codes": dict.fromkeys(sorted(rest), FILL_IN)},
            "Write the study's word for each; words without a value belong in `missing`.",
        )
    return Found(
        what,
        rest.total(),
        examples(rest),
        "They say that there is no value."
        if nothing
        else "Entries that the study has no word for.",
        {"missing": tuple(sorted(rest))} if few else {"others": "missing"},
        "If they mean one of the study's words, say so in `codes`.",
    )


def _other_event(rest: Counter[str]) -> Found:
    few = len(rest) <= MOST_CODES
    return Found(
        f"{rest.total()} are neither of the study's two words.",
        rest.total(),
        examples(rest),
        "A third event word is a competing event, which is not modelled.",
        {"missing": tuple(sorted(rest))} if few else {"others": "missing"},
        "This leaves such patients out; by `codes` to the word for censored they are followed "
        "until then, as is usual for a competing event.",
    )


def _shifted(declared: Declared, present: set[str], unknown: Counter[str]) -> bool:
    """Say whether 1 and 2 stand where the study knows 0 and 1."""
    return set(declared.words) == {"0", "1"} and present == {"1", "2"} and set(unknown) == {"2"}


def _numbered_from_one(declared: Declared, unknown: Counter[str]) -> Found:
    del declared
    return Found(
        f"{unknown.total()} are words that the study does not know; 0 never occurs.",
        unknown.total(),
        examples(unknown),
        "Probably coded 1 for censored or no, and 2 for the event or yes.",
        {"codes": {"1": "0", "2": "1"}},
        "If it is another coding, say so in `codes`.",
    )


def _absent(declared: Declared, present: set[str]) -> Iterator[Found]:
    for word in declared.words:
        if word not in present and present and declared.what.startswith("event"):
            yield Found(
                f"The declared word {word} never occurs.",
                len(present),
                (),
                "Both must occur: is it the right column, and all of it?",
                {"as_is": True},
                "If it is another coding, say so in `codes`.",
            )
