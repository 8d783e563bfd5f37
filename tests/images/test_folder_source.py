"""The images of a folder: their order, formats, splits and defects."""

from __future__ import annotations

import hashlib
import os
import struct
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectdb.extract.images.decoding import thumbnail
from dissectdb.extract.images.folder_source import split_by_hash
from dissectdb.extract.study import StudyError
from tests.support.image_files import fer2013, folder, line, noise, quickly, save, scan, shown, small_folder

# ---------------------------------------------------------------- folders


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


def test_images_are_ordered_by_split_class_and_name(tmp_path):
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


def test_every_format_gives_the_pixels_that_were_written(tmp_path):
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


@pytest.mark.parametrize(
    ("width", "shown_as"),
    [(65, 65), (224, 224), (256, 256), (300, 224), (400, 200), (500, 250), (523, 224), (1021, 256)],
)
def test_a_large_image_gets_a_thumbnail_of_about_224_pixels(tmp_path, width, shown_as):
    pixels = np.zeros((width // 2, width, 3), np.uint8)
    pixels[:, width // 2 :] = 200
    save(tmp_path / "a/wide.png", pixels)
    [image] = scan(folder(tmp_path)).values()
    assert (image.width, image.height) == (width, width // 2)
    found = shown(image)
    assert found.shape == (pytest.approx(shown_as / 2, abs=1), shown_as, 3)
    assert found[:, : shown_as // 2 - 8].mean() < 5
    assert found[:, shown_as // 2 + 8 :].mean() > 195


def test_a_thumbnail_shows_the_pixels_and_keeps_nothing_else_of_the_file(tmp_path):
    exif = PIL.Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees
    save(tmp_path / "a/1.jpg", noise(0, 200, 400, 3), comment=b"by me", exif=exif, dpi=(300, 300))
    [image], [pixels] = folder(tmp_path).scan(), folder(tmp_path).read([0])
    assert pixels.shape == (400, 200, 3)
    assert image.thumbnail == thumbnail(pixels)


def bomb(side: int) -> bytes:
    """A PNG of a few bytes whose header declares `side` × `side` pixels."""
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
def test_a_file_of_any_bytes_does_not_stop_a_scan(tmp_path, data, at, side):
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


def test_a_link_to_a_file_is_an_image_and_a_link_to_a_folder_is_not_followed(tmp_path):
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
def test_a_folder_with_another_layout_is_an_error(tmp_path, paths, message):
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


def test_a_folder_without_validation_images_takes_them_from_train(tmp_path):
    small_folder(tmp_path, 60)
    images = scan(folder(tmp_path, validation_share=0.25))
    counts = Counter(image.split for image in images.values())
    assert counts["test"] == 120
    assert 15 <= counts["validation"] <= 45  # 30 expected of 120
    assert all(image.path.startswith("test/") for image in images.values() if image.split == "test")


def test_a_folder_without_splits_is_split_into_three(tmp_path):
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
def test_the_split_of_an_image_depends_on_its_pixels_only(tmp_path_factory, removed, renamed, share):
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


def test_splits_by_hash_never_change(tmp_path):
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


def test_an_image_with_almost_no_contrast_is_blank(tmp_path):
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


def test_a_repeat_names_the_first_sound_copy_in_any_split(tmp_path):
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


def test_the_same_bytes_in_another_shape_or_mode_are_not_a_repeat(tmp_path):
    pixels = noise(0, 12, 9)
    save(tmp_path / "a/1.png", pixels)
    save(tmp_path / "a/2.png", pixels.reshape(9, 12))
    save(tmp_path / "a/3.png", pixels.reshape(6, 6, 3))
    assert all(image.defect is None for image in folder(tmp_path).scan())
