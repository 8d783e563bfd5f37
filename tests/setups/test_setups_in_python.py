"""Set-ups of public code bases of the CLIP-Dissect family that hold objects of Python, on tiny stand-ins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import PIL.Image
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Dataset, TensorDataset, random_split
from torchvision.datasets import ImageFolder

from dissectdb import StudyError
from tests.setups.conftest import Desk, accuracy, classes, neurons, picture, save_classes


def small_network(channels: int = 3, outputs: int = 3) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 8, 3, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, outputs),
    )  # fmt: skip


OF_SMALL = {"0": 6, "2": 8}


def test_1_imagenet_and_broden_as_one_dataset(desk: Desk) -> None:
    save_classes(desk.folder / "imagenet", ["n01440764", "n02102040"])
    save_classes(desk.folder / "broden", ["ade20k", "dtd"], first=100)
    torch.manual_seed(0)
    model = torchvision.models.resnet18()
    images = ConcatDataset([ImageFolder(desk.folder / "imagenet"), ImageFolder(desk.folder / "broden")])
    w = desk.dissect(model, images, ["layer1", "layer4"])
    assert neurons(w) == {"layer1": 64, "layer4": 512}
    assert classes(w) == dict.fromkeys(["ade20k", "dtd", "n01440764", "n02102040"], 12)


class EuroSat(Dataset):
    """Tiles in folders, as torchvision's class of this name keeps them."""

    def __init__(self, root: Path) -> None:
        self.files = sorted(root.rglob("*.png"))
        self.classes = sorted({file.parent.name for file in self.files})

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[PIL.Image.Image, int]:
        return PIL.Image.open(self.files[index]), self.classes.index(self.files[index].parent.name)


def test_4_a_random_split_of_a_dataset(desk: Desk) -> None:
    save_classes(desk.folder / "tiles", ["AnnualCrop", "Forest", "River"])
    images, _ = random_split(EuroSat(desk.folder / "tiles"), [24, 12], torch.Generator().manual_seed(42))
    names = ["AnnualCrop", "Forest", "River"]
    weights = torchvision.models.ResNet18_Weights.DEFAULT
    w = desk.dissect(small_network(), images, ["0", "2"], classes=names, input=weights)
    assert neurons(w) == OF_SMALL
    files = [images.dataset.files[index] for index in images.indices]  # type: ignore[attr-defined]
    found = [file.parent.name for file in files]
    assert classes(w) == {name: found.count(name) for name in names}
    assert accuracy(w)[0] == 24
    [prepared] = map(json.loads, w.sql("select preprocessing from networks")["preprocessing"])
    assert (prepared["resize"], prepared["scaled"], prepared["size"]) == ("shortest", 256, 224)


