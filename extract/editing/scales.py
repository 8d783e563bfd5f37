"""Compute the factor of each unit in an edit, by its rule in SQL or by the user's query, and check it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from dissectdb.extract import study
from dissectdb.extract.editing.layers import EditedLayer, KnownLayer, edit_layers_table
from dissectdb.extract.study import StudyError
from dissectdb.extract.warehouse_protocol import Row, Store


class UnitScale(NamedTuple):
    """The factors of a unit's weight row and bias, as a rule or a query yields them."""

    unit: int
    scale: float
    bias_scale: float


def scales_of_rules(
    warehouse: Store,
    rows: Sequence[Row],
    layers: Mapping[int, Sequence[KnownLayer]],
    more_rows: Mapping[str, object] | None = None,
) -> dict[int, dict[str, list[UnitScale]]]:
    """edit_id → layer → scales: what the view weight_scales yields for edits that are not in the warehouse yet.

    more_rows: table → further rows that the view reads.
    """
    rows = [dict(row) for row in rows if row["rule"] != "sql"]
    if not rows:
        return {}
    pairs = [(row["edit_id"], layer.layer_id) for row in rows for layer in layers[row["edit_id"]]]
    unit = {"edits": rows, "edit_layers": edit_layers_table(pairs), **(more_rows or {})}
    scale_rows = warehouse.preview(
        unit,
        "select edit_id, layer, unit, scale, bias_scale from weight_scales where edit_id >= $first order by all",
        {"first": min(row["edit_id"] for row in rows)},
    )
    scales: dict[int, dict[str, list[UnitScale]]] = {}
    for (edit_id, layer), group in scale_rows.group_by("edit_id", "layer", maintain_order=True):
        scales.setdefault(edit_id, {})[layer] = _unit_scales(group)
    return scales


def _unit_scales(frame: pl.DataFrame) -> list[UnitScale]:
    return [UnitScale(*row) for row in frame.select("unit", "scale", "bias_scale").iter_rows()]


def scales_of_query(warehouse: Store, asked: study.Edit, layers: Sequence[KnownLayer]) -> dict[str, list[UnitScale]]:
    """The scales of each layer from the user's query. Raises StudyError for wrong columns, layers or types."""
    assert asked.sql is not None, "the study has refused an edit without it"
    edit = f"edit {asked.name}: its sql"
    names = [layer.name for layer in layers]
    try:
        frame = warehouse.ask(asked.sql)
    except ValueError as error:  # the warehouse refuses the query
        raise StudyError(f"{edit}: {error}") from error
    if missing := {"layer", "unit", "scale"} - set(frame.columns):
        raise StudyError(f"{edit} yields no column {', '.join(sorted(missing))}; it must yield layer, unit, scale")
    if elsewhere := sorted(set(map(str, frame["layer"])) - set(names)):
        raise StudyError(f"{edit} yields layer {elsewhere[0]}; the edit is of {', '.join(names)}")
    if not frame["unit"].dtype.is_integer() or not frame["scale"].dtype.is_numeric():
        raise StudyError(
            f"{edit} yields unit as {frame['unit'].dtype} and scale as {frame['scale'].dtype}; "
            "unit must be a whole number, scale a number"
        )
    frame = frame.with_columns(pl.col("scale").cast(pl.Float64))
    bias = pl.col("scale") if asked.scale_bias else pl.lit(1.0)
    frame = frame.with_columns(bias.alias("bias_scale")).sort("unit")
    return {name: _unit_scales(frame.filter(pl.col("layer") == name)) for name in names}


def check_scales(layer: KnownLayer, asked: study.Edit, scales: Sequence[UnitScale]) -> EditedLayer:
    """The scales of every unit of a layer. Raises StudyError for scales that are missing, repeated or negative."""
    edit, name = asked.name, layer.name
    units = [unit for unit, *_ in scales]
    if unknown := sorted(set(units) - set(range(layer.neurons)), key=str):
        raise StudyError(f"edit {edit}: {name} has no unit {unknown[0]}; it has 0 to {layer.neurons - 1}")
    if len(set(units)) < len(units):
        twice = [unit for unit, times in Counter(units).items() if times > 1]
        raise StudyError(f"edit {edit}: unit {min(twice)} of {name} has more than one scale")
    if missing := sorted(set(range(layer.neurons)) - set(units)):
        raise StudyError(
            f"edit {edit}: {len(missing)} unit(s) of {name} have no scale, the first is {missing[0]}; "
            "give a unit that stays as it is the scale 1"
        )
    for unit, scale, _ in scales:
        if scale is None or not math.isfinite(scale) or scale < 0:
            raise StudyError(f"edit {edit}: unit {unit} of {name} has the scale {scale}; it must be 0 or more")
    ordered = sorted(scales)
    return EditedLayer(
        layer=layer.layer,
        layer_id=layer.layer_id,
        first_neuron=layer.first_neuron,
        scales=np.array([scale.scale for scale in ordered], np.float64),
        bias_scales=np.array([scale.bias_scale for scale in ordered], np.float64),
        name=name,
        mark=layer.mark,
    )
