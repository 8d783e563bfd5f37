"""The sentences of the report. Every number in them is a value of a row."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from dissectdb.reports.words import count, loss, name, number, p_is, plural, points, several, share, signed

Row = dict[str, Any]


def headline(summary: Row, layers: list[Row]) -> Markup:
    """The title: What 17,344 neurons of vggnet respond to."""
    neurons = sum(layer["neurons"] for layer in layers)
    if not neurons:
        return Markup("What the neurons of {} respond to").format(name(summary["network"]))
    text = "What one neuron of {1} responds to" if neurons == 1 else "What {0} neurons of {1} respond to"
    return Markup(text).format(count(neurons), name(summary["network"]))


def accuracy(summary: Row, accuracies: list[Row]) -> Markup:
    """How often the network is right on the probing set."""
    own = [row for row in accuracies if row["is_shown_network"] and row["is_probing_set"]]
    if not own or own[0]["accuracy"] is None:
        why = "has a class that is an output of it" if own else "has a prediction"
        return Markup("{} was shown {} {}, none of which {}: how often it is right is unknown.").format(
            name(summary["network"]), count(summary["images"]), _images(summary), why
        )
    [row] = own
    said = Markup("{} is right on {} of {} {}").format(
        name(summary["network"]), share(row["accuracy"]), count(row["images"]), _images(summary)
    )
    if not row["num_unknown"]:
        return said + "."
    others = plural(row["num_unknown"], "other, which has", "others, which have")
    return said + f"; of {others} no class that is an output of it, that is unknown."


LABELS_UNKNOWN = "Whether labels are right is unknown: no label stands for a class of the images."


def are_labels_unknown(layers: list[Row]) -> bool:
    """Whether no label could be compared with the classes of images."""
    return bool(layers) and all(layer["overall_accuracy"] is None for layer in layers)


def _images(summary: Row) -> Markup:
    return Markup("{} images of {}").format(name(summary["probing_split"]), name(summary["dataset"]))


def most_interpretable(layers: list[Row]) -> Row | None:
    """The deepest of the layers with most interpretable neurons; None if no neuron is interpretable."""
    best = max(layers, key=lambda layer: (layer["num_interpretable"] or 0, layer["position"]), default=None)
    return best if best and best["num_interpretable"] else None


def is_tested(layers: list[Row]) -> bool:
    """Whether labels were tested against chance: any of them has a p."""
    return any(layer["num_calibrated"] is not None for layer in layers)


def rule(summary: Row) -> Markup:
    """What makes a neuron interpretable in this dissection."""
    if summary["rule"] == "q":
        return Markup(
            "a neuron whose label chance does not explain: q ≤ {}, so that at most {} of a layer’s interpretable "
            "neurons are expected to be chance hits"
        ).format(number(summary["q_limit"]), _percent(summary))
    text = "a neuron whose label scores above {}, as in the original study; neurons of pure noise pass that rule too"
    return Markup(text).format(_tau(summary))


def interpretability(summary: Row, layers: list[Row]) -> list[Markup]:
    """How many neurons are interpretable, by which rule, and how many by the other rule."""
    if not layers:
        return [Markup("No layer has been labelled yet.")]
    if summary["rule"] == "q":
        if is_tested(layers):
            return [_beyond_chance(summary, layers)]
        return [
            Markup("Which neurons are interpretable is unknown: the rule asks for q, and labels were not held against ")
            + "chance."
        ]
    best = most_interpretable(layers)
    if best is None:
        said = Markup("No neuron is interpretable: no label scores above {}.").format(_tau(summary))
    else:
        said = Markup(
            "{} of {} of {} {} interpretable by the original study’s rule: their label scores above {}. "
            "Neurons of pure noise pass that rule too."
        ).format(
            count(best["num_interpretable"]),
            plural(best["neurons"], "neuron", "neurons"),
            name(best["layer"]),
            "is" if best["num_interpretable"] == 1 else "are",
            _tau(summary),
        )
    return [said, _beyond_chance(summary, layers)] if is_tested(layers) else [said]


def _beyond_chance(summary: Row, layers: list[Row]) -> Markup:
    calibrated = sum(layer["num_calibrated"] or 0 for layer in layers)
    neurons = plural(sum(layer["neurons"] for layer in layers), "neuron", "neurons")
    if not calibrated:
        return Markup("None of {} has a label that chance does not explain.").format(neurons)
    return Markup(
        "{} of {} {} a label that chance does not explain: at most {} of these labels are expected to be chance hits."
    ).format(count(calibrated), neurons, "has" if calibrated == 1 else "have", _percent(summary))


# The tests of a label beside chance: the column with the number of labels that pass, and the name of the test.
TESTS = {"num_agreeing": "split halves", "num_within_class": "within classes"}


def tests_run(layers: list[Row]) -> list[str]:
    """The names of the tests beside chance that were run in any layer."""
    return [test for key, test in TESTS.items() if any(layer[key] is not None for layer in layers)]


def robustness(summary: Row, layers: list[Row]) -> Markup | None:
    """How many labels pass every test that was run, and why one was not run; None if only chance was tested."""
    if any(layer["num_outstanding"] for layer in layers):
        return Markup(
            "<strong>How many labels are robust is unknown:</strong> an earlier version made them, without today’s "
            "test within classes. <code>dissectdb extract</code> runs it."
        )
    tests = tests_run(layers)
    if not tests:
        return None
    text = "<strong>{} of the {} labels that chance does not explain pass {} too: {}.</strong>{}"
    return Markup(text).format(
        count(sum(layer["num_robust"] or 0 for layer in layers)),
        count(sum(layer["num_calibrated"] or 0 for layer in layers)),
        "the other tests" if len(tests) > 1 else "the other test that was run",
        several(tests),
        _within_classes(summary, layers),
    )


def _within_classes(summary: Row, layers: list[Row]) -> str:
    """Why all labels, or some of them, were not tested within classes; empty if all were."""
    if all(layer["num_within_class"] is None for layer in layers):
        without = summary["images"] - summary["images_with_class"]
        if without == summary["images"]:
            why = "the images have no classes"
        elif without:
            why = f"{plural(without, 'image has', 'images have')} no class"
        else:
            why = "there are too many images and concepts for it"
        return f" Within classes could not be tested: {why}."
    few = sum(layer["num_unclassed"] or 0 for layer in layers)
    if not few:
        return ""
    return f" {count(few)} of these labels could not be tested within classes."


def _tau(summary: Row) -> str:
    return f"τ\u00a0=\u00a0{number(summary['tau'])}"


def _percent(summary: Row) -> str:
    return f"{100 * summary['q_limit']:.3g}\u00a0%"


def commonest_concept(summary: Row, layers: list[Row], concepts: list[Row]) -> Markup:
    """Which label is most frequent among the neurons whose label is right."""
    if summary["concepts"] == 1:
        return Markup("The concept set holds one concept, so every label is the same.")
    if are_labels_unknown(layers):
        return Markup(LABELS_UNKNOWN)
    if not concepts:
        return Markup("No neuron's label could be confirmed by the true classes of its best images.")
    first = concepts[0]
    tied = len(concepts) > 1 and concepts[1]["neurons"] == first["neurons"]
    return Markup("{} is {}: {} of the {} of {} whose label is right, {}.").format(
        name(first["concept"]),
        "one of the most frequent labels" if tied else "the most frequent label",
        count(first["neurons"]),
        plural(first["num_neurons"], "neuron", "neurons"),
        name(first["layer"]),
        share(first["share"]),
    )


def edit_change(result: Row) -> Markup:
    """What one edit did on one split: +15 of 7,178, p = 0.12: no evidence that the edit helps; then the details."""
    tries = result["edits_tried"]
    corrected = f", as the best of {count(tries)} edits {p_is(result['p_corrected'])}" if tries > 1 else ""
    return Markup(
        "<strong>{} of {} {} images, {}{}: {}.</strong> {} are right before and {} after, {} gained and {} lost; "
        "a change of {} percentage points{}. {}{}{}"
    ).format(
        signed(result["gained"] - result["lost"]),
        count(result["images"]),
        name(result["split"]),
        p_is(result["p_mcnemar"]),
        corrected,
        verdict(result),
        count(result["correct_before"]),
        count(result["correct_after"]),
        count(result["gained"]),
        count(result["lost"]),
        points(result["accuracy_after"] - result["accuracy_before"]),
        ""
        if result["low"] is None
        else f", bootstrap 95 % interval {points(result['low'])} to {points(result['high'])}",
        _among_random(result),
        _loss_change(result),
        " The labels were made on these very images." if result["is_probing_set"] else "",
    )


def verdict(result: Row) -> str:
    """What follows from the result of one edit on one split."""
    if result["gained"] + result["lost"] == 0:
        return "no image changed sides"
    if result["verdict"] == "helped":
        return "evidence that the edit helps"
    if result["verdict"] == "harmed":
        return "evidence that the edit harms"
    if result["gained"] > result["lost"]:
        return "no evidence that the edit helps"
    return "no evidence that the edit helps or harms"


def _among_random(result: Row) -> str:
    if result["percentile"] is None:
        return ""
    return f"It does better than {share(result['percentile'])} of random edits of the same size. "


def _loss_change(result: Row) -> str:
    before, after = result["loss_before"], result["loss_after"]
    if before is None or after is None:
        return ""
    if loss(before) == loss(after):
        return f"The mean loss stays at {loss(before)} nats."
    verb = "rises" if after > before else "falls"
    return f"The mean loss {verb} from {loss(before)} to {loss(after)} nats."


def many_edits(results: list[Row]) -> list[Markup]:
    """One sentence per split on all edits: the best, the worst, and whether any is beyond chance."""
    by_split: dict[int, list[Row]] = {}
    for result in results:
        by_split.setdefault(result["split_id"], []).append(result)
    return [_edits_on_split(of_split) for of_split in by_split.values() if len(of_split) > 1]


def _edits_on_split(results: list[Row]) -> Markup:
    change = [result["gained"] - result["lost"] for result in results]
    proven = sum(result["verdict"] == "helped" for result in results)
    best = max(results, key=lambda result: result["gained"] - result["lost"])
    return Markup(
        "Of {} on {} {} images, the best, {}, changes the right predictions by {}, the worst by {}. "
        "Corrected for {} the best has {}: <strong>{}</strong>."
    ).format(
        plural(len(results), "edit", "edits"),
        count(best["images"]),
        name(best["split"]),
        name(best["edit"]),
        signed(max(change)),
        signed(min(change)),
        plural(best["edits_tried"], "try", "tries"),
        p_is(best["p_corrected"]),
        f"evidence that {plural(proven, 'edit helps', 'edits help')}" if proven else "no evidence that any edit helps",
    )
