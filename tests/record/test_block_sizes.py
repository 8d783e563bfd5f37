"""Blocks are so small that a kill loses little of a slow network's work; otherwise everything is the same."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dissectdb.extract.models import batches, streams
from dissectdb.extract.record import block_sizes, network_plan
from dissectdb.extract.record.blocks import Block
from tests.support.worlds import BLOCK, TRAIN, UNITS, World, command

LEAST = block_sizes.LEAST
SIZES = "select split, block_images from splits order by split_id"
LEDGER = """
    select target, layer, split, list(extraction_blocks.images order by block) as blocks
    from extractions natural join splits natural join extraction_blocks
    left join layers on extractions.layer_id = layers.layer_id group by all order by all
"""
DONE = "select distinct block from extraction_blocks order by block"
TRAIN_BLOCKS = [LEAST] * (TRAIN // LEAST) + [TRAIN % LEAST]


@pytest.fixture
def slow(new_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose network sleeps for each image, so that a block of BLOCK of them takes longer than it may."""
    forward = "    def forward(self, images: torch.Tensor) -> torch.Tensor:\n"
    new_world.change(forward, f"{forward}        time.sleep(0.002 * len(images))\n", "net.py")
    new_world.change("import torch\nimport torch.nn", "import time\n\nimport torch\nimport torch.nn", "net.py")
    monkeypatch.setattr(block_sizes, "SECONDS", 0.001)
    return new_world


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """computed: the numbers of the blocks that were computed. stop_after: with so many, a run is stopped."""

    def compute(block: Block, *arguments: object) -> object:
        if block.number >= 0:  # not a sample that is timed
            if len(seen.computed) == seen.stop_after:
                raise KeyboardInterrupt
            seen.computed.append(block.number)
        return original(block, *arguments)

    seen = SimpleNamespace(computed=[], stop_after=None)
    original = network_plan.compute
    monkeypatch.setattr(network_plan, "compute", compute)
    return seen


# ---------------------------------------------------------------- runs


def test_a_slow_network_loses_one_block_at_most_and_comes_to_the_same(
    slow: World, finished: World, runs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.stop_after = 3
    stopped = slow.extract()
    assert stopped.code == 130
    assert (
        f"the images of train are written {LEAST} at a time, so that a kill costs about a minute: {BLOCK} take longer"
        in stopped.err
    )
    assert slow.rows(DONE) == [{"block": 0}, {"block": 1}, {"block": 2}]
    assert slow.rows(SIZES) == [
        {"split": "train", "block_images": LEAST},
        {"split": "validation", "block_images": LEAST},
        {"split": "test", "block_images": LEAST},
    ]
    planned = slow.run("extract", slow.study, "--dry-run").out
    assert re.search(rf"activations conv1 train\s+{TRAIN - 3 * LEAST}\s", planned)

    runs.stop_after = None
    monkeypatch.setattr(block_sizes, "SECONDS", 60.0)  # the sizes are no longer chosen: the first run has done so
    done = slow.extract()
    assert done.code == 0, done.err
    assert runs.computed == [0, 1, 2, 3, 4, 0, 1, 0, 1]  # train, validation, test
    ledger = {(row["target"], row["layer"], row["split"]): row["blocks"] for row in slow.rows(LEDGER)}
    assert ledger.keys() == {(row["target"], row["layer"], row["split"]) for row in finished.rows(LEDGER)}
    assert {split: blocks for (_, _, split), blocks in ledger.items()} == {
        "train": TRAIN_BLOCKS, "validation": [LEAST, 5], "test": [LEAST, 2]
    }  # fmt: skip
    assert all(blocks == TRAIN_BLOCKS for (_, _, split), blocks in ledger.items() if split == "train")
    refuse_other_results(slow, finished)
    assert (checked := slow.run("check", "--deep", slow.study)).code == 0, checked.out


def test_later_extractions_and_edits_use_the_blocks_of_the_first(slow: World, modified: World) -> None:
    slow.change('["conv1", ', "[")
    assert slow.extract().code == 0
    slow.change("layers = [", 'layers = ["conv1", ')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_sizes, "images_in_time", lambda *arguments: pytest.fail("the splits have blocks"))
        assert slow.extract().code == 0
        assert slow.modify().code == 0
    blocks = {row["layer"]: row["blocks"] for row in slow.rows(LEDGER) if row["target"] == "activations"}
    assert blocks == dict.fromkeys(UNITS, TRAIN_BLOCKS)
    sizes = slow.rows("select distinct split, max(images) as images from edit_blocks natural join splits group by all")
    assert {row["images"] for row in sizes} == {LEAST}
    results = """
        select edits.name, edit_results.split, images, correct_before, correct_after
        from edit_results inner join edits using (edit_id) where edits.name in ('paper', 'mine') order by all
    """
    assert slow.rows(results) == modified.rows(results) != []
    assert (checked := slow.run("check")).code == 0, checked.out


