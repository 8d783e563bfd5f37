"""The SQL page: one reading statement, guarded as by the command query, with limits of time, rows and bytes."""

from __future__ import annotations

import io
import math
import re
import threading
import time
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from dissectdb.serve import assets
from dissectdb.serve.asked import Asked
from dissectdb.serve.charts import Placed, chosen
from dissectdb.serve.shared_file import Held
from dissectdb.warehouse import guard
from dissectdb.warehouse.frames import (
    interruptible,
    plan,
    refuse_times_out_of_range,
    refuse_what_frames_cannot_hold,
    without_24_hours,
)

SHOWN, SAVED = 1_000, 1_000_000  # rows of a table and of a file
DRAWN = 5_000  # rows of a chart
SHOWN_BYTES, SAVED_BYTES = 64 << 20, 256 << 20  # of what is read for them
BATCH = 256  # rows that are read at a time
CELL = 300  # characters
SECONDS = 20.0
AT_ONCE = threading.Semaphore(2)  # queries that run at a time, so that pages are answered beside them
TEXT_ONLY = re.compile(
    r"\b(INTERVAL|UNION|BIT|BIGNUM|UHUGEINT|TIME WITH TIME ZONE)\b"
)  # what Arrow or polars holds otherwise or not at all
CHARTS = {"none": "no chart", "bars": "bars", "line": "line", "points": "points", "histogram": "histogram"}
EXAMPLES = (
    "select layer, neurons, num_interpretable from layer_summary order by position",
    "select concept, count(*) as neurons from neuron_concepts where interpretable group by all order by neurons desc",
    "select layer, unit, concept, z, q from neuron_concepts where q <= 0.01 order by z desc limit 50",
)


def sql(asked: Asked) -> Response | Mapping[str, Any]:
    """The query of the address with its rows as a table and, if the address says so, as a chart."""
    query = asked.text("q", guard.MAX_CHARACTERS) or ""
    content: dict[str, Any] = {"query": query, "charts": [], "kinds": CHARTS, "examples": EXAMPLES, "rows": None}
    content |= {"seconds": SECONDS, "saved": SAVED, "saved_bytes": SAVED_BYTES, "shown_bytes": SHOWN_BYTES}
    content |= {"kind": asked.choice("chart", CHARTS), "x": asked.exact("x"), "y": asked.exact("y")}
    if not query:
        return content
    started = time.perf_counter()
    try:
        most = DRAWN if content["kind"] != "none" else SHOWN
        rows, is_more = ask(asked, query, most, SHOWN_BYTES)
    except guard.QueryRefused as error:
        refused = content | {"refused": _for_a_page(str(error))}
        return HTMLResponse(assets.render("sql.html.jinja", asked, refused), 400)
    content["took"] = time.perf_counter() - started
    content |= {"columns": rows.columns, "numeric": [kind.is_numeric() for kind in rows.dtypes]}
    content |= {"rows": [[cell(value) for value in row] for row in rows.head(SHOWN).rows()], "is_more": is_more}
    content |= {"height": rows.height, "is_large": is_more and rows.height < most}
    if content["kind"] != "none" and rows.width and rows.height:
        content |= _chart(rows, content["kind"], content["x"], content["y"])
    return content


def ask(asked: Asked, query: str, most: int, most_bytes: int, *, as_text: bool = False) -> tuple[pl.DataFrame, bool]:
    """The first `most` rows of a query, fewer if they hold more than `most_bytes`, and whether there are more.

    as_text: lists, structs and blobs as text. Raises QueryRefused, Held.
    """
    store = asked.store
    if not AT_ONCE.acquire(timeout=SECONDS):
        raise guard.QueryRefused("other queries are running; try again")
    columns: dict[str, list[str]] = {}
    try:
        columns = store.shared.columns(store.wait)
        statement = guard.check(query, columns, columns)
        reads, shown = guard.known_to_read(statement), asked.reading.snapshot.dissection
        with store.shared.cursor(shown, store.wait, long=True, reads=reads) as cursor:
            if statement.startswith("explain "):
                return interruptible(cursor, SECONDS, lambda: plan(cursor, statement)), False
            relation = _castable(cursor.sql(statement), as_text)
            refuse_what_frames_cannot_hold(relation)
            table, is_more = interruptible(cursor, SECONDS, lambda: _read(relation.limit(most + 1), most_bytes))
    except duckdb.Error as error:
        raise guard.QueryRefused(guard.explain_error(error, columns, query)) from error
    finally:
        AT_ONCE.release()
    rows = pl.DataFrame(table)
    refuse_times_out_of_range(rows)
    return rows.head(most), is_more or rows.height > most


def _castable(relation: duckdb.DuckDBPyRelation, as_text: bool) -> duckdb.DuckDBPyRelation:
    """The relation with columns cast to text that a frame cannot hold; as_text: those too that CSV cannot."""
    casts = []
    for place, kind in enumerate(relation.types, start=1):
        cast = f"#{place}"
        if TEXT_ONLY.search(str(kind)) or (as_text and kind.id in ("list", "array", "struct", "tuple", "map")):
            cast = f"#{place}::varchar"
        elif str(kind) == "TIME":
            cast = without_24_hours(cast)
        elif as_text and kind.id == "blob":
            cast = f"hex(#{place})"
        casts.append(cast)
    if all(cast.startswith("#") and cast[1:].isdigit() for cast in casts):
        return relation
    names = ['"' + name.replace('"', '""') + '"' for name in relation.columns]
    return relation.project(", ".join(f"{cast} as {name}" for cast, name in zip(casts, names, strict=True)))


