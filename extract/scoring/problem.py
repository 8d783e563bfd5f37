"""What the scorers of a layer share: the question, the concepts once each, and the best concepts of each neuron.

best = Best(neurons, keep, device)
best.update(scores, first_concept)  # (neuron, concept) of a chunk of concepts, as often as there are chunks
values, found = best.of_layer(layer.neurons)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from dissectdb.extract.scoring.scorers import Layer, Settings

PIECE = 32_000  # elements: float32 of them fits a core's level-2 cache several times, and torch does not split them
ROWS = 2048  # images that are multiplied, or summed in float32, at a time
NEURONS = 512  # neurons whose activations are asked for at a time, at most


def different_rows(rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Index of the first row of each content, in order, and for every row the number of its content."""
    values = rows.cpu().contiguous().numpy()
    beginnings = np.sort(np.ascontiguousarray(values[:, :2]).view(np.int64 if values.shape[1] > 1 else np.int32)[:, 0])
    if (beginnings[1:] != beginnings[:-1]).all():  # nearly always, and a hundred times faster to see
        return np.arange(len(rows)), np.arange(len(rows))
    seen: dict[bytes, int] = {}
    digests = (blake2b(row, digest_size=16).digest() for row in values)
    inverse = np.fromiter((seen.setdefault(digest, len(seen)) for digest in digests), np.int64, len(rows))
    return np.unique(inverse, return_index=True)[1], inverse


@dataclass(frozen=True)
class Words:
    """The different concepts. One that is repeated is scored once, so that its positions tie exactly."""

    vectors: Tensor  # (different concept, D), in the order in which they first occur
    inverse: np.ndarray  # (C,): which of the vectors each concept has
    counts: np.ndarray  # (different concept,): how many concepts have it

    @classmethod
    def of(cls, embeddings: Tensor) -> Words:
        first, inverse = different_rows(embeddings)
        if not len(first):
            raise ValueError("there are no concepts to score")
        return cls(embeddings[torch.from_numpy(first)], inverse, np.bincount(inverse))

    def places(self, similarities: np.ndarray, found: np.ndarray, keep: int) -> tuple[np.ndarray, np.ndarray]:
        """Similarities and concept positions (K, keep) of what was found among the different concepts (K, kept)."""
        if len(self.vectors) == len(self.inverse):
            return similarities, found
        grouped = np.argsort(self.inverse, kind="stable")
        starts = np.cumsum(self.counts) - self.counts
        shape = len(found), min(keep, len(self.inverse))
        spread, positions = np.full(shape, -np.inf), np.zeros(shape, np.int64)
        for neuron, (values, words) in enumerate(zip(similarities, found, strict=True)):
            known = ~np.isneginf(values)
            values, words = values[known], words[known]
            counts = self.counts[words]
            offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            places = grouped[np.repeat(starts[words], counts) + offsets]
            values = np.repeat(values, counts)
            order = np.lexsort((places, -values))[:keep]
            spread[neuron, : len(order)], positions[neuron, : len(order)] = values[order], places[order]
        return spread, positions


@dataclass(frozen=True)
class Job:
    """What score_layer was asked, as its scorers need it."""

    settings: Settings
    layer: Layer
    images: Tensor  # (N, D) where the caller has them
    words: Words
    keep: int  # at most as many as there are different concepts
    device: torch.device
    budget: int  # bytes

    def width(self, fixed: int, each: int) -> int:
        """How many concepts go into a chunk, where one takes `each` bytes and the rest `fixed`."""
        fixed += self.words.vectors.nbytes + 50 * self.layer.neurons * self.keep + 16 * PIECE * 16
        if fixed + each > self.budget:
            raise ValueError(f"budget_bytes = {self.budget:,} is too little; this layer needs {fixed + each:,}")
        return min((self.budget - fixed) // each, len(self.words.vectors))

    def best(self, neurons: np.ndarray | None = None) -> Best:
        return Best(np.arange(self.layer.neurons) if neurons is None else neurons, self.keep, self.device)


class Best:
    """The best concepts seen so far of some neurons of a layer."""

    def __init__(self, neurons: np.ndarray, keep: int, device: torch.device) -> None:
        self.neurons = neurons
        self.values = torch.full((len(neurons), keep), -torch.inf, dtype=torch.float64, device=device)
        self.found = torch.zeros((len(neurons), keep), dtype=torch.int64, device=device)

    def update(self, scores: Tensor, first_concept: int, first_row: int = 0) -> None:
        """Take note of `scores` (n, c), of rows from first_row and of concepts from first_concept on."""
        keep = self.values.shape[1]
        for rows in pieces(len(scores), max(1, 16 * PIECE // scores.shape[1])):
            values, found = highest(scores[rows], min(keep, scores.shape[1]))
            mine = slice(first_row + rows.start, first_row + rows.stop)
            values = torch.cat([self.values[mine], values.double()], dim=1)  # the earlier concepts first
            found = torch.cat([self.found[mine], found + first_concept], dim=1)
            values, order = values.sort(dim=1, descending=True, stable=True)
            self.values[mine] = values[:, :keep]
            self.found[mine] = found.gather(1, order[:, :keep])

    def of_layer(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Values and concepts (count, keep) of a layer of `count` neurons; -inf where nothing is known."""
        values = np.full((count, self.values.shape[1]), -np.inf)
        found = np.zeros(values.shape, np.int64)
        values[self.neurons] = self.values.cpu().numpy()
        found[self.neurons] = self.found.cpu().numpy()
        return values, found


def highest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of each row and their columns, highest first, the smaller column first among equals."""
    values, columns = scores.topk(k, dim=1)
    crowded = (scores >= values[:, -1:]).sum(dim=1) > k
    if crowded.any():  # topk takes any of those that tie for the last place
        columns[crowded] = scores[crowded].argsort(dim=1, descending=True, stable=True)[:, :k]
    columns = columns.sort(dim=1)[0]
    values, order = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def pieces(count: int, size: int) -> Iterator[slice]:
    """Slices of `size` that cover 0 to `count`, the last one shorter at need."""
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))


def in_threads(work: Callable[[Any], None], items: Sequence[Any], device: torch.device | None = None) -> None:
    """`work` on every item, on all cores; on a GPU one after another. The first exception is raised.

    Threads that each take their own small pieces never wait for one another, as torch's do at the end of each
    operation: on a busy machine that wait takes most of the time.
    """
    threads = min(len(items), torch.get_num_threads()) if device is None or device.type == "cpu" else 1

    def take(share: Sequence[Any]) -> None:
        with torch.inference_mode():  # which a new thread does not inherit
            for item in share:
                work(item)

    if threads < 2:
        take(items)
    else:
        list(_pool(threads).map(take, (items[share :: 4 * threads] for share in range(4 * threads))))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Kept, because to start threads takes longer than many a small problem."""
    return ThreadPoolExecutor(threads)
