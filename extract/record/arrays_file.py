"""Open and check the safetensors file of a study of arrays: activations and embeddings computed elsewhere.

arrays = open_arrays(Path("features.safetensors"))    # reads the header and the classes
arrays.floats("layer/conv1", 0, 4096)                 # rows as float32

studies/arrays.toml describes the file. It is read in slices of rows, one layer at a time, so memory does not grow with
the number of images.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dissectdb.did_you_mean import choices
from dissectdb.extract import fingerprints
from dissectdb.extract.study import StudyError

LAYER = "layer/"
IMAGES, CONCEPTS, CLASS, PREDICTED = "image_embedding", "concept_embedding", "class", "predicted"
FLOATS = ("F16", "BF16", "F32", "F64")
WHOLES = ("I8", "I16", "I32", "I64", "U8")
MAX_CLASSES = 100_000
ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Arrays:
    """An open file whose keys, types and shapes were checked. classes: the names of the class numbers in it."""

    path: Path
    handle: safe_open
    shapes: Mapping[str, tuple[int, ...]]
    classes: tuple[str, ...] = ()
    fingerprint: str = ""

    @property
    def count(self) -> int:
        """How many images there are."""
        return self.shapes[IMAGES][0]

    def layers(self) -> dict[str, int]:
        """Layer → its number of units, sorted by name with numbers in order: 2 before 10."""
        keys = sorted((key for key in self.shapes if key.startswith(LAYER)), key=_natural)
        return {key.removeprefix(LAYER): self.shapes[key][1] for key in keys}

    def floats(self, key: str, start: int, stop: int) -> np.ndarray:
        """Rows as float32. Raises StudyError if a number is not finite."""
        rows = self.handle.get_slice(key)[start:stop].float()
        self._refuse(key, start, ~torch.isfinite(rows).all(1), "is NaN or infinite, or too large for float32,")
        return rows.numpy()

    def directions(self, key: str, start: int, stop: int) -> np.ndarray:
        """Rows as float32 of unit length. Raises StudyError for a row of zeros or a number that is not finite."""
        rows = self.handle.get_slice(key)[start:stop].double()
        self._refuse(key, start, ~torch.isfinite(rows).all(1), "is NaN or infinite")
        norms = rows.norm(dim=1, keepdim=True)
        self._refuse(key, start, ~((norms > 0) & torch.isfinite(norms))[:, 0], "has no direction: it is all zeros")
        return (rows / norms).float().numpy()

    def numbers(self, key: str, start: int, stop: int) -> list[int]:
        """Rows of whole numbers."""
        return self.handle.get_slice(key)[start:stop].tolist()

    def _refuse(self, key: str, start: int, bad: Tensor, what: str) -> None:
        if bad.any():
            kind = f"layer {key.removeprefix(LAYER)}" if key.startswith(LAYER) else key
            raise StudyError(f"{self.path}: {kind} {what} in row {start + int(bad.nonzero()[0])}")


def open_arrays(path: Path, classes: Sequence[str] = ()) -> Arrays:
    """Open a file, check keys, types and shapes, and read the class numbers. Raises StudyError."""
    if not path.is_file():
        raise StudyError(f"{path}: no such file of arrays")
    try:
        handle = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise StudyError(f"{path}: not a readable safetensors file: {error}") from error
    arrays = Arrays(path, handle, {key: tuple(handle.get_slice(key).get_shape()) for key in handle.keys()})  # noqa: SIM118
    _check_keys(arrays)
    for key in arrays.shapes:
        _check_type(arrays, key)
    _check_shapes(arrays)
    names = _class_names(arrays, tuple(classes))
    return Arrays(path, handle, arrays.shapes, names, fingerprints.of_file(path))


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
    if len(shape) != axes or 0 in shape:
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


def _class_names(arrays: Arrays, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the classes. Raises StudyError for a class number that is too large or negative."""
    keys = [key for key in (CLASS, PREDICTED) if key in arrays.shapes]
    if not keys and names:
        raise StudyError(f"arrays.classes: {arrays.path} has no class and no predicted, so no classes to name")
    highest, limit = -1, len(names) or MAX_CLASSES
    for key in keys:
        for start, stop in slices(arrays.count):
            numbers = arrays.numbers(key, start, stop)
            highest = max(highest, *numbers)
            if bad_rows := [row for row, number in enumerate(numbers, start) if not 0 <= number < limit]:
                value = numbers[bad_rows[0] - start]
                raise StudyError(
                    f"{arrays.path}: {key} is {value} in row {bad_rows[0]}; classes go from 0 to {limit - 1}"
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
