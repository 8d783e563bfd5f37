"""The command judge: on drawn faces, whose truth is known, and on the tiny world for everything that can go wrong."""

from __future__ import annotations

import csv
import html
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dissectdb import ROOT
from dissectdb.extract.demo import faces
from dissectdb.reports import judge as judge_page
from dissectdb.warehouse import Warehouse
from tests.support.killer import kill
from tests.support.worlds import command

IMAGES = 1000
SCORERS = ("wpmi", "cos", "cos_cubed", "rank_reorder", "presence", "soft_wpmi")
Labels = list[tuple[str, int, str]]  # layer, unit, label


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def rows_of(warehouse: Path, query: str) -> pl.DataFrame:
    with Warehouse(warehouse, read_only=True) as opened:
        return opened.rows(query)


def true_labels(warehouse: Path) -> Labels:
    """For each neuron the concept whose truth correlates most with its activations: the upper end of any method."""
    activations = rows_of(
        warehouse,
        """
        select layer, unit, images.position, value from activations
        inner join named_neurons using (neuron_id) inner join images using (image_id)
        order by layer, unit, images.position
        """,
    )
    drawn = faces.draw(IMAGES, 0)
    labels = []
    for (layer, unit), of_neuron in activations.group_by("layer", "unit", maintain_order=True):
        truth = drawn.truth[of_neuron["position"].to_numpy()].astype(float)
        truth -= truth.mean(axis=0)
        values = of_neuron["value"].to_numpy().astype(float)
        best = np.argmax((values - values.mean()) @ truth / np.sqrt((truth**2).sum(axis=0)))
        labels.append((layer, unit, faces.CONCEPTS[best]))
    return labels


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of the demo's faces, extracted, and labels of five kinds, judged: truth.csv, … ."""
    folder = tmp_path_factory.mktemp("judged")
    text = (ROOT / "studies" / "demo.toml").read_text(encoding="utf-8")
    text = text[: text.index("[[dissections]]")].replace("../extract", str(ROOT / "extract"))
    text = text.replace("../demo/warehouse.duckdb", "warehouse.duckdb").replace("images = 6000", f"images = {IMAGES}")
    text = text.replace('["conv1b", "conv2b", "conv3b", "conv4b", "lin1", "lin2"]', '["lin2", "lin3"]')
    text = text[: text.index("[controls]")] if "[controls]" in text else text
    asked = "".join(
        f'[[dissections]]\nconcepts = "expressions"\nscorer = "{scorer}"\nnull_draws = 500\n' for scorer in SCORERS
    )
    (folder / "study.toml").write_text(text + asked, encoding="utf-8")
    done = command("extract", folder / "study.toml", "--device", "cpu")
    assert done.code == 0, done.err
    truth = true_labels(folder / "warehouse.duckdb")
    random = np.random.default_rng(0)
    write(folder / "truth.csv", ("layer", "unit", "label"), truth)
    chance = ((layer, unit, random.choice(faces.CONCEPTS), 0.1) for layer, unit, _ in truth)
    write(folder / "clip-dissect.csv", ("layer", "unit", "description", "similarity"), chance)
    names = ((output, f" {name.upper()}. ", 0, 0.9) for output, name in enumerate(faces.CLASSES))
    write(folder / "names.csv", ("neuron", "concept", "concept_id", "metric"), names)
    done = judge(folder, "-o", folder / "judge.html")
    assert done.code == 0, done.err
    return folder


def judge(folder: Path, *options: object):
    files = [folder / "truth.csv", f"chance={folder / 'clip-dissect.csv'}", f"INVERT@lin3={folder / 'names.csv'}"]
    return command("judge", folder / "study.toml", *(part for file in files for part in ("--labels", file)), *options)


def summary(folder: Path, layer: str, reference: str = "clip") -> dict[tuple[str, str], dict[str, float]]:
    rows = rows_of(folder / "warehouse.duckdb", "select * from rival_summary").to_dicts()
    return {
        (row["method"], row["control"]): row for row in rows if (row["layer"], row["reference"]) == (layer, reference)
    }


