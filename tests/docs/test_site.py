"""The site: MkDocs builds it strictly, every page is reached, and nothing of it is read from a network."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dissectdb import ROOT
from tests.support.pages import Page

pytest.importorskip("mkdocs", reason="needs the extra docs")
pytest.importorskip("ziamath", reason="needs the extra docs")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as make docs builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    settings = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_no_page_loads_anything_from_a_network(site: Path) -> None:
    loading = {"script": "src", "img": "src", "iframe": "src", "link": "href"}
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for path in pages:
        for tag, attributes in Page(text(path)).tags:
            address = attributes.get(loading.get(tag, ""), "") or ""
            assert not re.match(r"(https?:)?//", address), f"{path.name}: {tag} {address}"
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", text(path)), path.name


def test_formulas_are_mathml_and_none_is_left_in_tex(site: Path) -> None:
    html = text(site / "methods.html")
    assert html.count("<math") > 90
    assert "elumrof" not in html
    assert "\\frac" not in html
    assert "merror" not in html
    assert "<math" not in text(site / "commands.html"), "a $ of the shell is no formula"
    font = re.search(r'src: url\("(.*?)"\)', text(site / "site/assets/site.css"))
    assert font is not None
    assert (site / "site/assets" / font[1]).exists()


def test_search_works_from_the_disk(site: Path) -> None:
    assert "jackknife" in text(site / "search" / "search_index.js")
    assert "IFrameWorker" in text(site / "site/assets/iframe-worker.js")
    assert "site/assets/iframe-worker.js" in text(site / "index.html")


def test_a_picture_is_shown_in_the_colours_of_its_reader(site: Path) -> None:
    for page in ("index.html", "explorer.html"):
        shown = [attributes["src"] for tag, attributes in Page(text(site / page)).tags if tag == "img"]
        light = [address for address in shown if address.endswith("#only-light")]
        assert light, page
        for address in light:
            name = address.removesuffix(".png#only-light")
            assert f"{name}-dark.png#only-dark" in shown
            assert (site / f"{name}.png").exists()
            assert (site / f"{name}-dark.png").exists()


def test_files_that_pages_link_to_are_pages(site: Path) -> None:
    assert "softmax_scale" in text(site / "files/studies/fer2013.toml.html")
    assert 'href="files/studies/fer2013.toml.html"' in text(site / "study.html")
    assert 'href="measurements.html#truth"' in text(site / "labels.html")


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    """Strictness is what finds it, so that it must be on in mkdocs.yml."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A page\n\n[nowhere](none.md) [no section](#none)\n")
    settings = text(ROOT / "mkdocs.yml")
    validation = settings[settings.index("validation:") : settings.index("nav:\n  - Start")]
    (tmp_path / "mkdocs.yml").write_text(f"site_name: x\n{validation}")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "none.md" in done.stderr
    assert "#none" in done.stderr


def test_the_examples_in_the_docstrings_of_the_hooks_run() -> None:
    import hooks

    assert doctest.testmod(hooks).failed == 0
    assert doctest.testmod(hooks).attempted >= 2
