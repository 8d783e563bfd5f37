"""What the rows of the views mean, over rows that the tests write down and numbers worked out by hand."""

# ruff: noqa: C408 - rows read like the tables as dict(image_id=1, …)

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dissectdb.warehouse import Warehouse
from tests.support.rows import dissection_row, finished, run_view, sums_of

NET = dict(
    networks=[dict(network_id=1, name="net", classes=["happy", "sad"])],
    layers=[dict(layer_id=i, network_id=1, layer=name, position=i) for i, name in enumerate(["conv", "head"])],
)


def units(count: int, layer_id: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [dict(neuron_id=10 * layer_id + i, layer_id=layer_id, unit=i, **more) for i in range(count)]


def images(*classes: str | None, defect: str | None = None, first: int = 1) -> list[dict[str, Any]]:
    return [dict(image_id=first + i, split_id=1, class_=name, defect=defect) for i, name in enumerate(classes)]


def words(**classes: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Concepts 1, 2, … of set 1 with the classes that each stands for."""
    return dict(
        concepts=[dict(concept_id=i, concept_set_id=1, position=i, concept=c) for i, c in enumerate(classes, 1)],
        concept_classes=[dict(concept_id=i, class_=n) for i, of in enumerate(classes.values(), 1) for n in of],
    )


def label(neuron_id: int, concept_id: int | None, similarity: float | None, **more: Any) -> dict[str, Any]:
    row = dict(dissection_id=1, neuron_id=neuron_id, layer_id=neuron_id // 10, concept_id=concept_id)
    above = bool(similarity and similarity > 0)
    row |= dict(
        similarity=similarity,
        interpretable=above,
        above_tau=above,
        calibrated=False,
        dead=concept_id is None,
        sparse=False,
        images_fired=256,
    )
    return row | more


def test_a_neurons_accuracy_counts_its_best_images_and_lift_divides_by_chance():
    """3 of the 4 best images with a class are sad; 6 of the 10 sound images with a class are."""
    best = [dict(split_id=1, neuron_id=0, rank=rank, image_id=i) for rank, i in enumerate([5, 1, 6, 11, 7, 2], 1)]
    sound = images(*["happy"] * 4, *["sad"] * 6, None)
    [row] = run_view(
        "neuron_accuracies",
        **NET,
        **words(Tears=["sad", "tired"]),
        neurons=units(1),
        images=sound + images("happy", "happy", defect="blank", first=20),
        top_activations=best,
        neuron_labels=[label(0, 1, 0.5)],
        dissections=[dissection_row(accuracy_images=5)],
    )
    assert (row["layer"], row["unit"], row["concept"]) == ("conv", 0, "Tears")
    assert row["accuracy"] == 0.75
    assert row["lift"] == pytest.approx(0.75 / 0.6)


def test_a_neuron_is_right_above_one_half_and_shares_are_of_the_right_ones():
    judged = [(0, 1, 0.6), (1, 1, 0.8), (2, 2, 1.0), (3, 2, 0.5), (4, 1, 0.0)]
    rows = run_view(
        "concept_counts_by_neuron",
        **NET,
        **words(Smile=["happy"], Frown=["sad"]),
        neurons=units(5),
        dissections=[dissection_row()],
        judged_neurons=[dict(dissection_id=1, neuron_id=n, concept_id=c, accuracy=a) for n, c, a in judged],
    )
    found = {row["concept"]: (row["neurons"], row["share"]) for row in rows}
    assert found == {"Smile": (2, pytest.approx(2 / 3)), "Frown": (1, pytest.approx(1 / 3))}


def test_the_interval_of_a_share_is_wilsons_and_lift_divides_by_that_of_the_wrong_ones():
    """For 1 to n of n correct images: the shares whose score test is just at 5 %, as the roots of a polynomial."""
    cases = [(n, k) for n in (1, 2, 7, 40) for k in sorted({1, (n + 1) // 2, n})]
    names, shown, predicted, spoken, first = [], [], [], [], 1
    for n, k in cases:
        names.append(f"{k} of {n}")
        shown += images(*[names[-1]] * (n + 4), first=first)
        predicted += [
            dict(network_id=1, image_id=first + i, class_=names[-1] if i < n else "none") for i in range(n + 4)
        ]
        spoken += [(first + i, 1) for i in [*range(k), n]]  # and one of four wrong images
        first += n + 4
    rows = run_view(
        "concept_counts_by_prediction",
        **NET | dict(networks=[dict(network_id=1, name="net", classes=[*names, "none"])]),
        **words(Smile=[]),
        dissections=[dissection_row()],
        splits=[dict(split_id=1, split="train")],
        images=shown,
        predictions=predicted,
        image_concepts=[dict(dissection_id=1, layer_id=0, image_id=i, concept_id=c) for i, c in spoken],
    )
    found = {row["class"]: row for row in rows}
    for name, (n, k) in zip(names, cases, strict=True):
        z, share = 1.959963984540054, k / n
        roots = np.roots([n + z**2, -(2 * k + z**2), n * share**2])  # of n (share - p)² = z² p (1 - p)
        assert sorted([found[name]["low"], found[name]["high"]]) == pytest.approx(sorted(roots.real), abs=1e-7), name
        assert (found[name]["share"], found[name]["lift"]) == (pytest.approx(share), pytest.approx(share / 0.25))


def test_eight_of_ten_correct_images_have_wilsons_interval_and_a_lift_over_the_wrong_ones():
    """Smile: 8 of 10 right and 1 of 4 wrong images. Frown: 1 of 10 right, no wrong one, so no lift."""
    right = [True] * 10 + [False] * 4
    spoken = [(i, 1) for i in [*range(1, 9), 11]] + [(1, 2)]
    rows = run_view(
        "concept_counts_by_prediction",
        **NET,
        **words(Smile=["happy"], Frown=["sad"]),
        dissections=[dissection_row()],
        splits=[dict(split_id=1, split="train")],
        images=images(*["happy"] * 14),
        predictions=[
            dict(network_id=1, image_id=i, class_="happy" if good else "sad") for i, good in enumerate(right, 1)
        ],
        image_concepts=[dict(dissection_id=1, layer_id=0, image_id=i, concept_id=c) for i, c in spoken],
    )
    frown, smile = rows
    assert (smile["class"], smile["images"], smile["share"]) == ("happy", 8, 0.8)
    assert (round(smile["low"], 4), round(smile["high"], 4)) == (0.4902, 0.9433)
    assert smile["lift"] == pytest.approx(0.8 / 0.25)
    assert (frown["images"], frown["share"], frown["lift"]) == (1, 0.1, None)
    assert (round(frown["low"], 4), round(frown["high"], 4)) == (0.0179, 0.4042)


def test_a_layers_summary_adds_up_and_dead_neurons_are_not_interpretable():
    labels = [label(0, 1, 2.0), label(1, 1, 1.0), label(2, 2, -0.6), label(3, None, None), label(10, 1, -1.0)]
    labels += [label(n, None, None, dead=False, sparse=True) for n in (11, 12, 13)]
    rows = run_view(
        "layer_summary",
        **NET,
        neurons=units(4, weight_l1=3.0) + units(4, layer_id=1),
        dissections=[dissection_row()],
        neuron_labels=labels,
        dissected_neurons=[
            dict(dissection_id=1, neuron_id=row["neuron_id"], tied=row["neuron_id"] in (12, 13)) for row in labels
        ],
        judged_neurons=[
            dict(dissection_id=1, neuron_id=n, accuracy=a) for n, a in [(0, 1.0), (1, 0.5), (2, 0.0), (10, 0.2)]
        ],
    )
    conv, head = rows
    assert (conv["neurons"], conv["num_interpretable"], conv["num_uninterpretable"], conv["num_dead"]) == (4, 2, 2, 1)
    assert conv["proportion_interpretable"] == 0.5
    assert conv["overall_accuracy"] == 0.5
    assert (conv["interpretable_accuracy"], conv["uninterpretable_accuracy"]) == (0.75, 0.0)
    assert conv["mean_similarity"] == pytest.approx(0.8)
    assert (conv["interpretable_weight_l1"], head["interpretable_weight_l1"]) == (3.0, None)
    assert (head["num_interpretable"], head["interpretable_accuracy"], head["proportion_interpretable"]) == (0, None, 0)
    assert [(row["num_dead"], row["num_sparse"], row["num_tied"]) for row in rows] == [(1, 0, 0), (0, 1, 2)]


def test_the_best_images_stand_in_order_and_equal_ones_by_the_smaller_id():
    values = {7: 1.0, 3: 2.0, 9: 1.0, 5: 1.0, 1: 0.5}
    tables = dict(
        **NET,
        **finished([0], {1: len(values)}),
        neurons=units(1),
        dissections=[dissection_row(top_k=4)],
        splits=[dict(split_id=1, split="train")],
        images=[
            dict(image_id=i, split_id=1, class_=None if i == 7 else "sad", path=None if i == 9 else f"{i}.png")
            for i in values
        ],
        predictions=[dict(network_id=1, image_id=3, class_="happy"), dict(network_id=2, image_id=5, class_="happy")],
        activations=[dict(neuron_id=0, image_id=i, value=value) for i, value in values.items()],
    )
    rows = run_view("top_images", **tables | sums_of(tables))
    assert [(row["rank"], row["image_id"], row["value"]) for row in rows] == [
        (1, 3, 2.0), (2, 5, 1.0), (3, 7, 1.0), (4, 9, 1.0)
    ]  # fmt: skip
    assert [(row["true_class"], row["predicted_class"]) for row in rows[:3]] == [
        ("sad", "happy"), ("sad", None), (None, None)
    ]  # fmt: skip
    assert [row["is_correct"] for row in rows[:3]] == [False, None, None]
    assert [row["path"] for row in rows] == ["3.png", "5.png", "7.png", None]


def statistics(*columns: list[float], **dissection: Any) -> dict[str, list[dict[str, Any]]]:
    count = len(columns[0])
    tables = dict(
        **NET,
        **finished([0], {1: count}),
        neurons=units(len(columns)),
        images=images(*["a"] * count),
        dissections=[dissection_row(**dissection)],
        activations=[
            dict(neuron_id=n, image_id=i, value=float(value))
            for n, column in enumerate(columns)
            for i, value in enumerate(column, 1)
        ],
    )
    return tables | sums_of(tables)


def test_the_statistics_of_a_neuron_are_those_of_its_values():
    first, second, third = run_view("neuron_statistics", **statistics([1, 1, 2, 4], [0.1] * 4, [0.0, -0.0, 1, 1]))
    assert (first["images"], first["mean"], first["lowest"], first["highest"]) == (4, 2.0, 1.0, 4.0)
    assert first["sd"] == pytest.approx(1.5**0.5)
    assert (second["sd"], second["distinct_values"]) == (0.0, 1)
    assert (first["distinct_values"], third["distinct_values"]) == (3, 2)


@pytest.mark.parametrize("different", [1, 2, 255, 256, 257, 290])
def test_distinct_values_are_exact_up_to_256(different):
    values = np.concatenate([np.arange(different), np.zeros(300 - different)])
    up, down = run_view("neuron_statistics", **statistics(list(values), list(-values)))
    assert up["distinct_values"] == down["distinct_values"] == min(different, 256)


def test_blocks_add_up_to_the_statistics_and_top_images_of_the_split():
    """Values in ties across blocks; many different ones, of which only the first block has 256; zeros; a constant."""
    random = np.random.default_rng(3)
    columns = [
        random.normal(size=700).round(1),
        np.concatenate([random.normal(size=300), np.zeros(400)]),
        np.where(random.random(700) < 0.05, random.random(700), 0),
        np.arange(700) % 260,
        np.arange(700) % 255,
        np.full(700, 0.25),
    ]
    tables = statistics(*columns)
    tables["extraction_blocks"] = [
        dict(extraction_id=1, block=block, images=images) for block, images in enumerate((300, 255, 145))
    ]
    tables |= sums_of(tables)
    tops = run_view("top_activations", **tables)
    for neuron, (row, column) in enumerate(zip(run_view("neuron_statistics", **tables), columns, strict=True)):
        values = column.astype(np.float32)
        order = np.lexsort((np.arange(700), -values))[:256]
        of_neuron = [top for top in tops if top["neuron_id"] == neuron]
        assert [top["image_id"] - 1 for top in of_neuron] == order.tolist()
        assert [top["value"] for top in of_neuron] == values[order].tolist()
        assert (row["images"], row["lowest"], row["highest"]) == (700, values.min(), values.max())
        assert row["mean"] == pytest.approx(values.astype(float).mean(), abs=1e-12)
        assert row["sd"] == pytest.approx(values.astype(float).std(), abs=1e-9)
        assert row["distinct_values"] == min(len(np.unique(values)), 256)
        assert row["images_fired"] == min((values > values.min()).sum(), 256)


def test_a_neuron_is_dead_when_constant_and_sparse_when_it_fires_on_too_few_images():
    columns = [1, 1, 2, 4], [0.1] * 4, [0, 0, 0, 1], [4, 3, 2, 1]
    rows = run_view("dissected_neurons", **statistics(*columns, top_k=3, min_images=2))
    assert [row["dead"] for row in rows] == [False, True, False, False]
    assert [row["sparse"] for row in rows] == [False, False, True, False]
    assert [row["images_fired"] for row in rows] == [2, 0, 1, 4]
    assert [row["list_images"] for row in rows] == [2, 0, 1, 3]


def test_a_layer_that_is_half_recorded_is_not_dissected_and_every_pooling_counts():
    tables = statistics([1, 2, 3], [3, 2, 1])
    tables["layers"] = [dict(layer_id=i, network_id=1, layer="conv", pooling=p) for i, p in enumerate(["avg", "max"])]
    tables["neurons"] = [dict(neuron_id=i, layer_id=i, unit=0) for i in (0, 1)]
    for recorded, seen in (({1: 3}, [0, 1]), ({1: 2}, [])):
        tables |= finished([0, 1], recorded)
        tables |= sums_of(tables)
        assert sorted(row["neuron_id"] for row in run_view("dissected_neurons", **tables)) == seen
        # The blocks that are there count already.
        assert [row["images"] for row in run_view("neuron_statistics", **tables)] == [recorded[1]] * 2


def test_an_image_speaks_through_its_neuron_farthest_above_its_own_mean():
    """Neuron 0 is always loud; for image 1 the quiet neuron 1 is farther above its mean. Neuron 2 is not believed."""
    tables = statistics([101, 110, 89, 100], [0.9, 0.1, 0.2, 0.1], [9, 0, 0, 0], images_neurons=1)
    labels = [label(0, 1, 1.0), label(1, 2, 1.0), label(2, 3, -1.0)]
    rows = run_view("image_concepts", neuron_labels=labels, **tables)
    assert [(row["image_id"], row["concept_id"]) for row in rows] == [(1, 2), (2, 1), (3, 2), (4, 1)]


def test_equal_scores_go_to_the_first_concept_and_tau_itself_is_not_above_tau():
    tables = statistics([1, 2, 3, 4], [4, 3, 2, 2], [1, 1, 1, 1], tau=0.5)
    scores = {0: [0.5, 0.5, 0.1], 1: [0.2, 0.1, 0.7]}
    rows = run_view(
        "neuron_labels",
        **tables,
        concepts=[dict(concept_id=i, concept_set_id=1, position=3 - i) for i in range(3)],
        concept_scores=[
            dict(dissection_id=1, neuron_id=n, concept_id=c, similarity=s, z=None)
            for n, row in scores.items()
            for c, s in enumerate(row)
        ],
    )
    found = [(row["concept_id"], row["runner_up_id"], row["interpretable"], row["dead"]) for row in rows]
    assert found == [(1, 0, False, False), (2, 0, True, False), (None, None, False, True)]
    assert [row["margin"] for row in rows] == [0, pytest.approx(0.5), None]


def test_the_layer_to_edit_has_weights_and_most_interpretable_neurons_and_is_the_later_of_two():
    layers = [dict(layer_id=i, network_id=1, layer=f"layer {i}", position=i) for i in range(4)]
    neurons = [unit for i in range(4) for unit in units(2, i, weight_l1=None if i == 3 else 1.0)]
    labels = [label(n, 1, s) for n, s in [(0, 1), (1, -1), (10, 1), (11, 0), (20, -1), (21, -1), (30, 1), (31, 1)]]
    rows = run_view("layer_choices", networks=NET["networks"], layers=layers, neurons=neurons, neuron_labels=labels)
    assert [(row["layer"], row["num_interpretable"], row["rank"]) for row in rows] == [
        ("layer 0", 1, 2), ("layer 1", 1, 1), ("layer 2", 0, 3)
    ]  # fmt: skip


def test_weights_are_scaled_by_the_rule_of_the_edit_or_as_was_kept_of_a_query_or_a_control():
    """Neurons 0 to 2 of conv: Smile, Frown (which q does not pass) and no label; neuron 10 is of another layer."""
    labels = [
        label(0, 1, 0.4) | dict(calibrated=True, interpretable=True),
        label(1, 2, 0.3) | dict(calibrated=False, interpretable=True),
        label(2, None, None) | dict(calibrated=False, interpretable=False),
        label(10, 1, 9.0) | dict(calibrated=True, interpretable=True),
    ]
    rules = {
        1: dict(rule="paper", tau=0.3, factor=1.5, factor_down=1.5, scale_bias=True),
        2: dict(rule="sql", control=None),
        3: dict(rule="calibrated", factor=3.0, factor_down=4.0),
        4: dict(rule="weight_l1", factor=2.0, factor_down=2.0),
        5: dict(rule="proportional", factor=6.0),
        6: dict(rule="ablate", concepts=["Frown"]),
        7: dict(rule="ablate"),
        8: dict(rule="paper", tau=0.0, factor=1.5, factor_down=1.5, control="random", control_of=1),
    }
    edit = dict(network_id=1, dissection_id=1, layer="conv", scale_bias=False)
    weighted = [dict(row, weight_l1=l1) for row, l1 in zip(units(3), (1.0, 2.0, 6.0), strict=True)]
    rows = run_view(
        "weight_scales",
        **NET,
        **words(Smile=["happy"], Frown=["sad"]),
        neurons=weighted + units(1, layer_id=1),
        neuron_labels=labels,
        edits=[edit | dict(edit_id=i) | rule for i, rule in rules.items()],
        edit_layers=[dict(edit_id=i, layer_id=0) for i in rules],
        edit_scales=[
            dict(edit_id=e, neuron_id=n, scale=7.0, bias_scale=0.5) for e, n in [(1, 0), (2, 0), (2, 2), (8, 1)]
        ],
    )
    scales = {i: [row["scale"] for row in rows if row["edit_id"] == i] for i in rules}
    assert scales[1] == [1.5, pytest.approx(2 / 3), pytest.approx(2 / 3)]
    assert [(row["unit"], row["scale"], row["bias_scale"]) for row in rows if row["edit_id"] in (2, 8)] == [
        (0, 7.0, 0.5), (2, 7.0, 0.5), (1, 7.0, 0.5),
    ]  # fmt: skip
    assert scales[3] == [3.0, 0.25, 0.25]
    assert scales[4] == [0.5, 0.5, 2.0]
    assert scales[5] == [6.0, 0.0, 1.0]
    assert scales[6] == [1.0, 0.0, 1.0]
    assert scales[7] == [0.0, 0.0, 1.0]
    biases = {i: [row["bias_scale"] for row in rows if row["edit_id"] == i] for i in rules}
    assert biases[1] == scales[1]
    assert biases[3] == [1.0, 1.0, 1.0]


def test_whether_an_image_without_a_class_or_of_one_that_is_no_output_is_right_is_unknown():
    tables = dict(
        networks=[dict(network_id=1, name="net", classes=["a", "b"])],
        datasets=[dict(dataset_id=1, name="faces")],
        splits=[dict(split_id=1, dataset_id=1, split="test")],
        images=images("a", "a", None, "c"),
        predictions=[
            dict(network_id=1, image_id=i, class_=c, loss=loss)
            for i, (c, loss) in enumerate([("a", 0.5), ("b", 1.5), ("a", None), ("b", None)], 1)
        ],
    )
    assert [row["is_correct"] for row in run_view("image_predictions", **tables)] == [True, False, None, None]
    [row] = run_view("network_accuracies", **tables)
    assert (row["images"], row["correct"], row["accuracy"], row["loss"]) == (2, 1, 0.5, 1.0)
    assert row["num_unknown"] == 2


@pytest.mark.parametrize(("similarities", "bars"), [([0, 1, 2, 4], [0, 10, 20, 39]), ([3, 3], [0])])
def test_a_histogram_counts_every_neuron_once_the_highest_in_the_last_bar(similarities, bars):
    labels = [label(n, 1, s) for n, s in enumerate(similarities)]
    rows = run_view(
        "similarity_histogram", **NET, neurons=units(4), dissections=[dissection_row()], neuron_labels=labels
    )
    assert sum(row["neurons"] for row in rows) == len(similarities)
    assert [round((row["low"] - similarities[0]) / (row["high"] - row["low"])) for row in rows] == bars


SHOWING = ["neuron_concepts", "similarity_rankings", "top_images", "neuron_accuracies"]
SHOWING += ["concept_counts_by_neuron", "concept_counts_by_prediction", "layer_summary", "similarity_histogram"]


RIVALS = NET | dict(
    datasets=[dict(dataset_id=1, name="faces", fingerprint="f")],
    splits=[dict(split_id=1, dataset_id=1, split="train")],
    clips=[dict(clip_id=1, name="clip")],
    neurons=units(3),
    rivals=[
        dict(rival_id=i, network_id=1, split_id=1, clip_id=1, method=method, control="none", dissection_id=None)
        for i, method in ((1, "mine"), (2, "theirs"))
    ],
    rival_texts=[dict(rival_text_id=i, clip_id=1, text=text) for i, text in ((1, "smile"), (2, "frown"))],
    rival_labels=[dict(rival_id=1, neuron_id=i, rival_text_id=text) for i, text in ((0, 1), (1, 2), (2, 2))],
    rival_quality=[
        dict(rival_id=1, neuron_id=i, reference="clip", pearson=r, q=q)
        for i, (r, q) in enumerate([(0.5, 0.05), (0.1, 0.06), (None, None)])
    ],
    rival_intervals=[
        dict(rival_id=1, other_rival_id=None, layer_id=0, reference="clip", measure="pearson", neurons=2, value=0.3,
             low=0.1, high=0.5),
        dict(rival_id=1, other_rival_id=2, layer_id=0, reference="clip", measure="auc", neurons=2, value=0.2,
             low=0.1, high=0.3),
        dict(rival_id=1, other_rival_id=None, layer_id=0, reference="output", measure="names_output", neurons=3,
             value=1 / 3, low=None, high=None),
    ],
)  # fmt: skip


def test_a_method_has_the_means_of_its_labels_and_counts_of_those_that_are_shared_and_believed():
    [row] = run_view("rival_summary", **RIVALS)
    assert (row["method"], row["layer"], row["neurons"], row["measured"]) == ("mine", "conv", 3, 2)
    assert (row["labels"], row["most_sharing"], row["share_believed"]) == (2, 2, 0.5)  # q is known for two
    assert (row["pearson"], row["pearson_low"], row["pearson_high"], row["auc"]) == (0.3, 0.1, 0.5, None)
    assert (row["outputs"], row["names_output"], row["output_similarity"]) == (3, 1 / 3, None)


def test_a_method_of_which_nothing_could_be_measured_keeps_its_row():
    [row] = run_view("rival_summary", **RIVALS | dict(rival_intervals=[]))
    assert (row["neurons"], row["measured"], row["pearson"]) == (3, 0, None)


def test_labels_are_shown_with_how_many_neurons_share_them():
    rows = run_view("rival_scores", **RIVALS)
    assert [(row["unit"], row["label"], row["sharing"], row["pearson"]) for row in rows] == [
        (0, "smile", 1, 0.5), (1, "frown", 2, 0.1), (2, "frown", 2, None),
    ]  # fmt: skip


def test_a_difference_is_shown_from_both_sides():
    rows = run_view("rival_differences", **RIVALS)
    assert [(row["method"], row["other_method"], row["difference"], row["low"], row["high"]) for row in rows] == [
        ("mine", "theirs", 0.2, 0.1, 0.3), ("theirs", "mine", -0.2, -0.3, -0.1),
    ]  # fmt: skip
    assert [row["beyond"] for row in rows] == [True, True]


def test_the_public_views_show_the_newest_dissection_or_the_one_that_is_named(tiny):
    query = "select distinct concept, dissection_id from similarity_rankings order by all"
    newest = tiny.rows(query).rows()
    assert newest == [("happy", 2), ("sad", 2)]
    tiny.close()
    with Warehouse(tiny.path, read_only=True, dissection=1) as warehouse:
        assert warehouse.rows(query).rows() == [(c, 1) for c in ("Beard", "Frown", "Smile", "Tears")]
        for name in SHOWING:
            shown = warehouse.rows(f"select distinct dissection_id from {name}")["dissection_id"].to_list()
            assert shown == [1], name
