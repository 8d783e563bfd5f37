"""Rows as text: tables for people as wide as the terminal, Markdown, one row below another, JSON and CSV.

show(frame, title="Layers")                  # a table on stdout
write(frame, "csv", None)                    # what `query` prints, or writes to a file

On a terminal, columns that do not fit are folded. Those for which there is no room are named below the table.
In a pipe or a file a table is as wide as its content, so that each row stays a line.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

import polars as pl
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dissectdb.commands import cells
from dissectdb.commands.cells import Column
from dissectdb.commands.screen import UNICODE, Signs, console_of, encodable, put, signs_of, width_of
from dissectdb.output import save

Format = Literal["table", "markdown", "vertical", "json", "csv", "parquet"]

ROWS = 1000  # that a table on a terminal has at most
LENGTH = 200  # characters of a cell in a table at most
NARROWEST = 16  # characters of a column of texts that is folded
GAP = 2  # blanks between columns
HEAD_LINE = {"─": box.Box("    \n    \n ── \n    \n    \n    \n    \n    \n"),
             "-": box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)}  # fmt: skip


# ---------------------------------------------------------------- a table


def show(
    rows: pl.DataFrame | Sequence[object],
    *,
    title: str = "",
    empty: str = "",
    nulls: Mapping[str, str] | None = None,
    hints: tuple[str, str] = ("a wider terminal shows them", "a pipe gets all"),
) -> None:
    """Print rows (a frame, dicts or dataclasses) as a table with a title, or `empty` if there are none.

    nulls: what stands for NULL in a column, if it is not the dash. hints: how to see columns, and rows, that are left
    out on a terminal.
    """
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(list(rows))
    if title:
        put()
        put(title, "bold")
    if frame.is_empty() and empty:
        put(empty)
        return
    stream = sys.stdout
    width, signs = width_of(stream), signs_of(stream)
    if width is None:
        lines = plain_lines(frame, signs, nulls or {})
        while some := list(islice(lines, ROWS)):
            print(encodable("\n".join(some), stream))
        return
    columns = [_shortened(column, signs) for column in cells.columns(frame.head(ROWS), signs, nulls or {})]
    widths = fit(columns, width)
    console_of(stream).print(_rich_table(columns[: len(widths)], widths, signs))
    if left_out := [column.name for column in columns[len(widths) :]]:
        put(f"left out, because the terminal is narrow: {', '.join(left_out)}; {hints[0]}", "dim")
    if frame.height > ROWS:
        put(f"… {frame.height - ROWS:,} more rows; {hints[1]}", "dim")
    elif frame.is_empty():
        put("no rows", "dim")


def plain_lines(frame: pl.DataFrame, signs: Signs, nulls: Mapping[str, str] | None = None) -> Iterator[str]:
    """A table, line by line, as wide as its content. It is what rich prints where everything fits, for many rows."""
    columns = [_shortened(column, signs) for column in cells.columns(frame, signs, nulls or {})]
    widths = [_natural(column) for column in columns]
    gap = " " * GAP

    def line(row: Iterable[str]) -> str:
        parts = (
            _padded(text, width, column.is_number) for text, width, column in zip(row, widths, columns, strict=True)
        )
        return gap.join(parts).rstrip()

    yield line(column.name for column in columns)
    yield signs.line * (sum(widths) + GAP * (len(widths) - 1))
    yield from map(line, zip(*(column.cells for column in columns), strict=True))
    if frame.is_empty():
        yield "no rows"


def _padded(text: str, width: int, right: bool) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if right else text + blanks


def _shortened(column: Column, signs: Signs) -> Column:
    """The column with long texts cut."""
    if column.is_number:
        return column
    room = LENGTH - len(signs.more)
    return replace(
        column, cells=[text if len(text) <= LENGTH else text[:room] + signs.more for text in column.cells]
    )  # fmt: skip


def _widest(column: Column) -> int:
    return max(map(cell_len, column.cells), default=0)


def _natural(column: Column) -> int:
    """The width at which nothing of a column is folded."""
    return max(cell_len(column.name), _widest(column))


def _least(column: Column) -> int:
    """The width below which a column is left out: a number is never folded, a head only after `_` and blanks."""
    widest = _widest(column)
    return max(widest if column.is_number else min(widest, NARROWEST), *map(cell_len, _pieces(column.name)), 1)


def _pieces(name: str) -> list[str]:
    return re.findall(r"[^_ ]*[_ ]?", name)


def fit(columns: Sequence[Column], room: int) -> list[int]:
    """The widths of the first columns, as many as fit into `room`. Heads are folded before texts are."""
    least = [_least(column) for column in columns]
    shown = len(columns)
    while shown > 1 and sum(least[:shown]) + GAP * (shown - 1) > room:
        shown -= 1
    least, natural = least[:shown], [_natural(column) for column in columns[:shown]]
    free = max(room - GAP * (shown - 1), 1)
    unfolded = [max(low, _widest(column)) for low, column in zip(least, columns, strict=False)]
    if sum(unfolded) <= free:
        return _share(unfolded, natural, free)
    return [min(width, free) for width in _share(least, unfolded, free)]


def _share(least: Sequence[int], most: Sequence[int], free: int) -> list[int]:
    """The widths between `least` and `most` that fill `free`: all are cut at the same width."""

    def at(level: int) -> list[int]:
        return [max(low, min(high, level)) for low, high in zip(least, most, strict=True)]

    return at(next((level for level in range(max(most, default=0), 0, -1) if sum(at(level)) <= free), 0))


def _folded_head(name: str, width: int) -> str:
    """A column's name in lines of at most `width`, broken after `_` and blanks."""
    lines = [""]
    for piece in _pieces(name):
        if cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def _rich_table(columns: Sequence[Column], widths: Sequence[int], signs: Signs) -> Table:
    table = Table(
        box=HEAD_LINE[signs.line], show_edge=False, padding=(0, GAP - 1, 0, 0), pad_edge=False, header_style="bold"
    )
    for column, width in zip(columns, widths, strict=True):
        justify: Literal["right", "left"] = "right" if column.is_number else "left"
        head = Text(_folded_head(column.name, width), justify=justify)
        table.add_column(head, width=width, justify=justify, vertical="top", overflow="fold")
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(text, style="dim" if text == signs.null else "") for text in row))
    return table


