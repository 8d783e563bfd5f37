"""The views that compare two dissections, against the same figures computed in Python."""

# ruff: noqa: C408 - rows read like the tables as dict(image_id=1, …)

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.support.rows import run_view


def made_labels(seed: int, neurons: int = 6) -> dict[str, list[dict[str, Any]]]:
    """Dissections 1 and 2 of network 1 and its edit 2, which share layers b and c; each has its own concept set."""
    random, tested = np.random.default_rng(seed), 1 + seed % 2  # only the first was held against chance, or both were
    rows: dict[str, list[dict[str, Any]]] = dict(layers=[], neurons=[], neuron_labels=[], concepts=[])
    rows["networks"] = [dict(network_id=1, parent_network_id=None), dict(network_id=2, parent_network_id=1)]
    for side, (layers, texts) in enumerate([("abc", "rstu"), ("bcd", "stuv")], 1):
        rows["concepts"] += [
            dict(concept_id=10 * side + i, concept_set_id=side, position=i, concept=text)
            for i, text in enumerate(texts)
        ]
        for position, layer in enumerate(layers):
            layer_id = 10 * side + position
            rows["layers"].append(
                dict(layer_id=layer_id, network_id=side, layer=layer, pooling="avg", call=None, position=position)
            )
            for unit in range(neurons + (side == 2)):  # the second has one neuron more
                neuron_id = 1000 * side + 100 * position + unit
                dead = bool(random.random() < 0.2) or (seed == 0 and layer == "c")
                concept = int(random.integers(len(texts)) if random.random() < 0.6 else 2 - side + 1)
                rows["neurons"].append(dict(neuron_id=neuron_id, layer_id=layer_id, unit=unit))
                rows["neuron_labels"].append(
                    dict(dissection_id=side, neuron_id=neuron_id, concept_id=None if dead else 10 * side + concept,
                         similarity=None if dead else float(random.random()), z=None if dead else 1.5,
                         q=None if dead or side > tested else float(random.random()),
                         calibrated=not dead and side <= tested and bool(random.random() < 0.5),
                         interpretable=not dead and bool(random.random() < 0.5))
                )  # fmt: skip
    return rows


def by_place(rows: dict[str, list[dict[str, Any]]], side: int) -> dict[tuple[str, int], dict[str, Any]]:
    """The labels of a dissection by layer and unit, with the concept as text."""
    texts = {row["concept_id"]: row["concept"] for row in rows["concepts"]}
    layers = {row["layer_id"]: row["layer"] for row in rows["layers"]}
    places = {row["neuron_id"]: (layers[row["layer_id"]], row["unit"]) for row in rows["neurons"]}
    return {
        places[label["neuron_id"]]: label | dict(concept=texts.get(label["concept_id"]))
        for label in rows["neuron_labels"]
        if label["dissection_id"] == side
    }


@pytest.mark.parametrize("seed", range(6))
def test_label_changes_match_neurons_by_layer_and_unit_and_labels_by_text(seed):
    rows = made_labels(seed)
    sides = {side: by_place(rows, side) for side in (1, 2)}
    found = run_view("label_changes", **rows)
    assert len(found) == 2 * len(sides[1].keys() & sides[2].keys()) == 24
    for row in found:
        mine, theirs = (sides[row[key]][row["layer"], row["unit"]] for key in ("dissection_id", "other_dissection_id"))
        for key in ("concept", "similarity", "z", "q", "calibrated", "interpretable"):
            assert (row[key], row[f"other_{key}"]) == (mine[key], theirs[key])
        one, other = mine["concept"], theirs["concept"]
        assert row["same"] == (one == other if one and other else None)
        expected = {(True, True): "kept" if one == other else "moved", (True, False): "vanished",
                    (False, True): "appeared", (False, False): "none"}  # fmt: skip
        assert row["kind"] == expected[bool(one), bool(other)]


