"""A study that grows: whatever is added to it, all contracts hold, all live neurons have labels, nothing is hidden.

DISSECTDB_WALKS=1000 sets how many random walks of changes are tried; DISSECTDB_WALKS_FROM the number of the first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import sqlglot
import torch

from dissectdb import pipeline
from dissectdb.extract.judging import measures, quality
from dissectdb.extract.models import clip
from dissectdb.extract.record import blocks, catalog, extraction, maps
from dissectdb.extract.record.plan import Plan
from dissectdb.extract.scoring import labels
from dissectdb.extract.study import Study, StudyError
from dissectdb.warehouse import Warehouse, contracts
from dissectdb.warehouse.view_files import load_views
from tests.support.worlds import (
    STUDY,
    TO_SCHEMA_2,
    TO_SCHEMA_3,
    World,
    make_images,
    make_world,
    save_clip,
    save_network,
)

FIRST = int(os.environ.get("DISSECTDB_WALKS_FROM") or 0)
WALKS = range(FIRST, FIRST + int(os.environ.get("DISSECTDB_WALKS") or 20))
LONGEST = 5 if len(WALKS) > 20 else 2  # changes of a walk, at most
COUNTS = {"train": 10, "validation": 8, "test": 2}  # images of each class

LAYERS = [("conv1", "avg"), ("conv1", "max"), ("conv2", "avg"), ("conv2", "max"), ("lin", "avg"), ("gate", "avg")]
SCORERS = ["soft_wpmi", "wpmi", "cos", "cos_cubed", "rank_reorder", "pearson", "presence"]


# ---------------------------------------------------------------- studies as values


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Everything that the studies of a walk name: two networks, two CLIPs, few images."""
    path = tmp_path_factory.mktemp("growth") / "world"
    with pytest.MonkeyPatch.context() as patch:  # ends before another world is made
        patch.setattr("tests.support.worlds.make_images", lambda folder: make_images(folder, COUNTS))
        make_world(path)
    with pytest.MonkeyPatch.context() as patch:
        save_network(path / "other.pt", seed=5)
        save_clip(path / "other.safetensors", path / "tiny-clip.json", seed=6)
        patch.setattr(clip, "load", cache(clip.load))  # a walk loads the same two again and again
        patch.setattr(blocks, "BLOCK", 16)
        patch.setattr(measures, "LEAST_IMAGES", 3)  # of 12 to 15 images in a half
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # so little is computed that threads only wait for each other
        yield path
        torch.set_num_threads(threads)


def plan_of(folder: Path, state: dict[str, Any]) -> Plan:
    """The study that a state of a walk stands for, with its models loaded."""
    layers = ", ".join(f'{{ name = "{name}", pooling = "{pooling}" }}' for name, pooling in state["layers"])
    sets = "".join(
        f'[[concept_sets]]\nname = "{name}"\nsource = "{name}.{ending}"\ntemplates = {state["templates"][name]}\n'
        for name, ending in (("looks", "txt"), ("shapes", "toml"))
    )
    asked = "".join(
        f'[[dissections]]\nconcepts = "{concepts}"\nscorer = "{scorer}"\nengine = "{engine}"\nrule = "{rule}"\n'
        f"tau = {tau}\ntop_k = 5\nnull_draws = 200\nrank_fraction = 0.3\n"
        for concepts, scorer, engine, rule, tau in state["dissections"]
    )
    head = STUDY.partition("[[concept_sets]]")[0]
    text = re.sub("layers = .*", f"layers = [{layers}]", head)
    text = text.replace('path = "images"', f'path = "images"\nprobing_split = "{state["split"]}"')
    text = text.replace("net.pt", state["weights"]).replace("clip.safetensors", state["clip"])
    (folder / "study.toml").write_text(text + sets + asked, encoding="utf-8")
    return extraction.make_plan(Study.load(folder / "study.toml"))


def begin(chance: np.random.Generator) -> dict[str, Any]:
    return {
        "layers": (LAYERS[chance.integers(len(LAYERS))],),
        "templates": {"looks": ["{}"], "shapes": ["{}"]},
        "dissections": (a_dissection(chance),),
        "split": "train",
        "clip": "clip.safetensors",
        "weights": "net.pt",
    }


def a_dissection(chance: np.random.Generator) -> tuple[str, str, str, str, float]:
    choices = (["looks", "shapes"], SCORERS, ["auto", "kernel", "sql"], ["tau", "q"], [0.0, 0.01])
    return tuple(choice[chance.integers(len(choice))] for choice in choices)


