"""The report over small warehouses: whole, with parts missing, and with names that mean harm."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dissectdb import ROOT
from dissectdb.reports import glossary, parts, regions, words
from dissectdb.reports.page import SECTIONS, render, write
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
    assert f"{first['neurons']} of the {first['num_neurons']} right neurons of" in shown.text
    assert "Pooling avg in 2 layers" in shown.text
    assert "Prompts unknown, because embeddings were given" in shown.text
    assert "The edit conv1 twice gains 1 and loses 0 of 24 test images: no evidence that the edit helps." in shown.text
    assert "1 gained and 0 lost of 24 test images, p = 1.00: no evidence that the edit helps." in shown.text


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
    sources = [attrs["src"] or "" for tag, attrs in whole.tags if tag == "img"]
    assert 0 < len(sources) <= 6 * 4 + 2 * 7 * 3 + 24  # the strongest neurons, examples.sql, flips.sql
    for source in sources:
        kind, data = source.split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")


def test_regions_are_drawn_with_one_control_and_without_another_copy_of_a_picture(rows_of, whole):
    mapped = page(rows_of(maps=True))
    assert whole.count("fieldset") == whole.count("svg") == 0
    assert mapped.count("fieldset") == 1
    assert [a["value"] for tag, a in mapped.tags if tag == "input" and a.get("type") == "radio"] == list(regions.LOOKS)
    assert mapped.html.count("data:image") == whole.html.count("data:image")
    drawn = [attrs["href"] for tag, attrs in mapped.tags if tag == "image"]
    assert 0 < len(drawn) < len([tag for tag, _ in mapped.tags if tag == "img"]) + len(drawn)  # lin1 has no maps
    [gallery] = [json.loads(text) for text in mapped.scripts if text.startswith('{"network"')]
    by_layer = {gallery["layer"]["names"][gallery["layer"]["of"][int(neuron)]] for neuron in gallery["regions"]}
    assert by_layer == {"conv1"}
    assert {tuple(region[1:]) for of in gallery["regions"].values() for region in of.values()} == {
        ("M0 1h2v1h-2z", 1.333, 1.0, 2.0)
    }
    assert gallery["frames"] == [[8, 8, "translate(2 0)scale(2 4)"]]
    assert "face 3.png" in mapped.text


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
    assert "8 neurons of vggnet have labels, not tested against chance" in whole.text
    assert "chance does not explain" not in whole.text
    assert " q " not in whole.text


def test_the_rule_q_is_explained_in_plain_words(rows_of):
    rows = rows_of(rule="q", tested=True)
    shown, layers = page(rows), rows["layers"].to_dicts()
    calibrated, robust = (sum(row[key] for row in layers) for key in ("num_calibrated", "num_robust"))
    assert 0 < robust < calibrated < 8
    assert f"{calibrated} of 8 neurons of vggnet have a label that chance does not explain" in shown.text
    assert f"At most 5 % of these labels are expected to be chance hits; {robust} pass every other test" in shown.text
    assert "original study’s rule: their label" not in shown.text
    assert "interpretable here means calibrated." in shown.text
    assert "a neuron whose label chance does not explain: q ≤ 0.05" in shown.text
    assert (
        f"{robust} of the {calibrated} labels that chance does not explain pass the other tests too: split halves and "
        "within classes."
    ) in shown.text
    assert "Tests of a label: calibrated, halves agree, beyond the class; robust: all." in shown.text


def test_a_test_that_could_not_be_run_has_no_column_and_the_reason_is_given(rows_of):
    rows = dict(rows_of(rule="q", tested=True))
    rows["layers"] = rows["layers"].with_columns(num_within_class=pl.lit(None, pl.Int64), num_classed=pl.lit(0))
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
        assert "Tests of a label: calibrated, halves agree; robust: all." in shown.text
        assert "Calibrated… halves agreeRobust: bothShare of tested" in shown.text
        assert "… beyond the class" not in shown.text
        assert "Same label in resamples" not in shown.text


def test_labels_for_which_the_test_within_classes_is_undefined_are_counted(rows_of):
    rows = dict(rows_of(rule="q", tested=True))
    rows["layers"] = rows["layers"].with_columns(num_classed=pl.col("num_calibrated") - 1)
    assert "within classes. 2 labels could not be tested within classes." in page(rows).text


def test_labels_whose_tests_could_be_run_for_none_are_not_tested_rather_than_failed(rows_of):
    """As of sparse features: no half has enough images, and the images have no classes."""
    rows = dict(rows_of(rule="q", tested=True))
    passed, tested = ("num_agreeing", "num_within_class", "num_robust", "share_robust"), ("num_halved", "num_classed")
    calibrated = rows["layers"]["num_calibrated"].sum()
    unknown = [pl.lit(None, pl.Int64).alias(key) for key in passed]
    rows["layers"] = rows["layers"].with_columns(*unknown, *(pl.lit(0).alias(key) for key in (*tested, "num_tested")))
    rows["summary"] = rows["summary"].with_columns(images_with_class=pl.lit(0))
    text = page(rows).text
    assert f"None of the {calibrated} labels that chance does not explain could be tested further." in text
    assert f"The split halves of {calibrated} labels could not be compared" in text
    assert "Within classes could not be tested: the images have no classes." in text
    assert "chance hits; none could be tested further." in text
    assert "halves agree" not in text.partition("Glossary")[0]
    assert "Robust" not in text


def test_a_test_of_some_labels_counts_these_alone(rows_of):
    rows = dict(rows_of(rule="q", tested=True))
    of_first = pl.col("position") == rows["layers"]["position"].min()
    calibrated = rows["layers"]["num_calibrated"].to_list()
    assert len(calibrated) == 2
    rows["layers"] = rows["layers"].with_columns(
        num_halved=pl.when(of_first).then(1).otherwise(0), num_agreeing=pl.when(of_first).then(1),
        num_classed=pl.lit(0), num_within_class=pl.lit(None, pl.Int64),
        num_tested=pl.when(of_first).then(1).otherwise(0), num_robust=pl.when(of_first).then(1),
        share_robust=pl.when(of_first).then(1.0),
    )  # fmt: skip
    shown = page(rows)
    total = sum(calibrated)
    assert "1 of the 1 labels that chance does not explain and that could be tested further pass" in shown.text
    assert f"The split halves of {total - 1} labels could not be compared" in shown.text
    assert "; 1 of the 1 that could be tested further passes every other test that was run." in shown.text
    assert shown.cells.count("1 of 1") == 2, "halves, and robust"
    assert shown.cells.count("not tested") == 2


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
        assert layer["num_halved"] == layer["num_classed"] == layer["num_tested"] == layer["num_calibrated"]
        cells = [layer["layer"], *(words.count(layer[key]) for key in keys), words.share(layer["share_robust"])]
        assert any(shown.cells[start : start + 7] == cells for start in range(len(shown.cells)))


def test_the_strongest_neurons_are_calibrated_and_ordered_by_z(rows_of):
    rows = rows_of(rule="tau", tested=True)
    firsts = rows["top_neurons"].filter(pl.col("rank") == 1)
    assert firsts["z"].to_list() == sorted(firsts["z"], reverse=True)
    assert max(firsts["q"]) <= 0.05
    assert firsts.select("layer", "concept").n_unique() == len(firsts)
    assert f"z {words.number(firsts['z'][0])} q < 0.001 z beyond the class" in page(rows).text


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
        ({"intervals": False}, ["1 gained and 0 lost of 24 test images"]),
        ({"tau": 1e6}, ["No neuron is interpretable: no label scores above τ = 1,000,000."]),
        ({"concepts": ("only",)}, ["All of them carry one label, only."]),
        ({"wrong": 0}, ["no image changed sides"]),
        (
            {"truth": False},
            [
                "none of which has a class that is an output of it: how often it is right is unknown",
                "Whether labels are right is unknown",
                "The images have no true class, so whether predictions are right is unknown",
            ],
        ),
        (
            {"met": False},
            [
                "none of which has a class that is an output of it: how often it is right is unknown",
                "Whether labels are right is unknown",
                "No true class is an output of the network, so whether predictions are right is unknown",
                "8, no output of the network",
            ],
        ),
        ({"thumbnails": False}, ["Image 1"]),
    ],
)
def test_what_cannot_be_known_is_said(rows_of, changes, expected):
    shown = page(rows_of(**changes))
    for sentence in expected:
        assert sentence in shown.text
    assert "None" not in shown.text
    assert all(size > 0 for size in numbers_drawn(shown.charts))
    for chart in shown.charts.values():
        vl_convert.vegalite_to_vega(chart)


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({}, {"trust", "causes"}),
        ({"tested": True}, {"causes"}),
        ({"edits": 0, "tested": True}, {"causes", "edits"}),
        ({"met": False}, {"trust", "causes", "edits", "concepts"}),
        ({"concepts": ("only",)}, {"trust", "causes", "similarities"}),
    ],
)
def test_a_section_that_does_not_apply_is_absent_and_so_is_its_link(rows_of, changes, absent):
    shown = page(rows_of(**changes))
    sections = [attrs["id"] for tag, attrs in shown.tags if tag == "section"]
    assert set(SECTIONS) - set(sections) == absent
    links = [attrs["href"] or "" for tag, attrs in shown.tags if tag == "a" and "class" not in attrs]
    assert [link for link in links if link.strip("#") in SECTIONS] == [f"#{section}" for section in sections[:-1]]
    assert sections[-1] == "glossary"


def test_every_word_that_is_linked_is_explained_once_and_every_explained_word_is_linked(rows_of):
    for changes in ({}, {"rule": "q", "tested": True}, {"maps": True}):
        shown = page(rows_of(**changes))
        linked = {attrs["href"] for tag, attrs in shown.tags if attrs.get("class") == "term"}
        explained = [f"#{attrs['id']}" for tag, attrs in shown.tags if tag == "dt" and "id" in attrs]
        on_cards = {f"#{glossary.anchor(word)}" for word in glossary.TERMS if f'"{word}"' in " ".join(shown.data)}
        assert len(set(explained)) == len(explained)
        assert linked <= set(explained) <= linked | on_cards
    listed = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert [word for word in glossary.TERMS if word.split(",")[0] not in listed] == []


def test_the_first_screen_states_the_finding_and_the_method_comes_last(rows_of):
    shown = page(rows_of(rule="q", tested=True))
    headings = [attrs["id"] for tag, attrs in shown.tags if tag == "section"]
    assert headings[:2] == ["neurons", "gallery"]
    assert headings[-2:] == ["analysed", "glossary"]
    assert shown.text.startswith("vggnet on faces vggnet on faces, validation images")  # the window, then the page
    assert "Nothing here tests CLIP" in shown.text or "tests CLIP" in shown.text


def test_every_chart_has_its_finding_above_it_and_titles_on_its_axes(rows_of):
    shown = page(rows_of(rule="q", tested=True))
    findings = [attrs for tag, attrs in shown.tags if attrs.get("class") == "finding"]
    assert len(findings) == len(shown.charts)
    for chart in shown.charts.values():
        axes = [
            part["encoding"][axis] for part in layers_of(chart) for axis in "xy" if axis in part.get("encoding", {})
        ]
        titled = [axis for axis in axes if "title" in axis]
        assert titled, chart
        assert all(axis["title"] for axis in titled)


def layers_of(chart: dict[str, Any]) -> list[dict[str, Any]]:
    return [chart, *(inner for layer in chart.get("layer", []) for inner in layers_of(layer))]


def test_pictures_are_jpegs_or_pngs_of_the_size_that_is_asked_for():
    pixels = np.random.default_rng(0).integers(0, 255, (150, 200, 3), np.uint8)
    for kind, start in (("JPEG", "data:image/jpeg;base64,/9j/"), ("PNG", "data:image/png;base64,iVBOR")):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind)
        assert (parts.data_uri(file.getvalue()[: 2**16 - 1]) or "").startswith(start)
        for side, expected in ((parts.LARGE, (200, 150)), (parts.SMALL, (128, 96))):
            with Image.open(io.BytesIO(parts.packed(file.getvalue(), side))) as image:
                assert (image.format, image.size) == (kind, expected)


@pytest.mark.parametrize("changes", [{"truth": False}, {"met": False}])
def test_without_a_class_that_is_an_output_nothing_is_right_or_wrong(rows_of, changes):
    rows = rows_of(**changes)
    assert {row["accuracy"] for row in rows["accuracies"].to_dicts()} == {None}
    shown = page(rows)
    assert "unknown" in shown.cells
    assert ("Commonest mistakes: unknown" in shown.html) == ("met" in changes)
    assert "0.0 %" not in shown.cells
    assert not re.search(r"\b0 of \d+ right|none right|none wrong|right on", shown.text)
    assert "✗" not in shown.text
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
    assert "none of which has a prediction: how often it is right is unknown" in shown.text
