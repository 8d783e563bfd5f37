"""[judge] clip: labels are judged by another CLIP than the one that gave them."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from dissectdb.extract.judging import measures
from dissectdb.extract.judging.measures import RANGES
from dissectdb.warehouse import Warehouse
from tests.judging.test_quality import cosines_of, expected, of_probing
from tests.support.killer import kill
from tests.support.worlds import OTHER_TABLES, World, save_clip

JUDGE = '\n[judge]\nclip = { architecture = "tiny-clip", weights = "other.safetensors", config = "tiny-clip.json" }\n'
OTHERS = "select * from label_measures where reference <> 'other clip' order by all"
QUALITY = "select * from label_quality where reference = 'other clip' order by all"


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worlds have 72 probing images, 12 of each class in a half."""
    monkeypatch.setattr(measures, "LEAST_IMAGES", 3)


def name_judge(world: World, table: str = JUDGE, seed: int = 5) -> None:
    """Give a world another CLIP, and a study that names it."""
    save_clip(world.folder / "other.safetensors", world.folder / "tiny-clip.json", seed=seed)
    world.study.write_text(world.study.read_text(encoding="utf-8") + table, encoding="utf-8")


def by_cos(world: World) -> World:
    """A world whose labels are those of the largest cosine, extracted."""
    world.change('scorer = "soft_wpmi"\ntop_k = 5\nsoftmax_scale = 40.0', 'scorer = "cos"\ntop_k = 5')
    assert world.extract().code == 0
    return world


def test_another_clip_that_is_named_later_judges_every_label_once(new_world: World) -> None:
    world = by_cos(new_world)
    before, labels = world.rows(OTHERS), world.rows("select * from all_labels order by all")
    name_judge(world)
    with Warehouse(world.warehouse) as opened:
        opened.connection.execute(f"drop table judge_clips; {OTHER_TABLES}")  # as in a warehouse from before
    planned = world.extract("--dry-run").out
    assert "image embeddings tiny-clip, the judge, train" in planned
    assert "embed concepts looks by tiny-clip, the judge" in planned
    assert "judge the labels by tiny-clip too" in planned
    assert "activations" not in planned
    assert "tiny-clip, the judge, validation" not in planned

    done = world.extract()
    assert done.code == 0, done.err
    assert world.rows(OTHERS) == before
    assert world.rows("select * from all_labels order by all") == labels
    keys = "select dissection_id, neuron_id, concept_id, judged_on, images from label_measures"
    judged = world.rows(f"{keys} where reference = 'other clip' order by all")
    assert judged == world.rows(f"{keys} where reference = 'clip' order by all") != []

    activations, cosines, classes = of_probing(world)
    wanted = expected(activations, cosines, classes, "clip", cosines_of(world, clip_id=2))
    rows = [row for row in world.rows(QUALITY) if row["layer"] == "lin"]
    known = [(row[name], wanted[row["unit"]][name]) for row in rows for name in RANGES if row[name] is not None]
    assert len(known) >= 12
    assert [value for value, _ in known] == pytest.approx([value for _, value in known], abs=1e-5)
    for row in rows:
        assert [row[name] is None for name in RANGES] == [np.isnan(wanted[row["unit"]][name]) for name in RANGES]
    assert world.rows("select count(*) as rows from layer_quality where reference = 'other clip'") != [{"rows": 0}]

    assert world.run("check").code == 0
    tables = world.tables()
    again = world.extract()
    assert again.out.startswith("nothing is stale")
    assert world.extract("--dry-run").out.startswith("nothing is stale")
    assert world.tables() == tables


