"""The errors of the warehouse, and which of DuckDB's errors mean a full disk or too little memory."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb


class WarehouseError(ValueError):
    """The warehouse cannot do what was asked; it is unchanged."""

    exit_code = 1


class WarehouseUnavailable(WarehouseError):
    """The file is locked, unreadable, not a warehouse, or made by a newer version."""

    exit_code = 3


class OutOfMemory(WarehouseError):
    """A statement needs more memory than the database may use, even with one thread and in small slices."""


def refuse_a_full_disk(error: BaseException, path: Path) -> None:
    """Raise WarehouseError if the error means that a disk, a quota or the largest allowed file size is full."""
    if re.search("No space left|Disk quota exceeded|File too large|max_temp_directory_size", str(error)):
        raise WarehouseError(
            f"no space left for {path}: free some and run the same command again; what was committed is kept"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that memory ran out. Polars wraps DuckDB's error, so the text is searched too."""
    return isinstance(error, (duckdb.OutOfMemoryException, MemoryError)) or bool(
        re.search("Out of Memory Error|std::bad_alloc", str(error))
    )
