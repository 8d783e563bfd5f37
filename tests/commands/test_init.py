"""init: a first study from a folder, a list, a network by name and a checkpoint; and what it says it assumed."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
import torchvision

from dissectdb import ROOT
from dissectdb.commands import next_steps
from dissectdb.extract.study import NetworkStudy, Study
from tests.support.image_files import line, noise, save
from tests.support.worlds import CLIP, Done, command

FIVE = ("ant", "bee", "cat", "dog", "elk")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: photos of two classes, and words."""
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        for index, name in enumerate(("cat", "dog")):
            save(Path("photos") / name / f"{number}.png", noise(100 * index + number, 20, 24, 3))
    Path("words.txt").write_text("fur\ngrass\nsky\n")
    return tmp_path


def init(**flags: object) -> Done:
    given: dict[str, object] = {
        "images": "photos", "network": "torchvision:resnet18", "weights": "random", "concepts": "words.txt",
        "clip": "dissectdb-face-rn", **flags,
    }  # fmt: skip
    return command("init", *(part for key, value in given.items() if value for part in (f"--{key}", value)))


def written(path: str = "study.toml") -> NetworkStudy:
    return Study.load(path).with_network("the test")


def test_a_folder_of_photographs_becomes_a_study_that_runs(folder: Path) -> None:
    done = init()
    assert done.code == 0, done.err
    study, *following = done.out.splitlines()
    assert study == f"study: {folder / 'study.toml'}"
    assert following == ["", "Next", f"  dissectdb extract {next_steps.shown(folder / 'study.toml')}"]
    study, text = written(), Path("study.toml").read_text()
    assert (study.dataset.kind, study.dataset.path, study.dataset.probing_split) == ("folder", Path("photos"), "train")
    assert [layer.name for layer in study.network.layers] == ["layer[0-9]"]
    assert study.network.input is not None
    assert (study.network.input.size, study.network.input.resize) == (224, 256)
    assert study.dissections[0].top_k == 10
    assert "the blocks: layer1, layer2, layer3, layer4" in text
    assert str(folder) not in text, "what lies beside the study is named relative to it"
    for sentence in (
        "dataset.kind: a folder of images",
        "ASSUMED: your network was trained so",
        "top_k: top_images lists 10 images of a neuron, not 100, because the set is small; "
        "all images of the split label it",
    ):
        assert sentence in done.err
    planned = command("extract", "study.toml", "--dry-run")
    assert planned.code == 0, planned.err
    assert "activations layer4 train" in planned.out


def test_without_classes_and_splits_all_images_label_and_nothing_is_kept_for_edits(folder: Path) -> None:
    for number, photo in enumerate(sorted(Path("photos").rglob("*.png"))):
        photo.rename(Path("photos") / f"film{number // 4}_{number % 4}.png")
    for name in ("cat", "dog"):
        (Path("photos") / name).rmdir()
    done = init()
    assert done.code == 0, done.err
    assert written().dataset.probing_split == "all"
    assert "dataset.probing_split: the images that label the neurons; there are 24 sound images" in done.err
    assert "no split folders" not in done.err
    text = Path("study.toml").read_text()
    assert "[[edits]]" not in text
    Path("study.toml").write_text(text.replace("[network]", 'group_pattern = "([^/]+)_"\n\n[network]', 1))
    planned = command("extract", "study.toml", "--dry-run")
    assert planned.code == 0, planned.err
    assert "activations layer4 all" in planned.out


def test_a_checkpoint_says_its_prefix_its_outputs_and_their_names(folder: Path) -> None:
    model = torchvision.models.resnet18(num_classes=5)
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    class_to_idx = {name: index for index, name in enumerate(FIVE)}
    torch.save({"epoch": 3, "state_dict": state, "class_to_idx": class_to_idx}, "last.ckpt")
    photos = sorted(Path("photos").rglob("*.png"))
    Path("lists").mkdir()
    rows = [(f"../{photo.as_posix()}", FIVE[number % 5], "test") for number, photo in enumerate(photos)]
    pl.DataFrame(rows, schema=["path", "class", "split"], orient="row").write_csv("lists/photos.csv")
    done = init(images="lists/photos.csv", weights="last.ckpt", output="lists/study.toml")
    assert done.code == 0, done.err
    assert 'last.ckpt fits, without the prefix "module."' in done.err
    study = written("lists/study.toml")
    assert study.network.arguments == {"num_classes": 5}
    assert study.network.classes == FIVE
    assert study.network.weights == folder / "last.ckpt"
    assert study.dataset.kind == "manifest"
    assert study.dataset.probing_split == "test", "the only split that there is"
    planned = command("extract", "lists/study.toml", "--dry-run")
    assert planned.code == 0, planned.err


