"""Does a label hang on which images there were, or on their class?

agree = split_half(settings, layer, images, concepts)                 # (K,) 1, 0, or NaN: too few images
share = bootstrap(settings, layer, images, concepts, labels, 100, 0)  # (K,): of resamples that give the label
z = WithinClass(settings, images, concepts, classes).z(layer, labels)  # (K,): beyond what the class explains

The likelihoods look at the best images of a neuron only, so that halves and resamples of the images are halves and
resamples of its list, of which 256 are stored: enough for any top_k up to about 100. The other scorers, whose neurons
do not depend on each other, score a few neurons at a time on every version of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring import likelihood, scorers, topk
from dissectdb.extract.scoring.moments import interpolation, interpolation_nodes
from dissectdb.extract.scoring.nulls import WIDTH_BYTES
from dissectdb.extract.scoring.problem import Words, pieces
from dissectdb.extract.scoring.scorers import Layer, Settings

LISTED = 256  # images of a neuron that a half or a resample is taken from
NEURONS = 256  # whose activations are asked for at a time
WITHIN_DRAWS = 64  # of images of the same classes, where the test within classes has no formula
LIKELIHOODS = ("soft_wpmi", "wpmi")


def split_half(settings: Settings, layer: Layer, images: Tensor, concepts: Tensor) -> np.ndarray:
    """Whether the even and the odd images give a neuron the same label: (K,) 1 or 0; 0 for a dead neuron.

    NaN where it fires on fewer than min_images of either half.
    """
    lists = layer.top(min(LISTED, layer.images), 0, layer.neurons)[0]
    known = known_images(settings, layer)
    weights = [(np.arange(layer.images) % 2 == start).astype(np.int64) for start in (0, 1)]
    counts = [listed(lists, weight, known) for weight in weights]
    if settings.scorer in LIKELIHOODS:
        versions = [
            (expand(lists, weight, settings.top_k), version_lengths(settings, layer, known, count))
            for weight, count in zip(weights, counts, strict=True)
        ]
        even, odd = label_lists(settings, layer, images, concepts, versions)
    else:
        halves = [np.arange(start, layer.images, 2) for start in (0, 1)]
        even, odd = label_images(settings, layer, images, concepts, halves)
    agrees = ((even == odd) & (even >= 0) & ~layer.dead).astype(float)
    short = (known < min(LISTED, layer.images)) & (np.minimum(*counts) < settings.min_images)
    agrees[short & ~layer.dead] = np.nan
    return agrees


def known_images(settings: Settings, layer: Layer) -> np.ndarray:
    """How many of the LISTED best images of each neuron (K,) are of use: it fires on them, and no tie decides."""
    whole = min(LISTED, layer.images)
    if layer.lengths is None:
        return np.full(layer.neurons, whole)
    most = min(settings.top_k, layer.images) if settings.scorer in LIKELIHOODS else whole
    return np.where(layer.dead, whole, np.where(layer.lengths < most, layer.lengths, np.minimum(layer.fired, whole)))


def listed(lists: np.ndarray, weights: np.ndarray, known: np.ndarray) -> np.ndarray:
    """How many images (K,) the first `known` of each list (K, n) come to, when image i counts weights[i] times."""
    return np.where(np.arange(lists.shape[1]) < known[:, None], weights[lists], 0).sum(axis=1)


def version_lengths(settings: Settings, layer: Layer, known: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The list length (K,) of each neuron in a version of the images with `counts` of those that it fires on.

    A neuron that fires on more images than are listed keeps top_k: its list goes on, unseen.
    """
    whole = (known == min(LISTED, layer.images)) | layer.dead
    short = topk.list_lengths(np.maximum(counts, 1), settings.top_k)
    return np.where(whole, settings.top_k, short)


