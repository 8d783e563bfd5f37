"""Read the weights of a TorchScript archive, as OpenAI publishes CLIP, without running its code.

is_archive(path)
read(path)     # {"visual.conv1.weight": …}

torch.jit.load would compile the archive's code. Here only its pickle of values is read: a class of the archive becomes
an empty object with attributes, and the only function that is called makes a tensor of stored bytes.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dissectdb.extract.models import pickles

KINDS = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
MAX_DEPTH = 100  # of modules within modules


class Part:
    """A module of the archive: its attributes, and nothing that runs."""

    def __setstate__(self, attributes: object) -> None:
        self.attributes = attributes if isinstance(attributes, dict) else {}


def is_archive(path: Path) -> bool:
    """Whether torch.jit.save wrote the file: a zip archive with code and values."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any("/code/" in name for name in names) and any(name.endswith("/data.pkl") for name in names)


def read(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of the archive's module, by name. Raises StudyError and errors of damaged archives."""
    pickles.refuse_unfit(path)
    with zipfile.ZipFile(path) as archive:
        values = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        root = values.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise pickle.UnpicklingError("bytes in big-endian order")
        module = _Values(archive, root, archive.read(values)).load()
    return dict(_named_tensors(module, ""))


def _named_tensors(part: object, prefix: str, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if not isinstance(part, Part) or depth > MAX_DEPTH:
        return
    for name, value in getattr(part, "attributes", {}).items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        else:
            yield from _named_tensors(value, f"{prefix}{name}.", depth + 1)


class _Values(pickle.Unpickler):
    """Reads the values of an archive. It finds no class or function but those below."""

    def __init__(self, archive: zipfile.ZipFile, root: str, values: bytes) -> None:
        super().__init__(io.BytesIO(values))
        self.archive = archive
        self.root = root

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return type(name, (Part,), {})
        if module == "torch" and name in KINDS:
            return KINDS[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *values: _tensor(*values)  # a new one each time, because a pickle may set attributes of it
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("torch", "torch.jit._pickle"):  # devices, lists of numbers: beside the weights
            return pickles.StandIn
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")

    def persistent_load(self, key: Any) -> Tensor:
        """The stored bytes that a tensor is made of."""
        _, kind, name, *_ = key
        values = bytearray(self.archive.read(f"{self.root}data/{name}"))
        return torch.frombuffer(values, dtype=kind) if values else torch.empty(0, dtype=kind)


def _tensor(stored: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return stored.as_strided(size, stride, offset)
