"""The scales that each rule of an edit gives, and that these scales are the ones applied."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.support.edited_networks import array, copied, edits, logits, saved, scaled, scales, state
from tests.support.worlds import CLASSES, World

RULES = """
[[edits]]
name = "paper down"
layer = "lin"
tau = {middle}
factor = 2.0
factor_down = 4.0
bias = true

[[edits]]
name = "calibrated"
rule = "calibrated"
layer = "lin"
factor = 3.0

[[edits]]
name = "weight_l1"
rule = "weight_l1"
layers = ["conv1", "lin"]
factor = 1.5
factor_down = 1.0

[[edits]]
name = "proportional"
rule = "proportional"
layer = "conv2"
factor = 2.5

[[edits]]
name = "silent"
rule = "ablate"
layers = ["conv2", "lin"]

[[edits]]
name = "silent nothing"
rule = "ablate"
layer = "lin"
concepts = ["nothing"]
bias = false

[[edits]]
name = "query"
rule = "sql"
layers = ["conv2", "gate"]
sql = "select layer, unit, 1 + unit / 4 as scale from neuron_concepts where layer in ('conv2', 'gate')"
bias = true

[[edits]]
name = "file"
rule = "sql"
layer = "conv2"
sql = "mine.sql"

[[sweeps]]
name = "grid"
rules = ["paper", "calibrated", "weight_l1", "proportional"]
layers = ["conv2", "lin"]
taus = [0.0, {middle}]
factors = [1.5, 2.0]
factors_down = [1.0, 3.0]

[protocol]
controls = 1
shuffles = 1
bootstraps = 100
"""

FILE = "-- every second one\nselect layer, unit, unit % 2 as scale from neuron_concepts where layer = 'conv2'\n"

SWEPT = 2 * (2 * 2 * 2 + 2 * 2 + 2 * 2 + 2)  # layers × (paper + calibrated + weight_l1 + proportional)

LABELS = """
    select layer, unit, similarity, q, concept, calibrated, interpretable
    from neuron_labels
    inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
    left join concepts on neuron_labels.concept_id = concepts.concept_id
    where dissection_id = {} order by layer, unit
"""


@pytest.fixture(scope="module")
def ruled(finished: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world with an edit by each rule; each threshold is passed by some of the neurons."""
    world = copied(finished, tmp_path_factory.mktemp("ruled"))
    lin = world.frame(LABELS.format(2)).filter(layer="lin")
    middle, limit = float(lin["similarity"].median()), float(lin["q"].min() + lin["q"].median()) / 2
    world.change("softmax_scale = 40.0", f"softmax_scale = 40.0\ntau = {middle}\nq_limit = {limit}")
    text = world.study.read_text().partition("[[edits]]")[0]
    world.study.write_text(text + RULES.format(middle=middle))
    (world.folder / "mine.sql").write_text(FILE)
    for done in (world.extract(), world.modify()):
        assert done.code == 0, done.err
    return world


def labels(world: World, layer: str) -> dict[str, np.ndarray]:
    rows = world.frame(LABELS.format("(select max(dissection_id) from dissections)")).filter(layer=layer)
    return {name: rows[name].to_numpy() for name in rows.columns}


def by_unit(world: World, edit: str, layer: str, column: str = "scale") -> np.ndarray:
    found = scales(world, edits(world)[edit]["edit_id"], column)
    return np.array([scale for (name, _), scale in sorted(found.items()) if name == layer])


def test_paper_scales_neurons_above_tau_up_and_the_others_down(ruled: World) -> None:
    of = labels(ruled, "lin")
    above = of["similarity"] > np.median(of["similarity"])
    assert 0 < above.sum() < len(above)
    expected = np.where(above, 2.0, 0.25)
    np.testing.assert_allclose(by_unit(ruled, "paper down", "lin"), expected, rtol=1e-12)
    np.testing.assert_allclose(by_unit(ruled, "paper down", "lin", "bias_scale"), expected, rtol=1e-12)


def test_paper_divides_by_its_factor_where_no_other_is_given(modified: World) -> None:
    rows = modified.frame(LABELS.format(2)).filter(layer="lin")
    expected = np.where(rows["similarity"].to_numpy() > 0, 1.5, 1 / 1.5)
    np.testing.assert_allclose(array(modified, edits(modified)["paper"]), expected, rtol=1e-12)
    assert set(array(modified, edits(modified)["paper"], "bias_scale")) == {1.0}


