"""Folders of images as people have them: what is understood, what is left out, and that it is said."""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from dissectdb.extract.images import decoding, folders
from dissectdb.extract.images.folder_source import Folder
from dissectdb.extract.images.scan import Source
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.models import preprocessing
from dissectdb.extract.models.preprocessing import Recipe
from dissectdb.extract.study import Dataset, StudyError
from tests.support.hostile import within_bounds
from tests.support.worlds import World, draw


class Said(logging.Handler):
    """What was logged for the user."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def said() -> Iterator[list[str]]:
    log, handler = logging.getLogger("dissectdb"), Said()
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    yield handler.lines
    log.removeHandler(handler)
    log.setLevel(level)


def make(root: Path, *paths: str) -> Path:
    """Files by their paths: images that all differ, and text where a name is no image's."""
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix.lower() in (".png", ".jpg", ".jpeg"):
            seed = zlib.crc32(path.encode())
            PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 9), np.uint8)).save(file)
        else:
            file.write_bytes(b"text")
    return root


def folder(root: Path, **settings: object) -> Folder:
    return open_source(Dataset(name="photos", kind="folder", path=root, **settings))


def places(source: Source) -> dict[str, tuple[str, str | None]]:
    """path → (split, class) of every sound image."""
    return {image.path: (image.split, image.class_name) for image in source.scan() if image.defect is None}


# ---------------------------------------------------------------- layouts


def tiny_imagenet(root: Path, annotations: bool) -> Path:
    make(root, "wnids.txt", "words.txt", "test/images/test_0.JPEG".replace("JPEG", "jpeg"))
    for wnid in ("n01443537", "n01629819"):
        make(root, f"train/{wnid}/{wnid}_boxes.txt", *[f"train/{wnid}/images/{wnid}_{n}.jpeg" for n in range(3)])
    make(root, "val/images/val_0.jpeg", "val/images/val_1.jpeg", "val/images/val_2.jpeg")
    if annotations:
        lines = ["val_0.jpeg\tn01629819\t0\t32\t44\t62", "val_1.jpeg\tn01443537\t52\t55\t57\t59", "val_2.jpeg\tn99\t0"]
        (root / "val/val_annotations.txt").write_text("\n".join(lines) + "\n")
    return root


def test_tiny_imagenet_has_its_wnids_for_classes(tmp_path: Path, said: list[str]) -> None:
    source = folder(tiny_imagenet(tmp_path, annotations=True))
    found = places(source)
    assert source.classes == ("n01443537", "n01629819")
    assert found["train/n01443537/images/n01443537_0.jpeg"] == ("train", "n01443537")
    assert found["val/images/val_0.jpeg"] == ("validation", "n01629819")
    assert found["val/images/val_1.jpeg"] == ("validation", "n01443537")
    assert Counter(split for split, _ in found.values()) == {"train": 6, "validation": 2}
    assert source.left_out == {("ending", ".txt"): 5, ("outside a class folder", "val"): 1,
                               ("outside a class folder", "test"): 1}  # fmt: skip
    assert "the classes of val are those of its val_annotations.txt" in said
    assert "left out: another ending 5 (.txt 5), outside a class folder 2 (test 1, val 1)" in said


def test_a_flat_validation_folder_is_left_out_and_nothing_is_taken_from_train(tmp_path: Path, said: list[str]) -> None:
    make(tmp_path, *[f"train/{name}/{n}.png" for name in ("n01", "n02") for n in range(10)])
    make(tmp_path, "val/ILSVRC2012_val_00000001.png", "val/ILSVRC2012_val_00000002.png")
    source = folder(tmp_path)
    assert Counter(split for split, _ in places(source).values()) == {"train": 20}
    assert [line for line in said if line.startswith("images of val in no class folder, left out: 2; put")]
    assert [line for line in said if "no classes" in line and "dataset.validation_share" in line]
    asked = places(folder(tmp_path, validation_share=0.4))
    assert {split for split, _ in asked.values()} == {"train", "validation"}
    assert folder(tmp_path).fingerprint() != folder(tmp_path, validation_share=0.1).fingerprint()


@pytest.mark.parametrize("above", ["archive", "archive/fer/images"])
def test_a_folder_too_high_is_gone_down_from(tmp_path: Path, said: list[str], above: str) -> None:
    paths = [f"{split}/{name}/{n}.png" for split in ("train", "val") for name in ("a", "b") for n in range(2)]
    make(tmp_path / "x" / above, *paths)
    make(tmp_path / "x", "readme.md", "__MACOSX/._archive")
    source = folder(tmp_path / "x")
    assert places(source) == {
        f"{above}/{path}": ("train" if path.startswith("train") else "validation", path.split("/")[1]) for path in paths
    }
    assert f"the images are those of {tmp_path / 'x' / above}" in said


