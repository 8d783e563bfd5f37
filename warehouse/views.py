"""The views in sql/views: load them in order, install them, rebuild those that are stale.

for view in load_views():            # every view after all that it reads
    print(view.name, view.grain, view.reads)
install(connection, load_views())    # views as views; materialised ones as empty tables until they are built
build(warehouse.use, load_views())   # recompute the materialised ones whose inputs changed

A materialised view is stale if one of these has changed: its text, the engine functions, a table that it reads, or the
*content* of a materialised view that it reads. So if a new dissection leaves the top images as they are, what is built
on them is not stale. A view that is stored by dissection is computed for the new dissection only.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import MappingProxyType

import duckdb

from dissectdb.did_you_mean import choices
from dissectdb.warehouse.errors import is_out_of_memory
from dissectdb.warehouse.schema import SQL

log = logging.getLogger("dissectdb")

AT_ONCE = 4096  # most images or neurons of a slice
LEAST_AT_ONCE = 64  # with smaller slices the activations would be read too often
SMALLER = 4  # a slice is divided by this after memory ran out


class ViewError(ValueError):
    """A view file is malformed, or its query failed."""

    exit_code = 1


@dataclass(frozen=True)
class View:
    """One file of sql/views. title: the first sentence of its header; reads: names of tables and views."""

    name: str
    sql: str
    title: str
    grain: tuple[str, ...]
    materialized: bool
    by_dissection: bool
    slices: str | None  # image or neuron: computed so many at a time, so that memory does not grow with their number
    reads: frozenset[str]
    public: bool  # for users to query: its columns are an interface


@dataclass(frozen=True)
class Built:
    """The result of building one materialised view, or what a dry run would build."""

    view: str
    rows: int
    seconds: float


def load_views(folder: Path | None = None) -> list[View]:
    """Every view under the folder (default: sql/views), each after the views that it reads. Raises ViewError."""
    return list(_our_views() if folder is None else _load_views(folder))


@cache
def _our_views() -> list[View]:
    """The views of sql/views, parsed once: a command opens its warehouse several times, and parsing takes longest."""
    return _load_views(SQL / "views")


def _load_views(folder: Path) -> list[View]:
    views: dict[str, View] = {}
    for path in sorted(folder.rglob("*.sql")):
        if path.stem in views:
            raise ViewError(f"{path}: another file has the same name; the name is the view's")
        views[path.stem] = _read(path)
    graph = {
        view.name: sorted(view.reads & views.keys()) for view in views.values()
    }  # sorted, so that the order is always the same
    try:
        return [views[name] for name in TopologicalSorter(graph).static_order()]
    except CycleError as error:
        raise ViewError(f"views read each other in a circle: {' → '.join(error.args[1])}") from error


def _read(path: Path) -> View:
    import sqlglot
    from sqlglot import exp

    text = path.read_text(encoding="utf-8")
    header = [line.removeprefix("--").strip() for line in text.split("\n\n", 1)[0].splitlines()]
    # The title is the first sentence: the lines before the grain.
    title = " ".join(header[: next((i for i, line in enumerate(header) if line.startswith("grain:")), 1)])
    grain = re.search(r"^-- grain: (.+)$", text, re.MULTILINE)
    if not text.startswith("-- ") or grain is None:
        raise ViewError(f"{path}: a view starts with a line that says what a row is, then '-- grain: columns'")
    try:
        [tree] = sqlglot.parse(text, dialect="duckdb")
    except (sqlglot.errors.SqlglotError, ValueError) as error:
        raise ViewError(f"{path}: not one SELECT: {str(error).splitlines()[0]}") from error
    if not isinstance(tree, exp.Query):
        raise ViewError(f"{path}: not one SELECT")
    steps = {step.alias for step in tree.find_all(exp.CTE)}
    by = r"(?: by (dissection)?(?: and )?(image|neuron)?)?"
    kept = re.search(rf"^-- materialized: table{by}$", text, re.MULTILINE)
    return View(
        name=path.stem,
        sql=text.strip(),
        title=title,
        grain=tuple(column.strip() for column in grain[1].split(",")),
        materialized=kept is not None,
        by_dissection=kept is not None and kept[1] is not None,
        slices=kept[2] if kept is not None else None,
        reads=frozenset(table.name for table in tree.find_all(exp.Table)) - steps,
        public=re.search(r"^-- public$", text, re.MULTILINE) is not None,
    )


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All changes of the block or none. If the rollback fails too, the first error is raised."""
    connection.begin()
    try:
        yield
        connection.commit()
    except BaseException:
        with suppress(duckdb.Error):  # a failed commit has rolled back already, and that must not hide its error
            connection.rollback()
        raise


