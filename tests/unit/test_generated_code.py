"""The generated gRPC code in the repository is what `make proto` writes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_generated_code_is_that_of_the_proto_file(tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    proto = variable(makefile, "PROTO")
    options = (
        variable(makefile, "PROTO_OUT").replace("=.", f"={tmp_path}").replace(":.", f":{tmp_path}")
    )
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "--proto_path=.", *options.split(), proto],
        cwd=ROOT / "common",
        check=True,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    folder = Path(proto).parent
    made = sorted((tmp_path / folder).iterdir())
    assert len(made) == 4
    for file in made:
        kept = ROOT / "common" / folder / file.name
        assert kept.read_text(encoding="utf-8") == file.read_text(encoding="utf-8"), kept


def variable(makefile: str, name: str) -> str:
    found = re.search(rf"^{name} := (.+)$", makefile, re.MULTILINE)
    assert found is not None
    return found[1]