def test_folders_that_are_a_class_are_no_folder_too_high(tmp_path: Path) -> None:
    assert folder(make(tmp_path / "one", "cats/1.png", "cats/2.png")).classes == ("cats",)
    assert folder(make(tmp_path / "deep", "cats/session/1.png", "cats/session/2.png")).classes == ("cats",)
    assert folder(make(tmp_path / "mixed", "cats/1.png", "cats/more/2.png")).classes == ("cats",)
    only_train = folder(make(tmp_path / "split", "train/cats/1.png", "train/dogs/2.png"))
    assert {split for split, _ in places(only_train).values()} <= {"train", "validation"}
    assert only_train.classes == ("cats", "dogs")


@pytest.mark.parametrize(
    ("paths", "splits"),
    [
        (["1.png", "2.png", "3.jpg", "notes.txt"], {"train", "validation", "test"}),
        (["images/1.png", "images/2.png", "labels/1.txt"], {"train", "validation", "test"}),
        (["train/1.png", "val/2.png", "test/3.png"], {"train", "validation", "test"}),
        (["train/images/1.png", "train/labels/1.txt", "valid/images/2.png"], {"train", "validation"}),
        (["images/train/1.png", "images/val/2.png", "labels/train/1.txt"], {"train", "validation"}),
    ],
)
def test_images_in_no_class_folder_are_a_set_without_classes(
    tmp_path: Path, said: list[str], paths: list[str], splits: set[str]
) -> None:
    source = folder(make(tmp_path, *paths))
    found = places(source)
    assert source.classes == ()
    assert sorted(found) == sorted(path for path in paths if path.endswith(("png", "jpg")))
    assert {name for _, name in found.values()} == {None}
    assert {split for split, _ in found.values()} <= splits
    assert "no class folders: the images are a set without classes" in said


def test_two_folders_of_one_split_are_joined_and_that_is_said(tmp_path: Path, said: list[str]) -> None:
    source = folder(make(tmp_path, "train/a/1.png", "val/a/2.png", "Validation/a/3.png", "validation/b/4.png"))
    assert Counter(split for split, _ in places(source).values()) == {"train": 1, "validation": 3}
    assert "Validation and val and validation are joined: each is validation" in said


def test_what_a_folder_without_splits_divides_is_said(tmp_path: Path, said: list[str]) -> None:
    make(tmp_path, *[f"{name}/{n}.png" for name in ("a", "b") for n in range(40)])
    counts = Counter(split for split, _ in places(folder(tmp_path, validation_share=0.2)).values())
    [line] = [line for line in said if line.startswith("no split folders")]
    assert "puts 20 % into validation and 20 % into test" in line
    assert f"{counts['train']} train, {counts['validation']} validation, {counts['test']} test" in line


def test_a_layout_that_paths_do_not_tell_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    paths = ["train/n01/1.png", "train/n02/2.png", "val/images/3.png"]
    make(tmp_path, *paths)
    prints = []
    for name in ("n01", "n02"):
        (tmp_path / "val/val_annotations.txt").write_text(f"3.png\t{name}\n")
        prints.append(folder(tmp_path).fingerprint())
    assert len(set(prints)) == 2


def test_a_dataset_of_before_keeps_its_fingerprint(tmp_path: Path) -> None:
    for number in range(3):
        for name in ("a", "b"):
            (tmp_path / "train" / name).mkdir(parents=True, exist_ok=True)
            pixels = np.arange(number, number + 16, dtype=np.uint8).reshape(4, 4)
            PIL.Image.fromarray(pixels).save(tmp_path / "train" / name / f"{number}.bmp")
    assert folder(tmp_path).fingerprint() == "a43d064fabef7df35b7a41a2e0ab4035932564ad16349405f2a84ab469d3a0d9"


@pytest.mark.parametrize(("ending", "kind"), [("parquet", "parquet"), ("tar", "webdataset")])
def test_a_folder_of_shards_names_the_kind_that_reads_them(tmp_path: Path, ending: str, kind: str) -> None:
    make(tmp_path, f"data/train-0.{ending}", f"data/train-1.{ending}", "README.md")
    with pytest.raises(StudyError, match=f"no image, but 2 files that end in .{ending}; kind = '{kind}' reads images"):
        folder(tmp_path)
    make(tmp_path, "data/cat/1.png")
    assert folder(tmp_path).count == 1


