"""The report over small warehouses: whole, with parts missing, and with names that mean harm."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st

from dissectdb.reports import words
from dissectdb.reports.page import render, write
from dissectdb.warehouse.database import Warehouse
from tests.support.pages import Page
from tests.support.report_warehouses import HOSTILE, IMAGES, NOON, Frames, Plan, ask, filled, images, named


@pytest.fixture(scope="module")
def rows_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Frames]:
    """rows_of(edits=0): the rows of the page over a small warehouse, which is made once for each plan."""
    rows_by_plan: dict[Plan, Frames] = {}

    def make(**changes: Any) -> Frames:
        plan = Plan(**changes)
        if plan not in rows_by_plan:
            with filled(tmp_path_factory.mktemp("report") / "warehouse.duckdb", plan) as warehouse:
                rows_by_plan[plan] = ask(warehouse)
        return rows_by_plan[plan]

    return make


def page(rows: Frames) -> Page:
    return Page(render(rows, generated_at=NOON))


@pytest.fixture(scope="module")
def whole(rows_of: Callable[..., Frames]) -> Page:
    """The page of the default warehouse."""
    return page(rows_of())


def numbers_drawn(charts: dict[str, Any]) -> list[int]:
    return [len(values) for chart in charts.values() for values in chart["datasets"].values()]


# ---------------------------------------------------------------- the whole page


def test_every_question_has_few_rows_and_the_default_warehouse_leaves_none_empty(rows_of):
    rows = rows_of(tested=True)
    assert max(len(frame) for frame in rows.values()) <= 5000
    empty = {name for name, frame in rows.items() if frame.is_empty()}
    assert empty == {"controls", "scaled", "concept_groups", "concept_effects", "neuron_effects"}


def test_the_page_says_what_the_views_say(rows_of, whole):
    rows, shown = rows_of(), whole
    [summary] = rows["summary"].to_dicts()
    own = rows["accuracies"].row(0, named=True)
    assert (own["images"], own["correct"]) == (IMAGES, IMAGES - 4)
    assert "vggnet is right on 83.3 % of 24 validation images of faces." in shown.text
    assert "Labels by CLIP face-clip (w.pt)" in shown.text
    assert f"{summary['images']} of faces, split validation; 1 left out (1 blank)" in shown.text
    for layer in rows["layers"].to_dicts():
        at = shown.cells.index(layer["layer"])
        expected = [layer["neurons"], layer["num_above_tau"]]
        assert shown.cells[at + 1 : at + 3] == [words.count(number) for number in expected]
        assert shown.cells[at + 3] == words.share(layer["share_above_tau"])
    first = rows["concepts_by_neuron"].row(0, named=True)
    assert f"{first['neurons']} of the {first['num_neurons']} neurons of" in shown.text
    assert "+1 of 24 test images, p = 1.00: no evidence that the edit helps." in shown.text
    assert "20 are right before and 21 after, 1 gained and 0 lost" in shown.text


def test_charts_draw_the_rows_of_the_views(rows_of, whole):
    rows = rows_of()
    drawn = [values for chart in whole.charts.values() for values in chart["datasets"].values()]
    bars = next(values for values in drawn if "is_long" in values[0])
    assert [(bar["concept"], bar["neurons"], bar["share"]) for bar in bars] == (
        rows["concepts_by_neuron"].select("concept", "neurons", "share").rows()
    )
    intervals = [bar for values in drawn if "lift" in values[0] for bar in values]
    assert len(intervals) == len(rows["concepts_by_prediction"])
    histogram = [bar["neurons"] for values in drawn if "above" in values[0] for bar in values]
    assert sum(histogram) == rows["layers"]["neurons"].sum() - rows["layers"]["num_dead"].sum()


def test_every_chart_is_valid_small_and_described_in_words(whole):
    assert len(whole.charts) >= 7
    assert max(numbers_drawn(whole.charts)) <= 5000
    for chart in whole.charts.values():
        vl_convert.vegalite_to_vega(chart)
    places = [attrs for _, attrs in whole.tags if attrs.get("class") == "chart"]
    assert sorted(attrs["id"] for attrs in places) == sorted(whole.charts)
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in places)


def test_pictures_are_embedded_and_few(whole):
    most = 12 * 8 + 12  # top_neurons.sql, and the top of the page repeats twelve
    assert most + 2 * 7 * 3 <= 150  # examples.sql
    sources = [attrs["src"] or "" for tag, attrs in whole.tags if tag == "img"]
    assert sources
    for source in sources:
        kind, data = source.split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")


def test_the_page_loads_nothing_from_a_network(whole):
    html = whole.html
    library = max(whole.scripts, key=len)
    assert "://" not in html.replace(library, "").replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert set(re.findall(r"https?://([\w.]+)", library)) <= {"www.w3.org", "vega.github.io", "github.com"}
    assert not [tag for tag, attrs in whole.tags if tag in ("link", "iframe", "object", "base")]
    assert all((attrs["href"] or "").startswith("#") for _, attrs in whole.tags if "href" in attrs)
    assert len(html) < 2.5e6


def test_the_policy_allows_the_scripts_of_the_page_by_hash_and_nothing_else(whole):

    def hashes(texts: list[str]) -> str:
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    assert whole.policy.split("; ") == [
        "default-src 'none'",
        f"script-src {hashes([text for text in whole.scripts if text not in whole.data])}",
        f"style-src {hashes(whole.styles)}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert not [attrs for _, attrs in whole.tags if "style" in attrs or any(key.startswith("on") for key in attrs)]


def test_rendering_is_repeatable_and_writing_leaves_one_file(rows_of, whole, tmp_path):
    rows = rows_of()
    write(rows, tmp_path / "report.html", generated_at=NOON)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == whole.html
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(ValueError, match="there is no folder"):
        write(rows, tmp_path / "nowhere" / "report.html")


def test_a_missing_answer_is_named(rows_of):
    with pytest.raises(KeyError, match="no rows for edits"):
        render({name: frame for name, frame in rows_of().items() if name != "edits"})


# ---------------------------------------------------------------- labels compared with chance


def test_without_a_null_the_page_uses_the_original_rule(whole):
    assert "are interpretable by the original study’s rule: their label scores above τ = −100." in whole.text
    assert "Neurons of pure noise pass that rule too." in whole.text
    assert "no null was drawn for this dissection" in whole.text
    assert "chance does not explain" not in whole.text
    assert " q " not in whole.text


def test_the_rule_q_is_explained_in_plain_words(rows_of):
    rows = rows_of(rule="q", tested=True)
    shown, layers = page(rows), rows["layers"].to_dicts()
    calibrated, robust = (sum(row[key] for row in layers) for key in ("num_calibrated", "num_robust"))
    assert 0 < robust < calibrated < 8
    assert f"{calibrated} of 8 neurons have a label that chance does not explain: at most 5 % of these" in shown.text
    assert "original study’s rule: their label" not in shown.text
    assert "In this dissection interpretable means calibrated." in shown.text
    assert "a neuron whose label chance does not explain: q ≤ 0.05" in shown.text
    assert (
        f"{robust} of the {calibrated} labels that chance does not explain pass the other tests too: split halves and "
        "within classes."
    ) in shown.text
    assert "Three tests of each label." in shown.text


def test_a_test_that_could_not_be_run_has_no_column_and_the_reason_is_given(rows_of):
    rows = dict(rows_of(rule="q", tested=True))
    without = {"num_within_class": None, "num_unclassed": None}
    rows["layers"] = rows["layers"].with_columns(pl.lit(None, pl.Int64).alias(key) for key in without)
    rows["layers"] = rows["layers"].with_columns(bootstrap_share=pl.lit(None, pl.Float64))
    images = rows["summary"]["images"][0]
    for of_class, why in (
        (0, "the images have no classes"),
        (images - 1, "1 image has no class"),
        (images, "there are too many images and concepts for it"),
    ):
        rows["summary"] = rows["summary"].with_columns(images_with_class=pl.lit(of_class))
        shown = page(rows)
        assert f"pass the other test that was run too: split halves. Within classes could not be tested: {why}." in (
            shown.text
        )
        assert "Two tests of each label." in shown.text
        assert "Calibrated… halves agreeRobust: bothShare" in shown.text
        assert "… beyond the class" not in shown.text
        assert "Same label in resamples" not in shown.text


def test_labels_for_which_the_test_within_classes_is_undefined_are_counted(rows_of):
    rows = dict(rows_of(rule="q", tested=True))
    rows["layers"] = rows["layers"].with_columns(num_unclassed=pl.lit(2))
    assert "within classes. 4 of these labels could not be tested within classes." in page(rows).text


def test_labels_of_a_version_without_todays_test_within_classes_are_not_called_robust(rows_of):
    rows = dict(rows_of(rule="q", tested=True))
    rows["layers"] = rows["layers"].with_columns(num_outstanding=pl.lit(3), num_robust=pl.lit(None, pl.Int64))
    text = page(rows).text
    assert "How many labels are robust is unknown: an earlier version made them" in text
    assert "pass the other test" not in text


def test_both_rules_stand_side_by_side_whatever_the_rule(rows_of):
    for rule in ("tau", "q"):
        rows = rows_of(rule=rule, tested=True)
        shown = page(rows)
        layers = rows["layers"].to_dicts()
        for layer in layers:
            at = shown.cells.index(layer["layer"])
            assert shown.cells[at + 1 : at + 6] == [
                words.count(layer["neurons"]),
                words.count(layer["num_calibrated"]),
                words.share(layer["share_calibrated"]),
                words.count(layer["num_above_tau"]),
                words.share(layer["share_above_tau"]),
            ]
        drawn = [row for chart in shown.charts.values() for values in chart["datasets"].values() for row in values]
        for measure in ("share_calibrated", "share_above_tau"):
            assert [row["share"] for row in drawn if row.get("measure") == measure] == [row[measure] for row in layers]
    assert "Neurons of pure noise pass that rule too." in page(rows_of(rule="tau", tested=True)).text


def test_the_tests_that_labels_pass_are_those_of_the_views(rows_of):
    rows = rows_of(rule="q", tested=True)
    shown = page(rows)
    for layer in rows["layers"].to_dicts():
        keys = ("neurons", "num_calibrated", "num_agreeing", "num_within_class", "num_robust")
        cells = [layer["layer"], *(words.count(layer[key]) for key in keys), words.share(layer["share_robust"])]
        assert any(shown.cells[start : start + 7] == cells for start in range(len(shown.cells)))


def test_the_strongest_neurons_are_calibrated_and_ordered_by_z(rows_of):
    rows = rows_of(rule="tau", tested=True)
    firsts = rows["top_neurons"].filter(pl.col("rank") == 1)
    assert firsts["z"].to_list() == sorted(firsts["z"], reverse=True)
    assert max(firsts["q"]) <= 0.05
    assert firsts.select("layer", "concept").n_unique() == len(firsts)
    assert f"q < 0.001 · z {words.number(firsts['z'][0])}, within class" in page(rows).text


def test_the_rule_q_without_a_null_is_explained(rows_of):
    shown = page(rows_of(rule="q"))
    assert "the rule asks for q, and labels were not held against chance" in shown.text
    assert "None" not in shown.text


# ---------------------------------------------------------------- hostile names


def test_hostile_names_stay_names(rows_of):
    harmless = page(rows_of(classes=("a", "b", "c", "d"), concepts=("e", "f", "g", "h")))
    one, two, three, _ = HOSTILE
    rows = rows_of(
        classes=tuple(HOSTILE), concepts=tuple(HOSTILE), layers=(one, two), network=one, clip=two, splits=(three, one)
    )
    shown = page(rows)
    for tag in ("script", "img", "svg", "iframe", "p", "td", "style"):
        assert shown.count(tag) == harmless.count(tag), tag
    assert len(shown.charts) == len(harmless.charts)
    assert not re.search(
        "[\u202a-\u202e\u2066-\u2069\u2028]", shown.html + json.dumps(shown.charts, ensure_ascii=False)
    )
    assert one in shown.text
    assert "{{ 7 * 7 }}" in shown.text
    assert "x" * 300 in shown.cells  # whole in the tables,
    assert "x" * 59 + "…" in shown.text  # cut in sentences
    for chart in shown.charts.values():
        vl_convert.vegalite_to_vega(chart)


@given(st.text())
def test_any_name_is_shown_unchanged(text):
    assert Page(str(words.name(text, 10**6))).words == words.plain(text)


# ---------------------------------------------------------------- parts that are missing


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"intervals": False}, ["a change of +4.17 percentage points. The mean loss falls"]),
        ({"edits": 0}, ["No edit that rests on this dissection has been measured."]),
        ({"tau": 1e6}, ["No neuron is interpretable: no label scores above τ = 1,000,000.", "none to show"]),
        ({"layers": ("only",)}, ["One layer was looked at, so there is no depth to draw."]),
        (
            {"concepts": ("only",)},
            ["The concept set holds one concept, so every label is the same.", "Every label has the same similarity"],
        ),
        ({"wrong": 0}, ["Every image of these classes was classified rightly", "no image changed sides"]),
        (
            {"truth": False},
            [
                "none of which has a class that is an output of it: how often it is right is unknown",
                "Whether labels are right is unknown",
                "No image has both a true class and a prediction",
                "Which predictions are correct is unknown",
                "The images have no true class, so whether predictions are right is unknown",
            ],
        ),
        (
            {"met": False},
            [
                "none of which has a class that is an output of it: how often it is right is unknown",
                "Whether labels are right is unknown",
                "Which predictions are correct is unknown",
                "No true class is an output of the network, so whether predictions are right is unknown",
                "8, no output of the network",
                "No edit that rests on this dissection has been measured",
            ],
        ),
        ({"thumbnails": False}, ["no picture"]),
    ],
)
def test_a_missing_part_is_a_sentence(rows_of, changes, expected):
    shown = page(rows_of(**changes))
    for sentence in expected:
        assert sentence in shown.text
    assert "None" not in shown.text
    assert all(size > 0 for size in numbers_drawn(shown.charts))
    for chart in shown.charts.values():
        vl_convert.vegalite_to_vega(chart)


@pytest.mark.parametrize("changes", [{"truth": False}, {"met": False}])
def test_without_a_class_that_is_an_output_nothing_is_right_or_wrong(rows_of, changes):
    rows = rows_of(**changes)
    assert {row["accuracy"] for row in rows["accuracies"].to_dicts()} == {None}
    shown = page(rows)
    assert "unknown" in shown.cells
    assert ("Commonest mistakes: unknown" in shown.html) == ("met" in changes)
    assert "0.0 %" not in shown.cells
    assert not re.search(r"\b0 of \d+ right|none right|none wrong|right on", shown.text)
    assert "✗" not in re.sub("after ✗", "", shown.text)
    assert not any("right" in str(chart) for name, chart in shown.charts.items() if name.startswith("layers"))


def test_many_edits_are_summed_up_in_one_sentence(rows_of):
    shown = page(rows_of(edits=4))
    assert "Of 4 edits on 24 validation images, the best" in shown.text
    assert "no evidence that any edit helps" in shown.text


def test_a_warehouse_without_a_dissection_says_how_to_make_one(tmp_path):
    with Warehouse(tmp_path / "empty.duckdb") as warehouse:
        list(warehouse.build())
        shown = page(ask(warehouse))
    assert "Nothing has been dissected yet" in shown.text
    assert "dissectdb extract STUDY" in shown.text
    assert not shown.charts


def test_a_warehouse_that_is_not_fully_built_has_a_page(tmp_path):
    plan = Plan()
    with Warehouse(tmp_path / "started.duckdb") as warehouse:
        warehouse.write(named(plan) | {"images": images(plan)})
        list(warehouse.build())
        shown = page(ask(warehouse))
    assert "No layer has been labelled yet." in shown.text
    assert "No prediction is stored for this network and split." in shown.text
