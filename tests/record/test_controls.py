"""[controls]: control networks are dissected beside the trained one, which stays the one that is shown."""

from __future__ import annotations

from tests.support.worlds import UNITS, World

CONTROLS = '\n[controls]\nnetworks = ["shuffled", "initialised"]\n'
SUMMARY = "select layer, control, neurons, dissection_id from control_summary order by layer, control"


def test_controls_that_are_added_later_leave_the_trained_network_shown(world: World) -> None:
    shown = world.rows("select dissection_id from shown_dissection")
    labels = world.rows("select layer, unit, concept from neuron_concepts order by all")
    assert {row["control"] for row in world.rows(SUMMARY)} == {"trained"}
    world.study.write_text(world.study.read_text() + CONTROLS)
    done = world.extract()
    assert done.code == 0, done.err
    assert world.rows("select dissection_id from shown_dissection") == shown
    assert world.rows("select layer, unit, concept from neuron_concepts order by all") == labels
    rows = world.rows(SUMMARY)
    assert {(row["layer"], row["control"]): row["neurons"] for row in rows} == {
        (layer, control): units for layer, units in UNITS.items() for control in ("trained", "shuffled", "initialised")
    }
    assert {row["dissection_id"] for row in rows} == {row["dissection_id"] for row in shown}
    assert world.run("check").code == 0
    tables = world.tables()
    assert world.extract().out.startswith("nothing is stale")
    assert world.tables() == tables
    predicted = world.rows("select count(*) as images from predictions group by network_id")
    sound = world.rows("select count(*) as images from images where defect is null")
    assert predicted == sound * 3


def test_what_is_missing_of_the_controls_is_listed(world: World) -> None:
    world.study.write_text(world.study.read_text() + CONTROLS)
    listed = world.extract("--dry-run")
    assert "predictions net (shuffled) test" in listed.out
    assert "predictions net (initialised) test" in listed.out
    assert "image embeddings" not in listed.out, "CLIP has seen the images"


def test_a_neuron_of_a_control_counts_once_whatever_else_was_computed(new_world: World) -> None:
    """Dissections that differ in the limit alone, and controls with two seeds."""
    text = new_world.study.read_text()
    last = text[text.rindex("[[dissections]]") : text.index("[[edits]]")]
    text += f"\n{last}tau = 0.5\n"
    for seed in (5, 6):
        new_world.study.write_text(f"{text}{CONTROLS}seed = {seed}\n")
        done = new_world.extract()
        assert done.code == 0, done.err
        assert {(row["layer"], row["control"]): row["neurons"] for row in new_world.rows(SUMMARY)} == {
            (layer, control): units
            for layer, units in UNITS.items()
            for control in ("trained", "shuffled", "initialised")
        }
