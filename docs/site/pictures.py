"""The pictures of the documentation, in docs/images: of the demo's report, its explorer and a terminal, light and dark.

python docs/site/pictures.py                  # make pictures: runs the demo in a folder of its own, which takes minutes
python docs/site/pictures.py demo             # of a folder that the command demo has written

NAME.png is light, NAME-dark.png dark. A page shows NAME.png; the site shows the one that suits its reader's colours.
Needs Chromium, its driver and the extras serve and test.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
THEMES = {"light": "", "dark": "-dark"}  # a browser's name for it → ending of the file's name
SMALLEST, LARGEST = 5_000, 300_000  # bytes of a file
MARGIN = 12  # pixels around an element
SECONDS = 60  # to wait for a page
QUERY = "SELECT layer, unit, concept, z, q, interpretable FROM neuron_concepts ORDER BY z DESC LIMIT 10"
COMPLETE = """
return document.readyState === 'complete'
  && [...document.images].every((it) => it.complete)
  && [...document.querySelectorAll('.chart')].every((it) => it.innerText || it.querySelector('.role-mark'))
"""
# Every picture of the page is loaded, also those below what the window shows.
HURRY = "document.querySelectorAll('img[loading=lazy]').forEach((it) => { it.loading = 'eager'; });"
PLACE = """
const box = document.querySelector(arguments[0]).getBoundingClientRect();
return [box.left + scrollX, box.top + scrollY, box.width, box.height];
"""


@dataclass(frozen=True)
class Picture:
    """A part of a page. at: where it begins, as a CSS selector; without a height the element is the whole picture."""

    address: str  # of the report, of the explorer, or of the terminal
    at: str = "body"
    width: int = 1100  # of the window
    height: int | None = None


PICTURES = {
    "report": Picture("report:", height=800),
    "gallery": Picture("report:", "#gallery", height=680),
    "card": Picture("report:#demo%20vggnet/conv4b/49", "#gallery article", width=560),
    "layers": Picture("report:", "#layers figure", width=760),
    "explorer": Picture("explorer:/", height=720),
    "explorer-neurons": Picture("explorer:/neurons?sort=z", height=640),
    "explorer-neuron": Picture("explorer:/neuron?layer=conv4b&unit=49", height=760),
    "terminal": Picture("terminal:", "pre", width=940),
}


# ---------------------------------------------------------------- what is shown


@contextmanager
def explorer(warehouse: Path) -> Iterator[str]:
    """The explorer of a warehouse; yields the address that it prints."""
    command = [sys.executable, ROOT / "cli.py", "serve", "-w", warehouse]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().removeprefix("explorer: ").strip()
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=SECONDS)


def terminal(warehouse: Path, theme: str) -> str:
    """A page with what the command query prints on a terminal of 100 columns."""
    import rich.terminal_theme
    from rich.console import Console
    from rich.text import Text

    reading, writing = pty.openpty()
    words = [sys.executable, ROOT / "cli.py", "query", QUERY, "-w", warehouse]
    subprocess.run(words, stdout=writing, check=True, env=os.environ | {"COLUMNS": "100", "TERM": "xterm-256color"})
    os.close(writing)
    printed = b""
    try:
        while part := os.read(reading, 1 << 16):
            printed += part
    except OSError:  # Linux's word for the end of a terminal
        pass
    os.close(reading)
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(Text(f'$ dissectdb query "{QUERY}"\n'))
    console.print(Text.from_ansi(printed.decode().replace("\r", "")))
    dark = theme == "dark"
    colours = rich.terminal_theme.SVG_EXPORT_THEME if dark else rich.terminal_theme.DEFAULT_TERMINAL_THEME
    style = "margin: 0; padding: 1.2em; width: max-content; font: 15px/1.3 'DejaVu Sans Mono', monospace"
    body = '<body style="margin: 0; color: {foreground}; background: {background}">'
    page = f'<meta charset="utf-8">{body}<pre style="{style}">{{code}}</pre>'
    return console.export_html(theme=colours, inline_styles=True, code_format=page)


# ---------------------------------------------------------------- the browser


@contextmanager
def chromium() -> Iterator[Any]:
    """A driver of Chromium, which reaches this machine alone."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    names = ("chromium", "chromium-browser", "google-chrome")
    options.binary_location = next(filter(None, map(shutil.which, names)), "")
    quiet = ["--headless=new", "--hide-scrollbars", "--disable-dev-shm-usage"]
    for argument in quiet + ["--no-sandbox"] * (os.geteuid() == 0):  # for root Chromium does not start otherwise
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def shot(driver: Any, address: str, picture: Picture, theme: str) -> PIL.Image.Image:
    """What a picture shows of the page at an address."""
    from selenium.webdriver.support.ui import WebDriverWait

    def wait(script: str, *arguments: object) -> None:
        WebDriverWait(driver, SECONDS).until(lambda it: it.execute_script(script, *arguments))

    size = {"width": picture.width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    seen_as = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", seen_as)
    driver.get("about:blank")  # else a new anchor alone would not load the page anew
    driver.get(address)
    driver.execute_script(HURRY)
    wait(COMPLETE)
    wait("return document.querySelector(arguments[0])?.offsetHeight > 0", picture.at)
    left, top, width, height = driver.execute_script(PLACE, picture.at)
    if picture.height is not None:
        left, width, height = 0, picture.width, picture.height
    else:
        left, top, width, height = left - MARGIN, top - MARGIN, width + 2 * MARGIN, height + 2 * MARGIN
    clip = {"x": max(left, 0), "y": max(top, 0), "width": width, "height": height, "scale": 1}
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    return PIL.Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")


def take(demo: Path, folder: Path, themes: Mapping[str, str] = THEMES, say: Callable[[str], None] = print) -> None:
    """Write every picture into a folder. demo: a folder with warehouse.duckdb and report.html."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as pages, chromium() as driver, explorer(demo / "warehouse.duckdb") as address:
        driver.get(address)  # the token becomes a cookie
        for theme, ending in themes.items():
            page = Path(pages) / f"{theme}.html"
            page.write_text(terminal(demo / "warehouse.duckdb", theme), encoding="utf-8")
            places = {
                "report": (demo / "report.html").resolve().as_uri(),
                "explorer": address.partition("/?")[0],
                "terminal": page.as_uri(),
            }
            for name, picture in PICTURES.items():
                place, _, rest = picture.address.partition(":")
                image = shot(driver, places[place] + rest, picture, theme)
                path = folder / f"{name}{ending}.png"
                few = image.quantize(256, PIL.Image.Quantize.MAXCOVERAGE, dither=PIL.Image.Dither.NONE)
                few.save(path, optimize=True)
                size = path.stat().st_size
                say(f"{path.name}: {image.width} × {image.height}, {size:,} bytes")
                if not SMALLEST < size < LARGEST:
                    raise ValueError(f"{path} has {size:,} bytes: an error in place of the page, or too much of it")


def main() -> None:
    """Write the pictures of docs/images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, nargs="?")
    demo = parser.parse_args().demo
    with tempfile.TemporaryDirectory() as folder:
        if demo is None:
            subprocess.run([sys.executable, ROOT / "cli.py", "demo"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            demo = Path(folder) / "demo"
        take(demo, IMAGES)


if __name__ == "__main__":
    main()
