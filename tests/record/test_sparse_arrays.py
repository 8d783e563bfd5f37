"""Sparse layers of arrays: CSR gives the rows and labels that the dense array gives without stored activations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from safetensors.torch import save_file

from dissectdb.extract.record.arrays_file import open_arrays
from dissectdb.extract.record.arrays_sparse import sparse_tables
from dissectdb.extract.record.blocks import Block, ProbingImage, layer_tables
from tests.support import worlds
from tests.support.studies import arrays_study
from tests.support.worlds import World

N, D, K, C = 400, 12, 40, 5
STUDY = arrays_study("sae", "words.txt", 10, classes=("sad", "happy", "calm")) + "null_draws = 1000\n"
pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
OF_ACTIVATIONS = ("block_tops", "block_sums", "block_values")


def csr(dense: torch.Tensor, name: str = "features") -> dict[str, torch.Tensor]:
    """The parts of a sparse layer, as torch makes them."""
    values = dense.to_sparse_csr()
    parts = {"indptr": values.crow_indices(), "indices": values.col_indices(), "data": values.values()}
    return {f"layer/{name}/{part}": tensor for part, tensor in parts.items()} | {
        f"layer/{name}/shape": torch.tensor(dense.shape)
    }


def features() -> torch.Tensor:
    """Mostly zeros: features that follow a concept, one that is dead, one of one value, one that fires once, noise."""
    chance = torch.Generator().manual_seed(4)
    images, concepts = embeddings()
    values = torch.nn.functional.normalize(images, dim=1) @ torch.nn.functional.normalize(concepts, dim=1).T
    values = torch.cat([values, torch.randn(N, K - C, generator=chance)], 1)
    values[values < values.quantile(0.9, dim=0)] = 0
    values[:, 10], values[:, 11], values[:, 12] = 0, (values[:, 11] > 0).float(), 0
    values[7, 12] = 2
    values[:, 13] = -values[:, 13].abs()
    values[:, 14] = values[:, 15].round(decimals=1) + 1
    return values


def embeddings() -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(5)
    return torch.randn(N, D, generator=chance), torch.randn(C, D, generator=chance)


def make(folder: Path, layers: dict[str, torch.Tensor], study: str = STUDY) -> World:
    folder.mkdir()
    (folder / "study.toml").write_text(study)
    (folder / "words.txt").write_text("\n".join(["smile", "tear", "nothing", "frown", "rest"]))
    images, concepts = embeddings()
    others = {"image_embedding": images, "concept_embedding": concepts, "class": torch.arange(N) % 3}
    save_file(layers | others, folder / "features.safetensors")
    return World(folder)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> World:
    """An extracted world with a sparse layer; only to be read."""
    world = make(tmp_path_factory.mktemp("sparse") / "sparse", csr(features()))
    result = world.extract()
    assert result.code == 0, result.err
    assert "features.safetensors has sparse layers (features): only the top images and the sums" in result.err
    return world


# ---------------------------------------------------------------- as the dense array


def test_labels_are_those_of_the_dense_array_without_stored_activations(sparse: World, tmp_path: Path) -> None:
    dense = make(tmp_path / "dense", {"layer/features": features()})
    assert dense.extract("--activations", "none").code == 0
    found, expected = sparse.tables(), dense.tables()
    assert found["activations"] == []
    for table in (*OF_ACTIVATIONS, "null_quantiles", "kernel_scores", "label_checks", "labelled_layers"):
        assert found[table] == expected[table], table
    for view in ("neuron_statistics", "top_activations", "neuron_concepts", "unlabelled_neurons", "layer_summary"):
        order = "neuron_id, rank" if view == "top_activations" else "all"
        query = f"select * from {view} order by {order}"
        # Sums in parallel differ in their last bits.
        assert_frame_equal(sparse.frame(query), dense.frame(query), rel_tol=1e-6)
    reasons = {row["unit"]: row["reason"] for row in sparse.rows(
        "select unit, reason from unlabelled_neurons"
    )}  # fmt: skip
    assert reasons[10] == "dead"
    assert reasons[12] == "too few images"
    names = sparse.rows("select unit, concept from neuron_concepts order by unit")
    assert [row["concept"] for row in names[:C]] == ["smile", "tear", "nothing", "frown", "rest"]


def test_contracts_hold_and_the_report_is_made(sparse: World, tmp_path: Path) -> None:
    checked = sparse.run("check")
    assert (checked.code, checked.err) == (0, ""), checked.out
    deep = sparse.run("check", "--deep", sparse.study)
    assert deep.code == 0, deep.out + deep.err
    assert "top images of activations features train" in deep.out
    assert sparse.run("report", "-o", tmp_path / "report.html").code == 0
    again = sparse.extract()
    assert again.out.startswith("nothing is stale")


def test_a_top_image_of_another_value_is_found(tmp_path: Path) -> None:
    world = make(tmp_path / "world", csr(features()))
    assert world.extract().code == 0
    from dissectdb.warehouse import Warehouse

    with Warehouse(world.warehouse) as opened:
        opened.connection.execute("update block_tops set value = value + 1")
    deep = world.run("check", "--deep", world.study)
    assert deep.code != 0
    assert "numbers differ" in deep.out


def drawn(seed: int, images: int, units: int) -> np.ndarray:
    """Small matrices of zeros, few values, values of either sign, and rows and columns without a value."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(images, units)).astype(np.float32)
    values[random.random((images, units)) < random.choice([0, 0.5, 0.95, 1])] = 0
    kinds = random.integers(4, size=units)
    values[:, kinds == 1] = np.maximum(values[:, kinds == 1], 0)
    values[:, kinds == 2] = values[:, kinds == 2].round()
    values[:, kinds == 3] = 0
    values[random.random(images) < 0.2] = 0
    return values


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    images=st.sampled_from([1, 2, 255, 257, 600]),
    units=st.integers(1, 20),
    half=st.booleans(),
    left_out=st.booleans(),
)
@example(seed=5419355, images=255, units=15, half=False, left_out=False)
def test_rows_of_a_block_are_those_of_the_dense_array(
    tmp_path_factory: pytest.TempPathFactory, seed: int, images: int, units: int, half: bool, left_out: bool
) -> None:
    path = tmp_path_factory.mktemp("drawn") / "features.safetensors"
    values = torch.from_numpy(drawn(seed, images, units))
    layers = csr(values.half() if half else values)
    one = torch.ones(1, 2)
    save_file(layers | {"image_embedding": one.repeat(images, 1), "concept_embedding": one}, path)
    layer = open_arrays(path).sparse["features"]
    rows = sorted(np.random.default_rng(seed).choice(images, max(images // 2, 1), replace=False).tolist())
    positions = rows if left_out else list(range(images))
    block = Block(3, [ProbingImage(100 + position, position, None, None) for position in positions], 7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dissectdb.extract.record.arrays_sparse.ROWS_AT_ONCE", 100)
        patch.setattr("dissectdb.extract.record.arrays_sparse.NEURONS_AT_ONCE", 7)
        found = list(sparse_tables(layer, positions, block, 50))
    given_values = (values.half() if half else values).float().numpy()[positions]
    expected = list(layer_tables(given_values, block, 50))
    for table in ("activations", *OF_ACTIVATIONS):
        # torch adds up columns of another width in another order: sums differ in their last bits.
        assert_frame_equal(all_rows(found, table), all_rows(expected, table), rel_tol=1e-12, abs_tol=1e-12)


def all_rows(tables: list, name: str) -> pl.DataFrame:
    """Rows of all tables of a name, in the order of their keys."""
    parts = [rows.read_all() if name == "activations" else rows for table, rows in tables if table == name]
    frame = pl.concat([pl.DataFrame(pl.from_arrow(part)) for part in parts])
    return frame.sort([column for column in frame.columns if not frame.schema[column].is_float()])


# ---------------------------------------------------------------- refused in one line


def changed(part: str, change: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
    layers = csr(features())
    key = f"layer/features/{part}"
    return layers | {key: change(layers[key].clone())}


def put(place: int, value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor[place] = value
        return tensor

    return change


def repeat(indices: torch.Tensor) -> torch.Tensor:
    indices[1] = indices[0]
    return indices


MISTAKES: dict[str, tuple[Callable[[], dict[str, torch.Tensor]], str]] = {
    "falls": (lambda: changed("indptr", put(2, 0)), "its indptr falls from"),
    "start": (lambda: changed("indptr", put(0, 1)), "its indptr goes from 1 to"),
    "length": (lambda: changed("indptr", lambda values: values[1:]), "its indptr has 400 numbers for 400 rows"),
    "data": (lambda: changed("data", lambda values: values[1:]), "both must be equally long"),
    "out of range": (lambda: changed("indices", put(0, K)), f"has the index {K}; its {K} neurons go from 0 to {K - 1}"),
    "negative": (lambda: changed("indices", put(0, -1)), "has the index -1; its"),
    "repeated": (lambda: changed("indices", repeat), "twice in row 0"),
    "not finite": (lambda: changed("data", put(0, float("nan"))), "layer features is NaN or infinite"),
    "infinite": (lambda: changed("data", put(-1, float("inf"))), f"in row {N - 1}"),
    "whole": (lambda: changed("data", lambda values: values.int()), "its data is of type I32"),
    "too many": (
        lambda: changed("shape", put(1, 2**40)),
        "its shape says 1,099,511,627,776 neurons; a layer has at",
    ),
    "shape": (lambda: changed("shape", lambda values: values[:1]), "its shape is [400]; it must be [images, neurons]"),
    "rows": (lambda: csr(features()[:90]), f"layer/features is 90 × {K}, image_embedding is {N} × {D}: both must"),
    "absent": (
        lambda: {key: value for key, value in csr(features()).items() if not key.endswith("/shape")},
        "layer/features is sparse, and there is no layer/features/shape; write indptr, indices, data, shape",
    ),
    "both": (lambda: csr(features()) | {"layer/features": features()}, "there is a dense array of the same name"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_wrong_part_is_one_line_that_says_which(tmp_path: Path, what: str) -> None:
    tensors, message = MISTAKES[what]
    result = make(tmp_path / "world", tensors()).extract()
    assert (result.code, "Traceback" in result.err) == (2, False)
    assert message in result.err.splitlines()[-1]


@pytest.mark.parametrize("scorer", ["pearson", "cos", "cos_cubed", "rank_reorder"])
def test_scorers_that_read_every_activation_are_refused(tmp_path: Path, scorer: str) -> None:
    study = STUDY.replace("soft_wpmi", scorer)
    result = make(tmp_path / "world", csr(features()), study).extract()
    assert result.code == 2
    assert f"{scorer} reads every activation" in result.err
    assert "a sparse layer of arrays neither; use" in result.err


def test_a_dry_run_counts_the_rows_that_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "BLOCK", 4096)
    world = make(tmp_path / "world", csr(features()))
    planned = world.extract("--dry-run")
    assert planned.code == 0
    [line] = [line for line in planned.out.splitlines() if "activations features train" in line]
    assert line.split()[3:5] == ["400", f"{K * 256:,}"]


# ---------------------------------------------------------------- the benchmark


def test_the_benchmark_measures_both_ways(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import features

    monkeypatch.setattr("sys.argv", ["features", "--images", "300", "--features", "40", "--share", "0.05"])
    features.main()
    rows = [line.strip("|").split("|") for line in capsys.readouterr().out.strip().splitlines()[-4:]]
    assert [(row[0].strip(), row[2].strip()) for row in rows] == [
        (way, name) for way in ("sparse", "dense") for name in ("extract", "report")
    ]
    assert all(float(row[5].replace(",", "")) > 50 for row in rows)
