"""`polyclinic client model`: the model that a run released."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyclinic_client.cli.options import SITE, SiteOption
from polyclinic_common.cli.study import AsJson


def model(
    run: Annotated[str, typer.Argument(help="The run, or its start, as `client status` shows it.")],
    out: Annotated[Path, typer.Option(help="Where to write the model; a new file.")],
    site: SiteOption = SITE,
    as_json: AsJson = False,
) -> None:
    """Fetch the model that a run released, checked against the operator's signature."""
    import hashlib

    from polyclinic_client.consortium.client import ConsortiumClient
    from polyclinic_common.cli.output import print_json
    from polyclinic_common.files import write_new

    with ConsortiumClient.open(site) as client:
        matching = [each.run for each in client.runs() if each.run.startswith(run)]
        name = matching[0] if len(matching) == 1 else run
        content = client.model(name)
    write_new(out, content)
    digest = hashlib.sha256(content).hexdigest()
    if as_json:
        print_json({"run": name, "file": str(out), "bytes": len(content), "sha256": digest})
        return
    typer.echo(f"The model of {name}, signed by the operator: {out}")
