"""Who is who in a warehouse: every thing that a study names, found by its content or entered with a new id.

warehouse: an open Warehouse; only its find, next_id, rows and write are used. Each function returns the id, and
enters what is missing in one transaction, so that a kill leaves a thing whole or absent.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa

from dissectdb.extract import fingerprints, study
from dissectdb.extract.images import sources
from dissectdb.extract.images.sources import Image, Source
from dissectdb.extract.models import hooks
from dissectdb.extract.models.clip import Clip
from dissectdb.extract.models.hooks import Tap
from dissectdb.extract.models.networks import Network, recipe_json
from dissectdb.extract.store import Store

IMAGES = pa.schema(
    [
        ("image_id", pa.int32()),
        ("split_id", pa.int32()),
        ("position", pa.int32()),
        ("path", pa.string()),
        ("class", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("thumbnail", pa.binary()),
        ("defect", pa.string()),
    ]
)
NEURONS = ("neuron_id", "layer_id", "unit", "weight_l1", "weight_l2", "bias")
SPLITS = ("train", "validation", "test")
IMAGES_AT_ONCE = 2048
CONCEPTS_AT_ONCE = 1024  # embedded in one transaction

log = logging.getLogger("dissectdb")


def now() -> datetime:
    """The time in UTC, as the tables keep it."""
    return datetime.now(UTC).replace(tzinfo=None)


def enter_dataset(
    warehouse: Store,
    settings: study.Dataset,
    source: Source,
    fingerprint: str,
    accept: Callable[[Counter[str]], None],
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> int:
    """Scan the images and enter them; a dataset with this content that is there already is not scanned again.

    accept: called with the number of sound images of each split; what it raises leaves the warehouse as it was.
    progress: called with the images that were looked at and, where it is known, those in all.
    """
    if (known := warehouse.find("datasets", fingerprint)) is not None:
        return known
    dataset_id = warehouse.next_id("datasets")
    first_split, first_image = warehouse.next_id("splits"), warehouse.next_id("images")
    names = (sources.ALL,) if settings.probing_split == sources.ALL else SPLITS
    split_ids = {split: first_split + place for place, split in enumerate(names)}
    dataset = {
        "dataset_id": dataset_id,
        "name": settings.name,
        "source": str(settings.path) if settings.path else settings.kind,
        "fingerprint": fingerprint,
    }

    with tempfile.TemporaryFile() as kept:  # scanned before anything is written, so that nobody waits for the scan
        accept(_scan(source, first_image, split_ids, kept, progress))
        kept.seek(0)
        warehouse.write(
            {
                "images": pa.ipc.open_stream(kept),
                "datasets": [dataset],
                "classes": [
                    {"dataset_id": dataset_id, "position": place, "class": name}
                    for place, name in enumerate(source.classes)
                ],
                "splits": [
                    {"split_id": split_id, "dataset_id": dataset_id, "split": split}
                    for split, split_id in split_ids.items()
                ],
                "left_out": [
                    {"dataset_id": dataset_id, "reason": reason, "detail": detail, "files": files}
                    for (reason, detail), files in source.left_out.items()
                ],
            }
        )
    return dataset_id


def _scan(
    source: Source,
    first_image: int,
    split_ids: Mapping[str, int],
    kept: BinaryIO,
    progress: Callable[[int, int | None], None],
) -> Counter[str]:
    """Put the rows of all images into a file; returns the number of sound ones of each split."""
    counts: Counter[str] = Counter()
    scan = _counted(source.scan(), source.count, progress)
    with pa.ipc.new_stream(kept, IMAGES) as rows:
        while some := list(islice(scan, IMAGES_AT_ONCE)):
            counts.update(image.split for image in some if image.defect is None)
            rows.write_table(_image_table(some, first_image, split_ids))
    return counts


def _counted(
    images: Iterator[Image], total: int | None, progress: Callable[[int, int | None], None]
) -> Iterator[Image]:
    for done, image in enumerate(images, start=1):
        yield image
        if done % 100 == 0 or done == total:
            progress(done, total)


def _image_table(images: Sequence[Image], first_image: int, split_ids: Mapping[str, int]) -> pa.Table:
    rows = [
        (
            first_image + image.position,
            split_ids[image.split],
            image.position,
            image.path,
            image.class_name,
            image.sha256,
            image.width,
            image.height,
            image.thumbnail,
            image.defect,
        )
        for image in images
    ]
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(c, field.type) for c, field in zip(columns, IMAGES, strict=True)], schema=IMAGES)


def sound_counts(warehouse: Store, dataset_id: int) -> Counter[str]:
    """Images without a defect in each split of a dataset."""
    rows = warehouse.rows(
        """
        select splits.split, count(images.image_id) as images
        from splits left join images on splits.split_id = images.split_id and images.defect is null
        where splits.dataset_id = $dataset_id group by splits.split
        """,
        {"dataset_id": dataset_id},
    )
    return Counter(dict(rows.rows()))


def enter_network(warehouse: Store, network: Network) -> int:
    """A network of a study, without layers; where an edit here made its weights, the row names the original."""
    if (known := warehouse.find("networks", network.fingerprint)) is not None:
        return known
    row = network_row(warehouse, network, parent_network_id=original_of(warehouse, network))
    warehouse.write({"networks": [row]})
    return row["network_id"]


def original_of(warehouse: Store, network: Network) -> int | None:
    """The network of which this one is an edit, if its weights are those of an edited network; else None."""
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
    """Of a network that an edit made: from what it is without that knowledge, and the edit."""
    return fingerprints.of_values(network, edit)


def network_row(
    warehouse: Store, network: Network, *, parent_network_id: int | None = None, edit_id: int | None = None
) -> dict[str, Any]:
    """A row of `networks` for a network that is not there yet."""
    return {
        "network_id": warehouse.next_id("networks"),
        "name": network.name,
        "architecture": network.architecture,
        "weights": network.weights,
        "preprocessing": recipe_json(network.recipe),
        "classes": list(network.classes),
        "parent_network_id": parent_network_id,
        "edit_id": edit_id,
        "fingerprint": network.fingerprint,
    }


@dataclass(frozen=True)
class EnteredLayer:
    """A tap with its ids; its neurons are first_neuron, first_neuron + 1, …"""

    tap: Tap
    layer_id: int
    first_neuron: int
    fingerprint: str


def layer_fingerprint(network: Network, tap: Tap) -> str:
    """Of the network and of how the layer's output becomes one number a unit."""
    call = [] if tap.call is None else [tap.call]
    return fingerprints.of_values(network.fingerprint, tap.layer, tap.pooling, tap.image_axis, tap.unit_axis, *call)