@pytest.mark.parametrize("seed", range(6))
def test_layer_changes_are_counted_and_compared_with_every_order_of_the_labels(seed):
    rows = made_labels(seed)
    changes = run_view("label_changes", **rows)
    found = run_view("layer_changes", **rows)
    assert [(row["dissection_id"], row["layer"]) for row in found] == [(1, "b"), (1, "c"), (2, "b"), (2, "c")]
    for row in found:
        keys = ("dissection_id", "other_dissection_id", "layer")
        of_layer = [change for change in changes if all(change[key] == row[key] for key in keys)]
        pairs = [(change["concept"], change["other_concept"]) for change in of_layer if change["same"] is not None]
        kinds = Counter(change["kind"] for change in of_layer)
        assert (row["neurons"], row["num_labelled"]) == (len(of_layer), len(pairs))
        assert row["num_same_label"] == kinds["kept"]
        assert (row["num_vanished"], row["num_appeared"]) == (kinds["vanished"], kinds["appeared"])
        for key in ("calibrated", "other_calibrated", "interpretable", "other_interpretable"):
            column = f"other_num_{key.removeprefix('other_')}" if key.startswith("other") else f"num_{key}"
            assert row[column] == sum(change[key] for change in of_layer)
        both = [change for change in of_layer if change["calibrated"] and change["other_calibrated"]]
        expected = [len(both), sum(change["same"] for change in both)]
        for key in ("q", "other_q"):
            column = "other_share_calibrated" if key == "other_q" else "share_calibrated"
            is_tested = any(change[key] is not None for change in of_layer)
            assert (row[column] is not None) == is_tested
            expected = expected if is_tested else [None, None]
        assert [row["num_calibrated_in_both"], row["num_calibrated_same"]] == expected
        if not pairs:
            assert row["share_same"] is row["same_by_chance"] is row["chance_sd"] is row["kappa"] is None
            continue
        mine, theirs = zip(*pairs, strict=True)
        equal = [sum(a == b for a, b in zip(mine, order, strict=True)) for order in itertools.permutations(theirs)]
        assert row["same_by_chance"] == pytest.approx(np.mean(equal))
        assert row["chance_sd"] == pytest.approx(np.std(equal), abs=1e-6)
        open_to_it = len(pairs) - np.mean(equal)
        expected = pytest.approx((kinds["kept"] - np.mean(equal)) / open_to_it) if open_to_it > 1e-9 else None
        assert row["kappa"] == expected


@pytest.mark.parametrize("seed", range(4))
def test_network_changes_are_those_of_the_images_that_both_networks_saw(seed):
    random = np.random.default_rng(seed)
    truth = {i: None if random.random() < 0.1 else str(random.integers(2)) for i in range(60)}
    said = {n: {i: str(random.integers(2 + n % 2)) for i in truth if random.random() < 0.9} for n in (1, 2)}
    found = run_view(
        "network_changes",
        networks=[dict(network_id=n, name=f"net {n}", classes=list("012")) for n in said],
        splits=[dict(split_id=s, dataset_id=1, split=f"split {s}") for s in (1, 2)],
        images=[dict(image_id=i, split_id=1 + i % 2, class_=name) for i, name in truth.items()],
        predictions=[
            dict(network_id=n, image_id=i, class_=name, loss=float(n)) for n in said for i, name in said[n].items()
        ],
    )
    assert [(row["network_id"], row["split_id"]) for row in found] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for row in found:
        mine, theirs = said[row["network_id"]], said[row["other_network_id"]]
        asked = [i for i in truth if 1 + i % 2 == row["split_id"] and truth[i] and i in mine and i in theirs]
        gained = sum(mine[i] != truth[i] == theirs[i] for i in asked)
        lost = sum(theirs[i] != truth[i] == mine[i] for i in asked)
        assert (row["images"], row["gained"], row["lost"]) == (len(asked), gained, lost)
        assert row["correct"] == sum(mine[i] == truth[i] for i in asked) == row["accuracy"] * len(asked)
        assert row["other_correct"] - row["correct"] == gained - lost
        assert row["changed"] == sum(mine[i] != theirs[i] for i in asked)
        assert (row["loss"], row["other_loss"]) == (row["network_id"], row["other_network_id"])
        tail = sum(math.comb(gained + lost, k) for k in range(min(gained, lost) + 1)) / 2 ** (gained + lost)
        assert row["p_mcnemar"] == pytest.approx(min(1, 2 * tail))


@pytest.mark.parametrize(
    ("parents", "pairs"),
    [
        ((None, 1, 1, 2, None), {(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)}),  # 4 is an edit of an edit
        ((None, None, 1, 2, 2), {(1, 3), (2, 4), (2, 5), (4, 5)}),
    ],
)
def test_neurons_are_matched_by_unit_in_a_network_and_its_edits_only(parents, pairs):
    ids = range(1, len(parents) + 1)
    label = dict(concept_id=1, similarity=1.0, z=1.0, q=0.1, calibrated=False, interpretable=True)
    rows = run_view(
        "label_changes",
        networks=[dict(network_id=i, parent_network_id=parent) for i, parent in zip(ids, parents, strict=True)],
        layers=[dict(layer_id=i, network_id=i, layer="a", pooling="avg", call=None, position=0) for i in ids],
        neurons=[dict(neuron_id=i, layer_id=i, unit=7) for i in ids],
        neuron_labels=[label | dict(dissection_id=i, neuron_id=i) for i in ids],
        concepts=[dict(concept_id=1, concept_set_id=1, position=0, concept="x")],
    )
    found = {(row["dissection_id"], row["other_dissection_id"]) for row in rows}
    assert found == pairs | {(b, a) for a, b in pairs}
