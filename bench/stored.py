"""Make a warehouse with one large layer, and measure how long its labels take. bench.scorers runs it.

fill(path, activations, world)
measure(path, "soft_wpmi", "sql")  # seconds: built (top images, statistics) and labelled (scores and labels)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import torch

from bench.made import World
from dissectdb.extract import study
from dissectdb.extract.record import dissections
from dissectdb.extract.record.blocks import BLOCK
from dissectdb.extract.record.summaries import sum_up, summary_tables
from dissectdb.extract.scoring import labels
from dissectdb.extract.scoring.problem import Settings
from dissectdb.extract.scoring.scorers import score_layer
from dissectdb.extract.scoring.stored_layers import read_layers
from dissectdb.extract.study.study_file import Engine
from dissectdb.warehouse import Warehouse

NOON = datetime(2026, 1, 1, 12)


def fill(path: Path, activations: np.ndarray, world: World) -> None:
    """Write all that a dissection reads: one network, layer, CLIP and concept set; ids count from 1."""
    images, neurons = activations.shape
    with Warehouse(path) as warehouse:
        for unit in (small_tables(images, neurons, len(world.concepts)), embedding_tables(world)):
            warehouse.write(unit)
        for unit in activation_blocks(activations):
            warehouse.write(unit)


def small_tables(images: int, neurons: int, concepts: int) -> dict[str, Any]:
    """Tables with one row, and tables with one row per image, neuron or concept."""
    counts = {name: np.arange(1, count + 1, dtype=np.int32) for name, count in
              (("image", images), ("neuron", neurons), ("concept", concepts))}  # fmt: skip
    network = {"network_id": 1, "name": "net", "architecture": "net", "preprocessing": "{}", "classes": [],
               "fingerprint": "net"}  # fmt: skip
    layer = {"layer_id": 1, "network_id": 1, "layer": "layer", "pooling": "none", "position": 0, "fingerprint": "layer"}
    extraction = {"extraction_id": 1, "target": "activations", "split_id": 1, "layer_id": 1, "device": "cpu",
                  "precision": "float32", "versions": "{}", "started_at": NOON, "fingerprint": "layer"}  # fmt: skip
    blocks = [
        {"extraction_id": 1, "block": number, "images": min(BLOCK, images - first), "seconds": 0.0, "finished_at": NOON}
        for number, first in enumerate(range(0, images, BLOCK))
    ]
    return {
        "networks": [network],
        "layers": [layer],
        "extractions": [extraction],
        "extraction_blocks": blocks,
        "images": pl.DataFrame({"image_id": counts["image"], "position": counts["image"] - 1}).with_columns(
            split_id=pl.lit(1), sha256=pl.col("image_id").cast(pl.String)
        ),
        "neurons": pl.DataFrame({"neuron_id": counts["neuron"], "unit": counts["neuron"] - 1}).with_columns(
            layer_id=pl.lit(1)
        ),
        "concepts": pl.DataFrame({"concept_id": counts["concept"], "position": counts["concept"] - 1}).with_columns(
            concept_set_id=pl.lit(1), concept=pl.col("concept_id").cast(pl.String)
        ),
    }


def embedding_tables(world: World) -> dict[str, Any]:
    """Rows of image_embeddings and concept_embeddings."""
    unit = {}
    for name, rows in (("image", world.images), ("concept", world.concepts)):
        unit[f"{name}_embeddings"] = pa.table(
            {
                "clip_id": np.ones(len(rows), np.int32),
                f"{name}_id": np.arange(1, len(rows) + 1, dtype=np.int32),
                "embedding": pa.ListArray.from_arrays(
                    np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int32), pa.array(rows.ravel())
                ),
            }
        )
    return unit


def activation_blocks(activations: np.ndarray) -> Iterator[dict[str, Any]]:
    """Blocks of images as an extraction writes them, with their sums: inside a block, the rows are sorted by neuron."""
    images, neurons = activations.shape
    for number, first in enumerate(range(0, images, BLOCK)):
        block = activations[first : first + BLOCK]
        ids = np.arange(first + 1, first + 1 + len(block), dtype=np.int32)
        yield {
            "activations": pa.table(
                {
                    "neuron_id": np.repeat(np.arange(1, neurons + 1, dtype=np.int32), len(block)),
                    "image_id": np.tile(ids, neurons),
                    "value": np.ascontiguousarray(block.T).ravel(),
                }
            ),
            **dict(summary_tables(sum_up(block), ids, first_neuron=1, split_id=1, block=number)),
        }


def ask(warehouse: Warehouse, asked: study.Dissection) -> None:
    """Enter a dissection of what fill() wrote."""
    counts = [warehouse.rows(f"select count(*) from {name}").item() for name in ("images", "neurons", "concepts")]
    question = [(asked, asked.model_dump_json(), dissections.Size(*counts))]
    warehouse.write(dissections.rows(warehouse, question, {"made": 1}, network_id=1, split_id=1, clip_id=1))


def measure(path: Path, scorer: str, engine: Engine) -> dict[str, float]:
    """Seconds to build the views of labels.READS, and seconds from then until every neuron has a label."""
    with duckdb.connect(str(path)) as connection:
        connection.execute("delete from dissections; delete from rank_permutations; delete from view_builds")
    with Warehouse(path) as warehouse:
        ask(warehouse, study.Dissection(concepts="made", scorer=scorer, engine=engine))
        start = time.perf_counter()
        list(warehouse.build(select=labels.READS))
        built = time.perf_counter() - start
        start = time.perf_counter()
        if engine == "sql":
            list(warehouse.build(select=["neuron_labels"]))
        else:
            label_by_kernel(warehouse, Settings.defaults(scorer))
        return {"built": built, "labelled": time.perf_counter() - start}


def label_by_kernel(warehouse: Warehouse, settings: Settings) -> np.ndarray:
    """Labels of the warehouse's only dissection, without rows, p or q."""
    [row] = warehouse.rows("select * from dissections").to_dicts()
    evidence = labels.read_evidence(warehouse, row)
    [layer] = read_layers(warehouse, row)
    with torch.inference_mode():
        return score_layer(settings, layer, evidence.images, evidence.concepts, keep=1).concepts[:, 0]
