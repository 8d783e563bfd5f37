"""Means of the measures of each method in a layer, and paired differences between methods, with bootstrap intervals.

interval_table(probed, layer, judged_ids, quality, labels)     # rows of rival_intervals
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from itertools import combinations
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from dissectdb.extract.judging.bootstrap import bootstrap_means
from dissectdb.extract.judging.measures import RANGES
from dissectdb.extract.judging.probed_split import ProbedSplit
from dissectdb.extract.judging.rivals import NONE, JudgedLayer

OF_OUTPUTS = ("names_output", "output_similarity")


class Cell(NamedTuple):
    """What a mean is of: a method, what says where the concept is, and a measure."""

    rival_id: int
    reference: str
    measure: str


def interval_table(
    probed: ProbedSplit, layer: JudgedLayer, judged: AbstractSet[int], quality: pa.Table, labels: pa.Table
) -> pa.Table:
    """Rows of rival_intervals: means of the methods `judged`, and their differences from every method of the layer.

    quality, labels: rows of these methods; those of other methods are read from the warehouse.
    """
    cells = _cells(probed, layer, quality, labels)
    rivals = {row["rival_id"]: row for row in probed.warehouse.rows("select * from rivals").to_dicts()}
    wanted: list[tuple[Cell, Cell | None]] = [(cell, None) for cell in cells if cell.rival_id in judged]
    for first, second in combinations(sorted({cell.rival_id for cell in cells}), 2):
        pair = rivals[first], rivals[second]
        controls = [row["control"] for row in pair if row["control"] != NONE]
        is_compared = not controls or (len(controls) == 1 and pair[0]["method"] == pair[1]["method"])
        if is_compared and not judged.isdisjoint({first, second}):
            others = ((cell, cell._replace(rival_id=second)) for cell in cells if cell.rival_id == first)
            wanted += [(cell, other) for cell, other in others if other in cells]
    if not wanted:
        return pa.table({})
    means = bootstrap_means(
        np.stack([cells[cell] - (0 if other is None else cells[other]) for cell, other in wanted], axis=1)
    )
    kept = np.flatnonzero(means.neurons > 0).tolist()
    own, others_of = [wanted[row][0] for row in kept], [wanted[row][1] for row in kept]
    return pa.table(
        {
            "rival_id": pa.array([cell.rival_id for cell in own], pa.int32()),
            "other_rival_id": pa.array([other and other.rival_id for other in others_of], pa.int32()),
            "layer_id": pa.array([layer.layer_id] * len(kept), pa.int32()),
            "reference": pa.array([cell.reference for cell in own], pa.string()),
            "measure": pa.array([cell.measure for cell in own], pa.string()),
            "neurons": means.neurons[kept].astype(np.int32),
            "value": means.mean[kept],
            "low": pa.array(means.low[kept], mask=np.isnan(means.low[kept])),
            "high": pa.array(means.high[kept], mask=np.isnan(means.high[kept])),
        }
    )


def _cells(probed: ProbedSplit, layer: JudgedLayer, quality: pa.Table, labels: pa.Table) -> dict[Cell, np.ndarray]:
    """The values (neuron,) behind each mean, NaN where unknown: of these rows, and of the stored ones."""
    of_quality = _with_stored(probed, layer, "rival_quality", quality)
    of_outputs = _with_stored(probed, layer, "rival_labels", labels).filter(pl.col("output").is_not_null())
    of_outputs = of_outputs.with_columns(pl.lit("output").alias("reference"))
    cells: dict[Cell, np.ndarray] = {}
    for frame, measures in ((of_quality, tuple(RANGES)), (of_outputs, OF_OUTPUTS)):
        for (rival_id, reference), rows in frame.group_by("rival_id", "reference", maintain_order=True):
            units = rows["neuron_id"].to_numpy() - layer.first_neuron
            for measure in measures:
                values = cells[Cell(rival_id, reference, measure)] = np.full(layer.neurons, np.nan)
                values[units] = rows[measure].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return cells


def _with_stored(probed: ProbedSplit, layer: JudgedLayer, table: str, new: pa.Table) -> pl.DataFrame:
    """New rows of a table, and those of this layer and probed that it has."""
    stored = probed.warehouse.rows(
        f"""
        select * from {table}
        where neuron_id between $first and $last
        and rival_id in (select rival_id from rivals where split_id = $split and clip_id = $clip)
        order by rival_id, neuron_id
        """,
        {
            "first": layer.first_neuron,
            "last": layer.first_neuron + layer.neurons - 1,
            "split": probed.split_id,
            "clip": probed.clip_id,
        },
    )
    fresh = pl.from_arrow(new)
    assert isinstance(fresh, pl.DataFrame)
    return pl.concat([fresh, stored.select(fresh.columns)], how="vertical_relaxed")