def test_calibrated_scales_labels_within_the_limit_of_q_up(ruled: World) -> None:
    [limit] = ruled.frame("select q_limit from dissections order by dissection_id desc limit 1")["q_limit"]
    passed = labels(ruled, "lin")["q"] <= limit
    assert 0 < passed.sum() < len(passed)
    np.testing.assert_allclose(by_unit(ruled, "calibrated", "lin"), np.where(passed, 3.0, 1 / 3), rtol=1e-12)


@pytest.mark.parametrize("layer", ["conv1", "lin"])
def test_weight_l1_scales_rows_above_the_mean_of_their_own_layer_up(ruled: World, layer: str) -> None:
    norms = state(ruled.folder / "net.pt")[f"{layer}.weight"].flatten(1).abs().sum(1).numpy()
    assert (by_unit(ruled, "weight_l1", layer) == np.where(norms > norms.mean(), 1.5, 1.0)).all()


def test_proportional_is_the_factor_times_the_position_between_lowest_and_highest(ruled: World) -> None:
    score = labels(ruled, "conv2")["similarity"]
    expected = 2.5 * (score - score.min()) / (score.max() - score.min())
    np.testing.assert_allclose(by_unit(ruled, "proportional", "conv2"), expected, rtol=1e-9)


def test_ablate_silences_interpretable_neurons_with_their_biases(ruled: World) -> None:
    for layer in ("conv2", "lin"):
        expected = np.where(labels(ruled, layer)["interpretable"], 0.0, 1.0)
        assert (by_unit(ruled, "silent", layer) == expected).all()
        assert (by_unit(ruled, "silent", layer, "bias_scale") == expected).all()
    assert 0 in expected
    assert 1 in expected


def test_ablate_silences_only_the_concepts_that_are_named(ruled: World) -> None:
    of = labels(ruled, "lin")
    chosen = of["interpretable"] & (of["concept"] == "nothing")
    assert 0 < chosen.sum() < of["interpretable"].sum()
    assert (by_unit(ruled, "silent nothing", "lin") == np.where(chosen, 0.0, 1.0)).all()
    assert set(by_unit(ruled, "silent nothing", "lin", "bias_scale")) == {1.0}


def test_a_query_scales_neurons_from_the_study_or_from_a_file_beside_it(ruled: World) -> None:
    expected = 1 + np.arange(6) / 4
    assert (by_unit(ruled, "query", "conv2") == expected).all()
    assert (by_unit(ruled, "query", "conv2", "bias_scale") == expected).all()
    assert (by_unit(ruled, "query", "gate") == [1.0]).all()
    assert (by_unit(ruled, "file", "conv2") == np.arange(6) % 2).all()
    assert edits(ruled)["file"]["sql"] == FILE


def test_the_applied_scales_are_those_of_the_view(ruled: World, modified: World) -> None:
    for world in (ruled, modified):
        both = [
            f"select edit_id, neuron_id, scale, bias_scale from {name}" for name in ("weight_scales", "edit_scales")
        ]
        assert world.rows(f"({both[0]} except {both[1]}) union all ({both[1]} except {both[0]})") == []
        [row] = world.rows(f"select count(*) as n from ({both[0]})")
        assert row["n"] == world.counts()["edit_scales"] > 0


def test_a_sweep_measures_every_combination_once(ruled: World) -> None:
    swept = [row for name, row in edits(ruled).items() if name.startswith("grid: ") and row["control"] is None]
    distinct = {(r["rule"], r["layer"], r["tau"], r["factor"], r["factor_down"]) for r in swept}
    assert len(swept) == len(distinct) == SWEPT
    assert {row["tau"] is None for row in swept if row["rule"] != "paper"} == {True}
    assert {row["factor_down"] for row in swept if row["rule"] == "proportional"} == {None}
    assert "grid: paper, lin, tau 0, factor 1.5, factor_down 1" in edits(ruled)
    [row] = ruled.rows("select count(*) as n, max(edits_tried) as tried from edit_results where split = 'validation'")
    assert row == {"n": SWEPT + 8, "tried": SWEPT + 8}
    assert len(saved(ruled)) == 1


@pytest.mark.parametrize("edit", ["paper down", "weight_l1", "silent", "query", "file"])
def test_an_edit_of_biases_or_several_layers_is_measured_with_all_its_scales(ruled: World, edit: str) -> None:
    images = sorted((ruled.folder / "images" / "validation").rglob("*.png"))
    edit_id = edits(ruled)[edit]["edit_id"]
    found = logits(scaled(ruled, edit_id), images)
    truth = torch.tensor([CLASSES.index(path.parent.name) for path in images])
    [row] = ruled.rows(f"select loss_after from edit_results where edit_id = {edit_id} and split = 'validation'")
    assert row["loss_after"] == pytest.approx(float(F.cross_entropy(found, truth)), abs=1e-4)
