"""Judge labels of neurons, whoever wrote them, on the activations of a warehouse.

judged = judge(warehouse, plan, files)     # rows of rivals, rival_layers, rival_labels, rival_quality, rival_intervals

Each method and its two controls are judged layer by layer, and each layer is written in one transaction. A layer whose
labels are judged already is skipped; one with other labels is judged anew. Formulas: docs/methods.md, section 9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from dissectdb.extract.judging.bootstrap import benjamini_hochberg
from dissectdb.extract.judging.comparisons import interval_table
from dissectdb.extract.judging.measures import RANGES
from dissectdb.extract.judging.pair_scores import score_labels
from dissectdb.extract.judging.probed_split import ProbedSplit, fold, open_probed_split
from dissectdb.extract.judging.rival_texts import TextIds, enter_texts, read_texts
from dissectdb.extract.judging.rivals import AskedFile, JudgedLayer, Method, controls_of, of_dissections, of_files
from dissectdb.extract.record.plan import Plan
from dissectdb.extract.warehouse_protocol import Store
from dissectdb.progress import Progress, Watch, part_of, unwatched

JUDGED = ("rival_layers", "rival_labels", "rival_quality", "rival_intervals")
QUALITIES = (*RANGES, "z", "p", "q")


def judge(warehouse: Store, plan: Plan, files: Sequence[AskedFile], watch: Watch = unwatched) -> bool:
    """Judge the labels of files and of the study's dissections; returns whether there was anything to do.

    Raises StudyError, LabelFileError; then nothing is written.
    """
    probed = open_probed_split(warehouse, plan)
    ours = of_dissections(warehouse, plan.dissection_ids(warehouse), probed.layers)
    theirs = of_files(files, probed.layers, probed.templates, {method.name for method in ours})
    own = [*ours, *theirs]
    methods = [controlled for method in own for controlled in (method, *controls_of(method))]
    outputs = {layer.layer_id: probed.outputs(layer) for layer in probed.layers}
    names = {name for of_layer in outputs.values() for name in of_layer}
    asked: dict[tuple[str, ...], set[str]] = {}
    for method in methods:
        asked.setdefault(method.templates, set(names)).update(method.texts())
    texts = enter_texts(warehouse, plan.clip, probed.clip_id, asked, watch)
    rival_ids = [_enter_rival(warehouse, probed, method) for method in methods]
    judged = False
    with watch("judging", unit="neurons") as progress:
        of_layers = part_of(progress)
        for layer in probed.layers:
            stale = list(_stale(probed, layer, methods, rival_ids))
            if not stale:
                continue
            judged = True
            gone = [rival_id for rival_id, _ in stale]
            warehouse.discard(_rows_of(layer), {"rivals": gone, "layer": layer.layer_id})
            present = [(rival_id, method) for rival_id, method in stale if method is not None]
            if present:
                with of_layers(layer.name, unit="neurons") as of_layer:
                    warehouse.write(Bench(probed, layer, outputs[layer.layer_id], texts, present).rows(of_layer))
    return judged


def _enter_rival(warehouse: Store, probed: ProbedSplit, method: Method) -> int:
    """The id of a method; its row is written if it is new."""
    key = {"network": probed.network_id, "split": probed.split_id, "clip": probed.clip_id, "method": method.name}
    stored = warehouse.rows(
        """
        select rival_id, dissection_id from rivals
        where network_id = $network and split_id = $split and clip_id = $clip and method = $method
        and control = $control
        """,
        key | {"control": method.control},
    ).rows()
    if stored and stored[0][1] == method.dissection_id:
        return int(stored[0][0])
    if stored:  # its name was that of another dissection, or of a file
        of_rival = dict.fromkeys((*JUDGED, "rivals"), "rival_id = $rival")
        of_rival["rival_intervals"] = "rival_id = $rival or other_rival_id = $rival"
        warehouse.discard(of_rival, {"rival": stored[0][0]})
    rival_id = warehouse.next_id("rivals")
    row = {
        "rival_id": rival_id,
        "network_id": probed.network_id,
        "split_id": probed.split_id,
        "clip_id": probed.clip_id,
        "method": method.name,
        "control": method.control,
        "dissection_id": method.dissection_id,
    }
    warehouse.write({"rivals": [row]})
    return rival_id


def _stale(
    probed: ProbedSplit, layer: JudgedLayer, methods: Sequence[Method], rival_ids: Sequence[int]
) -> Iterator[tuple[int, Method | None]]:
    """(rival_id, method) of the methods whose labels of a layer are not judged; None: it labels the layer no more."""
    rows = probed.warehouse.rows(
        "select rival_id, fingerprint from rival_layers where layer_id = $layer", {"layer": layer.layer_id}
    )
    stored: dict[int, str] = dict(rows.iter_rows())
    for rival_id, method in zip(rival_ids, methods, strict=True):
        if not method.labels.get(layer.layer_id):
            if rival_id in stored:
                yield rival_id, None
            continue
        classes_of = {text: probed.classes_of(text) for text in method.labels[layer.layer_id].values()}
        if stored.get(rival_id) != method.fingerprint(layer.layer_id, classes_of):
            yield rival_id, method


def _rows_of(layer: JudgedLayer) -> dict[str, str]:
    """table → which of its rows belong to some rivals in a layer."""
    of_rivals = "rival_id in (select unnest($rivals))"
    of_neurons = f"{of_rivals} and neuron_id in (select neuron_id from neurons where layer_id = $layer)"
    return {
        "rival_layers": f"{of_rivals} and layer_id = $layer",
        "rival_labels": of_neurons,
        "rival_quality": of_neurons,
        "rival_intervals": f"({of_rivals} or other_{of_rivals}) and layer_id = $layer",
    }


@dataclass
class Bench:
    """The labels of some methods in one layer, to be judged together."""

    probed: ProbedSplit
    layer: JudgedLayer
    outputs: tuple[str, ...]
    texts: TextIds
    rivals: Sequence[tuple[int, Method]]

    def rows(self, progress: Progress) -> dict[str, pa.Table]:
        """A unit with everything about these methods in this layer."""
        assigned = np.full((len(self.rivals), self.layer.neurons), -1)
        for row, (_, method) in enumerate(self.rivals):
            ids = self.texts[method.templates]
            for unit, text in method.labels[self.layer.layer_id].items():
                assigned[row, unit] = ids[text]
        text_ids, members = self._texts(assigned)
        embeddings = read_texts(self.probed.warehouse, text_ids.tolist())
        positions = np.where(assigned >= 0, np.searchsorted(text_ids, assigned), -1)
        scores = score_labels(
            self.probed.stored(self.layer), self.probed.probe, embeddings, members, positions, progress
        )
        for of_reference in scores.values():
            self._add_significance(of_reference)
        quality = self._quality_table(assigned, members, positions, scores)
        labels = self._label_table(assigned, embeddings, positions)
        judged = {rival_id for rival_id, _ in self.rivals}
        return {
            "rival_labels": labels,
            "rival_quality": quality,
            "rival_intervals": interval_table(self.probed, self.layer, judged, quality, labels),
            "rival_layers": self._ledger(),
        }

    def _texts(self, assigned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ids of the texts that are used, rising, and the classes (text, class) that they stand for."""
        ids = np.unique(assigned[assigned >= 0])
        text_of = {rival_text_id: text for of in self.texts.values() for text, rival_text_id in of.items()}
        members = np.zeros((len(ids), len(self.probed.class_names)), bool)
        for row, rival_text_id in enumerate(ids.tolist()):
            known = self.probed.classes_of(text_of[rival_text_id])
            members[row] = [name in known for name in self.probed.class_names]
        return ids, members

    def _add_significance(self, scores: dict[str, np.ndarray]) -> None:
        """p and q (method, neuron) from z. p: of the best of as many labels as the method chooses from."""
        single = torch.special.ndtr(-torch.from_numpy(scores["z"])).numpy()
        listed = np.array([len(method.choices) for _, method in self.rivals])
        scores["p"] = -np.expm1(listed[:, None] * np.log1p(-np.minimum(single, 1 - 1e-16)))
        scores["q"] = np.stack([benjamini_hochberg(p) for p in scores["p"]])

    # ------------------------------------------------------------ rows

    def _ledger(self) -> pa.Table:
        layer_id = self.layer.layer_id
        rows = [
            {
                "rival_id": rival_id,
                "layer_id": layer_id,
                "neurons": len(method.labels[layer_id]),
                "choices": len(method.choices),
                "fingerprint": method.fingerprint(
                    layer_id, {text: self.probed.classes_of(text) for text in method.labels[layer_id].values()}
                ),
            }
            for rival_id, method in self.rivals
        ]
        return pa.Table.from_pylist(rows)

    def _label_table(self, assigned: np.ndarray, embeddings: np.ndarray, positions: np.ndarray) -> pa.Table:
        """Rows of rival_labels; in an output layer with the name of each output."""
        methods, units = np.nonzero(assigned >= 0)
        rows = list(zip(methods.tolist(), units.tolist(), strict=True))
        output: list[str | None] = [None] * len(rows)
        names_output: list[bool | None] = [None] * len(rows)
        similarity: list[float | None] = [None] * len(rows)
        if self.outputs:
            texts = [self.rivals[method][1].labels[self.layer.layer_id][unit] for method, unit in rows]
            of_names = {templates: self._embeddings(templates, self.outputs) for templates in self.texts}
            names = [of_names[self.rivals[method][1].templates][unit] for method, unit in rows]
            output = [self.outputs[unit] for _, unit in rows]
            names_output = [fold(text) == fold(name) for text, name in zip(texts, output, strict=True) if name]
            similarity = (embeddings[positions[methods, units]] * np.stack(names)).sum(axis=1).tolist()
        return pa.table(
            {
                "rival_id": self._rival_ids[methods],
                "neuron_id": (units + self.layer.first_neuron).astype(np.int32),
                "rival_text_id": assigned[methods, units].astype(np.int32),
                "output": pa.array(output, pa.string()),
                "names_output": pa.array(names_output, pa.bool_()),
                "output_similarity": pa.array(similarity, pa.float64()),
            }
        )

    @property
    def _rival_ids(self) -> np.ndarray:
        return np.array([rival_id for rival_id, _ in self.rivals], np.int32)

    def _embeddings(self, templates: tuple[str, ...], texts: Sequence[str]) -> np.ndarray:
        """The embeddings (text, dimension) of texts, in their order."""
        ids = np.array([self.texts[templates][text] for text in texts])
        rising, places = np.unique(ids, return_inverse=True)
        return read_texts(self.probed.warehouse, rising.tolist())[places]

    def _quality_table(
        self,
        assigned: np.ndarray,
        members: np.ndarray,
        positions: np.ndarray,
        scores: Mapping[str, Mapping[str, np.ndarray]],
    ) -> pa.Table:
        """Rows of rival_quality: of each label by clip, and by class if the label stands for a class."""
        tables = []
        for reference, of_reference in scores.items():
            has_truth = members.any(axis=1) | (reference == "clip")
            methods, units = np.nonzero((assigned >= 0) & np.take(has_truth, positions))
            values = {name: of_reference[name][methods, units] for name in QUALITIES}
            tables.append(
                pa.table(
                    {
                        "rival_id": self._rival_ids[methods],
                        "neuron_id": (units + self.layer.first_neuron).astype(np.int32),
                        "reference": pa.array([reference] * len(units), pa.string()),
                        **{name: pa.array(column, mask=np.isnan(column)) for name, column in values.items()},
                    }
                )
            )
        return pa.concat_tables(tables)
