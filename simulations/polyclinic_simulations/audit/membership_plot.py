"""The plot of the attacks on membership."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import FuncFormatter

from polyclinic_common.privacy import gdp
from polyclinic_simulations.audit.membership import MembershipAudit, most_hits
from polyclinic_simulations.report.drawing import (
    BLUE,
    MUTED,
    ORANGE,
    Plot,
    blank,
    finish,
    legend_above,
)

LEAST = 1e-3


def membership_plot(audit: MembershipAudit) -> Plot:
    """Draw who is found at which price, on logarithmic axes: right where few alarms matter."""
    figure, axes = blank(4.2)
    for each, colour in zip(audit.attacked, (BLUE, ORANGE), strict=True):
        for name, found, style in (("LiRA", each.lira, "-"), ("RMIA", each.rmia, "--")):
            alarms, hits = np.array(found.curve).T
            axes.plot(alarms, hits, style, color=colour, label=f"{each.training}, {name}")
    alarms = np.geomspace(LEAST, 1.0, 100)
    mu = gdp.mu_of(audit.epsilon, audit.delta)
    most = [most_hits(mu, alarm) for alarm in alarms]
    axes.plot(alarms, most, ":", color=BLUE, label=f"most at epsilon {audit.epsilon:g}")
    axes.plot(alarms, alarms, ":", color=MUTED, label="guessing")
    axes.set(xscale="log", yscale="log", xlim=(LEAST, 1.0), ylim=(LEAST, 1.0))
    axes.set(xlabel="false alarms, of non-members", ylabel="found, of members")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    legend_above(axes)
    words = "; ".join(
        f"{each.training}: LiRA finds {each.lira.hit_rate:.2%} at 1 % false alarms, RMIA "
        f"{each.rmia.hit_rate:.2%}"
        for each in audit.attacked
    )
    return finish(figure, "membership", f"Curves of {words}.", "Who was in the training?")
