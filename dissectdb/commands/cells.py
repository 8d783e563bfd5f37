"""The cells of a table, as text for people: numbers rounded, NULL as a dash, bytes as their size.

texts(frame["z"], screen.UNICODE).cells   # ["54.12", "–", …]

Formats for programs do not come from here: see as_csv and as_json of dissectdb.commands.tables.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

import polars as pl

from dissectdb.commands.screen import Signs

DIGITS = 4  # of a number within a list
LISTED = 5  # values of a list that are shown
# Control characters would move the cursor or change colours; these marks of direction would change the order of text.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Column:
    """A column of a table for people. cells: one text per row. is_number: whether they are aligned to the right."""

    name: str
    cells: list[str]
    is_number: bool


def columns(frame: pl.DataFrame, signs: Signs, nulls: Mapping[str, str]) -> list[Column]:
    """The columns of a frame. nulls: what stands for NULL in a column, if it is not the dash."""
    return [texts(frame[name], signs, nulls.get(name)) for name in frame.columns]


def texts(series: pl.Series, signs: Signs, null: str | None = None) -> Column:
    """A column as texts. A column of floats gets as many decimals as its largest number needs for four digits."""
    write = _writer(series, signs)
    null = signs.null if null is None else null
    cells = [null if value is None else write(value) for value in series.to_list()]
    return Column(printable(series.name), cells, series.dtype.is_numeric())


def _writer(series: pl.Series, signs: Signs) -> Callable[[Any], str]:
    """The function that writes a value of this column."""
    kind = series.dtype
    if kind.is_integer():
        return "{:,}".format
    if isinstance(kind, pl.Decimal):
        return f"{{:,.{kind.scale or 0}f}}".format
    if kind.is_float():
        return _float_writer(series)
    return lambda value: value_text(value, signs)


def _float_writer(series: pl.Series) -> Callable[[float], str]:
    """The function that writes the floats of a column, all with as many decimals."""
    finite = series.filter(series.is_finite())
    largest = 0.0 if finite.is_empty() else max(abs(float(finite.max())), abs(float(finite.min())))  # type: ignore[arg-type]
    if largest >= 1e15:
        return f"{{:.{DIGITS}g}}".format
    is_whole = bool((finite == finite.round()).all())
    decimals = 0 if is_whole else next(d for limit, d in LIMITS if largest >= limit)
    smallest = 10.0**-decimals

    def write(value: float) -> str:
        if not math.isfinite(value):
            return str(value)
        if 0 < abs(value) < smallest:  # it would read as 0, or as up to twice its size
            return f"{value:.1g}"
        text = f"{value:,.{decimals}f}"
        return text if value else text.removeprefix("-")

    return write


LIMITS = ((1000, 0), (100, 1), (10, 2), (1.00005, 3), (0, 4))  # the largest number of a column → its decimals


def value_text(value: Any, signs: Signs) -> str:
    """A value that is no number of a column: a text, a truth, bytes, a time, or a list or struct of anything."""
    if value is None:
        return signs.null
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return f"{len(value):,} byte{'' if len(value) == 1 else 's'}"
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, pl.Series):
        value = value.to_list()
    if isinstance(value, list | tuple):
        shown = [value_text(each, signs) for each in value[:LISTED]]
        left = [f"{signs.more} {len(value) - LISTED:,} more"] if len(value) > LISTED else []
        return f"[{', '.join([*shown, *left])}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{printable(str(key))}: {value_text(each, signs)}' for key, each in value.items())}}}"
    return printable(str(value))


def printable(text: str) -> str:
    r"""A text in which control characters are written out, so that data cannot steer a terminal.

    >>> printable("a\x1b[31m")
    'a\\x1b[31m'
    """
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
