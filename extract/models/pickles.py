"""Read files of torch.save without running code from them.

values = read_pickle(Path("net.pt"))     # raises StudyError, one line

torch's restricted reader (weights_only) accepts tensors and plain containers. Files often also hold NumPy numbers,
options and dates beside the weights. These are replaced by objects that do nothing: no class or function that a file
names is imported or called.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dissectdb.extract.models.file_kinds import foreign_kind
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.text_files import one_line

MAX_UNPACKED = 10  # times the file's size; torch does not compress, so a normal checkpoint unpacks to its own size
MAX_NAMES = 40  # replaced in one file


class StandIn:
    """Replaces a value beside the weights. Its constructor accepts any arguments and ignores them."""

    def __new__(cls, *_: object, **__: object) -> StandIn:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


class EmptyDict:
    """Replaces a subclass of dict by OrderedDict, which torch's reader can fill."""

    def __new__(cls, *_: object, **__: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


# Names that are replaced. Replacing any other name would be as safe, but a file with other names is not a checkpoint:
# it is a whole pickled network, or malicious. It is refused.
BESIDE_WEIGHTS = re.compile(
    r"(numpy|argparse|collections|pathlib|datetime|decimal|fractions|uuid|typing|zoneinfo|omegaconf|yacs|easydict|addict"
    r"|ml_collections|mmcv|mmengine|pytorch_lightning|lightning|lightning_fabric|torchmetrics|torch\.optim)\.[\w.]+"
    r"|types\.SimpleNamespace|torch\.torch_version\.TorchVersion"
)
KINDS_OF_DICT = re.compile(r".*(Dict|defaultdict|CfgNode|HyperParameters)$")
PLAIN_TYPES = ("bool", "dict", "float", "frozenset", "int", "list", "object", "range", "slice", "str", "tuple")
USUAL = (
    "argparse.Namespace",
    "collections.defaultdict",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "pathlib.PosixPath",
)


def stand_in(name: str) -> tuple[type, str]:
    """The replacement for a name, as torch's reader takes it."""
    return (EmptyDict if KINDS_OF_DICT.fullmatch(name) else StandIn, name)


@contextmanager
def with_stand_ins(*names: str) -> Iterator[None]:
    """Inside the block, torch.load(weights_only=True) replaces the usual values beside weights, and `names`."""
    plain = [(StandIn, f"builtins.{name}") for name in PLAIN_TYPES]
    with torch.serialization.safe_globals([*plain, *map(stand_in, (*USUAL, *names))]):
        yield


def read_pickle(path: Path, mapped: bool = False) -> object:
    """The object that torch.save wrote; runs no code from the file. Raises StudyError.

    mapped: map the file into memory, so that values are read only when they are used.
    """
    names: list[str] = []
    try:
        _refuse_other_kinds(path)
        _refuse_bomb(path)
        while True:
            try:
                with warnings.catch_warnings(action="ignore"), with_stand_ins(*names):  # warnings are about old pickles
                    if mapped and zipfile.is_zipfile(path):
                        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                    with path.open("rb") as file:  # given a path, torch goes by its ending
                        return torch.load(file, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:
                match = re.search(r"GLOBAL ([\w.]+)", str(error))
                name = match[1] if match else ""
                if not BESIDE_WEIGHTS.fullmatch(name) or name in names or len(names) == MAX_NAMES:
                    raise
                names.append(name)
    except StudyError:
        raise
    except Exception as error:  # torch's reader of pickles may raise anything
        raise StudyError(f"{path}: {why_unreadable(error)}") from error


def refuse_unfit(path: Path, arrays: bool = False) -> None:
    """Raises StudyError for a file of another kind, and for one that would unpack to far more than its size.

    For files that a library reads instead of read_pickle. arrays: whether the library also reads NumPy's files.
    """
    try:
        if not arrays:
            _refuse_other_kinds(path)
        _refuse_bomb(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise StudyError(f"{path}: {why_unreadable(error)}") from error


def _refuse_other_kinds(path: Path) -> None:
    if kind := foreign_kind(path):
        raise StudyError(f"{path}: not a readable checkpoint: it is {kind}")


def _refuse_bomb(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        calls = _holds(path, b"bytearray")
    else:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            unpacked = sum(part.file_size for part in parts)
            if unpacked > MAX_UNPACKED * path.stat().st_size:
                raise StudyError(
                    f"{path}: would unpack to {unpacked / 1e6:,.0f} MB, which no checkpoint does; "
                    "save its state_dict() with torch.save"
                )
            calls = any(b"bytearray" in archive.read(part) for part in parts if part.filename.endswith(".pkl"))
    if calls:  # torch allows it, with any size
        raise StudyError(f"{path}: holds more than tensors (bytearray), of any size; save its state_dict() only")


def _holds(path: Path, word: bytes) -> bool:
    with path.open("rb") as file:
        end = b""
        while block := file.read(1 << 20):
            if word in end + block:
                return True
            end = block[-len(word) :]
    return False


def why_unreadable(error: Exception) -> str:
    """Why a file of weights could not be read, in one line."""
    if match := re.search(r"GLOBAL ([\w.]+)|(TorchScript)", str(error)):
        what = match[1] or match[2]
        return f"holds more than tensors ({what}), and loading it could run code; save its state_dict() only"
    if isinstance(error, pickle.UnpicklingError):  # its own message advises to run the code
        return "not a readable checkpoint: it holds more or other things than tensors; save its state_dict() only"
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"not a readable checkpoint: {one_line(first)}"
