"""What makes a materialised view stale: fingerprints of its definition and of its inputs.

fingerprint(view, versions)                        # of the whole view
inputs = divided_inputs(view, by_name, divided_tables(connection))
part_fingerprints(connection, view, inputs)        # of the rows of each dissection, for a view stored by dissection

A materialised view is stale if its fingerprint differs from that of its last build. The fingerprint covers its
statement, the engine functions, the versions of the tables that it reads, and the *content* of the materialised views
that it reads. Comments and layout of its file do not count. If a new dissection leaves the top images as they are, the
views that read only these do not become stale. A view that is stored by dissection is computed for the dissections with
another fingerprint only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

import duckdb

from dissectdb.warehouse.view_files import View, engine_functions, statement


def fingerprint(view: View, versions: Mapping[str, str]) -> str:
    """Return the fingerprint of a view and of all that it reads.

    versions: table → how often it was written; materialised view → hash of its content; other view → its fingerprint.
    """
    inputs = [f"{name}={versions.get(name, '0')}" for name in sorted(view.reads)]
    return digest(view.definition, statement(engine_functions()), *inputs)


def divided_tables(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Return the tables and views with a dissection_id."""
    with_column = "select distinct table_name from duckdb_columns() where column_name = 'dissection_id'"
    return {name for (name,) in connection.execute(with_column).fetchall()}


def divided_inputs(view: View, by_name: Mapping[str, View], divided: Collection[str]) -> list[str]:
    """Return those of the divided tables that a view reads, directly or through views that are not materialised."""
    tables, queue = set(), list(view.reads)
    while queue:
        name = queue.pop()
        if name in by_name and not by_name[name].materialized:
            queue.extend(by_name[name].reads)
        elif name in divided:
            tables.add(name)
    return sorted(tables)


def part_fingerprints(connection: duckdb.DuckDBPyConnection, view: View, inputs: Collection[str]) -> dict[int, str]:
    """Return dissection → fingerprint of the view's definition and of the dissection's rows in the inputs.

    Tables without a dissection_id are not included. Rows are only ever added to them, and an added row belongs to an
    older dissection only if a table with a dissection_id, such as dissected_neurons, changes too.
    """
    ids = [part for (part,) in connection.execute("select dissection_id from dissections").fetchall()]
    functions = statement(engine_functions())
    contents: dict[int, list[str]] = {part: [view.definition, functions] for part in ids}
    for table in inputs:
        query = f"select dissection_id, sum(hash(rows)::hugeint)::varchar from {table} as rows group by dissection_id"
        of_part = dict(connection.execute(query).fetchall())
        for part in ids:
            contents[part].append(f"{table}={of_part.get(part)}")
    return {part: digest(*texts) for part, texts in contents.items()}


def digest(*texts: str) -> str:
    """Return one SHA-256 of several texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
