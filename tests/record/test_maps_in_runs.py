"""Activation maps of whole runs, of a network and of arrays with places, and what changes cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dissectdb.extract.record import arrays_file
from tests.record.test_arrays import STUDY, WORDS, C, D, N, features
from tests.record.test_extract import pixels
from tests.support.worlds import OTHER_TABLES, UNITS, World

KEPT = 16
RECORDED = "select target, count(*) as layers, sum(blocks) as blocks from ({}) group by target order by target".format(
    "select target, layer_id, count(*) as blocks from extractions join extraction_blocks using (extraction_id) "
    "group by target, layer_id"
)


def outputs(world: World, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The maps of both convolutions, by a forward pass of the test's own."""
    weights = torch.load(world.folder / "net.pt", weights_only=True)["params"]
    weights = {name: tensor.double() for name, tensor in weights.items()}
    first = torch.nn.functional.conv2d(images, weights["conv1.weight"], weights["conv1.bias"])
    pooled = torch.nn.functional.avg_pool2d(first.relu(), 2)
    return {"conv1": first, "conv2": torch.nn.functional.conv2d(pooled, weights["conv2.weight"], weights["conv2.bias"])}


def test_the_maps_are_those_of_a_forward_pass_and_of_the_best_images_only(finished: World) -> None:
    image_ids, images = pixels(finished)
    for layer, maps in outputs(finished, images).items():
        rows = finished.rows(
            f"""
            select unit, image_id, grid_rows, grid_columns, top_row, top_column, low, high, cells
            from activation_maps join neurons using (neuron_id) join layers using (layer_id) where layer = '{layer}'
            """
        )
        tops = finished.rows(f"select unit, image_id from top_images where layer = '{layer}' and rank <= {KEPT}")
        assert {(row["unit"], row["image_id"]) for row in rows} >= {(row["unit"], row["image_id"]) for row in tops}
        assert len(rows) == KEPT * UNITS[layer]
        pool = torch.nn.functional.adaptive_avg_pool2d if layer == "conv1" else torch.nn.functional.adaptive_max_pool2d
        grids = pool(maps, (rows[0]["grid_rows"], rows[0]["grid_columns"])).numpy()
        for row in rows:
            grid = grids[image_ids.index(row["image_id"]), row["unit"]]
            found = row["low"] + (row["high"] - row["low"]) * np.array(row["cells"]).reshape(grid.shape) / 255
            np.testing.assert_allclose(found, grid, atol=0.51 / 255 * np.ptp(grid) + 1e-4)
            assert grid[row["top_row"], row["top_column"]] == pytest.approx(grid.max(), abs=1e-4)


def test_every_best_image_of_a_layer_with_places_has_a_region(finished: World) -> None:
    [row] = finished.rows(
        f"""
        select count(*) as images, count(cells) as maps, count(threshold) as thresholds,
            min(picture_row) as low, max(picture_column) as high, max(share_above) as share
        from top_images left join image_regions using (network, layer, unit, rank, image_id, dissection_id)
        where layer in ('conv1', 'conv2') and rank <= {KEPT}
        """
    )
    assert row["images"] == row["maps"] == row["thresholds"] > 0
    assert 0 < row["low"] < row["high"] < 1
    assert 0 < row["share"] <= 1
    assert finished.rows("select * from image_regions where layer in ('lin', 'gate')") == []


def test_another_number_of_maps_runs_the_network_but_nothing_else(world: World) -> None:
    before = world.tables()
    assert world.rows(RECORDED)[0] == {"target": "activation_maps", "layers": 2, "blocks": 6}
    done = world.extract("--set", "map_images=4", "--dry-run")
    assert "activation maps conv1 train" in done.out
    assert "activations conv1" not in done.out
    done = world.extract("--set", "map_images=4")
    assert done.code == 0, done.err
    assert len(world.tables()["activation_maps"]) == 4 * (UNITS["conv1"] + UNITS["conv2"])
    changing = {"activation_maps", "map_values", "extractions", "extraction_blocks", "table_versions", "completed_runs"}
    after = world.tables()
    assert {name: rows for name, rows in after.items() if name not in changing} == {
        name: rows for name, rows in before.items() if name not in changing
    }
    assert world.run("check").code == 0
    done = world.extract("--set", "map_images=0")
    assert done.code == 0, done.err
    assert "nothing is stale" in done.out  # what is there stays