def test_it_is_shown_where_no_class_judges_and_the_report_says_so(new_world: World) -> None:
    name_judge(new_world)
    new_world.change("images_neurons = 2", "images_neurons = 2\nq_limit = 0.99")  # the report judges calibrated labels
    assert new_world.extract().code == 0
    known = new_world.frame("select layer, unit, reference from label_quality where ap_corrected is not null")
    units = known.group_by("layer", "unit").agg("reference")
    shown = {(row["layer"], row["unit"]): row["judged_by"] for row in new_world.rows(
        "select layer, unit, judged_by from neuron_concepts where judged_by is not null"
    )}  # fmt: skip
    assert shown == {
        (layer, unit): next(name for name in ("class", "other clip", "clip") if name in references)
        for layer, unit, references in units.iter_rows()
    }
    done = new_world.run("report", "-o", new_world.folder / "report.html")
    assert done.code == 0, done.err
    page = (new_world.folder / "report.html").read_text(encoding="utf-8")
    assert re.search("the other CLIP tests? the CLIP of the labels", page)
    assert "Nothing here tests CLIP" not in page


def test_a_split_and_control_networks_are_judged_by_it_too(new_world: World) -> None:
    name_judge(new_world, JUDGE + 'split = "validation"\n\n[controls]\nnetworks = ["shuffled"]\n')
    done = new_world.extract()
    assert done.code == 0, done.err
    query = """
        select dissection_id, judged_on, count(*) filter (where reference = 'other clip') as others,
        count(*) filter (where reference = 'clip') as own from label_measures group by all
    """
    rows = new_world.rows(query)
    assert {(row["dissection_id"], row["judged_on"]) for row in rows} == {
        (number, judged_on) for number in range(1, 5) for judged_on in ("halves", "validation")
    }
    assert all(row["others"] == row["own"] > 0 for row in rows)
    assert new_world.extract().out.startswith("nothing is stale")


def test_a_split_that_is_named_after_the_clip_is_judged_by_it(new_world: World) -> None:
    name_judge(new_world)
    assert new_world.extract().code == 0
    halves = new_world.rows(QUALITY)
    new_world.study.write_text(new_world.study.read_text(encoding="utf-8") + 'split = "validation"\n', "utf-8")
    assert new_world.extract().code == 0
    rows = new_world.rows(QUALITY)
    assert [row for row in rows if row["judged_on"] == "halves"] == halves
    assert len([row for row in rows if row["judged_on"] == "validation"]) == len(halves)


def test_a_different_clip_takes_the_place_of_the_first(new_world: World, copy_world: Callable[..., World]) -> None:
    name_judge(new_world)
    first = copy_world(new_world, "first")
    assert first.extract().code == 0
    save_clip(first.folder / "other.safetensors", first.folder / "tiny-clip.json", seed=6)
    assert first.extract().code == 0
    save_clip(new_world.folder / "other.safetensors", new_world.folder / "tiny-clip.json", seed=6)
    assert new_world.extract().code == 0
    assert first.rows(QUALITY) == new_world.rows(QUALITY)


def test_an_extraction_that_is_killed_goes_on(
    world: World, copy_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # what is killed runs in a process of its own
    name_judge(world)
    moments = {
        "embedding": ("insert", "image_embeddings", 2),
        "before its labels are judged": ("insert", "judge_clips", 1),
        "after it is named": ("commit", "judge_clips", 1),
        "between two layers": ("commit", "judged_layers", 2),
    }
    worlds = {name: copy_world(world, name) for name in moments}
    kill("extract", {str(worlds[name].study): moment for name, moment in moments.items()})
    assert world.extract().code == 0
    for name, killed in worlds.items():
        assert killed.extract().code == 0, name
        assert killed.tables() == world.tables(), name


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("\n[judge]\n", "name a split or a clip, or take [judge] out"),
        (JUDGE.replace("other.safetensors", "clip.safetensors"), "judge.clip is the CLIP of [clip]"),
        (JUDGE.replace("other.safetensors", "none.safetensors"), "judge.clip"),
    ],
)
def test_a_clip_that_cannot_judge_is_refused_and_nothing_is_written(world: World, table: str, message: str) -> None:
    name_judge(world, table)
    before = world.tables()
    done = world.extract()
    assert done.code == 2
    assert message in done.err
    assert world.tables() == before
