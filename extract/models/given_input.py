"""How images are prepared for a network that is given as an object, as [network.input] of a study. Imports no torch.

of(model, None)                                  # what a timm model says of itself
of(model, ResNet18_Weights.DEFAULT.transforms()) # what torchvision's weights say
of(model, {"size": 224})                         # as it is
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dissectdb.extract.study import StudyError

WAY_OUT = (
    'pass input={"size": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]} with its own numbers, or '
    "what torchvision has for its weights: input=ResNet18_Weights.DEFAULT.transforms()"
)


def of(model: object, given: Any) -> dict[str, Any]:
    """The keys of [network.input]. given: these keys, or torchvision's transforms of weights. Raises StudyError."""
    if isinstance(given, Mapping):
        return dict(given)
    if hasattr(given, "transforms"):  # the weights themselves
        given = given.transforms()
    if given is not None and not hasattr(given, "crop_size"):
        raise StudyError(f"input: a {type(given).__name__} does not tell how images are prepared; {WAY_OUT}")
    if given is not None:
        return _keys(
            size=_only(given.crop_size),
            scaled=_only(given.resize_size),
            interpolation=given.interpolation.value,
            mean=given.mean,
            std=given.std,
        )
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    config = config if isinstance(config, Mapping) else getattr(config, "__dict__", {})
    if "input_size" not in config:
        raise StudyError(f"input is missing, and {type(model).__name__} does not carry it; {WAY_OUT}")
    channels, height, width = config["input_size"]
    built = getattr(getattr(model, "patch_embed", None), "img_size", None)  # by create_model(img_size=…)
    height, width = built if isinstance(built, tuple | list) else (built or height, built or width)
    if channels != 3 or height != width:
        raise StudyError(
            f"input is missing, and {type(model).__name__} takes {channels} × {height} × {width}; {WAY_OUT}"
        )
    scaled, way = math.floor(height / (config.get("crop_pct") or 1.0)), config.get("crop_mode") or "center"
    if way != "center" and (way, scaled) != ("squash", height):
        raise StudyError(
            f"input is missing, and {type(model).__name__} crops in another way ({way}, {scaled} pixels); {WAY_OUT}"
        )
    return _keys(
        size=height,
        scaled="squash" if way == "squash" else scaled,
        interpolation=config.get("interpolation", "bicubic"),
        mean=config.get("mean", ()),
        std=config.get("std", ()),
    )


def _keys(*, size: int, scaled: int | str, **others: Any) -> dict[str, Any]:
    values = {key: list(value) if isinstance(value, tuple | list) else value for key, value in others.items()}
    return {"size": size, "resize": "shortest" if scaled == size else scaled, **values}


def _only(side: Any) -> int:
    return side[0] if isinstance(side, list | tuple) else side
