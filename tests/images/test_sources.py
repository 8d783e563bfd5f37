"""Every image source, as extract uses it: scan, read, limits and fingerprints."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectdb import ROOT
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.study import Dataset, StudyError
from tests.support.image_files import fer2013, folder, line, noise, quickly, save, small_folder

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
def test_images_at_any_positions_have_the_pixels_that_were_scanned(sources, kind, data):
    source = sources[kind]
    source.hashes = getattr(source, "hashes", None) or [image.sha256 for image in source.scan()]
    positions = sorted(data.draw(st.sets(st.integers(0, len(source.hashes) - 1))))
    for position, pixels in zip(positions, source.read(positions), strict=True):
        head = f"L {pixels.shape[0]} {pixels.shape[1]}\n".encode()
        assert hashlib.sha256(head + pixels.tobytes()).hexdigest() == source.hashes[position]


@pytest.mark.parametrize("kind", ["fer2013", "folder", "folder, 3 of each", "demo"])
def test_positions_that_do_not_exist_or_do_not_ascend_are_errors(sources, kind):
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
    (tmp_path / "photos").symlink_to(tmp_path / "moved")
    assert f"it is a link to {tmp_path / 'moved'}, which is not there" in message("folder", tmp_path / "photos")
    assert f"nor is there a folder {tmp_path / 'no'}" in message("folder", tmp_path / "no" / "such")
    assert f"{tmp_path} holds fer2013.csv" in message("folder", tmp_path / "x")
    assert f"name the file: {tmp_path / 'fer2013.csv'}" in message("fer2013", tmp_path)
    assert "is a file; kind = 'folder'" in message("folder", tmp_path / "fer2013.csv")


def test_a_dataset_without_a_readable_image_is_an_error(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(b"no")
    with pytest.raises(StudyError, match=r"no readable image: the first one, a/1\.png, is unreadable: not a picture"):
        list(folder(tmp_path).scan())
    with pytest.raises(StudyError, match="no readable image: there is none"):
        list(fer2013(tmp_path / "f.csv").scan())


def test_images_load_no_torch():
    program = "import sys, dissectdb.extract.images.sources; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
