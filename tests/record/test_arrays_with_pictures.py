"""Arrays of the images of a dataset: pictures, classes and splits are the dataset's, as for a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.support.killer import kill
from tests.support.worlds import CLASSES, World, make_images

COUNTS = {"train": 20, "validation": 7, "test": 4}  # sound images of each class
IMAGES = 3 * sum(COUNTS.values()) + 3  # with a broken, a blank and a repeated one
D, C, TOP = 8, 3, 10
STUDY = f"""
warehouse = "warehouse.duckdb"
device = "cpu"
[dataset]
name = "shapes"
kind = "folder"
path = "images"
[arrays]
path = "features.safetensors"
name = "sae"
[[concept_sets]]
name = "words"
source = "words.toml"
[[dissections]]
concepts = "words"
scorer = "soft_wpmi"
top_k = {TOP}
null_draws = 1000
"""
WORDS = "[concepts]\n" + "".join(f'"{name}" = ["{name}"]\n' for name in CLASSES)


def positions() -> list[tuple[str, str | None]]:
    """Path and class of each position: by split, class and path, with the files that are left out."""
    names = {("train", "bar"): ["005b.jpg", "010b.png", "012b.png"]}
    return [
        (f"{split}/{class_name}/{file}", class_name)
        for split, count in COUNTS.items()
        for class_name in CLASSES
        for file in sorted([*(f"{place:03}.png" for place in range(count)), *names.get((split, class_name), [])])
    ]


def features() -> dict[str, torch.Tensor]:
    """Unit c follows class c, unit 3 is noise. Images that are left out have NaN, which nobody may read."""
    chance = torch.Generator().manual_seed(3)
    classes = torch.tensor([CLASSES.index(class_name) for _, class_name in positions()])
    concepts = torch.eye(C, D)
    images = concepts[classes] + 0.1 * torch.randn(IMAGES, D, generator=chance)
    units = torch.cat([images[:, :C], torch.randn(IMAGES, 1, generator=chance)], 1)
    left_out = [row for row, (path, _) in enumerate(positions()) if "b." in path]
    units[left_out], images[left_out] = float("nan"), float("nan")
    return {
        "image_embedding": images,
        "concept_embedding": concepts,
        "layer/features": units,
        "class": classes,
        "predicted": (classes + (torch.arange(IMAGES) % 5 == 0)) % 3,
    }


def make(
    folder: Path, tensors: dict[str, torch.Tensor] | None = None, paths: list[str] | None = None, study: str = STUDY
) -> World:
    folder.mkdir()
    make_images(folder / "images", COUNTS)
    (folder / "study.toml").write_text(study)
    (folder / "words.toml").write_text(WORDS)
    save_file(tensors or features(), folder / "features.safetensors", paths and {"paths": json.dumps(paths)})
    return World(folder)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> World:
    """An extracted world; only to be read."""
    world = make(tmp_path_factory.mktemp("pictures") / "done", study=STUDY + '[judge]\nsplit = "validation"\n')
    result = world.extract()
    assert result.code == 0, result.err
    return world


# ---------------------------------------------------------------- as of a network


def test_images_are_those_of_the_dataset(done: World) -> None:
    images = done.rows("select position, path, split, class, thumbnail, defect from images natural join splits")
    images.sort(key=lambda row: row["position"])
    assert [(row["path"], row["class"]) for row in images] == positions()
    assert [row["split"] for row in images] == [path.split("/")[0] for path, _ in positions()]
    defects = {row["path"].split("/")[-1]: row["defect"] for row in images if row["defect"]}
    assert set(defects) == {"005b.jpg", "010b.png", "012b.png"}
    assert all(row["thumbnail"] for row in images if row["defect"] is None)


def test_each_image_has_the_values_of_its_row(done: World) -> None:
    given = features()
    rows = done.frame(
        """
        select position, unit, value from activations
        inner join images using (image_id) inner join neurons using (neuron_id)
        """
    )
    expected = given["layer/features"][rows["position"].to_list(), rows["unit"].to_list()]
    np.testing.assert_array_equal(rows["value"].to_numpy(), expected.numpy())
    assert len(rows) == 4 * 3 * (COUNTS["train"] + COUNTS["validation"])
    rows = done.frame("select position, embedding from image_embeddings inner join images using (image_id)")
    expected = torch.nn.functional.normalize(given["image_embedding"], dim=1)[rows["position"].to_list()]
    np.testing.assert_allclose(np.stack(rows["embedding"].to_list()), expected.numpy(), atol=1e-6)
    for row in done.rows("select position, p.class from predictions p inner join images using (image_id)"):
        assert row["class"] == CLASSES[given["predicted"][row["position"]]]


def test_units_are_named_by_the_class_that_they_follow(done: World) -> None:
    rows = done.rows("select unit, concept from neuron_concepts order by unit")
    assert [row["concept"] for row in rows[:C]] == list(CLASSES)
    counts = done.rows("select count(*) as rows from concept_counts_by_prediction")
    assert counts[0]["rows"] > 0
    measured = done.rows("select distinct judged_on from label_quality")
    assert {row["judged_on"] for row in measured} == {"halves", "validation"}
    accuracies = done.rows("select split, images from network_accuracies")
    assert {row["split"]: row["images"] for row in accuracies} == {split: 3 * n for split, n in COUNTS.items()}


def test_check_report_and_judge_work(done: World, tmp_path: Path) -> None:
    for options in ((), ("--deep", done.study)):
        checked = done.run("check", *options)
        assert checked.code == 0, checked.out + checked.err
    made = done.run("report", "-o", tmp_path / "report.html")
    assert made.code == 0, made.err
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    gallery = json.loads(page.partition('id="gallery-data">')[2].partition("</script>")[0])
    assert len(gallery["pictures"]) == len(gallery["histograms"]) == 4
    assert all(image[2] for image in gallery["images"].values()), "each has its picture"


def test_a_killed_run_continues_where_it_stopped(done: World, tmp_path: Path) -> None:
    world = make(tmp_path / "world", study=STUDY + '[judge]\nsplit = "validation"\n')
    kill("extract", {str(world.study): ("insert", "activations", 2)})
    assert world.rows("select distinct block from extraction_blocks") == [{"block": 0}]
    assert world.extract().code == 0
    assert world.extract().out.startswith("nothing is stale")
    built = {"view_parts", "table_versions"}
    expected = {name: rows for name, rows in done.tables().items() if name not in built}
    assert {name: rows for name, rows in world.tables().items() if name not in built} == expected


def test_images_without_classes_take_those_of_the_file(tmp_path: Path) -> None:
    world = make(tmp_path / "world")
    for split in COUNTS:
        for class_name in CLASSES:
            for file in (world.folder / "images" / split / class_name).iterdir():
                file.rename(world.folder / "images" / split / f"{class_name}_{file.name}")
            (world.folder / "images" / split / class_name).rmdir()
    world.change('name = "sae"', f'name = "sae"\nclasses = {list(CLASSES)}')
    result = world.extract()
    assert result.code == 0, result.err
    rows = world.rows("select path, class from images")
    assert all(row["path"].split("/")[-1].startswith(row["class"]) for row in rows)
    assert world.rows("select class from classes order by position") == [{"class": name} for name in CLASSES]


def test_a_network_and_arrays_share_their_images(tmp_path: Path) -> None:
    """The images are in the warehouse already, so that no scan can refuse rows that do not fit."""
    world = make(tmp_path / "world")
    assert world.extract().code == 0
    tensors = features() | {"layer/features": 2 * features()["layer/features"]}
    save_file(tensors, world.folder / "features.safetensors")
    assert world.extract().code == 0
    assert world.counts()["datasets"] == 1
    assert world.counts()["networks"] == 2
    tensors["class"][70] = (tensors["class"][70] + 1) % 3
    save_file(tensors, world.folder / "features.safetensors")
    before = world.tables()
    assert "in row 70, but image 70" in world.extract().err
    assert world.tables() == before


# ---------------------------------------------------------------- mistakes


def changed_class(row: int) -> dict[str, torch.Tensor]:
    tensors = features()
    tensors["class"][row] = (tensors["class"][row] + 1) % 3
    return tensors


def swapped_paths() -> list[str]:
    paths = [f"elsewhere/images/{path}" for path, _ in positions()]
    paths[30], paths[31] = paths[31], paths[30]
    return paths


MISTAKES: dict[str, tuple[Callable[[], object], Callable[[], object], str]] = {
    "fewer rows": (
        lambda: {k: v if k == "concept_embedding" else v[:-1].clone() for k, v in features().items()},
        lambda: None,
        f"features.safetensors has {IMAGES - 1} rows per array, ",
    ),
    "and images": (
        lambda: {k: v if k == "concept_embedding" else v[3:].clone() for k, v in features().items()},
        lambda: None,
        f"images has {IMAGES} images; row i is of the image at position i, so write a row for every image, also for",
    ),
    "class": (lambda: changed_class(9), lambda: None, "class is disc in row 9, but image 9 (train/bar/008.png) is of"),
    "path": (features, swapped_paths, "row 30 is of elsewhere/images/train/disc/008.png, as its paths say, but image"),
    "no list": (features, lambda: "train", "paths of its metadata must be a JSON list"),
    "short list": (features, lambda: ["train"], f"paths of its metadata has 1 paths for {IMAGES} rows"),
    "output": (
        lambda: features() | {"predicted": torch.full((IMAGES,), 7)},
        lambda: None,
        "predicted is 7 in row 0; classes go from 0 to 2, the classes of the dataset; arrays.classes may name",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_rows_that_are_not_of_the_images_are_refused(tmp_path: Path, what: str) -> None:
    tensors, paths, message = MISTAKES[what]
    world = make(tmp_path / "world", tensors(), paths())
    result = world.extract()
    assert result.code == 2
    assert message in result.err.splitlines()[-1]
    assert world.run("query", "select count(*) from images").code != 0 or world.counts()["images"] == 0


def test_paths_of_another_folder_are_the_same_images(tmp_path: Path) -> None:
    world = make(tmp_path / "world", paths=[f"/data/{path}" for path, _ in positions()])
    result = world.extract()
    assert result.code == 0, result.err


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ('[judge]\nclip = { architecture = "a", weights = "b" }', "judge.clip: arrays hold the embeddings of one CLIP"),
        ('[[edits]]\nname = "paper"', "edits: arrays have no weights"),
    ],
)
def test_what_needs_a_network_is_refused(tmp_path: Path, added: str, message: str) -> None:
    world = make(tmp_path / "world", study=STUDY + added)
    result = world.extract()
    assert result.code == 2
    assert message in result.err