def test_without_activations_small_blocks_give_the_same_labels(slow: World, finished: World) -> None:
    assert slow.extract("--activations", "none").code == 0
    assert slow.rows("select count(*) as rows from activations") == [{"rows": 0}]
    refuse_other_results(slow, finished)
    assert slow.run("check").code == 0


def refuse_other_results(one: World, other: World) -> None:
    """Labels, numbers of the labels, statistics and top images of two worlds with other blocks must be equal."""
    labels = "select layer, unit, concept, interpretable from neuron_concepts order by all"
    assert one.rows(labels) == other.rows(labels) != []
    tops = "select layer, unit, rank, image_id from top_images order by all"
    assert one.rows(tops) == other.rows(tops) != []
    for query in (
        "select similarity, z, p, q from neuron_concepts order by layer, unit",
        "select * exclude (neuron_id, split_id) from neuron_statistics order by neuron_id, split_id",
        "select sum(total), sum(total_squares), min(lowest), max(highest), sum(images)"
        " from block_sums group by neuron_id order by neuron_id",
    ):
        mine, theirs = one.frame(query), other.frame(query)
        assert mine.columns == theirs.columns
        assert len(mine) == len(theirs) > 0
        for name in mine.columns:
            if mine[name].dtype.is_numeric():
                one_column, other_column = (frame[name].cast(pl.Float64).to_numpy() for frame in (mine, theirs))
                np.testing.assert_allclose(one_column, other_column, rtol=1e-4, atol=1e-5, err_msg=name)


def test_deterministic_runs_and_shards_do_not_choose(slow: World, runs: SimpleNamespace, tmp_path: Path) -> None:
    chosen = {"train": BLOCK, "validation": BLOCK, "test": BLOCK}
    assert slow.extract("--sink", f"parquet:{tmp_path}/shards").code == 0
    written = pl.read_parquet(tmp_path / "shards" / "catalog" / "splits.parquet")
    assert dict(written.select("split", "block_images").iter_rows()) == chosen
    runs.stop_after = len(runs.computed) + 1
    try:
        assert slow.extract("--deterministic").code == 130
    finally:
        torch.use_deterministic_algorithms(False)
    assert {row["split"]: row["block_images"] for row in slow.rows(SIZES)} == chosen


def test_an_export_keeps_the_sizes(slow: World, tmp_path: Path) -> None:
    assert slow.extract().code == 0
    assert command("export", tmp_path / "out", "-w", slow.warehouse).code == 0
    copy = World(tmp_path)
    assert command("import", tmp_path / "out", "-w", copy.warehouse).code == 0
    assert copy.rows(SIZES) == slow.rows(SIZES)
    assert copy.rows(LEDGER) == slow.rows(LEDGER)


# ---------------------------------------------------------------- the choice


class Clocked:
    """A plan whose models take some seconds once, and then some for each image."""

    device = torch.device("cpu")

    def __init__(self, once: float, each: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.once, self.each, self.images = 0.0, once, each, 0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def block_tables(self, missing, ids, count) -> Iterator[object]:
        for block, *_ in missing:
            self.now += self.once + self.each * len(block.images)
            self.once = 0.0
            self.images += len(block.images)
            yield ()


@given(
    once=st.floats(0, 300),
    each=st.floats(1e-5, 20),
    count=st.integers(1, 5000),
)
def test_the_size_is_the_largest_power_of_two_in_a_minute(once: float, each: float, count: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plan = Clocked(once, each, patch)
        size = block_sizes.images_in_time(plan, [SimpleNamespace()] * count, (), None)
    at_once = batches.batch_size(plan.device) * streams.count(plan.device)
    assert plan.images <= LEAST + min(at_once, count)
    if size == count:
        assert count <= LEAST or each * count <= 60 * 1.001
        return
    assert size == 1 << size.bit_length() - 1
    assert size >= LEAST
    assert size == LEAST or each * size <= 60 * 1.001
    assert each * 2 * size > 60 * 0.999
