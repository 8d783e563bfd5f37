"""Two dissections compared: the views against python, the page over small warehouses, and names that mean harm."""

# ruff: noqa: C408 - rows read like the tables as dict(image_id=1, …)

from __future__ import annotations

import html
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import vl_convert

from dissectdb.reports import compare, words
from dissectdb.reports.compare import QUESTIONS, chosen, render, write
from dissectdb.warehouse import Warehouse
from tests.reports.test_page import HOSTILE, IMAGES, NOON, Frames, Page, Plan, filled
from tests.support.rows import Tables, dissection_row, finished, layer_rows, run_view, sums_of, unit_of

NAMES = [*HOSTILE, "🙂 emoji 👩‍🔬", "plain"]

# ---------------------------------------------------------------- views


def made_labels(seed: int, neurons: int = 6) -> dict[str, list[dict[str, Any]]]:
    """Dissections 1 and 2 of network 1 and its edit 2, which share layers b and c; each has its own concept set."""
    random, tested = np.random.default_rng(seed), 1 + seed % 2  # only the first was held against chance, or both were
    rows: dict[str, list[dict[str, Any]]] = dict(layers=[], neurons=[], neuron_labels=[], concepts=[])
    rows["networks"] = [dict(network_id=1, parent_network_id=None), dict(network_id=2, parent_network_id=1)]
    for side, (layers, texts) in enumerate([("abc", "rstu"), ("bcd", "stuv")], 1):
        rows["concepts"] += [
            dict(concept_id=10 * side + i, concept_set_id=side, position=i, concept=text)
            for i, text in enumerate(texts)
        ]
        for position, layer in enumerate(layers):
            layer_id = 10 * side + position
            rows["layers"].append(
                dict(layer_id=layer_id, network_id=side, layer=layer, pooling="avg", call=None, position=position)
            )
            for unit in range(neurons + (side == 2)):  # the second has one neuron more
                neuron_id = 1000 * side + 100 * position + unit
                dead = bool(random.random() < 0.2) or (seed == 0 and layer == "c")
                concept = int(random.integers(len(texts)) if random.random() < 0.6 else 2 - side + 1)
                rows["neurons"].append(dict(neuron_id=neuron_id, layer_id=layer_id, unit=unit))
                rows["neuron_labels"].append(
                    dict(dissection_id=side, neuron_id=neuron_id, concept_id=None if dead else 10 * side + concept,
                         similarity=None if dead else float(random.random()), z=None if dead else 1.5,
                         q=None if dead or side > tested else float(random.random()),
                         calibrated=not dead and side <= tested and bool(random.random() < 0.5),
                         interpretable=not dead and bool(random.random() < 0.5))
                )  # fmt: skip
    return rows


def by_place(rows: dict[str, list[dict[str, Any]]], side: int) -> dict[tuple[str, int], dict[str, Any]]:
    """The labels of a dissection by layer and unit, with the concept as text."""
    texts = {row["concept_id"]: row["concept"] for row in rows["concepts"]}
    layers = {row["layer_id"]: row["layer"] for row in rows["layers"]}
    places = {row["neuron_id"]: (layers[row["layer_id"]], row["unit"]) for row in rows["neurons"]}
    return {
        places[label["neuron_id"]]: label | dict(concept=texts.get(label["concept_id"]))
        for label in rows["neuron_labels"]
        if label["dissection_id"] == side
    }


@pytest.mark.parametrize("seed", range(6))
def test_label_changes_match_neurons_by_layer_and_unit_and_labels_by_text(seed):
    rows = made_labels(seed)
    sides = {side: by_place(rows, side) for side in (1, 2)}
    found = run_view("label_changes", **rows)
    assert len(found) == 2 * len(sides[1].keys() & sides[2].keys()) == 24
    for row in found:
        mine, theirs = (sides[row[key]][row["layer"], row["unit"]] for key in ("dissection_id", "other_dissection_id"))
        for key in ("concept", "similarity", "z", "q", "calibrated", "interpretable"):
            assert (row[key], row[f"other_{key}"]) == (mine[key], theirs[key])
        one, other = mine["concept"], theirs["concept"]
        assert row["same"] == (one == other if one and other else None)
        expected = {(True, True): "kept" if one == other else "moved", (True, False): "vanished",
                    (False, True): "appeared", (False, False): "none"}  # fmt: skip
        assert row["kind"] == expected[bool(one), bool(other)]


