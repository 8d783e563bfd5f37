"""Rows of `dissections`: what a study asks about its images, and whether views or a kernel compute the answer.

fingerprint(settings, …)                 # of everything that the numbers depend on
rows(warehouse, asked, set_ids, …)       # rows of `dissections`, with their permutations, that are not there yet

The views define every scorer. Past a size the same numbers come from a torch kernel (extract/scoring) into the table
kernel_scores; `engine` in a study forces either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from dissectdb.extract import fingerprints, study
from dissectdb.extract.record.catalog import now
from dissectdb.extract.scoring.rank_reorder import draw_permutations
from dissectdb.extract.store import Store
from dissectdb.extract.study.scorers import ALL_PRODUCTS, SCORERS, Size

PERMUTATIONS = 5  # as many as the original takes
NOT_OF_THE_TABLE = {"concepts", "engine"}


def fingerprint(settings: study.Dissection, network: str, dataset: str, split: str, clip: str, concept_set: str) -> str:
    """The fingerprint of everything that a dissection's numbers depend on; the concept set's name is not part of it.

    min_images is left out at its default, so that a dissection from before there was this setting is still the same.
    """
    values = settings.model_dump(exclude={"concepts"})
    if settings.min_images == min(study.LEAST_IMAGES, settings.top_k):
        del values["min_images"]
    return fingerprints.of_values(values, network, dataset, split, clip, concept_set)


def choose_engine(settings: study.Dissection, size: Size) -> str:
    """sql or kernel: as the study sets it; else sql if the views take a second at most."""
    if settings.engine != "auto":
        return settings.engine
    view_seconds = SCORERS[settings.scorer].view_seconds
    if view_seconds is None or view_seconds(settings, size) > 1:
        return "kernel"
    # The views store the similarity of every pair of image and concept.
    return "sql" if size.images * size.concepts <= ALL_PRODUCTS else "kernel"


def rows(
    warehouse: Store,
    asked: Sequence[tuple[study.Dissection, str, Size]],
    set_ids: Mapping[str, int],
    *,
    network_id: int,
    split_id: int,
    clip_id: int,
) -> dict[str, object]:
    """A unit with the dissections (settings, fingerprint, size) that are not there yet; empty if all are."""
    new = [dissection for dissection in asked if warehouse.find("dissections", dissection[1]) is None]
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
    unit: dict[str, object] = {"dissections": entered} if entered else {}
    orders = [
        _permutations(row["dissection_id"], declared.list_images(settings, size.images), settings.seed)
        for row, (settings, _, size) in zip(entered, new, strict=True)
        if (declared := SCORERS[settings.scorer]).permutes and declared.list_images is not None
    ]
    return {**unit, "rank_permutations": pa.concat_tables(orders)} if orders else unit


def _permutations(dissection_id: int, length: int, seed: int) -> pa.Table:
    """Rows of rank_permutations: the random orders that the scorer compares every neuron's with."""
    orders = draw_permutations(PERMUTATIONS, length, seed)
    return pa.table(
        {
            "dissection_id": np.full(orders.size, dissection_id, np.int32),
            "permutation": np.repeat(np.arange(len(orders), dtype=np.int32), length),
            "place": np.tile(np.arange(length, dtype=np.int32), len(orders)),
            "taken": orders.ravel().astype(np.int32),
        }
    )
