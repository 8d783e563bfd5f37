"""z of labels when images change places only with images of their own class, for scorers that have a formula for it.

classes = ImageClasses(settings, images, concepts, class_of_image)
z = likelihood_z(classes, layer, labels)      # (K,), NaN where it is undefined
z = product_z(PEARSON, classes, layer, labels)

"Smile" must beat "is a happy image". Formulas: docs/methods.md, section 3. How rare such a z is: class_null.py.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from torch import Tensor

from dissectdb.extract.scoring.chunks import NEURONS_AT_ONCE, slices
from dissectdb.extract.scoring.correlation import LEAST_VARIATION, ColumnProduct, to_presence
from dissectdb.extract.scoring.moments import interpolation, interpolation_nodes
from dissectdb.extract.scoring.problem import Layer, Settings
from dissectdb.extract.scoring.soft_wpmi import rank_slopes


class ImageClasses:
    """The classes of the images of one dissection; what is computed from them serves all its layers.

    images (N, D), concepts (C, D), classes (N,) numbers.
    """

    def __init__(self, settings: Settings, images: Tensor, concepts: Tensor, classes: np.ndarray) -> None:
        self.settings, self.images, self.concepts, self.classes = settings, images, concepts, classes
        self.names, self.of_image, self.sizes = np.unique(classes, return_inverse=True, return_counts=True)
        self.moments: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}  # by concept and list length

    @cached_property
    def cosines(self) -> np.ndarray:
        """(N, C) float32."""
        return (self.images @ self.concepts.T).numpy()

    @cached_property
    def probabilities(self) -> np.ndarray:
        """P (N, C) float32."""
        return (self.images @ self.concepts.T * self.settings.softmax_scale).softmax(dim=1).numpy()

    @cached_property
    def presences(self) -> np.ndarray:
        """(N, C) float32."""
        return to_presence(self.images @ self.concepts.T).numpy()


# ---------------------------------------------------------------- soft_wpmi and wpmi


def likelihood_z(classes: ImageClasses, layer: Layer, labels: np.ndarray) -> np.ndarray:
    """(L - mean) / sd (K,), where rank r draws an image from the class of the image that stands there.

    labels: (K,) positions of concepts, -1 for none.
    mean = Σ_r mean of g_r in that class. variance = Σ over classes of Σ_r var g_r less the correction for drawing
    without replacement, ((Σ_r sd g_r)² - Σ_r var g_r) / (n - 1): the gains of two ranks correlate almost fully.
    """
    settings = classes.settings
    lists = layer.top(settings.top_k, 0, layer.neurons)[0]
    lengths = np.full(layer.neurons, settings.top_k) if layer.lengths is None else layer.lengths
    z = np.full(layer.neurons, np.nan)
    labelled = (labels >= 0) & ~layer.dead
    for concept, length in np.unique(np.stack([labels[labelled], lengths[labelled]], axis=1), axis=0):
        slopes = np.asarray(rank_slopes(settings, length)[0])
        if (concept, length) not in classes.moments:
            classes.moments[concept, length] = _class_moments(classes, concept, slopes)
        means, sds = classes.moments[concept, length]
        neurons = np.flatnonzero(labelled & (labels == concept) & (lengths == length))
        images = lists[neurons, :length]
        class_at_rank, ranks = classes.of_image[images], np.arange(length)  # (neuron, rank)
        own = np.log1p(classes.probabilities[images, concept].astype(np.float64) * slopes).sum(axis=1)
        mean, sd = means[class_at_rank, ranks].sum(axis=1), sds[class_at_rank, ranks]
        variance = (sd**2).sum(axis=1)
        for number, size in enumerate(classes.sizes):
            of_class = np.where(class_at_rank == number, sd, 0)
            variance -= (of_class.sum(axis=1) ** 2 - (of_class**2).sum(axis=1)) / max(size - 1, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            z[neurons] = np.where(variance > 0, (own - mean) / np.sqrt(variance), np.nan)
    return z


def _class_moments(classes: ImageClasses, concept: int, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (class, rank) of ln(1 + t_r P) of one concept over each class."""
    nodes, _ = interpolation_nodes(np.log1p(slopes))
    weights = interpolation(np.log1p(slopes), nodes)  # (rank, node)
    gains = np.log1p(classes.probabilities[:, concept, None].astype(np.float64) * np.expm1(nodes))  # (image, node)
    by_class = [gains[classes.of_image == number] for number in range(len(classes.names))]
    means = np.stack([of_class.mean(axis=0) for of_class in by_class])
    sds = np.stack([of_class.std(axis=0) for of_class in by_class])
    return means @ weights.T, sds @ weights.T


# ---------------------------------------------------------------- cos, cos_cubed, pearson and presence


def product_z(product: ColumnProduct, classes: ImageClasses, layer: Layer, labels: np.ndarray) -> np.ndarray:
    """Correlation (K,) of what is multiplied, centred within each class, times the root of its degrees of freedom."""
    columns = {"cosine": "cosines", "probability": "probabilities", "presence": "presences"}[product.concept]
    centred = _centred_in_classes(product, classes, getattr(classes, columns))
    z = np.full(layer.neurons, np.nan)
    for neurons in slices(layer.neurons, NEURONS_AT_ONCE):
        block = _centred_in_classes(product, classes, layer.block(neurons.start, neurons.stop))
        of_labels = centred[:, np.maximum(labels[neurons], 0)]
        norm = np.sqrt((block**2).sum(axis=0) * (of_labels**2).sum(axis=0))
        with np.errstate(divide="ignore", invalid="ignore"):
            correlations = (block * of_labels).sum(axis=0) / norm
            z[neurons] = correlations * np.sqrt(len(classes.classes) - len(classes.sizes))
    z[(labels < 0) | layer.dead | ~np.isfinite(z)] = np.nan
    return z


def _centred_in_classes(product: ColumnProduct, classes: ImageClasses, values: np.ndarray) -> np.ndarray:
    """The columns (N, n), cubed if the product is, less their mean over each class; the images sorted by class.

    A column that is constant within each class, but for rounding, becomes 0.
    """
    values = values[np.argsort(classes.of_image, kind="stable")].astype(np.float64)
    if product.cubed:
        mean, sd = values.mean(axis=0), values.std(axis=0)
        values = np.where(sd > LEAST_VARIATION * np.abs(mean), values - mean, 0)
        values *= values * values
    largest = np.abs(values).max(axis=0)
    starts = np.cumsum(classes.sizes) - classes.sizes
    means = np.add.reduceat(values, starts, axis=0) / classes.sizes[:, None]
    values -= np.repeat(means, classes.sizes, axis=0)
    values[:, np.abs(values).max(axis=0) <= LEAST_VARIATION * largest] = 0
    return values