@pytest.mark.parametrize("seed", range(6))
def test_layer_changes_count_and_hold_against_every_order_of_the_labels(seed):
    rows = made_labels(seed)
    changes = run_view("label_changes", **rows)
    found = run_view("layer_changes", **rows)
    assert [(row["dissection_id"], row["layer"]) for row in found] == [(1, "b"), (1, "c"), (2, "b"), (2, "c")]
    for row in found:
        keys = ("dissection_id", "other_dissection_id", "layer")
        of_layer = [change for change in changes if all(change[key] == row[key] for key in keys)]
        pairs = [(change["concept"], change["other_concept"]) for change in of_layer if change["same"] is not None]
        kinds = Counter(change["kind"] for change in of_layer)
        assert (row["neurons"], row["num_labelled"]) == (len(of_layer), len(pairs))
        assert row["num_same_label"] == kinds["kept"]
        assert (row["num_vanished"], row["num_appeared"]) == (kinds["vanished"], kinds["appeared"])
        for key in ("calibrated", "other_calibrated", "interpretable", "other_interpretable"):
            column = f"other_num_{key.removeprefix('other_')}" if key.startswith("other") else f"num_{key}"
            assert row[column] == sum(change[key] for change in of_layer)
        both = [change for change in of_layer if change["calibrated"] and change["other_calibrated"]]
        expected = [len(both), sum(change["same"] for change in both)]
        for key in ("q", "other_q"):
            column = "other_share_calibrated" if key == "other_q" else "share_calibrated"
            is_tested = any(change[key] is not None for change in of_layer)
            assert (row[column] is not None) == is_tested
            expected = expected if is_tested else [None, None]
        assert [row["num_calibrated_in_both"], row["num_calibrated_same"]] == expected
        if not pairs:
            assert row["share_same"] is row["same_by_chance"] is row["chance_sd"] is row["kappa"] is None
            continue
        mine, theirs = zip(*pairs, strict=True)
        equal = [sum(a == b for a, b in zip(mine, order, strict=True)) for order in itertools.permutations(theirs)]
        assert row["same_by_chance"] == pytest.approx(np.mean(equal))
        assert row["chance_sd"] == pytest.approx(np.std(equal), abs=1e-6)
        open_to_it = len(pairs) - np.mean(equal)
        expected = pytest.approx((kinds["kept"] - np.mean(equal)) / open_to_it) if open_to_it > 1e-9 else None
        assert row["kappa"] == expected


@pytest.mark.parametrize("seed", range(4))
def test_network_changes_are_those_of_the_images_that_both_networks_saw(seed):
    random = np.random.default_rng(seed)
    truth = {i: None if random.random() < 0.1 else str(random.integers(2)) for i in range(60)}
    said = {n: {i: str(random.integers(2 + n % 2)) for i in truth if random.random() < 0.9} for n in (1, 2)}
    found = run_view(
        "network_changes",
        networks=[dict(network_id=n, name=f"net {n}", classes=list("012")) for n in said],
        splits=[dict(split_id=s, dataset_id=1, split=f"split {s}") for s in (1, 2)],
        images=[dict(image_id=i, split_id=1 + i % 2, class_=name) for i, name in truth.items()],
        predictions=[
            dict(network_id=n, image_id=i, class_=name, loss=float(n)) for n in said for i, name in said[n].items()
        ],
    )
    assert [(row["network_id"], row["split_id"]) for row in found] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for row in found:
        mine, theirs = said[row["network_id"]], said[row["other_network_id"]]
        asked = [i for i in truth if 1 + i % 2 == row["split_id"] and truth[i] and i in mine and i in theirs]
        gained = sum(mine[i] != truth[i] == theirs[i] for i in asked)
        lost = sum(theirs[i] != truth[i] == mine[i] for i in asked)
        assert (row["images"], row["gained"], row["lost"]) == (len(asked), gained, lost)
        assert row["correct"] == sum(mine[i] == truth[i] for i in asked) == row["accuracy"] * len(asked)
        assert row["other_correct"] - row["correct"] == gained - lost
        assert row["changed"] == sum(mine[i] != theirs[i] for i in asked)
        assert (row["loss"], row["other_loss"]) == (row["network_id"], row["other_network_id"])
        tail = sum(math.comb(gained + lost, k) for k in range(min(gained, lost) + 1)) / 2 ** (gained + lost)
        assert row["p_mcnemar"] == pytest.approx(min(1, 2 * tail))


