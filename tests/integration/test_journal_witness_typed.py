"""A ledger put back under its journal, as a hospital meets it: refused, and mended by what is said.

Real consortium on loopback, typed commands; what left is of mode local, where no peer helps.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.gate.gate import Gate
from polyclinic_client.gate.ladder import Ladder
from polyclinic_client.ledger.witness import write_invented
from polyclinic_client.records.entry import LedgerHead
from polyclinic_client.worker.site_book import open_sites
from polyclinic_common.privacy.charges import GaussianSum
from polyclinic_common.wire import PrivateUpdate
from tests.kits.gate import FakeClock, asked, permitted, planned, sha
from tests.kits.ledger import FALLBACK, STUDY, approval, draw, release, request
from tests.kits.loopback import Loopback
from tests.kits.typed import answer, refusal, typed


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Loopback]:
    made = Loopback(tmp_path)
    made.join_all()
    yield made
    made.stop()


def let_out(site: SiteFolder, number: int) -> None:
    """Charge an update and let it out."""
    price: dict[str, GaussianSum] = {"headline": FALLBACK, "fallback": FALLBACK}
    name, vector = release(number, kind="update"), np.full(4, float(number))
    site.ledger.reserve(name, STUDY, vector=draw(number), **request(number, **price))
    site.ledger.record_attempt(name, epoch=b"", chain=(), payload_hash=sha(vector))
    gate = Gate(permitted(site.ledger, site.identity.public), site.journal, Ladder(), FakeClock())
    update = PrivateUpdate(STUDY.hex(), "run", number, "update", vector)
    gate.let_out(update, asked(number), gate.due(None))


def test_nothing_starts_until_the_rows_are_back(house: Loopback, tmp_path: Path) -> None:
    path = house.path("site 0")
    with house.at("site 0") as (site, client):
        site.ledger.approve(approval(planned=(planned("update"),)))
        let_out(site, 1)
        site.ledger._log.checkpoint()
        shutil.copy(path / "ledger.sqlite", tmp_path / "copy")
        let_out(site, 2)
        client.keep_rows(site.ledger.export_rows())
    for file in path.glob("ledger.sqlite*"):
        file.unlink()
    shutil.copy(tmp_path / "copy", path / "ledger.sqlite")
    started = typed("client", "up", "--site", path)
    assert started.status == 17
    assert "ledger recover --from-consortium" in started.err
    for word in ("verify", "recover"):
        assert refusal("client", "ledger", word, "--site", path)[0] == "L006"
    assert refusal("client", "ledger", "replay", "--site", path)[0] == "L009"
    mended = answer("client", "ledger", "recover", "--from-consortium", "--site", path)
    assert mended == {"reimported": 2, "charged": 0}
    assert answer("client", "ledger", "verify", "--site", path)["valid"]
    assert answer("client", "ledger", "replay", "--site", path)["releases"] == 2
    open_sites(path).folder.close()


def test_who_invents_a_head_is_named(house: Loopback) -> None:
    path = house.path("site 0")
    house.verify("site 0", "site 1")
    with SiteFolder.open(house.path("site 1"), read_only=True) as other:
        liar = other.identity.public
    write_invented(path / "ledger.sqlite", {liar: LedgerHead(2**60, bytes(32))})
    assert answer("client", "status", "--site", path)["invented_by"] == ["site 1"]
    assert len(answer("client", "ledger", "verify", "--site", path)["invented_by"]) == 1
