"""The measures of many labels of a layer's neurons: activations are read once, for all methods that label them.

scores = score_labels(stored_layer, probe, embeddings, members, assigned)
scores["clip"]["pearson"]      # (method, neuron), NaN where there is no label or the measure is unknown

The measures are those of measures.py without standard errors, computed for all neurons of a text at once. Each half of
the images chooses the threshold that the other half is judged with; a measure is the mean of both halves (NaN if all
images are of one group, so that there are no halves).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.judging.measures import RANGES, Truth, presence
from dissectdb.extract.scoring.chunks import run_in_threads, slices
from dissectdb.extract.scoring.correlation import into_range
from dissectdb.extract.scoring.halves import Halves, divide
from dissectdb.extract.scoring.stored_layers import StoredLayer
from dissectdb.progress import Progress, unshown

VALUES_AT_ONCE = 8_000_000  # images × neurons whose activations are in memory at a time
TRUTHS_AT_ONCE = 32_000_000  # images × texts
DENSE = 16  # all pairs of neuron and text are multiplied if the labels are at least one in so many

Scores = dict[str, dict[str, np.ndarray]]  # reference → measure → (method, neuron)


@dataclass(frozen=True)
class Probe:
    """The images that judge: embeddings (N, D), the class (N,) of each by number, or None if one has no class.

    groups: (N,) numbers, as halves.group_numbers gives them; None: no image has a group.
    """

    embeddings: Tensor
    classes: np.ndarray | None
    groups: np.ndarray | None = None

    @cached_property
    def halves(self) -> Halves:
        """The positions of the images of each half."""
        return divide(len(self.embeddings), self.groups)


def score_labels(
    layer: StoredLayer,
    probe: Probe,
    texts: np.ndarray,
    members: np.ndarray,
    assigned: np.ndarray,
    progress: Progress = unshown,
) -> Scores:
    """Every measure of every label, and z of its covariance with the presence of the concept.

    texts: embeddings (T, D). members: (T, classes) bool, the classes that a text stands for. assigned: (method, neuron)
    positions of texts, -1 for none. progress: called with the neurons that are done, and all.
    """
    names = [*RANGES, "z"]
    scores: Scores = {ref: {name: np.full(assigned.shape, np.nan) for name in names} for ref in ("clip", "class")}
    images = len(probe.embeddings)
    at_once = VALUES_AT_ONCE // images
    if len(texts) * images > TRUTHS_AT_ONCE:  # then each label of a block may be a text of its own
        at_once = min(at_once, TRUTHS_AT_ONCE // images // len(assigned))
    for neurons in slices(layer.neurons, max(1, min(at_once, 512))):
        positions = assigned[:, neurons]
        if (positions >= 0).any():  # else no activation need be read
            values = layer.block(neurons.start, neurons.stop)
            _score_block(scores, neurons, values, probe, texts, members, positions)
        progress(neurons.stop, layer.neurons)
    return scores


def _score_block(
    scores: Scores,
    neurons: slice,
    values: np.ndarray,
    probe: Probe,
    texts: np.ndarray,
    members: np.ndarray,
    positions: np.ndarray,
) -> None:
    """Write the scores of some neurons. values: their activations (N, K)."""
    moving = values.max(axis=0) > values.min(axis=0)  # no label describes a neuron that never moves
    positions = np.where(moving, positions, -1)
    if (positions < 0).all():
        return
    used, of_label = np.unique(positions[positions >= 0], return_inverse=True)
    local = np.full(positions.shape, -1)
    local[positions >= 0] = of_label
    amounts = presence((probe.embeddings @ torch.from_numpy(texts[used]).T).numpy()).astype(np.float32)
    pairs = Pairs(local)
    pairs.store(scores["clip"], neurons, {"z": z_within(values, amounts, probe.classes, pairs)})
    halves = probe.halves
    if not halves.smaller:
        return
    samples = [RankedSample(values[half]) for half in halves]
    pairs.store(scores["clip"], neurons, measures(samples, _halves(Truth.of_presence(amounts), halves), pairs))
    tied = members[used].any(axis=1)
    if probe.classes is not None and tied.any():
        of_class = Pairs(np.where((local >= 0) & tied[local], np.cumsum(tied)[local] - 1, -1))
        truth = Truth.of_classes(members[used][tied].T[probe.classes])
        of_class.store(scores["class"], neurons, measures(samples, _halves(truth, halves), of_class))


def _halves(truth: Truth, halves: Halves) -> list[Truth]:
    return [truth.of(half) for half in halves]


class Pairs:
    """The different pairs of text and neuron among labels (method, neuron), sorted by text; -1 is no label."""

    def __init__(self, labels: np.ndarray) -> None:
        self.methods, self.columns = np.nonzero(labels >= 0)
        pairs = np.stack([labels[self.methods, self.columns], self.columns])
        (self.texts, self.neurons), of_label = np.unique(pairs, axis=1, return_inverse=True)
        self.of_label = of_label.ravel()

    def by_text(self) -> list[tuple[int, slice]]:
        """(text, its pairs) of each text."""
        starts = np.flatnonzero(np.diff(self.texts, prepend=-1))
        ends = [*starts, len(self.texts)][1:]
        return [(int(self.texts[start]), slice(int(start), int(end))) for start, end in zip(starts, ends, strict=True)]

    def store(self, scores: dict[str, np.ndarray], neurons: slice, found: dict[str, np.ndarray]) -> None:
        """Write values (pair,) to each label of that pair."""
        for name, values in found.items():
            scores[name][self.methods, self.columns + neurons.start] = values[self.of_label]


class RankedSample:
    """Some images with the activations of some neurons (N, K), each neuron's images in order."""

    def __init__(self, activations: np.ndarray) -> None:
        rows = np.ascontiguousarray(activations.T, dtype=np.float32)
        self.images = rows.shape[1]
        self.standardised = _standardised(rows)
        self.ascending = np.empty_like(rows)
        self.below = np.empty(rows.shape, np.int32)  # how many images have a lower activation
        self.up_to = np.empty(rows.shape, np.int32)  # how many have at most this activation
        self.has_ties = np.zeros(len(rows), bool)
        run_in_threads(lambda neurons: self._rank(rows, neurons), list(slices(len(rows), 8)))

    def _rank(self, rows: np.ndarray, neurons: slice) -> None:
        places = np.arange(self.images, dtype=np.int32)
        for neuron in range(neurons.start, neurons.stop):
            order = np.argsort(rows[neuron])
            ascending = self.ascending[neuron] = rows[neuron][order]
            is_first = np.concatenate([[True], ascending[1:] != ascending[:-1]])
            if is_first.all():
                self.below[neuron][order], self.up_to[neuron][order] = places, places + 1
                continue
            self.has_ties[neuron] = True
            starts = np.flatnonzero(is_first)
            sizes = np.diff(starts, append=self.images)
            self.below[neuron][order] = np.repeat(starts, sizes)
            self.up_to[neuron][order] = np.repeat(starts + sizes, sizes)


