"""A run of extract that was killed and is repeated gives the tables of one that was not."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.killer import kill
from tests.support.worlds import World

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
