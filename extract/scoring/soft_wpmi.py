"""soft_wpmi and wpmi: how well a concept explains a neuron's top images, beyond how well it explains the layer's.

score_by_likelihood(problem)                              # the best concepts of each neuron
ImageLists.of(settings, layer, neurons)                   # the images that L is summed over, for each neuron
log_products(probabilities, lists, slopes, out)           # nearly all the time: K · m · C multiplications
label_lists(settings, layer, images, concepts, versions)  # labels for several choices of the top images

Formulas: docs/methods.md, section 2. A neuron that fires on fewer than top_k images has a shorter list, of m' images,
and is scored as if top_k were m'. L of lists of different lengths do not compare: a sum over ten images lies far above
one over a hundred, and would alone make up the prior. So each length has its own prior. In it, a neuron of another
length counts with the L that has the same z at this length, but with no more per image than it has, because the z of a
selective neuron over a long list is beyond what a short list can reach. Then a neuron that is unrelated to the images
weighs about the same whatever its length. If all lists have one length, the formula is unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring import moments
from dissectdb.extract.scoring.chunks import IMAGES_AT_ONCE, elements_at_once, run_in_threads, slices
from dissectdb.extract.scoring.probabilities import probability_chunks
from dissectdb.extract.scoring.problem import (
    BestConcepts,
    ConceptEmbeddings,
    LabelsSoFar,
    Layer,
    ScoringProblem,
    Settings,
)

TINY = 1e-7  # what the formulas add inside the logarithm
MAX_IMAGE_SHARE = 0.8  # if the lists hold a larger share of the images, all images are taken
MAX_EXPONENT = 85.0  # exp of it fits float32, with some headroom for rounding
TABLE_BYTES = 4e8  # of image × concept values at a time

MeanAndSd = tuple[Tensor, Tensor]  # each (concept,)


def score_by_likelihood(problem: ScoringProblem) -> BestConcepts:
    """The best concepts by L - prior_weight · ln(mean over the layer's neurons of exp L)."""
    settings, layer = problem.settings, problem.layer
    if settings.top_k > layer.images:
        raise ValueError(f"top_k = {settings.top_k} is more than the {layer.images} images")
    best = problem.best(np.arange(layer.neurons) if settings.include_dead else np.flatnonzero(~layer.dead))
    if not len(best.neurons):
        return best
    lists, images = _listed_images(problem, ImageLists.of(settings, layer, best.neurons))
    concepts = replace(problem.concepts, vectors=problem.concepts.vectors * settings.softmax_scale)
    width = _chunk_width(problem, lists, images)
    memory = torch.empty(len(lists.images) * width, dtype=torch.float64, device=problem.device)
    for first, probabilities in probability_chunks(images, concepts, width):
        sums = memory[: len(lists.images) * probabilities.shape[1]].view(len(lists.images), -1)
        lists.sums(probabilities, sums)
        moments_by_length = lists.moments(probabilities)
        scores = torch.empty_like(sums) if len(lists.rows) > 1 else sums
        for length, rows in lists.rows.items():
            largest, rest = log_mean_exp(lists.carried(sums, length, moments_by_length))
            _, constant = rank_slopes(settings, length)
            neurons = torch.from_numpy(rows).to(sums.device)
            own = sums if scores is sums else sums[neurons]
            own -= settings.prior_weight * largest  # first: for a neuron far ahead of all, what remains is the rest
            own -= settings.prior_weight * rest - (1 - settings.prior_weight) * constant
            if scores is not sums:
                scores[neurons] = own
        best.update(scores, first)
    return best


def _listed_images(problem: ScoringProblem, lists: ImageLists) -> tuple[ImageLists, Tensor]:
    """The lists and the image embeddings that they count in: of the listed images only, if that is worth while."""
    listed = np.zeros(problem.layer.images, dtype=bool)
    listed[lists.images] = True
    if listed.mean() > MAX_IMAGE_SHARE or len(lists.rows) > 1:  # selecting is slower, or moments need all
        return lists, problem.images.to(problem.device)
    renumbered = replace(lists, images=(np.cumsum(listed) - 1)[lists.images])
    return renumbered, problem.images[torch.from_numpy(np.flatnonzero(listed))].to(problem.device)


def _chunk_width(problem: ScoringProblem, lists: ImageLists, images: Tensor) -> int:
    """How many concepts go into a chunk."""
    one_length = len(lists.rows) == 1
    fixed = (
        images.nbytes
        + 4 * 8 * lists.images.size
        + 16 * torch.get_num_threads() * elements_at_once(problem.device)
        + 4 * IMAGES_AT_ONCE * IMAGES_AT_ONCE
        + (0 if one_length else 16 * moments.ELEMENTS_AT_ONCE)
    )
    return problem.chunk_width(fixed, 4 * len(images) + (8 if one_length else 40) * len(lists.images))


@dataclass(frozen=True)
class ImageLists:
    """The top images of some neurons: (neuron, longest), of which each neuron has as many as its length.

    rows: length → the neurons that have it.
    """

    settings: Settings
    images: np.ndarray
    rows: dict[int, np.ndarray]

    @classmethod
    def of(cls, settings: Settings, layer: Layer, neurons: np.ndarray) -> ImageLists:
        """Those of some neurons of a layer. One that takes no label counts in the prior only, with top_k images."""
        lists = layer.top(settings.top_k, 0, layer.neurons)[0][neurons]
        longest = np.full(layer.neurons, settings.top_k)
        lengths = longest if layer.lengths is None else np.where(layer.dead, longest, layer.lengths)
        return cls.by_length(settings, lists, lengths[neurons])

    @classmethod
    def by_length(cls, settings: Settings, images: np.ndarray, lengths: np.ndarray) -> ImageLists:
        """Lists (neuron, longest) with the length of each (neuron,); a neuron with length 0 is left out."""
        used = np.unique(lengths[lengths > 0])
        return cls(settings, images, {int(length): np.flatnonzero(lengths == length) for length in used})

    def sums(self, probabilities: Tensor, out: Tensor) -> Tensor:
        """out[k, c] = Σ_r ln(1 + t_r P) over each neuron's own list; probabilities: P (N, c).

        The row of a neuron that is left out is not written.
        """
        for length, rows in self.rows.items():
            lists = torch.from_numpy(np.ascontiguousarray(self.images[rows, :length])).to(probabilities.device)
            slopes, _ = rank_slopes(self.settings, length)
            if len(rows) == len(out):
                log_products(probabilities, lists, slopes, out)
            else:
                shape = len(rows), probabilities.shape[1]
                sums_of_length = torch.empty(shape, dtype=torch.float64, device=probabilities.device)
                log_products(probabilities, lists, slopes, sums_of_length)
                out[torch.from_numpy(rows).to(out.device)] = sums_of_length
        return out

    def moments(self, probabilities: Tensor, lengths: Collection[int] = ()) -> dict[int, MeanAndSd]:
        """Moments of the sums over random lists, for each length here and each of `lengths`; {} if there is but one."""
        all_lengths = sorted({*self.rows, *lengths})
        if len(all_lengths) == 1:
            return {}
        slopes = {length: rank_slopes(self.settings, length)[0] for length in all_lengths}
        return moments.moments_by_length(probabilities, slopes)

    def carried(self, sums: Tensor, length: int, moments_by_length: dict[int, MeanAndSd]) -> Tensor:
        """The sums (neuron, concept) as they stand at `length`: those of other lengths by their z."""
        if set(self.rows) == {length}:
            return sums
        carried = sums.clone()
        mean, sd = moments_by_length[length]
        for other, rows in self.rows.items():
            if other != length:
                own_mean, own_sd = moments_by_length[other]
                varies = own_sd > 1e-10 * own_mean.abs()
                neurons = torch.from_numpy(rows).to(sums.device)
                z = torch.where(varies, (sums[neurons] - own_mean) / own_sd.clamp(min=1e-300), 0)
                # L per image is kept from one length to the other; sums are L less a constant for each length.
                per_image = (sums[neurons] + rank_slopes(self.settings, other)[1]) * (length / other)
                carried[neurons] = torch.minimum(mean + z * sd, per_image - rank_slopes(self.settings, length)[1])
        return carried


def rank_slopes(settings: Settings, length: int | None = None) -> tuple[list[float], float]:
    """t_r and Σ ln b_r, so that L = Σ ln b_r + Σ ln(1 + t_r P), for a list of `length` images, or of top_k.

    1 + p (P - 1) + 1e-7 = b (1 + p/b · P) with b = 1 - p + 1e-7. Written so, no factor is below 1, and the large
    constant, which float32 could not carry, stays aside. wpmi is the case p = 1.
    """
    length = settings.top_k if length is None else length
    ranks = np.arange(length) / length
    weights = settings.p_first - ranks * (settings.p_first - settings.p_last)
    bases = 1 - weights + TINY
    return (weights / bases).tolist(), float(np.log(bases).sum())


def log_products(probabilities: Tensor, lists: Tensor, slopes: Sequence[float], out: Tensor) -> None:
    """out[k, c] = Σ_r ln(1 + t_r P[i_r, c]), i_r = lists[k, r]: lists (K, m) of rows of P (N, c), slopes t_r.

    As many factors are multiplied in float32 as cannot overflow, so that there is one logarithm for 5 to 20 of them.
    """
    width = probabilities.shape[1]

    def fill(neurons: slice) -> None:
        images_by_rank = lists[neurons].T.contiguous()
        product = probabilities.new_ones(images_by_rank.shape[1], width)
        rows = torch.empty_like(product)
        sums = out[neurons].zero_()
        headroom = MAX_EXPONENT
        for images, slope in zip(images_by_rank, slopes, strict=True):
            growth = math.log1p(slope)
            if headroom < growth:
                sums += product.log_()
                product.fill_(1)
                headroom = MAX_EXPONENT
            torch.index_select(probabilities, 0, images, out=rows)
            product.addcmul_(product, rows, value=slope)
            headroom -= growth
        sums += product.log_()

    size = max(1, elements_at_once(probabilities.device) // width)
    run_in_threads(fill, list(slices(len(lists), size)), probabilities.device)


def log_mean_exp(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Two terms (C,) that add up to ln of the mean over the rows of exp sums (K, C).

    The first is the largest sum of the column: exp of a hundred images underflows; relative to it, none does.
    """
    largest = sums.amax(dim=0)
    total = torch.zeros_like(largest)

    def add(columns: slice) -> None:
        for rows in slices(len(sums), max(1, elements_at_once(sums.device) // (columns.stop - columns.start))):
            weights = (sums[rows, columns] - largest[columns]).float().exp_()
            total[columns] += weights.sum(dim=0, dtype=torch.float64)

    run_in_threads(add, list(slices(sums.shape[1], IMAGES_AT_ONCE)), sums.device)
    return largest, (total / len(sums)).log()


def label_lists(
    settings: Settings,
    layer: Layer,
    images: Tensor,
    concepts: Tensor,
    versions: Sequence[tuple[np.ndarray, np.ndarray]],
) -> list[np.ndarray]:
    """The label (K,) of each neuron for each of several versions of its top images.

    versions: lists of images (K, longest) with the number of images that count of each (K,). With 0, a neuron has no
    label, -1, and is not in the prior.
    """
    lists = [ImageLists.by_length(settings, *version) for version in versions]
    lengths = {length for version in lists if len(version.rows) > 1 for length in version.rows}
    is_in_prior = np.ones(layer.neurons, bool) if settings.include_dead else ~layer.dead
    in_prior = [torch.from_numpy(is_in_prior & (lengths_of > 0)) for _, lengths_of in versions]
    width = int(max(1, min(len(concepts), TABLE_BYTES // (4 * layer.images + 8 * layer.neurons))))
    labels = [LabelsSoFar(layer.neurons) for _ in lists]
    chunks = probability_chunks(images * settings.softmax_scale, ConceptEmbeddings.one_each(concepts), width)
    for first, probabilities in chunks:
        moments_by_length = lists[0].moments(probabilities, lengths) if lengths else {}
        for so_far, version, counted in zip(labels, lists, in_prior, strict=True):
            if not counted.any():
                continue
            shape = layer.neurons, probabilities.shape[1]
            sums = version.sums(probabilities, torch.empty(shape, dtype=torch.float64))
            scores = torch.full_like(sums, -torch.inf)
            for length, rows in version.rows.items():
                carried = version.carried(sums, length, moments_by_length)
                largest, rest = log_mean_exp(carried[counted])
                scores[rows] = sums[rows] - settings.prior_weight * (largest + rest)
            so_far.update(scores, first)
    return [so_far.concepts.numpy() for so_far in labels]
