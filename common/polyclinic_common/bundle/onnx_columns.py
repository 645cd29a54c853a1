"""The encoding of a study's columns as nodes of an ONNX graph.

Words are looked up in a table of what our own encoder makes of them, so that the two cannot drift
apart; only the alleles of an HLA gene, of which there are too many to list, are read by patterns.
A number that is none (infinite) and a word that the study does not know become NaN, and with them
the prediction: as in a prediction by Polyclinic, no number is given where the meaning is unknown.
"""

from __future__ import annotations

from functools import singledispatch
from itertools import product

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from polyclinic_common.bundle.onnx_nodes import Nodes
from polyclinic_common.data.columns import encode_feature, projection_matrix
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.data.values import TRUTHS
from polyclinic_common.data.vocabulary import understood
from polyclinic_common.study.columns import Declared, declared_columns
from polyclinic_common.study.features import (
    Categorical,
    Diplotype,
    Feature,
    Hla,
    Numeric,
    Ordinal,
    Panel,
    Snp,
)
from polyclinic_common.text import MISSING_WORDS

SEPARATORS = ("/", "|")
OUTSIDE = "hospital of the study; empty, or another, is one outside it"


def add_columns(nodes: Nodes, encoding: Encoding) -> str:
    """Add inputs and encoding of every feature; return the encoded rows without intercept.

    They have shape (n, width - 1).
    """
    study = encoding.study
    declared = {each.name: each for each in declared_columns(study)}
    blocks = [
        _site(nodes, feature)
        if feature.name == study.cohort.site and isinstance(feature, Categorical)
        else _block(feature, nodes, declared[feature.name])
        for feature in encoding.features
    ]
    rows = nodes.add("Concat", *blocks, axis=1)
    return nodes.add("Div", rows, nodes.constant(encoding.row_scale))


def _site(nodes: Nodes, feature: Categorical) -> str:
    """Look the hospital up; one outside the roster is none of them."""
    words = nodes.input(feature.name, str, 1, OUTSIDE)
    count = len(feature.levels)
    table = np.vstack([np.eye(count, count + 1), np.zeros(count + 1)])
    return _row_of(nodes, words, {site: k for k, site in enumerate(feature.levels)}, table)


def _row_of(nodes: Nodes, words: str, places: dict[str, int], table: NDArray[np.float64]) -> str:
    """Return the row of `table` at the place of every word; its last row for words with none."""
    place = nodes.lookup(words, places, len(table) - 1)
    flat = nodes.add("Squeeze", place, nodes.constant(np.array([1])))
    return nodes.add("Gather", nodes.constant(table), flat, axis=0)


@singledispatch
def _block(feature: Feature, nodes: Nodes, declared: Declared) -> str:  # noqa: ARG001
    """Add the input of `feature` and its encoding, shape (n, width of the feature)."""
    raise TypeError(type(feature).__name__)


@_block.register
def _(feature: Ordinal | Categorical | Snp | Diplotype, nodes: Nodes, declared: Declared) -> str:
    import pandas as pd  # noqa: PLC0415

    words = nodes.input(feature.name, str, 1, declared.what)
    known = understood(declared, pd.Index(_candidates(feature)))
    encoded = encode_feature(feature, pd.DataFrame({feature.name: [*known, None]}))
    places = {word: k for k, word in enumerate(known)} | dict.fromkeys(MISSING_WORDS, len(known))
    table = np.vstack([encoded, np.full(encoded.shape[1], np.nan)])
    return _row_of(nodes, words, dict(sorted(places.items())), table)


def _candidates(feature: Ordinal | Categorical | Snp | Diplotype) -> list[str]:
    """Return the words that a graph may know: levels, truth values, or pairs of alleles."""
    if isinstance(feature, Ordinal | Categorical):
        truths = [word for spellings in TRUTHS for word in spellings]
        return list(dict.fromkeys([*feature.levels, *truths]))
    alleles = (feature.reference, *_others(feature))
    joined = [*SEPARATORS, *([""] if isinstance(feature, Snp) else [])]
    return [mark.join(pair) for mark in joined for pair in product(alleles, repeat=2)]


