"""p of labels where images come in groups: computed from one image of each group.

chosen = one_of_each(evidence.groups, seed)                       # (G,) positions; None: no group has two images
apart = OnePerGroup.of(settings, evidence, chosen, layers, draws, seed)
p = apart.p(place, labels)                                        # (K,), of the layer at this place

Frames of a film repeat each other, so that a null of random images is too narrow for them: it takes one film for many
agreeing images. One image of each group, drawn without a look at activations or concepts, is a sample in which no image
repeats another, and every scorer and null holds for it as it is. The label, its score and z stay those of all images; p
is how often a neuron that is unrelated to these G images gets a label with at least the z that this label has on them.

Means over groups were tried first. Where frames of a group do not resemble each other, the mean of a large group
varies less than that of a small one, in activations and in concepts alike, and p came out too small (bench/README.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dissectdb.extract.scoring import class_null, tails
from dissectdb.extract.scoring.evidence import Evidence
from dissectdb.extract.scoring.nulls import Null, NullProblem, in_group, scored_groups
from dissectdb.extract.scoring.part_layer import Part
from dissectdb.extract.scoring.problem import Layer, Settings
from dissectdb.extract.scoring.scorers import SCORERS, score_layer
from dissectdb.extract.scoring.within_class import ImageClasses

LEAST_GROUPS = 20  # with fewer, there is no p
LEAST_LISTED = 10  # of the chosen images in a list of top images, if it holds as many of all; at most half of them
LEAST_REORDERED = 20  # the same for rank_reorder, which learns little from the order of ten
PICKING = 3  # beside the seed: which image of each group


def one_of_each(groups: np.ndarray | None, seed: int) -> np.ndarray | None:
    """Rising positions (G,) of one image of each group, drawn at random; None if no group has two images."""
    if groups is None or groups.max() + 1 == len(groups):
        return None
    order = np.random.default_rng((seed, PICKING)).permutation(len(groups))
    return np.sort(order[np.unique(groups[order], return_index=True)[1]])


def fitted(settings: Settings, images: int, chosen: int) -> Settings:
    """The settings for `chosen` of the images: the same share of them is listed, but at least a few.

    A neuron is tested however few of these images it fires on, because a list of any length has a null of its own.
    """
    top_k = _listed(settings.top_k, LEAST_LISTED, images, chosen)
    fewer = replace(settings, top_k=top_k, min_images=1)
    list_images = settings.declaration.list_images
    if list_images is None or settings.declaration.labels_by_top_k:
        return fewer
    listed = _listed(list_images(settings, images), LEAST_REORDERED, images, chosen)
    return replace(fewer, rank_fraction=(listed + 0.5) / chosen)


def _listed(count: int, least: int, images: int, chosen: int) -> int:
    """How many of the chosen images stand for `count` of all."""
    return min(count, max(round(count * chosen / images), min(least, chosen // 2)))


@dataclass
class OnePerGroup:
    """One image of each group, the layers on these images, and the null of their labels."""

    settings: Settings
    evidence: Evidence
    layers: list[Part]
    null: Null
    draws: int
    seed: int

    @classmethod
    def of(
        cls,
        settings: Settings,
        evidence: Evidence,
        chosen: np.ndarray,
        layers: Sequence[Layer],
        draws: int,
        seed: int,
    ) -> OnePerGroup:
        """Read the layers on the chosen images (G,), and draw their nulls."""
        fewer = fitted(settings, len(evidence.images), len(chosen))
        is_listed = not settings.declaration.reads_activations
        parts = [Part(layer, chosen, fewer, is_listed and not layer.has_activations()) for layer in layers]
        images = evidence.images[torch.from_numpy(chosen)]
        classes = None if evidence.classes is None else evidence.classes[chosen]
        part = Evidence(evidence.image_ids[chosen], images, evidence.concept_ids, evidence.concepts, classes)
        with torch.inference_mode():
            null = SCORERS[settings.scorer].null(NullProblem(fewer, parts, images, evidence.concepts, draws, seed))
        return cls(fewer, part, parts, null, draws, seed)

    def p(self, place: int, labels: np.ndarray, device: torch.device | str = "cpu") -> np.ndarray:
        """p (K,) of labels (K,), positions of concepts, of the layer at this place; NaN for a neuron without one (-1).

        1 if the label has no z on the chosen images, as when the neuron fires on none of them.
        """
        layer, scorer = self.layers[place], SCORERS[self.settings.scorer]
        images, concepts = self.evidence.images, self.evidence.concepts
        scores = score_layer(self.settings, layer, images, concepts, only=labels, device=device)
        z = scorer.z(self.settings, layer, scores, self.null.moments[place])[:, 0]
        p = np.where(labels >= 0, 1.0, np.nan)
        for group in scored_groups(layer):
            neurons = in_group(layer, group) & (labels >= 0) & np.isfinite(z)
            z_of_draws, p_of_draws = tails.steps(self.null.labels[place][group], self.draws)
            if len(z_of_draws):
                p[neurons] = tails.look_up(z_of_draws, p_of_draws, z[neurons])
        return p

    def p_within(self, place: int, labels: np.ndarray, classes: ImageClasses) -> np.ndarray:
        """p within classes (K,), as class_null.within_classes gives it; 1 if a neuron fires on no chosen image."""
        layer = self.layers[place]
        p = class_null.within_classes(classes, layer, labels, self.draws, self.seed)[1]
        if not np.isnan(p).all():
            p[(labels >= 0) & layer.dead] = 1
        return p