# ---------------------------------------------------------------- what is left out


def test_what_is_no_image_is_counted_by_reason(tmp_path: Path, said: list[str]) -> None:
    make(tmp_path, "a/1.png", "b/2.png", "a/clip.mp4", "a/Thumbs.db", "notes.TXT", "b/.3.png", ".git/x/y", "3.png")
    make(tmp_path, "__MACOSX/a/._1.png", "a/.ipynb_checkpoints/1-checkpoint.png", "b/README", "b/scan.dcm")
    source = folder(tmp_path)
    assert len(places(source)) == 2
    assert source.left_out == {
        ("ending", ".mp4"): 1, ("ending", ".txt"): 1, ("ending", "none"): 1, ("ending", ".dcm"): 1, ("hidden", ""): 5,
        ("outside a class folder", "."): 1,
    }  # fmt: skip
    [line] = [line for line in said if line.startswith("left out: ")]
    for part in ("another ending 4", ".mp4 1", "hidden 5", "outside a class folder 1"):
        assert part in line


def test_a_folder_without_an_image_says_what_it_holds(tmp_path: Path) -> None:
    make(tmp_path, "a/1.heic", "a/2.heic", "b/3.mp4")
    with pytest.raises(
        StudyError, match=r"no image in its folders \(a, b\).*; there is 2 ending \.heic, 1 ending \.mp4"
    ):
        folder(tmp_path)


def test_names_that_are_not_utf8_can_be_stored(tmp_path: Path, said: list[str]) -> None:
    make(tmp_path / "x", "train/a/1.png", "train/b/2.png", "val/3.png", "train/a/4.odd")
    os.rename(os.fsencode(tmp_path / "x/train/a/4.odd"), os.fsencode(tmp_path / "x/train/a") + b"/4.\xff")
    os.rename(tmp_path / "x", os.fsencode(tmp_path) + b"/\xff")
    source = folder(tmp_path)
    assert len(places(source)) == 2
    for text in [*said, *(part for key in source.left_out for part in key)]:
        text.encode()


