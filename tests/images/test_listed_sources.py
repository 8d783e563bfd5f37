"""Manifests, Parquet files and tars: their images, classes, splits, attributes, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectdb.extract.images import manifest_source
from dissectdb.extract.images.decoding import pixel_hash
from dissectdb.extract.images.listed_source import split_of_file
from dissectdb.extract.images.scan import Source
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.images.tar_source import expanded
from dissectdb.extract.study import Dataset, StudyError
from tests.support.image_files import noise, quickly, save


def opened(path: Path, kind: str, **settings: Any) -> Source:
    return open_source(Dataset(name="mine", kind=kind, path=path, **settings))


def refused(path: Path, kind: str, **settings: Any) -> str:
    """The message about what cannot be read; it is one line."""
    with pytest.raises(StudyError) as error:
        list(opened(path, kind, **settings).scan())
    assert "\n" not in str(error.value)
    return str(error.value)


def png(seed: int) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(noise(seed, 9, 8, 3)).save(file, "PNG")
    return file.getvalue()


def manifest(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def listed(folder: Path, count: int = 12, **columns: Any) -> list[dict[str, Any]]:
    """Rows of a manifest whose images are there. columns: name → function of the row's number."""
    for number in range(count):
        save(folder / "images" / f"{number}.png", noise(number, 9, 8, 3))
    return [
        {"path": f"images/{number}.png", **{name: of(number) for name, of in columns.items()}}
        for number in range(count)
    ]


def parquet(path: Path, numbers: range, *, names: list[str] | None = None, group_size: int = 5, **columns: Any) -> Path:
    """A file as Hugging Face writes it. columns: values beside image and label."""
    data = {
        "image": pa.array([{"bytes": png(number), "path": f"{number}.png"} for number in numbers]),
        "label": pa.array([number % 3 for number in numbers], pa.int64()),
        **columns,
    }
    table = pa.table(data)
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    if names:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group_size)
    return path


def tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            file.addfile(about, io.BytesIO(content))
    return path


def samples(numbers: range) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    for number in numbers:
        fields = {"age": number + 0.5, "old": number > 5, "box": [1, 2], "nothing": None, "group": f"p{number // 4}"}
        members |= {
            f"{number:04}.png": png(number),
            f"{number:04}.cls": str(number % 3).encode(),
            f"{number:04}.txt": f"picture {number}\n".encode(),
            f"{number:04}.json": json.dumps(fields).encode(),
        }
    return members


def check_pixels(source: Source, seeds: list[int]) -> None:
    """The images of a source are those of the seeds, scanned, read in order and read at some positions."""
    expected = [pixel_hash(noise(seed, 9, 8, 3)) for seed in seeds]
    assert [image.sha256 for image in source.scan()] == expected
    source.decoded.positions = source.decoded.positions[:0]  # as if there had been no room
    assert [pixel_hash(pixels) for pixels in source.read(range(len(seeds)))] == expected
    some = list(range(0, len(seeds), 3))
    assert [pixel_hash(pixels) for pixels in source.read(some)] == [expected[position] for position in some]


# ---------------------------------------------------------------- manifests


@pytest.mark.parametrize("form", ["csv", "tsv", "semicolon", "parquet"])
def test_a_manifest_is_read_in_the_order_of_its_rows(tmp_path, form):
    rows = listed(
        tmp_path, 12, label=lambda n: "ab"[n % 2], split=lambda n: ["train", "Val", "TEST"][n % 3],
        patient=lambda n: f"00{n}", note=lambda n: 'a "b", c\nd' if n == 3 else "",
    )  # fmt: skip
    if form == "parquet":
        path = tmp_path / "m.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        ending, delimiter = {"csv": (".csv", ","), "tsv": (".tsv", "\t"), "semicolon": (".csv", ";")}[form]
        path = manifest(tmp_path / f"m{ending}", rows, delimiter)
    source = opened(path, "manifest")
    check_pixels(source, list(range(12)))
    images = list(source.scan())
    assert source.classes == ("a", "b")
    assert [image.path for image in images] == [row["path"] for row in rows]
    assert [image.split for image in images[:3]] == ["train", "validation", "test"]
    assert images[2].attributes == {"patient": "002"}
    assert images[3].attributes == {"patient": "003", "note": 'a "b", c\nd'}


