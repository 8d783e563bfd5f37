"""What an edit did, and whether to believe it, against the same numbers worked out with whole numbers and numpy."""

# ruff: noqa: C408 - rows read like the tables as dict(image_id=1, …)

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectdb.extract.editing.intervals import bootstrap
from tests.support.rows import NOON, run_view


def exact_mcnemar(gained: int, lost: int) -> float:
    """Twice the smaller tail of a fair coin thrown gained + lost times, as a fraction of whole numbers."""
    tosses = gained + lost
    tail = sum(math.comb(tosses, heads) for heads in range(min(gained, lost) + 1))
    return float(min(Fraction(2 * tail, 2**tosses), Fraction(1)))


def said(key: str, number: int, images: Sequence[int], right: Sequence[bool], **more: Any) -> list[dict[str, Any]]:
    """What network or edit `number` says of images of class a: a where it is right, else b."""
    rows = zip(images, right, strict=True)
    return [
        {key: number, "image_id": i, "class": "a" if correct else "b", "confidence": 0.5, "loss": 0.5, **more}
        for i, correct in rows
    ]


def measured(
    before: Sequence[bool],
    after: Mapping[int, Sequence[bool]],
    controls: Mapping[int, tuple[int, str]] | None = None,
    **tables: Any,
) -> dict[str, Any]:
    """Tables of one network and its edits over one split: who was right on which image.

    controls: those of `after` that are a control → the edit that they are a control of, and their kind.
    """
    images = range(1, len(before) + 1)
    of = {i: dict(control_of=edit, control=kind) for i, (edit, kind) in (controls or {}).items()}
    return (
        dict(
            splits=[dict(split_id=1, split="test"), dict(split_id=2, split="train")],
            images=[dict(image_id=i, split_id=1, class_="a") for i in images],
            networks=[dict(network_id=1, name="net", classes=list("abc"))],
            dissections=[dict(dissection_id=7, split_id=2)],
            edits=[
                dict(edit_id=i, name=f"edit {i}", network_id=1, dissection_id=7, layer="conv", draw=i)
                | of.get(i, dict(control_of=None, control=None))
                for i in after
            ],
            predictions=said("network_id", 1, images, before),
            edit_predictions=[
                row for i, right in after.items() for row in said("edit_id", i, images, right, loss=0.25)
            ],
            edit_blocks=[dict(edit_id=i, split_id=1, block=0, images=len(before)) for i in after],
        )
        | tables
    )


