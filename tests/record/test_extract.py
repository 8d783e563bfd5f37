"""extract, from images and weights to tables: the rows are right and complete."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from itertools import product

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F

from dissectdb.extract.models import clip
from dissectdb.extract.record import catalog, extraction
from dissectdb.extract.study import Study
from dissectdb.warehouse import Warehouse
from tests.support.worlds import BLOCK, CLASSES, TRAIN, UNITS, World

# ---------------------------------------------------------------- the rows are right


def pixels(world: World, split: str | None = None) -> tuple[list[int], torch.Tensor]:
    """Ids of the images without a defect, in order, and the input of the network for them."""
    rows = world.rows(
        f"""
        select image_id, path from images inner join splits on images.split_id = splits.split_id
        where defect is null and split = coalesce({"null" if split is None else f"'{split}'"}, split) order by image_id
        """
    )
    images = [np.asarray(PIL.Image.open(world.folder / "images" / row["path"])) for row in rows]
    values = torch.from_numpy(np.stack(images)).double()[:, None] / 255
    return [row["image_id"] for row in rows], (values - 0.5) / 0.25


def by_hand(world: World, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The outputs of the network's layers, pooled as in the study, and its logits, computed here."""
    weights = torch.load(world.folder / "net.pt", weights_only=True)["params"]
    w = {name: tensor.double() for name, tensor in weights.items()}
    conv1 = F.conv2d(images, w["conv1.weight"], w["conv1.bias"])
    conv2 = F.conv2d(F.avg_pool2d(conv1.relu(), 2), w["conv2.weight"], w["conv2.bias"])
    maps = F.adaptive_max_pool2d(conv2.relu(), 2).flatten(1)
    lin = maps @ w["lin.weight"].T + w["lin.bias"]
    gate = lin.relu() @ w["gate.weight"].T + w["gate.bias"]
    logits = (lin.relu() @ w["head.weight"].T + w["head.bias"]) * gate.sigmoid()
    return {"conv1": conv1.mean((2, 3)), "conv2": conv2.amax((2, 3)), "lin": lin, "gate": gate, "logits": logits}


@pytest.mark.parametrize("layer", UNITS)
def test_activations_are_those_of_a_forward_pass(finished: World, layer: str) -> None:
    image_ids, images = pixels(finished, "train")
    rows = finished.frame(
        f"""
        select unit, image_id, value from activations
        inner join named_neurons on activations.neuron_id = named_neurons.neuron_id
        where layer = '{layer}' order by image_id, unit
        """
    )
    expected = by_hand(finished, images)[layer].numpy()
    assert expected.shape == (TRAIN, UNITS[layer])
    assert rows["image_id"].unique().sort().to_list() == image_ids
    np.testing.assert_allclose(rows["value"].to_numpy().reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)


def test_predictions_are_softmax_argmax_and_cross_entropy(finished: World) -> None:
    image_ids, images = pixels(finished)
    rows = finished.frame(
        """
        select predictions.*, images.class as truth from predictions
        inner join images on predictions.image_id = images.image_id order by predictions.image_id
        """
    )
    probabilities = by_hand(finished, images)["logits"].softmax(1).numpy()
    assert rows["image_id"].to_list() == image_ids
    np.testing.assert_allclose(np.stack(rows["probabilities"].to_list()), probabilities, atol=1e-5)
    assert rows["class"].to_list() == [CLASSES[place] for place in probabilities.argmax(1)]
    np.testing.assert_allclose(rows["confidence"], probabilities.max(1), atol=1e-5)
    truth = [CLASSES.index(name) for name in rows["truth"]]
    np.testing.assert_allclose(rows["loss"], -np.log(probabilities[range(len(truth)), truth]), atol=1e-5)


def test_image_embeddings_are_those_of_open_clip(finished: World) -> None:
    import open_clip

    weights = str(finished.folder / "clip.safetensors")
    model, _, prepare = open_clip.create_model_and_transforms("tiny-clip", pretrained=weights)
    rows = finished.frame(
        """
        select path, embedding from image_embeddings
        inner join images on image_embeddings.image_id = images.image_id order by path
        """
    )
    images = [prepare(PIL.Image.open(finished.folder / "images" / path)) for path in rows["path"]]
    with torch.inference_mode():
        expected = F.normalize(model.eval().encode_image(torch.stack(images)), dim=1).numpy()
    assert len(rows) == TRAIN
    np.testing.assert_allclose(np.stack(rows["embedding"].to_list()), expected, atol=2e-3)


