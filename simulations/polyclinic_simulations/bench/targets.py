"""The figures to reach, and whether they were."""

from __future__ import annotations

from collections.abc import Sequence

from polyclinic_simulations.bench.job import INLINE_FAST, INLINE_OPACUS
from polyclinic_simulations.bench.records import GrowthPoint, JobTime, StepTime, SumTime, Target
from polyclinic_simulations.bench.steps import EQUAL, FAST, LIBRARY, head_name
from polyclinic_simulations.bench.sum_sites import MASKS

OPACUS_OVERHEAD = 1.15
FAST_JOB_S = 4.0
FAST_SHARE = 0.25
FAST_STEP = 8.0
ROW_BY_ROW = 1.3
PRODUCT_SHARE = 0.1
MASKS_MS, SERVER_MS = 40.0, 5.0


def targets(
    job: Sequence[JobTime],
    steps: Sequence[StepTime],
    growth: Sequence[GrowthPoint],
    sums: Sequence[SumTime],
) -> list[Target]:
    """Compare what was found with what is to be reached."""
    return [*_of_job(job), *_of_steps(steps), *_of_patients(growth), *_of_sums(sums)]


def _of_job(job: Sequence[JobTime]) -> list[Target]:
    times = {each.variant: each for each in job}
    opacus, fast = times[INLINE_OPACUS], times[INLINE_FAST]
    overheads = {"rounds": opacus.ratio_rounds, "start to finish": opacus.ratio_total}
    found = [
        Target(
            what=f"Job J, inline with Opacus against the bare Opacus loop, {span}",
            goal=f"at most {OPACUS_OVERHEAD:g} times",
            found=f"{ratio.median:.2f} times",
            met=ratio.median <= OPACUS_OVERHEAD,
        )
        for span, ratio in overheads.items()
    ]
    seconds, share = fast.total_s.median, fast.ratio_total
    return [
        *found,
        Target(
            what="Job J, inline with fast gradients against the bare Opacus loop, start to finish",
            goal=f"at most {FAST_SHARE:g} times",
            found=f"{share.median:.2f} times ({share.low:.2f} to {share.high:.2f})",
            met=share.median <= FAST_SHARE,
        ),
        Target(
            what="Job J, inline with fast gradients, start to finish, imports included",
            goal=f"under {FAST_JOB_S:g} s",
            found=f"{seconds:.1f} s ({fast.rounds_s.median:.1f} s in rounds)",
            met=seconds < FAST_JOB_S,
        ),
    ]


def _of_steps(steps: Sequence[StepTime]) -> list[Target]:
    fast = [step for step in steps if step.gradients == FAST]
    found = [
        Target(
            what=f"Fast gradients against Opacus, row by row, {step.head}, {part}",
            goal=f"at least {FAST_STEP:g} times faster",
            found=f"{ratio.median:.1f} times",
            met=ratio.median >= FAST_STEP,
        )
        for step in fast
        for part, ratio in (
            ("whole step with noise", step.faster),
            ("clipped sum alone", step.faster_sum),
        )
    ]
    furthest = max(step.difference for step in fast)
    equal = Target(
        what="Fast gradients equal those of Opacus, row by row",
        goal=f"relative difference at most {EQUAL:g}",
        found=f"{furthest:.1e}",
        met=furthest <= EQUAL,
    )
    return [*found, equal, *map(_of_place, (step for step in steps if step.gradients == LIBRARY))]


def _of_place(library: StepTime) -> Target:
    """Compare sums that depend on no patient's place with those of library layers."""
    times = library.faster_sum.median
    linear = library.head == head_name(())
    return Target(
        what=f"Gradients row by row against library layers, {library.head}, clipped sum alone",
        goal=f"at most {ROW_BY_ROW:g} times as long" if linear else "stated, no goal",
        found=f"{times:.2f} times",
        met=not linear or times <= ROW_BY_ROW,
    )


def _of_patients(growth: Sequence[GrowthPoint]) -> list[Target]:
    curve = [point for point in growth if point.curve == "patients"]
    most = max(curve, key=lambda point: point.patients)
    return [
        Target(
            what=f"{most.patients:,} patients in {most.sites} sites, {most.head} head, one round: "
            "memory does not grow with patients × parameters",
            goal=f"at most {PRODUCT_SHARE:.0%} of patients × parameters "
            f"({most.product_mb:.0f} MB) beyond the encoded patients",
            found=f"{most.beyond_mb:.0f} MB beyond the {most.patients_mb:.0f} MB of patients, "
            f"process {most.peak_mb:.0f} MB; first round {most.first_s:.2f} s, then "
            f"{most.round_s:.2f} s",
            met=most.beyond_mb <= PRODUCT_SHARE * most.product_mb,
        )
    ]


def _of_sums(sums: Sequence[SumTime]) -> list[Target]:
    most = max(sums, key=lambda each: each.hospitals * each.length)
    case = f"Secure sum, {most.hospitals} hospitals, {most.length:,} numbers"
    masks, server = most.site_ms[MASKS].median, most.server.median
    return [
        Target(
            what=f"{case}: masks of a site, one round",
            goal=f"under {MASKS_MS:g} ms",
            found=f"{masks:.1f} ms, of the processor {most.masks_cpu.median:.1f}; SecAgg+ "
            f"{most.masks_faster.median:.0f} times that; bare masks {most.bare_site.median:.1f} ms",
            met=masks < MASKS_MS,
        ),
        Target(
            what=f"{case}: the server, one round",
            goal=f"under {SERVER_MS:g} ms",
            found=f"{server:.1f} ms, of the processor {most.server_cpu.median:.1f}; SecAgg+ "
            f"{most.server_faster.median:.0f} times that; adding alone "
            f"{most.bare_server.median:.1f} ms",
            met=server < SERVER_MS,
        ),
        Target(
            what="Secure sum: the masks cancel, in every case",
            goal="exactly the plain sum; SecAgg+ sums the same vectors, to its rounding",
            found=f"SecAgg+ at most {max(each.secagg_off for each in sums):.1f} quanta off",
            met=all(each.exact and each.secagg_off <= 1.5 * each.hospitals for each in sums),
        ),
    ]
