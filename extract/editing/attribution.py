"""Which neurons changed the class of an image, when an edit did.

shares = contributions(cut, kept, change, new, old)     # (image, unit) of each changed layer
unit = causes(warehouse, search, planned, split)        # rows of edit_causes for the images that changed class

What is attributed is the logit of the new class less that of the old. Along the straight line from the network as it
was to the edited one, each unit's share of its change is integrated (integrated gradients, Sundararajan, Taly and Yan
2017, arXiv 1703.01365), so that the shares of all units add up to the change.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from dissectdb.extract.editing.cut import Change, Cut, Kept
from dissectdb.extract.editing.edits import PlannedEdit
from dissectdb.extract.editing.search import Search
from dissectdb.extract.store import Store, Unit

STEPS = 64  # of the integral; the shares then add up to the change within about one percent
NEURONS = 5  # that are named for an image
AT_ONCE = 64  # images


def contributions(cut: Cut, kept: Kept, change: Change, new: Tensor, old: Tensor) -> dict[str, Tensor]:
    """Layer → (image, unit), the share of each unit in the change of logit new - logit old. new, old: (image,)."""
    images = len(kept[0])
    shares = {layer: torch.zeros(images, len(each.weight), device=kept[0].device) for layer, each in change.items()}
    with torch.enable_grad():
        for step in range(STEPS):
            part = (step + 0.5) / STEPS
            amounts = {layer: torch.full_like(share, part, requires_grad=True) for layer, share in shares.items()}
            logits = cut.after(tuple(each.detach() for each in kept), change, amounts)
            margin = (logits.gather(1, new[:, None]) - logits.gather(1, old[:, None])).sum()
            for share, gradient in zip(
                shares.values(), torch.autograd.grad(margin, list(amounts.values())), strict=True
            ):
                share += gradient / STEPS
    return shares


def causes(warehouse: Store, search: Search, planned: PlannedEdit, split: str) -> Iterator[Unit]:
    """A unit for each block of a split that is not there yet: the NEURONS that did most for each new class."""
    split_id, blocks = search.blocks(warehouse, split)
    changed = warehouse.rows(
        """
        select image_id, class_before, class_after from edit_flips
        where edit_id = $edit and split_id = $split
        and image_id not in (select image_id from edit_causes where edit_id = $edit)
        """,
        {"edit": planned.edit_id, "split": split_id},
    )
    classes = {name: place for place, name in enumerate(search.plan.network.classes)}
    flips = {image: (classes[new], classes[old]) for image, old, new in changed.iter_rows()}
    layer, change = search.first_layer(planned), planned.change(search.plan.device)
    for block in blocks:
        if not flips:
            return
        tables, place = [], 0
        for kept in search.pieces(layer, split_id, block):
            ids = block.image_ids()[place : place + len(kept[0])]
            place += len(kept[0])
            mine = np.flatnonzero([image in flips for image in ids])
            for some in np.array_split(mine, range(AT_ONCE, len(mine), AT_ONCE)) if len(mine) else ():
                chosen = torch.from_numpy(some).to(kept[0].device)
                pairs = torch.tensor([flips[image] for image in ids[some]], device=kept[0].device)
                part = tuple(each[chosen] for each in kept)
                shares = contributions(search.cut(layer), part, change, pairs[:, 0], pairs[:, 1])
                tables.append(
                    _strongest(planned, ids[some], {name: each.cpu().numpy() for name, each in shares.items()})
                )
        if tables:
            yield {"edit_causes": pa.concat_tables(tables)}


def _strongest(planned: PlannedEdit, image_ids: np.ndarray, shares: dict[str, np.ndarray]) -> pa.Table:
    """Rows of edit_causes: of each image the units with the largest shares, of all layers together."""
    neurons = np.concatenate([each.first_neuron + np.arange(len(each.scales)) for each in planned.layers])
    values = np.concatenate([shares[each.layer] for each in planned.layers], axis=1)
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
