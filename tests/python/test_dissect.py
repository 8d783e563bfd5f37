"""dissect(): a network and images that are objects give the tables of a study; a killed run goes on; edits work."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from torch.utils.data import Dataset

import dissectdb
from dissectdb import Study, StudyError, Warehouse, pipeline
from dissectdb.extract.record import network_plan
from dissectdb.first_study import told_of_few
from tests.python.conftest import Objects, network
from tests.support.worlds import CLASSES, draw


def counted(warehouse: Path, table: str) -> int:
    with Warehouse(warehouse, read_only=True) as opened:
        return len(opened.rows(f"select * from {table}"))


def test_the_tables_hold_what_a_study_of_the_same_gives(opened: dissectdb.OpenWarehouse, tmp_path: Path) -> None:
    folder = opened.path.parent
    torch.save(network().state_dict(), tmp_path / "net.pt")
    assert isinstance(opened.study, Study)
    settings = opened.study.model_dump(exclude_unset=True)
    of_network = settings["network"] | {"architecture": f"{folder}/net.py:make", "weights": tmp_path / "net.pt"}
    study = Study(**(settings | {"network": of_network}))
    pipeline.extract(study, tmp_path / "study.duckdb")
    for view in ("neuron_concepts", "top_images", "network_accuracies", "layer_summary"):
        read = getattr(dissectdb.open(tmp_path / "study.duckdb"), view)()
        assert read.sort(read.columns).equals(getattr(opened, view)().sort(read.columns)), view
    with Warehouse(tmp_path / "study.duckdb", read_only=True) as other:
        for table in ("datasets", "clips", "concept_sets"):
            query = f"select fingerprint from {table}"
            assert other.rows(query).equals(opened.rows(query)), table


def test_a_second_call_computes_nothing(own_objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    first = own_objects.dissect(network())
    model = network().train()
    model(torch.rand(1, 1, 16, 16))
    monkeypatch.setattr(network_plan, "compute", lambda *_: pytest.fail("a block is computed"))
    again = own_objects.dissect(model)
    assert again.dissection == first.dissection
    assert model.training
    monkeypatch.undo()
    other = own_objects.dissect(network(seed=2))
    assert other.dissection != first.dissection
    assert counted(first.path, "networks") == 2
    assert first.neuron_concepts()["dissection_id"].unique().to_list() == [first.dissection]


def test_without_top_k_a_small_set_gets_one_that_fits_and_that_is_said(
    own_objects: Objects, caplog: pytest.LogCaptureFixture
) -> None:
    del own_objects.keywords["top_k"]
    images = [draw(CLASSES[number % 3], number) for number in range(60)]
    opened = own_objects.dissect(network(), images, split="all")
    said = (
        "top_images lists 12 images of a neuron, not 100, because the set is small; {} (60 sound images); top_k=12 says"
    )
    assert [line for line in caplog.messages if line.startswith(said.format("all images of the split label it"))]
    assert told_of_few(12, 100, "soft_wpmi") in said.format("they label it")
    assert "rank_fraction" in told_of_few(12, 100, "rank_reorder")
    [row] = opened.rows("select top_k, min_images from dissections").rows(named=True)
    assert row == {"top_k": 12, "min_images": 10}
    assert opened.top_images(unit=0)["rank"].max() <= 12
    caplog.clear()
    again = own_objects.dissect(network(), images, split="all", top_k=12)
    assert again.dissection == opened.dissection
    assert not [line for line in caplog.messages if "by default" in line]


def test_labels_are_counted_by_the_category_of_their_words(own_objects: Objects) -> None:
    words = own_objects.folder.parent / "words.toml"
    words.write_text('[categories]\nround = ["a disc", "a ring"]\nstraight = ["a bar", "a ring"]\n')
    opened = own_objects.dissect(network(), concepts=words, layers=["lin"])
    rows = opened.rows("select concept, category from concepts order by position")
    assert rows.rows() == [("a disc", "round"), ("a ring", "round"), ("a bar", "straight")]
    labels = opened.neuron_concepts().drop_nulls("concept")
    assert len(labels)
    assert set(labels.select("concept", "category").rows()) <= set(rows.rows())
    [counted] = opened.sql("select count(category) as labels from neuron_concepts").rows()
    assert counted == (len(labels),)


def test_a_layer_that_is_added_is_all_that_is_computed(own_objects: Objects) -> None:
    own_objects.dissect(network(), layers=["conv1"])
    before = counted(own_objects.keywords["warehouse"], "extractions")
    opened = own_objects.dissect(network(), layers=["conv1", "lin"])
    assert counted(opened.path, "extractions") == before + 1
    assert set(opened.layer_summary()["layer"]) == {"conv1", "lin"}


KILLED = """
import os, signal, sys
from pathlib import Path
from dissectdb.extract.record import blocks
from dissectdb.warehouse import units
from tests.python.conftest import network, objects_of
blocks.BLOCK = 32
insert, seen = units.insert, []
def killing(connection, table, rows):
    insert(connection, table, rows)
    seen.append(table)
    if seen.count("activations") == 6:  # three layers: within the transaction of the second block
        os.kill(os.getpid(), signal.SIGKILL)
