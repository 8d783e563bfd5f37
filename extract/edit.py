"""An edited copy of a network, and what it predicts.

scales = {7: 1.5, 8: 1 / 1.5}                       # unit → factor on its weight row
edited = scale_rows(network.model, "lin2", scales)  # a copy; the network is unchanged

An edit is planned in SQL: a row of `edits` names the rule, the view weight_scales says what it multiplies. Here
the copy is made, saved beside the warehouse, entered as one more network, and run over validation and test like
any other, so that a killed run goes on where it was.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import nn

from extract import catalog, fingerprints, hooks, jobs, networks, study
from extract.blocks import Networks
from extract.jobs import Plan, Target
from extract.study import StudyError

JUDGED_ON = ("validation", "test")


@dataclass(frozen=True)
class PlannedEdit:
    """An edit with its scales: (neuron_id, unit, scale) of every neuron of the layer.

    row: as in `edits`, but for edit_id, which is only kept free until the edit is entered.
    """

    settings: study.Edit
    row: dict[str, Any]
    scales: list[tuple[int, int, float]]


def scale_rows(model: nn.Module, layer: str, scales: Mapping[int, float]) -> nn.Module:
    """A copy of `model` with the weight row of each unit of the layer multiplied; biases are as they were."""
    edited = deepcopy(model)
    weight = edited.get_submodule(layer).weight
    factors = torch.ones(len(weight), dtype=torch.float64)
    for unit, scale in scales.items():
        factors[unit] = scale
    with torch.no_grad():
        weight.mul_(factors.to(weight).view(-1, *[1] * (weight.ndim - 1)))
    return edited


def choose(edits: Sequence[study.Edit], name: str | None) -> list[study.Edit]:
    """The edits of a study, or the one of this name. Raises StudyError."""
    names = [edit.name for edit in edits]
    if not edits:
        raise StudyError("the study has no [[edits]]; add one with name, rule and factor")
    if name is not None and name not in names:
        raise StudyError(f"the study has no edit {name!r}; it has {', '.join(names)}")
    return [edit for edit in edits if name in (None, edit.name)]


def describe(planned: PlannedEdit, checkpoint: Path) -> list[dict[str, Any]]:
    """What an edit does, in one row."""
    scales = [scale for _, _, scale in planned.scales]
    return [
        {
            "layer": planned.row["layer"],
            "rule": planned.row["rule"],
            "neurons_up": sum(scale > 1 for scale in scales),
            "neurons_down": sum(scale < 1 for scale in scales),
            "neurons_kept": sum(scale == 1 for scale in scales),
            "checkpoint": str(checkpoint),
        }
    ]


def find_dissection(warehouse: Any, plan: Plan) -> int:
    """The id of the dissection that a study's edits go by. Raises StudyError."""
    dissection_id = plan.dissection_id(warehouse)
    if dissection_id is None:
        raise StudyError("this study has not been extracted as it stands; run: dissectdb extract STUDY")
    return dissection_id


def choose_layer(warehouse: Any, dissection_id: int, settings: study.Edit) -> str:
    """The layer of an edit: the study's, or the first of layer_choices."""
    if settings.layer is not None:
        return settings.layer
    choices = warehouse.rows(
        "select layer from layer_choices where dissection_id = $id order by rank limit 1", {"id": dissection_id}
    )["layer"]
    if len(choices) == 0:
        raise StudyError(f"edit {settings.name}: no recorded layer has weights; add one to network.layers")
    return choices[0]


def check_scales(
    layer: str, edit: str, neurons: Mapping[int, int], scales: Sequence[tuple[int, float]]
) -> list[tuple[int, int, float]]:
    """(neuron_id, unit, scale) of a layer's every neuron, or StudyError.

    neurons: unit → neuron_id of the layer. scales: (unit, scale) as a rule yielded them.
    """
    units = [unit for unit, _ in scales]
    if unknown := sorted(set(units) - set(neurons), key=str):
        raise StudyError(f"edit {edit}: {layer} has no unit {unknown[0]}; it has 0 to {len(neurons) - 1}")
    if twice := [unit for unit, times in Counter(units).items() if times > 1]:
        raise StudyError(f"edit {edit}: unit {min(twice)} of {layer} has more than one scale")
    if missing := sorted(set(neurons) - set(units)):
        raise StudyError(
            f"edit {edit}: {len(missing)} unit(s) of {layer} have no scale, the first is {missing[0]}; "
            "1 keeps one as it is"
        )
    for unit, scale in scales:
        if scale is None or not math.isfinite(scale) or scale < 0:
            raise StudyError(f"edit {edit}: unit {unit} of {layer} has the scale {scale}; it must be 0 or more")
    return [(neurons[unit], unit, float(scale)) for unit, scale in scales]


def layer_neurons(warehouse: Any, dissection_id: int, layer: str) -> dict[int, int]:
    """unit → neuron_id of a dissected layer."""
    rows = warehouse.rows(
        """
        select unit, named_neurons.neuron_id from dissected_neurons
        inner join named_neurons on dissected_neurons.neuron_id = named_neurons.neuron_id
        where dissection_id = $dissection and layer = $layer order by unit
        """,
        {"dissection": dissection_id, "layer": layer},
    )
    return dict(rows.rows())


