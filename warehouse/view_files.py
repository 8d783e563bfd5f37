"""The files of sql/views: load them in order, with what their headers declare.

for view in load_views():  # every view comes after the views that it reads
    print(view.name, view.grain, view.reads)
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from dissectdb.did_you_mean import choices
from dissectdb.warehouse import guard
from dissectdb.warehouse.schema import SQL

# Layout and comments, or one token. Texts of views are in the fingerprints of what is stored: other tokens, and every
# warehouse would compute its views again.
_TOKEN = re.compile(
    r"""
    (?P<skipped> \s+ | --[^\n]* | /\*.*?\*/ )
    | '(?:[^']|'')*' | "(?:[^"]|"")*"
    | \d+(?:\.\d+)?(?:e[+-]?\d+)? | \w+
    | :: | := | <= | >= | <> | != | \|\| | ->> | -> | => | .
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


class ViewError(ValueError):
    """A view file is malformed, or its query failed."""

    exit_code = 1


@dataclass(frozen=True)
class View:
    """One file of sql/views. sql: its whole text; title: the first sentence of its header; reads: tables and views."""

    name: str
    sql: str
    title: str
    grain: tuple[str, ...]
    materialized: bool
    by_dissection: bool
    slices: str | None  # image or neuron: the table is filled for a limited number of these at a time, to bound memory
    reads: frozenset[str]
    public: bool  # for users to query: its columns are an interface

    @property
    def definition(self) -> str:
        """Whatever decides the rows of the view's table. If it changes, the table is stale."""
        return f"{statement(self.sql)} {self.materialized} {self.by_dissection}"


def load_views(folder: Path | None = None) -> list[View]:
    """Return every view under the folder (default: sql/views), each after the views that it reads. Raises ViewError."""
    return list(_our_views() if folder is None else _load_views(folder))


@cache
def _our_views() -> list[View]:
    """Return the views of sql/views. Kept, because parsing is slow and a command opens its warehouse several times."""
    return _load_views(SQL / "views")


def _load_views(folder: Path) -> list[View]:
    views: dict[str, View] = {}
    for path in sorted(folder.rglob("*.sql")):
        if path.stem in views:
            raise ViewError(f"{path}: another file has the same name; the name is the view's")
        views[path.stem] = _read(path)
    # Sorted, so that the order is always the same.
    graph = {view.name: sorted(view.reads & views.keys()) for view in views.values()}
    try:
        return [views[name] for name in TopologicalSorter(graph).static_order()]
    except CycleError as error:
        raise ViewError(f"views read each other in a circle: {' → '.join(error.args[1])}") from error


def _read(path: Path) -> View:
    text = path.read_text(encoding="utf-8").strip()
    header = [line.removeprefix("--").strip() for line in text.split("\n\n", 1)[0].splitlines()]
    # The title is the first sentence: the lines before the grain.
    title = " ".join(header[: next((i for i, line in enumerate(header) if line.startswith("grain:")), 1)])
    grain = re.search(r"^-- grain: (.+)$", text, re.MULTILINE)
    if not text.startswith("-- ") or grain is None:
        raise ViewError(f"{path}: a view starts with a line that says what a row is, then '-- grain: columns'")
    try:
        reads = guard.tables_read(text)
    except guard.QueryRefused as error:
        raise ViewError(f"{path}: not one SELECT: {error}") from error
    by = r"(?: by (dissection)?(?: and )?(image|neuron)?)?"
    stored = re.search(rf"^-- materialized: table{by}$", text, re.MULTILINE)
    return View(
        name=path.stem,
        sql=text,
        title=title,
        grain=tuple(column.strip() for column in grain[1].split(",")),
        materialized=stored is not None,
        by_dissection=stored is not None and stored[1] is not None,
        slices=stored[2] if stored is not None else None,
        reads=frozenset(reads),
        public=re.search(r"^-- public$", text, re.MULTILINE) is not None,
    )


def with_inputs(views: list[View], select: Collection[str]) -> set[str]:
    """Return the names of these views and of all views that they read. Raises ViewError for an unknown name."""
    by_name = {view.name: view for view in views}
    if unknown := sorted(set(select) - by_name.keys()):
        raise ViewError(f"no view named {unknown[0]}; {choices(unknown[0], sorted(by_name))}")
    wanted: set[str] = set()
    queue = list(select)
    while queue:
        name = queue.pop()
        if name in by_name and name not in wanted:
            wanted.add(name)
            queue.extend(by_name[name].reads)
    return wanted


def engine_functions() -> str:
    """Return the statements that create the nd_ functions in DuckDB."""
    return (SQL / "engines" / "duckdb.sql").read_text(encoding="utf-8")


@cache  # a run asks for that of every view several times
def statement(text: str) -> str:
    """Return the SQL without comments and layout: its tokens as they are written, with one space between two."""
    return " ".join(token[0] for token in _TOKEN.finditer(text) if not token["skipped"])