def changed(state: dict[str, Any], chance: np.random.Generator) -> dict[str, Any]:
    """The state after a change: mostly something more, sometimes something less or something else."""
    layers, asked = state["layers"], state["dissections"]
    more = [layer for layer in LAYERS if layer not in layers]
    what = chance.integers(10)
    if what < 4 and more:
        return state | {"layers": (*layers, more[chance.integers(len(more))])}
    if what < 5 and len(layers) > 1:
        gone = layers[chance.integers(len(layers))]
        return state | {"layers": tuple(layer for layer in layers if layer != gone)}
    if what < 7:
        new = a_dissection(chance)
        return state | {"dissections": (*(each for each in asked if each != new), new)[-3:]}
    if what == 7:
        name = ("looks", "shapes")[chance.integers(2)]
        return state | {"templates": state["templates"] | {name: [["{}"], ["{}", "a {}"]][chance.integers(2)]}}
    key, values = [
        ("split", ["train", "validation"]),
        ("clip", ["clip.safetensors", "other.safetensors"]),
        ("weights", ["net.pt", "other.pt"]),
    ][chance.integers(3)]
    return state | {key: values[chance.integers(2)]}


# ---------------------------------------------------------------- what extract does


def extract(plan: Plan, warehouse: Warehouse, stop: str = "") -> None:
    """As the command does it. stop: where the run ends before its time."""
    if not plan.is_done(warehouse):
        units = extraction.run(plan, warehouse, extraction.enter(plan, warehouse))
        warehouse.load(islice(units, 1) if stop == "at the first block" else units)
    if not stop:
        list(warehouse.build(select=labels.READS))
        maps.discard_overtaken(warehouse)
        warehouse.load(labels.run(warehouse, torch.device("cpu")))
        list(warehouse.build(select=quality.READS))
        warehouse.load(quality.run(warehouse))
        list(warehouse.build())


def broken(warehouse: Warehouse) -> dict[str, int]:
    rows = {each.name: len(warehouse.rows(each.sql)) for each in warehouse.checks()}
    return {name: count for name, count in rows.items() if count}


UNLABELLED = """
    select dissection_id, layer, unit, scorer from neuron_labels
    inner join named_neurons using (neuron_id) inner join dissections using (dissection_id)
    where not dead and concept_id is null
    and (scorer <> 'rank_reorder' or neuron_id in (
        select neuron_id from concept_scores where concept_scores.dissection_id = dissections.dissection_id))
    and not (scorer = 'soft_wpmi' and layer = 'gate')  -- the only neuron of its layer: all its scores are 0
"""
LABELS = """
    select dissections.fingerprint, layers.fingerprint as layer, count(*) as neurons
    from neuron_labels inner join layers using (layer_id) inner join dissections using (dissection_id)
    where dead or p is not null or concept_id is null
    group by all
"""


def refuse_what_is_hidden(warehouse: Warehouse, plan: Plan) -> None:
    """Every live neuron of every layer that the study names has its label in each of the study's dissections."""
    assert broken(warehouse) == {}
    assert warehouse.rows(UNLABELLED).rows() == []
    assert plan.steps(warehouse) == [], "a second run finds nothing to do"
    found = {row[:2]: row[2] for row in warehouse.rows(LABELS).iter_rows()}
    for _, fingerprint in plan.dissections():
        for tap in plan.taps:
            assert found[fingerprint, catalog.layer_fingerprint(plan.network, tap)] == tap.units


# ---------------------------------------------------------------- all rows of all views


NAMES = {
    "image_id": "select image_id, path from images",
    "neuron_id": "select neuron_id, fingerprint || '/' || unit from neurons inner join layers using (layer_id)",
    "layer_id": "select layer_id, fingerprint from layers",
    "concept_id": "select concept_id, fingerprint || '/' || position from concepts "
    "inner join concept_sets using (concept_set_id)",
    "dissection_id": "select dissection_id, fingerprint from dissections",
    "network_id": "select network_id, fingerprint from networks",
    "split_id": "select split_id, fingerprint || '/' || split from splits inner join datasets using (dataset_id)",
    "clip_id": "select clip_id, fingerprint from clips",
    "concept_set_id": "select concept_set_id, fingerprint from concept_sets",
}
ALIASES = {"other_dissection_id": "dissection_id", "other_network_id": "network_id", "runner_up_id": "concept_id"}


