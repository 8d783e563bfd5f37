"""The whole way through a warehouse where the truth is known: what is believed is right, what is there is found."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from bench import stored
from bench.made import embeddings
from bench.planted import activate, plan
from dissectdb.extract.scoring import labels
from dissectdb.extract.study import Dissection
from dissectdb.warehouse import Warehouse

IMAGES, CONCEPTS, EACH, NOISE, SEED = 1200, 20, 12, 60, 1


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """neuron_labels of planted, mixed, noise and dead neurons, with what was planted: truth, second."""
    world = embeddings(IMAGES, CONCEPTS, SEED, dimensions=32, shares=[0.06] * CONCEPTS, lean=0.3)
    asked = plan(CONCEPTS, EACH, NOISE, SEED)
    path = tmp_path_factory.mktemp("planted") / "warehouse.duckdb"
    stored.fill(path, activate(asked, world, 4.0, SEED), world)
    with Warehouse(path) as warehouse:
        stored.ask(warehouse, Dissection(concepts="made", top_k=50, null_draws=20_000, rule="q"))
        list(warehouse.build(select=labels.READS))
        for unit in labels.run(warehouse, torch.device("cpu")):
            warehouse.write(unit)
        list(warehouse.build(select=["neuron_labels"]))
        rows = warehouse.rows(
            """
            select neuron_labels.*, concepts.position as label from neuron_labels
            left join concepts on neuron_labels.concept_id = concepts.concept_id
            order by neuron_id
            """
        )
    truth = pl.DataFrame({"truth": asked.truth[:, 0], "second": asked.truth[:, 1], "dead_made": asked.dead})
    return pl.concat([rows, truth], how="horizontal").with_columns(
        right=((pl.col("label") == pl.col("truth")) | (pl.col("label") == pl.col("second"))).fill_null(False)
    )


def test_few_believed_labels_are_false(judged: pl.DataFrame) -> None:
    believed = judged.filter("calibrated")
    assert len(believed) >= 40
    assert 1 - believed["right"].mean() <= 0.10
    noise = judged.filter((pl.col("truth") < 0) & ~pl.col("dead_made"))
    assert len(noise) == NOISE
    assert noise["calibrated"].mean() <= 0.07


def test_most_planted_concepts_are_found(judged: pl.DataFrame) -> None:
    planted = judged.filter((pl.col("truth") >= 0) & (pl.col("truth") == pl.col("second")))
    assert len(planted) == 4 * EACH
    assert (planted["calibrated"] & planted["right"]).mean() >= 0.7


def test_dead_neurons_take_no_label(judged: pl.DataFrame) -> None:
    dead = judged.filter("dead_made")
    assert len(dead) == 1
    assert dead["dead"].all()
    assert dead["label"].is_null().all()
    assert not dead["calibrated"].any()


def test_believed_is_what_the_rule_calls_interpretable(judged: pl.DataFrame) -> None:
    assert (judged["interpretable"] == judged["calibrated"]).all()
    assert (judged["calibrated"] == (judged["q"].fill_null(1) <= 0.05)).all()
