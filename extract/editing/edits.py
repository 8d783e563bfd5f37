"""Plan edits of a network's weights: SQL computes each edit's scales, which are checked before anything runs.

planned = plan_edits(warehouse, plan, dissection_id, study.tried())  # writes nothing
enter_edits(warehouse, planned)                                      # rows of edits, edit_layers and edit_scales
edited = scaled_copy(network.model, planned[0])                      # a copy; the network is unchanged

A row of `edits` names the rule; the view weight_scales computes its factors. search.py measures the edited networks;
protocol.py chooses one edit and judges it.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from dissectdb.did_you_mean import choices
from dissectdb.extract import fingerprints, study
from dissectdb.extract.editing.cut_network import Change, Scaling
from dissectdb.extract.editing.layers import (
    EditedLayer,
    KnownLayer,
    dissected_layers,
    edit_layers_table,
    edited_layers,
    refuse_without_weights,
)
from dissectdb.extract.editing.scales import check_scales, scales_of_query, scales_of_rules
from dissectdb.extract.record import catalog
from dissectdb.extract.record.network_plan import NetworkPlan
from dissectdb.extract.study import StudyError
from dissectdb.extract.warehouse_protocol import Row, Store


@dataclass(frozen=True)
class PlannedEdit:
    """An edit with its scales. row: its row of `edits`, with the edit_id that it has or will have."""

    row: Row
    layers: tuple[EditedLayer, ...]

    @property
    def edit_id(self) -> int:
        """The edit's id in `edits`."""
        return self.row["edit_id"]

    def change(self, device: torch.device) -> Change:
        """The edit as a Change for a Cut."""
        return {
            layer.layer: Scaling(
                torch.from_numpy(layer.scales).float().to(device),
                torch.from_numpy(layer.bias_scales).float().to(device),
            )
            for layer in self.layers
        }


def scaled_copy(model: nn.Module, planned: PlannedEdit) -> nn.Module:
    """A copy of `model` with the weight rows and biases of the edit's layers multiplied; `model` is unchanged."""
    edited = deepcopy(model)
    with torch.no_grad():
        for layer in planned.layers:
            module = edited.get_submodule(layer.layer)
            weight, bias = module.get_parameter("weight"), getattr(module, "bias", None)
            weight.mul_(torch.from_numpy(layer.scales).to(weight).view([-1, *[1] * (weight.ndim - 1)]))
            if bias is not None:
                bias.mul_(torch.from_numpy(layer.bias_scales).to(bias))
    return edited


def choose(edits: Sequence[study.Edit], name: str | None) -> list[study.Edit]:
    """The edits of a study, or the one of this name. Raises StudyError."""
    names = [edit.name for edit in edits]
    if not edits:
        raise StudyError("the study has no [[edits]]; add one with name, rule and factor")
    if name is not None and name not in names:
        raise StudyError(f"the study has no edit {name!r}; {choices(name, names, 'it has')}")
    return [edit for edit in edits if name in (None, edit.name)]


def find_dissection(warehouse: Store, plan: NetworkPlan) -> int:
    """The id of the dissection that a study's edits are based on. Raises StudyError."""
    dissection_id = plan.dissection_id(warehouse)
    if dissection_id is None:
        raise StudyError("this study has not been extracted as it stands; run: dissectdb extract STUDY")
    return dissection_id


# ---------------------------------------------------------------- planning