units.insert = killing
objects_of(Path(sys.argv[1])).dissect(network())
"""


def test_a_killed_run_goes_on_where_it_was(own_objects: Objects) -> None:
    folder = own_objects.folder.parent
    done = subprocess.run([sys.executable, "-c", KILLED, folder], cwd=dissectdb.ROOT)
    assert done.returncode == -signal.SIGKILL
    with Warehouse(folder / "w.duckdb") as opened:
        before = opened.rows("select * from extraction_blocks order by all")
    assert before["block"].unique().to_list() == [0]
    after = own_objects.dissect(network())
    blocks = after.rows("select * from extraction_blocks order by all")
    assert before.join(blocks, on=before.columns, how="anti").is_empty(), "what was done is not done again"
    again = own_objects.dissect(network(), warehouse=folder / "undisturbed.duckdb")
    for view in ("neuron_concepts", "top_images"):
        whole, continued = getattr(again, view)(), getattr(after, view)()
        assert whole.sort(whole.columns).equals(continued.sort(whole.columns))


def test_a_file_that_cannot_be_read_is_said(own_objects: Objects, caplog: pytest.LogCaptureFixture) -> None:
    file = next(own_objects.folder.rglob("*.png"))
    file.with_name("broken.png").write_bytes(b"no picture")
    opened = own_objects.dissect(network())
    [row] = opened.sql("select count(*) as n, count(defect) as d from named_images").to_dicts()
    assert f"{row['d']} of {row['n']} images are left out, of which" in caplog.text
    assert caplog.text.count("cannot be read; named_images.defect") == 1


def test_its_study_and_objects_serve_modify_effects_and_recheck(own_objects: Objects) -> None:
    opened = own_objects.dissect(network())
    assert opened.study is not None
    assert opened.given is not None
    edits = [{"name": "paper", "layer": "lin"}]
    protocol = {"controls": 3, "shuffles": 1, "bootstraps": 100}
    study = opened.study.changed(edits=edits, protocol=protocol)
    modified = pipeline.modify(study, opened.path, given=opened.given)
    assert modified.checkpoint.is_file()
    assert set(opened.edit_results()["split"]) == {"validation", "test"}
    assert pipeline.modify(study, opened.path, given=opened.given) == modified
    _, findings = pipeline.recheck(opened.study, opened.path, given=opened.given, images=4, seed=0)
    assert findings
    assert all(finding.holds for finding in findings)
    assert pipeline.plan_extraction(opened.study, opened.path, given=opened.given) == []


def test_its_control_networks_are_shuffled_copies(own_objects: Objects) -> None:
    opened = own_objects.dissect(network())
    assert opened.study is not None
    study = opened.study.changed(controls={"networks": ["shuffled"]})
    pipeline.extract(study, opened.path, given=opened.given)
    assert opened.control_summary()["control"].unique().to_list() != []
    fresh = opened.study.changed(controls={"networks": ["initialised"]})
    with pytest.raises(StudyError, match="fresh weights need a function that builds Net anew"):
        pipeline.extract(fresh, opened.path, given=opened.given)


def test_such_a_study_without_its_objects_says_what_is_missing(opened: dissectdb.OpenWarehouse) -> None:
    assert opened.study is not None
    with pytest.raises(StudyError, match="is an object of Python; pass it: given=Given"):
        pipeline.extract(opened.study, opened.path)
    with pytest.raises(StudyError, match=r"network.architecture: object:of_a_notebook.Net is an object"):
        opened.study.to_toml()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"layers": ["conv3"]}, r"Net has no layer conv3; did you mean conv1 or conv2\?|Net has no layer conv3"),
    ({"layers": []}, "network.layers: is an empty list"),
    ({"concepts": []}, r"the study's list of concepts: holds 0 concept\(s\)"),
    ({"concepts": ["one"]}, r"holds 1 concept\(s\); a label needs at least two"),
    ({"concepts": "emotion"}, "no concept set 'emotion' comes with dissectdb; did you mean emotions"),
    ({"input": None}, r"input is missing, and Net does not carry it; pass input=\{"),
    ({"input": 224}, "input: a int does not tell how images are prepared"),
    ({"scorer": "presnce"}, "dissections.0..scorer: .*did you mean presence"),
    ({"topk": 3}, "dissections.0..topk is not a setting; did you mean top_k"),
    ({"clip": "ViT-B-32"}, "clip: weights is missing"),
    ({"clip": "ViT-B-32/laion"}, "ViT-B-32 has no pretrained tag 'laion'"),
    ({"top_k": 200}, "the probing split train has 72 sound images, fewer than top_k = 200"),
    ({"classes": ["a", "b"]}, "network.classes names 2 classes, the network has 3 outputs"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[next(iter(changes)) for changes, _ in WRONG])
def test_a_mistake_is_one_line_and_leaves_no_warehouse(
    objects: Objects, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        objects.dissect(network(), warehouse=tmp_path / "new.duckdb", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new.duckdb").exists()


class Shapes(Dataset):
    """Drawn shapes as tensors, with the numbers of their classes."""

    classes = CLASSES

    def __init__(self) -> None:
        self.arrays = [draw(CLASSES[number % 3], number // 3) for number in range(60)]

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.arrays[index])[None], index % 3


def test_images_may_be_a_dataset_or_a_list(own_objects: Objects) -> None:
    of_dataset = own_objects.dissect(network(), Shapes(), split="all")
    assert of_dataset.network_accuracies().select("dataset", "split", "images").rows() == [("Shapes", "all", 60)]
    assert of_dataset.top_images()["true_class"].unique().sort().to_list() == sorted(CLASSES)
    arrays = Shapes().arrays
    of_arrays = own_objects.dissect(network(), arrays, split="all")
    assert of_arrays.dissection != of_dataset.dissection, "they have no classes"
    assert own_objects.dissect(network(), Shapes(), split="all").dissection == of_dataset.dissection
    pictures = [PIL.Image.fromarray(array) for array in arrays]
    assert own_objects.dissect(network(), pictures, split="all").dissection == of_arrays.dissection
    files = sorted(own_objects.folder.rglob("*.png"))
    of_files = own_objects.dissect(network(), files, split="all")
    assert of_files.sql("select count(*) as n from images where path is not null")["n"].to_list() == [len(files)]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "dataset images: no readable image: there is none"),
        ("", "'' is not a path"),
        (iter([1]), "is a list_iterator, not a map-style Dataset"),
        ([1, 2], "image 0: an image of type int; give PIL, numpy, a tensor or a file's path"),
        (["none.png"], "image 0: none.png: no such file"),
    ],
    ids=["empty", "no path", "an iterator", "numbers", "a file that is not there"],
)
def test_images_that_are_none_are_refused(objects: Objects, tmp_path: Path, images: object, message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        objects.dissect(network(), images, warehouse=tmp_path / "new.duckdb", split="all")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new.duckdb").exists()


def test_a_folder_that_is_not_there_is_refused(objects: Objects, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such file or folder"):
        objects.dissect(network(), tmp_path / "none", warehouse=tmp_path / "new.duckdb")
    with pytest.raises(dissectdb.WarehouseError, match="there is no folder"):
        objects.dissect(network(), warehouse=tmp_path / "none" / "new.duckdb")


def test_the_input_is_taken_from_what_the_model_or_its_weights_say() -> None:
    import timm
    from torchvision.models import ResNet18_Weights

    from dissectdb.extract.models import given_input

    of_weights = given_input.of(None, ResNet18_Weights.DEFAULT.transforms())
    assert of_weights == given_input.of(None, ResNet18_Weights.DEFAULT) == {
        "size": 224, "resize": 256, "interpolation": "bilinear", "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    of_timm = given_input.of(timm.create_model("test_vit"), None)
    assert (of_timm["size"], of_timm["mean"]) == (160, [0.5, 0.5, 0.5])


def test_the_preprocessing_that_a_timm_model_carries_is_that_of_its_transform() -> None:
    import timm
    from timm.data import create_transform, resolve_model_data_config

    from dissectdb.extract import study
    from dissectdb.extract.models import given_input, recipes

    for changes in ({}, {"crop_pct": 1.0}, {"crop_mode": "squash", "crop_pct": 1.0}):
        model = timm.create_model("test_vit", pretrained_cfg_overlay=changes)
        keys = given_input.of(model, None)
        recipe = recipes.of_input(study.Input(**keys))
        recipes.checked(recipe, create_transform(**resolve_model_data_config(model)), "test_vit")
    assert given_input.of(timm.create_model("test_vit", img_size=32), None)["size"] == 32
    with pytest.raises(StudyError, match="VisionTransformer takes 3 × 32 × 48"):
        given_input.of(timm.create_model("test_vit", img_size=(32, 48)), None)
    squashed = timm.create_model("test_vit", pretrained_cfg_overlay={"crop_mode": "squash", "crop_pct": 0.9})
    with pytest.raises(StudyError, match=r"VisionTransformer crops in another way \(squash, 177 pixels\)"):
        given_input.of(squashed, None)
