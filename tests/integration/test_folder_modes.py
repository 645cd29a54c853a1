"""Folders with keys are their owner's alone, also where a folder was there before."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from polyclinic_client.consortium.preflight import _folder
from polyclinic_client.folder.layout import IDENTITY, JOURNAL, LEDGER, SECRETS
from polyclinic_client.folder.membership import Membership, write_peers
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.witness import write_claim
from polyclinic_client.node.main import NodeSettings, run_node
from polyclinic_client.records.entry import LedgerHead
from polyclinic_common.cli.main import app
from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_common.modes import exposed, make_private, require_private
from polyclinic_server.folder import Ports, ServerFolder, Settings
from polyclinic_server.up.serve import serve

LOOSE = [
    IDENTITY,
    "tls.key",
    LEDGER,
    JOURNAL,
    "peers.json",
    "studies/ab",
    "studies/ab/rows.parquet",
]


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a site's folder that stood open before the site was made in it."""
    path = tmp_path / "site"
    path.mkdir()
    path.chmod(0o777)
    SiteFolder.create(path, delta=1e-5, epsilon_cap=3.0).close()
    for name in LOOSE:
        file = path / name
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            file.mkdir(mode=0o700) if name == "studies/ab" else file.touch(0o600)
    return path


def server(path: Path) -> ServerFolder:
    settings = Settings(name="c", address="localhost", listen="127.0.0.1", ports=Ports())
    return ServerFolder.create(path, settings)


def test_a_folder_that_was_there_is_closed_when_a_site_or_server_is_made_in_it(
    site: Path, tmp_path: Path
) -> None:
    assert mode_of(site) == 0o700
    assert exposed(site, SECRETS) == []
    (tmp_path / "server").mkdir(mode=0o755)
    made = server(tmp_path / "server")
    assert mode_of(made.path) == 0o700
    made.require_private()


def test_what_a_site_writes_beside_its_secrets_does_not_keep_its_node_from_starting(
    site: Path,
) -> None:
    write_claim(site / LEDGER, LedgerHead(7, bytes(32)))
    Membership(
        name="h",
        consortium="c",
        host="localhost",
        enrolment_port=1,
        port=2,
        fleet_port=3,
        operator_key=bytes(32),
    ).write(site)
    write_peers(site, {"other": bytes(32)})
    require_private(site, SECRETS)


def test_nothing_is_made_in_a_folder_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ConsortiumError) as caught:
        make_private(tmp_path)
    assert caught.value.code == Code.FOLDER_EXPOSED
    assert "chown" in caught.value.remedy
    with pytest.raises(ConsortiumError):
        SiteFolder.create(tmp_path, delta=1e-5, epsilon_cap=3.0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [".", *LOOSE])
def test_preflight_names_what_others_may_read_and_its_command_mends_it(
    site: Path, name: str
) -> None:
    assert _folder(site).ok
    path = site / name
    path.chmod(0o755 if path.is_dir() else 0o644)
    check = _folder(site)
    assert not check.ok
    assert str(path) in check.what
    command = check.remedy.partition("run: ")[2]
    subprocess.run(shlex.split(command), check=True)
    assert mode_of(path) & 0o077 == 0
    assert _folder(site).ok


@pytest.mark.parametrize("bits", [0o040, 0o020, 0o004, 0o002, 0o001])
def test_a_node_does_not_start_where_others_may_look_and_repairs_nothing_unasked(
    site: Path, bits: int
) -> None:
    key = site / IDENTITY
    key.chmod(0o600 | bits)
    settings = NodeSettings(site, "localhost:1", site / "c", site / "k", site / "a", "none:none")
    with pytest.raises(ConsortiumError) as caught:
        run_node(settings)
    assert caught.value.code == Code.FOLDER_EXPOSED
    assert f"chmod go= {key}" in caught.value.remedy
    assert mode_of(key) == 0o600 | bits


def test_a_server_does_not_start_where_others_may_look(tmp_path: Path) -> None:
    folder = server(tmp_path / "server")
    folder.require_private()
    for name in (".", "server.key", "operator.key", "authority.key"):
        path = folder.path / name
        before = mode_of(path)
        path.chmod(before | 0o040)
        with pytest.raises(ConsortiumError) as caught:
            serve(folder, lambda _: None)
        assert caught.value.code == Code.FOLDER_EXPOSED
        assert "chmod go= " in caught.value.remedy
        path.chmod(before)
    (folder.path / "operator.key").chmod(0o640)
    done = CliRunner().invoke(app, ["server", "up", "--folder", str(folder.path)])
    assert isinstance(done.exception, ConsortiumError)
    assert done.exception.code == Code.FOLDER_EXPOSED


def test_the_authoritys_key_is_looked_at_where_it_lies(tmp_path: Path) -> None:
    elsewhere = tmp_path / "safe" / "authority.key"
    elsewhere.parent.mkdir()
    settings = Settings(name="c", address="localhost", authority_key=str(elsewhere))
    folder = ServerFolder.create(tmp_path / "server", settings)
    folder.require_private()
    elsewhere.chmod(0o644)
    with pytest.raises(ConsortiumError):
        folder.require_private()
    elsewhere.unlink()
    folder.require_private()


def test_a_name_with_signs_of_a_pattern_is_a_name(tmp_path: Path) -> None:
    odd = tmp_path / "a[b]* c"
    make_private(odd)
    (odd / IDENTITY).touch(0o644)
    (odd / IDENTITY).chmod(0o644)
    with pytest.raises(ConsortiumError) as caught:
        require_private(odd, SECRETS)
    assert f"'{odd / IDENTITY}'" in caught.value.remedy