def all_rows(warehouse: Warehouse, shown: str) -> dict[str, tuple[list[tuple], np.ndarray]]:
    """View → its rows without ids and times: what is no float, sorted, and the floats. shown: the dissection."""
    connection = warehouse.connection
    names = {key: dict(connection.execute(query).fetchall()) for key, query in NAMES.items()}
    connection.execute(f"set variable dissection = {warehouse.find('dissections', shown)}")
    return {view.name: _comparable(warehouse.rows(f"select * from {view.name}"), names) for view in load_views()}


def _comparable(frame: pl.DataFrame, names: dict[str, dict[int, str]]) -> tuple[list[tuple], np.ndarray]:
    columns = []
    for name in frame.columns:
        key = ALIASES.get(name, name)
        if key in names:
            columns.append(pl.Series(name, [names[key].get(value) for value in frame[name]], pl.String))
        elif not (name.endswith(("_id", "_at")) or name in ("extraction_id", "shown")):
            columns.append(frame[name])
    floats = [each.name for each in columns if each.dtype.is_float()]
    frame = pl.DataFrame(columns)
    if frame.is_empty():
        return [], np.zeros((0, 0))
    rounded = [pl.col(name).cast(pl.Float32).round(3).alias(f"{name} about") for name in floats]
    exact = [name for name in frame.columns if name not in floats]
    frame = frame.with_columns(rounded)
    order = [*exact, *(f"{name} about" for name in floats)]
    keys = frame.select([pl.col(name).cast(pl.String) if frame[name].dtype.is_nested() is False else
                         pl.col(name).cast(pl.List(pl.String)).list.join(", ") for name in order])  # fmt: skip
    frame = frame[keys.with_row_index("row").sort(order, nulls_last=True)["row"]]
    return frame.select(exact).rows(), frame.select(floats).cast(pl.Float64).to_numpy()


def refuse_other_rows(one: Warehouse, other: Warehouse, shown: str) -> None:
    mine, theirs = all_rows(one, shown), all_rows(other, shown)
    assert mine.keys() == theirs.keys()
    for key, (exact, floats) in mine.items():
        other_exact, other_floats = theirs[key]
        assert exact == other_exact, key
        np.testing.assert_allclose(floats, other_floats, rtol=1e-4, atol=1e-5, equal_nan=True, err_msg=str(key))


# ---------------------------------------------------------------- walks


@pytest.mark.parametrize("seed", WALKS)
def test_after_any_changes_all_is_as_in_a_fresh_warehouse(folder: Path, seed: int) -> None:
    chance = np.random.default_rng(seed)
    states = [begin(chance)]
    for _ in range(chance.integers(1, 1 + LONGEST)):
        states.append(changed(states[-1], chance))
    plans = [plan_of(folder, state) for state in states]
    with Warehouse(":memory:", deterministic=True) as grown, Warehouse(":memory:", deterministic=True) as fresh:
        for plan in plans:
            if stop := ["", "", "at the first block", "before the labels"][chance.integers(4)]:
                extract(plan, grown, stop)
            extract(plan, grown)
            refuse_what_is_hidden(grown, plan)
        for plan in sorted(plans, key=lambda plan: (-len(plan.taps), chance.random())):
            extract(plan, fresh)
        shown = plans[chance.integers(len(plans))].dissections()
        refuse_other_rows(grown, fresh, shown[chance.integers(len(shown))][1])


# ---------------------------------------------------------------- the command


def test_a_changed_study_says_that_its_dissection_is_new_and_older_ones_stay(world: World) -> None:
    before = world.rows("select dissection_id from dissections order by dissection_id")
    world.change("softmax_scale = 40.0", "softmax_scale = 41.0")
    done = world.extract()
    ids = [row["dissection_id"] for row in world.rows("select dissection_id from dissections order by dissection_id")]
    new = ids[len(before) :]
    assert new
    assert f"dissection {' and '.join(map(str, new))} is new, and older ones stay" in done.err
    assert f"report --compare {ids[len(before) - 1]} {new[-1]} shows both" in done.err
    assert "is new" not in world.extract("--rehash").err


