"""A consortium typed as people type it: from `server init` to an approved study; refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kits.typed import answer, refusal, typed
from tests.kits.typed_consortium import TypedConsortium


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TypedConsortium]:
    """Return a consortium of three hospitals that have joined, its server up."""
    made = TypedConsortium(tmp_path_factory.mktemp("consortium"))
    made.up()
    for name in made.names:
        made.join(name)
    yield made
    made.down()


def test_from_invitation_to_an_approved_study(consortium: TypedConsortium) -> None:
    study, names = consortium.study_file(), consortium.names
    assert consortium.operate("study", "publish", study)["not_invited"] == []
    (offer,) = consortium.at("site 0", "study", "list")
    assert (offer["id"], offer["here"]) == ("small-binary", "named")
    consortium.verify_all()
    assert {peer["verified"] for peer in consortium.at("site 0", "peers", "list")} == {
        "this hospital",
        "verified",
    }
    table, _ = consortium.extract("site 0")
    drafted = typed(
        "client", "data", "map", "small-binary", table, "--site", consortium.site("site 0")
    )
    assert '[columns."age"]\nsource = "Age"' in drafted.out
    checking = (
        "client",
        "data",
        "check",
        "small-binary",
        table,
        "--site",
        consortium.site(names[0]),
    )
    proposed = table.with_name("proposed.toml")
    assert "D007" in typed(*checking, "--propose", proposed).err
    assert '# source = "Resp"' in proposed.read_text(encoding="utf-8")
    assert typed(*checking, "--map", consortium.extract("site 0")[1]).status == 0
    for name in names:
        table, mapping = consortium.extract(name)
        adding = ("data", "add", "small-binary", table, "--map", mapping)
        declined = typed("client", *adding, "--site", consortium.site(name), answers="n\n")
        assert declined.status == 1
        assert name not in consortium.operate("study", "list")[0]["declared"]
        added = consortium.at(name, *adding, "--yes")
        assert (added["usable"], added["declared"]) == (True, 60)
    shown = typed("client", "study", "show", "small-binary", "--site", consortium.site("site 0"))
    plain = " ".join(shown.out.split())
    for words in (
        "under masks",
        "Headline: epsilon 1",
        "fallback 1.4",
        "2 of 2 other hospitals verified",
        "age (feature): numeric, years, 20 to 80",
        "What could tell something about a hospital",
    ):
        assert words in plain
    asked = ("client", "study", "approve", offer["hash"][:12], "--site", consortium.site("site 0"))
    assert typed(*asked, answers="n\n").status == 1
    assert consortium.operate("study", "list")[0]["approved"] == []
    assert typed(*asked, answers="y\n").status == 0
    for name in names[1:]:
        assert consortium.at(name, "study", "approve", "small-binary", "--yes")["verified"] == 3
    assert consortium.operate("study", "list")[0]["approved"] == names
    sites = {site["name"]: site for site in consortium.operate("site", "list")}
    assert all(sites[name]["approvals"] == 1 for name in names)
    assert all(sites[name]["certificate_days"] >= 363 for name in names)
    status = consortium.at("site 0", "status")
    assert status["server"] == "reached"
    assert status["fingerprint"] == consortium.fingerprint("site 0")
    assert status["approved"] == [offer["hash"][:12]]
    budget = consortium.at("site 0", "ledger", "budget")
    assert budget["promised"] > 1.0
    assert consortium.at("site 0", "study", "withdraw", "small-binary")["withdrawn"] is True
    assert consortium.operate("study", "list")[0]["approved"] == names[1:]


def test_init_overwrites_nothing(consortium: TypedConsortium) -> None:
    before = {file: file.read_bytes() for file in consortium.server.glob("*.key")}
    code, remedy = refusal("server", "init", "Another", "localhost", "--folder", consortium.server)
    assert code == "C001"
    assert "--folder" in remedy
    assert {file: file.read_bytes() for file in consortium.server.glob("*.key")} == before


def test_joining_asks_for_the_fingerprint_and_stops_where_it_differs(
    consortium: TypedConsortium, tmp_path: Path
) -> None:
    invitation = tmp_path / "invitation.txt"
    made = consortium.operate("site", "invite", "site 3", "--out", invitation)
    assert made["fingerprint"] == consortium.made["fingerprint"]
    own = ("--site", tmp_path / "site", "--accounts", tmp_path / "accounts.sqlite")
    words = ("client", "join", invitation, *own)
    asked = typed(*words, answers="n\n")
    assert asked.status == 22
    assert made["fingerprint"] in asked.err
    assert "C010" in asked.err
    assert not (tmp_path / "site").exists()
    joined = typed(*words, answers="y\n1.5\n")
    assert joined.status == 0
    assert "site 3 has joined Test consortium" in joined.out
    budget = answer("client", "ledger", "budget", "--site", tmp_path / "site")
    assert budget["epsilon_cap"] == 1.5
    elsewhere = ("--site", tmp_path / "other", "--accounts", tmp_path / "others.sqlite")
    again = refusal("client", "join", invitation, "--yes", *elsewhere)
    assert again[0] == "C007"
    consortium.operate("site", "revoke", "site 3")
    code, remedy = refusal("client", "peers", "list", "--site", tmp_path / "site")
    assert (code, "new invitation" in remedy) == ("C012", True)
    assert "C012" in answer("client", "status", "--site", tmp_path / "site")["server"]


def test_refusals_name_their_remedy(consortium: TypedConsortium, tmp_path: Path) -> None:
    table, mapping = consortium.extract("site 0")
    months = tmp_path / "months.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    rows = [line.split(",") for line in lines[1:]]
    spoiled = [[row[0], str(float(row[1]) * 12), *row[2:]] for row in rows]
    months.write_text("\n".join([lines[0], *map(",".join, spoiled)]), encoding="utf-8")
    study = consortium.study_file(id="second-study")
    consortium.operate("study", "publish", study)
    bad = typed(
        "client", "data", "add", "second-study", months, "--map", mapping,
        "--site", consortium.site("site 0"),
    )  # fmt: skip
    assert bad.status == 11
    assert "another unit" in bad.out
    assert "factor = " in bad.err
    found = {
        "C020": consortium.refused_at("site 0", "study", "approve", "second-study", "--yes"),
        "S004": consortium.refused_at("site 0", "study", "show", "third-study"),
        "C010": consortium.refused_at("site 0", "peers", "verify", "site 1", "0000"),
        "C013": consortium.refused_at("site 0", "peers", "verify", "site 9", "0000"),
        "C025": refusal("client", "status", "--site", tmp_path / "nowhere"),
        "C005": refusal("client", "join", "polyclinic-AAAA", "--yes", "--site", tmp_path / "x"),
        "C002": refusal("server", "site", "list", "--folder", tmp_path / "nowhere"),
    }
    assert all(each["ok"] for each in consortium.at("site 0", "preflight"))
    for code, (got, remedy) in found.items():
        assert (got, bool(remedy)) == (code, True)


def test_a_server_that_is_down_is_said_to_be(consortium: TypedConsortium) -> None:
    consortium.down()
    try:
        code, remedy = consortium.refused_at("site 0", "peers", "list")
        assert (code, "preflight" in remedy) == ("C011", True)
        assert "C011" in consortium.at("site 0", "status")["server"]
    finally:
        consortium.up()
    assert consortium.at("site 0", "status")["server"] == "reached"


@pytest.mark.parametrize(
    "words",
    [
        ("client", "join"),
        ("client", "status"),
        ("client", "preflight"),
        ("client", "accounts", "list"),
        ("client", "accounts", "merge"),
        ("client", "accounts", "restore"),
        ("client", "peers", "verify"),
        ("client", "data", "add"),
        ("client", "data", "map"),
        ("client", "study", "approve"),
        ("client", "model", "list"),
        ("client", "model", "fetch"),
        ("client", "model", "accept"),
        ("client", "model", "reject"),
        ("server", "init"),
        ("server", "up"),
        ("server", "site", "invite"),
        ("server", "study", "publish"),
        ("server", "release", "list"),
        ("server", "release", "withdraw"),
    ],
)
def test_help_shows_an_example_without_importing_what_is_heavy(words: tuple[str, ...]) -> None:
    room = "polyclinic_client" if words[0] == "client" else "polyclinic_server"
    code = (
        f"import sys; from {room}.cli.main import app\n"
        "try:\n    app(sys.argv[1:])\n"
        "finally:\n    heavy = {'torch', 'flwr', 'scipy', 'numpy', 'sqlite3', 'grpc', 'pandas'}\n"
        "    assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words[1:], "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "AssertionError" not in done.stderr, done.stderr
    assert f"Example:  polyclinic {' '.join(words)}" in " ".join(done.stdout.split("\n"))


def test_an_error_is_one_json_object(tmp_path: Path) -> None:
    done = typed("server", "up", "--json", "--folder", tmp_path)
    assert done.status == 22
    assert json.loads(done.err)["error"] == "C002"
