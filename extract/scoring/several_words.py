"""Does one word say what a neuron responds to, do several, or does none of the list?

word_columns = WordColumns.of(presences, images, halves)   # of a dissection, once: (N, C) and (N, D)
words = find_words(word_columns, layer, labels)            # of one layer

The first half of the images chooses and fits, the second judges: the words added to a label, the weights, and the
strength of the ridge regression are never judged on images that they were chosen on. Formulas: docs/methods.md,
section 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring.chunks import slices
from dissectdb.extract.scoring.correlation import standardised, varies
from dissectdb.extract.scoring.halves import Halves
from dissectdb.extract.scoring.problem import Layer

MOST_WORDS = 3
NEURONS_AT_ONCE = 256
LEAST_NEW = 0.2  # of a word's variance that the words before it must leave; a near-synonym of theirs adds nothing
PENALTIES = np.geomspace(1e-5, 1, 6)  # of the ridge regression, as shares of the mean variance of a dimension
Z = 1.96  # of a 95 % interval


@dataclass(frozen=True)
class WordColumns:
    """What the activations of a dissection are explained by, on each half of the images.

    words: the presences (C, n) of the first half, with mean 0 and sd 1, and those of the second in the same units.
    powers: of those of the second. axes: CLIP's embedding (D, n) along its principal axes. variances (D,): of these
    on the first half.
    """

    halves: Halves

    words: tuple[Tensor, Tensor]
    powers: Powers
    axes: tuple[Tensor, Tensor]
    variances: Tensor

    @staticmethod
    def of(presences: Tensor, images: Tensor, halves: Halves) -> WordColumns:
        """From presences (N, C) and CLIP's embeddings of the images (N, D), at least 2 in each half."""
        choosing, judging = (presences[half] for half in halves)
        sd, mean = torch.std_mean(choosing.double(), dim=0, correction=0)
        centre = images[halves.first].mean(dim=0)
        first, second = (images[half] - centre for half in halves)
        variances, directions = torch.linalg.eigh((first.T @ first).double() / len(first))
        directions = directions.float()
        words = (standardised(choosing, mean, sd).T.contiguous(), standardised(judging, mean, sd).T.contiguous())
        axes = ((first @ directions).T.contiguous(), (second @ directions).T.contiguous())
        return WordColumns(halves, words, Powers.of(words[1]), axes, variances.clamp(min=0))


class Powers(NamedTuple):
    """Rows (k, n) with mean 0 and standard deviation 1, or of zeros, and their squares and cubes."""

    first: Tensor
    second: Tensor
    third: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Powers:
        """Of rows that are not standardised."""
        first = _standard(rows)
        second = first.square()
        return cls(first, second, second * first)


@dataclass(frozen=True)
class Correlation:
    """Correlations (K,) on the second half, each with its standard error."""

    r: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Words:
    """What explains each neuron (K,) of a layer.

    concepts (K, 3): the label, then what was added; -1: nothing. weights (K, 3): of standardised presences.
    gains: by how much the correlation rises with each word that was added (K, 2). explained: by the word that the
    first half chooses. explainable: by CLIP's whole embedding. by_other: by the label of another neuron.
    """

    concepts: np.ndarray
    weights: np.ndarray
    gains: Correlation
    explained: Correlation
    explainable: Correlation
    by_other: Correlation


def find_words(columns: WordColumns, layer: Layer, labels: np.ndarray) -> Words:
    """The words of each neuron with a label. labels (K,): positions of concepts, -1 for none."""
    others = labels_of_others(labels)
    parts = [
        _of_block(columns, layer.rows(neurons.start, neurons.stop), labels[neurons], others[neurons])
        for neurons in slices(layer.neurons, NEURONS_AT_ONCE)
    ]
    return Words(
        np.concatenate([part.concepts for part in parts]),
        np.concatenate([part.weights for part in parts]),
        *(
            Correlation(
                np.concatenate([getattr(part, name).r for part in parts]),
                np.concatenate([getattr(part, name).error for part in parts]),
            )
            for name in ("gains", "explained", "explainable", "by_other")
        ),
    )


