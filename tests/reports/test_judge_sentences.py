"""A method is called best only if it is better than each other, beyond chance, on the neurons that both label."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from dissectdb.commands.terminal import found_judgements
from dissectdb.reports.judge import content
from dissectdb.reports.judge_sentences import compared

Row = dict[str, Any]
UNKNOWN = dict.fromkeys(
    ("labels", "most_sharing", "share_believed", "random_believed", "pearson_low", "pearson_high", "random_pearson",
     "shuffled_pearson", "ap_corrected", "f1", "iou", "auc", "names_output", "output_similarity", "network", "clip")
)  # fmt: skip


def method(rival_id: int, pearson: float | None, **values: Any) -> Row:
    shown = {"rival_id": rival_id, "method": f"method {rival_id}", "reference": "clip", "pearson": pearson}
    place = {"layer": "layer4", "dataset": "photos", "split": "all"}
    known = {"neurons": 512, "measured": 254, "within_classes": False, "chosen_here": False}
    return UNKNOWN | shown | place | known | values


def pair(mine: int, other: int, low: float | None, high: float | None) -> list[Row]:
    place = {"layer": "layer4", "dataset": "photos", "split": "all"}
    ends = [(mine, other, low, high), (other, mine, high and -high, low and -low)]
    return [
        place | {"rival_id": a, "other_rival_id": b, "method": f"method {a}", "low": from_, "high": to}
        for a, b, from_, to in ends
    ]


def found(methods: list[Row], pairs: list[Row]) -> str:
    """The sentence of the terminal and the title of the page's chart."""
    frame = pl.DataFrame(pairs, schema=None if pairs else {"layer": pl.String})
    sentences = found_judgements(pl.DataFrame(methods, infer_schema_length=None), frame)
    rows = {"summary": pl.DataFrame(methods, infer_schema_length=None), "pairs": frame}
    empty = pl.DataFrame(schema={"layer": pl.String})
    [layer] = content(rows | {"differences": empty})["layers"]
    return "\n".join([*sentences, layer["figure"].title])


THREE = [method(1, 0.3), method(2, 0.5), method(3, 0.1)]


def test_the_best_is_better_than_each_other_where_both_label():
    pairs = [*pair(1, 2, 0.01, 0.1), *pair(1, 3, 0.1, 0.2), *pair(2, 3, -0.1, 0.1)]
    standing = compared(THREE, pairs)
    assert standing.best is THREE[0], "the mean of method 2 is higher, but over other neurons"
    text = found(THREE, pairs)
    assert "layer4, all: method 1 fits best of 3; mean correlation 0.3 over 254 of 512 neurons" in text
    assert "method 1 fits the neurons of layer4 best" in text


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        ([], "the 3 methods label different neurons, so they cannot be compared"),
        (pair(1, 2, None, None), "the 3 methods label different neurons, so they cannot be compared"),
        (pair(1, 2, 0.1, 0.2), "some of the 3 methods label different neurons, so none is called best"),
        (
            [*pair(1, 2, -0.1, 0.1), *pair(1, 3, 0.1, 0.2), *pair(2, 3, 0.1, 0.2)],
            "none of 3 methods is better than all others beyond chance",
        ),
    ],
)
def test_otherwise_it_is_said_why_none_is_best(pairs, why):
    assert compared(THREE, pairs).best is None
    text = found(THREE, pairs)
    assert f"layer4, all: {why}" in text
    assert "fits" not in text


def test_one_method_is_not_called_best_and_its_q_is_named():
    row = method(1, 0.27, share_believed=0.0, random_believed=0.25, within_classes=True)
    text = found([row, method(1, None, reference="class", measured=0)], [])
    assert "layer4, all: method 1: mean correlation 0.27 over 254 of 512 neurons; " in text
    assert "0.0 % of its labels have q ≤ 0.05 within classes, of random ones 25.0 %" in text
    assert "The q of extract does not" in text
    assert "best" not in text
    without = found([method(1, 0.27, share_believed=0.5)], [])
    assert "within" not in without


def test_a_layer_of_which_clip_measures_nothing_is_named():
    rows = [method(1, None, measured=0), method(1, 0.4, reference="class", measured=3)]
    frame = pl.DataFrame(rows, infer_schema_length=None)
    sentences = found_judgements(frame, pl.DataFrame(schema={"layer": pl.String}))
    assert sentences == [
        "layer4, all: no label could be measured: each half of the images needs 20 with the concept and 20 without it"
    ]