@dataclass(frozen=True)
class Ranked:
    """Where the images with one concept stand among all, for the neurons that have it as a label, (neuron, n1) each.

    below: images with a lower activation, rising. up_to: their sum (neuron,) of how many have at most this activation.
    """

    sample: RankedSample
    neurons: np.ndarray
    below: np.ndarray
    up_to: np.ndarray

    @classmethod
    def of(cls, sample: RankedSample, neurons: np.ndarray, images: np.ndarray) -> Ranked:
        """The places of these images in the order of each neuron."""
        below = np.stack([sample.below[neuron][images] for neuron in neurons])
        below.sort(axis=1)
        if sample.has_ties[neurons].any():
            up_to = np.array([sample.up_to[neuron][images].sum(dtype=float) for neuron in neurons])
        else:
            up_to = below.sum(axis=1, dtype=float) + len(images)
        return cls(sample, neurons, below, up_to)

    @property
    def with_it(self) -> int:
        """How many images have the concept."""
        return self.below.shape[1]

    @cached_property
    def at_least_with(self) -> np.ndarray:
        """Images with the concept that have at least this activation."""
        places = np.broadcast_to(np.arange(self.with_it, dtype=np.int32), self.below.shape)
        if not self.sample.has_ties[self.neurons].any():
            return self.with_it - places
        is_first = np.diff(self.below, axis=1, prepend=-1) > 0
        return self.with_it - np.maximum.accumulate(np.where(is_first, places, 0), axis=1)

    @cached_property
    def at_least(self) -> np.ndarray:
        """Images that have at least this activation."""
        return self.sample.images - self.below

    def thresholds(self) -> np.ndarray:
        """The activation (neuron,) that picks the images with the highest f1."""
        best = np.argmax(self.at_least_with / (self.at_least + self.with_it), axis=1)
        rows = np.arange(len(best))
        return self.sample.ascending[self.neurons, self.below[rows, best]]

    def measures(self, thresholds: np.ndarray) -> dict[str, np.ndarray]:
        """ap, ap_corrected, auc, f1 and iou (neuron,)."""
        with_it, images = self.with_it, self.sample.images
        share = with_it / images
        ap = (self.at_least_with / self.at_least).mean(axis=1)
        middles = (self.below.sum(axis=1, dtype=float) + self.up_to) / 2
        # The images with the concept also stand among each other; that part of the sum is n1² / 2, ties included.
        auc = (middles - with_it**2 / 2) / (with_it * (images - with_it))
        lower = np.array(
            [
                np.searchsorted(self.sample.ascending[n], least)
                for n, least in zip(self.neurons, thresholds, strict=True)
            ]
        )
        both = (self.below >= lower[:, None]).sum(axis=1)
        total = images - lower + with_it
        return {
            "ap": ap,
            "ap_corrected": (ap - share) / (1 - share),
            "auc": auc,
            "f1": 2 * both / total,
            "iou": both / (total - both),
        }


