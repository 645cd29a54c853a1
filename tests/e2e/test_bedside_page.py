"""The page at the bedside as people use it: served by a process of its own, in a real browser."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from polyclinic_common.bedside.guard import FAULT
from polyclinic_common.study import Study
from tests.kits.bedside import Served, released, served
from tests.kits.browser import browser, faults
from tests.kits.other_studies import AGE, CYP, SEX, SNP
from tests.kits.small import small_study, small_table, study_data

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

pytestmark = pytest.mark.slow
SAID = "For this machine alone, until Ctrl-C; nothing that is entered is kept:"
LONG = {
    "name": "expression",
    "kind": "panel",
    "columns": [f"gene_{index}" for index in range(200)],
    "unit": "log2",
    "range": [-4, 10],
    "source": "test",
}
ARMS = {
    "kind": "arms",
    "column": "arm",
    "arms": ["a", "b"],
    "assignment": "observational",
    "source": "test",
}

FAULTY = """
from polyclinic_common.bedside.guard import Guard
from polyclinic_common.bedside.serve import listen, run

async def page(scope, receive, send):
    raise ZeroDivisionError("Zaphod")

with listen(0) as listening:
    port = listening.getsockname()[1]
    print(port, flush=True)
    run(Guard(page, "/secret/", port, "default-src 'none'"), listening)
"""


def of_every_kind() -> dict[str, Study]:
    """Return a dose study with genes, a yes/no study with hospitals, a survival study with arms."""
    cohort = study_data()["cohort"]
    genes = cohort | {"features": [AGE, SEX, SNP, CYP, LONG]}
    return {
        "dose": small_study("continuous", cohort=genes),
        "yes or no": small_study("binary", cohort=cohort | {"site_indicator": True}),
        "survival": small_study("survival", treatment=ARMS),
    }


@pytest.fixture(scope="module")
def driver() -> Iterator[WebDriver]:
    with browser() as opened:
        yield opened


def submit_by_enter(driver: WebDriver) -> None:
    """Press Enter where the focus is, and wait for the page that follows."""
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.expected_conditions import staleness_of
    from selenium.webdriver.support.wait import WebDriverWait

    page = driver.find_element("tag name", "html")
    driver.switch_to.active_element.send_keys(Keys.ENTER)
    WebDriverWait(driver, 30).until(staleness_of(page))
    WebDriverWait(driver, 30).until(lambda each: each.find_elements("tag name", "h1"))


def tab(driver: WebDriver) -> str:
    """Press Tab and return the id, or else the tag, of what has the focus then."""
    from selenium.webdriver.common.keys import Keys

    driver.switch_to.active_element.send_keys(Keys.TAB)
    found = driver.switch_to.active_element
    return str(found.get_attribute("id") or found.tag_name)


def type_into(driver: WebDriver, key: str, text: str) -> None:
    """Go to a field by Tab alone, and type."""
    for _ in range(60):
        if tab(driver) == key:
            driver.switch_to.active_element.send_keys(text)
            return
    raise AssertionError(f"Tab does not reach {key}")


@pytest.mark.parametrize("kind", of_every_kind())
def test_form_errors_and_result_have_no_fault_at_any_width_light_or_dark(
    driver: WebDriver, tmp_path: Path, kind: str
) -> None:
    study, table = of_every_kind()[kind], small_table(60, 1)
    table["arm"] = ["a", "b"] * 30
    with served(tmp_path, released(study), table) as page:
        driver.get(page.address)
        assert faults(driver) == []
        type_into(driver, "q0-0", "61 y")
        submit_by_enter(driver)
        assert driver.title.startswith("Error: ")
        assert faults(driver) == []
        driver.find_element("id", "q0-0").clear()
        driver.find_element("id", "q0-0").send_keys("61")
        submit_by_enter(driver)
        assert driver.title.startswith("Result: ")
        assert driver.find_elements("id", "similar"), "the table in the site's folder is looked at"
        assert faults(driver) == []


def test_a_keyboard_alone_fills_the_form_corrects_it_and_reads_the_result(
    driver: WebDriver, tmp_path: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    study = of_every_kind()["dose"]
    with served(tmp_path, released(study)) as page:
        driver.get(page.address)
        assert tab(driver) == "a", "the link that skips to the form comes first"
        assert [tab(driver) for _ in range(6)] == ["q0-0", "q1", "q2", "q3", "q4", "button"]
        driver.get(page.address)
        type_into(driver, "q0-0", "old")
        type_into(driver, "q1", "f")  # a letter chooses in a list
        submit = driver.find_element("tag name", "button")
        while driver.switch_to.active_element != submit:
            tab(driver)
        submit_by_enter(driver)
        summary = driver.switch_to.active_element
        assert "summary" in str(summary.get_attribute("class"))
        assert tab(driver) == "a", "the first thing after the summary's beginning is its link"
        driver.switch_to.active_element.send_keys(Keys.ENTER)
        assert driver.current_url.endswith("#q0-0")
        assert driver.switch_to.active_element.get_attribute("id") == "q0-0"
        driver.switch_to.active_element.send_keys(Keys.CONTROL + "a" + Keys.NULL + "61")
        submit_by_enter(driver)
        assert driver.title.startswith("Result: ")
        focused = driver.switch_to.active_element
        assert focused.get_attribute("aria-labelledby") == "predicted"
        assert driver.find_element("id", "q1").get_attribute("value") == "female"
        assert "61" not in driver.current_url


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("page"), released(small_study())) as opened:
        yield opened


def ask(page: Served, method: str, path: str, host: str | None = None) -> int:
    place = urlsplit(page.address)
    connection = http.client.HTTPConnection(str(place.hostname), place.port or 0, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or place.netloc)
    connection.endheaders()
    return connection.getresponse().status


def test_only_the_secret_path_under_its_own_name_is_answered(page: Served) -> None:
    path = urlsplit(page.address).path
    assert len(path) > 40
    assert ask(page, "GET", path) == 200
    assert ask(page, "GET", "/") == 404
    assert ask(page, "GET", path[:-2] + "/") == 404
    assert ask(page, "GET", path, "evil.example") == 404
    assert ask(page, "POST", path) == 404


def test_nothing_but_loopback_is_listened_on(page: Served) -> None:
    place = urlsplit(page.address)
    assert place.hostname == "127.0.0.1"
    rows = Path(f"/proc/{page.process.pid}/net/tcp").read_text().splitlines()[1:]
    listening = [row.split()[1] for row in rows if row.split()[3] == "0A"]
    assert f"0100007F:{place.port:04X}" in listening
    for other in ("127.0.0.2", socket.gethostbyname(socket.gethostname())):
        if other != "127.0.0.1":
            with socket.socket() as made:
                assert made.connect_ex((other, place.port or 0)) != 0


def test_ctrl_c_ends_it_and_nothing_was_logged_or_kept(tmp_path: Path) -> None:
    with served(tmp_path, released(small_study())) as page:
        place = urlsplit(page.address)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        connection = http.client.HTTPConnection(str(place.hostname), place.port or 0, timeout=10)
        form = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Sec-Fetch-Site": "same-origin",
        }
        connection.request("POST", place.path, b"q0-0=61&q1=male", form)
        assert connection.getresponse().status == 200
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        assert page.stop() == 0
        assert page.printed == f"{SAID}\n"


def test_a_fault_is_answered_and_not_logged() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", FAULTY],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/secret/")
        answer = connection.getresponse()
        assert (answer.status, answer.read().decode()) == (500, FAULT)
        assert answer.headers["cache-control"] == "no-store"
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")
