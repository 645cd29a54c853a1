"""``python -m polyclinic_simulations.bench``: measure and report."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from polyclinic_simulations.bench.run import TINY, Plan, run_benchmark


def main() -> None:
    """Run the benchmark; progress goes to standard error, targets to standard output."""
    parser = argparse.ArgumentParser(prog="polyclinic_simulations.bench", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("polyclinic-out/bench"))
    parser.add_argument("--tiny", action="store_true", help="only see that everything runs")
    options = parser.parse_args()
    began = time.perf_counter()

    def say(what: str) -> None:
        sys.stderr.write(f"{time.perf_counter() - began:5.0f} s  {what}\n")

    found = run_benchmark(TINY if options.tiny else Plan(), options.out, say)
    for target in found.targets:
        verdict = "met   " if target.met else "missed"
        sys.stdout.write(f"{verdict} {target.what}: {target.found} (goal: {target.goal})\n")
    for note in found.notes:
        sys.stdout.write(f"{note}\n")
    sys.stdout.write(f"Results: {options.out / 'benchmark.json'}, benchmark.html\n")


if __name__ == "__main__":
    main()
