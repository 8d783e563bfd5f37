"""Measure many edits over a split: the network runs up to the edited layer once, and only the rest once per edit.

search = Search(plan)
warehouse.load(search.run(warehouse, planned, "validation", progress))   # edit_predictions, block by block
for block, logits in search.logits(warehouse, planned[0], "test"): ...   # (image, class), of one edit

Edits with the same first layer share one pass over the images. The layer's outputs stay in memory within a budget, so
that a second measurement over the same split need not run the first part again. A block is committed together with its
ledger entry, so a run that was stopped continues with the first missing block.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from dissectdb.extract.editing import cut_network
from dissectdb.extract.editing.cut_network import Cut, Kept
from dissectdb.extract.editing.edits import PlannedEdit
from dissectdb.extract.models import batches, streams
from dissectdb.extract.models.preprocessing import Pixels
from dissectdb.extract.record import catalog, ledger
from dissectdb.extract.record.blocks import Block, outcomes
from dissectdb.extract.record.network_plan import NetworkPlan
from dissectdb.extract.study import StudyError
from dissectdb.extract.warehouse_protocol import Store, Unit
from dissectdb.progress import Progress, Say, silent, unshown

BUDGET = 1_500_000_000  # bytes of layers' outputs that stay in memory
AT_ONCE = 1024  # most images in a piece of a block
BATCH_BYTES = 300_000_000  # most bytes of a piece; pieces of large layers have fewer images


class Search:
    """A network, cut at the layers that edits scale, and these layers' outputs as far as they fit into memory."""

    def __init__(self, plan: NetworkPlan, say: Say = silent) -> None:
        self.plan, self.say = plan, say
        self.taps = [tap for tap in plan.taps if tap.heads is None]  # of layers whose units can be changed
        self.cuts: dict[str, Cut] = {}
        self.kept: dict[tuple[int, int, str, int], Kept] = {}  # split, block, layer, piece
        # On a CPU, convolutions run a third faster channels last.
        self.model = plan.network.model.to(memory_format=torch.channels_last)

    def cut(self, layer: str) -> Cut:
        """The network, cut at a layer. An edit may also scale layers that run after it."""
        if layer not in self.cuts:
            names = [tap.layer for tap in self.taps]
            taps = self.taps[names.index(layer) :]
            shape = self.plan.network.recipe.shape
            self.cuts[layer] = cut_network.cut_at(self.model, taps, shape, self.plan.network.answer)
            if self.cuts[layer].is_slow:
                self.say(f"torch.fx cannot cut this network at {layer}: each edit runs all of it, which is slower")
        return self.cuts[layer]

    def first_layer(self, planned: PlannedEdit) -> str:
        """The layer of an edit that the network runs first."""
        order = [tap.layer for tap in self.taps]
        return min((layer.layer for layer in planned.layers), key=order.index)

    def run(
        self,
        warehouse: Store,
        planned: Sequence[PlannedEdit],
        split: str,
        progress: Progress = unshown,
    ) -> Iterator[Unit]:
        """Yield the missing blocks of predictions as units. progress: called with (done, total) images × edits."""
        split_id, blocks = self.blocks(warehouse, split)
        work = [
            (block, layer, missing)
            for layer, edits in self.by_layer(planned).items()
            for block, missing in self.missing(warehouse, edits, split_id, blocks)
        ]
        total, done = sum(len(block.images) * len(missing) for block, _, missing in work), 0
        for block, layer, missing in work:
            started = time.perf_counter()
            changes = [edit.change(self.plan.device) for edit in missing]
            parts = []
            for kept in self.pieces(layer, split_id, block):
                with torch.no_grad():
                    parts.append(self.cut(layer).after_all(kept, changes).float().cpu())
                progress(done + sum(part.shape[1] for part in parts) * len(missing), total)
            done += len(block.images) * len(missing)
            logits = torch.cat(parts, dim=1)
            edit_ids = [edit.edit_id for edit in missing]
            entry = {
                "split_id": split_id, "block": block.number, "images": len(block.images),
                "seconds": time.perf_counter() - started, "finished_at": catalog.now(),
            }  # fmt: skip
            yield [
                ("edit_predictions", self.predictions(block, edit_ids, logits)),
                ("edit_blocks", pa.Table.from_pylist([{"edit_id": edit_id, **entry} for edit_id in edit_ids])),
            ]

    def by_layer(self, planned: Sequence[PlannedEdit]) -> dict[str, list[PlannedEdit]]:
        """Layer → the edits whose first layer it is. Layers are in running order."""
        order = [tap.layer for tap in self.taps]
        groups: dict[str, list[PlannedEdit]] = {}
        for edit in planned:
            groups.setdefault(self.first_layer(edit), []).append(edit)
        return dict(sorted(groups.items(), key=lambda item: order.index(item[0])))

    def blocks(self, warehouse: Store, split: str) -> tuple[int, list[Block]]:
        """The id of a split and its sound images in blocks. Raises StudyError if there are none."""
        dataset_id = warehouse.find("datasets", self.plan.probing_set.fingerprint)
        split_id = None if dataset_id is None else ledger.split_ids(warehouse, dataset_id).get(split)
        if split_id is None or not (blocks := ledger.in_blocks(warehouse, split_id)):
            raise StudyError(f"the dataset has no sound {split} images; an edit is measured on validation, then test")
        return split_id, blocks

    def missing(
        self, warehouse: Store, planned: Sequence[PlannedEdit], split_id: int, blocks: Sequence[Block]
    ) -> list[tuple[Block, list[PlannedEdit]]]:
        """The blocks that are not done, each with the edits that lack it."""
        rows = warehouse.rows("select edit_id, block from edit_blocks where split_id = $split", {"split": split_id})
        done = set(rows.iter_rows())
        lacking = [(block, [edit for edit in planned if (edit.edit_id, block.number) not in done]) for block in blocks]
        return [(block, edits) for block, edits in lacking if edits]

    def pieces(self, layer: str, split_id: int, block: Block) -> Iterator[Kept]:
        """Yield a layer's outputs for a block in pieces, from memory or computed."""
        index = 0
        pieces_in_memory = []
        while (split_id, block.number, layer, index) in self.kept:
            pieces_in_memory.append(self.kept[split_id, block.number, layer, index])
            index += 1
        if sum(len(piece[0]) for piece in pieces_in_memory) == len(block.images):
            yield from pieces_in_memory
            return
        for index, kept in enumerate(self.compute(layer, block)):
            if self.size() + _bytes(kept) <= BUDGET:
                self.kept[split_id, block.number, layer, index] = kept
            yield kept

    def size(self) -> int:
        """Bytes of the layers' outputs in memory."""
        return sum(map(_bytes, self.kept.values()))

    def compute(self, layer: str, block: Block) -> Iterator[Kept]:
        """Run the images of a block up to a layer."""
        plan, images = self.plan, len(block.images)
        pixels = plan.source.read([image.position for image in block.images])
        made = batches.in_batches(pixels, [images], plan.device)
        results: dict[int, Kept] = {}

        def work(cut: Cut, pixels: Pixels, first: int) -> None:
            prepared = plan.network.recipe.apply(pixels, plan.device).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                results[first] = cut.before(prepared)

        collected, first = [], 0
        for done in streams.run(work, made, images, self.replicas(layer)):
            collected.append(results.pop(first))
            first = done
            with_one_more = [*collected, collected[-1]]  # the piece as it would be with one more batch
            count = sum(len(kept[0]) for kept in with_one_more)
            if done == images or count > AT_ONCE or sum(map(_bytes, with_one_more)) > BATCH_BYTES:
                yield tuple(torch.cat(tensors) for tensors in zip(*collected, strict=True))
                collected = []

    def replicas(self, layer: str) -> list[Cut]:
        """The network, cut at a layer: one copy for each batch that is computed at the same time."""
        cut, shape = self.cut(layer), self.plan.network.recipe.shape
        if cut.start is None:  # not cut, and its hooks are on the one model
            return [cut]
        starts = streams.replicas(cut.start, lambda start, images: start(images)[0], shape, self.plan.device)
        return [cut, *(replace(cut, start=start) for start in starts)]

    def logits(self, warehouse: Store, planned: PlannedEdit, split: str) -> Iterator[tuple[Block, Tensor]]:
        """Yield each block of a split with the edited network's logits (image, class)."""
        split_id, blocks = self.blocks(warehouse, split)
        layer, change = self.first_layer(planned), planned.change(self.plan.device)
        for block in blocks:
            with torch.no_grad():
                parts = [self.cut(layer).after_all(kept, [change])[0].float().cpu()
                         for kept in self.pieces(layer, split_id, block)]  # fmt: skip
            yield block, torch.cat(parts)

    def predictions(self, block: Block, edit_ids: Sequence[int], logits: Tensor) -> pa.Table:
        """Rows of edit_predictions for logits (edit, image, class), one edit after another."""
        if not torch.isfinite(logits).all():
            edit = edit_ids[int((~torch.isfinite(logits)).flatten(1).any(1).nonzero()[0])]
            raise StudyError(f"edit {edit}: the edited network yields NaN or infinity; its scales are too large")
        return pa.table(
            {
                "edit_id": np.repeat(np.array(edit_ids, np.int32), len(block.images)),
                "image_id": np.tile(block.image_ids(), len(edit_ids)),
                **outcomes(block.images, self.plan.network.classes, logits.flatten(0, 1)),
            }
        )


def _bytes(kept: Kept) -> int:
    return sum(tensor.nbytes for tensor in kept)
