"""The card as one HTML page that opens without a network and without a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from polyclinic_common.bundle.bias import ABOUT_GAPS
from polyclinic_common.bundle.card import ONLY_SIMULATED, Card, Item
from polyclinic_common.bundle.card_fields import PEOPLE, Who
from polyclinic_common.bundle.figures import Table


def card_html(card: Card, notes: Sequence[str] = ()) -> str:
    """Return the page of a card.

    Parameters
    ----------
    notes : sequence of str
        What the hospital that shows it adds: shown as its own, which the operator did not sign.
    """
    environment = Environment(
        loader=PackageLoader("polyclinic_common.bundle", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("card.html.j2").render(
        card=card,
        notes=notes,
        simulated=ONLY_SIMULATED,
        empty=list(_empty(card)),
        bias=[table.table for table in card.bias],
        about_gaps=ABOUT_GAPS,
        is_table=lambda value: isinstance(value, Table),
    )


def _empty(card: Card) -> Iterator[tuple[Who, list[Item]]]:
    """Yield who has fields to fill, and which."""
    for who in PEOPLE:
        if items := [item for item in card.empty if item.who == who]:
            yield who, items
