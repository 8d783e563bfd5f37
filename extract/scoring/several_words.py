"""Does one word say what a neuron responds to, do several, or does none of the list?

word_columns = WordColumns(presences, images)      # of a dissection, once: (N, C) and (N, D)
words = find_words(word_columns, layer, labels)    # of one layer

The even images choose and fit, the odd images judge: the words added to a label, the weights, and the strength of the
ridge regression are never judged on images that they were chosen on. Formulas: docs/methods.md, section 10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring.chunks import slices
from dissectdb.extract.scoring.correlation import standardised, varies
from dissectdb.extract.scoring.problem import Layer

MOST_WORDS = 3
NEURONS_AT_ONCE = 256
LEAST_NEW = 0.2  # of a word's variance that the words before it must leave; a near-synonym of theirs adds nothing
PENALTIES = np.geomspace(1e-5, 1, 6)  # of the ridge regression, as shares of the mean variance of a dimension
Z = 1.96  # of a 95 % interval


@dataclass(frozen=True)
class WordColumns:
    """What the activations of a dissection are explained by, on each half of the images, as columns of mean 0, sd 1.

    words: the presences (n, C) of the even images, and those of the odd ones in the same units. axes: CLIP's embedding
    (n, D) along its principal axes. variances (D,): of these on the even images.
    """

    words: tuple[Tensor, Tensor]
    axes: tuple[Tensor, Tensor]
    variances: Tensor

    @staticmethod
    def of(presences: Tensor, images: Tensor) -> WordColumns:
        """From presences (N, C) and CLIP's embeddings of the images (N, D), N at least 4."""
        even, odd = presences[::2], presences[1::2]
        sd, mean = torch.std_mean(even.double(), dim=0, correction=0)
        centre = images[::2].mean(dim=0)
        first, second = images[::2] - centre, images[1::2] - centre
        variances, directions = torch.linalg.eigh((first.T @ first).double() / len(first))
        directions = directions.float()
        return WordColumns(
            (standardised(even, mean, sd), standardised(odd, mean, sd)),
            (first @ directions, second @ directions),
            variances.clamp(min=0),
        )