def test_concept_embeddings_are_means_over_templates(finished: World) -> None:
    import open_clip

    weights = str(finished.folder / "clip.safetensors")
    model, _, _ = open_clip.create_model_and_transforms("tiny-clip", pretrained=weights)
    tokens = open_clip.get_tokenizer("tiny-clip")(["circle", "a picture of a circle"])
    with torch.inference_mode():
        expected = F.normalize(F.normalize(model.eval().encode_text(tokens), dim=1).mean(0), dim=0).numpy()
    [row] = finished.rows("select embedding from concept_embeddings natural join concepts where concept = 'circle'")
    np.testing.assert_allclose(row["embedding"], expected, atol=1e-5)


def test_a_text_of_two_concept_sets_is_embedded_once(new_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    concepts = (new_world.folder / "looks.txt").read_text().split("\n")
    (new_world.folder / "more.txt").write_text("\n".join(["something new", *reversed([c for c in concepts if c])]))
    more = '[[concept_sets]]\nname = "more"\nsource = "more.txt"\n\n[[dissections]]\nconcepts = "shapes"'
    new_world.change('[[dissections]]\nconcepts = "shapes"', more)
    asked: list[str] = []
    embed = clip.Clip.embed_concepts

    def listening(self: clip.Clip, names: list[str], templates: list[str]) -> torch.Tensor:
        asked.extend(names)
        return embed(self, names, templates)

    monkeypatch.setattr(clip.Clip, "embed_concepts", listening)
    assert new_world.extract().code == 0
    assert asked.count("something new") == 1
    assert [name for name in asked if name in concepts] == [c for c in concepts if c], "once, for the first set"
    pairs = """
        select a.concept, a_embedding.embedding = b_embedding.embedding as same
        from concepts as a inner join concepts as b on a.concept = b.concept and a.concept_set_id < b.concept_set_id
        inner join concept_embeddings as a_embedding on a.concept_id = a_embedding.concept_id
        inner join concept_embeddings as b_embedding on b.concept_id = b_embedding.concept_id
        inner join concept_sets as a_set on a.concept_set_id = a_set.concept_set_id and a_set.name = 'looks'
        inner join concept_sets as b_set on b.concept_set_id = b_set.concept_set_id and b_set.name = 'more'
    """
    rows = new_world.rows(pairs)
    assert sorted(row["concept"] for row in rows) == sorted(c for c in concepts if c)
    assert all(row["same"] for row in rows)


def test_scanning_and_embedding_report_their_progress(new_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[tuple[int, int | None]]] = {}

    def watch(what: str, unit: str) -> contextlib.AbstractContextManager[Callable[[int, int | None], None]]:
        return contextlib.nullcontext(lambda done, total: seen.setdefault(f"{what}, {unit}", []).append((done, total)))

    monkeypatch.setattr(catalog.concepts, "CONCEPTS_AT_ONCE", 2)
    monkeypatch.chdir(new_world.folder)
    plan = extraction.make_plan(Study.load(new_world.study))
    with Warehouse(new_world.warehouse) as opened:
        extraction.enter(plan, opened, watch)
        files = len(opened.rows("select image_id from images"))
        concepts = dict(
            opened.rows(
                "select name, count(*) from concepts join concept_sets using (concept_set_id) group by 1"
            ).rows()
        )
        again = dict(seen)
        extraction.enter(plan, opened, watch)
    assert seen == again, "nothing is done twice"
    assert seen.pop("looking at the images, images")[-1] == (files, files)
    assert {what: steps[-1] for what, steps in seen.items()} == {
        f"embedding {name}, concepts": (count, count) for name, count in concepts.items()
    }
    assert seen["embedding shapes, concepts"][0] == (2, concepts["shapes"])


def test_concepts_are_committed_a_few_at_a_time(new_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog.concepts, "CONCEPTS_AT_ONCE", 2)
    embed, asked = clip.Clip.embed_concepts, []

    def failing(self: clip.Clip, names: list[str], templates: list[str]) -> torch.Tensor:
        if len(asked) == 1:
            raise KeyboardInterrupt
        asked.append(list(names))
        return embed(self, names, templates)

    monkeypatch.setattr(clip.Clip, "embed_concepts", failing)
    assert new_world.extract().code == 130
    assert [len(names) for names in asked] == [2]
    assert new_world.rows("select count(*) as n from concept_embeddings") == [{"n": 2}]
    monkeypatch.setattr(
        clip.Clip, "embed_concepts", lambda self, names, t: asked.append(list(names)) or embed(self, names, t)
    )
    assert new_world.extract().code == 0
    assert max(map(len, asked)) == 2
    names = [name for some in asked for name in some]
    assert len(names) == len(set(names)) == new_world.rows("select count(*) as n from concepts")[0]["n"]


def test_a_defective_image_is_in_images_and_nowhere_else(finished: World) -> None:
    defects = {row["path"]: row["defect"] for row in finished.rows("select path, defect from images where defect > ''")}
    assert set(defects) == {f"train/bar/{name}" for name in ("005b.jpg", "010b.png", "012b.png")}
    assert defects["train/bar/005b.jpg"].startswith("unreadable: ")
    assert defects["train/bar/010b.png"] == "blank"
    assert defects["train/bar/012b.png"] == "repeat of 3"
    for table in ("activations", "predictions", "image_embeddings"):
        assert finished.rows(f"select * from {table} natural join images where defect is not null") == []


def test_activations_lie_neuron_after_neuron_within_a_block(finished: World) -> None:
    ids = [row["image_id"] for row in finished.rows("select image_id from image_embeddings order by image_id")]
    blocks = [ids[start : start + BLOCK] for start in range(0, len(ids), BLOCK)]
    assert [len(block) for block in blocks] == [32, 32, 8]
    neurons = [row["neuron_id"] for row in finished.rows("select neuron_id from neurons order by neuron_id")]
    expected = [pair for block in blocks for pair in product(neurons, block)]
    written = finished.frame("select neuron_id, image_id from activations order by rowid").rows()
    assert written == expected


def test_the_ledger_names_every_block_of_everything(finished: World) -> None:
    rows = finished.rows(
        """
        select target, layer, split, list(extraction_blocks.images order by block) as blocks
        from extractions natural join splits natural join extraction_blocks
        left join layers on extractions.layer_id = layers.layer_id group by all
        """
    )
    found = {(row["target"], row["layer"], row["split"]): row["blocks"] for row in rows}
    assert found == {
        **{("activations", layer, "train"): [32, 32, 8] for layer in UNITS},
        **{("activation_maps", layer, "train"): [32, 32, 8] for layer in ("conv1", "conv2")},
        ("image_embeddings", None, "train"): [32, 32, 8],
        ("predictions", None, "train"): [32, 32, 8],
        ("predictions", None, "validation"): [21],
        ("predictions", None, "test"): [18],
    }


def test_every_contract_holds_after_extract_and_modify(modified: World) -> None:
    done = modified.run("check")
    assert (done.code, done.err) == (0, "")
    assert done.out.split()[0] == done.out.split()[2]  # all of them


def test_a_dataset_needs_no_test_split(new_world: World) -> None:
    shutil.rmtree(new_world.folder / "images" / "test")
    assert new_world.extract().code == 0
    assert "Unfinished extractions\nnone" in new_world.run("status").out
    assert new_world.run("check").code == 0
    assert {row["split"] for row in new_world.rows("select * from network_accuracies")} == {"train", "validation"}


# ---------------------------------------------------------------- sums of blocks


def test_top_images_and_statistics_are_those_of_the_stored_activations(world: World) -> None:
    """The views read the sums of three blocks; numpy reads the activations."""
    values = world.frame("""
        select neuron_id, list(value order by image_id) as values, list(image_id order by image_id) as image_ids
        from activations group by neuron_id
    """)
    tops = world.frame("select neuron_id, image_id, value from top_activations order by neuron_id, rank").group_by(
        "neuron_id", maintain_order=True
    )
    statistics = {row["neuron_id"]: row for row in world.rows("select * from neuron_statistics")}
    of_neuron = {neuron: frame for (neuron,), frame in tops}
    assert len(values) == len(statistics) == len(of_neuron) == sum(UNITS.values())
    for neuron, column, image_ids in values.rows():
        column, ids = np.array(column), np.array(image_ids)
        order = np.lexsort((ids, -column))
        assert of_neuron[neuron]["image_id"].to_list() == ids[order].tolist()
        assert of_neuron[neuron]["value"].to_list() == column[order].tolist()
        row = statistics[neuron]
        assert (row["images"], row["lowest"], row["highest"]) == (TRAIN, column.min(), column.max())
        assert (row["mean"], row["sd"]) == (pytest.approx(column.mean()), pytest.approx(column.std(), abs=1e-9))
        assert row["distinct_values"] == len(np.unique(column))
        fired = int((column > column.min()).sum())
        assert row["images_fired"] == (TRAIN if fired == TRAIN - 1 else fired)
