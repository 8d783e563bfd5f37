"""The sentences of a comparison: the two dissections side by side, and what changed from A to B.

compared(a, b); differences(a, b)           # a, b: the rows of the question "sides"
headline(a, totals); labels(a, totals)      # totals: the row of the question "totals"
"""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from dissectdb.reports import words
from dissectdb.reports.parts import Row, Table, whole
from dissectdb.reports.words import count, name, number, plural, share

# What makes a dissection: its heading, the column that names it, and the column that tells whether A and B share it.
MAKING = [
    ("Network", "network", "network_fingerprint"),
    ("Dataset", "dataset", "dataset_fingerprint"),
    ("Split that was probed", "probing_split", "probing_split"),
    ("CLIP", "clip", "clip_fingerprint"),
    ("Concept set", "concept_set", "concept_set_fingerprint"),
    ("Scorer", "scorer", "scorer"),
]
# Always shown, and shown where they differ: heading and column.
SHOWN = {"images": "Images", "concepts": "Concepts", "rule": "Interpretable by the rule", "created_at": "Labelled on"}
SHOWN_IF_DIFFERENT = {
    "architecture": "Architecture", "weights": "Weights", "parent": "Edit of", "images_left_out": "Images left out",
    "clip_weights": "Weights of CLIP", "templates": "Prompts", "tau": "τ", "q_limit": "Limit on q", "engine": "Engine",
    "top_k": "Images per neuron", "softmax_scale": "Scale of the softmax", "prior_weight": "Weight of the prior",
    "p_first": "p of the first image", "p_last": "p of the last image", "rank_fraction": "Share reordered",
    "rank_power": "Power of differences", "rank_scale": "Power of the cosine", "include_dead": "Dead in the prior",
    "min_images": "Least images",
    "kept_concepts": "Concepts kept", "null_draws": "Draws of the null", "bootstraps": "Resamples", "seed": "Seed",
    "accuracy_images": "Images that judge a neuron", "images_neurons": "Neurons that speak for an image",
    "network_fingerprint": "Fingerprint of the network", "dataset_fingerprint": "Fingerprint of the dataset",
    "clip_fingerprint": "Fingerprint of CLIP", "concept_set_fingerprint": "Fingerprint of the concepts",
}  # fmt: skip


OF_LIKELIHOODS = ("softmax_scale", "prior_weight", "p_first", "p_last", "include_dead")
READ_BY = {  # settings that only some scorers read; others are not compared
    "soft_wpmi": OF_LIKELIHOODS,
    "wpmi": OF_LIKELIHOODS,
    "pearson": ("softmax_scale",),
    "rank_reorder": ("rank_fraction", "rank_power", "rank_scale"),
}
OF_SCORERS = {key for keys in READ_BY.values() for key in keys}


def differing_settings(a: Row, b: Row) -> list[str]:
    """The keys of SHOWN_IF_DIFFERENT that differ, except settings that neither of the two scorers reads."""
    read = {key for side in (a, b) for key in READ_BY.get(side["scorer"], ())}
    if "q" not in (a["rule"], b["rule"]) or "tau" in (a["rule"], b["rule"]):
        read.add("tau")
    unread = (OF_SCORERS | {"tau"}) - read
    return [key for key in SHOWN_IF_DIFFERENT if a[key] != b[key] and key not in unread]


def compared(a: Row, b: Row) -> Table:
    """A table of both dissections side by side, with differences in bold."""
    terms = [(heading, key, same) for heading, key, same in MAKING]
    terms += [(heading, key, key) for key, heading in SHOWN.items()]
    terms += [(SHOWN_IF_DIFFERENT[key], key, key) for key in differing_settings(a, b)]
    rows = []
    for heading, key, same in terms:
        cells = [Markup("{:%d %B %Y, %H:%M}").format(side[key]) if key == "created_at" else _said(key, side[key])
                 for side in (a, b)]  # fmt: skip
        differs = a[same] != b[same] and key != "created_at"
        rows.append([heading, *(Markup("<strong>{}</strong>").format(cell) if differs else cell for cell in cells)])
    return Table([("", False), (f"A: dissection {a['dissection_id']}", False),
                  (f"B: dissection {b['dissection_id']}", False)], rows)  # fmt: skip


