"""Files of labels: each tool's columns are read, and a bad file is one line with its place and the way out."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectdb.extract.judging.label_files import MISSING, LabelFileError, read_labels
from dissectdb.extract.judging.rivals import AskedFile, JudgedLayer, controls_of, of_files

LAYERS = [
    JudgedLayer(1, "conv", "conv", 1, 4),
    JudgedLayer(2, "layer4 (avg)", "layer4", 5, 3),
    JudgedLayer(3, "layer4 (max)", "layer4", 8, 3),
]

# As published: CLIP-Dissect, MILAN, Linear Explanations' baselines, CoSy's INVERT and FALCON, Network Dissection.
FILES = {
    "plain": ("layer,unit,label\nconv,0,Smile\nconv,2, a\tb \n", None, [("conv", 0, "Smile"), ("conv", 2, "a b")]),
    "clip-dissect": ("layer,unit,description,similarity\nconv,0,red,0.25\n", None, [("conv", 0, "red")]),
    "phrases without scores": (
        "layer,group,concept_set_noun_phrases\nconv,0,\"['Frown', 'Tears']\"\nconv,1,\"[('Smile', 0.2)]\"\n",
        None,
        [("conv", 0, "Frown"), ("conv", 1, "Smile")],
    ),
    "milan": ('layer,unit,description\nconv,0,"Green, with stripes"\n', None, [("conv", 0, "Green, with stripes")]),
    "pandas": (",layer,unit,description\n0,conv,0.0,red\n", None, [("conv", 0, "red")]),
    "no layer": ("unit,description,sim correlation\n7,ivtools,0.17\n", "conv", [("conv", 7, "ivtools")]),
    "invert": ("neuron,concept,concept_id,metric\n1,ski resort,304,0.88\n", "conv", [("conv", 1, "ski resort")]),
    "linear": (
        "layer,unit,val correlation,weight0,concept0,weight1,concept1,bias\n"
        "conv,0,0.3,0.73,toiletry,1.5,wolfhound,0.1\nconv,1,0.0,0,0,0.0,0,0.1\nconv,2,0.3,0.73,toiletry,-1.5,wolfhound,0.1\n"
        "conv,3,0.3,-0.2,toiletry,-1.5,wolfhound,0.1\n",
        None,
        [("conv", 0, "wolfhound"), ("conv", 2, "toiletry")],
    ),
    "falcon": (
        "group,Unnamed: 0,concept_set_words,concept_set_noun_phrases\n"
        "48,48,\"[('key', 0.05)]\",\"[('green leaf', 0.03), ('key', 0.01)]\"\n",
        "conv",
        [("conv", 48, "green leaf")],
    ),
    "network dissection": ("unit,category,label,score\n1,part,hand,0.01\n", "conv", [("conv", 0, "hand")]),
    "semicolons": ("layer;unit;label\nconv;0;Smile, wide\n", None, [("conv", 0, "Smile, wide")]),
    "mark and returns": ("\ufeffLayer,Unit,Label\r\nconv,0,Smile\r\n\r\n", None, [("conv", 0, "Smile")]),
    "one layer of a file": ("layer,unit,label\nconv,0,a\nfc,9,b\n", "fc", [("fc", 9, "b")]),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_columns_of_each_tool_are_read(name, tmp_path):
    text, layer, expected = FILES[name]
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode())
    assert [label[:3] for label in read_labels(path, layer)] == expected


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20).map(lambda t: " ".join(t.split()))


def is_label(text: str) -> bool:
    return bool(text) and text.lower() not in MISSING


@given(st.dictionaries(st.tuples(st.just("conv"), st.integers(0, 10**6)), NAMES.filter(is_label), min_size=1))
def test_what_is_written_as_csv_is_read_back(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("csv") / "labels.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("layer", "unit", "label"), *((*key, text) for key, text in labels.items())])
    assert {label[:2]: label.text for label in read_labels(path)} == labels


BAD = {
    "empty": (b"", ": is empty; it needs the columns layer, unit, label"),
    "other columns": (
        b"a,b\n1,2\n",
        ", line 1: the columns are a, b; needed are layer, unit, label, or the columns of a file of Network "
        "Dissection, CLIP-Dissect or MILAN, Linear Explanations, INVERT, FALCON",
    ),
    "no layer": (
        b"unit,label\n0,Smile\n",
        ", line 1: there is no column layer; add one, or name the layer: --labels labels@LAYER={path}",
    ),
    "a column twice": (b"layer,unit,label,label\n", ", line 1: the column label is there twice; delete one"),
    "no label": (b"layer,unit,label\n", ": there is no label; check the file, or leave it out"),
    "a blank label": (
        b"layer,unit,label\nconv,0,Smile\nconv,3,  \n",
        ", line 3: conv unit 3 has no label; write one, or delete the line",
    ),
    "a blank layer": (b"layer,unit,label\n ,0,Smile\n", ", line 2: the layer is blank; name it"),
    "a unit that is none": (
        b"layer,unit,label\nconv,first,Smile\n",
        ", line 2: the unit is 'first', not a whole number from 0 on",
    ),
    "unit 0 from 1": (
        b"layer,unit,category,label,score\nconv,0,part,hand,0.1\n",
        ", line 2: the unit is '0', not a whole number from 1 on",
    ),
    "too few cells": (b"layer,unit,label\nconv,0\n", ", line 2: 2 cells, but the header has 3 columns"),
    "another encoding": (
        "layer,unit,label\nconv,0,Smile\nconv,1,Lächeln\n".encode("latin-1"),
        ", line 3: is not UTF-8 text; save the file as CSV in UTF-8",
    ),
    "an open quote": (b'layer,unit,label\nconv,0,"Smile\n', ", line 2: is not CSV: unexpected end of data"),
    "what pandas writes for a missing text": (
        b"layer,unit,label\nconv,3,nan\n",
        ", line 2: the label of conv unit 3 is 'nan', which stands for a missing one; write another, or delete the "
        "line",
    ),
    "no list of phrases": (
        b"layer,group,concept_set_noun_phrases\nconv,0,__import__('os')\n",
        ", line 2: the label is not as FALCON writes it",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_with_its_place(name, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes(BAD[name][0])
    with pytest.raises(LabelFileError) as caught:
        read_labels(path)
    assert str(caught.value) == f"{path}{BAD[name][1].format(path=path)}"


def test_a_file_that_is_not_there_or_a_folder_is_named(tmp_path):
    with pytest.raises(LabelFileError, match=r"none\.csv: No such file"):
        read_labels(tmp_path / "none.csv")
    with pytest.raises(LabelFileError, match="is a folder"):
        read_labels(tmp_path)
    with pytest.raises(LabelFileError, match="File name too long"):
        read_labels(AskedFile.parse(f"{'name' * 100}={'file' * 100}").path)


# ---------------------------------------------------------------- methods


def test_a_file_is_named_by_its_stem_or_by_hand(tmp_path):
    assert AskedFile.parse("some/milan.csv") == ("milan", None, Path("some/milan.csv"))
    assert AskedFile.parse("MILAN=a.csv") == ("MILAN", None, Path("a.csv"))
    assert AskedFile.parse("MILAN@layer4=a.csv") == ("MILAN", "layer4", Path("a.csv"))
    assert AskedFile.parse("@layer4=some/a.csv") == ("a", "layer4", Path("some/a.csv"))
    path = tmp_path / "a=b.csv"
    path.touch()
    assert AskedFile.parse(str(path)) == ("a=b", None, path)


def methods(tmp_path, *texts, names=("mine",)):
    asked = []
    for place, text in enumerate(texts):
        path = tmp_path / f"file{place}.csv"
        path.write_text(f"layer,unit,label\n{text}\n", encoding="utf-8")
        asked.append(AskedFile(names[place % len(names)], None, path))
    return of_files(asked, LAYERS, ("{}",), {"ours"})


def test_files_of_one_name_are_one_method(tmp_path):
    [method] = methods(tmp_path, "conv,0,a\nconv,1,b", "layer4 (avg),2,a")
    assert method.labels == {1: {0: "a", 1: "b"}, 2: {2: "a"}}
    assert method.choices == ("a", "b")
    assert [method.name for method in methods(tmp_path, "conv,0,a", "conv,0,b", names=("one", "two"))] == ["one", "two"]


@pytest.mark.parametrize(
    ("texts", "names", "message"),
    [
        (["conv,4,a"], ["x"], "file0.csv, line 2: conv has no unit 4; it has 0 to 3"),
        (["conv,1,a\nconv,1,b"], ["x"], "line 3: conv unit 1 has a label in line 2 too; delete one"),
        (["conv,1,a", "conv,1,a"], ["x"], "conv unit 1 has a label in {folder}/file0.csv, line 2 too; delete one"),
        (["conf,1,a"], ["x"], "the warehouse has no activations of the layer 'conf'; did you mean conv? there is "),
        (["layer4,1,a"], ["x"], "line 2: layer4 is recorded in several ways; write layer4 (avg) or layer4 (max)"),
        (["conv,1,a"], ["ours"], "a dissection of the study is named ours; name the file: NAME="),
    ],
)  # fmt: skip
def test_what_the_warehouse_does_not_have_is_refused(tmp_path, texts, names, message):
    with pytest.raises(LabelFileError) as caught:
        methods(tmp_path, *texts, names=names)
    assert message.format(folder=tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_controls_label_the_same_neurons_from_the_same_list(tmp_path):
    [method] = methods(tmp_path, "conv,0,a\nconv,1,b\nconv,2,c\nconv,3,a")
    random, shuffled = controls_of(method)
    assert random.labels[1].keys() == shuffled.labels[1].keys() == method.labels[1].keys()
    assert set(random.labels[1].values()) <= {"a", "b", "c"}
    assert sorted(shuffled.labels[1].values()) == ["a", "a", "b", "c"]
    assert [control.control for control in (random, shuffled)] == ["random", "shuffled"]


@pytest.mark.parametrize("text", ["", " ", "=", "mine=", "mine@layer4= "])
def test_an_option_that_names_no_file_says_what_it_takes(text: str) -> None:
    with pytest.raises(LabelFileError, match="names no file; give FILE"):
        AskedFile.parse(text)
