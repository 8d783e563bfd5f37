"""The sentences of the report. Every number in them is a value of a row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from markupsafe import Markup

from dissectdb.reports.words import NONE, count, name, number, p_is, plain, plural, several, share, signed

Row = dict[str, Any]


# How sure a label is, in three words at most, as cards and filters say it.
BELIEFS = {
    "robust": "passes its tests",
    "calibrated": "more than chance",
    "chance": "could be chance",
    "untested": "not tested",
    "dead": "never changes",
    "sparse": "fires too rarely",
    "tied": "too many ties",
}


def belief(row: Row) -> str:
    """The key of BELIEFS for the label of a neuron that has one."""
    if row["q"] is None:
        return "untested"
    return "robust" if row["robust"] else "calibrated" if row["calibrated"] else "chance"


def title(summary: Row) -> str:
    """The title of the page's window: vggnet on faces."""
    return f"{plain(summary['network'])} on {plain(summary['dataset'])}"


def eyebrow(summary: Row) -> Markup:
    """What stands above the headline: vggnet on faces, validation images."""
    text = Markup("{} on {}, {} images")
    return text.format(name(summary["network"]), name(summary["dataset"]), name(summary["probing_split"]))


def headline(summary: Row, layers: list[Row]) -> Markup:
    """The finding: how many neurons have a label that chance does not explain."""
    neurons, network = sum(layer["neurons"] for layer in layers), name(summary["network"])
    if not neurons:
        return Markup("What the neurons of {} respond to is not known yet").format(network)
    if not is_tested(layers):
        text = "{} of {} {}, not tested against chance"
        have = "has a label" if neurons == 1 else "have labels"
        return Markup(text).format(plural(neurons, "neuron", "neurons"), network, have)
    calibrated = sum(layer["num_calibrated"] or 0 for layer in layers)
    return Markup("{} of {} of {} {} a label that chance does not explain").format(
        count(calibrated) if calibrated else "None",
        plural(neurons, "neuron", "neurons"),
        network,
        "has" if calibrated <= 1 else "have",
    )


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
    """The images of the probing split, in words. A dataset without splits has one, which is called all."""
    dataset = name(summary["dataset"])
    if summary["probing_split"] == "all":
        return Markup("images of {}").format(dataset)
    return Markup("{} images of {}").format(name(summary["probing_split"]), dataset)


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
        return Markup("a neuron whose label chance does not explain: q ≤ {}").format(number(summary["q_limit"]))
    text = "a neuron whose label scores above {}, as in the original study"
    return Markup(text).format(_tau(summary))


def interpretability(summary: Row, layers: list[Row]) -> list[Markup]:
    """What the rule accepts, how many labels are chance hits, and how many pass every test."""
    if not layers:
        return [Markup("No layer has been labelled yet.")]
    said = [_above_tau(summary, layers)] if summary["rule"] == "tau" else []
    if not is_tested(layers):
        return said or [
            Markup("Which neurons are interpretable is unknown: the rule asks for q, and labels were not held against ")
            + "chance."
        ]
    if sum(layer["num_calibrated"] or 0 for layer in layers):
        said.append(_chance_hits(summary, layers))
    return said


def _above_tau(summary: Row, layers: list[Row]) -> Markup:
    best = most_interpretable(layers)
    if best is None:
        return Markup("No neuron is interpretable: no label scores above {}.").format(_tau(summary))
    return Markup(
        "{} of {} of {} {} interpretable by the original study’s rule: their label scores above {}. "
        "Neurons of pure noise pass that rule too."
    ).format(
        count(best["num_interpretable"]),
        plural(best["neurons"], "neuron", "neurons"),
        name(best["layer"]),
        "is" if best["num_interpretable"] == 1 else "are",
        _tau(summary),
    )


def _chance_hits(summary: Row, layers: list[Row]) -> Markup:
    robust = ""
    if not any(layer["num_outstanding"] for layer in layers):
        passing, tested, calibrated = (_sum(layers, f"num_{key}") for key in ("robust", "tested", "calibrated"))
        of_tested = "" if tested == calibrated else f" of the {count(tested)} that could be tested further"
        robust = f"; {count(passing)}{of_tested} {'passes' if passing == 1 else 'pass'} every other test that was run"
        robust = robust if tested else "; none could be tested further"
    return Markup("At most {} of these labels are expected to be chance hits{}.").format(_percent(summary), robust)


def common_labels(records: list[Row]) -> Markup | None:
    """Which labels are commonest, over all layers; None if no label is believed."""
    if not records:
        return None
    if records[0]["num_concepts"] == 1:
        return Markup("All of them carry one label, {}.").format(name(records[0]["concept"]))
    labels = [Markup("{} ({})").format(name(row["concept"]), count(row["neurons"])) for row in records]
    listed = Markup(", ").join(labels[:-1]) + Markup(" and ") + labels[-1]
    return Markup("Their commonest labels of {}: {}.").format(count(records[0]["num_concepts"]), listed)