def test_labels_of_the_truth_come_out_best_and_random_ones_worst(judged):
    """Presence is chosen by the very CLIP and images that judge, so the truth may be as good and no better."""
    means = summary(judged, "lin2")
    own = {method: row for (method, control), row in means.items() if control == "none"}
    assert own.keys() == {"truth", "chance", *(f"{scorer}, expressions" for scorer in SCORERS)}
    for measure in ("pearson", "ap_corrected", "f1", "iou", "auc"):
        ranking = sorted(own, key=lambda method: -own[method][measure])
        assert ranking[-1] == "chance"
        assert set(ranking[:2]) == {"truth", "presence, expressions"}
    for (method, control), row in means.items():
        assert row["neurons"] == 256 >= row["measured"] > 200
        assert row["pearson_low"] < row["pearson"] < row["pearson_high"]
        if control != "none" or method == "chance":
            assert abs(row["pearson"]) < 0.15
            assert 0.4 < row["auc"] < 0.6
            assert row["share_believed"] < 0.6
    assert own["truth"]["share_believed"] > 0.8
    by_class = summary(judged, "lin2", "class")
    assert by_class["truth", "none"]["auc"] > 0.6 > by_class["chance", "none"]["auc"]


def test_differences_are_paired_and_go_both_ways(judged):
    rows = rows_of(
        judged / "warehouse.duckdb",
        "select * from rival_differences where layer = 'lin2' and reference = 'clip' and measure = 'pearson'",
    ).to_dicts()
    pairs = {(row["method"], row["control"], row["other_method"], row["other_control"]): row for row in rows}
    better = pairs["truth", "none", "soft_wpmi, expressions", "none"]
    worse = pairs["soft_wpmi, expressions", "none", "truth", "none"]
    scores = rows_of(
        judged / "warehouse.duckdb",
        """
        select method, unit, pearson from rival_scores
        where layer = 'lin2' and reference = 'clip' and control = 'none'
        """,
    ).pivot("method", index="unit", values="pearson")
    gaps = (scores["truth"] - scores["soft_wpmi, expressions"]).drop_nulls()
    assert better["neurons"] == len(gaps)
    assert better["difference"] == pytest.approx(gaps.mean()) == pytest.approx(-worse["difference"])
    assert (better["low"], better["high"]) == (-worse["high"], -worse["low"])
    assert better["low"] < better["difference"] < better["high"]
    assert better["beyond"] == worse["beyond"] == (better["low"] > 0)
    assert pairs["truth", "none", "truth", "random"]["beyond"]
    assert {"none"} < {row["other_control"] for row in rows}
    assert not any(row["other_control"] != "none" and row["method"] != row["other_method"] for row in rows)


def test_an_output_is_compared_with_its_name(judged):
    means = summary(judged, "lin3")
    named = means["INVERT", "none"]
    assert (named["outputs"], named["names_output"]) == (7, 1.0)
    assert named["output_similarity"] > 0.8
    assert means["truth", "none"]["names_output"] == 0
    assert means["INVERT", "none"]["auc"] > means["truth", "none"]["auc"] > 0.75
    [scores] = rows_of(
        judged / "warehouse.duckdb",
        "select * from rival_scores where method = 'INVERT' and control = 'none' and reference = 'class' and unit = 3",
    ).to_dicts()
    assert (scores["label"], scores["output"], scores["names_output"], scores["sharing"]) == (
        "HAPPY.",
        "happy",
        True,
        1,
    )
    assert (scores["z"], scores["q"]) == (None, None)
    assert all(row["outputs"] is None for row in summary(judged, "lin2").values())


def test_a_measure_is_that_of_the_activations(judged):
    """One label by hand: the AUC, over both halves of the images, of the happy output for the happy faces."""
    values = rows_of(
        judged / "warehouse.duckdb",
        """
        select image_id, value, class = 'happy' as happy from activations
        inner join named_neurons using (neuron_id) inner join images using (image_id)
        where layer = 'lin3' and unit = 3 order by image_id
        """,
    )
    found = []
    for half in (values[::2], values[1::2]):
        happy, others = (half.filter(pl.col("happy") == is_happy)["value"].to_numpy() for is_happy in (True, False))
        found.append((happy[:, None] > others).mean() + (happy[:, None] == others).mean() / 2)
    query = (
        "select auc from rival_scores where method = 'INVERT' and control = 'none' and reference = 'class' and unit = 3"
    )
    assert rows_of(judged / "warehouse.duckdb", query)["auc"][0] == pytest.approx(np.mean(found))


