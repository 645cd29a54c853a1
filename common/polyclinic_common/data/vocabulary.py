"""Words of a column: which ones the study understands, and what the others probably mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.genotype import (
    diplotype_copies,
    gene_before_star,
    hla_copies,
    is_palindromic,
    snp_copies,
)
from polyclinic_common.data.patient_number import same_number
from polyclinic_common.data.values import as_words
from polyclinic_common.study.columns import Declared
from polyclinic_common.study.features import Diplotype, Feature, Hla, Snp

if TYPE_CHECKING:
    import pandas as pd

# Words of one meaning, in the languages of hospitals that have exported them.
SYNONYMS = (
    ("yes", "y", "ja", "j", "oui", "si", "sì", "sí", "sim", "tak", "true", "1"),
    ("no", "n", "nein", "non", "nee", "não", "nie", "false", "0"),
    ("female", "f", "w", "weiblich", "frau", "femme", "féminin", "femmina", "mujer", "woman"),
    ("male", "m", "männlich", "mann", "homme", "masculin", "maschio", "hombre", "man"),
    ("dead", "deceased", "died", "verstorben", "décédé", "deceduto", "fallecido"),
    ("alive", "living", "survived", "lebend", "vivant", "vivo"),
)
NO_CALLS = frozenset({"./.", ".|.", "nc", "no call", "nocall", "--", "00", "undetermined"})
_NO_ALLELES = re.compile(r"[.?N-]\s*[/|]?\s*[.?N-]", re.IGNORECASE)
NO_VALUES = frozenset(
    {"-", "--", ".", "unknown", "unk", "missing", "n.a.", "k.a.", "k. a.", "unbekannt", "inconnu"}
    | {"not done", "nd", "n.d.", "not available", "not reported", "#n/a", "#na", "nil", "x"}
)
_SAYS_NOTHING = frozenset(map(same_number, NO_VALUES | NO_CALLS))
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def understood(declared: Declared, words: pd.Index) -> list[str]:
    """Return those of the distinct `words` that the study understands."""
    import pandas as pd  # noqa: PLC0415

    series = pd.Series(words, dtype=object)
    if isinstance(declared.feature, Snp):
        copies = snp_copies(declared.feature, series)
    elif isinstance(declared.feature, Diplotype):
        copies = diplotype_copies(declared.feature, series)
    elif isinstance(declared.feature, Hla):
        copies = hla_copies(declared.feature, series)
    elif declared.words:
        known = as_words(series, declared.words).isin(declared.words)
        return list(series[known])
    else:
        return list(series)
    readable: NDArray[np.bool_] = np.all(~np.isnan(copies), axis=1)
    return list(series[readable])


def says_nothing(word: str) -> bool:
    """Say whether a word is a way to write that there is no value, or no call."""
    return same_number(word) in _SAYS_NOTHING or _NO_ALLELES.fullmatch(word.strip()) is not None


def meant(declared: Declared, words: Sequence[str]) -> dict[str, str]:
    """Return what unknown `words` of a column probably mean, those that mean nothing left out."""
    if isinstance(declared.feature, Snp | Diplotype | Hla):
        return _genotypes(declared.feature, words)
    plain = {same_number(word): word for word in declared.words}
    seen = {word: plain[same_number(word)] for word in words if same_number(word) in plain}
    rest = [word for word in words if word not in seen]
    return seen | _synonyms(declared.words, rest)


def _synonyms(vocabulary: Sequence[str], words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for group in SYNONYMS:
        plain = {same_number(each) for each in group}
        level = [word for word in vocabulary if same_number(word) in plain]
        if len(level) == 1:
            found |= {word: level[0] for word in words if same_number(word) in plain}
    return found


def _genotypes(feature: Feature, words: Sequence[str]) -> dict[str, str]:
    found = {word: _rewritten(feature, word) for word in words}
    return {word: meaning for word, meaning in found.items() if meaning is not None}


def on_other_strand(feature: Snp, words: Sequence[str]) -> dict[str, str]:
    """Return the genotypes that fit only on the other strand, and what they are on the study's."""
    if is_palindromic(feature):
        return {}
    turned = {word: _rewritten(feature, word.upper().translate(COMPLEMENT)) for word in words}
    return {word: meaning for word, meaning in turned.items() if meaning is not None}


def _rewritten(feature: Feature, word: str) -> str | None:
    """Return a genotype in the study's notation, or None if it is not plainly one."""
    if isinstance(feature, Snp):
        text = re.sub(r"rs\d+|reference|variant", "", word, flags=re.IGNORECASE).upper()
        alleles = re.findall(r"[ACGT]+", text)
        if len(alleles) == 1 and len(alleles[0]) == 2:
            alleles = list(alleles[0])
        rest = re.sub(r"[ACGT\s/|;,:()\[\]_-]", "", text)
        fits = len(alleles) == 2 and set(alleles) <= {feature.reference, feature.effect}
        return "/".join(alleles) if fits and not rest else None
    if isinstance(feature, Diplotype):
        known = (feature.reference, *feature.alleles)
        bare = gene_before_star(feature).sub("", word.strip())  # another gene's star is no allele
        parts = [_star(part, known) for part in re.split(r"[/|;,\s]+", bare)]
        pair = [part for part in parts if part is not None]
        return "/".join(pair) if len(parts) == len(pair) == 2 else None
    return None


def _star(part: str, known: Sequence[str]) -> str | None:
    """Return the allele of `known` that a call names: ``*1A`` and ``*1.001`` are ``*1``."""
    found = re.fullmatch(r"\*?(\d+)((?!X)[A-Z]{1,2}|\.\d+)?", part)
    return f"*{found[1]}" if found is not None and f"*{found[1]}" in known else None
