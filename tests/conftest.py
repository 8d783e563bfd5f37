"""Fixtures of all rooms: warehouses written by hand, and worlds in which commands were run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import polars as pl
import pytest

from dissectdb.warehouse import Warehouse
from tests.support.rows import (
    checked_labels,
    ledger,
    merged,
    scales_of_controls,
    scored_rows,
    sums_of,
    tiny_ablations,
    tiny_edits,
    tiny_images,
    tiny_ledger,
    tiny_maps,
    tiny_networks,
    tiny_questions,
    tiny_words,
    unit_of,
)
from tests.support.worlds import World, make_world

# The same examples in every run, so that a change is judged by what it changes; `--hypothesis-profile=explore` draws
# others. No deadline: a busy machine takes a second for what takes 50 ms.
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "warehouse.duckdb"
    recorded = merged(tiny_images(), tiny_networks(), tiny_ledger(), tiny_maps())
    parts = [recorded, sums_of(recorded), tiny_words(), tiny_questions(), tiny_edits(), tiny_ablations(2, 6, 1)]
    with Warehouse(path) as warehouse:
        warehouse.write(unit_of(merged(*parts)))
        list(warehouse.build())
        scales = warehouse.rows("select edit_id, neuron_id, scale, bias_scale from weight_scales")
        warehouse.write({"edit_scales": pl.concat([scales, scales_of_controls(scales)])})
        list(warehouse.build())
    return path


@pytest.fixture(scope="session")
def scored_file(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scored") / "warehouse.duckdb"
    shutil.copy(tiny_file, path)
    with Warehouse(path) as warehouse:
        warehouse.write(unit_of(scored_rows(warehouse)))
        list(warehouse.build())
        warehouse.write(unit_of(checked_labels(warehouse) | {"labelled_layers": ledger(warehouse)}))
        list(warehouse.build())
    return path


@contextmanager
def copied(file: Path, folder: Path) -> Iterator[Warehouse]:
    path = folder / "copy.duckdb"
    shutil.copy(file, path)
    with Warehouse(path) as warehouse:
        yield warehouse


@pytest.fixture
def tiny(tiny_file: Path, tmp_path: Path) -> Iterator[Warehouse]:
    """A small complete warehouse of the test's own, to read and to spoil."""
    with copied(tiny_file, tmp_path) as warehouse:
        yield warehouse


@pytest.fixture
def scored(scored_file: Path, tmp_path: Path) -> Iterator[Warehouse]:
    """tiny with a dissection by every scorer, of the test's own."""
    with copied(scored_file, tmp_path) as warehouse:
        yield warehouse


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
