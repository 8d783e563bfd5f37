"""The warehouse file: open it, write rows, query rows.

with Warehouse("demo/warehouse.duckdb") as warehouse:
    warehouse.write({"datasets": [{"dataset_id": 1, "name": "faces", …}]})   # one transaction
    warehouse.load(units)          # many transactions, written by another thread while the next is computed
    warehouse.rows("select * from layer_summary")   # a polars frame

A unit is a mapping from table to rows (an Arrow table or reader, or a list of dicts), or an iterable of such
pairs; a unit is committed whole or not at all.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, TypeVar

import duckdb

from dissectdb.warehouse import contracts, guard, migrations, resources, units, view_files, views
from dissectdb.warehouse.errors import (
    OutOfMemory,
    WarehouseError,
    WarehouseUnavailable,
    is_out_of_memory,
    refuse_a_full_disk,
)
from dissectdb.warehouse.frames import (
    Stream,
    interruptible,
    plan,
    refuse_times_out_of_range,
    refuse_what_frames_cannot_hold,
    refusing_24_hours,
)
from dissectdb.warehouse.locking import LINGER, HeldFile, check_path
from dissectdb.warehouse.transactions import transaction
from dissectdb.warehouse.units import Unit
from dissectdb.warehouse.view_tables import Built

if TYPE_CHECKING:
    import polars as pl

SCHEMA_VERSION = 7
T = TypeVar("T")
Parameters = Mapping[str, object] | None


class Warehouse:
    """A DuckDB file with the tables of sql/tables.sql and the views of sql/views.

    read_only: change nothing. A writer keeps other writers out until it is closed, and readers only while it writes.
    If a with-block creates the file and fails before it has written a unit, the file is deleted.

    dissection: the one that the public views show, instead of the newest. memory_limit: what DuckDB may hold before it
    spills to disk, e.g. "2GB". threads: the most that it may use. Defaults: see resources.py. wait: seconds to wait
    for a file that another process holds. deterministic: the same statements give the same rows to the last bit; it
    uses one thread.

    If a statement runs out of memory, it runs again in smaller slices and with fewer threads. If that is not enough,
    it raises OutOfMemory.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        read_only: bool = False,
        dissection: int | None = None,
        memory_limit: str | None = None,
        threads: str | int | None = None,
        wait: float = 0.0,
        deterministic: bool = False,
    ) -> None:
        self.path = Path(path)
        check_path(self.path, read_only=read_only)
        self._read_only = read_only
        self._is_new = not read_only and not self.path.exists()
        self._dissection: int | None = None
        self._unbuilt: set[str] = set()  # of a reader: the views that would say that there is nothing
        self._file = HeldFile(
            self.path,
            write=not read_only,
            wait=wait,
            resources=resources.choose(memory_limit, threads, deterministic=deterministic),
            deterministic=deterministic,
            prepare=self._prepare,
        )
        try:
            if read_only:
                self._file.attempt(self._prepare_to_read, write=False)
            else:
                self._prepare_to_write()
            if dissection is not None:
                self._name_dissection(dissection)
        except BaseException as error:
            self._file.close()
            refuse_a_full_disk(error, self.path)
            raise

    def __enter__(self) -> Warehouse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._is_new and self._holds_nothing():
            self._file.remove()  # a run that failed at its start leaves no file behind
        self.close()

    def _holds_nothing(self) -> bool:
        """Whether no unit has ever been written; False if that cannot be found out."""
        with contextlib.suppress(duckdb.Error, WarehouseError), self.use(write=False) as connection:
            return not connection.execute("select 1 from table_versions limit 1").fetchall()
        return False

    def close(self) -> None:
        """Close the file and release its lock."""
        self._file.close()

    def use(self, write: bool = True) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """The connection, inside a with-block; for writing if this is a writer. Do not nest uses."""
        return self._file.use(write)

    def attempt(self, work: Callable[[duckdb.DuckDBPyConnection], T], write: bool = True) -> T:
        """What `work(connection)` returns. If memory runs out, it runs again with less."""
        return self._file.attempt(work, write)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The connection. The file then stays open, and closed to other processes, until close()."""
        return self._file.pin()

    def _prepare(self, connection: duckdb.DuckDBPyConnection, spill: Path | None) -> None:
        """Prepare a new connection before its first query: a stranger may have made the file, so lock readers down."""
        if self._dissection is not None:
            connection.execute(f"set variable dissection = {self._dissection}")
        if self._read_only:
            guard.lock_down(connection, spill=spill)

    def _prepare_to_read(self, connection: duckdb.DuckDBPyConnection) -> None:
        _checked_version(connection, self.path, read_only=True)
        _check_is_whole(connection, self.path)
        self._unbuilt = views.unbuilt(connection)

    def _prepare_to_write(self) -> None:
        with self.use() as connection:
            version = _checked_version(connection, self.path, read_only=False)
        if version < SCHEMA_VERSION:
            # Closed first: copying an open file would release the lock on it.
            self._file.rest(0.0)
            migrations.keep_copy(self.path, version)
        with self.use() as connection:
            if version < SCHEMA_VERSION:
                migrations.migrate(connection, version, SCHEMA_VERSION)
            _install(connection)

    def _name_dissection(self, dissection: int) -> None:
        with self.use(write=False) as connection:
            known = [row[0] for row in connection.execute("select dissection_id from dissections").fetchall()]
            if dissection not in known:
                raise WarehouseError(
                    f"{self.path} has no dissection {dissection}; it has {', '.join(map(str, known)) or 'none'}"
                )
            self._dissection = int(dissection)
            connection.execute(f"set variable dissection = {self._dissection}")

    def rows(self, query: str, parameters: Parameters = None) -> pl.DataFrame:
        """The rows of a trusted query as a polars frame. For a user's query, see ask().

        parameters: values for $name in the query. Raises WarehouseError if the file lacks a view that this version
        has, because another version built it, or if a reader asks a view that is not built.
        """
        self.refuse_unbuilt(self.unbuilt(query))
        try:
            return self._file.attempt(lambda connection: self._frame(connection, query, parameters), write=False)
        except (duckdb.CatalogException, duckdb.InterruptException):
            raise
        except duckdb.Error as error:
            if not self._read_only:
                raise
            what = f"{self.path} is damaged, or not as dissectdb makes it: {str(error).splitlines()[0]}"
            raise WarehouseError(f"{what}; run dissectdb build, or extract again") from error

    def _frame(self, connection: duckdb.DuckDBPyConnection, query: str, parameters: Parameters) -> pl.DataFrame:
        import polars  # here, because commands without a query should not wait for it

        try:
            return polars.DataFrame(Stream(connection.sql(query, params=dict(parameters or {}))))
        except duckdb.CatalogException as error:
            missing = re.search(r"name (\w+) does not exist", str(error))
            if not missing or missing[1] not in {view.name for view in view_files.load_views()}:
                raise
            way = f"dissectdb build --warehouse {self.path}"
            raise WarehouseError(f"{self.path} was built without the view {missing[1]}; run {way}") from error

    def ask(self, query: str, timeout: float | None = None, parameters: Parameters = None) -> pl.DataFrame:
        """The rows of a user's query as a polars frame. Raises guard.QueryRefused unless it only reads.

        timeout: seconds after which the query is stopped, with a QueryRefused too. parameters: values for $name. Only
        for a warehouse that was opened read_only, which is locked down.
        """
        columns = self.columns()
        statement = guard.check(query, columns, columns, tuple(parameters or ()))
        self.refuse_unbuilt(guard.known_to_read(statement) if self._unbuilt else ())

        def answer(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
            if statement.startswith("explain "):  # reading its columns would run it, without the timeout
                return interruptible(connection, timeout, lambda: plan(connection, statement, parameters))
            relation = connection.sql(statement, params=dict(parameters or {}))
            refuse_what_frames_cannot_hold(relation)
            asked = refusing_24_hours(statement, relation)
            return interruptible(connection, timeout, lambda: self._frame(connection, asked, parameters))

        try:
            rows = self._file.attempt(answer, write=False)
            refuse_times_out_of_range(rows)
            return rows
        except OutOfMemory as error:
            raise guard.QueryRefused(guard.explain_error(duckdb.OutOfMemoryException(), columns)) from error
        except duckdb.Error as error:
            raise guard.QueryRefused(guard.explain_error(error, columns, statement)) from error

    def unbuilt(self, query: str) -> list[str]:
        """The views that a trusted query reads and that are not built; for a reader."""
        return sorted(self._unbuilt & guard.known_to_read(query)) if self._unbuilt else []

    def refuse_unbuilt(self, names: Iterable[str]) -> None:
        """Raise WarehouseUnavailable if one of these views is not built: it would say that there is nothing."""
        if waiting := sorted(self._unbuilt & {*names}):
            raise WarehouseUnavailable(
                f"{waiting[0]} of {self.path} is not computed yet: a run was stopped or still goes on, or this version "
                f"computes it anew; run: dissectdb build --warehouse {self.path}"
            )

    def columns(self) -> dict[str, list[str]]:
        """The columns of every table and view, by name."""
        query = """
            select table_name, list(column_name order by column_index)
            from system.main.duckdb_columns() where not internal group by all
        """
        with self.use(write=False) as connection:
            return dict(connection.execute(query).fetchall())

    def checks(self) -> list[contracts.Contract]:
        """Every contract: see contracts.py."""
        return list(contracts.checks())

    def find(self, table: str, fingerprint: str) -> int | None:
        """The id of the row of `table` with this fingerprint, or None."""
        query = f"select min({table.removesuffix('s')}_id) from {table} where fingerprint = ?"
        with self.use(write=False) as connection:
            [(found,)] = connection.execute(query, [fingerprint]).fetchall()
        return found

    def next_id(self, table: str) -> int:
        """The highest id of `table`, plus 1; 1 if it has no row."""
        query = f"select coalesce(max({table.removesuffix('s')}_id), 0) + 1 from {table}"
        with self.use(write=False) as connection:
            [(free,)] = connection.execute(query).fetchall()
        return free

    def write(self, unit: Unit) -> None:
        """Write the rows of a unit to their tables in one transaction."""

        def write(connection: duckdb.DuckDBPyConnection) -> None:
            with connection.cursor() as own:
                units.write(own, self.path, unit)

        if units.can_be_read_again(unit):
            self._file.attempt(write)
            return
        try:
            with self.use() as connection:
                write(connection)
        except duckdb.OutOfMemoryException as error:
            raise OutOfMemory(self._file.too_little("to write a block")) from error

    def discard(
        self, conditions: Mapping[str, str], parameters: Mapping[str, object], instead: Unit = MappingProxyType({})
    ) -> None:
        """Delete the rows of each table that meet its condition, and write a unit instead, in one transaction.

        conditions: table → SQL, with $name for a parameter.
        """
        with self.use() as connection, transaction(connection):
            for table, condition in conditions.items():
                rows = f"from {table} where {condition}"
                if connection.execute(f"select 1 {rows} limit 1", dict(parameters)).fetchall():
                    connection.execute(f"delete {rows}", dict(parameters))
                    units.count_up(connection, table)
            for table, new_rows in units.pairs(instead):
                units.insert(connection, table, new_rows)
                units.count_up(connection, table)

    def preview(self, unit: Unit, query: str, parameters: Parameters = None) -> pl.DataFrame:
        """The rows of a query as if the unit had been written. Nothing is written, so it works read_only too."""
        with self.use(write=False) as connection:
            connection.begin()
            try:
                for table, rows in units.pairs(unit):
                    # A temporary table hides the table of the same name, also from views.
                    connection.execute(f"create temp table {table} as from main.{table}")
                    units.insert(connection, table, rows)
                return self._frame(connection, query, parameters)
            finally:
                connection.rollback()

    def load(self, units: Iterable[Unit]) -> float:
        """Write units in order, in another thread, while `units` computes the next one. An error stops both sides.

        At most one finished unit waits, so that memory stays bounded. Returns the share of the time, 0 to 1, in which
        the computing side waited for the writer.
        """
        started, waited = time.perf_counter(), 0.0
        waiting: queue.Queue[Unit | None] = queue.Queue(maxsize=1)
        failures: list[BaseException] = []
        writer = threading.Thread(target=self._write_all, args=(waiting, failures), daemon=True)
        writer.start()
        try:
            for unit in units:
                before = time.perf_counter()
                waiting.put(unit)
                waited += time.perf_counter() - before
                if failures:
                    break
        except BaseException:
            self._file.give_up()  # do not wait for readers to commit the last unit
            raise
        finally:
            before = time.perf_counter()
            waiting.put(None)
            writer.join()
            waited += time.perf_counter() - before
        if failures:
            raise failures[0]
        return waited / (time.perf_counter() - started)

    def _write_all(self, waiting: queue.Queue[Unit | None], failures: list[BaseException]) -> None:
        while True:
            try:
                unit = waiting.get(timeout=LINGER)
            except queue.Empty:
                self._file.rest()
                continue
            if unit is None:
                return
            if failures:
                continue  # keep emptying the queue, or the computing side would block for ever
            try:
                self.write(unit)
            except BaseException as error:
                failures.append(error)

    def build(
        self,
        *,
        select: Collection[str] = (),
        full_refresh: bool = False,
        dry_run: bool = False,
        given: Mapping[str, Callable[[], object]] = MappingProxyType({}),
    ) -> Iterator[Built]:
        """Rebuild the views that are stale; yields one Built per view. Arguments and errors: as of views.build."""
        try:
            yield from views.build(
                self.use,
                view_files.load_views(),
                slice_size=lambda: self._file.resources.slice_size,
                economize=self._file.economize,
                select=select,
                full_refresh=full_refresh,
                dry_run=dry_run,
                given=given,
            )
        except view_files.ViewError as error:
            refuse_a_full_disk(error, self.path)
            if is_out_of_memory(error):
                raise OutOfMemory(self._file.too_little(str(error).partition(" could")[0])) from error
            raise


def _checked_version(connection: duckdb.DuckDBPyConnection, path: Path, read_only: bool) -> int:
    """The schema version of the file. Raises WarehouseUnavailable unless it is current, or a writer can migrate it."""
    # With their full names, because the file may hold macros of these names.
    query = "select table_name from system.main.duckdb_tables() where schema_name = 'main'"
    tables = {row[0] for row in connection.execute(query).fetchall()}
    if not tables:
        return SCHEMA_VERSION
    if "warehouse_info" not in tables:
        raise WarehouseUnavailable(f"{path} is a DuckDB file, but not a warehouse of dissectdb; name another file")
    rows = connection.execute("select value from main.warehouse_info where key = 'schema_version'").fetchall()
    if rows and not re.fullmatch(r"\d{1,9}", str(rows[0][0])):
        raise WarehouseUnavailable(f"{path} has a schema version that is not a number; name another file")
    version = int(rows[0][0]) if rows else 0
    older = f"{path} was made by an older dissectdb (schema {version}, this one needs {SCHEMA_VERSION}); "
    if version < SCHEMA_VERSION and not migrations.is_known(version, SCHEMA_VERSION):
        raise WarehouseUnavailable(f"{older}extract into another file, or use the version that made it")
    if version < SCHEMA_VERSION and read_only:
        raise WarehouseUnavailable(
            f"{older}bring it up to date with: dissectdb build --warehouse {path} (a copy of the file is kept)"
        )
    if version > SCHEMA_VERSION:
        raise WarehouseUnavailable(
            f"{path} was made by a newer dissectdb (schema {version}, this one knows {SCHEMA_VERSION}); upgrade"
        )
    return version


def _check_is_whole(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raise WarehouseUnavailable if the run that created the file was stopped before it had made tables and views."""
    query = "select 1 from system.main.duckdb_tables() where schema_name = 'main' and table_name = 'warehouse_info'"
    known = "select 1 from main.warehouse_info where key = 'views'"
    if not connection.execute(query).fetchall() or not connection.execute(known).fetchall():
        raise WarehouseUnavailable(f"{path} was never completed; run: dissectdb extract STUDY")


def _install(connection: duckdb.DuckDBPyConnection) -> None:
    """Create missing tables and changed views; write the schema version into a new file."""
    migrations.install_tables(connection, SCHEMA_VERSION)
    views.install(connection, view_files.load_views())
