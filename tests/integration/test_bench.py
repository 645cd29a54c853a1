"""The benchmark runs at a tiny size and writes valid results; no time is judged here."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

from polyclinic_simulations.bench.records import Benchmark
from polyclinic_simulations.bench.run import TINY, run_benchmark
from polyclinic_simulations.bench.steps import EQUAL, FAST


def test_a_tiny_benchmark_writes_results_and_a_page(tmp_path: Path) -> None:
    told: list[str] = []
    found = run_benchmark(TINY, tmp_path, told.append)
    text = (tmp_path / "benchmark.json").read_text()
    assert Benchmark.model_validate_json(text) == found
    assert [time.variant for time in found.job] == ["bare-opacus", "inline-opacus", "inline-fast"]
    assert all(0 < time.rounds_s.median < time.total_s.median for time in found.job)
    assert {point.curve for point in found.growth} == {"sites", "patients", "columns"}
    assert all(step.difference <= EQUAL for step in found.steps if step.gradients == FAST)
    assert all(each.exact for each in found.sums)
    assert told
    page = (tmp_path / "benchmark.html").read_text()
    assert page.count("<svg") == 6
    assert not re.search(r'(src|href)="(?!#)', page)


def test_results_name_neither_the_machine_nor_a_place_on_it(tmp_path: Path) -> None:
    machine = Benchmark.model_json_schema()["$defs"]["Machine"]["properties"]
    assert set(machine) == {"cpu", "cores", "memory_gb", "system", "python", "libraries", "load"}
    from polyclinic_simulations.bench.machine import describe_machine

    described = json.dumps(describe_machine().model_dump())
    assert str(Path.home()) not in described
    assert str(Path.cwd()) not in described
    assert socket.gethostname() not in described