def _others(feature: Snp | Diplotype) -> tuple[str, ...]:
    return feature.alleles if isinstance(feature, Diplotype) else (feature.effect,)


@_block.register
def _(feature: Numeric, nodes: Nodes, declared: Declared) -> str:
    numbers = nodes.input(feature.name, float, 1, declared.what)
    unit, missing = _in_range(nodes, numbers, feature.range)
    return nodes.add("Concat", unit, nodes.as_number(missing), axis=1)


@_block.register
def _(feature: Panel, nodes: Nodes, declared: Declared) -> str:
    count = len(feature.columns)
    numbers = nodes.input(feature.name, float, count, f"{declared.what}, in the study's order")
    values, missing = _in_range(nodes, numbers, feature.range)
    indicator = nodes.as_number(missing)
    share = nodes.add("ReduceMean", indicator, nodes.constant(np.array([1])), keepdims=1)
    if feature.projection is not None:
        signs = projection_matrix(count, feature.projection) / np.sqrt(count)
        projected = nodes.add("MatMul", values, nodes.constant(signs))
        values = nodes.clamped(projected, -1.0, 1.0)
    return nodes.add("Concat", values, share, axis=1)


def _in_range(nodes: Nodes, numbers: str, bounds: tuple[float, float]) -> tuple[str, str]:
    """Map numbers from a range to [-1, 1]; missing ones to 0, and say which are missing."""
    low, high = bounds
    missing = nodes.add("IsNaN", numbers)
    clamped = nodes.clamped(numbers, low, high)
    share = nodes.add("Div", nodes.minus(clamped, low), nodes.constant(high - low))
    unit = nodes.minus(nodes.add("Mul", share, nodes.constant(2.0)), 1.0)
    known = nodes.where(missing, nodes.constant(0.0), unit)
    infinite = nodes.add("IsInf", numbers)
    return nodes.where(infinite, nodes.constant(np.nan), known), missing


@_block.register
def _(feature: Hla, nodes: Nodes, declared: Declared) -> str:
    """Count the copies of every allele by patterns: what hospitals write has no end."""
    words = nodes.input(feature.name, str, 1, declared.what)
    fields = feature.alleles[0].count(":") + 1
    any_allele = _allele(feature.gene, ":".join([r"[0-9]{2,3}", *[r"[0-9]{2,4}"] * (fields - 1)]))
    counts = [_copies(nodes, words, feature.gene, each, any_allele) for each in feature.alleles]
    missing = nodes.lookup(words, dict.fromkeys(sorted(MISSING_WORDS), 1), 0)
    indicator = nodes.as_number(missing)
    block = nodes.add("Concat", *counts, indicator, axis=1)
    read = nodes.add("RegexFullMatch", words, pattern=_pair(any_allele, any_allele))
    known = nodes.add("Or", read, nodes.add("Cast", missing, to=TensorProto.BOOL))
    return nodes.where(known, block, nodes.constant(np.nan))


def _copies(nodes: Nodes, words: str, gene: str, allele: str, any_allele: str) -> str:
    """Return how many of the two alleles are `allele`, shape (n, 1)."""
    wanted = _allele(gene, allele.removeprefix("*"))
    matches = [
        nodes.add("RegexFullMatch", words, pattern=pair)
        for pair in (_pair(wanted, any_allele), _pair(any_allele, wanted))
    ]
    return nodes.add("Add", *map(nodes.as_number, matches))


def _allele(gene: str, named: str) -> str:
    """Match an allele, its gene before it or not, whose first fields are `named`.

    Up to four fields in all; without a star it has two or more.
    """
    more, prefix = 3 - named.count(":"), gene.removeprefix("HLA-")
    least = 1 if more == 3 else 0
    field = "(:[0-9]{2,4})"
    starred = rf"((HLA-)?{prefix}\s*)?\*{named}{field}{{0,{more}}}"
    return rf"({starred}|{named}{field}{{{least},{more}}})"


def _pair(first: str, second: str) -> str:
    return rf"(?i){first}[/|,;\s]+{second}"