def _read(relation: duckdb.DuckDBPyRelation, most_bytes: int) -> tuple[pa.Table, bool]:
    """The rows up to `most_bytes`, and whether that left some out. They are read in batches: no more is in memory."""
    try:
        with relation.to_arrow_reader(BATCH) as batches:
            kept, is_cut = _within(batches, most_bytes)
            return pa.Table.from_batches(kept, batches.schema), is_cut
    except OSError as error:  # how Arrow passes on what DuckDB raises while it is read
        text = " ".join(str(error).split())
        if "string buffers" in text:
            said = f"the texts of a column hold more than 2 GB in {BATCH} rows; select parts of them"
            raise guard.QueryRefused(said) from error
        if "Interrupted" in text:
            raise duckdb.InterruptException(text) from error
        raise (duckdb.OutOfMemoryException if "Out of Memory" in text else duckdb.Error)(text) from error


def _within(batches: Iterable[pa.RecordBatch], most_bytes: int) -> tuple[list[pa.RecordBatch], bool]:
    """The first batches, the last one cut, which hold at most `most_bytes`, and whether that left rows out."""
    kept: list[pa.RecordBatch] = []
    room = most_bytes
    for batch in batches:
        fits = batch.num_rows
        while fits and batch.slice(0, fits).nbytes > room:
            fits //= 2
        if not kept and not fits and batch.num_rows:
            raise guard.QueryRefused(f"one row holds more than {most_bytes >> 20} MB; select parts of it")
        kept.append(batch.slice(0, fits))
        room -= kept[-1].nbytes
        if fits < batch.num_rows:
            return kept, True
    return kept, False


def cell(value: Any) -> str | float | int | None:
    """A value as a table shows it: numbers as they are, all else as a text of bounded length."""
    if value is None or isinstance(value, int | float):
        return value
    text = f"{len(value):,} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def as_csv(asked: Asked) -> Response:
    """The rows of the query as CSV: lists and structs as DuckDB writes them as text, blobs in hexadecimal digits."""
    return _saved(asked, "csv", "text/csv", lambda rows, file: rows.write_csv(file))


def as_parquet(asked: Asked) -> Response:
    """The rows of the query as Parquet."""
    return _saved(asked, "parquet", "application/vnd.apache.parquet", lambda rows, file: rows.write_parquet(file))


def _saved(asked: Asked, ending: str, kind: str, write: Any) -> Response:
    query = asked.text("q", guard.MAX_CHARACTERS) or ""
    try:
        rows, is_more = ask(asked, query, SAVED, SAVED_BYTES, as_text=ending == "csv")
    except guard.QueryRefused as error:
        return PlainTextResponse(_for_a_page(str(error)), 400)
    except Held as error:
        return PlainTextResponse(f"A job is writing: {error}. Try again.", 503)
    file = io.BytesIO()
    write(rows, file)
    name = f"query-first-{rows.height}-rows.{ending}" if is_more else f"query.{ending}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(file.getbuffer(), media_type=kind, headers=headers)


def names(asked: Asked) -> Response:
    """The tables and views with their columns, for the completion of names."""
    try:
        return JSONResponse(asked.store.shared.columns(asked.store.wait))
    except Held:
        return JSONResponse({}, 503)


def _chart(rows: pl.DataFrame, kind: str, x: str | None, y: str | None) -> dict[str, Any]:
    """The chart, and the columns that it draws: those of the address if the rows have them, else the likeliest."""
    is_number = {name: kind.is_numeric() for name, kind in rows.schema.items() if not kind.is_nested()}
    if not is_number:
        return {}
    numbers = [name for name, known in is_number.items() if known]
    x = x if x in is_number else next((name for name in is_number if name not in numbers), next(iter(is_number)))
    if kind == "histogram" and not is_number[x] and numbers:
        x = numbers[0]
    y = y if y in numbers else next((name for name in numbers if name != x), None)
    if kind != "histogram" and y is None:
        return {"refused": "this chart needs a column of numbers"}
    used = [name for name in (x, y) if name is not None]
    given = rows.select(list(dict.fromkeys(used))).to_dicts()
    values = [{name: _drawable(value) for name, value in row.items()} for row in given]
    if kind == "bars" and len({row[x] for row in values}) < len(values):  # their bars would be drawn as one, the sum
        said = f"several rows have the same {x}, so there are no bars; choose points, or aggregate in SQL"
        return {"refused": said, "x": x, "y": y}
    drawing = chosen(kind, x, y, values, {name: is_number[name] for name in dict.fromkeys(used)})
    what = f"{CHARTS[kind]} of {x}" + (f" and {y}" if kind != "histogram" else "")
    absent = sum(
        row[name] is not None and drawn[name] is None for row, drawn in zip(given, values, strict=True) for name in row
    )
    return {"charts": [Placed("query-chart", drawing, what)], "x": x, "y": y, "absent": absent}


def _drawable(value: Any) -> str | float | int | None:
    """A value as JSON holds it: a number if it is finite, else a text. NaN and infinity are left out of a chart."""
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, int | float) or value is None else str(value)


def _for_a_page(text: str) -> str:
    """The message without the options of a command."""
    for option in (", or give it longer: --timeout SECONDS", ", or give it more with --memory SIZE"):
        text = text.replace(option, "")
    return text
