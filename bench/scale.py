"""Measure what doubling the number of images costs, on DuckDB and on Spark. Each size runs in a new process.

    python -m bench.scale                                          # DuckDB to 800,000 images, Spark to 200,000
    python -m bench.scale --most 100000 --spark-most 0             # faster
    python -m bench.scale --activations none --engine kernel       # keeps top images and sums only

Synthetic activations are written in blocks of 4,096 images, as an extraction writes them (extract/record/blocks.py,
Warehouse.load). A column "×" holds the ratio to the value for half as many images.
Needs 8 bytes of disk per activation: 13 GB at 800,000 × 2,000. Each warehouse is deleted after it is measured.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch

from bench.made import CENTRES, World, show, unit
from bench.stored import NOON, ask, embedding_tables, small_tables
from dissectdb.extract import study
from dissectdb.extract.record.blocks import BLOCK, Block, ProbingImage, layer_tables, lists
from dissectdb.extract.scoring import labels
from dissectdb.extract.study.study_file import Engine
from dissectdb.warehouse import Warehouse, exchange, spark
from dissectdb.warehouse.view_tables import Built

SMALLEST, DIMENSIONS, CONCEPTS, CLASSES = 25_000, 64, 25, 10
DEAD = 100  # one neuron in 100 is constant
BYTES = 8.0  # of disk per activation: 4 to 5 in the file, and about as many in Parquet files
SPARK_VIEWS = ("top_activations", "neuron_statistics", "dissected_neurons", "soft_wpmi", "neuron_labels")
HEAD = ("write, s", "best images and sums, s", "scores and null, s", "labels, s", "CPU, s", "file, MB",
        "peak to write, MB", "peak after, MB")  # fmt: skip
SPARK_HEAD = ("Parquet, MB", "DuckDB, s", "DuckDB CPU, s", "Spark, s", "Spark CPU, s", "shuffled, MB", "JVM peak, MB")


@dataclass(frozen=True)
class Size:
    """How much is made: images and neurons, and whether their activations are kept."""

    images: int
    neurons: int
    engine: Engine
    keep: bool

    @property
    def rows(self) -> int:
        return self.images * self.neurons


Measure = Callable[[Size, Path], dict[str, Any]]  # the columns of a table's row


class Made:
    """Makes activations block by block. A block has the same numbers whatever the number of images."""

    def __init__(self, size: Size) -> None:
        random = np.random.default_rng(0)
        self.size = size
        self.centres = unit(random.standard_normal((CENTRES, DIMENSIONS), dtype=np.float32))
        self.concepts = unit(random.standard_normal((CONCEPTS, DIMENSIONS), dtype=np.float32))
        self.leanings = 4 * unit(random.standard_normal((size.neurons, DIMENSIONS), dtype=np.float32))

    def catalog(self) -> dict[str, Any]:
        """The small tables without the ledger."""
        nobody = World(np.empty((0, DIMENSIONS), np.float32), self.concepts, np.empty((0, CONCEPTS), bool))
        tables = small_tables(self.size.images, self.size.neurons, CONCEPTS)
        ids = pl.col("image_id")
        images = tables["images"].with_columns(**{"class": (ids % CLASSES).cast(pl.String)})
        [extraction] = tables["extractions"]
        other = {"extraction_id": 2, "target": "image_embeddings", "clip_id": 1, "fingerprint": "clip"}
        clip = {"clip_id": 1, "name": "made", "weights": "none", "logit_scale": 100.0, "preprocessing": "{}",
                "fingerprint": "clip"}  # fmt: skip
        return tables | {
            "datasets": [{"dataset_id": 1, "name": "made", "source": "none", "fingerprint": "made"}],
            "classes": [{"dataset_id": 1, "position": i, "class": str(i)} for i in range(CLASSES)],
            "splits": [{"split_id": 1, "dataset_id": 1, "split": "all", "block_images": BLOCK}],
            "images": images,
            "clips": [clip],
            "concept_sets": [{"concept_set_id": 1, "name": "made", "templates": ["{}"], "fingerprint": "made"}],
            "concept_embeddings": embedding_tables(nobody)["concept_embeddings"],
            "extractions": [extraction, {key: extraction[key] for key in extraction if key != "layer_id"} | other],
            "extraction_blocks": [],
        }

    def blocks(self) -> Iterator[Iterator[tuple[str, Any]]]:
        """The units that an extraction would yield."""
        for number, first in enumerate(range(0, self.size.images, BLOCK)):
            yield self._block(number, range(first + 1, min(first + BLOCK, self.size.images) + 1))

    def _block(self, number: int, image_ids: range) -> Iterator[tuple[str, Any]]:
        random = np.random.default_rng((1, number))
        shape = len(image_ids), DIMENSIONS
        near = self.centres[random.integers(CENTRES, size=shape[0])]
        embeddings = unit(near + unit(random.standard_normal(shape, dtype=np.float32)))
        values = random.standard_normal((shape[0], self.size.neurons), dtype=np.float32)
        values += embeddings @ self.leanings.T
        values[:, ::DEAD] = 0.5
        block = Block(number, [ProbingImage(i, i - 1, None, None) for i in image_ids], split_id=1)
        return self._unit(block, values, embeddings)

    def _unit(self, block: Block, values: np.ndarray, embeddings: np.ndarray) -> Iterator[tuple[str, Any]]:
        for table, rows in layer_tables(values, block, first_neuron=1):
            if self.size.keep or table != "activations":
                yield table, rows
        columns = {"clip_id": np.ones(len(embeddings), np.int32), "image_id": block.image_ids()}
        yield "image_embeddings", pa.table(columns | {"embedding": lists(embeddings)})
        done = {"block": block.number, "images": len(block.images), "seconds": 0.0, "finished_at": NOON}
        yield "extraction_blocks", [{"extraction_id": i} | done for i in (1, 2)]


def peak(process: int | str = "self") -> float:
    """The most memory, in MB, that a process has held since the last call."""
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    Path(f"/proc/{process}/clear_refs").write_text("5")
    return int(kilobytes) / 1e3


def timed(work: Callable[[], Any]) -> float:
    """How many seconds a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def on_duckdb(size: Size, path: Path) -> dict[str, float]:
    """Write, build and label a warehouse; returns seconds and megabytes. The file stays."""
    made, took = Made(size), {}
    with Warehouse(path) as warehouse:
        warehouse.write(made.catalog())
        ask(warehouse, study.Dissection(concepts="made", scorer="soft_wpmi", engine=size.engine))
        took["write"] = timed(lambda: warehouse.load(made.blocks()))
        to_write = peak()
        took["best"] = timed(lambda: list(warehouse.build(select=labels.READS)))
        took["scores"] = timed(lambda: warehouse.load(labels.run(warehouse, torch.device("cpu"))))
        took["labels"] = timed(lambda: list(warehouse.build(select=["neuron_labels"])))
    took["cpu"] = sum(os.times()[:2])
    return took | {"file": path.stat().st_size / 1e6, "to write": to_write, "after": peak()}


