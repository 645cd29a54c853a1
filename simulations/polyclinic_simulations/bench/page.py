"""The benchmark's page: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from polyclinic_simulations.bench.plots import growth_plot, job_plot, steps_plot, sums_plot
from polyclinic_simulations.bench.records import Benchmark, GrowthPoint, Machine, Spread, SumTime
from polyclinic_simulations.report.drawing import Plot, style

CURVES = {
    "sites": ("hospitals", "Job J with more hospitals: 500 patients each, sampled schedule."),
    "patients": ("patients", "Patients of 50 hospitals together: 30 columns, full schedule."),
    "columns": ("columns", "Columns of a patient: 10 hospitals of 100, full schedule."),
}
Rows = list[tuple[str, ...]]


def render_page(found: Benchmark) -> str:
    """Return the page as HTML text."""
    environment = Environment(
        loader=PackageLoader("polyclinic_simulations", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    with style():
        job, steps = job_plot(found.job), steps_plot(found.steps)
        sums = sums_plot(found.sums)
        growth = [_curve(name, found.growth) for name in CURVES]
    return environment.get_template("bench/page.html.j2").render(
        found=found,
        machine=_facts(found.machine),
        job=job,
        job_rows=_job_rows(found),
        steps=steps,
        step_rows=_step_rows(found),
        growth=growth,
        growth_rows=_growth_rows(found),
        sums=sums,
        sum_rows=_sum_rows(found),
        sum_parts=list(found.sums[0].site_ms),
        rival_rows=_rival_rows(found),
    )


def _curve(name: str, points: Sequence[GrowthPoint]) -> Plot:
    across, caption = CURVES[name]
    return growth_plot(name, across, [point for point in points if point.curve == name], caption)


def _facts(machine: Machine) -> list[tuple[str, str]]:
    return [
        ("Processor", f"{machine.cpu}, {machine.cores} cores"),
        ("Memory", f"{machine.memory_gb:g} GB"),
        ("System", f"{machine.system}, Python {machine.python}"),
        ("Libraries", ", ".join(f"{name} {text}" for name, text in machine.libraries.items())),
        ("Busy processes before it began", f"{machine.load:g}"),
    ]


def _spread(spread: Spread, digits: int) -> str:
    low, middle, high = (f"{each:.{digits}f}" for each in (spread.low, spread.median, spread.high))
    return f"{middle} ({low}–{high})"


def _job_rows(found: Benchmark) -> Rows:
    return [
        (
            each.variant,
            _spread(each.total_s, 1),
            _spread(each.rounds_s, 1),
            _spread(each.ratio_total, 2),
            _spread(each.ratio_rounds, 2),
            f"{each.peak_mb:.0f}",
        )
        for each in found.job
    ]


def _step_rows(found: Benchmark) -> Rows:
    return [
        (
            f"{step.head}: {step.gradients}",
            _spread(step.step_ms, 2),
            _spread(step.sum_ms, 2),
            _spread(step.faster, 1),
            _spread(step.faster_sum, 1),
            f"{step.difference:.0e}",
        )
        for step in found.steps
    ]


def _growth_rows(found: Benchmark) -> Rows:
    return [
        (
            f"{point.head}, {point.gradients}",
            f"{point.sites:,}",
            f"{point.patients:,}",
            f"{point.columns:,}",
            f"{point.parameters:,}",
            f"{point.first_s:.3f}",
            f"{point.round_s:.3f}",
            f"{point.patients_mb:.1f}",
            f"{point.beyond_mb:.1f}",
            f"{point.peak_mb:.0f}",
        )
        for point in found.growth
    ]


def _case(each: SumTime) -> str:
    return f"{each.hospitals} hospitals, {each.length:,} numbers"


def _sum_rows(found: Benchmark) -> Rows:
    return [
        (
            _case(each),
            *(_spread(part, 1) for part in each.site_ms.values()),
            _spread(each.site, 1),
            _spread(each.keys, 0),
            _spread(each.server, 1),
            _spread(each.messages, 1),
        )
        for each in found.sums
    ]


def _rival_rows(found: Benchmark) -> Rows:
    return [
        (
            _case(each),
            _spread(each.masks_cpu, 1),
            _spread(each.server_cpu, 1),
            _spread(each.bare_site, 1),
            _spread(each.bare_server, 1),
            f"{sum(each.secagg_ms.values()):.0f}",
            f"{each.secagg_server:.0f}",
            f"{each.secagg_site_cpu:.0f}",
            f"{each.secagg_server_cpu:.0f}",
            _spread(each.masks_faster, 0),
            _spread(each.site_faster, 1),
            _spread(each.server_faster, 0),
        )
        for each in found.sums
    ]