def labels_of_others(labels: np.ndarray) -> np.ndarray:
    """For each neuron (K,) with a label that of another one: the next in a random order, the same for every run."""
    order = np.random.default_rng(0).permutation(np.flatnonzero(labels >= 0))
    others = np.full(len(labels), -1)
    if len(order) > 1:
        others[order] = labels[np.roll(order, 1)]
    return others


def _of_block(columns: WordColumns, block: np.ndarray, labels: np.ndarray, others: np.ndarray) -> Words:
    """The words of a block of neurons (k, N). others (k,): labels of other neurons."""
    activations = torch.from_numpy(block)
    of_halves = [activations[:, half] for half in columns.halves]
    choosing, judging = _standard(of_halves[0]), Powers.of(of_halves[1])
    own = (choosing @ columns.words[0].T / choosing.shape[1]).double()  # (k, C): correlations with each word
    best = own.argmax(dim=1).numpy()
    best[~choosing.any(dim=1).numpy()] = -1  # of a constant neuron: nothing is chosen
    chosen = _correlation(judging, columns.powers, best)
    by_other = _correlation(judging, columns.powers, others)
    explainable = _correlation(judging, Powers.of(_ridge(columns, choosing)), np.arange(len(labels)))
    concepts, kept_weights = np.full((len(labels), MOST_WORDS), -1), np.zeros((len(labels), MOST_WORDS))
    gains = Correlation(*np.zeros((2, len(labels), MOST_WORDS - 1)))
    rows = np.flatnonzero(labels >= 0)  # the neurons that may take one more word
    words = torch.from_numpy(labels[rows].astype(np.int64))[:, None]
    weights = own[rows].gather(1, words)
    concepts[rows, 0], kept_weights[rows, 0] = words[:, 0], weights[:, 0]
    before = _explain(columns, judging.first[rows], words, weights)
    for place in range(1, min(MOST_WORDS, own.shape[1]) if len(rows) else 1):
        words, weights = _add_word(columns, own[rows], words)
        after = _explain(columns, judging.first[rows], words, weights)
        gain, error = after[0] - before[0], (after[1] - before[1]).std(dim=1) / judging.first.shape[1] ** 0.5
        goes_on = (gain > Z * error) & (weights > 0).all(dim=1)
        rows, words, weights = rows[goes_on.numpy()], words[goes_on], weights[goes_on]
        before = (after[0][goes_on], after[1][goes_on])
        concepts[rows, place] = words[:, place]
        kept_weights[rows, : place + 1] = weights
        gains.r[rows, place - 1], gains.error[rows, place - 1] = gain[goes_on], error[goes_on]
        if not len(rows):
            break
    return Words(concepts, kept_weights, gains, chosen, explainable, by_other)


def _standard(rows: Tensor) -> Tensor:
    """The rows (k, n) with mean 0 and standard deviation 1, float32; 0 where they are constant."""
    rows = rows - rows[:, :1]  # a large common value would cost digits
    mean = rows.mean(dim=1)
    rows -= mean[:, None]
    sd = torch.linalg.vector_norm(rows, dim=1) / rows.shape[1] ** 0.5
    return rows.mul_(torch.where(varies(mean, sd), 1 / sd, 0)[:, None])


