"""kind = "python": a Dataset of a user's function, of torchvision, or one that is there already."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, Subset

from dissectdb.extract.images.dataset_items import ItemError, as_item
from dissectdb.extract.images.decoding import pixel_hash
from dissectdb.extract.images.scan import Source
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.study import Dataset, StudyError
from tests.support.image_files import noise, quickly, save


def opened(items: object, **settings: Any) -> Source:
    return open_source(Dataset(name="mine", kind="python", **settings), items)


def refused(items: object, **settings: Any) -> str:
    """The message about a Dataset that cannot be read; it is one line."""
    with pytest.raises(StudyError) as error:
        list(opened(items, **settings).scan())
    assert "\n" not in str(error.value)
    return str(error.value)


def coloured(count: int, *shape: int) -> list[np.ndarray]:
    return [noise(seed, *(shape or (8, 9, 3))) for seed in range(count)]


class Listed:
    """A Dataset of given items that may be changed while it is read."""

    def __init__(self, items: list[Any], classes: object = None) -> None:
        self.items, self.reads = items, Counter[int]()
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        self.reads[index] += 1
        return self.items[index]


# ---------------------------------------------------------------- pixels


@given(
    shape=st.tuples(st.integers(5, 12), st.integers(5, 12)), seed=st.integers(0, 99), channels=st.sampled_from([1, 3])
)
@quickly
def test_an_image_is_the_same_in_every_form(shape, seed, channels):
    pixels = noise(seed, *shape) if channels == 1 else noise(seed, *shape, channels)
    first = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    forms = [
        pixels,
        np.asfortranarray(pixels),
        first,
        pixels / 255,
        (pixels / 255).astype(np.float32),
        torch.from_numpy(first.copy()),
        torch.from_numpy(first.copy()).float().div(255).requires_grad_(),
        PIL.Image.fromarray(pixels),
        (pixels, 3),
        {"image": pixels, "label": "a"},
    ]
    for form in forms:
        found = as_item(form).pixels
        assert found.dtype == np.uint8
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_images_of_any_number_of_channels_keep_them(channels):
    pixels = noise(1, 32, 30, channels)
    np.testing.assert_array_equal(as_item(pixels.transpose(2, 0, 1)).pixels, pixels)
    np.testing.assert_array_equal(as_item(torch.from_numpy(pixels)).pixels, pixels)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((8, 8), 1.5), "floats from 1.5 to 1.5; give floats from 0 to 1, or uint8, before they are normalised"),
        (np.full((8, 8), -0.1), "floats from -0.1 to -0.1"),
        (np.full((8, 8), np.nan), "NaN among its values"),
        (np.zeros((8, 8), np.int64), "values of type int64; give uint8, or floats from 0 to 1"),
        (torch.zeros(8, 8, dtype=torch.bfloat16), "a tensor of torch.bfloat16"),
        (np.zeros((3, 3, 3), np.uint8), "no telling where its channels are; set dataset.layout"),
        (np.zeros((12, 11, 10), np.uint8), "an image of shape 12 × 11 × 10: no telling"),
        (np.zeros(8, np.uint8), "an image of shape 8; give H × W"),
        (np.zeros((0, 8), np.uint8), "an image of shape 0 × 8"),
        (PIL.Image.new("F", (8, 8)), "pixels of mode F"),
        (7, "an image of type int; give PIL, numpy, a tensor or a file's path"),
        ("nowhere.png", "nowhere.png: no such file"),
        ((np.zeros((8, 8), np.uint8), 1, 2), "3 values; return an image, (image, label)"),
        ({"img": 1, "label": 2}, "a dict without the key image; it has img, label"),
        ((np.zeros((8, 8), np.uint8), torch.tensor([1.0, 2.0])), "a label of 2 numbers; an image has one class"),
        ((np.zeros((8, 8), np.uint8), torch.tensor([0.5])), "a label of type Tensor"),
        ((np.zeros((8, 8), np.uint8), [0, 1]), "a label of type list"),
        (f"{'a' * 300}.png", "aaa …: no such file"),
        ("a\0.png", "a\\x00.png: no such file"),
        ((np.zeros((8, 8), np.uint8), 0.5), "a label of type float"),
        (
            {"image": np.zeros((8, 8), np.uint8), "split": "holdout"},
            "the split 'holdout'; give train, validation, test",
        ),
        ({"image": np.zeros((8, 8), np.uint8), "group": [1]}, "a group of type list"),
    ],
)
def test_what_is_no_image_is_refused_with_what_to_give(image, message):
    with pytest.raises(ItemError) as error:
        as_item(image)
    assert message in str(error.value)


def test_a_layout_settles_a_doubt():
    pixels = noise(0, 3, 3, 3)
    np.testing.assert_array_equal(as_item(pixels, "channels_last").pixels, pixels)
    np.testing.assert_array_equal(as_item(pixels, "channels_first").pixels, pixels.transpose(1, 2, 0))


# ---------------------------------------------------------------- a Dataset


def test_a_dataset_is_read_once_and_gives_the_pixels_that_were_scanned(caplog):
    pixels = coloured(40)
    items = Listed([(each, index % 2) for index, each in enumerate(pixels)], ["cat", "dog"])
    source = opened(items)
    images = list(source.scan())
    assert source.classes == ("cat", "dog")
    assert [image.class_name for image in images[:3]] == ["cat", "dog", "cat"]
    assert [image.sha256 for image in images] == [pixel_hash(each) for each in pixels]
    for found, expected in zip(source.read(range(40)), pixels, strict=True):
        np.testing.assert_array_equal(found, expected)
    reads = Counter(items.reads.values())
    assert reads == {1: 32, 3: 8}  # eight of them twice before, to notice random transforms


def test_images_that_do_not_fit_into_the_cache_are_read_again(monkeypatch):
    monkeypatch.setattr("dissectdb.extract.images.pixel_cache.MAX_BYTES", 0)
    items = Listed([noise(seed, 8, 8) for seed in range(10)])
    source = opened(items)
    source.decoded.max_bytes = 0
    hashes = [image.sha256 for image in source.scan()]
    assert [pixel_hash(each) for each in source.read([0, 3, 9])] == [hashes[index] for index in (0, 3, 9)]


def test_lists_of_paths_arrays_and_pictures_are_datasets(tmp_path):
    pixels = coloured(12)
    paths = [save(tmp_path / f"{index}.png", each) for index, each in enumerate(pixels)]
    (tmp_path / "bad.png").write_bytes(b"no")
    forms = [pixels, np.stack(pixels), [PIL.Image.fromarray(each) for each in pixels], paths, list(map(str, paths))]
    assert len({opened(form).fingerprint() for form in forms}) == 1
    images = list(opened([*paths, tmp_path / "bad.png"]).scan())
    assert images[0].path == str(paths[0])
    assert images[-1].defect.startswith("unreadable: not a picture")


def test_a_fingerprint_is_of_pixels_labels_splits_groups_and_attributes_alone():
    pixels = noise(1, 8, 8)
    base = {"image": pixels, "label": "a", "split": "train", "group": "g", "age": 7}
    changes = [{}, {"label": "b"}, {"split": "test"}, {"group": "h"}, {"age": 8}, {"image": pixels ^ 1}]
    prints = [opened([{**base, **change}]).fingerprint() for change in changes]
    assert len(set(prints)) == len(prints)
    assert opened(Listed([{**base, "path": "elsewhere"}])).fingerprint() == prints[0]
    assert opened([{**base, "image": pixels.astype(np.float64) / 255}]).fingerprint() == prints[0]


def test_extras_become_attributes_and_what_cannot_is_named(caplog):
    item = {
        "image": noise(1, 8, 8), "age": np.float32(41.5), "male": True, "site": "A", "count": torch.tensor(3),
        "missing": None, "unknown": float("nan"), "box": [1, 2], "group": 12,
    }  # fmt: skip
    with caplog.at_level(logging.INFO, "dissectdb"):
        [image] = opened([item]).scan()
    assert image.attributes == {"age": "41.5", "male": "true", "site": "A", "count": "3", "group": "12"}
    assert "not stored as attributes, because they are neither text nor numbers: box" in caplog.text


# ---------------------------------------------------------------- splits and classes


def test_all_images_of_a_group_are_in_one_split():
    items = [{"image": noise(seed, 8, 8), "group": seed // 10} for seed in range(400)]
    splits: dict[str, set[str]] = {}
    for image in opened(items, validation_share=0.3).scan():
        splits.setdefault(image.attributes["group"], set()).add(image.split)
    assert len(splits) == 40
    assert {len(of_group) for of_group in splits.values()} == {1}
    assert set.union(*splits.values()) == {"train", "validation", "test"}


@pytest.mark.parametrize("none", [float("nan"), np.float32("nan"), None, "", " ", "NaN", "nan"])
def test_images_whose_group_is_not_a_number_are_no_group(none):
    items = [{"image": noise(seed, 8, 8), "group": none} for seed in range(200)]
    found = list(opened(items, validation_share=0.3).scan())
    assert {image.split for image in found} == {"train", "validation", "test"}
    assert all("group" not in image.attributes for image in found)


def test_the_splits_of_a_dataset_are_kept_and_a_missing_validation_part_is_taken_from_train():
    items = [{"image": noise(seed, 8, 8), "split": "Train" if seed < 200 else "test"} for seed in range(300)]
    images = list(opened(items).scan())
    assert Counter(image.split for image in images)["test"] == 100
    assert 5 < Counter(image.split for image in images)["validation"] < 40
    with_validation = [{**item, "split": "val" if seed % 9 == 0 else item["split"]} for seed, item in enumerate(items)]
    assert [image.split for image in opened(with_validation).scan()][:3] == ["validation", "train", "train"]
    assert {image.split for image in opened(items, probing_split="all").scan()} == {"all"}


def test_a_limit_keeps_so_many_of_each_split():
    items = Listed([(noise(seed, 8, 8), seed // 500) for seed in range(1000)])
    source = opened(items, images=5, validation_share=0.3)
    images = list(source.scan())
    assert Counter(image.split for image in images) == {"train": 5, "validation": 5, "test": 5}
    assert {image.class_name for image in images} == {"0", "1"}  # not only the class that comes first
    assert len(items.reads) < 200
    hashes = [pixel_hash(each) for each in source.read(range(15))]
    assert hashes == [image.sha256 for image in images]


class OneMore(Subset):
    """Counts its labels from 1."""

    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return image, label + 1

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


def test_labels_within_torch_s_wrappers_have_the_names_of_their_dataset():
    pixels = [noise(seed, 8, 8) for seed in range(12)]
    pets = Listed([(pixels[number], number % 2) for number in range(6)], ["cat", "dog"])
    cars = Listed([(pixels[6 + number], number % 2) for number in range(6)], ["van", "cat"])
    part = Subset(pets, [5, 2, 3])
    united = opened(ConcatDataset([part, cars]))
    assert united.classes == ("cat", "dog", "van")
    names = [image.class_name for image in united.scan()]
    assert names == ["dog", "cat", "dog", *["van", "cat"] * 3]
    again = opened(Subset(ConcatDataset([pets, cars]), np.array([6, 1])))
    assert [image.class_name for image in again.scan()] == ["van", "dog"]
    named = opened(part, classes=["a", "b"])
    assert [image.class_name for image in named.scan()] == ["b", "a", "b"]
    assert opened(OneMore(pets, [5, 2])).classes == ("0", "1", "2")
    texts = Listed([(pixels[0], "red"), (pixels[1], "cat")])
    assert opened(ConcatDataset([texts, cars])).classes == ("van", "cat", "red")
    unnamed = Listed([(pixels[0], 0)])
    message = refused(ConcatDataset([cars, unnamed]))
    assert "image 6: label 0 has no name: its part of the united Datasets has no attribute classes" in message
    assert "image 1: label 9 is no class; there are 2, from 0: cat, dog" in refused(
        ConcatDataset([Subset(pets, [0]), Listed([(pixels[6], 9)], ["cat", "dog"])])
    )


def test_numbers_without_names_are_the_names_of_classes(caplog):
    with caplog.at_level(logging.INFO, "dissectdb"):
        source = opened([(noise(seed, 8, 8), np.int64(seed % 3)) for seed in range(8)])
        list(source.scan())
    assert source.classes == ("0", "1", "2")
    assert "dataset.classes names them" in caplog.text
    named = opened([(noise(0, 8, 8), 1), noise(1, 8, 8)], classes=["a", "b", "c"])
    assert [image.class_name for image in named.scan()] == ["b", None]
    assert named.classes == ("a", "b", "c")


def test_truth_values_are_the_classes_0_and_1_in_every_type():
    for true in (True, np.True_, np.array(True), np.array([True]), torch.tensor(True), torch.tensor([True])):
        assert as_item((np.zeros((8, 8), np.uint8), true)).label == 1
        assert as_item((np.zeros((8, 8), np.uint8), true ^ true)).label == 0


def test_classes_that_differ_in_case_stay_apart_and_that_is_told(caplog):
    items = [(noise(seed, 8, 8), name) for seed, name in enumerate(["Cat", "cat", "dog"])]
    with caplog.at_level("INFO", logger="dissectdb"):
        list(opened(items).scan())
    assert "classes whose names differ only in spelling stay apart: Cat and cat" in caplog.messages


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        ([0, 9], {"classes": ["a", "b"]}, "image 1: label 9 is no class; there are 2, from 0: a, b"),
        ([0, -1], {}, "image 1: label -1 is no number of a class"),
        (["a", "bb"], {"classes": ["a", "b"]}, "image 1: 'bb' is no class; did you mean b? there is a, b"),
        ([0, "b"], {}, "some labels are numbers, others text, such as 'b'"),
    ],
)
def test_labels_that_are_no_class_are_refused(labels, settings, message):
    assert message in refused([(noise(seed, 8, 8), label) for seed, label in enumerate(labels)], **settings)


# ---------------------------------------------------------------- what is refused


def test_a_dataset_that_gives_other_pixels_is_refused_with_the_image():
    class Flipping(Listed):
        def __getitem__(self, index: int) -> np.ndarray:
            pixels = super().__getitem__(index)
            return pixels[:, ::-1] if self.reads[index] % 2 == 0 else pixels

    message = "image 0 has other pixels when it is read again; switch off the random transform"
    assert message in refused(Flipping(coloured(20)))


def test_a_change_after_the_first_pass_is_noticed_where_an_image_is_read_again():
    items = Listed([noise(seed, 8, 8) for seed in range(20)])
    source = opened(items)
    list(source.scan())
    source.decoded.positions = source.decoded.positions[:0]  # as if there had been no room
    items.items[11] = noise(99, 8, 8)
    with pytest.raises(StudyError, match=r"dataset mine: image 11 has other pixels when it is read again"):
        list(source.read([10, 11]))


def test_a_dataset_that_changes_its_length_is_refused():
    class Shrinking(Listed):
        def __getitem__(self, index: int) -> np.ndarray:
            return self.items.pop()

    assert "has changed its length from 20 to 19 while image 0 was read" in refused(Shrinking(coloured(20)))


def test_an_error_of_a_dataset_is_one_line_with_the_index():
    class Broken(Listed):
        def __getitem__(self, index: int) -> np.ndarray:
            if index == 13:
                raise ValueError("a scan\nis missing")
            return super().__getitem__(index)

    message = "image 13 of 20 cannot be read: ValueError: a scan is missing; mend the Dataset"
    assert message in refused(Broken(coloured(20)))


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({"a": 1}, "is a dict, not a map-style Dataset"),
        (iter([1]), "is a list_iterator, not a map-style Dataset"),
        ([], "no readable image: there is none"),
        ([np.zeros((8, 8), np.float32), np.full((8, 8), 255.0)], "image 1: floats from 255 to 255"),
        ([{"image": noise(0, 8, 8), "split": "test"}, noise(1, 8, 8)], "image 1 has no split, and others have"),
    ],
)
def test_what_is_no_dataset_is_refused(items, message):
    assert message in refused(items)


# ---------------------------------------------------------------- a function, torchvision

CODE = """
import numpy as np

