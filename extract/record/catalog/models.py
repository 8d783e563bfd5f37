"""Enter networks, layers, neurons and CLIPs into a warehouse."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from torch import nn

from dissectdb.extract import fingerprints
from dissectdb.extract.models import hooks
from dissectdb.extract.models.clip import ClipIdentity
from dissectdb.extract.models.hooks import Tap
from dissectdb.extract.models.networks import NetworkIdentity
from dissectdb.extract.warehouse_protocol import Row, Store

NO_NORMS = (None, None, None)  # of a neuron without a weight row
NEURONS = ("neuron_id", "layer_id", "unit", "weight_l1", "weight_l2", "bias")
log = logging.getLogger("dissectdb")


def enter_network(warehouse: Store, network: NetworkIdentity) -> int:
    """The id of a network. Writes it if it is new; if an edit made its weights, with the original as its parent."""
    if (stored_id := warehouse.find("networks", network.fingerprint)) is not None:
        return stored_id
    row = network_row(warehouse, network, parent_network_id=original_of(warehouse, network))
    warehouse.write({"networks": [row], **_control_row(warehouse, network, row["network_id"])})
    return row["network_id"]


def _control_row(warehouse: Store, network: NetworkIdentity, network_id: int) -> dict[str, list[Row]]:
    """The row of control_networks, if the network is one. Its original was entered before."""
    if (control := network.control) is None:
        return {}
    row: Row = {"network_id": network_id, "control": control.kind, "seed": control.seed}
    return {"control_networks": [row | {"original_id": warehouse.find("networks", control.original)}]}


def original_of(warehouse: Store, network: NetworkIdentity) -> int | None:
    """The id of the network of which this one is an edit, or None if no edit made its weights."""
    rows = warehouse.rows(
        """
        select edits.fingerprint as edit, networks.fingerprint, networks.parent_network_id
        from networks inner join edits on networks.edit_id = edits.edit_id
        """
    )
    for edit, fingerprint, parent in rows.iter_rows():
        if edited_fingerprint(network.fingerprint, edit) == fingerprint:
            return parent
    return None


def edited_fingerprint(network: str, edit: str) -> str:
    """The fingerprint of an edited network. network: the fingerprint that it would have without the edit."""
    return fingerprints.of_values(network, edit)


def network_row(
    warehouse: Store, network: NetworkIdentity, *, parent_network_id: int | None = None, edit_id: int | None = None
) -> Row:
    """The row of `networks` for a new network."""
    return {
        "network_id": warehouse.next_id("networks"),
        "name": network.name,
        "architecture": network.architecture,
        "weights": network.weights,
        "preprocessing": network.preprocessing(),
        "classes": list(network.classes),
        "parent_network_id": parent_network_id,
        "edit_id": edit_id,
        "fingerprint": network.fingerprint,
    }


@dataclass(frozen=True)
class EnteredLayer:
    """A tap with its ids in the warehouse; its neurons are first_neuron, first_neuron + 1, …"""

    tap: Tap
    layer_id: int
    first_neuron: int
    fingerprint: str


def layer_fingerprint(network: NetworkIdentity, tap: Tap) -> str:
    """The fingerprint of a layer: of its network, and of how its output becomes one number per unit."""
    call = [] if tap.call is None else [tap.call]
    return fingerprints.of_values(network.fingerprint, tap.layer, tap.read_as, tap.image_axis, tap.unit_axis, *call)


def enter_layers(
    warehouse: Store, network: NetworkIdentity, network_id: int, taps: Sequence[Tap]
) -> list[EnteredLayer]:
    """The layers with their ids. Writes new ones with their neurons; logs layers whose name in views changes."""
    names = _layer_names(warehouse, network_id)
    modules = network.modules()
    entered = []
    for tap in taps:
        fingerprint = layer_fingerprint(network, tap)
        layer_id = warehouse.find("layers", fingerprint)
        if layer_id is None:
            layer_id = _enter_layer(warehouse, network_id, tap, modules, fingerprint)
        [first] = warehouse.rows(
            "select min(neuron_id) as first from neurons where layer_id = $layer", {"layer": layer_id}
        )["first"]
        entered.append(EnteredLayer(tap, layer_id, first, fingerprint))
    renamed = _layer_names(warehouse, network_id)
    for layer_id, name in names.items():
        if renamed[layer_id] != name:
            log.info(f"{name} is now named {renamed[layer_id]} in views and reports: it is recorded in two ways")
    return entered


def _layer_names(warehouse: Store, network_id: int) -> dict[int, str]:
    """layer_id → the name that views show."""
    query = "select layer_id, layer from named_layers where network_id = $network order by layer_id"
    return dict(warehouse.rows(query, {"network": network_id}).iter_rows())


def _enter_layer(
    warehouse: Store, network_id: int, tap: Tap, modules: Mapping[str, nn.Module | None], fingerprint: str
) -> int:
    layer_id, first = warehouse.next_id("layers"), warehouse.next_id("neurons")
    module = modules[tap.layer]
    norms = [NO_NORMS] * tap.units if module is None else hooks.weight_norms(module, tap.units)
    neurons = [(first + unit, layer_id, unit, *norms[unit]) for unit in range(tap.units)]
    columns = dict(zip(NEURONS, map(list, zip(*neurons, strict=True)), strict=True))
    types = [pa.int32(), pa.int32(), pa.int32(), pa.float64(), pa.float64(), pa.float64()]
    warehouse.write(
        {
            "neurons": pa.table(columns, schema=pa.schema(list(zip(NEURONS, types, strict=True)))),
            "layers": [
                {
                    "layer_id": layer_id,
                    "network_id": network_id,
                    "layer": tap.layer,
                    "pooling": tap.read_as,
                    "call": tap.call,
                    "position": _position(modules, tap.layer),
                    "fingerprint": fingerprint,
                }
            ],
        }
    )
    return layer_id


def _position(modules: Mapping[str, nn.Module | None], name: str) -> int:
    """The index of a module among a network's modules, by the first of its names."""
    first_names: dict[nn.Module, str] = {}
    for other_name, module in modules.items():
        if module is not None:
            first_names.setdefault(module, other_name)
    names = [
        other_name for other_name, module in modules.items() if module is None or first_names[module] == other_name
    ]
    module = modules[name]
    return names.index(name if module is None else first_names[module])


def enter_clip(warehouse: Store, clip: ClipIdentity) -> int:
    """The id of a CLIP. Writes it if it is new."""
    if (stored_id := warehouse.find("clips", clip.fingerprint)) is not None:
        return stored_id
    clip_id = warehouse.next_id("clips")
    row = {
        "clip_id": clip_id,
        "name": clip.name,
        "weights": clip.weights,
        "logit_scale": clip.logit_scale,
        "logit_bias": clip.logit_bias,
        "preprocessing": clip.preprocessing(),
        "fingerprint": clip.fingerprint,
    }
    warehouse.write({"clips": [row]})
    return clip_id


def clip_of_dissection(warehouse: Store, dissection_id: int) -> ClipIdentity:
    """The CLIP of a dissection, as it was entered; precision: of its last image embeddings."""
    [row] = warehouse.rows(
        """
        select
            clips.name,
            clips.weights,
            clips.logit_scale,
            clips.logit_bias,
            clips.fingerprint,
            max_by(extractions.precision, extraction_id) as precision
        from dissections
        join clips on dissections.clip_id = clips.clip_id
        join extractions on extractions.clip_id = clips.clip_id
        where dissection_id = $dissection_id
        group by all
        """,
        {"dissection_id": dissection_id},
    ).to_dicts()
    return ClipIdentity(**row)
