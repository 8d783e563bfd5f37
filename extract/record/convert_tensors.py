"""Convert tensors that other programs saved into one file for a study of arrays.

convert(["layer4=target.pt"], Path("images.pt"), Path("texts.pt"), None, Path("features.safetensors"))

CLIP-Dissect saves its results as .pt files: activations, and CLIP's features of images and of concepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from dissectdb.extract.models.pickles import StandIn, read_pickle
from dissectdb.extract.record.arrays_file import CLASS, CONCEPTS, IMAGES, LAYER, open_arrays
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.text_files import MEGABYTE, one_line, read_text
from dissectdb.output import replacing

MAX_LIST_BYTES = 64 * MEGABYTE  # of numbers as text: about 20 million images


def convert(layers: Sequence[str], images: Path, texts: Path, classes: Path | None, output: Path) -> Path:
    """Write a file for [arrays] from tensors that CLIP-Dissect saved. layers: texts NAME=FILE.

    The tensors keep their types. The file is checked before it gets its final name. Raises StudyError.
    """
    files = {}
    for text in layers:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise StudyError(f"--layer {text}: write NAME=FILE, e.g. --layer layer4=target.pt")
        if LAYER + name in files:
            raise StudyError(f"--layer {name} appears twice")
        files[LAYER + name] = Path(file)
    files |= {IMAGES: images, CONCEPTS: texts} | ({CLASS: classes} if classes else {})
    if not output.absolute().parent.is_dir():  # before the tensors are read
        raise StudyError(f"{output}: there is no folder {output.parent}; make it first")
    tensors = {key: _read_tensor(path) for key, path in files.items()}
    with replacing(output) as unfinished:
        save_file(tensors, unfinished)
        _refuse_unfit(unfinished, output)
    return output


def _refuse_unfit(unfinished: Path, output: Path) -> None:
    """Raises StudyError if the file is not what a study of arrays can read."""
    try:
        open_arrays(unfinished)
    except StudyError as error:
        raise StudyError(str(error).replace(str(unfinished), str(output), 1)) from None


def _read_tensor(path: Path) -> Tensor:
    """A tensor from a .pt file, or whole numbers from a .txt file, one per line. Raises StudyError."""
    if not path.exists():
        raise StudyError(f"{path}: no such file")
    try:
        if path.suffix == ".txt":
            return torch.tensor([int(line) for line in read_text(path, MAX_LIST_BYTES).split()])
    except (OSError, ValueError, RuntimeError) as error:
        raise StudyError(f"{path}: not a tensor that can be read: {one_line(error)}") from error
    if not path.is_file():
        raise StudyError(f"{path}: not a tensor that can be read: it is not a file")
    try:
        tensor = read_pickle(path, mapped=True)
    except StudyError as error:
        why = str(error).removeprefix(f"{path}: ").removeprefix("not a readable checkpoint: ")
        raise StudyError(f"{path}: not a tensor that can be read: {why}") from error
    if not isinstance(tensor, Tensor):
        what = "other things than a tensor" if isinstance(tensor, StandIn) else f"a {type(tensor).__name__}"
        raise StudyError(f"{path}: holds {what}; a single tensor is needed")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise StudyError(f"{path}: holds a tensor without plain values; save it with .to_dense() or .dequantize()")
    if (claimed := tensor.numel() * tensor.element_size()) > path.stat().st_size:
        raise StudyError(
            f"{path}: its tensor claims {claimed / 1e6:,.0f} MB, more than the file has; save it contiguous"
        )
    return tensor.detach().contiguous()
