"""Edits of a network's weights: what each one scales, planned in SQL and checked before anything runs.

planned = plan_edits(warehouse, plan, dissection_id, study.tried())  # writes nothing
enter_edits(warehouse, planned)                                      # rows of edits, edit_layers and edit_scales
edited = scaled_copy(network.model, planned[0])                      # a copy; the network is unchanged

A row of `edits` names the rule, the view weight_scales says what it multiplies. What edits do to the predictions is
measured by search.py, which of them is believed is decided by protocol.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from torch import nn

from dissectdb.did_you_mean import choices
from dissectdb.extract import fingerprints, study
from dissectdb.extract.editing.cut import Change, Scaling
from dissectdb.extract.models import hooks
from dissectdb.extract.record import catalog
from dissectdb.extract.record.passes import Plan
from dissectdb.extract.study import StudyError, written


@dataclass(frozen=True)
class EditedLayer:
    """A layer that an edit scales: what each unit's weight row and bias is multiplied by, float64 (unit,).

    layer, name, mark: as in KnownLayer.
    """

    layer: str
    layer_id: int
    first_neuron: int
    scales: np.ndarray
    bias_scales: np.ndarray
    name: str = ""
    mark: str = ""


@dataclass(frozen=True)
class PlannedEdit:
    """An edit with its scales. row: as in `edits`; edit_id is what the edit has, or will be entered with."""

    row: dict[str, Any]
    layers: tuple[EditedLayer, ...]

    @property
    def edit_id(self) -> int:
        """As in `edits`."""
        return self.row["edit_id"]

    def change(self, device: torch.device) -> Change:
        """The edit as a cut network takes it."""
        return {
            each.layer: Scaling(
                torch.from_numpy(each.scales).float().to(device), torch.from_numpy(each.bias_scales).float().to(device)
            )
            for each in self.layers
        }


def scaled_copy(model: nn.Module, planned: PlannedEdit) -> nn.Module:
    """A copy of `model` with the weight rows and biases of the edit's layers multiplied; `model` is unchanged."""
    edited = deepcopy(model)
    with torch.no_grad():
        for each in planned.layers:
            module = edited.get_submodule(each.layer)
            shape = [-1, *[1] * (module.weight.ndim - 1)]
            module.weight.mul_(torch.from_numpy(each.scales).to(module.weight).view(shape))
            if getattr(module, "bias", None) is not None:
                module.bias.mul_(torch.from_numpy(each.bias_scales).to(module.bias))
    return edited


def choose(edits: Sequence[study.Edit], name: str | None) -> list[study.Edit]:
    """The edits of a study, or the one of this name. Raises StudyError."""
    names = [edit.name for edit in edits]
    if not edits:
        raise StudyError("the study has no [[edits]]; add one with name, rule and factor")
    if name is not None and name not in names:
        raise StudyError(f"the study has no edit {name!r}; {choices(name, names, 'it has')}")
    return [edit for edit in edits if name in (None, edit.name)]


def find_dissection(warehouse: Any, plan: Plan) -> int:
    """The id of the dissection that a study's edits go by. Raises StudyError."""
    dissection_id = plan.dissection_id(warehouse)
    if dissection_id is None:
        raise StudyError("this study has not been extracted as it stands; run: dissectdb extract STUDY")
    return dissection_id


# ---------------------------------------------------------------- planning


@dataclass(frozen=True)
class KnownLayer:
    """A dissected layer as the warehouse has it; its neurons are first_neuron, first_neuron + 1, …

    layer: the path of its module. name: what views call it. mark: its part of fingerprints: the path for the first
    layer that was recorded of a module, and not the same for the next ones. Unlike the name, it never changes.
    """

    layer: str
    layer_id: int
    first_neuron: int
    neurons: int
    name: str = ""
    mark: str = ""


