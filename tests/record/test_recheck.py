"""check --deep: a sample is computed again from the files, and what differs is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dissectdb.extract.models import clip
from dissectdb.extract.record import recheck
from dissectdb.warehouse import Warehouse
from tests.support.worlds import World


def deep(world: World, *options: object):
    return world.run("check", "--deep", world.study, "--images", "16", *options)


def spoil(world: World, statement: str) -> None:
    with Warehouse(world.warehouse) as opened:
        opened.connection.execute(statement)


def test_what_was_extracted_comes_out_again(finished: World) -> None:
    before = finished.bytes()
    done = deep(finished)
    assert done.code == 0, done.out
    for what in ("activations conv2 train", "image embeddings tiny-clip train", "predictions net test", "looks"):
        assert what in done.out
    assert "12 of 12 are as they were stored" in done.out
    assert finished.bytes() == before


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("update activations set value = value + 0.01 where neuron_id = 2", "activations conv1 train"),
        (
            "update image_embeddings set embedding = list_transform(embedding, lambda x: -x)",
            "image embeddings tiny-clip train",
        ),
        ("update predictions set probabilities = list_reverse(probabilities)", "predictions net test"),
        (
            "update concept_embeddings set embedding = list_reverse(embedding) where concept_id = 1",
            "concept embeddings shapes",
        ),
        ("delete from activations where neuron_id = 12", "activations lin train"),
        ("update activation_maps set cells = list_reverse(cells) where neuron_id > 4", "activation maps conv2 train"),
    ],
    ids=["activations", "embeddings", "predictions", "concepts", "missing", "maps"],
)
def test_what_was_changed_in_the_warehouse_is_found_and_named(world: World, statement: str, what: str) -> None:
    spoil(world, statement)
    done = deep(world)
    assert done.code == 1
    [line] = [line for line in done.out.splitlines() if line.startswith(what)]
    assert ("numbers are stored, not" if statement.startswith("delete") else "numbers differ") in line


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_device_that_rounds_more_finds_no_difference_to_one_that_rounds_less(
    finished: World, new_world: World, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """precision: what another device takes by default. Stored on one and computed again on the other, both ways."""
    assert deep(finished).code == 0
    with monkeypatch.context() as there:
        there.setattr(clip, "default_precision", lambda model, probe: precision)
        assert deep(finished).code == 0
        assert new_world.extract().code == 0
    [row] = new_world.rows("select distinct precision from extractions where target = 'image_embeddings'")
    assert row["precision"] == precision
    here = deep(new_world)
    assert here.code == 0, here.out
    [line] = [line for line in here.out.splitlines() if line.startswith("image embeddings")]
    assert "0.0e+00" not in line, "the numbers are not the same bits"
    spoil(new_world, "update image_embeddings set embedding = list_reverse(embedding) where image_id % 2 = 0")
    assert deep(new_world).code == 1, "other embeddings are still found"


def test_the_coarser_precision_allows_more() -> None:
    allowed = [recheck.ALLOWED[precision] for precision in ("float32", "tf32", "float16", "bfloat16")]
    assert allowed == sorted(allowed)


def test_one_wrong_value_is_found_by_the_sample_that_holds_it_and_a_seed_draws_that_again(world: World) -> None:
    spoil(world, "update activations set value = 99 where neuron_id = 1 and image_id = 1")
    seeds = range(8)
    codes = [deep(world, "--seed", seed).code for seed in seeds]
    assert set(codes) <= {0, 1}
    assert 1 in codes  # 16 of 72 images a draw
    assert deep(world, "--seed", codes.index(1)).code == 1


@pytest.mark.parametrize("thing", ["dataset", "network", "CLIP", "concept set"])
def test_files_that_have_changed_since_are_said_so(world: World, thing: str) -> None:
    if thing == "dataset":
        next((world.folder / "images" / "test").rglob("*.png")).unlink()
    elif thing == "network":
        weights = torch.load(world.folder / "net.pt", weights_only=True)
        weights["params"]["lin.bias"] += 1
        torch.save(weights, world.folder / "net.pt")
    elif thing == "CLIP":
        from tests.support.worlds import save_clip

        save_clip(world.folder / "clip.safetensors", world.folder / "tiny-clip.json", seed=9)
    else:
        world.change("bright", "brilliant", "looks.txt")
    done = deep(world)
    assert done.code == 1
    assert f"the {thing} of the study was not extracted" in done.out


def test_of_a_run_that_was_stopped_only_what_is_done_is_computed_again(world: World) -> None:
    spoil(world, "delete from extraction_blocks where block >= 1")
    first = "select image_id from images where split_id = 1 and defect is null order by image_id limit 32"
    spoil(world, f"delete from activations where image_id not in ({first})")
    assert "12 of 12 are as they were stored" in deep(world).out


def test_a_study_that_was_never_extracted_has_nothing_to_compare(untouched: World, finished: World, tmp_path: Path):
    other = tmp_path / "other.toml"
    text = finished.study.read_text().replace('path = "images"', f'path = "{finished.folder}/images/train"')
    for name in ("net.py", "net.pt", "clip.safetensors", "tiny-clip.json", "shapes.toml", "looks.txt"):
        text = text.replace(f'"{name}', f'"{finished.folder}/{name}')
    other.write_text(text)
    done = finished.run("check", "--deep", other)
    assert done.code == 1
    assert "the dataset of the study was not extracted" in done.out


def test_the_query_for_ties_finds_the_labels_whose_margin_the_precision_rounds_away(world: World) -> None:
    text = (Path(__file__).parents[2] / "docs/labels.md").read_text(encoding="utf-8")
    query = text.split("```sql\n")[1].split("```")[0]
    spoil(world, "update neuron_labels set margin = abs(similarity) * [1e-7, 1e-3, 0.02, 0.5][1 + neuron_id % 4]")
    neurons = "select layer, unit, margin / abs(similarity) as share from neuron_concepts where margin is not null"
    shares = {(row["layer"], row["unit"]): row["share"] for row in world.rows(neurons)}
    assert len({round(share, 8) for share in shares.values()}) == 4
    for precision, rounded in (("float32", 2**-24), ("tf32", 2**-11), ("float16", 2**-11), ("bfloat16", 2**-8)):
        spoil(world, f"update extractions set precision = '{precision}' where target = 'image_embeddings'")
        found = world.rows(query)
        assert {(row["layer"], row["unit"]) for row in found} == {
            neuron for neuron, share in shares.items() if share <= 8 * rounded
        }
        assert {row["precision"] for row in found} == {precision}
