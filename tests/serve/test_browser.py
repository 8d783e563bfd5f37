"""The explorer in a real Chromium: every page at two widths, light and dark, by eye and by key.

Skipped where selenium, Chromium or its driver is missing. After every test the pages must have stayed silent: no error
in the console, no request to the outside, no name that ran as a script.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import uvicorn

from dissectdb.commands.serve import _listen
from dissectdb.serve import assets
from dissectdb.serve.app import create_app
from dissectdb.serve.store import Store
from dissectdb.warehouse_file import WarehouseFile
from tests.serve.conftest import HARMFUL, MAPPED, TESTED
from tests.serve.test_pages import ADDRESSES
from tests.support.browsing import KEYS, PALE, SPY, WIDTH
from tests.support.explorers import TOKEN
from tests.support.report_warehouses import Plan, filled
from tests.support.waiting import wait_until

DRAWN = "return [...document.querySelectorAll('.chart')].every((it) => it.querySelector('.role-mark'))"
LOADED = "return [...document.images].every((it) => it.complete && it.naturalWidth)"


@dataclass
class Browser:
    """Chromium, and a server of each plan's warehouse."""

    driver: Any
    servers: dict[Plan, str]  # the address of each

    def tell(self, command: str, **what: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, what)

    def ask(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def open(self, plan: Plan, path: str, width: int = 1200, theme: str = "light") -> None:
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=False)
        self.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.driver.get(self.servers[plan] + path)
        wait_until(lambda: self.ask("return document.readyState === 'complete'"), f"{path} is loaded", 30)
        wait_until(lambda: self.ask(DRAWN), f"the charts of {path} are drawn", 30)

    def press(self, key: str, **how: Any) -> None:
        keys = KEYS | {"Space": {"windowsVirtualKeyCode": 32}}
        self.tell("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, **keys[key], **how)
        self.tell("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, **how)

    def trouble(self) -> list[str]:
        severe = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        sent = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [it["params"]["request"]["url"] for it in sent if it["method"] == "Network.requestWillBeSent"]
        known = (*self.servers.values(), "data:", "about:", "blob:")
        outside = [url[:200] for url in asked if not url.startswith(known)]
        return severe + outside + [str(said) for said in self.ask("return (window.ran ?? []).splice(0)")]


def served(path: Path) -> tuple[uvicorn.Server, str]:
    """A server of the warehouse in a thread, and its address."""
    listener = _listen(0)
    port = listener.getsockname()[1]
    app = create_app(Store(WarehouseFile(path)), token=TOKEN, port=port)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    wait_until(lambda: server.started, "the server has started")
    return server, f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium, driver = next(filter(None, map(shutil.which, names)), None), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip(f"there is no {'chromedriver' if chromium else ', '.join(names)} on the path")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    quiet = ["--headless=new", "--hide-scrollbars", "--disable-dev-shm-usage", rules]
    for argument in quiet + ["--no-sandbox"] * (os.geteuid() == 0):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    running, addresses = [], {}
    for plan in (TESTED, HARMFUL, MAPPED):
        path = tmp_path_factory.mktemp("served") / "warehouse.duckdb"
        with filled(path, plan):
            pass
        server, addresses[plan] = served(path)
        running.append(server)
    found = Browser(webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)), addresses)
    found.tell("Network.enable")
    found.tell("Page.addScriptToEvaluateOnNewDocument", source=SPY)
    found.tell("Emulation.setFocusEmulationEnabled", enabled=True)
    for address in addresses.values():  # as a user opens what the command prints
        found.driver.get(f"{address}/?token={TOKEN}")
        assert found.driver.current_url == f"{address}/"
    yield found
    found.driver.quit()
    for server in running:
        server.should_exit = True


@pytest.fixture
def show(browser: Browser) -> Iterator[Callable[..., Browser]]:
    def opened(path: str, plan: Plan = TESTED, **how: Any) -> Browser:
        browser.open(plan, path, **how)
        return browser

    browser.driver.get_log("browser"), browser.driver.get_log("performance")  # reading empties them
    yield opened
    assert browser.trouble() == []


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("address", ADDRESSES)
def test_every_page_fits_its_width_with_its_pictures(show, address, width):
    tab = show(address, width=width)
    assert tab.ask(WIDTH) <= width
    tab.ask("for (const it of document.querySelectorAll('details')) it.open = true")
    assert tab.ask(WIDTH) <= width
    tab.ask("for (const it of document.images) it.loading = 'eager'")
    wait_until(lambda: tab.ask(LOADED), "the pictures are loaded")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_text_has_contrast_in_both_themes(show, address, theme):
    tab = show(address, theme=theme)
    tab.ask("for (const it of document.querySelectorAll('details')) it.open = true")
    assert tab.ask(PALE) == []