def plan_edits(warehouse: Any, plan: Plan, dissection_id: int, asked: Sequence[study.Edit]) -> list[PlannedEdit]:
    """What each edit would do; writes nothing. The warehouse is open read-only and shows the dissection."""
    known = dissected_layers(warehouse, plan, dissection_id)
    layers = {each.name: edited_layers(warehouse, dissection_id, each, known) for each in asked}
    refuse_without_weights(plan, asked, layers)
    first = warehouse.next_id("edits")
    rows = [
        edit_row(warehouse, plan, dissection_id, each, layers[each.name], first + place)
        for place, each in enumerate(asked)
    ]
    by_rule = scales_of_rules(warehouse, rows, {row["edit_id"]: layers[row["name"]] for row in rows})
    dissection = plan.dissections()[-1][1]
    planned = []
    for row, each in zip(rows, asked, strict=True):
        mine = layers[each.name]
        scales = scales_of_query(warehouse, each, mine) if each.rule == "sql" else by_rule.get(row["edit_id"], {})
        edited = tuple(check_scales(layer, each, scales.get(layer.name, [])) for layer in mine)
        planned.append(finish(row, dissection, edited))
    return with_ids(warehouse, planned)


def finish(row: dict[str, Any], parent: str, layers: tuple[EditedLayer, ...]) -> PlannedEdit:
    """The planned edit with its fingerprint; the scales are part of it: the same query over other rows is another."""
    asked = [row[key] for key in ("layer", "rule", "tau", "factor", "factor_down", "scale_bias", "concepts", "sql",
                                  "control", "draw")]  # fmt: skip
    scales = [(each.mark or each.layer, fingerprints.of_array(each.scales), fingerprints.of_array(each.bias_scales))
              for each in layers]  # fmt: skip
    return PlannedEdit(row | {"fingerprint": fingerprints.of_values(parent, asked, scales)}, layers)


def with_ids(warehouse: Any, planned: Sequence[PlannedEdit]) -> list[PlannedEdit]:
    """Each different edit once, with the id that it has in the warehouse, or the next that is free."""
    known, free, found = _known(warehouse), warehouse.next_id("edits"), {}
    for each in planned:
        fingerprint = each.row["fingerprint"]
        if fingerprint in found:
            continue
        if (edit_id := known.get(fingerprint)) is None:
            edit_id, free = free, free + 1
        found[fingerprint] = replace(each, row=each.row | {"edit_id": edit_id})
    return list(found.values())


def _known(warehouse: Any) -> dict[str, int]:
    """The edits that are there, by fingerprint."""
    return dict(warehouse.rows("select fingerprint, edit_id from edits").iter_rows())


def dissected_layers(warehouse: Any, plan: Plan, dissection_id: int) -> dict[str, KnownLayer]:
    """The layers of a dissection by the study's names; the warehouse may hold more than the study names."""
    rows = warehouse.rows(
        """
        with
        found as (
            select layer_id, min(neuron_id) as first_neuron, count(*) as neurons
            from dissected_neurons where dissection_id = $dissection group by layer_id
        ),
        marked as (
            select *, layer_id = min(layer_id) over (partition by network_id, module) as is_first from named_layers
        )
        select
            module, found.layer_id, first_neuron, neurons, layer,
            case when is_first then module else module || ' (' || way || ')' end as mark
        from found inner join marked on found.layer_id = marked.layer_id
        """,
        {"dissection": dissection_id},
    )
    by_id = {row[1]: KnownLayer(*row) for row in rows.iter_rows()}
    ids = {tap.name: warehouse.find("layers", catalog.layer_fingerprint(plan.network, tap)) for tap in plan.taps}
    return {name: by_id[layer_id] for name, layer_id in ids.items() if layer_id in by_id}


def find_layer(name: str, known: Mapping[str, KnownLayer]) -> KnownLayer | None:
    """The known layer that a study means: conv1, or conv1 (max), which it may write where it reads conv1 once too."""
    if name in known:
        return known[name]
    return next((each for each in known.values() if name.startswith(written(each.layer, "")[:-1])), None)


