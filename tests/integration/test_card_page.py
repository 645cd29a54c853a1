"""The page of a card, looked at in a browser as people with needs of their own use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from polyclinic_common.bundle.card_fields import ASKED
from polyclinic_common.bundle.card_page import card_html
from polyclinic_simulations.audit.coverage import study_of
from tests.kits.browser import browser, faults, look
from tests.kits.cards import evaluation_of, made_up_card, made_up_groups

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

pytestmark = pytest.mark.slow

BAD = """<!doctype html><html><head><title>bad</title><style>
@media (prefers-color-scheme: dark) { p { color: #222; background: #111 } }
button { width: 10px; height: 10px; padding: 0; border: 0 }
</style></head><body><main><h1>Bad</h1><p>hardly to be read</p>
<button aria-label="a"></button><button aria-label="b"></button>
<div style="width: 400px">wide</div></main></body></html>"""


@pytest.fixture(scope="module")
def driver() -> Iterator[WebDriver]:
    with browser() as started:
        yield started


def show(driver: WebDriver, folder: Path, page: str) -> None:
    file = folder / "card.html"
    file.write_text(page, encoding="utf-8")
    driver.get(file.as_uri())


def full_page() -> str:
    """Return a page with every kind of value: tables, texts of people, fields left empty."""
    long = "A_word_without_a_blank_in_it_" * 6
    people = {field.id: f"{long}\nand a line" for field in ASKED[::2]}
    survival = evaluation_of(made_up_groups("survival", 3000))
    card = made_up_card(study_of("survival"), survival, people, simulated=True)
    return card_html(card, ("What this hospital adds.",))


def empty_page() -> str:
    return card_html(made_up_card(study_of("continuous"), evaluation_of(())))


@pytest.mark.parametrize("page", [full_page, empty_page])
def test_nothing_is_wrong_at_any_width_in_any_light(
    driver: WebDriver, tmp_path: Path, page: Callable[[], str]
) -> None:
    show(driver, tmp_path, page())
    driver.execute_script("document.querySelector('details').open = true")
    assert faults(driver) == []


def test_the_browser_sees_what_is_wrong(driver: WebDriver, tmp_path: Path) -> None:
    show(driver, tmp_path, BAD)
    found = faults(driver)
    assert {line.split(": ")[1] for line in found if line.startswith("1280 light")} == {
        "html-has-lang",
        "target-size",
    }
    assert any(line.startswith("1280 dark: color-contrast") for line in found)
    assert any(line.startswith("320 light: 8") and "wider" in line for line in found)


def test_every_table_that_may_scroll_is_reached_by_the_keyboard(
    driver: WebDriver, tmp_path: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    show(driver, tmp_path, full_page())
    look(driver, 320, "light")
    reached, element = set[str](), driver.switch_to.active_element
    for _ in range(60):
        element.send_keys(Keys.TAB)
        element = driver.switch_to.active_element
        reached.add(str(element.get_attribute("aria-label")))
    captions = driver.execute_script(
        "return [...document.querySelectorAll('caption')].map(each => each.textContent)"
    )
    assert len(captions) > 4
    assert set(captions) <= reached


def test_the_mark_of_a_simulation_is_the_first_thing_and_large(
    driver: WebDriver, tmp_path: Path
) -> None:
    show(driver, tmp_path, full_page())
    for width in (320, 1280):
        look(driver, width, "light")
        mark = driver.find_element("css selector", ".simulated strong")
        assert mark.location["y"] < 40
        assert float(mark.value_of_css_property("font-size").removesuffix("px")) >= 28
