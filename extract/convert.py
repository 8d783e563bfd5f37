"""Tensors that other programs saved, as the file of arrays that a study can name.

convert(["layer4=target.pt"], Path("images.pt"), Path("texts.pt"), None, Path("features.safetensors"))

CLIP-Dissect keeps what it computes as .pt files: activations, and CLIP's features of images and of concepts.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from extract.arrays import CLASS, CONCEPTS, IMAGES, LAYER, open_arrays
from extract.study import StudyError


def convert(layers: Sequence[str], images: Path, texts: Path, classes: Path | None, output: Path) -> Path:
    """Write the file that [arrays] names from tensors that CLIP-Dissect saved; layers are texts NAME=FILE.

    Types stay as they are stored. The file is looked at before it gets its name. Raises StudyError.
    """
    files = {}
    for text in layers:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise StudyError(f"--layer {text}: write NAME=FILE, e.g. --layer layer4=target.pt")
        if LAYER + name in files:
            raise StudyError(f"--layer {name} is there twice")
        files[LAYER + name] = Path(file)
    files |= {IMAGES: images, CONCEPTS: texts} | ({CLASS: classes} if classes else {})
    if not output.absolute().parent.is_dir():
        raise StudyError(f"{output}: there is no folder {output.parent}; make it first")
    tensors = {key: _read_tensor(path) for key, path in files.items()}
    half = output.with_name(f"{output.name}.unfinished")
    try:
        save_file(tensors, half)
        _look_at(half, output)
        os.replace(half, output)
    finally:
        half.unlink(missing_ok=True)
    return output


def _look_at(half: Path, output: Path) -> None:
    try:
        open_arrays(half)
    except StudyError as error:
        raise StudyError(str(error).replace(str(half), str(output), 1)) from None


def _read_tensor(path: Path) -> Tensor:
    """A tensor from a .pt file, or whole numbers from a .txt file, one a line. Raises StudyError."""
    try:
        if path.suffix == ".txt":
            return torch.tensor([int(line) for line in path.read_text(encoding="utf-8").split()])
        tensor = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file") from None
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise StudyError(f"{path}: not a tensor that can be read: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(tensor, Tensor):
        raise StudyError(f"{path}: holds a {type(tensor).__name__}; a single tensor is needed")
    return tensor.detach().contiguous()
