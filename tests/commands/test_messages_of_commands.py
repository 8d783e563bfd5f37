"""What commands say, and what they leave behind, where there is nothing to say or much of it."""

from __future__ import annotations

import logging
import re
from functools import partial

import polars as pl
import pytest

from dissectdb.commands import app
from dissectdb.reports import page
from dissectdb.reports.sections import concepts
from dissectdb.warehouse import Warehouse
from tests.support.report_warehouses import Plan, filled
from tests.support.worlds import World, command

# ---------------------------------------------------------------- a warehouse with nothing in it


def test_a_warehouse_that_is_made_and_left_by_an_error_is_deleted(tmp_path):
    path = tmp_path / "new.duckdb"
    with pytest.raises(ZeroDivisionError), Warehouse(path):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_warehouse_that_was_there_or_has_rows_outlives_an_error(tmp_path):
    path = tmp_path / "old.duckdb"
    Warehouse(path).close()
    with pytest.raises(ZeroDivisionError), Warehouse(path):
        raise ZeroDivisionError
    assert path.exists()
    filled = tmp_path / "filled.duckdb"
    with pytest.raises(ZeroDivisionError), Warehouse(filled) as warehouse:  # noqa: PT012
        warehouse.write({"datasets": [{"dataset_id": 1, "name": "a", "source": "b", "fingerprint": "c"}]})
        raise ZeroDivisionError
    assert filled.exists()


def test_an_extraction_that_is_refused_after_its_scan_leaves_no_file(new_world: World):
    done = new_world.run("extract", new_world.study, "--set", "dissections[0].top_k=100")
    assert done.code == 2
    assert "fewer than top_k" in done.err
    assert not new_world.warehouse.exists()


def test_check_of_an_empty_warehouse_says_that_nothing_was_extracted(new_world: World):
    Warehouse(new_world.warehouse).close()
    done = new_world.run("check")
    assert done.code == 1
    assert "nothing has been extracted" in done.err
    assert "contracts hold" not in done.out


# ---------------------------------------------------------------- what an extraction says


def test_an_extraction_says_its_preprocessing_and_has_one_line_per_stage(new_world: World):
    sees = (
        "images become, for net: 16 × 16 grey, squash, bilinear, mean 0.5, std 0.25; "
        "for tiny-clip: 32 × 32 rgb, shortest, bicubic, mean 0.4815 0.4578 0.4082, std 0.2686 0.2613 0.2758"
    )
    assert sees in new_world.extract("--dry-run").err
    done = new_world.extract()
    assert sees in done.err
    stages = [
        r"loading the network and CLIP",
        r"looking at the images: [\d,]+ images in",
        r"embedding looks: 4 concepts in",
        r"embedding shapes: 5 concepts in",
        r"extracting net: 111 images in",
        r"labelling and building: \d+ views in",
    ]
    found = [re.findall(f"^{stage}.* s(?:, [\\d,]+ per second)?$", done.err, re.MULTILINE) for stage in stages]
    assert [len(lines) for lines in found] == [1] * len(stages), done.err


def test_what_is_odd_about_a_word_list_is_said_when_it_is_new_and_not_again(new_world: World):
    words = new_world.folder / "looks.txt"
    words.write_text(words.read_text() + "# a comment\nround\nRound\nRound\n")
    odd = (
        "looks.txt: lines that begin with # are comments, not concepts: 1",
        "differ in case",
        "repeats and were left out",
    )
    for options in (("--dry-run",), ()):
        said = new_world.extract(*options).err
        assert all(said.count(text) == 1 for text in odd), said
    again = new_world.extract().err
    assert not any(text in again for text in odd)


def test_a_warning_is_marked_as_one():
    log = logging.getLogger("dissectdb")
    kept = log.handlers
    try:
        app._show_notes()
        form = log.handlers[0].format
        record = partial(logging.LogRecord, "dissectdb", pathname="", lineno=0, msg="%s images", exc_info=None)
        assert form(record(level=logging.WARNING, args=("12",))) == "warning: 12 images"
        assert form(record(level=logging.INFO, args=("12",))) == "12 images"
    finally:
        log.handlers = kept


# ---------------------------------------------------------------- what help texts say


@pytest.mark.parametrize("name", ["query", "report", "status", "build", "export"])
def test_a_command_without_a_study_does_not_speak_of_the_studys_warehouse(name):
    assert "study's" not in command(name, "--help").out


@pytest.mark.parametrize("name", ["extract", "modify", "effects"])
def test_a_command_with_a_study_says_that_it_may_name_the_warehouse(name):
    said = " ".join(re.sub(r"[│|]", " ", command(name, "--help").out).split())
    assert "Default: the study's, else $DISSECTDB_WAREHOUSE" in said


def test_a_deep_check_sums_up_the_layers_that_were_not_extracted(world: World):
    layers = '["conv1", { name = "conv2", pooling = "avg" }, { name = "lin", pooling = "avg" }, "pool", "head"]'
    done = world.run("check", "--deep", world.study, "--set", f"network.layers={layers}")
    assert done.code == 1
    assert len(re.findall("not extracted from this network", done.out)) == 1


# ---------------------------------------------------------------- the order of classes in charts


def test_charts_have_classes_in_the_order_of_the_dataset_and_concepts_with_the_commonest_first(tmp_path):
    with filled(tmp_path / "warehouse.duckdb", Plan(classes=("zebra", "ant", "mole"))) as warehouse:
        order = ["zebra", "ant", "mole"]
        named = enumerate(order)
        warehouse.write({"classes": [{"dataset_id": 1, "position": place, "class": name} for place, name in named]})
        rows = page.ask(warehouse.rows)
    for question, column in (("confusion", "true_class"), ("concepts_by_prediction", "class")):
        shown = rows[question][column].unique(maintain_order=True).to_list()
        assert len(shown) > 1, question
        assert shown == [name for name in order if name in shown]
    matrix = rows["concept_matrix"]
    images = matrix.group_by("concept", maintain_order=True).agg(pl.col("images").sum())["images"].to_list()
    assert images == sorted(images, reverse=True)
    chart = concepts.concept_matrix(rows)["figure"].chart.to_dict()
    assert chart["layer"][0]["encoding"]["x"]["sort"] == [name for name in order if name in matrix["class"].to_list()]
