"""Sparse layers of a file of arrays: CSR, as scipy.sparse.csr_matrix and torch.sparse_csr hold it.

layers = sparse_layers(path, handle, shapes)   # name → SparseLayer; reads only indptr and shape
rows = layers["features"].read(range(4096))    # a block's images
rows.dense(0, 1024)                            # (4096, 1024) float32, the only dense form

The parts are layer/<name>/indptr (N + 1), /indices, /data and /shape (N, K). What is not in the file is zero, which is
a value like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors import safe_open

from dissectdb.extract.record.blocks import ACTIVATIONS, Block, activation_batches
from dissectdb.extract.record.summaries import sum_up, summary_tables
from dissectdb.extract.study import StudyError
from dissectdb.extract.warehouse_protocol import TableRows

PARTS = ("indptr", "indices", "data", "shape")
MARKS = ("indptr", "indices")  # a layer with either is sparse
FLOATS, WHOLES = ("F16", "BF16", "F32", "F64"), ("I8", "I16", "I32", "I64", "U8")
MOST_NEURONS = 1 << 24  # of a layer; each is a row, so that a shape that is damaged would fill the memory
ROWS_AT_ONCE = 4096
NEURONS_AT_ONCE = 1024  # that are dense at a time: 16 MB for a block of 4,096 images


@dataclass(frozen=True)
class SparseRows:
    """Some rows of a sparse layer. The values are in the order of neurons, then of rows."""

    count: int
    neurons: np.ndarray  # (value,)
    rows: np.ndarray  # (value,), from 0
    values: np.ndarray  # (value,) float32

    def dense(self, first: int, last: int) -> np.ndarray:
        """(row, neuron) float32 of neurons first … last - 1."""
        own = slice(*np.searchsorted(self.neurons, [first, last]))
        columns = np.zeros((self.count, last - first), np.float32)
        columns[self.rows[own], self.neurons[own] - first] = self.values[own]
        return columns


@dataclass(frozen=True)
class SparseLayer:
    """A sparse layer of an open file. units: K. indptr (N + 1): where in the file each row's values begin and end."""

    path: Path
    handle: safe_open
    name: str
    units: int
    indptr: np.ndarray

    def read(self, positions: Sequence[int]) -> SparseRows:
        """The rows at ascending positions.

        Raises StudyError for a neuron that does not exist or is there twice in a row, and a number that is not finite.
        """
        wanted = np.asarray(positions)
        starts = np.searchsorted(wanted, range(int(wanted[0]), int(wanted[-1]) + 1, ROWS_AT_ONCE))
        parts = [self._read(own, start) for start, own in zip(starts, np.split(wanted, starts[1:]), strict=True)]
        rows, neurons, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        self._refuse(wanted[rows[~np.isfinite(values)]], "is NaN or infinite, or too large for float32,")
        outside = (neurons < 0) | (neurons >= self.units)
        if outside.any():
            index = neurons[outside.argmax()]
            self._refuse(
                wanted[rows[outside]], f"has the index {index}; its {self.units} neurons go from 0 to {self.units - 1}:"
            )
        keys = neurons * len(wanted) + rows
        order = np.argsort(keys, kind="stable")
        repeated = order[1:][keys[order[1:]] == keys[order[:-1]]]
        if len(repeated):
            self._refuse(wanted[rows[repeated]], f"has the index {neurons[repeated[0]]} twice")
        return SparseRows(len(wanted), neurons[order], rows[order], values[order])

    def _read(self, wanted: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row (counted from `start`), neuron and value of each value of some rows that lie close together."""
        if not len(wanted):
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        first, last = int(wanted[0]), int(wanted[-1])
        ends = self.indptr[first : last + 2]
        places = np.full(last + 1 - first, -1)
        places[wanted - first] = np.arange(start, start + len(wanted))
        rows = np.repeat(places, np.diff(ends))
        sound = rows >= 0  # rows of images that are left out may hold anything
        neurons = self._slice("indices", ends).long().numpy()
        return rows[sound], neurons[sound], self._slice("data", ends).float().numpy()[sound]

    def _slice(self, part: str, ends: np.ndarray) -> torch.Tensor:
        if ends[0] == ends[-1]:
            return torch.empty(0)
        values: torch.Tensor = self.handle.get_slice(f"layer/{self.name}/{part}")[int(ends[0]) : int(ends[-1])]
        return values

    def _refuse(self, rows: np.ndarray, what: str) -> None:
        if len(rows):
            raise StudyError(f"{self.path}: layer {self.name} {what} in row {rows[0]}")


def sparse_layers(path: Path, handle: safe_open, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, SparseLayer]:
    """The sparse layers of a file by name; their parts fit together. shapes: of all keys. Raises StudyError."""
    keys = [key for key in shapes if key.startswith("layer/") and key.count("/") > 1]
    names = sorted({key.rpartition("/")[0] for key in keys if key.rpartition("/")[2] in MARKS})
    return {key.removeprefix("layer/"): _open(path, handle, shapes, key) for key in names}


def _open(path: Path, handle: safe_open, shapes: Mapping[str, tuple[int, ...]], key: str) -> SparseLayer:
    def refuse(what: str) -> StudyError:
        return StudyError(f"{path}: {key} is sparse, and {what}")

    if key in shapes:
        raise refuse("there is a dense array of the same name")
    if absent := [part for part in PARTS if f"{key}/{part}" not in shapes]:
        raise refuse(f"there is no {key}/{absent[0]}; write {', '.join(PARTS)}")
    for part in PARTS:
        kind, axes = handle.get_slice(f"{key}/{part}").get_dtype(), len(shapes[f"{key}/{part}"])
        allowed = FLOATS if part == "data" else WHOLES
        if kind not in allowed or axes != 1:
            raise refuse(f"its {part} is of type {kind} with {axes} axes; it must have one, of {', '.join(allowed)}")
    shape = handle.get_tensor(f"{key}/shape").tolist()
    if len(shape) != 2 or min(shape) < 1:
        raise refuse(f"its shape is {shape}; it must be [images, neurons]")
    if shape[1] > MOST_NEURONS:
        raise refuse(
            f"its shape says {shape[1]:,} neurons; a layer has at most {MOST_NEURONS:,}; write [images, neurons]"
        )
    indptr = handle.get_tensor(f"{key}/indptr").long().numpy()
    if len(indptr) != shape[0] + 1:
        raise refuse(f"its indptr has {len(indptr)} numbers for {shape[0]} rows; it must have one more than rows")
    if (falls := np.flatnonzero(np.diff(indptr) < 0)).size:
        raise refuse(f"its indptr falls from {indptr[falls[0]]} to {indptr[falls[0] + 1]} in row {falls[0]}")
    indices, data = (shapes[f"{key}/{part}"][0] for part in ("indices", "data"))
    if indices != data:
        raise refuse(f"its indices are {indices}, its data {data} numbers: both must be equally long")
    if (indptr[0], indptr[-1]) != (0, data):
        raise refuse(f"its indptr goes from {indptr[0]} to {indptr[-1]}; it must go from 0 to {data}, as data")
    return SparseLayer(path, handle, key.removeprefix("layer/"), shape[1], indptr)


def sparse_tables(layer: SparseLayer, positions: Sequence[int], block: Block, first_neuron: int) -> Iterator[TableRows]:
    """As layer_tables, for the rows of a block. The activations are dense, some neurons at a time, if they are read."""
    rows, image_ids = layer.read(positions), block.image_ids()
    chunks = [(start, min(start + NEURONS_AT_ONCE, layer.units)) for start in range(0, layer.units, NEURONS_AT_ONCE)]
    batches = (
        batch
        for start, stop in chunks
        for batch in activation_batches(rows.dense(start, stop), image_ids, first_neuron + start)
    )
    yield "activations", pa.RecordBatchReader.from_batches(ACTIVATIONS, batches)
    for start, stop in chunks:
        summary = sum_up(rows.dense(start, stop))
        yield from summary_tables(summary, image_ids, first_neuron + start, block.split_id, block.number)
