"""Synthetic probing sets whose truth is known, and labels of their neurons with p and q.

world = embeddings(5000, 25, seed=0)  # unit vectors of images and concepts, with cosines like CLIP's
judged = judge(settings, activations, world, draws=100_000, seed=0)  # label, score, z, p and q of every neuron

Labels, null distributions and scores are computed by the code of a dissection (dissectdb.extract.scoring), from arrays
in place of rows. p is looked up and q computed as in the view neuron_labels.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dissectdb.extract.judging.bootstrap import benjamini_hochberg
from dissectdb.extract.scoring import class_null, labels, robustness, tails
from dissectdb.extract.scoring.evidence import Evidence
from dissectdb.extract.scoring.null_groups import dissected_neurons
from dissectdb.extract.scoring.one_per_group import OnePerGroup, one_of_each
from dissectdb.extract.scoring.problem import Array, Settings
from dissectdb.extract.scoring.scorers import score_layer
from dissectdb.extract.scoring.within_class import ImageClasses

DIMENSIONS, CENTRES = 256, 40
LEVEL = 0.22  # mean cosine of an image and a concept: CLIP's own is 0.15 to 0.3
Q_LIMIT, P_LIMIT = 0.05, 0.05


@dataclass(frozen=True)
class World:
    """Embeddings of unit length: images (N, D), concepts (C, D). shown (N, C): which image shows which concept."""

    images: np.ndarray
    concepts: np.ndarray
    shown: np.ndarray


def unit(rows: np.ndarray) -> np.ndarray:
    """The rows, scaled to length one."""
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def embeddings(
    images: int,
    concepts: int,
    seed: int,
    *,
    dimensions: int = DIMENSIONS,
    shares: Sequence[float] | np.ndarray | None = None,
    lean: float = 0.0,
) -> World:
    """Embeddings of images around a few dozen centres and of random concepts. All share one direction, as CLIP's do.

    shares: the share of the images that shows each concept. Default: no image shows any. lean: about how much higher
    the cosine of an image and a concept is if the image shows it.
    """
    random = np.random.default_rng((seed, 1))
    words = unit(random.standard_normal((concepts, dimensions), dtype=np.float32))
    centres = unit(random.standard_normal((CENTRES, dimensions), dtype=np.float32))
    own = unit(random.standard_normal((images, dimensions), dtype=np.float32))
    faces = 0.7 * centres[random.integers(CENTRES, size=images)] + 0.7 * own
    shown = np.zeros((images, concepts), bool)
    for concept, share in enumerate(() if shares is None else shares):
        shown[random.choice(images, round(share * images), replace=False), concept] = True
    rest = (1 - LEVEL) ** 0.5
    faces = np.concatenate([np.full((images, 1), LEVEL**0.5, np.float32), rest * unit(faces)], axis=1)
    words = np.concatenate([np.full((concepts, 1), LEVEL**0.5, np.float32), rest * words], axis=1)
    if shown.any():
        faces[:, 1:] += lean / rest**2 * (shown @ words[:, 1:])
    return World(unit(faces), unit(words), shown)


class Layer(Array):
    """A layer in memory with the attributes of a stored one: dead, lengths, groups as in the view dissected_neurons."""

    def __init__(self, activations: np.ndarray, settings: Settings) -> None:
        dead, lengths, self.null_groups = dissected_neurons(settings, activations)
        super().__init__(activations, dead, lengths, self.null_groups)


@dataclass(frozen=True)
class Judged:
    """The labels of a layer: one entry per neuron. A dead neuron has label -1 and p = q = 1.

    p_within, robust: only if the classes of the images were given; else p_within is 1 and no label is robust.
    """

    label: np.ndarray
    score: np.ndarray
    z: np.ndarray
    p: np.ndarray
    q: np.ndarray
    p_within: np.ndarray
    robust: np.ndarray
    draws: int
    seconds: float


def judge(
    settings: Settings,
    activations: np.ndarray,
    world: World,
    draws: int,
    seed: int,
    classes: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> Judged:
    """Label every neuron and compare it with noise, as `dissectdb extract` does. classes, groups: of the images (N,).

    With groups, only p and q know them.
    """
    start = time.perf_counter()
    layer = Layer(activations, settings)
    images, concepts = torch.from_numpy(world.images), torch.from_numpy(world.concepts)
    evidence = Evidence(np.arange(len(images)), images, np.arange(len(concepts)), concepts, None)
    null = labels.draw_null(settings, evidence, [layer], draws, seed)
    scores = score_layer(settings, layer, images, concepts, keep=1)
    z = labels.z_of_scores(settings, layer, 0, scores, null)[:, 0]
    live = ~layer.dead & (scores.concepts[:, 0] >= 0)
    p, q = np.ones(len(z)), np.ones(len(z))
    drawn = 0
    for group in np.unique(layer.null_groups[live]):
        rows, of_group = live & (layer.null_groups == group), null.labels[0][int(group)]
        p[rows] = tails.look_up(*tails.steps(of_group, draws), z[rows])
        drawn = max(drawn, len(of_group))
    if (chosen := one_of_each(groups, seed)) is not None:
        apart = OnePerGroup.of(settings, evidence, chosen, [layer], draws, seed)
        p[live] = apart.p(0, np.where(live, scores.concepts[:, 0], -1))[live]
    q[live] = benjamini_hochberg(p[live])
    p_within, robust = np.ones(len(z)), np.zeros(len(z), bool)
    if classes is not None:
        own_labels = np.where(live, scores.concepts[:, 0], -1)
        of_images = ImageClasses(settings, images, concepts, classes)
        p_within[live] = class_null.within_classes(of_images, layer, own_labels, draws, seed)[1][live]
        agree = robustness.split_half(settings, layer, images, concepts, evidence.halves) == 1
        robust[live] = (q[live] <= Q_LIMIT) & (benjamini_hochberg(p_within[live]) <= Q_LIMIT) & agree[live]
    seconds = time.perf_counter() - start
    return Judged(scores.concepts[:, 0], scores.similarities[:, 0], z, p, q, p_within, robust, drawn, seconds)


def show(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table in Markdown, each row as soon as it is computed."""
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(map(text, row))} |")
        sys.stdout.flush()


def text(value: object) -> str:
    """A number in readable form."""
    if isinstance(value, (bool, str)):
        return str(value)
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    return f"{value:.2f}" if isinstance(value, (float, np.floating)) else str(value)


def percent(share: float) -> str:
    """A share as a percentage."""
    return "–" if np.isnan(share) else f"{100 * share:.2f} %"
