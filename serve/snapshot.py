"""The small public views, copied into memory: the answer of a list of 100,000 neurons must not wait for a job.

snapshot = copied(shared, dissection=None, wait=10)
snapshot.rows("select * from layer_summary", {})

The copy is a database of its own with tables of the views' names, so that one question asks either.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from dissectdb.reports.questions import load
from dissectdb.serve.shared_file import SharedFile, show

if TYPE_CHECKING:
    import polars as pl

VIEWS = (
    "dissection_summary",
    "layer_summary",
    "network_accuracies",
    "neuron_concepts",
    "neuron_order",
    "neuron_words",
    "neuron_accuracies",
    "robust_labels",
    "concept_counts_by_neuron",
)
THREADS = 2


@dataclass(frozen=True)
class Snapshot:
    """Copies of VIEWS as they were at `read_at` (time.time()), when the file had this stamp.

    dissection: the one that they show; None if nothing has labels.
    """

    dissection: int | None
    connection: duckdb.DuckDBPyConnection
    stamp: tuple[int, ...]
    read_at: float
    seconds: float  # that the copy took

    def rows(self, query: str, values: Mapping[str, Any]) -> pl.DataFrame:
        """The rows of a question that reads only VIEWS."""
        with self.connection.cursor() as cursor:
            return frame(cursor, query, values)


def frame(cursor: duckdb.DuckDBPyConnection, query: str, values: Mapping[str, Any]) -> pl.DataFrame:
    """The rows of a query as a polars frame."""
    import polars

    from dissectdb.warehouse.frames import Stream

    return polars.DataFrame(Stream(cursor.sql(query, params=dict(values))))


def copied(shared: SharedFile, dissection: int | None, wait: float) -> Snapshot:
    """A copy of VIEWS as they show `dissection`. None: the newest that has labels. Raises Held."""
    from dissectdb.warehouse import guard

    stamp, read_at, started = shared.stamp(), time.time(), time.perf_counter()
    tables = {}
    with shared.cursor(dissection, wait, long=True, reads=VIEWS) as cursor:
        if dissection is None and (newest := cursor.execute(load("serve")["newest"].sql).fetchone()):
            dissection = newest[0]
            show(cursor, dissection)
        for view in VIEWS:
            tables[view] = cursor.sql(f"select * from {view}").to_arrow_table()
    memory = duckdb.connect(":memory:", config={"threads": THREADS})
    for view, table in tables.items():
        memory.register("incoming", table)
        memory.execute(f"create table {view} as from incoming")
        memory.unregister("incoming")
    guard.lock_down(memory)
    return Snapshot(dissection, memory, stamp, read_at, time.perf_counter() - started)
