"""The scorers: the table of their functions, and the call that scores a layer.

settings = Settings.defaults("soft_wpmi", top_k=50)
scores = score_layer(settings, Array(activations), image_embeddings, concept_embeddings)
scores.concepts[k]      # positions of neuron k's best concepts, best first; -1: it takes no label
scores.similarities[k]  # their scores

SCORERS["soft_wpmi"].null(problem)  # the functions of one scorer

Formulas: docs/methods.md, section 2. The views of sql/views/similarity define the scorers, and these kernels yield the
same numbers where the views would take too long.
Symbols: N images, K neurons of the layer, C concepts, D dimensions of CLIP; s (N, C) cosines; P (N, C) their softmax.
Neither P nor the scores (K, C) are ever held whole if they are larger than the budget: concepts are scored in chunks,
all neurons with each chunk, and only the best concepts of each neuron are kept. So a score depends on the layer's other
neurons where the formula does, and never on how the work was cut.

The differences from CLIP-Dissect, each held by a test: a dead neuron takes no label and does not count in the prior
(include_dead = True counts it); a neuron that fires on few images is scored over those only; ties go to the smaller
image index and the smaller concept position; a concept that is repeated scores the same at each of its positions;
rank_reorder has no score where the mean cosine is not positive (there NaN), or where a neuron's values are the same in
a random order; a cosine with a vector of zeros, and a correlation with a constant, are 0 (there NaN).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring import class_orders, within_class
from dissectdb.extract.scoring.class_orders import OrderScores
from dissectdb.extract.scoring.correlation import COS, COS_CUBED, PEARSON, PRESENCE, ColumnProduct, score_by_product
from dissectdb.extract.scoring.correlation_null import product_null, z_of_products
from dissectdb.extract.scoring.nulls import Moments, Null, NullProblem, z_of_samples
from dissectdb.extract.scoring.problem import (
    BestConcepts,
    ConceptEmbeddings,
    Layer,
    Scores,
    ScoringProblem,
    Settings,
)
from dissectdb.extract.scoring.rank_reorder import score_by_reorder
from dissectdb.extract.scoring.rank_reorder_null import reorder_null
from dissectdb.extract.scoring.soft_wpmi import label_lists, score_by_likelihood
from dissectdb.extract.scoring.soft_wpmi_null import likelihood_null, z_of_likelihoods
from dissectdb.extract.scoring.within_class import ImageClasses

BUDGET = 1_500_000_000  # bytes

LabelLists = Callable[[Settings, Layer, Tensor, Tensor, Sequence[tuple[np.ndarray, np.ndarray]]], Sequence[np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """The functions of a scorer. What it reads and its defaults: the same name in extract/study/scorers.py.

    score: the best concepts of each neuron. null: what the labels of unrelated neurons come to. z: of kept scores
    (K, keep), from the moments of the null. stores_moments: its view reads these moments from null_samples.
    label_lists: labels for several choices of a neuron's top images. None: halves and resamples of the images are
    scored anew, a few neurons at a time, so that the neurons of a layer must not depend on each other.
    z_within_class: z of labels if images change places only within their class. None: it is sampled.
    in_orders: scores after images changed places (class_orders.py). None: the neurons are scored anew each time.
    """

    score: Callable[[ScoringProblem], BestConcepts]
    null: Callable[[NullProblem], Null]
    z: Callable[[Settings, Layer, Scores, Mapping[int, Moments]], np.ndarray] = z_of_samples
    stores_moments: bool = False
    label_lists: LabelLists | None = None
    z_within_class: Callable[[ImageClasses, Layer, np.ndarray], np.ndarray] | None = None
    in_orders: Callable[[ImageClasses, Layer], OrderScores] | None = None


def of_product(product: ColumnProduct) -> Scorer:
    """A scorer that is a product of columns over all images."""
    return Scorer(
        score=partial(score_by_product, product),
        null=partial(product_null, product),
        z=partial(z_of_products, product),
        z_within_class=partial(within_class.product_z, product),
        in_orders=partial(class_orders.product_in_orders, product),
    )


OF_LIKELIHOOD = Scorer(
    score=score_by_likelihood,
    null=likelihood_null,
    z=z_of_likelihoods,
    label_lists=label_lists,
    z_within_class=within_class.likelihood_z,
    in_orders=class_orders.likelihood_in_orders,
)

SCORERS: dict[str, Scorer] = {
    "soft_wpmi": OF_LIKELIHOOD,
    "wpmi": OF_LIKELIHOOD,
    "cos": of_product(COS),
    "cos_cubed": of_product(COS_CUBED),
    "rank_reorder": Scorer(
        score=score_by_reorder,
        null=reorder_null,
        stores_moments=True,
        in_orders=class_orders.reorder_in_orders,
    ),
    "pearson": of_product(PEARSON),
    "presence": of_product(PRESENCE),
}


def score_layer(
    settings: Settings,
    layer: Layer,
    images: np.ndarray | Tensor,
    concepts: np.ndarray | Tensor,
    *,
    keep: int = 100,
    device: torch.device | str = "cpu",
    budget_bytes: int = BUDGET,
    permutations: np.ndarray | None = None,
    only: np.ndarray | None = None,
) -> Scores:
    """The `keep` best concepts of every neuron, or all of them if there are fewer.

    images: (N, D), concepts: (C, D), float32, of unit length. budget_bytes: for all that is allocated here, on the
    device and beside it; the arguments do not count. permutations: those of rank_reorder, (permutation, n) or
    (neuron, permutation, n), instead of drawn ones. only: (K,) positions of concepts, or -1; each neuron is then scored
    with that one concept and no other. Raises ValueError if the arguments do not fit each other, or the
    problem does not fit into the budget.
    """
    device = torch.device("cpu" if torch.device(device).type == "mps" else device)  # mps has no float64
    vectors = torch.as_tensor(images, dtype=torch.float32)
    embeddings = ConceptEmbeddings.distinct(torch.as_tensor(concepts, dtype=torch.float32))
    if len(vectors) != layer.images:
        raise ValueError(f"the layer saw {layer.images} images; {len(vectors)} embeddings were given")
    kept = min(keep, len(embeddings.vectors)) if only is None else 1
    asked = None if only is None else np.where(only >= 0, embeddings.inverse[only], -1)
    problem = ScoringProblem(settings, layer, vectors, embeddings, kept, device, budget_bytes, permutations, asked)
    with torch.inference_mode():
        best = SCORERS[settings.scorer].score(problem)
    similarities, distinct = best.of_layer(layer.neurons)
    similarities[layer.dead] = -np.inf
    if only is None:
        similarities, positions = embeddings.positions(similarities, distinct, keep)
    else:
        positions = only[:, None]
    return Scores(np.where(np.isneginf(similarities), -1, positions).astype(np.int32), similarities)