class Squares:
    classes = ["small", "large"]

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        from helper import picture
        return picture(index), index % 2


def make(count=6):
    return Squares(count)


def fail():
    raise OSError("no scans here")
"""
HELPER = (
    "import numpy as np\n\ndef picture(i):\n    return np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)\n"
)


def test_a_function_of_a_file_makes_the_dataset(tmp_path):
    (tmp_path / "data.py").write_text(CODE)
    (tmp_path / "helper.py").write_text(HELPER)
    source = open_source(Dataset(name="s", kind="python", path=tmp_path / "data.py:make", arguments={"count": 9}))
    assert [image.class_name for image in source.scan()] == ["small", "large"] * 4 + ["small"]
    for path, message in [
        ("data.py", "needs path/to/file.py:function, or torchvision:NAME"),
        ("dat.py:make", "dat.py: no such file"),
        ("data.py:mak", "has no function mak; did you mean make?"),
        ("data.py:fail", "data.py:fail raised OSError: no scans here"),
        ("helper.py:picture", "helper.py:picture raised TypeError"),
    ]:
        with pytest.raises(StudyError) as error:
            open_source(Dataset(name="s", kind="python", path=tmp_path / path))
        assert message in str(error.value)
    with pytest.raises(StudyError, match="kind = 'python' needs path"):
        open_source(Dataset(name="s", kind="python"))


def write_mnist(root: Path, train: int, test: int) -> None:
    """MNIST's files, as torchvision reads them."""
    raw = root / "MNIST/raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", train), ("t10k", test)):
        pixels = noise(count, count, 28, 28)
        head = [0x803, count, 28, 28]
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(np.array(head, ">i4").tobytes() + pixels.tobytes())
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(np.array([0x801, count], ">i4").tobytes() + labels.tobytes())