def edited_layers(
    warehouse: Any, dissection_id: int, asked: study.Edit, known: Mapping[str, KnownLayer]
) -> list[KnownLayer]:
    """The layers of an edit. Raises StudyError for one that the warehouse does not have, and for a module twice."""
    if not asked.layer_names:
        return [choose_layer(warehouse, dissection_id, asked.name, known)]
    layers = {name: find_layer(name, known) for name in asked.layer_names}
    if missing := [name for name, layer in layers.items() if layer is None]:
        raise StudyError(f"edit {asked.name}: {missing[0]} is not extracted and built; run: dissectdb extract STUDY")
    modules = [layer.layer for layer in layers.values()]
    if twice := [module for module in modules if modules.count(module) > 1]:
        raise StudyError(f"edit {asked.name}: {twice[0]} has one set of weights; name it once, with one pooling")
    return list(layers.values())


def refuse_without_weights(plan: Plan, asked: Sequence[study.Edit], layers: Mapping[str, Sequence[KnownLayer]]) -> None:
    """Raises StudyError for an edit of a layer that has no weights a unit."""
    bare = {
        layer
        for layer in {layer for each in layers.values() for layer in each}
        if not has_weight_rows(plan.network.model.get_submodule(layer.layer), layer.neurons)
    }
    for each in asked:
        names = {plan.network.model.get_submodule(layer.layer): layer.layer for layer in layers[each.name]}
        if twice := [layer.layer for layer in layers[each.name] if layer.layer not in names.values()]:
            same = names[plan.network.model.get_submodule(twice[0])]
            raise StudyError(f"edit {each.name}: {twice[0]} and {same} are one module; its weights are scaled once")
        if found := [layer.layer for layer in layers[each.name] if layer in bare]:
            raise StudyError(
                f"edit {each.name}: {found[0]} has no weights to scale, a row a unit; choose another layer"
            )


def choose_layer(warehouse: Any, dissection_id: int, edit: str, known: Mapping[str, KnownLayer]) -> KnownLayer:
    """The first of layer_choices that is known."""
    rows = warehouse.rows(
        "select layer_id from layer_choices where dissection_id = $id order by rank", {"id": dissection_id}
    )
    by_id = {each.layer_id: each for each in known.values()}
    choices = [by_id[layer_id] for layer_id in rows["layer_id"] if layer_id in by_id]
    if not choices:
        raise StudyError(f"edit {edit}: no recorded layer has weights; add one to network.layers")
    return choices[0]


def has_weight_rows(module: nn.Module, units: int) -> bool:
    """Whether a row of the module's weight belongs to each unit; a weight computed from others does not count."""
    return (
        "weight" in dict(module.named_parameters(recurse=False)) and hooks.weight_norms(module, units)[0][0] is not None
    )


def edit_row(
    warehouse: Any, plan: Plan, dissection_id: int, asked: study.Edit, layers: Sequence[KnownLayer], edit_id: int
) -> dict[str, Any]:
    """A row of `edits`, but for its fingerprint; keys that the rule does not read are NULL."""
    reads = study.READS[asked.rule]
    down = asked.factor if asked.factor_down is None else asked.factor_down
    return {
        "edit_id": edit_id,
        "name": asked.name,
        "network_id": warehouse.find("networks", plan.network.fingerprint),
        "dissection_id": dissection_id,
        "layer": ", ".join(layer.layer for layer in layers),
        "rule": asked.rule,
        "tau": asked.tau if "tau" in reads else None,
        "factor": asked.factor if "factor" in reads else None,
        "factor_down": down if "factor_down" in reads else None,
        "scale_bias": asked.scale_bias,
        "concepts": list(asked.concepts) or None,
        "sql": asked.sql,
        "control": None,
        "control_of": None,
        "draw": None,
        "created_at": catalog.now(),
        "fingerprint": "not known before its scales",
    }


# ---------------------------------------------------------------- scales

Scales = Mapping[str, Sequence[tuple[Any, ...]]]  # layer → (unit, scale, bias scale)


