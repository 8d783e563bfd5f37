"""Cache decoded images in an unnamed temporary file, so that a process decodes each image once.

cache = PixelFile()
cache.add(7, pixels)       # uint8 (H, W) or (H, W, 3); positions ascend
if 7 in cache:
    cache.read(7)          # mapped into memory

The system deletes the file when the process ends, even if it is killed. The file is in the folder for temporary files
(TMPDIR) and takes at most a quarter of the free space there. Images that do not fit are decoded again.
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
    """A cache of pixels by the image's position."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        """max_bytes: the largest size in bytes, if a quarter of the free space is more."""
        self.max_bytes = max_bytes
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
        """Store the pixels of an image if there is room. Ignores a position that is not after all stored ones."""
        if self.positions and position <= self.positions[-1]:
            return
        if self.file is None and self.max_bytes:
            self._open()
        if self.file is None or self.size + pixels.nbytes > self.max_bytes:
            self.max_bytes = 0  # no later image is stored either
            return
        try:
            self.file.write(np.ascontiguousarray(pixels).data)
        except OSError:  # the disk is full
            self.max_bytes = 0
            return
        self.positions.append(position)
        self.offsets.append(self.size)
        is_same = self.shapes and self.shapes[-1] == pixels.shape  # one object for many images
        self.shapes.append(self.shapes[-1] if is_same else pixels.shape)
        self.size += pixels.nbytes

    def read(self, position: int) -> np.ndarray:
        """The pixels at a stored position. The caller may change the array."""
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
            self.max_bytes = min(self.max_bytes, shutil.disk_usage(file.fileno()).free // SHARE)
            self.file = file
        except OSError:  # there is no folder for temporary files
            self.max_bytes = 0
