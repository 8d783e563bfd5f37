"""What the label of a neuron that has nothing to do with the images would look like.

null = likelihood_null(settings, lists, images, concepts, draws, seed)     # soft_wpmi, wpmi
null = linear_null(settings, ratios, images, concepts, draws, seed)       # cos, pearson
null = cubed_null(settings, layers, images, concepts, draws, seed)         # cos_cubed
null = reorder_null(settings, layers, images, concepts, draws, seed)       # rank_reorder
z, p = steps(null.labels[layer])                                           # how rare each z is

Such a neuron's images are a random sample. It takes its label by the same rule as a real one, with the prior of the
layer that it is compared with, and the z of that label is what a real label's z is held against. (The largest z over
all concepts, which methods often take, is larger: the label is the concept of the best *score*.) The draws are
shared by all neurons of a layer. The null of a layer does not depend on which other layers are asked about, so that a
layer that is added later gets the same null as one that was there from the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from extract import correlations, likelihoods, ranking
from extract.best import Words, pieces
from extract.scoring import Layer, Settings

NODES = 12  # of the interpolation over ranks; its error is below 1e-6 of the mean
WIDTH_BYTES = 4e8  # of image × concept values at a time
LARGEST_ROOT = 2048  # concepts whose correlations are taken the root of
LEAST_DRAWS = 1000
LIKELIHOOD_PRODUCTS, LINEAR_PRODUCTS = 4e9, 1e11  # what all draws of a null may take
REORDER_DRAWS = CUBED_DRAWS = 4000  # each of them is a neuron to score
TAIL_SHARE = 0.1  # of the draws, to which the tail is fitted
OWN_ACTIVATIONS = 512  # neurons of a layer, in no particular order, whose activations stand for all
SMALLEST_P = 1e-6  # that a fitted tail may say
PICKING = 2**32  # added to the seed of the draws, for the seed of which neuron each of them stands for


@dataclass
class Null:
    """labels: layer → z of the label, one a draw. mean, sd: of each concept's statistic, (layer or 1, concept)."""

    labels: list[np.ndarray]
    mean: np.ndarray
    sd: np.ndarray
    priors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # (layer, concept), of the likelihoods


def affordable(draws: int, each: float, limit: float) -> int:
    """As many draws as were asked for, or as the limit allows at `each` products a draw, but LEAST_DRAWS."""
    return int(min(draws, max(LEAST_DRAWS, limit / each)))


# ---------------------------------------------------------------- soft_wpmi and wpmi


