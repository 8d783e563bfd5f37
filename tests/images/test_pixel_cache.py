"""Decoded images are kept for the process: read as they were decoded, and decoded once."""

import os
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectdb.extract.images import folder_source, sources
from dissectdb.extract.images.pixel_cache import PixelFile
from dissectdb.extract.study import Dataset

SHAPES = [(1, 1), (5, 7), (7, 5, 3), (48, 48), (2, 3, 3)]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 40), most=st.integers(0, 20_000))
def test_what_is_kept_is_read_as_it_was(seed, count, most):
    random = np.random.default_rng(seed)
    kept, size = PixelFile(most), 0
    positions = np.cumsum(random.integers(1, 4, size=count)).tolist()
    pixels = [random.integers(256, size=SHAPES[random.integers(5)], dtype=np.uint8) for _ in positions]
    full = False
    for place, (position, image) in enumerate(zip(positions, pixels, strict=True)):
        kept.add(position, image)
        full = full or size + image.nbytes > most
        size += 0 if full else image.nbytes
        assert (position in kept) == (not full), "as long as there is room"
        assert position + 1 not in kept
        for earlier in random.integers(place + 1, size=2):
            if positions[earlier] in kept:
                np.testing.assert_array_equal(kept.read(positions[earlier]), pixels[earlier])


def test_what_is_read_may_be_written_to_and_stays_as_it_was():
    kept = PixelFile()
    kept.add(0, np.ones((4, 4), np.uint8))
    kept.read(0)[:] = 9
    kept.add(0, np.zeros((4, 4), np.uint8))
    kept.add(1, np.zeros((4, 4), np.uint8))
    assert kept.read(1).max() == 0


@pytest.fixture
def faces(tmp_path: Path) -> Dataset:
    """Images of different shapes, a blank one and a repeat."""
    random = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        for number, shape in enumerate([(8, 9), (9, 8, 3), (8, 9)]):
            image = PIL.Image.fromarray(random.integers(256, size=shape, dtype=np.uint8))
            image.save(tmp_path / split / "a" / f"{number}.png")
        PIL.Image.new("L", (8, 8)).save(tmp_path / split / "a" / "blank.png")
        image.save(tmp_path / split / "a" / "repeat.png")
    return Dataset(name="faces", kind="folder", path=tmp_path)


def test_after_a_scan_nothing_is_decoded_again(faces: Dataset, monkeypatch: pytest.MonkeyPatch):
    source = sources.open_source(faces)
    sound = [image.position for image in source.scan() if image.defect is None]
    fresh = list(sources.open_source(faces).read(sound))
    monkeypatch.setattr(folder_source, "decode", None)
    for again, decoded in zip(source.read(sound), fresh, strict=True):
        np.testing.assert_array_equal(again, decoded)


@pytest.mark.parametrize("room", [0, 100, 500])
def test_images_without_room_are_decoded_again(faces: Dataset, room: int):
    source = sources.open_source(faces)
    source.decoded = PixelFile(room)
    scanned = list(source.scan())
    everything = list(range(len(scanned)))
    assert sum(position in source.decoded for position in everything) < sum(image.defect is None for image in scanned)
    fresh = sources.open_source(faces).read(everything)
    for again, decoded in zip(source.read(everything), fresh, strict=True):
        np.testing.assert_array_equal(again, decoded)


def test_a_disk_without_room_or_a_folder_for_files_is_no_error(faces: Dataset, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    source = sources.open_source(faces)
    assert len(list(source.read([image.position for image in source.scan()]))) == 15
    monkeypatch.undo()
    source = sources.open_source(faces)
    source.decoded.add(-1, np.zeros((2, 2), np.uint8))
    full = os.open("/dev/full", os.O_WRONLY) if Path("/dev/full").exists() else None
    if full is None:
        pytest.skip("there is no /dev/full here")
    with os.fdopen(full, "wb", buffering=0) as file:
        source.decoded.file = file
        assert len(list(source.scan())) == 15
        assert source.decoded.max_bytes == 0
    assert len(list(source.read(range(15)))) == 15