def plan_edit(warehouse: Any, plan: Plan, dissection_id: int, settings: study.Edit) -> PlannedEdit:
    """What an edit would do; writes nothing. The warehouse is open read-only and shows the dissection."""
    layer = choose_layer(warehouse, dissection_id, settings)
    neurons = layer_neurons(warehouse, dissection_id, layer)
    if not neurons:
        raise StudyError(f"edit {settings.name}: {layer} is not extracted and built; run: dissectdb extract STUDY")
    if not has_weight_rows(plan.network.model.get_submodule(layer), len(neurons)):
        raise StudyError(f"edit {settings.name}: {layer} has no weights to scale, a row a unit; choose another layer")
    by_query = settings.rule == "sql"
    row = {
        "edit_id": warehouse.next_id("edits"),
        "name": settings.name,
        "network_id": warehouse.find("networks", plan.network.fingerprint),
        "dissection_id": dissection_id,
        "layer": layer,
        "rule": settings.rule,
        "tau": None if by_query else settings.tau,
        "factor": None if by_query else settings.factor,
        "sql": settings.sql,
        "created_at": catalog.now(),
        "fingerprint": "not known before its scales",
    }
    scales = scales_of_query(warehouse, settings, layer) if by_query else scales_of_rule(warehouse, row)
    scales = check_scales(layer, settings.name, neurons, scales)
    # The scales are part of an edit: the same query over other rows is another edit.
    asked = [row[key] for key in ("layer", "rule", "tau", "factor", "sql")]
    row["fingerprint"] = fingerprints.of_values(plan.dissections()[-1][1], asked, [(u, s) for _, u, s in scales])
    return PlannedEdit(settings, row, scales)


def has_weight_rows(module: nn.Module, units: int) -> bool:
    """Whether a row of the module's weight belongs to each unit; a weight computed from others does not count."""
    return (
        "weight" in dict(module.named_parameters(recurse=False)) and hooks.weight_norms(module, units)[0][0] is not None
    )


def scales_of_rule(warehouse: Any, row: Mapping[str, Any]) -> list[tuple[int, float]]:
    """(unit, scale) as the view weight_scales has them for an edit that is not there yet."""
    rows = warehouse.preview(
        {"edits": [dict(row)]},
        "select unit, scale from weight_scales where edit_id = $edit_id order by unit",
        {"edit_id": row["edit_id"]},
    )
    return rows.rows()


def scales_of_query(warehouse: Any, settings: study.Edit, layer: str) -> list[tuple[int, float]]:
    """(unit, scale) as the user's query yields them, by unit. Raises StudyError for other columns, types or layers."""
    edit = f"edit {settings.name}: its sql"
    try:
        frame = warehouse.ask(settings.sql)
    except ValueError as error:  # the warehouse's word on a query that it refuses
        raise StudyError(f"{edit}: {error}") from error
    if missing := {"layer", "unit", "scale"} - set(frame.columns):
        raise StudyError(f"{edit} yields no column {', '.join(sorted(missing))}; it must yield layer, unit, scale")
    if elsewhere := sorted(set(map(str, frame["layer"])) - {layer}):
        raise StudyError(f"{edit} yields layer {elsewhere[0]}; the edit is of {layer}")
    if not frame["unit"].dtype.is_integer() or not frame["scale"].dtype.is_numeric():
        raise StudyError(
            f"{edit} yields unit as {frame['unit'].dtype} and scale as {frame['scale'].dtype}; "
            "unit must be a whole number, scale a number"
        )
    return frame.select("unit", pl.col("scale").cast(pl.Float64)).sort("unit").rows()


def checkpoint_path(folder: Path, plan: Plan, planned: PlannedEdit) -> Path:
    """Where an edited network is saved: named after network, edit and content, in the format of the original."""
    original = plan.study.network.weights
    suffix = original.suffix if isinstance(original, Path) else ".safetensors"
    name = re.sub(r"[^\w.-]+", "_", f"{plan.network.name}-{planned.settings.name}")
    return folder / f"{name}-{planned.row['fingerprint'][:8]}{suffix}"


def run_edit(
    warehouse: Any, plan: Plan, planned: PlannedEdit, checkpoint: Path, progress: Callable[[int, int], None]
) -> Iterator[Any]:
    """Save the edited network and enter it, then yield the blocks of its predictions that are missing."""
    scales = {unit: scale for _, unit, scale in planned.scales}
    model = scale_rows(plan.network.model, planned.row["layer"], scales)
    settings = plan.study.network.model_copy(update={"classes": plan.network.classes})
    name = f"{plan.network.name}+{planned.settings.name}"
    edited = networks.describe(model, settings, plan.network.recipe, str(checkpoint), name)
    # Two edits may come to the same weights and are still two edits with a result each.
    edited = replace(edited, fingerprint=fingerprints.of_values(edited.fingerprint, planned.row["fingerprint"]))
    if not checkpoint.exists():
        original = plan.study.network.weights
        networks.save_like(model, checkpoint, original if isinstance(original, Path) else None)
    network_id = enter_edit(warehouse, planned, edited)
    dataset_id = warehouse.find("datasets", plan.dataset)
    targets = [Target("predictions", name, s, edited.fingerprint, len(edited.classes)) for s in JUDGED_ON]
    yield from jobs.run_targets(warehouse, plan, dataset_id, targets, (Networks(edited, network_id), None), progress)


def enter_edit(warehouse: Any, planned: PlannedEdit, edited: networks.Network) -> int:
    """The edit, its scales and the edited network, in one transaction."""
    if (known := warehouse.find("networks", edited.fingerprint)) is not None:
        return known
    edit_id = warehouse.next_id("edits")
    row = catalog.network_row(warehouse, edited, parent_network_id=planned.row["network_id"], edit_id=edit_id)
    warehouse.write(
        {
            "networks": [row],
            "edits": [{**planned.row, "edit_id": edit_id}],
            "edit_scales": catalog.scale_table(edit_id, planned.scales),
        }
    )
    return row["network_id"]