def plan_edits(
    warehouse: Store, plan: NetworkPlan, dissection_id: int, asked: Sequence[study.Edit]
) -> list[PlannedEdit]:
    """The edits with their ids and scales; writes nothing.

    The warehouse is open read-only, and its views show this dissection.
    """
    layers_by_name = dissected_layers(warehouse, plan, dissection_id)
    layers = {edit.name: edited_layers(warehouse, dissection_id, edit, layers_by_name) for edit in asked}
    refuse_without_weights(plan, asked, layers)
    first = warehouse.next_id("edits")
    rows = [
        edit_row(warehouse, plan, dissection_id, edit, layers[edit.name], first + index)
        for index, edit in enumerate(asked)
    ]
    by_rule = scales_of_rules(warehouse, rows, {row["edit_id"]: layers[row["name"]] for row in rows})
    dissection = plan.dissections()[-1][1]
    planned = []
    for row, edit in zip(rows, asked, strict=True):
        layers_of_edit = layers[edit.name]
        scales = (
            scales_of_query(warehouse, edit, layers_of_edit) if edit.rule == "sql" else by_rule.get(row["edit_id"], {})
        )
        edited = tuple(check_scales(layer, edit, scales.get(layer.name, [])) for layer in layers_of_edit)
        planned.append(finish(row, dissection, edited))
    return with_ids(warehouse, planned)


def finish(row: Row, parent: str, layers: tuple[EditedLayer, ...]) -> PlannedEdit:
    """The planned edit with its fingerprint.

    The fingerprint includes the scales, because the same query may yield different scales later.
    """
    asked = [row[key] for key in ("layer", "rule", "tau", "factor", "factor_down", "scale_bias", "concepts", "sql",
                                  "control", "draw")]  # fmt: skip
    scales = [(layer.mark or layer.layer, fingerprints.of_array(layer.scales), fingerprints.of_array(layer.bias_scales))
              for layer in layers]  # fmt: skip
    return PlannedEdit(row | {"fingerprint": fingerprints.of_values(parent, asked, scales)}, layers)


def with_ids(warehouse: Store, planned: Sequence[PlannedEdit]) -> list[PlannedEdit]:
    """The edits without repeats, each with its id in the warehouse or the next free id."""
    stored_ids, free, by_fingerprint = _stored_ids(warehouse), warehouse.next_id("edits"), {}
    for edit in planned:
        fingerprint = edit.row["fingerprint"]
        if fingerprint in by_fingerprint:
            continue
        if (edit_id := stored_ids.get(fingerprint)) is None:
            edit_id, free = free, free + 1
        by_fingerprint[fingerprint] = replace(edit, row=edit.row | {"edit_id": edit_id})
    return list(by_fingerprint.values())


def _stored_ids(warehouse: Store) -> dict[str, int]:
    """Fingerprint → edit_id of the edits in the warehouse."""
    return dict(warehouse.rows("select fingerprint, edit_id from edits").iter_rows())


def edit_row(
    warehouse: Store,
    plan: NetworkPlan,
    dissection_id: int,
    asked: study.Edit,
    layers: Sequence[KnownLayer],
    edit_id: int,
) -> Row:
    """A row of `edits` without its fingerprint. Keys that the rule does not read are NULL."""
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


# ---------------------------------------------------------------- entering


def enter_edits(warehouse: Store, planned: Sequence[PlannedEdit]) -> None:
    """Write the edits that are new, with their layers and scales, in one transaction."""
    stored_ids = _stored_ids(warehouse)
    new = [edit for edit in planned if edit.row["fingerprint"] not in stored_ids]
    if not new:
        return
    scales = [(edit.edit_id, layer) for edit in new for layer in edit.layers]
    neurons = [layer.first_neuron + np.arange(len(layer.scales), dtype=np.int32) for _, layer in scales]
    warehouse.write(
        {
            "edits": _edits_table([edit.row for edit in new]),
            "edit_layers": edit_layers_table([(edit_id, layer.layer_id) for edit_id, layer in scales]),
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


def _edits_table(rows: Sequence[Row]) -> pa.Table:
    types = {
        "tau": pa.float64(), "factor": pa.float64(), "factor_down": pa.float64(), "sql": pa.string(),
        "concepts": pa.list_(pa.string()), "control": pa.string(), "control_of": pa.int32(), "draw": pa.int32(),
    }  # fmt: skip
    return pa.table({key: pa.array([row[key] for row in rows], types.get(key)) for key in rows[0]})
