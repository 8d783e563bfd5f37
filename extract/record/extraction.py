"""Run an extraction: one pass over the images feeds both the network and CLIP, block by block.

plan = make_plan(study)                         # loads the models, writes nothing
entered = enter(plan, warehouse)                # writes images, networks, concepts and their embeddings
warehouse.load(run(plan, warehouse, entered))   # writes the missing blocks, each with its ledger entries

A run that was stopped continues with the first missing block. A run after a complete one has nothing to do.
"""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import torch

from dissectdb.extract.models import classes
from dissectdb.extract.record import arrays, block_sizes, blocks, catalog, dissections, judge_plan, network_plan
from dissectdb.extract.record.blocks import MissingBlock, ModelIds
from dissectdb.extract.record.class_checks import counts_by_split
from dissectdb.extract.record.concept_notes import note_new_concepts
from dissectdb.extract.record.ledger import blocks_done, in_blocks, split_ids, with_ledger
from dissectdb.extract.record.plan import Plan, labelling, refuse_too_few
from dissectdb.extract.record.targets import EXTRACTION_VERSION, Target
from dissectdb.extract.study import ArraysStudy, Study, StudyError
from dissectdb.extract.warehouse_protocol import Store, Unit
from dissectdb.given import NOTHING, Given
from dissectdb.progress import Progress, Watch, unshown, unwatched

log = logging.getLogger("dissectdb")


def make_plan(study: Study, given: Given = NOTHING) -> Plan:
    """Load the models and data that a study names and compute their fingerprints; writes nothing. Raises StudyError.

    given: objects in place of the study's network and images.
    """
    if isinstance(study, ArraysStudy):
        if given.is_something:
            raise StudyError("given=Given(…) would do nothing: the study has arrays in place of a network")
        return arrays.make_plan(study)
    return network_plan.make_plan(study.with_network("extract"), given)


def all_plans(plan: Plan) -> list[Plan]:
    """The plan, one for each control network that the study asks for, and one for another CLIP that judges."""
    if not isinstance(plan, network_plan.NetworkPlan):
        return [plan]
    plans = [plan, *network_plan.control_plans(plan)]
    return [*plans, *judge_plan.judge_plans(plans)]


# ---------------------------------------------------------------- what the blocks belong to


@dataclass(frozen=True)
class Entered:
    """The ids in the warehouse of what a study names. set_ids: concept set → its id."""

    dataset_id: int
    models: ModelIds
    set_ids: dict[str, int]


def enter(plan: Plan, warehouse: Store, watch: Watch = unwatched) -> Entered:
    """Write what the warehouse lacks of a study: images, network, layers, CLIP, concepts and their embeddings."""
    accept = partial(refuse_too_few, plan)
    is_new = warehouse.find("datasets", plan.probing_set.fingerprint) is None
    with watch("looking at the images", unit="images") as progress:
        dataset_id = catalog.enter_dataset(
            warehouse, plan.probing_set, plan.source, accept, progress, block_images=blocks.BLOCK
        )
    counts = catalog.sound_counts(warehouse, dataset_id)
    accept(counts)
    if is_new:  # otherwise Plan.steps has logged it
        log.info(labelling(plan, counts))
        note_new_concepts(warehouse, plan.clip, plan.concept_sets)
    classes.warn_of_splits(counts_by_split(warehouse, dataset_id))
    network_id = catalog.enter_network(warehouse, plan.network)
    layers = catalog.enter_layers(warehouse, plan.network, network_id, plan.taps)
    enter_seen_parts(warehouse, plan, dataset_id, network_id)
    clip_id = catalog.enter_clip(warehouse, plan.clip)
    set_ids = {}
    for planned in plan.concept_sets:
        name, templates = planned.settings.name, planned.settings.templates
        set_id = set_ids[name] = catalog.enter_concept_set(warehouse, planned)
        with watch(f"embedding {name}", unit="concepts") as progress:
            catalog.embed_concept_set(warehouse, plan.clip, clip_id, set_id, templates, progress)
    return Entered(dataset_id, ModelIds(network_id, clip_id, layers), set_ids)


def enter_seen_parts(warehouse: Store, plan: Plan, dataset_id: int, network_id: int) -> None:
    """Write which part of an image the network sees, for each size that the dataset's images have."""
    sizes = warehouse.rows(
        """
        select distinct images.width, images.height from images
        inner join splits on images.split_id = splits.split_id
        left join seen_parts
        on seen_parts.network_id = $network and seen_parts.width = images.width and seen_parts.height = images.height
        where dataset_id = $dataset and images.width > 0 and images.height > 0 and seen_parts.network_id is null
        order by all
        """,
        {"network": network_id, "dataset": dataset_id},
    )
    parts = [(width, height, plan.seen_part(width, height)) for width, height in sizes.iter_rows()]
    rows = [
        {"network_id": network_id, "width": width, "height": height}
        | {f"part_{side}": share for side, share in part._asdict().items()}
        for width, height, part in parts
        if part is not None
    ]
    if rows:
        warehouse.write({"seen_parts": rows})