def test_a_dataset_of_torchvision_is_read_by_name_with_its_splits(tmp_path):
    write_mnist(tmp_path, 30, 12)
    settings = {"name": "digits", "kind": "python", "path": "torchvision:MNIST", "arguments": {"root": "."}}
    dataset = Dataset.model_validate(settings, context={"folder": tmp_path})
    assert dataset.arguments["root"] == str(tmp_path)
    assert str(dataset.path) == "torchvision:MNIST"
    images = list(open_source(dataset).scan())
    assert [image.split for image in images[30:]] == ["test"] * 12
    assert {image.split for image in images[:30]} <= {"train", "validation"}
    assert images[1].class_name == "1 - one"
    of_test = dataset.model_copy(update={"arguments": {"root": str(tmp_path), "train": False}})
    assert len(list(open_source(of_test).scan())) == 12


def test_a_dataset_of_torchvision_that_is_not_there_is_never_downloaded(tmp_path):
    def message(path: str, **arguments: object) -> str:
        with pytest.raises(StudyError) as error:
            open_source(Dataset(name="x", kind="python", path=path, arguments=arguments))
        return str(error.value)

    said = message("torchvision:CIFAR10", root=str(tmp_path))
    assert f"Its files are expected in {tmp_path / 'cifar-10-batches-py'}" in said
    assert f"expected in {tmp_path / 'MNIST/raw'}" in message("torchvision:MNIST", root=str(tmp_path))
    assert "did you mean CIFAR10" in message("torchvision:CIFAR11", root=".")
    assert "needs root, the folder with its files" in message("torchvision:CIFAR10")
    assert "take download out" in message("torchvision:CIFAR10", root=".", download=True)
    assert "has no rot; it has root" in message("torchvision:CIFAR10", rot=".")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_picture_is_turned_upright_as_its_file_is(tmp_path, orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(noise(1, 30, 40, 3)).save(tmp_path / "turned.png", exif=exif)
    by_path = as_item(tmp_path / "turned.png").pixels
    assert by_path.shape == ((40, 30, 3) if orientation in (6, 8) else (30, 40, 3))
    with PIL.Image.open(tmp_path / "turned.png") as picture:
        np.testing.assert_array_equal(as_item(picture).pixels, by_path)
        assert picture.getexif()[0x0112] == orientation  # the Dataset's own picture stays as it was
