"""Outputs and classes: which meet by name, what is said of the others, and that nothing unknown becomes a number."""

# ruff: noqa: C408 - rows read like the tables as dict(image_id=1, …)

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dissectdb.extract.models import classes
from dissectdb.extract.record import class_checks
from dissectdb.extract.study import Study, StudyError, class_names
from tests.support.rows import dissection_row, filled, run_view
from tests.support.studies import NETWORK_STUDY, write_study

FACES = ("angry", "happy", "sad")


def network(architecture: str = "vggnet", names: tuple[str, ...] = ()) -> Any:
    return SimpleNamespace(architecture=architecture, classes=names)


def said(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= level)


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog):
    caplog.set_level(logging.INFO, "dissectdb")


# ---------------------------------------------------------------- names that meet


@pytest.mark.parametrize(
    ("names", "known", "expected"),
    [
        (FACES, FACES, FACES),
        (FACES, ("Angry", "HAPPY", "sad"), ("Angry", "HAPPY", "sad")),
        (("great white shark", "hot-dog"), ("great_white_shark", "Hotdog"), ("great_white_shark", "Hotdog")),
        (("cafe\u0301",), ("CAF\u00c9",), ("CAF\u00c9",)),  # one accent, encoded twice
        (("straße",), ("STRASSE",), ("STRASSE",)),
        # Cardigan the dog and cardigan the jacket: exact names meet, and nothing else is taken for either.
        (("Cardigan", "cardigan"), ("cardigan", "Cardigan"), ("Cardigan", "cardigan")),
        (("cardigan", "CARDIGAN"), ("Cardigan", "cardigan"), ("cardigan", None)),
        (("happy", "Happy"), ("HAPPY",), (None, None)),
        (("happy",), ("Happy", "HAPPY"), (None,)),
        (("-", "_"), ("_", " "), (None, "_")),  # nothing is left to go by
        (("happily",), ("happy",), (None,)),
        ((), FACES, ()),
    ],
)
def test_names_meet_exactly_else_without_case_and_separators_where_that_is_unambiguous(names, known, expected):
    met = class_names.meet(names, known)
    assert tuple(met.get(name) for name in names) == expected
    again = class_names.meet(names, list(known)[::-1])
    assert again == met


@pytest.mark.parametrize(
    ("given", "outputs", "known", "expected"),
    [
        ((), 3, FACES, FACES),  # as many: in the dataset's order
        ((), 2, FACES, ("output 0", "output 1")),
        ((), 3, (), ("output 0", "output 1", "output 2")),
        (("sad", "angry", "happy"), 3, FACES, ("sad", "angry", "happy")),  # named: in the order that was given
        (("SAD", "Angry", "calm"), 3, FACES, ("sad", "angry", "calm")),
        (("0", "1", "2"), 3, FACES, ("0", "1", "2")),
    ],
)
def test_outputs_are_named_by_the_study_else_by_the_dataset_where_they_are_as_many(given, outputs, known, expected):
    assert classes.name_outputs(network(names=given), outputs, known) == expected


def test_what_was_assumed_of_names_is_said(caplog):
    classes.name_outputs(network(), 3, FACES)
    assert "outputs are taken to be angry, happy, sad in this order" in said(caplog)
    caplog.clear()
    classes.name_outputs(network(names=FACES), 3, ("Angry", "Happy", "sad"))
    assert "2 outputs are matched to classes that are spelt differently: angry as Angry, happy as Happy" in said(caplog)
    caplog.clear()
    classes.name_outputs(network(names=FACES), 3, FACES)
    assert said(caplog) == ""


def test_too_few_or_too_many_names_are_refused():
    with pytest.raises(StudyError, match="names 3 classes, the network has 7 outputs"):
        classes.name_outputs(network(names=FACES), 7, FACES)


