"""Measure what a network loses if a neuron, or all neurons of a concept, are silenced: their output is set to 0.

for unit in run(warehouse, plan, dissection_id, watch): ...      # rows of ablations and ablation_effects
outcomes = measure(before, after, truth)                         # per ablation and true class, from logits

In the layer before a linear head, silencing a neuron subtracts one term from the logits (docs/methods.md, section 7).
That is exact, and one pass over the images is enough for all neurons. In other layers each ablation takes a pass
through the rest of the network, so neurons and images are sampled; the rows hold the sizes of the samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from dissectdb.extract import fingerprints
from dissectdb.extract.editing.cut_network import Change, Cut, Kept, Scaling
from dissectdb.extract.editing.layers import KnownLayer, dissected_layers, find_layer
from dissectdb.extract.editing.search import Search
from dissectdb.extract.record.blocks import Block
from dissectdb.extract.record.network_plan import NetworkPlan
from dissectdb.extract.study import Effects, StudyError
from dissectdb.extract.warehouse_protocol import Store, Unit
from dissectdb.progress import Progress, Say, Watch, silent, unwatched

AT_ONCE = 64  # ablations whose logits are in memory at a time
SAMPLED_DRAWS = 20  # random sets of each size, if each set takes a forward pass


@dataclass(frozen=True)
class Ablation:
    """Units of a layer that are silenced together: a neuron, the neurons of a concept, or a random draw.

    Exactly one of neuron_id, concept_id and draw is set.
    """

    units: np.ndarray
    neuron_id: int | None = None
    concept_id: int | None = None
    draw: int | None = None


@dataclass(frozen=True)
class Outcomes:
    """What ablations change for the images of each true class: arrays (ablation, class), but images is (class,).

    gained, lost: images whose predicted class becomes right, and that were right and become wrong. flips: images whose
    predicted class changes. loss_change: mean over the images; loss_change_sd: standard deviation.
    """

    images: np.ndarray
    gained: np.ndarray
    lost: np.ndarray
    flips: np.ndarray
    loss_change: np.ndarray
    loss_change_sd: np.ndarray


def measure(before: Tensor, after: Tensor, truth: Tensor) -> Outcomes:
    """Outcomes for the images of each true class. before: logits (image, class); after: (ablation, image, class)."""
    members = torch.nn.functional.one_hot(truth, before.shape[1]).double()  # (image, class)
    images = members.sum(0)
    chosen, was = after.argmax(2), before.argmax(1)
    right, was_right = chosen == truth, was == truth
    losses = _losses(after, truth) - _losses(before[None], truth)  # (ablation, image)
    mean = losses @ members / images.clamp(min=1)
    spread = (losses.square() @ members / images.clamp(min=1) - mean.square()).clamp(min=0).sqrt()

    def count(of: Tensor) -> np.ndarray:
        """(ablation, class) from (ablation, image)."""
        return (of.double() @ members).int().numpy()

    return Outcomes(
        images=images.int().numpy(),
        gained=count(right & ~was_right),
        lost=count(was_right & ~right),
        flips=count(chosen != was),
        loss_change=mean.numpy(),
        loss_change_sd=spread.numpy(),
    )


def _losses(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy (ablation, image) of logits (ablation, image, class)."""
    chosen = logits.double().gather(2, truth.expand(len(logits), -1)[..., None])[..., 0]
    return logits.double().logsumexp(2) - chosen


# ---------------------------------------------------------------- a layer


