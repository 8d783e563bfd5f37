"""Small warehouses made for the reports: whole, with parts missing, and with hostile names.

with filled(path, Plan(edits=0)) as warehouse: ...   # the warehouse that the plan describes, built
"""

# ruff: noqa: C408 - rows read like the tables as dict(image_id=1, …)

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from dissectdb.extract.record.summaries import sum_up, summary_tables
from dissectdb.reports import page as report_page
from dissectdb.warehouse import Warehouse
from tests.support.rows import Tables, dissection_row, finished, layer_rows, sums_of, unit_of

NOON = datetime(2026, 1, 2, 12, 0)

IMAGES = 24  # of each split; one more is left out of the first

HOSTILE = [
    '</script><script>alert("1")</script>',
    "\"'><img src=x onerror=alert(2)>",
    "\u202eright to left\u2066 \u2028 عربى {{ 7 * 7 }} &amp; <!--",
    "x" * 300,
]


@dataclass(frozen=True)
class Plan:
    """The contents of a small warehouse. By default every part of the page has something to show."""

    classes: tuple[str, ...] = ("happy", "sad", "surprise")
    concepts: tuple[str, ...] = ("Smile", "Frown", "Wide Open Eyes", "Raised Brows")
    layers: tuple[str, ...] = ("conv1", "lin1")
    network: str = "vggnet"
    clip: str = "face-clip"
    splits: tuple[str, str] = ("validation", "test")
    tau: float = -100.0
    rule: str = "tau"
    tested: bool = False  # labels were held against chance: all but the neurons of noise pass, and most other tests
    truth: bool = True
    met: bool = True  # else images are of classes that neither an output nor a concept stands for
    wrong: int = 4  # wrong predictions in each split
    edits: int = 1
    intervals: bool = True  # of what the edits changed; a run that was stopped has none yet
    thumbnails: bool = True
    maps: bool = False  # of the first layer, and the images have files


# ---------------------------------------------------------------- rows


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), shade).save(file, "PNG")
    return file.getvalue()


def images(plan: Plan) -> list[dict[str, Any]]:
    rows = [
        {
            "image_id": number + 1,
            "split_id": 1 + number // IMAGES,
            "position": number,
            "class": ("" if plan.met else "not ") + plan.classes[number % len(plan.classes)] if plan.truth else None,
            "sha256": str(number),
            "thumbnail": picture(number) if plan.thumbnails else None,
            "defect": None,
        }
        | ({"path": f"faces/face {number}.png", "width": 8, "height": 8} if plan.maps else {})
        for number in range(2 * IMAGES)
    ]
    left_out = {"image_id": 99, "split_id": 1, "position": 98, "sha256": "", "defect": "blank"}
    return [*rows, left_out]


def predictions(plan: Plan, network_id: int) -> list[dict[str, Any]]:
    """The first images of each split are predicted wrongly; an edited network gets one of them right."""
    rows = []
    for number in range(2 * IMAGES):
        is_wrong = network_id - 1 <= number % IMAGES < plan.wrong
        rows.append(
            {
                "network_id": network_id,
                "image_id": number + 1,
                "class": plan.classes[(number + is_wrong) % len(plan.classes)],
                "confidence": 0.5 + number / 200,
                "loss": 1.25 if is_wrong else 0.25,
                "probabilities": [1.0],
            }
        )
    return rows


