"""p, q and what they make of a label: neuron_labels and layer_summary over scores and nulls that the tests write."""

# ruff: noqa: C408 - rows read like the tables as dict(image_id=1, …)

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.rows import dissection_row, run_view

Row = dict[str, Any]
STEPS = [(0.0, 0.5), (1.0, 0.1), (2.0, 0.01), (3.0, 0.001)]  # z, p


def labels(
    z: list[list[float | None]],
    steps: dict[int, list[tuple[float, float]]],
    similarity: float = 1.0,
    dead: int = 0,
    **dissection: Any,
) -> list[Row]:
    """neuron_labels of layers 1, 2, … with one scored concept a neuron, of this z; then so many dead neurons."""
    neurons = [(10 * layer + unit, layer, value) for layer, of in enumerate(z, 1) for unit, value in enumerate(of)]
    return run_view(
        "neuron_labels",
        dissections=[dissection_row(**dissection)],
        concepts=[dict(concept_id=1, concept_set_id=1, position=0)],
        dissected_neurons=[
            dict(
                dissection_id=1,
                neuron_id=neuron,
                layer_id=layer,
                mean=0.0,
                sd=1.0,
                dead=False,
                sparse=False,
                tied=False,
                images_fired=256,
                null_group=3,
            )
            for neuron, layer, _ in neurons
        ]
        + [
            dict(
                dissection_id=1,
                neuron_id=100 + i,
                layer_id=1,
                mean=0.0,
                sd=0.0,
                dead=True,
                images_fired=0,
                null_group=0,
            )
            for i in range(dead)
        ],
        concept_scores=[
            dict(dissection_id=1, neuron_id=neuron, concept_id=1, similarity=similarity, z=value)
            for neuron, _, value in neurons
        ],
        null_quantiles=[
            dict(dissection_id=1, layer_id=layer, null_group=3, z=value, p=p)
            for layer, of in steps.items()
            for value, p in of
        ],
    )


# ---------------------------------------------------------------- p


@pytest.mark.parametrize(
    ("z", "p"),
    [(-0.1, 1.0), (0.0, 0.5), (0.99, 0.5), (1.0, 0.1), (2.5, 0.01), (3.0, 0.001), (99.0, 0.001), (None, 1.0)],
)
def test_p_is_that_of_the_largest_z_that_a_label_reaches(z, p):
    [row] = labels([[z]], {1: STEPS})
    assert (row["z"], row["p"]) == (z, p)


def test_each_layer_has_its_own_null_and_one_without_has_no_p():
    rows = labels([[1.5], [1.5], [1.5]], {1: STEPS, 2: [(1.4, 0.03)]}, rule="q", q_limit=0.9)
    assert [row["p"] for row in rows] == [0.1, 0.03, None]
    assert [row["q"] for row in rows] == [0.1, 0.03, None]
    assert [row["calibrated"] for row in rows] == [True, True, None]


def test_the_null_of_another_dissection_is_not_this_ones():
    rows = run_view(
        "neuron_labels",
        dissections=[dissection_row(1), dissection_row(2)],
        concepts=[dict(concept_id=1, concept_set_id=1, position=0)],
        dissected_neurons=[
            dict(
                dissection_id=d,
                neuron_id=1,
                layer_id=1,
                mean=0.0,
                sd=1.0,
                dead=False,
                sparse=False,
                tied=False,
                images_fired=256,
                null_group=3,
            )
            for d in (1, 2)
        ],
        concept_scores=[dict(dissection_id=d, neuron_id=1, concept_id=1, similarity=1.0, z=2.0) for d in (1, 2)],
        null_quantiles=[dict(dissection_id=2, layer_id=1, null_group=3, z=0.0, p=0.2)],
    )
    assert [row["p"] for row in rows] == [None, 0.2]


z_values = st.one_of(st.none(), st.floats(-2, 5), st.sampled_from([-1.0, 0.0, 1.0, 2.0, 3.0]))


