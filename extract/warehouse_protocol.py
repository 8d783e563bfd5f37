"""What extract needs of a warehouse. dissectdb.warehouse.Warehouse has it; extract does not import that class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

Row: TypeAlias = "dict[str, Any]"  # of an answer, by column; polars does not tell the types of the values
Rows: TypeAlias = "pa.Table | pa.RecordBatchReader | Sequence[Mapping[str, object]]"
TableRows: TypeAlias = "tuple[str, Rows]"  # a table's name and its new rows
Unit: TypeAlias = "Mapping[str, Rows] | Iterable[TableRows]"  # written in one transaction


class Store(Protocol):
    """An open warehouse. A query is SQL; its parameters are the values of $name in it."""

    def rows(self, query: str, parameters: Mapping[str, object] | None = None, /) -> pl.DataFrame:
        """The rows of a query of dissectdb itself."""

    def ask(self, query: str, /) -> pl.DataFrame:
        """The rows of a user's query. Raises ValueError unless it is one statement that only reads."""

    def preview(self, unit: Unit, query: str, parameters: Mapping[str, object] | None = None, /) -> pl.DataFrame:
        """The rows of a query as if the unit had been written; nothing is written."""

    def find(self, table: str, fingerprint: str, /) -> int | None:
        """The id of the row of `table` with this fingerprint, or None."""

    def next_id(self, table: str, /) -> int:
        """The smallest id above all that `table` has."""

    def write(self, unit: Unit, /) -> None:
        """Write a unit in one transaction."""

    def load(self, units: Iterable[Unit], /) -> float:
        """Write units in order while the next one is computed; returns the share of time spent waiting, 0 to 1."""

    def discard(self, conditions: Mapping[str, str], parameters: Mapping[str, object], /, instead: Unit = ...) -> None:
        """Delete the rows of each table that meet its SQL condition, and write a unit instead, in one transaction."""

    def build(self, *, select: Sequence[str]) -> Iterator[object]:
        """Rebuild those of these views, and of what they read, that are stale; each is yielded when it is built."""