def measures(samples: Sequence[RankedSample], truths: Sequence[Truth], pairs: Pairs) -> dict[str, np.ndarray]:
    """Each measure of each pair (P,), the mean over two samples; NaN if too few images have or lack the concept."""
    found = {name: np.full(len(pairs.texts), np.nan) for name in RANGES}
    judged = np.all([truth.is_judged for truth in truths], axis=0)

    def work(group: tuple[int, slice]) -> None:
        text, of_text = group
        neurons = pairs.neurons[of_text]
        images = [np.flatnonzero(truth.present[:, text]) for truth in truths]
        ranked = [Ranked.of(sample, neurons, of) for sample, of in zip(samples, images, strict=True)]
        thresholds = [half.thresholds() for half in ranked]
        halves = [half.measures(of_other) for half, of_other in zip(ranked, reversed(thresholds), strict=True)]
        for name in halves[0]:
            found[name][of_text] = (halves[0][name] + halves[1][name]) / 2

    run_in_threads(work, [group for group in pairs.by_text() if judged[group[0]]])
    correlations = [
        products(sample.standardised, _standardised(truth.values.T), pairs) / sample.images
        for sample, truth in zip(samples, truths, strict=True)
    ]
    found["pearson"] = np.where(judged[pairs.texts], sum(correlations) / 2, np.nan)
    return found


def products(rows: np.ndarray, columns: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Σ over images of rows[neuron] × columns[text], of each pair (P,). rows (K, N), columns (T, N)."""
    if len(rows) * len(columns) <= DENSE * len(pairs.texts):  # then all products take less time than those of the pairs
        return (rows @ columns.T)[pairs.neurons, pairs.texts]
    found = np.empty(len(pairs.texts), np.float32)
    for text, of_text in pairs.by_text():
        found[of_text] = rows[pairs.neurons[of_text]] @ columns[text]
    return found


def _standardised(rows: np.ndarray) -> np.ndarray:
    """Each row with mean 0 and standard deviation 1, float32; NaN if it is constant."""
    rows = rows.copy()
    into_range(torch.from_numpy(rows).T)
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    deviations = np.sqrt(np.square(centred).mean(axis=1, keepdims=True, dtype=np.float64))
    constant = rows.max(axis=1, keepdims=True) == rows.min(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return centred / np.where(constant, np.nan, deviations).astype(np.float32)


def z_within(values: np.ndarray, amounts: np.ndarray, classes: np.ndarray | None, pairs: Pairs) -> np.ndarray:
    """z (pair,) of the sum over images of activation × amount, if the images of each class are shuffled.

    values (N, K), amounts (N, T), classes (N,) numbers; None: one class. A permutation within a class of n images has
    the mean (Σ a)(Σ t) / n and the variance SS(a) SS(t) / (n - 1), SS: sum of squares about the mean. NaN: no spread.
    """
    classes = np.zeros(len(values), int) if classes is None else classes
    sizes = np.bincount(classes)
    to_class = torch.zeros(len(sizes), len(values))
    to_class[torch.from_numpy(classes), torch.arange(len(values))] = 1
    counts = torch.from_numpy(sizes).double()[:, None]
    left, right = (
        _centred_within(torch.from_numpy(columns), to_class, counts, classes) for columns in (values, amounts)
    )
    spreads = [(to_class @ part.square()).double().numpy() for part in (left, right)]
    variance = ((spreads[0] / np.maximum(sizes - 1, 1)[:, None])[:, pairs.neurons] * spreads[1][:, pairs.texts]).sum(
        axis=0
    )
    found = products(left.T.contiguous().numpy(), right.T.contiguous().numpy(), pairs)  # the sum less its mean
    return np.where(variance > 0, found / np.sqrt(np.where(variance > 0, variance, 1)), np.nan)


def _centred_within(columns: Tensor, to_class: Tensor, counts: Tensor, classes: np.ndarray) -> Tensor:
    """Columns (N, K) less the mean of each class, scaled to length one; 0 if nothing is left but rounding."""
    columns = columns.clone()
    into_range(columns)
    centred = columns.sub_(columns.mean(dim=0))
    within = centred - ((to_class @ centred).double() / counts).float()[torch.from_numpy(classes)]
    norms = within.norm(dim=0)
    return torch.where(norms > 1e-5 * centred.norm(dim=0), within / norms, 0)
