"""Train a baseline for a study: the study's network, from random weights, on the study's train split.

records = run(study, Path("vgg.safetensors"), epochs=30, seed=0, on_epoch=print)

The weights of the epoch with the best validation accuracy are saved. A run that was stopped continues from
OUTPUT.training, which is removed at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dissectdb.extract.images.scan import Image, Source
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.models import checkpoints, devices
from dissectdb.extract.models.preprocessing import Recipe
from dissectdb.extract.record import network_plan
from dissectdb.extract.study import Input, NetworkStudy, StudyError
from dissectdb.extract.training.fit import Record, fit
from dissectdb.output import OutputError, replacing


def run(
    study: NetworkStudy,
    output: Path,
    *,
    epochs: int,
    seed: int,
    on_epoch: Callable[[Record], None] | None = None,
) -> list[Record]:
    """Train, save the checkpoint, return one record per epoch. Raises StudyError."""
    given = study.network.input
    only_input = Input(size=given.size if given else 40, mode="grey", rounding=False)
    if given != only_input:
        raise StudyError(f"train can only prepare images as {only_input!r}; network.input is {given!r}")
    if not output.parent.is_dir():
        raise StudyError(f"{output}: there is no folder {output.parent}; make it first")
    source = open_source(study.dataset)
    class_names = study.network.classes or source.classes
    settings = study.network.model_copy(update={"weights": "random", "seed": seed, "classes": class_names})
    network = network_plan.load_network(study.model_copy(update={"network": settings}), source)
    train, validation = read_splits(source, network.classes)
    unfinished = output.with_name(f"{output.name}.training")
    try:
        records = fit(
            network.model,
            train,
            validation,
            epochs=epochs,
            device=str(devices.choose(study.device)),
            seed=seed,
            label_smoothing=0.1,
            size=only_input.size,
            checkpoint=unfinished,
            on_epoch=on_epoch,
            answer=network.answer,
        )
    except OutputError:
        raise
    except ValueError as error:  # it diverged, or the unfinished run has other settings or images
        raise StudyError(f"train: {error}") from error
    save(network.model, output)
    unfinished.unlink(missing_ok=True)
    return records


def save(model: nn.Module, output: Path) -> None:
    """Write the weights as safetensors or a .pt file, by the file's ending. Never leaves half a file."""
    if output.suffix == ".safetensors":
        checkpoints.save_like(model, output, None)
        return
    with replacing(output) as unfinished:
        torch.save({name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}, unfinished)


def read_splits(source: Source, classes: tuple[str, ...]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(images, labels) of the sound, classified images of train and validation; uint8 (image, height, width)."""
    rows = [image for image in source.scan() if image.defect is None and image.class_name in classes]
    splits = []
    for split in ("train", "validation"):
        chosen = [image for image in rows if image.split == split]
        if not chosen:
            raise StudyError(f"the dataset has no sound image of a known class in its {split} split")
        height, width = chosen[0].height or 0, chosen[0].width or 0  # known of a sound image
        pixels = torch.empty((len(chosen), height, width), dtype=torch.uint8)
        for index, image in enumerate(source.read([image.position for image in chosen])):
            pixels[index] = torch.from_numpy(_grey(image, chosen[index], (height, width)))
        splits.append((pixels, torch.tensor([classes.index(image.class_name) for image in chosen])))
    return splits[0], splits[1]


def _grey(pixels: np.ndarray, image: Image, shape: tuple[int, int]) -> np.ndarray:
    if pixels.shape[:2] != shape:
        raise StudyError(
            f"{image.path} is {image.width} × {image.height}, the first image {shape[1]} × {shape[0]}; "
            "train needs images of one size"
        )
    if pixels.ndim == 2:
        return pixels
    grey = Recipe(size=shape[0], mode="grey").to_mode(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    return grey[0, 0].numpy()
