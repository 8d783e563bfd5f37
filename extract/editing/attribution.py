"""Attribute to neurons an image's change of class by an edit.

shares = contributions(cut, kept, change, new, old)     # (image, unit) of each changed layer
unit = causes(warehouse, search, planned, split)        # rows of edit_causes for the images that changed class

The difference between the logits of the new and of the old class is attributed. Its gradient with respect to each
unit's change is integrated along the straight line from the original to the edited network (integrated gradients,
Sundararajan, Taly and Yan 2017, arXiv 1703.01365). So the shares of all units add up to the change of the difference.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from dissectdb.extract.editing.cut_network import Change, Cut, Kept
from dissectdb.extract.editing.edits import PlannedEdit
from dissectdb.extract.editing.search import Search
from dissectdb.extract.warehouse_protocol import Store, Unit

STEPS = 64  # of the integral; enough for the shares to add up within about one percent
NEURONS = 5  # stored per image
AT_ONCE = 64  # images


def contributions(cut: Cut, kept: Kept, change: Change, new: Tensor, old: Tensor) -> dict[str, Tensor]:
    """Layer → (image, unit): each unit's share in the change of logit new - logit old. new, old: (image,)."""
    images = len(kept[0])
    shares = {
        layer: torch.zeros(images, len(scaling.weight), device=kept[0].device) for layer, scaling in change.items()
    }
    with torch.enable_grad():
        for step in range(STEPS):
            part = (step + 0.5) / STEPS
            amounts = {layer: torch.full_like(share, part, requires_grad=True) for layer, share in shares.items()}
            logits = cut.after(tuple(tensor.detach() for tensor in kept), change, amounts)
            margin = (logits.gather(1, new[:, None]) - logits.gather(1, old[:, None])).sum()
            for share, gradient in zip(
                shares.values(), torch.autograd.grad(margin, list(amounts.values())), strict=True
            ):
                share += gradient / STEPS
    return shares


def causes(warehouse: Store, search: Search, planned: PlannedEdit, split: str) -> Iterator[Unit]:
    """For each block of a split with missing rows, a unit with the NEURONS that contributed most to each new class."""
    split_id, blocks = search.blocks(warehouse, split)
    changed = warehouse.rows(
        """
        select image_id, class_before, class_after from edit_flips
        where edit_id = $edit and split_id = $split
        and image_id not in (select image_id from edit_causes where edit_id = $edit)
        """,
        {"edit": planned.edit_id, "split": split_id},
    )
    classes = {name: output for output, name in enumerate(search.plan.network.classes)}
    flips = {image: (classes[new], classes[old]) for image, old, new in changed.iter_rows()}
    layer, change = search.first_layer(planned), planned.change(search.plan.device)
    for block in blocks:
        if not flips:
            return
        tables, first = [], 0
        for kept in search.pieces(layer, split_id, block):
            ids = block.image_ids()[first : first + len(kept[0])]
            first += len(kept[0])
            flipped = np.flatnonzero([image in flips for image in ids])
            for chunk in np.array_split(flipped, range(AT_ONCE, len(flipped), AT_ONCE)) if len(flipped) else ():
                chosen = torch.from_numpy(chunk).to(kept[0].device)
                pairs = torch.tensor([flips[image] for image in ids[chunk]], device=kept[0].device)
                kept_chunk = tuple(tensor[chosen] for tensor in kept)
                shares = contributions(search.cut(layer), kept_chunk, change, pairs[:, 0], pairs[:, 1])
                tables.append(
                    _strongest(planned, ids[chunk], {name: share.cpu().numpy() for name, share in shares.items()})
                )
        if tables:
            yield {"edit_causes": pa.concat_tables(tables)}


def _strongest(planned: PlannedEdit, image_ids: np.ndarray, shares: dict[str, np.ndarray]) -> pa.Table:
    """Rows of edit_causes: for each image the units with the largest shares, over all layers."""
    neurons = np.concatenate([layer.first_neuron + np.arange(len(layer.scales)) for layer in planned.layers])
    values = np.concatenate([shares[layer.layer] for layer in planned.layers], axis=1)
    count = min(NEURONS, values.shape[1])
    best = np.argsort(-values, axis=1, kind="stable")[:, :count]
    return pa.table(
        {
            "edit_id": np.full(best.size, planned.edit_id, np.int32),
            "image_id": np.repeat(image_ids, count).astype(np.int32),
            "neuron_id": neurons[best].ravel().astype(np.int32),
            "rank": np.tile(np.arange(1, count + 1, dtype=np.int32), len(best)),
            "contribution": np.take_along_axis(values, best, axis=1).ravel().astype(np.float64),
        }
    )