def test_a_missing_file_is_a_defect_and_a_wrong_root_is_refused(tmp_path):
    rows = listed(tmp_path, 6)
    (tmp_path / "images/4.png").unlink()
    path = manifest(tmp_path / "m.csv", rows)
    assert [image.defect for image in opened(path, "manifest").scan()][3:5] == [None, "unreadable: no such file"]
    other = tmp_path / "lists"
    other.mkdir()
    path = path.rename(other / "m.csv")
    assert f"of 6 files none is there; the first would be {other}/images/0.png; dataset.root = " in refused(
        path, "manifest"
    )
    assert len(list(opened(path, "manifest", root=tmp_path).scan())) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,split\nimages/0.png,train\nimages/1.png,holdout\n", "m.csv:3: the split 'holdout' is unknown"),
        ("path,split\nimages/0.png,train\nimages/1.png,\n", "m.csv:3: has no split, and others have"),
        ('path,note\nimages/0.png,"a\nb"\nimages/1.png\n', "m.csv:4: has 1 fields, and the first line has 2"),
        ("path,path\na,b\n", "the column path appears twice"),
        ("picture,label\na,b\n", "there is picture, label; dataset.image_column names the one of files"),
        ("", "is empty; its first line must name its columns"),
        ("path\n", "it has no line after the first"),
        ("path,label\nimages/0.png,0.25\nimages/1.png,1\n", "m.csv:2: label 0.25 is neither a whole number nor a name"),
        ("path,label\nimages/0.png,0\nimages/1.png,-7\n", "m.csv:3: label -7 is no class"),
        ("path,label\n,0\nimages/1.png,1\n", "m.csv:2: names no file in column path"),
        ("path\nhttps://a/b.png\n", "lists addresses, such as https://a/b.png; fetch the images first"),
        ('path\n"images/0.png"x\n', "m.csv:2: is no line of CSV"),
        (f"path\nimages/0.png\n{'a' * 300}.png\n", "a … in column path is too long; write the path of an image's"),
        (f"path\nimages/0.png\n{'a/' * 3000}b.png\n", "m.csv:3: the path a/a/"),
        ("path\nimages/0.png\nimages/1\0.png\n", "the path images/1\\x00.png in column path is impossible, since it"),
    ],
)
def test_a_manifest_with_a_mistake_is_refused_with_its_line(tmp_path, text, message):
    listed(tmp_path, 2)
    (tmp_path / "m.csv").write_text(text)
    assert message in refused(tmp_path / "m.csv", "manifest")


def test_classes_that_differ_in_case_stay_apart_and_that_is_told(tmp_path, caplog):
    rows = listed(tmp_path, 6, label=lambda number: ("Cat", "cat", "CAT", "dog")[number % 4])
    source = opened(manifest(tmp_path / "m.csv", rows), "manifest")
    with caplog.at_level("INFO", logger="dissectdb"):
        list(source.scan())
    assert set(source.classes) == {"CAT", "Cat", "cat", "dog"}
    assert "classes whose names differ only in spelling stay apart: CAT and Cat and cat" in caplog.messages


def test_numbers_are_classes_by_the_studys_names(tmp_path):
    path = manifest(tmp_path / "m.csv", listed(tmp_path, 6, label=lambda n: ["0", "2.0", "", "1", "-1", "2"][n]))
    source = opened(path, "manifest", classes=["a", "b", "c"])
    assert [image.class_name for image in source.scan()] == ["a", "c", None, "b", None, "c"]
    assert opened(path, "manifest").classes == ("0", "1", "2")
    assert "m.csv:3: label 2.0 is no class; there are 2" in refused(path, "manifest", classes=["a", "b"])
    assert "'x' is no class" in refused(
        manifest(tmp_path / "n.csv", listed(tmp_path, 2, label=lambda n: "ax"[n])), "manifest", classes=["a", "b"]
    )


