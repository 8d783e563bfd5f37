"""The images of fer2013.csv: every line that can be read, and every line that cannot."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectdb import ROOT
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.study import Dataset, StudyError
from tests.support.image_files import fer2013, line, noise, quickly, shown

REAL = ROOT.parent / "shared" / "data"


# ---------------------------------------------------------------- FER2013


def test_each_line_of_the_csv_is_an_image(tmp_path):
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
def test_a_bad_line_is_kept_as_unreadable_and_changes_no_other_line(tmp_path, bad, why):
    good = line(noise(1), 5, "PublicTest"), line(noise(2), 1, "PrivateTest")
    images = list(fer2013(tmp_path / "f.csv", good[0], bad, good[1]).scan())
    assert [image.defect is None for image in images] == [True, False, True]
    assert images[1].defect.startswith("unreadable: ")
    assert why in images[1].defect
    assert len(images[1].defect) < 120
    assert images[1].thumbnail is images[1].width is images[1].height is None
    assert len(images[1].sha256) == 64


def test_a_bad_line_has_the_split_that_it_names_or_that_of_the_line_before(tmp_path):
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


def test_a_csv_without_its_columns_is_refused_with_those_it_needs(tmp_path):
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


def test_a_limit_keeps_the_first_images_of_each_split(tmp_path):
    usages = ["Training"] * 4 + ["PublicTest"] * 1 + ["PrivateTest"] * 4
    source = fer2013(tmp_path / "f.csv", *[line(noise(n), 3, usage) for n, usage in enumerate(usages)], images=2)
    images = list(source.scan())
    assert [image.position for image in images] == [0, 1, 2, 3, 4]
    assert [image.path.split(":")[1] for image in images] == ["2", "3", "6", "7", "8"]


def test_the_fingerprint_of_a_csv_is_its_bytes_and_the_limit(tmp_path):
    source = fer2013(tmp_path / "f.csv", line(noise(0)))
    first = source.fingerprint()
    (tmp_path / "f.csv").rename(tmp_path / "g.csv")
    assert open_source(Dataset(name="x", kind="fer2013", path=tmp_path / "g.csv")).fingerprint() == first
    assert fer2013(tmp_path / "f.csv", line(noise(0)), images=1).fingerprint() != first
    assert fer2013(tmp_path / "f.csv", line(noise(1))).fingerprint() != first


# ---------------------------------------------------------------- the published file


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
