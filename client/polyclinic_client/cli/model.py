"""`polyclinic client model`: released models: list, fetch, accept, reject."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyclinic_client.cli.options import SITE, SiteOption
from polyclinic_common.bundle.rejecting import REJECTING, Rejecting
from polyclinic_common.cli.options import AsJson, BundleFile

if TYPE_CHECKING:
    from polyclinic_client.consortium.bundles import Listed
    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_client.folder.membership import Membership
    from polyclinic_common.bundle.opening import OpenedBundle

app = typer.Typer(no_args_is_help=True, help="Released models: list, fetch, accept, reject.")
REASONS = "; ".join(f"{code}: {words}" for code, words in REJECTING.items())


@app.callback()
def root() -> None:
    """List released models, fetch one, accept it with this hospital's signature, or reject it."""


@app.command("list", epilog="Example:  polyclinic client model list")
def list_models(site: SiteOption = SITE, as_json: AsJson = False) -> None:
    """Show every bundle on offer: who accepted or rejected it, and what was called back.

    Decisions are as the server says them; a withdrawal counts if the operator signed it.
    """
    from dataclasses import asdict

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from polyclinic_client.consortium.bundles import listed
    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.text import plain

    with ConsortiumClient.open(site) as client:
        found = listed(site, client)
    if as_json:
        print_json([asdict(each) | {"released": each.released.isoformat()} for each in found])
        return
    table = Table("bundle", "run", "released", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("study here", "accepted by", "rejected by", "called back"):
        table.add_column(heading)
    for each in found:
        table.add_row(*(escape(plain(cell)) for cell in _cells(each)))
    Console(highlight=False).print(table)


def _cells(bundle: Listed) -> tuple[str, ...]:
    return (
        bundle.digest[:12],
        bundle.run[:12],
        f"{bundle.released:%Y-%m-%d}",
        "approved" if bundle.approved else "not approved",
        ", ".join(bundle.accepted),
        ", ".join(f"{site} ({code})" for site, code in bundle.rejected.items()),
        bundle.withdrawn,
    )


@app.command(epilog="Example:  polyclinic client model fetch 1f0c --out warfarin.polyclinic")
def fetch(
    run: Annotated[
        str,
        typer.Argument(help="The run or the bundle, or its start, as `model list` shows it."),
    ],
    out: Annotated[Path, typer.Option(help="Where to write it; a new file.")],
    weights: Annotated[
        bool,
        typer.Option("--weights", help="The run's bare weights, of which no bundle was made."),
    ] = False,
    site: SiteOption = SITE,
    as_json: AsJson = False,
) -> None:
    """Fetch a bundle, checked whole and against the operator's key; or a run's bare weights."""
    from polyclinic_client.consortium.bundles import fetch as fetch_bundle
    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.files import write_new

    with ConsortiumClient.open(site) as client:
        if weights:
            _fetch_weights(client, run, out, as_json=as_json)
            return
        bundle = fetch_bundle(site, client, run)
    content = bundle.to_bytes()
    write_new(out, content)
    if as_json:
        said = {"digest": bundle.digest, "run": bundle.facts.run, "signatures": bundle.signers}
        print_json(said | {"file": str(out), "bytes": len(content)})
        return
    typer.echo(f"The bundle {bundle.digest[:12]}, signed by the operator: {out}")
    typer.echo(f"Next: polyclinic model show {out}, then: polyclinic client model accept {out}")


def _fetch_weights(client: ConsortiumClient, run: str, out: Path, *, as_json: bool) -> None:
    import hashlib

    from polyclinic_common.cli.output import print_json
    from polyclinic_common.files import write_new

    matching = [each.run for each in client.runs() if each.run.startswith(run)]
    name = matching[0] if len(matching) == 1 else run
    content = client.model(name)
    write_new(out, content)
    digest = hashlib.sha256(content).hexdigest()
    if as_json:
        print_json({"run": name, "file": str(out), "bytes": len(content), "sha256": digest})
        return
    typer.echo(f"The weights of {name}, signed by the operator: {out}")


@app.command(epilog="Example:  polyclinic client model accept warfarin-1.0-1f0c.polyclinic")
def accept(
    file: BundleFile,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    site: SiteOption = SITE,
    as_json: AsJson = False,
) -> None:
    """Sign a bundle with this hospital's key: in the file, in the journal, at the consortium.

    People decide this, after they have read `polyclinic model show` and judged the model on
    patients of their own. Everybody in the consortium sees the signature.
    """
    from polyclinic_client.consortium.bundles import accept as sign
    from polyclinic_client.consortium.bundles import acceptable
    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_client.folder.site_folder import SiteFolder
    from polyclinic_common.bundle.bundle import read_bundle
    from polyclinic_common.cli.output import print_json

    bundle = read_bundle(file)
    with ConsortiumClient.open(site) as client, SiteFolder.open(site) as opened:
        checked = acceptable(site, client, bundle)
        if not yes:
            _ask(client.membership, checked)
        signed = sign(opened, client, checked, file)
    if as_json:
        print_json({"digest": signed.digest, "accepted": True, "signatures": signed.signers})
        return
    typer.echo(f"Accepted {signed.digest[:12]}: {len(signed.signers)} signatures in {file}")


def _ask(member: Membership, checked: OpenedBundle) -> None:
    """Show what is about to be signed, and ask."""
    from polyclinic_common.bundle.verification import findings
    from polyclinic_common.text import plain

    study = checked.bundle.study
    for line in (
        f"{study.id} {study.version}: {study.title}",
        *findings(checked),
        f"{member.name} signs it, for all of {member.consortium} to see.",
    ):
        typer.echo(plain(line), err=True)
    typer.confirm("Has this hospital decided to accept this model?", abort=True, err=True)


@app.command(
    epilog="Example:  polyclinic client model reject warfarin-1.0-1f0c.polyclinic "
    "--reason calibration"
)
def reject(
    file: BundleFile,
    reason: Annotated[Rejecting, typer.Option(help=REASONS)],
    site: SiteOption = SITE,
    as_json: AsJson = False,
) -> None:
    """Say that this hospital will not use a bundle, by a word of a public list; journalled.

    Nothing that was measured here is sent. A later `model accept` ends it.
    """
    from polyclinic_client.consortium.bundles import reject as refuse
    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_client.folder.site_folder import SiteFolder
    from polyclinic_common.bundle.bundle import read_bundle
    from polyclinic_common.cli.output import print_json

    bundle = read_bundle(file)
    with ConsortiumClient.open(site) as client, SiteFolder.open(site) as opened:
        refuse(opened, client, bundle, reason)
    if as_json:
        print_json({"digest": bundle.digest, "rejected": reason})
        return
    typer.echo(f"Rejected {bundle.digest[:12]} ({reason}); the consortium was told.")
