"""One module recorded with two poolings: two layers, told apart wherever a layer is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dissectdb.extract.scoring.nulls import NullProblem
from dissectdb.extract.scoring.problem import Array, Settings
from dissectdb.extract.scoring.scorers import SCORERS
from dissectdb.extract.scoring.soft_wpmi import ImageLists
from dissectdb.extract.scoring.soft_wpmi_null import null_of_lists
from dissectdb.extract.study import Study, StudyError
from dissectdb.warehouse import Warehouse
from tests.support.rows import run_view
from tests.support.worlds import World, save_network

ONE = 'layers = ["conv1", { name = "conv2", pooling = "max" }, "lin", "gate"]'
BOTH = 'layers = ["conv2", { name = "conv2", pooling = "max" }, "lin"]'
EFFECTS = '\n[effects]\nlayers = ["conv2 (avg)", "conv2 (max)"]\nimages = 6\nneurons = 3\ncontrols = 2\n'


@pytest.fixture(scope="module")
def both(untouched: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The usual world in which conv2 was recorded as avg and as max, with an edit and effects of each."""
    world = World(Path(shutil.copytree(untouched.folder, tmp_path_factory.mktemp("poolings") / "world")))
    world.change(ONE, BOTH)
    world.change('name = "paper"\nlayer = "lin"', 'name = "paper"\nlayer = "conv2 (avg)"')
    world.change('name = "twin"\nlayer = "lin"', 'name = "twin"\nlayer = "conv2 (max)"')
    world.change('layer = "conv2"\nsql = "select', 'layer = "conv2 (max)"\nsql = "select')
    world.change("where layer = 'conv2'", "where layer = 'conv2 (max)'")
    world.change("tau = 0.0001", "tau = 0.0")
    world.change("controls = 12\nshuffles = 3", "controls = 3\nshuffles = 1")
    (world.folder / "study.toml").write_text((world.folder / "study.toml").read_text() + EFFECTS)
    for command in ("extract", "modify", "effects"):
        done = world.run(command, world.study)
        assert done.code == 0, done.err
    return world


def test_every_view_that_names_layers_names_each_of_them(both: World) -> None:
    with Warehouse(both.warehouse, read_only=True) as opened:
        layers = {
            name: set(opened.rows(f"select distinct layer from {name}")["layer"])
            for name, columns in opened.columns().items()
            if "layer" in columns and name not in ("layers", "edits")
        }
    all_layers = {"conv2 (avg)", "conv2 (max)", "lin"}
    assert {name for name, found in layers.items() if not found <= all_layers} == set()
    for name in ("named_layers", "neuron_concepts", "layer_summary", "top_images", "similarity_histogram"):
        assert layers[name] == all_layers, name
    for name in ("edit_results", "edited_layers", "weight_scales", "neuron_effects", "concept_effects"):
        assert layers[name] == {"conv2 (avg)", "conv2 (max)"}, name
    assert both.run("check").code == 0


def test_two_poolings_have_labels_of_their_own(both: World) -> None:
    rows = both.rows("select layer, count(concept) as labelled, count(*) as neurons from neuron_concepts group by all")
    assert {row["layer"]: (row["labelled"], row["neurons"]) for row in rows} == {
        "conv2 (avg)": (6, 6), "conv2 (max)": (6, 6), "lin": (8, 8)
    }  # fmt: skip
    scores = both.rows("select layer, unit, similarity from neuron_concepts where layer like 'conv2%' order by all")
    assert [row["similarity"] for row in scores[:6]] != [row["similarity"] for row in scores[6:]]


def test_edits_by_two_poolings_of_a_module_are_two_edits(both: World) -> None:
    rows = both.rows("""
        select name, rule, edited_layers.layer from edits inner join edited_layers using (edit_id)
        where control is null order by edit_id""")
    assert rows == [
        {"name": "paper", "rule": "paper", "layer": "conv2 (avg)"},
        {"name": "twin", "rule": "paper", "layer": "conv2 (max)"},
        {"name": "mine", "rule": "sql", "layer": "conv2 (max)"},
    ]


def test_the_report_and_a_comparison_name_both(both: World, tmp_path: Path) -> None:
    assert both.run("report", "-o", tmp_path / "report.html", "--every-neuron").code == 0
    assert both.run("report", "-o", tmp_path / "compare.html", "--compare", "1", "2").code == 0
    for page in ("report.html", "compare.html"):
        text = (tmp_path / page).read_text(encoding="utf-8")
        assert "conv2 (avg)" in text
        assert "conv2 (max)" in text
    assert len(list((tmp_path / "report_layers").glob("*.html"))) == 3


def test_a_name_stays_bare_until_the_module_is_recorded_in_another_way(world: World) -> None:
    """And a dissection of another network, which has it in one way, is still compared with the same pooling."""
    assert {row["layer"] for row in world.rows("select layer from layer_summary")} == {"conv1", "conv2", "lin", "gate"}
    before = world.rows(
        "select unit, concept, similarity, z, p from neuron_concepts where layer = 'conv2' order by unit"
    )
    world.change('layer = "conv2"\nsql', 'layer = "conv2 (max)"\nsql')  # allowed before it is needed
    world.change(ONE, BOTH)
    assert world.extract().code == 0
    found = {row["layer"] for row in world.rows("select layer from layer_summary")}
    assert found == {"conv1", "conv2 (avg)", "conv2 (max)", "lin", "gate"}
    after = "select unit, concept, similarity, z, p from neuron_concepts where layer = 'conv2 (max)' order by unit"
    for mine, was in zip(world.rows(after), before, strict=True):
        assert mine == pytest.approx(was)  # the views sum in another order
    world.change('weights = "net.pt"', 'weights = "other.pt"')
    world.change(BOTH, ONE)
    save_network(world.folder / "other.pt", seed=4)
    assert world.extract().code == 0
    assert {row["layer"] for row in world.rows("select layer from layer_summary")} == {"conv1", "conv2", "lin", "gate"}
    assert world.run("check").code == 0


