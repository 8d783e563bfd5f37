"""Probing sets, through open_source, scan, read and fingerprint."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissectdb import ROOT
from dissectdb.extract.images.folder_source import split_by_hash
from dissectdb.extract.images.scan import Image
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.study import Dataset, StudyError

REAL = ROOT.parent / "shared" / "data"

quickly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape or (48, 48), np.uint8)


def line(pixels: np.ndarray, emotion: object = 3, usage: str = "Training") -> str:
    return f"{emotion},{' '.join(map(str, pixels.ravel()))},{usage}"


def fer2013(path: Path, *lines: str, header: str = "emotion,pixels,Usage", **settings: object):
    path.write_text("\n".join([header, *lines]) + "\n")
    return open_source(Dataset(name="faces", kind="fer2013", path=path, **settings))


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, **options)
    return path


def folder(path: Path, **settings: object):
    return open_source(Dataset(name="photos", kind="folder", path=path, **settings))


def scan(source) -> dict[str, Image]:
    """The images by path."""
    return {image.path: image for image in source.scan()}


def shown(image: Image) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(image.thumbnail)))


# ---------------------------------------------------------------- FER2013


def test_a_line_of_the_csv_is_an_image(tmp_path):
    faces = [noise(seed) for seed in range(3)]
    usages = ["Training", "PublicTest", "PrivateTest"]
    source = fer2013(tmp_path / "fer2013.csv", *map(line, faces, [0, 6, 3], usages))
    images = list(source.scan())
    assert source.classes == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert [image.position for image in images] == [0, 1, 2]
    assert [image.path for image in images] == ["fer2013.csv:2", "fer2013.csv:3", "fer2013.csv:4"]
    assert [image.split for image in images] == ["train", "validation", "test"]
    assert [image.class_name for image in images] == ["angry", "neutral", "happy"]
    assert [(image.width, image.height, image.defect) for image in images] == [(48, 48, None)] * 3
    assert images[0].sha256 == hashlib.sha256(b"L 48 48\n" + faces[0].tobytes()).hexdigest()
    for image, face in zip(images, faces, strict=True):
        assert (shown(image) == face).all()


@pytest.mark.parametrize("header", ["Usage,pixels,emotion", " Usage, pixels,emotion", '"usage","Pixels","EMOTION"'])
def test_columns_may_be_in_any_order(tmp_path, header):
    row = ",".join(reversed(line(noise(0), 4).split(",")))
    source = fer2013(tmp_path / "f.csv", row, header=header)
    [image] = source.scan()
    assert (image.class_name, image.split, image.defect) == ("sad", "train", None)


def test_gzip_quotes_and_windows_line_ends_change_nothing(tmp_path):
    plain = fer2013(tmp_path / "a.csv", line(noise(0)), line(noise(1), 2, "PublicTest"))
    text = (tmp_path / "a.csv").read_text()
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text.encode()))
    fields = [row.split(",") for row in text.splitlines()]
    quoted = "\r\n".join(",".join(f'"{field}"' for field in row) for row in fields)
    (tmp_path / "c.csv").write_bytes(b"\xef\xbb\xbf" + quoted.encode() + b"\r\n\r\n")
    for name in ("b.csv.gz", "c.csv"):
        other = open_source(Dataset(name="faces", kind="fer2013", path=tmp_path / name))
        assert [image._replace(path=None) for image in other.scan()] == [
            image._replace(path=None) for image in plain.scan()
        ]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("3,1 2 3,Training", "3 pixels instead of 2304"),
        ("3,,Training", "0 pixels instead of 2304"),
        (line(noise(0))[:3000], "the line is cut off: it has 2 of 3 fields"),
        (line(noise(0).astype(int) + 1000), "is no whole number from 0 to 255"),
        (line(noise(0) * 1.0), "is no whole number from 0 to 255"),
        (line(noise(0)).replace(" ", " -", 1), "is no whole number from 0 to 255"),
        (line(noise(0)).replace(" ", "\t", 1), "is no whole number from 0 to 255"),
        (line(noise(0), 7), "emotion '7' is none of 0 to 6"),
        (line(noise(0), "happy"), "emotion 'happy' is none of 0 to 6"),
        (line(noise(0), usage="Holdout"), "Usage 'Holdout' is none of Training, PublicTest, PrivateTest"),
        ('3,"1 2', "the line is cut off: it has 2 of 3 fields"),
        ("3,1 \x00 2,Training", "is no whole number from 0 to 255"),
        ('3,"' + "1 " * 70_000 + '",Training', "not a line of CSV: field larger than field limit (131072)"),
        ("3," + "1 " * 2_000_000 + ",Training", "the line is cut off: it has 2 of 3 fields"),
    ],
)
def test_a_bad_line_is_kept_as_unreadable_and_harms_no_other(tmp_path, bad, why):
    good = line(noise(1), 5, "PublicTest"), line(noise(2), 1, "PrivateTest")
    images = list(fer2013(tmp_path / "f.csv", good[0], bad, good[1]).scan())
    assert [image.defect is None for image in images] == [True, False, True]
    assert images[1].defect.startswith("unreadable: ")
    assert why in images[1].defect
    assert len(images[1].defect) < 120
    assert images[1].thumbnail is images[1].width is images[1].height is None
    assert len(images[1].sha256) == 64


def test_a_bad_line_keeps_the_split_that_it_names_or_that_it_stands_in(tmp_path):
    lines = [line(noise(0), 3, "PublicTest"), "3,1 2", "3,1 2,PrivateTest", "x,1,?"]
    images = fer2013(tmp_path / "f.csv", *lines).scan()
    assert [image.split for image in images] == ["validation", "validation", "test", "test"]


@given(cut=st.integers(40, 25_000))
@quickly
def test_a_csv_that_was_cut_off_anywhere_costs_its_last_line_at_most(tmp_path, cut):
    source = fer2013(tmp_path / "f.csv", *[line(noise(seed)) for seed in range(3)])
    whole = list(source.scan())
    data = (tmp_path / "f.csv").read_bytes()[:cut]
    (tmp_path / "f.csv").write_bytes(data)
    complete = data.count(b"\n") - 1
    if not complete and not data.endswith(b"Training"):
        with pytest.raises(StudyError, match=r"no readable image: the first one, f\.csv:2, is"):
            list(source.scan())
        return
    images = list(source.scan())
    assert images[:complete] == whole[:complete]
    assert len(images) <= complete + 1
    assert all(image in whole or image.defect.startswith("unreadable") for image in images[complete:])


def test_a_csv_without_its_columns_says_which_it_needs(tmp_path):
    with pytest.raises(
        StudyError, match=r"f\.csv: .*emotion, pixels and Usage, and it names emotion, pixels; .*Kaggle"
    ):
        fer2013(tmp_path / "f.csv", header="emotion,pixels")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(StudyError, match="names none"):
        open_source(Dataset(name="x", kind="fer2013", path=tmp_path / "empty.csv"))


def test_a_gzip_that_was_cut_off_is_an_error(tmp_path):
    text = "\n".join(["emotion,pixels,Usage", *[line(noise(seed)) for seed in range(20)]])
    path = tmp_path / "f.csv.gz"
    path.write_bytes(gzip.compress(text.encode())[:-2000])
    source = open_source(Dataset(name="x", kind="fer2013", path=path))
    with pytest.raises(StudyError, match=r"f\.csv\.gz: cannot be read to its end: .*download complete"):
        list(source.scan())


# ---------------------------------------------------------------- folders


def small_folder(path: Path, count: int = 6, splits: tuple[str, ...] = ("train", "test")) -> Path:
    for number in range(count):
        for place, (split, name) in enumerate((s, c) for s in splits for c in ("sad", "happy")):
            save(path / split / name / f"{number}.png", noise(100 * place + number, 12, 9))
    return path


@pytest.mark.parametrize(
    ("name", "split"),
    [(name, "train") for name in ("train", "Training", "TRAIN")]
    + [(name, "validation") for name in ("val", "valid", "Validation", "PublicTest")]
    + [(name, "test") for name in ("test", "Testing", "privatetest")],
)
def test_a_folder_names_its_split(tmp_path, name, split):
    small_folder(tmp_path, 2, (name, "valid"))
    images = scan(folder(tmp_path))
    assert images[f"{name}/sad/0.png"].split == split
    assert images["valid/sad/0.png"].split == "validation"


def test_images_come_by_split_then_class_then_name(tmp_path):
    for path in (
        "test/sad/a.png",
        "train/sad/b.PNG",
        "train/sad/a/c.jpeg",
        "train/happy/d.bmp",
        "val/sad/e.tif",
    ):
        save(tmp_path / path, noise(len(path), 9, 9))
    for path in ("train/sad/.hidden.png", "train/.cache/x.png", "train/loose.png"):
        save(tmp_path / path, noise(0, 9, 9))
    (tmp_path / "train/sad/notes.txt").write_text("not an image")
    source = folder(tmp_path)
    assert source.classes == ("happy", "sad")
    assert [(image.path, image.class_name) for image in source.scan()] == [
        ("train/happy/d.bmp", "happy"),
        ("train/sad/a/c.jpeg", "sad"),
        ("train/sad/b.PNG", "sad"),
        ("val/sad/e.tif", "sad"),
        ("test/sad/a.png", "sad"),
    ]


def test_every_format_is_read_as_it_was_written(tmp_path):
    grey, colour = noise(1, 20, 30), noise(2, 20, 30, 3)
    for suffix in ("png", "bmp", "tif", "TIFF", "webp"):
        options = {"lossless": True} if suffix == "webp" else {}
        save(tmp_path / "a" / f"grey.{suffix}", grey, **options)
        save(tmp_path / "a" / f"colour.{suffix}", colour, **options)
    save(tmp_path / "a/still.gif", grey, save_all=True, append_images=[PIL.Image.fromarray(noise(3, 20, 30))])
    PIL.Image.fromarray(np.dstack([colour, noise(4, 20, 30)])).save(tmp_path / "a/see_through.png")
    PIL.Image.fromarray(grey.astype(np.uint16) * 256 + 7).save(tmp_path / "a/deep.png")
    source = folder(tmp_path)
    images = list(source.scan())
    for image, pixels in zip(images, source.read(range(len(images))), strict=True):
        is_colour = "colour" in image.path or "see_through" in image.path
        expected = colour if is_colour else grey
        if pixels.ndim > expected.ndim:  # WebP and GIF know no grey
            expected = np.dstack([grey] * 3)
        assert pixels.dtype == np.uint8
        assert (pixels == expected).all(), image.path
        assert (image.width, image.height) == (30, 20)
    assert not any(image.defect.startswith("unreadable") for image in images if image.defect)


def test_a_photo_is_turned_upright(tmp_path):
    pixels = noise(0, 8, 16)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera was held a quarter turn to the left
    save(tmp_path / "a/photo.png", pixels, exif=exif)
    source = folder(tmp_path)
    [image] = source.scan()
    assert (image.width, image.height) == (8, 16)
    assert (next(source.read([0])) == np.rot90(pixels, -1)).all()


def test_a_large_image_gets_a_small_thumbnail(tmp_path):
    save(tmp_path / "a/wide.jpg", noise(0, 200, 400, 3))
    [image] = scan(folder(tmp_path)).values()
    assert shown(image).shape == (32, 64, 3)
    assert (image.width, image.height) == (400, 200)


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says it is `side` pixels square."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_files_among_good_ones_are_kept_as_unreadable(tmp_path):
    good = save(tmp_path / "a/good.jpg", noise(0, 64, 64))
    data = good.read_bytes()
    for name, content in {
        "cut.jpg": data[: len(data) // 2],
        "empty.png": b"",
        "text.png": b"hello",
        "script.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "huge.png": bomb(10_000),
        "immense.png": bomb(60_000),
    }.items():
        (tmp_path / "a" / name).write_bytes(content)
    (tmp_path / "a/dead.jpg").symlink_to("nowhere.jpg")
    tracemalloc.start()
    source = folder(tmp_path)
    images = scan(source)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    bad = {Path(path).name: image for path, image in images.items() if image.defect}
    assert sorted(bad) == sorted(
        ["cut.jpg", "empty.png", "text.png", "script.png", "huge.png", "immense.png", "dead.jpg"]
    )
    assert all(image.defect.startswith("unreadable: ") and " at 0x" not in image.defect for image in bad.values())
    assert "10000 × 10000 pixels" in bad["huge.png"].defect
    assert "truncated" in bad["cut.jpg"].defect
    assert bad["text.png"].sha256 == hashlib.sha256(b"hello").hexdigest()
    with pytest.raises(StudyError, match=f"image {bad['cut.jpg'].position} is unreadable: .*truncated"):
        list(source.read(range(len(images))))


@given(
    data=st.binary(max_size=300),
    at=st.integers(0, 400),
    side=st.sampled_from(["png", "jpg", "gif", "webp", "tif"]),
)
@quickly
def test_no_bytes_of_a_file_stop_a_scan(tmp_path, data, at, side):
    good = save(tmp_path / "a" / "good.png", noise(0, 16, 16))
    bad = save(tmp_path / "a" / f"bad.{side}", noise(1, 16, 16))
    content = bad.read_bytes()
    bad.write_bytes(content[:at] + data + content[at + len(data) :])
    images = scan(folder(tmp_path))
    bad.unlink()
    assert images["a/good.png"].defect is None
    assert good.exists()
    assert len(images) == 2


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    outside = save(tmp_path / "outside/secret.png", noise(0))
    small_folder(tmp_path / "set")
    link = tmp_path / "set/train/sad/link.png"
    link.symlink_to(outside)
    with pytest.raises(StudyError, match=r"link\.png: links out of the dataset, to .*secret\.png"):
        folder(tmp_path / "set")
    link.unlink()
    (tmp_path / "set/train/other").symlink_to(tmp_path / "outside")
    with pytest.raises(StudyError, match="other: links out of the dataset"):
        folder(tmp_path / "set")


def test_a_link_inside_the_folder_is_an_image_but_a_linked_folder_is_not_walked(tmp_path):
    small_folder(tmp_path, 1)
    (tmp_path / "train/sad/again.png").symlink_to("0.png")
    (tmp_path / "train/sad/loop").symlink_to("..")
    os.mkfifo(tmp_path / "train/sad/pipe.png")
    images = scan(folder(tmp_path))
    assert len(images) == 5
    assert images["train/sad/again.png"].defect == f"repeat of {images['train/sad/0.png'].position}"


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "is empty; it must hold folders <split>/<class>/ or <class>/"),
        (
            ["happy/1.txt", "sad/"],
            r"no image in its folders \(happy, sad\); .* end in \.jpg.*; there is 1 ending \.txt",
        ),
        (
            ["train/happy/1.png", "extra/1.png"],
            r"split folders \(train\) beside other folders with images \(extra\)",
        ),
    ],
)
def test_a_folder_that_is_laid_out_otherwise_is_an_error(tmp_path, paths, message):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).mkdir() if path.endswith("/") else (tmp_path / path).touch()
    with pytest.raises(StudyError, match=message):
        folder(tmp_path)


def test_a_class_may_have_the_name_of_a_split(tmp_path):
    for name in ("test", "exam"):
        save(tmp_path / name / "1.png", noise(len(name), 9, 9))
    assert folder(tmp_path).classes == ("exam", "test")


# ---------------------------------------------------------------- splits by hash


def test_a_folder_without_validation_gets_it_from_train(tmp_path):
    small_folder(tmp_path, 60)
    images = scan(folder(tmp_path, validation_share=0.25))
    counts = Counter(image.split for image in images.values())
    assert counts["test"] == 120
    assert 15 <= counts["validation"] <= 45  # 30 expected of 120
    assert all(image.path.startswith("test/") for image in images.values() if image.split == "test")


def test_a_folder_without_splits_gets_all_three(tmp_path):
    small_folder(tmp_path, 100, ("",))
    counts = Counter(image.split for image in folder(tmp_path, validation_share=0.2).scan())
    assert sum(counts.values()) == 200
    assert 20 <= counts["validation"] <= 60
    assert 20 <= counts["test"] <= 60
    with pytest.raises(StudyError, match=r"validation_share = 0\.5 .* must be below 0\.5"):
        folder(tmp_path, validation_share=0.5)


@given(
    removed=st.sets(st.integers(0, 19), max_size=18),
    renamed=st.sets(st.integers(0, 19)),
    share=st.floats(0.05, 0.45),
)
@quickly
def test_the_split_of_an_image_depends_on_nothing_but_its_pixels(tmp_path_factory, removed, renamed, share):
    before, after = tmp_path_factory.mktemp("before"), tmp_path_factory.mktemp("after")
    for number in range(20):
        save(before / "sad" / f"{number}.png", noise(number, 8, 8))
        if number not in removed:
            name = f"z{number}.bmp" if number in renamed else f"{number}.png"
            save(after / "happy" / name, noise(number, 8, 8))
    splits = {image.sha256: image.split for image in folder(before, validation_share=share).scan()}
    for image in folder(after, validation_share=share).scan():
        assert image.split == splits[image.sha256]


@given(digest=st.binary(min_size=32, max_size=32), low=st.floats(0.01, 0.49), high=st.floats(0.01, 0.49))
def test_a_larger_share_keeps_the_validation_images(digest, low, high):
    low, high = sorted((low, high))
    if split_by_hash(digest.hex(), low) == "validation":
        assert split_by_hash(digest.hex(), high) == "validation"


def test_splits_by_hash_are_fixed_for_ever(tmp_path):
    for number in range(30):
        save(
            tmp_path / "sad" / f"{number:02}.png",
            np.arange(number, number + 16, dtype=np.uint8).reshape(4, 4),
        )
    places: dict[str, list[int]] = {}
    for image in folder(tmp_path, validation_share=0.2).scan():
        places.setdefault(image.split, []).append(image.position)
    assert places["validation"] == [2, 6, 12, 23, 29]
    assert places["test"] == [3, 4, 9, 16, 20, 22, 28]


# ---------------------------------------------------------------- defects of sound files


def test_blank_images_are_those_in_which_nothing_can_be_seen(tmp_path):
    ramp = np.tile(np.linspace(0, 1, 48), (48, 1))
    speck = np.zeros((48, 48), np.uint8)
    speck[20:22, 20:22] = 90
    pictures = {
        "black": np.zeros((48, 48), np.uint8),
        "white": np.full((48, 48), 255, np.uint8),
        "colour": np.full((48, 48, 3), (250, 10, 90), np.uint8),
        "speck": speck,
        "faint": (100 + 20 * ramp).astype(np.uint8),  # standard deviation 5.9
        "dark": (30 * ramp).astype(np.uint8),  # 8.8
        "one_channel": np.dstack([(30 * ramp).astype(np.uint8), speck * 0, speck * 0]),
    }
    for name, pixels in pictures.items():
        save(tmp_path / "a" / f"{name}.png", pixels)
    blank = {Path(path).stem for path, image in scan(folder(tmp_path)).items() if image.defect == "blank"}
    assert blank == {"black", "white", "colour", "speck", "faint"}


def test_a_repeat_names_the_first_sound_copy_wherever_it_is(tmp_path):
    face, other, black = noise(0), noise(1), np.zeros((48, 48), np.uint8)
    source = fer2013(
        tmp_path / "f.csv",
        "3,1 2 3,Training",
        line(black),
        line(face, 3),
        line(black),
        line(face, 4),
        line(other, 3, "PublicTest"),
        line(face, 3, "PrivateTest"),
    )
    defects = [image.defect for image in source.scan()]
    assert defects == [
        "unreadable: 3 pixels instead of 2304", "blank", None, "blank", "repeat of 2", None, "repeat of 2",
    ]  # fmt: skip


def test_in_a_folder_the_train_image_comes_first_and_its_copy_in_test_is_the_repeat(tmp_path):
    small_folder(tmp_path, 2)
    save(tmp_path / "test/happy/copy.bmp", noise(1, 12, 9))  # train/sad/1.png in another format
    images = scan(folder(tmp_path))
    assert images["test/happy/copy.bmp"].defect == f"repeat of {images['train/sad/1.png'].position}"
    assert sum(image.defect is not None for image in images.values()) == 1


def test_the_same_bytes_in_another_shape_or_mode_are_no_repeat(tmp_path):
    pixels = noise(0, 12, 9)
    save(tmp_path / "a/1.png", pixels)
    save(tmp_path / "a/2.png", pixels.reshape(9, 12))
    save(tmp_path / "a/3.png", pixels.reshape(6, 6, 3))
    assert all(image.defect is None for image in folder(tmp_path).scan())


# ---------------------------------------------------------------- reading, limits, fingerprints


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """One small source of each kind, with its pixels in order."""
    path = tmp_path_factory.mktemp("sources")
    faces = [noise(seed) for seed in range(30)]
    usages = ["Training"] * 20 + ["PublicTest"] * 5 + ["PrivateTest"] * 5
    small_folder(path / "set", 8)
    return {
        "fer2013": fer2013(path / "f.csv", *map(line, faces, [3] * 30, usages)),
        "fer2013, 3 of each": fer2013(path / "f.csv", *map(line, faces, [3] * 30, usages), images=3),
        "folder": folder(path / "set"),
        "folder, 3 of each": folder(path / "set", images=3),
        "demo": open_source(Dataset(name="d", kind="demo", images=300, seed=5)),
    }


@pytest.mark.parametrize("kind", ["fer2013", "fer2013, 3 of each", "folder", "folder, 3 of each", "demo"])
@given(data=st.data())
@settings(quickly, max_examples=12)
def test_any_positions_read_as_they_were_scanned(sources, kind, data):
    source = sources[kind]
    source.hashes = getattr(source, "hashes", None) or [image.sha256 for image in source.scan()]
    positions = sorted(data.draw(st.sets(st.integers(0, len(source.hashes) - 1))))
    for position, pixels in zip(positions, source.read(positions), strict=True):
        head = f"L {pixels.shape[0]} {pixels.shape[1]}\n".encode()
        assert hashlib.sha256(head + pixels.tobytes()).hexdigest() == source.hashes[position]


@pytest.mark.parametrize("kind", ["fer2013", "folder", "folder, 3 of each", "demo"])
def test_positions_that_do_not_exist_or_ascend_are_errors(sources, kind):
    for positions in ([1, 1], [2, 1], [-1, 0]):
        with pytest.raises(ValueError, match="positions must ascend"):
            sources[kind].read(positions)
    with pytest.raises(StudyError, match="there is no image 5000"):
        list(sources[kind].read([0, 5000]))
    assert list(sources[kind].read([])) == []


def test_reading_needs_no_scan_before_it(tmp_path):
    small_folder(tmp_path, 8)
    scanned, fresh = (folder(tmp_path, images=2, validation_share=0.4) for _ in range(2))
    count = len(list(scanned.scan()))
    for one, other in zip(scanned.read(range(count)), fresh.read(range(count)), strict=True):
        assert (one == other).all()


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    for number in range(120):
        save(tmp_path / "a" / f"{number}.png", np.full((400, 400), number, np.uint8))
    source = folder(tmp_path)
    tracemalloc.start()
    for _ in source.read(range(120)):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 400 * 400  # 120 images are twice that


def test_a_limit_keeps_the_first_images_of_each_split(tmp_path):
    usages = ["Training"] * 4 + ["PublicTest"] * 1 + ["PrivateTest"] * 4
    source = fer2013(tmp_path / "f.csv", *[line(noise(n), 3, usage) for n, usage in enumerate(usages)], images=2)
    images = list(source.scan())
    assert [image.position for image in images] == [0, 1, 2, 3, 4]
    assert [image.path.split(":")[1] for image in images] == ["2", "3", "6", "7", "8"]


def test_a_limit_on_a_folder_takes_its_classes_in_turn(tmp_path):
    small_folder(tmp_path, 12)
    images = list(folder(tmp_path, images=4, validation_share=0.3).scan())
    assert Counter((image.split, image.class_name) for image in images if image.split == "test") == {
        ("test", "happy"): 2,
        ("test", "sad"): 2,
    }
    assert Counter(image.split for image in images) == {"train": 4, "validation": 4, "test": 4}
    assert [image.position for image in images] == list(range(12))
    everything = {image.sha256: image.split for image in folder(tmp_path, validation_share=0.3).scan()}
    assert all(everything[image.sha256] == image.split for image in images)


def test_a_fingerprint_changes_with_every_byte_name_and_setting_that_matters(tmp_path):
    small_folder(tmp_path / "set", 3)
    path = tmp_path / "set/train/sad/0.png"
    seen = [folder(tmp_path / "set").fingerprint()]
    assert seen == [folder(tmp_path / "set").fingerprint()]
    seen.append(folder(tmp_path / "set", images=2).fingerprint())
    seen.append(folder(tmp_path / "set", validation_share=0.2).fingerprint())
    path.write_bytes(path.read_bytes() + b"\0")  # the same pixels, yet another file
    seen.append(folder(tmp_path / "set").fingerprint())
    path.rename(path.with_name("0b.png"))
    seen.append(folder(tmp_path / "set").fingerprint())
    (tmp_path / "set/train/sad").rename(tmp_path / "set/train/fear")
    seen.append(folder(tmp_path / "set").fingerprint())
    assert len(set(seen)) == len(seen)


def test_a_fingerprint_ignores_what_changes_nothing(tmp_path):
    small_folder(tmp_path / "set", 3, ("train", "val"))
    before = folder(tmp_path / "set").fingerprint()
    (tmp_path / "set/train/notes.txt").write_text("hello")
    (tmp_path / "set").rename(tmp_path / "moved")
    assert folder(tmp_path / "moved", validation_share=0.3).fingerprint() == before  # it has a validation part


def test_the_fingerprint_of_a_csv_is_its_bytes_and_the_limit(tmp_path):
    source = fer2013(tmp_path / "f.csv", line(noise(0)))
    first = source.fingerprint()
    (tmp_path / "f.csv").rename(tmp_path / "g.csv")
    assert open_source(Dataset(name="x", kind="fer2013", path=tmp_path / "g.csv")).fingerprint() == first
    assert fer2013(tmp_path / "f.csv", line(noise(0)), images=1).fingerprint() != first
    assert fer2013(tmp_path / "f.csv", line(noise(1))).fingerprint() != first


# ---------------------------------------------------------------- the demo, and what can go wrong first


def test_the_demo_draws_faces_and_splits_them(sources):
    source = sources["demo"]
    images = list(source.scan())
    assert Counter(image.split for image in images) == {"train": 180, "validation": 45, "test": 75}
    assert source.classes == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert {image.class_name for image in images} == set(source.classes)
    assert all((image.width, image.height, image.path, image.defect) == (48, 48, None, None) for image in images)


def test_the_demo_depends_on_its_seed_and_size():
    def demo(**settings):
        return open_source(Dataset(name="d", kind="demo", **settings)).fingerprint()

    assert demo() == demo(images=6000, seed=0)
    assert len({demo(), demo(images=600), demo(seed=1)}) == 3
    with pytest.raises(StudyError, match="seed = -1 must be 0 or more"):
        demo(seed=-1)


def test_a_missing_path_suggests_a_near_name(tmp_path):
    (tmp_path / "fer2013.csv").touch()

    def message(kind: str, path: Path) -> str:
        with pytest.raises(StudyError) as error:
            open_source(Dataset(name="x", kind=kind, path=path))
        return str(error.value)

    assert f"did you mean {tmp_path / 'fer2013.csv'}?" in message("fer2013", tmp_path / "fer2013.cvs")
    assert f"nor is there a folder {tmp_path / 'no'}" in message("folder", tmp_path / "no" / "such")
    assert f"{tmp_path} holds fer2013.csv" in message("folder", tmp_path / "x")
    assert f"name the file: {tmp_path / 'fer2013.csv'}" in message("fer2013", tmp_path)
    assert "is a file; kind = 'folder'" in message("folder", tmp_path / "fer2013.csv")


def test_a_set_of_which_nothing_can_be_read_is_an_error(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(b"no")
    with pytest.raises(StudyError, match=r"no readable image: the first one, a/1\.png, is unreadable: not a picture"):
        list(folder(tmp_path).scan())
    with pytest.raises(StudyError, match="no readable image: there is none"):
        list(fer2013(tmp_path / "f.csv").scan())


def test_images_load_no_torch():
    program = "import sys, dissectdb.extract.images.sources; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


# ---------------------------------------------------------------- the real thing


@pytest.mark.skipif(not (REAL / "unpack.py").exists(), reason="needs ../shared/data")
def test_fer2013_has_its_known_classes_and_defects(tmp_path):
    subprocess.run([sys.executable, REAL / "unpack.py", tmp_path, "--layout", "csv", "--limit", "1500"], check=True)
    source = open_source(Dataset(name="FER2013", kind="fer2013", path=tmp_path / "fer2013.csv"))
    images = list(source.scan())
    assert Counter(image.split for image in images) == {"train": 1500, "validation": 1500, "test": 1500}
    assert Counter((image.defect or "sound").split()[0] for image in images) == {
        "sound": 4457,
        "blank": 3,
        "repeat": 40,
    }
    blank = [shown(image) for image in images if image.defect == "blank"]
    assert max(pixels.std() for pixels in blank) < 6
