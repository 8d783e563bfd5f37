"""Fill the table of one materialised view: whole, in slices, or only for the dissections whose inputs changed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import duckdb

from dissectdb.warehouse.transactions import transaction
from dissectdb.warehouse.view_files import View, ViewError


@dataclass(frozen=True)
class Built:
    """One materialised view that was built, or that a dry run would build."""

    view: str
    rows: int
    seconds: float


def materialize(
    connection: duckdb.DuckDBPyConnection,
    view: View,
    fingerprint: str,
    parts: dict[int, str] | None,
    inputs: Collection[str],
    full_refresh: bool,
    slice_size: int,
    given: object = None,
) -> tuple[Built, str]:
    """Bring the table of a view and its record up to date; returns what was built and a hash of the content.

    fingerprint: of the view and its inputs, for the record. parts: dissection → fingerprint of the inputs of its rows;
    only the rows of dissections whose fingerprint changed are computed, or all rows if full_refresh. None: the view is
    not stored by dissection. inputs: the tables that the view reads and that have a dissection_id. slice_size: how many
    images or neurons to compute at a time. given: the rows, if they were computed elsewhere. Raises ViewError.
    """
    started = time.perf_counter()
    try:
        with transaction(connection):
            if given is not None:
                _take_given(connection, view, given, parts or {})
            elif parts is None:
                _fill(connection, view, slice_size)
            else:
                _refill(connection, view, parts, inputs, full_refresh, slice_size)
            comment(connection, view)
            [(rows, content)] = connection.execute(
                f"select count(*), coalesce(sum(hash(rows)::hugeint), 0)::varchar from {view.name} as rows"
            ).fetchall()
            seconds = time.perf_counter() - started
            connection.execute("delete from view_builds where view = ?", [view.name])
            connection.execute(
                "insert into view_builds values (?, ?, ?, ?, ?, now()::timestamp)",
                [view.name, fingerprint, content, rows, seconds],
            )
    except duckdb.Error as error:
        raise ViewError(f"view {view.name} could not be built: {error}") from error
    return Built(view.name, rows, seconds), content


def comment(connection: duckdb.DuckDBPyConnection, view: View) -> None:
    """Attach the title of a view to it, so that any DuckDB shell can show it."""
    kind = "table" if view.materialized else "view"
    connection.execute(f"comment on {kind} {view.name} is {_quote(view.title)}")


def _fill(connection: duckdb.DuckDBPyConnection, view: View, slice_size: int) -> None:
    """Compute the whole table of a view."""
    if view.slices:
        _make_empty(connection, view)
        _insert(connection, view, slice_size)
    else:
        connection.execute(f"create or replace table {view.name} as {view.sql}")


def _refill(
    connection: duckdb.DuckDBPyConnection,
    view: View,
    parts: dict[int, str],
    inputs: Collection[str],
    full_refresh: bool,
    slice_size: int,
) -> None:
    """Compute the rows of a view again for the dissections whose inputs changed."""
    query = "select dissection_id, fingerprint from view_parts where view = ?"
    stored = {} if full_refresh else dict(connection.execute(query, [view.name]).fetchall())
    if not stored:
        _make_empty(connection, view)
    stale = sorted(part for part, fingerprint in parts.items() if stored.get(part) != fingerprint)
    if outdated := sorted({*stale, *(stored.keys() - parts.keys())} & stored.keys()):
        connection.execute(f"delete from {view.name} where dissection_id in ({', '.join(map(str, outdated))})")
    # A view with slices is large: one dissection at a time. The others together, to read the activations once.
    for group in [[part] for part in stale] if view.slices else [stale] if stale else []:
        with _filtered(connection, inputs, f"dissection_id in ({', '.join(map(str, group))})"):
            _insert(connection, view, slice_size)
    _record_parts(connection, view, parts)


def _take_given(connection: duckdb.DuckDBPyConnection, view: View, given: object, parts: dict[int, str]) -> None:
    """Fill the table of a view with rows that were computed elsewhere."""
    _make_empty(connection, view)
    connection.register("given_rows", given)
    try:
        connection.execute(f"insert into {view.name} by name select * from given_rows")
    finally:
        with suppress(duckdb.Error):
            connection.unregister("given_rows")
    _record_parts(connection, view, parts)


def _record_parts(connection: duckdb.DuckDBPyConnection, view: View, parts: dict[int, str]) -> None:
    connection.execute("delete from view_parts where view = ?", [view.name])
    for part, fingerprint in parts.items():
        connection.execute("insert into view_parts values (?, ?, ?)", [view.name, part, fingerprint])


@contextmanager
def _filtered(connection: duckdb.DuckDBPyConnection, tables: Collection[str], condition: str) -> Iterator[None]:
    """Hide the rows of the tables that do not meet the condition from all queries inside the block.

    DuckDB does not push a filter around the whole query into steps that the query reads more than once.
    """
    [(file,)] = connection.execute("select current_database()").fetchall()  # the name of the file's database
    for table in tables:
        connection.execute(f"create temp view {table} as select * from {_name(file)}.main.{table} where {condition}")
    yield
    for table in tables:
        connection.execute(f"drop view temp.{table}")


def _make_empty(connection: duckdb.DuckDBPyConnection, view: View) -> None:
    # Not "as select … limit 0": DuckDB 2.0 shows such a table as empty until the file is opened again, even if rows are
    # inserted in the same transaction.
    columns = connection.execute(f"describe {view.sql}").fetchall()
    names_and_types = ", ".join(f'"{name}" {kind}' for name, kind, *_ in columns)
    connection.execute(f"create or replace table {view.name} ({names_and_types})")


def _insert(connection: duckdb.DuckDBPyConnection, view: View, slice_size: int) -> None:
    """Insert the rows of a view; if it has slices, slice_size images or neurons at a time."""
    query = f"insert into {view.name} select * from ({view.sql}\n)"
    if view.slices is None:
        connection.execute(query)
        return
    key = f"{view.slices}_id"
    bounds = f"select coalesce(min({key}), 0), coalesce(max({key}), -1) + 1 from {view.slices}s"
    [(first, end)] = connection.execute(bounds).fetchall()
    for start in range(first, end, slice_size):
        connection.execute(f"{query} where {key} >= ? and {key} < ?", [start, start + slice_size])


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
