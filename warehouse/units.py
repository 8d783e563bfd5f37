"""Write a unit of rows into the tables of a warehouse, whole or not at all, and count the versions of the tables.

A unit is a mapping from table to rows (an Arrow table or reader, or a list of dicts), or an iterable of such pairs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import duckdb

from dissectdb.warehouse.errors import refuse_a_full_disk
from dissectdb.warehouse.transactions import transaction

Unit = Mapping[str, object] | Iterable[tuple[str, object]]


def write(connection: duckdb.DuckDBPyConnection, path: Path, unit: Unit) -> None:
    """Write a unit in one transaction. path: of the warehouse, for messages. Raises WarehouseError on a full disk."""
    written: set[str] = set()
    try:
        with transaction(connection):
            for table, rows in pairs(unit):
                insert(connection, table, rows)
                written.add(table)
            for table in sorted(written):
                count_up(connection, table)
    except duckdb.Error as error:
        refuse_a_full_disk(error, path)
        raise


def count_up(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Give a table its next version, inside a transaction."""
    known = "select 1 from table_versions where table_name = ?"
    if connection.execute(known, [table]).fetchall():
        connection.execute("update table_versions set version = version + 1 where table_name = ?", [table])
    else:
        connection.execute("insert into table_versions values (?, 1)", [table])


def can_be_read_again(unit: Unit) -> bool:
    """Whether a unit has its rows still after they were written once."""
    return isinstance(unit, Mapping) and not any(hasattr(rows, "read_next_batch") for rows in unit.values())


def pairs(unit: Unit) -> Iterable[tuple[str, object]]:
    """The tables of a unit with their rows."""
    return unit.items() if isinstance(unit, Mapping) else unit


def insert(connection: duckdb.DuckDBPyConnection, table: str, rows: object) -> None:
    """Insert rows into a table, inside a transaction."""
    if isinstance(rows, list):
        for row in rows:
            columns, marks = ", ".join(row), ", ".join("?" * len(row))
            connection.execute(f"insert into {table} ({columns}) values ({marks})", list(row.values()))
        return
    connection.register("incoming_rows", rows)
    try:
        connection.execute(f"insert into {table} by name select * from incoming_rows")
    finally:
        # After a failed insert DuckDB refuses everything until the rollback; that error must not hide the first one.
        with contextlib.suppress(duckdb.Error):
            connection.unregister("incoming_rows")