@dataclass(frozen=True)
class Correlation:
    """Correlations (K,) on the odd images, each with its standard error."""

    r: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Words:
    """What explains each neuron (K,) of a layer.

    concepts (K, 3): the label, then what was added; -1: nothing. weights (K, 3): of standardised presences.
    gains: by how much the correlation rises with each word that was added (K, 2). explained: by the word that the
    even images choose. explainable: by CLIP's whole embedding. by_other: by the label of another neuron.
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
        _of_block(columns, layer.block(neurons.start, neurons.stop), labels[neurons], others[neurons])
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
    """The words of a block of neurons (N, k). others (k,): labels of other neurons."""
    activations = torch.from_numpy(np.ascontiguousarray(block))
    even, odd = _standard(activations[::2]), _standard(activations[1::2])
    own = (columns.words[0].T @ even / len(even)).double()  # (C, k): correlations with each word
    chosen = _explain(columns, odd, own.argmax(dim=0)[:, None], torch.ones(len(labels), 1, dtype=torch.float64))
    other = torch.from_numpy(np.maximum(others, 0).astype(np.int64))[:, None]
    by_other = _explain(columns, odd, other, torch.from_numpy(np.where(others >= 0, 1.0, 0.0))[:, None])
    ridge = _influence(_ridge(columns, even), odd)
    words = torch.from_numpy(np.where(labels >= 0, labels, own.argmax(dim=0).numpy()).astype(np.int64))[:, None]
    weights = own.gather(0, words.T).T
    before = _explain(columns, odd, words, weights)
    concepts, kept_weights = np.full((len(labels), MOST_WORDS), -1), np.zeros((len(labels), MOST_WORDS))
    concepts[:, 0], kept_weights[:, 0] = words[:, 0], weights[:, 0]
    gains = Correlation(*np.zeros((2, len(labels), MOST_WORDS - 1)))
    open_ended = torch.from_numpy(labels >= 0)
    for place in range(1, min(MOST_WORDS, len(own))):
        words, weights = _add_word(columns, own, words)
        after = _explain(columns, odd, words, weights)
        gain, error = after[0] - before[0], (after[1] - before[1]).std(dim=0) / len(odd) ** 0.5
        open_ended &= (gain > Z * error) & (weights > 0).all(dim=1)
        rows = open_ended.numpy()
        concepts[rows, place] = words[rows, place]
        kept_weights[rows, : place + 1] = weights[rows]
        gains.r[rows, place - 1], gains.error[rows, place - 1] = gain[rows], error[rows]
        before = after
    concepts[labels < 0], kept_weights[labels < 0] = -1, 0
    return Words(concepts, kept_weights, gains, _correlation(chosen), _correlation(ridge), _correlation(by_other))


def _standard(columns: Tensor) -> Tensor:
    """The columns (n, k) with mean 0 and standard deviation 1, float32; 0 where they are constant."""
    columns = columns - columns[0]  # a large common value would cost digits
    sd, mean = torch.std_mean(columns, dim=0, correction=0)
    return (columns - mean).mul_(torch.where(varies(mean, sd), 1 / sd, 0))


def _add_word(columns: WordColumns, own: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """The words (k, t + 1) with the one that correlates most with what the first t leave, and all their weights.

    own (C, k): correlations of words and neurons on the even images. Orthogonal matching pursuit (Pati et al. 1993).
    """
    even = columns.words[0]
    distinct, place = torch.unique(words, return_inverse=True)
    gram = (even[:, distinct].T @ even / len(even)).double()  # (distinct, C): correlations of words
    between = gram[place]  # (k, t, C)
    inner = between.gather(2, words[:, None, :].expand(-1, words.shape[1], -1))
    coefficients = _solve(inner, own.gather(0, words.T).T[..., None])
    left = own.T - (between * coefficients).sum(dim=1)
    new = 1 - (between * _solve(inner, between)).sum(dim=1)
    score = torch.where(new > LEAST_NEW, left / new.clamp(min=LEAST_NEW).sqrt(), -torch.inf)
    score.scatter_(1, words, -torch.inf)
    words = torch.cat([words, score.argmax(dim=1, keepdim=True)], dim=1)
    chosen = even[:, words]  # (n, k, t + 1)
    inner = torch.einsum("nkt,nku->ktu", chosen, chosen).double() / len(even)
    return words, _solve(inner, own.gather(0, words.T).T[..., None])[..., 0]


def _solve(inner: Tensor, right: Tensor) -> Tensor:
    """The solutions of (k, t, t) for (k, t, m); nearly the same words are told apart by a small ridge."""
    return torch.linalg.solve(inner + 1e-6 * torch.eye(inner.shape[-1], dtype=inner.dtype), right)


def _explain(columns: WordColumns, odd: Tensor, words: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """What _influence says of the weighted sum of words (k, t) on the odd images."""
    fitted = torch.zeros_like(odd)
    for word, weight in zip(words.T, weights.T.float(), strict=True):
        fitted += columns.words[1][:, word] * weight
    return _influence(fitted, odd)


def _ridge(columns: WordColumns, even: Tensor) -> Tensor:
    """What a ridge regression on CLIP's embedding, fitted to the even images (n, k), says of the odd ones.

    Each neuron has the penalty with the smallest generalised cross-validation (Golub, Heath & Wahba 1979).
    """
    axes, count = columns.axes[0], len(even)
    products = (axes.T @ even).double() / count  # (D, k)
    best = torch.full((even.shape[1],), torch.inf, dtype=torch.float64)
    coefficients = torch.zeros_like(products)
    for penalty in PENALTIES * max(float(columns.variances.mean()), 1e-12):
        shrunk = 1 / (columns.variances + penalty)
        freedom = 1 + float((columns.variances * shrunk).sum())
        if freedom >= count:
            continue
        squares = products.square()
        fitted = (2 * shrunk - columns.variances * shrunk.square()) @ squares
        loss = (1 - fitted).clamp(min=0) / (1 - freedom / count) ** 2
        better = loss < best
        best = torch.where(better, loss, best)
        coefficients[:, better] = shrunk[:, None] * products[:, better]
    return columns.axes[1] @ coefficients.float()


def _influence(fitted: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
    """r (k,) of fitted and odd (n, k), and what each image adds to it: a f - r (a² + f²) / 2, in standard units."""
    fitted = _standard(fitted)
    products = odd * fitted
    r = products.mean(dim=0)
    return r.double(), products.sub_(odd.square().add_(fitted.square_()).mul_(r / 2))


def _correlation(found: tuple[Tensor, Tensor]) -> Correlation:
    """NaN for a neuron that is constant on either half, and for what is fitted to it."""
    r, influence = found
    errors = influence.std(dim=0).double() / len(influence) ** 0.5
    return Correlation(
        torch.where(errors > 0, r, torch.nan).numpy(), torch.where(errors > 0, errors, torch.nan).numpy()
    )