def test_shards_and_an_export_keep_two_poolings_apart(
    both: World, copy_world: Callable[..., World], tmp_path: Path
) -> None:
    counts = """
        select layer, count(*) as rows, sum(value) as total
        from activations inner join named_neurons using (neuron_id) group by all order by all"""
    expected = both.rows(counts)
    done = both.run("extract", both.study, "--sink", f"parquet:{tmp_path / 'shards'}")
    assert done.code == 0, done.err
    files = {path.parent.name for path in (tmp_path / "shards" / "table=activations").rglob("*.parquet")}
    assert files == {"layer=conv2%20%28avg%29", "layer=conv2%20%28max%29", "layer=lin"}
    assert both.run("import", tmp_path / "shards", "-w", tmp_path / "of_shards.duckdb").code == 0
    assert both.run("export", tmp_path / "export", "-w", both.warehouse).code == 0
    assert both.run("import", tmp_path / "export", "-w", tmp_path / "copy.duckdb").code == 0
    for name in ("of_shards", "copy"):
        with Warehouse(tmp_path / f"{name}.duckdb", read_only=True) as opened:
            rows = opened.rows(counts).to_dicts()
            assert [(row["layer"], row["rows"]) for row in rows] == [(row["layer"], row["rows"]) for row in expected]
            assert [row["total"] for row in rows] == pytest.approx([row["total"] for row in expected])
            assert opened.rows("select * from unlabelled_layers").is_empty()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('layer = "conv2 (avg)"', 'layer = "conv2"', r"there is no layer 'conv2'; .*conv2 \(avg\), conv2 \(max\), lin"),
        ('layers = ["conv2 (avg)", "conv2 (max)"]', 'layers = ["conv2"]', "effects.layers: there is no layer 'conv2'"),
        (BOTH, 'layers = ["conv2", "conv2", "lin"]', r"network.layers: conv2 \(avg\) appears twice"),
    ],
)
def test_a_study_says_which_pooling_it_means(both: World, tmp_path: Path, old: str, new: str, said: str) -> None:
    text = both.study.read_text()
    assert text.count(old) == 1
    (tmp_path / "study.toml").write_text(text.replace(old, new))
    with pytest.raises(StudyError, match=said):
        Study.load(tmp_path / "study.toml")


def test_what_cannot_be_told_apart_is_refused(both: World, copy_world: Callable[..., World]) -> None:
    world = copy_world(both, "refused")
    world.change(
        BOTH, 'layers = ["conv2", { name = "conv2", pooling = "max" }, "lin", { name = "lin", pooling = "max" }]'
    )
    done = world.extract()
    assert done.code == 2
    assert "lin appears twice, and its output has no places to pool over" in done.err
    world.change(', { name = "lin", pooling = "max" }]', "]")
    world.change('name = "paper"\nlayer = "conv2 (avg)"', 'name = "paper"\nlayers = ["conv2 (avg)", "conv2 (max)"]')
    done = world.modify("--dry-run")
    assert done.code == 2
    assert "conv2 has one set of weights; name it once, with one pooling" in done.err


# ---------------------------------------------------------------- names


def test_names_show_the_way_only_where_a_network_has_several():
    layers = [
        (1, 1, "a", "avg"), (2, 1, "b", "avg"), (3, 1, "b", "max"), (4, 2, "b", "max"), (5, 1, "b", "avg"),
    ]  # fmt: skip
    rows = run_view(
        "named_layers",
        layers=[dict(zip(("layer_id", "network_id", "layer", "pooling"), row, strict=True)) for row in layers],
    )
    assert {row["layer_id"]: row["layer"] for row in rows} == {
        1: "a", 2: "b (avg)", 3: "b (max)", 4: "b", 5: "b (avg, layout 2)"
    }  # fmt: skip
    assert {row["layer_id"]: (row["module"], row["way"]) for row in rows}[4] == ("b", "max")


# ---------------------------------------------------------------- nulls


@pytest.mark.parametrize("scorer", ["soft_wpmi", "wpmi", "cos", "cos_cubed", "rank_reorder", "pearson", "presence"])
def test_the_null_of_a_layer_does_not_depend_on_the_other_layers(scorer: str) -> None:
    chance = np.random.default_rng(0)
    unit = lambda rows: torch.nn.functional.normalize(torch.from_numpy(rows), dim=1)  # noqa: E731
    images, concepts = (
        unit(chance.normal(size=(60, 8)).astype(np.float32)),
        unit(chance.normal(size=(5, 8)).astype(np.float32)),
    )
    layers = [Array(chance.gamma(1, size=(60, size)).astype(np.float32)) for size in (3, 7, 5)]
    settings = Settings.defaults(scorer, top_k=6)

    def labels(chosen: list[Array]) -> list[dict[int, np.ndarray]]:
        problem = NullProblem(settings, chosen, images, concepts, 300, 1)
        if scorer in ("soft_wpmi", "wpmi"):
            lists = [ImageLists.of(settings, layer, np.arange(layer.neurons)) for layer in chosen]
            asked = [{6}, {4, 6}, {5}]
            own = [asked[layers.index(layer)] for layer in chosen]
            return null_of_lists(problem, lists, own).labels
        return SCORERS[scorer].null(problem).labels

    together = labels(layers)
    for layer, expected in zip(layers, together, strict=True):
        [alone] = labels([layer])
        assert alone.keys() == expected.keys()
        for length, drawn in alone.items():
            np.testing.assert_array_equal(drawn, expected[length])
