"""The views over label_measures, on rows written by hand."""

from __future__ import annotations

from tests.sql.test_view_rows import units
from tests.support.rows import measured, run_view


def test_a_neuron_is_shown_by_the_class_before_clip_and_by_a_split_before_halves() -> None:
    """Neuron 1 has all four, 2 no measure by the class, 3 only CLIP's; 4 was judged without a measure."""
    rows = [
        *(measured(1, 1, 1, reference, value) for reference, value in (("clip", 0.25), ("class", 0.5))),
        *(measured(1, 1, 1, reference, 0.75) | {"judged_on": "validation"} for reference in ("clip", "class")),
        measured(1, 2, 1, "clip", 0.25),
        measured(1, 2, 1, "class", 0.5) | {"ap_corrected": None},
        measured(1, 3, 1, "clip", 0.25),
        measured(1, 4, 1, "clip", 0.25) | {"ap_corrected": None},
    ]
    shown = {row["neuron_id"]: row for row in run_view("judged_labels", neurons=units(5), label_measures=rows)}
    assert {neuron: (row["reference"], row["ap_corrected"]) for neuron, row in shown.items()} == {
        1: ("class", 0.75), 2: ("clip", 0.25), 3: ("clip", 0.25),
    }  # fmt: skip


def test_what_labels_were_not_judged_on_is_left_to_do() -> None:
    """Of two labelled layers, one was judged on halves. Validation of the same dataset is recorded for the other."""
    splits = [
        {"split_id": 1, "dataset_id": 1, "split": "train"},
        {"split_id": 2, "dataset_id": 1, "split": "validation"},
        {"split_id": 3, "dataset_id": 2, "split": "test"},
    ]
    recorded = [
        {"extraction_id": number, "target": target, "split_id": split_id, "layer_id": layer_id, "clip_id": clip_id}
        for number, (target, split_id, layer_id, clip_id) in enumerate(
            [
                *(("activations", split_id, layer_id, None) for split_id in (1, 3) for layer_id in (1, 2)),
                ("activations", 2, 2, None),
                *(("image_embeddings", split_id, None, 1) for split_id in (1, 2, 3)),
            ]
        )
    ]
    found = run_view(
        "unjudged_layers",
        dissections=[{"dissection_id": 1, "split_id": 1, "clip_id": 1}],
        labelled_layers=[{"dissection_id": 1, "layer_id": layer_id} for layer_id in (1, 2)],
        judged_layers=[{"dissection_id": 1, "layer_id": 1, "judged_on": "halves"}],
        splits=splits,
        finished_extractions=recorded,
    )
    assert sorted((row["layer_id"], row["judged_on"]) for row in found) == [(2, "halves"), (2, "validation")]
