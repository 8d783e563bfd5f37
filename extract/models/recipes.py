"""The preprocessing of a network: what the study says, or what its weights' own metadata say.

recipe = find(study.network, model)

Metadata are checked: two images prepared by the recipe must come out as from the library's own transform.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dissectdb.extract import study
from dissectdb.extract.models.preprocessing import Recipe
from dissectdb.extract.study import StudyError

log = logging.getLogger("dissectdb")

INTERPOLATIONS: dict[str, Literal["bilinear", "bicubic"]] = {"bilinear": "bilinear", "bicubic": "bicubic"}
# Grey levels of 255. PIL rounds between the two directions of a resize, so a few values differ by more than one.
MEAN_LEVELS, MAX_LEVELS = 0.5, 8.0


def find(settings: study.Network, model: nn.Module) -> Recipe:
    """The recipe that a study's [network.input] says; without it, that of the weights' metadata. Raises StudyError."""
    if settings.input is not None:
        return of_input(settings.input)
    recipe, source = of_metadata(settings, model)
    log.info(f"network.input is left out; {source} has: {recipe.described()}")
    return recipe


def of_metadata(settings: study.Network, model: nn.Module) -> tuple[Recipe, str]:
    """The recipe of the weights' metadata, and what has them. Raises StudyError if none say it."""
    library, _, name = settings.architecture.partition(":")
    if library == "torchvision":
        source = f"the weights of {settings.architecture}"
        return _of_torchvision(name), source
    if library == "timm":
        is_own = settings.weights == "pretrained"
        source = f"the {'weights' if is_own else 'default'} of {settings.architecture}"
        return _of_timm(model, settings.arguments, source), source
    if library == "hf":
        from dissectdb.extract.models import hugging_face

        return hugging_face.recipe(name), f"the image processor of {settings.architecture}"
    raise StudyError(f"network.input is missing; {settings.architecture} does not say how images are prepared")


def of_input(given: study.Input) -> Recipe:
    """The recipe of a study's [network.input]."""
    values = given.model_dump()
    if isinstance(given.resize, int):
        values |= {"resize": "shortest", "scaled": given.resize if given.resize != given.size else None}
    return Recipe(**values)


def checked(recipe: Recipe, transform: Callable[[Image.Image], Tensor], source: str) -> Recipe:
    """The recipe, if it prepares images as the transform does. Raises StudyError."""
    random, side = np.random.default_rng(0), 2 * (recipe.scaled or recipe.size)
    std = torch.tensor(recipe.std or (1.0,)).view(-1, 1, 1)
    for shape in ((side, side + side // 3 + 1, 3), (side + side // 4 + 1, side, 3)):
        image = random.integers(0, 256, shape, dtype=np.uint8)
        ours, theirs = recipe.apply([image], torch.device("cpu"))[0], transform(Image.fromarray(image))
        if ours.shape != theirs.shape:
            raise _unlike(source, f"it makes {tuple(theirs.shape)} of an image, and {recipe.described()} another shape")
        levels = ((ours - theirs).abs() * std * 255).float()
        if levels.mean() > MEAN_LEVELS or levels.max() > MAX_LEVELS:
            raise _unlike(source, f"its images differ from {recipe.described()} by {levels.mean():.2g} of 255 levels")
    return recipe


def recipe_of(
    source: str,
    *,
    size: Sequence[int],
    resize: Literal["squash", "shortest"],
    scaled: int,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
    floor_crop: bool = False,
) -> Recipe:
    """A recipe from metadata. size: (height, width). Raises StudyError for what a recipe cannot say."""
    if len(set(size)) != 1:
        raise _unlike(source, f"it makes images of {' × '.join(map(str, size))} pixels; only square ones are supported")
    if interpolation not in INTERPOLATIONS:
        raise _unlike(source, f"it resizes by {interpolation}; supported are {', '.join(INTERPOLATIONS)}")
    if {len(mean), len(std)} - {0, 3}:
        raise _unlike(source, f"it has means for {len(mean)} channels, not 3")
    return Recipe(
        size=size[0],
        resize=resize,
        interpolation=INTERPOLATIONS[interpolation],
        mean=tuple(map(float, mean)),
        std=tuple(map(float, std)),
        scaled=scaled if scaled != size[0] else None,
        floor_crop=floor_crop,
    )


def _unlike(source: str, why: str) -> StudyError:
    return StudyError(f"network.input is missing, and {source} cannot say it: {why}; write [network.input]")


def _of_torchvision(name: str) -> Recipe:
    """The recipe of torchvision's default weights of a network."""
    from torchvision.models import get_model_weights
    from torchvision.transforms._presets import ImageClassification

    transform = get_model_weights(name).DEFAULT.transforms()
    source = f"the weights of torchvision:{name}"
    if not isinstance(transform, ImageClassification):
        raise _unlike(source, f"{type(transform).__name__} makes no images of one fixed size")
    [crop], [scaled] = transform.crop_size, transform.resize_size
    recipe = recipe_of(
        source,
        size=(crop, crop),
        resize="shortest",
        scaled=scaled,
        interpolation=transform.interpolation.value,
        mean=transform.mean,
        std=transform.std,
    )
    return checked(recipe, transform, source)


def _of_timm(model: nn.Module, arguments: dict[str, Any], source: str) -> Recipe:
    """The recipe of a timm network's pretrained_cfg; img_size among its arguments replaces the size."""
    from timm.data import create_transform, resolve_model_data_config

    own = {"img_size": arguments["img_size"]} if isinstance(arguments.get("img_size"), int) else {}
    config = resolve_model_data_config(model, args=own)
    channels, height, width = config["input_size"]
    channels = arguments.get("in_chans", channels)
    if channels != 3:
        raise _unlike(source, f"it takes {channels} channels, and the metadata are for 3")
    recipe = recipe_of(
        source,
        size=(height, width),
        resize="squash" if config["crop_mode"] == "squash" else "shortest",
        scaled=math.floor(height / config["crop_pct"]),
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
    )
    return checked(recipe, create_transform(**config), source)
