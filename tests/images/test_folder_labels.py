"""Files of labels beside a folder without class folders: what is read, and what is refused with its place."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectdb.extract.images.folder_source import Folder
from dissectdb.extract.study import Dataset, StudyError
from tests.images.test_folders import Said, make, places, said  # noqa: F401 (said is a fixture)
from tests.support.image_files import noise, quickly, save

WNIDS = ("n01440764", "n01443537", "n01751748")


def flat(root: Path, count: int = 6, ending: str = "png") -> Path:
    """ImageNet's validation folder, small: images without class folders."""
    return make(root, *[f"ILSVRC2012_val_{number:08}.{ending}" for number in range(1, count + 1)])


def opened(root: Path, text: str, **settings: Any) -> Folder:
    """The folder with a file of labels. The file lies beside it."""
    from dissectdb.extract.images.sources import open_source

    labels = root.parent / "labels.csv"
    labels.write_text(text)
    settings = {"probing_split": "all", "labels": labels} | settings
    source = open_source(Dataset(name="photos", kind="folder", path=root, **settings))
    assert isinstance(source, Folder)
    return source


def classes_of(source: Folder) -> dict[str, str | None]:
    return {path: name for path, (_, name) in places(source).items()}


def refused(root: Path, text: str, **settings: Any) -> str:
    """The message without the file's path; it is one line."""
    with pytest.raises(StudyError) as error:
        opened(root, text, **settings)
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(root.parent), "")


def table(*rows: str, header: str = "") -> str:
    return "\n".join([*([header] if header else []), *rows]) + "\n"


VAL = [f"ILSVRC2012_val_{number:08}" for number in range(1, 7)]
OF_VAL = dict(zip(VAL, [WNIDS[2], WNIDS[0], WNIDS[0], WNIDS[1], WNIDS[2], WNIDS[1]], strict=True))
WANTED = {f"{name}.png": wnid for name, wnid in OF_VAL.items()}


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (table(*[f"{n},{c} 85 1 499 272 " for n, c in OF_VAL.items()], header="ImageId,PredictionString"), {}),
        (table(*[f"{n},{c} 1 1 2 2 {c} 3 3 4 4" for n, c in OF_VAL.items()], header="ImageId,PredictionString"), {}),
        (table(*[f"{n}.png,{c}" for n, c in OF_VAL.items()]), {}),
        (table(*[f"val/{n}.png\t{c}\t0\t0\t1\t1" for n, c in OF_VAL.items()]), {}),
        (table(*[f"{n}.png {c}" for n, c in OF_VAL.items()]), {}),
        (table(*[f"{n}.png {WNIDS.index(c)}" for n, c in OF_VAL.items()]), {"classes": WNIDS}),
        (table(*[f"{n};{c}" for n, c in reversed(OF_VAL.items())], header="id;breed"), {}),
        (table(*[f"x,{n},{c}" for n, c in OF_VAL.items()], header="a,id,b"), {"label_column": "b"}),
        (table(*OF_VAL.values()), {"classes": WNIDS}),
        (table(*[str(WNIDS.index(c)) for c in OF_VAL.values()]), {"classes": WNIDS}),
        (table(*[str(WNIDS.index(c) + 1) for c in OF_VAL.values()]), {"classes": WNIDS}),
    ],
    ids=["kaggle", "boxes", "csv", "tabs", "caffe", "caffe-numbers", "stems", "columns", "list", "from-0", "from-1"],
)
def test_a_flat_folder_takes_its_classes_from_the_file(tmp_path: Path, text: str, settings: dict[str, Any]) -> None:
    source = opened(flat(tmp_path / "val"), text, **settings)
    assert classes_of(source) == WANTED
    assert source.classes == WNIDS
    assert {image.split for image in source.scan()} == {"all"}


def test_numbers_without_names_are_classes_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    source = opened(flat(tmp_path / "val"), table(*[f"{name},{10 - 2 * n}" for n, name in enumerate(VAL)]))
    assert source.classes == (*"0123456789", "10")
    assert classes_of(source)["ILSVRC2012_val_00000001.png"] == "10"


