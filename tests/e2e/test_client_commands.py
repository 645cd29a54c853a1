"""The command `polyclinic client`, typed as people type it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.records.journal import Asked, Climbed, Failed, Left, Refused
from polyclinic_common.errors import Code, LedgerError
from polyclinic_simulations.try_out.typed import Typed
from tests.kits.ledger import DELTA, FALLBACK, ME, STUDY, approval, attempt, digest, reserve
from tests.kits.typed import answer as typed_answer
from tests.kits.typed import typed


def client(*words: object) -> Typed:
    return typed("client", *words)


def answer(*words: object) -> Any:
    return typed_answer("client", *words)


def error(*words: object) -> tuple[int, str]:
    done = client(*words, "--json")
    return done.status, json.loads(done.err)["error"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return the folder of a site that has made two releases, with a witness beside it."""
    folder = tmp_path / "site"
    with SiteFolder.create(
        folder, delta=DELTA, epsilon_cap=3.0, witness=tmp_path / "witness", identity=ME
    ) as made:
        made.ledger.approve(approval(6, lost_rounds=1))
        for number in (1, 2):
            reserve(made.ledger, number)
        made.journal.write(
            Asked(who="the server", what="sum", study_hash=STUDY, run="run", round_number=1),
            Left(
                kind="gradient",
                size=32,
                sha256=digest("payload"),
                run="run",
                round_number=1,
                attempt=1,
                cost=FALLBACK,
                tick=1_000,
            ),
        )
        made.journal.write(Refused(reason="not-approved", what="sum", run="[bold]other[/]"))
        made.journal.write(Failed(code="F001"))
        made.journal.write(Climbed(study_hash=STUDY, run="run", step=1, outlasted=500))
    return folder


def test_budget_shows_spent_left_and_what_fits(site: Path) -> None:
    plain = answer("ledger", "budget", "--site", site)
    assert plain["epsilon_cap"] == 3.0
    assert 0 < plain["settled"] + plain["spent"] < plain["promised"] < 3.0
    assert plain["lines"][0]["done"] == 2
    assert plain["lines"][0]["left"] == 4
    shown = client("ledger", "budget", "--site", site).out
    for words in ("spent", "next study", "2 of 6", f"{plain['spent']:.3f}", "2099-12-31"):
        assert words in shown


def test_topup_raises_the_limit_and_forgets_nothing(site: Path) -> None:
    before = answer("ledger", "budget", "--site", site)
    after = answer("ledger", "topup", "--site", site, "--epsilon-cap", "4")
    assert (after["before"], after["epsilon_cap"]) == (3.0, 4.0)
    assert after["spent"] == before["spent"]
    assert after["next_epsilon"] > before["next_epsilon"]
    assert error("ledger", "topup", "--site", site, "--epsilon-cap", "0") == (12, "P001")


def test_verify_says_whole_or_what_is_wrong(site: Path) -> None:
    assert answer("ledger", "verify", "--site", site) == {
        "valid": True,
        "rows": 4,
        "witness": True,
        "invented_by": [],
    }
    assert answer("journal", "verify", "--site", site) == {"valid": True, "rows": 6}
    assert "4 rows" in client("ledger", "verify", "--site", site).out
    for name, what in (("ledger.sqlite", "ledger"), ("journal.sqlite", "journal")):
        content = (site / name).read_bytes()
        (site / name).write_bytes(content.replace(b'"run":"run"', b'"run":"ruN"'))
        assert error(what, "verify", "--site", site) == (17, "L002")
        shown = client(what, "verify", "--site", site)
        assert "error L002" in shown.err
        assert "recover" in shown.err


def test_what_is_not_there_is_a_coded_error(site: Path, tmp_path: Path) -> None:
    assert error("ledger", "budget", "--site", tmp_path / "none") == (17, "L001")
    (site / "identity.key").write_bytes(b"short")
    assert error("journal", "show", "--site", site) == (17, "L002")
    with pytest.raises(LedgerError) as caught:
        SiteFolder.create(site, delta=DELTA, epsilon_cap=1.0)
    assert caught.value.code == Code.LEDGER_EXISTS


