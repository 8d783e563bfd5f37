"""What formulas of an earlier version gave is computed anew by the next `extract`, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import stored
from bench.made import embeddings
from dissectdb.extract.scoring import labels
from dissectdb.extract.scoring.scorers import SCORERS
from dissectdb.extract.study import Dissection
from dissectdb.warehouse import Warehouse

IMAGES, NEURONS, CONCEPTS = 300, 8, 4
GROUPS = "select sum(distinct null_group)::bigint from dissected_neurons where not dead and not sparse"
UNLABELLED = "select dissection_id, layer_id from unlabelled_layers"


def label(warehouse: Warehouse) -> None:
    """What `extract` does about layers without labels."""
    list(warehouse.build(select=[*labels.READS, "unlabelled_layers"]))
    for unit in labels.run(warehouse, torch.device("cpu")):
        warehouse.write(unit)
    list(warehouse.build())


@pytest.fixture
def warehouse(tmp_path: Path, scorer: str) -> Iterator[Warehouse]:
    """A warehouse with one labelled layer: 6 neurons fire on all images, 2 on 40."""
    random = np.random.default_rng(1)
    activations = random.standard_normal((IMAGES, NEURONS), dtype=np.float32)
    activations[40:, :2] = -5
    path = tmp_path / "warehouse.duckdb"
    stored.fill(path, activations, embeddings(IMAGES, CONCEPTS, seed=2, dimensions=16))
    with Warehouse(path) as opened:
        stored.ask(opened, Dissection(concepts="made", scorer=scorer, null_draws=2000))
        label(opened)
        yield opened


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_a_labelled_layer_is_not_stale_and_its_ledger_has_the_version_of_the_formulas(warehouse: Warehouse) -> None:
    assert warehouse.rows(UNLABELLED).is_empty()
    version = warehouse.rows("select null_groups from labelled_layers").item() - warehouse.rows(GROUPS).item()
    assert version == labels.VERSION * labels.OF_VERSION
    assert labels.VERSION < 1000
    assert warehouse.rows(GROUPS).item() < labels.OF_VERSION / 1000


@pytest.mark.parametrize("scorer", ["pearson", "soft_wpmi"])
def test_a_layer_that_an_earlier_version_labelled_is_labelled_anew_once(warehouse: Warehouse) -> None:
    names = ("null_quantiles", "kernel_scores", "neuron_labels", "label_checks")
    tables = [f"select * from {name} order by all" for name in names]
    fresh = [warehouse.rows(table).rows() for table in tables]
    warehouse.connection.execute("update null_quantiles set p = p / 2")
    warehouse.connection.execute("update label_checks set split_half_agrees = not split_half_agrees")
    for older in (
        f"({GROUPS})",
        f"({GROUPS}) + 1",
    ):  # without a version; and pearson's, from before there was one of all
        warehouse.connection.execute(f"update labelled_layers set null_groups = {older}")
        list(warehouse.build())
        assert warehouse.rows(UNLABELLED).rows() == [(1, 1)]
        label(warehouse)
        assert [warehouse.rows(table).rows() for table in tables] == fresh
        assert warehouse.rows(UNLABELLED).is_empty()