@settings(max_examples=40, deadline=None)
@given(z=st.lists(z_values, min_size=1, max_size=9))
def test_a_larger_z_never_has_a_larger_p_nor_q(z):
    rows = labels([z], {1: STEPS})
    rising = sorted(rows, key=lambda row: (row["z"] is not None, row["z"]))
    for name in ("p", "q"):
        found = [row[name] for row in rising]
        assert found == sorted(found, reverse=True), name
    assert all(0 < row["p"] <= row["q"] <= 1 for row in rows)


# ---------------------------------------------------------------- q


def benjamini_hochberg(p: list[float]) -> list[float]:
    """The smallest limit at which each test is still rejected: of all p from its own on, the least p · n / rank.

    rank: how many p are at most as large, so that equal p have equal q.
    """
    every = np.asarray(p)
    ranks = np.array([(every <= each).sum() for each in every])
    steps = every * len(every) / ranks
    return [float(steps[every >= each].min()) for each in every]


p_values = st.sampled_from([0.001, 0.004, 0.01, 0.02, 0.03, 0.05, 0.2, 0.5, 0.9, 1.0])


@settings(max_examples=60, deadline=None)
@given(first=st.lists(p_values, min_size=1, max_size=10), second=st.lists(p_values, min_size=1, max_size=10))
def test_q_is_benjamini_and_hochbergs_within_each_layer_whatever_is_equal(first, second):
    every = sorted(set(first + second), reverse=True)
    steps = [(float(i), p) for i, p in enumerate(every)]
    z = [[float(every.index(p)) for p in layer] for layer in (first, second)]
    rows = labels(z, {1: steps, 2: steps}, dead=2)
    for layer, p in ((1, first), (2, second)):
        mine = [row for row in rows if row["layer_id"] == layer and not row["dead"]]
        assert [row["p"] for row in mine] == p
        assert [row["q"] for row in mine] == pytest.approx(benjamini_hochberg(p), rel=1e-12)


def test_q_of_four_neurons_worked_out_by_hand():
    """Benjamini and Hochberg 1995: 0.01 · 4 / 1, 0.02 · 4 / 2, 0.03 · 4 / 3 and 0.5 · 4 / 4."""
    rows = labels([[1.0, 2.0, 3.0, 4.0]], {1: [(1.0, 0.5), (2.0, 0.03), (3.0, 0.02), (4.0, 0.01)]})
    assert [row["q"] for row in rows] == pytest.approx([0.5, 0.04, 0.04, 0.04])


def test_dead_neurons_are_not_tested_and_cost_the_others_nothing():
    rows = labels([[2.5, 0.5]], {1: STEPS}, dead=5)
    assert [row["q"] for row in rows[:2]] == [0.02, 0.5]
    for row in rows[2:]:
        assert [row[name] for name in ("concept_id", "z", "p", "q", "margin")] == [None] * 5
        assert [row[name] for name in ("interpretable", "above_tau", "calibrated")] == [False] * 3


# ---------------------------------------------------------------- interpretable


@pytest.mark.parametrize(
    ("rule", "z", "similarity", "above", "calibrated", "interpretable"),
    [
        ("tau", 3.0, 0.1, False, True, False),
        ("tau", 0.5, 0.9, True, False, True),
        ("q", 3.0, 0.1, False, True, True),
        ("q", 0.5, 0.9, True, False, False),
        ("q", None, 0.9, True, False, False),
        ("q", 2.0, 0.5, False, True, True),  # q = q_limit counts, a score of tau does not
    ],
)
def test_interpretable_is_what_the_rule_of_the_dissection_says(rule, z, similarity, above, calibrated, interpretable):
    [row] = labels([[z]], {1: STEPS}, similarity, rule=rule, tau=0.5, q_limit=0.01)
    assert (row["above_tau"], row["calibrated"], row["interpretable"]) == (above, calibrated, interpretable)


def test_without_a_null_q_decides_nothing_and_tau_still_decides():
    for rule, interpretable in (("tau", True), ("q", None)):
        live, dead = labels([[3.0]], {}, rule=rule, dead=1)
        assert (live["p"], live["q"], live["calibrated"], live["interpretable"]) == (None, None, None, interpretable)
        assert (dead["calibrated"], dead["interpretable"]) == (False, False), "a dead neuron has no label to believe"


