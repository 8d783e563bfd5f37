"""Folders whose splits repeat each other's images, or spell a class in two ways: what counts, and that it is said."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.images.test_folders import folder, make, places
from tests.support.worlds import World


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="dissectdb")
    return caplog


def warnings(said: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in said.records if record.levelno == logging.WARNING]


def copy(root: Path, source: str, *targets: str) -> None:
    for target in targets:
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / source, root / target)


# ---------------------------------------------------------------- repeats


def test_a_split_that_only_repeats_another_is_named(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    make(tmp_path, *[f"train/{name}/{n}.png" for name in ("a", "b") for n in range(3)], "val/a/7.png")
    for name in ("a", "b"):
        for number in range(3):
            copy(tmp_path, f"train/{name}/{number}.png", f"test/{name}/{number}.png")
    assert Counter(split for split, _ in places(folder(tmp_path)).values()) == {"train": 6, "validation": 1}
    assert warnings(said) == ["split test has no image left: 6 repeat images of train"]
    assert "left out: repeats 6 (6 of test repeat train)" in said.messages


def test_all_reasons_why_a_split_is_empty_are_given(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "train/a/1.png", "val/a/2.png", "test/a/3.txt")
    copy(tmp_path, "train/a/1.png", "test/a/1.png")
    copy(tmp_path, "val/a/2.png", "test/a/2.png")
    (tmp_path / "test/a/9.png").write_bytes(b"not an image")
    list(folder(tmp_path).scan())
    assert warnings(said) == [
        "split test has no image left: 1 repeat images of train, 1 repeat images of validation, 1 unreadable"
    ]


def test_repeats_across_splits_are_counted_and_those_of_one_split_warn_of_nothing(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "train/a/1.png", "train/b/2.png", "val/a/3.png", "test/a/4.png", "test/b/5.png")
    copy(tmp_path, "train/a/1.png", "train/a/1b.png", "test/a/1.png")
    copy(tmp_path, "val/a/3.png", "test/a/3.png")
    list(folder(tmp_path).scan())
    assert "left out: repeats 3 (1 of test repeat train, 1 of test repeat validation)" in said.messages
    assert warnings(said) == []


def test_with_all_a_split_that_repeats_another_is_no_empty_split(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "train/a/1.png", "train/b/2.png")
    copy(tmp_path, "train/a/1.png", "test/a/1.png")
    list(folder(tmp_path, probing_split="all").scan())
    assert "left out: repeats 1" in said.messages
    assert warnings(said) == []


def test_a_repeat_under_another_class_is_shown(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "train/a/1.png", "train/b/2.png", "val/a/3.png", "test/b/4.png")
    copy(tmp_path, "train/a/1.png", "train/b/1.png", "test/b/1.png", "test/a/1.png")
    found = places(folder(tmp_path))
    assert found["train/a/1.png"] == ("train", "a"), "the first keeps its class"
    assert not {"train/b/1.png", "test/b/1.png", "test/a/1.png"} & set(found)
    assert warnings(said) == [
        "images that repeat an image of another class, left out: 2; the class of the first image counts, right or not; "
        "train/b/1.png (b) repeats train/a/1.png (a)"
    ]


def test_an_extraction_says_so_once_for_all(new_world: World) -> None:
    shutil.rmtree(new_world.folder / "images/test")
    copy(new_world.folder, "images/train/bar/000.png", "images/test/bar/1.png", "images/test/disc/1.png")
    done = new_world.extract()
    assert done.code == 0, done.err
    assert done.err.count("split test has no image left: 2 repeat images of train") == 1
    assert done.err.count("test/disc/1.png (disc) repeats train/bar/000.png (bar)") == 1
    assert new_world.run("check").code == 0


# ---------------------------------------------------------------- spellings


@pytest.mark.parametrize("other", ["Happy", "HAPPY", "hap_py", "hap py", "hap-py"])
def test_splits_that_spell_a_class_otherwise_have_one_class(
    tmp_path: Path, said: pytest.LogCaptureFixture, other: str
) -> None:
    make(tmp_path, "train/happy/1.png", "train/sad/2.png", "val/sad/3.png", f"test/{other}/4.png", "test/sad/5.png")
    source = folder(tmp_path)
    found = places(source)
    assert source.classes == ("happy", "sad")
    assert found[f"test/{other}/4.png"] == ("test", "happy")
    [line] = [line for line in said.messages if "spelt" in line]
    assert line == (
        f"class folders that are spelt differently in another split are joined to its class: test/{other} as happy"
    )


def test_the_spelling_of_train_counts_wherever_else_it_is_spelt(tmp_path: Path) -> None:
    make(tmp_path, "Train/Happy/1.png", "PublicTest/happy/2.png", "PrivateTest/HAPPY/3.png", "Train/b/4.png")
    source = folder(tmp_path)
    assert source.classes == ("Happy", "b")
    assert {name for _, name in places(source).values()} == {"Happy", "b"}


def test_two_spellings_in_one_split_are_two_classes_everywhere(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    """Cardigan and cardigan are both classes of ImageNet."""
    make(tmp_path, "train/Cardigan/1.png", "train/cardigan/2.png", "val/cardigan/3.png", "test/CARDIGAN/4.png")
    source = folder(tmp_path)
    assert source.classes == ("CARDIGAN", "Cardigan", "cardigan")
    assert places(source)["val/cardigan/3.png"] == ("validation", "cardigan")
    assert "classes whose names differ only in spelling stay apart: CARDIGAN and Cardigan and cardigan" in [
        line for line in said.messages if "spelling" in line
    ]


def test_names_of_nothing_but_separators_are_classes_of_their_own(tmp_path: Path) -> None:
    assert folder(make(tmp_path, "train/_/1.png", "test/-/2.png")).classes == ("-", "_")


def test_joined_classes_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    """A warehouse that has the folders as two classes must not take the dataset for known."""
    make(tmp_path, "train/happy/1.png", "test/Happy/2.png")
    source = folder(tmp_path)
    assert not source.is_named_by_folders
    (tmp_path / "test/Happy").rename(tmp_path / "test/happy")
    assert folder(tmp_path).is_named_by_folders


def test_a_list_of_annotations_spells_classes_otherwise(tmp_path: Path) -> None:
    make(tmp_path, "train/n01/images/1.png", "train/n02/images/2.png", "val/images/3.png", "val/images/4.png")
    (tmp_path / "val/val_annotations.txt").write_text("3.png\tN01\t0\n4.png\tn02\t0\n")
    found = places(folder(tmp_path))
    assert found["val/images/3.png"] == ("validation", "n01")
    assert found["val/images/4.png"] == ("validation", "n02")


def test_a_network_is_right_on_a_class_that_a_split_spells_otherwise(new_world: World) -> None:
    (new_world.folder / "images/test/bar").rename(new_world.folder / "images/test/Bar")
    done = new_world.extract()
    assert done.code == 0, done.err
    assert "joined to its class: test/Bar as bar" in done.err
    [row] = new_world.rows("select images, num_unknown from network_accuracies where split = 'test'")
    assert row == {"images": 18, "num_unknown": 0}