def bootstrap(
    settings: Settings, layer: Layer, images: Tensor, concepts: Tensor, labels: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """Share of `count` resamples of the images, with replacement, that give a neuron its label: (K,)."""
    random = np.random.default_rng(seed)
    if settings.scorer not in LIKELIHOODS:
        drawn = [np.sort(random.integers(layer.images, size=layer.images)) for _ in range(count)]
        return sum((given == labels) / count for given in label_images(settings, layer, images, concepts, drawn))
    lists = layer.top(min(LISTED, layer.images), 0, layer.neurons)[0]
    known = known_images(settings, layer)
    same = np.zeros(layer.neurons)
    for some in pieces(count, 16):
        drawn = random.integers(layer.images, size=(some.stop - some.start, layer.images))
        weights = [np.bincount(each, minlength=layer.images) for each in drawn]
        resampled = [
            (
                expand(lists, weight, settings.top_k),
                version_lengths(settings, layer, known, listed(lists, weight, known)),
            )
            for weight in weights
        ]
        for given in label_lists(settings, layer, images, concepts, resampled):
            same += given == labels
    return same / count


def label_images(
    settings: Settings, layer: Layer, images: Tensor, concepts: Tensor, versions: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The label (K,) of each neuron on each of several choices of the images, given as indices; -1 for none.

    Not for the likelihoods, whose prior is over all neurons of the layer.
    """
    found = [np.full(layer.neurons, -1) for _ in versions]
    for some in pieces(layer.neurons, NEURONS):
        block, dead = layer.block(some.start, some.stop), layer.dead[some]
        for labels, chosen in zip(found, versions, strict=True):
            part = scorers.Array(block[chosen], dead, _lengths(settings, layer, some, block[chosen]))
            scores = scorers.score_layer(settings, part, images[torch.from_numpy(chosen)], concepts, keep=1)
            labels[some] = scores.concepts[:, 0]
    return found


def _lengths(settings: Settings, layer: Layer, neurons: slice, block: np.ndarray) -> np.ndarray | None:
    """layer.lengths for some of the images of some neurons: block (image, neuron). rank_reorder alone looks at them."""
    if layer.lengths is None or settings.scorer != "rank_reorder":
        return None
    most = min(int(settings.rank_fraction * len(block)), topk.KNOWN)
    fired = (block > layer.lowest[neurons]).sum(axis=0)
    return topk.list_lengths(np.minimum(fired, layer.lengths[neurons]), most)


def expand(lists: np.ndarray, weights: np.ndarray, top_k: int) -> np.ndarray:
    """The first top_k of each list (K, n) when image i stands there weights[i] times; the last is repeated at need."""
    counts = weights[lists]
    counts[:, -1] = np.maximum(counts[:, -1], 1)
    lengths = counts.sum(axis=1)
    flat = np.repeat(lists.ravel(), counts.ravel())
    starts = np.cumsum(lengths) - lengths
    places = np.minimum(np.arange(top_k), lengths[:, None] - 1)
    return flat[starts[:, None] + places]


def label_lists(
    settings: Settings,
    layer: Layer,
    images: Tensor,
    concepts: Tensor,
    versions: Sequence[tuple[np.ndarray, np.ndarray]],
) -> list[np.ndarray]:
    """The label (K,) of each neuron for each of several versions of its best images (K, top_k).

    A version comes with the number of images of each neuron (K,).
    """
    lists = [likelihood.Lists.by_length(settings, *each) for each in versions]
    lengths = {length for each in lists for length in each.rows}
    prior = torch.from_numpy(np.ones(layer.neurons, bool) if settings.include_dead else ~layer.dead)
    width = int(max(1, min(len(concepts), WIDTH_BYTES // (4 * layer.images + 8 * layer.neurons))))
    words = Words(concepts, np.arange(len(concepts)), np.ones(len(concepts), np.int64))
    best = [torch.full((layer.neurons,), -torch.inf, dtype=torch.float64) for _ in lists]
    found = [torch.full((layer.neurons,), -1, dtype=torch.int64) for _ in lists]
    for first, shares in likelihood.share_chunks(images * settings.softmax_scale, words, width):
        known = lists[0].moments(shares, lengths)
        for version, each in enumerate(lists):
            sums = each.sums(shares, torch.empty(layer.neurons, shares.shape[1], dtype=torch.float64))
            scores = torch.empty_like(sums)
            for length, rows in each.rows.items():
                carried = each.carried(sums, length, known)
                scores[rows] = sums[rows] - settings.prior_weight * sum(likelihood.log_mean_exp(carried[prior]))
            highest, place = scores.max(dim=1)
            better = highest > best[version]
            best[version] = torch.where(better, highest, best[version])
            found[version] = torch.where(better, place + first, found[version])
    return [each.numpy() for each in found]


class WithinClass:
    """The test within classes of one dissection; what it knows of the classes serves all its layers.

    WithinClass(settings, images, concepts, classes).z(layer, labels)   # (K,), NaN where it is undefined

    z of each label when images change places only with images of their own class: "Smile" must beat "is a happy
    image". classes: (N,) numbers.
    """

    def __init__(self, settings: Settings, images: Tensor, concepts: Tensor, classes: np.ndarray) -> None:
        self.settings, self.images, self.concepts, self.classes = settings, images, concepts, classes
        self.moments: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}  # by concept and list length

    def z(self, layer: Layer, labels: np.ndarray) -> np.ndarray:
        """labels: (K,) positions of concepts, -1 for none."""
        if self.settings.scorer == "rank_reorder":
            return _reorder_within(self.settings, layer, self.images, self.concepts, labels, self.classes)
        if self.settings.scorer in LIKELIHOODS:
            return self._likelihood(layer, labels)
        return _correlation_within(self.settings, layer, self.columns, labels, self.classes)

    @cached_property
    def columns(self) -> np.ndarray:
        """(N, C) of P, or of cosines, float32."""
        cosines = self.images @ self.concepts.T
        if self.settings.scorer in ("cos", "cos_cubed"):
            return cosines.numpy()
        return (cosines * self.settings.softmax_scale).softmax(dim=1).numpy()

    def _likelihood(self, layer: Layer, labels: np.ndarray) -> np.ndarray:
        """(L - mean) / sd, where rank r draws an image from the class of the image that stands there.

        mean = Σ_r mean of g_r in that class. variance = Σ over classes of Σ_r var g_r less the correction for drawing
        without replacement, ((Σ_r sd g_r)² - Σ_r var g_r) / (n - 1): the gains of two ranks correlate almost fully.
        """
        lists = layer.top(self.settings.top_k, 0, layer.neurons)[0]
        lengths = np.full(layer.neurons, self.settings.top_k) if layer.lengths is None else layer.lengths
        known, own, sizes = np.unique(self.classes, return_inverse=True, return_counts=True)
        z = np.full(layer.neurons, np.nan)
        there = (labels >= 0) & ~layer.dead
        for concept, length in np.unique(np.stack([labels[there], lengths[there]], axis=1), axis=0):
            tilts, ranks = np.asarray(likelihood._tilts(self.settings, length)[0]), np.arange(length)
            if (concept, length) not in self.moments:
                self.moments[concept, length] = _class_moments(self.columns[:, concept], tilts, own, len(known))
            means, spreads = self.moments[concept, length]
            mine = np.flatnonzero(there & (labels == concept) & (lengths == length))
            few = lists[mine, :length]
            where = own[few]  # (neuron, rank)
            likely = np.log1p(self.columns[few, concept].astype(np.float64) * tilts).sum(axis=1)
            mean, sd = means[where, ranks].sum(axis=1), spreads[where, ranks]
            variance = (sd**2).sum(axis=1)
            for place, size in enumerate(sizes):
                here = np.where(where == place, sd, 0)
                variance -= (here.sum(axis=1) ** 2 - (here**2).sum(axis=1)) / max(size - 1, 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                z[mine] = np.where(variance > 0, (likely - mean) / np.sqrt(variance), np.nan)
        return z


def _class_moments(shares: np.ndarray, tilts: np.ndarray, own: np.ndarray, classes: int) -> tuple[np.ndarray, ...]:
    """Mean and standard deviation (class, rank) of ln(1 + t_r P) of one concept, P (N,), over each class."""
    nodes, _ = interpolation_nodes(np.log1p(tilts))
    weights = interpolation(np.log1p(tilts), nodes)  # (rank, node)
    gains = np.log1p(shares[:, None].astype(np.float64) * np.expm1(nodes))  # (image, node)
    of_class = [gains[own == name] for name in range(classes)]
    means, spreads = (np.stack([getattr(each, what)(axis=0) for each in of_class]) for what in ("mean", "std"))
    return means @ weights.T, spreads @ weights.T


def _correlation_within(
    settings: Settings, layer: Layer, columns: np.ndarray, labels: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Correlation of what is multiplied, centred within each class, times the root of its degrees of freedom."""
    _, own, counts = np.unique(classes, return_inverse=True, return_counts=True)
    order = np.argsort(own, kind="stable")
    starts = np.cumsum(counts) - counts

    def centre(values: np.ndarray) -> np.ndarray:
        """The columns, an image's with its class, less their mean over the class."""
        values = values[order].astype(np.float64)
        if settings.scorer == "cos_cubed":
            values -= values.mean(axis=0)
            values *= values * values
        means = np.add.reduceat(values, starts, axis=0) / counts[:, None]
        values -= np.repeat(means, counts, axis=0)
        return values

    centred = centre(columns)
    z = np.full(layer.neurons, np.nan)
    for some in pieces(layer.neurons, NEURONS):
        block = centre(layer.block(some.start, some.stop))
        mine = centred[:, np.maximum(labels[some], 0)]
        norm = np.sqrt((block**2).sum(axis=0) * (mine**2).sum(axis=0))
        with np.errstate(divide="ignore", invalid="ignore"):
            z[some] = (block * mine).sum(axis=0) / norm * np.sqrt(len(own) - len(counts))
    z[(labels < 0) | layer.dead | ~np.isfinite(z)] = np.nan
    return z


def _reorder_within(
    settings: Settings, layer: Layer, images: Tensor, concepts: Tensor, labels: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """(score - mean) / sd over WITHIN_DRAWS draws in which each of the best images is another of its class.

    No formula is known. The draws' orders of each class are shared by all neurons.
    """
    n = int(settings.rank_fraction * layer.images)
    random = np.random.default_rng(settings.seed)
    orders = {
        name: np.stack([random.permutation(np.flatnonzero(classes == name)) for _ in range(WITHIN_DRAWS)])
        for name in np.unique(classes)
    }
    permutations = topk.draw_permutations(settings.permutations, n, settings.seed)
    z = np.full(layer.neurons, np.nan)
    for some in pieces(layer.neurons, NEURONS):
        lists, values = layer.top(n, some.start, some.stop)
        lengths = topk.reordered_lengths(layer, values, some)
        own = labels[some]
        for concept in np.unique(own[own >= 0]):
            measure = topk.reorder_measure(
                images, concepts[[concept]], n, settings.rank_power, torch.device("cpu"), int(WIDTH_BYTES)
            )
            for neuron in np.flatnonzero((own == concept) & ~layer.dead[some]):
                length = lengths[neuron]
                few = topk.scaled(values[[neuron], :length])
                chance = topk.baselines(few, topk.shortened(permutations, length), settings.rank_power)
                drawn = np.tile(lists[neuron, :length], (1 + WITHIN_DRAWS, 1))  # the neuron itself, then the draws
                for name, order in orders.items():
                    places = np.flatnonzero(classes[drawn[0]] == name)
                    drawn[1:, places] = order[:, : len(places)]
                errors, means = measure(drawn, np.broadcast_to(few[0], drawn.shape))
                scores = topk.reorder_scores(
                    errors, means, np.full(len(drawn), chance[0]), settings.rank_scale
                ).numpy()[:, 0]
                spread = scores[1:].std()
                if np.isfinite(scores).all() and spread > 1e-9 * abs(scores[0]):
                    z[some.start + neuron] = (scores[0] - scores[1:].mean()) / spread
    return z
