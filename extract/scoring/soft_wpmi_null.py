"""The null of soft_wpmi and wpmi: the labels of random lists of images, with the prior of each layer.

null = likelihood_null(problem)
z = z_of_likelihoods(settings, layer, scores, null.moments[0])

Formulas: docs/methods.md, section 3; what a null is: nulls.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring.chunks import slices
from dissectdb.extract.scoring.moments import moments_by_length, null_moments
from dissectdb.extract.scoring.nulls import (
    LIKELIHOOD_PRODUCTS,
    TABLE_BYTES,
    DrawnLabels,
    Moments,
    Null,
    NullProblem,
    affordable_draws,
    in_group,
    random_lists,
    scored_groups,
    scored_values,
)
from dissectdb.extract.scoring.probabilities import probability_chunks
from dissectdb.extract.scoring.problem import ConceptEmbeddings, Layer, Scores, Settings
from dissectdb.extract.scoring.soft_wpmi import ImageLists, MeanAndSd, log_mean_exp, log_products, rank_slopes


def likelihood_null(problem: NullProblem) -> Null:
    """The null of each layer, for each list length of its scored neurons."""
    lists = [_prior_lists(problem.settings, layer) for layer in problem.layers]
    lengths = [scored_groups(layer) or [problem.settings.top_k] for layer in problem.layers]
    return null_of_lists(problem, lists, lengths)


def _prior_lists(settings: Settings, layer: Layer) -> ImageLists:
    """The top images of the neurons that the prior is the mean over."""
    return ImageLists.of(
        settings, layer, np.arange(layer.neurons) if settings.include_dead else np.flatnonzero(~layer.dead)
    )


def null_of_lists(problem: NullProblem, lists: Sequence[ImageLists], lengths: Sequence[Collection[int]]) -> Null:
    """The null of layers. lists: of the neurons in each layer's prior. lengths: of its scored neurons.

    A draw is one random list; the null of each length takes the beginning of it.
    """
    settings, concepts = problem.settings, len(problem.concepts)
    wanted = affordable_draws(problem.draws, settings.top_k * concepts, LIKELIHOOD_PRODUCTS)
    random = random_lists(wanted, settings.top_k, len(problem.images), problem.seed)
    counts = [min(wanted, affordable_draws(problem.draws, sum(own) * concepts, LIKELIHOOD_PRODUCTS)) for own in lengths]
    width = int(max(1, min(concepts, TABLE_BYTES // (4 * len(problem.images) + 8 * len(random)))))
    labels = [{length: DrawnLabels(count) for length in own} for own, count in zip(lengths, counts, strict=True)]
    moments = [{length: Moments(*np.empty((3, concepts))) for length in own} for own in lengths]
    # Moments of several lengths are interpolated between all of them: a layer's own lengths, and no other layer's.
    interpolated = [tuple(sorted({*own, *prior.rows})) for own, prior in zip(lengths, lists, strict=True)]
    scaled = problem.images * settings.softmax_scale
    for first, probabilities in probability_chunks(scaled, ConceptEmbeddings.one_each(problem.concepts), width):
        chunk = slice(first, first + probabilities.shape[1])
        chunk_moments = {group: _moments(settings, probabilities, group) for group in set(interpolated)}
        priors = [
            _priors(prior, probabilities, own, chunk_moments[group])
            for prior, own, group in zip(lists, lengths, interpolated, strict=True)
        ]
        for length in sorted({length for own in lengths for length in own}):
            layers = [layer for layer, own in enumerate(lengths) if length in own]
            drawn = random[: max(counts[layer] for layer in layers), :length]
            sums = torch.empty(len(drawn), probabilities.shape[1], dtype=torch.float64)
            log_products(probabilities, drawn, rank_slopes(settings, length)[0], sums)
            for layer in layers:
                mean, sd = chunk_moments[interpolated[layer]][length]
                prior, own_sums, of_length = priors[layer][length], sums[: counts[layer]], moments[layer][length]
                of_length.mean[chunk], of_length.sd[chunk], of_length.prior[chunk] = mean, sd, prior
                z = (own_sums - mean) / torch.where(sd > 0, sd, torch.inf)
                labels[layer][length].update(own_sums - settings.prior_weight * prior, z)
    return Null([{length: drawn.z.numpy() for length, drawn in of_layer.items()} for of_layer in labels], moments)


def _moments(settings: Settings, probabilities: Tensor, lengths: Sequence[int]) -> dict[int, MeanAndSd]:
    """Mean and standard deviation (C,) of the sums over random lists, by their length."""
    slopes = {length: rank_slopes(settings, length)[0] for length in lengths}
    if len(slopes) == 1:
        return {length: null_moments(probabilities, of_length) for length, of_length in slopes.items()}
    return moments_by_length(probabilities, slopes)


def _priors(
    lists: ImageLists, probabilities: Tensor, lengths: Collection[int], moments: Mapping[int, MeanAndSd]
) -> dict[int, Tensor]:
    """The prior (C,) of a layer at each length, some concepts at a time; lists: of the layer's neurons."""
    parts: dict[int, list[Tensor]] = {length: [] for length in lengths}
    for chunk in slices(probabilities.shape[1], int(max(1, TABLE_BYTES // (8 * max(len(lists.images), 1))))):
        columns = probabilities[:, chunk].contiguous()
        sums = lists.sums(columns, columns.new_empty(len(lists.images), columns.shape[1], dtype=torch.float64))
        chunk_moments = {length: (mean[chunk], sd[chunk]) for length, (mean, sd) in moments.items()}
        for length, of_length in parts.items():
            largest, rest = log_mean_exp(lists.carried(sums, length, chunk_moments))
            of_length.append(largest + rest)
    return {length: torch.cat(of_length) for length, of_length in parts.items()}


def z_of_likelihoods(settings: Settings, layer: Layer, scores: Scores, moments: Mapping[int, Moments]) -> np.ndarray:
    """z (K, keep) of scores, from the same moments as the view's; NaN where there is no score."""
    values = scored_values(scores)
    z = np.full(values.shape, np.nan)
    for length, of_length in moments.items():
        rows = in_group(layer, length)
        concepts = scores.concepts[rows]
        _, constant = rank_slopes(settings, length)
        prior = settings.prior_weight * of_length.prior[concepts] - (1 - settings.prior_weight) * constant
        z[rows] = (values[rows] + prior - of_length.mean[concepts]) / of_length.sd[concepts]
    return z
