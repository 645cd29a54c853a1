"""A study that needs a newer version stands in the list with it, and leaves the others alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from polyclinic_client.cli.study import app as commands
from polyclinic_client.consortium.offers import offers
from polyclinic_client.consortium.participation import add_data, find_study
from polyclinic_common.canonical import canonical_json
from polyclinic_common.consortium import signed as signed_module
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.errors import Code, PolyclinicError
from tests.kits.loopback import Loopback
from tests.kits.small import small_study


def test_a_newer_study_is_listed_with_the_version_it_needs_and_refused_by_name(
    tmp_path: Path,
) -> None:
    three = Loopback(tmp_path)
    three.join_all()
    three.verify_all()
    three.publish()
    try:
        plain = json.loads(canonical_json(small_study(id="of-tomorrow").canonical()))
        content = canonical_json(plain | {"needs": "12.3.4", "tomorrow": {"new": True}})
        operator = three.server.operator
        body = signed_module._study_body(content)
        store = three.server.open_store()
        store.publish(SignedStudy(content, operator.sign(body)))
        with three.at("site 0") as (site, client):
            found = {offer.id: offer for offer in offers(site, client)}
            assert (found["of-tomorrow"].here, found["of-tomorrow"].sites) == ("needs 12.3.4", None)
            assert (found["small-binary"].here, found["small-binary"].sites) == ("named", 3)
            newer = find_study(client, "of-tomorrow")
            with pytest.raises(PolyclinicError) as caught:
                add_data(site, client, newer, tmp_path / "none.csv", None)
            assert caught.value.code is Code.STUDY_NEWER
            folder = site.path
        shown = CliRunner().invoke(commands, ["list", "--site", str(folder)])
        assert "12.3.4" in shown.output
        assert three.add("site 0") == 60
    finally:
        three.stop()