def run(
    warehouse: Store,
    plan: NetworkPlan,
    dissection_id: int,
    watch: Watch = unwatched,
    say: Say = silent,
) -> Iterator[Unit]:
    """Yield the missing rows of each layer of [effects]: each neuron alone, then all neurons of each concept."""
    settings, search = plan.study.effects, Search(plan, say)
    if settings is None:
        raise StudyError('the study has no [effects]; add one with layers = ["…"]')
    layers_by_name = dissected_layers(warehouse, plan, dissection_id)
    layers = {}
    for name in settings.layers:
        if (known_layer := find_layer(name, layers_by_name)) is None:
            raise StudyError(f"effects: {name} is not extracted and built; run: dissectdb extract STUDY")
        layers[name] = known_layer
    split_id, blocks = search.blocks(warehouse, settings.split)
    free = warehouse.next_id("ablations")  # counted here, because the writer may not have written the last unit yet
    for name, known_layer in layers.items():
        layer = Layer(search, settings, known_layer, split_id, blocks)
        for what, ablations, dissection_of_group in (
            (f"silencing each neuron of {name}", layer.alone(warehouse, dissection_id), None),
            (f"silencing neurons of {name} by concept", layer.together(warehouse, dissection_id), dissection_id),
        ):
            group = layer.fingerprint(ablations)
            if not ablations or warehouse.find("ablations", fingerprints.of_values(group, 0)) is not None:
                continue
            with watch(what, unit="ablations") as progress:
                parts = layer.measured(ablations, progress)
                yield layer.rows(warehouse, free, ablations, parts, group, dissection_of_group)
            free += len(ablations)