@pytest.mark.parametrize("name", ["faces.zip", "faces.tar.gz", "faces.tgz", "fer2013.tar", "x.7z"])
@pytest.mark.parametrize("kind", ["folder", "fer2013"])
def test_an_archive_is_to_be_unpacked(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(StudyError, match=r"is an archive; unpack it"):
        open_source(Dataset(name="x", kind=kind, path=tmp_path / name))


def test_what_was_left_out_is_stored_and_shown(new_world: World) -> None:
    make(new_world.folder / "images", "train/bar/film.mp4", "train/ring/.hidden.png", "train/loose.png", "notes.txt")
    done = new_world.extract()
    assert done.code == 0, done.err
    assert "left out: blank 1, repeats 1, unreadable 1, another ending 2 (.mp4 1, .txt 1)" in done.err
    assert "images of train in no class folder, left out: 1" in done.err
    assert "72 images of train label the neurons; 21 of validation and 18 of test do not" in done.err
    stored = new_world.rows("select reason, detail, files from left_out order by all")
    assert [tuple(row.values()) for row in stored] == [
        ("ending", ".mp4", 1), ("ending", ".txt", 1), ("hidden", "", 1), ("outside a class folder", "train", 1),
    ]  # fmt: skip
    status = new_world.run("status").out
    for reason in ("ending", ".mp4", "hidden", "outside a class folder", "blank", "repeat", "unreadable"):
        assert reason in status
    assert new_world.run("check").code == 0
    assert new_world.run("report", "-o", new_world.folder / "report.html").code == 0
    assert "outside a class folder (train)" in (new_world.folder / "report.html").read_text(encoding="utf-8")


# ---------------------------------------------------------------- formats and bits


def test_more_formats_are_read_by_their_content(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    colour = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    (tmp_path / "a").mkdir()
    PIL.Image.fromarray(grey).save(tmp_path / "a/g.PGM", "PPM")
    PIL.Image.fromarray(grey > 99).save(tmp_path / "a/b.pbm", "PPM")
    PIL.Image.fromarray(colour).save(tmp_path / "a/c.ppm", "PPM")
    PIL.Image.fromarray(colour).save(tmp_path / "a/n.pnm", "PPM")
    for ending in ("jfif", "jpe", "JPG"):
        PIL.Image.fromarray(grey).save(tmp_path / f"a/j.{ending}", "JPEG")
    deep = (grey.astype(np.uint16) * 16).astype(">u2").tobytes()  # of 12 bits, as the file itself says
    (tmp_path / "a/deep.pgm").write_bytes(b"P5 30 20 4080\n" + deep)
    expected = {"a/g.PGM": grey, "a/b.pbm": (grey > 99) * np.uint8(255), "a/c.ppm": colour, "a/n.pnm": colour}
    source = folder(tmp_path)
    found = list(source.scan())
    assert len(found) == 8
    for image, pixels in zip(found, source.read(range(8)), strict=True):
        if image.path in expected:
            assert (pixels == expected[image.path]).all(), image.path
        if image.path == "a/deep.pgm":
            assert abs(pixels.astype(int) - grey).max() <= 1
    assert {image.defect for image in found} <= {None, *[f"repeat of {place}" for place in range(8)]}


@pytest.mark.skipif(not decoding.AVIF, reason="this Pillow reads no AVIF")
def test_avif_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    PIL.Image.fromarray(draw("ring", 1)).convert("RGB").resize((64, 64)).save(tmp_path / "a/1.avif", quality=95)
    [image] = folder(tmp_path).scan()
    assert (image.defect, image.width, image.height) == (None, 64, 64)


def test_without_avif_its_files_are_counted_with_the_way_out(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "IMAGE_NAMES", tuple(name for name in decoding.IMAGE_NAMES if name != ".avif"))
    monkeypatch.setattr("dissectdb.extract.images.scan_notes.AVIF", False)
    assert len(places(folder(make(tmp_path, "a/1.png", "a/2.avif")))) == 1
    assert "AVIF images left out: 1; this Pillow does not read them; install pillow 11.3 or newer" in said


def png(width: int, height: int, depth: int, colour: int, pixels: bytes) -> bytes:
    """A PNG that Pillow cannot write."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def sixteen_bits(root: Path, bits: int, count: int = 4) -> list[np.ndarray]:
    """16-bit PNG whose values use so many bits; what they are in 8 bits."""
    (root / "a").mkdir(parents=True)
    shown = [np.random.default_rng(seed).integers(0, 256, (20, 30), np.uint8) for seed in range(count)]
    for number, pixels in enumerate(shown):
        pixels[0, 0] = 255
        PIL.Image.fromarray(pixels.astype(np.uint16) << (bits - 8)).save(root / "a" / f"{number}.png")
    return shown


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 16])
def test_16_bit_values_are_read_at_the_range_that_the_study_names(tmp_path: Path, bits: int, said: list[str]) -> None:
    shown = sixteen_bits(tmp_path, bits)
    source = folder(tmp_path, bits=bits)
    assert [image.defect for image in source.scan()] == [None] * 4
    assert not [line for line in said if "bits" in line]
    for pixels, expected in zip(source.read(range(4)), shown, strict=True):
        assert (pixels == expected).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15])
def test_16_bit_values_that_use_fewer_bits_are_noticed(tmp_path: Path, bits: int, said: list[str]) -> None:
    sixteen_bits(tmp_path, bits)
    found = list(folder(tmp_path).scan())
    [line] = [line for line in said if "16-bit" in line]
    assert line.startswith(f"16-bit images whose values use at most {bits} bits: 4;")
    assert f"set dataset.bits = {bits}" in line
    if bits < 13:
        assert {image.defect for image in found} == {f"blank: 16-bit values that use {bits} bits; set dataset.bits"}


def test_bits_are_part_of_the_fingerprint_and_a_value_beyond_them_is_a_defect(tmp_path: Path) -> None:
    sixteen_bits(tmp_path, 12)
    assert folder(tmp_path, bits=12).fingerprint() != folder(tmp_path).fingerprint()
    assert folder(tmp_path, bits=16).fingerprint() == folder(tmp_path).fingerprint()
    with pytest.raises(StudyError, match=r"16-bit value of 4080 is more than dataset\.bits = 10 can hold"):
        list(folder(tmp_path, bits=10).scan())


def test_16_bit_colour_is_refused_where_the_study_names_its_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sixteen_bits(tmp_path, 12)
    rows = [
        b"\0" + np.random.default_rng(row).integers(0, 4096, 30, np.uint16).astype(">u2").tobytes() for row in range(10)
    ]
    (tmp_path / "a/colour.png").write_bytes(png(10, 10, depth=16, colour=2, pixels=b"".join(rows)))
    found = {image.path: image.defect for image in folder(tmp_path, bits=12).scan()}
    assert found.pop("a/colour.png").startswith("unreadable: 16-bit colour")
    assert set(found.values()) == {None}


def test_bits_of_a_dataset_without_16_bit_images_are_refused() -> None:
    with pytest.raises(ValueError, match="bits would do nothing"):
        Dataset(name="x", kind="demo", bits=12)


def test_a_black_16_bit_image_is_only_blank(tmp_path: Path) -> None:
    sixteen_bits(tmp_path, 16)
    PIL.Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "a/black.png")
    assert {image.path: image.defect for image in folder(tmp_path).scan()}["a/black.png"] == "blank"


# ---------------------------------------------------------------- strips


@pytest.mark.parametrize("resize", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1, 3), (2, 9_000)], ids=str)
def test_a_strip_takes_no_more_memory_than_another_image(resize: str, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with within_bounds():
        values = Recipe(224, resize=resize, interpolation="bicubic").apply([image], torch.device("cpu"))
    assert values.shape == (1, 3, 224, 224)
    assert torch.isfinite(values).all()


@pytest.mark.parametrize("shape", [(20, 3000), (3000, 21), (7, 901)], ids=str)
def test_a_shortened_strip_shows_the_middle_of_the_whole_one(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    along = np.linspace(0, 40, max(shape))
    smooth = (127 + 120 * np.sin(along)).astype(np.uint8)
    image = np.repeat(smooth[None], min(shape), 0)
    image = image if shape[0] < shape[1] else image.T
    recipe = Recipe(16, mode="grey", resize="shortest")
    whole = recipe.apply([image], torch.device("cpu"))
    monkeypatch.setattr(preprocessing, "MAX_SCALED", 0)
    cut = recipe.apply([image], torch.device("cpu"))
    assert (whole - cut).abs().max() < 0.02


def test_an_ordinary_image_is_not_shortened() -> None:
    recipe = Recipe(224, resize="shortest")
    for shape in ((3, 48, 48), (3, 100, 8000), (3, 8000, 100)):
        pixels = torch.zeros(1, *shape, dtype=torch.uint8)
        assert recipe._shortened(pixels) is pixels


# ---------------------------------------------------------------- every image labels


@pytest.mark.parametrize("kind", ["folder", "demo"])
def test_with_all_every_image_is_of_one_split(tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        make(tmp_path, "train/a/1.png", "train/b/2.png", "val/a/3.png", "test/b/4.png")
    path = tmp_path if kind == "folder" else None

    def source(split: str) -> Source:
        return open_source(Dataset(name="x", kind=kind, path=path, images=40, probing_split=split))

    found, before = list(source("all").scan()), list(source("train").scan())
    assert {image.split for image in found} == {"all"}
    assert [image.sha256 for image in found] == [image.sha256 for image in before]
    assert source("all").fingerprint() != source("train").fingerprint() == source("test").fingerprint()


def test_with_all_a_folder_without_splits_is_not_divided(tmp_path: Path, said: list[str]) -> None:
    make(tmp_path, *[f"a/{n}.png" for n in range(30)])
    assert {split for split, _ in places(folder(tmp_path, probing_split="all")).values()} == {"all"}
    assert not [line for line in said if "split" in line]
    assert len(places(folder(tmp_path, probing_split="all", images=7))) == 7


def test_with_all_every_image_labels_and_nothing_is_left_to_edit_on(new_world: World) -> None:
    option = ("--set", "dataset.probing_split=all")
    done = new_world.extract(*option)
    assert done.code == 0, done.err
    assert "111 images of all label the neurons\n" in done.err
    [row] = new_world.rows("select split, images, accuracy from network_accuracies")
    assert (row["split"], row["images"]) == ("all", 111)
    [counted] = new_world.rows(
        "select count(*) as n, count(distinct image_id) as images from activations where neuron_id = 1"
    )
    assert (counted["n"], counted["images"]) == (111, 111)
    assert new_world.run("check").code == 0
    assert "nothing is stale" in new_world.extract(*option).out
    refused = new_world.modify(*option)
    assert refused.code == 2
    assert "modify needs images that label no neuron" in refused.err
    both = new_world.extract()  # the same images by their splits, beside it
    assert both.code == 0, both.err
    assert {row["split"] for row in new_world.rows("select split from network_accuracies")} == {
        "all", "train", "validation", "test",
    }  # fmt: skip
    assert new_world.run("check").code == 0
    assert new_world.run("report", "-o", new_world.folder / "report.html").code == 0
