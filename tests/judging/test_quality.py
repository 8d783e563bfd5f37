"""Labels are judged by extract, on the half of the probing images that did not give them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dissectdb.extract.judging import measures
from dissectdb.extract.judging.measures import RANGES
from dissectdb.warehouse import Warehouse
from tests.judging.test_measures import DEFINITIONS
from tests.support.worlds import OTHER_TABLES, World

MEASURES = "select * from label_measures order by all"


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worlds have 72 probing images, 12 of each class in a half."""
    monkeypatch.setattr(measures, "LEAST_IMAGES", 3)


@pytest.fixture(scope="module")
def judged_once(untouched: World) -> World:
    """A world labelled by cos, whose labels are those of the largest cosine; only to be read or copied."""
    world = World(Path(shutil.copytree(untouched.folder, untouched.folder.with_name("judged"))))
    world.change('scorer = "soft_wpmi"\ntop_k = 5\nsoftmax_scale = 40.0', 'scorer = "cos"\ntop_k = 5')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "LEAST_IMAGES", 3)
        done = world.extract()
    assert done.code == 0, done.err
    return world


@pytest.fixture
def judged(judged_once: World, copy_world: Callable[[World, str], World]) -> World:
    """That world, of the test's own."""
    return copy_world(judged_once, "judged")


def matrix(world: World, query: str, *axes: str) -> np.ndarray:
    """The values of a query by two of its columns, sorted by both."""
    wide = world.frame(query).pivot(axes[1], index=axes[0], values="value").sort(axes[0])
    columns = sorted(set(wide.columns) - {axes[0]}, key=int)
    return wide.select(columns).to_numpy().astype(np.float64)