@pytest.mark.parametrize("architecture", ["torchvision:resnet18", "timm:resnet18", "net.py:make"])
def test_imagenets_numbers_are_known_as_folder_names(architecture):
    names = classes.name_outputs(network(architecture), 1000, ("n01440764", "n02123045", "n15075141"))
    assert (names[0], names[281], names[999]) == ("n01440764", "n02123045", "n15075141")
    assert "n01443537" not in names  # only the three that are there
    assert len(set(names)) == 1000


@pytest.mark.parametrize("architecture", ["torchvision:resnet18", "timm:resnet18"])
def test_the_libraries_own_names_are_known(architecture):
    names = classes.name_outputs(network(architecture), 1000, ("Great_White_Shark", "tabby", "frog"))
    assert names[2] == "Great_White_Shark"
    assert names[281] == "tabby"
    assert names[0] == "tench"
    assert "frog" not in names
    assert len(set(names)) == 1000


def test_a_thousand_folders_of_ones_own_are_not_taken_for_imagenets():
    own = (*(f"part {number}" for number in range(999)), "tench")
    assert classes.name_outputs(network("torchvision:resnet18"), 1000, own) == own


def test_the_21_841_classes_of_imagenet_are_known_to_timm():
    names = classes.name_outputs(network("timm:convnext_tiny"), 11821, ("n02085620", "n02123045"))
    assert {"n02085620", "n02123045"} <= set(names)
    assert len(names) == len(set(names)) == 11821


def test_a_name_that_is_there_twice_gets_its_place_and_no_output_is_a_class_that_it_did_not_meet():
    assert classes._unique(["crane", "ox", "crane"], set(), ()) == ("crane (output 0)", "ox", "crane (output 2)")
    assert classes._unique(["a", "b"], {0}, ("a", "b")) == ("a", "b (output 1)")


def test_two_outputs_of_one_name_are_no_class_of_that_name():
    """ImageNet has two cranes, the bird and the machine. A folder "crane" could mean either."""
    names = classes.name_outputs(network("timm:resnet18"), 1000, ("crane", "goldfish", "tench"))
    assert "crane" not in names
    assert {"goldfish", "tench"} <= set(names)


def test_the_classes_of_a_concept_set_are_spelt_as_the_dataset_spells_them():
    of = {"Smile": ("happy", "HAPPY "), "Tears": ("sad", "tired"), "Nose": ()}
    assert classes.as_in_dataset(of, ("Sad", "angry")) == {
        "Smile": ("happy", "HAPPY "), "Tears": ("Sad", "tired"), "Nose": ()
    }  # fmt: skip


# ---------------------------------------------------------------- a file of names


def classes_of(folder: Path, content: str | bytes | None, name: str = "names.txt") -> Any:
    if content is not None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    text = NETWORK_STUDY.replace("[network]", f'[network]\nclasses = "{name}"')
    return Study.load(write_study(folder, text)).network.classes


def test_classes_may_be_a_text_file_beside_the_study_with_one_a_line(tmp_path):
    assert classes_of(tmp_path, "angry\nhappy \nsad\n") == FACES
    assert classes_of(tmp_path, "\ufeffangry\r\nhappy\r\nsad") == FACES
    assert classes_of(tmp_path, "crane\nox\ncrane\n") == ("crane (output 0)", "ox", "crane (output 2)")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("angry\n\nsad\n", r"names.txt:2: is blank; each line is the name of an output"),
        ("", r"names.txt:1: is blank"),
        (None, r"names.txt: no such file; give a list of names, or a text file"),
        (b"\xff\xfe\x00", r"names.txt: not a readable text file"),
    ],
)
def test_a_file_of_names_that_is_none_is_refused_in_a_line(tmp_path, content, expected):
    with pytest.raises(StudyError, match=expected) as caught:
        classes_of(tmp_path, content)
    assert "network.classes" in str(caught.value)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- what has no counterpart


