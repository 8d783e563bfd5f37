"""What all scorers share: their settings, the layer and concepts that they score, and the best concepts of each neuron.

settings = Settings.defaults("soft_wpmi", top_k=50)
layer = Array(activations)                     # a Layer in memory
best = BestConcepts(neurons, keep, device)
best.update(scores, first_concept)             # (neuron, concept), once per chunk of concepts
values, concepts = best.of_layer(layer.neurons)

Labels: scores that differ by no more than TIE of the best one tie, and the first concept is the label. Sums are rounded
differently on different devices, and this must not decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring import topk
from dissectdb.extract.scoring.chunks import CACHE_ELEMENTS, slices
from dissectdb.extract.study import STORED_IMAGES
from dissectdb.extract.study.scorers import SCORERS, ScorerDeclaration

TIE = 1e-6  # of the best score's size; as in nd_tied of sql/engines

ArrayOrTensor = TypeVar("ArrayOrTensor", np.ndarray, Tensor)


def tie_limit(best: ArrayOrTensor) -> ArrayOrTensor:
    """The lowest score that ties with a best score."""
    return best - TIE * abs(best)


def first_of_best(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The highest score along the last axis, and the index of the first one that ties with it."""
    highest = scores.amax(dim=-1)
    ties = scores >= tie_limit(highest)[..., None]
    return highest, ties.view(torch.uint8).max(dim=-1).indices  # max returns the first of equal values, on any device


def ties_raised(scores: np.ndarray) -> np.ndarray:
    """Scores (K, n) by which concepts are ranked: those that tie with the best of their row are as high as it."""
    best = scores.max(axis=1, keepdims=True)
    return np.where(scores >= tie_limit(best), best, scores)


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of docs/methods.md, section 2. A scorer reads those of its formula and no others."""

    scorer: str
    top_k: int = 100  # m
    min_images: int = 10  # that a neuron must fire on to take a label
    softmax_scale: float = 10.0  # a
    prior_weight: float = 1.0  # lambda
    p_first: float = 0.998
    p_last: float = 0.97
    include_dead: bool = False  # whether dead neurons count in the prior, as in CLIP-Dissect
    rank_fraction: float = 0.05  # share of the images that rank_reorder reads
    rank_power: float = 3.0  # p
    rank_scale: float = 0.5  # q
    permutations: int = 5
    seed: int = 0  # of the permutations

    def __post_init__(self) -> None:
        if self.scorer not in SCORERS:
            raise ValueError(f"{self.scorer!r} is not a scorer; there are {', '.join(SCORERS)}")
        self.declaration.refuse_changes(self.scorer, self)

    @classmethod
    def defaults(cls, scorer: str, **changes: Any) -> Settings:
        """The defaults of `scorer`, which are those of CLIP-Dissect (arXiv 2204.10965), with some changed."""
        return cls(scorer, **{**(SCORERS[scorer].defaults if scorer in SCORERS else {}), **changes})

    @property
    def declaration(self) -> ScorerDeclaration:
        """What the scorer reads, of the table that study files are checked against."""
        return SCORERS[self.scorer]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of each neuron (K,)."""

    mean: np.ndarray
    sd: np.ndarray


@dataclass(frozen=True)
class Scores:
    """The best concepts of each neuron: those that tie for the best, by position, then the others, best first.

    So the first one is the label. concepts: (K, keep) int32 positions, -1 where there is none; similarities: (K, keep)
    float64, there -inf.
    """

    concepts: np.ndarray
    similarities: np.ndarray


