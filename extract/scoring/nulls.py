"""What the label of a neuron that has nothing to do with the images would look like.

null = likelihood_null(settings, lists, images, concepts, draws, seed)     # soft_wpmi, wpmi
null = linear_null(settings, ratios, images, concepts, draws, seed)       # cos, pearson
null = cubed_null(settings, layers, images, concepts, draws, seed)         # cos_cubed
null = reorder_null(settings, layers, images, concepts, draws, seed)       # rank_reorder

Such a neuron's images are a random sample. It takes its label by the same rule as a real one, with the prior of the
layer that it is compared with, and the z of that label is what a real label's z is held against. (The largest z over
all concepts, which methods often take, is larger: the label is the concept of the best *score*.) The draws are
shared by all neurons of a layer whose values are spread alike: see null_group of the view dissected_neurons. The null
of a layer does not depend on which other layers are asked about, so that a layer that is added later gets the same null
as one that was there from the start. Where no draw has a label, as of lists of one value with rank_reorder, there is no
null, and p is NULL.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring import correlation, likelihood, topk
from dissectdb.extract.scoring.likelihood import Lists
from dissectdb.extract.scoring.moments import moments_by_length, null_moments
from dissectdb.extract.scoring.problem import Words, pieces
from dissectdb.extract.scoring.scorers import Layer, Settings

WIDTH_BYTES = 4e8  # of image × concept values at a time
LARGEST_ROOT = 2048  # concepts whose correlations are taken the root of
LEAST_DRAWS = 1000
LIKELIHOOD_PRODUCTS, LINEAR_PRODUCTS = 4e9, 1e11  # what all draws of a null may take
REORDER_DRAWS = CUBED_DRAWS = 4000  # each of them is a neuron to score
REORDER_PRODUCTS = 2e9
OWN_ACTIVATIONS = 512  # neurons of a layer, in no particular order, whose activations stand for all
PICKING = 2**32  # added to the seed of the draws, for the seed of which neuron each of them stands for


@dataclass
class Null:
    """Of each layer, by null_group: the z of the label of each draw, and what z is computed with."""

    labels: list[dict[int, np.ndarray]]
    moments: list[dict[int, Moments]]


@dataclass
class Moments:
    """Mean and standard deviation of each concept's statistic (concept,). prior: of the likelihoods."""

    mean: np.ndarray
    sd: np.ndarray
    prior: np.ndarray = field(default_factory=lambda: np.zeros(0))


def affordable(draws: int, each: float, limit: float) -> int:
    """As many draws as were asked for, or as the limit allows at `each` products a draw, but LEAST_DRAWS."""
    return int(min(draws, max(LEAST_DRAWS, limit / each)))


# ---------------------------------------------------------------- soft_wpmi and wpmi