def test_a_run_that_was_stopped_before_its_labels_is_not_done(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for a new dissection by the kernel, nor for the views' old ones of which a layer is new."""

    def stop(opened: Warehouse, device: str, **progress: object) -> None:
        raise StudyError("stopped")

    world.change("softmax_scale = 40.0", 'softmax_scale = 40.0\nengine = "kernel"')
    world.change('"gate"]', '"gate", "head"]')
    with monkeypatch.context() as stopped:
        stopped.setattr(pipeline, "label", stop)
        assert world.extract().code == 2
    assert world.run("check").code == 0, "what is not labelled yet breaks nothing"
    planned = world.run("extract", world.study, "--dry-run").out
    assert "label head by soft_wpmi with looks" in planned
    assert "label conv1, conv2, lin, … by soft_wpmi with shapes" in planned
    done = world.extract()
    assert done.code == 0, done.err
    assert "nothing is stale" not in done.out
    assert world.rows("select * from unlabelled_layers") == []
    assert world.rows(UNLABELLED) == []
    assert world.extract().out.startswith("nothing is stale")
    labelled = "select layer, count(*) as checks from label_checks inner join named_neurons using (neuron_id)"
    rows = world.rows(f"{labelled} where dissection_id = 3 group by all order by layer")
    assert [(row["layer"], row["checks"]) for row in rows] == [
        ("conv1", 4), ("conv2", 6), ("gate", 1), ("head", 3), ("lin", 8)
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["extract", "modify"])
def test_a_command_that_leaves_a_broken_contract_fails(world: World, command: str) -> None:
    with Warehouse(world.warehouse) as opened:
        opened.write({"label_checks": opened.rows("select * from label_checks limit 2").to_arrow()})
    done = world.run(command, world.study)
    assert done.code == 1
    assert f"breaks keys_are_unique (2 rows); to see the rows, run: dissectdb check -w {world.warehouse}" in done.err


def test_the_cheap_contracts_are_those_that_read_no_activations_or_maps() -> None:
    for each in contracts.checks():
        tables = {table.name for table in sqlglot.parse_one(each.sql, dialect="duckdb").find_all(sqlglot.exp.Table)}
        long = {"activations", "block_tops", "activation_maps"} & tables and each.name not in (
            "references_exist",
            "keys_are_unique",
        )
        assert each.cheap != bool(long), each.name


def test_a_dissection_of_an_older_version_whose_layer_was_never_labelled_is_mended(world: World) -> None:
    """As schema 2 left it: no ledger of labels, and a layer without its null."""
    before = world.rows("select layer, unit, concept, p from neuron_concepts order by all")
    with Warehouse(world.warehouse) as opened:
        lin = "(select layer_id from layers where layer = 'lin')"
        opened.connection.execute(f"""
            delete from null_quantiles where layer_id in {lin};
            delete from label_checks where neuron_id in (select neuron_id from neurons where layer_id in {lin});
            {TO_SCHEMA_2}""")
    assert world.run("build").code == 0
    rows = world.rows("select distinct layer from unlabelled_layers inner join named_layers using (layer_id)")
    assert {"layer": "lin"} in rows
    done = world.extract()
    assert done.code == 0, done.err
    assert "nothing is stale" not in done.out
    assert world.rows("select layer, unit, concept, p from neuron_concepts order by all") == before
    assert world.run("check").code == 0


def test_labels_of_schema_3_get_todays_test_within_classes_once_and_are_not_robust_until_then(world: World) -> None:
    checks = "select * from label_checks order by all"
    tests = """
        select layer, unit, beats_chance, beats_classes, robust from label_tests where concept is not null order by all
    """
    before = world.rows(checks), world.rows(tests)
    assert any(row["p_within"] is not None for row in before[0])
    with Warehouse(world.warehouse) as opened:
        opened.connection.execute(TO_SCHEMA_3)
    assert world.run("build").code == 0
    for row in world.rows(tests):
        assert (row["beats_classes"], row["robust"]) == (None, None)
    assert world.rows("select * from robust_labels") == []
    done = world.extract()
    assert done.code == 0, done.err
    assert "nothing is stale" not in done.out
    assert (world.rows(checks), world.rows(tests)) == before
    assert world.extract().out.startswith("nothing is stale")


def test_every_contract_holds_for_labels_of_the_kernel_that_are_to_be_computed_anew(new_world: World) -> None:
    new_world.study.write_text(new_world.study.read_text().replace("top_k = 5", 'top_k = 5\nengine = "kernel"'))
    assert new_world.extract().code == 0
    with Warehouse(new_world.warehouse) as opened:
        opened.connection.execute(TO_SCHEMA_3)
    assert new_world.run("build").code == 0
    checked = new_world.run("check")
    assert checked.code == 0, checked.out