def install(connection: duckdb.DuckDBPyConnection, views: list[View]) -> None:
    """Create every view, in one transaction. A materialised view whose text changed becomes an empty table."""
    key = _digest(_engine_functions(), *(view.name + view.sql for view in views))
    stored = connection.execute("select value from warehouse_info where key = 'views'").fetchall()
    if stored == [(key,)]:
        return
    texts = dict(connection.execute("select key, value from warehouse_info where key like 'view:%'").fetchall())
    with transaction(connection):
        connection.execute(_engine_functions())
        _drop_views(connection, {view.name for view in views if view.materialized})
        for view in views:
            if not view.materialized or texts.get(f"view:{view.name}") != _digest(view.sql):
                _make(connection, view)
        connection.execute("delete from warehouse_info where key = 'views' or key like 'view:%'")
        connection.execute("insert into warehouse_info values ('views', ?)", [key])
        for view in views:
            digest = [f"view:{view.name}", _digest(view.sql)]
            connection.execute("insert into warehouse_info values (?, ?)", digest)


def _make(connection: duckdb.DuckDBPyConnection, view: View) -> None:
    try:
        if not view.materialized:
            connection.execute(f"create or replace view {view.name} as {view.sql}")
            connection.execute(f"comment on view {view.name} is {_quote(view.title)}")
            return
        connection.execute(f"create or replace table {view.name} as select * from ({view.sql}\n) limit 0")
        connection.execute(f"comment on table {view.name} is {_quote(view.title)}")
        connection.execute("delete from view_builds where view = ?", [view.name])
        connection.execute("delete from view_parts where view = ?", [view.name])
    except duckdb.Error as error:
        raise ViewError(f"view {view.name} cannot be made: {error}") from error


def _drop_views(connection: duckdb.DuckDBPyConnection, keep_tables: Collection[str]) -> None:
    """Drop our views, and the tables of materialised views that no longer exist. A user's own views stay."""
    views = connection.execute("select view_name from duckdb_views() where not internal").fetchall()
    known = connection.execute("select key[6:] from warehouse_info where key like 'view:%'").fetchall()
    tables = connection.execute("select table_name from duckdb_tables()").fetchall()
    for (name,) in {*known} & {*views}:
        connection.execute(f'drop view "{name}"')
    for (name,) in {*known} & {*tables}:
        if name not in keep_tables:
            connection.execute(f'drop table "{name}"')


def build(
    use: Callable[[bool], AbstractContextManager[duckdb.DuckDBPyConnection]],
    views: list[View],
    *,
    select: Collection[str] = (),
    full_refresh: bool = False,
    dry_run: bool = False,
    given: Mapping[str, Callable[[], object]] = MappingProxyType({}),
    slice_size: Callable[[], int] = lambda: AT_ONCE,
    economize: Callable[[], bool] = lambda: False,
) -> Iterator[Built]:
    """Recompute the stale materialised views, each in its own transaction; yields one Built per view.

    use: returns the connection as a context, for writing if True; between two views other processes can open the file.
    select: only these views and what they read. full_refresh: also the views that are not stale. dry_run: compute
    nothing, and yield what is stale, or could become so by new content of its inputs, with its present rows. given:
    view → a function that opens its rows, if another engine has computed them. slice_size: returns how many images or
    neurons to compute at a time. If a view runs out of memory, it is built again in smaller slices, then after
    economize() for as long as that returns True. Raises ViewError.
    """
    wanted = with_inputs(views, select) if select else {view.name for view in views}
    with use(False) as connection:
        versions = dict(connection.execute("select table_name, version::varchar from table_versions").fetchall())
        builds = connection.execute("select view, fingerprint, content, row_count from view_builds").fetchall()
    stored = {view: (fingerprint, content, rows) for view, fingerprint, content, rows in builds}
    functions = _engine_functions()
    by_name = {view.name: view for view in views}
    for view in views:
        inputs = [f"{name}={versions.get(name, '0')}" for name in sorted(view.reads)]
        fingerprint = _digest(view.sql, functions, *inputs)
        if not view.materialized:
            versions[view.name] = fingerprint
            continue
        old_fingerprint, content, rows = stored.get(view.name, (None, "", 0))
        versions[view.name] = content
        if view.name not in wanted or (fingerprint == old_fingerprint and not full_refresh):
            continue
        if dry_run:
            versions[view.name] = "to be built"
            yield Built(view.name, rows, 0.0)
            continue

        def make(size: int, view: View = view, fingerprint: str = fingerprint) -> tuple[Built, str]:
            with use(True) as connection:
                inputs = _divided_inputs(connection, view, by_name) if view.by_dissection else []
                parts = _parts(connection, view, inputs) if view.by_dissection else None
                rows = given[view.name]() if view.name in given else None
                return _materialize(connection, view, fingerprint, parts, inputs, full_refresh, size, rows)

        built, versions[view.name] = _within_memory(make, view, slice_size, economize)
        yield built


