"""Edits of a network's weights: what each one scales. They are planned in SQL, and checked before anything runs.

planned = plan_edits(warehouse, plan, dissection_id, study.tried())  # writes nothing
enter_edits(warehouse, planned)                                      # rows of edits, edit_layers and edit_scales
edited = scaled_copy(network.model, planned[0])                      # a copy; the network is unchanged

A row of `edits` names the rule, the view weight_scales says what it multiplies. What edits do to the predictions is
measured by search.py; protocol.py decides which of them is believed.
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
from dissectdb.extract.editing.cut import Change, Scaling
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
from dissectdb.extract.store import Row, Store
from dissectdb.extract.study import StudyError


@dataclass(frozen=True)
class PlannedEdit:
    """An edit with its scales. row: as in `edits`; edit_id is what the edit has, or will be entered with."""

    row: Row
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
            weight, bias = module.get_parameter("weight"), getattr(module, "bias", None)
            weight.mul_(torch.from_numpy(each.scales).to(weight).view([-1, *[1] * (weight.ndim - 1)]))
            if bias is not None:
                bias.mul_(torch.from_numpy(each.bias_scales).to(bias))
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


def finish(row: Row, parent: str, layers: tuple[EditedLayer, ...]) -> PlannedEdit:
    """The planned edit with its fingerprint, which the scales are part of: a query may yield others later."""
    asked = [row[key] for key in ("layer", "rule", "tau", "factor", "factor_down", "scale_bias", "concepts", "sql",
                                  "control", "draw")]  # fmt: skip
    scales = [(each.mark or each.layer, fingerprints.of_array(each.scales), fingerprints.of_array(each.bias_scales))
              for each in layers]  # fmt: skip
    return PlannedEdit(row | {"fingerprint": fingerprints.of_values(parent, asked, scales)}, layers)


def with_ids(warehouse: Store, planned: Sequence[PlannedEdit]) -> list[PlannedEdit]:
    """The different edits, each with its id in the warehouse, or with the next free id."""
    known, free, found = _known(warehouse), warehouse.next_id("edits"), {}
    for each in planned:
        fingerprint = each.row["fingerprint"]
        if fingerprint in found:
            continue
        if (edit_id := known.get(fingerprint)) is None:
            edit_id, free = free, free + 1
        found[fingerprint] = replace(each, row=each.row | {"edit_id": edit_id})
    return list(found.values())


def _known(warehouse: Store) -> dict[str, int]:
    """The edits that are there, by fingerprint."""
    return dict(warehouse.rows("select fingerprint, edit_id from edits").iter_rows())


def edit_row(
    warehouse: Store,
    plan: NetworkPlan,
    dissection_id: int,
    asked: study.Edit,
    layers: Sequence[KnownLayer],
    edit_id: int,
) -> Row:
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


# ---------------------------------------------------------------- entering


def enter_edits(warehouse: Store, planned: Sequence[PlannedEdit]) -> None:
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