def on_spark(path: Path, memory: str) -> dict[str, Any]:
    """Build the views of a warehouse again with DuckDB, then with Spark from Parquet; returns what was measured."""
    tables, scratch = path.with_name("tables"), path.with_name("scratch")
    with Warehouse(path) as warehouse:
        took = {"parquet": sum(each.megabytes for each in exchange.export(warehouse, tables))}
        before = sum(os.times()[:2])
        took["duckdb"] = timed(lambda: list(warehouse.build(select=SPARK_VIEWS, full_refresh=True)))
        took["duckdb cpu"] = sum(os.times()[:2]) - before
    session = spark.local_session(memory=memory, settings={"spark.local.dir": str(scratch)})
    session.sparkContext.setLogLevel("OFF")
    built: list[Built] = []
    views = spark.build(session, tables, path.with_name("views"), select=SPARK_VIEWS)
    took["spark"] = timed(lambda: built.extend(views))
    jvm = session.sparkContext._jvm
    assert jvm is not None  # a running session has one
    java = jvm.java.lang.ProcessHandle.current()
    took["spark cpu"] = java.info().totalCpuDuration().get().toMillis() / 1e3
    executors = session.sparkContext._jsc.sc().statusStore().executorList(False)
    took["shuffled"] = executors.apply(0).totalShuffleWrite() / 1e6
    took["jvm"] = peak(java.pid())
    session.stop()
    longest = sorted(built, key=lambda each: -each.seconds)[:3]
    return took | {"longest views": ", ".join(f"{each.view} {each.seconds:.0f} s" for each in longest)}


