"""Decoded images in a file without a name, so that a process decodes each of them once.

kept = PixelFile()
kept.add(7, pixels)        # uint8 (H, W) or (H, W, 3); positions ascend
if 7 in kept:
    kept.read(7)           # from the page cache, mapped into memory

The system deletes the file when the process ends, however that ends. The file lies where temporary files do (TMPDIR)
and takes at most a quarter of the free space there. Images for which there is no room are decoded again.
"""

from __future__ import annotations

import shutil
import tempfile
from array import array
from bisect import bisect_left
from typing import IO

import numpy as np

MAX_BYTES = 16 << 30
BUFFER = 1 << 20  # bytes of one write; a write lets other threads run and waits for them
SHARE = 4  # the file takes at most 1 / SHARE of the free space


class PixelFile:
    """Pixels by position."""

    def __init__(self, most: int = MAX_BYTES) -> None:
        """most: the largest size in bytes, if a quarter of the free space is more."""
        self.most = most
        self.file: IO[bytes] | None = None
        self.size = 0
        self.positions = array("q")
        self.offsets = array("q")
        self.shapes: list[tuple[int, ...]] = []
        self.mapped: np.ndarray | None = None

    def __contains__(self, position: int) -> bool:
        index = bisect_left(self.positions, position)
        return index < len(self.positions) and self.positions[index] == position

    def add(self, position: int, pixels: np.ndarray) -> None:
        """Keep the pixels of an image that comes after all that are kept, if there is room."""
        if self.positions and position <= self.positions[-1]:
            return
        if self.file is None and self.most:
            self._open()
        if self.file is None or self.size + pixels.nbytes > self.most:
            self.most = 0  # no image after this one is kept either: positions ascend
            return
        try:
            self.file.write(np.ascontiguousarray(pixels).data)
        except OSError:  # the disk is full
            self.most = 0
            return
        self.positions.append(position)
        self.offsets.append(self.size)
        is_same = self.shapes and self.shapes[-1] == pixels.shape  # one object for many images
        self.shapes.append(self.shapes[-1] if is_same else pixels.shape)
        self.size += pixels.nbytes

    def read(self, position: int) -> np.ndarray:
        """The pixels at a position that is kept, as an array of the caller's own."""
        assert self.file is not None, "a kept position was written to it"
        if self.mapped is None or len(self.mapped) < self.size:
            self.file.flush()
            self.mapped = np.memmap(self.file, np.uint8, "c", shape=(self.size,))
        index = bisect_left(self.positions, position)
        shape, offset = self.shapes[index], self.offsets[index]
        return np.asarray(self.mapped[offset : offset + int(np.prod(shape))]).reshape(shape)

    def _open(self) -> None:
        try:
            file = tempfile.TemporaryFile(buffering=BUFFER)  # noqa: SIM115 - open as long as the process reads images
            self.most = min(self.most, shutil.disk_usage(file.fileno()).free // SHARE)
            self.file = file
        except OSError:  # there is no folder for temporary files
            self.most = 0