def test_the_page_shows_every_layer_and_method(judged):
    page = (judged / "judge.html").read_text(encoding="utf-8")
    text = html.unescape(page)
    for part in (
        "lin2",
        "lin3",
        "truth",
        "chance",
        "INVERT",
        "presence, expressions",
        "chosen on the very images that judge",
    ):
        assert part in text
    assert "better than" in text
    assert "Measured" in text


def test_the_controls_of_a_network_of_the_same_name_are_not_shown(judged, tmp_path):
    path = shutil.copy(judged / "warehouse.duckdb", tmp_path)
    columns = {
        "networks": "1000 as network_id",
        "rivals": "rival_id + 1000 as rival_id, 1000 as network_id",
        "rival_labels": "rival_id + 1000 as rival_id",
        "rival_quality": "rival_id + 1000 as rival_id",
        "rival_intervals": "rival_id + 1000 as rival_id, other_rival_id + 1000 as other_rival_id, 0.99 as value",
    }
    with Warehouse(path) as opened:
        before = judge_page.ask(opened.rows)["summary"]
        for table, replaced in columns.items():
            opened.connection.execute(f"insert into {table} select * replace ({replaced}) from {table}")
        after = judge_page.ask(opened.rows)["summary"]
    assert before.equals(after)


def test_labels_judged_on_an_older_set_of_images_are_not_shown(judged, tmp_path):
    path = shutil.copy(judged / "warehouse.duckdb", tmp_path)
    columns = {
        "datasets": "1000 as dataset_id, 'older' as fingerprint",
        "splits": "1000 as dataset_id, split_id + 1000 as split_id",
        "rivals": "rival_id + 1000 as rival_id, split_id + 1000 as split_id",
        "rival_labels": "rival_id + 1000 as rival_id",
        "rival_quality": "rival_id + 1000 as rival_id",
        "rival_intervals": "rival_id + 1000 as rival_id, other_rival_id + 1000 as other_rival_id, 0.99 as value",
    }
    with Warehouse(path) as opened:
        before = judge_page.ask(opened.rows)
        for table, replaced in columns.items():
            opened.connection.execute(f"insert into {table} select * replace ({replaced}) from {table}")
        after = judge_page.ask(opened.rows)
    for name, rows in before.items():
        assert len(rows) > 0
        assert rows.drop("dataset").equals(after[name].drop("dataset")), name


