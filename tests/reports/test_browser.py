"""The report in a real Chromium: it opens from a file, asks nothing of a network, and works by eye, key and search.

def test_x(show): tab = show(Plan(edits=0), width=390)

Skipped where selenium, Chromium or its driver is missing. After every test the page must have stayed silent: no error
in the console, no request to the outside, no name that ran as a script.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pytest

from dissectdb.reports.page import write
from dissectdb.warehouse.database import Warehouse
from tests.support.browsing import KEYS, PALE, SPY, WIDTH
from tests.support.report_warehouses import HOSTILE, NOON, Plan, ask, filled
from tests.support.waiting import wait_until

TESTED = Plan(tested=True)
MAPPED = Plan(tested=True, maps=True)
ONE, TWO, THREE, _ = HOSTILE
HARMFUL = Plan(tuple(HOSTILE), tuple(HOSTILE), (ONE, TWO), ONE, TWO, (THREE, ONE), tested=True)
PHONE = 390  # pixels
NEURONS = """
    select neuron_concepts.*, neuron_accuracies.accuracy, robust_labels.layer is not null as robust
    from neuron_concepts left join neuron_accuracies using (layer, unit) left join robust_labels using (layer, unit)
"""

DRAWN = "[...document.querySelectorAll('.chart')].every((it) => it.innerText || it.querySelector('.role-mark'))"
NOT_DRAWN = """
const marks = (chart) => [...chart.querySelectorAll('svg .role-mark :is(path, line, text, image)')];
return [...document.querySelectorAll('.chart')].map((chart) => [chart.textContent, marks(chart)])
  .filter(([, marks]) => !marks.some((it) => it.getBBox().width + it.getBBox().height > 0)).map(([text]) => text)