def named(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """The tables of names: datasets, concepts, CLIP, networks, the dissection and its edits."""
    network = {"architecture": "vgg", "preprocessing": "{}", "classes": list(plan.classes)}
    edited = [
        {"network_id": 2 + edit, "name": f"{plan.network}+{edit}", "parent_network_id": 1, "edit_id": 1 + edit}
        for edit in range(plan.edits)
    ]
    originals = [{"network_id": 1, "name": plan.network, "parent_network_id": None, "edit_id": None}]
    return {
        "datasets": [{"dataset_id": 1, "name": "faces", "source": "x", "fingerprint": "x"}],
        "left_out": [{"dataset_id": 1, "reason": "ending", "detail": ".txt", "files": 3}],
        "splits": [
            {"split_id": i, "dataset_id": 1, "split": split, "block_images": IMAGES}
            for i, split in enumerate(plan.splits, start=1)
        ],
        "concept_sets": [{"concept_set_id": 1, "name": "parts", "templates": ["{}"], "fingerprint": "x"}],
        "concepts": [
            {"concept_id": i, "concept_set_id": 1, "position": i, "concept": concept}
            for i, concept in enumerate(plan.concepts)
        ],
        "concept_classes": [
            {"concept_id": i, "class": plan.classes[i % len(plan.classes)]} for i in range(len(plan.concepts))
        ],
        "clips": [
            {"clip_id": 1, "name": plan.clip, "weights": "w.pt", "logit_scale": 100.0, "preprocessing": "{}",
             "fingerprint": "x"}
        ],
        "networks": [row | network | {"fingerprint": row["name"]} for row in originals + edited],
        "dissections": [
            dissection_row(top_k=8, tau=plan.tau, rule=plan.rule, accuracy_images=5, images_neurons=2)
        ],
        "edits": [
            {"edit_id": 1 + edit, "name": f"{plan.layers[0]} twice", "network_id": 1, "dissection_id": 1,
             "layer": plan.layers[0], "rule": "paper", "tau": 0.0, "factor": 1.5, "factor_down": 1.5,
             "scale_bias": False, "created_at": NOON,
             "fingerprint": str(edit)}
            for edit in range(plan.edits)
        ],
    }  # fmt: skip


def embeddings(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """An image is near the concepts of its class; the last number of an embedding tells these concepts apart."""
    size = len(plan.classes)

    def vector(class_number: int, extra: float) -> list[float]:
        values = np.append(np.eye(size)[class_number % size], extra)
        return (values / np.linalg.norm(values)).tolist()

    return {
        "image_embeddings": [
            {"clip_id": 1, "image_id": i + 1, "embedding": vector(i, i / 90)} for i in range(2 * IMAGES)
        ],
        "concept_embeddings": [
            {"clip_id": 1, "concept_id": i, "embedding": vector(i, i / 20)} for i in range(len(plan.concepts))
        ],
    }


def activations(plan: Plan) -> Iterator[dict[str, Any]]:
    """Four neurons per layer: one for each of three classes, and one of noise. All extractions are complete."""
    noise = np.random.default_rng(0).normal(size=(len(plan.layers), 4, IMAGES)).astype(np.float32)
    for number, layer in enumerate(plan.layers):
        ids = [10 * number + unit for unit in range(4)]
        prefers = [np.arange(IMAGES) % len(plan.classes) == unit for unit in range(4)]
        values = noise[number] + 4 * np.array(prefers, dtype=np.float32)
        extraction = {"extraction_id": number, "target": "activations", "split_id": 1, "layer_id": number,
                      "device": "cpu", "precision": "float32", "versions": "{}", "started_at": NOON,
                      "fingerprint": layer}  # fmt: skip
        block = {"extraction_id": number, "block": 0, "images": IMAGES, "seconds": 0.1, "finished_at": NOON}
        yield {
            "layers": [{"layer_id": number, "network_id": 1, "layer": layer, "pooling": "avg",
                        "position": number, "fingerprint": layer}],
            "neurons": [{"neuron_id": i, "layer_id": number, "unit": i % 10, "weight_l1": 1.0} for i in ids],
            "activations": pl.DataFrame(
                {
                    "neuron_id": np.repeat(np.array(ids, dtype=np.int32), IMAGES),
                    "image_id": np.tile(np.arange(1, IMAGES + 1, dtype=np.int32), 4),
                    "value": values.ravel(),
                }
            ),
            "extractions": [extraction],
            "extraction_blocks": [block],
            **dict(summary_tables(sum_up(values.T), np.arange(1, IMAGES + 1, dtype=np.int32), ids[0], 1, 0)),
        }  # fmt: skip


def maps(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """Of each neuron of the first layer and each image: the lower two of four cells, in the middle of it."""
    if not plan.maps:
        return {}
    grid = {"grid_rows": 2, "grid_columns": 2, "top_row": 1, "top_column": 0, "low": 0.0, "high": 1.0}
    part = {"part_top": 0.0, "part_bottom": 1.0, "part_left": 0.25, "part_right": 0.75}
    return {
        "activation_maps": [
            {"neuron_id": neuron, "image_id": image, "cells": [0, 0, 255, 200]} | grid
            for neuron in range(4)
            for image in range(1, IMAGES + 1)
        ],
        "map_values": [
            {"split_id": 1, "neuron_id": neuron, "block": 0, "sampled": 100, "value": 0.5} for neuron in range(4)
        ],
        "seen_parts": [{"network_id": 1, "width": 8, "height": 8} | part],
    }


@contextmanager
def filled(path: Path, plan: Plan) -> Iterator[Warehouse]:
    with Warehouse(path) as warehouse:
        warehouse.write(named(plan) | {"images": images(plan)} | embeddings(plan))
        for unit in activations(plan):
            warehouse.write(unit)
        for network_id in range(1, 2 + plan.edits):
            ledger = [
                {"extraction_id": 100 * network_id + split_id, "target": "predictions", "split_id": split_id,
                 "network_id": network_id, "device": "cpu", "precision": "float32", "versions": "{}",
                 "started_at": NOON, "fingerprint": f"{network_id} {split_id}"}
                for split_id in (1, 2)
            ]  # fmt: skip
            blocks = [
                {"extraction_id": row["extraction_id"], "block": 0, "images": IMAGES, "seconds": 0.1,
                 "finished_at": NOON}
                for row in ledger
            ]  # fmt: skip
            warehouse.write(
                {
                    "predictions": predictions(plan, network_id),
                    "extractions": ledger,
                    "extraction_blocks": blocks,
                }
            )
        warehouse.write(tried(plan) | maps(plan))
        list(warehouse.build())
        if plan.tested:
            warehouse.write(label_tests(warehouse))
            list(warehouse.build())
        yield warehouse


def tried(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """The predictions of every edit over both splits. The first edit, if any, is chosen on the first split."""
    rows: dict[str, list[dict[str, Any]]] = {"edit_predictions": [], "edit_blocks": []}
    for edit_id in range(1, 1 + plan.edits):
        rows["edit_predictions"] += [
            {key: row[key] for key in ("image_id", "class", "confidence", "loss")} | {"edit_id": edit_id}
            for row in predictions(plan, 1 + edit_id)
        ]
        rows["edit_blocks"] += [
            {
                "edit_id": edit_id,
                "split_id": split_id,
                "block": 0,
                "images": IMAGES,
                "seconds": 0.1,
                "finished_at": NOON,
            }
            for split_id in (1, 2)
        ]
    choice = {"edit_id": 1, "split_id": 1, "edits_tried": plan.edits, "chosen_at": NOON}
    intervals = [
        {"edit_id": edit_id, "split_id": split_id, "low": -0.02, "high": 0.125, "loss_low": -0.1, "loss_high": 0.1,
         "bootstraps": 100, "seed": 0}
        for edit_id in range(1, 1 + plan.edits) for split_id in (1, 2)
    ] if plan.intervals else []  # fmt: skip
    return rows | {"edit_choices": [choice], "edit_intervals": intervals} if plan.edits else {}


def label_tests(warehouse: Warehouse) -> dict[str, list[dict[str, Any]]]:
    """A limit of z that half of the labels reach, and checks: unit 0 fails split halves, unit 1 within classes."""
    labels = warehouse.rows("select * from neuron_labels order by z desc").to_dicts()
    limit = labels[2 * len(labels) // 4 - 1]["z"]
    return {
        "null_quantiles": [
            {"dissection_id": 1, "layer_id": layer_id, "null_group": 8, "z": limit, "p": 0.0001}
            for layer_id in sorted({label["layer_id"] for label in labels})
        ],
        "label_checks": [
            {"dissection_id": 1, "neuron_id": label["neuron_id"], "concept_id": label["concept_id"],
             "z_within_class": 0.5 if label["neuron_id"] % 10 == 1 else 3.25,
             "p_within": 0.5 if label["neuron_id"] % 10 == 1 else 0.001,
             "split_half_agrees": label["neuron_id"] % 10 != 0, "bootstrap_share": 0.75}
            for label in labels
        ],
    }  # fmt: skip


Frames = dict[str, pl.DataFrame]


def ask(warehouse: Warehouse) -> Frames:
    return report_page.ask(warehouse.rows)


# ---------------------------------------------------------------- two dissections to compare


def more(plan: Plan, layers: tuple[str, ...], concepts: tuple[str, ...], tested: bool) -> Tables:
    """Layers of the second network, and dissections: 2 of it, 3 with another scorer, 4 with another concept set."""
    random = np.random.default_rng(1)
    noise = {layer: random.normal(size=(IMAGES, 4)) for layer in layers}
    tables = layer_rows(noise, range(1, IMAGES + 1), network_id=2, first_id=500)
    layer_ids = [row["layer_id"] for row in tables["layers"]]
    ledger = finished(layer_ids, {1: IMAGES})
    shared = dict(device="cpu", precision="float32", versions="{}", started_at=NOON)
    for row in ledger["extractions"]:
        row.update(extraction_id=row["extraction_id"] + 9000, fingerprint=str(row["extraction_id"]), **shared)
    for row in ledger["extraction_blocks"]:
        row.update(extraction_id=row["extraction_id"] + 9000, seconds=0.1, finished_at=NOON)
    probing_images = [dict(image_id=i, split_id=1) for i in range(1, IMAGES + 1)]
    sums = sums_of(tables | ledger | dict(images=probing_images))
    settings = dict(top_k=8, tau=plan.tau, accuracy_images=5, images_neurons=2)
    size = len(plan.classes) + 1
    null = [dict(dissection_id=d, layer_id=layer, null_group=length, z=z, p=p) for length in range(8, 257)
            for d, ids in ((1, range(len(plan.layers))), (2, layer_ids), (3, range(len(plan.layers))))
            for layer in ids for z, p in ((-9.0, 0.5), (0.0, 0.001))]  # fmt: skip
    return tables | ledger | sums | dict(
        concept_sets=[dict(concept_set_id=2, name="others", templates=["{}"], fingerprint="y")],
        concepts=[dict(concept_id=100 + i, concept_set_id=2, position=i, concept=text)
                  for i, text in enumerate(concepts)],
        concept_embeddings=[dict(clip_id=1, concept_id=100 + i, embedding=np.eye(size)[i % size].tolist())
                            for i in range(len(concepts))],
        dissections=[dissection_row(2, network_id=2, **settings), dissection_row(3, scorer="cos", **settings),
                     dissection_row(4, concept_set_id=2, **settings)],
        null_quantiles=null if tested else [],
    )  # fmt: skip


@contextmanager
def compared(
    path: Path,
    plan: Plan,
    layers: tuple[str, ...] = ("conv1", "extra"),
    concepts: tuple[str, ...] = ("Left", "Right"),
    tested: bool = True,
) -> Iterator[Warehouse]:
    with filled(path, plan) as warehouse:
        warehouse.write(unit_of(more(plan, layers, concepts, tested)))
        list(warehouse.build())
        yield warehouse
