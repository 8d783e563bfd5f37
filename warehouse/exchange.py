"""Export a warehouse to a folder of Parquet files, and import such a folder or a folder of shards.

export(warehouse, "shared/")            # one file per table, and manifest.json with rows and hashes
import_folder("shared/", "new.duckdb")  # refuses a file that differs from the manifest

Views are not exported: an import computes them from the tables. The folder may come from a stranger, so no code from
it runs and no link in it is followed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dissectdb.warehouse import schema, shard_reader, view_files
from dissectdb.warehouse.database import SCHEMA_VERSION, Warehouse
from dissectdb.warehouse.errors import WarehouseError, WarehouseUnavailable, refuse_a_full_disk

if TYPE_CHECKING:
    import duckdb

MANIFEST = "manifest.json"
FORMAT = 1
# About the file, not the study.
OWN = frozenset({"warehouse_info", "table_versions", "view_builds", "view_parts", "completed_runs"})
ROWS_AT_ONCE = 1 << 20
# The high bytes of neighbouring floats are alike, so splitting the bytes into streams compresses better.
FLOATS = {"float": True, "double": True}


@dataclass(frozen=True)
class Exchanged:
    """One table of an export or import."""

    table: str
    rows: int
    megabytes: float


class ExportError(WarehouseError):
    """A folder cannot be written, or is not a valid export; the message says what to do."""


def tables() -> list[str]:
    """The tables that hold the results of a study, in the order of sql/tables.sql."""
    return [table.name for table in schema.tables() if table.name not in OWN]


# ---------------------------------------------------------------- out


def export(warehouse: Warehouse, folder: Path | str) -> Iterator[Exchanged]:
    """Write every table; yields what was written. The folder appears once it is complete. Raises ExportError."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder} exists already; name a new folder")
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
    """A temporary folder that is renamed to `folder` at the end of the block, or deleted if the block fails."""
    half = folder.with_name(folder.name + ".part")
    try:
        shutil.rmtree(half, ignore_errors=True)  # left by a run that was killed
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

    # A malicious file may hold a view or macro that has the name of a table.
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
    *,
    memory_limit: str | None = None,
    threads: str | int | None = None,
) -> Iterator[Exchanged]:
    """Make a warehouse from an export or a folder of shards; yields what was read.

    The file appears once it is complete. Views that Spark computed, in the folder's `views`, are imported; the others
    are built. finish: called before that, to compute more from the tables. memory_limit, threads: as of Warehouse.
    Raises ExportError or ShardError if a file is missing, damaged or differs from this version's tables.
    """
    folder, path = Path(folder), Path(path)
    if path.exists():
        raise ExportError(f"{path} exists already; name a new file")
    if not path.parent.is_dir():
        raise WarehouseUnavailable(f"{path}: there is no folder {path.parent}; make it first")
    sharded = shard_reader.files(folder) if shard_reader.is_folder_of_shards(folder) else []
    source = folder / shard_reader.CATALOG if sharded else folder
    described = _checked_manifest(source)
    half = path.with_name(path.name + ".part")
    _delete(half)  # left by a run that was killed
    try:
        with Warehouse(half, wait=wait, memory_limit=memory_limit, threads=threads) as warehouse:
            parts = [(table, source / f"{table}.parquet", rows) for table, rows in described.items()]
            parts += [(each.table, each.path, each.rows) for each in sharded]
            for table, file, rows in parts:
                _read(warehouse, table, file, rows)
                yield Exchanged(table, rows, file.stat().st_size / 1e6)
            if given := _computed(folder / "views"):
                list(warehouse.build(select=given, given=given))
            finish(warehouse)
            list(warehouse.build())
        os.replace(half, path)
    except view_files.ViewError as error:  # the error holds the failed statement, in many lines
        raise ExportError(f"{folder}: {str(error).splitlines()[0]}") from error
    finally:
        _delete(half)


def _computed(folder: Path) -> dict[str, Callable[[], object]]:
    """View → a function that opens its rows, for each view that was computed elsewhere."""
    import pyarrow.dataset

    def reader(place: Path) -> Callable[[], object]:
        return lambda: pyarrow.dataset.dataset(place, format="parquet").scanner(batch_size=ROWS_AT_ONCE).to_reader()

    known = [view.name for view in view_files.load_views() if view.materialized]
    places = {name: folder / f"{name}.parquet" for name in known}
    return {name: reader(place) for name, place in places.items() if place.exists()}


def _delete(file: Path) -> None:
    for suffix in ("", ".wal"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def _checked_manifest(folder: Path) -> dict[str, int]:
    """Table → number of rows. Raises ExportError unless every file is there with the exported bytes."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version, described = manifest["schema_version"], manifest["tables"]
        facts = {table: (int(each["rows"]), str(each["sha256"])) for table, each in described.items()}
    except FileNotFoundError:
        raise ExportError(
            f"{folder} is not an export: it has no {MANIFEST}; make one with: dissectdb export DIR"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ExportError(f"{folder / MANIFEST} cannot be read: {type(error).__name__}: {error}") from error
    if version != SCHEMA_VERSION:
        raise WarehouseUnavailable(
            f"{folder} was made by another version of dissectdb (schema {version}, this one reads {SCHEMA_VERSION}); "
            "import it with that one, then open the warehouse with this one"
        )
    if wrong := sorted(facts.keys() ^ set(tables())):
        raise ExportError(f"{folder / MANIFEST} has other tables than a warehouse: {', '.join(wrong)[:200]}")
    for table, (_, wanted) in facts.items():
        path = folder / f"{table}.parquet"
        if path.is_symlink() or not path.is_file():
            raise ExportError(f"{path} is missing or not a plain file; export again")
        if _sha256(path) != wanted:
            raise ExportError(f"{path} is damaged: its bytes are not those that were exported; copy it again")
    return {table: rows for table, (rows, _) in facts.items()}


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
