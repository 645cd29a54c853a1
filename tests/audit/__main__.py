"""`make audit`: put every defect into the product, and name the test that catches it.

``python -m tests.audit [--out FILE] [MUTATION …]``. Ends with status 1 if a defect is not caught or
the product itself is not clean.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.audit.mutations import MUTATIONS
from tests.audit.plugin import NONE

ROOT = Path(__file__).parents[2]
REPLAYED = [  # (a): noise, neighbouring cohorts, the ledger and the protocol; quick ones first
    "test_sampling_is_poisson.py",
    "test_votes_are_random.py",
    "test_rows_add_up.py",
    "test_noise_is_what_is_charged.py",
    "test_streams.py",
    "test_integer_path.py",
    "test_patient_gradients.py",
    "test_secure_sum.py",
    "test_ledger.py",
    "test_every_coordinate_is_noisy.py",
    "test_gate.py",
    "test_neighbours.py",
    "test_small_cohorts.py",
    "test_calibration.py",
    "test_replay.py",
]
AUDITED = [  # (b): the audit of the noise, each kind of release once
    f"test_audit_noise.py::test_the_bound_{which}"
    for which in (
        "is_near_the_claim_and_not_above_it[binary-fast]",
        "is_near_the_claim_and_not_above_it[layers-fast]",
        "of_every_kind_is_near_its_claim_and_not_above_it[statistics-statistics-0.6]",
        "of_every_kind_is_near_its_claim_and_not_above_it[steps-metrics-0.6]",
        "of_every_kind_is_near_its_claim_and_not_above_it[steps-update-0.6]",
        "of_every_kind_is_near_its_claim_and_not_above_it[survival-calibration-0.6]",
        "of_every_kind_is_near_its_claim_and_not_above_it[sampled-update-0.3]",
        "of_every_kind_is_near_its_claim_and_not_above_it[binary-vote-0.4]",
    )
]
LONGEST_S = 1200  # far more than any takes: only what hangs is ended


@dataclass(frozen=True)
class Caught:
    """What became of one defect.

    Attributes
    ----------
    replayed, audited : str or None
        The first test of (a) and of (b) that caught it.
    """

    mutation: str
    replayed: str | None
    audited: str | None
    seconds: float

    @property
    def as_it_should(self) -> bool:
        """Whether the defect was caught, or there was none and nothing failed."""
        caught = self.replayed is not None or self.audited is not None
        return caught != (self.mutation == NONE)


def main(arguments: Sequence[str]) -> int:
    """Run all, print the table, write the JSON; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.audit")
    parser.add_argument("--out", type=Path)
    parser.add_argument("mutations", nargs="*", metavar="MUTATION")
    options = parser.parse_args(arguments)
    chosen = options.mutations or [NONE, *MUTATIONS]
    began = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(put_to_the_test, chosen))
    seconds = time.perf_counter() - began
    print_table(found, seconds)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps([asdict(each) for each in found], indent=2) + "\n")
    return 0 if all(each.as_it_should for each in found) else 1


def put_to_the_test(mutation: str) -> Caught:
    """Run both groups of tests with a defect in the product, each up to its first failure.

    The module that should see a defect is run first; without a defect everything is.
    """
    began, defect = time.perf_counter(), MUTATIONS.get(mutation)
    first = [defect.first] if defect else []
    replayed = first_failure(mutation, list(dict.fromkeys([*first, *REPLAYED])))
    audited = first_failure(mutation, AUDITED) if defect is None or defect.audited else None
    found = Caught(mutation, replayed, audited, time.perf_counter() - began)
    sys.stderr.write(f"{mutation}: {'as it should' if found.as_it_should else 'NOT CAUGHT'}\n")
    return found


def first_failure(mutation: str, files: Sequence[str]) -> str | None:
    """Return the first test that fails; None if all pass.

    Raises
    ------
    RuntimeError
        If pytest itself failed: a defect that stops the tests from being read is not caught.
    """
    with TemporaryDirectory() as folder:
        written = Path(folder, "caught.json")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "tests.audit.plugin"]
        command += ["-p", "no:cacheprovider", "--mutation", mutation, "--caught", str(written)]
        command += [f"tests/privacy/{name}" for name in files]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
        if done.returncode not in {0, 1}:
            raise RuntimeError(f"{mutation}: pytest ended with {done.returncode}\n{done.stdout}")
        failed: list[str] = json.loads(written.read_text())["failed"]
    return failed[0] if failed else None


def print_table(found: Sequence[Caught], seconds: float) -> None:
    """Print what caught what."""
    table = Table("defect", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in ("caught by replay", "caught by the audit of the noise"):
        table.add_column(name, overflow="fold")
    table.add_column("s", justify="right")
    for each in found:
        mark = "" if each.as_it_should else "[red]NOT AS IT SHOULD[/] "
        table.add_row(
            mark + each.mutation, short(each.replayed), short(each.audited), f"{each.seconds:.0f}"
        )
    console = Console(highlight=False)
    console.print(table)
    caught = sum(each.as_it_should for each in found if each.mutation != NONE)
    total = sum(each.mutation != NONE for each in found)
    console.print(f"{caught} of {total} defects caught, in {seconds:.0f} s.")


def short(test: str | None) -> str:
    """Return a test's name without its folder and cases."""
    return "" if test is None else test.rpartition("/")[2].partition("[")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
