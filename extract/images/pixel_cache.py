"""Decoded images in a file without a name, so that a process decodes each of them once.

kept = PixelFile()
kept.add(7, pixels)        # uint8 (H, W) or (H, W, 3); positions ascend
if 7 in kept:
    kept.read(7)           # from the page cache, mapped into memory; another process, and the next run, see nothing

The file is gone with the process, however that ends. It lies where temporary files do (TMPDIR) and takes a quarter of
what is free there at most; images for which there is no room are decoded again.
"""

from __future__ import annotations

import shutil
import tempfile
from array import array
from bisect import bisect_left

import numpy as np

MOST = 16 << 30  # bytes
BUFFER = 1 << 20  # each write lets other threads in, and waits for them
SHARE = 4  # one part in so many of the free space


class PixelFile:
    """Pixels by position."""

    def __init__(self, most: int = MOST) -> None:
        """most: bytes, if a quarter of the free space is more."""
        self.most = most
        self.file = None
        self.size = 0
        self.positions = array("q")
        self.offsets = array("q")
        self.shapes: list[tuple[int, ...]] = []
        self.mapped: np.ndarray | None = None

    def __contains__(self, position: int) -> bool:
        place = bisect_left(self.positions, position)
        return place < len(self.positions) and self.positions[place] == position

    def add(self, position: int, pixels: np.ndarray) -> None:
        """Keep the pixels of an image that comes after all that are kept, if there is room."""
        if self.positions and position <= self.positions[-1]:
            return
        if self.file is None and self.most:
            self._open()
        if self.size + pixels.nbytes > self.most:
            self.most = 0  # and none after it
            return
        try:
            self.file.write(np.ascontiguousarray(pixels))
        except OSError:  # others filled the disk
            self.most = 0
            return
        self.positions.append(position)
        self.offsets.append(self.size)
        same = self.shapes and self.shapes[-1] == pixels.shape  # one object for many images
        self.shapes.append(self.shapes[-1] if same else pixels.shape)
        self.size += pixels.nbytes

    def read(self, position: int) -> np.ndarray:
        """The pixels at a position that is kept; writing to them changes nothing but themselves."""
        if self.mapped is None or len(self.mapped) < self.size:
            self.file.flush()
            self.mapped = np.memmap(self.file, np.uint8, "c", shape=(self.size,))
        place = bisect_left(self.positions, position)
        shape, offset = self.shapes[place], self.offsets[place]
        return np.asarray(self.mapped[offset : offset + int(np.prod(shape))]).reshape(shape)

    def _open(self) -> None:
        try:
            self.file = tempfile.TemporaryFile(buffering=BUFFER)  # noqa: SIM115 - open as long as the process reads images
            self.most = min(self.most, shutil.disk_usage(self.file.fileno()).free // SHARE)
        except OSError:  # no place for temporary files
            self.most = 0