@pytest.mark.parametrize(
    ("names", "known", "level", "expected"),
    [
        (FACES, FACES, logging.INFO, ""),
        (FACES, ("n01", "n02"), logging.WARNING, "accuracy is unknown: no class of the images (n01, n02) is an output"),
        (FACES, (*FACES, "calm"), logging.WARNING, "1 of 4 classes are not an output of the network: calm"),
        ((*FACES, "calm"), FACES, logging.WARNING, "1 of 4 outputs are not a class of the images: calm"),
        (
            (*"abcdefgh", *FACES),
            FACES,
            logging.INFO,
            "8 of 11 outputs are not a class of the images: a, b, c, d, e, … (8",
        ),
        (FACES, (), logging.INFO, "the images have no classes"),
    ],
)
def test_what_has_no_counterpart_is_said(caplog, names, known, level, expected):
    classes.warn(names, known)
    assert expected in said(caplog)
    assert [record.levelno for record in caplog.records] == ([level] if expected else [])
    assert len(said(caplog)) < 300


@pytest.mark.parametrize(
    ("names", "kind", "remedy"),
    [
        (("beach", "forest"), "webdataset", "name the images' classes with dataset.classes"),
        (("beach", "forest"), "folder", "name them with network.classes"),  # a folder's classes are its folders
        (("output 0", "output 1"), "webdataset", "name them with network.classes"),
    ],
)
def test_where_labels_are_numbers_and_outputs_have_names_the_numbers_are_to_be_named(caplog, names, kind, remedy):
    classes.warn(names, ("0", "1", "2"), kind)
    assert remedy in said(caplog)
    assert said(caplog).count(".classes") == 1


def test_classes_that_one_split_has_and_another_lacks_are_said(caplog):
    counts = {("train", "a"): 9, ("train", "b"): 9, ("validation", "a"): 1, ("test", None): 5}
    classes.warn_of_splits(counts)
    assert said(caplog, logging.WARNING).splitlines() == [
        "split validation has no image of b, which another split has",
        "the test images have no classes: whether they are recognised is unknown",
    ]
    caplog.clear()
    classes.warn_of_splits({("train", None): 9, ("test", None): 3})
    classes.warn_of_splits({("train", "a"): 9, ("test", "a"): 3})
    assert said(caplog) == ""


# ---------------------------------------------------------------- the order of outputs


def counted(accuracy: float, order: list[int], images: int = 200, seed: int = 0) -> np.ndarray:
    """Counts (class, output) of a network with this accuracy, whose outputs are named in this order."""
    random = np.random.default_rng(seed)
    size = len(order)
    counts = np.zeros((size, size))
    for truth in range(size):
        right = random.random(images) < accuracy
        said = np.where(right, truth, random.integers(size, size=images))
        counts[truth] = np.bincount(np.array(order)[said], minlength=size)
    return counts


@pytest.mark.parametrize("accuracy", [0.6, 0.95])
@pytest.mark.parametrize("order", [[3, 0, 1, 2, 6, 4, 5], [0, 1, 2, 3, 4, 6, 5]])
def test_a_network_whose_outputs_are_named_in_another_order_is_found_out(accuracy, order):
    found = class_checks.better_order(counted(accuracy, order), counted(accuracy, order, seed=1))
    assert found is not None
    likely, own, other = found
    assert [int(likely[place]) for place in order] == list(range(7))
    assert own < other - 0.1
    assert other == pytest.approx(accuracy + (1 - accuracy) / 7, abs=0.03)


