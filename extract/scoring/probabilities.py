"""P, the softmax of CLIP's scaled cosines over the concepts of a set, in chunks of concepts.

for first, probabilities in probability_chunks(images, concepts, width): ...  # (N, c)

Formulas: docs/methods.md, section 2. P is never held whole where it is larger than the budget.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring.chunks import IMAGES_AT_ONCE, elements_at_once, run_in_threads, slices
from dissectdb.extract.scoring.problem import ConceptEmbeddings


def probability_chunks(images: Tensor, concepts: ConceptEmbeddings, width: int) -> Iterator[tuple[int, Tensor]]:
    """P (N, c) for `width` concepts after another, each with the number of its first concept.

    All chunks use the same memory: a chunk is valid until the next one. The softmax scale must already be in the
    images (N, D) or in the concepts. The sum of an image's weights takes a pass over all concepts; the first chunk is
    kept from it, so that a problem that fits takes one matrix product and a larger one less than two.
    """
    vectors = concepts.vectors.to(images.device)
    memory = images.new_empty(len(images) * width)
    first_chunk = memory.view(len(images), width)
    totals = log_totals(images, vectors, concepts.counts, first_chunk)
    for first in range(0, len(vectors), width):
        chunk_vectors = vectors[first : first + width]
        chunk = memory[: len(images) * len(chunk_vectors)].view(len(images), len(chunk_vectors))
        if first:
            multiply(images, chunk_vectors, chunk)
        subtract_exp(chunk, totals)
        yield first, chunk


def log_totals(images: Tensor, vectors: Tensor, counts: np.ndarray, first_chunk: Tensor) -> Tensor:
    """ln Σ_c exp(a s) (N,) over all concepts; leaves the a s of the first of them in first_chunk (N, width)."""
    width = first_chunk.shape[1]
    repeats = torch.from_numpy(np.log(counts)).to(images) if counts.max() > 1 else None
    totals = images.new_empty(len(images))
    scratch = images.new_empty(IMAGES_AT_ONCE, min(IMAGES_AT_ONCE // 2, max(1, len(vectors) - width)))
    for rows in slices(len(images), IMAGES_AT_ONCE):
        multiply(images[rows], vectors[:width], first_chunk[rows])
        totals[rows] = _log_sum_exp(first_chunk[rows], None if repeats is None else repeats[:width])
        for rest in slices(len(vectors) - width, scratch.shape[1]):
            columns = slice(width + rest.start, width + rest.stop)
            logits = scratch.view(-1)[: (rows.stop - rows.start) * (columns.stop - columns.start)]
            logits = logits.view(rows.stop - rows.start, -1)
            multiply(images[rows], vectors[columns], logits)
            total = _log_sum_exp(logits, None if repeats is None else repeats[columns])
            totals[rows] = torch.logaddexp(totals[rows], total)
    return totals


def _log_sum_exp(logits: Tensor, repeats: Tensor | None) -> Tensor:
    """ln Σ exp along the rows, a few rows at a time: its temporaries then stay in the cache."""
    totals = logits.new_empty(len(logits))

    def fill(rows: slice) -> None:
        block = logits[rows] if repeats is None else logits[rows] + repeats
        totals[rows] = block.logsumexp(dim=1)

    run_in_threads(fill, _row_slices(logits), logits.device)
    return totals


def subtract_exp(logits: Tensor, totals: Tensor) -> None:
    """logits (N, c) become exp(logits - totals), in place, a few rows at a time."""

    def fill(rows: slice) -> None:
        logits[rows].sub_(totals[rows, None]).exp_()

    run_in_threads(fill, _row_slices(logits), logits.device)


def _row_slices(logits: Tensor) -> list[slice]:
    return list(slices(len(logits), max(1, elements_at_once(logits.device) // logits.shape[1])))


def multiply(images: Tensor, vectors: Tensor, out: Tensor) -> None:
    """The products (N, c) of image and concept vectors, into `out`."""
    torch.mm(images, vectors.T, out=out)
