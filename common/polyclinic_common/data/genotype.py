"""Words for genotypes: the ways in which laboratories write the same two alleles."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyclinic_common.data.values import as_text
from polyclinic_common.study.features import Diplotype, Hla, Snp

if TYPE_CHECKING:
    import pandas as pd

_SEPARATOR = re.compile(r"[/|\s,:]+")
_HLA_SEPARATOR = re.compile(r"[/|,;\s]+")
# Four digits without a colon are the notation before 2010, a letter behind is another expression.
_HLA_ALLELE = re.compile(r"(?=\*|[0-9]+:)\*?[0-9]{2,3}(:[0-9]{2,4}){0,3}")
_LETTERS = re.compile(r"[ACGT]+([/|\s,:]+[ACGT]+)*", re.IGNORECASE)
_COMPLEMENT = str.maketrans("ACGTacgt", "TGCAtgca")


def other_strand(word: str) -> str:
    """Return a genotype of letters as it reads on the other strand; another word as it is."""
    if _LETTERS.fullmatch(word.strip()) is None:
        return word
    if len(word.strip()) == 2:  # two alleles of one letter each, without a mark between them
        return word.translate(_COMPLEMENT)
    flip = lambda found: found[0].translate(_COMPLEMENT)[::-1]  # noqa: E731
    return re.sub("[ACGTacgt]+", flip, word)


def is_palindromic(feature: Snp) -> bool:
    """Say whether both alleles read alike on either strand: A/T and C/G."""
    return {other_strand(feature.reference), other_strand(feature.effect)} == {
        feature.reference,
        feature.effect,
    }


def _split_snp(word: str, alleles: tuple[str, str]) -> tuple[str, ...]:
    parts = tuple(_SEPARATOR.split(word.upper()))
    single_letters = all(len(allele) == 1 for allele in alleles)
    if len(parts) == 1 and len(word) == 2 and single_letters:
        return tuple(word.upper())
    return parts


def snp_copies(feature: Snp, values: pd.Series) -> NDArray[np.float64]:
    """Return copies of the effect allele, shape (n, 1), NaN where missing or not understood."""
    alleles = (feature.reference, feature.effect)

    def copies(word: str) -> list[float]:
        parts = _split_snp(word, alleles)
        known = len(parts) == 2 and all(part in alleles for part in parts)
        return [float(parts.count(feature.effect)) if known else np.nan]

    return _by_word(values, copies, 1)


def gene_before_star(feature: Diplotype) -> re.Pattern[str]:
    """Match the gene before a star, where the study's name or source of the column has it."""
    genes = "|".join(re.findall(r"[A-Z][A-Z0-9]+", f"{feature.name} {feature.source}".upper()))
    return re.compile(rf"(?<![\w*-])(?:{genes})\s*(?=\*)", re.IGNORECASE)


def diplotype_copies(feature: Diplotype, values: pd.Series) -> NDArray[np.float64]:
    """Return copies of each allele, shape (n, alleles), NaN where missing or not understood."""
    known = {feature.reference, *feature.alleles}
    gene = gene_before_star(feature)

    def copies(word: str) -> list[float]:
        bare = gene.sub("", word)
        parts = [part if part.startswith("*") else f"*{part}" for part in _SEPARATOR.split(bare)]
        if len(parts) != 2 or not set(parts) <= known:
            return [np.nan] * len(feature.alleles)
        return [float(parts.count(allele)) for allele in feature.alleles]

    return _by_word(values, copies, len(feature.alleles))


def hla_copies(feature: Hla, values: pd.Series) -> NDArray[np.float64]:
    """Return copies of each allele, shape (n, alleles), NaN where missing or not understood.

    Further fields than the study's are left out; an allele of fewer fields could be either.
    """
    fields = feature.alleles[0].count(":") + 1
    gene = re.escape(feature.gene.removeprefix("HLA-"))
    prefix = re.compile(rf"(?<![A-Z0-9-])(?:HLA-)?{gene}\s*(?=\*)")

    def copies(word: str) -> list[float]:
        parts = _HLA_SEPARATOR.split(prefix.sub("", word.upper()))
        named = [f"*{part.removeprefix('*')}".split(":") for part in parts]
        known = all(_HLA_ALLELE.fullmatch(part) for part in parts)
        if len(parts) != 2 or not known or min(map(len, named)) < fields:
            return [np.nan] * len(feature.alleles)
        pair = [":".join(each[:fields]) for each in named]
        return [float(pair.count(allele)) for allele in feature.alleles]

    return _by_word(values, copies, len(feature.alleles))


def _by_word(
    values: pd.Series, read: Callable[[str], list[float]], width: int
) -> NDArray[np.float64]:
    """Read every distinct word once."""
    words = as_text(values)
    table: dict[object, list[float]] = {word: read(word) for word in words.dropna().unique()}
    missing = [np.nan] * width
    return np.array([table.get(word, missing) for word in words], dtype=np.float64).reshape(
        len(words), width
    )