@pytest.mark.parametrize(
    "counts",
    [
        lambda seed: counted(0.9, list(range(7)), seed=seed),  # all is well
        lambda seed: np.array([[60, 40, 0], [45, 55, 0], [0, 0, 100]]),  # two are hard to tell apart
        lambda seed: np.array([[45, 55, 0], [55, 45, 0], [0, 0, 100]]),
        lambda seed: counted(0.0, list(range(7)), images=20, seed=seed),  # knows nothing
        lambda seed: counted(0.0, [0, 1], images=15, seed=seed),
        lambda seed: counted(0.3, [3, 0, 1, 2, 6, 4, 5], seed=seed),  # too weak to say
        lambda seed: np.outer([500, 20, 20], [0, 1, 0]),  # always the same answer, right on a rare class
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_noise_weakness_and_one_same_answer_are_no_other_order(counts, seed):
    assert class_checks.better_order(counts(2 * seed), counts(2 * seed + 1)) is None


def test_an_assignment_is_one_to_one_and_reaches_the_best_of_small_tables():
    from itertools import permutations

    random = np.random.default_rng(3)
    for _ in range(50):
        counts = random.integers(0, 100, (5, 5)).astype(float) ** 2
        found = class_checks.assign(counts)
        assert sorted(found) == list(range(5))
        best = max(sum(counts[row, column] for row, column in enumerate(order)) for order in permutations(range(5)))
        assert counts[np.arange(5), found].sum() > 0.8 * best


def test_a_thousand_classes_are_compared_in_seconds():
    shifted = np.roll(np.eye(1000) * 20, 1, axis=1)
    found = class_checks.better_order(shifted, shifted)
    assert found is not None
    assert (found[1], found[2]) == (0, 1)


def test_the_likely_order_is_said_once_the_images_are_there(caplog):
    truth = [FACES[number // 2 % 3] for number in range(120)]
    wrong = dict(zip(FACES, ("happy", "sad", "angry"), strict=True))
    with filled(
        networks=[dict(network_id=1, name="net", classes=list(FACES))],
        splits=[dict(split_id=1, split="train")],
        images=[dict(image_id=i, split_id=1, class_=name) for i, name in enumerate(truth)],
        predictions=[dict(network_id=1, image_id=i, class_=wrong[name]) for i, name in enumerate(truth)],
    ) as connection:
        warehouse = SimpleNamespace(
            find=lambda table, fingerprint: 1, rows=lambda sql, values: connection.sql(sql, params=values).pl()
        )
        class_checks.warn_of_order(warehouse, SimpleNamespace(network=SimpleNamespace(classes=FACES, fingerprint="")))
    assert "right on 0 % of the images, and with this order on 100 %: sad, angry, happy" in said(
        caplog, logging.WARNING
    )


# ---------------------------------------------------------------- views


def test_a_label_that_stands_for_no_class_of_the_images_is_neither_right_nor_wrong():
    """Of three labels one stands for a class, one for no class, and one for a class that no image has."""
    rows = run_view(
        "neuron_accuracies",
        networks=[dict(network_id=1, name="net")],
        layers=[dict(layer_id=0, network_id=1, layer="conv", position=0)],
        neurons=[dict(neuron_id=i, layer_id=0, unit=i) for i in range(3)],
        concepts=[dict(concept_id=i, concept_set_id=1, position=i, concept=f"concept {i}") for i in range(3)],
        concept_classes=[dict(concept_id=0, class_="sad"), dict(concept_id=2, class_="calm")],
        images=[dict(image_id=i, split_id=1, class_="happy" if i else "sad") for i in range(4)],
        top_activations=[dict(split_id=1, neuron_id=n, rank=i + 1, image_id=i) for n in range(3) for i in range(4)],
        neuron_labels=[dict(dissection_id=1, neuron_id=i, layer_id=0, concept_id=i, images_fired=4) for i in range(3)],
        dissections=[dissection_row(accuracy_images=4)],
    )
    assert [(row["accuracy"], row["lift"]) for row in rows] == [(0.25, 1.0), (None, None), (None, None)]


def test_a_concept_of_a_set_without_a_map_stands_for_the_class_of_its_name():
    """Set 1 maps nothing; set 2 maps a concept, so that its other one has no class. Dataset 2 spells a name twice."""
    names = {1: ["Beach", "forest fire", "T-shirt", "t shirt", "polish", "sky"], 2: ["sea", "beach"]}
    concepts = [(of, word) for of, words in names.items() for word in words]
    there = {1: ["beach", "forest_fire", "t-shirt", "t shirt"], 2: ["Polish", "POLISH", "beach"]}
    rows = run_view(
        "mapped_classes",
        concepts=[
            dict(concept_id=i, concept_set_id=of, position=i, concept=word) for i, (of, word) in enumerate(concepts)
        ],
        concept_classes=[dict(concept_id=6, class_="beach")],
        classes=[
            dict(dataset_id=i, position=place, class_=name)
            for i, listed in there.items()
            for place, name in enumerate(listed)
        ],
    )
    found = [(concepts[row["concept_id"]][1], row["class"]) for row in rows]
    assert found == [("Beach", "beach"), ("forest fire", "forest_fire"), ("t shirt", "t shirt"), ("sea", "beach")]


def test_a_label_that_is_the_name_of_a_class_is_right_on_the_images_of_the_class():
    rows = run_view(
        "neuron_accuracies",
        networks=[dict(network_id=1, name="net")],
        layers=[dict(layer_id=0, network_id=1, layer="conv", position=0)],
        neurons=[dict(neuron_id=i, layer_id=0, unit=i) for i in range(2)],
        concepts=[
            dict(concept_id=i, concept_set_id=1, position=i, concept=name) for i, name in enumerate(("Sad", "sky"))
        ],
        classes=[dict(dataset_id=1, position=i, class_=name) for i, name in enumerate(("happy", "sad"))],
        images=[dict(image_id=i, split_id=1, class_="happy" if i else "sad") for i in range(4)],
        top_activations=[dict(split_id=1, neuron_id=n, rank=i + 1, image_id=i) for n in range(2) for i in range(4)],
        neuron_labels=[dict(dissection_id=1, neuron_id=i, layer_id=0, concept_id=i, images_fired=4) for i in range(2)],
        dissections=[dissection_row(accuracy_images=4)],
    )
    assert [(row["accuracy"], row["lift"]) for row in rows] == [(0.25, 1.0), (None, None)]


def test_an_edit_is_counted_over_the_images_whose_class_is_an_output():
    """The classes of images 1 and 2 are outputs, that of image 3 is not, and image 4 has no class."""
    tables = dict(
        splits=[dict(split_id=1, split="test")],
        images=[dict(image_id=i, split_id=1, class_=name) for i, name in enumerate(("a", "b", "x", None), 1)],
        networks=[dict(network_id=1, name="net", classes=["a", "b"])],
        edits=[dict(edit_id=1, network_id=1, dissection_id=7, control=None)],
        predictions=[dict(network_id=1, image_id=i, class_="a", confidence=0.5) for i in range(1, 5)],
        edit_predictions=[dict(edit_id=1, image_id=i, class_="b", confidence=0.5) for i in range(1, 5)],
        edit_blocks=[dict(edit_id=1, split_id=1, block=0, images=4)],
    )
    [row] = run_view("edit_outcomes", **tables)
    assert (row["images"], row["correct_before"], row["correct_after"]) == (2, 1, 1)
    assert (row["gained"], row["lost"], row["changed"]) == (1, 1, 2)
    assert [row["kind"] for row in run_view("edit_flips", **tables)] == ["lost", "gained", None, None]
    assert [row["true_class"] for row in run_view("edit_flips_by_class", **tables)] == ["a", "b"]
    [row] = run_view("edit_calibration", **tables)
    assert (row["ece_before"], row["ece_after"]) == (0, 0)


def test_two_networks_are_compared_over_the_classes_that_both_know():
    rows = run_view(
        "network_changes",
        networks=[dict(network_id=n, name=f"net {n}", classes=of) for n, of in ((1, ["a", "b"]), (2, ["a", "c"]))],
        splits=[dict(split_id=1, split="test")],
        images=[dict(image_id=i, split_id=1, class_=name) for i, name in enumerate("abc")],
        predictions=[dict(network_id=n, image_id=i, class_="a") for n in (1, 2) for i in range(3)],
    )
    assert [(row["images"], row["correct"], row["other_correct"]) for row in rows] == [(1, 1, 1)] * 2
