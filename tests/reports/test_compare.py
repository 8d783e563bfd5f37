"""Two dissections compared: the page over small warehouses, with parts missing, and with hostile names."""

# ruff: noqa: C408 - rows read like the tables as dict(image_id=1, …)

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import vl_convert

from dissectdb.reports import compare, words
from dissectdb.reports.compare import QUESTIONS, chosen, render, write
from dissectdb.warehouse import Warehouse
from tests.support.pages import Page
from tests.support.report_warehouses import HOSTILE, NOON, Frames, Plan, compared

NAMES = [*HOSTILE, "🙂 emoji 👩‍🔬", "plain"]


# ---------------------------------------------------------------- pages


@pytest.fixture(scope="module")
def rows_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Frames]:
    """rows_of(1, 2): the rows that compare two dissections of a small warehouse, which is made once for each plan."""
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


def test_exchanging_a_and_b_exchanges_their_figures(rows_of):
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


def test_only_settings_that_differ_are_bold(rows_of):
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


def test_two_unrelated_networks_get_a_verdict_from_mcnemar(rows_of):
    rows = rows_of(1, 2)
    sides = rows["sides"].with_columns(parent=pl.lit(None, pl.String))
    assert "no evidence that one is right more often" in read(rows | {"sides": sides}).text
    sure = rows["accuracies"].with_columns(p_mcnemar=pl.lit(0.01), is_evidence=pl.lit(True))
    assert "p = 0.010: evidence that one is" in read(rows | {"sides": sides, "accuracies": sure}).text


def test_different_networks_are_compared_by_their_concepts(tmp_path):
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


def test_only_settings_with_an_effect_are_listed_as_different(rows_of):
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


def test_a_part_without_anything_to_compare_is_a_sentence(rows_of):
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
    assert "Image " in read(rows_of(1, 2, Plan(thumbnails=False))).text


def test_one_dissection_is_not_compared_with_itself(rows_of):
    shown = read(rows_of(1, 1))
    assert "Nothing to compare: A and B are the same dissection" in shown.text
    assert not [attrs for tag, attrs in shown.tags if tag == "table"]
    assert "These dissections are not in the warehouse" in read(rows_of(77, 78)).text


def test_with_equal_labels_everywhere_none_has_moved(rows_of):
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


# ---------------------------------------------------------------- hostile names


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
def test_an_unknown_dissection_is_refused_with_those_that_exist(name):
    with pytest.raises(ValueError, match=r"there is 3 \(net, faces train, ViT, parts, cos\), 4 .*9 \(3, ") as error:
        chosen(SUMMARY, name)
    assert "\u202e" not in str(error.value)


def test_of_many_dissections_the_newest_are_named_and_of_none_how_to_make_one():
    many = pl.concat([SUMMARY.head(1).with_columns(dissection_id=pl.lit(i)) for i in range(1, 31)])
    with pytest.raises(ValueError, match=r"there is 11 \(.*30 \(.* and 10 older ones"):
        chosen(many, "nothing")
    with pytest.raises(ValueError, match="dissectdb extract STUDY"):
        chosen(SUMMARY.clear(), "1")
