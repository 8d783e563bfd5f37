"""Turn decoded images into the input of a network or CLIP, on the device.

recipe = Recipe(size=40, mode="grey", resize="squash", interpolation="bilinear")
batch = recipe.apply(images, device)     # (image, channel, 40, 40), float32

Images may have any number of channels; `channels` and `mode` say which of them are used.

Pixels are copied to the device as decoded, one byte per value, and resized and normalised there.

Resizing is antialiased. With `rounding`, resized values are whole grey levels, as in PIL, so that a batch comes out
like an image through a model's own PIL transform. Networks trained on resized tensors need it off.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from dissectdb.extract.study import StudyError

Pixels = Tensor | list[Tensor]  # a batch of uint8 (image, H, W) or (image, H, W, channel); a list where shapes differ

# Pixels of an image that is scaled and then cropped; or four times the pixels that are kept, if that is more.
MAX_SCALED = 1 << 22

ADDED = (
    "channels",
    "scaled",
    "floor_crop",
)  # fields that are left out where they are empty, so that older fingerprints stay

GREY = (19595, 38470, 7471)  # ITU-R 601 in parts of 65,536, as PIL's convert("L") has it


class Part(NamedTuple):
    """A part of an image, as shares of its height and width; below 0 or above 1 where it goes beyond the image."""

    top: float
    bottom: float
    left: float
    right: float


@dataclass(frozen=True)
class Recipe:
    """How an image is prepared.

    size: pixels per side. mean, std: per channel, for values from 0 to 1; empty means 0 and 1.
    resize: squash (both sides to size), shortest (the shorter side to size, then the centre is cropped) or longest (the
    longer side to size, then padded with `fill`).
    mode: grey and rgb take images of one or three channels; bands takes as many as mean, std or `channels` have.
    channels: the indices of an image's channels that are used, in this order, before `mode`; empty: all.
    scaled: pixels to which squash and shortest scale before the centre is cropped to size; None: size.
    floor_crop: if half a pixel is left over, the crop begins before it, as in transformers; else at the even pixel, as
    in torchvision.
    """

    size: int
    mode: Literal["grey", "rgb", "bands"] = "rgb"
    resize: Literal["squash", "shortest", "longest"] = "squash"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    rounding: bool = True
    fill: float = 0.0
    channels: tuple[int, ...] = ()
    scaled: int | None = None
    floor_crop: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channel, height, width) of a prepared image."""
        bands = len(self.channels) or len(self.mean) or len(self.std)
        return {"grey": 1, "rgb": 3, "bands": bands}[self.mode], self.size, self.size

    def takes(self, channels: int) -> bool:
        """Whether it takes images of so many channels."""
        if self.channels:
            return channels > max(self.channels)
        return channels == self.shape[0] if self.mode == "bands" else channels in (1, 3)

    def as_dict(self) -> dict[str, object]:
        """The fields by name, without those of ADDED at their defaults, which older recipes lack: fingerprints stay."""
        return {name: value for name, value in asdict(self).items() if value or name not in ADDED}

    def as_json(self) -> str:
        """The recipe as text, the same for equal recipes."""
        return json.dumps(self.as_dict(), sort_keys=True)

    def described(self) -> str:
        """The recipe in one line: 224 × 224 rgb, the centre of shortest 256, bilinear, mean 0.5, std 0.25."""
        resize = f"the centre of {self.resize} {self.scaled}" if self.scaled else self.resize
        parts = [f"{self.size} × {self.size} {self.mode}", resize, self.interpolation]
        parts += [f"channels {' '.join(map(str, self.channels))}"] if self.channels else []
        for what, values in (("mean", self.mean), ("std", self.std)):
            parts += [f"{what} {' '.join(f'{value:.4g}' for value in values)}"] if values else []
        return ", ".join(parts if self.mean or self.std else [*parts, "not normalised"])

    def apply(self, images: Pixels | Sequence[np.ndarray], device: torch.device) -> Tensor:
        """Prepare uint8 images (H, W) or (H, W, channel): (image, channel, size, size) float32 on the device.

        Raises StudyError if an image has other channels than the recipe takes.
        """
        images = to_device(images, device)
        if isinstance(images, Tensor):
            pixels = self._fit(_channels_first(images))
        else:
            pixels = torch.cat([self._fit(_channels_first(image.unsqueeze(0))) for image in images])
        values = pixels.float() / 255
        if self.mean:
            values -= values.new_tensor(self.mean).view(1, -1, 1, 1)
        if self.std:
            values /= values.new_tensor(self.std).view(1, -1, 1, 1)
        return values

    def _fit(self, pixels: Tensor) -> Tensor:
        """uint8 (image, any, H, W) → (image, channel, size, size), uint8, or float32 without rounding."""
        pixels = self.to_mode(pixels)
        if not self.rounding:
            pixels = pixels.float()
        side = self.scaled or self.size
        if self.resize == "squash":
            return self._centre(self._scale(pixels, side, side))
        if self.resize == "shortest":  # the longer side truncated, as torchvision's Resize does
            pixels = self._shortened(pixels)
            height, width = pixels.shape[-2:]
            rows, columns = (int(side * edge / min(height, width)) for edge in (height, width))
            return self._centre(self._scale(pixels, rows, columns))
        height, width = pixels.shape[-2:]
        ratio = max(height, width) / self.size  # the shorter side rounded, as open_clip does
        scaled = self._scale(pixels, max(round(height / ratio), 1), max(round(width / ratio), 1))
        top, left = (self.size - scaled.shape[-2]) // 2, (self.size - scaled.shape[-1]) // 2
        bottom, right = self.size - scaled.shape[-2] - top, self.size - scaled.shape[-1] - left
        return functional.pad(scaled, [left, top, right, bottom], fill=self.fill)

    def _centre(self, pixels: Tensor) -> Tensor:
        if not self.floor_crop:
            return functional.center_crop(pixels, [self.size, self.size])
        top, left = ((edge - self.size) // 2 for edge in pixels.shape[-2:])
        return pixels[..., top : top + self.size, left : left + self.size]

    def seen_part(self, width: int, height: int) -> Part:
        """Which part of an image of this size is in the prepared image; it is all of the prepared image."""
        short, long = sorted((width, height))
        return Part(*self._seen(height, short, long), *self._seen(width, short, long))

    def _seen(self, edge: int, short: int, long: int) -> tuple[float, float]:
        """Where along an edge the prepared image begins and ends. short, long: the image's edges."""
        side = self.scaled or self.size
        if self.resize == "longest":
            scaled = max(round(edge / (long / self.size)), 1)
            before = (self.size - scaled) // 2
            return -before / scaled, (self.size - before) / scaled
        kept, scaled = edge, side
        if self.resize == "shortest":
            kept = min(edge, self._max_long(short, long))
            scaled = int(side * kept / short)
        start = self._crop_start(scaled) / scaled * kept + round((edge - kept) / 2)
        return start / edge, (start + self.size / scaled * kept) / edge

    def _crop_start(self, edge: int) -> int:
        """Where the centre crop begins along an edge of so many pixels, as in _centre."""
        if edge < self.size:
            return -((self.size - edge) // 2)
        return (edge - self.size) // 2 if self.floor_crop else round((edge - self.size) / 2)

    def _shortened(self, pixels: Tensor) -> Tensor:
        """The middle part of a very long image; other images as they are.

        An image of 1 × 60,000 pixels would be scaled to gigabytes before it is cropped. At 224 pixels per side only
        images longer than 83 : 1 are cut, and the result shifts by less than a pixel.
        """
        height, width = pixels.shape[-2:]
        short, long = sorted((height, width))
        max_long = self._max_long(short, long)
        if long <= max_long:
            return pixels
        return functional.center_crop(pixels, [min(height, max_long), min(width, max_long)])

    def _max_long(self, short: int, long: int) -> int:
        """The longer edge that is left of an image, in pixels."""
        area = (self.scaled or self.size) ** 2
        max_long = short * max(MAX_SCALED, 4 * area) // area  # so that it scales to that many pixels
        return long if long <= max_long else max_long - (long - max_long) % 2  # the middle stays the middle

    def to_mode(self, pixels: Tensor) -> Tensor:
        """uint8 (image, any, H, W) → uint8 (image, channel, H, W). Raises StudyError."""
        if not self.takes(pixels.shape[1]):
            raise StudyError(f"an image has {pixels.shape[1]} channels, which {self.described()} does not take")
        if self.channels:
            pixels = pixels[:, list(self.channels)]
        if self.mode == "bands":
            return pixels
        if self.mode == "rgb":
            return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels
        if pixels.shape[1] == 1:
            return pixels
        weights = torch.tensor(GREY, dtype=torch.int32, device=pixels.device).view(1, 3, 1, 1)
        return ((pixels * weights).sum(1, keepdim=True) + 32768 >> 16).to(torch.uint8)

    def _scale(self, pixels: Tensor, rows: int, columns: int) -> Tensor:
        if tuple(pixels.shape[-2:]) == (rows, columns):
            return pixels
        return functional.resize(pixels, [rows, columns], InterpolationMode(self.interpolation), antialias=True)


def stacked(images: Sequence[np.ndarray], device: torch.device) -> Pixels:
    """Decoded images as a batch: one tensor if all have the same shape, pinned in memory for a GPU; else a list."""
    if len({image.shape for image in images}) == 1:
        batch = torch.from_numpy(np.stack(images))
        return batch.pin_memory() if device.type == "cuda" else batch
    return [torch.from_numpy(np.ascontiguousarray(image)) for image in images]


def to_device(images: Pixels | Sequence[np.ndarray], device: torch.device) -> Pixels:
    """The batch on the device. A copy from pinned memory is not waited for."""
    if isinstance(images, Tensor):
        return images.to(device, non_blocking=True)
    arrays = [image for image in images if isinstance(image, np.ndarray)]
    if arrays:
        return to_device(stacked(arrays, device), device)
    return [image.to(device) for image in images if isinstance(image, Tensor)]


def _channels_first(pixels: Tensor) -> Tensor:
    return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