def of_probing(world: World) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations of lin (image, unit), cosines with shapes (image, concept), and the class of each image."""
    images = "inner join images using (image_id) inner join splits using (split_id)"
    activations = matrix(
        world,
        f"""select image_id, unit, value from activations inner join named_neurons using (neuron_id) {images}
        where layer = 'lin' and split = 'train'""",
        "image_id", "unit",
    )  # fmt: skip
    classes = world.frame(
        """select images.class from images inner join splits using (split_id)
        where split = 'train' and defect is null order by image_id"""
    )
    return activations, cosines_of(world), classes["class"].to_numpy()


def cosines_of(world: World, clip_id: int = 1) -> np.ndarray:
    """Cosines with shapes (image, concept) of the probing images, by one CLIP."""
    return matrix(
        world,
        f"""select image_id, concepts.position,
            nd_dot(image_embeddings.embedding, concept_embeddings.embedding) as value
        from image_embeddings inner join images using (image_id) inner join splits using (split_id)
        inner join concept_embeddings using (clip_id) inner join concepts using (concept_id)
        inner join concept_sets using (concept_set_id)
        where concept_sets.name = 'shapes' and split = 'train' and clip_id = {clip_id}""",
        "image_id", "position",
    )  # fmt: skip


CONCEPTS = {"bar": ["bar"], "disc": ["disc"], "circle": ["disc", "ring"], "ring": ["ring"], "nothing": []}


def expected(
    activations: np.ndarray, cosines: np.ndarray, classes: np.ndarray, reference: str, seen: np.ndarray | None = None
) -> list[dict[str, float]]:
    """The measures of each unit, written out: label and threshold by one half, judged on the other, averaged.

    seen: the cosines by the CLIP that judges. Default: that which labels.
    """
    seen = cosines if seen is None else seen
    z = (seen - seen.mean(axis=0)) / seen.std(axis=0)
    amounts, present = np.maximum(z - 0.5, 0), z >= 1
    if reference == "class":
        present = np.array([[name in mapped for mapped in CONCEPTS.values()] for name in classes])
        amounts = present.astype(float)
    found = []
    for values in activations.T:
        halves = []
        for given_by, judged_on in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
            column, s = values[given_by], cosines[given_by]
            label = int(np.argmax((column @ s) / np.linalg.norm(s, axis=0)))
            with_it, ones = present[given_by, label], np.ones(len(column))
            cuts = [(DEFINITIONS["f1"](ones, column, column, with_it, cut), cut) for cut in sorted(column[with_it])]
            cut = max(cuts, key=lambda pair: pair[0])[1] if cuts else np.nan
            given = values[judged_on], amounts[judged_on, label], present[judged_on, label]
            enough = 3 <= given[2].sum() <= len(given[2]) - 3
            halves.append(
                {
                    name: DEFINITIONS[name](ones[: len(given[0])], *given, cut)
                    if enough and np.ptp(given[0]) > 0
                    else np.nan
                    for name in RANGES
                }
            )
        found.append({name: float(np.mean([half[name] for half in halves])) for name in RANGES})
    return found


@pytest.mark.parametrize("reference", ["clip", "class"])
def test_a_label_is_judged_on_the_half_that_did_not_give_it(judged: World, reference: str) -> None:
    wanted = expected(*of_probing(judged), reference)
    rows = judged.rows(f"select * from label_quality where layer = 'lin' and reference = '{reference}'")
    assert rows
    known = 0
    for row in rows:
        assert (row["judged_on"], row["images"]) == ("halves", 72)
        for name in RANGES:
            value = wanted[row["unit"]][name]
            assert (row[name] is None) == np.isnan(value), (row["unit"], name)
            if row[name] is not None:
                assert row[name] == pytest.approx(value, abs=1e-5), (row["unit"], name)
                assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
                known += 1
    assert known >= 12


def test_labels_that_stand_for_a_class_are_shown_by_it_and_the_others_by_clip(judged: World) -> None:
    rows = judged.rows("select layer, unit, concept, judged_by, judged_pearson, judged_ap from neuron_concepts")
    quality = judged.frame("select * from label_quality")
    for row in rows:
        of_unit = quality.filter((pl.col("layer") == row["layer"]) & (pl.col("unit") == row["unit"]))
        known = of_unit.filter(pl.col("ap_corrected").is_not_null())["reference"].to_list()
        assert row["judged_by"] == ("class" if "class" in known else "clip" if known else None)
        if row["judged_by"]:
            shown = of_unit.row(by_predicate=pl.col("reference") == row["judged_by"], named=True)
            assert (row["judged_ap"], row["judged_pearson"]) == (shown["ap_corrected"], shown["pearson"])
        assert ("class" in of_unit["reference"]) == (row["concept"] not in (None, "nothing"))
    assert {row["judged_by"] for row in rows} >= {"class"}


def test_halves_that_gave_another_label_are_counted(judged: World) -> None:
    rows = judged.rows(
        """
        select same_halves, split_half_agrees from label_quality
        inner join neuron_concepts using (layer, unit) where reference = 'clip'
        """
    )
    assert rows
    assert all(row["same_halves"] in (0, 1, 2) for row in rows)
    assert all(row["split_half_agrees"] for row in rows if row["same_halves"] == 2)
    assert not any(row["split_half_agrees"] for row in rows if row["same_halves"] == 1)


def test_a_second_run_has_nothing_to_judge(judged: World) -> None:
    before = judged.tables()
    done = judged.extract()
    assert "nothing is stale" in done.out + done.err
    assert judged.tables() == before


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param(
            f"drop table label_measures; drop table judged_layers; {OTHER_TABLES}", id="a warehouse from before"
        ),
        pytest.param(
            """
            delete from judged_layers where layer_id = (select min(layer_id) from judged_layers);
            delete from label_measures where neuron_id in
                (select neuron_id from neurons where layer_id not in (select layer_id from judged_layers))
            """,
            id="killed between two layers",
        ),
        pytest.param(
            """
            delete from labelled_layers where layer_id in (select layer_id from named_layers where layer = 'lin');
            update label_measures set pearson = 7
            where neuron_id in (select neuron_id from named_neurons where layer = 'lin')
            """,
            id="labelled anew",
        ),
    ],
)
def test_what_is_missing_or_out_of_date_is_judged_by_the_next_extract(judged: World, sql: str) -> None:
    before = judged.rows(MEASURES)
    with Warehouse(judged.warehouse) as opened:
        opened.connection.execute(sql)
    done = judged.extract()
    assert done.code == 0, done.err
    assert "nothing is stale" not in done.out + done.err
    assert judged.rows(MEASURES) == before
    assert judged.run("check").code == 0


def test_a_dry_run_names_the_layers_whose_labels_it_would_judge(judged: World) -> None:
    with Warehouse(judged.warehouse) as opened:
        opened.connection.execute(
            "delete from judged_layers where layer_id in (select layer_id from named_layers where layer = 'lin')"
        )
    done = judged.extract("--dry-run")
    assert "judge the labels of lin by cos with shapes" in done.out, done.out


def on_split(world: World) -> np.ndarray:
    """The f1 of each unit of lin by class: threshold by train with the label, judged on validation; written out."""
    rows = world.frame(
        """
        select unit, split, image_id, value, class, concept from activations
        inner join named_neurons using (neuron_id) inner join images using (image_id)
        inner join splits using (split_id)
        inner join neuron_concepts using (layer, unit) where layer = 'lin' order by unit, image_id
        """
    )
    found = []
    for of_unit in rows.partition_by("unit", maintain_order=True):
        mapped = CONCEPTS[of_unit["concept"][0]]
        parts = {}
        for (split,), part in of_unit.group_by("split"):
            values, has = part["value"].to_numpy(), part["class"].is_in(mapped).to_numpy()
            parts[split] = np.ones(len(values)), values, values, has
        f1, train = DEFINITIONS["f1"], parts["train"]
        cut = max(sorted(train[1][train[3]]), key=lambda cut: f1(*train, cut), default=np.nan)
        found.append(f1(*parts["validation"], cut))
    return np.array(found)


def test_a_split_of_its_own_is_recorded_and_judges_the_label_of_all_probing_images(judged: World) -> None:
    halves, labels = judged.rows(MEASURES), judged.rows("select * from all_labels order by all")
    judged.study.write_text(judged.study.read_text(encoding="utf-8") + '\n[judge]\nsplit = "validation"\n', "utf-8")
    planned = judged.extract("--dry-run")
    assert "activations lin validation" in planned.out
    done = judged.extract()
    assert done.code == 0, done.err
    assert [row for row in judged.rows(MEASURES) if row["judged_on"] == "halves"] == halves
    assert judged.rows("select * from all_labels order by all") == labels
    rows = judged.rows(
        """
        select * from label_quality
        where layer = 'lin' and judged_on = 'validation' and reference = 'class' order by unit
        """
    )
    assert {(row["images"], row["same_halves"]) for row in rows} == {(21, None)}
    wanted = on_split(judged)
    assert [row["f1"] for row in rows] == pytest.approx([wanted[row["unit"]] for row in rows])
    shown = judged.rows("select unit, judged_ap from neuron_concepts where layer = 'lin' order by unit")
    assert {row["unit"]: row["ap_corrected"] for row in rows}.items() <= {
        row["unit"]: row["judged_ap"] for row in shown
    }.items()
    again = judged.extract()
    assert "nothing is stale" in again.out + again.err
    assert judged.run("check").code == 0


@pytest.mark.parametrize(
    ("probing", "message"),
    [("validation", "its images label the neurons"), ("all", "its images label the neurons")],
)
def test_a_split_that_labels_the_neurons_cannot_judge_them(new_world: World, probing: str, message: str) -> None:
    new_world.change('path = "images"', f'path = "images"\nprobing_split = "{probing}"')
    new_world.study.write_text(new_world.study.read_text("utf-8") + '\n[judge]\nsplit = "validation"\n', "utf-8")
    done = new_world.extract()
    assert done.code == 2
    assert message in done.err


def test_a_split_without_images_is_refused_before_anything_is_computed(new_world: World) -> None:
    shutil.rmtree(new_world.folder / "images" / "validation")
    new_world.change('path = "images"', 'path = "images"\nvalidation_share = 0.0001')
    new_world.study.write_text(new_world.study.read_text("utf-8") + '\n[judge]\nsplit = "validation"\n', "utf-8")
    done = new_world.extract()
    assert done.code == 2
    assert "judge.split = 'validation': the dataset has no sound image in it" in done.err


def test_without_activations_nothing_is_judged_and_nothing_is_left_to_do(new_world: World, tmp_path: Path) -> None:
    done = new_world.extract("--activations", "none")
    assert done.code == 0, done.err
    assert new_world.rows(MEASURES) == []
    assert new_world.rows("select * from unjudged_layers") == []
    assert {row["neurons"] for row in new_world.rows("select * from judged_layers")} == {0}
    assert new_world.rows("select distinct judged_ap from neuron_concepts") == [{"judged_ap": None}]
    again = new_world.extract("--activations", "none")
    assert "nothing is stale" in again.out + again.err


def test_the_report_shows_how_the_labels_were_judged(judged: World, tmp_path: Path) -> None:
    done = judged.run("report", "-o", tmp_path / "report.html")
    assert done.code == 0, done.err
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "fit on images that did not choose the label" in page
    assert '"judged_ap"' in page


def test_too_few_images_leave_a_row_without_measures(new_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "LEAST_IMAGES", 20)  # of 36 images of a half
    assert new_world.extract().code == 0
    rows = new_world.rows("select * from label_quality where reference = 'class' and concept <> 'circle'")
    assert rows
    assert all(row[name] is None for row in rows for name in RANGES)
