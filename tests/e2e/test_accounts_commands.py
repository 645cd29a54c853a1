"""One hospital, one account, typed as people type it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

from tests.kits.rule import RULE
from tests.kits.typed import answer, refusal, typed
from tests.kits.typed_consortium import TypedConsortium

BOTH = "Ada Berg\nBo Dahl\n"


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TypedConsortium]:
    """Return a consortium that one hospital has joined, its server up."""
    made = TypedConsortium(tmp_path_factory.mktemp("accounts"))
    made.up()
    made.join("site 0")
    yield made
    made.down()


def joining(made: TypedConsortium, name: str, accounts: Path, *more: object) -> tuple[object, ...]:
    own = ("--site", made.site(name), "--accounts", accounts)
    return ("client", "join", made.invite(name), "--yes", *own, *more)


def test_a_second_account_is_refused_allowed_by_rule_found_out_and_merged(
    consortium: TypedConsortium, tmp_path: Path
) -> None:
    accounts, rule = consortium.accounts("site 0"), tmp_path / "rule.toml"
    code, remedy = refusal(*joining(consortium, "site 1", accounts))
    assert (code, str(consortium.site("site 0")) in remedy) == ("A001", True)
    assert not consortium.site("site 1").exists()
    rule.write_text(tomli_w.dumps(RULE), encoding="utf-8")
    second = joining(consortium, "site 1", accounts, "--second-account", rule)
    assert "A007" in typed(*second, answers="Ada Berg\nAda Berg\n").err
    assert not consortium.site("site 1").exists()
    asked = typed(*second, answers=BOTH)
    assert asked.status == 0, asked.err
    for words in (RULE["why"], "year of admission", "data-protection officer"):
        assert str(words) in asked.err
    assert "one of 2" in consortium.at("site 1", "status")["account"]
    study = consortium.study_file()
    consortium.operate("study", "publish", study)
    table, mapping = consortium.extract("site 0")
    adding = ("data", "add", "small-binary", table, "--map", mapping)
    consortium.at("site 0", *adding)
    code, remedy = consortium.refused_at("site 1", *adding)
    assert (code, "accounts merge" in remedy) == ("A003", True)
    listed = consortium.at("site 0", "accounts", "list")
    assert [each["state"] for each in listed] == ["overlaps", "overlaps"]
    shown = typed("client", "accounts", "list", "--site", consortium.site("site 0"))
    for text in ("overlaps", "site 1", "admission"):
        assert text in shown.out
    asked = typed("client", "accounts", "merge", "--site", consortium.site("site 0"), answers="n\n")
    assert asked.status == 1
    (folded,) = consortium.at("site 0", "accounts", "merge", "--yes")
    assert folded["folder"] == str(consortium.site("site 1"))
    assert consortium.refused_at("site 1", *adding)[0] == "A006"
    consortium.at("site 0", *adding)
    states = [each["state"] for each in consortium.at("site 1", "accounts", "list")]
    assert states == ["stands", "ended"]


def test_a_lost_folder_is_begun_anew_only_if_somebody_says_so(
    consortium: TypedConsortium, tmp_path: Path
) -> None:
    accounts = tmp_path / "accounts.sqlite"
    assert typed(*joining(consortium, "site 2", accounts)).status == 0
    shutil.rmtree(consortium.site("site 2"))
    consortium.operate("site", "revoke", "site 2")
    code, remedy = refusal(*joining(consortium, "site 2", accounts))
    assert (code, "--declare-reset" in remedy) == ("A002", True)
    words = list(joining(consortium, "site 2", accounts, "--declare-reset"))
    words.remove("--yes")
    assert typed(*words, answers="y\n2\nn\n").status == 1
    assert not consortium.site("site 2").exists()
    done = typed(*words, answers="y\n2\ny\n")
    assert done.status == 0, done.err
    assert "every other hospital sees the reset" in done.err
    assert consortium.at("site 2", "ledger", "budget")["declared_reset"] is True
    states = [each["state"] for each in consortium.at("site 2", "accounts", "list")]
    assert states == ["ended", "stands"]


def test_a_lost_registry_is_restored(consortium: TypedConsortium, tmp_path: Path) -> None:
    site, elsewhere = consortium.site("site 2"), tmp_path / "volume" / "accounts.sqlite"
    assert answer("client", "accounts", "restore", "--site", site, "--accounts", elsewhere) == {
        "site": str(site),
        "accounts": str(elsewhere),
    }
    (listed,) = answer("client", "accounts", "list", "--site", site)
    assert (listed["name"], listed["state"]) == ("site 2", "stands")
    elsewhere.unlink()
    assert refusal("client", "accounts", "list", "--site", site)[0] == "A004"
