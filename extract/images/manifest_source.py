"""A manifest as a probing set: a CSV, TSV or Parquet file that lists image files, one per row.

The column of files is the first of FILE_COLUMNS, or dataset.image_column; class, split and group likewise. All other
columns become attributes. Text is kept as it is written, so that 007 stays 007. Python's csv module reads it, because
it knows the line of a mistake. Paths are relative to the manifest's folder, or to dataset.root.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from dissectdb.extract.images.decoding import file_hash, is_file
from dissectdb.extract.images.listed_source import Listed, facts_of, first_of
from dissectdb.extract.images.parquet_files import class_labels, open_parquet, scalars, texts
from dissectdb.extract.images.places import Place
from dissectdb.extract.study import Dataset, StudyError
from dissectdb.extract.study.class_names import few
from dissectdb.extract.study.text_files import one_line

FILE_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path")
CLASS_COLUMNS = ("class", "label", "class_name", "target", "category")
SPLIT_COLUMNS = ("split",)
GROUP_COLUMNS = ("group",)
DELIMITERS = (",", "\t", ";")
LINES = 10_000  # that become columns at a time
LOOKED_FOR = 20  # files of which one must be there
MAX_FIELD = 1 << 20
USUAL_NAME = 100  # bytes of a path, below which no file system refuses it

log = logging.getLogger("dissectdb")


class Manifest(Listed):
    """The images that a manifest lists."""

    kind = "manifest"

    def __init__(self, dataset: Dataset, path: Path) -> None:
        self.path, self.root = path, dataset.root or path.parent
        table, names = read(path)
        columns = chosen_columns(table.columns, dataset, str(path))
        facts = {fact: table[column] for fact, column in columns.items()}
        if (blank := facts["path"].is_null().arg_true()).len():
            raise StudyError(f"{_line(path, int(blank[0]))}: names no file in column {columns['path']}")
        _refuse_impossible(path, self.root, facts["path"], columns["path"])
        extras = table.drop(columns.values())
        taken = ", ".join(f"{fact} from {column}" for fact, column in columns.items())
        self.notes = [f"columns of {path.name}: {taken}; attributes: {few(extras.columns) or 'none'}"]
        super().__init__(
            dataset, str(path), facts_of(facts, len(table)), extras, lambda row: _line(path, row),
            dataset.classes or names.get(columns.get("label", ""), ()),
        )  # fmt: skip
        self._refuse_wrong_root(self.frame["path"][:LOOKED_FOR].to_list())

    def places(self, numbers: Iterable[int]) -> Iterator[Place]:
        paths = self.frame["path"]
        return (self.root / paths[number] for number in numbers)

    def hash_files(self, digest: hashlib._Hash) -> None:
        digest.update(file_hash(self.path))
        for path in self.frame["path"]:
            digest.update(file_hash(self.root / path))

    def _refuse_wrong_root(self, paths: Sequence[str]) -> None:
        """Raises StudyError if none of the paths is a file."""
        if any(is_file(self.root / path) for path in paths):
            return
        first = paths[0]
        if "://" in first:
            raise StudyError(f"{self.path}: lists addresses, such as {one_line(first, 100)}; fetch the images first")
        which = "none" if len(paths) == len(self.frame) else f"none of the first {len(paths)}"
        raise StudyError(
            f"{self.path}: of {len(self.frame):,} files {which} is there; the first would be {self.root / first}; "
            f"{_hint(self.root, first)}"
        )


def files(dataset: Dataset) -> list[Path]:
    """The files that a manifest lists. Raises StudyError."""
    assert dataset.path is not None, "the study has refused a manifest without it"
    table, _ = read(dataset.path)
    column = chosen_columns(table.columns, dataset, str(dataset.path))["path"]
    root = dataset.root or dataset.path.parent
    return [root / path for path in table[column].drop_nulls()]


def _refuse_impossible(manifest: Path, root: Path, paths: pl.Series, column: str) -> None:
    """Raises StudyError with the row of a path that no file can have."""
    for number in (paths.str.contains("\0", literal=True) | (paths.str.len_bytes() > USUAL_NAME)).arg_true():
        try:
            os.stat(root / paths[number])
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
                why = "too long" if isinstance(error, OSError) else "impossible, since it holds a NUL"
                raise StudyError(
                    f"{_line(manifest, number)}: the path {one_line(paths[number], 60)} in column {column} is {why}; "
                    "write the path of an image's file"
                ) from None


def _hint(root: Path, path: str) -> str:
    """Where the first file is, if it is in a folder near by."""
    with os.scandir(root if root.is_dir() else root.parent) as entries:
        folders = [entry.path for entry in islice(entries, 1000) if entry.is_dir()]
    for folder in [*sorted(folders), *map(str, list(root.parents)[:3]), os.getcwd()]:
        if is_file(Path(folder) / path):
            return f"dataset.root = {folder!r} would find it"
    if "\\" in path and os.sep == "/":
        return "write / in place of \\ in paths"
    return "paths are relative to the manifest's folder; dataset.root names another folder"


def chosen_columns(columns: Sequence[str], dataset: Dataset, name: str) -> dict[str, str]:
    """path, label, split, group → the column that holds it. Raises StudyError."""
    for key, asked in (("image_column", dataset.image_column), ("label_column", dataset.label_column)):
        if asked is not None and asked not in columns:
            raise StudyError(f"{name}: dataset.{key}: there is no column {asked!r}; there is {few(columns, 12)}")
    found = {
        "path": dataset.image_column or first_of(columns, FILE_COLUMNS),
        "label": dataset.label_column or first_of(columns, CLASS_COLUMNS),
        "split": first_of(columns, SPLIT_COLUMNS),
        "group": first_of(columns, GROUP_COLUMNS),
    }
    if found["path"] is None:
        raise StudyError(
            f"{name}: no column is called {', '.join(FILE_COLUMNS[:-1])} or {FILE_COLUMNS[-1]}; there is "
            f"{few([one_line(column, 60) for column in columns], 12)}; dataset.image_column names the one of files"
        )
    return {fact: column for fact, column in found.items() if column is not None}


# ---------------------------------------------------------------- the table


def read(path: Path) -> tuple[pl.DataFrame, dict[str, tuple[str, ...]]]:
    """All columns as text, null where nothing is written; and the names of classes by column, if the file has them."""
    if path.suffix.lower() not in (".parquet", ".pq"):
        return _read_csv(path), {}
    file = open_parquet(path)
    names = class_labels(file.schema_arrow)
    return texts(path, file, scalars(file.schema_arrow), names), names


def _read_csv(path: Path) -> pl.DataFrame:
    usual_limit = csv.field_size_limit(MAX_FIELD)  # of the whole process
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(DELIMITERS, key=first.count)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            return _table(path, reader)
    except UnicodeDecodeError:
        raise StudyError(f"{path}: is not text in UTF-8; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise StudyError(f"{path}:{reader.line_num}: is no line of CSV: {one_line(error)}") from None
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from None
    finally:
        csv.field_size_limit(usual_limit)


def _table(path: Path, reader: Any) -> pl.DataFrame:
    header = [name.strip() for name in next(reader, [])]
    if not any(header):
        raise StudyError(f"{path}: is empty; its first line must name its columns")
    if twice := {name for name in header if name and header.count(name) > 1}:
        raise StudyError(f"{path}: the column {one_line(min(twice), 60)} appears twice; name each column differently")
    frames = []
    lines = _of_width(path, reader, len(header))
    while some := list(islice(lines, LINES)):
        columns = zip(header, zip(*some, strict=True), strict=True)
        frames.append(pl.DataFrame({name: pl.Series(values, dtype=pl.String) for name, values in columns if name}))
    if not frames:
        raise StudyError(f"{path}: no readable image: it has no line after the first")
    return pl.concat(frames).with_columns(pl.all().replace("", None))


def _of_width(path: Path, reader: Any, width: int) -> Iterator[list[str]]:
    """The lines that are not blank. Raises StudyError for one with another number of fields."""
    for fields in reader:
        if fields and len(fields) != width:
            raise StudyError(f"{path}:{reader.line_num}: has {len(fields)} fields, and the first line has {width}")
        if fields:
            yield fields


def _line(path: Path, row: int) -> str:
    """The place of a row, for messages; its line differs from its number if values hold line breaks."""
    if path.suffix.lower() in (".parquet", ".pq"):
        return f"{path}: row {row}"
    with path.open(encoding="utf-8-sig", newline="") as file:
        delimiter = max(DELIMITERS, key=file.readline().count)
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter)
        next(islice((fields for fields in reader if fields), row + 1, None), None)
        return f"{path}:{reader.line_num}"
