"""What every store of a hospital must survive: one class of tests, run for ledger and journal."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyclinic_client.records import sqlite_file
from polyclinic_client.records.chained_log import ChainedLog
from polyclinic_common.errors import Code, LedgerError
from polyclinic_common.identity.site_key import Identity
from tests.kits.ledger import ME


class StoreTests(ABC):
    """Promises of a store; a subclass says how it is made, opened, written and read."""

    name: str

    @abstractmethod
    def make(self, path: Path) -> Any: ...

    @abstractmethod
    def open(self, path: Path, identity: Identity = ME, **more: Any) -> Any: ...

    @abstractmethod
    def write(self, store: Any, number: int) -> None: ...

    @abstractmethod
    def read(self, store: Any) -> list[int]:
        """Return the numbers written, in order."""

    def log(self, store: Any) -> ChainedLog:
        log: ChainedLog = store._log
        return log

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Return a store with four rows written and closed."""
        path = tmp_path / f"{self.name}.sqlite"
        store = self.make(path)
        for number in (1, 2, 3):
            self.write(store, number)
        store.close()
        return path

    def code_of(self, path: Path) -> Code | None:
        """Open, read and verify; return the code of the refusal."""
        try:
            store = self.open(path)
        except LedgerError as error:
            return error.code
        try:
            self.read(store)
            store.verify()
        except LedgerError as error:
            return error.code
        finally:
            store.close()
        return None

    def test_what_was_written_is_there_after_reopening(self, path: Path) -> None:
        store = self.open(path)
        assert self.read(store) == [1, 2, 3]
        assert store.verify() == 4

    def test_only_the_owner_can_read_it(self, path: Path) -> None:
        store = self.open(path)
        self.write(store, 4)
        for file in path.parent.glob(f"{path.name}*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file

    def test_an_absent_one_is_never_made_by_opening(self, tmp_path: Path) -> None:
        assert self.code_of(tmp_path / "none.sqlite") == Code.LEDGER_ABSENT
        assert not (tmp_path / "none.sqlite").exists()

    def test_a_second_one_is_never_made_over_the_first(self, path: Path) -> None:
        with pytest.raises(LedgerError) as caught:
            self.make(path)
        assert caught.value.code == Code.LEDGER_EXISTS
        assert self.read(self.open(path)) == [1, 2, 3]

    def test_another_hospitals_key_does_not_open_it(self, path: Path) -> None:
        with pytest.raises(LedgerError) as caught:
            self.open(path, Identity.generate())
        assert caught.value.code == Code.LEDGER_DAMAGED
        assert "another hospital" in caught.value.what

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE rows SET body = CAST(replace(body, '2', '7') AS BLOB) WHERE sequence = 3",
            "UPDATE rows SET body = CAST(replace(body, '3', '7') AS BLOB) WHERE sequence = 4",
            "UPDATE rows SET time = time + 1 WHERE sequence = 2",
            "UPDATE rows SET time = 0 WHERE sequence = 4",
            "UPDATE rows SET signature = (SELECT signature FROM rows WHERE sequence = 2)"
            " WHERE sequence = 4",
            "UPDATE rows SET signature = (SELECT signature FROM rows WHERE sequence = 4)"
            " WHERE sequence = 2",
            "DELETE FROM rows WHERE sequence = 4",
            "DELETE FROM rows WHERE sequence > 1",
            "DELETE FROM rows WHERE sequence = 2",
            "DELETE FROM rows",
            "INSERT INTO rows SELECT 5, time, body, previous, hash, signature FROM rows"
            " WHERE sequence = 4",
            "UPDATE meta SET value = x'00' WHERE name = 'seal'",
            "INSERT INTO meta VALUES ('more', x'00')",
            "UPDATE meta SET value = cast('other' AS BLOB) WHERE name = 'kind'",
            "DROP TABLE rows",
            "DROP TABLE meta",
        ],
    )
    def test_an_edit_in_the_database_is_noticed(self, path: Path, change: str) -> None:
        self.edit(path, change)
        assert self.code_of(path) == Code.LEDGER_DAMAGED

    def edit(self, path: Path, change: str) -> None:
        """Change the database as somebody with an SQL prompt would."""
        connection = sqlite3.connect(path)
        triggers = list(
            connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        )
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(change)
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'rows'").fetchone():
            for _, sql in triggers:
                connection.execute(sql)
        connection.commit()
        connection.close()

    def test_a_rewritten_row_with_the_right_hash_lacks_the_signature(self, path: Path) -> None:
        store = self.open(path)
        row = self.log(store).rows()[-1]
        store.close()
        forged = row._replace(time=row.time + 5)
        forged = forged._replace(hash=forged.link(self.name))
        changes = f"time = {forged.time}, hash = x'{forged.hash.hex()}'"
        self.edit(path, f"UPDATE rows SET {changes} WHERE sequence = 4")  # noqa: S608
        assert self.code_of(path) == Code.LEDGER_DAMAGED

    def test_plain_sql_can_neither_change_nor_remove_a_row(self, path: Path) -> None:
        connection = sqlite3.connect(path)
        for change in ("UPDATE rows SET time = 0", "DELETE FROM rows"):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(change)

    @pytest.mark.parametrize("keep", [0, 50, 4096, 0.5])
    def test_a_truncated_file_is_noticed(self, path: Path, keep: float) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(keep if keep == 0 or keep > 1 else keep * len(content))])
        assert self.code_of(path) == Code.LEDGER_DAMAGED

    def test_no_flipped_byte_changes_what_is_read(self, path: Path) -> None:
        content = path.read_bytes()
        noticed = 0
        for place in np.random.default_rng(0).integers(0, len(content), 250):
            damaged = bytearray(content)
            damaged[place] ^= 0xFF
            path.write_bytes(bytes(damaged))
            if self.code_of(path) is not None:
                noticed += 1
            else:
                assert self.read(self.open(path)) == [1, 2, 3], place
            for more in ("-wal", "-shm"):
                path.with_name(path.name + more).unlink(missing_ok=True)
        assert noticed > 10

    def test_a_full_disk_is_a_coded_error_and_loses_nothing(self, path: Path) -> None:
        store = self.open(path)
        connection = self.log(store).connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        written = [1, 2, 3]
        with pytest.raises(LedgerError) as caught:  # noqa: PT012
            for number in range(4, 2000):
                self.write(store, number)
                written.append(number)
        assert caught.value.code == Code.LEDGER_STORE
        assert self.read(store) == written
        connection.execute("PRAGMA max_page_count = 1000000")
        self.write(store, 5000)
        assert self.read(store) == [*written, 5000]
        store.close()
        assert self.code_of(path) is None

    def test_a_read_only_file_is_a_coded_error(self, path: Path) -> None:
        store = self.open(path, read_only=True)
        assert self.read(store) == [1, 2, 3]
        with pytest.raises(LedgerError) as caught:
            self.write(store, 4)
        assert caught.value.code == Code.LEDGER_STORE
        assert self.read(store) == [1, 2, 3]

    def test_a_file_held_by_another_process_is_a_coded_error(self, path: Path) -> None:
        store = self.open(path)
        self.log(store).connection.execute("PRAGMA busy_timeout = 20")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError) as caught:
            self.write(store, 4)
        assert caught.value.code == Code.LEDGER_STORE
        other.execute("ROLLBACK")
        self.write(store, 4)
        assert self.read(store) == [1, 2, 3, 4]

    def test_two_openings_see_each_other(self, path: Path) -> None:
        first, second = self.open(path), self.open(path)
        self.write(first, 4)
        self.write(second, 5)
        self.write(first, 6)
        assert self.read(first) == self.read(second) == [1, 2, 3, 4, 5, 6]

    def test_a_file_replaced_while_in_use_is_noticed(self, path: Path) -> None:
        store = self.open(path)
        copy = path.with_name("copy.sqlite")
        copy.write_bytes(path.read_bytes())
        copy.replace(path)
        with pytest.raises(LedgerError) as caught:
            self.write(store, 4)
        assert caught.value.code == Code.LEDGER_DAMAGED

    def test_a_row_removed_or_changed_under_a_running_process_is_noticed(self, path: Path) -> None:
        for change in ("DELETE FROM rows WHERE sequence = 4", "UPDATE rows SET time = time - 1"):
            store = self.open(path)
            self.read(store)
            store.verify()
            content = path.read_bytes()
            self.edit(path, change)
            with pytest.raises(LedgerError) as caught:
                self.write(store, 9)
            assert caught.value.code == Code.LEDGER_DAMAGED
            store.close()
            path.write_bytes(content)

    def test_time_never_goes_back(self, path: Path) -> None:
        with closing(self.open(path)) as looked_at:
            before = self.log(looked_at).rows()[-1].time
        store = self.open(path, clock=lambda: before - 10**9)
        self.write(store, 4)
        assert self.log(store).rows()[-1].time == before
        assert self.log(store).now() == before

    def test_a_network_file_system_is_refused(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mounts = tmp_path / "mounts"
        monkeypatch.setattr(sqlite_file, "_MOUNTS", mounts)
        for kind in ("nfs4", "cifs", "fuse.sshfs"):
            mounts.write_text(f"/ / ext4 rw 0 0\nserver:/x {tmp_path.resolve()} {kind} rw 0 0\n")
            assert self.code_of(path) == Code.LEDGER_STORE
            with pytest.raises(LedgerError) as caught:
                self.make(tmp_path / "new.sqlite")
            assert caught.value.code == Code.LEDGER_STORE
        mounts.write_text(f"server:/x / nfs4 rw 0 0\ndisk {tmp_path.resolve()} ext4 rw 0 0\n")
        assert self.code_of(path) is None

    def test_every_commit_is_synced_and_removed_bytes_are_overwritten(self, path: Path) -> None:
        connection = self.log(self.open(path)).connection
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA secure_delete").fetchone() == (1,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_killed_while_it_is_made_it_can_be_made_again(self, tmp_path: Path) -> None:
        path = tmp_path / f"{self.name}.sqlite"
        script = f"""
import os, signal
from pathlib import Path
from polyclinic_client.records.chained_log import ChainedLog
from {type(self).__module__} import {type(self).__name__} as Tests
ChainedLog.append = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
Tests().make(Path({str(path)!r}))
"""
        done = subprocess.run([sys.executable, "-c", script], check=False)
        assert done.returncode == -9
        assert self.code_of(path) == Code.LEDGER_DAMAGED
        store = self.make(path)
        self.write(store, 1)
        assert self.read(store) == [1]
