"""The methods whose labels are judged: files of other tools, the dissections of a study, and controls of each.

methods = [*of_files(asked, layers, plan), *of_dissections(warehouse, ids)]
controls_of(methods[0])     # the same neurons with random labels, and with each other's labels
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dissectdb.did_you_mean import choices
from dissectdb.extract import fingerprints
from dissectdb.extract.judging.label_files import Label, LabelFileError, read_labels

if TYPE_CHECKING:
    from dissectdb.extract.warehouse_protocol import Store

NONE, RANDOM, SHUFFLED = "none", "random", "shuffled"
SEED = 0  # of the controls


class AskedFile(NamedTuple):
    """A file of labels as the command line names it: FILE, NAME=FILE, @LAYER=FILE or NAME@LAYER=FILE."""

    method: str
    layer: str | None
    path: Path

    @classmethod
    def parse(cls, text: str) -> AskedFile:
        """The file that the text names. Its stem is the method's name if none is given. Raises LabelFileError."""
        before, equals, after = text.partition("=")
        if not text.strip() or (equals and not after.strip() and not os.path.isfile(text)):
            raise LabelFileError(f"--labels {text!r}: names no file; give FILE, NAME=FILE or NAME@LAYER=FILE")
        if not equals or os.path.isfile(text):  # a path may hold an equals sign
            return cls(Path(text).stem, None, Path(text))
        name, _, layer = before.partition("@")
        return cls(name.strip() or Path(after).stem, layer.strip() or None, Path(after))


def asked_files(texts: Sequence[str]) -> list[AskedFile]:
    """The files that the texts name, once each of them could be read. Raises LabelFileError."""
    asked = [AskedFile.parse(text) for text in texts]
    for file in asked:
        read_labels(file.path, file.layer)
    return asked


class JudgedLayer(NamedTuple):
    """A layer with activations of all images of the split. Its neurons are first_neuron, first_neuron + 1, …"""

    layer_id: int
    name: str
    module: str
    first_neuron: int
    neurons: int


@dataclass(frozen=True)
class Method:
    """Labels of neurons. labels: layer_id → unit → label. choices: all labels that the method chooses from.

    templates: the prompts that its labels are embedded with. control: none, random or shuffled.
    """

    name: str
    templates: tuple[str, ...]
    choices: tuple[str, ...]
    labels: Mapping[int, Mapping[int, str]]
    dissection_id: int | None = None
    control: str = NONE

    def texts(self) -> set[str]:
        """The different labels of its neurons."""
        return {text for of_layer in self.labels.values() for text in of_layer.values()}

    def fingerprint(self, layer_id: int, classes_of: Mapping[str, Collection[str]]) -> str:
        """Of all that the numbers of a layer depend on, besides the activations and CLIP."""
        labels = sorted(self.labels[layer_id].items())
        ties = {text: sorted(classes_of[text]) for _, text in labels if text in classes_of}
        return fingerprints.of_values(1, self.templates, len(self.choices), labels, ties)  # 1: the version of this code


# ---------------------------------------------------------------- files


def of_files(
    asked: Sequence[AskedFile],
    layers: Sequence[JudgedLayer],
    templates: tuple[str, ...],
    names_taken: Collection[str],
) -> list[Method]:
    """The methods of files; several files of one name are one method. Raises LabelFileError.

    templates: the prompts for all of them. names_taken: the names of the study's own dissections.
    """
    collected: dict[str, _Collected] = {}
    for method, layer, path in asked:
        if method in names_taken:
            raise LabelFileError(f"{path}: a dissection of the study is named {method}; name the file: NAME={path}")
        of_method = collected.setdefault(method, _Collected(layers))
        for label in read_labels(path, layer):
            of_method.add(path, label)
    return [
        Method(name, templates, tuple(sorted({text for of in got.labels.values() for text in of.values()})), got.labels)
        for name, got in collected.items()
    ]


def refuse_strangers(warehouse: Store, asked: Sequence[AskedFile]) -> None:
    """Raises LabelFileError for labels of layers or units that no network of the warehouse has.

    It takes no model, so that a slip in a file is told before they are loaded.
    """
    rows = warehouse.rows(
        """
        select layer, max(module), max(neurons) from (
            select named_layers.layer_id, named_layers.layer, module, count(*) as neurons
            from named_layers inner join neurons using (layer_id) group by all
        )
        group by layer order by layer
        """
    ).rows()
    layers = [JudgedLayer(index, layer, module, 0, neurons) for index, (layer, module, neurons) in enumerate(rows)]
    of_files(asked, layers, (), ())