# ---------------------------------------------------------------- pages


def more(plan: Plan, layers: tuple[str, ...], concepts: tuple[str, ...], tested: bool) -> Tables:
    """Layers of the second network, and dissections: 2 of it, 3 with another scorer, 4 with another concept set."""
    random = np.random.default_rng(1)
    noise = {layer: random.normal(size=(IMAGES, 4)) for layer in layers}
    tables = layer_rows(noise, range(1, IMAGES + 1), network_id=2, first_id=500)
    layer_ids = [row["layer_id"] for row in tables["layers"]]
    ledger = finished(layer_ids, {1: IMAGES})
    shared = dict(device="cpu", precision="float32", versions="{}", started_at=NOON)
    for row in ledger["extractions"]:
        row.update(extraction_id=row["extraction_id"] + 9000, fingerprint=str(row["extraction_id"]), **shared)
    for row in ledger["extraction_blocks"]:
        row.update(extraction_id=row["extraction_id"] + 9000, seconds=0.1, finished_at=NOON)
    probing_images = [dict(image_id=i, split_id=1) for i in range(1, IMAGES + 1)]
    sums = sums_of(tables | ledger | dict(images=probing_images))
    settings = dict(top_k=8, tau=plan.tau, accuracy_images=5, images_neurons=2)
    size = len(plan.classes) + 1
    null = [dict(dissection_id=d, layer_id=layer, null_group=length, z=z, p=p) for length in range(8, 257)
            for d, ids in ((1, range(len(plan.layers))), (2, layer_ids), (3, range(len(plan.layers))))
            for layer in ids for z, p in ((-9.0, 0.5), (0.0, 0.001))]  # fmt: skip
    return tables | ledger | sums | dict(
        concept_sets=[dict(concept_set_id=2, name="others", templates=["{}"], fingerprint="y")],
        concepts=[dict(concept_id=100 + i, concept_set_id=2, position=i, concept=text)
                  for i, text in enumerate(concepts)],
        concept_embeddings=[dict(clip_id=1, concept_id=100 + i, embedding=np.eye(size)[i % size].tolist())
                            for i in range(len(concepts))],
        dissections=[dissection_row(2, network_id=2, **settings), dissection_row(3, scorer="cos", **settings),
                     dissection_row(4, concept_set_id=2, **settings)],
        null_quantiles=null if tested else [],
    )  # fmt: skip


@contextmanager
def compared(
    path: Path,
    plan: Plan,
    layers: tuple[str, ...] = ("conv1", "extra"),
    concepts: tuple[str, ...] = ("Left", "Right"),
    tested: bool = True,
) -> Iterator[Warehouse]:
    with filled(path, plan) as warehouse:
        warehouse.write(unit_of(more(plan, layers, concepts, tested)))
        list(warehouse.build())
        yield warehouse


@pytest.fixture(scope="module")
def rows_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Frames]:
    """rows_of(1, 2): the answers for two dissections of a small warehouse, which is made once for each way."""
    known: dict[Any, Path] = {}

    def make(a: int, b: int, plan: Plan = Plan(), **ways: Any) -> Frames:  # noqa: B008 - frozen
        key = (plan, *ways.items())
        if key not in known:
            path = tmp_path_factory.mktemp("compare") / "warehouse.duckdb"
            with compared(path, plan, **ways):
                known[key] = path
        with Warehouse(known[key], read_only=True) as warehouse:
            return compare.ask(warehouse.rows, a, b)

    return make


def read(rows: Frames) -> Page:
    shown = Page(render(rows, generated_at=NOON))
    assert "None" not in shown.text
    for chart in shown.charts.values():
        vl_convert.vegalite_to_vega(chart)
    return shown


