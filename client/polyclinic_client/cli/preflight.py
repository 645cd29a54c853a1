"""`polyclinic client preflight`."""

from __future__ import annotations

from typing import Annotated

import typer

from polyclinic_client.cli.invited import HELP, read_invited
from polyclinic_client.cli.options import SITE, SiteOption
from polyclinic_common.cli.options import AsJson


def preflight(
    invitation: Annotated[
        str | None, typer.Argument(help=f"Before joining. {HELP}", show_default=False)
    ] = None,
    site: SiteOption = SITE,
    as_json: AsJson = False,
) -> None:
    """Check network, proxy, TLS interception, clock, disk, memory, certificate, version, modes.

    With an invitation, before joining: what can be known by then. Nothing is used up by it. Exit
    status 0 if this machine can take part; every failure comes with what to do.
    """
    from dataclasses import asdict

    from polyclinic_client.consortium.preflight import preflight as look
    from polyclinic_client.consortium.preflight import preflight_of
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.errors import Code, ConsortiumError, Problem

    checks = look(site) if invitation is None else preflight_of(read_invited(invitation), site)
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            mark = typer.style("ok  ", "green") if check.ok else typer.style("FAIL", "red")
            typer.echo(f"{mark} {check.name:<12} {check.what}")
    failed = [check for check in checks if not check.ok]
    if failed:
        raise ConsortiumError(
            Code.PREFLIGHT_FAILED,
            f"{len(failed)} of {len(checks)} checks failed.",
            "Do what is named, then run it again.",
            [Problem(check.name, f"{check.what}.", check.remedy) for check in failed],
        )
