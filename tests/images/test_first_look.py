"""What kind of images a path holds is recognised, and which split would label the neurons."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import PIL.Image
import polars as pl
import pytest

from dissectdb.extract.images.first_look import look
from dissectdb.extract.study import StudyError
from tests.support.image_files import noise, save, small_folder


def encoded(seed: int) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(noise(seed, 12, 9)).save(buffer, format="PNG")
    return buffer.getvalue()


def parquet(path: Path, first: int = 0) -> Path:
    images = [{"bytes": encoded(first + number), "path": f"{number}.png"} for number in range(4)]
    pl.DataFrame({"image": images, "label": ["cat", "dog"] * 2}).write_parquet(path)
    return path


def test_a_folder_of_parquet_files_is_parquet(tmp_path: Path) -> None:
    parquet(tmp_path / "train-00000-of-00001.parquet")
    parquet(tmp_path / "test-00000-of-00001.parquet", 10)
    found = look(str(tmp_path))
    assert found.keys["kind"] == "parquet"
    assert found.counts["test"] == 4
    assert sum(found.counts.values()) == 8
    assert found.classes == ("cat", "dog")


def test_a_parquet_file_without_images_is_a_list(tmp_path: Path) -> None:
    assert look(str(parquet(tmp_path / "images.parquet"))).keys["kind"] == "parquet"
    save(tmp_path / "a.png", noise(0, 12, 9))
    pl.DataFrame({"file": ["a.png"]}).write_parquet(tmp_path / "list.parquet")
    assert look(str(tmp_path / "list.parquet")).keys["kind"] == "manifest"


def test_tars_are_recognised_in_a_folder_by_a_pattern_and_alone(tmp_path: Path) -> None:
    for shard in range(2):
        with tarfile.open(tmp_path / f"data-{shard}.tar", "w") as tar:
            for number in range(3):
                content = encoded(10 * shard + number)
                member = tarfile.TarInfo(f"{shard}{number}.png")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    for path in (tmp_path, tmp_path / "data-{0..1}.tar", tmp_path / "data-0.tar"):
        found = look(str(path))
        assert found.keys["kind"] == "webdataset"
        assert sum(found.counts.values()) == (3 if path.name == "data-0.tar" else 6)


def test_a_function_is_python(tmp_path: Path) -> None:
    image = "np.eye(8, dtype='uint8') * 90 + np.uint8(number)"
    code = f"import numpy as np\n\n\ndef photos():\n    return [({image}, number % 2) for number in range(6)]\n"
    (tmp_path / "data.py").write_text(code)
    found = look(f"{tmp_path}/data.py:photos")
    assert found.keys["kind"] == "python"
    assert sum(found.counts.values()) == 6
    assert len(found.classes) == 2


def test_a_folder_of_images_beside_a_stray_table_is_a_folder(tmp_path: Path) -> None:
    small_folder(tmp_path, 2)
    parquet(tmp_path / "features.parquet")
    found = look(str(tmp_path))
    assert found.keys["kind"] == "folder"
    assert found.counts["test"] == 4


def test_a_list_has_a_root(tmp_path: Path) -> None:
    save(tmp_path / "photos" / "a.png", noise(0, 12, 9))
    (tmp_path / "list.csv").write_text("path\na.png\n")
    found = look(str(tmp_path / "list.csv"), str(tmp_path / "photos"))
    assert found.keys == {"kind": "manifest", "path": str(tmp_path / "list.csv"), "root": str(tmp_path / "photos")}


def test_images_of_which_none_is_sound_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "blank.png", noise(0, 12, 9) * 0)
    with pytest.raises(StudyError, match="no image is sound; all are unreadable, blank or repeats"):
        look(str(tmp_path))