def enter_layers(warehouse: Store, network: Network, network_id: int, taps: Sequence[Tap]) -> list[EnteredLayer]:
    """The layers, each with its neurons. Says where a layer that is there already gets another name by it."""
    names = _layer_names(warehouse, network_id)
    modules = hooks.modules_by_name(network.model)
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
            log.info(f"{name} is named {renamed[layer_id]} in views and reports now: it is recorded in two ways")
    return entered


def _layer_names(warehouse: Store, network_id: int) -> dict[int, str]:
    """layer_id → the name that views show."""
    query = "select layer_id, layer from named_layers where network_id = $network order by layer_id"
    return dict(warehouse.rows(query, {"network": network_id}).iter_rows())


def _enter_layer(warehouse: Store, network_id: int, tap: Tap, modules: Mapping[str, Any], fingerprint: str) -> int:
    layer_id, first = warehouse.next_id("layers"), warehouse.next_id("neurons")
    norms = hooks.weight_norms(modules[tap.layer], tap.units)
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
                    "pooling": tap.pooling,
                    "call": tap.call,
                    "position": _position(modules, tap.layer),
                    "fingerprint": fingerprint,
                }
            ],
        }
    )
    return layer_id


def _position(modules: Mapping[str, Any], name: str) -> int:
    """The place of a module among all of a network; of one with several names, the place of the first."""
    firsts: dict[Any, str] = {}
    names = [each for each, module in modules.items() if module is None or firsts.setdefault(module, each) == each]
    return names.index(name if name in names else firsts[modules[name]])


def enter_clip(warehouse: Store, clip: Clip) -> int:
    """The row of a CLIP."""
    if (known := warehouse.find("clips", clip.fingerprint)) is not None:
        return known
    clip_id = warehouse.next_id("clips")
    row = {
        "clip_id": clip_id,
        "name": clip.name,
        "weights": clip.weights,
        "logit_scale": clip.logit_scale,
        "logit_bias": clip.logit_bias,
        "preprocessing": recipe_json(clip.recipe),
        "fingerprint": clip.fingerprint,
    }
    warehouse.write({"clips": [row]})
    return clip_id


def concept_set_fingerprint(settings: study.ConceptSet, classes_of: Mapping[str, Sequence[str]]) -> str:
    """Of concepts, their classes and the templates, in order; the name is not part of it."""
    return fingerprints.of_values(list(classes_of.items()), settings.templates)


