"""The pages below docs/, as they stand in a checkout: links, files, commands, and a place in the site."""

from __future__ import annotations

import pytest

from dissectdb import ROOT
from tests.commands.test_readme import blocks, broken_links, dissectdb_commands, missing_files, parse

PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md"))
}
FENCED = [page for page in PAGES if page.startswith(("docs/how-to/", "docs/tutorials/"))]  # test_readme has the others


@pytest.mark.parametrize("page", PAGES)
def test_links_and_file_names_exist(page: str) -> None:
    assert list(broken_links(page, PAGES[page])) == []
    assert list(missing_files(PAGES[page])) == []


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_in_the_site(page: str) -> None:
    assert f": {page.removeprefix('docs/')}\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", FENCED)
def test_every_command_is_one_that_exists(page: str) -> None:
    for block in blocks(PAGES[page]):
        for words in dissectdb_commands(block):
            parse(words)