PAIRS = [(1, 2), (2, 1), (1, 3), (3, 1), (1, 4), (2, 4)]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_every_pair_makes_a_page_that_says_what_the_views_say(rows_of, a, b):
    rows = rows_of(a, b)
    shown = read(rows)
    [totals] = rows["totals"].to_dicts()
    for layer in rows["layers"].to_dicts():
        at = shown.cells.index(layer["layer"])
        expected = [layer["neurons"], layer["num_labelled"]] + ([layer["num_same_label"]] if b != 4 else [])
        assert shown.cells[at + 1 : at + 1 + len(expected)] == [words.count(value) for value in expected]
    assert totals["neurons"] == rows["layers"]["neurons"].sum() > 0
    kept = f"Of these {totals['num_same_label']} ({words.share(totals['share_same'])}) keep it."
    assert (kept in shown.text) == (b != 4)
    for move in rows["moves"].head(3).to_dicts():
        assert {move["concept"], move["other_concept"]} <= set(shown.cells)
    assert rows["moves"]["neurons"].sum() == totals["num_labelled"] - (totals["num_same_label"] or 0)
    assert rows["neurons"].height == rows["moves"]["neurons"].sum()


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_names_both_dissections_and_is_bounded(name):
    question = QUESTIONS[name]
    assert question.parameters == ("a", "b")
    assert name == "totals" or "limit" in question.sql or "qualify" in question.sql


def test_turning_a_and_b_round_turns_what_is_said_of_them_round(rows_of):
    there, back = rows_of(1, 2), rows_of(2, 1)
    for mine, theirs in (("num_calibrated", "other_num_calibrated"), ("gained", "lost"), ("loss", "other_loss")):
        question = "layers" if "num" in mine else "accuracies"
        assert there[question][mine].to_list() == back[question][theirs].to_list()
    assert there["totals"]["num_same_label"].to_list() == back["totals"]["num_same_label"].to_list()
    assert there["flips"].filter(kind="gained").height == back["flips"].filter(kind="lost").height > 0


def test_the_sql_behind_a_part_holds_the_ids_and_can_be_asked(tmp_path):
    with compared(tmp_path / "warehouse.duckdb", Plan()) as warehouse:
        rows = compare.ask(warehouse.rows, "1", "vggnet+0")
    queries = re.findall(r"<code>([^<]*)</code></pre>", render(rows))
    assert len(queries) == 6
    assert "dissection_id = 1 and other_dissection_id = 2" in "".join(queries)
    with Warehouse(tmp_path / "warehouse.duckdb", read_only=True) as warehouse:
        for query, name in zip(queries, ["sides", "layers", "moves", "neurons", "accuracies", "flips"], strict=True):
            assert warehouse.ask(html.unescape(query)).equals(rows[name])


def test_what_differs_is_bold_and_what_does_not_is_not(rows_of):
    text = render(rows_of(1, 3))
    assert "<strong><bdi>soft_wpmi</bdi></strong>" in text
    assert "<strong><bdi>vggnet</bdi></strong>" not in text
    assert "differ in scorer; the same in both: network, dataset" in read(rows_of(1, 3)).text


def test_pictures_are_of_the_images_that_changed_sides(rows_of):
    rows = rows_of(1, 2)
    shown = read(rows)
    [test] = rows["accuracies"].filter(split="test").to_dicts()
    assert (test["gained"], test["lost"]) == (1, 0)
    assert sum(tag == "img" for tag, _ in shown.tags) == rows["flips"].height == test["gained"] + test["lost"]
    assert "Gained: 1 image." in shown.text
    assert "1 gained, 0 lost, p = 1.00, not corrected for the edits that were tried." in shown.text


def test_two_networks_that_are_no_edits_get_a_verdict_from_mcnemar(rows_of):
    rows = rows_of(1, 2)
    sides = rows["sides"].with_columns(parent=pl.lit(None, pl.String))
    assert "no evidence that one is right more often" in read(rows | {"sides": sides}).text
    sure = rows["accuracies"].with_columns(p_mcnemar=pl.lit(0.01), is_evidence=pl.lit(True))
    assert "p = 0.010: evidence that one is" in read(rows | {"sides": sides, "accuracies": sure}).text


@pytest.mark.parametrize(
    ("parents", "pairs"),
    [
        ((None, 1, 1, 2, None), {(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)}),  # 4 is an edit of an edit
        ((None, None, 1, 2, 2), {(1, 3), (2, 4), (2, 5), (4, 5)}),
    ],
)
def test_neurons_are_matched_by_unit_in_a_network_and_its_edits_only(parents, pairs):
    ids = range(1, len(parents) + 1)
    label = dict(concept_id=1, similarity=1.0, z=1.0, q=0.1, calibrated=False, interpretable=True)
    rows = run_view(
        "label_changes",
        networks=[dict(network_id=i, parent_network_id=parent) for i, parent in zip(ids, parents, strict=True)],
        layers=[dict(layer_id=i, network_id=i, layer="a", pooling="avg", call=None, position=0) for i in ids],
        neurons=[dict(neuron_id=i, layer_id=i, unit=7) for i in ids],
        neuron_labels=[label | dict(dissection_id=i, neuron_id=i) for i in ids],
        concepts=[dict(concept_id=1, concept_set_id=1, position=0, concept="x")],
    )
    found = {(row["dissection_id"], row["other_dissection_id"]) for row in rows}
    assert found == pairs | {(b, a) for a, b in pairs}


