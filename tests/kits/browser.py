"""A headless Chromium that looks at pages as people with needs of their own do."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from tests.kits.required import unavailable

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
WIDTHS = (320, 1280)
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
FLAGS = (
    "--headless=new",
    "--hide-scrollbars",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
RUN_AXE = """
const [tags, done] = arguments;
axe.run(document, {runOnly: {type: "tag", values: tags}}).then(
  found => done(found.violations.flatMap(rule => rule.nodes.map(
    node => `${rule.id}: ${node.target.join(" ")}: ${node.failureSummary}`))),
  error => done([`axe did not run: ${error}`]));
"""


@contextmanager
def browser() -> Iterator[WebDriver]:
    """Give a fresh Chromium with nothing in it; skip where there is none.

    Its profile is a folder that is gone afterwards, and it looks up no name: pages come from
    files and from loopback addresses written as numbers.
    """
    _available()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(which("chromium"))
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options, Service(which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()


def _available() -> None:
    programs = [name for name in ("chromium", "chromedriver") if which(name) is None]
    packages = [name for name in ("selenium", "axe_playwright_python") if find_spec(name) is None]
    if missing := programs + packages:
        unavailable("browser", f"install {', '.join(missing)}")


def look(driver: WebDriver, width: int, scheme: Scheme) -> None:
    """Make the window `width` CSS pixels wide and prefer `scheme`, for this page and the next."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )


def violations(driver: WebDriver) -> list[str]:
    """Return what axe finds against WCAG 2.2 AA on the page as it is shown, a line for each."""
    package = find_spec("axe_playwright_python")
    assert package is not None
    assert package.origin is not None
    script = Path(package.origin).with_name("axe.min.js")
    driver.execute_script(script.read_text(encoding="utf-8"))
    found: list[str] = driver.execute_async_script(RUN_AXE, list(TAGS))
    return found


def wider_than_window(driver: WebDriver) -> int:
    """Return by how many pixels the page must be scrolled sideways."""
    wide = "const page = document.documentElement; return page.scrollWidth - page.clientWidth"
    return int(driver.execute_script(wide))


def faults(driver: WebDriver, pictures: Path | None = None) -> list[str]:
    """Return what is wrong with the open page at every width, light and dark.

    Where a folder is given, a picture of the whole page is left there each time.
    """
    found: list[str] = []
    for width, scheme in product(WIDTHS, SCHEMES):
        look(driver, width, scheme)
        found += [f"{width} {scheme}: {each}" for each in violations(driver)]
        if wide := wider_than_window(driver):
            found.append(f"{width} {scheme}: {wide} pixels wider than the window")
        if pictures is not None:
            (pictures / f"{width}-{scheme}.png").write_bytes(picture(driver))
    return found


def picture(driver: WebDriver) -> bytes:
    """Return the whole page as PNG, also what lies below the window."""
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    return base64.b64decode(shot["data"])
