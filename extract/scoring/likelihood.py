"""soft_wpmi and wpmi: how far a neuron's best images speak for a concept, beyond what the layer's do on the whole.

likelihoods(job)                           # the best concepts of each neuron
Lists.of(settings, layer, neurons)         # the images that L is summed over, as many as each neuron fires on
log_products(shares, lists, tilts, out)    # nearly all the time: K · m · C multiplications
for first, shares in share_chunks(images, words, width): ...   # P, in chunks of concepts

Formulas: methods.md §2. A neuron that fires on fewer than top_k images has a shorter list, of m' images, and is scored
as if top_k were m'. L of lists of different lengths do not compare: a sum over ten images lies far above one over a
hundred, and would alone make up the prior. So each length has its own prior, in which a neuron of another length counts
with the L that has the same z at this length, but with no more for an image than it has: the z of a selective
neuron over a long list is beyond what a short one can reach. Then a neuron unrelated to the images weighs
about the same whatever its length, and where all lists have one length nothing differs from the formula.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring import moments
from dissectdb.extract.scoring.problem import PIECE, ROWS, Best, Job, Words, in_threads, pieces

if TYPE_CHECKING:
    from dissectdb.extract.scoring.scorers import Layer, Settings

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
    lists = Lists.of(settings, layer, best.neurons)
    seen = np.zeros(layer.images, dtype=bool)
    seen[lists.images] = True  # no other image is needed
    if seen.mean() > MOST or len(lists.rows) > 1:  # choosing them takes longer than what it saves, or moments need all
        images = job.images.to(job.device)
    else:
        lists = replace(lists, images=(np.cumsum(seen) - 1)[lists.images])
        images = job.images[torch.from_numpy(np.flatnonzero(seen))].to(job.device)
    words = replace(job.words, vectors=job.words.vectors * settings.softmax_scale)
    fixed = (
        images.nbytes
        + 4 * 8 * lists.images.size
        + 16 * torch.get_num_threads() * block_elements(job.device)
        + 4 * ROWS * ROWS
        + (0 if len(lists.rows) == 1 else 16 * moments.ELEMENTS)
    )
    width = job.width(fixed, 4 * len(images) + (8 if len(lists.rows) == 1 else 40) * len(lists.images))
    store = torch.empty(len(lists.images) * width, dtype=torch.float64, device=job.device)
    for first, shares in share_chunks(images, words, width):
        sums = store[: len(lists.images) * shares.shape[1]].view(len(lists.images), -1)
        lists.sums(shares, sums)
        known = lists.moments(shares)
        scores = torch.empty_like(sums) if len(lists.rows) > 1 else sums
        for length, rows in lists.rows.items():
            largest, rest = log_mean_exp(lists.carried(sums, length, known))
            _, constant = _tilts(settings, length)
            places = torch.from_numpy(rows).to(sums.device)
            mine = sums if scores is sums else sums[places]
            mine -= settings.prior_weight * largest  # first: for a neuron far ahead of all, what remains is the rest
            mine -= settings.prior_weight * rest - (1 - settings.prior_weight) * constant
            if scores is not sums:
                scores[places] = mine
        best.update(scores, first)
    return best


Moments = tuple[Tensor, Tensor]  # mean and standard deviation, (concept,)


@dataclass(frozen=True)
class Lists:
    """The best images of some neurons: (neuron, longest), of which each neuron has as many as its length.

    rows: length → the neurons that have it.
    """

    settings: Settings
    images: np.ndarray
    rows: dict[int, np.ndarray]

    @classmethod
    def of(cls, settings: Settings, layer: Layer, neurons: np.ndarray) -> Lists:
        """Those of a layer's neurons. One that takes no label is here for the prior's sake, with a list of top_k."""
        lists = layer.top(settings.top_k, 0, layer.neurons)[0][neurons]
        whole = np.full(layer.neurons, settings.top_k)
        lengths = whole if layer.lengths is None else np.where(layer.dead, whole, layer.lengths)
        return cls.by_length(settings, lists, lengths[neurons])

    @classmethod
    def by_length(cls, settings: Settings, images: np.ndarray, lengths: np.ndarray) -> Lists:
        """Lists (neuron, longest) with the length of each (neuron,)."""
        return cls(settings, images, {int(each): np.flatnonzero(lengths == each) for each in np.unique(lengths)})

    def sums(self, shares: Tensor, out: Tensor) -> Tensor:
        """out[k, c] = Σ_r ln(1 + t_r P) over each neuron's own list; shares: P (N, c)."""
        for length, rows in self.rows.items():
            lists = torch.from_numpy(np.ascontiguousarray(self.images[rows, :length])).to(shares.device)
            tilts, _ = _tilts(self.settings, length)
            if len(self.rows) == 1:
                log_products(shares, lists, tilts, out)
            else:
                some = torch.empty(len(rows), shares.shape[1], dtype=torch.float64, device=shares.device)
                log_products(shares, lists, tilts, some)
                out[torch.from_numpy(rows).to(out.device)] = some
        return out

    def moments(self, shares: Tensor, lengths: Collection[int] = ()) -> dict[int, Moments]:
        """Of the sums of each length here, and of `lengths`, on random images; none where one length is all."""
        wanted = sorted({*self.rows, *lengths})
        if len(wanted) == 1:
            return {}
        return moments.moments_by_length(shares, {each: _tilts(self.settings, each)[0] for each in wanted})

    def carried(self, sums: Tensor, length: int, known: dict[int, Moments]) -> Tensor:
        """The sums (neuron, concept) as they stand at `length`: those of other lengths by their z."""
        if set(self.rows) == {length}:
            return sums
        carried = sums.clone()
        mean, sd = known[length]
        for other, rows in self.rows.items():
            if other != length:
                own_mean, own_sd = known[other]
                varies = own_sd > 1e-10 * own_mean.abs()
                places = torch.from_numpy(rows).to(sums.device)
                z = torch.where(varies, (sums[places] - own_mean) / own_sd.clamp(min=1e-300), 0)
                # An L per image is the same at both lengths; sums are L less a constant for each length.
                per_image = (sums[places] + _tilts(self.settings, other)[1]) * (length / other)
                carried[places] = torch.minimum(mean + z * sd, per_image - _tilts(self.settings, length)[1])
        return carried


def _tilts(settings: Settings, length: int | None = None) -> tuple[list[float], float]:
    """t_r and Σ ln b_r, with which L = Σ ln b_r + Σ ln(1 + t_r P), of a list of `length` images, or of top_k.

    soft_wpmi: 1 + p (P - 1) + 1e-7 = b (1 + p/b · P) with b = 1 - p + 1e-7; wpmi: P + 1e-7, the same with b = 1e-7.
    Written so, no factor is below 1, and the large constant, which float32 could not carry, stays aside.
    """
    length = settings.top_k if length is None else length
    ranks = np.arange(length) / length
    shares = settings.p_first - ranks * (settings.p_first - settings.p_last)
    if settings.scorer == "wpmi":
        shares = np.ones(length)
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