def enter_extraction(
    warehouse: Store,
    plan: Plan,
    target: Target,
    split_id: int,
    *,
    network_id: int | None = None,
    layer_id: int | None = None,
    clip_id: int | None = None,
) -> int:
    """The id of a target's row in `extractions`, which is written if it is new. Ledger entries refer to it."""
    fingerprint = target.fingerprint(plan.probing_set.fingerprint)
    if (stored_id := warehouse.find("extractions", fingerprint)) is not None:
        return stored_id
    if target.kind == "activation_maps":
        _discard_maps(warehouse, split_id, layer_id)
    extraction_id = warehouse.next_id("extractions")
    row = {
        "extraction_id": extraction_id,
        "target": target.kind,
        "split_id": split_id,
        "network_id": network_id,
        "layer_id": layer_id,
        "clip_id": clip_id,
        "device": plan.device.type,
        "precision": (plan.clip if target.kind == "image_embeddings" else plan.network).precision,
        "versions": json.dumps(
            {
                "extraction": EXTRACTION_VERSION,
                "torch": torch.__version__,
                "open_clip": version("open_clip_torch"),
                "python": platform.python_version(),
                "device": torch.cuda.get_device_name(plan.device) if plan.device.type == "cuda" else platform.machine(),
                "threads": torch.get_num_threads(),
                "deterministic": plan.study.deterministic,
                **({"map_images": plan.study.map_images} if target.kind == "activation_maps" else {}),
            }
        ),
        "started_at": catalog.now(),
        "fingerprint": fingerprint,
    }
    warehouse.write({"extractions": [row]})
    return extraction_id


def _discard_maps(warehouse: Store, split_id: int, layer_id: int | None) -> None:
    """Delete a layer's maps that were made in another way, or for another number of images."""
    of_extraction = "target = 'activation_maps' and split_id = $split and layer_id = $layer"
    of_neurons = "neuron_id in (select neuron_id from neurons where layer_id = $layer)"
    warehouse.discard(
        {
            "activation_maps": f"{of_neurons} and image_id in (select image_id from images where split_id = $split)",
            "map_values": f"{of_neurons} and split_id = $split",
            "extraction_blocks": f"extraction_id in (select extraction_id from extractions where {of_extraction})",
            "extractions": of_extraction,
        },
        {"split": split_id, "layer": layer_id},
    )


# ---------------------------------------------------------------- the blocks


def run(
    plan: Plan,
    warehouse: Store,
    entered: Entered,
    progress: Progress = unshown,
) -> Iterator[Unit]:
    """Yield as units the missing blocks of what was entered, and then the new dissections.

    progress: called with the images done and the images in all. An image counts once, for all its targets.
    """
    block_sizes.choose(plan, warehouse, entered.dataset_id, entered.models)
    yield from new_blocks(plan, warehouse, entered, progress)
    # A separate unit after the last block, so that a dissection exists only if everything that it reads does.
    if new := new_dissections(plan, warehouse, entered):
        yield new


def new_blocks(plan: Plan, warehouse: Store, entered: Entered, progress: Progress) -> Iterator[Unit]:
    """Yield the missing blocks of all targets, split by split, as units."""
    by_split = missing_blocks(plan, warehouse, entered)
    total = sum(len(block.images) for missing in by_split for block, *_ in missing)
    finished = 0

    def count(images: int) -> None:
        progress(finished + images, total)

    for missing in by_split:
        tables_of = plan.block_tables(missing, entered.models, count)
        for block, _, extraction_ids in missing:
            started = time.perf_counter()
            tables = next(tables_of)
            finished += len(block.images)
            seconds = time.perf_counter() - started
            yield with_ledger(tables, block, extraction_ids, seconds, keep_activations=plan.keep_activations)


def missing_blocks(plan: Plan, warehouse: Store, entered: Entered) -> list[list[MissingBlock]]:
    """For each split, its blocks that are not done, with the targets that they lack."""
    ids = split_ids(warehouse, entered.dataset_id)
    targets = plan.targets()
    by_split = []
    for split in dict.fromkeys(target.split for target in targets):
        if not (all_blocks := in_blocks(warehouse, ids[split])):
            continue  # a dataset need not have all three splits
        wanted = [target for target in targets if target.split == split]
        extractions = {
            target: enter_extraction(warehouse, plan, target, ids[split], **entered.models.of(target))
            for target in wanted
        }
        done = {target: blocks_done(warehouse, target.fingerprint(plan.probing_set.fingerprint)) for target in wanted}
        shard, shards = plan.shard
        missing = []
        for block in all_blocks:
            stale = [target for target in wanted if block.number not in done[target]]
            if block.number % shards == shard and stale:
                missing.append(MissingBlock(block, stale, [extractions[target] for target in stale]))
        by_split.append(missing)
    return by_split


def new_dissections(plan: Plan, warehouse: Store, entered: Entered) -> Unit:
    """A unit with the study's dissections that the warehouse lacks; empty if there are none."""
    return dissections.rows(
        warehouse,
        plan.sized_dissections(catalog.sound_counts(warehouse, entered.dataset_id)),
        entered.set_ids,
        network_id=entered.models.network_id,
        split_id=split_ids(warehouse, entered.dataset_id)[plan.probing_set.probing_split],
        clip_id=entered.models.clip_id,
    )