def test_the_summary_of_a_layer_without_a_null_counts_nothing_that_is_unknown(scored):
    scored.connection.execute("update dissections set rule = 'q' where dissection_id = 9")
    scored.connection.execute("delete from null_quantiles")
    scored.write({"dissections": [], "null_quantiles": []})
    list(scored.build())
    labelled = scored.rows("select distinct layer from neuron_concepts where concept is not null")["layer"].to_list()
    assert labelled
    for row in scored.rows("select * from layer_summary").to_dicts():
        if row["layer"] not in labelled:  # the one neuron of head, with nothing to decide
            continue
        unknown = ("num_interpretable", "num_uninterpretable", "proportion_interpretable", "num_calibrated")
        assert [row[name] for name in unknown] == [None] * 4
        assert row["num_above_tau"] is not None
    broken = [check.name for check in scored.checks() if len(scored.rows(check.sql))]
    assert "layer_summary_adds_up" not in broken


def test_a_layers_summary_counts_both_rules_whichever_decides(scored):
    for rule, decides in (("tau", "num_above_tau"), ("q", "num_calibrated")):
        scored.connection.execute(f"update dissections set rule = '{rule}' where dissection_id = 9")
        scored.write({"dissections": []})
        list(scored.build())
        rows = scored.rows("select * from layer_summary order by layer").to_dicts()
        assert [row["num_interpretable"] for row in rows] == [row[decides] for row in rows]
        for row in rows:
            counted = scored.rows(
                "select count(*) filter (where above_tau), count(*) filter (where calibrated), "
                "count(concept) - count(p) "
                f"from neuron_concepts where layer = '{row['layer']}'"
            ).row(0)
            assert counted == (row["num_above_tau"], row["num_calibrated"], 0)
    assert 0 < sum(row["num_calibrated"] for row in rows) < sum(row["neurons"] for row in rows)


# ---------------------------------------------------------------- the label itself


def two_concepts(*similarities: float) -> Row:
    [row] = run_view(
        "neuron_labels",
        dissections=[dissection_row()],
        concepts=[dict(concept_id=9 - i, concept_set_id=1, position=i) for i in range(len(similarities))],
        dissected_neurons=[
            dict(
                dissection_id=1,
                neuron_id=1,
                layer_id=1,
                mean=0.0,
                sd=1.0,
                dead=False,
                sparse=False,
                tied=False,
                images_fired=256,
                null_group=256,
            )
        ],
        concept_scores=[
            dict(dissection_id=1, neuron_id=1, concept_id=9 - i, similarity=s, z=float(i))
            for i, s in enumerate(similarities)
        ],
    )
    return row


def test_z_is_of_the_best_score_even_where_another_concept_has_a_larger_one():
    row = two_concepts(0.9, 0.4)
    assert (row["concept_id"], row["z"], row["runner_up_id"], row["margin"]) == (9, 0.0, 8, 0.5)


def test_scores_that_differ_in_their_last_bits_go_to_the_first_concept():
    row = two_concepts(0.3, 0.1 + 0.2, 0.1)
    assert (row["concept_id"], row["similarity"], row["margin"]) == (9, 0.3, 0.0)
    assert two_concepts(0.3, 0.300001, 0.1)["concept_id"] == 8
    assert two_concepts(0.3, 0.1 + 0.2)["concept_id"] is None, "all concepts are alike to it"


def test_a_set_of_one_concept_has_no_runner_up_and_no_margin():
    row = two_concepts(0.3)
    assert (row["concept_id"], row["runner_up_id"], row["margin"]) == (9, None, None)


# ---------------------------------------------------------------- what the user sees


def test_checks_of_another_label_are_not_shown(scored):
    """A check says something of the label that was checked; were the label another, it says nothing."""
    before = scored.rows("select unit, bootstrap_share from neuron_concepts where layer = 'conv' order by unit")
    assert before["bootstrap_share"].to_list() == [0.1, 0.2, None, 0.4]
    scored.connection.execute("update label_checks set concept_id = 99 where neuron_id = 1")
    after = scored.rows("select unit, bootstrap_share from neuron_concepts where layer = 'conv' order by unit")
    assert after["bootstrap_share"].to_list() == [None, 0.2, None, 0.4]


