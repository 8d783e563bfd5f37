"""Write one shard of an extraction as Parquet files. Many processes or machines can work without a shared database.

shard = choose("0/4", os.environ)                  # the blocks 0, 4, 8, … of every split
run(plan, catalog, "parquet:shards", shard, export)  # catalog: a warehouse in memory for the small tables

    shards/table=activations/layer=conv1/shard=00000-of-00004.parquet      one per table (and layer) and shard
    shards/table=extraction_blocks/shard=00000-of-00004.parquet            the receipt of the shard, written last

A file is written under a temporary name and then renamed, so every file under its final name is complete. Its footer
has the fingerprint of the extraction. A shard is done if its receipt exists. Ids agree between shards, because each
shard enters the same rows in the same order. The folder may be an address that pyarrow supports: s3://bucket/folder.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from dissectdb.extract import fingerprints
from dissectdb.extract.record import blocks, extraction
from dissectdb.extract.record.blocks import ModelIds
from dissectdb.extract.record.plan import Plan
from dissectdb.extract.study import StudyError
from dissectdb.extract.warehouse_protocol import Rows, Store, TableRows, Unit
from dissectdb.progress import Progress, unshown

KEY = b"dissectdb"  # of the footer
RECEIPTS = "extraction_blocks"
PREFIX = "parquet:"
RECEIPT = pa.schema(
    [
        ("extraction_id", pa.int32()),
        ("block", pa.int32()),
        ("images", pa.int32()),
        ("seconds", pa.float64()),
        ("finished_at", pa.timestamp("us")),
    ]
)


@dataclass(frozen=True)
class Shard:
    """One of `of` shards. number: which one, counted from 0."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number:05}-of-{self.of:05}"


def choose(text: str | None, environment: Mapping[str, str]) -> Shard:
    """The shard of "i/n". Without text: the one that SLURM or torchrun numbers, else 0/1. Raises StudyError."""
    if text is None:
        first = int(environment.get("SLURM_ARRAY_TASK_MIN", 0))
        for number, of, start in (("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", first), ("RANK", "WORLD_SIZE", 0)):
            if environment.get(number, "").isdigit() and environment.get(of, "").isdigit():
                text = f"{int(environment[number]) - start}/{environment[of]}"
                break
        else:
            return Shard(0, 1)
    parts = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
    if not parts or int(parts[1]) >= int(parts[2]):
        raise StudyError(f"--shard {text}: not a shard; write i/n with i from 0 to n - 1, e.g. 0/4")
    return Shard(int(parts[1]), int(parts[2]))


def open_sink(sink: str) -> tuple[pa.fs.FileSystem, str]:
    """The file system and folder of "parquet:DIR". Raises StudyError."""
    address = sink.removeprefix(PREFIX)
    if address == sink or not address:
        raise StudyError(f"--sink {sink}: not a sink; write parquet:DIR")
    try:
        if "://" in address:
            return pa.fs.FileSystem.from_uri(address)
        return pa.fs.LocalFileSystem(), str(Path(address).resolve())
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StudyError(f"--sink {sink}: {str(error).splitlines()[0]}") from error


def run(
    plan: Plan,
    catalog: Store,
    sink: str,
    shard: Shard,
    export: Callable[[Path], object],
    progress: Progress = unshown,
) -> bool:
    """Compute a shard and write its files; returns False if they exist already.

    catalog: an empty warehouse for the small tables. export: called for the first shard with a folder, writes the small
    tables into it. Raises StudyError.
    """
    files = _Files(*open_sink(sink), shard, fingerprint(plan, shard.of))
    if files.are_done():
        return False
    shard_plan = replace(plan, shard=(shard.number, shard.of))
    entered = extraction.enter(shard_plan, catalog)
    try:
        for unit in extraction.new_blocks(shard_plan, catalog, entered, progress):
            for table, rows in _pairs(unit):
                files.add(table, rows, entered.models)
        if new := extraction.new_dissections(shard_plan, catalog, entered):
            catalog.write(new)
        if shard.number == 0:
            files.put_folder("catalog", export)
        files.finish()
    except OSError as error:
        raise StudyError(f"--sink {sink}: {error}") from error
    finally:
        files.discard()
    return True


