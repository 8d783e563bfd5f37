"""Results of DuckDB as polars frames, and a time limit for queries.

polars.DataFrame(Stream(connection.sql(query)))
interruptible(connection, 10.0, lambda: frame_of(query))   # QueryRefused after ten seconds
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

import duckdb

from dissectdb.warehouse import guard

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")


def interruptible(connection: duckdb.DuckDBPyConnection, seconds: float | None, ask: Callable[[], T]) -> T:
    """What `ask` returns. Raises QueryRefused after `seconds`.

    `ask` runs in a thread of its own, so that Ctrl-C is handled at once.
    """
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        try:
            return answer.result(seconds)
        except TimeoutError:
            raise guard.QueryRefused(
                f"the query was stopped after {seconds:g} s; add WHERE or LIMIT, or give it longer: --timeout SECONDS"
            ) from None
        finally:
            while not answer.done():
                connection.interrupt()  # repeatedly, because an interrupt between two statements has no effect
                wait([answer], timeout=0.05)


def plan(
    connection: duckdb.DuckDBPyConnection, statement: str, parameters: Mapping[str, object] | None = None
) -> pl.DataFrame:
    """The plan that EXPLAIN draws, one row per line of the drawing."""
    import polars

    [(_, drawing)] = connection.execute(statement, dict(parameters or {})).fetchall()
    return polars.DataFrame({"plan": drawing.splitlines()})


def refuse_what_frames_cannot_hold(relation: duckdb.DuckDBPyRelation) -> None:
    """Raise QueryRefused for what polars cannot hold: two columns of one name, intervals, unsigned 128-bit numbers."""
    for place, (name, kind) in enumerate(zip(relation.columns, relation.types, strict=True)):
        if name in relation.columns[:place]:
            raise guard.QueryRefused(f"two columns are called {name}; give one of them another name with AS")
        if "INTERVAL" in str(kind):
            raise guard.QueryRefused(f"column {name} holds intervals, which cannot be shown; cast it to VARCHAR")
        if "UHUGEINT" in str(kind):  # those above 38 digits would come out as other numbers
            raise guard.QueryRefused(f"column {name} is a UHUGEINT, which cannot be shown; cast it to VARCHAR")


class Stream:
    """A result through the Arrow C interface. Unlike .pl() it needs no pyarrow, which takes 0.2 s to import.

    It wraps the relation because polars keeps a reference to each type that it has met, and DuckDB warns at exit if
    one of its own types is still referenced.
    """

    def __init__(self, relation: duckdb.DuckDBPyRelation) -> None:
        self.relation = relation

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.relation.__arrow_c_stream__(requested_schema)
