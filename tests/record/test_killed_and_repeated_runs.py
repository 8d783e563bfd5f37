"""A run that was killed and continued, and a run that was repeated, give the same tables."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.killer import kill
from tests.support.worlds import World

# ---------------------------------------------------------------- a run that is killed

MOMENTS = {
    "inside the dataset's transaction": ("insert", "datasets", 1),
    "inside a block's transaction": ("insert", "activations", 6),
    "between two blocks": ("commit", "extraction_blocks", 2),
    "inside the last transaction": ("insert", "dissections", 1),
    "while a view is built": ("build", "", 3),
}


def test_a_killed_run_that_is_repeated_gives_the_same_tables(
    untouched: World, finished: World, copy_world: Callable[[World, str], World]
) -> None:
    worlds = {name: copy_world(untouched, name) for name in MOMENTS}
    kill("extract", {str(worlds[name].study): moment for name, moment in MOMENTS.items()})
    expected = finished.tables()
    for name, world in worlds.items():
        assert world.extract().code == 0, name
        assert world.tables() == expected, name
        assert world.run("check").code == 0, name


# ---------------------------------------------------------------- a repeated run


def contents(world: World) -> list[dict]:
    """A hash of the rows of every materialised view."""
    return world.rows("select view, content, row_count from view_builds order by view")


def test_a_deterministic_study_gives_the_same_tables_to_the_last_bit(
    untouched: World, copy_world: Callable[[World, str], World]
) -> None:
    first, again, loose = (copy_world(untouched, name) for name in ("first", "again", "loose"))
    for world, options in ((first, ("--deterministic",)), (again, ("--deterministic",)), (loose, ())):
        assert world.extract(*options).code == 0
        assert world.modify(*options).code == 0
    expected, found = first.tables(), loose.tables()
    assert again.tables() == expected
    assert contents(again) == contents(first)
    assert all('"deterministic": true' in str(row) for row in expected["extractions"])
    assert all('"deterministic": false' in str(row) for row in found["extractions"])
    # Without it, sums of views may end otherwise in their last bits; what the networks said is the same all the same.
    for table in ("activations", "image_embeddings", "concept_embeddings", "predictions", "edit_predictions"):
        assert found[table] == expected[table]
