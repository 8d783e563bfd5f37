"""Migrate a warehouse of an older schema: keep a copy, then change the file in one transaction. Make missing tables.

keep_copy(path, 1)          # warehouse.duckdb.schema1, beside it; the file must be closed
migrate(connection, 1, 2)   # runs sql/migrations/2.sql
install_tables(connection, 2)   # runs sql/tables.sql, if it has changed
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb

from dissectdb.warehouse.schema import SQL, tables
from dissectdb.warehouse.stale_views import digest
from dissectdb.warehouse.transactions import transaction

FOLDER = SQL / "migrations"


def is_known(version: int, wanted: int) -> bool:
    """Whether there are migrations from schema `version` to `wanted`."""
    return version > 0 and all((FOLDER / f"{step}.sql").exists() for step in range(version + 1, wanted + 1))


def keep_copy(path: Path, version: int) -> Path:
    """Copy a closed warehouse and its log before the migration; no half copy is left if this fails."""
    kept = path.with_name(f"{path.name}.schema{version}")
    for suffix in (".wal", ""):  # the file last: if it exists, the copy is complete
        source = path.with_name(path.name + suffix)
        if source.exists():
            half = kept.with_name(f"{kept.name}{suffix}.part")
            try:
                shutil.copy2(source, half)
                os.replace(half, kept.with_name(kept.name + suffix))
            finally:
                half.unlink(missing_ok=True)
    return kept


def migrate(connection: duckdb.DuckDBPyConnection, version: int, wanted: int) -> None:
    """Run all migrations between two schemas in one transaction."""
    with transaction(connection):
        for step in range(version + 1, wanted + 1):
            connection.execute((FOLDER / f"{step}.sql").read_text(encoding="utf-8"))
        connection.execute("update warehouse_info set value = $1 where key = 'schema_version'", [str(wanted)])
        connection.execute("delete from warehouse_info where key = 'tables'")  # it makes what else is missing


def install_tables(connection: duckdb.DuckDBPyConnection, version: int) -> None:
    """Create missing tables, unless the file has all of the same tables.sql; write `version` into a new file."""
    text = (SQL / "tables.sql").read_text(encoding="utf-8")
    key = digest(text)
    there = {name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()}
    if _installed(connection) == [(key,)] and there.issuperset(table.name for table in tables()):
        return
    with transaction(connection):
        connection.execute(text)
        if not connection.execute("select 1 from warehouse_info where key = 'schema_version'").fetchall():
            connection.execute("insert into warehouse_info values ('schema_version', ?)", [str(version)])
        connection.execute("delete from warehouse_info where key = 'tables'")
        connection.execute("insert into warehouse_info values ('tables', ?)", [key])


def _installed(connection: duckdb.DuckDBPyConnection) -> list[tuple[str]]:
    """The hash of the tables.sql that was run on the file; no row if none is known."""
    try:
        return connection.execute("select value from warehouse_info where key = 'tables'").fetchall()
    except duckdb.CatalogException:  # a new file
        return []
