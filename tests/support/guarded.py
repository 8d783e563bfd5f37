"""A small warehouse, opened as an ad-hoc query opens it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import duckdb

from dissectdb import ROOT
from dissectdb.warehouse.guard import check, lock_down

TABLES_SQL = ROOT / "sql" / "tables.sql"

ROWS = """
insert into networks values (1, 'ünïcode', 'vgg', null, '{}', ['happy', 'sad'], null, null, 'f');
insert into layers values (1, 1, 'conv1', 'avg', 0, 'a', null), (2, 1, 'lin1', 'none', 1, 'b', null);
insert into neurons values (1, 1, 0, 1.5, 1, 0), (2, 1, 1, 2.5, 2, 0), (3, 2, 0, null, null, null);
insert into activations values (1, 1, 0.5), (1, 2, 1.5), (2, 1, -1), (3, 2, 2);
insert into concepts values (1, 1, 0, 'smile', null), (2, 1, 1, 'frown; or not', 'faces');
create view layer_summary as
    select layer, count(*) as neurons from layers join neurons using (layer_id) group by layer;
create table "Odd Näme" (x integer);
insert into "Odd Näme" values (7);
create macro nd_double(x) as x * 2;
create sequence counter;
"""


def folder_state(folder: Path) -> dict[str, str]:
    """A hash of each file of a folder, by its path. If it is the same afterwards, nothing was written."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Locked:
    """A small warehouse, opened as for an ad-hoc query."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "small.duckdb"
        with duckdb.connect(str(self.file)) as connection:
            connection.execute(TABLES_SQL.read_text(encoding="utf-8") + ROWS)
        (folder / "secret.csv").write_text("word\nhunter2\n")
        (folder / "secret.json").write_text('{"word": "hunter2"}')
        self.connection = duckdb.connect(str(self.file), read_only=True)
        lock_down(self.connection, threads=1, memory="100MB")
        self.columns: dict[str, list[str]] = {}
        for table, column in self.connection.execute(
            "select table_name, column_name from duckdb_columns() where not internal order by column_index"
        ).fetchall():
            self.columns.setdefault(table, []).append(column)
        self.names = list(self.columns)

    def check(self, query: str) -> str:
        return check(query, self.names, self.columns)

    def fill(self, query: str) -> str:
        """The query with the paths of this warehouse."""
        paths = {"SECRET": str(self.folder / "secret"), "FOLDER": str(self.folder), "FILE": str(self.file)}
        return re.sub("SECRET|FOLDER|FILE", lambda word: paths[word[0]], query)

    def run(self, query: str) -> list[tuple]:
        return self.connection.cursor().execute(query).fetchall()