def edit_finding(results: list[Row]) -> Markup | None:
    """What the chosen edit did on its last split, in one sentence; None if no edit was measured."""
    if not results:
        return None
    result = [row for row in results if row["edit_id"] == results[0]["edit_id"]][-1]
    return Markup("The edit {} gains {} and loses {} of {} {} images: {}.").format(
        name(result["edit"]),
        count(result["gained"]),
        count(result["lost"]),
        count(result["images"]),
        name(result["split"]),
        verdict(result),
    )


# The tests of a label beside chance: the column with the number of calibrated labels that were tested, and its name.
TESTS = {"num_halved": "split halves", "num_classed": "within classes"}
NOT_TESTED = "not tested"


def tests_run(layers: list[Row]) -> list[str]:
    """The names of the tests beside chance that were run of any calibrated label."""
    return [test for key, test in TESTS.items() if _sum(layers, key)]


def _sum(layers: list[Row], key: str) -> int:
    return sum(layer[key] or 0 for layer in layers)


def passed(layer: Row, passing: str, tested: str) -> str:
    """How many calibrated labels of a layer pass a test, for a cell: 12; 12 of 14 if only these could be tested."""
    if layer[passing] is None:
        return NOT_TESTED if layer["num_calibrated"] else NONE
    few = layer[tested] < (layer["num_calibrated"] or 0)
    return f"{count(layer[passing])} of {count(layer[tested])}" if few else count(layer[passing])


def robustness(summary: Row, layers: list[Row]) -> Markup | None:
    """How many labels pass every test that was run, and why one was not run; None if no label is calibrated."""
    if any(layer["num_outstanding"] for layer in layers):
        return Markup(
            "<strong>How many labels are robust is unknown:</strong> an earlier version made them, without today’s "
            "test within classes. <code>dissectdb extract</code> runs it."
        )
    passing, tested, calibrated = (_sum(layers, f"num_{key}") for key in ("robust", "tested", "calibrated"))
    if not calibrated:
        return None
    untested = _halves(layers) + _within_classes(summary, layers)
    if not (tests := tests_run(layers)):
        text = "<strong>None of the {} labels that chance does not explain could be tested further.</strong>{}"
        return Markup(text).format(count(calibrated), untested)
    text = "<strong>{} of the {} labels that chance does not explain{} pass {} too: {}.</strong>{}"
    return Markup(text).format(
        count(passing),
        count(tested),
        "" if tested == calibrated else " and that could be tested further",
        "the other tests" if len(tests) > 1 else "the other test that was run",
        several(tests),
        untested,
    )


def _halves(layers: list[Row]) -> str:
    """Of how many labels the halves were not compared, and why; empty if all were."""
    few = _sum(layers, "num_calibrated") - _sum(layers, "num_halved")
    why = "their neurons fire on too few images of a half, or have one value there"
    return f" The split halves of {plural(few, 'label', 'labels')} could not be compared: {why}." if few else ""


def _within_classes(summary: Row, layers: list[Row]) -> str:
    """Why all labels, or some of them, were not tested within classes; empty if all were."""
    if not _sum(layers, "num_classed"):
        without = summary["images"] - summary["images_with_class"]
        if without == summary["images"]:
            why = "the images have no classes"
        elif without:
            why = f"{plural(without, 'image has', 'images have')} no class"
        else:
            why = "there are too many images and concepts for it"
        return f" Within classes could not be tested: {why}."
    few = _sum(layers, "num_calibrated") - _sum(layers, "num_classed")
    return f" {plural(few, 'label', 'labels')} could not be tested within classes." if few else ""


def _tau(summary: Row) -> str:
    return f"τ\u00a0=\u00a0{number(summary['tau'])}"


def _percent(summary: Row) -> str:
    return f"{100 * summary['q_limit']:.3g}\u00a0%"


def edit_change(result: Row) -> Markup:
    """What one edit did on one split: 48 gained and 33 lost of 7,178, p = 0.12: no evidence that the edit helps."""
    tries = result["edits_tried"]
    corrected = f", as the best of {count(tries)} edits {p_is(result['p_corrected'])}" if tries > 1 else ""
    return Markup("<strong>{} gained and {} lost of {} {} images, {}{}: {}.</strong>{}{}").format(
        count(result["gained"]),
        count(result["lost"]),
        count(result["images"]),
        name(result["split"]),
        p_is(result["p_mcnemar"]),
        corrected,
        verdict(result),
        "" if result["percentile"] is None else f" Better than {share(result['percentile'])} of random edits.",
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


def controls_that_are_the_edit(controls: Iterable[str], layer: str) -> str:
    """Why these kinds of control have no percentile, and what to do; empty for none."""
    kinds = sorted(set(controls))
    if not kinds:
        return ""
    said = f"Every draw of {several(kinds)} scales {plain(layer)} exactly as the edit does, so it compares nothing."
    # These two are the edit if it scales all neurons alike; the others may be for other reasons.
    alike = {"all", "random"} & set(kinds)
    return f"{said} Choose a tau or a rule that scales some neurons more than others." if alike else said


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