def scales_of_rules(
    warehouse: Any,
    rows: Sequence[Mapping[str, Any]],
    layers: Mapping[int, Sequence[KnownLayer]],
    others: Mapping[str, Any] | None = None,
) -> dict[int, dict[str, list[tuple]]]:
    """edit_id → layer → (unit, scale, bias scale), as weight_scales has them for edits that are not there yet.

    others: more rows that it should find, by table.
    """
    rows = [dict(row) for row in rows if row["rule"] != "sql"]
    if not rows:
        return {}
    pairs = [(row["edit_id"], layer.layer_id) for row in rows for layer in layers[row["edit_id"]]]
    unit = {"edits": rows, "edit_layers": _pairs(pairs), **(others or {})}
    found = warehouse.preview(
        unit,
        "select edit_id, layer, unit, scale, bias_scale from weight_scales where edit_id >= $first order by all",
        {"first": min(row["edit_id"] for row in rows)},
    )
    scales: dict[int, dict[str, list[tuple]]] = {}
    for (edit_id, layer), group in found.group_by("edit_id", "layer", maintain_order=True):
        scales.setdefault(edit_id, {})[layer] = group.select("unit", "scale", "bias_scale").rows()
    return scales


def _pairs(pairs: Sequence[tuple[int, int]]) -> pa.Table:
    """Rows of edit_layers."""
    return pa.table(
        {
            "edit_id": pa.array([edit_id for edit_id, _ in pairs], pa.int32()),
            "layer_id": pa.array([layer_id for _, layer_id in pairs], pa.int32()),
        }
    )


def scales_of_query(warehouse: Any, asked: study.Edit, layers: Sequence[KnownLayer]) -> dict[str, list[tuple]]:
    """layer → (unit, scale, bias scale) as the user's query yields them. Raises StudyError for other columns."""
    edit = f"edit {asked.name}: its sql"
    names = [layer.name for layer in layers]
    try:
        frame = warehouse.ask(asked.sql)
    except ValueError as error:  # the warehouse's word on a query that it refuses
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
    return {name: frame.filter(pl.col("layer") == name).select("unit", "scale", "bias_scale").rows() for name in names}


def check_scales(layer: KnownLayer, asked: study.Edit, scales: Sequence[tuple[Any, ...]]) -> EditedLayer:
    """The scales of a layer's every unit, or StudyError. scales: (unit, scale, bias scale) as a rule yielded them."""
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
            "1 keeps one as it is"
        )
    for unit, scale, _ in scales:
        if scale is None or not math.isfinite(scale) or scale < 0:
            raise StudyError(f"edit {edit}: unit {unit} of {name} has the scale {scale}; it must be 0 or more")
    values = np.array([pair for _, *pair in sorted(scales)], np.float64)
    scales, bias_scales = values[:, 0].copy(), values[:, 1].copy()
    return EditedLayer(layer.layer, layer.layer_id, layer.first_neuron, scales, bias_scales, name, layer.mark)


# ---------------------------------------------------------------- entering


def enter_edits(warehouse: Any, planned: Sequence[PlannedEdit]) -> None:
    """Those that are not there yet, with their layers and scales, in one transaction."""
    known = _known(warehouse)
    new = [each for each in planned if each.row["fingerprint"] not in known]
    if not new:
        return
    scales = [(each.edit_id, layer) for each in new for layer in each.layers]
    neurons = [layer.first_neuron + np.arange(len(layer.scales), dtype=np.int32) for _, layer in scales]
    warehouse.write(
        {
            "edits": _edits_table([each.row for each in new]),
            "edit_layers": _pairs([(edit_id, layer.layer_id) for edit_id, layer in scales]),
            "edit_scales": pa.table(
                {
                    "edit_id": np.concatenate([np.full(len(s.scales), i, np.int32) for i, s in scales]),
                    "neuron_id": np.concatenate(neurons).astype(np.int32),
                    "scale": np.concatenate([layer.scales for _, layer in scales]),
                    "bias_scale": np.concatenate([layer.bias_scales for _, layer in scales]),
                }
            ),
        }
    )


def _edits_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    types = {
        "tau": pa.float64(), "factor": pa.float64(), "factor_down": pa.float64(), "sql": pa.string(),
        "concepts": pa.list_(pa.string()), "control": pa.string(), "control_of": pa.int32(), "draw": pa.int32(),
    }  # fmt: skip
    return pa.table({key: pa.array([row[key] for row in rows], types.get(key)) for key in rows[0]})