def test_the_command_shows_what_is_measured_and_a_query_with_one_row_per_label(judged, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(judged, folder)
    done = judge(folder)
    assert done.code == 0, done.err
    assert re.search(r"^method +reference +neurons +measured ", done.out, re.MULTILINE)
    assert "lin2, train: " in done.out
    assert "q here is that of judge" in done.out
    [query] = re.findall(r'dissectdb query -w \S+ "(SELECT .* FROM rival_scores .*)"', done.out)
    everything = rows_of(
        folder / "warehouse.duckdb", re.sub("SELECT .* FROM", "SELECT * FROM", query.replace("LIMIT 20", ""))
    )
    assert set(everything["control"]) == {"none"}
    assert everything.select("layer", "unit", "method").is_duplicated().sum() == 0
    assert {"truth", "chance", "INVERT", "presence, expressions"} <= set(everything["method"])


def test_the_same_files_are_judged_once_and_a_changed_one_anew(judged, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(judged, folder)
    ledger = "select method, control, layer_id, rival_layers.fingerprint from rivals join rival_layers using (rival_id)"
    before = rows_of(folder / "warehouse.duckdb", ledger).rows()
    done = judge(folder)
    assert done.code == 0, done.err
    assert "nothing to judge: all these labels are judged" in done.out
    assert "Labels of lin2, on train images of demo faces" in done.out
    lines = (folder / "truth.csv").read_text().splitlines()
    changed = [line for line in lines if not line.startswith("lin3")]
    changed[1] = changed[1].rpartition(",")[0] + ",a < b & c"
    (folder / "truth.csv").write_text("\n".join(changed))
    done = judge(folder, "-o", folder / "judge.html")
    assert done.code == 0, done.err
    assert "nothing to judge" not in done.out
    after = rows_of(folder / "warehouse.duckdb", ledger).rows()
    assert {row for row in before if row[0] != "truth"} == {row for row in after if row[0] != "truth"}
    assert not {row for row in before if row[0] == "truth"} & {row for row in after if row[0] == "truth"}
    labels = rows_of(
        folder / "warehouse.duckdb",
        "select layer, label from rival_scores where method = 'truth' and control = 'none' and reference = 'clip'",
    )
    assert set(labels["layer"]) == {"lin2"}
    assert "a < b & c" in labels["label"].to_list()
    assert (
        len(
            rows_of(
                folder / "warehouse.duckdb",
                "select * from rival_differences where layer = 'lin3' and 'truth' in (method, other_method)",
            )
        )
        == 0
    )
    assert command("check", "-w", folder / "warehouse.duckdb").code == 0


# ---------------------------------------------------------------- the tiny world


def test_too_few_images_are_said_and_no_number_is_made_up(world):
    path = write(world.folder / "mine.csv", ("layer", "unit", "label"), [("lin", 0, "a <b>bold</b> disc")])
    done = world.run("judge", world.study, "--labels", path, "-o", world.folder / "judge.html")
    assert done.code == 0, done.err
    assert "no label could be measured: each half of the images needs 20 with the concept" in done.out
    rows = world.rows("select * from rival_scores where method = 'mine'")
    assert {(row["pearson"], row["auc"]) for row in rows} == {(None, None)}
    assert "<b>bold" not in (world.folder / "judge.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer,unit,label\nline,0,disc\n", "line 2: the warehouse has no activations of the layer 'line'"),
        ("layer,unit,label\nlin,8,disc\n", "line 2: lin has no unit 8; it has 0 to 7"),
        ("unit,label\n0,disc\n", "line 1: there is no column layer"),
    ],
)
def test_a_bad_file_is_one_line_and_the_warehouse_stays_as_it_was(world, text, message):
    path = world.folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    before = world.tables()
    done = world.run("judge", world.study, "--labels", path)
    assert (done.code, done.out) == (2, "")
    assert message in done.err.splitlines()[-1]
    assert "loading" not in done.err, "before any model is loaded"
    assert world.tables() == before


def test_without_a_warehouse_there_is_nothing_to_judge(new_world):
    done = new_world.run("judge", new_world.study)
    assert done.code == 3
    assert "no such warehouse" in done.err
    assert not new_world.warehouse.exists()


def test_a_study_that_is_not_extracted_is_refused(world):
    world.change("softmax_scale = 40.0", "softmax_scale = 41.0")
    done = world.run("judge", world.study)
    assert done.code == 2
    assert "this study has not been extracted as it stands; run: dissectdb extract STUDY" in done.err


def test_a_study_with_a_split_of_its_own_for_judging_judges_there(world):
    with world.study.open("a", encoding="utf-8") as file:
        file.write('\n[judge]\nsplit = "validation"\n')
    assert world.extract().code == 0
    done = world.run("judge", world.study)
    assert done.code == 0, done.err
    assert "Labels of lin, on validation images of shapes" in done.out
    assert world.rows("select distinct split from rival_scores") == [{"split": "validation"}]


def test_a_killed_run_is_continued(world, copy_world):
    whole = copy_world(world, "whole")
    assert whole.run("judge", whole.study).code == 0
    kill("judge", {str(world.study): ("insert", "rival_quality", 2)})  # within the transaction of the second layer
    assert len({row["layer_id"] for row in world.rows("select * from rival_layers")}) == 1
    done = world.run("judge", world.study)
    assert done.code == 0, done.err
    assert world.tables() == whole.tables()