class Tiles(Dataset):
    """Blue, green, red and near infrared, as tensors from 0 to 1."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(picture(index, channels=4)).permute(2, 0, 1) / 255


def test_5_tiles_with_four_bands(desk: Desk) -> None:
    bands = {"size": 24, "mode": "bands", "mean": [0.4] * 4, "std": [0.2] * 4}
    with pytest.raises(StudyError, match="4 channels"):
        desk.dissect(small_network(4), Tiles(), ["0"], input=bands)
    w = desk.dissect(small_network(4), Tiles(), ["0", "2"], input=bands, clip={**desk.clip, "channels": [2, 1, 0]})
    assert neurons(w) == OF_SMALL
    assert classes(w) == {None: 16}
    assert accuracy(w) == (0, None, 16)


class Xrays(Dataset):
    """Grey pictures; the label says for each of five findings whether it is there."""

    def __len__(self) -> int:
        return 14

    def __getitem__(self, index: int) -> tuple[PIL.Image.Image, Tensor]:
        findings = torch.from_numpy(np.random.default_rng(index).random(5) > 0.7).float()
        return PIL.Image.fromarray(picture(index, channels=1)[..., 0]), findings


class WithoutFindings(Xrays):
    def __getitem__(self, index: int) -> PIL.Image.Image:  # type: ignore[override]
        return super().__getitem__(index)[0]


class Features(nn.Module):
    """What a network computes before its last layer."""

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        self.model = model[:-1]

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


def test_6_chest_xrays_with_several_findings_each(desk: Desk) -> None:
    model = Features(small_network(1))  # type: ignore[arg-type]
    grey = {"size": 24, "mode": "grey"}
    with pytest.raises(StudyError, match="image 0: a label of 5 numbers; an image has one class") as caught:
        desk.dissect(model, Xrays(), ["model.2"], input=grey)
    assert "\n" not in str(caught.value)
    assert not (desk.folder / "warehouse.duckdb").exists()
    w = desk.dissect(model, WithoutFindings(), ["model.0", "model.2"], input=grey)
    assert neurons(w) == {"model.0": 6, "model.2": 8}
    assert (classes(w), accuracy(w)) == ({None: 14}, (0, None, 14))


class Birds(Dataset):
    """Birds whose attributes are known."""

    classes = ("Albatross", "Warbler")

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, Any]:
        attributes = {"wing_color": ("blue", "brown")[index % 2], "certainty": index / 4, "has_crest": index > 8}
        parts = {"parts": np.zeros((3, 2))}
        return {"image": picture(index), "label": index // 8, "path": f"{index}.jpg", **attributes, **parts}


def test_8_birds_with_attributes(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    w = desk.dissect(small_network(), Birds(), ["2"])
    assert neurons(w) == {"2": 8}
    assert classes(w) == {"Albatross": 8, "Warbler": 8}
    stored = w.sql(
        "select attribute, value, count(*) as images, min(path) as path from image_attributes"
        " inner join named_images using (image_id) where attribute <> 'certainty' group by all order by all"
    )
    assert stored.rows() == [
        ("has_crest", "false", 9, "0.jpg"), ("has_crest", "true", 7, "10.jpg"),
        ("wing_color", "blue", 8, "0.jpg"), ("wing_color", "brown", 8, "1.jpg"),
    ]  # fmt: skip


class Slices(Dataset):
    """The slices of volumes in files of numpy; a patient has three volumes."""

    def __init__(self, folder: Path) -> None:
        self.volumes = {file.stem: np.load(file, mmap_mode="r") for file in sorted(folder.glob("*.npy"))}
        self.places = [(name, depth) for name, volume in self.volumes.items() for depth in range(len(volume))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, depth = self.places[index]
        return {"image": self.volumes[name][depth], "group": name.split("-")[0], "path": f"{name}, slice {depth}"}


def test_10_slices_of_volumes_stay_with_their_patient(desk: Desk) -> None:
    (desk.folder / "scans").mkdir()
    for patient in range(20):
        for volume in range(3):
            slices = [picture(patient * 9 + volume * 3 + depth, channels=1)[..., 0] / 255 for depth in range(3)]
            np.save(desk.folder / "scans" / f"p{patient}-{volume}.npy", np.stack(slices))
    grey = {"size": 24, "mode": "grey"}
    w = desk.dissect(small_network(1), Slices(desk.folder / "scans"), ["2"], input=grey, split="train")
    assert neurons(w) == {"2": 8}
    splits = w.sql(
        "select value, count(distinct split) as splits, count(*) as images from image_attributes"
        " inner join named_images using (image_id) where attribute = 'group' group by value"
    )
    assert set(splits.select("splits", "images").rows()) == {(1, 9)}
    assert splits.height == 20
    assert set(w.named_images()["split"]) == {"train", "validation", "test"}


def test_11_a_backbone_of_timm_without_classes(desk: Desk) -> None:
    torch.manual_seed(1)
    model = timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, img_size=32, depth=2, embed_dim=12, num_heads=3
    )  # fmt: skip
    w = desk.dissect(model, [picture(seed) for seed in range(14)], [{"name": "blocks.1", "pooling": "cls"}], input=None)
    assert neurons(w) == {"blocks.1": 12}
    assert accuracy(w) == (0, None, 0)  # it makes no predictions
    [prepared] = map(json.loads, w.sql("select preprocessing from networks")["preprocessing"])
    assert (prepared["scaled"], prepared["size"]) == (35, 32)


def test_13_digits_in_a_tensor_dataset(desk: Desk) -> None:
    digits = torch.stack([torch.from_numpy(picture(seed, 28, 1)[..., 0]) for seed in range(30)])
    images = TensorDataset(digits, torch.arange(30) % 10)
    w = desk.dissect(small_network(1, 10), images, ["0", "2"], input={"size": 28, "mode": "grey"})
    assert neurons(w) == OF_SMALL
    assert classes(w) == {str(digit): 3 for digit in range(10)}


def test_14_the_image_tower_of_clip_itself(desk: Desk) -> None:
    model = open_clip.create_model("tiny-clip", pretrained=desk.clip["weights"]).visual
    layers = ["transformer.resblocks.0", {"name": "transformer.resblocks.0", "pooling": "cls"}]
    w = desk.dissect(model, [picture(seed) for seed in range(14)], layers)
    assert neurons(w) == {"transformer.resblocks.0 (avg)": 16, "transformer.resblocks.0 (cls)": 16}
    assert accuracy(w) == (0, None, 14)
