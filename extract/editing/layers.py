"""The layers that can be edited: dissected layers whose module has a weight row for each unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from torch import nn

from dissectdb.extract import study
from dissectdb.extract.models import hooks
from dissectdb.extract.record import catalog
from dissectdb.extract.record.network_plan import NetworkPlan
from dissectdb.extract.study import StudyError, written
from dissectdb.extract.warehouse_protocol import Store


@dataclass(frozen=True)
class KnownLayer:
    """A dissected layer in the warehouse. Its neurons are first_neuron, first_neuron + 1, …

    layer: the path of its module. name: its name in views. mark: its name in fingerprints, which never changes: the
    module's path for the first layer recorded of a module; for later ones, the path and how the output is read.
    """

    layer: str
    layer_id: int
    first_neuron: int
    neurons: int
    name: str = ""
    mark: str = ""


@dataclass(frozen=True)
class EditedLayer:
    """A layer that an edit scales. scales, bias_scales: the factors of weight rows and biases, float64 (unit,).

    layer, name, mark: as in KnownLayer.
    """

    layer: str
    layer_id: int
    first_neuron: int
    scales: np.ndarray
    bias_scales: np.ndarray
    name: str = ""
    mark: str = ""


def dissected_layers(warehouse: Store, plan: NetworkPlan, dissection_id: int) -> dict[str, KnownLayer]:
    """The layers of a dissection that the study names, by the study's names. Not those whose units are heads."""
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
    ids = {
        tap.name: warehouse.find("layers", catalog.layer_fingerprint(plan.network, tap))
        for tap in plan.taps
        if tap.heads is None
    }
    return {name: by_id[layer_id] for name, layer_id in ids.items() if layer_id in by_id}


def find_layer(name: str, layers_by_name: Mapping[str, KnownLayer]) -> KnownLayer | None:
    """The layer that a study means by a name: conv1 or conv1 (max); the long form is always allowed."""
    if name in layers_by_name:
        return layers_by_name[name]
    return next((layer for layer in layers_by_name.values() if name.startswith(written(layer.layer, "")[:-1])), None)


def edited_layers(
    warehouse: Store, dissection_id: int, asked: study.Edit, layers_by_name: Mapping[str, KnownLayer]
) -> list[KnownLayer]:
    """The layers of an edit. Raises StudyError if the warehouse lacks one, or if two are the same module."""
    if not asked.layer_names:
        return [choose_layer(warehouse, dissection_id, asked.name, layers_by_name)]
    layers: list[KnownLayer] = []
    for name in asked.layer_names:
        if (layer := find_layer(name, layers_by_name)) is None:
            raise StudyError(f"edit {asked.name}: {name} is not extracted and built; run: dissectdb extract STUDY")
        layers.append(layer)
    modules = [layer.layer for layer in layers]
    if twice := [module for module in modules if modules.count(module) > 1]:
        raise StudyError(f"edit {asked.name}: {twice[0]} has one set of weights; name it once, with one pooling")
    return layers


def refuse_without_weights(
    plan: NetworkPlan, asked: Sequence[study.Edit], layers: Mapping[str, Sequence[KnownLayer]]
) -> None:
    """Raises StudyError for an edit of a layer that does not have a weight row for each unit."""
    bare_layers = {
        layer
        for layer in {layer for layers_of_edit in layers.values() for layer in layers_of_edit}
        if not has_weight_rows(plan.network.model.get_submodule(layer.layer), layer.neurons)
    }
    for edit in asked:
        names = {plan.network.model.get_submodule(layer.layer): layer.layer for layer in layers[edit.name]}
        if twice := [layer.layer for layer in layers[edit.name] if layer.layer not in names.values()]:
            same = names[plan.network.model.get_submodule(twice[0])]
            raise StudyError(f"edit {edit.name}: {twice[0]} and {same} are one module; its weights are scaled once")
        if without_weights := [layer.layer for layer in layers[edit.name] if layer in bare_layers]:
            raise StudyError(
                f"edit {edit.name}: {without_weights[0]} has no weight row for each unit, so it cannot be scaled; "
                "name another layer"
            )


def choose_layer(
    warehouse: Store, dissection_id: int, edit: str, layers_by_name: Mapping[str, KnownLayer]
) -> KnownLayer:
    """The layer that the view layer_choices ranks first among the given ones. Raises StudyError if there is none."""
    rows = warehouse.rows(
        "select layer_id from layer_choices where dissection_id = $id order by rank", {"id": dissection_id}
    )
    by_id = {layer.layer_id: layer for layer in layers_by_name.values()}
    choices = [by_id[layer_id] for layer_id in rows["layer_id"] if layer_id in by_id]
    if not choices:
        raise StudyError(f"edit {edit}: no recorded layer has weights; add one to network.layers")
    return choices[0]


def has_weight_rows(module: nn.Module, units: int) -> bool:
    """Whether the module has a weight row for each unit. A weight computed from other tensors is not one."""
    return (
        "weight" in dict(module.named_parameters(recurse=False)) and hooks.weight_norms(module, units)[0][0] is not None
    )


def edit_layers_table(pairs: Sequence[tuple[int, int]]) -> pa.Table:
    """Rows of edit_layers."""
    return pa.table(
        {
            "edit_id": pa.array([edit_id for edit_id, _ in pairs], pa.int32()),
            "layer_id": pa.array([layer_id for _, layer_id in pairs], pa.int32()),
        }
    )
