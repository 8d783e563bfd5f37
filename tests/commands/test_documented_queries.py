"""Every query that README.md, CONTRIBUTING.md and the pages of docs/ show runs, as `dissectdb query` runs it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import dissectdb
from tests.commands.test_readme import PAGES, blocks, dissectdb_commands


def queries(text: str) -> Iterator[str]:
    """The queries of a page: blocks of SQL, fenced or indented, and the arguments of the command query."""
    yield from re.findall(r'`dissectdb query "(.+?)"', text)
    yield from re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    for block in blocks(text):
        if re.match(r"(?i)(select|with)\s", block):
            yield block
        for words in dissectdb_commands(block):
            if words[0] == "query":
                yield next(word for word in words if " " in word)


QUERIES = [(page, query) for page, text in PAGES.items() for query in queries(text)]


def test_queries_of_every_form_are_found() -> None:
    assert {page for page, _ in QUERIES} >= {"docs/warehouse.md", "docs/labels.md"}
    assert len(QUERIES) >= 7
    text = (
        '`dissectdb query "select 0"`\n\n'
        "    SELECT 1\n\n```sql\nselect 2\n```\n\n    dissectdb query -w w.duckdb 'select 3' --format csv\n"
    )
    assert [query.strip() for query in queries(text)] == ["select 0", "select 2", "SELECT 1", "select 3"]


@pytest.mark.parametrize(("page", "query"), QUERIES, ids=[f"{page} {query[:40]}" for page, query in QUERIES])
def test_a_query_in_a_page_runs(page: str, query: str, tiny_file: Path) -> None:
    assert dissectdb.open(tiny_file).sql(query).width > 0
