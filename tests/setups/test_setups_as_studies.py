"""Set-ups of public code bases of the CLIP-Dissect family as study files, on tiny stand-ins."""

from __future__ import annotations

import csv
import io
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision

from tests.setups.conftest import CONCEPTS, Desk, accuracy, classes, neurons, picture, save, save_classes
from tests.support.worlds import command

RESNET = 'name = "resnet"\narchitecture = "torchvision:resnet18"\nweights = "random"\nlayers = ["layer1", "layer4"]\n'
OF_RESNET = {"layer1": 64, "layer4": 512}


def rows_to(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_2_imagenet_and_broden_as_two_sources(desk: Desk) -> None:
    save_classes(desk.folder / "imagenet", ["n01440764", "n02102040"])
    save_classes(desk.folder / "broden", ["ade20k", "dtd"], count=7, first=100)
    sources = "".join(
        f'[[dataset.sources]]\nname = "{name}"\nkind = "folder"\npath = "{name}"\n' for name in ("imagenet", "broden")
    )
    desk.write(f'[dataset]\nname = "both"\nprobing_split = "all"\n{sources}', RESNET)
    w = desk.extract()
    assert neurons(w) == OF_RESNET
    assert classes(w) == {"ade20k": 7, "dtd": 7, "n01440764": 12, "n02102040": 12}
    counts = w.sql("select source, count(*) as images from named_images group by source order by source")
    assert counts.rows() == [("broden", 14), ("imagenet", 24)]
    assert desk.again().out.startswith("nothing is stale")


CIFAR = {"train_list": "train", "test_list": "test"}


@pytest.fixture
def cifar(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-100's files, with 20 and 10 images."""
    kind = torchvision.datasets.CIFAR100
    folder = desk.folder / "data" / kind.base_folder
    folder.mkdir(parents=True)
    for first, (attribute, name) in enumerate(CIFAR.items()):
        numbers = range(20 * first, 20 + 10 * first)
        pixels = np.stack([picture(number, 32).transpose(2, 0, 1).reshape(-1) for number in numbers])
        content = {"data": pixels, "fine_labels": [7 * number % 100 for number in numbers]}
        (folder / name).write_bytes(pickle.dumps(content))
        monkeypatch.setattr(kind, attribute, [[name, None]])  # without a sum
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"thing {number}" for number in range(100)]}))
    monkeypatch.setattr(kind, "meta", {"filename": "meta", "key": "fine_label_names", "md5": None})
    return folder


def test_3_cifar_100_and_a_checkpoint_of_places365(desk: Desk, cifar: Path) -> None:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=365)
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 90, "arch": "resnet18", "state_dict": state}, desk.folder / "resnet18_places365.pth.tar")
    dataset = 'name = "cifar"\nkind = "python"\npath = "torchvision:CIFAR100"\narguments = { root = "data" }\n'
    network = RESNET.replace('"random"', '"resnet18_places365.pth.tar"\narguments = { num_classes = 365 }')
    desk.write(dataset, network)
    w = desk.extract()
    assert neurons(w) == OF_RESNET
    images = w.sql("select split, count(*) as images from named_images group by split")
    assert dict(images.rows())["test"] == 10
    assert sum(images["images"]) == 30
    assert set(classes(w)) <= {f"thing {number}" for number in range(100)}
    assert accuracy(w)[:2] == (0, None), "no class of CIFAR is one of the 365"
    [outputs] = w.sql("select max(len(probabilities)) as outputs from predictions")["outputs"]
    assert outputs == 365


DIAGNOSES = ("nv", "mel", "bkl")


