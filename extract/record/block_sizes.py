"""Choose how many images the blocks of a split have, so that a kill loses no more than two minutes of work.

block_sizes.choose(plan, warehouse, dataset_id, ids)   # before the first block of a split; does nothing later

A block is lost while it is computed, and one more while it is written. So a block takes a minute at most: blocks.BLOCK
images, or fewer if the models are slow. Shards do not choose, because they must agree on the blocks without knowing of
each other. A deterministic run does not either: sums are added up block by block.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from dissectdb.extract.models import batches, streams
from dissectdb.extract.record import ledger
from dissectdb.extract.record.blocks import Block, MissingBlock, ModelIds, ProbingImage
from dissectdb.extract.record.network_plan import NetworkPlan
from dissectdb.extract.record.plan import Plan
from dissectdb.extract.record.targets import Target
from dissectdb.extract.warehouse_protocol import Store

SECONDS = 60.0  # that a block may take
LEAST = 16  # images in a block; a power of two

log = logging.getLogger("dissectdb")


def choose(plan: Plan, warehouse: Store, dataset_id: int, ids: ModelIds) -> None:
    """Give smaller blocks to those splits without a block for which the plan's models are too slow."""
    if not isinstance(plan, NetworkPlan) or plan.study.deterministic:
        return
    for split, split_id in ledger.split_ids(warehouse, dataset_id).items():
        targets = [target for target in plan.targets() if target.split == split]
        blocks = ledger.in_blocks(warehouse, split_id)
        if not targets or not blocks or ledger.has_blocks(warehouse, split_id):
            continue
        images = blocks[0].images
        if (fitting := images_in_time(plan, images, targets, ids)) < len(images):
            row = {"split_id": split_id, "dataset_id": dataset_id, "split": split, "block_images": fitting}
            warehouse.discard({"splits": "split_id = $id"}, {"id": split_id}, instead={"splits": [row]})
            log.info(
                f"the images of {split} are written {fitting} at a time, so that a kill costs about a minute: "
                f"{len(images):,} take longer"
            )


def images_in_time(plan: Plan, images: Sequence[ProbingImage], targets: Sequence[Target], ids: ModelIds) -> int:
    """How many of these images the models take in SECONDS; if not all, a power of two, and at least LEAST.

    The first few images also take what is done once, such as allocating memory. If they are too slow, one batch for
    each stream is timed.
    """

    def in_time(count: int) -> int:
        started, sample = time.perf_counter(), images[:count]
        for _ in plan.block_tables([MissingBlock(Block(-1, sample), targets, ())], ids, lambda done: None):
            pass  # the block is computed; its rows are not made
        return int(SECONDS * len(sample) / max(time.perf_counter() - started, 1e-9))

    fitting = in_time(LEAST)
    if fitting < len(images):
        at_once = batches.batch_size(plan.device) * streams.count(plan.device)
        fitting = max(in_time(min(max(fitting, LEAST), at_once)), LEAST)
    return len(images) if fitting >= len(images) else 1 << fitting.bit_length() - 1
