"""The report over small warehouses: whole, with parts missing, and with names that mean harm."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dissectdb.commands import terminal
from dissectdb.reports import page as report_page
from dissectdb.reports import sentences, words
from dissectdb.reports.page import render, write
from dissectdb.warehouse.database import Warehouse
from tests.support.rows import dissection_row

NOON = datetime(2026, 1, 2, 12, 0)
IMAGES = 24  # of each split; one more is left out of the first
HOSTILE = [
    '</script><script>alert("1")</script>',
    "\"'><img src=x onerror=alert(2)>",
    "\u202eright to left\u2066 \u2028 عربى {{ 7 * 7 }} &amp; <!--",
    "x" * 300,
]


@dataclass(frozen=True)
class Plan:
    """What a small warehouse holds; the default is one in which every part of the page has something to show."""

    classes: tuple[str, ...] = ("happy", "sad", "surprise")
    concepts: tuple[str, ...] = ("Smile", "Frown", "Wide Open Eyes", "Raised Brows")
    layers: tuple[str, ...] = ("conv1", "lin1")
    network: str = "vggnet"
    clip: str = "face-clip"
    splits: tuple[str, str] = ("validation", "test")
    tau: float = -100.0
    rule: str = "tau"
    tested: bool = False  # labels were held against chance: all but the neurons of noise pass, and most other tests
    truth: bool = True
    met: bool = True  # else images are of classes that neither an output nor a concept stands for
    wrong: int = 4  # wrong predictions in each split
    edits: int = 1
    intervals: bool = True  # of what the edits changed; a run that was stopped has none yet
    thumbnails: bool = True


# ---------------------------------------------------------------- rows


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), shade).save(file, "PNG")
    return file.getvalue()


def images(plan: Plan) -> list[dict[str, Any]]:
    rows = [
        {
            "image_id": number + 1,
            "split_id": 1 + number // IMAGES,
            "position": number,
            "class": ("" if plan.met else "not ") + plan.classes[number % len(plan.classes)] if plan.truth else None,
            "sha256": str(number),
            "thumbnail": picture(number) if plan.thumbnails else None,
            "defect": None,
        }
        for number in range(2 * IMAGES)
    ]
    left_out = {"image_id": 99, "split_id": 1, "position": 98, "sha256": "", "defect": "blank"}
    return [*rows, left_out]


def predictions(plan: Plan, network_id: int) -> list[dict[str, Any]]:
    """The first images of each split are predicted wrongly; an edited network gets one of them right."""
    rows = []
    for number in range(2 * IMAGES):
        is_wrong = network_id - 1 <= number % IMAGES < plan.wrong
        rows.append(
            {
                "network_id": network_id,
                "image_id": number + 1,
                "class": plan.classes[(number + is_wrong) % len(plan.classes)],
                "confidence": 0.5 + number / 200,
                "loss": 1.25 if is_wrong else 0.25,
                "probabilities": [1.0],
            }
        )
    return rows


def named(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """The tables of names: datasets, concepts, CLIP, networks, the dissection and its edits."""
    network = {"architecture": "vgg", "preprocessing": "{}", "classes": list(plan.classes)}
    edited = [
        {"network_id": 2 + edit, "name": f"{plan.network}+{edit}", "parent_network_id": 1, "edit_id": 1 + edit}
        for edit in range(plan.edits)
    ]
    originals = [{"network_id": 1, "name": plan.network, "parent_network_id": None, "edit_id": None}]
    return {
        "datasets": [{"dataset_id": 1, "name": "faces", "source": "x", "fingerprint": "x"}],
        "left_out": [{"dataset_id": 1, "reason": "ending", "detail": ".txt", "files": 3}],
        "splits": [
            {"split_id": i, "dataset_id": 1, "split": split} for i, split in enumerate(plan.splits, start=1)
        ],
        "concept_sets": [{"concept_set_id": 1, "name": "parts", "templates": ["{}"], "fingerprint": "x"}],
        "concepts": [
            {"concept_id": i, "concept_set_id": 1, "position": i, "concept": concept}
            for i, concept in enumerate(plan.concepts)
        ],
        "concept_classes": [
            {"concept_id": i, "class": plan.classes[i % len(plan.classes)]} for i in range(len(plan.concepts))
        ],
        "clips": [
            {"clip_id": 1, "name": plan.clip, "weights": "w.pt", "logit_scale": 100.0, "preprocessing": "{}",
             "fingerprint": "x"}
        ],
        "networks": [row | network | {"fingerprint": row["name"]} for row in originals + edited],
        "dissections": [
            dissection_row(top_k=8, tau=plan.tau, rule=plan.rule, accuracy_images=5, images_neurons=2)
        ],
        "edits": [
            {"edit_id": 1 + edit, "name": f"{plan.layers[0]} twice", "network_id": 1, "dissection_id": 1,
             "layer": plan.layers[0], "rule": "paper", "tau": 0.0, "factor": 1.5, "factor_down": 1.5,
             "scale_bias": False, "created_at": NOON,
             "fingerprint": str(edit)}
            for edit in range(plan.edits)
        ],
    }  # fmt: skip


def embeddings(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """An image lies near the concepts of its class; the last unit of every embedding tells concepts apart."""
    size = len(plan.classes)

    def vector(class_number: int, extra: float) -> list[float]:
        values = np.append(np.eye(size)[class_number % size], extra)
        return (values / np.linalg.norm(values)).tolist()

    return {
        "image_embeddings": [
            {"clip_id": 1, "image_id": i + 1, "embedding": vector(i, i / 90)} for i in range(2 * IMAGES)
        ],
        "concept_embeddings": [
            {"clip_id": 1, "concept_id": i, "embedding": vector(i, i / 20)} for i in range(len(plan.concepts))
        ],
    }


def activations(plan: Plan) -> Iterator[dict[str, Any]]:
    """Four neurons a layer: one for each of three classes, and one of noise; the ledger says all is there."""
    noise = np.random.default_rng(0).normal(size=(len(plan.layers), 4, IMAGES)).astype(np.float32)
    for number, layer in enumerate(plan.layers):
        ids = [10 * number + unit for unit in range(4)]
        prefers = [np.arange(IMAGES) % len(plan.classes) == unit for unit in range(4)]
        values = noise[number] + 4 * np.array(prefers, dtype=np.float32)
        extraction = {"extraction_id": number, "target": "activations", "split_id": 1, "layer_id": number,
                      "device": "cpu", "precision": "float32", "versions": "{}", "started_at": NOON,
                      "fingerprint": layer}  # fmt: skip
        block = {"extraction_id": number, "block": 0, "images": IMAGES, "seconds": 0.1, "finished_at": NOON}
        yield {
            "layers": [{"layer_id": number, "network_id": 1, "layer": layer, "pooling": "avg",
                        "position": number, "fingerprint": layer}],
            "neurons": [{"neuron_id": i, "layer_id": number, "unit": i % 10, "weight_l1": 1.0} for i in ids],
            "activations": pl.DataFrame(
                {
                    "neuron_id": np.repeat(np.array(ids, dtype=np.int32), IMAGES),
                    "image_id": np.tile(np.arange(1, IMAGES + 1, dtype=np.int32), 4),
                    "value": values.ravel(),
                }
            ),
            "extractions": [extraction],
            "extraction_blocks": [block],
        }  # fmt: skip


@contextmanager
def filled(path: Path, plan: Plan) -> Iterator[Warehouse]:
    with Warehouse(path) as warehouse:
        warehouse.write(named(plan) | {"images": images(plan)} | embeddings(plan))
        for unit in activations(plan):
            warehouse.write(unit)
        for network_id in range(1, 2 + plan.edits):
            ledger = [
                {"extraction_id": 100 * network_id + split_id, "target": "predictions", "split_id": split_id,
                 "network_id": network_id, "device": "cpu", "precision": "float32", "versions": "{}",
                 "started_at": NOON, "fingerprint": f"{network_id} {split_id}"}
                for split_id in (1, 2)
            ]  # fmt: skip
            blocks = [
                {"extraction_id": row["extraction_id"], "block": 0, "images": IMAGES, "seconds": 0.1,
                 "finished_at": NOON}
                for row in ledger
            ]  # fmt: skip
            warehouse.write(
                {
                    "predictions": predictions(plan, network_id),
                    "extractions": ledger,
                    "extraction_blocks": blocks,
                }
            )
        warehouse.write(tried(plan))
        list(warehouse.build())
        if plan.tested:
            warehouse.write(label_tests(warehouse))
            list(warehouse.build())
        yield warehouse


def tried(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """What every edit predicts, over both splits; where there are any, the first is chosen on the first split."""
    rows: dict[str, list[dict[str, Any]]] = {"edit_predictions": [], "edit_blocks": []}
    for edit_id in range(1, 1 + plan.edits):
        rows["edit_predictions"] += [
            {key: row[key] for key in ("image_id", "class", "confidence", "loss")} | {"edit_id": edit_id}
            for row in predictions(plan, 1 + edit_id)
        ]
        rows["edit_blocks"] += [
            {
                "edit_id": edit_id,
                "split_id": split_id,
                "block": 0,
                "images": IMAGES,
                "seconds": 0.1,
                "finished_at": NOON,
            }
            for split_id in (1, 2)
        ]
    choice = {"edit_id": 1, "split_id": 1, "edits_tried": plan.edits, "chosen_at": NOON}
    intervals = [
        {"edit_id": edit_id, "split_id": split_id, "low": -0.02, "high": 0.125, "loss_low": -0.1, "loss_high": 0.1,
         "bootstraps": 100, "seed": 0}
        for edit_id in range(1, 1 + plan.edits) for split_id in (1, 2)
    ] if plan.intervals else []  # fmt: skip
    return rows | {"edit_choices": [choice], "edit_intervals": intervals} if plan.edits else {}


def label_tests(warehouse: Warehouse) -> dict[str, list[dict[str, Any]]]:
    """A z that only some labels reach, and checks: halves disagree about unit 0, classes explain that of unit 1."""
    labels = warehouse.rows("select * from neuron_labels order by z desc").to_dicts()
    limit = labels[2 * len(labels) // 4 - 1]["z"]
    return {
        "null_quantiles": [
            {"dissection_id": 1, "layer_id": layer_id, "null_group": 8, "z": limit, "p": 0.0001}
            for layer_id in sorted({label["layer_id"] for label in labels})
        ],
        "label_checks": [
            {"dissection_id": 1, "neuron_id": label["neuron_id"], "concept_id": label["concept_id"],
             "z_within_class": 0.5 if label["neuron_id"] % 10 == 1 else 3.25,
             "p_within": 0.5 if label["neuron_id"] % 10 == 1 else 0.001,
             "split_half_agrees": label["neuron_id"] % 10 != 0, "bootstrap_share": 0.75}
            for label in labels
        ],
    }  # fmt: skip


Frames = dict[str, pl.DataFrame]


def ask(warehouse: Warehouse) -> Frames:
    return report_page.ask(warehouse.rows)


@pytest.fixture(scope="module")
def rows_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Frames]:
    """The answers of a small warehouse that differs from the default one in what is named."""
    known: dict[Plan, Frames] = {}

    def make(**changes: Any) -> Frames:
        plan = Plan(**changes)
        if plan not in known:
            with filled(tmp_path_factory.mktemp("report") / "warehouse.duckdb", plan) as warehouse:
                known[plan] = ask(warehouse)
        return known[plan]

    return make


# ---------------------------------------------------------------- reading a page


@dataclass
class Page(HTMLParser):
    """A page as a browser would take it apart."""

    html: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)  # scripts of JSON
    styles: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    words: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.inside = ""
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag in ("script", "style") else self.inside
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag == self.inside else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts.append(data)
            if self.tags[-1][1].get("type") == "application/json":
                self.data.append(data)
        elif self.inside == "style":
            self.styles.append(data)
        else:
            self.words += data
            if self.cells:
                self.cells[-1] += data

    @property
    def text(self) -> str:
        return " ".join(self.words.split())

    @property
    def charts(self) -> dict[str, Any]:
        return json.loads(self.scripts[0]) if self.scripts else {}

    @property
    def policy(self) -> str:
        return next(attrs["content"] or "" for tag, attrs in self.tags if attrs.get("http-equiv"))

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.tags)


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


def test_every_chart_is_valid_small_and_told_in_words(whole):
    assert len(whole.charts) >= 7
    assert max(numbers_drawn(whole.charts)) <= 5000
    for chart in whole.charts.values():
        vl_convert.vegalite_to_vega(chart)
    places = [attrs for _, attrs in whole.tags if attrs.get("class") == "chart"]
    assert sorted(attrs["id"] for attrs in places) == sorted(whole.charts)
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in places)


def test_pictures_are_inside_and_few(whole):
    most = 12 * 8 + 12  # top_neurons.sql, and the top of the page repeats twelve
    assert most + 2 * 7 * 3 <= 150  # examples.sql
    sources = [attrs["src"] or "" for tag, attrs in whole.tags if tag == "img"]
    assert sources
    for source in sources:
        kind, data = source.split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")


def test_nothing_is_asked_of_a_network(whole):
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


# ---------------------------------------------------------------- labels held against chance


def test_labels_held_against_nothing_are_told_by_the_original_rule(whole):
    assert "are interpretable by the original study’s rule: their label scores above τ = −100." in whole.text
    assert "Neurons of pure noise pass that rule too." in whole.text
    assert "no null was drawn for this dissection" in whole.text
    assert "chance does not explain" not in whole.text
    assert " q " not in whole.text


def test_the_rule_q_is_told_in_plain_words(rows_of):
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


def test_a_test_that_could_not_be_run_is_no_column_and_the_reason_is_said(rows_of):
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


def test_what_labels_withstand_is_what_the_views_say(rows_of):
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


def test_a_rule_that_nothing_was_held_against_says_so(rows_of):
    shown = page(rows_of(rule="q"))
    assert "the rule asks for q, and labels were not held against chance" in shown.text
    assert "None" not in shown.text


# ---------------------------------------------------------------- names that mean harm


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
def test_any_name_reads_as_itself(text):
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
def test_nothing_is_right_or_wrong_where_no_class_meets_an_output(rows_of, changes):
    rows = rows_of(**changes)
    assert {row["accuracy"] for row in rows["accuracies"].to_dicts()} == {None}
    shown = page(rows)
    assert "unknown" in shown.cells
    assert ("Commonest mistakes: unknown" in shown.html) == ("met" in changes)
    assert "0.0 %" not in shown.cells
    assert not re.search(r"\b0 of \d+ right|none right|none wrong|right on", shown.text)
    assert "✗" not in re.sub("after ✗", "", shown.text)
    assert not any("right" in str(chart) for name, chart in shown.charts.items() if name.startswith("layers"))


def test_many_edits_are_told_together(rows_of):
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


def test_what_is_not_built_yet_leaves_a_page(tmp_path):
    plan = Plan()
    with Warehouse(tmp_path / "started.duckdb") as warehouse:
        warehouse.write(named(plan) | {"images": images(plan)})
        list(warehouse.build())
        shown = page(ask(warehouse))
    assert "No layer has been labelled yet." in shown.text
    assert "No prediction is stored for this network and split." in shown.text


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (words.count(3589), "3,589"),
        (words.share(0.6942), "69.4 %"),
        (words.share(0.0), "0.0 %"),
        (words.share(0.0001), "< 0.1 %"),
        (words.share(0.9999), "> 99.9 %"),
        (words.share(1.0), "100.0 %"),
        (words.share(None), "–"),
        (words.p_value(0.119), "0.12"),
        (words.p_value(0.0496), "0.050"),
        (words.p_value(0.0004), "< 0.001"),
        (words.signed(-3), "−3"),
        (words.signed(0), "±0"),
        (words.points(0.00209), "+0.21"),
        (words.number(-38.6123), "−38.6"),
        (words.several(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_numbers_read_well(written, expected):
    assert written == expected


@pytest.mark.parametrize(
    ("gained", "lost", "verdict", "expected"),
    [
        (48, 33, "no evidence", "no evidence that the edit helps"),
        (33, 48, "no evidence", "no evidence that the edit helps or harms"),
        (48, 3, "helped", "evidence that the edit helps"),
        (3, 48, "harmed", "evidence that the edit harms"),
        (0, 0, "no evidence", "no image changed sides"),
    ],
)
def test_a_verdict_is_that_of_the_view_and_goes_no_further(gained, lost, verdict, expected):
    assert sentences.verdict({"gained": gained, "lost": lost, "verdict": verdict}) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0th"), (1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (13, "13th"),
     (21, "21st"), (41.4, "41st"), (99.6, "100th"), (100, "100th"), (111, "111th")],
)  # fmt: skip
def test_ordinals_end_as_they_are_spoken(number, expected):
    assert terminal.ordinal(number) == expected


RESULT = {
    "split": "test", "images": 7178, "correct_before": 5000, "correct_after": 5015, "p_mcnemar": 0.118,
    "percentile": None, "edits_tried": 1, "p_corrected": 0.118, "verdict": "no evidence", "is_probing_set": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "test: +15 of 7,178, p = 0.12: no evidence"),
        ({"correct_after": 3990}, "test: -1,010 of 7,178, p = 0.12: no evidence"),
        ({"percentile": 0.415}, "test: +15 of 7,178, p = 0.12, 42nd percentile of random edits: no evidence"),
        (
            {"edits_tried": 1200, "p_corrected": 0.9},
            "test: +15 of 7,178, p = 0.12 (the best of 1,200 tried: p corrected 0.9): no evidence",
        ),
        (
            {"verdict": "helped", "is_probing_set": True},
            "test: +15 of 7,178, p = 0.12: helped; the labels were made on these very images",
        ),
    ],
)
def test_a_verdict_on_the_terminal_is_one_line(changes, expected):
    assert terminal.verdict(RESULT | changes) == expected
