"""extract, from images and weights to tables: right, complete, resumable, and no more than what is stale."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import product

import duckdb
import numpy as np
import open_clip
import PIL.Image
import pytest
import torch
import torch.nn.functional as F

from dissectdb.extract.models import clip, devices, memory, streams
from dissectdb.extract.record import blocks, catalog, extraction, network_plan
from dissectdb.extract.study import Study
from dissectdb.warehouse import Warehouse
from tests.support.killer import kill
from tests.support.worlds import BLOCK, CLASSES, COUNTS, World, command, draw, save_clip

TRAIN = len(CLASSES) * COUNTS["train"]
UNITS = {"conv1": 4, "conv2": 6, "lin": 8, "gate": 1}


# ---------------------------------------------------------------- the rows are right


def pixels(world: World, split: str | None = None) -> tuple[list[int], torch.Tensor]:
    """Ids of the sound images in order, and what the network sees of them."""
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
    """The network's layers, pooled as the study says, and its logits; written down once more."""
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


def test_texts_that_another_set_has_embedded_are_not_embedded_again(
    new_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_scan_and_the_texts_say_how_far_they_are(new_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_concepts_are_embedded_some_a_transaction(new_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_texts_that_do_not_fit_are_embedded_in_parts(
    new_world: World, finished: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    encode = open_clip.CLIP.encode_text

    def refusing(self: torch.nn.Module, tokens: torch.Tensor, *rest: object) -> torch.Tensor:
        sizes.append(len(tokens))
        if len(tokens) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, tokens, *rest)

    monkeypatch.setattr(open_clip.CLIP, "encode_text", refusing)
    monkeypatch.setattr(memory, "MAX_AT_ONCE", {})
    assert new_world.extract().code == 0
    assert sum(size > 3 for size in sizes) <= 2, "it is not tried again"
    query = (
        "select concept_id, list_transform(embedding, lambda x: round(x, 4)) as e from concept_embeddings order by 1"
    )
    assert new_world.rows(query) == finished.rows(query)


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


# ---------------------------------------------------------------- nothing runs twice


def test_views_of_another_version_are_rebuilt_and_nothing_else_is_done(world: World) -> None:
    # Rounded, because the order of a sum may decide its last digits.
    rounded = ", ".join(f"round({name}, 9) as {name}" for name in ("similarity", "margin", "z", "p", "q"))
    query = f"select * replace ({rounded}) from neuron_labels order by dissection_id, neuron_id"
    labels = world.rows(query)
    with duckdb.connect(str(world.warehouse)) as connection:
        connection.execute("delete from warehouse_info where key = 'views' or key like 'view:%'")
    with Warehouse(world.warehouse) as opened:
        assert opened.rows("select * from dissected_neurons").is_empty()
        assert opened.rows("select * from unlabelled_layers").is_empty()
    assert steps(world) == []
    done = world.extract()
    assert done.code == 0, done.err
    assert done.out.startswith("nothing is stale")
    assert world.rows(query) == labels


def test_a_second_run_finds_nothing_stale_and_changes_no_table(world: World) -> None:
    before, builds = world.tables(), world.rows("select * from view_builds order by view")
    done = world.extract()
    assert done.code == 0
    assert done.out.startswith("nothing is stale")
    assert world.tables() == before
    assert world.rows("select * from view_builds order by view") == builds


def test_a_stopped_run_goes_on_with_the_first_missing_block(
    new_world: World, finished: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []

    def compute(block: blocks.Block, *arguments: object) -> object:
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(block.number)
        return original(block, *arguments)

    original = network_plan.compute
    monkeypatch.setattr(network_plan, "compute", compute)
    assert new_world.extract().code == 130
    assert new_world.rows("select distinct block from extraction_blocks order by 1") == [{"block": 0}, {"block": 1}]
    assert "activations" in new_world.run("status").out.partition("Unfinished extractions")[2]

    left = {row["step"]: row["images"] for row in steps(new_world)}
    assert left["activations conv1 train"] == 8
    assert left["predictions net test"] == 18
    computed.append(-1)  # from here on it runs through
    assert new_world.extract().code == 0
    assert computed == [0, 1, -1, 2, 0, 0]
    assert new_world.tables() == finished.tables()


# ---------------------------------------------------------------- what is stale after a change


def steps(world: World) -> list[dict]:
    """The rows of --dry-run, as the plan has them."""
    from dissectdb.extract.study import Study
    from dissectdb.warehouse import Warehouse

    plan = extraction.make_plan(Study.load(world.study))
    with pytest.MonkeyPatch.context() as patch, Warehouse(world.warehouse, read_only=True) as opened:
        patch.setattr(blocks, "BLOCK", BLOCK)
        return [vars(step) for step in plan.steps(opened)]


def change_weight(world: World) -> None:
    values = torch.load(world.folder / "net.pt", weights_only=True)
    values["params"]["lin.weight"][0, 0] += 0.01
    torch.save(values, world.folder / "net.pt")


def change_image(world: World) -> None:
    image = draw("bar", 0)
    image[0, 0] ^= 1
    PIL.Image.fromarray(image).save(world.folder / "images" / "train" / "bar" / "000.png")


def change_clip(world: World) -> None:
    save_clip(world.folder / "clip.safetensors", world.folder / "tiny-clip.json", seed=3)


ACTIVATIONS = [f"activations {layer} train" for layer in UNITS]
EMBEDDINGS = ["image embeddings tiny-clip train"]
PREDICTIONS = [f"predictions net {split}" for split in COUNTS]
DISSECTIONS = ["dissect by soft_wpmi with looks", "dissect by soft_wpmi with shapes"]
NETWORK = ["activations", "extraction_blocks", "extractions", "layers", "networks", "neurons", "predictions"]
LAYER = ["activations", "extraction_blocks", "extractions", "layers", "neurons"]
IMAGES = ["activations", "classes", "datasets", "extraction_blocks", "extractions", "image_embeddings", "images"]
CONCEPTS = ["concept_embeddings", "concept_sets", "concepts", "dissections"]

CHANGES: dict[str, tuple[Callable[[World], None], list[str], list[str]]] = {
    "a weight of the network": (change_weight, ACTIVATIONS + PREDICTIONS + DISSECTIONS, [*NETWORK, "dissections"]),
    "one pixel of an image": (
        change_image,
        ["scan the images", *ACTIVATIONS, *EMBEDDINGS, *PREDICTIONS, *DISSECTIONS],
        [*IMAGES, "dissections", "predictions", "splits"],
    ),
    "a weight of CLIP": (
        change_clip,
        [*EMBEDDINGS, "embed concepts shapes", "embed concepts looks", *DISSECTIONS],
        ["clips", "concept_embeddings", "dissections", "extraction_blocks", "extractions", "image_embeddings"],
    ),
    "a line of a concept file": (
        lambda world: world.change("round\n", "round\nsquare\n", "looks.txt"),
        ["embed concepts looks", DISSECTIONS[0]],
        CONCEPTS,
    ),
    "the classes of a concept": (
        lambda world: world.change('"nothing" = []', '"nothing" = ["bar"]', "shapes.toml"),
        ["embed concepts shapes", DISSECTIONS[1]],
        ["concept_classes", *CONCEPTS],
    ),
    "a template": (
        lambda world: world.change("a picture of a {}", "a drawing of a {}"),
        ["embed concepts shapes", DISSECTIONS[1]],
        ["concept_classes", *CONCEPTS],
    ),
    "the preprocessing": (
        lambda world: world.change("std = [0.25]", "std = [0.5]"),
        ACTIVATIONS + PREDICTIONS + DISSECTIONS,
        [*NETWORK, "dissections"],
    ),
    "another layer": (
        lambda world: world.change('"gate"]', '"gate", "head"]'),
        ["activations head train", "label head by soft_wpmi with looks", "label head by soft_wpmi with shapes"],
        LAYER,
    ),
    "the pooling of a layer": (
        lambda world: world.change('["conv1", ', '[{ name = "conv1", pooling = "max" }, '),
        ["activations conv1 train", "label conv1 by soft_wpmi with looks", "label conv1 by soft_wpmi with shapes"],
        LAYER,
    ),
    "a parameter of a dissection": (
        lambda world: world.change("softmax_scale = 40.0", "softmax_scale = 41.0"),
        [DISSECTIONS[1]],
        ["dissections"],
    ),
    "the name of the network": (lambda world: world.change('name = "net"', 'name = "other"'), [], []),
    "the name of the dataset": (lambda world: world.change('name = "shapes"\nkind', 'name = "x"\nkind'), [], []),
}


@pytest.mark.parametrize("what", CHANGES)
def test_after_a_change_exactly_what_depends_on_it_is_stale(world: World, what: str) -> None:
    change, stale, growing = CHANGES[what]
    before = world.counts()
    change(world)
    planned = steps(world)
    assert [step["step"] for step in planned] == stale
    done = world.extract()
    assert done.code == 0, done.err
    after = world.counts()
    # Each new dissection, and each new layer of an old one, brings its own null and the checks of its labels.
    growing = {*growing, "label_checks", "labelled_layers", "null_quantiles"} if growing else set()
    # Activations bring their sums, and the few values of some neurons.
    growing |= {"block_tops", "block_sums", "block_values"} if "activations" in growing else set()
    assert {name for name in after if after[name] > before[name]} - {"table_versions"} == growing
    assert all(after[name] >= before[name] for name in before)
    assert steps(world) == []
    # What the plan promised is what came, to the row.
    promised: Counter[str] = Counter()
    for step in planned:
        promised[step["step"].split(" ")[0]] += step["rows"]
    for kind, table in (("activations",) * 2, ("predictions",) * 2, ("image", "image_embeddings"), ("dissect",) * 2):
        table = "dissections" if table == "dissect" else table
        assert after[table] - before[table] == promised[kind], table
    assert after["concept_embeddings"] - before["concept_embeddings"] == promised["embed"]
    assert world.run("check").code == 0


def test_a_change_that_is_taken_back_leaves_nothing_to_do(world: World) -> None:
    world.change("softmax_scale = 40.0", "softmax_scale = 41.0")
    assert world.extract().code == 0
    world.change("softmax_scale = 41.0", "softmax_scale = 40.0")
    done = world.extract()
    assert done.out.startswith("nothing is stale")
    assert world.rows("select max(dissection_id) as newest from dissections") == [{"newest": 3}]


def test_extract_shows_the_results_of_its_own_study(world: World) -> None:
    first = world.extract().out
    world.change("softmax_scale = 40.0", "softmax_scale = 0.5")
    assert world.extract().out.partition("Layers")[2] != first.partition("Layers")[2]
    world.change("softmax_scale = 0.5", "softmax_scale = 40.0")
    assert world.extract().out == first  # though another dissection is newer


def test_two_studies_share_a_warehouse_and_what_they_have_in_common(world: World) -> None:
    other = world.folder / "other.toml"
    other.write_text(world.study.read_text().replace('"conv1", ', "").replace("softmax_scale = 40.0", "tau = 0.5"))
    assert command("extract", other).code == 0
    assert world.counts()["activations"] == TRAIN * sum(UNITS.values())
    assert world.counts()["dissections"] == 3


# ---------------------------------------------------------------- a run that is killed

MOMENTS = {
    "inside the dataset's transaction": ("insert", "datasets", 1),
    "inside a block's transaction": ("insert", "activations", 6),
    "between two blocks": ("commit", "extraction_blocks", 2),
    "inside the last transaction": ("insert", "dissections", 1),
    "while a view is built": ("build", "", 3),
}


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(
    untouched: World, finished: World, copy_world: Callable[[World, str], World]
) -> None:
    worlds = {name: copy_world(untouched, name) for name in MOMENTS}
    kill("extract", {str(worlds[name].study): moment for name, moment in MOMENTS.items()})
    expected = finished.tables()
    for name, world in worlds.items():
        assert world.extract().code == 0, name
        assert world.tables() == expected, name
        assert world.run("check").code == 0, name


# ---------------------------------------------------------------- summed up block by block


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


# ---------------------------------------------------------------- the same again


def contents(world: World) -> list[dict]:
    """What every materialised view holds, as a hash."""
    return world.rows("select view, content, row_count from view_builds order by view")


def test_the_same_study_run_twice_gives_the_same_tables_to_the_last_bit(
    untouched: World, copy_world: Callable[[World, str], World]
) -> None:
    first, again, loose = (copy_world(untouched, name) for name in ("first", "again", "loose"))
    for world, options in ((first, ("--deterministic",)), (again, ("--deterministic",)), (loose, ())):
        assert world.extract(*options).code == 0
        assert world.modify(*options).code == 0
    expected, found = first.tables(), loose.tables()
    assert again.tables() == expected
    assert contents(again) == contents(first)
    assert all('"deterministic": true' in str(row) for row in expected["extractions"])
    assert all('"deterministic": false' in str(row) for row in found["extractions"])
    # Without it, sums of views may end otherwise in their last bits; what the networks said is the same all the same.
    for table in ("activations", "image_embeddings", "concept_embeddings", "predictions", "edit_predictions"):
        assert found[table] == expected[table]


# ---------------------------------------------------------------- memory of the device


def test_a_study_may_choose_other_precisions(new_world: World) -> None:
    assert new_world.extract().code == 0
    assert not torch.backends.cudnn.allow_tf32, "full precision unless asked"
    try:
        assert new_world.extract("--set", "network.precision=tf32", "--set", "clip.precision=bfloat16").code == 0
        assert torch.backends.cudnn.allow_tf32
    finally:
        devices.allow_tf32(False)
    rows = new_world.rows("select distinct target, precision from extractions order by all")
    assert [(row["target"], row["precision"]) for row in rows] == [
        ("activations", "float32"), ("activations", "tf32"),
        ("image_embeddings", "bfloat16"), ("image_embeddings", "float32"),
        ("predictions", "float32"), ("predictions", "tf32"),
    ]  # fmt: skip
    again = new_world.run("check", "--deep", new_world.study, "--set", "clip.precision=bfloat16")
    assert again.code == 0, again.out


@pytest.fixture
def fitting(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """A device on which only so many images fit; returns the sizes of the batches that the network was given."""

    def fit(most: int) -> list[int]:
        sizes: list[int] = []
        run = blocks._run_network

        def refusing(network, layers, pixels, *rest):
            sizes.append(len(pixels))
            if len(pixels) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            run(network, layers, pixels, *rest)

        monkeypatch.setattr(blocks, "_run_network", refusing)
        monkeypatch.setattr(memory, "MAX_AT_ONCE", {})
        monkeypatch.setattr(streams, "count", lambda device: 1)  # as on a GPU, the device that runs out
        return sizes

    return fit


def test_a_batch_that_does_not_fit_is_halved_and_so_are_all_later_ones(
    new_world: World, finished: World, fitting: Callable[[int], list[int]]
) -> None:
    sizes = fitting(6)
    assert new_world.extract().code == 0
    assert sizes[:3] == [20, 10, 5]
    assert max(sizes[2:]) == 5  # it is not tried again
    query = "select neuron_id, image_id, round(value, 4) as value from activations order by all"
    assert new_world.rows(query) == finished.rows(query)
    query = "select network_id, image_id, class, round(confidence, 4) as confidence from predictions order by all"
    assert new_world.rows(query) == finished.rows(query)


def test_a_device_without_memory_for_one_image_is_said_so(
    new_world: World, fitting: Callable[[int], list[int]]
) -> None:
    fitting(0)
    done = new_world.extract()
    assert (done.code, "has too little memory for one image" in done.err) == (2, True)
