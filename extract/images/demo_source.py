"""The demo's faces as a probing set. They are drawn when they are read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from dissectdb.extract.images.decoding import Pixels, file_hash, inspect
from dissectdb.extract.images.scan import Record, Source
from dissectdb.extract.study import Dataset, StudyError

if TYPE_CHECKING:
    from dissectdb.extract.demo.faces import Faces

DEMO_IMAGES = 6000
DEMO_BLOCK = 256  # faces drawn at a time


class Demo(Source):
    """Drawn faces. Any block can be drawn without the blocks before it."""

    name = "the demo's faces"

    def __init__(self, dataset: Dataset) -> None:
        from dissectdb.extract.demo import faces  # only the demo needs it

        super().__init__(dataset)
        if dataset.seed < 0:
            raise StudyError(f"{self.name}: seed = {dataset.seed} must be 0 or more")
        self.faces = faces
        self.classes = tuple(self.faces.CLASSES)
        self.count: int = dataset.images or DEMO_IMAGES
        self.seed = dataset.seed

    def fingerprint(self) -> str:
        digest = self.settings_hash(kind="demo", images=self.count, seed=self.seed)
        for name in (
            "faces.py",
            "render.py",
            "relief.py",
            "strokes.py",
        ):  # a change in how faces are drawn makes another dataset
            digest.update(file_hash(Path(self.faces.__file__).with_name(name)))
        return digest.hexdigest()

    def records(self) -> Iterator[Record]:
        for start in range(0, self.count, DEMO_BLOCK):
            faces = self._block(start)
            for position, (pixels, emotion) in enumerate(zip(faces.pixels, faces.emotions, strict=True), start):
                yield Record(None, self._split(position), self.classes[emotion], inspect(pixels), pixels)

    def pixels(self, positions: list[int]) -> Iterator[Pixels]:
        wanted = (position for position in positions if position < self.count)
        for block, in_block in groupby(wanted, key=lambda position: position // DEMO_BLOCK):
            faces = self._block(block * DEMO_BLOCK)
            for block_position in in_block:
                yield faces.pixels[block_position - block * DEMO_BLOCK]

    def _block(self, start: int) -> Faces:
        return self.faces.draw(min(DEMO_BLOCK, self.count - start), self.seed, start=start)

    def _split(self, position: int) -> str:
        if position < self.count * 60 // 100:
            return "train"
        return "validation" if position < self.count * 75 // 100 else "test"
