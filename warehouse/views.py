"""Install the views of sql/views, and rebuild the materialised ones that are stale.

install(connection, load_views())   # create the views; a materialised view is an empty table until it is built
build(warehouse.use, load_views())  # compute the materialised views whose inputs changed

stale_views.py holds what makes a view stale, view_tables.py how the table of one view is filled.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType

import duckdb

from dissectdb.did_you_mean import fold
from dissectdb.warehouse import guard, stale_views, view_tables
from dissectdb.warehouse.errors import is_out_of_memory
from dissectdb.warehouse.resources import LARGEST_SLICE, SMALLEST_SLICE
from dissectdb.warehouse.stale_views import digest
from dissectdb.warehouse.transactions import transaction
from dissectdb.warehouse.view_files import View, ViewError, engine_functions, load_views, with_inputs
from dissectdb.warehouse.view_tables import Built

log = logging.getLogger("dissectdb")

TO_DO = "unlabelled_layers"  # it says what is left to do, also while what it reads is not built
WORD = re.compile(r"\w+")
SMALLER = 4  # a slice is divided by this after memory ran out


def install(connection: duckdb.DuckDBPyConnection, views: list[View]) -> None:
    """Create every view, in one transaction. A materialised view that is new, changed or gone becomes an empty table.

    Comments are installed too, since a shell shows the text of a view; they leave tables as they are.
    """
    key = digest(engine_functions(), *(view.name + view.sql for view in views))
    stored = connection.execute("select value from warehouse_info where key = 'views'").fetchall()
    there = {
        name for (name,) in connection.execute("select view_name from duckdb_views() where not internal").fetchall()
    }
    there |= {name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()}
    if stored == [(key,)] and there.issuperset(view.name for view in views):
        return
    definitions = dict(connection.execute("select key, value from warehouse_info where key like 'view:%'").fetchall())
    with transaction(connection):
        connection.execute(engine_functions())
        _drop_views(connection, {view.name for view in views if view.materialized})
        for view in views:
            changed = definitions.get(f"view:{view.name}") != digest(view.definition)
            _make(connection, view, empty=changed or view.name not in there)
        connection.execute("delete from warehouse_info where key = 'views' or key like 'view:%'")
        connection.execute("insert into warehouse_info values ('views', ?)", [key])
        rows = [f"view:{view.name}" for view in views], [digest(view.definition) for view in views]
        connection.execute("insert into warehouse_info select unnest(?), unnest(?)", rows)


def _make(connection: duckdb.DuckDBPyConnection, view: View, empty: bool) -> None:
    """Create a view, or the table of a materialised one if it shall start empty. Raises ViewError."""
    try:
        if not view.materialized:
            connection.execute(f"create or replace view {view.name} as {view.sql}")
        elif empty:
            connection.execute(f"create or replace table {view.name} as select * from ({view.sql}\n) limit 0")
            connection.execute("delete from view_builds where view = ?", [view.name])
            connection.execute("delete from view_parts where view = ?", [view.name])
        view_tables.comment(connection, view)
    except duckdb.Error as error:
        raise ViewError(f"view {view.name} cannot be made: {error}") from error


def _drop_views(connection: duckdb.DuckDBPyConnection, keep_tables: Collection[str]) -> None:
    """Drop our views, and the tables of materialised views that no longer exist. A user's own views stay."""
    views = connection.execute("select view_name from duckdb_views() where not internal").fetchall()
    ours = connection.execute("select key[6:] from warehouse_info where key like 'view:%'").fetchall()
    tables = connection.execute("select table_name from duckdb_tables()").fetchall()
    for (name,) in {*ours} & {*views}:
        connection.execute(f'drop view "{name}"')
    for (name,) in {*ours} & {*tables}:
        if name not in keep_tables:
            connection.execute(f'drop table "{name}"')


