"""Columns of the cohort: what a study declares of each, all of it public.

Every range and vocabulary names its source: it comes from a textbook, a guideline or a device's
data sheet, never from the patients of the study.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from polyclinic_common.study.base import (
    Labels,
    Name,
    Part,
    Range,
    Source,
    Text,
    Unit,
    Word,
    check_labels,
    check_vocabulary,
    no_labels,
)


class Numeric(Part):
    """A measured number, mapped from its public range to [-1, 1]."""

    name: Name
    kind: Literal["numeric"]
    unit: Unit
    range: Range
    source: Source


class Ordinal(Part):
    """Ordered levels, mapped to equal steps on [-1, 1]; `labels` name them for readers."""

    name: Name
    kind: Literal["ordinal"]
    levels: tuple[Word, ...]
    source: Source
    labels: Labels = no_labels()

    @field_validator("levels")
    @classmethod
    def _levels(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        return check_vocabulary(levels, at_least=2)

    @model_validator(mode="after")
    def _labels_fit(self) -> Ordinal:
        check_labels(self.labels, self.levels)
        return self


class Categorical(Part):
    """Unordered levels, one indicator each; `labels` name them for readers."""

    name: Name
    kind: Literal["categorical"]
    levels: tuple[Word, ...]
    source: Source
    labels: Labels = no_labels()

    @field_validator("levels")
    @classmethod
    def _levels(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        return check_vocabulary(levels, at_least=2)

    @model_validator(mode="after")
    def _labels_fit(self) -> Categorical:
        check_labels(self.labels, self.levels)
        return self


class Snp(Part):
    """A single-nucleotide genotype such as ``A/G``; encoded as copies of the effect allele."""

    name: Name
    kind: Literal["snp"]
    reference: str = Field(pattern="^[ACGT]+$")
    effect: str = Field(pattern="^[ACGT]+$")
    source: Source

    @model_validator(mode="after")
    def _two_alleles(self) -> Snp:
        if self.reference == self.effect:
            raise PydanticCustomError(
                "same_allele",
                "reference and effect allele are both {allele}",
                {"allele": self.effect, "remedy": "Name the two different alleles."},
            )
        return self


class Diplotype(Part):
    """A star-allele diplotype such as ``*1/*3``; encoded as copies of each non-reference allele."""

    name: Name
    kind: Literal["diplotype"]
    reference: Text = Field(default="*1", pattern=r"^\*\w+$")
    alleles: tuple[Annotated[Text, Field(pattern=r"^\*[^\s/|,]+$")], ...]
    source: Source

    @field_validator("alleles")
    @classmethod
    def _alleles(cls, alleles: tuple[str, ...]) -> tuple[str, ...]:
        for allele in alleles:
            if ":" in allele:
                raise PydanticCustomError(
                    "allele_of_hla",
                    "a star allele has no colon: {allele}",
                    {
                        "allele": allele,
                        "remedy": 'Declare an HLA gene with kind = "hla", '
                        'gene = "HLA-B" and these alleles.',
                    },
                )
        return check_vocabulary(alleles, at_least=1)

    @model_validator(mode="after")
    def _reference_is_not_listed(self) -> Diplotype:
        if self.reference in self.alleles:
            raise PydanticCustomError(
                "reference_listed",
                "the reference allele {allele} is listed among the alleles",
                {"allele": self.reference, "remedy": "List only the other alleles."},
            )
        return self


class Hla(Part):
    """Two alleles of an HLA gene such as ``*57:01/*07:02``; encoded as copies of each listed one.

    Every other allele of the gene counts as none of them.
    """

    name: Name
    kind: Literal["hla"]
    gene: str = Field(pattern=r"^HLA-[A-Z][A-Z0-9]*$")
    alleles: tuple[Annotated[str, Field(pattern=r"^\*[0-9]{2,3}(:[0-9]{2,4}){0,3}$")], ...]
    source: Source

    @field_validator("alleles")
    @classmethod
    def _alleles(cls, alleles: tuple[str, ...]) -> tuple[str, ...]:
        if len({allele.count(":") for allele in alleles}) > 1:
            raise PydanticCustomError(
                "fields_differ",
                "the alleles have different numbers of fields",
                {"remedy": "List all with as many fields as the table has: *57:01 has two."},
            )
        return check_vocabulary(alleles, at_least=1)


class Projection(Part):
    """A fixed public projection of a panel onto fewer columns, derived from `seed` alone."""

    width: int = Field(ge=1, le=4096)
    seed: int = Field(ge=0)


class Panel(Part):
    """Many columns with one public range: an expression panel, a set of proteins."""

    name: Name
    kind: Literal["panel"]
    columns: tuple[Name, ...]
    unit: Unit
    range: Range
    source: Source
    projection: Projection | None = None

    @field_validator("columns")
    @classmethod
    def _columns(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        return check_vocabulary(columns, at_least=1)


Feature = Annotated[
    Numeric | Ordinal | Categorical | Snp | Diplotype | Hla | Panel, Field(discriminator="kind")
]


def columns_of(feature: Feature) -> tuple[str, ...]:
    """Return the contract's columns that `feature` reads."""
    return feature.columns if isinstance(feature, Panel) else (feature.name,)
