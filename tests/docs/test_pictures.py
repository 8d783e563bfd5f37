"""The pictures in docs/images: docs/site/pictures.py makes each, and a page shows it and says in words what it is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pictures
import PIL.Image
import pytest

from dissectdb import ROOT
from tests.support.worlds import command

IMAGE = re.compile(r"!\[([^\]]*)\]\((?:\.\./|docs/)*images/([\w-]+)\.png\)")
FILES = {path.name: path for path in (ROOT / "docs" / "images").iterdir()}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHOWN = [shown for page in PAGES for shown in IMAGE.findall(page.read_text(encoding="utf-8"))]
MADE = {f"{name}{ending}.png" for name in pictures.PICTURES for ending in pictures.THEMES.values()}


def test_each_is_made_by_the_script_light_and_dark() -> None:
    assert FILES.keys() == MADE
    for name in pictures.PICTURES:
        light, dark = (PIL.Image.open(FILES[f"{name}{ending}.png"]).convert("L") for ending in ("", "-dark"))
        assert light.size == dark.size
        assert light.resize((1, 1)).getpixel((0, 0)) > dark.resize((1, 1)).getpixel((0, 0)), name


def test_each_is_shown_by_a_page_with_words_for_those_who_do_not_see_it() -> None:
    assert {name for _, name in SHOWN} == pictures.PICTURES.keys()
    assert [name for words, name in SHOWN if len(words.split()) < 8] == []


def test_they_are_small() -> None:
    assert max(path.stat().st_size for path in FILES.values()) < pictures.LARGEST


@pytest.mark.slow
def test_the_script_makes_them_of_a_demo(demo_warehouse: Path, tmp_path: Path) -> None:
    """Of a smaller demo, so that pages have all parts and the script finds them."""
    pytest.importorskip("selenium", reason="needs the extra test")
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    if not shutil.which("chromedriver") or not shutil.which("chromium"):
        pytest.skip("needs Chromium and its driver")
    shutil.copy(demo_warehouse, tmp_path / "warehouse.duckdb")
    done = command("report", "-w", tmp_path / "warehouse.duckdb", "-o", tmp_path / "report.html")
    assert done.code == 0, done.err
    pictures.take(tmp_path, tmp_path / "images", {"dark": "-dark"}, say=lambda _: None)
    assert {path.name for path in (tmp_path / "images").iterdir()} == {name for name in MADE if "-dark" in name}
