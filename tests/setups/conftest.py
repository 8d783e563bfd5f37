"""What the set-ups share: drawn pictures, a CLIP with random weights, and where a run came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import dissectdb
from tests.support.worlds import Done, World

CONCEPTS = ["bright", "dark", "round", "striped"]
INPUT = {"resize": 36, "crop": 32, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
IN_TOML = "[network.input]\nresize = 36\ncrop = 32\nmean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n"


def picture(seed: int, side: int = 24, channels: int = 3) -> np.ndarray:
    """Noisy stripes or a disc, uint8 (side, side, channels)."""
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] - chance.uniform(side / 3, side / 1.5, (2, 1, 1))
    shape = np.sin(rows * chance.uniform(0.3, 1)) if seed % 2 else np.hypot(rows, columns) < side / 4
    colour = chance.uniform(40, 120, channels)
    return np.clip(70 + shape[..., None] * colour + chance.normal(0, 12, (side, side, channels)), 0, 255).astype(
        np.uint8
    )


def save(path: Path, seed: int, **options: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(picture(seed, **options)).save(path)
    return path


def save_classes(folder: Path, classes: Sequence[str], count: int = 12, first: int = 0) -> None:
    """<class>/<number>.png, `count` of each class."""
    for place, name in enumerate(classes):
        for number in range(count):
            save(folder / name / f"{number:03}.png", first + place * count + number)


@dataclass(frozen=True)
class Desk:
    """A folder of one's own, and the files of a CLIP."""

    folder: Path
    clip: dict[str, str]

    @property
    def world(self) -> World:
        return World(self.folder)

    def dissect(self, model: Any, images: Any, layers: Any, **changes: Any) -> dissectdb.OpenWarehouse:
        """dissect() with what all set-ups have in common."""
        common: dict[str, Any] = {
            "concepts": CONCEPTS,
            "clip": self.clip,
            "warehouse": self.folder / "warehouse.duckdb",
        }
        common |= {"input": INPUT, "device": "cpu", "top_k": 5, "null_draws": 100, "bootstraps": 0}
        return dissectdb.dissect(model, images, layers=layers, **common | changes)

    def write(self, dataset: str, network: str, given: str = IN_TOML, clip: str = "") -> None:
        """A study file of these tables."""
        files = "".join(f'{key} = "{value}"\n' for key, value in self.clip.items())
        dataset = dataset if dataset.startswith("[") else f"[dataset]\n{dataset}"
        words = f'[[concept_sets]]\nname = "words"\nsource = {CONCEPTS}\n'
        asked = '[[dissections]]\nconcepts = "words"\ntop_k = 5\nnull_draws = 100\nbootstraps = 0\n'
        parts = ['device = "cpu"\n', dataset, f"[network]\n{network}", given, f"[clip]\n{files}{clip}", words, asked]
        self.world.study.write_text("\n".join(parts), encoding="utf-8")

    def extract(self, *options: object) -> dissectdb.OpenWarehouse:
        """The warehouse that the study comes to."""
        done = self.world.extract("-w", self.world.warehouse, *options)
        assert done.code == 0, done.err
        return dissectdb.open(self.world.warehouse)

    def again(self) -> Done:
        return self.world.extract("-w", self.world.warehouse)


@pytest.fixture
def desk(untouched: World, tmp_path: Path) -> Desk:
    files = {"weights": "clip.safetensors", "config": "tiny-clip.json"}
    paths = {key: str(untouched.folder / name) for key, name in files.items()}
    return Desk(tmp_path, {"architecture": "tiny-clip", **paths})


def neurons(opened: dissectdb.OpenWarehouse) -> dict[str, int]:
    """The neurons of each layer that has labels. A neuron has one, unless it is dead or fires for too few images."""
    frame = opened.neuron_concepts()
    assert (frame["concept"].is_null() == (frame["dead"] | frame["sparse"])).all()
    assert set(frame["concept"].drop_nulls()) <= set(CONCEPTS)
    counts = "select layer, count(*) from neuron_concepts group by layer having count(concept) > 0"
    return dict(opened.sql(counts).rows())


def classes(opened: dissectdb.OpenWarehouse) -> dict[str | None, int]:
    """The sound images of each class."""
    frame = opened.sql("select true_class, count(*) as images from named_images where defect is null group by all")
    return dict(frame.sort("true_class", nulls_last=True).rows())


def accuracy(opened: dissectdb.OpenWarehouse) -> tuple[int, float | None, int]:
    """The images whose class is an output, the share of them that is right, and the images where that is unknown."""
    frame = opened.network_accuracies().select("images", "correct", "num_unknown")
    images, correct, unknown = (frame[name].sum() for name in frame.columns)
    return images, correct / images if images else None, unknown