class Layer(Protocol):
    """One layer of one network over the probing images: N images, K neurons."""

    @property
    def neurons(self) -> int:
        """K."""

    @property
    def images(self) -> int:
        """N."""

    @property
    def dead(self) -> np.ndarray:
        """(K,) bool: the neuron takes no label, because it is constant or too sparse."""

    @property
    def lengths(self) -> np.ndarray | None:
        """(K,): list_images of the view dissected_neurons; None: as many as the scorer reads."""

    @property
    def groups(self) -> np.ndarray | None:
        """(K,): null_group of that view; None: all neurons are ordinary."""

    @property
    def lowest(self) -> np.ndarray:
        """(K,): lowest activation."""

    @property
    def fired(self) -> np.ndarray:
        """(K,): images above the lowest activation; 256 means 256 or more."""

    @property
    def spread(self) -> Spread:
        """Mean and standard deviation of the activations."""

    @property
    def cube_spread(self) -> Spread:
        """Mean and standard deviation of the centred, cubed activations."""

    def has_activations(self) -> bool:
        """Whether all activations are known; of some layers only the top images of each neuron are."""

    def top(self, k: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """The k most activating images of neurons first … last - 1: indices (n, k), values (n, k) float32.

        Highest first; among equal values the smaller image index first.
        """

    def block(self, first: int, last: int) -> np.ndarray:
        """Activations of neurons first … last - 1: (N, n) float32."""

    def rows(self, first: int, last: int) -> np.ndarray:
        """The same as (n, N): each neuron's activations are contiguous."""


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
        """(K,): images above the lowest activation, at most 256."""
        return np.minimum((self.activations > self.lowest).sum(axis=0), STORED_IMAGES)

    @property
    def spread(self) -> Spread:
        """Mean and standard deviation of the activations."""
        return self._spread(cubed=False)

    @property
    def cube_spread(self) -> Spread:
        """Mean and standard deviation of the centred, cubed activations."""
        return self._spread(cubed=True)

    def _spread(self, cubed: bool) -> Spread:
        means, sds = np.empty(self.neurons), np.empty(self.neurons)
        for neurons in slices(self.neurons, 256):
            values = self.activations[:, neurons].astype(np.float64)
            if cubed:
                values = (values - values.mean(axis=0)) ** 3
            means[neurons], sds[neurons] = values.mean(axis=0), values.std(axis=0)
        return Spread(means, sds)

    def has_activations(self) -> bool:
        """They are in memory."""
        return True

    def top(self, k: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """The k most activating images of neurons first … last - 1, as in Layer."""
        return topk.top_lists(self.activations[:, first:last], k)

    def block(self, first: int, last: int) -> np.ndarray:
        """Activations of neurons first … last - 1: (N, n) float32."""
        return self.activations[:, first:last]

    def rows(self, first: int, last: int) -> np.ndarray:
        """The same as (n, N)."""
        return np.ascontiguousarray(self.activations[:, first:last].T)


def distinct_rows(rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Index of the first row of each content, in order, and for every row the number of its content."""
    values = rows.cpu().contiguous().numpy()
    beginnings = np.sort(np.ascontiguousarray(values[:, :2]).view(np.int64 if values.shape[1] > 1 else np.int32)[:, 0])
    if (beginnings[1:] != beginnings[:-1]).all():  # nearly always, and a hundred times faster to see
        return np.arange(len(rows)), np.arange(len(rows))
    numbers: dict[bytes, int] = {}
    digests = (blake2b(row, digest_size=16).digest() for row in values)
    inverse = np.fromiter((numbers.setdefault(digest, len(numbers)) for digest in digests), np.int64, len(rows))
    return np.unique(inverse, return_index=True)[1], inverse


@dataclass(frozen=True)
class ConceptEmbeddings:
    """The distinct concepts. A repeated concept is scored once, so that all its positions have the same score."""

    vectors: Tensor  # (distinct concept, D), in the order in which they first occur
    inverse: np.ndarray  # (C,): which of the vectors each concept has
    counts: np.ndarray  # (distinct concept,): how many concepts have it

    @classmethod
    def distinct(cls, embeddings: Tensor) -> ConceptEmbeddings:
        """The distinct rows of `embeddings` (C, D). Raises ValueError if there are none."""
        first, inverse = distinct_rows(embeddings)
        if not len(first):
            raise ValueError("there are no concepts to score")
        return cls(embeddings[torch.from_numpy(first)], inverse, np.bincount(inverse))

    @classmethod
    def one_each(cls, embeddings: Tensor) -> ConceptEmbeddings:
        """Every row of `embeddings` (C, D) as a concept of its own, even if rows are equal."""
        return cls(embeddings, np.arange(len(embeddings)), np.ones(len(embeddings), np.int64))

    def positions(self, similarities: np.ndarray, vectors: np.ndarray, keep: int) -> tuple[np.ndarray, np.ndarray]:
        """Similarities and concept positions (K, keep), as in Scores, from those of distinct concepts (K, kept)."""
        raised = ties_raised(similarities)
        if len(self.vectors) == len(self.inverse):
            order = np.lexsort((vectors, -raised), axis=1)
            return np.take_along_axis(similarities, order, axis=1), np.take_along_axis(vectors, order, axis=1)
        grouped = np.argsort(self.inverse, kind="stable")
        starts = np.cumsum(self.counts) - self.counts
        shape = len(vectors), min(keep, len(self.inverse))
        spread, positions = np.full(shape, -np.inf), np.zeros(shape, np.int64)
        for neuron, (neuron_values, neuron_vectors) in enumerate(zip(similarities, vectors, strict=True)):
            scored = ~np.isneginf(neuron_values)
            neuron_values, neuron_vectors, neuron_raised = (
                neuron_values[scored],
                neuron_vectors[scored],
                raised[neuron, scored],
            )
            counts = self.counts[neuron_vectors]
            offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            concepts = grouped[np.repeat(starts[neuron_vectors], counts) + offsets]
            neuron_values = np.repeat(neuron_values, counts)
            order = np.lexsort((concepts, -np.repeat(neuron_raised, counts)))[:keep]
            spread[neuron, : len(order)], positions[neuron, : len(order)] = neuron_values[order], concepts[order]
        return spread, positions


@dataclass(frozen=True)
class ScoringProblem:
    """A call of score_layer, in the form that the scorers take."""

    settings: Settings
    layer: Layer
    images: Tensor  # (N, D), on the caller's device
    concepts: ConceptEmbeddings
    keep: int  # concepts per neuron, at most as many as are distinct
    device: torch.device
    budget: int  # bytes
    permutations: np.ndarray | None = None  # of rank_reorder; None: they are drawn
    only: np.ndarray | None = None  # (K,): the one concept that each neuron is scored with, or -1; None: with all

    def chunk_width(self, fixed: int, per_concept: int) -> int:
        """How many concepts go into a chunk, if one takes `per_concept` bytes and everything else `fixed`.

        Raises ValueError if the budget does not hold one.
        """
        fixed += self.concepts.vectors.nbytes + 50 * self.layer.neurons * self.keep + 16 * CACHE_ELEMENTS * 16
        if fixed + per_concept > self.budget:
            raise ValueError(f"budget_bytes = {self.budget:,} is too little; this layer needs {fixed + per_concept:,}")
        return min((self.budget - fixed) // per_concept, len(self.concepts.vectors))

    def best(self, neurons: np.ndarray | None = None) -> BestConcepts:
        """A record of the best concepts of these neurons of the layer, or of all; still empty."""
        neurons = np.arange(self.layer.neurons) if neurons is None else neurons
        if self.only is not None:
            return OneConcept(neurons, self.only[neurons], self.device)
        return BestConcepts(neurons, self.keep, self.device)


class LabelsSoFar:
    """The label of each row, when scores come in chunks of concepts, and its score.

    What ties with the best of all chunks is known at the end. A concept that tied with the best of an earlier chunk is
    found again only if it was a label then.
    """

    def __init__(self, rows: int, device: torch.device | str = "cpu") -> None:
        self.best = torch.full((rows,), -torch.inf, dtype=torch.float64, device=device)
        self.scores = self.best.clone()
        self.concepts = torch.full((rows,), -1, dtype=torch.int64, device=device)

    def update(self, scores: Tensor, first_concept: int, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Add scores (n, c) of some rows and of the concepts from first_concept on, after all earlier concepts.

        Returns which rows have another label now (n,), and the column of the first that ties in each row (n,).
        """
        highest, column = first_of_best(scores)
        is_new = (highest > self.best[rows]) & (self.scores[rows] < tie_limit(highest))
        self.best[rows] = torch.maximum(self.best[rows], highest.double())
        self.scores[rows] = torch.where(is_new, scores.gather(1, column[:, None])[:, 0].double(), self.scores[rows])
        self.concepts[rows] = torch.where(is_new, column + first_concept, self.concepts[rows])
        return is_new, column


class BestConcepts:
    """The best concepts so far of some neurons of a layer: values and concepts (neuron, keep), best first."""

    def __init__(self, neurons: np.ndarray, keep: int, device: torch.device) -> None:
        self.neurons, self.labels = neurons, LabelsSoFar(len(neurons), device)
        self.values = torch.full((len(neurons), keep), -torch.inf, dtype=torch.float64, device=device)
        self.concepts = torch.full((len(neurons), keep), -1, dtype=torch.int64, device=device)

    def update(self, scores: Tensor, first_concept: int, first_row: int = 0) -> None:
        """Add scores (n, c) of the neurons from row first_row on and of the concepts from first_concept on."""
        keep = self.values.shape[1]
        for rows in slices(len(scores), max(1, 16 * CACHE_ELEMENTS // scores.shape[1])):
            own = slice(first_row + rows.start, first_row + rows.stop)
            self.labels.update(scores[rows], first_concept, own)
            if keep == 1:  # the label is all
                continue
            values, concepts = highest(scores[rows], min(keep, scores.shape[1]))
            values = torch.cat([self.values[own], values.double()], dim=1)  # the earlier concepts first
            concepts = torch.cat([self.concepts[own], concepts + first_concept], dim=1)
            values, order = values.sort(dim=1, descending=True, stable=True)
            self.values[own] = values[:, :keep]
            self.concepts[own] = concepts.gather(1, order[:, :keep])

    def multiply(self, factors: Tensor) -> None:
        """Multiply the scores of each neuron by its factor (neuron,), which is positive."""
        self.values *= factors[:, None]
        self.labels.scores *= factors

    def of_layer(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Values and concepts (count, keep) of a layer of `count` neurons; -inf for a neuron that was not scored.

        The label is among them, even if more than `keep` concepts tie.
        """
        values = np.full((count, self.values.shape[1]), -np.inf)
        concepts = np.zeros(values.shape, np.int64)
        values[self.neurons] = self.values.cpu().numpy()
        concepts[self.neurons] = self.concepts.cpu().numpy()
        labels = self.labels.concepts.cpu().numpy()
        is_missing = (concepts[self.neurons] != labels[:, None]).all(axis=1)
        rows = self.neurons[is_missing]
        values[rows, -1], concepts[rows, -1] = self.labels.scores.cpu().numpy()[is_missing], labels[is_missing]
        return values, concepts


class OneConcept(BestConcepts):
    """The score of each neuron with one concept, in place of the best ones. concepts: (neuron,), -1 for none."""

    def __init__(self, neurons: np.ndarray, concepts: np.ndarray, device: torch.device) -> None:
        super().__init__(neurons, 1, device)
        self.concepts[:, 0] = torch.from_numpy(concepts)

    def update(self, scores: Tensor, first_concept: int, first_row: int = 0) -> None:
        """Keep the scores (n, c) that are asked for, as BestConcepts.update takes them."""
        columns = self.concepts[first_row : first_row + len(scores), 0] - first_concept
        rows = ((columns >= 0) & (columns < scores.shape[1])).nonzero()[:, 0]
        self.values[first_row + rows, 0] = scores[rows, columns[rows]].double()

    def multiply(self, factors: Tensor) -> None:
        """Multiply the score of each neuron by its factor (neuron,)."""
        self.values *= factors[:, None]

    def of_layer(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Values and concepts (count, 1) of a layer of `count` neurons; -inf for a neuron that was not scored."""
        values, concepts = np.full((count, 1), -np.inf), np.full((count, 1), -1, np.int64)
        values[self.neurons], concepts[self.neurons] = self.values.cpu().numpy(), self.concepts.cpu().numpy()
        return values, concepts


def highest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of each row and their columns, highest first, the smaller column first among equals."""
    if k == 1:
        return scores.max(dim=1, keepdim=True)  # the first among equals, and faster than topk
    values, columns = scores.topk(k, dim=1)
    crowded = (scores >= values[:, -1:]).sum(dim=1) > k
    if crowded.any():  # topk takes any of those that tie for the last place
        columns[crowded] = scores[crowded].argsort(dim=1, descending=True, stable=True)[:, :k]
    columns = columns.sort(dim=1)[0]
    values, order = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)
