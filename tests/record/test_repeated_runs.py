"""A deterministic run that is repeated gives the same tables, to the last bit."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.worlds import World


def contents(world: World) -> list[dict]:
    """A hash of the rows of every materialised view."""
    return world.rows("select view, content, row_count from view_builds order by view")


def test_a_deterministic_study_gives_the_same_tables_to_the_last_bit(
    untouched: World, modified: World, copy_world: Callable[[World, str], World]
) -> None:
    first, again = (copy_world(untouched, name) for name in ("first", "again"))
    for world in (first, again):
        assert world.extract("--deterministic").code == 0
        assert world.modify("--deterministic").code == 0
    expected, usual = first.tables(), modified.tables()  # modified ran without --deterministic
    assert again.tables() == expected
    assert contents(again) == contents(first)
    assert all('"deterministic": true' in str(row) for row in expected["extractions"])
    assert all('"deterministic": false' in str(row) for row in usual["extractions"])
    # Without --deterministic, sums in views may differ in their last bits. The outputs of the networks are the same.
    for table in ("activations", "image_embeddings", "concept_embeddings", "predictions", "edit_predictions"):
        assert usual[table] == expected[table]
