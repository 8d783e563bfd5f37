"""Concepts that CLIP can hardly tell apart, and concepts that are nearer to another class than to their own."""

# ruff: noqa: C408 - rows read like the tables as dict(concept_id=1, …)

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectdb.extract import concepts
from dissectdb.extract.concepts import overlaps
from dissectdb.extract.study import Study
from tests.models.test_clip import write as write_clip
from tests.support.chat_server import FACES, Maker, answer
from tests.support.rows import embedding_rows, run_view, unit_length
from tests.support.worlds import STUDY, command

# ---------------------------------------------------------------- similarities in the embedding of CLIP


def unit(*rows: list[float]) -> torch.Tensor:
    return torch.from_numpy(unit_length(rows))


def test_near_duplicates_are_the_pairs_above_the_threshold_nearest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = unit([1, 0], [0, 1], [1, 0.1], [1, 0.3], [-1, 0])
    for rows in (1, 2, 100):
        monkeypatch.setattr(overlaps, "ROWS", rows)
        found = overlaps.near_duplicates(embeddings, list("abcde"), 0.95)
        assert [(pair.concept, pair.other) for pair in found.closest] == [("a", "c"), ("c", "d"), ("a", "d")]
        assert found.closest[0].similarity == pytest.approx(1 / 1.01**0.5)
        assert (found.pairs, found.concepts) == (3, 3)
        assert overlaps.near_duplicates(embeddings, list("abcde"), -1).pairs == 9  # all but the opposites
    assert overlaps.near_duplicates(embeddings[:1], ["a"], 0.0) == overlaps.NearDuplicates([], 0, 0)


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(1, 40),
    seed=st.integers(0, 1000),
    threshold=st.sampled_from([-1.0, 0.0, 0.7]),
    rows=st.integers(1, 9),
)
def test_all_near_duplicates_are_counted_and_only_the_closest_are_listed(
    count: int, seed: int, threshold: float, rows: int
) -> None:
    embeddings = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = embeddings @ embeddings.T
    near = np.argwhere(np.triu(cosines > threshold, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlaps, "ROWS", rows)
        names = [str(index) for index in range(count)]
        found = overlaps.near_duplicates(torch.from_numpy(embeddings), names, threshold, most_pairs=5)
    assert (found.pairs, found.concepts) == (len(near), len(np.unique(near)))
    closest = sorted((cosines[row, column] for row, column in near), reverse=True)[:5]
    assert [pair.similarity for pair in found.closest] == pytest.approx(closest, abs=1e-5)
    for pair in found.closest:
        assert pair.similarity == pytest.approx(cosines[int(pair.concept), int(pair.other)], abs=1e-5)


def test_a_concept_nearer_to_a_class_that_it_does_not_stand_for_is_named() -> None:
    classes_of = {"Smile": ("happy",), "Tears": ("happy", "fear"), "Nose": (), "Frown": ("sad",)}
    embeddings = unit([1, 0, 0], [0, 1, 0.5], [0, 1, 0], [0, 1, 0.1])
    found = overlaps.nearer_elsewhere(classes_of, embeddings, torch.eye(3), ["happy", "sad", "fear"])
    assert [(row.concept, row.stands_for, row.nearer_to) for row in found] == [("Tears", "happy, fear", "sad")]
    assert found[0].similarity == pytest.approx(0.5 / 1.25**0.5)
    assert found[0].its_similarity == pytest.approx(1 / 1.25**0.5)


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of the tiny world, with a CLIP of random weights and its concept sets, without images or a network."""
    folder = tmp_path_factory.mktemp("checked")
    write_clip(folder, "tiny-checked")
    (folder / "shapes.toml").write_text('[concepts]\n"bar" = ["bar"]\n"disc" = ["disc", "ring"]\n"ring" = ["disc"]\n')
    (folder / "looks.txt").write_text("bright\ndark\n")
    text = STUDY.replace("clip.safetensors", "tiny-checked.safetensors").replace("tiny-clip", "tiny-checked")
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


def test_check_compares_concepts_in_the_prompts_of_the_study(study_file: Path) -> None:
    done = command("concepts", "check", study_file.parent / "shapes.toml", "--study", study_file, "--threshold", "-1")
    assert (done.code, done.err) == (0, "")
    assert "Near-duplicates\n" in done.out
    assert "Nearer to a class that they do not stand for\n" in done.out
    reader = overlaps.load(Study.load(study_file))
    words = ["bar", "disc", "ring"]
    embeddings = reader.clip.embed_concepts(words, ["{}", "a picture of a {}"])
    torch.testing.assert_close(reader.embed(words), embeddings)
    torch.testing.assert_close(reader.embed(["new"]), reader.clip.embed_concepts(["new"], ["{}"]))
    for pair in overlaps.near_duplicates(embeddings, words, -1).closest:
        assert f"{pair.similarity:.4f}" in done.out
    # The class disc has the text of the concept disc, so that the concept ring, of class disc, is nearer to none.
    assert "ring     disc" in done.out.partition("Nearer")[2]


def test_check_counts_what_it_does_not_list(study_file: Path) -> None:
    shapes = study_file.parent / "shapes.toml"
    every_pair = ("concepts", "check", shapes, "--study", study_file, "--threshold", "-1")
    assert "3 of 3 concepts are in 3 pairs above -1\n" in command(*every_pair).out
    done = command(*every_pair, "--pairs", "2")
    assert "3 of 3 concepts are in 3 pairs above -1; the closest 2 are listed\n" in done.out
    assert len(re.findall(r"0\.\d{4}$", done.out.partition("Nearer")[0], re.MULTILINE)) == 2


def test_check_of_a_list_without_classes_only_looks_for_duplicates(study_file: Path) -> None:
    done = command("concepts", "check", study_file.parent / "looks.txt", "--study", study_file, "--threshold", "1")
    assert (done.code, done.err) == (0, "")
    assert "none above 1\n" in done.out
    assert done.out.endswith("none\n")


def test_check_refuses_a_bad_list_before_it_loads_anything(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("Smile\nSmile\n")
    done = command("concepts", "check", tmp_path / "words.txt", "--study", "none.toml")
    assert done.code == 2
    assert "holds 1 concept" in done.err


def test_generate_with_a_study_shows_near_duplicates(maker: Maker, study_file: Path) -> None:
    maker.server.answers(answer(FACES))
    done = maker.generate("--study", study_file, "--threshold", "-1", "--number", 3)
    assert (done.code, done.err) == (0, ""), done.err
    table = done.out.partition("Near-duplicates\n")[2]
    assert table.count("\n") == 2 + 3 + 1
    assert table.endswith("3 of 3 concepts are in 3 pairs above -1\n")
    assert maker.output.exists()


def test_list_names_the_sets_that_ship_and_help_names_every_command() -> None:
    lines = [line.strip("| ").split() for line in command("concepts", "list").out.splitlines()]
    assert ["emotions", "7"] in lines
    assert ["facial_expressions", "25"] in lines
    sizes = {name: int(count[0].replace(",", "")) for name, *count in lines if name.startswith("general")}
    assert sizes["general:textures"] == len(concepts.read("general:textures"))
    assert sizes.pop("general") == sum(sizes.values())
    out = command("concepts", "--help").out
    for name in ("list", "check", "generate", "label"):
        assert name in out
        assert len(command("concepts", name, "--help").out) > 200


# ---------------------------------------------------------------- the view


def words_of(set_id: int, first: int, **classes: list[str]) -> dict[str, list[dict[str, Any]]]:
    return dict(
        concepts=[
            dict(concept_id=first + i, concept_set_id=set_id, position=i, concept=name)
            for i, name in enumerate(classes)
        ],
        concept_classes=[
            dict(concept_id=first + i, class_=name) for i, names in enumerate(classes.values()) for name in names
        ],
        concept_sets=[dict(concept_set_id=set_id, name=f"set {set_id}")],
    )


def similarities(*sets: dict[str, list[dict[str, Any]]], **embedded: list[list[float]]) -> list[dict[str, Any]]:
    """The view's rows, for embeddings of concepts 1, 2, …."""
    tables = {table: [row for each in sets for row in each[table]] for table in sets[0]}
    rows = unit_length(embedded["embeddings"])
    return run_view(
        "concept_class_similarities",
        **tables,
        concept_embeddings=embedding_rows("concept_id", range(1, len(rows) + 1), rows),
    )


def test_each_concept_is_compared_with_each_class_beside_the_map() -> None:
    rows = similarities(
        words_of(1, 1, Smile=["happy"], Tears=["happy", "tired"], Nose=[]),
        words_of(2, 4, happy=["happy"], sad=["sad"]),
        embeddings=[[1, 0], [0.6, 0.8], [0, 1], [1, 0], [0, 1]],
    )
    columns = [*rows[0]]
    assert columns[:6] == ["concept_set", "concept", "class", "similarity", "rank", "mapped"]
    assert columns[6:] == ["clip_id", "concept_set_id", "concept_id"]
    first = [(r["concept"], r["class"], r["rank"], r["mapped"]) for r in rows if r["concept_set"] == "set 1"]
    assert first == [("Smile", "happy", 1, True), ("Tears", "happy", 1, True), ("Nose", "happy", 1, False)]
    second = {(r["concept"], r["class"]): (r["rank"], r["mapped"]) for r in rows if r["concept_set"] == "set 2"}
    assert second[("sad", "sad")] == (1, True)
    assert second[("sad", "happy")] == (2, False)
    assert [r["similarity"] for r in rows if r["concept"] == "Tears"] == [pytest.approx(0.6)]


def test_the_texts_of_all_classes_come_from_one_set_that_holds_most_of_them() -> None:
    rows = similarities(
        words_of(1, 1, Smile=["happy"], Tears=["sad"]),
        words_of(2, 3, happy=["happy"], sad=["sad"]),
        words_of(3, 5, sad=[], grey=[]),
        embeddings=[[1, 0], [0.6, 0.8], [1, 0], [0, 1], [1, 1], [1, 1]],
    )
    found = {(r["concept"], r["class"]): r["similarity"] for r in rows if r["concept_set"] == "set 1"}
    assert len(found) == 4
    assert found[("Tears", "sad")] == pytest.approx(0.8)  # of set 2, although set 3 is newer
    assert not [r for r in rows if r["concept_set"] == "set 3"]  # it names no classes


def test_without_a_text_of_a_class_there_is_nothing_to_compare() -> None:
    assert similarities(words_of(1, 1, Smile=["happy"], Tears=["sad"]), embeddings=[[1, 0], [0, 1]]) == []
