"""A released model as people type it: made, fetched, accepted, called back, then refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from polyclinic_common.bundle.trust import Trust
from tests.kits.typed import answer, refusal, typed, wait_for
from tests.kits.typed_consortium import TypedConsortium

ROUNDS = 3
PATIENT = ("--patient", "age=61", "sex=female")
CARD = """
[operator]
developer = "The consortium's statisticians"
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TypedConsortium]:
    """Return a consortium of three hospitals, of which a run has finished; its nodes are down."""
    made = TypedConsortium(tmp_path_factory.mktemp("house"))
    made.up()
    try:
        for name in made.names:
            made.join(name, "--epsilon-cap", 20)
        made.verify_all()
        study = made.offer(id="small", training={"rounds": ROUNDS}, privacy={"epsilon": 1.0})
        made.approve(study)
        made.node_up(*made.names)
        done = typed("server", "run", "start", study, "--folder", made.server)
        assert done.status == 0, done.err
        made.node_down(*made.names)
        yield made
    finally:
        for node in made.nodes.values():
            node.popen.kill()
        if made.process is not None:
            made.process.popen.kill()


@pytest.mark.slow
def test_from_a_run_to_a_model_that_is_called_back(house: TypedConsortium, tmp_path: Path) -> None:
    (run,) = [each["run"] for each in house.operate("run", "list")]
    file, site = tmp_path / "small.polyclinic", ("--site", house.site("site 0"))
    code, remedy = house.refused_at("site 0", "model", "fetch", run, "--out", file)
    assert (code, "--weights" in remedy) == ("B074", True)
    card = tmp_path / "card.toml"
    card.write_text(CARD, encoding="utf-8")
    made = house.operate("release", run[:8], "--card", card)
    assert (made["run"], Path(made["file"]).is_file()) == (run, True)
    (offered,) = house.at("site 0", "model", "list")
    assert (offered["digest"], offered["approved"]) == (made["digest"], True)
    fetched = house.at("site 0", "model", "fetch", run[:8], "--out", file)
    assert fetched["digest"] == made["digest"]
    assert file.read_bytes() == Path(made["file"]).read_bytes()
    assert answer("model", "verify", file, *site)["digest"] == made["digest"]
    said = typed("client", "model", "accept", file, *site, answers="n\n")
    assert said.status != 0
    assert "every signature holds" in said.err
    assert house.operate("release", "list")[0]["accepted"] == []
    asked = typed("client", "model", "accept", file, *site, answers="y\n")
    assert asked.status == 0, asked.err
    house.at("site 1", "model", "reject", file, "--reason", "subgroup")
    (shown,) = house.operate("release", "list")
    assert (shown["accepted"], shown["rejected"]) == (["site 0"], {"site 1": "subgroup"})
    written = [each for each in house.at("site 0", "journal", "show") if each["entry"] == "decided"]
    assert [each["decision"] for each in written] == ["accepted"]
    for words in (
        ("server", "release", "list", "--folder", house.server),
        ("client", "model", "list", *site),
        ("client", "journal", "show", *site),
    ):
        assert typed(*words).status == 0
    again = tmp_path / "again.polyclinic"
    signatures = house.at("site 2", "model", "fetch", run, "--out", again)["signatures"]
    assert len(signatures) == 2
    predicted = answer("predict", file, *PATIENT, *site)
    assert predicted["bundle"]["digest"] == made["digest"]
    stands = house.operate("release", "withdraw", run[:8], "--reason", "weight was in pounds")
    assert (stands["number"], stands["digest"]) == (1, made["digest"])
    house.at("site 0", "model", "list")
    house.down()
    try:
        _refused_without_a_server(file, site)
    finally:
        house.up()


def _refused_without_a_server(file: Path, site: tuple[object, ...]) -> None:
    code, _ = refusal("predict", file, *PATIENT, *site)
    assert code == "B070"
    done = typed("predict", file, *PATIENT, *site)
    assert "weight was in pounds" in done.err
    assert refusal("model", "verify", file, *site)[0] == "B070"


@pytest.mark.slow
def test_a_node_learns_by_itself_what_was_called_back(
    house: TypedConsortium, tmp_path: Path
) -> None:
    """No command is typed at the hospital between the withdrawal and the refusal."""
    (run,) = [each["run"] for each in house.operate("run", "list")]
    card, file = tmp_path / "card.toml", tmp_path / "small.polyclinic"
    card.write_text(CARD.replace("statisticians", "physicians"), encoding="utf-8")
    digest = house.operate("release", "--card", card, run)["digest"]
    at = ("--site", house.site("site 2"))
    house.at("site 2", "model", "fetch", digest[:12], "--out", file)
    assert answer("predict", file, *PATIENT, *at)["bundle"]["digest"] == digest
    house.operate("release", "withdraw", digest[:12], "--reason", "wrong table")
    house.node_up("site 2")
    wait_for("withdrawal", lambda: knows(house.site("site 2"), digest), 120.0)
    house.node_down("site 2")
    assert refusal("predict", file, *PATIENT, *at)[0] == "B070"


def knows(site: Path, digest: str) -> bool:
    return Trust.read(site).withdrawal(digest) is not None
