"""The study's models beside the pages: any text is searched, a picture is tried, and nothing is stored."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import PIL.Image
import pytest

from dissectdb.extract.study import Study
from dissectdb.live_models import LoadedLater
from dissectdb.warehouse import Warehouse
from tests.support.explorers import HERE, Explorer, explored
from tests.support.guarded import folder_state
from tests.support.pages import Page
from tests.support.waiting import wait_until
from tests.support.worlds import World, save_clip, save_network


def loaded(world: World) -> LoadedLater:
    models = LoadedLater(Study.load(world.study))
    models.start()
    wait_until(lambda: models.state != "loading", "the models are loaded", 60)
    return models


@pytest.fixture(scope="module")
def live(modified: World) -> Iterator[Explorer]:
    models = loaded(modified)
    assert models.state == "ready", models.note
    with explored(modified.warehouse, models=models) as explorer:
        yield explorer


def sent(explorer: Explorer, file: bytes) -> Page:
    answer = explorer.client.post("/try", content=file, headers={"Origin": HERE})
    return Page(answer.text)


def test_a_picture_of_the_probing_set_gives_what_the_warehouse_holds(live, modified):
    images = modified.rows(
        "select image_id, path, predicted_class, confidence from named_images join image_predictions using (image_id) "
        "where network = 'net' and named_images.split = 'train' order by image_id limit 6"
    )
    assert len(images) == 6
    stored = {
        (row["image_id"], row["layer"], row["unit"]): row["value"]
        for row in modified.rows(
            "select image_id, layer, unit, value from activations join named_neurons using (neuron_id)"
        )
    }
    models = loaded(modified)
    for image in images:
        seen = models.look((modified.folder / "images" / image["path"]).read_bytes())
        assert seen.classes[0][0] == image["predicted_class"]
        assert seen.classes[0][1] == pytest.approx(image["confidence"], abs=1e-4)
        assert {layer for layer, _, _ in seen.activations} == {layer for _, layer, _ in stored}
        for (layer, _, _), values in seen.activations.items():
            expected = [stored[image["image_id"], layer, unit] for unit in range(len(values))]
            assert values == pytest.approx(expected, abs=1e-3)


def test_a_concept_has_the_embedding_that_the_warehouse_holds(modified):
    rows = modified.rows(
        "select concept, embedding, templates from concept_embeddings join concepts using (concept_id) "
        "join concept_sets using (concept_set_id)"
    )
    models = loaded(modified)
    for row in rows:
        assert models.embed(row["concept"], row["templates"]) == pytest.approx(row["embedding"], abs=1e-4)


def test_any_text_is_searched(live):
    page = live.searched("a%20green%20hat")
    assert "Cosine" in page.text
    assert page.count("img") > 3
    assert "Any text can be searched." in live.page("/search").text


def test_a_dropped_picture_shows_classes_and_neurons_and_stores_nothing(live, modified):
    file = next((modified.folder / "images" / "test" / "ring").iterdir()).read_bytes()
    before = folder_state(modified.folder)
    page = sent(live, file)
    assert "What the network takes it for" in page.text
    assert all(f"{layer} " in page.text for layer in ("conv1", "conv2", "lin"))
    [source] = [a["src"] for tag, a in page.tags if tag == "img"]
    assert source.startswith("data:image/png;base64,")
    assert folder_state(modified.folder) == before


@pytest.mark.parametrize("file", [b"", b"no picture", b"\xff\xd8\xff\xe0 no more of it", b"<svg onload=alert(1)>" * 99])
def test_what_is_no_picture_is_said(live, file):
    assert "This file could not be read as a picture" in sent(live, file).text


def test_a_file_that_is_too_large_is_refused(live, monkeypatch):
    monkeypatch.setattr("dissectdb.serve.pages.trying.LARGEST", 1000)
    answer = live.client.post("/try", content=b"x" * 5000, headers={"Origin": HERE})
    assert answer.status_code == 413


def test_a_colour_picture_of_any_size_is_taken_as_the_network_takes_its_images(live):
    picture = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (70, 130, 3), np.uint8)
    PIL.Image.fromarray(noise).save(picture, "PNG")
    assert "What the network takes it for" in sent(live, picture.getvalue()).text


def activations(world: World, picture: np.ndarray) -> dict:
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "PNG")
    return loaded(world).look(file.getvalue()).activations


def test_a_picture_of_12_bits_is_read_as_the_study_reads_its_images(world):
    picture = np.random.default_rng(0).integers(0, 4096, (16, 16), np.uint16)
    expected = activations(world, (picture >> 4).astype(np.uint8))
    world.change('kind = "folder"', 'kind = "folder"\nbits = 12')
    for layer, values in activations(world, picture).items():
        assert values == pytest.approx(expected[layer], abs=1e-6)


def test_a_layer_that_the_study_reads_in_another_way_is_not_compared(world):
    with Warehouse(world.warehouse) as warehouse, warehouse.use() as connection:
        connection.execute("update layers set pooling = 'max' where layer = 'conv1'")
    with explored(world.warehouse, models=loaded(world)) as explorer:
        page = sent(explorer, (next((world.folder / "images" / "test" / "ring").iterdir())).read_bytes())
    assert page.text.count("The study does not read this layer, or not in this way.") == 1
    assert "conv2 " in page.text


def test_models_of_another_study_are_refused(world):
    save_network(world.folder / "net.pt", seed=9)
    save_clip(world.folder / "clip.safetensors", world.folder / "tiny-clip.json", seed=9)
    with explored(world.warehouse, models=loaded(world)) as explorer:
        assert "The study's network is not net, which these pages show" in explorer.page("/try").text
        assert "The study's CLIP is not the one that made these labels" in explorer.searched("a%20hat").text


def test_pages_go_on_if_the_models_cannot_be_loaded(world):
    (world.folder / "net.pt").unlink()
    models = loaded(world)
    assert models.state == "failed"
    with explored(world.warehouse, models=models) as explorer:
        assert "The models of the study could not be loaded" in explorer.page("/try").text
        assert explorer.page("/neurons").count("tr") > 1
