"""The worlds of tests/worlds.py as fixtures: three made once a session, and copies of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from worlds import World, make_world


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world in which nothing was run; only to be copied."""
    return make_world(tmp_path_factory.mktemp("worlds") / "untouched")


@pytest.fixture(scope="session")
def finished(untouched: World) -> World:
    """A world that was extracted and built; only to be read or copied."""
    world = World(Path(shutil.copytree(untouched.folder, untouched.folder.with_name("finished"))))
    done = world.extract()
    assert done.code == 0, done.err
    return world


@pytest.fixture(scope="session")
def modified(finished: World) -> World:
    """A world that was extracted and modified; only to be read or copied."""
    world = World(Path(shutil.copytree(finished.folder, finished.folder.with_name("modified"))))
    done = world.modify()
    assert done.code == 0, done.err
    return world


@pytest.fixture
def new_world(untouched: World, tmp_path: Path) -> World:
    return World(Path(shutil.copytree(untouched.folder, tmp_path / "world")))


@pytest.fixture
def world(finished: World, tmp_path: Path) -> World:
    """An extracted world of one's own."""
    return World(Path(shutil.copytree(finished.folder, tmp_path / "world")))


@pytest.fixture
def edited_world(modified: World, tmp_path: Path) -> World:
    """An extracted and modified world of one's own."""
    return World(Path(shutil.copytree(modified.folder, tmp_path / "world")))


@pytest.fixture
def copy_world(tmp_path: Path) -> Callable[[World, str], World]:
    """copy_world(finished, "a name") is a world of one's own, in a folder of that name."""
    return lambda world, name: World(Path(shutil.copytree(world.folder, tmp_path / name)))
