"""[[dataset.sources]]: several sources as one probing set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dissectdb.extract.images.decoding import pixel_hash
from dissectdb.extract.images.scan import Source
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.study import Dataset
from tests.support.image_files import fer2013, line, noise, quickly, save, small_folder
from tests.support.mistakes import mistake

CODE = """
import numpy as np

def make():
    pictures = [np.random.default_rng(1000 + i).integers(0, 256, (9, 7), np.uint8) for i in range(6)]
    return [{"image": picture, "label": "Happy", "site": "A"} for picture in pictures]
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("united")
    small_folder(path / "set", 8)
    fer2013(path / "f.csv", *[line(noise(500 + seed), 3) for seed in range(10)])
    (path / "data.py").write_text(CODE)
    return path


def united(root: Path, **settings: Any) -> Dataset:
    sources = [
        {"name": "photos", "kind": "folder", "path": "set"},
        {"name": "faces", "kind": "fer2013", "path": "f.csv"},
        {"name": "own", "kind": "python", "path": "data.py:make"},
    ]
    return Dataset.model_validate({"name": "all", "sources": sources, **settings}, context={"folder": root})


def test_images_follow_one_another_with_their_source(root):
    source = open_source(united(root))
    images = list(source.scan())
    assert [image.position for image in images] == list(range(len(images)))
    assert [image.source for image in images] == ["photos"] * 32 + ["faces"] * 10 + ["own"] * 6
    assert images[-1].attributes == {"site": "A"}
    assert images[0].attributes == {}


def test_classes_are_united_by_name(root):
    source = open_source(united(root))
    assert Counter(source.classes).most_common(1)[0][1] == 1
    assert "Happy" not in source.classes
    assert {image.class_name for image in source.scan() if image.source == "own"} == {"happy"}


@given(data=st.data(), is_scanned=st.booleans(), limit=st.sampled_from([None, 2]))
@quickly
def test_any_positions_have_the_pixels_of_the_parts(root, data, is_scanned, limit):
    dataset = united(root, **({"images": limit} if limit else {}))
    parts = [open_source(part) for part in dataset.united()]
    expected = [image.sha256 for part in parts for image in part.scan()]
    source = open_source(dataset)
    if is_scanned:
        assert [image.sha256 for image in source.scan()] == expected
    positions = sorted(data.draw(st.sets(st.integers(0, len(expected) - 1), max_size=6)))
    assert [pixel_hash(each) for each in source.read(positions)] == [expected[position] for position in positions]


def test_a_repeat_across_sources_is_left_out(tmp_path):
    for name in ("one", "two"):
        save(tmp_path / name / "cat/1.png", noise(1, 9, 9))
        save(tmp_path / name / f"cat/{name}.png", noise(len(name) + ord(name[0]), 9, 9))
    sources = [{"name": name, "kind": "folder", "path": name} for name in ("one", "two")]
    dataset = Dataset.model_validate({"name": "all", "sources": sources}, context={"folder": tmp_path})
    assert [image.defect for image in open_source(dataset).scan()] == [None, None, "repeat of 0", None]


def test_a_fingerprint_is_of_the_sources_their_names_and_their_order(root):
    def fingerprint(change) -> str:
        dataset = united(root)
        return open_source(dataset.model_copy(update={"sources": change(dataset.sources)})).fingerprint()

    prints = [
        fingerprint(lambda sources: sources),
        fingerprint(lambda sources: sources[::-1]),
        fingerprint(lambda sources: sources[:2]),
        fingerprint(lambda sources: (sources[0].model_copy(update={"name": "x"}), *sources[1:])),
    ]
    assert len(set(prints)) == 4
    assert fingerprint(lambda sources: sources) == prints[0]


def test_all_sources_take_what_the_dataset_sets(root):
    dataset = united(root, probing_split="all", images=3)
    assert [(each.probing_split, each.images) for each in dataset.united()] == [("all", 3)] * 3
    assert {image.split for image in open_source(dataset).scan()} == {"all"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "folder"}, "sources are united; take kind = 'folder' out"),
        ({"path": "x"}, "path would do nothing beside sources"),
        ({"sources": []}, "kind"),
        ({"sources": [{"name": "a", "kind": "demo"}] * 2}, "sources: the name a appears twice"),
        ({"sources": [{"name": "a", "kind": "demo", "probing_split": "test"}]}, "probing_split is for all"),
        ({"sources": [{"name": "a", "sources": [{"name": "b", "kind": "demo"}]}]}, "has sources of its own"),
        ({"sources": [{"name": "a", "kind": "folder"}]}, "needs path"),
        ({"sources": [{"name": "a", "kind": "demo", "arguments": {}}]}, "arguments would do nothing"),
    ],
)
def test_sources_that_contradict_the_dataset_are_refused(root, settings, message):
    with pytest.raises(ValidationError) as error:
        united(root, **settings)
    assert message in str(error.value)


def test_numpy_is_what_the_pixels_are(root):
    source = open_source(united(root))
    assert all(isinstance(each, np.ndarray) for each in source.read([0, 40, 47]))


def listed(folder: Path, name: str, rows: list[str], first_seed: int, **settings: Any) -> dict[str, Any]:
    """A manifest of images, as a source. rows: the columns after the file's."""
    lines = ["file,label,split,group"]
    for index, row in enumerate(rows):
        save(folder / f"{name}{index}.png", noise(first_seed + index, 9, 9))
        lines.append(f"{name}{index}.png,{row}")
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return {"name": name, "kind": "manifest", "path": f"{name}.csv", **settings}


def open_all(folder: Path, *sources: dict[str, Any]) -> Source:
    values = {"name": "all", "sources": list(sources)}
    return open_source(Dataset.model_validate(values, context={"folder": folder}))


def test_numbers_of_two_sources_are_no_class_until_they_are_named(tmp_path):
    digits = listed(tmp_path, "digits", ["0,,", "1,,"], 0)
    things = listed(tmp_path, "things", ["0,,", "2,,"], 10)
    letters = listed(tmp_path, "letters", ["a,,", "b,,"], 20)
    said = mistake(lambda: open_all(tmp_path, digits, things))
    assert "class 0 of things and 0 of digits may be different" in said
    assert "classes = […]" in said
    assert open_all(tmp_path, digits, letters).classes == ("0", "1", "a", "b")
    named = things | {"classes": ["cat", "dog", "cow"]}
    assert open_all(tmp_path, digits, named).classes == ("0", "1", "cat", "dog", "cow")
    named = [{**source, "classes": ["0", "1", "2"]} for source in (digits, things)]
    assert open_all(tmp_path, *named).classes == ("0", "1", "2")
    save(tmp_path / "photos/0/1.png", noise(30, 9, 9))
    photos = {"name": "photos", "kind": "folder", "path": "photos"}
    assert "of digits are numbers" in mistake(lambda: open_all(tmp_path, photos, digits))


def test_a_group_in_different_splits_of_two_sources_is_told(tmp_path, caplog):
    one = listed(tmp_path, "one", ["a,train,ann", "b,train,bob"], 0)
    two = listed(tmp_path, "two", ["a,test,bob", "b,test,eve"], 10)
    with caplog.at_level("INFO", "dissectdb"):
        list(open_all(tmp_path, one, two).scan())
    assert "groups with images in several splits: 1: bob;" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO", "dissectdb"):
        list(open_all(tmp_path, one).scan())
    assert "several splits" not in caplog.text
