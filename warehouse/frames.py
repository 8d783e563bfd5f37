"""Answers of DuckDB as polars frames: how they get there, what cannot, and how a question is stopped.

polars.DataFrame(Stream(connection.sql(query)))
interruptible(connection, 10.0, lambda: frame_of(query))   # raises QueryRefused after ten seconds
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import duckdb

from dissectdb.warehouse import guard


def interruptible(connection: duckdb.DuckDBPyConnection, seconds: float | None, ask: Callable[[], Any]) -> Any:
    """What `ask` returns, if it does so in time; a thread waits for the engine, so that Ctrl-C ends it at once."""
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
                connection.interrupt()  # again, because between two statements nobody hears it
                wait([answer], timeout=0.05)


def plan(connection: duckdb.DuckDBPyConnection, statement: str) -> Any:
    """The plan that EXPLAIN draws, a row for each line of the drawing."""
    import polars

    [(_, drawing)] = connection.execute(statement).fetchall()
    return polars.DataFrame({"plan": drawing.splitlines()})


def refuse_what_frames_cannot_hold(relation: duckdb.DuckDBPyRelation) -> None:
    """Polars has no two columns of one name, and no type for an interval."""
    for place, (name, kind) in enumerate(zip(relation.columns, relation.types, strict=True)):
        if name in relation.columns[:place]:
            raise guard.QueryRefused(f"two columns are called {name}; give one of them another name with AS")
        if "INTERVAL" in str(kind):
            raise guard.QueryRefused(f"column {name} holds intervals, which have no form here; cast it to VARCHAR")


class Stream:
    """A result through the Arrow C interface, which unlike .pl() does without pyarrow: 0.2 s sooner.

    A class of ours around it, because polars remembers the types it met, and duckdb complains at exit about its
    own that are still remembered.
    """

    def __init__(self, relation: duckdb.DuckDBPyRelation) -> None:
        self.relation = relation

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.relation.__arrow_c_stream__(requested_schema)
