"""Keys and references are declared once, in sql/tables.sql, and what is declared is checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dissectdb.warehouse import Warehouse, contracts, schema
from dissectdb.warehouse.schema import Key, Reference, SchemaError

TABLES = schema.tables()
COMPLETE = """create table if not exists datasets (
    dataset_id integer not null,
    name varchar not null
    -- key: dataset_id
);
create table if not exists splits (
    dataset_id integer not null,  -- references datasets
    edit_id integer  -- no reference: nobody enters edits here
    -- key: dataset_id, edit_id; checked by another_check
);
create table if not exists notes (
    note varchar[]
    -- no key: two notes may be equal
);
"""


def read(tmp_path: Path, text: str) -> tuple[schema.Table, ...]:
    path = tmp_path / f"{abs(hash(text))}.sql"
    path.write_text(text)
    return schema.tables(path)


def test_keys_and_references_are_read(tmp_path: Path) -> None:
    datasets, splits, notes = read(tmp_path, COMPLETE)
    assert (datasets.id_column, splits.id_column, notes.id_column) == ("dataset_id", None, None)
    assert splits.columns == ("dataset_id", "edit_id")
    assert splits.keys == (Key(("dataset_id", "edit_id"), "another_check"),)
    assert splits.references == (Reference("dataset_id", "datasets"),)
    assert notes.keys == ()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("    -- key: dataset_id\n", "", "table datasets declares no key"),
        ("    -- no key: two notes may be equal\n", "", "table notes declares no key"),
        ("  -- references datasets", "", r"splits\.dataset_id declares no reference"),
        ("  -- no reference: nobody enters edits here", "", r"splits\.edit_id declares no reference"),
        ("references datasets", "references notes", r"splits\.dataset_id references notes, which has no id"),
        ("references datasets", "references nothing", "references nothing, which has no id"),
        ("references datasets", "reference datasets", "neither 'references TABLE' nor"),
        ("-- key: dataset_id\n", "-- key: dataset\n", "a key of columns that it lacks: dataset"),
        ("-- key: dataset_id\n", "-- keys: dataset_id\n", "table datasets: cannot read '-- keys: dataset_id'"),
    ],
)
def test_what_is_not_declared_is_refused(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in COMPLETE
    with pytest.raises(SchemaError, match=message):
        read(tmp_path, COMPLETE.replace(before, after))


def test_every_table_and_column_of_a_warehouse_is_read(tmp_path: Path) -> None:
    query = """
        select table_name, list(column_name order by column_index) from duckdb_columns()
        where table_name in $tables group by table_name
    """
    text = (schema.SQL / "tables.sql").read_text(encoding="utf-8")
    assert [table.name for table in TABLES] == re.findall(r"create table if not exists (\w+)", text)
    with Warehouse(tmp_path / "warehouse.duckdb") as warehouse:
        columns = warehouse.connection.execute(query, {"tables": [table.name for table in TABLES]}).fetchall()
    assert {name: tuple(found) for name, found in columns} == {table.name: table.columns for table in TABLES}


def test_a_check_that_covers_a_declaration_exists_and_reads_the_table() -> None:
    queries = {contract.name: contract.sql for contract in contracts.checks()}
    covered = [(table.name, each.check) for table in TABLES for each in (*table.keys, *table.references) if each.check]
    assert len(covered) > 10
    for table, check in covered:
        assert re.search(rf"\b{table}\b", queries[check]), f"{check} does not read {table}"


@pytest.mark.parametrize("table", [table for table in TABLES if table.keys], ids=lambda table: table.name)
def test_a_repeated_row_of_any_table_with_a_key_breaks_a_contract(scored: Warehouse, table: schema.Table) -> None:
    """Whichever contract covers the key finds a row that is there twice."""
    connection = scored.connection
    [(rows,)] = connection.execute(f"select count(*) from {table.name}").fetchall()
    if not rows:
        pytest.skip("the tiny warehouse has no row of it")
    connection.execute(f"insert into {table.name} from {table.name} limit 1")
    names = {key.check or "keys_are_unique" for key in table.keys}
    queries = {contract.name: contract.sql for contract in contracts.checks()}
    assert [name for name in names if scored.rows(queries[name]).height == 0] == []


def test_the_facts_about_the_file_are_those_that_its_comment_names(tiny: Warehouse) -> None:
    [comment] = tiny.rows("select comment from duckdb_tables() where table_name = 'warehouse_info'")["comment"]
    keys = set(tiny.rows("select key from warehouse_info")["key"])
    assert {key.partition(":")[0] for key in keys} == {"schema_version", "tables", "views", "view"}
    assert "schema_version" in comment
    assert "view:NAME" in comment
    assert "created_by" not in comment