def _said(key: str, value: Any) -> Markup:
    if key.endswith("fingerprint"):
        value = value[:12]
    if isinstance(value, bool):
        value = "yes" if value else "no"
    elif isinstance(value, int):
        value = count(value)
    elif isinstance(value, float):
        value = number(value)
    return whole(value)


def title(sides: list[Row]) -> str:
    """The title of the page's window: A and B by network and dataset."""
    texts = list(dict.fromkeys(f"{words.plain(row['network'])} on {words.plain(row['dataset'])}" for row in sides))
    return f"{' and '.join(texts) or 'Dissections'} compared"


def described(row: Row, other: Row) -> Markup:
    """A dissection by its number and by what differs from the other one."""
    differing = [name(row[key], 40) for _, key, same in MAKING if row[same] != other[same]]
    text = Markup("dissection {}").format(row["dissection_id"])
    return text + Markup(" ({})").format(Markup(", ").join(differing)) if differing else text


def differences(a: Row, b: Row) -> str:
    """A sentence on what differs between the two, and what is the same."""
    differing = [heading for heading, _, same in MAKING if a[same] != b[same]]
    alike = [heading for heading, _, same in MAKING if a[same] == b[same]]

    def listed(headings: list[str]) -> str:
        return words.several([each if each.isupper() else each[0].lower() + each[1:] for each in headings])

    same_words = a["concepts"] == b["concepts"] == a["concepts_in_common"]
    if "Concept set" in differing and same_words and a["templates"] != b["templates"]:
        differing[differing.index("Concept set")] = "Prompts"  # the same concepts in other prompts
    if not differing:
        settings = [SHOWN_IF_DIFFERENT[key] for key in differing_settings(a, b)]
        settings += ["Rule of what is interpretable"] if a["rule"] != b["rule"] else []
        return "A and B differ in settings of the scorer or the rule only" + (
            f": {listed(settings)}." if settings else ", which the table does not show."
        )
    return f"A and B differ in {listed(differing)}{f'; the same in both: {listed(alike)}' if alike else ''}."


# ---------------------------------------------------------------- what changed, in sentences


NOT_BY_UNIT = (
    "A and B are different networks, neither of them an edit of the other, so no neuron of one is a neuron of the "
    "other; they are compared by what they have words for."
)


NO_CONCEPT_IN_COMMON = (
    "The concept sets have no concept in common, so whether a neuron keeps its meaning cannot be compared by its label."
)


def headline_of_words(records: list[Row]) -> str:
    """The finding on two different networks, in one line. found: rows of the question "words"."""
    if not records:
        return "Neither network has a label that can be believed"
    both = records[0]["num_of_a"] + records[0]["num_of_b"] - records[0]["num_concepts"]
    every = plural(records[0]["num_concepts"], "concept is a label", "concepts are labels")
    return f"{count(both)} of {every} in both networks"


def of_words(records: list[Row]) -> list[str]:
    """How many concepts either of two networks has neurons for."""
    if not records:
        return [NOT_BY_UNIT]
    a, b, every = (records[0][key] for key in ("num_of_a", "num_of_b", "num_concepts"))
    return [
        NOT_BY_UNIT,
        f"A has believable labels of {plural(a, 'concept', 'concepts')}, B of {count(b)}: {count(a + b - every)} in "
        f"both, {count(every - b)} in A only, {count(every - a)} in B only.",
    ]


def headline(a: Row, totals: Row) -> str:
    """The finding, in one line."""
    if not totals["neurons"]:
        return "No layer is in both dissections"
    if not a["concepts_in_common"]:
        return "The labels cannot be compared: the two concept sets have no concept in common"
    if not totals["num_labelled"]:
        return "No neuron has a label in both dissections"
    return f"{share(totals['share_same'])} of the labels are the same in both"


