"""Results of DuckDB as polars frames, and a time limit for queries.

polars.DataFrame(Stream(connection.sql(query)))
interruptible(connection, 10.0, lambda: frame_of(query))   # QueryRefused after ten seconds
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

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


def without_24_hours(column: str) -> str:
    """SQL for a column of TIME in which 24:00:00 is an error: polars would make it NULL."""
    said = "a column holds the time 24:00:00, which cannot be shown; cast it to VARCHAR"
    return f"case when {column} = time '24:00:00' then error('{said}') else {column} end"


def refusing_24_hours(statement: str, relation: duckdb.DuckDBPyRelation) -> str:
    """The statement, or one around it in which 24:00:00 is an error. relation: of the statement."""
    kinds = zip(relation.columns, relation.types, strict=True)
    names = ['"' + name.replace('"', '""') + '"' for name, kind in kinds if str(kind) == "TIME"]
    instead = ", ".join(f"{without_24_hours(name)} as {name}" for name in names)
    return f"select * replace ({instead}) from ({statement}\n)" if names else statement


DAY = 86_400_000_000  # microseconds
FIRST_DAY, LAST_DAY = -719_162, 2_932_896  # of the years 1 to 9999, from 1970 on
A_DAY = {"ms": DAY // 1000, "us": DAY}


def refuse_times_out_of_range(frame: pl.DataFrame) -> None:
    """Raise QueryRefused for times that neither Python nor polars can write: infinity, or the year 290000."""
    for column in frame.iter_columns():
        if _is_out_of_range(column):
            raise guard.QueryRefused(
                f"column {column.name} holds infinity or a year that is not between 1 and 9999, which cannot be shown; "
                "cast it to VARCHAR"
            )


def _is_out_of_range(values: pl.Series) -> bool:
    import polars as pl

    kind: Any = values.dtype
    if type(kind).__name__ == "Map":  # a kind of its own from polars 2 on
        values = values.cast(pl.List(pl.Struct({"key": kind.key, "value": kind.value})))
        kind = values.dtype
    if isinstance(kind, pl.List | pl.Array):
        return _is_out_of_range(values.explode())
    if isinstance(kind, pl.Struct):
        return any(map(_is_out_of_range, values.struct.unnest().iter_columns()))
    if not isinstance(kind, pl.Date | pl.Datetime):
        return False
    if isinstance(kind, pl.Datetime) and kind.time_unit == "ns":  # they end in 1677 and 2262
        return False
    numbers = values.to_physical()
    if isinstance(kind, pl.Date):
        first, last = FIRST_DAY, LAST_DAY
    else:
        other_zone = 1 if kind.time_zone else 0  # days by which a zone may move it
        day = A_DAY[kind.time_unit]
        first, last = (FIRST_DAY + other_zone) * day, (LAST_DAY + 1 - other_zone) * day - 1
    return bool(((numbers < first) | (numbers > last)).any())


class Stream:
    """A result through the Arrow C interface. Unlike .pl() it needs no pyarrow, which takes 0.2 s to import.

    It wraps the relation because polars keeps a reference to each type that it has met, and DuckDB warns at exit if
    one of its own types is still referenced.
    """

    def __init__(self, relation: duckdb.DuckDBPyRelation) -> None:
        self.relation = relation

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.relation.__arrow_c_stream__(requested_schema)
