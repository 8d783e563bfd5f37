"""What silencing does, in the views: intervals, excess and p against numpy."""

# ruff: noqa: C408 - rows read like the tables as dict(ablation_id=1, …)

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.rows import run_view

KNOWN: dict[str, Any] = dict(
    shown_dissection=[dict(dissection_id=3)],
    networks=[dict(network_id=1, name="net")],
    named_layers=[dict(layer_id=1, layer="lin")],
    named_neurons=[dict(neuron_id=1, network="net", layer="lin", unit=4)],
    neuron_labels=[dict(neuron_id=1, dissection_id=3, concept_id=5)],
    concepts=[dict(concept_id=5, concept="Smile")],
    splits=[dict(split_id=1, split="test")],
)


def ablation(ablation_id: int, images: int, **what: Any) -> dict[str, Any]:
    row = dict(network_id=1, split_id=1, layer_id=1, neuron_id=None, dissection_id=3, concept_id=None, draw=None)
    return row | dict(ablation_id=ablation_id, neurons=2, images=images) | what


def effect(ablation_id: int, name: str, correct: np.ndarray, loss: np.ndarray) -> dict[str, Any]:
    """The row of a class. correct: 1 for an image gained, -1 for one lost, 0 else. loss: its change, of each image."""
    gained, lost = int((correct > 0).sum()), int((correct < 0).sum())
    row = dict(ablation_id=ablation_id, class_=name, images=len(loss), gained=gained, lost=lost, flips=gained + lost)
    return row | dict(loss_change=float(loss.mean()), loss_change_sd=float(loss.std()))


def drawn(random: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray]:
    return random.integers(-1, 2, images), random.normal(random.normal(), random.random() + 0.1, images)


def interval(changes: np.ndarray) -> list[float]:
    """The normal 95 % interval of a mean over images."""
    half = 1.959963984540054 * changes.std() / np.sqrt(len(changes))
    return [changes.mean() - half, changes.mean() + half]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3))
def test_the_effect_of_a_neuron_and_its_intervals_are_those_over_the_images(seed: int, sizes: list[int]) -> None:
    """For each class, and over all classes: the mean and the spread of the pooled images."""
    random = np.random.default_rng(seed)
    classes = {name: drawn(random, size) for name, size in zip("abc", sizes, strict=False)}
    rows = run_view(
        "neuron_effects",
        ablations=[ablation(1, sum(sizes), neuron_id=1, dissection_id=None, neurons=1)],
        ablation_effects=[effect(1, name, *changes) for name, changes in classes.items()],
        **KNOWN,
    )
    parts = list(classes.values())
    pooled = tuple(np.concatenate([part[column] for part in parts]) for column in (0, 1))
    expected: dict[str | None, Any] = {**classes, None: pooled}
    assert {row["class"] for row in rows} == set(expected)
    for row in rows:
        correct, loss = expected[row["class"]]
        assert row["delta_accuracy"] == pytest.approx(correct.mean())
        assert row["delta_loss"] == pytest.approx(loss.mean())
        assert [row["low"], row["high"]] == pytest.approx(interval(correct), abs=1e-7)
        assert [row["loss_low"], row["loss_high"]] == pytest.approx(interval(loss), abs=1e-7)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), draws=st.integers(0, 12), images=st.integers(1, 20), ties=st.booleans())
@example(seed=1, draws=0, images=5, ties=False)
@example(seed=2, draws=1, images=5, ties=True)
def test_a_concept_is_compared_with_random_sets(seed: int, draws: int, images: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    mine = drawn(random, images)
    others = [mine if ties and draw % 2 == 0 else drawn(random, images) for draw in range(draws)]
    [row] = run_view(
        "concept_effects",
        ablations=[
            ablation(1, images, concept_id=5),
            *(ablation(2 + draw, images, draw=1 + draw) for draw in range(draws)),
            ablation(50, images, draw=1, neurons=3),  # of another number of neurons: no control of this concept
        ],
        ablation_effects=[
            effect(1, "a", *mine),
            *(effect(2 + draw, "a", *changes) for draw, changes in enumerate(others)),
            effect(50, "a", np.ones(images), np.full(images, 99.0)),
        ],
        **KNOWN,
    )
    assert (row["draws"], row["delta_accuracy"]) == (draws, pytest.approx(mine[0].mean()))
    assert [row["loss_low"], row["loss_high"]] == pytest.approx(interval(mine[1]), abs=1e-7)
    losses = np.array([loss.mean() for _, loss in others])
    if not draws:
        assert (row["p"], row["excess"], row["random_delta_loss"]) == (None, None, None)
        return
    assert row["p"] == pytest.approx((1 + (losses >= mine[1].mean()).sum()) / (1 + draws))
    assert row["random_delta_loss"] == pytest.approx(losses.mean())
    if len(set(losses)) == 1:
        assert row["excess"] is None, "sets that do not differ say nothing of how far out the concept is"
    else:
        assert row["excess"] == pytest.approx((mine[1].mean() - losses.mean()) / losses.std(), rel=1e-6)