def likelihood_null(
    settings: Settings, lists: Sequence[np.ndarray], images: Tensor, concepts: Tensor, draws: int, seed: int
) -> Null:
    """lists: the top images (K, top_k) of the neurons in the prior of each layer. images (N, D), concepts (C, D)."""
    tilts, _ = likelihoods._tilts(settings)
    random = random_lists(affordable(draws, settings.top_k * len(concepts), LIKELIHOOD_PRODUCTS), settings.top_k,
                          len(images), seed)  # fmt: skip
    own = [torch.from_numpy(np.ascontiguousarray(each)) for each in lists]
    width = int(max(1, min(len(concepts), WIDTH_BYTES // (4 * len(images) + 8 * len(random)))))
    words = Words(concepts, np.arange(len(concepts)), np.ones(len(concepts), np.int64))
    labels = [_Labels(len(random)) for _ in own]
    mean, sd, priors = np.empty(len(concepts)), np.empty(len(concepts)), np.empty((len(own), len(concepts)))
    for first, shares in likelihoods.share_chunks(images * settings.softmax_scale, words, width):
        some = slice(first, first + shares.shape[1])
        moments = null_moments(shares, tilts)
        mean[some], sd[some] = (moment.numpy() for moment in moments)
        sums = torch.empty(len(random), shares.shape[1], dtype=torch.float64)
        likelihoods.log_products(shares, random, tilts, sums)
        z = (sums - moments[0]) / moments[1].clamp(min=1e-12)
        for layer, neurons in enumerate(own):
            prior = _prior(shares, neurons, tilts)
            priors[layer, some] = prior.numpy()
            labels[layer].update(sums - settings.prior_weight * prior, z)
    return Null([each.z.numpy() for each in labels], mean[None], sd[None], priors)


def _prior(shares: Tensor, neurons: Tensor, tilts: Sequence[float]) -> Tensor:
    """The prior (C,) of a layer whose neurons have these best images, some concepts at a time."""
    parts = []
    for some in pieces(shares.shape[1], int(max(1, WIDTH_BYTES // (8 * max(len(neurons), 1))))):
        chunk = shares[:, some].contiguous()
        likely = torch.empty(len(neurons), chunk.shape[1], dtype=torch.float64)
        likelihoods.log_products(chunk, neurons, tilts, likely)
        parts.append(sum(likelihoods.log_mean_exp(likely)))
    return torch.cat(parts)


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


def null_moments(shares: Tensor, tilts: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of Σ_r ln(1 + t_r P[i_r]) over random ordered samples of different images.

    mean = Σ_r mean_i g_r;  variance = Σ_r var_i g_r - (var_i Σ_r g_r - Σ_r var_i g_r) / (N - 1), with
    g_r(i) = ln(1 + t_r P[i]). g is smooth in the logarithm of 1 + t_r, so that what is summed over the ranks needs to
    be computed at a few nodes only.
    """
    nodes, weights = interpolation_nodes(np.log1p(np.asarray(tilts)))
    mean = torch.zeros(shares.shape[1], dtype=torch.float64)
    variance = torch.zeros_like(mean)
    total = torch.zeros(shares.shape, dtype=torch.float32)
    for node, weight in zip(nodes, weights, strict=True):
        gains = torch.log1p(shares * float(np.expm1(node)))
        average = gains.mean(dim=0, dtype=torch.float64)
        mean += weight * average
        variance += weight * (gains - average.float()).square_().mean(dim=0, dtype=torch.float64)
        total += float(weight) * gains
    spread = (total - total.mean(dim=0)).square_().mean(dim=0, dtype=torch.float64)
    variance -= (spread - variance) / max(len(shares) - 1, 1)
    return mean, variance.clamp(min=0).sqrt()


def interpolation_nodes(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chebyshev nodes and weights with which Σ_r f(positions_r) ≈ Σ_j weights_j f(nodes_j) for smooth f."""
    low, high = positions.min(), positions.max()
    if high - low < 1e-12:
        return np.array([low]), np.array([float(len(positions))])
    if len(positions) <= NODES:
        return positions, np.ones(len(positions))
    nodes = (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
    return nodes, interpolation(positions, nodes).sum(axis=0)


def interpolation(positions: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """(position, node): weights with which values at the nodes give those at the positions (Lagrange)."""
    basis = np.ones((len(positions), len(nodes)))
    for j, node in enumerate(nodes):
        for other in np.delete(nodes, j):
            basis[:, j] *= (positions - other) / (node - other)
    return basis


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
        best = [_Labels(len(noise)) for _ in ratios]
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
    return Null([np.concatenate(each) for each in labels], mean[None], sd[None])


def _factors(
    settings: Settings, images: Tensor, concepts: Tensor, width: int, root: bool
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """For chunks of concepts: the first, a factor, and mean and standard deviation of what is multiplied.

    The product of independent normal noise and the factor has the correlations of the columns over the images. The
    columns themselves, centred and of unit length, are such a factor (N, c). root: a square root of their
    correlations is another, (c, c), for which a draw takes as many numbers as there are concepts, not images.
    """
    for first, columns in _columns(settings, images, concepts, width):
        spread, average = torch.std_mean(columns.double(), dim=0, correction=0)
        unit = columns - average.float()
        unit /= unit.norm(dim=0).clamp(min=1e-12)
        if root:
            values, vectors = torch.linalg.eigh(correlations.sum_of_products(unit, unit, unit.device))
            unit = (values.clamp(min=0).sqrt()[:, None] * vectors.T).float()
        yield first, unit, average, spread


def cubed_null(
    settings: Settings, layers: Sequence[Layer], images: Tensor, concepts: Tensor, draws: int, seed: int
) -> Null:
    """A layer's own cubes on permuted images: a few of them decide the sum, which is therefore not normal.

    mean, sd: those of the centred cubes of s. The orders of the images are the same for all layers.
    """
    count, width = min(draws, CUBED_DRAWS), int(max(1, min(len(concepts), WIDTH_BYTES // (4 * len(images)))))
    chunks = list(_columns(settings, images, concepts, width)) if width >= len(concepts) else None
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
        best = [_Labels(len(orders)) for _ in cubes]
        for first, columns in chunks or _columns(settings, images, concepts, width):
            here = slice(first, first + columns.shape[1])
            sd[here], mean[here] = (each.numpy() for each in torch.std_mean(columns.double(), dim=0, correction=0))
            norms = columns.norm(dim=0).clamp(min=correlations.MIN_NORM)
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
    return Null([np.concatenate(each) for each in found], mean[None], sd[None])


def _cubes(layer: Layer) -> np.ndarray:
    """Centred cubes (N, n) float32 of live neurons of a layer, each in units of its standard deviation."""
    some = min(layer.neurons, OWN_ACTIVATIONS)
    block = torch.from_numpy(layer.block(0, some)[:, ~layer.dead[:some]]).double()
    block -= block.mean(dim=0)
    cubes = block.square().mul_(block)
    spreads = cubes.std(dim=0, correction=0)
    cubes = (cubes[:, spreads > 0] / spreads[spreads > 0]).float().numpy()
    return np.asfortranarray(cubes)  # a neuron's are taken in another order again and again


class _Labels:
    """The z of the label of some draws: of the concept of the highest score so far."""

    def __init__(self, draws: int) -> None:
        self.scores = torch.full((draws,), -torch.inf, dtype=torch.float64)
        self.z = torch.zeros(draws, dtype=torch.float64)

    def update(self, scores: Tensor, z: Tensor) -> None:
        """Take note of scores and z (draw, concept) of a chunk of concepts."""
        highest, place = scores.max(dim=1)
        better = highest > self.scores
        self.scores = torch.where(better, highest, self.scores)
        self.z = torch.where(better, z.gather(1, place[:, None])[:, 0], self.z)


def _pick(neurons: int, count: int, random: torch.Generator) -> np.ndarray:
    return torch.randint(neurons, (count,), generator=random).numpy()


def _columns(settings: Settings, images: Tensor, concepts: Tensor, width: int) -> Iterator[tuple[int, Tensor]]:
    """What activations are multiplied with, (N, c), for `width` concepts after another."""
    words = Words(concepts, np.arange(len(concepts)), np.ones(len(concepts), np.int64))
    if settings.scorer == "pearson":
        yield from likelihoods.share_chunks(images * settings.softmax_scale, words, width)
        return
    for first, columns in correlations.cosine_chunks(images, words, width):
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
    orders = ranking.draw_permutations(settings.permutations, n, settings.seed)
    measure = ranking.reorder_measure(images, concepts, n, settings.rank_power, torch.device("cpu"), int(WIDTH_BYTES))
    labels, means, sds = [], [], []
    for layer in layers:
        random = np.random.default_rng(seed)
        some = min(layer.neurons, OWN_ACTIVATIONS)
        values = ranking.scaled(layer.top(n, 0, some)[1][~layer.dead[:some]])
        chance = ranking.baselines(values, orders, settings.rank_power)
        values, chance = values[chance > 0], chance[chance > 0]
        scores = []
        for some in pieces(count, 512) if len(values) else ():
            picked = random.integers(len(values), size=some.stop - some.start)
            indices = np.stack([random.permutation(len(images))[:n] for _ in picked])
            errors, cosines = measure(indices, values[picked])
            scores.append(ranking.reorder_scores(errors, cosines, chance[picked], settings.rank_scale).numpy())
        drawn = np.concatenate(scores) if scores else np.full((1, len(concepts)), -np.inf)
        finite = np.where(np.isfinite(drawn), drawn, np.nan)
        with np.errstate(invalid="ignore"):
            mean, sd = np.nanmean(finite, axis=0), np.nanstd(finite, axis=0)
        z = (drawn - mean) / np.where(sd > 0, sd, np.nan)
        z = z[np.arange(len(drawn)), drawn.argmax(axis=1)]
        labels.append(z[np.isfinite(z)])
        means.append(mean)
        sds.append(sd)
    return Null(labels, np.array(means), np.array(sds))


# ---------------------------------------------------------------- from draws to p


def steps(draws: np.ndarray, asked: int) -> tuple[np.ndarray, np.ndarray]:
    """z and p, both along falling p: how often a draw reaches each z.

    p = (1 + draws that reach z) / (1 + draws). Where fewer were drawn than `asked`, the highest tenth follows a
    generalised Pareto distribution that is fitted to them by probability-weighted moments (Hosking & Wallis 1987).
    """
    falling = np.sort(draws)[::-1]
    count = len(falling)
    if count == 0:
        return np.zeros(0), np.zeros(0)
    ranks = np.unique(np.geomspace(1, count, 600).round().astype(int))  # within 2 % of every p, and never below it
    distinct = np.unique(falling)
    places = np.searchsorted(distinct, falling[ranks - 1])
    # And the next higher draw of each: without it what lies above many that tie would take their p.
    z = distinct[np.unique(np.minimum(np.concatenate([places, places + 1]), len(distinct) - 1))]
    p = (1 + np.searchsorted(-falling, -z, side="right")) / (1 + count)  # draws that tie reach z together
    z, p = np.append(z, np.nextafter(z[-1], np.inf)), np.append(p, 1 / (1 + count))
    if count < asked and count >= 10 / TAIL_SHARE:
        tail = int(count * TAIL_SHARE)
        scale, shape = _pareto(falling[:tail] - falling[tail])
        chances = np.geomspace(TAIL_SHARE, SMALLEST_P, 300)
        heights = -np.log(chances / TAIL_SHARE) if abs(shape) < 1e-6 else ((chances / TAIL_SHARE) ** -shape - 1) / shape
        body = z < falling[tail]
        z, p = np.append(z[body], falling[tail] + scale * heights), np.append(p[body], chances)
        z, first = np.unique(z, return_index=True)  # of equal z the largest p: a tail without spread has one step
        p = p[first]
    return z, np.minimum.accumulate(p)


def _pareto(excesses: np.ndarray) -> tuple[float, float]:
    """Scale and shape of a generalised Pareto distribution with survival (1 + shape x / scale)^(-1/shape)."""
    rising = np.sort(excesses)
    mean = rising.mean()
    weighted = (rising * (1 - (np.arange(1, len(rising) + 1) - 0.35) / len(rising))).mean()
    if mean <= 2 * weighted:
        return max(mean, 1e-12), 0.0
    return 2 * mean * weighted / (mean - 2 * weighted), 2 - mean / (mean - 2 * weighted)