def fingerprint(plan: Plan, shards: int) -> str:
    """The fingerprint of an extraction in `shards` shards. Files with different fingerprints do not belong together."""
    wanted = sorted(target.fingerprint(plan.probing_set.fingerprint) for target in plan.targets())
    return fingerprints.of_values(wanted, blocks.BLOCK, shards, plan.keep_activations)


def _pairs(unit: Unit) -> Iterable[TableRows]:
    return unit.items() if isinstance(unit, Mapping) else unit


class _Files:
    """The files of a shard while they are written."""

    def __init__(self, system: pa.fs.FileSystem, folder: str, shard: Shard, mark: str) -> None:
        self.system, self.folder, self.shard, self.mark = system, folder, shard, mark
        self.writers: dict[str, pq.ParquetWriter] = {}
        self.rows: dict[str, int] = {}
        self.receipts: list[Mapping[str, object]] = []

    def are_done(self) -> bool:
        """Whether the receipt of this shard exists and belongs to this extraction."""
        try:
            with self.system.open_input_file(f"{self.folder}/{self._name(RECEIPTS)}") as file:
                footer = pq.read_metadata(file).metadata or {}
        except (FileNotFoundError, pa.ArrowException):
            return False
        return json.loads(footer.get(KEY, b"{}")).get("fingerprint") == self.mark

    def add(self, table: str, rows: Rows, ids: ModelIds) -> None:
        """Write rows of a table. The ledger entries are kept for the receipt."""
        if isinstance(rows, Sequence):
            assert table == RECEIPTS, f"{table} comes as an Arrow table"
            self.receipts += rows
            return
        for batch in rows if isinstance(rows, pa.RecordBatchReader) else rows.to_batches():
            if not batch.num_rows:
                continue
            layer = ids.layer_of(batch["neuron_id"][0].as_py()) if "neuron_id" in batch.schema.names else None
            name = self._name(table, layer)
            if name not in self.writers:
                self.writers[name], self.rows[name] = self._open(name, batch.schema), 0
            self.writers[name].write_batch(batch)
            self.rows[name] += batch.num_rows

    def finish(self) -> None:
        """Give the files their names. The receipt comes last: it lists the files and how many rows each has."""
        about = {"fingerprint": self.mark, "shard": str(self.shard)}
        for writer in self.writers.values():
            writer.add_key_value_metadata({KEY: json.dumps(about)})
            writer.close()
        for name in self.writers:
            self.system.move(self._half(name), f"{self.folder}/{name}")
        name = self._name(RECEIPTS)
        table = pa.Table.from_pylist(self.receipts, RECEIPT)
        with self._open(name, table.schema) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({KEY: json.dumps(about | {"files": self.rows})})
        self.system.move(self._half(name), f"{self.folder}/{name}")
        self.writers.clear()

    def put_folder(self, name: str, export: Callable[[Path], object]) -> None:
        """Let `export` write files to a temporary folder, and copy them to the folder `name` of the sink."""
        with tempfile.TemporaryDirectory() as local:
            export(Path(local) / name)
            self.system.create_dir(f"{self.folder}/{name}", recursive=True)
            here = pa.fs.LocalFileSystem()
            pa.fs.copy_files(f"{local}/{name}", f"{self.folder}/{name}", here, self.system)

    def discard(self) -> None:
        """Delete unfinished files."""
        for name, writer in self.writers.items():
            writer.close()
            self.system.delete_file(self._half(name))

    def _open(self, name: str, schema: pa.Schema) -> pq.ParquetWriter:
        self.system.create_dir(f"{self.folder}/{name}".rpartition("/")[0], recursive=True)
        floats = [field.name for field in schema if pa.types.is_floating(field.type)]
        return pq.ParquetWriter(
            self._half(name),
            schema,
            filesystem=self.system,
            compression="zstd",
            use_byte_stream_split=floats,
            use_dictionary=[field.name for field in schema if field.name not in floats],
        )

    def _name(self, table: str, layer: str | None = None) -> str:
        inside = "" if layer is None else f"layer={quote(layer, safe='')}/"
        return f"table={table}/{inside}shard={self.shard}.parquet"

    def _half(self, name: str) -> str:
        """The name of an unfinished file. Spark and DuckDB skip files whose names begin with an underscore."""
        before, _, last = f"{self.folder}/{name}".rpartition("/")
        return f"{before}/_{last}.part"