"""


# ---------------------------------------------------------------- the browser


@dataclass
class Tab:
    """A page in the browser: the actions of a reader, and their effects."""

    driver: Any
    pages: dict[Plan | None, tuple[Path, pl.DataFrame]] = field(default_factory=dict)
    neurons: pl.DataFrame = field(default_factory=pl.DataFrame)  # of the warehouse behind the page

    def ask(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def tell(self, command: str, **what: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, what)

    def open(self, path: Path, anchor: str = "", width: int = 1200, theme: str = "light") -> None:
        self.driver.get("about:blank")
        self.driver.get_log("browser"), self.driver.get_log("performance")  # reading empties them
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=False)
        self.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.driver.get(path.as_uri() + anchor)
        self.wait(f"return document.readyState === 'complete' && document.querySelector('footer, img') && {DRAWN}")

    def wait(self, script: str, *arguments: Any) -> None:
        wait_until(lambda: self.ask(script, *arguments), script)

    def press(self, key: str) -> None:
        self.tell("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, **KEYS[key])
        self.tell("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    def search(self, text: str) -> None:
        self.ask("const field = document.getElementById('search'); field.focus(); field.select()")
        self.tell("Input.insertText", text=text) if text else self.ask("document.execCommand('delete')")

    def choose(self, select: str, option: str) -> None:
        found = f"[...it.options].find((option) => [option.value, option.text].includes({json.dumps(option)})).value"
        told = "['input', 'change'].forEach((kind) => it.dispatchEvent(new Event(kind, {bubbles: true})))"
        self.each(f"#{select}", f"(it.value = {found}, {told})")

    def count(self, css: str) -> int:
        return self.ask("return document.querySelectorAll(arguments[0]).length", css)

    def each(self, css: str, what: str) -> list[Any]:
        """The value of an expression over `it` for each element that matches."""
        return self.ask(f"return [...document.querySelectorAll(arguments[0])].map((it) => {what})", css)

    def held(self, name: str) -> dict[str, Any]:
        return json.loads(self.each(f"#{name}", "it.textContent")[0])

    def anchors(self) -> list[str]:
        return self.each("#gallery #cards article.card", "it.dataset.anchor")

    def found(self) -> int:
        [said] = self.each("#found", "it.innerText")
        assert re.match(r"1 neuron\b|(?!1 )[\d,]+ neurons\b", said), said
        return int(said.split()[0].replace(",", ""))

    def trouble(self) -> list[str]:
        """Errors in the console, requests to the outside and scripts that ran, since the page was opened."""
        severe = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        sent = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [it["params"]["request"]["url"] for it in sent if it["method"] == "Network.requestWillBeSent"]
        outside = [url[:200] for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))]
        return severe + outside + [str(said) for said in self.ask("return window.ran.splice(0)")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Tab]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium, driver = next(filter(None, map(shutil.which, names)), None), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip(f"there is no {'chromedriver' if chromium else ', '.join(names)} on the path")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    quiet = ["--headless=new", "--hide-scrollbars", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"]
    for argument in quiet + ["--no-sandbox"] * (os.geteuid() == 0):  # for root Chromium does not start otherwise
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    tab = Tab(webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)))
    tab.tell("Network.enable")
    tab.tell("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    tab.tell("Page.addScriptToEvaluateOnNewDocument", source=SPY)
    tab.tell("Emulation.setFocusEmulationEnabled", enabled=True)
    yield tab
    tab.driver.quit()


def written(plan: Plan | None, folder: Path) -> tuple[Path, pl.DataFrame]:
    """The page of a small warehouse and its neurons; without a plan, of an empty warehouse."""
    with filled(folder / "x.duckdb", plan) if plan else Warehouse(folder / "x.duckdb") as warehouse:
        list(warehouse.build())
        rows, neurons = ask(warehouse), warehouse.rows(NEURONS)
    write(rows, folder / "page.html", generated_at=NOON)
    return folder / "page.html", neurons


@pytest.fixture
def show(browser: Tab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Tab]]:
    def opened(plan: Plan | None = TESTED, **how: Any) -> Tab:
        if plan not in browser.pages:
            browser.pages[plan] = written(plan, tmp_path_factory.mktemp("browser"))
        path, browser.neurons = browser.pages[plan]
        browser.open(path, **how)
        return browser

    yield opened
    assert browser.trouble() == []


def test_the_browser_reports_errors_requests_and_scripts_of_a_page(browser, tmp_path):
    page = "<script>alert('ran'); console.error('cried')</script><img src='https://example.org/x.png'>"
    (tmp_path / "bad.html").write_text(page)
    browser.open(tmp_path / "bad.html")
    noticed = " ".join(browser.trouble())
    assert all(said in noticed for said in ("['ran']", "cried", " https://example.org/x.png"))


@pytest.mark.parametrize("width", [1200, PHONE])
@pytest.mark.parametrize("plan", [TESTED, HARMFUL], ids=["tested", "hostile"])
def test_every_chart_is_drawn_within_its_page(show, plan, width):
    tab = show(plan, width=width)
    assert tab.count(".chart") == tab.count(".chart svg") == len(tab.held("charts")) >= 7
    assert tab.ask(NOT_DRAWN) == []
    assert all(tab.each("img", "it.naturalWidth"))
    assert tab.ask(WIDTH) <= width
    tab.each("details", "it.open = true")
    assert tab.ask(WIDTH) <= width


def test_every_chart_is_described_in_words(show):
    said = show().each(".chart", "[it.getAttribute('role'), it.getAttribute('aria-label')]")
    assert [pair for pair in said if pair[0] != "img" or len(pair[1].split()) < 4] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast_in_the_light_and_the_dark_theme(show, theme):
    tab = show(theme=theme)
    [paper] = tab.each("body", "getComputedStyle(it).backgroundColor")
    assert [int(shade) // 64 for shade in re.findall(r"\d+", paper)[:3]] == ([0] * 3 if theme == "dark" else [3] * 3)
    tab.each("details", "it.open = true")
    assert tab.ask(PALE) == []


def test_the_page_can_be_printed(show):
    assert len(base64.b64decode(show().tell("Page.printToPDF", printBackground=True)["data"])) > 10_000


def test_sql_opens_and_is_a_query(show):
    tab = show()
    tab.each("details.sql > summary", "it.click()")
    shown = tab.each("details.sql[open] pre", "it.innerText")
    assert len(shown) == tab.each("details > summary", "it.innerText").count("SQL") >= 7
    assert [text for text in shown if text.split()[0].lower() not in ("select", "with")] == []


def test_a_table_is_saved_with_as_many_rows_as_it_announces(show):
    tab = show()
    files, rows = tab.held("tables"), "it.querySelectorAll('tbody tr').length"
    names = tab.each("details.data [data-csv]", "it.dataset.csv")
    counts = dict(zip(names, tab.each("details.data", rows), strict=True))
    said = [int(re.search(r"(\d+) rows?\b", text)[1]) for text in tab.each("details.data > summary", "it.textContent")]
    assert said == list(counts.values())
    assert set(tab.each("[data-csv]", "it.innerText || it.textContent")) == {"CSV"}
    saved = {question: len(pl.read_csv(io.StringIO(files[question]), infer_schema_length=None)) for question in counts}
    assert saved == counts


def test_a_click_saves_the_csv_file(show, tmp_path):
    tab = show()
    tab.tell("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tab.each("[data-csv]", "it.click()")
    for question in tab.each("[data-csv]", "it.dataset.csv"):
        file = tmp_path / f"{question}.csv"
        wait_until(file.exists, f"{file.name} is saved")
        assert file.read_text(encoding="utf-8") == tab.held("tables")[question]


def test_links_lead_somewhere_and_the_keyboard_reaches_and_opens_everything(show):
    tab = show()
    assert set(tab.each("a:not(.anchor)", "it.getAttribute('href')")) <= set(tab.each("[id]", "'#' + it.id"))
    tab.press("Tab")
    assert tab.ask("return document.activeElement === document.querySelector('a[href], summary')")
    for _ in tab.each("nav a", "it.href"):
        tab.press("Tab")
    assert tab.ask("return document.activeElement === document.querySelector('main :is(summary, a, [tabindex])')")
    for place in range(tab.count("details > summary")):
        summary = f"document.querySelectorAll('details > summary')[{place}]"
        tab.ask(f"{summary}.focus()")
        tab.press("Enter")
        assert tab.ask(f"return {summary}.parentElement.open"), place


def test_hostile_names_add_nothing_to_a_page(show):
    parts = "script, style, iframe, object, embed, link, base, form:not(.vega-bindings), h1"
    tab = show()
    expected = tab.count(parts)
    tab = show(HARMFUL)
    assert (tab.count(parts), tab.count("img:not([src^='data:'])")) == (expected, 0)
    assert tab.count("h2") == tab.count("section")
    for anchor in tab.anchors():  # names in addresses
        tab.ask("location.hash = arguments[0]", anchor)
        tab.wait("return document.querySelector('#cards .target')?.dataset.anchor === arguments[0]", anchor)
    for name in (ONE, TWO):  # in the selects and the search
        tab.choose("filter-layer", name)
        tab.search(name)
        assert tab.found() == 4


@pytest.mark.parametrize(
    ("plan", "where", "expected"),
    [
        (Plan(edits=0), "h1", "not tested against chance"),
        (Plan(layers=("only",)), "#layers .caption", "Labels above τ"),
        (Plan(concepts=("only",)), "header .say", "All of them carry one label, only."),
        (Plan(thumbnails=False, wrong=0, tested=True), ".named .picture", "Image 1"),
        (None, "header .say", "This warehouse holds no dissection yet."),
    ],
)
def test_a_page_with_a_part_missing_has_no_gap(show, plan, where, expected):
    tab = show(plan, width=PHONE)
    assert expected in " ".join(tab.each(where, "it.innerText"))
    notes = tab.each("p.note", "it.innerText.trim()")
    assert [text for text in notes if not re.fullmatch(r"([A-Z0-9].*[.])?", text, re.DOTALL)] == []
    assert not re.search(r"undefined|NaN|\[object", tab.each("body", "it.innerText")[0])
    assert tab.ask(NOT_DRAWN) == []
    assert tab.ask(WIDTH) <= PHONE


# ---------------------------------------------------------------- the gallery of neurons


def addresses(frame: pl.DataFrame) -> list[str]:
    rows = frame.select("network", "layer", "unit").rows()
    return ["/".join(quote(str(part), safe="!~*'()") for part in row) for row in rows]


def are(tab: Tab, expected: pl.DataFrame) -> bool:
    assert sorted(tab.anchors()) == sorted(addresses(expected))
    return tab.found() == len(expected)


def test_every_neuron_has_a_card_with_its_address_and_a_search_narrows_them(show):
    tab, concept = show(), "Wide Open Eyes"
    assert are(tab, tab.neurons)
    assert [link.rpartition("#")[2] for link in tab.each("#cards .card a.anchor", "it.href")] == tab.anchors()
    tab.search("LIN1 ")
    assert are(tab, tab.neurons.filter(layer="lin1"))
    tab.search(concept.lower())
    assert set(tab.anchors()) >= set(addresses(tab.neurons.filter(concept=concept)))
    assert 0 < tab.found() < 8
    assert are(tab, tab.neurons.filter((pl.col("concept") == concept) | (pl.col("runner_up") == concept)))


def test_a_search_takes_words_of_different_fields_and_whole_numbers(show):
    tab = show()
    [unit] = tab.neurons.filter(layer="lin1", unit=2).to_dicts()
    tab.search(f"{unit['concept']} LIN1 2")
    assert are(tab, tab.neurons.filter(layer="lin1", unit=2))
    tab.search("1")  # neither lin1 nor conv1
    assert are(tab, tab.neurons.filter(unit=1))
    tab.search("lin1 chance")  # how sure, in the words of the cards
    assert set(tab.each("#cards .card .badge", "it.innerText")) <= {"more than chance", "could be chance"}


def test_an_empty_result_says_what_to_leave_out(show):
    tab = show()
    tab.search("lin1 nonsense")
    assert are(tab, tab.neurons.clear())
    [said] = tab.each("#empty", "it.innerText")
    assert "No neuron of this page has “nonsense”." in said
    assert "Without “nonsense”: 4 neurons" in said
    tab.each("#empty button:first-of-type", "it.click()")
    assert are(tab, tab.neurons.filter(layer="lin1"))
    tab.choose("filter-layer", "conv1")
    [said] = tab.each("#empty", "it.innerText")
    assert "Without “lin1”: 4 neurons" in said
    assert "Without the layer: 4 neurons" in said
    tab.each("#empty button:last-of-type", "it.click()")
    assert are(tab, tab.neurons)
    assert tab.each("#empty", "it.hidden") == [True]


@pytest.mark.parametrize("where", ["#neurons", "#cards"])
def test_a_picture_is_shown_large_by_click_and_by_key(show, where):
    tab = show()
    [first, second] = tab.each(f"{where} .pictures:first-of-type img", "it.alt")[:2]
    tab.each(
        f"{where} .pictures img",
        "it.alt === arguments_first && it.click()".replace("arguments_first", json.dumps(first)),
    )
    assert tab.each("#large[open] p", "it.innerText") == [first]
    assert tab.each("#large img", "it.getBoundingClientRect().width > 400") == [True]
    tab.press("ArrowRight")
    assert tab.each("#large[open] img", "it.alt") == [second]
    tab.press("Escape")
    tab.wait("return !document.querySelector('#large').open")
    tab.ask(f"document.querySelector('{where} .pictures img').focus()")
    tab.press("Enter")
    assert tab.each("#large[open] p", "it.innerText") == [first]


SHOWN = """
    const style = (css) => getComputedStyle(document.querySelector(`${arguments[0]} .region ${css}`));
    const {fill, stroke, display} = style('.mark');
    return [display !== 'none' && fill !== 'none', display !== 'none' && stroke !== 'none',
      style('.zoom').transform !== 'none'];