def test_7_skin_lesions_in_a_list_and_a_swin_of_transformers(desk: Desk) -> None:
    import transformers

    rows = [
        {
            "path": f"part_{number % 2}/ISIC_{number:04}.jpg",
            "dx": ("nv", "mel", "bkl")[number % 3],
            "group": number // 2,
        }
        for number in range(24)
    ]
    for number, row in enumerate(rows):
        save(desk.folder / "ham" / str(row["path"]), number)
    rows_to(desk.folder / "ham" / "metadata.csv", rows)
    torch.manual_seed(5)
    config = transformers.SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4,
        id2label={0: "bkl", 1: "mel", 2: "nv"},
    )  # fmt: skip
    transformers.SwinForImageClassification(config).save_pretrained(desk.folder / "swin")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(desk.folder / "swin")
    dataset = 'name = "ham"\nkind = "manifest"\npath = "ham/metadata.csv"\nlabel_column = "dx"\nprobing_split = "all"\n'
    layers = 'layers = ["swin.encoder.layers.?", "classifier"]\n'
    desk.write(dataset, f'name = "swin"\narchitecture = "hf:swin"\n{layers}', given="")
    w = desk.extract()
    assert neurons(w) == {"swin.encoder.layers.0": 16, "swin.encoder.layers.1": 16, "classifier": 3}
    assert classes(w) == {"bkl": 8, "mel": 8, "nv": 8}
    images, right, unknown = accuracy(w)
    assert (images, unknown) == (24, 0)
    assert right is not None


def test_9_mammograms_of_16_bits(desk: Desk) -> None:
    """Twelve of the bits are used; the study says so, and without it the pictures would be dark."""
    rows = []
    for number in range(14):
        values = picture(number, channels=1)[..., 0].astype(np.uint16) * 16 + number
        path = desk.folder / "scans" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(values).save(path)
        rows.append({"file": f"scans/{number}.png", "class": ("benign", "malignant")[number % 2], "birads": number % 5})
    rows_to(desk.folder / "scans.csv", rows)
    dataset = 'name = "scans"\nkind = "manifest"\npath = "scans.csv"\nbits = 12\nprobing_split = "all"\n'
    desk.write(dataset, RESNET)
    w = desk.extract()
    assert neurons(w) == OF_RESNET
    assert classes(w) == {"benign": 7, "malignant": 7}
    [thumbnail] = w.sql("select thumbnail from images where position = 3")["thumbnail"]
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(thumbnail))), picture(3, channels=1)[..., 0])
    assert w.sql("select count(*) as n from image_attributes where attribute = 'birads'")["n"].to_list() == [14]


BIOCLIP = """
import open_clip
import torch


def tower():
    model = open_clip.create_model("tiny-clip")
    state = torch.load("epoch_1.pt", weights_only=True)["state_dict"]
    model.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
    return model.visual
"""


def save_training_checkpoint(desk: Desk) -> None:
    """What open_clip's training writes."""
    from safetensors.torch import load_file

    state = {f"module.{name}": tensor for name, tensor in load_file(desk.clip["weights"]).items()}
    torch.save({"epoch": 1, "name": "bio", "state_dict": state, "optimizer": {}}, desk.folder / "epoch_1.pt")


def test_12_a_checkpoint_of_open_clip_s_training_as_clip_and_network(desk: Desk) -> None:
    save_training_checkpoint(desk)
    save_classes(desk.folder / "photos", ["Aves", "Insecta"])
    code = BIOCLIP.replace('"epoch_1.pt"', f'r"{desk.folder / "epoch_1.pt"}"')
    (desk.folder / "bio.py").write_text(code, encoding="utf-8")
    layers = 'layers = ["transformer.resblocks.0"]\n'
    dataset = 'name = "photos"\nkind = "folder"\npath = "photos"\nprobing_split = "all"\n'
    desk.write(dataset, f'name = "bio"\narchitecture = "bio.py:tower"\n{layers}')
    w = desk.extract("--set", f"clip.weights={desk.folder / 'epoch_1.pt'}")
    assert neurons(w) == {"transformer.resblocks.0": 16}
    assert classes(w) == {"Aves": 12, "Insecta": 12}
    labels = "select unit, concept, similarity from neuron_concepts order by unit"
    safe = Desk(desk.folder / "safe", desk.clip)
    shutil.copytree(desk.folder / "photos", safe.folder / "photos")
    shutil.copy(desk.folder / "bio.py", safe.folder)
    safe.write(dataset, f'name = "bio"\narchitecture = "bio.py:tower"\n{layers}')
    assert safe.extract().sql(labels).equals(w.sql(labels)), "as the same weights in safetensors"


