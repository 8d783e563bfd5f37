"""Whole runs where classes and outputs have other names: what is warned of, and which figures stay unknown."""

from __future__ import annotations

import re
import shutil

from polars.testing import assert_frame_equal

from tests.support.worlds import World


def rename(world: World, names: dict[str, str]) -> None:
    for split in ("train", "validation", "test"):
        for old, new in names.items():
            (world.folder / "images" / split / old).rename(world.folder / "images" / split / new)


UNMET = {"bar": "n01", "disc": "n02", "ring": "n03"}


def test_without_a_class_that_is_an_output_accuracy_is_unknown_and_edits_are_refused(new_world):
    rename(new_world, UNMET)
    new_world.change('weights = "net.pt"', 'weights = "net.pt"\nclasses = ["bar", "disc", "ring"]')
    dry = new_world.extract("--dry-run")
    warning = "accuracy is unknown: no class of the images (n01, n02, n03) is an output of the network"
    assert dry.code == 0
    assert warning in dry.err
    done = new_world.extract()
    assert done.code == 0, done.err
    assert warning in done.err
    assert re.search(r"train +0 +72 +unknown +unknown", done.out), done.out
    accuracies = new_world.rows("select * from network_accuracies")
    assert {(row["correct"], row["accuracy"], row["loss"]) for row in accuracies} == {(None, None, None)}
    [row] = new_world.rows("select count(is_correct) as known, count(*) as images from image_predictions")
    assert (row["known"], row["images"]) == (0, 111)
    summary = new_world.frame(
        "select overall_accuracy, interpretable_accuracy, uninterpretable_accuracy from layer_summary"
    )
    assert summary.null_count().row(0) == (summary.height,) * 3
    assert new_world.rows("select * from concept_counts_by_prediction") == []
    assert new_world.rows("select * from concept_counts_by_neuron") == []
    assert "unknown" in new_world.run("status").out
    assert new_world.run("check").code == 0
    before = new_world.bytes()
    for command in (["modify"], ["modify", "--dry-run"], ["effects"]):
        name, *flags = command
        study = new_world.study
        if name == "effects":
            study.write_text(study.read_text() + '[effects]\nlayers = ["lin"]\n')
            before = new_world.bytes()
        refused = new_world.run(name, study, *flags)
        assert refused.code == 2, refused.err
        assert (
            f"{name} needs images whose class is an output of the network, but no class of the validation"
            in refused.err
        )
        assert "name them with network.classes" in refused.err
        assert new_world.bytes() == before
    report = new_world.run("report", "-o", new_world.folder / "report.html")
    assert report.code == 0, report.err
    page = (new_world.folder / "report.html").read_text()
    assert "how often it is right is unknown" in page
    assert "Whether labels are right is unknown" in page
    accuracies = page.partition("How often the network is right</h2>")[2].partition("</table>")[0]
    assert ">unknown</td>" in accuracies
    assert ">0.0 %</td>" not in accuracies
    assert new_world.run("report", "--compare", 1, 2, "-o", new_world.folder / "both.html").code == 0


SPELT = {"bar": "BAR", "disc": "Di sc", "ring": "_r-ing"}

NUMBERS = [
    "select split, images, num_unknown, correct, accuracy, loss from network_accuracies order by all",
    "select * exclude (dissection_id) from layer_summary order by all",
    "select * exclude (dissection_id) from neuron_accuracies order by all",
    "select layer, concept, images, share, lift, low, high from concept_counts_by_prediction order by all",
    "select * exclude (dissection_id) from concept_counts_by_neuron order by all",
    "select split, images, share, is_correct from confusion_matrices order by all",
    "select z_within_class, split_half_agrees from label_checks order by all",
    "select concept, similarity, mapped, rank from concept_class_similarities order by all",
    "select split, correct_before, correct_after, gained, lost, p_corrected, low, high from edit_results order by all",
    "select split, flips, gained, lost from edit_flips_by_class order by all",
]


def test_the_spelling_of_classes_changes_no_figure(modified, new_world):
    rename(new_world, SPELT)
    new_world.change('weights = "net.pt"', 'weights = "net.pt"\nclasses = ["bar", "disc", "ring"]')
    for done in (new_world.extract(), new_world.modify()):
        assert done.code == 0, done.err
        assert "3 outputs are matched to classes that are spelt differently: bar as BAR" in done.err
    for query in NUMBERS:
        found, expected = new_world.frame(query), modified.frame(query)
        assert_frame_equal(found, expected)  # but for how sums are rounded
        assert found.height, query


def test_naming_the_outputs_as_they_were_matched_leaves_nothing_stale(world):
    world.change('weights = "net.pt"', 'weights = "net.pt"\nclasses = ["bar", "disc", "ring"]')
    assert "nothing is stale" in world.extract().out


def test_where_only_some_classes_are_outputs_edits_are_measured_on_these_with_a_warning(new_world):
    rename(new_world, {"bar": "beam"})
    new_world.change('weights = "net.pt"', 'weights = "net.pt"\nclasses = ["bar", "disc", "ring"]')
    done = new_world.extract()
    assert done.code == 0, done.err
    assert "1 of 3 classes are not an output of the network: beam" in done.err
    assert "1 of 3 outputs are not a class of the images: bar" in done.err
    done = new_world.modify("--edit", "paper")
    assert done.code == 0, done.err
    assert "modify uses 14 of 21 validation images" in done.err
    assert {row["images"] for row in new_world.rows("select images from edit_results")} == {14, 12}
    assert new_world.run("check").code == 0


def test_a_class_that_a_split_lacks_is_warned_of(new_world):
    shutil.rmtree(new_world.folder / "images" / "validation" / "ring")
    for done in (new_world.extract("--dry-run"), new_world.extract()):
        assert done.code == 0, done.err
        assert "split validation has no image of ring, which another split has" in done.err
