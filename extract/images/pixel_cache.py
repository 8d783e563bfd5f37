"""Cache decoded images in an unnamed temporary file, so that a process decodes each image once.

cache = PixelFile()
cache.add(7, pixels)       # uint8 (H, W) or (H, W, 3); positions ascend
if 7 in cache:
    cache.read(7)          # mapped into memory

The system deletes the file when the process ends, even if it is killed. The file is in the folder for temporary files
(TMPDIR) and takes at most a quarter of the free space there. Images that do not fit are decoded again.

Several processes may write to the file: kept.shared() goes to them, shared.add(images) gives the places of the images
there, and kept.add(position, place) notes one.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import IO, NamedTuple

import numpy as np

MAX_BYTES = 16 << 30
BUFFER = 1 << 20  # bytes of one write; a write lets other threads run and waits for them
SMALL = 1 << 19  # bytes up to which images are joined, because a write takes longer than to copy them
SHARE = 4  # the file takes at most 1 / SHARE of the free space


class Place(NamedTuple):
    """Where the file holds an image. shape: of its pixels, one byte each."""

    offset: int
    shape: tuple[int, ...]


class SharedFile(NamedTuple):
    """The file as another process writes to it. descriptor: of the open file, which the process inherits."""

    descriptor: int
    max_bytes: int

    def add(self, images: Sequence[np.ndarray | None]) -> list[Place | None]:
        """Write images where no other process writes. None for an image that is None, and for all without room."""
        import fcntl  # not on Windows, where no other process writes

        size = sum(pixels.nbytes for pixels in images if pixels is not None)
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX)  # the system unlocks it if this process is killed
            try:
                offset = os.fstat(self.descriptor).st_size
                if not size or offset + size > self.max_bytes:
                    return [None] * len(images)
                os.ftruncate(self.descriptor, offset + size)
            finally:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN)
            data = [np.ascontiguousarray(pixels).data.cast("B") for pixels in images if pixels is not None]
            at = offset
            for part in [memoryview(b"".join(data))] if size < SMALL else data:
                _write_all(self.descriptor, part, at)
                at += len(part)
        except OSError:  # the disk is full
            return [None] * len(images)
        ends = accumulate((0 if pixels is None else pixels.nbytes for pixels in images), initial=offset)
        return [None if pixels is None else Place(at, pixels.shape) for at, pixels in zip(ends, images, strict=False)]


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


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

    def shared(self) -> SharedFile | None:
        """The file for other processes to write to. None if it has images already, or no room."""
        if self.file is None and self.max_bytes:
            self._open()
        if self.file is None or self.size or not self.max_bytes:
            return None
        return SharedFile(self.file.fileno(), self.max_bytes)

    def add(self, position: int, pixels: np.ndarray | Place) -> None:
        """Store the pixels of an image if there is room, or note the place where another process has stored them.

        Ignores a position that is not after all stored ones.
        """
        if self.positions and position <= self.positions[-1]:
            return
        if isinstance(pixels, Place):
            self._note(position, pixels)
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
        self._note(position, Place(self.size, pixels.shape))

    def _note(self, position: int, place: Place) -> None:
        self.positions.append(position)
        self.offsets.append(place.offset)
        is_same = self.shapes and self.shapes[-1] == place.shape  # one object for many images
        self.shapes.append(self.shapes[-1] if is_same else place.shape)
        self.size = max(self.size, place.offset + math.prod(place.shape))

    def read(self, position: int) -> np.ndarray:
        """The pixels at a stored position. The caller may change the array."""
        assert self.file is not None, "a kept position was written to it"
        if self.mapped is None or len(self.mapped) < self.size:
            self.file.flush()
            # A plain array over the mapping: a slice of numpy's memmap takes five times as long.
            self.mapped = np.asarray(np.memmap(self.file, np.uint8, "c", shape=(self.size,)))
        index = bisect_left(self.positions, position)
        shape, offset = self.shapes[index], self.offsets[index]
        return self.mapped[offset : offset + math.prod(shape)].reshape(shape)

    def _open(self) -> None:
        try:
            file = tempfile.TemporaryFile(buffering=BUFFER)  # noqa: SIM115 - open as long as the process reads images
            self.max_bytes = min(self.max_bytes, shutil.disk_usage(file.fileno()).free // SHARE)
            self.file = file
        except OSError:  # there is no folder for temporary files
            self.max_bytes = 0