def _within_memory(
    make: Callable[[int], tuple[Built, str]],
    view: View,
    slice_size: Callable[[], int],
    economize: Callable[[], bool],
) -> tuple[Built, str]:
    """What make(slice size) returns. If memory runs out, it is called again: smaller slices first, then economize()."""
    size = min(slice_size(), AT_ONCE)
    while True:
        try:
            return make(size)
        except (ViewError, duckdb.Error) as error:
            if not is_out_of_memory(error):
                raise
            if view.slices and size > LEAST_AT_ONCE:
                size = max(size // SMALLER, LEAST_AT_ONCE)
                log.debug("view %s ran out of memory; again in slices of %d", view.name, size)
            elif not economize():
                raise ViewError(f"view {view.name} could not be built: {error}") from error


def with_inputs(views: list[View], select: Collection[str]) -> set[str]:
    """The names of these views and of all views that they read. Raises ViewError for an unknown name."""
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


def _materialize(
    connection: duckdb.DuckDBPyConnection,
    view: View,
    fingerprint: str,
    parts: dict[int, str] | None,
    inputs: Collection[str],
    anew: bool,
    size: int,
    given: object = None,
) -> tuple[Built, str]:
    """Bring the table of a view and its record up to date; returns what was built and a hash of the content.

    parts: dissection → fingerprint of the inputs of its rows; only parts that changed are computed, or all if `anew`.
    None: the view is not divided. inputs: the tables that are divided by dissection too. size: of a slice. given: the
    rows, if they were computed elsewhere.
    """
    started = time.perf_counter()
    try:
        with transaction(connection):
            if given is not None:
                _take(connection, view, given, parts or {})
            elif parts is None:
                _fill(connection, view, size)
            else:
                _refill(connection, view, parts, inputs, anew, size)
            connection.execute(f"comment on table {view.name} is {_quote(view.title)}")
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


def _fill(connection: duckdb.DuckDBPyConnection, view: View, size: int) -> None:
    """Compute the whole table of a view."""
    if view.slices:
        _make_empty(connection, view)
        _insert(connection, view, size)
    else:
        connection.execute(f"create or replace table {view.name} as {view.sql}")


def _refill(
    connection: duckdb.DuckDBPyConnection,
    view: View,
    parts: dict[int, str],
    inputs: Collection[str],
    anew: bool,
    size: int,
) -> None:
    """Compute the rows of a view again for the dissections whose parts changed."""
    query = "select dissection_id, fingerprint from view_parts where view = ?"
    known = {} if anew else dict(connection.execute(query, [view.name]).fetchall())
    if not known:
        _make_empty(connection, view)
    stale = sorted(part for part, fingerprint in parts.items() if known.get(part) != fingerprint)
    if gone := sorted({*stale, *(known.keys() - parts.keys())} & known.keys()):
        connection.execute(f"delete from {view.name} where dissection_id in ({', '.join(map(str, gone))})")
    # One at a time if memory is scarce; else together, so that the activations are read once.
    for group in [[part] for part in stale] if view.slices else [stale] if stale else []:
        with _only(connection, inputs, f"dissection_id in ({', '.join(map(str, group))})"):
            _insert(connection, view, size)
    _note_parts(connection, view, parts)


def _take(connection: duckdb.DuckDBPyConnection, view: View, given: object, parts: dict[int, str]) -> None:
    """Fill the table of a view with rows that were computed elsewhere."""
    _make_empty(connection, view)
    connection.register("given_rows", given)
    try:
        connection.execute(f"insert into {view.name} by name select * from given_rows")
    finally:
        with suppress(duckdb.Error):
            connection.unregister("given_rows")
    _note_parts(connection, view, parts)


def _note_parts(connection: duckdb.DuckDBPyConnection, view: View, parts: dict[int, str]) -> None:
    connection.execute("delete from view_parts where view = ?", [view.name])
    for part, fingerprint in parts.items():
        connection.execute("insert into view_parts values (?, ?, ?)", [view.name, part, fingerprint])


@contextmanager
def _only(connection: duckdb.DuckDBPyConnection, tables: Collection[str], condition: str) -> Iterator[None]:
    """Inside the block, queries see only the rows of the tables that meet the condition.

    A filter around the whole query would not be pushed into steps that it reads more than once.
    """
    [(file,)] = connection.execute("select current_database()").fetchall()  # the name of the file's database
    for table in tables:
        connection.execute(f"create temp view {table} as select * from {_name(file)}.main.{table} where {condition}")
    yield
    for table in tables:
        connection.execute(f"drop view temp.{table}")


def _make_empty(connection: duckdb.DuckDBPyConnection, view: View) -> None:
    # Not "as select … limit 0": DuckDB 2.0 believes such a table to be empty until the file is opened again, even if
    # rows are inserted in the same transaction.
    columns = connection.execute(f"describe {view.sql}").fetchall()
    names_and_types = ", ".join(f'"{name}" {kind}' for name, kind, *_ in columns)
    connection.execute(f"create or replace table {view.name} ({names_and_types})")


def _insert(connection: duckdb.DuckDBPyConnection, view: View, size: int) -> None:
    """Insert the rows of a view; if it has slices, `size` images or neurons at a time."""
    query = f"insert into {view.name} select * from ({view.sql}\n)"
    if view.slices is None:
        connection.execute(query)
        return
    key = f"{view.slices}_id"
    bounds = f"select coalesce(min({key}), 0), coalesce(max({key}), -1) + 1 from {view.slices}s"
    [(first, end)] = connection.execute(bounds).fetchall()
    for start in range(first, end, size):
        connection.execute(f"{query} where {key} >= ? and {key} < ?", [start, start + size])


def _divided_inputs(connection: duckdb.DuckDBPyConnection, view: View, by_name: dict[str, View]) -> list[str]:
    """The tables with a dissection_id that a view reads, directly or through views that are not materialised."""
    has_part = "select distinct table_name from duckdb_columns() where column_name = 'dissection_id'"
    divided = {name for (name,) in connection.execute(has_part).fetchall()}
    tables, queue = set(), list(view.reads)
    while queue:
        name = queue.pop()
        if name in by_name and not by_name[name].materialized:
            queue.extend(by_name[name].reads)
        elif name in divided:
            tables.add(name)
    return sorted(tables)


def _parts(connection: duckdb.DuckDBPyConnection, view: View, inputs: Collection[str]) -> dict[int, str]:
    """Dissection → fingerprint of the view's text and of the dissection's rows in the inputs.

    Tables without a dissection_id are not included. Rows are only ever added to them, and an added row belongs to an
    older dissection only if a table with a dissection_id, such as dissected_neurons, changes too.
    """
    ids = [part for (part,) in connection.execute("select dissection_id from dissections").fetchall()]
    contents: dict[int, list[str]] = {part: [view.sql, _engine_functions()] for part in ids}
    for table in inputs:
        query = f"select dissection_id, sum(hash(rows)::hugeint)::varchar from {table} as rows group by dissection_id"
        of_part = dict(connection.execute(query).fetchall())
        for part in ids:
            contents[part].append(f"{table}={of_part.get(part)}")
    return {part: _digest(*texts) for part, texts in contents.items()}


def _engine_functions() -> str:
    return (SQL / "engines" / "duckdb.sql").read_text(encoding="utf-8")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
