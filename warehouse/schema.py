"""The tables that sql/tables.sql declares, with their keys and references, and the two checks made of them.

for table in tables():
    print(table.name, table.columns, table.keys, table.references)

A real constraint costs too much (a primary key makes inserts eleven times slower), so tables.sql declares them in
comments, and `dissectdb check` looks for rows that break them. Inside a `create table`:

    image_id integer not null,  -- references images
    -- key: dataset_id, position

A declaration may end in "; checked by NAME": then a contract of sql/checks covers it, and the two checks made here
leave it out. That is for tables so long that a check by key would not fit into memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SQL = Path(__file__).resolve().parent.parent / "sql"

_TABLE = re.compile(r"create table if not exists (\w+) \((.*?)\n?\);", re.DOTALL)
_COLUMN = re.compile(r"(\w+) [a-z\[\]]+(?: not null)?,?(?:\s+-- (?P<note>.*))?")
_CHECKED = r"(?:; checked by (?P<check>\w+))?"
_KEY = re.compile(rf"-- key: (?P<columns>\w+(?:, \w+)*){_CHECKED}")
_REFERENCE = re.compile(rf"references (?P<table>\w+){_CHECKED}")


class SchemaError(ValueError):
    """sql/tables.sql declares something that cannot be read or is incomplete."""


@dataclass(frozen=True)
class Key:
    """Columns that no two rows of a table share. check: the contract that covers it; None: keys_are_unique."""

    columns: tuple[str, ...]
    check: str | None = None


@dataclass(frozen=True)
class Reference:
    """A column that holds ids of another table, or NULL. check: as of Key; None: references_exist."""

    column: str
    table: str
    check: str | None = None


@dataclass(frozen=True)
class Table:
    """One table of sql/tables.sql."""

    name: str
    columns: tuple[str, ...]
    keys: tuple[Key, ...]
    references: tuple[Reference, ...]

    @property
    def id_column(self) -> str | None:
        """The column that is a key by itself, which references hold; None if there is no such column."""
        return next((key.columns[0] for key in self.keys if len(key.columns) == 1), None)


@cache
def tables(path: Path = SQL / "tables.sql") -> tuple[Table, ...]:
    """Every table, in the order of the file.

    Raises SchemaError if a table has neither a key nor the reason why, or an `_id` column has neither a reference nor
    the reason why, or a line cannot be read.
    """
    found = tuple(_table(name, body) for name, body in _TABLE.findall(path.read_text(encoding="utf-8")))
    ids = {table.name: table.id_column for table in found}
    for table in found:
        for reference in table.references:
            if ids.get(reference.table) is None:
                raise SchemaError(f"{table.name}.{reference.column} references {reference.table}, which has no id")
    return found


def _table(name: str, body: str) -> Table:
    columns: list[str] = []
    keys: list[Key] = []
    references: list[Reference] = []
    explained: set[str] = set()
    for line in filter(None, map(str.strip, body.splitlines())):
        if key := _KEY.fullmatch(line):
            keys.append(Key(tuple(key["columns"].split(", ")), key["check"]))
        elif line.startswith("-- no key: "):
            explained.add(name)
        elif column := _COLUMN.fullmatch(line):
            columns.append(column[1])
            note = column["note"] or ""
            if reference := _REFERENCE.fullmatch(note):
                references.append(Reference(column[1], reference["table"], reference["check"]))
            elif note.startswith("no reference: "):
                explained.add(column[1])
            elif note:
                raise SchemaError(f"{name}.{column[1]}: {note!r} is neither 'references TABLE' nor 'no reference: …'")
        else:
            raise SchemaError(f"table {name}: cannot read {line!r}")
    table = Table(name, tuple(columns), tuple(keys), tuple(references))
    if not keys and name not in explained:
        raise SchemaError(f"table {name} declares no key; add '-- key: COLUMNS' or '-- no key: REASON'")
    if wrong := {column for key in keys for column in key.columns} - {*columns}:
        raise SchemaError(f"table {name} declares a key of columns that it lacks: {', '.join(sorted(wrong))}")
    explained |= {table.id_column or ""} | {reference.column for reference in references}
    for column_name in columns:
        if column_name.endswith("_id") and column_name not in explained:
            raise SchemaError(f"{name}.{column_name} declares no reference; add '-- references TABLE'")
    return table


def keys_are_unique() -> str:
    """The check that finds repeated keys, as SQL with its header."""
    header = "-- A row is a key that occurs more than once in its table: rows joined by it would count twice.\n\n"
    return header + "\nunion all\n".join(_repeated_keys())


def _repeated_keys() -> Iterator[str]:
    for table in tables():
        for key in table.keys:
            if key.check is None:
                columns = ", ".join(key.columns)
                value = " || ', ' || ".join(f"cast({column} as varchar)" for column in key.columns)
                yield (
                    f"select '{table.name}' as table_name, '{columns}' as key, {value} as value, count(*) as times\n"
                    f"from {table.name}\ngroup by {columns}\nhaving count(*) > 1"
                )


def references_exist() -> str:
    """The check that finds references to missing rows, as SQL with its header."""
    header = "-- A row is an id that a table refers to and that does not exist: a join would drop its rows.\n\n"
    lost = "\nunion all\n".join(_lost_references())
    counted = "select table_name, key, id, count(*) as times"
    return f"{header}{counted}\nfrom (\n{lost}\n) as lost\ngroup by table_name, key, id"


def _lost_references() -> Iterator[str]:
    """One query for each table that is referred to: with one for each reference, memory would be short."""
    ids = {table.name: table.id_column for table in tables()}
    columns: dict[str, list[str]] = {}
    for table in tables():
        for reference in table.references:
            if reference.check is None:
                column = reference.column
                columns.setdefault(reference.table, []).append(
                    f"select '{table.name}' as table_name, '{column}' as key, {column} as id from {table.name}"
                )
    for name, of_table in columns.items():
        union = "\nunion all\n".join(of_table)
        yield (
            f"select table_name, key, id\nfrom (\n{union}\n) as referring_to_{name}\n"
            f"where id is not null and id not in (select {ids[name]} from {name})"
        )
