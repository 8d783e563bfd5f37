"""Arrays instead of a network: the same rows, labels and report from a file of activations and embeddings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.killer import kill
from tests.support.studies import arrays_study
from tests.support.worlds import BLOCK, World, command

ROOT = Path(__file__).parents[2]
N, D, K, C, TOP = 100, 12, 6, 5, 10
CLASSES = ("sad", "happy", "calm")
STUDY = arrays_study("sae", "words.toml", TOP, classes=CLASSES) + "null_draws = 1000\n"
WORDS = '[concepts]\n"smile" = ["happy"]\n"tear" = ["sad"]\n"nothing" = []\n"frown" = ["sad"]\n"rest" = ["calm"]\n'


def features() -> dict[str, torch.Tensor]:
    """Each unit of block.2 follows one concept; block.10 is noise. block.10 comes after block.2."""
    chance = torch.Generator().manual_seed(4)
    images, concepts = (torch.randn(rows, D, generator=chance) for rows in (N, C))
    cosines = torch.nn.functional.normalize(images, dim=1) @ torch.nn.functional.normalize(concepts, dim=1).T
    units = torch.cat([cosines, cosines[:, :1] - cosines[:, 1:2]], 1)
    return {
        "image_embedding": 3 * images,
        "concept_embedding": 7 * concepts,
        "layer/block.10": torch.randn(N, 2, generator=chance).half(),
        "layer/block.2": units + 0.01 * torch.randn(N, K, generator=chance),
        "class": torch.arange(N) % 3,
        "predicted": (torch.arange(N) % 7 % 3).to(torch.int32),
    }


def make(folder: Path, tensors: dict[str, torch.Tensor] | None = None, study: str = STUDY) -> World:
    folder.mkdir(exist_ok=True)
    (folder / "study.toml").write_text(study)
    (folder / "words.toml").write_text(WORDS)
    save_file(tensors or features(), folder / "features.safetensors")
    return World(folder)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> World:
    """An extracted world of arrays; only to be read."""
    world = make(tmp_path_factory.mktemp("arrays") / "done")
    result = world.extract()
    assert result.code == 0, result.err
    return world


def labels_by_hand(activations: torch.Tensor) -> list[int]:
    """The index of the best concept of each unit by soft-WPMI with its defaults, computed with NumPy."""
    given = features()
    images = torch.nn.functional.normalize(given["image_embedding"].double(), dim=1).numpy()
    concepts = torch.nn.functional.normalize(given["concept_embedding"].double(), dim=1).numpy()
    logits = 10 * images @ concepts.T
    of_concepts = np.exp(logits - logits.max(1, keepdims=True))
    of_concepts /= of_concepts.sum(1, keepdims=True)
    values = activations.double().numpy()
    weights = 0.998 - np.arange(TOP) / TOP * (0.998 - 0.97)
    best = np.argsort(-values, axis=0, kind="stable")[:TOP]
    logs = np.log1p(weights[:, None, None] * (of_concepts[best] - 1)).sum(0)  # (unit, concept)
    prior = np.log(np.exp(logs - logs.max(0)).mean(0)) + logs.max(0)
    return (logs - prior).argmax(1).tolist()


def test_nothing_loads_the_library_of_clip(tmp_path: Path) -> None:
    """It takes as long to load as torch."""
    world = make(tmp_path / "world")
    lines = [
        "import sys",
        "from dissectdb import Study, pipeline",
        "print(pipeline.extract(Study.load(sys.argv[1]), sys.argv[2]).computed)",
        "print(sorted({'torch', 'open_clip', 'transformers', 'timm'} & set(sys.modules)))",
    ]
    arguments = [sys.executable, "-c", "\n".join(lines), str(world.study), str(world.warehouse)]
    ran = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (ran.returncode, ran.stdout) == (0, "True\n['torch']\n"), ran.stderr


# ---------------------------------------------------------------- the rows are right


def test_labels_are_those_of_a_computation_with_numpy(done: World) -> None:
    rows = done.rows("select layer, unit, concept from neuron_concepts order by layer, unit")
    names = ["smile", "tear", "nothing", "frown", "rest"]
    for layer in ("block.2", "block.10"):
        expected = [names[place] for place in labels_by_hand(features()[f"layer/{layer}"])]
        assert [row["concept"] for row in rows if row["layer"] == layer] == expected
    assert [row["concept"] for row in rows if row["layer"] == "block.2"][:C] == names


def test_every_contract_holds(done: World) -> None:
    checked = done.run("check")
    assert (checked.code, checked.err) == (0, ""), checked.out


def test_activations_are_those_of_the_file(done: World) -> None:
    for layer, units in (("block.2", K), ("block.10", 2)):
        rows = done.frame(
            f"""
            select value from activations
            inner join named_neurons on activations.neuron_id = named_neurons.neuron_id
            where layer = '{layer}' order by image_id, unit
            """
        )
        expected = features()[f"layer/{layer}"].float().numpy()
        np.testing.assert_array_equal(rows["value"].to_numpy().reshape(N, units), expected)


def test_embeddings_have_unit_length_and_the_direction_of_the_file(done: World) -> None:
    for table, key, order in (("image", "image_embedding", "image_id"), ("concept", "concept_embedding", "concept_id")):
        rows = done.frame(f"select embedding from {table}_embeddings order by {order}")
        expected = torch.nn.functional.normalize(features()[key], dim=1).numpy()
        np.testing.assert_allclose(np.stack(rows["embedding"].to_list()), expected, atol=1e-6)


def test_images_and_predictions_are_named_by_class(done: World) -> None:
    images = done.rows("select * from images natural join splits order by position")
    assert [row["class"] for row in images] == [CLASSES[place % 3] for place in range(N)]
    assert {(row["split"], row["defect"], row["thumbnail"], row["width"]) for row in images} == {
        ("train", None, None, None)
    }
    assert len({row["sha256"] for row in images}) == N
    rows = done.rows("select * from predictions order by image_id")
    assert [row["class"] for row in rows] == [CLASSES[place % 7 % 3] for place in range(N)]
    assert {(row["confidence"], row["loss"]) for row in rows} == {(1.0, None)}
    assert rows[1]["probabilities"] == [0, 1, 0]
    [accuracy] = done.rows("select correct, images from network_accuracies")
    assert accuracy == {"correct": sum(place % 3 == place % 7 % 3 for place in range(N)), "images": N}


def test_the_network_has_the_architecture_arrays(done: World) -> None:
    [row] = done.rows("select name, architecture, classes from networks")
    assert row == {"name": "sae", "architecture": "arrays", "classes": list(CLASSES)}
    layers = done.rows("select layer, pooling, position from layers order by position")
    assert [tuple(row.values()) for row in layers] == [("block.2", "none", 0), ("block.10", "none", 1)]
    [clip] = done.rows("select name, weights, logit_scale from clips")
    assert clip == {"name": "arrays", "weights": "features.safetensors", "logit_scale": 1.0}
    blocks = done.rows("select count(*) as blocks from extraction_blocks group by extraction_id")
    assert [row["blocks"] for row in blocks] == [-(-N // BLOCK)] * 4


def test_query_status_and_report_work(done: World, tmp_path: Path) -> None:
    asked = done.run("query", "select layer, unit, image_id, true_class from top_images where rank = 1")
    assert asked.code == 0, asked.err
    assert "block.10" in asked.out
    assert "none" in done.run("status").out.partition("Unfinished extractions")[2]
    made = done.run("report", "-o", tmp_path / "report.html")
    assert made.code == 0, made.err
    assert "smile" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("type_", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_may_be_of_any_float_type(tmp_path: Path, type_: torch.dtype) -> None:
    tensors = {key: value.to(type_) if value.is_floating_point() else value for key, value in features().items()}
    world = make(tmp_path / "world", tensors)
    result = world.extract()
    assert result.code == 0, result.err
    assert world.run("check").code == 0
    [row] = world.rows("select value from activations order by neuron_id, image_id limit 1")
    assert row["value"] == pytest.approx(tensors["layer/block.2"][0, 0].item())


def test_classes_and_predictions_are_optional(tmp_path: Path) -> None:
    bare = {key: value for key, value in features().items() if key not in ("class", "predicted")}
    world = make(tmp_path / "world", bare, STUDY.replace(f"classes = {list(CLASSES)}", ""))
    result = world.extract()
    assert result.code == 0, result.err
    checked = world.run("check")
    assert checked.code == 0, checked.out
    assert {row["class"] for row in world.rows("select class from images")} == {None}
    assert world.rows("select * from predictions") == []
    made = world.run("report", "-o", tmp_path / "report.html")
    assert made.code == 0, made.err
    assert world.extract().out.startswith("nothing is stale")


def test_classes_without_names_are_numbered(tmp_path: Path) -> None:
    world = make(tmp_path / "world", study=STUDY.replace(f"classes = {list(CLASSES)}", ""))
    result = world.extract()
    assert result.code == 0, result.err
    assert world.rows("select classes from networks") == [{"classes": ["class 0", "class 1", "class 2"]}]


# ---------------------------------------------------------------- nothing runs twice


def test_nothing_is_stale_until_a_byte_changes(tmp_path: Path) -> None:
    world = make(tmp_path / "world")
    planned = world.extract("--dry-run")
    assert planned.code == 0
    assert "activations block.10 train" in planned.out
    assert not world.warehouse.exists()
    assert world.extract().code == 0
    before = world.tables()
    assert "nothing is stale" in world.extract("--dry-run").out
    assert world.extract().out.startswith("nothing is stale")
    assert world.tables() == before

    path = world.folder / "features.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "activations block.2 train" in world.extract("--dry-run").out
    assert world.extract().code == 0
    assert world.counts()["dissections"] == 2
    assert world.run("check").code == 0


def test_a_killed_run_continues_where_it_stopped(done: World, tmp_path: Path) -> None:
    world = make(tmp_path / "world")
    kill("extract", {str(world.study): ("insert", "activations", 4)})  # the second layer of the second block
    assert world.rows("select distinct block from extraction_blocks") == [{"block": 0}]
    assert world.extract().code == 0
    built = {"view_parts", "table_versions"}
    expected = {name: rows for name, rows in done.tables().items() if name not in built}
    assert {name: rows for name, rows in world.tables().items() if name not in built} == expected


# ---------------------------------------------------------------- mistakes


def with_value(key: str, place: tuple[int, ...] | int, value: float) -> dict[str, torch.Tensor]:
    tensors = features()
    tensors[key][place] = value
    return tensors


def without(key: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in features().items() if name != key}


MISTAKES: dict[str, tuple[Callable[[], dict[str, torch.Tensor]], str]] = {
    "NaN": (lambda: with_value("layer/block.2", (70, 3), float("nan")), "layer block.2 is NaN or infinite"),
    "its row": (lambda: with_value("layer/block.2", (70, 3), float("nan")), "in row 70"),
    "infinite": (lambda: with_value("layer/block.10", (0, 0), float("inf")), "layer block.10 is NaN or infinite"),
    "zero image": (lambda: with_value("image_embedding", 5, 0), "image_embedding has no direction: it is all zeros"),
    "NaN concept": (lambda: with_value("concept_embedding", 2, float("nan")), "concept_embedding is NaN or infinite"),
    "zero concept": (lambda: with_value("concept_embedding", 4, 0), "concept_embedding has no direction: it is all"),
    "no images": (lambda: without("image_embedding"), "there is no image_embedding; did you mean concept_"),
    "no layer": (
        lambda: {key: value for key, value in features().items() if "/" not in key},
        "there is no layer/<name>; there is class, concept_embedding, image_embedding, predicted",
    ),
    "strange": (lambda: features() | {"labels": torch.zeros(N)}, "labels is not one of image_embedding"),
    "rows": (
        lambda: features() | {"layer/block.2": torch.zeros(90, K)},
        f"layer/block.2 is 90 × {K}, image_embedding is {N} × {D}: both must have one row per image",
    ),
    "width": (
        lambda: features() | {"concept_embedding": torch.ones(C, 7)},
        f"concept_embedding is {C} × 7, image_embedding is {N} × {D}: both must have the width",
    ),
    "concepts": (
        lambda: features() | {"concept_embedding": torch.ones(4, D)},
        f"concept set words has 5 concepts, concept_embedding is 4 × {D}: it must have one row per concept",
    ),
    "axes": (lambda: features() | {"layer/block.2": torch.zeros(N, 2, 2, 2)}, "layer/block.2 is 100 × 2 × 2 × 2; it"),
    "places": (
        lambda: features() | {"layer/block.2": torch.zeros(N, 4, 2)},
        "layer/block.2 is 100 × 4 × 2, of 4 places; say in arrays.grid = [rows, columns] how they lie",
    ),
    "whole": (lambda: features() | {"layer/block.2": torch.zeros(N, 2).int()}, "layer/block.2 is of type I32; it must"),
    "fraction": (lambda: features() | {"class": torch.zeros(N)}, "class is of type F32; it must be one of I8"),
    "class": (lambda: with_value("class", 9, 3), "class is 3 in row 9; classes go from 0 to 2"),
    "negative": (lambda: with_value("predicted", 9, -1), "predicted is -1 in row 9; classes go from 0 to 2"),
}  # fmt: skip


@pytest.mark.parametrize("what", MISTAKES)
def test_a_wrong_array_is_one_line_that_says_which(tmp_path: Path, what: str) -> None:
    tensors, message = MISTAKES[what]
    world = make(tmp_path / "world", tensors())
    result = world.extract()
    assert result.code == 2
    line = result.err.splitlines()[-1]
    assert message in line
    assert "Traceback" not in result.err


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 100])
def test_a_file_that_is_not_safetensors_is_an_error(tmp_path: Path, content: bytes) -> None:
    world = make(tmp_path / "world")
    (world.folder / "features.safetensors").write_bytes(content)
    result = world.extract()
    assert result.code == 2
    assert "not a readable safetensors file" in result.err
    (world.folder / "features.safetensors").unlink()
    assert "features.safetensors: no such file of arrays" in world.extract().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[arrays]",
            "[clip]\narchitecture = 'a'\nweights = 'b'\n[arrays]",
            "arrays: replaces network and clip; remove clip",
        ),
        ("[arrays]", "edits = [{name = 'paper'}]\n[arrays]", "edits: arrays have no weights"),
        ('source = "words.toml"', 'source = "words.toml"\ntemplates = ["a {}"]', "concept_sets: arrays hold"),
        ("classes = ['sad'", "classes = ['happy'", "arrays.classes: happy appears twice"),
        ('name = "sae"', "", "arrays.name is missing"),
        ("top_k = 10", "top_k = 200", "has 100 sound images, fewer than top_k = 200"),
    ],
)
def test_a_contradictory_study_of_arrays_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    world = make(tmp_path / "world")
    world.change(old, new)
    result = world.extract()
    assert result.code == 2
    assert message in result.err


def test_a_study_without_either_form_says_what_is_missing(tmp_path: Path) -> None:
    world = make(tmp_path / "world")
    text = world.study.read_text()
    world.study.write_text(text[: text.index("[arrays]")] + text[text.index("[[concept_sets]]") :])
    err = world.extract().err
    assert "dataset, network, clip missing; a study has dataset, network and clip, or arrays instead" in err


def test_commands_that_run_a_network_refuse_arrays(done: World, tmp_path: Path) -> None:
    for arguments in (("modify", done.study), ("train", done.study, "-o", tmp_path / "net.pt")):
        result = command(*arguments)
        assert result.code == 2
        assert f"{arguments[0]} runs a network, but this study has [arrays]" in result.err
    assert "concepts check runs a network" in command("concepts", "check", "emotions", "--study", done.study).err


# ---------------------------------------------------------------- from .pt files


def save_all(folder: Path) -> tuple[object, ...]:
    """Save files as CLIP-Dissect does; returns the command that reads them."""
    given = features()
    for name, key in (
        ("a", "layer/block.2"),
        ("b", "layer/block.10"),
        ("i", "image_embedding"),
        ("t", "concept_embedding"),
    ):
        torch.save(given[key], folder / f"{name}.pt")
    (folder / "classes.txt").write_text("\n".join(map(str, given["class"].tolist())))
    layers = ("--layer", f"block.2={folder / 'a.pt'}", "--layer", f"block.10={folder / 'b.pt'}")
    return ("convert", *layers, "--images", folder / "i.pt", "--texts", folder / "t.pt")


def test_converted_tensors_are_the_same_and_can_be_extracted(done: World, tmp_path: Path) -> None:
    world = make(tmp_path / "world")
    output = world.folder / "features.safetensors"
    result = command(*save_all(tmp_path), "--classes", tmp_path / "classes.txt", "-o", output)
    assert (result.code, result.err) == (0, "")
    assert result.out == f"arrays: {output.resolve()}\n"
    written, given = load_file(output), without("predicted")
    assert written.keys() == given.keys()
    for key, tensor in given.items():
        assert written[key].dtype == tensor.dtype
        assert torch.equal(written[key], tensor)
    assert world.extract().code == 0
    # Sums in parallel differ in their last bits.
    labels = "select layer, unit, concept, round(similarity, 6) as similarity from neuron_concepts order by layer, unit"
    assert world.rows(labels) == done.rows(labels)
    assert not output.with_name("features.safetensors.unfinished").exists()


def test_what_cannot_be_converted_leaves_no_file(tmp_path: Path) -> None:
    asked, output = save_all(tmp_path), tmp_path / "out.safetensors"
    torch.save({"a": torch.zeros(2)}, tmp_path / "dict.pt")
    torch.save(torch.zeros(N - 1, 2), tmp_path / "short.pt")
    torch.save(Path("code"), tmp_path / "code.pt")
    (tmp_path / "text.pt").write_text("no tensor")
    messages = {
        ("--layer", f"x={tmp_path / 'dict.pt'}"): "holds a dict; a single tensor is needed",
        ("--layer", f"x={tmp_path / 'short.pt'}"): f"out.safetensors: layer/x is 99 × 2, image_embedding is {N} × {D}",
        (
            "--layer",
            f"x={tmp_path / 'code.pt'}",
        ): "code.pt: holds other things than a tensor; a single",
        ("--layer", f"x={tmp_path / 'text.pt'}"): "text.pt: not a tensor that can be read",
        ("--layer", f"x={tmp_path / 'none.pt'}"): "none.pt: no such file",
        ("--layer", "x"): "--layer x: write NAME=FILE",
        ("--layer", f"block.2={tmp_path / 'a.pt'}"): "--layer block.2 appears twice",
        ("--classes", tmp_path / "a.pt"): "class is of type F32",
    }
    for options, message in messages.items():
        result = command(*asked, *options, "-o", output)
        assert result.code == 2, options
        assert message in result.err
    assert "there is no folder" in command(*asked, "-o", tmp_path / "none" / "x.safetensors").err
    assert not list(tmp_path.glob("out*"))