def test_different_networks_are_compared_by_what_they_have_words_for(tmp_path):
    with compared(tmp_path / "warehouse.duckdb", Plan()) as warehouse:
        warehouse.connection.execute("update networks set parent_network_id = null, edit_id = null")
        rows = compare.ask(warehouse.rows, 1, 2)
        carried = {
            d: dict(
                warehouse.rows(
                    f"select concept, count(*) from all_labels where dissection_id = {d} and calibrated group by 1"
                ).rows()
            )
            for d in (1, 2)
        }
    shown = read(rows)
    words_of = rows["words"].to_dicts()
    assert {row["concept"]: row["neurons"] for row in words_of if row["neurons"]} == carried[1] != {}
    assert {row["concept"]: row["other_neurons"] for row in words_of if row["other_neurons"]} == carried[2] != {}
    both = len(carried[1].keys() & carried[2].keys())
    every = len(carried[1].keys() | carried[2].keys())
    assert f"{both} of {every} concept" in shown.text
    assert "no neuron of one is a neuron of the other" in shown.text
    assert "By layer and unit" not in shown.text
    assert "κ" not in shown.text
    assert rows["neurons"].height == rows["layers"].height == 0


def test_only_what_makes_a_difference_is_said_to_differ(rows_of):
    rows = rows_of(1, 3)  # soft_wpmi and cos

    def differing(**b: Any) -> tuple[str, str]:
        first = rows["sides"].to_dicts()[0]
        sides = pl.DataFrame([first, first | {"side": "B", "dissection_id": 9} | b], infer_schema_length=None)
        shown = read(rows | {"sides": sides})
        return shown.text, shown.html

    assert "differ in settings of the scorer or the rule only: limit on q." in differing(q_limit=0.5)[0]
    assert "rule only: rule of what is interpretable." in differing(rule="q")[0]
    assert "Power of differences" not in differing(rank_power=1.0, q_limit=0.5)[1], "soft_wpmi does not read it"
    assert "Scale of the softmax" in differing(softmax_scale=1.0)[1]
    said = differing(dataset="others", dataset_fingerprint="z")[0]
    assert "differ in dataset; the same in both: network, split that was probed" in said
    every = rows["sides"]["concepts"][0]
    said = differing(concept_set_fingerprint="z", templates="a {}", concepts_in_common=every)[0]
    assert "A and B differ in prompts; the same in both" in said


# ---------------------------------------------------------------- parts that are missing


def test_what_has_nothing_to_compare_is_a_sentence(rows_of):
    scorers = read(rows_of(1, 3)).text
    assert "Both dissect the same network, so its predictions are the same." in scorers
    one_layer = read(rows_of(1, 2)).text
    assert "One layer is in both, so there is no depth to draw." in one_layer
    assert "4 neurons of A, in lin1, not in B." in one_layer
    assert "4 neurons of B, in extra, not in A." in one_layer
    apart = read(rows_of(1, 2, layers=("elsewhere",))).text
    assert "No layer is in both, so there is none to compare." in apart
    assert "No neuron has a label in both." in apart
    concepts = read(rows_of(1, 4)).text
    assert "The labels cannot be compared: the two concept sets have no concept in common" in concepts
    assert "keep it" not in concepts
    assert "same by chance" not in concepts
    [totals] = rows_of(1, 4)["totals"].to_dicts()
    assert totals["share_same"] is totals["num_same_label"] is totals["num_calibrated_same"] is None
    layers = rows_of(1, 4)["layers"]
    assert layers["num_same_label"].null_count() == layers["share_same"].null_count() == len(layers) > 0
    assert rows_of(1, 4)["moves"].is_empty(), "a word of another set is no move"
    blind = read(rows_of(1, 2, Plan(truth=False))).text
    assert "Who is right is unknown: no image with predictions of both networks is of a class of both." in blind
    untested = read(rows_of(1, 2, tested=False)).text
    assert "that chance does not explain:" not in untested
    assert "The labels of B were not held against chance" in read(rows_of(1, 4)).text
    assert "no picture" in read(rows_of(1, 2, Plan(thumbnails=False))).text


