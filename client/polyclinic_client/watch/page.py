"""A look as one HTML page that opens offline and needs no script."""

from __future__ import annotations

import datetime as dt

from jinja2 import Environment, PackageLoader, StrictUndefined

from polyclinic_client.watch import chart
from polyclinic_client.watch.budget import FEWEST, LOOKS
from polyclinic_client.watch.look import Look
from polyclinic_common.evaluation.interval import Reading


def look_page(look: Look, file_name: str, day: dt.date) -> str:
    """Return a look as HTML.

    Parameters
    ----------
    file_name : str
        The bundle's file.
    day : date
        When it was taken.
    """
    environment = Environment(
        loader=PackageLoader("polyclinic_client.watch", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["reading"] = _reading
    found = look.performance
    return environment.get_template("page.html.j2").render(
        look=look,
        found=found,
        chart=None if found is None else chart.sum_chart(found),
        bars=chart.bars(look.tests),
        discoveries=[each for each in look.tests if each.found],
        file_name=file_name,
        day=day,
        fewest=FEWEST,
        looks=LOOKS,
        size=(chart.WIDTH, chart.HEIGHT, chart.LEFT, chart.WIDTH - chart.RIGHT),
    )


def _reading(reading: Reading | None) -> str:
    if reading is None:
        return "not known"
    return f"{reading.value:.3g} ({reading.low:.3g} to {reading.high:.3g})"