@pytest.mark.parametrize("address", [*ADDRESSES[:4], "/concepts", "/compare", "/edits"])
def test_hostile_names_fit_and_stay_silent(show, address):
    tab = show(address.replace("conv1", quote(HARMFUL.layers[0])), HARMFUL, width=400)
    assert tab.ask(WIDTH) <= 400


def test_every_link_and_field_is_reached_by_key_and_shows_its_focus(show):
    tab = show("/neurons")
    wanted = tab.ask(
        "return [...document.querySelectorAll('a[href], input, select, button, summary')]"
        ".filter((it) => it.type !== 'hidden' && it.checkVisibility()).length"
    )
    seen = set()
    for _ in range(wanted + 8):
        tab.press("Tab")
        outline = tab.ask(
            "const it = document.activeElement; it.dataset.seen ??= Math.random();"
            "return [it.dataset.seen, getComputedStyle(it).outlineStyle, it.tagName]"
        )
        if outline[2] != "BODY":
            assert outline[1] != "none", outline
            seen.add(outline[0])
    assert len(seen) >= wanted


@pytest.mark.parametrize("address", ["/neuron?layer=conv1&unit=0", "/image?id=1"])
@pytest.mark.parametrize(("width", "theme"), [(400, "dark"), (1600, "light")])
def test_regions_are_drawn_and_their_look_is_chosen_by_key(show, address, width, theme):
    tab = show(address, MAPPED, width=width, theme=theme)
    assert tab.ask(WIDTH) <= width
    assert tab.ask(PALE) == []
    wide = "return [...document.querySelectorAll('.region image')].map((it) => it.getBoundingClientRect().width)"
    assert tab.ask(wide)
    assert min(tab.ask(wide)) > 100
    tab.ask("document.querySelector('.looks :checked').focus()")
    tab.press("ArrowRight")
    assert tab.ask("return getComputedStyle(document.querySelector('.region .mark')).fill") == "rgb(0, 0, 0)"


def test_a_key_skips_to_the_content(show):
    tab = show("/neurons")
    tab.press("Tab")
    tab.press("Enter")
    assert tab.ask("return document.activeElement.id") == "main"


def test_a_filter_is_typed_and_sent_by_enter(show):
    tab = show("/neurons")
    tab.ask("document.querySelector('main input[name=text]').focus()")
    tab.tell("Input.insertText", text="lin1")
    tab.press("Enter")
    wait_until(lambda: "text=lin1" in tab.driver.current_url, "the filter is in the address")
    rows = tab.ask("return [...document.querySelectorAll('tbody tr')].map((it) => it.innerText)")
    assert len(rows) == 4
    assert all("lin1" in row for row in rows)


def test_names_are_completed_and_a_query_runs_by_key(show):
    tab = show("/sql")
    tab.ask("document.getElementById('q').focus()")
    tab.tell("Input.insertText", text="select layer, neurons from layer_su")
    wait_until(
        lambda: "layer_summary" in tab.ask("return document.getElementById('names').innerText"), "names are offered"
    )
    tab.press("Space", modifiers=2)
    wait_until(
        lambda: tab.ask("return document.getElementById('q').value").endswith("from layer_summary"), "it is completed"
    )
    tab.press("Enter", modifiers=2)
    wait_until(lambda: tab.ask("return document.querySelectorAll('table.answer tbody tr').length") == 2, "it has run")


def test_a_chart_that_cannot_be_read_says_so_and_the_rest_of_the_script_runs(show):
    values = "select k as x, case k when 0 then 'nan'::double else k end as y from range(3) t(k)"
    tab = show(f"/sql?chart=points&q={quote(values)}")
    tab.ask("document.getElementById('charts').textContent = '{NaN}'")
    tab.ask("document.querySelector('.chart').replaceChildren()")
    tab.ask((assets.HERE / "explorer.js").read_text(encoding="utf-8"))  # raises whatever the script raises
    assert "This chart could not be drawn" in tab.ask("return document.querySelector('.chart').innerText")


def test_a_page_without_the_cookie_offers_a_way_in(browser):
    browser.driver.delete_all_cookies()
    browser.driver.get(browser.servers[TESTED] + "/neurons")
    assert "needs the address that dissectdb serve printed" in browser.driver.page_source.replace("<code>", "").replace(
        "</code>", ""
    )
    for address in browser.servers.values():
        browser.driver.get(f"{address}/?token={TOKEN}")
