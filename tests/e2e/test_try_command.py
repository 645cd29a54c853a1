"""`polyclinic try`: a whole consortium of real processes, typed by one command, and stopped."""

from __future__ import annotations

from pathlib import Path

from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_common.release_id import ReleaseId
from polyclinic_server.folder import ServerFolder
from tests.kits.typed import answer

TRAINED, CALIBRATED = range(1, 61), range(61, 65)
ROUNDS = len(TRAINED) + len(CALIBRATED)


def commands_that_name(folder: Path) -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def test_try_trains_over_real_processes_and_stops_all_of_them(tmp_path: Path) -> None:
    out = tmp_path / "trial"
    said = answer("try", "--out", out)
    assert said["study"] == "gbsg2"
    assert said["run"]["rounds"] == ROUNDS
    assert Path(said["run"]["model"]).exists()
    assert commands_that_name(out) == []
    server = ServerFolder.open(out / "server")
    store = server.open_store()
    (run,) = store.runs()
    assert (run.state, run.round, run.rounds) == ("finished", ROUNDS, ROUNDS)
    assert store.model(run.id).content == Path(said["run"]["model"]).read_bytes()
    for name, budget in said["budgets"].items():
        assert 0.998 < budget["spent"] <= 1.0
        assert budget["settled"] == budget["spent"]
        with SiteFolder.open(out / name) as site:
            site.ledger.verify()
            site.journal.verify()
            held = {each.reserved.release for each in site.ledger.releases_of(run.id)}
            expected = {ReleaseId(run.id, n, "gradient") for n in TRAINED}
            assert held == expected | {ReleaseId(run.id, n, "calibration") for n in CALIBRATED}
            assert all(each.settled == "headline" for each in site.ledger.releases_of(run.id))
    store.close()
