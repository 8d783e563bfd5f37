"""Rows of `dissections`: the labellings that a study asks for, and whether views or a kernel compute them.

fingerprint(settings, …)                 # of everything that the numbers depend on
rows(warehouse, asked, set_ids, …)       # the missing rows of `dissections`, with their permutations

The views define the scorers. For a large dissection a torch kernel (extract/scoring) computes the same numbers into the
table kernel_scores. `engine` in a study chooses one of the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from dissectdb.extract import fingerprints, study
from dissectdb.extract.record.catalog import now
from dissectdb.extract.scoring.rank_reorder import draw_permutations
from dissectdb.extract.study.scorers import ALL_PRODUCTS, SCORERS, Size
from dissectdb.extract.warehouse_protocol import Store

PERMUTATIONS = 5  # as in CLIP-Dissect
NOT_COLUMNS = {"concepts", "engine"}  # settings that are not columns under their own name


def fingerprint(settings: study.Dissection, network: str, dataset: str, split: str, clip: str, concept_set: str) -> str:
    """The fingerprint of everything that a dissection's numbers depend on. It leaves out the concept set's name.

    min_images is left out at its default, so that dissections from before this setting existed keep their fingerprints.
    """
    values = settings.model_dump(exclude={"concepts"})
    if settings.min_images == min(study.LEAST_IMAGES, settings.top_k):
        del values["min_images"]
    return fingerprints.of_values(values, network, dataset, split, clip, concept_set)


def choose_engine(settings: study.Dissection, size: Size) -> str:
    """sql or kernel: the study's choice. If that is auto: sql if the views take at most about a second."""
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
    """A unit with the dissections that the warehouse lacks; empty if there are none.

    asked: (settings, fingerprint, size) of each dissection. set_ids: concept set → its id.
    """
    new = [dissection for dissection in asked if warehouse.find("dissections", dissection[1]) is None]
    first = warehouse.next_id("dissections")
    dissection_rows = [
        {
            "dissection_id": first + index,
            "network_id": network_id,
            "split_id": split_id,
            "clip_id": clip_id,
            "concept_set_id": set_ids[settings.concepts],
            "engine": choose_engine(settings, size),
            **settings.model_dump(exclude=NOT_COLUMNS),
            "created_at": now(),
            "fingerprint": fingerprint,
        }
        for index, (settings, fingerprint, size) in enumerate(new)
    ]
    unit: dict[str, object] = {"dissections": dissection_rows} if dissection_rows else {}
    permutations = [
        _permutations(row["dissection_id"], declared.list_images(settings, size.images), settings.seed)
        for row, (settings, _, size) in zip(dissection_rows, new, strict=True)
        if (declared := SCORERS[settings.scorer]).permutes and declared.list_images is not None
    ]
    return {**unit, "rank_permutations": pa.concat_tables(permutations)} if permutations else unit


def _permutations(dissection_id: int, length: int, seed: int) -> pa.Table:
    """Rows of rank_permutations: random orders that a scorer compares every neuron's order with."""
    orders = draw_permutations(PERMUTATIONS, length, seed)
    return pa.table(
        {
            "dissection_id": np.full(orders.size, dissection_id, np.int32),
            "permutation": np.repeat(np.arange(len(orders), dtype=np.int32), length),
            "place": np.tile(np.arange(length, dtype=np.int32), len(orders)),
            "taken": orders.ravel().astype(np.int32),
        }
    )