def test_train_has_class_folders_and_validation_a_file(tmp_path: Path, said: list[str]) -> None:  # noqa: F811
    make(tmp_path / "cls", *[f"train/{wnid}/{wnid}_{n}.png" for wnid in WNIDS for n in range(2)])
    flat(tmp_path / "cls" / "val")
    make(tmp_path / "cls", "test/ILSVRC2012_test_1.png")
    text = table(*[f"{n},{c} 1 1 2 2" for n, c in OF_VAL.items()], header="ImageId,PredictionString")
    source = opened(tmp_path / "cls", text, probing_split="train")
    assert Counter(split for split, _ in places(source).values()) == {"train": 6, "validation": 6}
    assert places(source)["val/ILSVRC2012_val_00000004.png"] == ("validation", WNIDS[1])
    assert [line for line in said if line.startswith("images of test in no class folder, left out: 1")]
    assert "'n2' is no class; there is n01440764" in refused(tmp_path / "cls", text.replace(f"{WNIDS[1]} 1", "n2 1"))
    assert "class folders have names; dataset.classes says" in refused(
        tmp_path / "cls", table(*[f"{name} {n % 3}" for n, name in enumerate(VAL)])
    )


def test_a_list_is_said_to_go_by_name(tmp_path: Path, said: list[str]) -> None:  # noqa: F811
    list(
        opened(flat(tmp_path / "val"), table(*[str(WNIDS.index(c) + 1) for c in OF_VAL.values()]), classes=WNIDS).scan()
    )
    assert "labels: line 1 of labels.csv (3) is of ILSVRC2012_val_00000001.png, and so on by name" in said
    assert "labels are numbers from 1 on: 1 is n01440764" in said


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (table(*[f"{n},a" for n in VAL[:-1]]), {}, "has no class for ILSVRC2012_val_00000006.png; write a line"),
        (table(*[f"{n},a" for n in VAL[:3]]), {}, "has no class for ILSVRC2012_val_00000004.png and 2 further images;"),
        (table(*[f"{n},a" for n in VAL], "x.png,b"), {}, "labels.csv:7: /val has no image x.png outside"),
        (table("x.png,b", *[f"{n},a" for n in VAL]), {}, "labels.csv:1: x.png is no image of the folder, and"),
        (table("n,c", *[f"{n},a" for n in VAL]), {}, "no column is called path, file"),
        (table("id,a,b", *[f"{n},a,b" for n in VAL]), {}, "which column has the class? there is id, a, b"),
        (table("id,a,b"), {"label_column": "c"}, "dataset.label_column: there is no column 'c'; there is id, a, b"),
        (table(*[f"{n},a" for n in VAL]), {"label_column": "c"}, "names an image and no columns"),
        (table(*[f"{n},a" for n in VAL], f"{VAL[0]},b"), {}, "labels.csv:7: ILSVRC2012_val_00000001 is 'b', and"),
        (table(*[f"{n},a" for n in VAL[:-1]], f"{VAL[-1]},"), {}, "labels.csv:6: has no class for ILSVRC2012_val_0000"),
        (table(*[f"{n},a" for n in VAL[:-1]], f"{VAL[-1]},a,b"), {}, "labels.csv:6: has 3 fields, and the first line"),
        (table(*[f"{n},cot" for n in VAL]), {"classes": ["cat", "dog"]}, "labels.csv:1: 'cot' is no class; did you"),
        (table(*[f"{n},{i}" for i, n in enumerate(VAL)]), {"classes": ["a", "b"]}, "labels.csv:3: 2 is no class; data"),
        (table(*"1122112"[:6]), {"classes": ["a", "b", "c"]}, "from 0 or from 1 is not clear, because neither 0 nor 3"),
        (table(*"aaaaa"), {"classes": ["a"]}, "has 5 lines, and /val has 6 images; write the file's name before"),
        (table(*"aabaaa"), {}, "has no names of files, only classes; write the file's name before each class, or set"),
        (table(*"aab", "", *"aa"), {"classes": ["a", "b"]}, "labels.csv:4: is blank"),
        ("", {}, "labels.csv:1: is blank"),
        ("ImageId,PredictionString\n" + f"{VAL[0]},a 1 1 2 2 b 1 1 2 2\n", {}, "labels.csv:2: its boxes are of a, b;"),
        ("ImageId,PredictionString\n" + f"{VAL[0]},a 1 1 2\n", {}, "labels.csv:2: PredictionString has 4 words"),
        ('path,class\n"x,a\n', {}, "is no line of CSV: unexpected end of data"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line_with_its_place(
    tmp_path: Path, text: str, settings: dict[str, Any], message: str
) -> None:
    assert message in refused(flat(tmp_path / "val"), text, **settings)


def test_names_that_leave_a_doubt_are_refused(tmp_path: Path) -> None:
    two = make(tmp_path / "two", "train/1.png", "val/1.png", "train/2.png", "val/2.png")
    text = "1.png,a\n2.png,a\n"
    assert "labels.csv:1: 1.png names train/1.png, val/1.png; write its folder too" in refused(two, text)
    source = opened(two, "train/1.png,a\ntrain/2.png,b\nval/1.png,b\nval/2.png,a\n", probing_split="train")
    assert places(source)["val/1.png"] == ("validation", "b")
    assert "2 splits have no classes" in refused(two, table(*"abab"), classes=["a", "b"])
    assert "has no image other/1.png outside class folders" in refused(two, "train/1.png,a\nother/1.png,b\n")
    numbered = make(tmp_path / "numbered", *[f"{number}.png" for number in range(1, 12)])
    assert "whether 10.png or 2.png is first is not clear" in refused(
        numbered, table(*"ababababab", "a"), classes=["a", "b"]
    )


def test_class_folders_need_no_labels(tmp_path: Path) -> None:
    make(tmp_path / "photos", "cat/1.png", "dog/2.png")
    assert "dataset.labels would do nothing: all images of" in refused(tmp_path / "photos", "1.png,cat\n")
    for key in ("classes", "label_column"):
        with pytest.raises(ValueError, match=f"{key} would do nothing: kind = 'folder' reads it with labels"):
            Dataset(name="photos", kind="folder", path=tmp_path, **{key: "a" if key == "label_column" else ("a",)})
    with pytest.raises(ValueError, match="labels would do nothing: it is for kind = 'folder'"):
        Dataset(name="photos", kind="demo", labels=tmp_path)
    with pytest.raises(StudyError, match=r"no such file; dataset\.labels is a CSV of file name and class"):
        opened(flat(tmp_path / "val"), "", labels=tmp_path / "nothing.csv")


def test_a_changed_label_is_another_dataset_and_another_form_of_the_file_is_not(tmp_path: Path) -> None:
    root = flat(tmp_path / "val")
    text = table(*[f"{n},{c}" for n, c in OF_VAL.items()])
    before = opened(root, text).fingerprint()
    assert opened(root, text.replace(",", "\t")).fingerprint() == before
    assert opened(root, text.replace(WNIDS[0], WNIDS[1], 1)).fingerprint() != before
    assert opened(root, text, classes=WNIDS[::-1]).fingerprint() != before


@quickly
@given(labels=st.lists(st.sampled_from(["a cat", "dog", "Ω"]), min_size=2, max_size=9), seed=st.randoms())
def test_names_and_lists_give_the_same_classes(tmp_path: Path, labels: list[str], seed: Any) -> None:
    root = tmp_path / f"of{len(labels)}" / "val"
    if not root.is_dir():
        for number in range(len(labels)):
            save(root / f"{number}.png", noise(number, 9, 8))
    rows = [f"{number}.png,{label}" for number, label in enumerate(labels)]
    seed.shuffle(rows)
    wanted = {f"{number}.png": label for number, label in enumerate(labels)}
    assert classes_of(opened(root, table(*rows))) == wanted
    assert classes_of(opened(root, table(*labels), classes=["dog", "Ω", "a cat"])) == wanted
