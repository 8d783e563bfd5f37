"""Charts as files and in a notebook, pages of a layer, and the budget of thumbnails."""

from __future__ import annotations

import html
import itertools
import json
import logging

import numpy as np
import pytest

from dissectdb import reports
from dissectdb.reports import export, gallery, page, theme
from dissectdb.warehouse import Warehouse
from tests.support.report_warehouses import Plan, ask, filled


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    with filled(tmp_path_factory.mktemp("export") / "warehouse.duckdb", Plan(tested=True)) as warehouse:
        yield warehouse


def test_every_chart_of_the_page_is_saved_three_times_in_colours_of_its_own(tested, tmp_path):
    rows = ask(tested)
    names = export.save_charts(rows, tmp_path / "charts")
    assert {
        "believed-labels-by-layer",
        "confusion-of-classes",
        "concepts-behind-happy",
        "edits",
        "z-of-labels-conv1",
    } <= set(names)
    assert {path.name for path in (tmp_path / "charts").iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("svg", "png", "json")
    }
    for name in names:
        text = (tmp_path / "charts" / f"{name}.svg").read_text()
        assert "<svg" in text
        assert "var(--" not in text
        assert (tmp_path / "charts" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        specification = json.loads((tmp_path / "charts" / f"{name}.json").read_text())
        assert specification["width"] == theme.WIDTH
        assert specification["title"]["subtitle"] == ["vggnet on faces"]
        assert [line for line in specification["title"]["text"] if html.escape(line, quote=False) not in text] == []
        assert specification["padding"]["left"] > 8  # nothing is clipped


@pytest.mark.parametrize(
    "chart",
    [
        reports.layer_chart,
        reports.accuracy_chart,
        reports.concept_chart,
        reports.concept_matrix_chart,
        reports.confusion_chart,
        reports.edit_chart,
    ],
)
def test_a_notebook_draws_the_charts_of_the_page(tested, chart):
    specification = chart(tested).to_dict()
    assert specification["width"] == theme.WIDTH
    assert "var(--" not in json.dumps(specification)


def test_a_chart_that_has_nothing_to_draw_says_which_there_are(tmp_path):
    with Warehouse(tmp_path / "empty.duckdb") as warehouse:
        list(warehouse.build())
        with pytest.raises(ValueError, match="has no data for the chart believed-labels-by-layer; it has none"):
            reports.layer_chart(warehouse)


def test_letters_that_no_font_has_are_named(tested, tmp_path, monkeypatch, caplog):
    nowhere = "\U0010fffc"  # for private use, at the very end of Unicode
    assert export.without_font(["a", "é", "\n", nowhere]) == [nowhere]
    monkeypatch.setattr(export, "without_font", lambda letters: ["字"])
    with caplog.at_level(logging.WARNING):
        export.save_charts(ask(tested), tmp_path)
    assert "no font of this machine has 字 (Cjk), so the PNG files show boxes" in caplog.text


def test_charts_of_classes_that_share_a_file_name_are_all_saved(tmp_path):
    with filled(tmp_path / "w.duckdb", Plan(classes=("a/b", "a?b", "日本"))) as warehouse:
        assert {"concepts-behind-a-b", "concepts-behind-a-b-2", "concepts-behind-日本"} <= set(
            export.charts_of(ask(warehouse))
        )


# Viénot, Brettel and Mollon (1999): what linear RGB becomes for readers without one kind of cone.
COLOUR_BLIND = {
    "protanopia": [[0.112, 0.888, 0.0], [0.112, 0.888, 0.0], [0.004, -0.004, 1.0]],
    "deuteranopia": [[0.292, 0.708, 0.0], [0.292, 0.708, 0.0], [-0.022, 0.022, 1.0]],
    "grey print": [[0.2126, 0.7152, 0.0722]] * 3,
}


@pytest.mark.parametrize("sight", ["full", *COLOUR_BLIND])
@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_the_colours_that_stand_for_something_differ_for_every_reader(mode, sight):
    """Blue and orange carry a meaning alone; lines of the others also differ in dashes and shape."""
    blue, orange = (seen(theme.COLOURS[name][mode], sight) for name in ("c1", "c2"))
    paper = seen(theme.COLOURS["paper"][mode], sight)
    for one, other in itertools.combinations((blue, orange, paper), 2):
        if sight != "grey print" or paper in (one, other):
            assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 0.2


def seen(colour: str, sight: str) -> tuple[float, ...]:
    """A colour as a reader sees it, in RGB from 0 to 1."""
    values = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = np.array(COLOUR_BLIND.get(sight, np.eye(3).tolist())) @ linear
    return tuple(
        np.clip(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.abs(linear) ** (1 / 2.4) - 0.055), 0, 1)
    )


def test_every_layer_has_a_page_with_its_neurons_and_the_report_leads_there(tested, tmp_path):
    rows = ask(tested)
    links = page.write_layers(tested.rows, rows, tmp_path / "report.html")
    page.write(rows, tmp_path / "report.html", layer_pages=links)
    whole = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [link for link, _ in links] == ["report_layers/01-conv1.html", "report_layers/02-lin1.html"]
    for (link, _), layer in zip(links, ("conv1", "lin1"), strict=True):
        assert f'href="{link}"' in whole
        text = (tmp_path / link).read_text(encoding="utf-8")
        held = json.loads(text.split('id="gallery-data">')[1].split("</script>")[0])
        assert held["layer"]["names"] == [layer]
        assert len(held["unit"]) == len(held["pictures"]) == len(held["histograms"]) == 4
        assert 'href="../report.html"' in text


def test_thumbnails_stay_within_their_budget(tested):
    rows = ask(tested)

    def weight(budget: int) -> tuple[int, int]:
        held = gallery.data(rows, budget)
        return sum(len(image[2] or "") for image in held["images"].values()), len(held["pictures"])

    everything, neurons = weight(gallery.BUDGET)
    assert (everything > 0, neurons) == (True, 8)
    part, fewer = weight(everything // 2)
    assert part <= everything // 2
    assert 0 < fewer < neurons
    assert weight(0) == (0, 0)


def test_a_card_says_what_the_views_say(tested):
    held = gallery.data(ask(tested))
    views = tested.rows("select * from neuron_concepts")
    for row in views.to_dicts():
        [place] = [
            i
            for i, unit in enumerate(held["unit"])
            if (held["layer"]["names"][held["layer"]["of"][i]], unit) == (row["layer"], row["unit"])
        ]
        assert held["concept"]["names"][held["concept"]["of"][place]] == row["concept"]
        assert held["z"][place] == pytest.approx(row["z"], rel=0.01)
        assert held["flags"][place] & 1 == int(row["calibrated"])
        counted = sum(sum(bars) for _, bars in held["histograms"][place]["classes"])
        assert counted == 24