class Layer:
    """A layer whose neurons are silenced: for all images of a split before a linear head, else for a sample of them."""

    def __init__(
        self, search: Search, asked: Effects, known: KnownLayer, split_id: int, blocks: Sequence[Block]
    ) -> None:
        self.search, self.asked, self.known, self.split_id = search, asked, known, split_id
        self.cut: Cut = search.cut(known.layer)
        self.is_exact = self.cut.last is not None
        self.blocks = list(blocks) if self.is_exact else [self._sample(blocks)]
        outputs: dict[str | None, int] = {name: output for output, name in enumerate(search.plan.network.classes)}
        self.truth = torch.tensor(
            [outputs.get(image.class_name, -1) for block in self.blocks for image in block.images]
        )
        self.random = np.random.default_rng([self.asked.seed, 1])

    def _sample(self, blocks: Sequence[Block]) -> Block:
        images = [image for block in blocks for image in block.images]
        if self.asked.images < len(images):
            chosen = np.random.default_rng([self.asked.seed, 0]).choice(len(images), self.asked.images, replace=False)
            images = [images[index] for index in np.sort(chosen)]
        return Block(-1, images)  # not a number of the split's blocks, so the search caches it separately

    def alone(self, warehouse: Store, dissection_id: int) -> list[Ablation]:
        """An ablation for each live neuron, or for a sample of them."""
        rows = warehouse.rows(
            """
            select neuron_id from dissected_neurons
            where dissection_id = $dissection and layer_id = $layer and not dead order by neuron_id
            """,
            {"dissection": dissection_id, "layer": self.known.layer_id},
        )
        neurons = rows["neuron_id"].to_numpy()
        if not self.is_exact and self.asked.neurons < len(neurons):
            neurons = np.sort(self.random.choice(neurons, self.asked.neurons, replace=False))
        return [
            Ablation(np.array([neuron_id - self.known.first_neuron]), neuron_id=int(neuron_id)) for neuron_id in neurons
        ]

    def together(self, warehouse: Store, dissection_id: int) -> list[Ablation]:
        """Ablations of the interpretable neurons of each concept, and of equally many random neurons of the layer."""
        rows = warehouse.rows(
            """
            select concept_id, neuron_id from neuron_labels
            where dissection_id = $dissection and layer_id = $layer and interpretable order by concept_id, neuron_id
            """,
            {"dissection": dissection_id, "layer": self.known.layer_id},
        )
        ablations = [
            Ablation(group["neuron_id"].to_numpy() - self.known.first_neuron, concept_id=concept_id)
            for (concept_id,), group in rows.group_by("concept_id", maintain_order=True)
        ]
        draws = self.asked.controls if self.is_exact else min(self.asked.controls, SAMPLED_DRAWS)
        for draw in range(1, draws + 1):
            order = self.random.permutation(self.known.neurons)
            ablations += [
                Ablation(order[:size], draw=draw)
                for size in sorted({len(ablation.units) for ablation in ablations if ablation.draw is None})
            ]
        return ablations

    def fingerprint(self, ablations: Sequence[Ablation]) -> str:
        """The fingerprint of the network, the images and the units that are silenced."""
        plan = self.search.plan
        images = fingerprints.of_array(np.concatenate([block.image_ids() for block in self.blocks]))
        units = [
            (ablation.neuron_id, ablation.concept_id, ablation.draw, fingerprints.of_array(ablation.units))
            for ablation in ablations
        ]
        return fingerprints.of_values(
            plan.network.fingerprint, plan.probing_set.fingerprint, self.known.mark or self.known.layer, images, units
        )

    def measured(self, ablations: Sequence[Ablation], progress: Progress) -> list[Outcomes]:
        """Outcomes of all ablations, AT_ONCE in each entry. They count the images whose class is an output."""
        has_class = self.truth >= 0
        if not has_class.any():
            raise StudyError("effects: no sampled image has a class that is an output; raise effects.images")
        pieces = [
            piece for block in self.blocks for piece in self.search.pieces(self.known.layer, self.split_id, block)
        ]
        parts = []
        with torch.no_grad():
            before = torch.cat([self.cut.after(piece, {}) for piece in pieces]).cpu()
            for first in range(0, len(ablations), AT_ONCE):
                ablation_chunk = ablations[first : first + AT_ONCE]
                after = torch.cat([self._after(piece, ablation_chunk) for piece in pieces], dim=1).cpu()
                parts.append(measure(before[has_class], after[:, has_class], self.truth[has_class]))
                progress(first + len(ablation_chunk), len(ablations))
        return parts

    def _after(self, kept: Kept, ablations: Sequence[Ablation]) -> Tensor:
        """Logits (ablation, image, class) with the units silenced."""
        last = self.cut.last
        if last is None or any(len(ablation.units) > 1 for ablation in ablations):
            return self.cut.after_all(kept, [self._silence(ablation) for ablation in ablations])
        hidden = last.hidden(kept[0].clone())
        units = torch.from_numpy(np.concatenate([ablation.units for ablation in ablations])).to(hidden.device)
        taken = last.hidden(torch.zeros_like(kept[0][:1]))[:, units] - hidden[:, units]  # (image, ablation)
        return self.cut.answer.as_logits(last.head(hidden)[None] + taken.T[..., None] * last.head.weight.T[units, None])

    def _silence(self, ablation: Ablation) -> Change:
        factors = torch.ones(self.known.neurons)
        factors[torch.from_numpy(ablation.units)] = 0
        factors = factors.to(self.search.plan.device)
        return {self.known.layer: Scaling(factors, factors)}

    def rows(
        self,
        warehouse: Store,
        first: int,
        ablations: Sequence[Ablation],
        parts: Sequence[Outcomes],
        group: str,
        dissection_id: int | None,
    ) -> Unit:
        """A unit: rows of ablations, with ids from `first` on, and of ablation_effects."""
        names = self.search.plan.network.classes
        images = int((self.truth >= 0).sum())
        network_id = warehouse.find("networks", self.search.plan.network.fingerprint)
        ablation_rows = [
            {
                "ablation_id": first + index,
                "network_id": network_id,
                "split_id": self.split_id,
                "layer_id": self.known.layer_id,
                "neuron_id": ablation.neuron_id,
                "dissection_id": dissection_id,
                "concept_id": ablation.concept_id,
                "draw": ablation.draw,
                "neurons": len(ablation.units),
                "images": images,
                "seed": self.asked.seed,
                "fingerprint": fingerprints.of_values(group, index),
            }
            for index, ablation in enumerate(ablations)
        ]
        ints = [(name, pa.int32()) for name in list(ablation_rows[0])[:-1]]
        counts = parts[0].images
        class_indices = np.flatnonzero(counts)  # classes that some image has
        columns = {
            name: np.concatenate([getattr(part, name)[:, class_indices] for part in parts]).ravel()
            for name in ("gained", "lost", "flips", "loss_change", "loss_change_sd")
        }
        return {
            "ablations": pa.Table.from_pylist(ablation_rows, pa.schema([*ints, ("fingerprint", pa.string())])),
            "ablation_effects": pa.table(
                {
                    "ablation_id": np.repeat(
                        np.arange(first, first + len(ablation_rows), dtype=np.int32), len(class_indices)
                    ),
                    "class": [names[index] for index in class_indices] * len(ablation_rows),
                    "images": np.tile(counts[class_indices], len(ablation_rows)),
                    **columns,
                }
            ),
        }
