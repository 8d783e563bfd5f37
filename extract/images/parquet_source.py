"""Parquet files that hold images, as Hugging Face writes them, as a probing set: one file, or a folder of shards.

The image is a column of bytes, or of structs of bytes and path. The names of classes are those in the file's metadata.
A shard's split is in its name (train-00000-of-00002.parquet), unless there is a column `split`. Other columns of text
and numbers become attributes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

from dissectdb.extract.images.decoding import file_hash
from dissectdb.extract.images.listed_source import Listed, chunks, facts_of, first_of, shards
from dissectdb.extract.images.manifest_source import CLASS_COLUMNS, GROUP_COLUMNS, SPLIT_COLUMNS
from dissectdb.extract.images.parquet_files import Images, class_labels, image_columns, open_parquet, scalars, texts
from dissectdb.extract.images.places import Place
from dissectdb.extract.study import Dataset, StudyError
from dissectdb.extract.study.class_names import few

AT_ONCE = 256  # images that are read in the order of the file, whatever order they are wanted in


class Parquet(Listed):
    """The images in Parquet files."""

    kind = "parquet"

    def __init__(self, dataset: Dataset, path: Path) -> None:
        self.files = shards(path, ".parquet", self.kind)
        first = open_parquet(self.files[0][0]).schema_arrow
        name = str(self.files[0][0])
        self.column = chosen_image(first, dataset, name)
        labels = class_labels(first)
        label = chosen_label(first, labels, dataset, name)
        if label is not None and dataset.classes:
            labels.pop(label, None)  # the study's names are those of its numbers
        tables = [self._table(file, shard, split, first, label, labels) for file, shard, split in self.files]
        table = pl.concat(tables)
        columns = {
            "label": label,
            "split": first_of(table.columns, SPLIT_COLUMNS),
            "group": first_of(table.columns, GROUP_COLUMNS),
        }
        facts = {fact: table[column] for fact, column in columns.items() if column is not None}
        if "split" not in facts:
            splits = [
                pl.repeat(split, len(each), dtype=pl.String, eager=True)
                for each, (*_, split) in zip(tables, self.files, strict=True)
            ]
            facts["split"] = pl.concat(splits)
        extras = table.drop([PATH, *(column for column in columns.values() if column is not None)])
        left_out = [each for each in first.names if each not in table.columns and each != self.column]
        taken = f"images from column {self.column}, classes from {label or 'none'}"
        self.notes = [f"{taken}; attributes: {few(extras.columns) or 'none'}"]
        if left_out:
            self.notes.append(f"columns that are neither text nor numbers are not stored: {few(left_out)}")
        self.images = Images([file for file, *_ in self.files], self.column)
        is_number = label is not None and label not in labels and pa.types.is_integer(first.field(label).type)
        super().__init__(
            dataset, str(path), facts_of({"path": table[PATH], **facts}, len(table)), extras, self._where,
            dataset.classes or labels.get(label or "", ()), are_numbers=is_number,
        )  # fmt: skip

    def _table(
        self, file: Path, shard: str, split: str | None, schema: pa.Schema, label: str | None,
        labels: Mapping[str, Sequence[str]],
    ) -> pl.DataFrame:  # fmt: skip
        """The columns of a shard as text, and in PATH the name of each image. Raises StudyError for another schema."""
        opened = open_parquet(file)
        if opened.schema_arrow.remove_metadata() != schema.remove_metadata():
            raise StudyError(
                f"{file}: has other columns than {self.files[0][1]}; give both the same, or move it elsewhere"
            )
        if class_labels(opened.schema_arrow) != class_labels(schema):
            raise StudyError(f"{file}: names its classes differently from {self.files[0][1]}; write both with one list")
        table = texts(file, opened, scalars(schema), labels)
        paths = pl.Series([f"{shard}:{row}" for row in range(opened.metadata.num_rows)], dtype=pl.String)
        return table.with_columns(paths.alias(PATH)) if table.width else pl.DataFrame({PATH: paths})

    def _where(self, row: int) -> str:
        return f"{self.name}: image {row}"

    def places(self, numbers: Iterable[int]) -> Iterator[Place]:
        for some in chunks(numbers, AT_ONCE):
            found = {number: self.images.read(number) for number in sorted(set(some))}
            yield from (found[number] for number in some)

    def hash_files(self, digest: hashlib._Hash) -> None:
        for file, shard, _ in self.files:
            digest.update(f"{shard}\0".encode(errors="surrogateescape") + file_hash(file))


PATH = "\0path"  # a name that no column has


def chosen_image(schema: pa.Schema, dataset: Dataset, name: str) -> str:
    """The column with the images. Raises StudyError if there is none, or a doubt."""
    columns = ", ".join(f"{field.name} ({str(field.type)[:40]})" for field in list(schema)[:12])
    found = image_columns(schema)
    if (asked := dataset.image_column) is not None:
        if asked not in schema.names or asked not in image_columns(pa.schema([schema.field(asked)])):
            raise StudyError(f"{name}: dataset.image_column: {asked} is no column of bytes; there is {columns}")
        return asked
    if not found:
        raise StudyError(
            f"{name}: no column holds images, as bytes or structs of bytes and path; there is {columns}; "
            "kind = 'manifest' reads a column of file names"
        )
    if len(found) > 1:
        raise StudyError(f"{name}: several columns may hold the image: {few(found)}; dataset.image_column names one")
    return found[0]


def chosen_label(schema: pa.Schema, labels: Mapping[str, object], dataset: Dataset, name: str) -> str | None:
    """The column with the classes; None if there is none. Raises StudyError if there is a doubt."""
    columns = scalars(schema)
    if (asked := dataset.label_column) is not None:
        if asked not in columns:
            raise StudyError(
                f"{name}: dataset.label_column: no column {asked!r} of text or numbers; there is {few(columns, 12)}"
            )
        return asked
    called = first_of([*labels] or columns, CLASS_COLUMNS)
    if called is None and len(labels) > 1:
        raise StudyError(f"{name}: several columns may hold the class: {few(labels)}; dataset.label_column names one")
    return called or next(iter(labels), None)
