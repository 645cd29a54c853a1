"""`polyclinic client join` and `status`."""

from __future__ import annotations

from typing import Annotated

import typer

from polyclinic_client.cli.accounts import AccountsOption, RuleOption, confirmed_rule
from polyclinic_client.cli.invited import HELP, read_invited
from polyclinic_client.cli.options import SITE, SiteOption, WitnessOption
from polyclinic_common.cli.options import AsJson

EPSILON_CAP = 2.0
DELTA = 1e-5


def join(
    invitation: Annotated[str, typer.Argument(help=HELP)],
    site: SiteOption = SITE,
    epsilon_cap: Annotated[
        float | None,
        typer.Option(
            help=f"Limit of the account, for everything ever released. [default: {EPSILON_CAP:g}]",
            min=0,
        ),
    ] = None,
    fallback_cap: Annotated[
        float | None,
        typer.Option(help="Limit if every release counted at fallback; none if left out."),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(
            help="Delta of the account: below 1 / (patients of this hospital). "
            f"[default: {DELTA:g}]"
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask: the fingerprint was compared before.")
    ] = False,
    witness: WitnessOption = None,
    accounts: AccountsOption = None,
    declare_reset: Annotated[
        bool,
        typer.Option(
            "--declare-reset",
            help="Begin anew after an account whose folder is lost for good; the others see it.",
        ),
    ] = False,
    second_account: RuleOption = None,
    as_json: AsJson = False,
) -> None:
    """Join a consortium: keys are made here and never leave, the server certifies them.

    Shows the fingerprint of the consortium's authority, to be compared by telephone.
    """
    from polyclinic_client.accounts.account import Beginning
    from polyclinic_client.accounts.registry import default_registry
    from polyclinic_client.consortium.join import join as join_consortium
    from polyclinic_client.folder.layout import read_identity
    from polyclinic_client.proxy import way_to
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.identity.site_key import fingerprint
    from polyclinic_common.text import plain

    invited = read_invited(invitation)
    typer.echo(f"{invited.host} is called {way_to(invited.host, invited.port)}.", err=True)
    if not yes:
        _compare(invited.site, invited.fingerprint)
        epsilon_cap = _ask_cap() if epsilon_cap is None else epsilon_cap
        if declare_reset:
            _ask_reset()
    member = join_consortium(
        site,
        invited,
        accounts=accounts or default_registry(),
        how=Beginning(declare_reset, confirmed_rule(second_account)),
        delta=delta,
        epsilon_cap=epsilon_cap,
        fallback_cap=fallback_cap,
        witness=witness,
    )
    own = fingerprint(read_identity(site).public)
    if as_json:
        print_json(
            {
                "site": str(site),
                "name": member.name,
                "consortium": member.consortium,
                "authority": invited.fingerprint,
                "fingerprint": own,
            }
        )
        return
    typer.echo(
        plain(f"{member.name} has joined {member.consortium}.")
        + f" Its keys, ledger and journal: {site}"
    )
    typer.echo(f"This hospital's fingerprint, to be read out to the others:  {own}")
    typer.echo("Next: polyclinic client peers list, then: polyclinic client study list")


def _compare(name: str, shown: str) -> None:
    from polyclinic_common.errors import Code, ConsortiumError

    typer.echo(f"You are invited as {name!r}. Telephone the operator and compare:\n", err=True)
    typer.secho(f"  {shown}\n", bold=True, err=True)
    if not typer.confirm("Is it the same, digit by digit?", err=True):
        raise ConsortiumError(
            Code.FINGERPRINT_DIFFERS,
            "The invitation is not the one that the operator made; nothing was sent.",
            "Ask the operator for a new invitation over another channel.",
        )


def _ask_cap() -> float:
    typer.echo(
        "\nEverything this hospital ever releases is counted, in epsilon, against a limit that it "
        "sets itself.\nA usual study costs 1; it can be raised later.",
        err=True,
    )
    return float(typer.prompt("Limit", default=EPSILON_CAP, type=float, err=True))


def _ask_reset() -> None:
    typer.echo(
        "\nA ledger that is begun anew forgets its history. What the lost account can have spent "
        "stays counted,\nas far as this machine knows it, and every other hospital sees the reset "
        "in every run.",
        err=True,
    )
    typer.confirm("Is the old folder lost for good?", abort=True, err=True)


def status(site: SiteOption = SITE, as_json: AsJson = False) -> None:
    """Show how this hospital stands: certificate, peers, studies, runs, what is left to spend."""
    from polyclinic_client.page.overview import overview
    from polyclinic_common.cli.output import print_json

    found = overview(site)
    if as_json:
        print_json(found.as_dict())
        return
    for line in found.lines():
        typer.echo(line)