@dataclass
class _Collected:
    """The labels of one method, as they are read; each is checked against the layers of the warehouse."""

    layers: Sequence[JudgedLayer]
    labels: dict[int, dict[int, str]] = field(default_factory=dict)
    origins: dict[tuple[int, int], tuple[Path, int]] = field(default_factory=dict)  # file and line of each label

    def add(self, path: Path, label: Label) -> None:
        """Add a label. Raises LabelFileError if its layer or unit is unknown, or if the neuron has one already."""
        layer = self._layer(path, label)
        where = f"{path}, line {label.line}"
        if label.unit >= layer.neurons:
            raise LabelFileError(f"{where}: {layer.name} has no unit {label.unit}; it has 0 to {layer.neurons - 1}")
        if (first := self.origins.setdefault((layer.layer_id, label.unit), (path, label.line))) != (path, label.line):
            there = f"line {first[1]}" if first[0] == path else f"{first[0]}, line {first[1]}"
            raise LabelFileError(f"{where}: {layer.name} unit {label.unit} has a label in {there} too; delete one")
        self.labels.setdefault(layer.layer_id, {})[label.unit] = label.text

    def _layer(self, path: Path, label: Label) -> JudgedLayer:
        matches = [layer for layer in self.layers if layer.name == label.layer]
        matches = matches or [layer for layer in self.layers if layer.module == label.layer]
        if len(matches) == 1:
            return matches[0]
        where, name = f"{path}, line {label.line}", str(label.layer)
        if matches:
            ways = " or ".join(layer.name for layer in matches)
            raise LabelFileError(f"{where}: {name} is recorded in several ways; write {ways}")
        hint = choices(name, [layer.name for layer in self.layers])
        raise LabelFileError(
            f"{where}: the warehouse has no activations of the layer {name!r}; {hint}; extract it, or judge one layer "
            f"of the file: --labels {path.stem}@LAYER={path}"
        )


# ---------------------------------------------------------------- the study's own labels


def of_dissections(warehouse: Store, dissection_ids: Sequence[int], layers: Sequence[JudgedLayer]) -> list[Method]:
    """The labels of dissections of this warehouse, whose views must be built."""
    rows = warehouse.rows(
        """
        select dissections.dissection_id, scorer, concept_sets.name, templates, concept_set_id
        from dissections inner join concept_sets using (concept_set_id)
        where dissection_id in (select unnest($ids)) order by dissection_id
        """,
        {"ids": list(dissection_ids)},
    ).to_dicts()
    names = [f"{row['scorer']}, {row['name']}" for row in rows]
    methods = []
    for row, name in zip(rows, names, strict=True):
        own_name = name if names.count(name) == 1 else f"{name} (dissection {row['dissection_id']})"
        listed = warehouse.rows(
            "select concept from concepts where concept_set_id = $id order by position", {"id": row["concept_set_id"]}
        )
        labels = _stored_labels(warehouse, row["dissection_id"], layers)
        methods.append(
            Method(own_name, tuple(row["templates"]), tuple(listed["concept"]), labels, row["dissection_id"])
        )
    return methods


def _stored_labels(warehouse: Store, dissection_id: int, layers: Sequence[JudgedLayer]) -> dict[int, dict[int, str]]:
    """layer_id → unit → label."""
    rows = warehouse.rows(
        """
        select neuron_labels.layer_id, neurons.unit, concepts.concept
        from neuron_labels
        inner join neurons on neuron_labels.neuron_id = neurons.neuron_id
        inner join concepts on neuron_labels.concept_id = concepts.concept_id
        where neuron_labels.dissection_id = $id and neuron_labels.layer_id in (select unnest($layers))
        order by all
        """,
        {"id": dissection_id, "layers": [layer.layer_id for layer in layers]},
    )
    labels: dict[int, dict[int, str]] = {}
    for layer_id, unit, text in rows.iter_rows():
        labels.setdefault(layer_id, {})[unit] = text
    return labels


# ---------------------------------------------------------------- controls


def controls_of(method: Method) -> Iterator[Method]:
    """The same neurons with labels that are worth nothing: drawn from the method's list, and exchanged in a layer."""
    random, listed = np.random.default_rng([SEED, 0]), np.array(method.choices, dtype=object)
    drawn = {
        layer_id: dict(zip(of, random.choice(listed, len(of)), strict=True))
        for layer_id, of in sorted(method.labels.items())
    }
    yield replace(method, labels=drawn, control=RANDOM)
    random = np.random.default_rng([SEED, 1])
    exchanged = {
        layer_id: dict(zip(of, random.permutation(np.array(list(of.values()), dtype=object)), strict=True))
        for layer_id, of in sorted(method.labels.items())
    }
    yield replace(method, labels=exchanged, control=SHUFFLED)
