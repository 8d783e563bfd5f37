"""Find the images of a probing set that repeat an earlier one.

A repeat has exactly the pixels of an earlier image without a defect, of any split or class. If their classes differ,
the first image keeps its class, because nothing tells which one is right. Near duplicates are not repeats.
"""

from __future__ import annotations

from typing import NamedTuple


class Origin(NamedTuple):
    """Where an image comes from. path: None if it was drawn."""

    position: int
    path: str | None
    split: str
    class_name: str | None

    def __str__(self) -> str:
        return f"{self.path or f'image {self.position}'} ({self.class_name})"


class Repeats:
    """The images that a scan has seen so far: a hash and an origin of each, in memory."""

    def __init__(self) -> None:
        self._firsts: dict[bytes, Origin] = {}

    def original(self, image: Origin, sha256: str) -> Origin | None:
        """The earlier image with the same hash of pixels. None if there is none; then this image is the first."""
        first = self._firsts.setdefault(bytes.fromhex(sha256), image)
        return None if first is image else first
