"""Whole runs on a Dataset of a file, on united sources and on images of four channels, by the commands.

Each is planned, extracted, found complete, checked again from its images, edited, and computed in two shards.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from tests.support.worlds import World, command

DATA = """
from pathlib import Path

import numpy as np
from PIL import Image


class Shapes:
    def __init__(self, folder, bands):
        files = sorted(Path(folder).rglob("*.png"))
        self.files, self.bands = [file for file in files if file.stem != "010b"], bands

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        file = self.files[index]
        image = np.asarray(Image.open(file))
        if self.bands > 1:
            image = np.stack([np.roll(image, band) for band in range(self.bands)])
        return {"image": image, "label": file.parts[-2], "split": file.parts[-3], "group": file.parts[-1][:2]}


def shapes(folder, bands=1):
    return Shapes(Path(__file__).parent / folder, bands)
"""
FOLDER = '[dataset]\nname = "shapes"\nkind = "folder"\npath = "images"\n'
OF_PYTHON = 'kind = "python"\npath = "data.py:shapes"\n'


def of_python(world: World) -> None:
    world.change(FOLDER, f'[dataset]\nname = "shapes"\n{OF_PYTHON}arguments = {{ folder = "images" }}\n')


def of_sources(world: World) -> None:
    """The discs from another folder, by a Dataset."""
    for split in ("train", "validation", "test"):
        shutil.move(world.folder / "images" / split / "disc", world.folder / "discs" / split / "disc")
    sources = '[[dataset.sources]]\nname = "drawn"\nkind = "folder"\npath = "images"\n'
    sources += f'[[dataset.sources]]\nname = "round"\n{OF_PYTHON}arguments = {{ folder = "discs" }}\n'
    world.change(FOLDER, f'[dataset]\nname = "shapes"\n{sources}')


def of_channels(world: World) -> None:
    """Four bands: the network sees the last of them, CLIP the first three in reverse."""
    world.change(FOLDER, f'[dataset]\nname = "bands"\n{OF_PYTHON}arguments = {{ folder = "images", bands = 4 }}\n')
    world.change('mode = "grey"\n', 'mode = "grey"\nchannels = [3]\n')
    world.change('config = "tiny-clip.json"\n', 'config = "tiny-clip.json"\nchannels = [2, 1, 0]\n')


def labels_of(world: World) -> tuple[list[tuple], np.ndarray]:
    """The label of each neuron, and how well it fits, which depends on the order of sums in its last digits."""
    frame = world.frame("select layer, unit, concept, similarity from neuron_concepts order by layer, unit")
    return frame.drop("similarity").rows(), frame["similarity"].to_numpy()


@pytest.mark.parametrize("change", [of_python, of_sources, of_channels], ids=lambda change: change.__name__[3:])
def test_a_study_from_a_plan_to_merged_shards(new_world: World, change) -> None:
    world = new_world
    (world.folder / "data.py").write_text(DATA, encoding="utf-8")
    change(world)
    before = world.bytes()
    planned = world.extract("--dry-run")
    assert (planned.code, world.bytes()) == (0, before), planned.err
    assert "soft_wpmi with shapes" in planned.out
    done = world.extract("--threads", 16)
    assert done.code == 0, done.err
    labels, similarities = labels_of(world)
    assert {layer for layer, _, concept in labels if concept} >= {"conv1", "conv2", "lin"}
    assert world.extract().out.startswith("nothing is stale")
    assert "othing" in (again := world.extract("--dry-run")).out + again.err
    check = world.run("check", "--deep", world.study)
    assert check.code == 0, check.out + check.err

    parts = world.folder / "parts"
    for number in range(2):
        done = command("extract", world.study, "--sink", f"parquet:{parts}", "--shard", f"{number}/2")
        assert done.code == 0, done.err
    merged = World(world.folder / "merged")
    merged.folder.mkdir()
    assert command("import", parts, "-w", merged.warehouse).code == 0
    assert command("check", "-w", merged.warehouse).code == 0
    merged_labels, merged_similarities = labels_of(merged)
    assert merged_labels == labels
    np.testing.assert_allclose(merged_similarities, similarities, atol=1e-9)
    for view in ("named_images", "image_attributes", "network_accuracies"):
        assert merged.rows(f"select * from {view} order by all") == world.rows(f"select * from {view} order by all")

    edited = world.modify("--edit", "paper")
    assert edited.code == 0, edited.err
    assert {row["split"] for row in world.rows("select split from edit_results")} == {"validation", "test"}
    assert world.extract().out.startswith("nothing is stale")
    assert command("check", "-w", world.warehouse).code == 0


def test_a_changed_image_makes_exactly_its_dataset_stale(new_world: World) -> None:
    (new_world.folder / "data.py").write_text(DATA, encoding="utf-8")
    of_sources(new_world)
    assert new_world.extract().code == 0
    discs = new_world.folder / "discs" / "train" / "disc"
    shutil.copy(new_world.folder / "images" / "test" / "ring" / "000.png", discs / "000.png")
    done = new_world.extract()
    assert done.code == 0, done.err
    assert "nothing is stale" not in done.out
    assert len(new_world.rows("select * from datasets")) == 2