def labels(a: Row, totals: Row) -> list[str]:
    """How many neurons keep their label, and how many would keep it by chance."""
    if not totals["neurons"]:
        return ["No layer of A is a layer of B by name, so no neuron of one is a neuron of the other."]
    text = f"By layer and unit {plural(totals['neurons'], 'neuron is', 'neurons are')} in both"
    if not a["concepts_in_common"]:
        return [f"{text}. {NO_CONCEPT_IN_COMMON}"]
    if not totals["num_labelled"]:
        return [f"{text}; none of them has a label in both."]
    text += f", {count(totals['num_labelled'])} with a label in both."
    by_chance = f"{number(totals['same_by_chance'])} (standard deviation {number(totals['chance_sd'])})"
    return [
        f"{text} Of these {count(totals['num_same_label'])} ({share(totals['share_same'])}) keep it. Were the labels "
        f"of B dealt out anew within each layer, each as often as it is, {by_chance} would.",
    ]


def layer_that_changed_most(a: Row, layers: list[Row]) -> list[Markup]:
    """The layers that changed most and least, if there are at least two."""
    judged = [row for row in layers if row["share_same"] is not None]
    if len(judged) < 2 or not a["concepts_in_common"]:
        return []
    most, least = (pick(judged, key=lambda row: row["share_same"]) for pick in (min, max))
    if most["share_same"] == least["share_same"]:
        return [Markup("{} of the labels are the same in every layer.").format(share(most["share_same"]))]
    text = Markup("{} changed most: {} of its labels are the same; {} changed least: {}.")
    return [text.format(name(most["layer"]), share(most["share_same"]), name(least["layer"]),
                        share(least["share_same"]))]  # fmt: skip


def calibrated(a: Row, totals: Row) -> list[str]:
    """How many labels chance does not explain, in A, in B and in both."""
    tested = {"A": totals["is_tested"], "B": totals["is_other_tested"]}
    if not totals["neurons"] or not any(tested.values()):
        return []
    if not all(tested.values()):
        [side] = [side for side, is_tested in tested.items() if not is_tested]
        return [f"The labels of {side} were not held against chance, so calibrated labels cannot be compared."]
    both, same = totals["num_calibrated_in_both"], totals["num_calibrated_same"]
    kept = f", of which {count(same)} ({share(same / both)}) keep it" if both and a["concepts_in_common"] else ""
    return [
        f"A label that chance does not explain: {count(totals['num_calibrated'])} of these neurons in A, "
        f"{count(totals['other_num_calibrated'])} in B, {count(both)} in both{kept}."
    ]


def unmatched(records: list[Row]) -> list[Markup]:
    """Neurons that only one of the two has."""
    sentences = []
    for side, other in (("A", "B"), ("B", "A")):
        layers = [row for row in records if row["side"] == side]
        if layers:
            more = f" and {plural(len(layers) - 5, 'more layer', 'more layers')}" if len(layers) > 5 else ""
            neurons = plural(sum(row["neurons"] for row in layers), "neuron", "neurons")
            first_layers = Markup(", ").join(name(row["layer"]) for row in layers[:5])
            sentences.append(Markup("{} of {}, in {}{}, not in {}.").format(neurons, side, first_layers, more, other))
    return sentences


def right(sides: list[Row], records: list[Row]) -> list[Markup]:
    """One sentence per split on which the two networks were measured, the last split first."""
    is_edit = any(row["parent"] is not None for row in sides)
    sentences = []
    for row in reversed(records[-3:]):
        if not row["gained"] + row["lost"]:
            verdict = "no image changed sides"
        elif is_edit:
            verdict = f"{words.p_is(row['p_mcnemar'])}, not corrected for the edits that were tried"
        elif row["is_evidence"]:
            verdict = f"{words.p_is(row['p_mcnemar'])}: evidence that one is right more often"
        else:
            verdict = f"{words.p_is(row['p_mcnemar'])}: no evidence that one is right more often"
        text = Markup("Of {} {} images of {} A gets {} right and B {}: {} gained, {} lost, {}.")
        sentences.append(
            text.format(count(row["images"]), name(row["split"]), name(row["dataset"]), count(row["correct"]),
                        count(row["other_correct"]), count(row["gained"]), count(row["lost"]), verdict)
        )  # fmt: skip
    return sentences
