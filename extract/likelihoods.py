"""soft_wpmi and wpmi: how far a neuron's best images speak for a concept, beyond what the layer's do on the whole.

likelihoods(job)                           # the best concepts of each neuron
log_products(shares, lists, tilts, out)    # nearly all the time: K · m · C multiplications
for first, shares in share_chunks(images, words, width): ...   # P, in chunks of concepts

Formulas: methods.md §2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from extract.best import PIECE, ROWS, Best, Job, Words, in_threads, pieces

if TYPE_CHECKING:
    from extract.scoring import Settings

TINY = 1e-7  # what the formulas add inside the logarithm
MOST = 0.8  # share of the images from which on all are taken
LARGEST = 85.0  # exp of it fits float32, with room for rounding


def likelihoods(job: Job) -> Best:
    """score = L - prior_weight · ln(mean over the layer's neurons of exp L), for chunks of concepts and all neurons."""
    settings, layer = job.settings, job.layer
    if settings.top_k > layer.images:
        raise ValueError(f"top_k = {settings.top_k} is more than the {layer.images} images")
    best = job.best(np.arange(layer.neurons) if settings.include_dead else np.flatnonzero(~layer.dead))
    if not len(best.neurons):
        return best
    lists = layer.top(settings.top_k, 0, layer.neurons)[0][best.neurons]
    seen = np.zeros(layer.images, dtype=bool)
    seen[lists] = True  # no other image is needed
    if seen.mean() > MOST:  # then choosing them takes longer than what it saves
        seen[:] = True
        images, lists = job.images.to(job.device), torch.from_numpy(lists).to(job.device)
    else:
        lists = torch.from_numpy((np.cumsum(seen) - 1)[lists]).to(job.device)
        images = job.images[torch.from_numpy(np.flatnonzero(seen))].to(job.device)
    words = replace(job.words, vectors=job.words.vectors * settings.softmax_scale)
    tilts, constant = _tilts(settings)
    fixed = (
        images.nbytes + 4 * lists.nbytes + 16 * torch.get_num_threads() * block_elements(job.device) + 4 * ROWS * ROWS
    )
    width = job.width(fixed, 4 * len(images) + 8 * len(lists))
    store = torch.empty(len(lists) * width, dtype=torch.float64, device=job.device)
    for first, shares in share_chunks(images, words, width):
        sums = store[: len(lists) * shares.shape[1]].view(len(lists), -1)
        log_products(shares, lists, tilts, sums)
        largest, rest = log_mean_exp(sums)
        sums -= settings.prior_weight * largest  # first: for a neuron far ahead of all, what remains is the small rest
        sums -= settings.prior_weight * rest - (1 - settings.prior_weight) * constant
        best.update(sums, first)
    return best


def _tilts(settings: Settings) -> tuple[list[float], float]:
    """t_r and Σ ln b_r, with which L = Σ ln b_r + Σ ln(1 + t_r P).

    soft_wpmi: 1 + p (P - 1) + 1e-7 = b (1 + p/b · P) with b = 1 - p + 1e-7; wpmi: P + 1e-7, the same with b = 1e-7.
    Written so, no factor is below 1, and the large constant, which float32 could not carry, stays aside.
    """
    ranks = np.arange(settings.top_k) / settings.top_k
    shares = settings.p_first - ranks * (settings.p_first - settings.p_last)
    if settings.scorer == "wpmi":
        shares = np.ones(settings.top_k)
    rests = 1 - shares + TINY
    return (shares / rests).tolist(), float(np.log(rests).sum())


def block_elements(device: torch.device) -> int:
    """Elements to work on at a time: what fits a core's level-2 cache, and on a GPU what keeps it busy."""
    return PIECE if device.type == "cpu" else 1 << 22


def log_products(shares: Tensor, lists: Tensor, tilts: Sequence[float], out: Tensor) -> None:
    """out[k, c] = Σ_r ln(1 + t_r P[i_r, c]), i_r = lists[k, r]: (K, m) rows of shares P (N, c).

    As many factors are multiplied in float32 as cannot overflow, so that there is one logarithm for 5 to 20 of them.
    """
    width = shares.shape[1]

    def fill(block: slice) -> None:
        ranks = lists[block].T.contiguous()
        product = shares.new_ones(ranks.shape[1], width)
        rows = torch.empty_like(product)
        sums = out[block].zero_()
        room = LARGEST
        for images, tilt in zip(ranks, tilts, strict=True):
            growth = math.log1p(tilt)
            if room < growth:
                sums += product.log_()
                product.fill_(1)
                room = LARGEST
            torch.index_select(shares, 0, images, out=rows)
            product.addcmul_(product, rows, value=tilt)
            room -= growth
        sums += product.log_()

    size = max(1, block_elements(shares.device) // width)
    in_threads(fill, list(pieces(len(lists), size)), shares.device)


def log_mean_exp(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Two terms that add up to the ln of the mean over the rows of exp sums (K, c).

    The first is the largest sum of the column: exp of a hundred images underflows, relative to it none does.
    """
    largest = sums.amax(dim=0)
    total = torch.zeros_like(largest)

    def add(columns: slice) -> None:
        for rows in pieces(len(sums), max(1, block_elements(sums.device) // (columns.stop - columns.start))):
            some = (sums[rows, columns] - largest[columns]).float().exp_()
            total[columns] += some.sum(dim=0, dtype=torch.float64)

    in_threads(add, list(pieces(sums.shape[1], ROWS)), sums.device)
    return largest, (total / len(sums)).log()


# ---------------------------------------------------------------- P in chunks of concepts


def share_chunks(images: Tensor, words: Words, width: int) -> Iterator[tuple[int, Tensor]]:
    """P (N, c) for `width` concepts after another, in one piece of memory; with the first concept's number.

    The softmax scale is in the images (N, D) or in the words. What an image's shares sum to takes a pass over all
    concepts; the first chunk is kept from it, so that a problem that fits takes one matrix product and a larger one
    less than two.
    """
    vectors = words.vectors.to(images.device)
    store = images.new_empty(len(images) * width)
    first_chunk = store.view(len(images), width)
    totals = log_totals(images, vectors, words.counts, first_chunk)
    for first in range(0, len(vectors), width):
        some = vectors[first : first + width]
        shares = store[: len(images) * len(some)].view(len(images), len(some))
        if first:
            multiply(images, some, shares)
        subtract_exp(shares, totals)
        yield first, shares


def log_totals(images: Tensor, vectors: Tensor, counts: np.ndarray, first_chunk: Tensor) -> Tensor:
    """ln Σ_c exp(a s) (N,) over all concepts; leaves the a s of the first of them in first_chunk (N, width)."""
    width = first_chunk.shape[1]
    repeats = torch.from_numpy(np.log(counts)).to(images) if counts.max() > 1 else None
    totals = images.new_empty(len(images))
    scratch = images.new_empty(ROWS, min(ROWS // 2, max(1, len(vectors) - width)))
    for rows in pieces(len(images), ROWS):
        multiply(images[rows], vectors[:width], first_chunk[rows])
        totals[rows] = _log_sum_exp(first_chunk[rows], None if repeats is None else repeats[:width])
        for some in pieces(len(vectors) - width, scratch.shape[1]):
            some = slice(width + some.start, width + some.stop)
            logits = scratch.view(-1)[: (rows.stop - rows.start) * (some.stop - some.start)]
            logits = logits.view(rows.stop - rows.start, -1)
            multiply(images[rows], vectors[some], logits)
            total = _log_sum_exp(logits, None if repeats is None else repeats[some])
            totals[rows] = torch.logaddexp(totals[rows], total)
    return totals


def _log_sum_exp(logits: Tensor, repeats: Tensor | None) -> Tensor:
    """ln Σ exp along the rows, a few at a time: its temporaries then stay in the cache."""
    totals = logits.new_empty(len(logits))

    def fill(rows: slice) -> None:
        some = logits[rows] if repeats is None else logits[rows] + repeats
        totals[rows] = some.logsumexp(dim=1)

    in_threads(fill, list(pieces(len(logits), max(1, block_elements(logits.device) // logits.shape[1]))), logits.device)
    return totals


def subtract_exp(logits: Tensor, totals: Tensor) -> None:
    """logits (N, c) become exp(logits - totals), in place, a few rows at a time."""

    def fill(rows: slice) -> None:
        logits[rows].sub_(totals[rows, None]).exp_()

    in_threads(fill, list(pieces(len(logits), max(1, block_elements(logits.device) // logits.shape[1]))), logits.device)


def multiply(images: Tensor, vectors: Tensor, out: Tensor) -> None:
    """The products (N, c) of image and concept vectors, into `out`."""
    torch.mm(images, vectors.T, out=out)
