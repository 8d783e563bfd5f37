"""Turn decoded images into the input of a network or CLIP, on the device.

recipe = Recipe(size=40, mode="grey", resize="squash", interpolation="bilinear")
batch = recipe.apply(images, device)     # (image, channel, 40, 40), float32

Pixels are copied to the device as decoded, one byte per value, and resized and normalised there.

Resizing is antialiased. With `rounding`, resized values are whole grey levels, as in PIL, so that a batch comes out
like an image through a model's own PIL transform. Networks trained on resized tensors need it off.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

Pixels = Tensor | list[Tensor]  # a batch of uint8 (image, H, W) or (image, H, W, 3); a list where shapes differ

# Pixels of an image that is scaled and then cropped; or four times the pixels that are kept, if that is more.
MAX_SCALED = 1 << 22

GREY = (19595, 38470, 7471)  # ITU-R 601 in parts of 65,536, as PIL's convert("L") has it


@dataclass(frozen=True)
class Recipe:
    """How an image is prepared.

    size: pixels per side. mean, std: per channel, for values from 0 to 1; empty means 0 and 1.
    resize: squash (both sides to size), shortest (the shorter side to size, then the centre is cropped) or longest (the
    longer side to size, then padded with `fill`).
    """

    size: int
    mode: Literal["grey", "rgb"] = "rgb"
    resize: Literal["squash", "shortest", "longest"] = "squash"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    rounding: bool = True
    fill: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channel, height, width) of a prepared image."""
        return 1 if self.mode == "grey" else 3, self.size, self.size

    def as_dict(self) -> dict[str, object]:
        """The fields by name."""
        return asdict(self)

    def as_json(self) -> str:
        """The recipe as text, the same for equal recipes."""
        return json.dumps(asdict(self), sort_keys=True)

    def described(self) -> str:
        """The recipe in one line: 40 × 40 grey, squash, bilinear, mean 0.5, std 0.25."""
        parts = [f"{self.size} × {self.size} {self.mode}", self.resize, self.interpolation]
        for what, values in (("mean", self.mean), ("std", self.std)):
            parts += [f"{what} {' '.join(f'{value:.4g}' for value in values)}"] if values else []
        return ", ".join(parts if self.mean or self.std else [*parts, "not normalised"])

    def apply(self, images: Pixels | Sequence[np.ndarray], device: torch.device) -> Tensor:
        """Prepare uint8 images (H, W) or (H, W, 3): (image, channel, size, size) float32 on the device."""
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
        """uint8 (image, 1 or 3, H, W) → (image, channel, size, size), uint8, or float32 without rounding."""
        pixels = self.to_mode(pixels)
        if not self.rounding:
            pixels = pixels.float()
        height, width = pixels.shape[-2:]
        if self.resize == "squash":
            return self._scale(pixels, self.size, self.size)
        if self.resize == "shortest":  # the longer side truncated, as torchvision's Resize does
            pixels = self._shortened(pixels)
            height, width = pixels.shape[-2:]
            rows, columns = (int(self.size * edge / min(height, width)) for edge in (height, width))
            return functional.center_crop(self._scale(pixels, rows, columns), [self.size, self.size])
        ratio = max(height, width) / self.size  # the shorter side rounded, as open_clip does
        scaled = self._scale(pixels, max(round(height / ratio), 1), max(round(width / ratio), 1))
        top, left = (self.size - scaled.shape[-2]) // 2, (self.size - scaled.shape[-1]) // 2
        bottom, right = self.size - scaled.shape[-2] - top, self.size - scaled.shape[-1] - left
        return functional.pad(scaled, [left, top, right, bottom], fill=self.fill)

    def _shortened(self, pixels: Tensor) -> Tensor:
        """The middle part of a very long image; other images as they are.

        An image of 1 × 60,000 pixels would be scaled to gigabytes before it is cropped. At 224 pixels per side only
        images longer than 83 : 1 are cut, and the result shifts by less than a pixel.
        """
        height, width = pixels.shape[-2:]
        short, long = sorted((height, width))
        max_long = short * max(MAX_SCALED, 4 * self.size**2) // self.size**2  # so that it scales to that many pixels
        if long <= max_long:
            return pixels
        max_long -= (long - max_long) % 2  # the middle stays the middle
        return functional.center_crop(pixels, [min(height, max_long), min(width, max_long)])

    def to_mode(self, pixels: Tensor) -> Tensor:
        """uint8 (image, 1 or 3, H, W) → uint8 (image, channel, H, W)."""
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
