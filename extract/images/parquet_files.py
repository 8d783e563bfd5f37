"""Read Parquet files: their columns as text, the names of classes, and images by row.

file = open_parquet(Path("train.parquet"))
class_labels(file.schema_arrow)             # {"label": ("cat", "dog")}: what Hugging Face writes beside the columns
texts(path, file, scalars(file.schema_arrow), {})   # a table of text
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dissectdb.extract.study import StudyError
from dissectdb.extract.study.text_files import one_line

BATCH = 32  # images that are in memory at a time
BUFFER = 1 << 20  # bytes that are read of a column at a time
LFS = b"version https://git-lfs"


def open_parquet(path: Path) -> pq.ParquetFile:
    """The file, of which only the end is read. Raises StudyError if it is no Parquet file, or cut."""
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS))
        if start == LFS:
            raise StudyError(f"{path}: is a pointer of Git LFS, not the file itself; run: git lfs pull")
        return pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from None
    except pa.ArrowException as error:
        raise StudyError(
            f"{path}: is no Parquet file, or it is cut off: {one_line(error, 120)}; fetch or write it again"
        ) from None


def features(schema: pa.Schema) -> dict[str, Mapping[str, Any]]:
    """column → what Hugging Face notes about it in the file; empty without such notes."""
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: each for name, each in noted.items() if isinstance(each, dict) and name in schema.names}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def class_labels(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """column → the names of its classes, as Hugging Face notes them."""
    return {
        name: tuple(map(str, each["names"]))
        for name, each in features(schema).items()
        if each.get("_type") == "ClassLabel" and isinstance(each.get("names"), list)
    }


def scalars(schema: pa.Schema) -> list[str]:
    """The columns whose values are text, numbers, truth values or times."""
    return [field.name for field in schema if not (pa.types.is_nested(field.type) or is_binary(field.type))]


def is_binary(kind: pa.DataType) -> bool:
    """Whether values of a type are bytes."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def texts(
    path: Path, file: pq.ParquetFile, columns: Sequence[str], names: Mapping[str, Collection[str]]
) -> pl.DataFrame:
    """Columns as text; null where nothing is known. names: of classes, by column, in place of their numbers.

    Raises StudyError if a class has no name, or if the file is damaged.
    """
    try:
        table = pl.DataFrame(pl.from_arrow(file.read(columns=list(columns))))
    except (OSError, pa.ArrowException) as error:
        raise StudyError(f"{path}: is damaged: {one_line(error, 120)}; fetch or write it again") from None
    return table.select(_text(path, table[column], names.get(column)) for column in columns)


def _text(path: Path, values: pl.Series, names: Collection[str] | None) -> pl.Series:
    if names is not None and values.dtype.is_integer():
        unknown = values.is_not_null() & ~values.is_between(-1, len(names) - 1)
        if len(rows := unknown.arg_true()):
            raise StudyError(
                f"{path}: row {rows[0]}: {values.name} {values[int(rows[0])]} is no class; the file names {len(names)}"
            )
        return values.replace_strict(dict(enumerate(names)), default=None, return_dtype=pl.String)
    if values.dtype.is_float():
        values = values.fill_nan(None)
    return values.cast(pl.String).replace("", None)


def image_columns(schema: pa.Schema) -> list[str]:
    """The columns that may hold images: by Hugging Face's notes, else structs with bytes, else bytes."""
    structs = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type)
        and (place := field.type.get_field_index("bytes")) >= 0
        and is_binary(field.type.field(place).type)
    ]
    binaries = [field.name for field in schema if is_binary(field.type)]
    noted = [name for name, each in features(schema).items() if each.get("_type") == "Image"]
    return [name for name in noted if name in {*structs, *binaries}] or structs or binaries


class Images:
    """The images in a column of several files, by row over all files. Fastest in ascending order."""

    def __init__(self, files: Iterable[Path], column: str) -> None:
        self.column = column
        self.groups: list[tuple[Path, int]] = []  # file and number of each row group
        self.starts: list[int] = []  # its first row
        rows = 0
        for path in files:
            about = open_parquet(path).metadata
            for group in range(about.num_row_groups):
                self.groups.append((path, group))
                self.starts.append(rows)
                rows += about.row_group(group).num_rows
        self.count = rows
        self.group, self.start = -1, 0
        self.batch: Any = ()
        self.batches: Iterator[Any] = iter(())

    def read(self, row: int) -> bytes | None:
        """The bytes of an image; None if the row has none. Raises StudyError if the file is damaged."""
        group = bisect_right(self.starts, row) - 1
        path, of_file = self.groups[group]
        try:
            if group != self.group or row < self.start:
                file = open_parquet(path)
                self.batches = file.iter_batches(BATCH, row_groups=[of_file], columns=[self.column])
                self.group, self.start, self.batch = group, self.starts[group], ()
            while row >= self.start + len(self.batch):
                self.start += len(self.batch)
                self.batch = next(self.batches).column(0)
        except (OSError, pa.ArrowException, StopIteration) as error:
            raise StudyError(f"{path}: is damaged: {one_line(error, 120)}; fetch or write it again") from None
        value = self.batch[row - self.start].as_py()
        return value.get("bytes") if isinstance(value, dict) else value