def test_a_group_is_in_one_split_and_an_attribute(tmp_path):
    path = manifest(tmp_path / "m.csv", listed(tmp_path, 80, group=lambda n: n // 4))
    splits: dict[str, set[str]] = {}
    for image in opened(path, "manifest", validation_share=0.3).scan():
        splits.setdefault(image.attributes["group"], set()).add(image.split)
    assert len(splits) == 20
    assert {len(of_group) for of_group in splits.values()} == {1}
    assert set.union(*splits.values()) == {"train", "validation", "test"}


GROUPS = ["", " ", "NaN", None, 1, 1.0, "1", " 1 ", "a", "a "]


@pytest.mark.parametrize("kind", ["manifest", "parquet", "webdataset", "python"])
def test_no_group_and_whole_numbers_are_written_in_many_ways(tmp_path, kind):
    texts = [None if value is None else str(value) for value in GROUPS]
    if kind == "manifest":
        path = manifest(tmp_path / "m.csv", listed(tmp_path, len(GROUPS), group=lambda n: texts[n]))
    elif kind == "parquet":
        path = parquet(tmp_path / "p.parquet", range(len(GROUPS)), group=pa.array(texts))
    else:
        fields = [json.dumps({"group": value}).encode() for value in [*GROUPS[:2], float("nan"), *GROUPS[3:]]]
        images = {f"{n}.png": png(n) for n in range(len(GROUPS))}
        path = tar(tmp_path / "t.tar", images | {f"{n}.json": text for n, text in enumerate(fields)})
    if kind == "python":
        items = [{"image": noise(n, 9, 8, 3), "group": value} for n, value in enumerate(GROUPS)]
        source = open_source(Dataset(name="set", kind="python"), items)
    else:
        source = opened(path, kind)
    assert [image.attributes.get("group") for image in source.scan()] == [*[None] * 4, *["1"] * 4, "a", "a"]


def test_a_column_of_numbers_with_gaps_has_the_groups_of_one_without(tmp_path):
    numbers = [number // 4 for number in range(40)]
    whole = opened(parquet(tmp_path / "whole.parquet", range(40), group=pa.array(numbers)), "parquet")
    real = opened(parquet(tmp_path / "real.parquet", range(40), group=pa.array(numbers, pa.float64())), "parquet")
    assert [(image.split, image.attributes["group"]) for image in real.scan()] == [
        (image.split, image.attributes["group"]) for image in whole.scan()
    ]


def test_a_limit_takes_classes_in_turn(tmp_path):
    rows = listed(tmp_path, 30, label=lambda n: n // 10, split=lambda n: "test" if n % 2 else "train")
    source = opened(manifest(tmp_path / "m.csv", rows), "manifest", images=3, probing_split="test")
    images = list(source.scan())
    assert Counter((image.split, image.class_name) for image in images if image.split == "test") == {
        ("test", name): 1 for name in "012"
    }
    assert [pixel_hash(each) for each in source.read(range(len(images)))] == [image.sha256 for image in images]


text_field = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)


@given(values=st.lists(text_field, min_size=2, max_size=2), delimiter=st.sampled_from([",", "\t"]))
@quickly
def test_any_text_of_a_manifest_becomes_the_same_attribute(tmp_path, values, delimiter):
    rows = listed(tmp_path, 2)
    rows = [{**row, "words": value, "more": "x"} for row, value in zip(rows, values, strict=True)]
    source = opened(manifest(tmp_path / "m.csv", rows, delimiter), "manifest")
    assert [image.attributes.get("words", "") for image in source.scan()] == values


# ---------------------------------------------------------------- Parquet


@pytest.mark.parametrize("name", ["train-00000-of-00001.parquet", "plain.parquet"])
def test_a_parquet_file_of_hugging_face(tmp_path, name):
    path = parquet(
        tmp_path / name, range(14), names=["cat", "dog", "cow"], age=pa.array([n / 2 for n in range(14)]),
        box=pa.array([[1, 2]] * 14), old=pa.array([n > 5 for n in range(14)]),
    )  # fmt: skip
    source = opened(path, "parquet", probing_split="all")
    check_pixels(source, list(range(14)))
    images = list(source.scan())
    assert source.classes == ("cat", "dog", "cow")
    assert [image.class_name for image in images[:4]] == ["cat", "dog", "cow", "cat"]
    assert images[3].attributes == {"age": "1.5", "old": "false"}


def test_shards_are_in_the_splits_of_their_names(tmp_path):
    for shard in range(2):
        parquet(tmp_path / f"data/train-0000{shard}-of-00002.parquet", range(7 * shard, 7 * shard + 7))
    parquet(tmp_path / "data/test-00000-of-00001.parquet", range(20, 26))
    parquet(tmp_path / "data/validation-00000-of-00001.parquet", range(30, 33))
    source = opened(tmp_path, "parquet")
    check_pixels(source, [*range(14), *range(30, 33), *range(20, 26)])
    assert Counter(image.split for image in source.scan()) == {"train": 14, "validation": 3, "test": 6}
    assert source.classes == ("0", "1", "2")
    limited = opened(tmp_path, "parquet", images=4)
    hashes = [image.sha256 for image in limited.scan()]
    assert len(hashes) == 11
    assert [pixel_hash(each) for each in opened(tmp_path, "parquet", images=4).read(range(11))] == hashes


def test_a_shard_that_is_not_there_is_missed_unless_one_file_is_named(tmp_path):
    for shard in (0, 3):
        parquet(tmp_path / f"data/train-0000{shard}-of-00004.parquet", range(7))
    assert "data/train-00001-of-00004 and 1 more is not there" in refused(tmp_path, "parquet")
    alone = opened(tmp_path / "data/train-00000-of-00004.parquet", "parquet", probing_split="all")
    assert len(list(alone.scan())) == 7


def test_a_parquet_file_that_cannot_be_read_is_refused(tmp_path):
    table = pa.table({"id": [1, 2], "name": ["a", "b"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert "no column holds images" in (message := refused(tmp_path / "a.parquet", "parquet"))
    assert "there is id (int64), name (string)" in message
    both = pa.table({"image": [png(0)], "mask": [png(1)], "class": ["a"]})
    pq.write_table(both, tmp_path / "b.parquet")
    assert "image, mask; dataset.image_column names one" in refused(tmp_path / "b.parquet", "parquet")
    assert len(list(opened(tmp_path / "b.parquet", "parquet", image_column="mask").scan())) == 1
    assert "id is no column of bytes" in refused(tmp_path / "a.parquet", "parquet", image_column="id")
    (tmp_path / "c.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-30])
    assert "c.parquet: is no Parquet file, or it is cut off" in refused(tmp_path / "c.parquet", "parquet")
    (tmp_path / "d.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "pointer of Git LFS" in refused(tmp_path / "d.parquet", "parquet")
    (tmp_path / "empty").mkdir()
    assert "holds no file that ends in .parquet" in refused(tmp_path / "empty", "parquet")
    assert "has other columns than" in refused(tmp_path.joinpath(*mixed(tmp_path)), "parquet")


def mixed(folder: Path) -> tuple[str]:
    parquet(folder / "mixed/a.parquet", range(2))
    parquet(folder / "mixed/b.parquet", range(2), age=pa.array([1, 2]))
    return ("mixed",)


# ---------------------------------------------------------------- tars


def test_a_tar_of_samples(tmp_path):
    path = tar(tmp_path / "data.tar", samples(range(13)))
    source = opened(path, "webdataset", classes=["a", "b", "c"], probing_split="all")
    check_pixels(source, list(range(13)))
    images = list(source.scan())
    assert [image.class_name for image in images[:4]] == ["a", "b", "c", "a"]
    assert images[7].attributes == {"age": "7.5", "old": "true", "caption": "picture 7", "group": "p1"}
    assert images[7].path == "data.tar/0007.png"


def test_tars_of_a_folder_or_a_pattern_have_the_splits_of_their_names(tmp_path):
    for shard in range(2):
        tar(tmp_path / f"set-train-{shard:03}.tar", samples(range(5 * shard, 5 * shard + 5)))
    tar(tmp_path / "set-test-000.tar", samples(range(20, 23)))
    assert Counter(image.split for image in opened(tmp_path, "webdataset").scan())["test"] == 3
    pattern = tmp_path / "set-train-{000..001}.tar"
    check_pixels(opened(pattern, "webdataset"), list(range(10)))
    assert "1 of 3 tars are not there" in refused(tmp_path / "set-train-{000..002}.tar", "webdataset")
    assert [path.name for path, *_ in expanded(tmp_path / "set-{train,test}-000.tar")] == [
        "set-train-000.tar",
        "set-test-000.tar",
    ]


@given(length=st.integers(0, 10_000))
@quickly
def test_a_tar_that_is_cut_is_refused_wherever_it_is_cut(tmp_path, length):
    whole = tar(tmp_path / "whole.tar", {"a.png": png(0), "a.cls": b"1", "b.png": png(1), "b.cls": b"0"})
    content = whole.read_bytes()
    end = len(content.rstrip(b"\0"))
    end += -end % 512
    cut = tmp_path / "cut.tar"
    cut.write_bytes(content[: length % end])
    message = refused(cut, "webdataset")
    assert message.startswith(f"{cut}: is ")
    assert message.endswith("fetch it again")


def test_what_is_no_tar_of_images_is_refused(tmp_path):
    packed = tmp_path / "a.tar.gz"
    with tarfile.open(packed, "w:gz"):
        pass
    assert "is compressed, so that no image can be read alone; unpack it with gunzip" in refused(packed, "webdataset")
    assert "a.cls twice" in refused(tar_twice(tmp_path / "b.tar"), "webdataset")
    assert "sample without an image .cls" in refused(tar(tmp_path / "c.tar", {"x.cls": b"1"}), "webdataset")
    two = tar(tmp_path / "d.tar", {"x.png": png(0), "x.jpg": png(1)})
    assert "x holds several images: png, jpg" in refused(two, "webdataset")
    assert len(list(opened(two, "webdataset", image_column="jpg").scan())) == 1
    bad = tar(tmp_path / "e.tar", {"x.png": png(0), "x.json": b"{"})
    assert "x.json is no JSON" in refused(bad, "webdataset")
    of_dict = {"x.png": png(0), "x.json": b'{"label": {"id": 3}, "split": null, "boxes": [1, 2]}'}
    said = refused(tar(tmp_path / "g.tar", of_dict), "webdataset")
    assert said.endswith("g.tar: x.json: its label is a dict; write text or a number, or a .cls beside it")
    of_list = {"x.png": png(0), "x.cls": b"cat", "x.json": b'{"label": {"id": 3}, "group": ["a"]}'}
    said = refused(tar(tmp_path / "h.tar", of_list), "webdataset")
    assert said.endswith("h.tar: x.json: its group is a list; write text or a number")
    joined = tmp_path / "f.tar"
    joined.write_bytes(two.read_bytes() * 2)
    assert "goes on after its end" in refused(joined, "webdataset", image_column="jpg")
    assert "kind = 'webdataset' reads samples" in refused(two, "folder")


def tar_twice(path: Path) -> Path:
    with tarfile.open(path, "w") as file:
        for _ in range(2):
            file.addfile(tarfile.TarInfo("a.cls"))
    return path


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"), ("default/test/0000.parquet", "test"),
        ("imagenet-val-000.tar", "validation"),
        ("data.tar", None), ("training.tar", "train"), ("constraint.tar", None),
    ],
)  # fmt: skip
def test_the_split_of_a_files_name(name, split):
    assert split_of_file(Path(name)) == split


def test_a_changed_byte_of_any_file_changes_the_fingerprint(tmp_path):
    rows = listed(tmp_path, 3, label=str, age=str)
    made = {
        "manifest": (manifest(tmp_path / "m.csv", rows), tmp_path / "images/1.png"),
        "parquet": (parquet(tmp_path / "p.parquet", range(3)), tmp_path / "p.parquet"),
        "webdataset": (tar(tmp_path / "t.tar", samples(range(3))), tmp_path / "t.tar"),
    }
    for kind, (path, file) in made.items():
        before = opened(path, kind).fingerprint()
        assert opened(path, kind).fingerprint() == before
        assert opened(path, kind, images=2).fingerprint() != before
        content = file.read_bytes()
        place = content.index(b"IDAT") + 8
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert opened(path, kind).fingerprint() != before


def test_many_images_are_inspected_in_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("dissectdb.extract.images.listed_source.LARGE", 4)
    paths = {
        "manifest": manifest(tmp_path / "m.csv", listed(tmp_path, 12)),
        "parquet": parquet(tmp_path / "p.parquet", range(12)),
        "webdataset": tar(tmp_path / "t.tar", samples(range(12))),
    }
    expected = [pixel_hash(noise(seed, 9, 8, 3)) for seed in range(12)]
    for kind, path in paths.items():
        source = opened(path, kind)
        source.workers = 3
        assert [image.sha256 for image in source.scan()] == expected
        np.testing.assert_array_equal(next(source.read([5])), noise(5, 9, 8, 3))


def test_a_manifest_leaves_the_limit_on_fields_of_other_csv_files(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    (tmp_path / "list.csv").write_text("path,class\na.png,x\n")
    manifest_source.read(tmp_path / "list.csv")
    assert csv.field_size_limit() == before
