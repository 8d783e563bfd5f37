"""Charts as files and in a notebook, pages of a layer, and the budget of thumbnails."""

from __future__ import annotations

import json

import pytest

from dissectdb import reports
from dissectdb.reports import export, gallery, page
from dissectdb.warehouse import Warehouse
from tests.support.report_warehouses import Plan, ask, filled


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    with filled(tmp_path_factory.mktemp("export") / "warehouse.duckdb", Plan(tested=True)) as warehouse:
        yield warehouse


def test_every_chart_of_the_page_is_saved_three_times_in_colours_of_its_own(tested, tmp_path):
    rows = ask(tested)
    names = export.save_charts(rows, tmp_path / "charts")
    assert {"layers-1", "confusion", "by-neuron", "edits", "calibration-1"} <= set(names)
    assert {path.name for path in (tmp_path / "charts").iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("svg", "png", "json")
    }
    for name in names:
        text = (tmp_path / "charts" / f"{name}.svg").read_text()
        assert "<svg" in text
        assert "var(--" not in text
        assert (tmp_path / "charts" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert json.loads((tmp_path / "charts" / f"{name}.json").read_text())["width"] == export.WIDTH


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
    assert specification["width"] == export.WIDTH
    assert "var(--" not in json.dumps(specification)


def test_a_chart_that_has_nothing_to_draw_says_which_there_are(tmp_path):
    with Warehouse(tmp_path / "empty.duckdb") as warehouse:
        list(warehouse.build())
        with pytest.raises(ValueError, match="has no data for the chart layers-1; it has none"):
            reports.layer_chart(warehouse)


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