def alone(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Call a function in a new process, so that its peak memory is its own; returns its result."""
    # In that process stdout becomes stderr. Otherwise DuckDB's progress bars would appear in the table.
    with ProcessPoolExecutor(1, get_context("spawn"), os.dup2, (2, 1)) as pool:
        return pool.submit(work, *arguments).result()


def doubling(sizes: Sequence[Size], measure: Callable[[Size], dict[str, Any]]) -> Iterator[list[object]]:
    """One row per size: each number, with its ratio to the number of the size before."""
    before: dict[str, Any] = {}
    for size in sizes:
        found = measure(size)
        row: list[object] = [size.images, size.rows]
        for name, value in found.items():
            if isinstance(value, str):
                row.append(value)
                continue
            digits = 0 if value >= 100 else 1
            row += [f"{value:,.{digits}f}", f"{value / before[name]:.2f}" if before.get(name) else ""]
        before = found
        yield row


def in_folder(measure: Measure, size: Size, parent: Path) -> dict[str, Any]:
    """Measure in a temporary folder. Raises SystemExit if the disk is too small."""
    needed, free = BYTES * size.rows, shutil.disk_usage(parent).free
    if size.keep and needed > free:
        raise SystemExit(
            f"{size.images:,} images need {needed / 1e9:.0f} GB in {parent}, and {free / 1e9:.0f} GB are free; "
            "name another --folder or a smaller --most"
        )
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        return measure(size, Path(folder) / "warehouse.duckdb")


def duckdb_alone(size: Size, path: Path) -> dict[str, Any]:
    """A row of the first table."""
    return alone(on_duckdb, size, path)


def both_engines(memory: str, size: Size, path: Path) -> dict[str, Any]:
    """A row of the second table."""
    alone(on_duckdb, size, path)
    return alone(on_spark, path, memory)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__.split("\n")[0])
    parser.add_argument("--least", type=int, default=SMALLEST, help="images of the first size")
    parser.add_argument("--most", type=int, default=800_000, help="images of the last size on DuckDB; 0: none")
    parser.add_argument("--spark-most", type=int, default=200_000, help="the same on Spark")
    parser.add_argument("--neurons", type=int, default=2000)
    parser.add_argument("--engine", choices=("auto", "sql", "kernel"), default="auto", help="what scores on DuckDB")
    parser.add_argument("--activations", choices=("all", "none"), default="all")
    parser.add_argument("--memory", default="4g", help="of Spark")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="a folder with enough space")
    options = parser.parse_args()
    on_spark_too: Measure = functools.partial(both_engines, options.memory)
    tables: list[tuple[str, int, Sequence[str], Engine, Measure]] = [
        ("DuckDB", options.most, HEAD, options.engine, duckdb_alone),
        ("Spark", options.spark_most, SPARK_HEAD, "sql", on_spark_too),
    ]
    for name, most, head, engine, measure in tables:
        sizes, images = [], options.least
        while images <= most:
            sizes.append(Size(images, options.neurons, engine, options.activations == "all"))
            images *= 2
        if sizes:
            title = f"{name}, {options.neurons:,} neurons, activations {options.activations}, scores by {engine}"
            found = functools.partial(in_folder, measure, parent=options.folder)
            columns = [column for each in head for column in (each, "×")] + ["longest views"] * (name == "Spark")
            title += f"; load {os.getloadavg()[0]:.1f}"
            show(title, ("images", "activations", *columns), doubling(sizes, found))


if __name__ == "__main__":
    main()