def test_15_a_beit_of_transformers_from_a_folder(desk: Desk) -> None:
    import transformers

    torch.manual_seed(5)
    config = transformers.BeitConfig(
        image_size=32, patch_size=16, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=24,
        id2label={0: "cat", 1: "dog"}, initializer_range=0.4,
    )  # fmt: skip
    transformers.BeitForImageClassification(config).save_pretrained(desk.folder / "beit")
    transformers.BeitImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False).save_pretrained(
        desk.folder / "beit"
    )
    save_classes(desk.folder / "pets", ["Cat", "Dog"])
    dataset = 'name = "pets"\nkind = "folder"\npath = "pets"\nprobing_split = "all"\n'
    layers = '["beit.layers.?", { name = "beit.layers.?", pooling = "cls" }]'
    desk.write(dataset, f'name = "beit"\narchitecture = "hf:beit"\nlayers = {layers}\n', given="")
    w = desk.extract()
    assert neurons(w) == {f"beit.layers.{i} ({pooling})": 12 for i in range(2) for pooling in ("avg", "cls")}
    images, _, unknown = accuracy(w)
    assert (images, unknown) == (24, 0), "cat is Cat"
    assert_report(desk)


def png(number: int) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(picture(number, 32)).save(file, "PNG")
    return file.getvalue()


def test_16_cifar_10_as_hugging_face_writes_it_with_groups(desk: Desk) -> None:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    features = {"img": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    numbers = {"train": range(60), "test": range(60, 80)}
    (desk.folder / "cifar10").mkdir()
    for split, own in numbers.items():
        table = pa.table(
            {
                "img": [{"bytes": png(number), "path": None} for number in own],
                "label": pa.array([number % 10 for number in own], pa.int64()),
                "group": [f"burst {number // 4}" for number in own],
            }
        ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, desk.folder / "cifar10" / f"{split}-00000-of-00001.parquet", row_group_size=25)
    desk.write('name = "cifar10"\nkind = "parquet"\npath = "cifar10"\n', RESNET)
    w = desk.extract()
    assert neurons(w) == OF_RESNET
    assert classes(w) == dict.fromkeys(names, 8)
    splits = w.sql(
        "select value, count(distinct split) as splits from image_attributes inner join named_images using (image_id)"
        " where attribute = 'group' group by value"
    )
    assert (splits.height, set(splits["splits"])) == (20, {1})
    assert set(w.named_images()["split"]) == {"train", "validation", "test"}
    assert_report(desk)


# ---------------------------------------------------------------- from nothing to a report


def test_photographs_without_classes_to_a_report_in_two_commands(desk: Desk) -> None:
    for number in range(14):
        save(desk.folder / "photos" / f"IMG_{number}.jpg", number)
    desk.write('name = "photos"\nkind = "folder"\npath = "photos"\nprobing_split = "all"\n', RESNET)
    w = desk.extract()
    assert neurons(w) == OF_RESNET
    assert (classes(w), accuracy(w)) == ({None: 14}, (0, None, 14))
    assert_report(desk)


def test_a_vit_with_cls_and_avg_in_one_study_to_a_report_in_two_commands(desk: Desk) -> None:
    save_classes(desk.folder / "photos", ["cat", "dog"])
    sizes = "{ img_size = 32, depth = 2, embed_dim = 12, num_heads = 3, num_classes = 2 }"
    network = f'name = "vit"\narchitecture = "timm:vit_tiny_patch16_224"\narguments = {sizes}\nweights = "random"\n'
    layers = 'classes = ["cat", "dog"]\nlayers = ["blocks.?", { name = "blocks.?", pooling = "cls" }]\n'
    desk.write('name = "photos"\nkind = "folder"\npath = "photos"\n', network + layers, given="")
    w = desk.extract()
    assert neurons(w) == {f"blocks.{block} ({pooling})": 12 for block in range(2) for pooling in ("avg", "cls")}
    assert accuracy(w)[2] == 0
    assert_report(desk)


def assert_report(desk: Desk) -> None:
    report = desk.folder / "report.html"
    done = command("report", "-w", desk.world.warehouse, "-o", report)
    assert done.code == 0, done.err
    page = report.read_text(encoding="utf-8")
    assert any(concept in page for concept in CONCEPTS)
    assert "data:image/" in page