def pattern(both: int, gained: int, lost: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Right before, and right after, on so many images."""
    before = [True] * both + [False] * gained + [True] * lost + [False] * neither
    return before, [True] * both + [True] * gained + [False] * lost + [False] * neither


def result(*counts: int, **tables: Any) -> dict[str, Any]:
    """The row of one edit that did this."""
    before, after = pattern(*counts)
    [row] = run_view("edit_results", **measured(before, {1: after}, **tables))
    return row


# ---------------------------------------------------------------- counts and p


SIZES = {1: 1, 2: 7, 3: 30, 4: 70}  # split → images
TRIED = (1, 2, 5, 12)  # edits of a network
NETWORKS = 200
NO_COUNTS = dict(images=600, correct_before=0, correct_after=0, loss_before=0.5, loss_after=0.5, changed=0)


def test_a_thousand_edits_have_the_exact_p_and_its_correction():
    """Networks with 1, 2, 5 and 12 edits, each over one of four splits; 1,000 edits in all."""
    random = np.random.default_rng(20)
    first = {split: 1 + sum(size for other, size in SIZES.items() if other < split) for split in SIZES}
    images = [dict(image_id=first[s] + i, split_id=s, class_="a") for s, size in SIZES.items() for i in range(size)]
    edits, before, after, blocks, expected, edit_id = [], [], [], [], {}, 0
    for network in range(1, NETWORKS + 1):
        split = int(random.integers(1, len(SIZES) + 1))
        ids = range(first[split], first[split] + SIZES[split])
        was = random.random(SIZES[split]) < random.random()
        before += said("network_id", network, ids, was)
        tried = TRIED[network % len(TRIED)]
        for _ in range(tried):
            edit_id += 1
            # From edits that change nothing to those that put every image right, or wrong.
            now = np.where(random.random(len(was)) < random.random(), random.random(len(was)) < random.random(), was)
            edits.append(dict(edit_id=edit_id, network_id=network, dissection_id=1, layer="conv", control=None))
            after += said("edit_id", edit_id, ids, now)
            blocks.append(dict(edit_id=edit_id, split_id=split, block=0, images=len(was)))
            expected[edit_id] = (int((now & ~was).sum()), int((was & ~now).sum()), int(was.sum()), len(was), tried)
    rows = run_view(
        "edit_results",
        splits=[dict(split_id=s, split=f"split {s}") for s in SIZES],
        images=images,
        networks=[dict(network_id=i, name="net", classes=list("abc")) for i in range(1, NETWORKS + 1)],
        dissections=[dict(dissection_id=1, split_id=1)],
        edits=edits,
        predictions=before,
        edit_predictions=after,
        edit_blocks=blocks,
    )
    assert len(rows) == len(expected) == NETWORKS // len(TRIED) * sum(TRIED) == 1000
    for row in rows:
        gained, lost, right, count, tried = expected[row["edit_id"]]
        assert (row["gained"], row["lost"], row["changed"]) == (gained, lost, gained + lost)
        assert (row["images"], row["correct_before"]) == (count, right)
        assert row["correct_after"] == right + gained - lost
        assert row["accuracy_after"] == pytest.approx((right + gained - lost) / count)
        p = exact_mcnemar(gained, lost)
        assert row["p_mcnemar"] == pytest.approx(p, rel=1e-8)
        assert 0 < row["p_mcnemar"] <= 1
        assert row["edits_tried"] == tried
        assert row["p_corrected"] == pytest.approx(1 - (1 - p) ** tried, rel=1e-7, abs=1e-12)
        assert row["percentile"] is row["p_random"] is None
    assert {0, 1} <= {min(gained, lost) for gained, lost, *_ in expected.values()}


@pytest.mark.parametrize(
    ("both", "gained", "lost", "neither"), [(3, 0, 0, 1), (0, 5, 0, 0), (0, 0, 1, 0), (10, 7, 7, 3)]
)
def test_edits_at_the_edges_have_the_exact_p(both, gained, lost, neither):
    row = result(both, gained, lost, neither)
    assert row["p_mcnemar"] == pytest.approx(exact_mcnemar(gained, lost), rel=1e-12)
    assert row["verdict"] == "no evidence"


@pytest.mark.parametrize(("gained", "lost"), [(1500, 1400), (2000, 0), (1030, 970), (2500, 2500)])
def test_thousands_of_changed_images_neither_overflow_nor_lose_the_p(gained, lost):
    row = result(100, gained, lost, 100)
    expected = exact_mcnemar(gained, lost)
    if expected > 0:
        assert row["p_mcnemar"] == pytest.approx(expected, rel=1e-7, abs=1e-300)
    assert 0 <= row["p_mcnemar"] <= 1
    assert (row["gained"], row["lost"]) == (gained, lost)


def test_the_published_edit_is_no_proof():
    """At least 48 images gained and 33 lost of 7,178: p ≥ 0.119 before any correction for 72 tries."""
    row = result(4950, 48, 33, 2147)
    assert round(row["p_mcnemar"], 3) == 0.119
    assert row["correct_after"] - row["correct_before"] == 15
    assert row["verdict"] == "no evidence"
    # Of so many images, as few changes, only a difference of half a percent would have been found.
    assert row["detectable"] == pytest.approx(2.8016 * 9 / 7178, rel=1e-4)
    assert row["accuracy_after"] - row["accuracy_before"] < row["detectable"]


def test_losses_are_means_and_the_edited_network_is_named_once_it_is_there():
    row = result(2, 1, 1, 2)
    assert (row["loss_before"], row["loss_after"]) == (0.5, 0.25)
    assert (row["network"], row["split"], row["dissection_id"]) == ("net+edit 1", "test", 7)
    networks = [
        dict(network_id=i, name=name, edit_id=edit, classes=["a", "b"])
        for i, name, edit in [(1, "net", None), (2, "better", 1)]
    ]
    assert result(2, 1, 1, 2, networks=networks)["network"] == "better"


def test_an_edit_says_whether_its_labels_were_made_on_these_images():
    assert not result(2, 1, 1, 2)["is_probing_set"]
    assert result(2, 1, 1, 2, dissections=[dict(dissection_id=7, split_id=1)])["is_probing_set"]


def test_splits_are_counted_apart_and_images_without_a_class_do_not_count():
    truth = ["a", "a", "a", "b", None]
    before, after = [True, False, True, True, True], [True, True, False, False, True]
    rows = run_view(
        "edit_results",
        **measured(
            before,
            {1: after},
            images=[dict(image_id=i, split_id=2 if i < 3 else 1, class_=name) for i, name in enumerate(truth, 1)],
            edit_blocks=[dict(edit_id=1, split_id=1, block=0, images=3), dict(edit_id=1, split_id=2, images=2)],
        ),
    )
    counted = [(row["split"], row["images"], row["correct_before"], row["gained"], row["lost"]) for row in rows]
    assert counted == [("test", 2, 1, 1, 1), ("train", 2, 1, 1, 0)]


@pytest.mark.parametrize("blocks", [[], [dict(edit_id=1, split_id=1, block=0, images=4)]])
def test_an_edit_that_was_not_measured_over_the_whole_split_has_no_row(blocks):
    before, after = pattern(2, 1, 1, 2)
    assert run_view("edit_results", **measured(before, {1: after}, edit_blocks=blocks)) == []


@settings(max_examples=25, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=30))
def test_paired_outcomes_have_the_exact_p(pairs):
    """The view that edit_results and network_changes take p_mcnemar from."""
    numbered = list(enumerate(pairs, start=1))
    rows = run_view(
        "paired_outcomes",
        images=[dict(image_id=i) for i in range(600)],
        edits=[dict(edit_id=i, control=None) for i, _ in numbered],
        edit_outcomes=[
            dict(edit_id=i, split_id=1, gained=gained, lost=lost) | NO_COUNTS for i, (gained, lost) in numbered
        ],
    )
    assert [(row["gained"], row["lost"]) for row in rows] == pairs
    for row in rows:
        assert row["p_mcnemar"] == pytest.approx(exact_mcnemar(row["gained"], row["lost"]), rel=1e-9)


def test_an_edit_and_the_same_predictions_of_another_network_have_the_same_p():
    before, after = pattern(9, 7, 2, 5)
    tables = measured(before, {1: after})
    tables["networks"].append(dict(network_id=2, name="other", classes=list("abc")))
    tables["predictions"] += said("network_id", 2, range(1, len(after) + 1), after, loss=0.25)
    [edit] = run_view("edit_results", **tables)
    [forth, back] = run_view("network_changes", **tables)
    assert forth["p_mcnemar"] == back["p_mcnemar"] == edit["p_mcnemar"] == pytest.approx(exact_mcnemar(7, 2), rel=1e-12)
    assert (forth["network"], forth["other_network"], forth["gained"], forth["lost"]) == ("net", "other", 7, 2)
    assert (back["network"], back["other_network"], back["gained"], back["lost"]) == ("other", "net", 2, 7)
    assert (forth["loss"], forth["other_loss"]) == (0.5, 0.25)


# ---------------------------------------------------------------- beside controls

WAS = [True] * 10 + [False] * 20


def right(count: int) -> list[bool]:
    return [True] * count + [False] * (30 - count)


def with_controls(own: int, drawn: Sequence[int], others: int = 0) -> dict[str, Any]:
    """An edit that gets `own` right, its random controls, and other edits of the network."""
    after = {1: right(own)} | {10 + i: right(count) for i, count in enumerate(drawn)}
    after |= {1000 + i: right(10) for i in range(others)}
    return measured(WAS, after, {10 + i: (1, "random") for i in range(len(drawn))})


@pytest.mark.parametrize(
    ("drawn", "percentile", "p"),
    [
        ([9, 10, 11, 12], 1.0, 1 / 5),
        ([20, 20], 0.5, 1.0),
        ([9, 20, 21], 0.5, 3 / 4),
        ([25, 26, 27], 0.0, 1.0),
        ([1] * 99, 1.0, 0.01),
    ],
)
def test_an_edit_lies_among_its_random_controls_ties_counting_half(drawn, percentile, p):
    [row] = run_view("edit_results", **with_controls(20, drawn))
    assert row["percentile"] == pytest.approx(percentile)
    assert row["p_random"] == pytest.approx(p)
    assert row["p_corrected"] == pytest.approx(p)
    [row, *_] = run_view("edit_results", **with_controls(20, drawn, others=2))
    assert (row["edits_tried"], row["p_corrected"]) == (3, pytest.approx(1 - (1 - p) ** 3))


def test_controls_are_counted_by_kind_and_no_control_has_a_result_of_its_own():
    kinds = {2: (1, "random"), 3: (1, "random"), 4: (1, "matched"), 5: (1, "all"), 7: (6, "random")}
    after = {1: right(14), 2: right(12), 3: right(15), 4: right(9), 5: right(14), 6: right(11), 7: right(11)}
    tables = measured(WAS, after, kinds)
    found = {(row["edit_id"], row["control"]): row for row in run_view("edit_controls", **tables)}
    numbers = ("draws", "difference", "lowest", "mean", "highest", "percentile", "p")
    assert {key: tuple(row[name] for name in numbers) for key, row in found.items()} == {
        (1, "random"): (2, 4, 2, 3.5, 5, 0.5, pytest.approx(2 / 3)),
        (1, "matched"): (1, 4, -1, -1, -1, 1, 0.5),
        (1, "all"): (1, 4, 4, 4, 4, 0.5, 1),
        (6, "random"): (1, 1, 1, 1, 1, 0.5, 1),
    }
    assert [row["edit_id"] for row in run_view("edit_results", **tables)] == [1, 6]
    draws = run_view("edit_control_draws", **tables)
    assert [(row["control_id"], row["difference"], row["difference_of_edit"]) for row in draws] == [
        (2, 2, 4), (3, 5, 4), (4, -1, 4), (5, 4, 4), (7, 1, 1)
    ]  # fmt: skip


def scales(of: Mapping[int, Sequence[float]], bias: Mapping[int, float] | None = None) -> list[dict[str, Any]]:
    """What edits multiply the neurons 1, 2, … by; bias: what some multiply the biases by, in place of 1."""
    return [
        dict(edit_id=edit, neuron_id=neuron, scale=scale, bias_scale=(bias or {}).get(edit, 1.0))
        for edit, row in of.items()
        for neuron, scale in enumerate(row, 1)
    ]


def test_controls_that_are_the_edit_itself_compare_nothing():
    """Random neurons of an edit that scales all alike; labels of shuffled images still differ, and so do biases."""
    kinds = {2: (1, "random"), 3: (1, "random"), 4: (1, "all"), 5: (1, "shuffled"), 6: (1, "bias")}
    after = {1: right(20)} | dict.fromkeys((2, 3, 4), right(20)) | {5: right(12), 6: right(20)}
    uniform = dict.fromkeys((1, 2, 3, 4, 6), (1.5, 1.5)) | {5: (1.5, 0.5)}
    tables = measured(WAS, after, kinds, edit_scales=scales(uniform, bias={6: 1.5}))
    found = {row["control"]: row for row in run_view("edit_controls", **tables)}
    assert {kind: (row["draws"], row["difference"], row["percentile"], row["p"]) for kind, row in found.items()} == {
        "random": (2, 10, None, None),
        "all": (1, 10, None, None),
        "shuffled": (1, 10, 1, 0.5),
        "bias": (1, 10, 0.5, 1),
    }
    [row] = run_view("edit_results", **tables)
    assert row["percentile"] is row["p_random"] is None
    assert row["p_corrected"] == row["p_mcnemar"] == pytest.approx(exact_mcnemar(10, 0))


def test_a_draw_that_happens_to_be_the_edit_counts_among_the_others():
    kinds = dict.fromkeys((2, 3, 4), (1, "random"))
    after = {1: right(20), 2: right(20), 3: right(12), 4: right(12)}
    drawn = scales({1: (1.5, 0.5), 2: (1.5, 0.5), 3: (0.5, 1.5), 4: (0.5, 1.5)})
    tables = measured(WAS, after, kinds, edit_scales=drawn)
    [row] = run_view("edit_controls", **tables)
    assert (row["draws"], row["percentile"], row["p"]) == (3, pytest.approx(2.5 / 3), 0.5)
    assert [row["is_edit"] for row in run_view("edit_control_draws", **tables)] == [True, False, False]


@pytest.mark.parametrize(
    ("own", "drawn", "others", "verdict"),
    [
        (20, [10] * 99, 0, "helped"),
        (20, [10] * 99, 2, "helped"),  # 1 - 0.99 ** 3 = 0.03
        (20, [10] * 99, 9, "no evidence"),  # 1 - 0.99 ** 10 = 0.096: the best of ten is no surprise
        (20, [21] * 99, 0, "no evidence"),  # as any random edit
        (20, [], 0, "helped"),  # by p_mcnemar alone
        (14, [10] * 99, 0, "no evidence"),  # p_mcnemar = 0.125
        (2, [10] * 99, 9, "harmed"),  # which needs no control
        (10, [1] * 99, 0, "no evidence"),  # nothing changed
    ],
)
def test_a_verdict_takes_both_tests_to_help_and_one_to_harm(own, drawn, others, verdict):
    [row, *_] = run_view("edit_results", **with_controls(own, drawn, others))
    assert row["verdict"] == verdict


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 4), (30, 10)])
def test_the_detectable_difference_follows_from_how_many_images_changed(gained, lost):
    row = result(60, gained, lost, 40)
    images = 100 + gained + lost
    if gained + lost == 0:
        assert row["detectable"] is None
    else:
        assert row["detectable"] == pytest.approx((1.959964 + 0.841621) * math.sqrt(gained + lost) / images, rel=1e-6)


def test_a_difference_that_is_called_detectable_is_found_four_times_in_five():
    """McNemar's exact test, on images of which one in ten changes, drawn a thousand times."""
    random, images, changed = np.random.default_rng(3), 4000, 400
    row = result(3600, 220, 180, 0)
    better = row["detectable"] * images  # gained - lost that ought to be found
    drawn = random.binomial(changed, (1 + better / changed) / 2, size=1000)
    exact = {int(gained): exact_mcnemar(int(gained), changed - int(gained)) for gained in set(drawn)}
    found = np.mean([exact[int(gained)] <= 0.05 for gained in drawn])
    assert 0.74 < found < 0.85


# ---------------------------------------------------------------- the order of edits


def test_edits_rank_by_right_images_then_loss_then_age_and_controls_take_no_part():
    after = {1: right(12), 2: right(14), 3: right(14), 4: right(14), 5: right(29)}
    tables = measured(WAS, after, {5: (1, "random")})
    losses = {1: 0.1, 2: 0.4, 3: 0.3, 4: 0.3, 5: 0.0}
    tables["edit_predictions"] = [row | dict(loss=losses[row["edit_id"]]) for row in tables["edit_predictions"]]
    tables["edits"].append(dict(edit_id=6, network_id=2, name="of another network"))
    tables["networks"].append(dict(network_id=2, name="another", classes=["a", "b"]))
    tables["predictions"] += said("network_id", 2, range(1, 31), WAS)
    tables["edit_predictions"] += said("edit_id", 6, range(1, 31), right(30))
    tables["edit_blocks"].append(dict(edit_id=6, split_id=1, block=0, images=30))
    rows = run_view("edit_rankings", **tables)
    assert {row["edit_id"]: (row["rank"], row["edits_tried"]) for row in rows} == {
        3: (1, 4), 4: (2, 4), 2: (3, 4), 1: (4, 4), 6: (1, 1)
    }  # fmt: skip


@pytest.mark.parametrize(("choices", "shown"), [([], 2), ([1], 1)])
def test_the_edit_that_was_chosen_is_shown_else_the_newest(choices, shown):
    edits = [dict(edit_id=edit, dissection_id=1, control=None) for edit in (1, 2)]
    edits.append(dict(edit_id=3, dissection_id=1, control="random"))
    outcomes = [dict(edit_id=edit, split_id=split) for edit in (1, 2, 3) for split in (1, 2)]
    chosen = [dict(edit_id=edit, split_id=1, edits_tried=2, chosen_at=NOON) for edit in choices]
    [row] = run_view("latest_edits", edits=edits, edit_outcomes=outcomes, edit_choices=chosen)
    assert (row["edit_id"], row["last_split_id"]) == (shown, 2)


# ---------------------------------------------------------------- images that changed class


def flipped(**tables: Any) -> dict[str, Any]:
    """Six images: gained, lost, other, unchanged, without a class, gained."""
    truth = ["a", "a", "a", "a", None, "b"]
    before, after = ["b", "a", "b", "a", "a", "c"], ["a", "c", "c", "a", "b", "b"]
    confidence = [0.41, 0.99, 1.0, 0.5, 0.7, 0.4]
    images = range(1, 7)
    return measured(
        [True] * 6,
        {1: [True] * 6, 2: [True] * 6},
        {2: (1, "random")},
        images=[dict(image_id=i, split_id=1, class_=truth[i - 1]) for i in images],
        predictions=[
            dict(network_id=1, image_id=i, class_=before[i - 1], confidence=confidence[i - 1]) for i in images
        ],
        edit_predictions=[
            dict(edit_id=e, image_id=i, class_=after[i - 1], confidence=0.8) for e in (1, 2) for i in images
        ],
        **tables,
    )


def test_flips_are_the_images_whose_class_changed_and_say_which_way():
    rows = run_view("edit_flips", **flipped())
    assert [(row["edit_id"], row["image_id"], row["kind"]) for row in rows] == [
        (1, 1, "gained"), (1, 2, "lost"), (1, 3, "other"), (1, 5, None), (1, 6, "gained")
    ]  # fmt: skip
    assert (rows[0]["true_class"], rows[0]["class_before"], rows[0]["class_after"]) == ("a", "b", "a")
    assert rows[0]["confidence_before"] == pytest.approx(0.41)
    assert rows[0]["confidence_after"] == pytest.approx(0.8)


def test_flips_are_counted_by_true_class_and_by_confidence():
    rows = run_view("edit_flips_by_class", **flipped())
    assert [(row["true_class"], row["flips"], row["gained"], row["lost"]) for row in rows] == [
        ("a", 3, 1, 1), ("b", 1, 1, 0)
    ]  # fmt: skip
    rows = run_view("edit_flips_by_confidence", **flipped())
    assert [(row["confidence"], row["flips"], row["gained"], row["lost"]) for row in rows] == [
        (pytest.approx(0.4), 2, 2, 0), (pytest.approx(0.7), 1, 0, 0), (pytest.approx(0.9), 2, 0, 1)
    ]  # fmt: skip


def test_a_concept_speaks_once_for_an_image_through_the_neurons_that_changed_it_most():
    shares = [(1, 1, 1, 3.0), (1, 2, 2, 1.0), (1, 3, 3, 0.5), (2, 1, 1, 4.0), (6, 3, 1, 2.0)]
    rows = run_view(
        "edit_flips_by_concept",
        **flipped(
            edit_causes=[
                dict(edit_id=1, image_id=image, neuron_id=neuron, rank=rank, contribution=share)
                for image, neuron, rank, share in shares
            ],
            neuron_labels=[dict(dissection_id=7, neuron_id=n, concept_id=c) for n, c in [(1, 1), (2, 1), (3, 2)]],
            concepts=[dict(concept_id=1, concept="Smile"), dict(concept_id=2, concept="Beard")],
        ),
    )
    assert [tuple(row[key] for key in ("concept", "flips", "gained", "lost", "contribution")) for row in rows] == [
        ("Beard", 2, 2, 0, pytest.approx(1.25)),
        ("Smile", 2, 1, 1, pytest.approx(3.0)),  # image 1: the mean of 3 and 1
    ]


# ---------------------------------------------------------------- calibration


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Guo et al. 2017, equation 5, with fifteen bins [k/15, (k+1)/15)."""
    edges = np.linspace(0, 1, 16)
    places = np.clip(np.digitize(confidence, edges) - 1, 0, 14)
    total = 0.0
    for place in set(places):
        mine = places == place
        total += mine.mean() * abs(correct[mine].mean() - confidence[mine].mean())
    return total


@pytest.mark.parametrize("seed", range(4))
def test_the_calibration_error_is_that_of_numpy(seed):
    random = np.random.default_rng(seed)
    count = (5, 40, 200, 300)[seed]
    before, after = random.random(count) < 0.6, random.random(count) < 0.7
    sure = random.uniform(0.2, 1, size=(2, count)).astype(np.float32)
    sure[0, 0] = 1.0
    tables = measured(before, {1: after})
    for name, values in (("predictions", sure[0]), ("edit_predictions", sure[1])):
        tables[name] = [row | dict(confidence=float(v)) for row, v in zip(tables[name], values, strict=True)]
    [row] = run_view("edit_results", **tables)
    assert row["ece_before"] == pytest.approx(calibration_error(sure[0].astype(float), before), abs=1e-6)
    assert row["ece_after"] == pytest.approx(calibration_error(sure[1].astype(float), after), abs=1e-6)


# ---------------------------------------------------------------- intervals


@pytest.mark.parametrize(("images", "gained", "lost"), [(300, 20, 10), (1000, 5, 40), (50, 25, 25), (400, 3, 0)])
def test_a_bootstrap_interval_is_that_of_drawing_gains_and_losses(images, gained, lost):
    """Resampling images with both predictions draws how many are gained, lost and the same."""
    differences = np.array([1] * gained + [-1] * lost + [0] * (images - gained - lost))
    low, high = bootstrap(np.random.default_rng(1).permutation(differences)[None], 8000, seed=5)
    shares = np.array([gained, lost, images - gained - lost]) / images
    drawn = np.random.default_rng(2).multinomial(images, shares, size=100_000)
    expected = np.quantile((drawn[:, 0] - drawn[:, 1]) / images, [0.025, 0.975])
    spread = math.sqrt(gained + lost - (gained - lost) ** 2 / images) / images
    assert (low[0], high[0]) == pytest.approx(tuple(expected), abs=1.01 / images + 0.06 * spread)


def test_a_bootstrap_interval_of_losses_is_about_that_of_the_normal_distribution():
    differences = np.random.default_rng(3).normal(0.2, 1.5, size=(1, 2000))
    low, high = bootstrap(differences, 4000, seed=1)
    half = 1.96 * differences.std() / math.sqrt(2000)
    assert low[0] == pytest.approx(differences.mean() - half, abs=0.07 * half)
    assert high[0] == pytest.approx(differences.mean() + half, abs=0.07 * half)


def test_all_edits_are_resampled_over_the_same_images():
    one = np.random.default_rng(4).integers(-1, 2, size=90)
    low, high = bootstrap(np.stack([one, one, -one, np.ones(90)]), 500, seed=9)
    assert (low[0], high[0]) == (low[1], high[1])
    assert (low[2], high[2]) == pytest.approx((-high[0], -low[0]), abs=1e-6)
    assert (low[3], high[3]) == (1, 1)
    again = bootstrap(one[None], 500, seed=9)
    assert (low[0], high[0]) == pytest.approx((again[0][0], again[1][0]), abs=1e-7)
    other = bootstrap(one[None], 500, seed=10)
    assert (other[0][0], other[1][0]) != (again[0][0], again[1][0])
