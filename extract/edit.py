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
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import nn

from extract import catalog, fingerprints, jobs, networks, study
from extract.blocks import Networks
from extract.jobs import Plan, Target
from extract.study import StudyError

JUDGED_ON = ("validation", "test")


@dataclass(frozen=True)
class PlannedEdit:
    """An edit with its scales: (neuron_id, unit, scale) of every neuron of the layer. row: as in `edits`."""

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


def edit_row(
    warehouse: Any, settings: study.Edit, dissection: Mapping[str, Any], dissection_fingerprint: str
) -> dict[str, Any]:
    """The row of `edits` for an edit of a study; it has a layer: the study's, or the first of layer_choices."""
    layer = settings.layer
    if layer is None:
        choices = warehouse.rows(
            "select layer from layer_choices where dissection_id = $id order by rank limit 1",
            {"id": dissection["dissection_id"]},
        )["layer"]
        if len(choices) == 0:
            raise StudyError(f"edit {settings.name}: no recorded layer has weights; add one to network.layers")
        layer = choices[0]
    asked = {"rule": settings.rule, "tau": settings.tau, "factor": settings.factor, "sql": settings.sql}
    if settings.rule == "sql":
        asked |= {"tau": None, "factor": None}
    fingerprint = fingerprints.of_values(dissection_fingerprint, layer, asked)
    return {
        "edit_id": warehouse.find("edits", fingerprint) or warehouse.next_id("edits"),
        "name": settings.name,
        "network_id": dissection["network_id"],
        "dissection_id": dissection["dissection_id"],
        "layer": layer,
        **asked,
        "created_at": catalog.now(),
        "fingerprint": fingerprint,
    }


def check_scales(
    layer: str, edit: str, neurons: Mapping[int, int], scales: Sequence[tuple[int, float]]
) -> list[tuple[int, int, float]]:
    """(neuron_id, unit, scale) of a layer's every neuron, or StudyError.

    neurons: unit → neuron_id of the layer. scales: (unit, scale) as a rule yielded them.
    """
    units = [unit for unit, _ in scales]
    if unknown := sorted(set(units) - set(neurons)):
        raise StudyError(f"edit {edit}: {layer} has no unit {unknown[0]}; it has 0 to {len(neurons) - 1}")
    if twice := {unit for unit in units if units.count(unit) > 1} if len(units) != len(set(units)) else set():
        raise StudyError(f"edit {edit}: unit {min(twice)} of {layer} has more than one scale")
    if missing := sorted(set(neurons) - set(units)):
        raise StudyError(
            f"edit {edit}: {len(missing)} unit(s) of {layer} have no scale, the first is {missing[0]}; 1 keeps one as it is"
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


def plan_edit(
    warehouse: Any,
    plan: Plan,
    settings: study.Edit,
    users_scales: pl.DataFrame | None,
) -> PlannedEdit:
    """What an edit would do; writes nothing. users_scales: layer, unit, scale of an edit whose rule is sql."""
    fingerprint = plan.dissections()[-1][1]
    dissection_id = warehouse.find("dissections", fingerprint)
    if dissection_id is None:
        raise StudyError("this study has not been extracted as it stands; run: dissectdb extract STUDY")
    [dissection] = warehouse.rows(
        "select dissection_id, network_id from dissections where dissection_id = $id", {"id": dissection_id}
    ).to_dicts()
    row = edit_row(warehouse, settings, dissection, fingerprint)
    neurons = layer_neurons(warehouse, dissection_id, row["layer"])
    if not isinstance(getattr(plan.network.model.get_submodule(row["layer"]), "weight", None), torch.Tensor):
        raise StudyError(f"edit {settings.name}: {row['layer']} has no weights to scale")
    if users_scales is None:
        known = warehouse.find("edits", row["fingerprint"]) is not None
        scales = warehouse.preview(
            {} if known else {"edits": [row]},
            "select unit, scale from weight_scales where edit_id = $edit_id order by unit",
            {"edit_id": row["edit_id"]},
        ).rows()
    else:
        if missing := {"layer", "unit", "scale"} - set(users_scales.columns):
            raise StudyError(f"edit {settings.name}: its sql yields no column {', '.join(sorted(missing))}")
        if elsewhere := sorted(set(users_scales["layer"]) - {row["layer"]}):
            raise StudyError(
                f"edit {settings.name}: its sql yields layer {elsewhere[0]}; the edit is of {row['layer']}"
            )
        scales = [(unit, float(scale)) for unit, scale in users_scales.select("unit", "scale").rows()]
    return PlannedEdit(settings, row, check_scales(row["layer"], settings.name, neurons, scales))


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
    row = catalog.network_row(
        warehouse, edited, parent_network_id=planned.row["network_id"], edit_id=planned.row["edit_id"]
    )
    unit: dict[str, Any] = {"networks": [row]}
    if warehouse.find("edits", planned.row["fingerprint"]) is None:
        unit["edits"] = [planned.row]
        unit["edit_scales"] = catalog.scale_table(planned.row["edit_id"], planned.scales)
    warehouse.write(unit)
    return row["network_id"]
