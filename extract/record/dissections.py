"""Dissections: what is asked of the rows that are there, and who computes the answer.

fingerprint(settings, …)                 # of everything that the numbers depend on
rows(warehouse, asked, set_ids, …)       # rows of `dissections` and what belongs to them, for what is not there yet

The views define every scorer. Past a size the same numbers come from a torch kernel (scoring.py) into the table
kernel_scores; `engine` in a study forces either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dissectdb.extract import fingerprints, study
from dissectdb.extract.record.catalog import now
from dissectdb.extract.scoring.topk import draw_permutations
from dissectdb.extract.store import Store

# What the views take about a second for on two cores: products of a best image and a concept, or of an
# activation and a concept.
TOP_PRODUCTS, ALL_PRODUCTS, RANK_PRODUCTS = 1e7, 1e7, 1e6
PERMUTATIONS = 5  # as many as the original takes
NOT_OF_THE_TABLE = {"concepts", "engine"}


@dataclass(frozen=True)
class Size:
    """How large a dissection is: sound images of the probing set, neurons of all layers, concepts."""

    images: int
    neurons: int
    concepts: int


def fingerprint(settings: study.Dissection, network: str, dataset: str, split: str, clip: str, concept_set: str) -> str:
    """Of everything that a dissection's numbers depend on; the name of the concept set is not part of it.

    min_images is left out at its default, so that a dissection made before there was one is still the same.
    """
    values = settings.model_dump(exclude={"concepts"})
    if settings.min_images == min(study.LEAST_IMAGES, settings.top_k):
        del values["min_images"]
    return fingerprints.of_values(values, network, dataset, split, clip, concept_set)


def choose_engine(settings: study.Dissection, size: Size) -> str:
    """sql or kernel: what the study says, else by the number of products that the scorer sums."""
    if settings.engine != "auto":
        return settings.engine
    pairs = size.neurons * size.concepts
    best = max(pairs, size.images * size.concepts) * settings.top_k  # the scores, or the moments of their null
    products, limit = {
        "soft_wpmi": (best, TOP_PRODUCTS),
        "wpmi": (best, TOP_PRODUCTS),
        "rank_reorder": (pairs * settings.rank_fraction * size.images, RANK_PRODUCTS),
    }.get(settings.scorer, (pairs * size.images, ALL_PRODUCTS))
    # The pairs of image and concept are stored for the views, and take room.
    return "sql" if products <= limit and size.images * size.concepts <= ALL_PRODUCTS else "kernel"


def rows(
    warehouse: Store,
    asked: Sequence[tuple[study.Dissection, str, Size]],
    set_ids: Mapping[str, int],
    *,
    network_id: int,
    split_id: int,
    clip_id: int,
) -> dict[str, Any]:
    """A unit with those (settings, fingerprint, size) that are not there yet; empty when all are."""
    new = [each for each in asked if warehouse.find("dissections", each[1]) is None]
    first = warehouse.next_id("dissections")
    entered = [
        {
            "dissection_id": first + place,
            "network_id": network_id,
            "split_id": split_id,
            "clip_id": clip_id,
            "concept_set_id": set_ids[settings.concepts],
            "engine": choose_engine(settings, size),
            **settings.model_dump(exclude=NOT_OF_THE_TABLE),
            "created_at": now(),
            "fingerprint": fingerprint,
        }
        for place, (settings, fingerprint, size) in enumerate(new)
    ]
    unit: dict[str, Any] = {"dissections": entered} if entered else {}
    orders = [
        _permutations(row["dissection_id"], int(settings.rank_fraction * size.images), settings.seed)
        for row, (settings, _, size) in zip(entered, new, strict=True)
        if settings.scorer == "rank_reorder"
    ]
    return {**unit, "rank_permutations": pa.concat_tables(orders)} if orders else unit


def _permutations(dissection_id: int, length: int, seed: int) -> pa.Table:
    """Rows of rank_permutations: the orders that rank_reorder measures every neuron against."""
    orders = draw_permutations(PERMUTATIONS, length, seed)
    return pa.table(
        {
            "dissection_id": np.full(orders.size, dissection_id, np.int32),
            "permutation": np.repeat(np.arange(len(orders), dtype=np.int32), length),
            "place": np.tile(np.arange(length, dtype=np.int32), len(orders)),
            "taken": orders.ravel().astype(np.int32),
        }
    )
