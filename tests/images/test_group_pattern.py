"""Images of a folder that belong together by their names."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from dissectdb.extract.images.scan import Image
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.study import Dataset, StudyError
from tests.support.image_files import noise, save

PATTERN = r"([^/]+)_\d+\."


def films(root: Path, films: int = 30, frames: int = 4) -> Path:
    for film in range(films):
        for frame in range(frames):
            save(root / f"film{film}_{frame}.png", noise(100 * film + frame, 8, 8))
    save(root / "lone.png", noise(10_000, 8, 8))
    return root


def scan(root: Path, **keys: object) -> list[Image]:
    return list(open_source(Dataset(name="films", kind="folder", path=root, **keys)).scan())


def test_the_first_bracket_is_the_group_and_a_group_has_one_split(tmp_path: Path) -> None:
    splits = defaultdict(set)
    for image in scan(films(tmp_path), group_pattern=PATTERN, validation_share=0.3):
        assert image.path is not None
        group = image.attributes.get("group")
        assert group == (None if image.path == "lone.png" else image.path.split("_")[0])
        splits[group or image.path].add(image.split)
    assert len(splits) == 31
    assert {len(found) for found in splits.values()} == {1}
    assert set.union(*splits.values()) == {"train", "validation", "test"}


def test_without_a_bracket_all_that_is_found_is_the_group(tmp_path: Path) -> None:
    images = scan(films(tmp_path, 3), group_pattern=r"film\d+", probing_split="all")
    assert [image.attributes.get("group") for image in images] == [*np.repeat(["film0", "film1", "film2"], 4), None]
    assert {image.split for image in images} == {"all"}


def test_of_alternatives_the_bracket_that_fits_is_the_group_and_images_without_one_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pattern = r"(film0)_\d+|(film[12])_\d+"
    with caplog.at_level("INFO", "dissectdb"):
        images = scan(films(tmp_path, 3), group_pattern=pattern, probing_split="all")
    assert [image.attributes.get("group") for image in images] == [*np.repeat(["film0", "film1", "film2"], 4), None]
    said = "group_pattern puts 12 images into 3 groups; in none: 1, each of which is a group of its own"
    assert any(said in line for line in caplog.messages)


def test_another_pattern_is_another_dataset_and_none_is_the_one_of_before(tmp_path: Path) -> None:
    films(tmp_path, 2)

    def fingerprint(**keys: object) -> str:
        return open_source(Dataset(name="films", kind="folder", path=tmp_path, **keys)).fingerprint()

    assert len({fingerprint(), fingerprint(group_pattern=PATTERN), fingerprint(group_pattern="film")}) == 3


def test_a_pattern_that_is_in_no_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"group_pattern: 'clip' is in no image's path, such as film0_0.png"):
        scan(films(tmp_path, 1), group_pattern="clip")


def test_a_pattern_that_is_none_is_refused_and_so_is_one_for_another_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no regular expression: missing"):
        Dataset(name="films", kind="folder", path=tmp_path, group_pattern="(film")
    with pytest.raises(ValueError, match="it is empty; leave it out"):
        Dataset(name="films", kind="folder", path=tmp_path, group_pattern="")
    with pytest.raises(ValueError, match="group_pattern would do nothing: it is for kind = 'folder'"):
        Dataset(name="films", kind="manifest", path=tmp_path, group_pattern="film")