def test_a_checkpoint_of_another_network_is_refused_and_nothing_is_written(folder: Path) -> None:
    torch.save({"conv.weight": torch.zeros(2, 3, 1, 1)}, "other.pt")
    done = init(weights="other.pt")
    assert done.code == 2
    assert "other.pt does not fit ResNet" in done.err
    assert not Path("study.toml").exists()


def test_pretrained_weights_are_not_fetched_and_say_the_preprocessing_themselves(folder: Path) -> None:
    done = init(weights="pretrained")
    assert done.code == 0, done.err
    assert written().network.input is None
    assert (
        "[network.input] is left out: the weights of torchvision:resnet18 say it: 224 × 224"
        in Path("study.toml").read_text()
    )


def test_a_function_of_the_users_is_looked_at_too(folder: Path) -> None:
    Path("net.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef make(classes=3):\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))\n"
    )
    torch.save(torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    ).state_dict(), "net.pt")  # fmt: skip
    done = init(network="net.py:make", weights="net.pt")
    assert done.code == 0, done.err
    network = written().network
    assert network.arguments == {"classes": 2}
    assert network.classes == ("cat", "dog")
    assert network.input is not None
    assert network.input.mode == "grey"
    assert [layer.kind for layer in network.layers] == ["conv", "linear"]
    assert "network.input: ASSUMED: nothing says how images were prepared in training" in done.err
    assert "network.classes: ASSUMED: the outputs are the classes of the images" in done.err


@pytest.mark.parametrize("flag", ["images", "network", "weights", "concepts"])
def test_a_missing_flag_is_named_where_nobody_can_be_asked(
    folder: Path, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    done = init(**{flag: None})
    assert done.code == 2
    assert f"--{flag}" in done.err
    assert "is missing" in done.err
    assert not Path("study.toml").exists()


def test_on_a_terminal_it_asks_for_what_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("photos\nrandom\n"))
    done = init(images=None, weights=None)
    assert done.code == 0, done.err
    assert "Weights (a checkpoint, pretrained or random) [pretrained]" in done.err
    assert written().network.weights == "random"


def test_a_file_that_is_there_is_kept_unless_force_says_otherwise(folder: Path) -> None:
    Path("study.toml").write_text("mine")
    done = init()
    assert done.code == 2
    assert "study.toml exists already; --force overwrites it" in done.err
    assert Path("study.toml").read_text() == "mine"
    assert init(images="no such folder").code == 2
    forced = command("init", "--images", "photos", "--network", "vggnet", "--weights", "random", "--concepts",
                     "emotions", "--clip", "dissectdb-face-rn", "--force")  # fmt: skip
    assert forced.code == 0, forced.err
    assert written().network.input is not None
    assert written().concept_sets[0].source == "emotions"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"clip": "ViT-B-33/openai"}, "open_clip has no 'ViT-B-33'; did you mean"),
        ({"clip": "ViT-B-32"}, "name its weights too, as in ViT-B-32/openai"),
        ({"clip": "/weights/clip.pt"}, "is a file; write the architecture of its weights before it, as in ViT-B-32/"),
        ({"images": "photoz"}, "did you mean photos?"),
        ({"images": "torchvision:CIFAR10"}, "torchvision:CIFAR10 needs --root"),
        ({"root": "photos"}, "photos is of kind 'folder', which has no root"),
        ({"network": "torchvision:resnet19"}, "no such network; did you mean resnet18"),
        ({"concepts": "wordz.txt"}, "wordz.txt"),
        ({"output": "nowhere/study.toml"}, "there is no folder nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(folder: Path, flags: dict[str, str], message: str) -> None:
    done = init(**flags)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert not Path("study.toml").exists()


def test_a_clip_in_a_file_is_named_by_its_file(folder: Path) -> None:
    Path("ViT.pt").write_bytes((ROOT / "extract/demo/dissectdb-face-rn.safetensors").read_bytes())
    assert set(CLIP) >= {"embed_dim"}
    done = init(clip="ViT-B-32/ViT.pt", network="vggnet")
    assert done.code == 0, done.err
    assert written().clip.weights == "ViT.pt"


def test_fer2013_is_recognised_by_its_columns(folder: Path) -> None:
    usages = ["Training"] * 15 + ["PublicTest"] * 3 + ["PrivateTest"] * 3
    lines = [line(noise(number), number % 7, usage) for number, usage in enumerate(usages)]
    Path("fer.csv").write_text("\n".join(["emotion,pixels,Usage", *lines]) + "\n")
    done = init(images="fer.csv", network="vggnet")
    assert done.code == 0, done.err
    assert written().dataset.kind == "fer2013"
    assert written().network.input.size == 40  # type: ignore[union-attr]
    assert "there are 15 train, 3 validation, 3 test sound images" in done.err
