"""Rows of tables for the tests: of a complete tiny warehouse, and made from arrays.

run_view("layer_summary", shown_dissection=[…], …)  # one view over exactly the rows that a test writes
probe({"conv": activations}, images, concepts)      # tables around arrays (image, unit) and embeddings
"""

# ruff: noqa: C408 - rows read like the tables as dict(image_id=1, …)

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from itertools import cycle
from typing import Any

import duckdb
import numpy as np
import polars as pl

from dissectdb.extract.record.summaries import sum_up, summary_tables
from dissectdb.warehouse import Warehouse
from dissectdb.warehouse.schema import SQL
from dissectdb.warehouse.view_files import View, engine_functions, load_views, with_inputs

NOON = datetime(2026, 1, 1, 12)
LONG = ("activations", "image_embeddings", "concept_embeddings", "edit_predictions")  # worth an Arrow insert

Tables = dict[str, list[dict[str, Any]]]


def all_views() -> list[View]:
    return load_views()


def sha(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def unit_length(rows: Any) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


# ---------------------------------------------------------------- rows from arrays


def dissection_row(dissection_id: int = 1, **changes: Any) -> dict[str, Any]:
    row = dict(
        dissection_id=dissection_id, network_id=1, split_id=1, clip_id=1, concept_set_id=1,
        scorer="soft_wpmi", engine="sql", top_k=3, softmax_scale=10.0, prior_weight=1.0, p_first=0.998, p_last=0.97,
        rank_fraction=0.05, rank_power=3.0, rank_scale=0.5, include_dead=False,
        kept_concepts=100, null_draws=1000, bootstraps=0, seed=0, rule="tau", tau=0.0, q_limit=0.05,
        accuracy_images=3, images_neurons=2, created_at=NOON,
    )  # fmt: skip
    row.update(changes)
    row.setdefault("min_images", min(10, row["top_k"]))
    return row | dict(fingerprint=sha(*row.values()))


def list_images(column: np.ndarray, row: Mapping[str, Any]) -> int:
    """Of how many images a neuron (image,) is scored by the scorer of a dissection; 0: it takes no label."""
    falling, count = sorted(map(float, column), reverse=True), len(column)
    most = {"soft_wpmi": row["top_k"], "wpmi": row["top_k"], "rank_reorder": int(row["rank_fraction"] * count)}.get(
        row["scorer"], count
    )
    most = min(most, count, 256)
    fired = sum(value > falling[-1] for value in falling)
    fired = count if fired == count - 1 else fired  # a lowest value that one image has is a value like any other
    found = min(most, fired)
    few_valued = row["scorer"] in ("soft_wpmi", "wpmi", "rank_reorder") and len(set(falling)) < row["top_k"]
    if few_valued and found and falling.count(falling[found - 1]) + falling.index(falling[found - 1]) > found:
        found = falling.index(falling[found - 1])  # the tie goes on beyond the end
    if found < most and found >= 16:
        found -= found % 2 ** (found.bit_length() - 4)
    least = row.get("min_images", min(10, row["top_k"]))
    enough = found >= (min(least, most) if row["scorer"] == "rank_reorder" else least)
    return found if falling[0] > falling[-1] and enough else 0


def concept_rows(concepts: Mapping[str, Sequence[str]], concept_set_id: int, first_id: int) -> Tables:
    """A concept set from {concept: its classes}. Ids fall while positions rise: nothing may depend on ids."""
    ids = range(first_id + len(concepts) - 1, first_id - 1, -1)
    return dict(
        concepts=[
            dict(concept_id=i, concept_set_id=concept_set_id, position=position, concept=concept)
            for position, (i, concept) in enumerate(zip(ids, concepts, strict=True))
        ],
        concept_classes=[
            dict(concept_id=i, class_=name) for i, names in zip(ids, concepts.values(), strict=True) for name in names
        ],
    )


def embedding_rows(key: str, ids: Sequence[int], embeddings: np.ndarray) -> list[dict[str, Any]]:
    return [{"clip_id": 1, key: int(i), "embedding": row.tolist()} for i, row in zip(ids, embeddings, strict=True)]


def layer_rows(
    activations: Mapping[str, np.ndarray], image_ids: Sequence[int], network_id: int = 1, first_id: int = 1
) -> Tables:
    """Layers, neurons and activations from {layer: (image, unit) array}; their ids count from first_id on."""
    tables: Tables = dict(layers=[], neurons=[], activations=[])
    neuron_id = first_id
    for position, (layer, values) in enumerate(activations.items()):
        layer_id = first_id + position
        tables["layers"].append(
            dict(layer_id=layer_id, network_id=network_id, layer=layer, pooling="avg", position=position,
                 fingerprint=sha(network_id, layer))
        )  # fmt: skip
        for unit, column in enumerate(np.asarray(values, dtype=np.float32).T):
            tables["neurons"].append(
                dict(neuron_id=neuron_id, layer_id=layer_id, unit=unit,
                     weight_l1=1.0 + unit, weight_l2=1.0, bias=0.0)
            )  # fmt: skip
            tables["activations"] += [
                dict(neuron_id=neuron_id, image_id=int(i), value=float(value))
                for i, value in zip(image_ids, column, strict=True)
            ]
            neuron_id += 1
    return tables


def finished(layer_ids: Sequence[int], images: Mapping[int, int]) -> Tables:
    """The ledger of layers that are recorded over the images of each split, {split: images}."""
    pairs = [(layer_id, split_id) for split_id in images for layer_id in layer_ids]
    return dict(
        extractions=[
            dict(extraction_id=i, target="activations", split_id=split_id, layer_id=layer_id)
            for i, (layer_id, split_id) in enumerate(pairs, 1)
        ],
        extraction_blocks=[
            dict(extraction_id=i, block=0, images=images[split_id]) for i, (_, split_id) in enumerate(pairs, 1)
        ],
    )


def sums_of(tables: Tables) -> Tables:
    """What an extraction writes beside the activations of `tables`: sums, values and top images of each block.

    The blocks are those of the ledger: sound images of a split in order of position, or of id if they have no position.
    """
    values = {(row["neuron_id"], row["image_id"]): row["value"] for row in tables["activations"]}
    sound = sorted(
        (row.get("position", row["image_id"]), row["image_id"], row["split_id"])
        for row in tables["images"]
        if row.get("defect") is None
    )
    sums: Tables = dict(block_tops=[], block_sums=[], block_values=[])
    for extraction in tables["extractions"]:
        if extraction["target"] != "activations":
            continue
        image_ids = np.array([i for _, i, split_id in sound if split_id == extraction["split_id"]], dtype=np.int32)
        neurons = sorted(row["neuron_id"] for row in tables["neurons"] if row["layer_id"] == extraction["layer_id"])
        for row in sorted(tables["extraction_blocks"], key=lambda row: row["block"]):
            if row["extraction_id"] == extraction["extraction_id"] and row["images"]:
                ids, image_ids = np.split(image_ids, [row["images"]])
                block = np.array([[values[neuron, i] for neuron in neurons] for i in ids], dtype=np.float32)
                summary = summary_tables(sum_up(block), ids, neurons[0], extraction["split_id"], row["block"])
                for table, rows in summary:
                    sums[table] += rows.to_pylist()
    return sums


def probe(
    activations: Mapping[str, np.ndarray],
    images: np.ndarray,
    concepts: np.ndarray,
    *,
    classes: Sequence[str | None] | None = None,
    concept_classes: Sequence[Sequence[str]] | None = None,
    dissection: Mapping[str, Any] | None = None,
) -> Tables:
    """All that a dissection reads, from {layer: (image, unit)} and embeddings (row, d); ids from 1."""
    ids = range(1, len(images) + 1)
    names = {f"concept {i}": of for i, of in enumerate(concept_classes or [[]] * len(concepts))}
    words = concept_rows(names, 1, 1)
    tables = dict(
        images=[
            dict(
                image_id=i,
                split_id=1,
                position=i - 1,
                class_=classes[i - 1] if classes else None,
                sha256=sha(i),
            )
            for i in ids
        ],
        networks=[dict(network_id=1, name="net")],
        image_embeddings=embedding_rows("image_id", ids, images),
        concept_embeddings=embedding_rows("concept_id", [row["concept_id"] for row in words["concepts"]], concepts),
        dissections=[dissection_row(**(dissection or {}))],
    )
    layers = layer_rows(activations, ids)
    tables |= words | layers | finished([row["layer_id"] for row in layers["layers"]], {1: len(ids)})
    return tables | sums_of(tables)


def merged(*parts: Tables) -> Tables:
    tables: Tables = {}
    for part in parts:
        for table, rows in part.items():
            tables.setdefault(table, []).extend(rows)
    return tables


def named(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`class` is a keyword of Python, so that rows are written with class_."""
    return [{key.removesuffix("_"): value for key, value in row.items()} for row in rows]


def unit_of(tables: Tables) -> dict[str, Any]:
    """The tables as Warehouse.write takes them: long ones as frames, which insert at once."""
    return {
        table: pl.DataFrame(named(rows), infer_schema_length=None) if table in LONG else named(rows)
        for table, rows in tables.items()
    }


# ---------------------------------------------------------------- one view over given rows


@cache
def _empty_database() -> tuple[duckdb.DuckDBPyConnection, set[str]]:
    """Every table, without "not null" so that a test writes only the columns that matter, and every view."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute((SQL / "tables.sql").read_text(encoding="utf-8").replace(" not null", ""))
    tables = {row[0] for row in connection.execute("select table_name from duckdb_tables()").fetchall()}
    connection.execute(engine_functions())
    for view in all_views():
        connection.execute(f"create view {view.name} as {view.sql}")
    return connection, tables


@contextmanager
def filled(**inputs: Sequence[Mapping[str, Any]]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory with these rows of tables and views; all other views compute themselves."""
    connection, tables = _empty_database()
    connection.begin()
    try:
        for name, rows in inputs.items():
            if name not in tables:
                connection.execute(f"drop view {name}")
            if rows:
                connection.register("incoming_rows", pl.DataFrame(named(rows), infer_schema_length=None))
                how = f"insert into {name} by name" if name in tables else f"create table {name} as"
                connection.execute(f"{how} select * from incoming_rows")
                connection.unregister("incoming_rows")
        yield connection
    finally:
        connection.rollback()


def keep(connection: duckdb.DuckDBPyConnection, view: View) -> None:
    """Keep a view in a table, if a warehouse does; all views that it reads are kept."""
    if view.materialized:
        connection.execute(f"create temp table stored_view as {view.sql}")
        connection.execute(f"drop view {view.name}")
        connection.execute(f"create table {view.name} as from stored_view")
        connection.execute("drop table stored_view")


def store(connection: duckdb.DuckDBPyConnection, view: str, given: Collection[str]) -> None:
    """Keep what a view reads in tables, as a warehouse does: a long chain of views is planned for seconds."""
    needed = with_inputs(all_views(), [view])
    for each in all_views():
        if each.name in needed and each.name not in given:
            keep(connection, each)


def run_view(view: str, **inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of one view over exactly the rows that the test writes down, in the order of its grain."""
    [grain] = [", ".join(known.grain) for known in all_views() if known.name == view]
    with filled(**inputs) as connection:
        return connection.sql(f"select * from {view} order by {grain}").pl().to_dicts()


def rival_rows() -> Tables:
    """Two methods and a control of the first, judged in layer head (neurons 6 to 8), which is the output for two."""
    labels = {1: (1, 2, 1), 2: (2, 2), 3: (2, 1, 1)}  # rival → texts of neurons 6, 7, …
    names = {1: ("mine", "none", 1), 2: ("theirs", "none", None), 3: ("mine", "random", 1)}
    measures = ("pearson", "ap", "ap_corrected", "f1", "iou", "auc")
    tables: Tables = dict(
        rivals=[
            dict(rival_id=i, network_id=1, split_id=1, clip_id=1, method=method, control=control, dissection_id=of)
            for i, (method, control, of) in names.items()
        ],
        rival_layers=[
            dict(rival_id=i, layer_id=3, neurons=len(texts), choices=2, fingerprint=sha("rival", i))
            for i, texts in labels.items()
        ],
        rival_texts=[
            dict(rival_text_id=i, clip_id=1, templates=["a {} face"], text=text, embedding=[1.0, 0.0, 0.0, 0.0])
            for i, text in enumerate((HAPPY, "a beard"), 1)
        ],
        rival_labels=[
            dict(rival_id=i, neuron_id=6 + place, rival_text_id=text, output=[HAPPY, SAD, None][place],
                 names_output=[text == 1, False, None][place], output_similarity=[0.5, 0.25, None][place])
            for i, texts in labels.items() for place, text in enumerate(texts)
        ],
        rival_quality=[
            dict(rival_id=i, neuron_id=6 + place, reference=reference, z=1.0 + i, p=0.1 / i, q=0.12 / i)
            | dict.fromkeys(measures, 0.1 * i + 0.01 * place)
            for i, texts in labels.items() for place, text in enumerate(texts)
            for reference in (("clip", "class") if text == 1 else ("clip",))
        ],
    )  # fmt: skip
    tables["rival_intervals"] = [
        dict(rival_id=i, other_rival_id=other, layer_id=3, reference=reference, measure=measure, neurons=2,
             value=0.1 * i, low=0.1 * i - 0.05, high=0.1 * i + 0.05)
        for i, other in ((1, None), (2, None), (3, None), (1, 2), (1, 3))
        for reference in ("clip", "class", "output")
        for measure in (measures if reference != "output" else ("names_output", "output_similarity"))
    ]  # fmt: skip
    return tables


# ---------------------------------------------------------------- the tiny warehouse

HAPPY, SAD = "happy", "sad"
TRAIN = [HAPPY, HAPPY, HAPPY, HAPPY, SAD, SAD, SAD, SAD, SAD, SAD]  # the last two are left out
TEST = [HAPPY, HAPPY, HAPPY, SAD, SAD, SAD]
SOUND = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16]
IN_TRAIN = 8  # of the sound ones
BLOCKS = {1: [5, 3], 2: [6]}  # split → images of its blocks
BEFORE = [0.1, 0.9, 0.2, 0.3, 0.8, 0.7, 0.4, 0.9, 0.2, 0.6, 0.3, 0.9, 0.7, 0.4]  # probability of sad
AFTER = [0.1, 0.4, 0.2, 0.3, 0.8, 0.7, 0.4, 0.9, 0.2, 0.3, 0.6, 0.9, 0.7, 0.8]


def tiny_images() -> Tables:
    rows = [
        dict(image_id=i + 1, split_id=1 if i < len(TRAIN) else 2, position=i, path=f"{i}.png", class_=name,
             sha256=sha("pixels", 7 if i == 9 else i), width=8, height=8, thumbnail=b"png",
             defect={8: "blank", 9: "repeat of 7"}.get(i), source="near" if i % 3 else "far")
        for i, name in enumerate(TRAIN + TEST)
    ]  # fmt: skip
    return dict(
        datasets=[dict(dataset_id=1, name="faces", source="faces.csv", fingerprint=sha("faces"))],
        classes=[dict(dataset_id=1, position=i, class_=name) for i, name in enumerate((HAPPY, SAD))],
        splits=[
            dict(split_id=i, dataset_id=1, split=split, block_images=5) for i, split in enumerate(("train", "test"), 1)
        ],
        images=rows,
        image_attributes=[
            dict(image_id=row["image_id"], attribute="age", value=str(20 + row["position"])) for row in rows
        ],
    )


def tiny_words() -> Tables:
    first = concept_rows({"Smile": [HAPPY], "Frown": [SAD], "Tears": [SAD], "Beard": [HAPPY, SAD]}, 1, 1)
    second = concept_rows({HAPPY: [HAPPY], SAD: [SAD, "tired"]}, 2, 5)
    sets = [
        dict(concept_set_id=i, name=name, templates=["a {} face"], fingerprint=sha(name))
        for i, name in ((1, "expressions"), (2, "emotions"))
    ]
    clip = dict(clip_id=1, name="ViT-tiny", weights="clip.pt", logit_scale=100.0, preprocessing="{}",
                fingerprint=sha("clip"))  # fmt: skip
    meanings = unit_length(
        [
            [1, 0.1, 0, 0.2],
            [0.1, 1, 0, 0.2],
            [0, 0.8, 0.6, 0.1],
            [0.2, 0.2, 0.1, 1],
            [1, 0, 0, 0],
            [0, 1, 0, 0],
        ]
    )
    ids = [row["concept_id"] for row in first["concepts"] + second["concepts"]]
    faces = [
        [1, 0.1 + i / 40, 0.02 * i, 0.3] if name == HAPPY else [0.2, 1, 0.05 * i, 0.2]
        for i, name in enumerate(tiny_classes())
    ]
    embeddings = dict(
        clips=[clip],
        concept_sets=sets,
        concept_embeddings=embedding_rows("concept_id", ids, meanings),
        image_embeddings=embedding_rows("image_id", SOUND, unit_length(faces)),
    )
    return merged(first, second, embeddings)


def tiny_classes() -> list[str]:
    return [(TRAIN + TEST)[i - 1] for i in SOUND]


def tiny_networks() -> Tables:
    """conv: sad, happy in ties, dead, the first images; pool: one neuron, no weights; head: three neurons."""
    steps = np.arange(len(SOUND)) / 100
    sad = np.array([name == SAD for name in tiny_classes()], dtype=float)
    conv = np.stack([sad + steps, np.round(1 - sad + steps, 1), np.full(len(SOUND), 0.5), -steps], axis=1)
    head = np.stack([sad - steps, 1 - sad + steps**2, np.cos(40 * steps)], axis=1)
    layers = layer_rows({"conv": conv, "pool": steps[:, None], "head": head}, SOUND)
    for row in layers["neurons"]:
        row.update(dict(weight_l1=None, weight_l2=None, bias=None) if row["layer_id"] == 2 else {})
    shared = dict(architecture="vgg", preprocessing="{}", classes=[HAPPY, SAD])
    networks = [
        dict(network_id=1, name="net", fingerprint=sha("net"), **shared),
        dict(
            network_id=2,
            name="net+paper",
            fingerprint=sha("net+paper"),
            parent_network_id=1,
            edit_id=1,
            **shared,
        ),
    ]
    return layers | dict(networks=networks, predictions=tiny_predictions(1, BEFORE) + tiny_predictions(2, AFTER))


def tiny_maps() -> Tables:
    """Of conv, for the images of train: 2 × 2 cells, the highest above the threshold; flat ones of the dead unit."""
    flat, levels = 3, {0: [255, 0, 51, 0], 1: [0, 255, 51, 0]}
    return dict(
        activation_maps=[
            dict(neuron_id=neuron, image_id=i, grid_rows=2, grid_columns=2, top_row=0, top_column=top, low=0.0,
                 high=0.0 if neuron == flat else 1.0, cells=[0] * 4 if neuron == flat else levels[top])
            for neuron in (1, 2, flat, 4)
            for i in SOUND[:IN_TRAIN]
            for top in [0 if neuron == flat else i % 2]
        ],
        map_values=[
            dict(split_id=1, neuron_id=neuron, block=block, sampled=100 * block + 50, value=value)
            for neuron in (1, 2, flat, 4)
            for block, values in enumerate(([0.5, 0.25], [0.75, 0.125]))
            for value in values
        ],
        seen_parts=[
            dict(network_id=1, width=8, height=8, part_top=0.0, part_bottom=1.0, part_left=0.25, part_right=0.75)
        ],
    )  # fmt: skip


def tiny_predictions(network_id: int, shares: Sequence[float]) -> list[dict[str, Any]]:
    return [
        dict(network_id=network_id, image_id=i, class_=SAD if share > 0.5 else HAPPY,
             confidence=max(share, 1 - share), probabilities=[1 - share, share],
             loss=float(-np.log(share if truth == SAD else 1 - share)))
        for i, share, truth in zip(SOUND, shares, tiny_classes(), strict=True)
    ]  # fmt: skip


def tiny_ledger() -> Tables:
    """What was computed, over both splits; the first split in blocks of five images."""
    things = [("activations", dict(network_id=1, layer_id=i)) for i in (1, 2, 3)]
    things += [("predictions", dict(network_id=i)) for i in (1, 2)] + [("image_embeddings", dict(clip_id=1))]
    tables: Tables = dict(extractions=[], extraction_blocks=[])
    for split_id, blocks in BLOCKS.items():
        for target, what in things:
            number = len(tables["extractions"]) + 1
            tables["extractions"].append(
                dict(extraction_id=number, target=target, split_id=split_id, device="cpu",
                     precision="float32", versions="{}", started_at=NOON,
                     fingerprint=sha(target, what, split_id), **what)
            )  # fmt: skip
            tables["extraction_blocks"] += [
                dict(extraction_id=number, block=block, images=images, seconds=0.1, finished_at=NOON)
                for block, images in enumerate(blocks)
            ]
    return tables


def tiny_questions() -> Tables:
    return dict(dissections=[dissection_row(1), dissection_row(2, concept_set_id=2)])


WORSE = [0.9, 0.9, 0.2, 0.3, 0.8, 0.7, 0.4, 0.9, 0.2, 0.6, 0.3, 0.9, 0.7, 0.4]
TRIED = {  # edit → what the network says after it, and on which splits that was asked
    1: (dict(name="paper", rule="paper", tau=0.0), AFTER, (1, 2)),
    2: (dict(name="higher", rule="paper", tau=0.5), BEFORE, (1,)),
    3: (dict(name="paper: all", rule="paper", tau=0.0, control="all", control_of=1), BEFORE, (1, 2)),
    4: (dict(name="paper: random 1", rule="paper", tau=0.0, control="random", control_of=1, draw=1), WORSE, (1, 2)),
    5: (dict(name="paper: random 2", rule="paper", tau=0.0, control="random", control_of=1, draw=2), AFTER, (1, 2)),
}


def tiny_edits() -> Tables:
    """Two edits of conv; the first is chosen on the first split, and the second opened for it and its controls."""
    tables: Tables = dict(edits=[], edit_layers=[], edit_predictions=[], edit_blocks=[])
    for edit_id, (what, shares, split_ids) in TRIED.items():
        row = dict(edit_id=edit_id, network_id=1, dissection_id=1, layer="conv", factor=1.5, factor_down=1.5,
                   scale_bias=False, created_at=NOON, fingerprint=sha(what["name"]), **what)  # fmt: skip
        tables["edits"].append(row)
        tables["edit_layers"].append(dict(edit_id=edit_id, layer_id=1))
        asked = {i for split_id in split_ids for i in (SOUND[:IN_TRAIN], SOUND[IN_TRAIN:])[split_id - 1]}
        tables["edit_predictions"] += [
            {key: value for key, value in said.items() if key not in ("network_id", "probabilities")}
            | dict(edit_id=edit_id)
            for said in tiny_predictions(1, shares)
            if said["image_id"] in asked
        ]
        tables["edit_blocks"] += [
            dict(edit_id=edit_id, split_id=split_id, block=block, images=images, seconds=0.1, finished_at=NOON)
            for split_id in split_ids
            for block, images in enumerate(BLOCKS[split_id])
        ]
    changed = [i for i, before, after in zip(SOUND, BEFORE, AFTER, strict=True) if (before > 0.5) != (after > 0.5)]
    return tables | dict(
        edit_choices=[dict(edit_id=1, split_id=1, edits_tried=2, chosen_at=NOON)],
        split_openings=[dict(edit_id=1, split_id=2, opened_at=NOON)],
        edit_intervals=[
            dict(edit_id=edit_id, split_id=split_id, low=-0.25, high=0.5, loss_low=-0.1, loss_high=0.1,
                 bootstraps=100, seed=0)
            for edit_id, split_id in ((1, 1), (2, 1), (1, 2))
        ],
        edit_causes=[
            dict(edit_id=1, image_id=i, neuron_id=neuron, rank=rank, contribution=1 / rank)
            for i in changed
            for rank, neuron in enumerate((2, 1, 4), 1)
        ],
    )  # fmt: skip


def tiny_ablations(dissection_id: int, concept_id: int, first: int) -> Tables:
    """A neuron of conv alone, two of it with one label, and two random ones, over the second split."""
    ways = [
        dict(neuron_id=1, neurons=1),
        dict(dissection_id=dissection_id, concept_id=concept_id, neurons=2),
        dict(dissection_id=dissection_id, draw=1, neurons=2),
    ]
    return dict(
        ablations=[
            dict(ablation_id=i, network_id=1, split_id=2, layer_id=1, images=len(TEST), seed=0,
                 fingerprint=sha("ablation", i), **way)
            for i, way in enumerate(ways, first)
        ],
        ablation_effects=[
            dict(ablation_id=first + i, class_=name, images=TEST.count(name), gained=0, lost=2 - i, flips=2,
                 loss_change=0.5 / (1 + i), loss_change_sd=0.25)
            for i in range(len(ways))
            for name in (HAPPY, SAD)
        ],
    )  # fmt: skip


def scales_of_controls(scales: pl.DataFrame) -> pl.DataFrame:
    """Of the controls of edit 1, from its own: every neuron by the factor, and the same on other neurons."""
    own = scales.filter(pl.col("edit_id") == 1).sort("neuron_id")
    values = {3: pl.lit(1.5), 4: pl.col("scale").reverse(), 5: pl.col("scale").shift(1, fill_value=own["scale"][-1])}
    return pl.concat(
        own.with_columns(pl.lit(edit_id, pl.Int32).alias("edit_id"), scale.alias("scale"))
        for edit_id, scale in values.items()
    )


OTHER_SCORERS = {
    3: dict(scorer="wpmi", p_first=1.0, p_last=1.0),
    4: dict(scorer="cos"),
    5: dict(scorer="cos_cubed"),
    6: dict(scorer="rank_reorder", rank_fraction=0.5),  # four images
    7: dict(scorer="pearson"),
    8: dict(scorer="presence"),
    9: dict(engine="kernel", rule="q"),  # the newest, which the public views show
}


def scored_rows(warehouse: Warehouse) -> Tables:
    """Every other scorer, and a kernel that says what the views say of dissection 1; each layer with its null."""
    kernel = warehouse.rows("select * replace (9 as dissection_id) from soft_wpmi where dissection_id = 1")
    layers = [dict(dissection_id=d, layer_id=layer) for d in OTHER_SCORERS for layer in (1, 2, 3)]
    return dict(
        dissections=[dissection_row(i, **settings) for i, settings in OTHER_SCORERS.items()],
        rank_permutations=[
            dict(dissection_id=6, permutation=i, place=place, taken=taken)
            for i, order in enumerate([(1, 0, 3, 2), (3, 2, 1, 0)])
            for place, taken in enumerate(order)
        ],
        kernel_scores=kernel.to_dicts(),
        null_samples=[
            dict(dissection_id=6, layer_id=layer, null_group=group, concept_id=concept, mean=-1.5, sd=0.5)
            for layer in (1, 2, 3)
            for group in possible_groups(4)
            for concept in (1, 2, 3, 4)
        ],
        null_quantiles=[
            row | dict(null_group=group, z=z, p=p)
            for row in layers
            for group in possible_groups(8)
            for z, p in ((0.0, 0.5), (0.5, 0.1), (1.0, 0.001))
        ],
        **tiny_ablations(9, 4, 11),
        **rival_rows(),
    )


def possible_groups(longest: int) -> list[int]:
    """Every null_group that neurons with lists of `longest` images or fewer may have."""
    return [1000 * like + length for length in range(longest + 1) for like in range((length or longest) + 1)]


def ledger(warehouse: Warehouse) -> list[dict[str, int]]:
    """The ledger of labels, as if each layer with a null had been labelled."""
    return warehouse.rows(
        """
        select
            dissection_id,
            layer_id,
            (count(*) filter (where not dead and not sparse))::int as neurons,
            coalesce(
                sum(distinct null_group) filter (where not dead and not sparse) + 1 * 1000000000000,
                0
            )::bigint as null_groups
        from dissected_neurons
        where (dissection_id, layer_id) in (select distinct dissection_id, layer_id from null_quantiles)
        group by all
        """
    ).to_dicts()


REACHES = [(0.5, 0.6), (0.15, 0.9), (0.05, 0.05), (0.4, 0.5)]  # explained by a word and by CLIP as a whole


def checked_labels(warehouse: Warehouse) -> Tables:
    """The labels of the newest dissection with their checks, which neurons 1 to 4 pass, and their measures."""
    labels = warehouse.rows(
        "select neuron_id, concept_id from neuron_labels where dissection_id = 9 and concept_id is not null"
    )
    return dict(
        label_checks=[
            dict(dissection_id=9, neuron_id=neuron, concept_id=concept, z_within_class=5.0 - neuron,
                 p_within=10.0 ** (neuron - 6), split_half_agrees=neuron < 5, bootstrap_share=neuron / 10)
            for neuron, concept in labels.rows()
        ],
        label_measures=[
            measured(9, neuron, concept, reference, neuron / 10)
            for neuron, concept in labels.rows() for reference in ("clip", "class") if neuron < 4 or reference == "clip"
        ],
        label_words=[
            dict(dissection_id=9, neuron_id=neuron, place=place, concept_id=concept if place == 1 else concept % 4 + 1,
                 weight=1 / place, **(dict(gain=0.1, gain_low=0.05, gain_high=0.15) if place > 1 else {}))
            for neuron, concept in labels.rows() for place in (1, 2) if neuron < 3 or place == 1
        ],
        label_reach=[
            dict(dissection_id=9, neuron_id=neuron, explained=explained, explained_low=explained - 0.1,
                 explained_high=explained + 0.1, explainable=explainable, explainable_low=explainable - 0.1,
                 explainable_high=explainable + 0.1, explained_by_other=0.01)
            for (neuron, _), (explained, explainable) in zip(labels.rows(), cycle(REACHES), strict=False)
        ],
    )  # fmt: skip


def measured(dissection_id: int, neuron_id: int, concept_id: int, reference: str, value: float) -> dict[str, Any]:
    """A row of label_measures by halves, every measure with one value, and intervals of 0.1 to either side."""
    measures = {
        f"{name}{end}": value + shift
        for name in ("pearson", "ap", "ap_corrected", "f1", "iou", "auc")
        for end, shift in (("", 0.0), ("_low", -0.1), ("_high", 0.1))
    }
    ids = dict(dissection_id=dissection_id, neuron_id=neuron_id, concept_id=concept_id)
    return dict(**ids, judged_on="halves", reference=reference, same_halves=2, images=60, share=0.25, **measures)