def likelihood_null(
    settings: Settings,
    lists: Sequence[Lists],
    asked: Sequence[Collection[int]],
    images: Tensor,
    concepts: Tensor,
    draws: int,
    seed: int,
) -> Null:
    """lists: of the neurons in the prior of each layer. asked: the lengths of its scored neurons. images (N, D).

    A draw is one random list; the null of each length takes the beginning of it.
    """
    random = random_lists(affordable(draws, settings.top_k * len(concepts), LIKELIHOOD_PRODUCTS), settings.top_k,
                          len(images), seed)  # fmt: skip
    counts = [min(len(random), affordable(draws, sum(each) * len(concepts), LIKELIHOOD_PRODUCTS)) for each in asked]
    width = int(max(1, min(len(concepts), WIDTH_BYTES // (4 * len(images) + 8 * len(random)))))
    words = Words(concepts, np.arange(len(concepts)), np.ones(len(concepts), np.int64))
    labels = [{length: Labels(count) for length in each} for each, count in zip(asked, counts, strict=True)]
    known = [{length: Moments(*np.empty((3, len(concepts)))) for length in each} for each in asked]
    # Moments of several lengths are interpolated between all of them: a layer's own lengths, and no other layer's.
    together = [tuple(sorted({*each, *of_prior.rows})) for each, of_prior in zip(asked, lists, strict=True)]
    for first, shares in likelihood.share_chunks(images * settings.softmax_scale, words, width):
        some = slice(first, first + shares.shape[1])
        moments = {lengths: _moments(settings, shares, lengths) for lengths in set(together)}
        priors = [
            _priors(of_prior, shares, each, moments[lengths])
            for of_prior, each, lengths in zip(lists, asked, together, strict=True)
        ]
        for length in sorted({length for each in asked for length in each}):
            layers = [place for place, each in enumerate(asked) if length in each]
            drawn = random[: max(counts[place] for place in layers), :length]
            sums = torch.empty(len(drawn), shares.shape[1], dtype=torch.float64)
            likelihood.log_products(shares, drawn, likelihood._tilts(settings, length)[0], sums)
            for place in layers:
                mean, sd = moments[together[place]][length]
                prior, own, of_length = priors[place][length], sums[: counts[place]], known[place][length]
                of_length.mean[some], of_length.sd[some], of_length.prior[some] = mean, sd, prior
                z = (own - mean) / sd.clamp(min=1e-12)
                labels[place][length].update(own - settings.prior_weight * prior, z)
    return Null([{length: each.z.numpy() for length, each in of_layer.items()} for of_layer in labels], known)


def _moments(settings: Settings, shares: Tensor, lengths: Sequence[int]) -> dict[int, tuple[Tensor, Tensor]]:
    """Mean and standard deviation (C,) of the sums over random lists, by their length."""
    tilts = {length: likelihood._tilts(settings, length)[0] for length in lengths}
    if len(tilts) == 1:
        return {length: null_moments(shares, each) for length, each in tilts.items()}
    return moments_by_length(shares, tilts)


def _priors(
    lists: Lists, shares: Tensor, lengths: Collection[int], moments: Mapping[int, tuple[Tensor, Tensor]]
) -> dict[int, Tensor]:
    """The prior (C,) of a layer at each length, some concepts at a time; lists: of the layer's neurons."""
    parts: dict[int, list[Tensor]] = {length: [] for length in lengths}
    for some in pieces(shares.shape[1], int(max(1, WIDTH_BYTES // (8 * max(len(lists.images), 1))))):
        chunk = shares[:, some].contiguous()
        sums = lists.sums(chunk, chunk.new_empty(len(lists.images), chunk.shape[1], dtype=torch.float64))
        here = {length: (mean[some], sd[some]) for length, (mean, sd) in moments.items()}
        for length, each in parts.items():
            each.append(sum(likelihood.log_mean_exp(lists.carried(sums, length, here))))
    return {length: torch.cat(each) for length, each in parts.items()}


def random_lists(count: int, length: int, images: int, seed: int) -> Tensor:
    """(count, length): each row different images in random order, all such rows equally likely."""
    random = torch.Generator().manual_seed(seed)
    if length**2 > 8 * images:  # nearly every row would repeat an image
        lists = torch.empty(count, length, dtype=torch.int64)
        for some in pieces(count, max(1, (1 << 22) // images)):
            lists[some] = torch.rand(some.stop - some.start, images, generator=random).topk(length, dim=1).indices
        return lists
    lists = torch.randint(images, (count, length), generator=random)
    doubtful = torch.arange(count)
    while len(doubtful):
        rows = np.sort(lists[doubtful].int().numpy(), axis=1)  # ten times as fast as torch's
        doubtful = doubtful[torch.from_numpy((rows[:, 1:] == rows[:, :-1]).any(axis=1))]
        lists[doubtful] = torch.randint(images, (len(doubtful), length), generator=random)
    return lists


# ---------------------------------------------------------------- cos, pearson, cos_cubed


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (K,) of the live neurons' activations."""

    mean: np.ndarray
    sd: np.ndarray


def linear_null(
    settings: Settings, ratios: Sequence[np.ndarray], images: Tensor, concepts: Tensor, draws: int, seed: int
) -> Null:
    """A sum of products over permuted images is normal for many images, with the concepts' own correlations.

    ratios: of each layer, the mean of each live neuron in units of its standard deviation. mean, sd: those of the
    columns that activations are multiplied with: s, or P.
    """
    random = torch.Generator().manual_seed(seed)
    picking = [torch.Generator().manual_seed(seed + PICKING) for _ in ratios]
    width = int(max(1, min(len(concepts), WIDTH_BYTES // (4 * len(images)))))
    whole = len(concepts) <= min(width, LARGEST_ROOT)
    dimensions = len(concepts) if whole else len(images)
    count = affordable(draws, dimensions * len(concepts), LINEAR_PRODUCTS)
    at_once = count if width < len(concepts) else 2048  # drawn once where the columns must be made anew
    at_once = int(min(at_once, max(1, WIDTH_BYTES // (4 * dimensions))))
    factors = list(_factors(settings, images, concepts, width, root=True)) if whole else None
    mean, sd = np.empty(len(concepts)), np.empty(len(concepts))
    labels: list[list[np.ndarray]] = [[] for _ in ratios]
    for some in pieces(count, at_once):
        noise = torch.randn(some.stop - some.start, dimensions, generator=random)
        mine = [each[_pick(len(each), len(noise), own)] for each, own in zip(ratios, picking, strict=True)]
        best = [Labels(len(noise)) for _ in ratios]
        for first, factor, average, spread in factors or _factors(settings, images, concepts, width, root=False):
            here = slice(first, first + factor.shape[1])
            mean[here], sd[here] = average.numpy(), spread.numpy()
            z = (noise @ factor).double()
            norm = torch.hypot(average, spread).clamp(min=1e-12)
            for layer, own in enumerate(mine):
                scores = torch.from_numpy(own)[:, None] * average * len(images) ** 0.5 + z * spread
                best[layer].update(scores / norm, z)
        for layer, each in enumerate(best):
            labels[layer].append(each.z.numpy())
    return _of_all_images([np.concatenate(each) for each in labels], len(images), mean, sd)


def _factors(
    settings: Settings, images: Tensor, concepts: Tensor, width: int, root: bool
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """For chunks of concepts: the first, a factor, and mean and standard deviation of what is multiplied.

    The product of independent normal noise and the factor has the correlations of the columns over the images. The
    columns themselves, centred and of unit length, are such a factor (N, c). root: a square root of their
    correlations is another, (c, c), for which a draw takes as many numbers as there are concepts, not images.
    """
    for first, columns in columns_of(settings, images, concepts, width):
        spread, average = torch.std_mean(columns.double(), dim=0, correction=0)
        unit = columns - average.float()
        unit /= unit.norm(dim=0).clamp(min=1e-12)
        if root:
            values, vectors = torch.linalg.eigh(correlation.sum_of_products(unit, unit, unit.device))
            unit = (values.clamp(min=0).sqrt()[:, None] * vectors.T).float()
        yield first, unit, average, spread


def cubed_null(
    settings: Settings, layers: Sequence[Layer], images: Tensor, concepts: Tensor, draws: int, seed: int
) -> Null:
    """A layer's own cubes on permuted images: a few of them decide the sum, which is therefore not normal.

    mean, sd: those of the centred cubes of s. The orders of the images are the same for all layers.
    """
    count, width = min(draws, CUBED_DRAWS), int(max(1, min(len(concepts), WIDTH_BYTES // (4 * len(images)))))
    chunks = list(columns_of(settings, images, concepts, width)) if width >= len(concepts) else None
    cubes = [_cubes(layer) for layer in layers]
    means = [each.mean(axis=0, dtype=np.float64) for each in cubes]
    mean, sd, random = np.empty(len(concepts)), np.empty(len(concepts)), np.random.default_rng(seed)
    picking = [np.random.default_rng(seed + PICKING) for _ in layers]
    found: list[list[np.ndarray]] = [[] for _ in layers]
    for some in pieces(count, 256):
        orders = np.stack([random.permutation(len(images)) for _ in range(some.start, some.stop)])
        picked = [
            own.integers(max(each.shape[1], 1), size=len(orders)) for each, own in zip(cubes, picking, strict=True)
        ]
        best = [Labels(len(orders)) for _ in cubes]
        for first, columns in chunks or columns_of(settings, images, concepts, width):
            here = slice(first, first + columns.shape[1])
            sd[here], mean[here] = (each.numpy() for each in torch.std_mean(columns.double(), dim=0, correction=0))
            norms = columns.norm(dim=0).clamp(min=correlation.MIN_NORM)
            for layer, own in enumerate(cubes):
                if not own.shape[1]:
                    continue
                drawn = np.stack([own[order, k] for order, k in zip(orders, picked[layer], strict=True)])
                products = (torch.from_numpy(drawn) @ columns).double()
                expected = torch.from_numpy(means[layer][picked[layer]])[:, None] * torch.from_numpy(mean[here])
                z = (products / len(images) - expected) / torch.from_numpy(sd[here]).clamp(min=1e-12)
                best[layer].update(products / norms, z * (len(images) - 1) ** 0.5)  # cubes have sd 1
        for layer, own in enumerate(cubes):
            found[layer].append(best[layer].z.numpy() if own.shape[1] else np.zeros(0))
    return _of_all_images([np.concatenate(each) for each in found], len(images), mean, sd)


def _of_all_images(labels: Sequence[np.ndarray], images: int, mean: np.ndarray, sd: np.ndarray) -> Null:
    """A null of the ordinary neurons, with the same moments for every layer."""
    whole = min(images, topk.KNOWN)
    return Null([{whole: each} for each in labels], [{whole: Moments(mean, sd)} for _ in labels])


def _cubes(layer: Layer) -> np.ndarray:
    """Centred cubes (N, n) float32 of live neurons of a layer, each in units of its standard deviation."""
    whole = is_whole(layer)
    some = _piece(np.flatnonzero(whole), layer.neurons)
    block = torch.from_numpy(layer.block(some.start, some.stop)[:, whole[some]]).double()
    block -= block.mean(dim=0)
    cubes = block.square().mul_(block)
    spreads = cubes.std(dim=0, correction=0)
    cubes = (cubes[:, spreads > 0] / spreads[spreads > 0]).float().numpy()
    return np.asfortranarray(cubes)  # a neuron's are taken in another order again and again


def is_whole(layer: Layer) -> np.ndarray:
    """Which neurons (K,) are scored and ordinary: neither sparse nor heavy-tailed."""
    whole = min(layer.images, topk.KNOWN)
    return ~layer.dead if layer.groups is None else ~layer.dead & (layer.groups == whole)


class Labels:
    """The z of the label of some draws: of the concept of the highest score so far."""

    def __init__(self, draws: int) -> None:
        self.scores = torch.full((draws,), -torch.inf, dtype=torch.float64)
        self.z = torch.zeros(draws, dtype=torch.float64)

    def update(self, scores: Tensor, z: Tensor, draws: slice = slice(None)) -> None:
        """Take note of scores and z (draw, concept) of a chunk of concepts, of some draws."""
        highest, place = scores.max(dim=1)
        better = highest > self.scores[draws]
        self.scores[draws] = torch.where(better, highest, self.scores[draws])
        self.z[draws] = torch.where(better, z.gather(1, place[:, None])[:, 0], self.z[draws])


def _pick(neurons: int, count: int, random: torch.Generator) -> np.ndarray:
    return torch.randint(neurons, (count,), generator=random).numpy()


def columns_of(settings: Settings, images: Tensor, concepts: Tensor, width: int) -> Iterator[tuple[int, Tensor]]:
    """What activations are multiplied with, (N, c), for `width` concepts after another."""
    words = Words(concepts, np.arange(len(concepts)), np.ones(len(concepts), np.int64))
    if settings.scorer == "pearson":
        yield from likelihood.share_chunks(images * settings.softmax_scale, words, width)
        return
    for first, columns in correlation.cosine_chunks(images, words, width):
        if settings.scorer == "cos_cubed":
            columns = (columns - columns.mean(0)) ** 3
        yield first, columns


# ---------------------------------------------------------------- rank_reorder


def reorder_null(
    settings: Settings, layers: Sequence[Layer], images: Tensor, concepts: Tensor, draws: int, seed: int
) -> Null:
    """The scores of each layer's own activations on random images; no formula is known for them."""
    n = int(settings.rank_fraction * len(images))
    count = min(draws, REORDER_DRAWS)
    orders = topk.draw_permutations(settings.permutations, n, settings.seed)
    measure = topk.reorder_measure(images, concepts, n, settings.rank_power, torch.device("cpu"), int(WIDTH_BYTES))
    null = Null([], [])
    for layer in layers:
        random = np.random.default_rng(seed)
        null.labels.append({})
        null.moments.append({})
        groups = [n] if layer.groups is None else np.unique(layer.groups[~layer.dead]).tolist()
        for group, values, lengths in _values_by_group(layer, groups, n):
            asked = (
                count
                if group == min(n, topk.KNOWN)
                else affordable(count, len(groups) * lengths.max() * len(concepts), REORDER_PRODUCTS)
            )
            drawn = _reordered(settings, values, lengths, orders, measure, (len(images), len(concepts)), asked, random)
            finite = np.where(np.isfinite(drawn), drawn, np.nan)
            with np.errstate(invalid="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # a concept that no draw has a score for
                mean, sd = np.nanmean(finite, axis=0), np.nanstd(finite, axis=0)
            z = (drawn - mean) / np.where(sd > 0, sd, np.nan)
            z = z[np.arange(len(drawn)), drawn.argmax(axis=1)]
            null.labels[-1][group] = z[np.isfinite(z)]
            null.moments[-1][group] = Moments(mean, sd)
    return null


def _values_by_group(layer: Layer, groups: Sequence[int], n: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each group of a layer with best activations (neuron, n or fewer) of its neurons, and how many of them count."""
    longest, pieces_read = min(n, topk.KNOWN), {}
    for group in groups:
        length = longest if layer.groups is None else group % 1000
        neurons = np.flatnonzero(~layer.dead if layer.groups is None else ~layer.dead & (layer.groups == group))
        if length < longest:
            neurons = neurons[:OWN_ACTIVATIONS]
            values = layer.top(min(topk.KNOWN, layer.images), 0, layer.neurons)[1][neurons, :length]
            yield group, values, np.full(len(neurons), length)
        else:
            some = _piece(neurons, layer.neurons)
            if some.start not in pieces_read:
                pieces_read = {some.start: layer.top(n, some.start, some.stop)[1]}
            values = pieces_read[some.start]
            own = neurons[neurons < some.stop] - some.start
            own = own[own >= 0]
            yield group, values[own], topk.reordered_lengths(layer, values, some)[own]


def _piece(neurons: np.ndarray, count: int) -> slice:
    """The first OWN_ACTIVATIONS neurons of a layer, or the next ones, that hold one of `neurons`."""
    first = int(neurons[0]) // OWN_ACTIVATIONS * OWN_ACTIVATIONS if len(neurons) else 0
    return slice(first, min(first + OWN_ACTIVATIONS, count))


def _reordered(
    settings: Settings,
    values: np.ndarray,
    lengths: np.ndarray,
    orders: np.ndarray,
    measure: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    size: tuple[int, int],
    count: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Scores (draw, concept) of random neurons on random images. values: (neuron, n). size: images and concepts."""
    table, chance = np.zeros(values.shape), np.zeros(len(values))
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        table[rows, :length] = topk.scaled(values[rows, :length])
        chance[rows] = topk.baselines(table[rows, :length], topk.shortened(orders, length), settings.rank_power)
    table, lengths, chance = (each[chance > 0] for each in (table, lengths, chance))
    scores = [np.full((0 if len(table) else 1, size[1]), -np.inf)]
    for some in pieces(count, 512) if len(table) else ():
        picked = random.integers(len(table), size=some.stop - some.start)
        indices = np.stack([random.permutation(size[0])[: table.shape[1]] for _ in picked])
        found = np.empty((len(picked), size[1]))
        for length in np.unique(lengths[picked]):
            rows = np.flatnonzero(lengths[picked] == length)
            errors, cosines = measure(indices[rows, :length], table[picked[rows], :length])
            found[rows] = topk.reorder_scores(errors, cosines, chance[picked[rows]], settings.rank_scale).numpy()
        scores.append(found)
    return np.concatenate(scores)
