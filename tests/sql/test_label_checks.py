"""Which checks each label passes (label_tests, robust_labels), and the counts per layer and per dissection."""

# ruff: noqa: C408 - rows read like the tables as dict(layer="conv", …)

from __future__ import annotations

import math

from tests.support.rows import run_view


def label(unit: int, **changes: object) -> dict[str, object]:
    row = dict(network="net", layer="conv", unit=unit, concept="Smile", similarity=0.5, z=4.0, p=0.001, q=0.01,
               calibrated=True, z_within_class=None, p_within=None, q_within=None, split_half_agrees=None,
               bootstrap_share=0.5,
               dissection_id=1)  # fmt: skip
    return row | changes


def within(q: float) -> dict[str, float]:
    return dict(z_within_class=3.0, p_within=q / 2, q_within=q)


DISSECTIONS = [dict(dissection_id=1, q_limit=0.05)]
LABELS = [
    label(0, split_half_agrees=True, **within(0.05)),
    label(1, split_half_agrees=True, **within(0.06)),
    label(2, split_half_agrees=False, **within(0.05)),
    label(3, split_half_agrees=True),
    label(4),
    label(5, calibrated=False, p=0.9, split_half_agrees=True, **within(0.01)),
    label(6, calibrated=None, p=None, split_half_agrees=True),
]


def test_a_robust_label_passes_chance_and_each_other_test_that_was_run():
    rows = {row["unit"]: row for row in run_view("label_tests", neuron_concepts=LABELS, dissections=DISSECTIONS)}
    assert [unit for unit, row in sorted(rows.items()) if row["robust"]] == [0, 3]
    assert [rows[unit]["beats_classes"] for unit in range(4)] == [True, False, True, None]
    assert [rows[unit]["beats_chance"] for unit in (0, 5, 6)] == [True, False, None]
    robust = run_view("robust_labels", neuron_concepts=LABELS, dissections=DISSECTIONS)
    assert {row["unit"]: row["tests"] for row in robust} == {0: "q, split_half, within_class", 3: "q, split_half"}


def test_a_label_whose_test_within_classes_is_outstanding_is_neither_robust_nor_not():
    old = [label(0, split_half_agrees=True, z_within_class=3.0), label(1, split_half_agrees=True, **within(0.01))]
    rows = {row["unit"]: row for row in run_view("label_tests", neuron_concepts=old, dissections=DISSECTIONS)}
    assert [rows[unit]["robust"] for unit in (0, 1)] == [None, True]
    assert [row["unit"] for row in run_view("robust_labels", neuron_concepts=old, dissections=DISSECTIONS)] == [1]
    [row] = run_view("layer_checks", neuron_concepts=old, layer_summary=[layer()], dissections=DISSECTIONS)
    assert (row["num_outstanding"], row["num_robust"], row["share_robust"]) == (1, None, None)


def layer(**changes: object) -> dict[str, object]:
    row = dict(network="net", layer="conv", neurons=8, num_above_tau=2, num_calibrated=5, position=0, dissection_id=1)
    return row | changes


def test_counts_of_a_layer_are_null_where_the_test_was_not_run():
    [row] = run_view("layer_checks", neuron_concepts=LABELS, layer_summary=[layer()], dissections=DISSECTIONS)
    assert (row["num_agreeing"], row["num_halved"], row["num_within_class"], row["num_classed"]) == (3, 4, 2, 3)
    assert (row["num_robust"], row["num_tested"], row["share_robust"]) == (2, 4, 0.5)
    assert row["share_calibrated"] == 0.625
    only_chance = [label(0), label(1, calibrated=False, split_half_agrees=True, **within(0.01))]
    [row] = run_view("layer_checks", neuron_concepts=only_chance, layer_summary=[layer()], dissections=DISSECTIONS)
    assert row["num_calibrated"] == 5
    assert row["num_agreeing"] is row["num_within_class"] is row["num_robust"] is row["share_robust"] is None
    assert (row["num_halved"], row["num_classed"], row["num_tested"]) == (0, 0, 0)
    untested = [label(0, p=None, calibrated=None)]
    [row] = run_view("layer_checks", neuron_concepts=untested, layer_summary=[layer()], dissections=DISSECTIONS)
    assert row["num_calibrated"] is row["share_calibrated"] is None


def test_the_changes_of_a_dissection_are_the_sums_of_its_layers():
    shared = dict(dissection_id=1, other_dissection_id=2, share_calibrated=None,
                  other_share_calibrated=0.5, num_calibrated=1, other_num_calibrated=2,
                  num_calibrated_in_both=None, num_calibrated_same=None)  # fmt: skip
    layers = [
        shared | dict(layer="a", neurons=4, num_labelled=4, num_same_label=3, same_by_chance=1.5, chance_sd=3.0),
        shared | dict(layer="b", neurons=6, num_labelled=2, num_same_label=0, same_by_chance=0.5, chance_sd=4.0),
    ]
    [row] = run_view("dissection_changes", layer_changes=layers)
    assert (row["neurons"], row["num_labelled"], row["num_same_label"]) == (10, 6, 3)
    assert (row["share_same"], row["same_by_chance"]) == (0.5, 2.0)
    assert math.isclose(row["chance_sd"], 5.0)  # the variances add up
    assert (row["is_tested"], row["is_other_tested"]) == (False, True)
    assert (row["num_calibrated_in_both"], row["num_calibrated_same"]) == (0, None)


def test_the_reach_of_words_is_what_the_best_one_explains_of_what_clip_does() -> None:
    names = dict(
        shown_dissection=[dict(dissection_id=1)],
        named_neurons=[dict(neuron_id=i, network="net", layer="conv", unit=i) for i in range(1, 7)],
        concepts=[dict(concept_id=i, concept=name) for i, name in enumerate(("smile", "frown", "tears"), 1)],
    )
    places = [(1, 1, 1), (2, 1, 1), (2, 2, 3), (2, 3, 2), (3, 1, 1), (4, 1, 1), (5, 1, 1), (6, 1, 1)]
    words = [
        dict(dissection_id=1, neuron_id=neuron, place=place, concept_id=concept, weight=1.0, gain=0.1 * (place - 1))
        for neuron, place, concept in places
    ]
    explained = {1: (0.5, 0.8), 2: (0.5, 0.8), 3: (0.2, 0.8), 4: (0.05, 0.8), 5: (0.05, 0.05)}  # each ± 0.1
    reaches = [
        dict(dissection_id=1, neuron_id=neuron, explained=r, explained_low=r - 0.1, explained_high=r + 0.1,
             explainable=whole, explainable_low=whole - 0.1, explainable_high=whole + 0.1)
        for neuron, (r, whole) in explained.items()
    ]  # fmt: skip
    rows = run_view("neuron_words", label_words=words, label_reach=reaches, **names)
    assert [(row["unit"], row["words"], row["reach"]) for row in rows] == [
        (1, "smile", "one concept"),
        (2, "smile + tears + frown", "several concepts"),
        (3, None, "no concept of this list"),
        (4, None, "no concept of this list"),
        (5, None, "nothing that CLIP sees"),
        (6, "smile", None),
    ]
    assert rows[1]["gain"] == 0.1 + 0.2
