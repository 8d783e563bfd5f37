"""A warehouse as a folder of Parquet files, and back: to hand on, to keep, to read with anything.

export(warehouse, "shared/")            # a file a table, and manifest.json with rows and hashes
import_folder("shared/", "new.duckdb")  # refuses a file that is not as the manifest says

Views are not in it: they are made again from the tables. Nothing of the folder runs and no name in it is followed; it
may be somebody else's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissectdb.warehouse import shard_reader, views
from dissectdb.warehouse.database import SCHEMA_VERSION, Warehouse
from dissectdb.warehouse.errors import WarehouseError, WarehouseUnavailable, refuse_a_full_disk

if TYPE_CHECKING:
    import duckdb

MANIFEST = "manifest.json"
FORMAT = 1
OWN = frozenset({"warehouse_info", "table_versions", "view_builds", "view_parts"})  # about the file, not the study
ROWS_AT_ONCE = 1 << 20
# A float shares its high bytes with its neighbours: with the bytes apart, they take less room.
FLOATS = {"float": True, "double": True}


@dataclass(frozen=True)
class Exchanged:
    """One table of an export or import."""

    table: str
    rows: int
    megabytes: float


class ExportError(WarehouseError):
    """A folder cannot be written, or is no sound export; the message says what to do."""


def tables() -> list[str]:
    """The tables that hold what a study found, in the order of sql/tables.sql."""
    text = (views.SQL / "tables.sql").read_text(encoding="utf-8")
    return [name for name in re.findall(r"^create table if not exists (\w+)", text, re.MULTILINE) if name not in OWN]


# ---------------------------------------------------------------- out


def export(warehouse: Warehouse, folder: Path | str) -> Iterator[Exchanged]:
    """Write every table; yields what was written. The folder is there when it is whole. Raises ExportError."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder} is there already; name a folder that is not")
    with _whole(folder) as half:
        described = {}
        for table in tables():
            path = half / f"{table}.parquet"
            rows = _write(warehouse, table, path)
            described[table] = {"rows": rows, "sha256": _sha256(path)}
            yield Exchanged(table, rows, path.stat().st_size / 1e6)
        manifest = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "tables": described}
        (half / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder of another name that gets this one's when the block has ended, and is gone if it fails."""
    half = folder.with_name(folder.name + ".part")
    try:
        shutil.rmtree(half, ignore_errors=True)  # of a run that was killed
        half.mkdir(parents=True)
        yield half
        if folder.exists():
            folder.rmdir()
        os.replace(half, folder)
    except OSError as error:
        refuse_a_full_disk(error, folder)
        raise ExportError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _write(warehouse: Warehouse, table: str, path: Path) -> int:
    return warehouse.attempt(lambda connection: _write_table(connection, warehouse.path, table, path), write=False)


def _write_table(connection: duckdb.DuckDBPyConnection, warehouse: Path, table: str, path: Path) -> int:
    import pyarrow.parquet as pq

    # The table, whatever else may have its name in a file that somebody else made.
    known = connection.execute(
        "select 1 from duckdb_tables() where table_name = ? and schema_name = 'main'", [table]
    ).fetchall()
    if not known:
        raise ExportError(f"{warehouse} has no table {table}; run: dissectdb build")
    reader = connection.sql(f"select * from main.{table}").to_arrow_reader(ROWS_AT_ONCE)
    split = [field.name for field in reader.schema if str(field.type) in FLOATS]
    rows = 0
    with pq.ParquetWriter(
        path,
        reader.schema,
        compression="zstd",
        use_byte_stream_split=split,
        use_dictionary=[field.name for field in reader.schema if field.name not in split],
    ) as writer:
        for batch in reader:
            writer.write_batch(batch, row_group_size=ROWS_AT_ONCE)
            rows += batch.num_rows
    return rows


# ---------------------------------------------------------------- in


def import_folder(
    folder: Path | str,
    path: Path | str,
    wait: float = 0.0,
    finish: Callable[[Warehouse], object] = lambda warehouse: None,
    **options: Any,
) -> Iterator[Exchanged]:
    """Make a warehouse of an export or of a folder of shards; yields what was read. There is no file until it is whole.

    Views that Spark computed, in the folder's `views`, are taken as they are; the others are built. finish: what else
    is computed from the tables, before that. options: memory_limit and threads, as of Warehouse.

    Raises ExportError or ShardError for what is missing, damaged or not as
    this version's tables are.
    """
    folder, path = Path(folder), Path(path)
    if path.exists():
        raise ExportError(f"{path} is there already; name a file that is not")
    if not path.parent.is_dir():
        raise WarehouseUnavailable(f"{path}: there is no folder {path.parent}; make it first")
    sharded = shard_reader.files(folder) if shard_reader.is_folder_of_shards(folder) else []
    source = folder / shard_reader.CATALOG if sharded else folder
    described = _checked_manifest(source)
    half = path.with_name(path.name + ".part")
    _delete(half)  # of a run that was killed
    try:
        with Warehouse(half, wait=wait, **options) as warehouse:
            parts = [(table, source / f"{table}.parquet", facts["rows"]) for table, facts in described.items()]
            parts += [(each.table, each.path, each.rows) for each in sharded]
            for table, file, rows in parts:
                _read(warehouse, table, file, rows)
                yield Exchanged(table, rows, file.stat().st_size / 1e6)
            if given := _computed(folder / "views"):
                list(warehouse.build(select=given, given=given))
            finish(warehouse)
            list(warehouse.build())
        os.replace(half, path)
    except views.ViewError as error:  # with the statement that failed, in many lines
        raise ExportError(f"{folder}: {str(error).splitlines()[0]}") from error
    finally:
        _delete(half)


def _computed(folder: Path) -> dict[str, Callable[[], Any]]:
    """View → how to read its rows, of those that were computed elsewhere."""
    import pyarrow.dataset

    def reader(place: Path) -> Callable[[], Any]:
        return lambda: pyarrow.dataset.dataset(place, format="parquet").scanner(batch_size=ROWS_AT_ONCE).to_reader()

    known = [view.name for view in views.load_views() if view.materialized]
    places = {name: folder / f"{name}.parquet" for name in known}
    return {name: reader(place) for name, place in places.items() if place.exists()}


def _delete(file: Path) -> None:
    for suffix in ("", ".wal"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def _checked_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Table → rows and sha256; every file is there and has the bytes that were written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version, described = manifest["schema_version"], manifest["tables"]
        facts = {table: (int(each["rows"]), str(each["sha256"])) for table, each in described.items()}
    except FileNotFoundError:
        raise ExportError(f"{folder} is no export: it has no {MANIFEST}; make one with: dissectdb export DIR") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ExportError(f"{folder / MANIFEST} cannot be read: {type(error).__name__}: {error}") from error
    if version != SCHEMA_VERSION:
        raise WarehouseUnavailable(
            f"{folder} was made by another dissectdb (schema {version}, this one knows {SCHEMA_VERSION}); import it "
            "with that one, then open the warehouse with this one"
        )
    if wrong := sorted(facts.keys() ^ set(tables())):
        raise ExportError(f"{folder / MANIFEST} has other tables than a warehouse: {', '.join(wrong)[:200]}")
    for table, (_, wanted) in facts.items():
        path = folder / f"{table}.parquet"
        if path.is_symlink() or not path.is_file():
            raise ExportError(f"{path} is missing or no plain file; export again")
        if _sha256(path) != wanted:
            raise ExportError(f"{path} is damaged: its bytes are not those that were exported; copy it again")
    return {table: {"rows": rows} for table, (rows, _) in facts.items()}


def _read(warehouse: Warehouse, table: str, path: Path, expected: int) -> None:
    import duckdb
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows != expected:
                rows = f"{file.metadata.num_rows:,} rows, the manifest says {expected:,}"
                raise ExportError(f"{path} has {rows}; export again")
            wanted = warehouse.rows(f"select * from {table} limit 0").columns
            if sorted(file.schema_arrow.names) != sorted(wanted):
                raise ExportError(f"{path} has other columns than {table}: {', '.join(file.schema_arrow.names)[:200]}")
            batches = file.iter_batches(ROWS_AT_ONCE)
            warehouse.write({table: pa.RecordBatchReader.from_batches(file.schema_arrow, batches)})
    except (pa.ArrowException, duckdb.Error, OSError) as error:
        refuse_a_full_disk(error, warehouse.path)
        raise ExportError(f"{path} cannot be read as {table}: {str(error).splitlines()[0]}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
