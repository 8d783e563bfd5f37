"""Search by text: the embeddings of neurons, their z and q, against numpy; and what the page says meanwhile."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dissectdb import ROOT
from dissectdb.serve import embeddings
from dissectdb.serve.embeddings import Embedded, false_discovery_rates
from dissectdb.serve.snapshot import frame
from tests.serve.conftest import TESTED
from tests.support.explorers import explored
from tests.support.report_warehouses import Plan, filled
from tests.support.waiting import wait_until


def asked(explorer, query):
    with explorer.store.shared.cursor(None, 10) as cursor:
        return frame(cursor, query, {})


def expected(explorer, text: np.ndarray) -> dict[tuple[str, int], tuple[float, float]]:
    """Cosine and z of each neuron, straight from the definition."""
    images = asked(
        explorer,
        "select image_id, embedding from image_embeddings join images using (image_id) "
        "where split_id = 1 and defect is null order by image_id",
    )
    vectors = dict(zip(images["image_id"], np.array(images["embedding"].to_list()), strict=True))
    everything = np.array(list(vectors.values()))
    cosines = everything @ text
    top = asked(explorer, f"select layer, unit, image_id from top_images where rank <= {embeddings.IMAGES}")
    means = {
        key: np.mean([vectors[image] for image in rows["image_id"]], axis=0)
        for key, rows in top.partition_by("layer", "unit", as_dict=True).items()
    }
    counts = {key: len(rows) for key, rows in top.partition_by("layer", "unit", as_dict=True).items()}
    answer = {}
    for (layer, unit), mean in means.items():
        of_layer = np.mean([other for (name, _), other in means.items() if name == layer], axis=0)
        own = mean - of_layer
        z = (mean @ text - cosines.mean()) / (cosines.std() / np.sqrt(counts[layer, unit]))
        answer[layer, unit] = (float(own @ text / np.linalg.norm(own)), float(z))
    return answer


def test_cosines_and_z_are_those_of_the_definition(tested):
    held = Embedded.of(tested.store.reading())
    text = np.random.default_rng(3).normal(size=held.means.shape[1])
    text /= np.linalg.norm(text)
    found = held.nearest(text.tolist(), most=100)
    known = expected(tested, text)
    assert {(row["layer"], row["unit"]) for row in found} == known.keys()
    assert [row["cosine"] for row in found] == sorted((row["cosine"] for row in found), reverse=True)
    for row in found:
        assert (row["cosine"], row["z"]) == pytest.approx(known[row["layer"], row["unit"]], rel=1e-3, abs=1e-4)


def test_reading_in_parts_gives_the_same(tested, monkeypatch):
    whole = Embedded.of(tested.store.reading())
    monkeypatch.setattr(embeddings, "IMAGES_AT_ONCE", 3)
    parts = Embedded.of(tested.store.reading())
    text = [0.5] * whole.means.shape[1]
    for row, other in zip(parts.nearest(text, 20), whole.nearest(text, 20), strict=True):
        assert (row["layer"], row["unit"], row["images"]) == (other["layer"], other["unit"], other["images"])
        assert (row["cosine"], row["z"], row["q"]) == pytest.approx((other["cosine"], other["z"], other["q"]), abs=1e-4)


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(-6, 30)))
def test_q_is_that_of_benjamini_and_hochberg(z):
    from statistics import NormalDist

    p = np.array([NormalDist().cdf(-value) for value in z])
    smallest = [min(len(p) * p[k] / np.sum(p <= p[k]) for k in range(len(p)) if p[k] >= mine) for mine in p]
    assert false_discovery_rates(z) == pytest.approx(np.minimum(smallest, 1), rel=1e-6, abs=1e-12)


def test_images_drawn_at_random_have_a_uniform_p():
    """z of neurons whose images are random is standard normal, whatever the text."""
    random = np.random.default_rng(0)
    images = random.normal(size=(4000, 12)) * np.linspace(0.2, 2, 12) + 0.3
    chosen = np.array([random.choice(4000, 16, replace=False) for _ in range(2000)])
    means = images[chosen].mean(1)
    centred = images - images.mean(0)
    held = Embedded(
        ["layer"],
        np.arange(2000),
        np.zeros(2000, int),
        means.astype(np.float32),
        np.full(2000, 16),
        means.mean(0, keepdims=True),
        np.linalg.norm(means - means.mean(0), axis=1),
        images.mean(0),
        centred.T @ centred / 4000,
    )
    z = np.array([row["z"] for row in held.nearest(random.normal(size=12).tolist(), 2000)])
    assert abs(z.mean()) < 0.08
    assert z.std() == pytest.approx(1, abs=0.06)
    assert np.mean(z > 1.645) == pytest.approx(0.05, abs=0.02)


def test_a_concept_is_found_without_a_model(tested):
    page = tested.searched("frown")
    assert "Cosine" in page.text
    assert all(layer in page.text for layer in TESTED.layers)


def test_another_text_needs_clip_and_the_page_says_so(tested):
    page = tested.searched("a%20green%20hat")
    assert "«a green hat» is not among the concepts, so that CLIP has to embed it" in page.text
    assert "start with: dissectdb serve --study STUDY" in page.text


def test_the_page_says_what_the_numbers_mean(tested):
    assert "It does not say that the neuron finds what the text says" in tested.page("/search").text


def test_what_cannot_be_read_is_said(tmp_path, monkeypatch):
    path = tmp_path / "warehouse.duckdb"
    with filled(path, TESTED):
        pass

    def fails(reading):
        raise ValueError("of two lengths")

    monkeypatch.setattr(Embedded, "of", fails)
    with explored(path) as explorer:
        said = "The embeddings could not be read: of two lengths"
        wait_until(lambda: said in explorer.get("/search").text, "the page says what went wrong")


def test_a_search_follows_the_file(tmp_path):
    path = tmp_path / "warehouse.duckdb"
    with filled(path, TESTED):
        pass
    changes = (
        "update top_activations set image_id = 25 - image_id",
        "update view_builds set content = 'another' where view = 'top_activations'",
    )
    opened = f"Warehouse({str(path)!r}, wait=60) as warehouse, warehouse.use() as connection"
    run = (
        f"from dissectdb.warehouse import Warehouse\nwith {opened}:\n    for it in {changes!r}: connection.execute(it)"
    )
    with explored(path) as explorer:
        before = explorer.searched("frown").cells
        subprocess.run([sys.executable, "-c", run], cwd=ROOT, check=True)
        assert explorer.searched("frown").cells != before
        text = np.array(asked(explorer, "select embedding from concept_embeddings where concept_id = 1")[0, 0])
        known = expected(explorer, text)
        best = max(known, key=lambda neuron: known[neuron][0])
        first = next(a["href"] for tag, a in explorer.searched("frown").tags if "/neuron?" in (a.get("href") or ""))
        assert first == f"/neuron?layer={best[0]}&unit={best[1]}"


def test_without_embeddings_the_page_says_so(tmp_path):
    path = tmp_path / "warehouse.duckdb"
    with filled(path, Plan(edits=0)) as warehouse:
        warehouse.connection.execute("delete from image_embeddings")
    with explored(path) as explorer:
        assert "The warehouse holds no embeddings of images" in explorer.searched("smile").text