def _add_word(columns: WordColumns, own: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """The words (k, t + 1) with the one that correlates most with what the first t leave, and all their weights.

    own (k, C): correlations of neurons and words on the first half. Orthogonal matching pursuit (Pati et al. 1993).
    """
    choosing = columns.words[0]
    distinct, place = torch.unique(words, return_inverse=True)
    gram = (choosing[distinct] @ choosing.T / choosing.shape[1]).double()  # (distinct, C): correlations of words
    between = gram[place]  # (k, t, C)
    inner = between.gather(2, words[:, None, :].expand(-1, words.shape[1], -1))
    coefficients = _solve(inner, own.gather(1, words)[..., None])
    left = own - (between * coefficients).sum(dim=1)
    new = 1 - (between * _solve(inner, between)).sum(dim=1)
    score = torch.where(new > LEAST_NEW, left / new.clamp(min=LEAST_NEW).sqrt(), -torch.inf)
    score.scatter_(1, words, -torch.inf)
    added = score.argmax(dim=1, keepdim=True)
    between_added = between.gather(2, added[:, None, :].expand(-1, words.shape[1], -1))  # (k, t, 1)
    inner = torch.cat(
        [torch.cat([inner, between_added], 2), torch.cat([between_added.mT, torch.ones_like(new[:, :1, None])], 2)], 1
    )
    words = torch.cat([words, added], dim=1)
    return words, _solve(inner, own.gather(1, words)[..., None])[..., 0]


def _solve(inner: Tensor, right: Tensor) -> Tensor:
    """The solutions of (k, t, t) for (k, t, m); nearly the same words are told apart by a small ridge."""
    ridge = 1e-6 * np.eye(inner.shape[-1])
    return torch.from_numpy(np.linalg.solve(inner.numpy() + ridge, right.numpy()))  # torch: its threads wait longer


def _explain(columns: WordColumns, judging: Tensor, words: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """r (k,) of the weighted sum of words (k, t) and the second half (k, n), and what each image adds to it (k, n).

    An image adds a f - r (a² + f²) / 2, in standard units.
    """
    fitted = torch.zeros_like(judging)
    for word, weight in zip(words.T, weights.T.float(), strict=True):
        fitted.addcmul_(columns.words[1][word], weight[:, None])
    fitted = _standard(fitted)
    products = judging * fitted
    r = products.mean(dim=1)
    return r.double(), products.sub_(judging.square().add_(fitted.square_()).mul_(r[:, None] / 2))


def _ridge(columns: WordColumns, choosing: Tensor) -> Tensor:
    """What a ridge regression on CLIP's embedding, fitted to the first half (k, n), says of the second.

    Each neuron has the penalty with the smallest generalised cross-validation (Golub, Heath & Wahba 1979).
    """
    axes, count = columns.axes[0], choosing.shape[1]
    products = (axes @ choosing.T).double() / count  # (D, k)
    squares = products.square()
    best = torch.full((len(choosing),), torch.inf, dtype=torch.float64)
    coefficients = torch.zeros_like(products)
    for penalty in PENALTIES * max(float(columns.variances.mean()), 1e-12):
        shrunk = 1 / (columns.variances + penalty)
        freedom = 1 + float((columns.variances * shrunk).sum())
        if freedom >= count:
            continue
        fitted = (2 * shrunk - columns.variances * shrunk.square()) @ squares
        loss = (1 - fitted).clamp(min=0) / (1 - freedom / count) ** 2
        better = loss < best
        best = torch.where(better, loss, best)
        coefficients[:, better] = shrunk[:, None] * products[:, better]
    return coefficients.float().T @ columns.axes[1]


def _correlation(judging: Powers, fitted: Powers, rows: np.ndarray) -> Correlation:
    """r and its error of each neuron with one of the fitted rows (k,), by its number; -1 for none.

    The error is the standard deviation of what each image adds (_explain) over the root of the images; here it comes
    from sums of products. NaN for a neuron that is constant on either half, and for what is fitted to it.
    """
    count = judging.first.shape[1]
    r, error = np.full((2, len(rows)), np.nan)
    a, f = ([power.numpy() for power in powers] for powers in (judging, fitted))
    for k in np.flatnonzero(rows >= 0).tolist():
        a1, a2, a3, f1, f2, f3 = *(power[k] for power in a), *(power[rows[k]] for power in f)
        of_neuron, of_fitted = a2 @ a2 / count, f2 @ f2 / count
        if of_neuron > 0 and of_fitted > 0:
            r[k], both = a1 @ f1 / count, a2 @ f2 / count
            spread = both - r[k] * (a3 @ f1 + a1 @ f3) / count + r[k] ** 2 / 4 * (of_neuron + of_fitted + 2 * both)
            error[k] = (max(spread, 0) / (count - 1)) ** 0.5
    return Correlation(r, error)