def test_a_warehouse_from_before_maps_gets_them_from_the_next_extract(world: World) -> None:
    from dissectdb.warehouse import Warehouse

    expected = {name: rows for name, rows in world.tables().items() if name in ("activation_maps", "seen_parts")}
    with Warehouse(world.warehouse) as opened:
        opened.connection.execute(
            f"""
            delete from extraction_blocks where extraction_id in
                (select extraction_id from extractions where target = 'activation_maps');
            delete from extractions where target = 'activation_maps'; delete from completed_runs;
            drop table activation_maps; drop table map_values; drop table seen_parts;
            {OTHER_TABLES}
            """
        )
    assert world.extract().code == 0
    assert {name: rows for name, rows in world.tables().items() if name in expected} == expected
    assert world.run("check").code == 0


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_arrays_with_places_are_pooled_and_have_maps(
    tmp_path: Path, pooling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays_file, "BYTES_AT_ONCE", 4 * 6 * 3 * 7)  # seven rows at a time
    patches = torch.randn(N, 6, 3, generator=torch.Generator().manual_seed(1))
    study = STUDY.replace("[arrays]", f'[arrays]\ngrid = [2, 3]\npooling = "{pooling}"')
    (tmp_path / "study.toml").write_text(study)
    (tmp_path / "words.toml").write_text(WORDS)
    save_file(features() | {"layer/patches": patches}, tmp_path / "features.safetensors")
    world = World(tmp_path)
    done = world.extract()
    assert done.code == 0, done.err
    values = world.frame(
        """
        select value from activations join neurons using (neuron_id) join layers using (layer_id)
        join images using (image_id) where layer = 'patches' order by unit, images.position
        """
    )["value"].to_numpy()
    pooled = (patches.amax(1) if pooling == "max" else patches.mean(1)).numpy()
    np.testing.assert_allclose(values, pooled.T.ravel(), rtol=1e-5, atol=1e-6)
    rows = world.rows(
        """
        select unit, images.position, low, high, cells, picture_row, rank from image_regions
        join images using (image_id) where layer = 'patches'
        """
    )
    assert len(rows) == 3 * min(KEPT, 10)  # top_k is 10
    for row in rows:
        cells = row["low"] + (row["high"] - row["low"]) * np.array(row["cells"]) / 255
        expected = patches[row["position"], :, row["unit"]].numpy()
        np.testing.assert_allclose(cells, expected, atol=0.51 / 255 * np.ptp(expected) + 1e-6)
        assert row["picture_row"] is None  # it is unknown what the grid covers
    assert world.run("check").code == 0


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("grid = [2, 2]", "layer/patches is 100 × 6 × 3, of 6 places, but arrays.grid = [2, 2] has 4; leave class"),
        ("grid = [2]", "must be [rows, columns]"),
        ('pooling = "max"', "pooling does nothing without grid"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(tmp_path: Path, key: str, message: str) -> None:
    (tmp_path / "study.toml").write_text(STUDY.replace("[arrays]", f"[arrays]\n{key}"))
    (tmp_path / "words.toml").write_text(WORDS)
    save_file(
        {
            "image_embedding": torch.ones(N, D),
            "concept_embedding": torch.ones(C, D),
            "layer/patches": torch.ones(N, 6, 3),
        },
        tmp_path / "features.safetensors",
    )
    done = World(tmp_path).extract()
    assert done.code == 2
    assert message in done.err
