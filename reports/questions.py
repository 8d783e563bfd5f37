"""The questions that pages and commands ask of a warehouse: one SELECT a file of sql/questions, over the views.

questions = load("page")                                  # name of the file → Question
rows = warehouse.rows(questions["layers"].sql)
asked = load("compare")["flips"].with_values(a=1, b=2)    # as it can be pasted into dissectdb query

Every question answers for the dissection that the views show, and bounds its rows: charts stay under 5,000 rows and
pictures are few, whatever the size of the warehouse. The page states where it shows a part of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dissectdb import ROOT

if TYPE_CHECKING:
    import polars as pl

FOLDER = ROOT / "sql" / "questions"


class Ask(Protocol):
    """A function that returns the rows of a query, as Warehouse.rows does."""

    def __call__(self, query: str, parameters: Mapping[str, Any] | None = None, /) -> pl.DataFrame: ...


class Store(Protocol):
    """Anything that answers queries: a Warehouse, or a notebook's own."""

    def rows(self, query: str, parameters: Mapping[str, Any] | None = None, /) -> pl.DataFrame: ...


@dataclass(frozen=True)
class Question:
    """One file of sql/questions: its header and its SELECT."""

    name: str
    title: str
    grain: tuple[str, ...]
    parameters: tuple[str, ...]
    engine: str | None  # the only engine that can answer it; None: any
    sql: str  # without the header

    def with_values(self, **values: Any) -> str:
        """The SELECT with values in place of its parameters; a parameter without a value stays."""
        texts = {name: _literal(value) for name, value in values.items()}
        return re.sub(r"\$(\w+)", lambda match: texts.get(match[1], match[0]), self.sql)

    def ask(self, answer: Ask, values: Mapping[str, Any] | None = None) -> pl.DataFrame:
        """The rows of the answer. values: of the parameters; those of other questions are ignored."""
        given = values or {}
        return answer(self.sql, {name: given[name] for name in self.parameters})


@cache
def load(folder: str) -> Mapping[str, Question]:
    """The questions of one folder of sql/questions by name. Raises ValueError naming a file that is not one."""
    return {path.stem: read(path) for path in sorted((FOLDER / folder).glob("*.sql"))}


def read(path: Path) -> Question:
    """One question. Raises ValueError naming the file where its header is not complete."""
    header, _, sql = path.read_text(encoding="utf-8").partition("\n\n")
    lines = [line.removeprefix("--").strip() for line in header.splitlines()]
    settings = dict(line.split(": ", 1) for line in lines[1:] if re.match(r"(grain|parameters|engine): ", line))
    if not header.startswith("-- ") or "grain" not in settings or not sql.strip():
        raise ValueError(f"{path}: a question starts with what it asks, then '-- grain: columns', then a blank line")
    return Question(
        name=path.stem,
        title=lines[0],
        grain=_names(settings["grain"]),
        parameters=_names(settings.get("parameters", "")),
        engine=settings.get("engine"),
        sql=sql.strip(),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, list | tuple):
        return ", ".join(map(_literal, value))
    return str(value)
