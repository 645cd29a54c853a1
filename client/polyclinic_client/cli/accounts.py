"""`polyclinic client accounts`: one hospital, one account; what to do where there are two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyclinic_client.cli.options import SITE, SiteOption
from polyclinic_common.cli.options import AsJson

if TYPE_CHECKING:
    from polyclinic_client.accounts.registry import Account
    from polyclinic_client.accounts.rule import SecondRule

app = typer.Typer(no_args_is_help=True, help="The accounts of this hospital: list, merge, restore.")
AccountsOption = Annotated[
    Path | None,
    typer.Option(
        "--accounts",
        help="The registry of this hospital's accounts, on a volume that stays "
        "[default: ~/.local/state/polyclinic/accounts.sqlite, root: /var/lib].",
    ),
]
RuleOption = Annotated[
    Path | None,
    typer.Option(
        "--second-account",
        metavar="RULE.toml",
        help="A public rule that keeps its patients apart from those of the other accounts.",
    ),
]


@app.callback()
def root() -> None:
    """Everything a hospital ever releases is counted in one account; see it, or mend it."""


@app.command("list", epilog="Example:  polyclinic client accounts list")
def list_accounts(
    site: SiteOption = SITE, accounts: AccountsOption = None, as_json: AsJson = False
) -> None:
    """Show every account in the registry of --site, or in the one that --accounts names."""
    from polyclinic_client.accounts.account import PLACE, place_of
    from polyclinic_client.accounts.registry import Registry, default_registry
    from polyclinic_common.cli.output import print_json

    named = accounts or (place_of(site) if (site / PLACE).exists() else default_registry())
    with Registry.open(named) as registry:
        found = list(registry.accounts().values())
    if as_json:
        print_json([_plain(each) for each in found])
        return
    _print(found, named)


@app.command(epilog="Example:  polyclinic client accounts merge --site /srv/polyclinic")
def merge(
    site: SiteOption = SITE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fold all other accounts of this hospital into the one of --site, for good.

    Their approvals and those of --site end; all that they can have spent is charged here.
    """
    from polyclinic_client.accounts.mend import merge as fold
    from polyclinic_client.folder.site_folder import SiteFolder
    from polyclinic_common.cli.output import print_json

    if not yes:
        typer.confirm(
            f"End all other accounts and all approvals, and charge what they spent to {site}?",
            abort=True,
            err=True,
        )
    with SiteFolder.open(site) as opened:
        folded = fold(opened)
    if as_json:
        print_json([_plain(each) for each in folded])
        return
    for each in folded:
        typer.echo(f"Ended for good, and charged to {site}: {each.folder}")
    typer.echo("Approvals have ended. Take part again in new versions of the studies.")


@app.command(epilog="Example:  polyclinic client accounts restore --site /srv/polyclinic")
def restore(
    site: SiteOption = SITE,
    accounts: AccountsOption = None,
    second_account: RuleOption = None,
    as_json: AsJson = False,
) -> None:
    """Enter a site into a registry that was lost, moved, or did not exist when it joined.

    Other accounts that a lost registry knew are known again once they are restored too;
    those that hold the same patients are marked then, and must be merged.
    """
    from polyclinic_client.accounts.account import PLACE, Beginning, place_of
    from polyclinic_client.accounts.mend import restore as enter
    from polyclinic_client.accounts.registry import default_registry
    from polyclinic_client.folder.site_folder import SiteFolder
    from polyclinic_common.cli.output import print_json

    place = accounts or (place_of(site) if (site / PLACE).exists() else default_registry())
    how = Beginning(rule=confirmed_rule(second_account))
    with SiteFolder.open(site) as opened:
        enter(opened, place, how)
    if as_json:
        print_json({"site": str(site), "accounts": str(place)})
        return
    typer.echo(f"The account of {site} stands in {place}.")


def confirmed_rule(file: Path | None) -> SecondRule | None:
    """Return the rule of a second account, once both approvers have typed their names."""
    from polyclinic_client.accounts.rule import read_rule, refused_rule

    if file is None:
        return None
    rule = read_rule(file)
    typer.echo(f"A second account counts on its own. {rule.why}\n  {rule.line()}", err=True)
    for each in rule.approvers:
        typed = typer.prompt(f"{each.role}: type your name, if you answer for it", err=True)
        if typed.strip() != each.name:
            raise refused_rule(f"{each.name} did not confirm")
    return rule


def _plain(account: Account) -> dict[str, object]:
    fields = account.model_dump(mode="json", exclude={"most"})
    return fields | {"state": _state(account), "releases_at_most": account.spent.total()}


def _state(account: Account) -> str:
    if not account.stands:
        return "ended"
    if account.overlapping:
        return "overlaps"
    return "folder not there" if account.is_lost() else "stands"


def _print(found: list[Account], place: Path) -> None:
    import datetime as dt

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from polyclinic_common.identity.site_key import fingerprint
    from polyclinic_common.text import plain

    table = Table("folder", "hospital", "consortium", "since", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("state", "releases, at most", "fingerprint", "rule"):
        table.add_column(heading)
    for each in found:
        since = dt.datetime.fromtimestamp(each.made / 1000, dt.UTC)
        into = f" into {fingerprint(each.into)[:9]} …" if each.into else ""
        table.add_row(
            escape(plain(each.folder)),
            escape(plain(each.name or "not joined")),
            escape(plain(each.consortium)),
            f"{since:%Y-%m-%d}",
            _state(each) + into,
            str(each.spent.total()),
            fingerprint(each.identity),
            "" if each.rule is None else escape(each.rule.line()),
        )
    console = Console(highlight=False)
    console.print(f"Registry of accounts: {place}", markup=False)
    console.print(table)
