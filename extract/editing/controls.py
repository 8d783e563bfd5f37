"""Controls of an edit: edits that do not use the neurons' labels. A useful edit does better than its controls.

controls = plan_controls(warehouse, plan, planned, study.protocol)

all: scale every neuron by the edit's factor. random: move its scales to random neurons of the layer. matched: the same,
but each scale stays among neurons whose weight rows have about the same norm. shuffled: apply the rule to labels
from shuffled images, for rules that read scores. bias: scale only the biases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch

from dissectdb.extract.editing.edits import PlannedEdit, finish, with_ids
from dissectdb.extract.editing.layers import EditedLayer, KnownLayer
from dissectdb.extract.editing.scales import scales_of_rules
from dissectdb.extract.record.network_plan import NetworkPlan
from dissectdb.extract.scoring import labels
from dissectdb.extract.scoring.evidence import Evidence
from dissectdb.extract.scoring.problem import Scores
from dissectdb.extract.scoring.scorers import score_layer
from dissectdb.extract.scoring.stored_layers import StoredLayer, read_layers
from dissectdb.extract.study import Protocol
from dissectdb.extract.warehouse_protocol import Store

STRATA = 10  # groups of neurons of about equal weight norm
READS_SCORES = ("paper", "proportional")


def plan_controls(warehouse: Store, plan: NetworkPlan, planned: PlannedEdit, protocol: Protocol) -> list[PlannedEdit]:
    """The controls of an edit that is in the warehouse. One may be the edit itself: see edit_control_draws."""
    planned_controls = [_control(planned, "all", None, _all(planned))]
    if any(_bias(plan, layer) is not None for layer in planned.layers):
        planned_controls.append(
            _control(planned, "bias", None, [_bias(plan, layer) or layer for layer in planned.layers])
        )
    norms = {layer.layer: _norms(warehouse, layer) for layer in planned.layers}
    for draw in range(1, protocol.controls + 1):
        for kind, groups in (("random", _one_group), ("matched", lambda layer: _strata(norms[layer.layer]))):
            random = np.random.default_rng([protocol.seed, draw, kind == "matched"])
            layers = [_permuted(layer, groups(layer), random) for layer in planned.layers]
            planned_controls.append(_control(planned, kind, draw, layers))
    if planned.row["rule"] in READS_SCORES:
        planned_controls += _shuffled(warehouse, planned, protocol)
    return with_ids(warehouse, planned_controls)


def _control(planned: PlannedEdit, kind: str, draw: int | None, layers: Sequence[EditedLayer]) -> PlannedEdit:
    name = f"{planned.row['name']}: {kind}" + ("" if draw is None else f" {draw}")
    row = planned.row | {"name": name, "control": kind, "control_of": planned.edit_id, "draw": draw}
    return finish(row, planned.row["fingerprint"], tuple(layers))


def _all(planned: PlannedEdit) -> list[EditedLayer]:
    """Every neuron scaled by the factor, or, if the rule has none, by the most frequent scale that is not 1."""
    layers = []
    for layer in planned.layers:
        values, counts = np.unique(layer.scales[layer.scales != 1], return_counts=True)
        scale = planned.row["factor"] or (values[counts.argmax()] if len(values) else 1.0)
        scales = np.full(len(layer.scales), scale)
        layers.append(
            replace(layer, scales=scales, bias_scales=scales if planned.row["scale_bias"] else layer.bias_scales)
        )
    return layers


def _bias(plan: NetworkPlan, layer: EditedLayer) -> EditedLayer | None:
    """The layer with only its biases scaled; None if it has no biases."""
    if getattr(plan.network.model.get_submodule(layer.layer), "bias", None) is None:
        return None
    return replace(layer, scales=np.ones(len(layer.scales)), bias_scales=layer.scales)


def _one_group(layer: EditedLayer) -> list[np.ndarray]:
    return [np.arange(len(layer.scales))]


def _norms(warehouse: Store, layer: EditedLayer) -> np.ndarray:
    rows = warehouse.rows(
        "select weight_l2 from neurons where layer_id = $layer order by unit", {"layer": layer.layer_id}
    )
    return rows["weight_l2"].to_numpy()


def _strata(norms: np.ndarray) -> list[np.ndarray]:
    """Units in groups of increasing norm, with at least two units each."""
    return np.array_split(np.argsort(norms, kind="stable"), max(1, min(STRATA, len(norms) // 2)))


def _permuted(layer: EditedLayer, groups: Sequence[np.ndarray], random: np.random.Generator) -> EditedLayer:
    """The same scales, permuted within each group of units."""
    source = np.arange(len(layer.scales))
    for units in groups:
        source[units] = random.permutation(units)
    return replace(layer, scales=layer.scales[source], bias_scales=layer.bias_scales[source])


# ---------------------------------------------------------------- labels of shuffled images


def _shuffled(warehouse: Store, planned: PlannedEdit, protocol: Protocol) -> Iterator[PlannedEdit]:
    """The rule applied to labels that are computed after the images' embeddings were shuffled."""
    if not protocol.shuffles:
        return
    [row] = warehouse.rows(
        "select * from dissections where dissection_id = $id", {"id": planned.row["dissection_id"]}
    ).to_dicts()
    settings, evidence = labels.settings_of(row), labels.read_evidence(warehouse, row)
    stored = {layer.layer_id: layer for layer in read_layers(warehouse, row)}
    rows, tables, first = [], [], warehouse.next_id("edits")
    for draw in range(1, protocol.shuffles + 1):
        order = torch.from_numpy(np.random.default_rng([protocol.seed, draw, 2]).permutation(len(evidence.images)))
        for edited_layer in planned.layers:
            layer = stored[edited_layer.layer_id]
            with torch.inference_mode():
                scores = score_layer(settings, layer, evidence.images[order], evidence.concepts, keep=1)
            tables.append(_labels(-draw, layer, evidence, scores))
        rows.append(planned.row | {"edit_id": first + draw, "dissection_id": -draw})
    known_layers = [
        KnownLayer(
            edited_layer.layer,
            edited_layer.layer_id,
            edited_layer.first_neuron,
            len(edited_layer.scales),
            edited_layer.name,
        )
        for edited_layer in planned.layers
    ]
    label_rows = {"neuron_labels": pa.concat_tables(tables)}
    scales_by_edit = scales_of_rules(warehouse, rows, {row["edit_id"]: known_layers for row in rows}, label_rows)
    for draw in range(1, protocol.shuffles + 1):
        layers = []
        for edited_layer in planned.layers:
            scales = np.array([pair for _, *pair in scales_by_edit[first + draw][edited_layer.name]], np.float64)
            layers.append(replace(edited_layer, scales=scales[:, 0].copy(), bias_scales=scales[:, 1].copy()))
        yield _control(planned, "shuffled", draw, layers)


def _labels(dissection_id: int, layer: StoredLayer, evidence: Evidence, scores: Scores) -> pa.Table:
    """Rows of neuron_labels, with the columns that rules read."""
    has_label = scores.concepts[:, 0] >= 0
    return pa.table(
        {
            "dissection_id": pa.array([dissection_id] * layer.neurons, pa.int32()),
            "neuron_id": np.arange(layer.neurons, dtype=np.int32) + layer.first_neuron,
            "layer_id": pa.array([layer.layer_id] * layer.neurons, pa.int32()),
            "similarity": pa.array(np.where(has_label, scores.similarities[:, 0], 0), mask=~has_label),
        }
    )