def test_one_dissection_is_not_compared_with_itself(rows_of):
    shown = read(rows_of(1, 1))
    assert "Nothing to compare: A and B are the same dissection" in shown.text
    assert not [attrs for tag, attrs in shown.tags if tag == "table"]
    assert "These dissections are not in the warehouse" in read(rows_of(77, 78)).text


def test_equal_labels_everywhere_leave_nothing_that_moved(rows_of):
    rows = rows_of(1, 3)
    totals = rows["totals"].with_columns(num_same_label="num_labelled", share_same=pl.lit(1.0))
    shown = read(rows | {"totals": totals, "moves": rows["moves"].clear(), "neurons": rows["neurons"].clear()})
    assert "Every neuron with a label in both keeps it." in shown.text
    assert "100.0 % of the labels are the same in both" in shown.text


def test_a_missing_answer_is_named(rows_of):
    with pytest.raises(KeyError, match="no rows for moves"):
        render({name: frame for name, frame in rows_of(1, 2).items() if name != "moves"})


def test_writing_leaves_one_file(rows_of, tmp_path):
    write(rows_of(1, 2), tmp_path / "compare.html", generated_at=NOON)
    assert (tmp_path / "compare.html").read_text(encoding="utf-8") == render(rows_of(1, 2), generated_at=NOON)
    assert [path.name for path in tmp_path.iterdir()] == ["compare.html"]


# ---------------------------------------------------------------- names that mean harm


def test_hostile_names_stay_names(rows_of):
    one, two, three, _, emoji, _ = NAMES
    plain = dict(classes=("a", "b", "c", "d"), concepts=("e", "f", "g", "h"))
    harmful = dict(classes=tuple(NAMES[:4]), concepts=tuple(NAMES[:4]), layers=(one, two), network=one, clip=two,
                   splits=(three, one))  # fmt: skip
    for a, b in ((1, 2), (1, 3), (1, 4)):
        harmless = read(rows_of(a, b, Plan(**plain), layers=("conv1", "lin1"), concepts=("e", "j")))
        shown = read(rows_of(a, b, Plan(**harmful), layers=(one, two), concepts=(one, emoji)))
        tags, expected = (Counter(tag for tag, _ in page.tags) for page in (shown, harmless))
        for tag in ("script", "img", "svg", "iframe", "p", "td", "style", "strong"):
            assert tags[tag] == expected[tag], tag
        everything = shown.html + json.dumps(shown.charts, ensure_ascii=False)
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u2028]", everything)
        assert "{{ 7 * 7 }}" in shown.text
    assert emoji in shown.text


# ---------------------------------------------------------------- which dissection is meant

SUMMARY = pl.DataFrame(
    [
        dict(dissection_id=d, network=network, dataset="faces", probing_split="train", clip="ViT", concept_set="parts",
             scorer=scorer)
        for d, network, scorer in ((7, "net", "cos"), (9, "3", "soft_wpmi"), (3, "net", "cos"), (4, NAMES[0], "cos"))
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [("7", 7), ("3", 3), ("net", 7), ("cos", 7), ("soft_wpmi", 9), ("faces train", 9), ("ViT", 9), ("parts", 9),
     (NAMES[0], 4)],
)  # fmt: skip
def test_a_dissection_is_chosen_by_id_before_name_and_the_newest_of_several(name, expected):
    assert chosen(SUMMARY, name) == expected


@pytest.mark.parametrize("name", ["", "8", "faces", "train", "NET", "03", "7 ", NAMES[2]])
def test_a_name_that_fits_nothing_is_told_what_there_is(name):
    with pytest.raises(ValueError, match=r"there is 3 \(net, faces train, ViT, parts, cos\), 4 .*9 \(3, ") as error:
        chosen(SUMMARY, name)
    assert "\u202e" not in str(error.value)


def test_of_many_dissections_the_newest_are_named_and_of_none_how_to_make_one():
    many = pl.concat([SUMMARY.head(1).with_columns(dissection_id=pl.lit(i)) for i in range(1, 31)])
    with pytest.raises(ValueError, match=r"there is 11 \(.*30 \(.* and 10 older ones"):
        chosen(many, "nothing")
    with pytest.raises(ValueError, match="dissectdb extract STUDY"):
        chosen(SUMMARY.clear(), "1")
