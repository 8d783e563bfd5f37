"""Compute a random sample of images again from the files, and compare it with the warehouse.

for finding in recheck(plan, warehouse, images=64, seed=0): ...

Writes nothing. A dataset or checkpoint that has changed since the extraction is a finding too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import torch

from dissectdb.extract.record import catalog, ledger
from dissectdb.extract.record.arrays import ArraysPlan
from dissectdb.extract.record.blocks import Block, MissingBlock, ModelIds, ProbingImage
from dissectdb.extract.record.plan import Plan
from dissectdb.extract.record.targets import Target
from dissectdb.extract.warehouse_protocol import Store

SHOWN_LAYERS = 3
# Tolerances by precision, as shares of the largest compared number. In float32, sums in another order differ by less.
# The others allow 64 times the rounding of one number, for what adds up from layer to layer.
ALLOWED = {"float32": 1e-4, "tf32": 64 * 2**-11, "float16": 64 * 2**-11, "bfloat16": 64 * 2**-8}

ONE_LEVEL = 2 / 255  # of a map whose cells lie between two numbers: of the larger one, if their signs differ


@dataclass(frozen=True)
class Finding:
    """One comparison. compared: how many numbers. worst: the largest difference. allowed: the largest that passes."""

    what: str
    compared: int
    worst: str
    allowed: str
    problem: str

    @property
    def holds(self) -> bool:
        """Whether the files and the warehouse agree."""
        return not self.problem


def recheck(plan: Plan, warehouse: Store, images: int, seed: int) -> Iterator[Finding]:
    """Yield a finding for each target of the study. If the study's files have changed, yield only findings about them.

    images: how many to sample from each split.
    """
    if absent := list(_absent(plan, warehouse)):
        yield from absent
        return  # without the same files there is nothing to compare
    models = _model_ids(plan, warehouse)
    split_ids = ledger.split_ids(warehouse, _id(warehouse, "datasets", plan.probing_set.fingerprint))
    random = np.random.default_rng(seed)
    for split in dict.fromkeys(target.split for target in plan.targets()):
        targets = [target for target in plan.targets() if target.split == split]
        done = [ledger.blocks_done(warehouse, target.fingerprint(plan.probing_set.fingerprint)) for target in targets]
        recorded = [
            image
            for block in ledger.in_blocks(warehouse, split_ids[split])
            if all(block.number in finished for finished in done)
            for image in block.images
        ]
        if recorded:
            chosen = _draw(random, len(recorded), min(images, len(recorded)), plan)
            yield from _compare_images(plan, warehouse, [recorded[index] for index in chosen], targets, models)
    yield from _compare_concepts(plan, warehouse)


def _draw(random: np.random.Generator, images: int, wanted: int, plan: Plan) -> Sequence[int]:
    """Indices of a random sample of images, in order. For arrays they are consecutive: rows are read in slices."""
    if isinstance(plan, ArraysPlan):
        first = int(random.integers(images - wanted + 1))
        return range(first, first + wanted)
    return sorted(random.choice(images, wanted, replace=False))


def _again(
    plan: Plan, images: Sequence[ProbingImage], targets: Sequence[Target], ids: ModelIds
) -> dict[str, list[pa.Table]]:
    """Table → the rows that an extraction would write for the targets over some images."""
    tables: dict[str, list[pa.Table]] = {}
    for unit in plan.block_tables([MissingBlock(Block(0, images), targets, ())], ids, lambda done: None):
        for table, rows in unit:
            tables.setdefault(table, []).append(rows)
    return tables


def _absent(plan: Plan, warehouse: Store) -> Iterator[Finding]:
    """A finding for each input of the study that the warehouse lacks with the same content."""
    wanted = [
        ("dataset", plan.probing_set.name, "datasets", plan.probing_set.fingerprint),
        ("network", plan.network.name, "networks", plan.network.fingerprint),
        ("CLIP", plan.clip.name, "clips", plan.clip.fingerprint),
        *(("concept set", planned.settings.name, "concept_sets", planned.fingerprint) for planned in plan.concept_sets),
    ]
    for kind, name, table, fingerprint in wanted:
        if warehouse.find(table, fingerprint) is None:
            problem = f"the {kind} of the study was not extracted: its files, or the study, have changed"
            yield Finding(f"{kind} {name}", 0, "", "", problem)
    if warehouse.find("networks", plan.network.fingerprint) is None:
        return  # without the network none of its layers can be there
    prints = {tap.name: catalog.layer_fingerprint(plan.network, tap) for tap in plan.taps}
    if missing := [name for name, fingerprint in prints.items() if warehouse.find("layers", fingerprint) is None]:
        names = ", ".join([*missing[:SHOWN_LAYERS], *(["…"] if len(missing) > SHOWN_LAYERS else [])])
        what = f"{len(missing)} of {len(prints)} layers: {names}" if len(missing) > 1 else f"layer {names}"
        yield Finding(
            what, 0, "", "", "not extracted from this network as the study has it; run: dissectdb extract STUDY"
        )


def _id(warehouse: Store, table: str, fingerprint: str) -> int:
    """The id of a row that is in the warehouse."""
    row_id = warehouse.find(table, fingerprint)
    assert row_id is not None, f"_absent has found it in {table}"
    return row_id


def _model_ids(plan: Plan, warehouse: Store) -> ModelIds:
    network_id = _id(warehouse, "networks", plan.network.fingerprint)
    layers = catalog.enter_layers(
        warehouse, plan.network, network_id, plan.taps
    )  # all layers exist, so none is written
    return ModelIds(network_id, _id(warehouse, "clips", plan.clip.fingerprint), layers)


def _compare_images(
    plan: Plan,
    warehouse: Store,
    images: Sequence[ProbingImage],
    targets: Sequence[Target],
    models: ModelIds,
) -> Iterator[Finding]:
    """Compare the targets of a split over some of its images."""
    ids = {"images": [image.image_id for image in images]}
    expected = _again(plan, images, targets, models)
    for target in targets:
        again = expected[target.kind].pop(0)
        what = f"{target.kind.replace('_', ' ')} {target.name} {target.split}"
        now = (plan.clip if target.kind == "image_embeddings" else plan.network).precision
        allowed = max(ALLOWED[precision] for precision in (now, _precision(plan, warehouse, target)))
        if target.kind == "activations":
            layer = models.layer(target.name)
            values = warehouse.rows(
                """
                select value from activations
                where neuron_id >= $first and neuron_id < $last and image_id in $images order by neuron_id, image_id
                """,
                ids | {"first": layer.first_neuron, "last": layer.first_neuron + target.values_per_image},
            )["value"]
            if len(values):
                yield _finding(what, again.read_all()["value"].to_numpy(), values.to_numpy(), allowed)
            else:
                yield _compare_tops(f"top images of {what}", again, warehouse, ids, allowed)
        elif target.kind == "predictions":
            stored = warehouse.rows(
                """
                select probabilities from predictions
                where network_id = $network and image_id in $images order by image_id
                """,
                ids | {"network": models.network_id},
            )
            yield _finding(what, _flat(again["probabilities"]), _flat(stored["probabilities"].to_arrow()), allowed)
        elif target.kind == "activation_maps":
            yield _compare_maps(what, again, warehouse, ids, allowed)
        else:
            stored = warehouse.rows(
                """
                select embedding from image_embeddings
                where clip_id = $clip and image_id in $images order by image_id
                """,
                ids | {"clip": models.clip_id},
            )
            yield _finding(what, _flat(again["embedding"]), _flat(stored["embedding"].to_arrow()), allowed)


def _compare_tops(
    what: str, again: pa.RecordBatchReader, warehouse: Store, ids: dict[str, list[int]], allowed: float
) -> Finding:
    """Compare those activations that are stored as top images of a block, where the others are not stored."""
    pairs, stored = [], []
    for batch in again:  # some neurons
        neurons = batch["neuron_id"].to_numpy()
        rows = warehouse.rows(
            """
            select neuron_id, image_id, value from block_tops
            where neuron_id >= $first and neuron_id <= $last and image_id in $images
            """,
            ids | {"first": int(neurons[0]), "last": int(neurons[-1])},
        )
        kept = rows.join(pl.DataFrame(batch), on=["neuron_id", "image_id"], how="left", maintain_order="left")
        stored.append(kept["value"].to_numpy())
        pairs.append(kept["value_right"].to_numpy())
    values = np.concatenate(pairs)
    if not len(values):
        return Finding(what, 0, "", "", "no top image is stored of any of them")
    return _finding(what, values, np.concatenate(stored), allowed)


def _compare_maps(what: str, again: pa.Table, warehouse: Store, ids: dict[str, list[int]], allowed: float) -> Finding:
    """Compare the cells of those maps that are stored of these images.

    An image that is among a neuron's best of all is among its best of these, so its map is made again.
    """
    computed = pl.DataFrame(again)
    stored = warehouse.rows(
        """
        select neuron_id, image_id, low, high, cells from activation_maps
        where image_id in $images and neuron_id between $first and $last
        """,
        ids | {"first": computed["neuron_id"].min(), "last": computed["neuron_id"].max()},
    )
    pairs = stored.join(computed, on=["neuron_id", "image_id"], suffix="_again", maintain_order="left")
    if pairs.is_empty():
        return Finding(what, 0, "", "", "")
    return _finding(what, _cells(pairs, "_again"), _cells(pairs, ""), allowed + ONE_LEVEL)


def _cells(maps: pl.DataFrame, suffix: str) -> np.ndarray:
    """The cells of maps as numbers, map after map."""
    low, high = (maps[f"{name}{suffix}"].to_numpy()[:, None].astype(np.float64) for name in ("low", "high"))
    levels = np.stack(maps[f"cells{suffix}"].to_list())
    return (low + (high - low) * levels / 255).ravel()


def _precision(plan: Plan, warehouse: Store, target: Target) -> str:
    """The precision that a target was computed in."""
    rows = warehouse.rows(
        "select precision from extractions where fingerprint = $fingerprint",
        {"fingerprint": target.fingerprint(plan.probing_set.fingerprint)},
    )
    return rows["precision"][0]


def _compare_concepts(plan: Plan, warehouse: Store) -> Iterator[Finding]:
    """Compare the embeddings of all concepts."""
    clip_id = warehouse.find("clips", plan.clip.fingerprint)
    for settings, classes_of, fingerprint, _ in plan.concept_sets:
        stored = warehouse.rows(
            """
            select embedding from concept_embeddings
            inner join concepts on concept_embeddings.concept_id = concepts.concept_id
            where clip_id = $clip and concept_set_id = $concepts order by position
            """,
            {"clip": clip_id, "concepts": warehouse.find("concept_sets", fingerprint)},
        )
        again = plan.clip.embed_concepts(list(classes_of), settings.templates)
        what = f"concept embeddings {settings.name}"
        yield _finding(
            what, torch.as_tensor(again).numpy().ravel(), _flat(stored["embedding"].to_arrow()), ALLOWED["float32"]
        )


def _flat(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The numbers of a column of lists."""
    column = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    return np.asarray(column.flatten())


def _finding(what: str, again: np.ndarray, stored: np.ndarray, allowed: float) -> Finding:
    if len(again) != len(stored):
        return Finding(what, len(again), "", "", f"{len(stored):,} numbers are stored, not {len(again):,}")
    off = np.abs(again.astype(np.float64) - stored.astype(np.float64))
    limit = allowed * max(float(np.abs(again).max()), 1e-6)
    wrong = int((off > limit).sum())
    problem = f"{wrong:,} numbers differ" if wrong else ""
    return Finding(what, len(again), f"{off.max():.1e}", f"{limit:.1e}", problem)
