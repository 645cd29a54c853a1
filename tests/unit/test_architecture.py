"""docs/architecture.md is what the imports of the code say; what pages link to is there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from docs.architecture import PACKAGES, arrows, page, read_house

ROOT = Path(__file__).parents[2]
REMEDY = "run: make architecture"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the product's code."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return tmp_path


def written() -> str:
    return (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_the_page_is_that_of_the_code_as_it_is() -> None:
    assert page(ROOT) == written(), REMEDY


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "import polyclinic_common.wire.codec",
        "from polyclinic_common import wire",
        "from polyclinic_common.wire import Refusal",
        "if TYPE_CHECKING:\n    from polyclinic_common.wire import Refusal",
        "def later():\n    from polyclinic_common.wire import Refusal",
    ],
)
def test_an_import_that_is_added_is_seen(copy: Path, line: str) -> None:
    assert page(copy) == written(), REMEDY
    changed = copy / "server/polyclinic_server/store/database.py"
    changed.write_text(f"{changed.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    (row,) = set(page(copy).splitlines()) - set(written().splitlines())
    assert row.startswith("| **server** `store` |")
    assert "`wire`" in row


def test_a_room_that_is_added_is_seen(copy: Path) -> None:
    room = copy / "client/polyclinic_client/attic"
    room.mkdir()
    (room / "__init__.py").write_text('"""What nobody needs."""\n', encoding="utf-8")
    assert "| **client** `attic` | What nobody needs. |" in page(copy)


def test_an_arrow_that_others_imply_is_left_out() -> None:
    house = read_house(ROOT)
    assert ("common", "study") in house["common", "models"].imports
    assert ("models", "study") not in arrows(house, "common")
    assert {("models", "data"), ("data", "study")} <= set(arrows(house, "common"))


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("docs/*.md")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    inner = [link for link in links if "://" not in link]
    assert [link for link in inner if not (path.parent / link).exists()] == []


def test_the_glossary_has_each_term_once_and_in_order() -> None:
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\*\*(.+?)\*\* — ", text, flags=re.MULTILINE)
    assert len(terms) > 50
    assert terms == sorted(set(terms), key=str.casefold)
