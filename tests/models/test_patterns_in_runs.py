"""Layers by patterns are the layers by name: the same rows, edits and effects of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.edited_networks import edits, saved, scales, state
from tests.support.worlds import World

EFFECTS = """
[effects]
layers = ["lin"]
images = 8
neurons = 4
controls = 3
"""


def by_pattern(world: World) -> None:
    """Name lin, which an edit and the effects are of, by a pattern, and others too."""
    world.change('"lin", "gate"]', '"li*", { name = "g?te" }]')


def test_a_pattern_that_comes_to_the_same_layers_leaves_nothing_stale(world: World) -> None:
    by_pattern(world)
    done = world.extract()
    assert done.out.startswith("nothing is stale"), done.out + done.err
    assert "li* and g?te came to 2 modules: lin, gate" in done.err


def test_modify_and_effects_work_on_a_layer_of_a_pattern_as_on_a_named_one(
    finished: World, copy_world: Callable[[World, str], World]
) -> None:
    named, pattern = copy_world(finished, "named"), copy_world(finished, "pattern")
    by_pattern(pattern)
    for world in (named, pattern):
        world.change("[protocol]", f"{EFFECTS}\n[protocol]")
        for done in (world.modify("--edit", "paper"), world.run("effects", world.study)):
            assert done.code == 0, done.err
    edit = edits(pattern)["paper"]
    assert edit["layer"] == "lin"
    assert scales(pattern, edit["edit_id"]) == scales(named, edits(named)["paper"]["edit_id"])
    before, after = state(pattern.folder / "net.pt"), state(Path(saved(pattern)["paper"]["weights"]))
    assert [key for key in before if not before[key].equal(after[key])] == ["lin.weight"]
    for query in (
        "select split_id, gained, lost, percentile, p_random, verdict from edit_results order by all",
        "select layer, unit, class, delta_accuracy, delta_loss, flips, images from neuron_effects order by all",
    ):
        rows = pattern.rows(query)
        assert rows
        assert rows == named.rows(query)


def test_an_edit_of_a_layer_that_no_pattern_comes_to_is_refused(world: World) -> None:
    by_pattern(world)
    world.change('name = "twin"\nlayer = "lin"', 'name = "twin"\nlayer = "head"')
    before = world.tables()
    done = world.modify()
    assert done.code == 2
    assert "layer" in done.err.splitlines()[-1]
    assert world.tables() == before