# ---------------------------------------------------------------- other layouts


def as_table(frame: pl.DataFrame) -> str:
    """A frame as a table as wide as its content, with every row."""
    return "\n".join(plain_lines(frame, UNICODE))


def as_markdown(frame: pl.DataFrame) -> str:
    """A frame as a table of Markdown, with every row and whole texts; numbers are rounded."""
    columns = cells.columns(frame, UNICODE, {})

    def line(row: Iterable[str]) -> str:
        return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |"

    rules = ("---:" if column.is_number else "---" for column in columns)
    rows = zip(*(column.cells for column in columns), strict=True)
    return "\n".join([line(column.name for column in columns), f"|{'|'.join(rules)}|", *map(line, rows)])


def as_vertical(frame: pl.DataFrame, signs: Signs = UNICODE, width: int | None = None) -> str:
    """A frame with one column per line, row below row, and whole texts, which are wrapped at `width`."""
    columns = cells.columns(frame, signs, {})
    names = max((cell_len(column.name) for column in columns), default=0)
    lines = []
    for number in range(frame.height):
        lines.append(f"{signs.line * 2} {number + 1:,} {signs.line * 2}")
        for column in columns:
            head = _padded(column.name, names, right=False) + " " * GAP
            lines.append(head + _hanging(column.cells[number], len(head), width))
    return "\n".join(lines) if lines else "no rows"


def _hanging(text: str, indent: int, width: int | None) -> str:
    """A text after `indent` columns, wrapped at `width` so that its lines stand below each other."""
    if width is None or width - indent < NARROWEST:
        return text
    lines = Text(text).wrap(Console(width=width), width - indent, overflow="fold")
    return ("\n" + " " * indent).join(line.plain.rstrip() for line in lines) or text


def as_json(frame: pl.DataFrame) -> str:
    """A frame as a JSON list of objects. Bytes become base 64, decimals become numbers."""
    integers = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Decimal) and kind.scale == 0]
    frame = frame.with_columns(pl.col(integers).cast(pl.Int64, strict=False)).cast({pl.Decimal: pl.Float64})
    return frame.with_columns(pl.col(pl.Binary).bin.encode("base64")).write_json()


def as_csv(frame: pl.DataFrame) -> str:
    """A frame as CSV. Bytes become base 64, lists and structs become JSON."""
    frame = frame.with_columns(pl.col(pl.Binary).bin.encode("base64"))
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    texts = [
        pl.Series(name, [None if value is None else json.dumps(value, default=str) for value in frame[name].to_list()])
        for name in nested
    ]
    return frame.with_columns(texts).write_csv()


LAYOUTS: dict[str, Callable[[pl.DataFrame], str]] = {
    "table": as_table, "markdown": as_markdown, "vertical": as_vertical, "json": as_json, "csv": as_csv
}  # fmt: skip


def write(frame: pl.DataFrame, format: Format, output: Path | None) -> None:
    """Write a frame to a file, or print it. Parquet needs a file."""
    if format == "parquet":
        assert output is not None  # the command refuses it
        content = io.BytesIO()
        frame.write_parquet(content)
        save(content.getvalue(), output)
        return
    if output is not None:
        text = LAYOUTS[format](frame)
        save((text if text.endswith("\n") else f"{text}\n").encode(), output)
    elif format == "table":
        show(frame, hints=("--format vertical shows them", "--format csv, or a pipe, gets all"))
    elif format == "vertical":
        print(encodable(as_vertical(frame, signs_of(sys.stdout), width_of(sys.stdout)), sys.stdout))
    else:
        print(LAYOUTS[format](frame).rstrip("\n"))
