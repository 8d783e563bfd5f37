"""The queries of docs/how-to/queries.md run against the demo's warehouse, as untrusted ones do, and have rows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dissectdb
from dissectdb import ROOT
from dissectdb.warehouse.view_files import load_views

PAGE = (ROOT / "docs" / "how-to" / "queries.md").read_text(encoding="utf-8")
PARTS = re.split(r"^### (.+)\n", PAGE, flags=re.MULTILINE)
QUERIES = {
    question: re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    for question, text in zip(PARTS[1::2], PARTS[2::2], strict=True)
}
pytestmark = pytest.mark.slow
MAY_BE_EMPTY = {"Which neurons have no label, and why?"}  # in the demo every neuron has one


@pytest.fixture(scope="module")
def opened(demo_warehouse: Path) -> dissectdb.OpenWarehouse:
    return dissectdb.open(demo_warehouse)


@pytest.mark.parametrize("question", QUERIES)
def test_the_query_runs_and_has_rows(question: str, opened: dissectdb.OpenWarehouse) -> None:
    [query] = QUERIES[question]
    rows = opened.sql(query)
    assert (len(rows) > 0) != (question in MAY_BE_EMPTY)
    assert len(rows) < 200, "bounded: the rows fit on a screen or two"
    empty = [name for name in rows.columns if len(rows) and rows[name].null_count() == len(rows)]
    assert set(empty) <= {"judged_ap"}, "a column without any value shows nothing"


def test_there_are_thirty_or_more_and_most_public_views_are_asked() -> None:
    assert len(QUERIES) >= 30
    public = {view.name for view in load_views() if view.public}
    asked = {name for [query] in QUERIES.values() for name in re.findall(r"\w+", query)} & public
    assert len(asked) >= 20


def test_the_command_in_the_page_runs_on_this_warehouse(demo_warehouse: Path) -> None:
    from tests.support.worlds import command

    [statement] = re.findall(r'dissectdb query --warehouse demo/warehouse.duckdb "(.+)"', PAGE)
    done = command("query", "--warehouse", demo_warehouse, statement)
    assert done.code == 0, done.err
    assert "lin2" in done.out