def test_a_copy_put_back_is_refused_and_recovered(site: Path, tmp_path: Path) -> None:
    shutil.copytree(site, tmp_path / "copy")
    with SiteFolder.open(site) as opened:
        attempt(opened.ledger, 1)
        reserve(opened.ledger, 3)
    saved = tmp_path / "rows.jsonl"
    assert client("ledger", "export", "--site", site, "--out", saved).status == 0
    spent = answer("ledger", "budget", "--site", site)["spent"]
    for rest in ((), ("--rows", saved)):
        shutil.rmtree(site)
        shutil.copytree(tmp_path / "copy", site)
        assert error("ledger", "budget", "--site", site) == (17, "L006")
        if not rest:
            assert error("ledger", "recover", "--site", site) == (17, "L006")
    assert answer("ledger", "recover", "--site", site, "--rows", saved) == {
        "reimported": 2,
        "charged": 0,
    }
    assert answer("ledger", "budget", "--site", site)["spent"] == spent
    shutil.rmtree(site)
    shutil.copytree(tmp_path / "copy", site)
    done = client("ledger", "recover", "--site", site, "--charge-lost")
    assert "charged as lost: 4" in done.out
    plain = answer("ledger", "budget", "--site", site)
    assert plain["spent"] > spent
    assert plain["lines"][0]["open"] is False


def test_a_lost_witness_is_begun_anew_on_demand_only(site: Path, tmp_path: Path) -> None:
    (tmp_path / "witness").unlink()
    assert error("ledger", "verify", "--site", site) == (17, "L006")
    assert answer("ledger", "recover", "--site", site, "--new-witness")["charged"] == 0
    assert answer("ledger", "verify", "--site", site)["valid"]


def test_the_journal_can_be_read(site: Path) -> None:
    events = answer("journal", "show", "--site", site)
    assert [event["entry"] for event in events] == [
        *("began", "asked", "left", "refused", "failed"),
        "climbed",
    ]
    assert events[2]["sha256"] == digest("payload").hex()
    assert events[2]["cost"]["kind"] == "gaussian-sum"
    shown = client("journal", "show", "--site", site).out
    for words in (
        "by the server",
        "32 bytes",
        "not-approved",
        "F001",
        "[bold]other[/]",
        "longer than 0.5 s",
    ):
        assert words in shown
    assert len(answer("journal", "show", "--site", site, "--last", 2)) == 2
    assert len(answer("journal", "show", "--site", site, "--run", "run")) == 3


def test_looking_writes_nothing(site: Path) -> None:
    before = {name: (site / name).read_bytes() for name in ("ledger.sqlite", "journal.sqlite")}
    for words in (("ledger", "verify"), ("ledger", "budget"), ("journal", "show")):
        assert client(*words, "--site", site).status == 0
    assert before == {name: (site / name).read_bytes() for name in before}


def test_keys_and_folder_are_the_owners_alone(site: Path) -> None:
    assert site.stat().st_mode & 0o777 == 0o700
    for file in site.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600, file


@pytest.mark.parametrize("words", [(), ("ledger",), ("ledger", "budget"), ("journal", "show")])
def test_help_shows_an_example_without_importing_what_is_heavy(words: tuple[str, ...]) -> None:
    code = (
        "import sys; from polyclinic_client.cli.main import app\n"
        "try:\n    app(sys.argv[1:])\n"
        "finally:\n    assert not {'torch', 'flwr', 'scipy', 'numpy', 'sqlite3'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--help"], capture_output=True, text=True, check=False
    )
    assert "AssertionError" not in done.stderr
    if len(words) == 2:
        assert "Example:  polyclinic client" in done.stdout
