"""After a change, extract computes exactly what depends on it, and nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import duckdb
import PIL.Image
import pytest
import torch

from dissectdb.extract.record import blocks, extraction, network_plan
from dissectdb.extract.study import Study
from dissectdb.warehouse import Warehouse
from tests.support.worlds import COUNTS, TRAIN, UNITS, World, command, draw, save_clip

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


def test_a_stopped_run_continues_with_the_first_missing_block(
    new_world: World, finished: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []

    def compute(block: blocks.Block, *arguments: object) -> object:
        if block.number >= 0:  # not a sample that is timed
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
    """The rows of `extract --dry-run`, from the plan itself."""
    plan = extraction.make_plan(Study.load(world.study))
    with Warehouse(world.warehouse, read_only=True) as opened:
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

MAPS = [f"activation maps {layer} train" for layer in ("conv1", "conv2")]

EMBEDDINGS = ["image embeddings tiny-clip train"]

PREDICTIONS = [f"predictions net {split}" for split in COUNTS]

DISSECTIONS = ["dissect by soft_wpmi with looks", "dissect by soft_wpmi with shapes"]

NETWORK = ["activations", "extraction_blocks", "extractions", "layers", "networks", "neurons", "predictions"]

OF_MAPS = ["activation_maps", "map_values"]

LAYER = ["activations", "extraction_blocks", "extractions", "layers", "neurons"]

IMAGES = ["activations", "classes", "datasets", "extraction_blocks", "extractions", "image_embeddings", "images"]

CONCEPTS = ["concept_embeddings", "concept_sets", "concepts", "dissections"]

CHANGES: dict[str, tuple[Callable[[World], None], list[str], list[str]]] = {
    "a weight of the network": (
        change_weight,
        ACTIVATIONS + MAPS + PREDICTIONS + DISSECTIONS,
        [*NETWORK, *OF_MAPS, "seen_parts", "dissections"],
    ),
    "one pixel of an image": (
        change_image,
        ["scan the images", *ACTIVATIONS, *MAPS, *EMBEDDINGS, *PREDICTIONS, *DISSECTIONS],
        [*IMAGES, *OF_MAPS, "dissections", "predictions", "splits"],
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
        ACTIVATIONS + MAPS + PREDICTIONS + DISSECTIONS,
        [*NETWORK, *OF_MAPS, "seen_parts", "dissections"],
    ),
    "another layer": (
        lambda world: world.change('"gate"]', '"gate", "head"]'),
        ["activations head train", "label head by soft_wpmi with looks", "label head by soft_wpmi with shapes"],
        LAYER,
    ),
    "the pooling of a layer": (
        lambda world: world.change('["conv1", ', '[{ name = "conv1", pooling = "max" }, '),
        [
            "activations conv1 train",
            MAPS[0],
            "label conv1 by soft_wpmi with looks",
            "label conv1 by soft_wpmi with shapes",
        ],
        [*LAYER, *OF_MAPS],
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
def test_a_change_makes_exactly_what_depends_on_it_stale(world: World, what: str) -> None:
    change, stale, growing = CHANGES[what]
    before = world.counts()
    change(world)
    planned = steps(world)
    assert [step["step"] for step in planned] == stale
    done = world.extract()
    assert done.code == 0, done.err
    after = world.counts()
    # Each new dissection, and each new layer of an old one, brings its own null and the checks of its labels.
    labels = {"judged_layers", "label_checks", "label_measures", "labelled_layers", "null_quantiles"}
    growing = {*growing, *labels} if growing else set()
    # Activations bring their sums, and the few values of some neurons.
    growing |= {"block_tops", "block_sums", "block_values"} if "activations" in growing else set()
    assert {name for name in after if after[name] > before[name]} - {"table_versions"} == growing
    assert all(after[name] >= before[name] for name in before)
    assert steps(world) == []
    # What the plan promised is what came, to the row.
    promised: Counter[str] = Counter()
    for step in planned:
        promised[step["step"].split(" ")[0]] += step["rows"]
    for kind, table in (
        ("activations",) * 2,
        ("activation", "activation_maps"),
        ("predictions",) * 2,
        ("image", "image_embeddings"),
        ("dissect",) * 2,
    ):
        table = "dissections" if table == "dissect" else table
        assert after[table] - before[table] == promised[kind], table
    assert after["concept_embeddings"] - before["concept_embeddings"] == promised["embed"]
    assert world.run("check").code == 0


def test_an_undone_change_leaves_nothing_stale(world: World) -> None:
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


def test_two_studies_in_one_warehouse_share_their_common_rows(world: World) -> None:
    other = world.folder / "other.toml"
    other.write_text(world.study.read_text().replace('"conv1", ', "").replace("softmax_scale = 40.0", "tau = 0.5"))
    assert command("extract", other).code == 0
    assert world.counts()["activations"] == TRAIN * sum(UNITS.values())
    assert world.counts()["dissections"] == 3
