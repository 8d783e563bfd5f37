"""The warehouse file: open it, put rows in, ask for rows.

with Warehouse("demo/warehouse.duckdb") as warehouse:
    warehouse.write({"datasets": [{"dataset_id": 1, "name": "faces", …}]})   # one transaction
    warehouse.load(units)          # many, written by a thread of their own while the next is computed
    warehouse.rows("select * from layer_summary")   # a polars frame

A unit is a mapping from table to rows (an Arrow table or reader, or a list of dicts), or an iterable of such
pairs; a unit is committed whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb

from warehouse import guard, migrations, views

SCHEMA_VERSION = 2

Unit = Mapping[str, Any] | Iterable[tuple[str, Any]]


class WarehouseError(ValueError):
    """Something asked of the warehouse cannot be done; the warehouse is as it was."""

    exit_code = 1


class WarehouseUnavailable(WarehouseError):
    """The file is locked, unreadable, no warehouse, or made by a newer version."""

    exit_code = 3


class Warehouse:
    """A DuckDB file with the tables of sql/tables.sql and the views of sql/views.

    read_only: take no write lock, change nothing. dissection: what the public views show instead of the newest.
    memory_limit: what DuckDB may hold before it spills to disk, e.g. "2GB"; else $DISSECTDB_MEMORY, else 500 MB, which
    builds every view over 280 million activations.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        read_only: bool = False,
        dissection: int | None = None,
        memory_limit: str | None = None,
    ) -> None:
        self.path = Path(path)
        if read_only and not self.path.exists():
            raise WarehouseUnavailable(f"{path}: no such warehouse; make one with: dissectdb extract STUDY")
        memory = memory_limit or os.environ.get("DISSECTDB_MEMORY") or "500MB"
        self.connection = _connect(self.path, read_only, memory)
        try:
            version = _checked_version(self.connection, self.path, read_only)
            if version < SCHEMA_VERSION:
                self.connection.close()  # a copy of a file that is held would let go of its lock
                migrations.keep_copy(self.path, version)
                self.connection = _connect(self.path, read_only, memory)
                migrations.migrate(self.connection, version, SCHEMA_VERSION)
            if read_only:
                _check_is_whole(self.connection, self.path)
            else:
                _install(self.connection)
            if dissection is not None:
                self._name_dissection(dissection)
            if read_only:
                guard.lock_down(self.connection)  # the file may be somebody else's
        except BaseException as error:
            self.connection.close()
            _refuse_a_full_disk(error, self.path)
            raise

    def __enter__(self) -> Warehouse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def _name_dissection(self, dissection: int) -> None:
        known = [row[0] for row in self.connection.execute("select dissection_id from dissections").fetchall()]
        if dissection not in known:
            raise WarehouseError(
                f"{self.path} has no dissection {dissection}; it has {', '.join(map(str, known)) or 'none'}"
            )
        self.connection.execute(f"set variable dissection = {int(dissection)}")

    def rows(self, query: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The rows of a query of our own (not of a user's: see guard) as a polars frame.

        parameters: values for $name in the query. Raises WarehouseError where it names a view of ours that the file
        lacks, because another version built it.
        """
        import polars  # here, because commands that ask nothing should not wait for it

        try:
            return polars.DataFrame(_Stream(self.connection.sql(query, params=dict(parameters or {}))))
        except duckdb.CatalogException as error:
            missing = re.search(r"name (\w+) does not exist", str(error))
            if not missing or missing[1] not in {view.name for view in views.load_views()}:
                raise
            way = f"dissectdb build --warehouse {self.path}"
            raise WarehouseError(f"{self.path} was built without the view {missing[1]}; run {way}") from error

    def ask(self, query: str) -> Any:
        """The rows of a user's query as a polars frame; raises guard.QueryRefused for all but reading.

        Only for a warehouse opened read_only, which is locked down.
        """
        columns = self.columns()
        statement = guard.check(query, columns, columns)
        try:
            _refuse_what_frames_cannot_hold(self.connection.sql(statement))
            return self.rows(statement)
        except duckdb.Error as error:
            raise guard.QueryRefused(guard.explain_error(error, columns, statement)) from error

    def columns(self) -> dict[str, list[str]]:
        """The columns of every table and view, by name."""
        query = """
            select table_name, list(column_name order by column_index)
            from duckdb_columns() where not internal group by all
        """
        return dict(self.connection.execute(query).fetchall())

    def checks(self) -> list[views.Contract]:
        """Every contract of sql/checks."""
        return list(views.checks())

    def find(self, table: str, fingerprint: str) -> int | None:
        """The id of the row of `table` with this fingerprint, or None."""
        query = f"select min({table.removesuffix('s')}_id) from {table} where fingerprint = ?"
        [(found,)] = self.connection.execute(query, [fingerprint]).fetchall()
        return found

    def next_id(self, table: str) -> int:
        """The smallest id of `table` above all that are taken, from 1."""
        query = f"select coalesce(max({table.removesuffix('s')}_id), 0) + 1 from {table}"
        [(free,)] = self.connection.execute(query).fetchall()
        return free

    def write(self, unit: Unit) -> None:
        """Put the rows of a unit into their tables in one transaction."""
        _write(self.connection, self.path, unit)

    def preview(self, unit: Unit, query: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The rows of a query as if the unit had been written; nothing is, so it works read_only too."""
        self.connection.begin()
        try:
            for table, rows in _pairs(unit):
                # A temporary table of the same name stands before the other one, in views too.
                self.connection.execute(f"create temp table {table} as from main.{table}")
                _insert(self.connection, table, rows)
            return self.rows(query, parameters)
        finally:
            self.connection.rollback()

    def load(self, units: Iterable[Unit]) -> None:
        """Write units as they come, in order, while the next one is computed; an error stops both sides.

        At most one finished unit waits, so that memory stays bounded.
        """
        waiting: queue.Queue[Unit | None] = queue.Queue(maxsize=1)
        failures: list[BaseException] = []
        connection = self.connection.cursor()
        writer = threading.Thread(target=self._write_all, args=(connection, waiting, failures), daemon=True)
        writer.start()
        try:
            for unit in units:
                waiting.put(unit)
                if failures:
                    break
        finally:
            waiting.put(None)
            writer.join()
        if failures:
            raise failures[0]

    def _write_all(
        self,
        connection: duckdb.DuckDBPyConnection,
        waiting: queue.Queue[Unit | None],
        failures: list[BaseException],
    ) -> None:
        with connection:
            while (unit := waiting.get()) is not None:
                if failures:
                    continue  # keep emptying the queue, or the other side would wait for ever
                try:
                    _write(connection, self.path, unit)
                except BaseException as error:
                    failures.append(error)

    def build(self, **options: Any) -> Iterator[views.Built]:
        """Rebuild what is stale; options as in views.build."""
        try:
            yield from views.build(self.connection, views.load_views(), **options)
        except views.ViewError as error:
            _refuse_a_full_disk(error, self.path)
            raise


def _refuse_what_frames_cannot_hold(relation: duckdb.DuckDBPyRelation) -> None:
    """Polars has no two columns of one name, and no type for an interval."""
    for place, (name, kind) in enumerate(zip(relation.columns, relation.types, strict=True)):
        if name in relation.columns[:place]:
            raise guard.QueryRefused(f"two columns are called {name}; give one of them another name with AS")
        if "INTERVAL" in str(kind):
            raise guard.QueryRefused(f"column {name} holds intervals, which have no form here; cast it to VARCHAR")


class _Stream:
    """A result through the Arrow C interface, which unlike .pl() does without pyarrow: 0.2 s sooner.

    A class of ours around it, because polars remembers the types it met, and duckdb complains at exit about its
    own that are still remembered.
    """

    def __init__(self, relation: duckdb.DuckDBPyRelation) -> None:
        self.relation = relation

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.relation.__arrow_c_stream__(requested_schema)


def _connect(path: Path, read_only: bool, memory_limit: str) -> duckdb.DuckDBPyConnection:
    if not path.parent.is_dir():
        raise WarehouseUnavailable(f"{path}: there is no folder {path.parent}; make it first")
    existed = path.exists()
    try:
        return duckdb.connect(str(path), read_only=read_only, config={"memory_limit": memory_limit})
    except duckdb.Error as error:
        text = str(error)
        if not existed:
            path.unlink(missing_ok=True)  # half a header, which would be taken for somebody's file the next time
        _refuse_a_full_disk(error, path)
        if "Could not set lock" in text:  # not "lock" alone: the path is in the text too
            holder = re.search(r"PID (\d+)", text)
            who = f"process {holder[1]}" if holder else "another process"
            raise WarehouseUnavailable(
                f"{path} is held by {who}; wait until it is done, or end it (what it has committed stays)"
            ) from error
        raise WarehouseUnavailable(f"{path} cannot be opened as a warehouse: {text.splitlines()[0]}") from error


def _checked_version(connection: duckdb.DuckDBPyConnection, path: Path, read_only: bool) -> int:
    """The schema of the file: this one's, or an older one that can be migrated, which is for writers to do."""
    tables = {row[0] for row in connection.execute("select table_name from duckdb_tables()").fetchall()}
    if not tables:
        return SCHEMA_VERSION
    if "warehouse_info" not in tables:
        raise WarehouseUnavailable(f"{path} is a DuckDB file, but no warehouse of dissectdb; name another file")
    rows = connection.execute("select value from warehouse_info where key = 'schema_version'").fetchall()
    version = int(rows[0][0]) if rows else 0
    older = f"{path} was made by an older dissectdb (schema {version}, this one needs {SCHEMA_VERSION}); "
    if version < SCHEMA_VERSION and not migrations.is_known(version, SCHEMA_VERSION):
        raise WarehouseUnavailable(f"{older}extract into another file, or ask it with the version that made it")
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
    """Whoever made the file may have been stopped before its tables and views were in it."""
    tables = connection.execute("select 1 from duckdb_tables() where table_name = 'warehouse_info'").fetchall()
    if not tables or not connection.execute("select 1 from warehouse_info where key = 'views'").fetchall():
        raise WarehouseUnavailable(f"{path} was never finished; run: dissectdb extract STUDY")


def _install(connection: duckdb.DuckDBPyConnection) -> None:
    """Tables and views where they are missing or changed; the warehouse's own version."""
    with views.transaction(connection):
        connection.execute((views.SQL / "tables.sql").read_text(encoding="utf-8"))
        known = connection.execute("select 1 from warehouse_info where key = 'schema_version'").fetchall()
        if not known:
            values = ["schema_version", str(SCHEMA_VERSION)]
            connection.execute("insert into warehouse_info values (?, ?)", values)
    views.install(connection, views.load_views())


def _write(connection: duckdb.DuckDBPyConnection, path: Path, unit: Unit) -> None:
    written: set[str] = set()
    try:
        with views.transaction(connection):
            for table, rows in _pairs(unit):
                _insert(connection, table, rows)
                written.add(table)
            for table in sorted(written):
                _count_up(connection, table)
    except duckdb.Error as error:
        _refuse_a_full_disk(error, path)
        raise


def _refuse_a_full_disk(error: BaseException, path: Path) -> None:
    """What DuckDB and the views say of a disk that is full, of a quota or of a largest file, in one line."""
    if re.search("No space left|Disk quota exceeded|File too large", str(error)):
        raise WarehouseError(
            f"no space left for {path}: free some and run the same command again; what was committed is kept"
        ) from error


def _count_up(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    known = "select 1 from table_versions where table_name = ?"
    if connection.execute(known, [table]).fetchall():
        connection.execute("update table_versions set version = version + 1 where table_name = ?", [table])
    else:
        connection.execute("insert into table_versions values (?, 1)", [table])


def _pairs(unit: Unit) -> Iterable[tuple[str, Any]]:
    return unit.items() if isinstance(unit, Mapping) else unit


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: Any) -> None:
    if isinstance(rows, list):
        for row in rows:
            columns, marks = ", ".join(row), ", ".join("?" * len(row))
            connection.execute(f"insert into {table} ({columns}) values ({marks})", list(row.values()))
        return
    connection.register("incoming_rows", rows)
    try:
        connection.execute(f"insert into {table} by name select * from incoming_rows")
    finally:
        # After a failed insert nothing more runs before the rollback: that error must not hide the first one.
        with contextlib.suppress(duckdb.Error):
            connection.unregister("incoming_rows")
