"""Open and check the safetensors file of a study of arrays: activations and embeddings computed elsewhere.

arrays = open_arrays(Path("features.safetensors"))    # reads the header and the classes
arrays.floats("layer/conv1", range(4096))             # rows as float32

studies/arrays.toml describes the file. It is read in slices of rows, one layer at a time, so memory does not grow with
the number of images.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dissectdb.did_you_mean import choices
from dissectdb.extract import fingerprints
from dissectdb.extract.record.arrays_sparse import SparseLayer, sparse_layers
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.class_names import MAX_CLASSES

LAYER = "layer/"
IMAGES, CONCEPTS, CLASS, PREDICTED = "image_embedding", "concept_embedding", "class", "predicted"
FLOATS = ("F16", "BF16", "F32", "F64")
WHOLES = ("I8", "I16", "I32", "I64", "U8")
PATHS = "paths"  # in the file's metadata: the images' paths
ROWS_AT_ONCE = 4096
BYTES_AT_ONCE = 1 << 26  # of a layer with places, as float32


@dataclass(frozen=True)
class Arrays:
    """An open file whose keys, types and shapes were checked.

    shapes: of each key; a sparse layer is one key. classes: the names of the class numbers in the file. grid: rows and
    columns of the layers with places.
    """

    path: Path
    handle: safe_open
    shapes: Mapping[str, tuple[int, ...]]
    classes: tuple[str, ...] = ()
    fingerprint: str = ""
    sparse: Mapping[str, SparseLayer] = field(default_factory=dict)  # layer → its values
    grid: tuple[int, int] | None = None

    @property
    def count(self) -> int:
        """How many images there are."""
        return self.shapes[IMAGES][0]

    def layers(self) -> dict[str, int]:
        """Layer → its number of units, sorted by name with numbers in order: 2 before 10."""
        keys = sorted((key for key in self.shapes if key.startswith(LAYER)), key=_natural)
        return {key.removeprefix(LAYER): self.shapes[key][-1] for key in keys}

    def has_places(self, layer: str) -> bool:
        """Whether a layer is N × T × K, with a value of each unit for each place."""
        return len(self.shapes[LAYER + layer]) == 3

    def maps(self, layer: str, rows: Sequence[int]) -> Iterator[np.ndarray]:
        """A layer with places as maps (image, unit, row, column), some rows at a time. Raises StudyError as floats."""
        assert self.grid is not None
        at_once = max(BYTES_AT_ONCE // (4 * math.prod(self.shapes[LAYER + layer][1:])), 1)
        for start in range(0, len(rows), at_once):
            values = self.floats(LAYER + layer, rows[start : start + at_once])
            yield values.transpose(0, 2, 1).reshape(len(values), -1, *self.grid)

    def floats(self, key: str, rows: Sequence[int]) -> np.ndarray:
        """Rows as float32, at ascending positions. Raises StudyError if a number is not finite."""
        values = self._read(key, rows).float()
        sound = torch.isfinite(values).flatten(1).all(1)
        self._refuse(key, rows, ~sound, "is NaN or infinite, or too large for float32,")
        return values.numpy()

    def directions(self, key: str, rows: Sequence[int]) -> np.ndarray:
        """Rows as float32 of unit length. Raises StudyError for a row of zeros or a number that is not finite."""
        values = self._read(key, rows).double()
        self._refuse(key, rows, ~torch.isfinite(values).all(1), "is NaN or infinite")
        norms = values.norm(dim=1, keepdim=True)
        self._refuse(key, rows, ~((norms > 0) & torch.isfinite(norms))[:, 0], "has no direction: it is all zeros")
        return (values / norms).float().numpy()

    def numbers(self, key: str, rows: Sequence[int]) -> list[int]:
        """Rows of whole numbers."""
        return self._read(key, rows).tolist()

    def _read(self, key: str, rows: Sequence[int]) -> Tensor:
        """Rows of an array as they are, read in slices: images that are left out may lie between them."""
        array, positions, parts = self.handle.get_slice(key), np.asarray(rows), []
        while len(positions):
            first = int(positions[0])
            wanted, positions = np.split(positions, [np.searchsorted(positions, first + ROWS_AT_ONCE)])
            part = array[first : int(wanted[-1]) + 1]
            parts.append(part if len(part) == len(wanted) else part[torch.from_numpy(wanted - first)])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _refuse(self, key: str, rows: Sequence[int], bad: Tensor, what: str) -> None:
        if bad.any():
            kind = f"layer {key.removeprefix(LAYER)}" if key.startswith(LAYER) else key
            raise StudyError(f"{self.path}: {kind} {what} in row {rows[int(bad.nonzero()[0])]}")


def open_arrays(
    path: Path, classes: Sequence[str] = (), of_dataset: Sequence[str] = (), grid: Sequence[int] | None = None
) -> Arrays:
    """Open a file, check keys, types and shapes, and read the class numbers. Raises StudyError.

    classes: the names of the numbers. of_dataset: the names if there are none in classes. grid: rows and columns of
    layers with places.
    """
    if not path.is_file():
        raise StudyError(f"{path}: no such file of arrays")
    try:
        handle = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise StudyError(f"{path}: not a readable safetensors file: {error}") from error
    shapes = {key: tuple(handle.get_slice(key).get_shape()) for key in handle.keys()}  # noqa: SIM118
    sparse = sparse_layers(path, handle, shapes)
    dense = {key: shape for key, shape in shapes.items() if key.rpartition("/")[0].removeprefix(LAYER) not in sparse}
    of_sparse = {LAYER + name: (len(layer.indptr) - 1, layer.units) for name, layer in sparse.items()}
    rows_and_columns = (grid[0], grid[1]) if grid else None
    arrays = Arrays(path, handle, dense | of_sparse, sparse=sparse, grid=rows_and_columns)
    _check_keys(arrays)
    for key in dense:
        _check_type(arrays, key)
    _check_shapes(arrays)
    _check_places(arrays)
    names = _class_names(arrays, tuple(classes), tuple(of_dataset))
    return replace(arrays, classes=names, fingerprint=fingerprints.of_file(path))


def _check_keys(arrays: Arrays) -> None:
    allowed = (IMAGES, CONCEPTS, CLASS, PREDICTED)
    present = sorted(arrays.shapes, key=_natural)
    for key in (IMAGES, CONCEPTS):
        if key not in arrays.shapes:
            raise StudyError(f"{arrays.path}: there is no {key}; {choices(key, present)}")
    if not any(key.startswith(LAYER) for key in arrays.shapes):
        raise StudyError(f"{arrays.path}: there is no layer/<name>; {choices(LAYER, present)}")
    if strange := [key for key in arrays.shapes if key not in allowed and not key.startswith(LAYER)]:
        raise StudyError(
            f"{arrays.path}: {strange[0]} is not one of {', '.join(allowed)}, layer/<name>; "
            f"{choices(strange[0], present)}"
        )


def _check_type(arrays: Arrays, key: str) -> None:
    allowed, axes = (WHOLES, 1) if key in (CLASS, PREDICTED) else (FLOATS, 2)
    kind, shape = arrays.handle.get_slice(key).get_dtype(), arrays.shapes[key]
    if kind not in allowed:
        raise StudyError(f"{arrays.path}: {key} is of type {kind}; it must be one of {', '.join(allowed)}")
    with_places = key.startswith(LAYER) and len(shape) == 3
    if not (len(shape) == axes or with_places) or 0 in shape:
        raise StudyError(f"{arrays.path}: {key} is {shape_text(shape)}; it must have {axes} axes, none of them empty")


def _check_shapes(arrays: Arrays) -> None:
    """Raises StudyError unless all arrays have a row per image, and both embeddings the same width."""
    expected, width = arrays.shapes[IMAGES]
    for key, shape in arrays.shapes.items():
        message = f"{arrays.path}: {key} is {shape_text(shape)}, {IMAGES} is {shape_text(arrays.shapes[IMAGES])}"
        if key != CONCEPTS and shape[0] != expected:
            raise StudyError(f"{message}: both must have one row per image")
        if key == CONCEPTS and shape[1] != width:
            raise StudyError(f"{message}: both must have the width of the same CLIP")


def _check_places(arrays: Arrays) -> None:
    """Raises StudyError unless all layers with places have those of the grid, and a grid has such a layer."""
    with_places = [key for key in arrays.shapes if key.startswith(LAYER) and len(arrays.shapes[key]) == 3]
    for key in with_places:
        message = f"{arrays.path}: {key} is {shape_text(arrays.shapes[key])}, of {arrays.shapes[key][1]} places"
        if arrays.grid is None:
            raise StudyError(f"{message}; say in arrays.grid = [rows, columns] how they lie in the image")
        if arrays.shapes[key][1] != math.prod(arrays.grid):
            raise StudyError(
                f"{message}, but arrays.grid = {list(arrays.grid)} has {math.prod(arrays.grid)}; leave class tokens "
                "and registers out of the file"
            )
    if arrays.grid and not with_places:
        raise StudyError(f"arrays.grid: {arrays.path} has no layer/<name> of N × T × K, so no places; take it out")


def _class_names(arrays: Arrays, names: tuple[str, ...], of_dataset: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the classes. Raises StudyError for a class number that is too large or negative."""
    keys = [key for key in (CLASS, PREDICTED) if key in arrays.shapes]
    if not keys and names:
        raise StudyError(f"arrays.classes: {arrays.path} has no class and no predicted, so no classes to name")
    hint = "" if names or not of_dataset else ", the classes of the dataset; arrays.classes may name others"
    names = names or of_dataset
    highest, limit = -1, len(names) or MAX_CLASSES
    for key in keys:
        for start, stop in slices(arrays.count):
            numbers = arrays.numbers(key, range(start, stop))
            highest = max(highest, *numbers)
            if bad_rows := [row for row, number in enumerate(numbers, start) if not 0 <= number < limit]:
                value = numbers[bad_rows[0] - start]
                raise StudyError(
                    f"{arrays.path}: {key} is {value} in row {bad_rows[0]}; classes go from 0 to {limit - 1}{hint}"
                )
    return names or tuple(f"class {number}" for number in range(highest + 1))


def slices(count: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of slices of ROWS_AT_ONCE rows each, for `count` rows in all."""
    for start in range(0, count, ROWS_AT_ONCE):
        yield start, min(start + ROWS_AT_ONCE, count)


def shape_text(shape: Sequence[int]) -> str:
    """A shape as a message shows it: 300 × 16."""
    return " × ".join(map(str, shape)) or "a single number"


def _natural(key: str) -> list[tuple[int, str]]:
    """A sort key that puts 2 before 10. Digits are compared as text, because int() limits their number."""
    parts = ((part, part.lstrip("0")) for part in re.split(r"(\d+)", key))
    return [(len(digits), digits) if part.isdecimal() else (-1, part) for part, digits in parts]