def test_robust_labels_pass_every_test_that_was_run_and_name_them(scored):
    asked = "select layer, unit from neuron_concepts where q <= 0.05 and {} order by all"
    robust = "select layer, unit from robust_labels order by all"
    tests = "select distinct tests from robust_labels"
    both = scored.rows(asked.format("split_half_agrees and q_within <= 0.05")).rows()
    assert scored.rows(robust).rows() == both != []
    assert scored.rows(tests).rows() == [("q, split_half, within_class",)]
    scored.connection.execute("update label_checks set p_within = null")
    assert scored.rows(robust).rows() == [], "an earlier version made them: the test within classes is outstanding"
    scored.connection.execute("update label_checks set z_within_class = null")
    assert scored.rows(robust).rows() == scored.rows(asked.format("split_half_agrees")).rows() != []
    assert scored.rows(tests).rows() == [("q, split_half",)]
    scored.connection.execute("update label_checks set split_half_agrees = false")
    assert scored.rows(robust).rows() == []
    scored.connection.execute("delete from label_checks")
    assert scored.rows(robust).rows() == [], "held against chance alone: calibrated, not robust"


@settings(max_examples=40, deadline=None)
@given(
    first=st.lists(st.one_of(p_values, st.none()), min_size=1, max_size=8),
    second=st.lists(p_values, min_size=1, max_size=8),
)
def test_q_within_is_benjamini_and_hochbergs_over_the_tested_labels_of_a_layer(first, second):
    rows = [(10 * layer + unit, layer, p) for layer, of in ((1, first), (2, second)) for unit, p in enumerate(of)]
    found = run_view(
        "class_tests",
        neuron_labels=[dict(dissection_id=1, neuron_id=n, layer_id=layer, concept_id=n) for n, layer, _ in rows],
        label_checks=[
            dict(dissection_id=1, neuron_id=n, concept_id=n, z_within_class=1.0, p_within=p) for n, _, p in rows
        ],
    )
    q = {row["neuron_id"]: row["q_within"] for row in found}
    for layer, values in ((1, first), (2, second)):
        tested = [p for p in values if p is not None]
        mine = [q[10 * layer + unit] for unit, p in enumerate(values) if p is not None]
        assert mine == (pytest.approx(benjamini_hochberg(tested), rel=1e-12) if tested else [])
    assert all(q[10 + unit] is None for unit, p in enumerate(first) if p is None)


def test_all_labels_are_those_of_every_dissection_and_the_shown_ones_are_marked(scored):
    rows = scored.rows("select * from all_labels")
    stored = scored.rows(
        "select dissection_id, count(*) as n, count(concept_id) as labelled from neuron_labels group by 1"
    )
    counted = rows.group_by("dissection_id").agg(n=pl.len(), labelled=pl.col("concept").count())
    assert len(stored) > 3
    assert sorted(counted.rows()) == sorted(stored.rows())
    key = ["layer", "unit", "concept", "q", "interpretable"]
    shown = rows.filter("shown").select(key).sort(key)
    assert shown.equals(scored.rows("select * from neuron_concepts").select(key).sort(key))
    assert set(rows["scorer"]) == set(scored.rows("select scorer from dissections")["scorer"])


def test_scorers_are_compared_once_where_both_have_a_label(scored):
    rows = scored.rows("select * from scorer_agreements")
    assert (rows["scorer"] < rows["other_scorer"]).all()
    assert 2 not in rows["dissection_id"].to_list() + rows["other_dissection_id"].to_list(), "another concept set"
    kernel = rows.filter(dissection_id=9, other_dissection_id=3)
    assert kernel.height == 6  # the one neuron of head has no label
    assert (kernel["agree"] == (kernel["concept"] == kernel["other_concept"])).all()
    assert rows.filter(dissection_id=1, other_dissection_id=9).height == 0, "the same scorer"
