"""The datasets of torchvision by name, from files that are there already. Nothing is downloaded.

    load("torchvision:CIFAR10", {"root": "data"})   # train and test, each image with its split

If the class has an argument `train` or `split` that the study does not name, all its splits are united.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dissectdb.did_you_mean import did_you_mean
from dissectdb.extract.images.folders import SPLIT_FOLDERS
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.datasets import TORCHVISION
from dissectdb.extract.study.text_files import one_line

SPLIT_NAMES = ("train", "val", "valid", "test")


class WithSplits:
    """Datasets of several splits, one after the other; an item is a dict with image, label and split."""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        """parts: split → Dataset of (image, label)."""
        self.parts = parts
        self.classes = next((classes for part in parts.values() if (classes := getattr(part, "classes", None))), None)

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def __getitem__(self, index: int) -> dict[str, object]:
        for split, part in self.parts.items():
            if index < len(part):
                image, label = part[index]
                return {"image": image, "label": label, "split": split}
            index -= len(part)
        raise IndexError(index)


def load(path: str, arguments: Mapping[str, Any]) -> object:
    """The Dataset that torchvision:NAME names. Raises StudyError."""
    try:
        from torchvision import datasets
    except ImportError as error:
        raise StudyError(f"dataset.path: {path} needs torchvision: {error}") from error
    name = path.removeprefix(TORCHVISION)
    known = [each for each in datasets.__all__ if hasattr(getattr(datasets, each), "__getitem__")]
    if name not in known:
        hint = did_you_mean(name, known, 3, before="; ")
        raise StudyError(f"dataset.path: {path}: torchvision has no such dataset{hint}")
    kind = getattr(datasets, name)
    parameters = inspect.signature(kind).parameters
    if unknown := [key for key in arguments if key not in parameters]:
        raise StudyError(f"dataset.arguments: {path} has no {unknown[0]}; it has {', '.join(parameters)}")
    if arguments.get("download"):
        raise StudyError(f"dataset.arguments: download: {path} is read from files that are there; take download out")
    if "root" in parameters and "root" not in arguments:
        raise StudyError(f"dataset.arguments: {path} needs root, the folder with its files")
    if "train" in parameters and "train" not in arguments and "split" not in arguments:
        values = {"train": True, "test": False}
        return WithSplits({split: _opened(path, kind, {**arguments, "train": values[split]}) for split in values})
    if "split" in parameters and "split" not in arguments and "train" not in parameters:
        parts = {
            SPLIT_FOLDERS[split]: part
            for split in SPLIT_NAMES
            if (part := _opened(path, kind, {**arguments, "split": split}, may_lack_it=True)) is not None
        }
        if parts:
            return WithSplits(parts)
    return _opened(path, kind, arguments)


def _opened(path: str, kind: Any, arguments: Mapping[str, Any], *, may_lack_it: bool = False) -> Any:
    """The Dataset; None if it may lack the split and does. Raises StudyError."""
    try:
        return kind(**arguments)
    except ValueError as error:
        if may_lack_it and "argument split" in str(error):
            return None
        raise StudyError(f"{path}: {one_line(error)}") from error
    except Exception as error:
        root = arguments.get("root")
        if root is None:
            raise StudyError(f"{path} cannot be opened: {one_line(error)}") from error
        folder = Path(root) / _folder_of_files(kind)
        text = one_line(str(error).partition(" You can use download")[0] or type(error).__name__)
        raise StudyError(
            f"{path}: {text} Its files are expected in {folder}; dataset.arguments.root names the folder above. "
            f"To fetch them: torchvision.datasets.{kind.__name__}(root, download=True)"
        ) from error


def _folder_of_files(kind: Any) -> str:
    """The folder inside root that a class reads."""
    if isinstance(base := getattr(kind, "base_folder", None), str):
        return base
    return f"{kind.__name__}/raw" if hasattr(kind, "raw_folder") else ""