def unbuilt(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """The views whose rows are not computed yet, and all that read them: they would answer as if there were no rows.

    The table of a view is empty from when the view is new or changed until it is built. It is not counted here while
    all that it would be computed from is empty too.
    """
    waiting = """
        select table_name from system.main.duckdb_tables()
        where schema_name = 'main' and 'view:' || table_name in (select key from main.warehouse_info)
            and table_name not in (select view from main.view_builds)
    """
    empty = {name for (name,) in connection.execute(waiting).fetchall()}
    if not empty:
        return set()
    filled = {name for (name,) in connection.execute("select table_name from main.table_versions").fetchall()}
    found: set[str] = set()
    for view in load_views():
        if not view.reads.isdisjoint(filled):
            filled.add(view.name)
        if not view.reads.isdisjoint(found) or (view.materialized and view.name in empty & filled):
            found.add(view.name)
    own = """
        select view_name, sql from system.main.duckdb_views()
        where not internal and 'view:' || view_name not in (select key from main.warehouse_info)
    """
    return _with_readers(found - {TO_DO}, {fold(name): _reads(sql) for name, sql in connection.execute(own).fetchall()})


def _reads(create_view: str) -> set[str]:
    """What a user's view reads, in lower case; every word of it if its SELECT cannot be told from its name."""
    return guard.known_to_read(create_view.partition(" AS ")[2]) or {fold(word) for word in WORD.findall(create_view)}


def _with_readers(found: set[str], reads: dict[str, set[str]]) -> set[str]:
    """The names, and those of all views that read one of them, directly or through other views."""
    while more := {name for name, read in reads.items() if name not in found and not found.isdisjoint(read)}:
        found = found | more
    return found


def build(
    use: Callable[[bool], AbstractContextManager[duckdb.DuckDBPyConnection]],
    views: list[View],
    *,
    select: Collection[str] = (),
    full_refresh: bool = False,
    dry_run: bool = False,
    given: Mapping[str, Callable[[], object]] = MappingProxyType({}),
    slice_size: Callable[[], int] = lambda: LARGEST_SLICE,
    economize: Callable[[], bool] = lambda: False,
) -> Iterator[Built]:
    """Recompute the stale materialised views, each in its own transaction; yields one Built per view.

    use: returns the connection as a context, for writing if True; between two views other processes can open the file.
    select: only these views and those that they read. full_refresh: also the views that are not stale. dry_run: compute
    nothing; yield each view that is stale, or could become so by new content of its inputs, with its present number of
    rows. given: view → a function that opens its rows, if another engine has computed them. slice_size: returns how
    many images or neurons to compute at a time. If a view runs out of memory, it is built again in smaller slices, then
    after economize() for as long as that returns True. Raises ViewError.
    """
    wanted = with_inputs(views, select) if select else {view.name for view in views}
    with use(False) as connection:
        versions = dict(connection.execute("select table_name, version::varchar from table_versions").fetchall())
        builds = connection.execute("select view, fingerprint, content, row_count from view_builds").fetchall()
    stored = {view: (fingerprint, content, rows) for view, fingerprint, content, rows in builds}
    by_name = {view.name: view for view in views}
    divided: set[str] = set()  # the tables with a dissection_id; asked for once, by the first view that is built
    for view in views:
        fingerprint = stale_views.fingerprint(view, versions)
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
                if not divided:
                    divided.update(stale_views.divided_tables(connection))
                inputs = stale_views.divided_inputs(view, by_name, divided) if view.by_dissection else []
                parts = stale_views.part_fingerprints(connection, view, inputs) if view.by_dissection else None
                rows = given[view.name]() if view.name in given else None
                return view_tables.materialize(connection, view, fingerprint, parts, inputs, full_refresh, size, rows)

        built, versions[view.name] = _within_memory(make, view, slice_size, economize)
        yield built


def _within_memory(
    make: Callable[[int], tuple[Built, str]],
    view: View,
    slice_size: Callable[[], int],
    economize: Callable[[], bool],
) -> tuple[Built, str]:
    """Return make(slice size). If memory runs out, try smaller slices first, then call economize() and try again."""
    size = min(slice_size(), LARGEST_SLICE)
    while True:
        try:
            return make(size)
        except (ViewError, duckdb.Error) as error:
            if not is_out_of_memory(error):
                raise
            if view.slices and size > SMALLEST_SLICE:
                size = max(size // SMALLER, SMALLEST_SLICE)
                log.debug("view %s ran out of memory; again in slices of %d", view.name, size)
            elif not economize():
                raise ViewError(f"view {view.name} could not be built: {error}") from error
