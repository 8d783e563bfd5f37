"""Read an item of a map-style Dataset: the image's pixels, its label, split and group, and what else it says.

    item = as_item((picture, 3))          # picture: PIL, numpy or tensor, or the path of a file
    item.pixels, item.label               # uint8 (H, W), (H, W, 3) or (H, W, channel); 3

An item is the image, (image, label), or a dict with image and, if known, label, split, group and path. Other text and
numbers in the dict become attributes. Values are uint8, or floats from 0 to 1. Imports no torch.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from PIL import ImageOps

from dissectdb.extract.images.decoding import Pixels, Unreadable, decode, is_file, of_picture, to_bytes
from dissectdb.extract.images.folders import SPLIT_FOLDERS, SPLITS
from dissectdb.extract.images.scan import group_name, printable
from dissectdb.extract.study.class_names import few
from dissectdb.extract.study.datasets import Layout
from dissectdb.extract.study.text_files import one_line

MEANINGS = ("image", "label", "split", "group", "path")  # keys of a dict that are not attributes
SLACK = 1e-6  # what rounding may put a float below 0 or above 1
FEW_CHANNELS = 4


class ItemError(Exception):
    """What a Dataset returned for an image cannot be read; the message tells why and what to do."""


class Item(NamedTuple):
    """An image and what is known about it.

    pixels: None if its file is unreadable; then `unreadable` has the reason. path: its file, if it is one, or the name
    that the Dataset gives it. label: the number or name of its class. unstored: keys whose values are neither text nor
    a number.
    """

    pixels: Pixels | None
    unreadable: str | None
    file: Path | None
    path: str | None
    label: int | str | None
    split: str | None
    group: str | None
    attributes: dict[str, str]
    unstored: list[str]


def as_item(value: object, layout: Layout = "auto", bits: int = 16) -> Item:
    """What a Dataset returned for an image. Raises ItemError."""
    if isinstance(value, Mapping):
        if "image" not in value:
            raise ItemError(f"a dict without the key image; it has {few(map(str, value)) or 'none'}")
        fields: Mapping[Any, Any] = value
    elif isinstance(value, tuple | list):
        if len(value) != 2:
            raise ItemError(f"{len(value)} values; return an image, (image, label), or a dict with image, label, …")
        fields = {"image": value[0], "label": value[1]}
    else:
        fields = {"image": value}
    group = fields.get("group")
    group_text = None if group is None else _text(group)
    if group is not None and group_text is None:
        raise ItemError(f"a group of type {type(group).__name__}; give text or a number")
    group_text = group_name(group_text)
    extras = {str(key): each for key, each in fields.items() if key not in MEANINGS and each is not None}
    texts = {printable(key): _text(each) for key, each in extras.items()}
    attributes = {key: text for key, text in texts.items() if text is not None and text != "nan"}
    image = fields["image"]
    file = Path(image) if isinstance(image, str | Path) else None
    pixels, unreadable = _pixels(image, layout, bits)
    path = fields.get("path", image if file else None)
    return Item(
        pixels=pixels,
        unreadable=unreadable,
        file=file,
        path=None if path is None else printable(str(path)),
        label=_label(fields.get("label")),
        split=_split(fields.get("split")),
        group=group_text,
        attributes=attributes | ({} if group_text is None else {"group": group_text}),
        unstored=[key for key, text in texts.items() if text is None],
    )


def _label(label: object) -> int | str | None:
    if label is None or isinstance(label, str):
        return None if label is None else printable(label)
    if (count := math.prod(getattr(label, "shape", ()))) != 1:
        raise ItemError(
            f"a label of {count} numbers; an image has one class: return the image alone, or a dict in which each "
            "fact has a name of its own"
        )
    if str(getattr(label, "dtype", "")) in ("bool", "torch.bool"):  # as Python's own: True is class 1
        return int(bool(label))
    try:
        return operator.index(label)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):  # a tensor of several numbers or of floats raises its own
        raise ItemError(
            f"a label of type {type(label).__name__} that is neither a whole number nor text; return a dict, with the "
            "class as label and other facts under names of their own"
        ) from None


def _split(split: object) -> str | None:
    if split is None:
        return None
    if str(split).lower() not in SPLIT_FOLDERS:
        raise ItemError(f"the split {str(split)[:60]!r}; give {', '.join(SPLITS)}, or no split for any image")
    return SPLIT_FOLDERS[str(split).lower()]


def _text(value: Any) -> str | None:
    """Text, or a number as text; "nan" for one that is not a number; None for anything else."""
    if hasattr(value, "item") and math.prod(getattr(value, "shape", (2,))) == 1:  # a number of numpy or torch
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return printable(value)
    return repr(value) if isinstance(value, int | float) else None


# ---------------------------------------------------------------- pixels


def _pixels(image: Any, layout: Layout, bits: int) -> tuple[Pixels | None, str | None]:
    """The pixels; or None, and why a file is unreadable."""
    if isinstance(image, str | Path):
        if not is_file(Path(image)):
            raise ItemError(f"{one_line(image)}: no such file")
        try:
            return decode(Path(image), bits), None
        except Unreadable as problem:
            return None, str(problem)
    if isinstance(image, PIL.Image.Image):
        try:
            return to_bytes(of_picture(ImageOps.exif_transpose(image)), 16), None  # upright, as a file is read
        except Exception as problem:  # bad bytes lead Pillow to struct.error, SyntaxError, …
            raise ItemError(f"a PIL image that cannot be read: {problem}") from None
    if hasattr(image, "detach"):  # a tensor
        try:
            image = image.detach().cpu().numpy()
        except (TypeError, RuntimeError):
            raise ItemError(f"a tensor of {image.dtype}; give uint8, or floats from 0 to 1") from None
    if not isinstance(image, np.ndarray):
        raise ItemError(f"an image of type {type(image).__name__}; give PIL, numpy, a tensor or a file's path")
    return _in_bytes(_channels_last(image, layout)), None


def _channels_last(values: np.ndarray, layout: Layout) -> np.ndarray:
    """(H, W), or (H, W, channel) with more than one channel."""
    if values.ndim == 2 and values.size:
        return values
    if values.ndim != 3 or not values.size:
        raise ItemError(f"an image of shape {_shape(values)}; give H × W, H × W × channels or channels × H × W")
    first, *_, last = values.shape
    are_first = layout == "channels_first"
    if layout == "auto":
        are_first = _may_be_channels(first, values.shape[1:])
        if are_first == _may_be_channels(last, values.shape[:2]):
            raise ItemError(
                f"an image of shape {_shape(values)}: no telling where its channels are; set dataset.layout to "
                "channels_first or channels_last"
            )
    values = values.transpose(1, 2, 0) if are_first else values
    return values[..., 0] if values.shape[2] == 1 else values


def _may_be_channels(count: int, sides: tuple[int, ...]) -> bool:
    return count <= FEW_CHANNELS or count <= min(sides) // 2


def _in_bytes(values: np.ndarray) -> Pixels:
    """A copy as uint8, because a Dataset may use its array again."""
    if values.dtype == np.uint8:
        return np.array(values, order="C")
    if values.dtype.kind != "f":
        raise ItemError(f"values of type {values.dtype}; give uint8, or floats from 0 to 1")
    values = values.astype(np.float32, copy=False)
    lowest, highest = float(values.min()), float(values.max())
    if math.isnan(lowest):
        raise ItemError("NaN among its values; give floats from 0 to 1")
    if lowest < -SLACK or highest > 1 + SLACK:
        raise ItemError(
            f"floats from {lowest:.4g} to {highest:.4g}; give floats from 0 to 1, or uint8, before they are "
            "normalised: mean and std belong to network.input"
        )
    return np.rint(values * 255).astype(np.uint8, order="C")


def _shape(values: np.ndarray) -> str:
    return " × ".join(map(str, values.shape)) or "()"
