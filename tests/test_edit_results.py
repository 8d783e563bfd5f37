"""What an edit did, against the same numbers worked out with whole numbers."""

# ruff: noqa: C408 - rows read like the tables as dict(image_id=1, …)

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from conftest import run_view
from hypothesis import example, given, settings
from hypothesis import strategies as st


def exact_mcnemar(gained: int, lost: int) -> float:
    """Twice the smaller tail of a fair coin thrown gained + lost times, as a fraction of whole numbers."""
    tosses = gained + lost
    tail = sum(math.comb(tosses, heads) for heads in range(min(gained, lost) + 1))
    return float(min(Fraction(2 * tail, 2**tosses), Fraction(1)))


def interval(gained: int, lost: int, images: int) -> tuple[float, float]:
    """Wald's interval of the mean of +1, −1 and 0, from the variance of those numbers."""
    mean = (gained - lost) / images
    squares = gained * (1 - mean) ** 2 + lost * (-1 - mean) ** 2 + (images - gained - lost) * mean**2
    half = 1.959963984540054 * math.sqrt(squares / images / images)
    return mean - half, mean + half


def predictions(network_id: int, right: list[bool], losses: float) -> list[dict[str, Any]]:
    return [
        dict(network_id=network_id, image_id=i, class_="a" if correct else "b", loss=losses)
        for i, correct in enumerate(right, 1)
    ]


def results(
    both: int, gained: int, lost: int, neither: int, *, edits_tried: int = 1, split_of: int = 1
) -> dict[str, Any]:
    """The row of edit 1, whose network was before and after right on so many images."""
    before = [True] * both + [False] * gained + [True] * lost + [False] * neither
    after = [True] * both + [True] * gained + [False] * lost + [False] * neither
    network = [dict(network_id=1, name="net", edit_id=None), dict(network_id=2, name="edited", edit_id=1)]
    [row] = run_view(
        "edit_results",
        images=[dict(image_id=i, split_id=split_of, class_="a") for i in range(1, len(before) + 1)],
        splits=[dict(split_id=split_of, split="test")],
        networks=network,
        edits=[dict(edit_id=i + 1, network_id=1, dissection_id=7, layer="conv") for i in range(edits_tried)],
        predictions=predictions(1, before, 0.5) + predictions(2, after, 0.25),
    )
    return row


counts = st.integers(0, 40)


def check(row: dict[str, Any], both: int, gained: int, lost: int, neither: int) -> None:
    images = both + gained + lost + neither
    assert (row["images"], row["gained"], row["lost"]) == (images, gained, lost)
    assert (row["correct_before"], row["correct_after"]) == (both + lost, both + gained)
    assert row["accuracy_before"] == pytest.approx((both + lost) / images)
    assert row["accuracy_after"] == pytest.approx((both + gained) / images)
    assert row["p_mcnemar"] == pytest.approx(exact_mcnemar(gained, lost), rel=1e-8)
    assert 0 < row["p_mcnemar"] <= 1
    low, high = interval(gained, lost, images)
    assert (row["low"], row["high"]) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


@settings(max_examples=40, deadline=None)
@given(both=counts, gained=counts, lost=counts, neither=st.integers(1, 40))
@example(both=3, gained=0, lost=0, neither=1)
@example(both=0, gained=5, lost=0, neither=0)
@example(both=0, gained=0, lost=1, neither=0)
@example(both=10, gained=7, lost=7, neither=3)
@example(both=4935, gained=48, lost=33, neither=2162)
def test_counts_interval_and_exact_p_are_those_of_whole_numbers(both, gained, lost, neither):
    check(results(both, gained, lost, neither), both, gained, lost, neither)


@pytest.mark.parametrize(("gained", "lost"), [(1500, 1400), (2000, 0), (1030, 970), (2500, 2500)])
def test_thousands_of_changed_images_neither_overflow_nor_lose_the_p(gained, lost):
    row = results(100, gained, lost, 100)
    expected = exact_mcnemar(gained, lost)
    if expected > 0:
        assert row["p_mcnemar"] == pytest.approx(expected, rel=1e-7, abs=1e-300)
    assert 0 <= row["p_mcnemar"] <= 1
    assert (row["gained"], row["lost"]) == (gained, lost)


def test_the_published_edit_is_no_proof():
    """At least 48 images gained and 33 lost: p ≥ 0.119 before any correction for 72 tries."""
    row = results(4950, 48, 33, 2147, edits_tried=72)
    assert round(row["p_mcnemar"], 3) == 0.119
    assert row["p_corrected"] == 1
    assert row["correct_after"] - row["correct_before"] == 15
    assert row["low"] < 0 < row["high"]


def test_the_p_is_corrected_for_the_edits_of_the_network():
    row = results(50, 12, 1, 5, edits_tried=10)
    assert row["p_corrected"] == pytest.approx(10 * exact_mcnemar(12, 1))


def test_losses_are_means_and_the_edited_network_is_named():
    row = results(2, 1, 1, 2)
    assert (row["loss_before"], row["loss_after"]) == (0.5, 0.25)
    assert (row["network"], row["split"], row["dissection_id"]) == ("edited", "test", 7)


def test_splits_are_counted_apart_and_images_without_a_class_do_not_count():
    truth = ["a", "a", "a", "b", None]
    rows = run_view(
        "edit_results",
        images=[dict(image_id=i, split_id=1 + (i > 2), class_=name) for i, name in enumerate(truth, 1)],
        splits=[dict(split_id=1, split="train"), dict(split_id=2, split="test")],
        networks=[dict(network_id=1, name="net"), dict(network_id=2, name="edited", edit_id=1)],
        edits=[dict(edit_id=1, network_id=1)],
        predictions=predictions(1, [True, False, True, True, True], 0.5)
        + predictions(2, [True, True, False, False, True], 0.5),
    )
    counted = [(row["split"], row["images"], row["correct_before"], row["gained"], row["lost"]) for row in rows]
    assert counted == [("train", 2, 1, 1, 0), ("test", 2, 1, 1, 1)]


def test_an_edited_network_that_has_not_been_evaluated_has_no_row():
    rows = run_view(
        "edit_results",
        images=[dict(image_id=1, split_id=1, class_="a")],
        splits=[dict(split_id=1, split="test")],
        networks=[dict(network_id=1, name="net"), dict(network_id=2, name="edited", edit_id=1)],
        edits=[dict(edit_id=1, network_id=1)],
        predictions=predictions(1, [True], 0.5),
    )
    assert rows == []