"""


@pytest.mark.parametrize("where", ["#neurons", "#cards"])
def test_the_look_of_all_regions_is_chosen_by_key(show, where):
    tab = show(MAPPED, width=PHONE)
    tab.each("#neurons .picture > svg.region", "it.dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert tab.each("#large[open] p", "it.innerText")[0].startswith("face ")
    tab.press("Escape")
    tab.wait("return !document.querySelector('#large').open")
    looks = {}
    tab.ask("document.querySelector('.looks :checked').focus()")
    for _ in range(4):
        [look] = tab.each(".looks :checked", "it.value")
        looks[look] = tab.ask(SHOWN, where)  # a veil, a line, a crop
        tab.press("ArrowRight")
    veil, line, crop = ([place == look for place in range(3)] for look in range(3))
    assert looks == {"plain": [False] * 3, "crop": crop, "outline": line, "veil": veil}
    assert tab.ask(WIDTH) <= PHONE
    assert tab.each("#neurons image", "it.getBoundingClientRect().width > 20") == [True] * tab.count("#neurons image")


def test_without_maps_there_is_nothing_to_choose(show):
    assert show().count(".looks, .region") == 0


def test_numbers_are_folded_and_link_their_explanations(show):
    tab = show()
    assert tab.count("#cards .numbers") == 0
    tab.each("#cards .card:first-child summary", "it.click()")
    tab.wait("return document.querySelector('#cards .numbers')")
    assert {"score", "z", "q", "halves agree"} <= set(tab.each("#cards .numbers dt", "it.innerText"))
    assert tab.count("#cards .histogram") == 1
    links = tab.each("#cards .numbers a", "it.getAttribute('href')")
    assert links
    assert set(links) <= set(tab.each("#glossary dt", "'#' + it.id"))


def test_filters_narrow_the_cards(show):
    tab = show()
    for column in ("layer", "concept"):
        for name in tab.neurons[column].unique():
            tab.choose(f"filter-{column}", name)
            assert are(tab, tab.neurons.filter(pl.col(column) == name))
        tab.choose(f"filter-{column}", "")
    for belief in ("calibrated", "robust", "interpretable", "dead"):
        tab.choose("filter-belief", belief)
        assert are(tab, tab.neurons.filter(pl.col(belief))), belief
    tab.choose("filter-belief", "")
    found = [tab.choose("filter-class", name) or tab.found() for name in TESTED.classes]
    assert sum(found) == 8  # the best images of every neuron show one class most
    tab.choose("filter-layer", "lin1")  # filters add up
    assert 0 < tab.found() < found[-1] < 8


def test_sorting_orders_the_cards_by_what_it_says(show):
    tab, orders = show(), []
    rows = dict(zip(addresses(tab.neurons), tab.neurons.to_dicts(), strict=True))
    for column in ("z", "q", "similarity", "accuracy", "place"):
        tab.choose("sort", column)
        assert are(tab, tab.neurons)
        orders.append(tab.anchors())
        values = [rows[address].get(column) for address in orders[-1]]
        for high, low in pairwise(reversed(values) if column == "q" else values):
            assert column == "place" or high >= low - abs(low) / 50, (column, values)  # the page rounds its numbers
    assert len(set(map(tuple, orders))) >= 2


def test_many_neurons_are_shown_page_by_page(show):
    tab = show(Plan(tested=True, layers=tuple(f"conv{i}" for i in range(8))))
    first = tab.anchors()
    assert (tab.found(), len(first)) == (32, 24)
    assert tab.each("#previous, #next", "it.disabled") == [True, False]
    tab.each("#next", "it.click()")
    assert tab.each("#previous, #next", "it.disabled") == [False, True]
    assert sorted(first + tab.anchors()) == sorted(addresses(tab.neurons))
    tab.each("#previous", "it.click()")
    assert tab.anchors() == first


@pytest.mark.parametrize("width", [1200, PHONE])
def test_an_address_shows_its_neuron(show, width):
    seen = """
        const card = document.querySelector('#cards .card.target'), box = card?.getBoundingClientRect();
        return box && box.top >= 0 && box.top < innerHeight && card.dataset.anchor === arguments[0]
    """
    tab = show(anchor="#vggnet/lin1/0", width=width)
    tab.wait(seen, "vggnet/lin1/0")
    assert are(tab, tab.neurons.filter(layer="lin1", unit=0))
    tab.ask("scrollTo(0, 0); location.hash = 'vggnet/conv1/2'")
    tab.wait(seen, "vggnet/conv1/2")
    assert are(tab, tab.neurons.filter(layer="conv1", unit=2))
    tab.search("lin1")  # whoever searches wants to see all that is found
    assert are(tab, tab.neurons.filter(layer="lin1"))
    [last] = tab.each("#cards .card:last-child a.anchor", "it.click() ?? it.hash.slice(1)")
    tab.wait(seen, last)


def test_any_other_address_shows_all_neurons(show):
    tab = show(anchor="#%E0%A4%A")
    for anchor in ("layers", "vggnet/lin1/99", "vggnet/none/0", "//"):
        went = "new Promise((done) => { addEventListener('hashchange', done, {once: true}); location.hash = %s; })"
        tab.ask(f"await {went % json.dumps(anchor)}")
        assert are(tab, tab.neurons)
