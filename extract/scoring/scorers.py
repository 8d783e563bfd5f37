"""The scorers of CLIP-Dissect, and Pearson's correlation, for problems that are too large for SQL.

settings = Settings.defaults("soft_wpmi", top_k=50)
scores = score_layer(settings, Array(activations), image_embeddings, concept_embeddings)
scores.concepts[k]      # positions of neuron k's best concepts, best first; -1: it takes no label
scores.similarities[k]  # their scores

Formulas: methods.md §2; the views of sql/views/similarity define soft_wpmi, and these kernels yield the same numbers.
Symbols: N images, K neurons of the layer, C concepts, D dimensions of CLIP; s (N, C) cosines; P (N, C) their softmax.
Neither P nor the scores (K, C) are ever held whole where they are larger than the budget: concepts go through in
chunks, all neurons with each, and only the best of each neuron are kept. So a score depends on the layer's other
neurons where the formula says so, and never on how the work was cut.

Where this differs from CLIP-Dissect, each held by a test: a dead neuron takes no label and does not count in the prior
(include_dead = True counts it); a neuron that fires on few images is scored over those only; ties go to the smaller
image index and the smaller concept position; a concept that is repeated scores the same at each of its positions;
rank_reorder has no score where the mean cosine is not positive (there NaN), or where a neuron's values are the same in
a random order; a cosine with a vector of zeros, and a correlation with a constant, are 0 (there NaN).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring import topk
from dissectdb.extract.scoring.correlation import correlations
from dissectdb.extract.scoring.likelihood import likelihoods
from dissectdb.extract.scoring.problem import Best, Job, Words
from dissectdb.extract.scoring.topk import rank_reorder

BUDGET = 1_500_000_000  # bytes
DEFAULTS: dict[str, dict[str, Any]] = {
    "soft_wpmi": {},
    "wpmi": {"top_k": 28, "softmax_scale": 2.0, "prior_weight": 0.6},
    "cos": {},
    "cos_cubed": {},
    "rank_reorder": {},
    "pearson": {},
}


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of methods.md §2. A scorer reads those of its formula and no others."""

    scorer: str
    top_k: int = 100  # m
    min_images: int = 10  # that a neuron fires on, for a label
    softmax_scale: float = 10.0  # a
    prior_weight: float = 1.0  # lambda
    p_first: float = 0.998
    p_last: float = 0.97
    include_dead: bool = False  # whether dead neurons count in the prior, as in CLIP-Dissect
    rank_fraction: float = 0.05  # of the images, that rank_reorder looks at
    rank_power: float = 3.0  # p
    rank_scale: float = 0.5  # q
    permutations: int = 5
    seed: int = 0  # of the permutations

    def __post_init__(self) -> None:
        if self.scorer not in DEFAULTS:
            raise ValueError(f"{self.scorer!r} is no scorer; there are {', '.join(DEFAULTS)}")

    @classmethod
    def defaults(cls, scorer: str, **changes: Any) -> Settings:
        """The defaults of `scorer`, those of CLIP-Dissect (arXiv 2204.10965), with some changed."""
        return cls(scorer, **DEFAULTS.get(scorer, {}) | changes)


@dataclass(frozen=True)
class Scores:
    """The best concepts of each neuron, best first, the smaller position first among equals.

    concepts: (K, keep) int32 positions, -1 where there is none; similarities: (K, keep) float64, there -inf.
    """

    concepts: np.ndarray
    similarities: np.ndarray


class Layer(Protocol):
    """One layer of one network over the probing images."""

    neurons: int
    images: int
    dead: np.ndarray  # (K,) bool: takes no label, being constant or too sparse
    lengths: np.ndarray | None  # (K,): list_images of the view dissected_neurons; None: as many as the scorer asks for
    groups: np.ndarray | None  # (K,): null_group of that view; None: all are ordinary
    lowest: np.ndarray  # (K,): lowest activation
    fired: np.ndarray  # (K,): images above the lowest activation; 256 is that many or more

    def top(self, k: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """For neurons first … last - 1 their k most activating images: indices (n, k), values (n, k) float32.

        Highest first; among equals the smaller image index first.
        """

    def block(self, first: int, last: int) -> np.ndarray:
        """Activations of neurons first … last - 1: (N, n) float32."""


class Array:
    """A layer in memory: activations (N, K)."""

    def __init__(
        self,
        activations: np.ndarray,
        dead: np.ndarray | None = None,
        lengths: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> None:
        """dead: (K,) bool; None: the neurons that are constant. lengths, groups: as in Layer."""
        self.activations = np.asarray(activations, dtype=np.float32)
        self.images, self.neurons = self.activations.shape
        self.lengths, self.groups, self.lowest = lengths, groups, self.activations.min(axis=0)
        constant = self.lowest == self.activations.max(axis=0)
        self.dead = constant if dead is None else np.asarray(dead, dtype=bool)

    @property
    def fired(self) -> np.ndarray:
        return np.minimum((self.activations > self.lowest).sum(axis=0), topk.KNOWN)

    def top(self, k: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        return topk.top_lists(self.activations[:, first:last], k)

    def block(self, first: int, last: int) -> np.ndarray:
        return self.activations[:, first:last]


def score_layer(
    settings: Settings,
    layer: Layer,
    images: np.ndarray | Tensor,
    concepts: np.ndarray | Tensor,
    *,
    keep: int = 100,
    device: torch.device | str = "cpu",
    budget_bytes: int = BUDGET,
    permutations: np.ndarray | None = None,
) -> Scores:
    """The `keep` best concepts of every neuron, or all of them where there are fewer.

    images: (N, D), concepts: (C, D), float32, of unit length. budget_bytes: for all that is allocated here, on the
    device and beside it; the arguments do not count. permutations: those of rank_reorder, (permutation, n) or
    (neuron, permutation, n), instead of drawn ones.
    """
    device = torch.device("cpu" if torch.device(device).type == "mps" else device)  # mps has no float64
    vectors = torch.as_tensor(images, dtype=torch.float32)
    words = Words.of(torch.as_tensor(concepts, dtype=torch.float32))
    if len(vectors) != layer.images:
        raise ValueError(f"the layer saw {layer.images} images; {len(vectors)} embeddings were given")
    job = Job(settings, layer, vectors, words, min(keep, len(words.vectors)), device, budget_bytes)
    with torch.inference_mode():
        best = _best(job, permutations)
    similarities, found = best.of_layer(layer.neurons)
    similarities[layer.dead] = -np.inf
    similarities, positions = words.places(similarities, found, keep)
    return Scores(np.where(np.isneginf(similarities), -1, positions).astype(np.int32), similarities)


def _best(job: Job, permutations: np.ndarray | None) -> Best:
    if job.settings.scorer in ("soft_wpmi", "wpmi"):
        return likelihoods(job)
    if job.settings.scorer == "rank_reorder":
        return rank_reorder(job, permutations)
    return correlations(job)
