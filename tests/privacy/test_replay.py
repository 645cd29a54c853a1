"""The journal alone tells what an account has cost, to our own command and to a third party."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.ledger.replay import Replay, charges_of, replay
from polyclinic_client.records.journal import Journal, Left, SettledEvent
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.privacy.account import spent_epsilon
from polyclinic_common.privacy.charges import GaussianSum, Vote
from polyclinic_common.release_id import ReleaseId
from polyclinic_server.rounds.state import State
from polyclinic_simulations.federation.federation import build_federation
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import start_weights, train_federated
from tests.kits.ledger import DELTA, FALLBACK, HEADLINE, ME, digest
from tests.kits.small import small_study, small_table
from tests.kits.typed import answer, output

SCRIPT = Path(__file__).parents[2] / "docs" / "replay.py"


def run_study(folder: Path, setting: Setting, **training: Any) -> list[Path]:
    study = small_study("continuous", 6, training={"rounds": 5} | training)
    made = build_federation(setting.apply(study), small_table(90, 6), seed=0)
    start = State.start(start_weights(made))
    train_federated(made, setting, run_id="run", start=start, folder=folder)
    return sorted(folder.iterdir())


def told(site: Path) -> Any:
    """Return what the command says."""
    return answer("client", "ledger", "replay", "--site", site)


def by_script(site: Path, delta: float) -> Any:
    """Return what the third party's script says about the journal as it is exported."""
    exported = site / "exported.json"
    exported.write_text(output("client", "journal", "show", "--site", site, "--json"))
    script = [sys.executable, "-I", str(SCRIPT), str(exported), str(delta)]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_journal_and_script_give_the_ledgers_epsilon_where_sites_drop_out(tmp_path: Path) -> None:
    """Statistics and gradients in one round, retries, rounds that settle and rounds that do not."""
    setting = Setting("secure-sum", 1.0, "descent", drop=0.4)
    sites = run_study(tmp_path, setting, start="statistics")
    for site in sites[:2]:
        command, script = told(site), by_script(site, 1e-5)
        assert command["spent"] == command["ledger_spent"]
        assert command["fallback"] == command["ledger_fallback"] > command["spent"] > 0
        assert script["releases"] == command["releases"]
        assert script["spent"] == pytest.approx(command["spent"], rel=1e-9)
        assert script["fallback"] == pytest.approx(command["fallback"], rel=1e-9)
    counted = [replayed(site).releases for site in sites]
    rows = [journalled(site) for site in sites]
    assert sum(rows) > sum(counted), "nothing was sent twice: the case is not tested"


def replayed(site: Path) -> Replay:
    with SiteFolder.open(site, read_only=True) as folder:
        return replay(folder.journal.events(), folder.ledger)


def journalled(site: Path) -> int:
    """Return how many rows carry a cost."""
    with SiteFolder.open(site, read_only=True) as folder:
        events = [noted.event for noted in folder.journal.events()]
    return sum(isinstance(event, Left) and event.cost is not None for event in events)


@pytest.mark.parametrize("schedule", ["full", "sampled"])
def test_private_updates_are_replayed_whatever_their_schedule(
    schedule: str, tmp_path: Path
) -> None:
    setting = Setting("local", 1.0, "fedavg")
    batch = {"batch": 8} if schedule == "sampled" else {}
    (site, *_) = run_study(tmp_path, setting, schedule=schedule, **batch)
    found = replayed(site)
    assert found.releases == 5
    assert found.spent == found.ledger_spent == found.fallback > 0


def left(number: int, **changes: Any) -> Left:
    return Left(
        **{
            "kind": "masked_vector",
            "sum": "gradient",
            "size": 8,
            "sha256": digest("payload"),
            "run": "run",
            "round_number": number,
            "cost": FALLBACK,
            "tick": 1,
        }
        | changes
    )


def settled(number: int) -> SettledEvent:
    return SettledEvent(run="run", round_number=number, sum="gradient", cost=HEADLINE)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    SiteFolder.create(tmp_path / "site", delta=DELTA, epsilon_cap=9.0, identity=ME).close()
    return tmp_path / "site"


def test_one_charge_a_run_round_and_sum_and_old_rows_count_on_their_own(site: Path) -> None:
    with Journal.open(site / "journal.sqlite", ME) as journal:
        journal.write(left(1), left(1), left(1, sum="statistics"), left(2), left(2, run="other"))
        journal.write(settled(1), settled(1), settled(3), left(1, sum=""), left(1, sum=""))
        journal.write(left(1, sum="vote", cost=Vote(epsilon=0.5)), left(4, cost=None))
        found, lowered = charges_of(journal.events())
    assert Counter(found.values()) == {FALLBACK: 6, Vote(epsilon=0.5): 1}
    assert lowered == {(ReleaseId("run", 1, "gradient"), 0): HEADLINE}
    script, account = by_script(site, DELTA), Counter((found | lowered).values())
    assert script["spent"] == pytest.approx(spent_epsilon(account, DELTA), rel=1e-9)


def test_the_script_has_no_finite_answer_where_the_account_has_none(site: Path) -> None:
    coarse = GaussianSum(sensitivity=1.0, variance=2**24, shares=1, length=10**8)
    with Journal.open(site / "journal.sqlite", ME) as journal:
        journal.write(*(left(number, cost=coarse) for number in range(1, 20)))
    assert by_script(site, DELTA)["spent"] == spent_epsilon({coarse: 19}, DELTA) == float("inf")


def test_more_left_than_is_charged_is_an_error(site: Path) -> None:
    with SiteFolder.open(site) as folder:
        folder.journal.write(left(1))
        with pytest.raises(LedgerError) as caught:
            replay(folder.journal.events(), folder.ledger)
    assert caught.value.code == Code.LEDGER_SHORT
