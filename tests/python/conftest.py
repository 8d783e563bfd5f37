"""A small network and drawn shapes in a folder, dissected once from Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import dissectdb
from tests.support.worlds import CLASSES, NETWORK, make_world

CONCEPTS = ["a disc", "a ring", "a bar"]


def network(seed: int = 1) -> Any:
    """The network of tests.support.worlds, as a class of a notebook."""
    names: dict[str, Any] = {"__name__": "of_a_notebook"}
    exec(compile(NETWORK, "<cell>", "exec"), names)
    torch.manual_seed(seed)
    return names["make"](len(CLASSES))


@dataclass
class Objects:
    """What dissect() is called with. folder: the images."""

    folder: Path
    keywords: dict[str, Any]

    def dissect(self, model: Any, images: Any = None, **changes: Any) -> dissectdb.OpenWarehouse:
        return dissectdb.dissect(model, self.folder if images is None else images, **(self.keywords | changes))


def objects_of(folder: Path) -> Objects:
    """The objects of a folder that make_world has filled."""
    keywords = {
        "concepts": CONCEPTS,
        "layers": ["conv1", {"name": "conv2", "pooling": "max"}, "lin"],
        "clip": {
            "architecture": "tiny-clip",
            "config": folder / "tiny-clip.json",
            "weights": folder / "clip.safetensors",
        },
        "warehouse": folder / "w.duckdb",
        "input": {"size": 16, "mode": "grey", "mean": [0.5], "std": [0.25]},
        "split": "train",
        "device": "cpu",
        "top_k": 10,
        "null_draws": 200,
        "bootstraps": 0,
    }
    return Objects(folder / "images", keywords)


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """Only to be read; `opened` is its warehouse."""
    return objects_of(make_world(tmp_path_factory.mktemp("objects")).folder)


@pytest.fixture(scope="session")
def opened(objects: Objects) -> dissectdb.OpenWarehouse:
    return objects.dissect(network())


@pytest.fixture
def own_objects(tmp_path: Path) -> Objects:
    return objects_of(make_world(tmp_path / "objects").folder)


@pytest.fixture(scope="session")
def demo_network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The demo's network, and a folder of drawn faces beside the warehouse.duckdb that it was dissected into."""
    import PIL.Image

    from dissectdb.extract.demo import faces
    from dissectdb.extract.models import networks
    from dissectdb.extract.study import Study

    folder = tmp_path_factory.mktemp("demo") / "faces"
    folder.mkdir()
    drawn = networks.load(Study.load(dissectdb.ROOT / "studies" / "demo.toml").with_network("extract").network)
    for number, pixels in enumerate(faces.draw(60, seed=0).pixels):
        PIL.Image.fromarray(pixels).save(folder / f"{number}.png")
    dissectdb.dissect(
        drawn.model, folder, concepts="facial_expressions", layers=["lin2", "conv4b"], clip="dissectdb-face-rn",
        warehouse=folder.parent / "warehouse.duckdb", input={"size": 40, "mode": "grey", "rounding": False},
        top_k=20, null_draws=1000, bootstraps=0, device="cpu",
    )  # fmt: skip
    return drawn.model, folder