def enter_concept_set(
    warehouse: Store, settings: study.ConceptSet, classes_of: Mapping[str, Sequence[str]], fingerprint: str
) -> int:
    """A concept set with its concepts and their classes."""
    if (known := warehouse.find("concept_sets", fingerprint)) is not None:
        return known
    set_id, first = warehouse.next_id("concept_sets"), warehouse.next_id("concepts")
    ids = {concept: first + position for position, concept in enumerate(classes_of)}
    pairs = [(ids[concept], name) for concept, names in classes_of.items() for name in names]
    warehouse.write(
        {
            "concepts": pa.table(
                {
                    "concept_id": list(ids.values()),
                    "concept_set_id": [set_id] * len(ids),
                    "position": list(range(len(ids))),
                    "concept": list(ids),
                }
            ),
            "concept_classes": pa.table(
                {
                    "concept_id": pa.array([concept for concept, _ in pairs], pa.int32()),
                    "class": pa.array([name for _, name in pairs], pa.string()),
                }
            ),
            "concept_sets": [
                {
                    "concept_set_id": set_id,
                    "name": settings.name,
                    "templates": list(settings.templates),
                    "fingerprint": fingerprint,
                }
            ],
        }
    )
    return set_id


def concepts_without_embedding(warehouse: Store, clip_id: int, concept_set_id: int) -> list[tuple[int, str]]:
    """(concept_id, concept) of the set's concepts that this CLIP has not embedded yet."""
    rows = warehouse.rows(
        """
        select concept_id, concept from concepts
        where concept_set_id = $set_id
        and concept_id not in (select concept_id from concept_embeddings where clip_id = $clip_id)
        order by position
        """,
        {"set_id": concept_set_id, "clip_id": clip_id},
    )
    return rows.rows()


def embed_concept_set(
    warehouse: Store,
    clip: Clip,
    clip_id: int,
    set_id: int,
    templates: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Embed what is not embedded yet, many concepts a transaction; what another set has of the same texts is taken.

    progress: called with the concepts done and those to do.
    """
    if same := embeddings_of_same_texts(warehouse, clip_id, set_id, templates):
        warehouse.write({"concept_embeddings": _embedding_table(clip_id, *zip(*same, strict=True))})
    missing = concepts_without_embedding(warehouse, clip_id, set_id)
    for start in range(0, len(missing), CONCEPTS_AT_ONCE):
        ids, names = zip(*missing[start : start + CONCEPTS_AT_ONCE], strict=True)
        embeddings = clip.embed_concepts(names, templates).tolist()
        warehouse.write({"concept_embeddings": _embedding_table(clip_id, ids, embeddings)})
        progress(start + len(ids), len(missing))


def embeddings_of_same_texts(
    warehouse: Store, clip_id: int, concept_set_id: int, templates: Sequence[str]
) -> list[tuple[int, list[float]]]:
    """(concept_id, embedding) of concepts without one that a set with the same templates has, for this CLIP."""
    rows = warehouse.rows(
        """
        select concepts.concept_id, arg_min(concept_embeddings.embedding, same.concept_id) as embedding
        from concepts
        inner join concepts as same on concepts.concept = same.concept
        inner join concept_sets on same.concept_set_id = concept_sets.concept_set_id
        inner join concept_embeddings on same.concept_id = concept_embeddings.concept_id
        where concepts.concept_set_id = $set_id
        and concept_sets.concept_set_id <> $set_id
        and concept_sets.templates = $templates
        and concept_embeddings.clip_id = $clip_id
        and concepts.concept_id not in (select concept_id from concept_embeddings where clip_id = $clip_id)
        group by concepts.concept_id
        order by concepts.concept_id
        """,
        {"set_id": concept_set_id, "clip_id": clip_id, "templates": list(templates)},
    )
    return rows.rows()


def _embedding_table(clip_id: int, concept_ids: Sequence[int], embeddings: Sequence[Sequence[float]]) -> pa.Table:
    return pa.table(
        {
            "clip_id": pa.array([clip_id] * len(concept_ids), pa.int32()),
            "concept_id": pa.array(concept_ids, pa.int32()),
            "embedding": pa.array(embeddings, pa.list_(pa.float32())),
        }
    )


def scale_table(edit_id: int, scales: Sequence[tuple[int, int, float]]) -> pa.Table:
    """Rows of `edit_scales` for (neuron_id, unit, scale)."""
    return pa.table(
        {
            "edit_id": pa.array([edit_id] * len(scales), pa.int32()),
            "neuron_id": pa.array([neuron for neuron, _, _ in scales], pa.int32()),
            "scale": pa.array([scale for _, _, scale in scales], pa.float64()),
        }
    )
