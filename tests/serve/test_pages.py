"""Every page of the explorer: what it shows is what SQL says, and what is absent is said in one line."""

from __future__ import annotations

import io
import re
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import PIL.Image
import polars as pl
import pytest

from dissectdb.serve.app import PAGES
from dissectdb.serve.pages import neurons
from dissectdb.serve.snapshot import frame
from dissectdb.warehouse import Warehouse
from tests.serve.conftest import HARMFUL, MAPPED, TESTED
from tests.support.explorers import Explorer, explored
from tests.support.pages import Page
from tests.support.report_warehouses import Plan, filled

ADDRESSES = (
    "/",
    "/layers",
    "/neurons",
    "/neurons?text=conv1&sort=z&state=believed&q=0.5",
    "/neuron?layer=conv1&unit=0&near=1",
    "/image?id=1",
    "/concepts",
    "/concept?name=Smile",
    "/edits",
    "/edit?id=1",
    "/compare",
    "/search?text=Smile",
    "/sql?q=select+*+from+layer_summary&chart=bars",
    "/try",
)
ORDERED = "neuron_concepts join neuron_order using (layer, unit)"


def asked(explorer: Explorer, query: str) -> pl.DataFrame:
    """The rows of a query, by the explorer's own connection: within a process, all share one."""
    with explorer.store.shared.cursor(None, 10) as cursor:
        return frame(cursor, query, {})


def links(page) -> list[str]:
    return [attributes["href"] or "" for tag, attributes in page.tags if tag == "a" and "href" in attributes]


def units(page) -> list[tuple[str, int]]:
    """Layer and unit of the rows of a list of neurons."""
    found = [parse_qs(urlsplit(link).query) for link in links(page) if urlsplit(link).path == "/neuron"]
    return list(dict.fromkeys((values["layer"][0], int(values["unit"][0])) for values in found))


def test_every_page_is_among_those_that_are_tested():
    assert {urlsplit(address).path for address in ADDRESSES} == PAGES.keys()


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_page_has_a_title_a_heading_and_the_sql_behind_it(tested, address):
    page = tested.page(address)
    assert page.count("title") == page.count("h1") == page.count("main") == 1
    assert ("details", {"class": "sql"}) in page.tags or urlsplit(address).path == "/sql"
    assert [attributes for tag, attributes in page.tags if tag == "img" and not attributes.get("alt")] == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_the_sql_of_a_page_runs_on_the_sql_page(tested, address):
    runs = [link for link in links(tested.page(address)) if link.startswith("/sql?q=")]
    assert runs or urlsplit(address).path == "/sql"
    for link in runs:
        answer = tested.get(link).text
        assert 'role="alert"' not in answer, answer


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "plan",
    [Plan(edits=0), Plan(truth=False), Plan(thumbnails=False), Plan(layers=("conv1",)), Plan(met=False)],
    ids=["no edits", "no classes", "no pictures", "one layer", "unmet classes"],
)
def test_a_page_is_shown_where_something_is_absent(explorer_of, plan, address):
    answer = explorer_of(plan).get(address)
    assert answer.status_code in ((200, 404) if address == "/edit?id=1" else (200,))
    if answer.status_code == 404:
        assert "There is no measured edit 1" in answer.text


def test_without_classes_the_images_are_counted_and_right_is_unknown(explorer_of):
    explorer = explorer_of(Plan(truth=False))
    page = explorer.page("/").text
    for row in asked(explorer, "select split, num_unknown from network_accuracies").to_dicts():
        assert f"{row['split']}{row['num_unknown']:,}class unknown" in page
    assert "spread over classes" not in explorer.page("/neuron?layer=conv1&unit=0").text


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_empty_warehouse_says_so(explorer_of, address):
    answer = explorer_of(None).get(address)
    assert answer.status_code in (200, 404)
    path = urlsplit(address).path
    if path in ("/edits", "/compare", "/sql"):
        assert answer.status_code == 200
    elif path != "/edit":
        assert "Nothing has been dissected yet; run: dissectdb extract STUDY" in answer.text


def test_every_link_of_every_page_leads_somewhere(tested):
    seen, waiting = set(), ["/"]
    while waiting and len(seen) < 150:
        address = waiting.pop()
        if address in seen or urlsplit(address).path.startswith("/sql"):
            continue
        seen.add(address)
        answer = tested.get(address)
        beyond_the_last = "has no unit 4; it has 4" in answer.text
        assert answer.status_code == 200 or beyond_the_last, (address, answer.text)
        waiting += [link.partition("#")[0] for link in links(Page(answer.text)) if link.startswith("/")]
    assert len(seen) > 30


@pytest.mark.parametrize(
    ("values", "condition", "order"),
    [
        ({}, "true", "place"),
        ({"layer": "lin1"}, "layer = 'lin1'", "place"),
        ({"state": "believed"}, "interpretable", "place"),
        ({"state": "unsure"}, "concept is not null and not interpretable", "place"),
        ({"text": "LIN1 smile"}, "layer = 'lin1' and (concept = 'Smile' or runner_up = 'Smile')", "place"),
        ({"text": "nothing has this"}, "false", "place"),
        ({"q": "0.2"}, "q <= 0.2", "place"),
        ({"sort": "z"}, "true", "z desc nulls last, place"),
        ({"sort": "z", "order": "up"}, "true", "z nulls last, place"),
        ({"sort": "concept"}, "true", "lower(concept) nulls last, place"),
        ({"sort": "concept", "order": "down"}, "true", "lower(concept) desc nulls last, place"),
        ({"sort": "q", "text": "conv1"}, "layer = 'conv1'", "q nulls last, place"),
        ({"sort": "", "state": "", "q": "", "order": "", "page": ""}, "true", "place"),
    ],
)
def test_the_list_of_neurons_is_what_sql_says(tested, values, condition, order):
    query = f"select layer, unit from {ORDERED} where {condition} order by {order}"
    expected = asked(tested, query).rows()
    page = tested.page(f"/neurons?{urlencode(values)}")
    assert units(page) == expected
    assert (f"{len(expected)} neuron" in page.text) or (not expected and "No neuron meets all of this" in page.text)


def test_neurons_that_were_not_tested_are_not_called_uninterpretable(explorer_of):
    page = explorer_of(Plan(rule="q")).page("/")
    assert "8 neurons of vggnet, not tested against chance" in page.text
    assert "are interpretable" not in page.text


def test_a_neuron_with_ties_does_not_fire_too_rarely():
    label = {"dead": False, "sparse": True, "tied": True, "images_fired": 40}
    assert "equal on too many images" in neurons.how_sure(label)
    assert "too few" in neurons.how_sure(label | {"tied": False})


def test_a_long_list_is_turned_page_by_page(tested, monkeypatch):
    monkeypatch.setattr(neurons, "SIZE", 3)
    whole, address = [], "/neurons?sort=z"
    while address:
        page = tested.page(address)
        assert len(units(page)) <= 3
        whole += units(page)
        address = next((a["href"] for tag, a in page.tags if tag == "a" and a.get("rel") == "next"), "")
    query = f"select layer, unit from {ORDERED} order by z desc nulls last, place"
    assert whole == asked(tested, query).rows()
    assert units(tested.page("/neurons?sort=z&page=999")) == whole[:3]


def test_a_neuron_shows_its_label_scores_tests_images_and_neighbours(tested):
    [label] = asked(tested, "select * from neuron_concepts where layer = 'conv1' and unit = 2").to_dicts()
    page = tested.page("/neuron?layer=conv1&unit=2&near=1")
    assert f"conv1 2: {label['concept']}" in page.text
    scores = asked(
        tested, "select concept from similarity_rankings where layer = 'conv1' and unit = 2 order by rank limit 10"
    )["concept"].to_list()
    assert [cell for cell in page.cells if cell in TESTED.concepts][: len(scores)] == scores
    images = asked(
        tested, "select image_id from top_images where layer = 'conv1' and unit = 2 and rank <= 24 order by rank"
    )
    sources = [a["src"] for tag, a in page.tags if tag == "img"]
    assert sources == [f"/picture?id={image}" for image in images["image_id"]]
    bars = asked(tested, "select count(*) as bars from activation_histograms where layer = 'conv1' and unit = 2")
    assert page.count("rect") == bars["bars"][0]


def test_the_best_images_and_their_predictions_are_those_of_the_view(tested):
    """The view joins every prediction; the question only those of the neuron's images."""
    for neuron in asked(tested, f"select layer, unit, neuron_id from {ORDERED}").to_dicts():
        expected = asked(
            tested,
            "select rank, image_id, value, true_class, predicted_class, is_correct from top_images "
            f"where layer = '{neuron['layer']}' and unit = {neuron['unit']} and rank <= 5 order by rank",
        )
        assert len(expected) == 5
        assert tested.store.reading().rows("neuron_images", neuron=neuron["neuron_id"], most=5).equals(expected)


def test_the_mean_of_a_class_is_that_of_its_activations(tested):
    rows = tested.store.reading().rows("neuron_bars", neuron=2)
    means = asked(
        tested,
        "select class, avg(cast(value as double)) as mean from activations join images using (image_id) "
        "where neuron_id = 2 and split_id = 1 group by class order by mean desc",
    )
    shown = rows.select("class", "class_mean").unique(maintain_order=True)
    assert shown["class"].to_list() == means["class"].to_list()
    assert shown["class_mean"].to_list() == pytest.approx(means["mean"].to_list())


def test_without_classes_there_is_one_histogram(explorer_of):
    rows = explorer_of(Plan(truth=False)).store.reading().rows("neuron_bars", neuron=2)
    assert rows["class"].unique().to_list() == [None]
    assert rows["images"].sum() == 24


def test_the_first_page_counts_the_labels_of_interpretable_neurons(explorer_of):
    for plan in (TESTED, Plan(truth=False)):
        explorer = explorer_of(plan)
        expected = asked(
            explorer,
            "select concept, count(*) as neurons, count(distinct layer) as layers from neuron_concepts "
            "where interpretable group by concept order by neurons desc, concept limit 20",
        )
        assert len(expected) > 1
        assert explorer.store.reading().rows("common_concepts").rows() == expected.rows()


def test_what_is_interpretable_is_unknown_if_no_null_was_drawn(explorer_of):
    explorer = explorer_of(Plan(rule="q"))
    first = explorer.page("/")
    assert "8 neurons of vggnet, not tested against chance" in first.text
    assert "No label was tested against chance" in first.text
    assert "0 of" not in first.text
    concept = explorer.page("/concept?name=Smile").text
    assert "it is not known how many of them are interpretable" in concept
    assert "not interpretable" not in concept
    assert units(explorer.page("/neurons?state=unsure")) == []
    assert {row["num_interpretable"] for row in explorer.store.reading().records("concepts", text=None)} == {None}


def test_a_view_of_an_older_version_is_said(tmp_path):
    path = tmp_path / "warehouse.duckdb"
    with filled(path, TESTED) as warehouse:
        warehouse.connection.execute("create or replace view named_images as select image_id as other from images")
    with explored(path) as explorer:
        assert "If a view or column is missing: dissectdb build" in explorer.page("/image?id=1", 500).text


def test_units_of_arrays_are_not_said_to_wait_for_silencing(tmp_path):
    path = tmp_path / "warehouse.duckdb"
    addresses = ("/neuron?layer=conv1&unit=0", "/concept?name=Smile")
    with filled(path, Plan(edits=0)) as warehouse:
        assert not warehouse.rows("select * from ablations").height
    with explored(path) as explorer:
        for address in addresses:
            assert "It has not been silenced; run: dissectdb effects STUDY" in explorer.page(address).text
    with Warehouse(path) as warehouse:
        warehouse.connection.execute("update networks set architecture = 'arrays'")
    with explored(path) as explorer:
        for address in addresses:
            text = explorer.page(address).text
            assert "not been silenced" not in text
            assert "silencing" not in text


def test_only_images_that_a_neuron_fires_on_are_shown_as_its_own(tmp_path):
    path = tmp_path / "warehouse.duckdb"
    with filled(path, TESTED) as warehouse:
        for table in ("neuron_statistics", "neuron_labels"):
            warehouse.connection.execute(f"update {table} set images_fired = 3")
        dead = "set dead = true, interpretable = false, concept_id = null where neuron_id = 0"
        warehouse.connection.execute(f"update neuron_labels {dead}")
        warehouse.connection.execute("update neuron_statistics set sd = 0 where neuron_id = 0")
    with explored(path) as explorer:
        top = asked(explorer, "select layer, unit, image_id from top_images where rank <= 3 order by rank")
        assert len(top) == len(asked(explorer, "select * from top_images")) == 7 * 3
        for layer, unit in (("conv1", 0), ("conv1", 1), ("lin1", 2)):
            page = explorer.page(f"/neuron?layer={layer}&unit={unit}")
            images = top.filter((pl.col("layer") == layer) & (pl.col("unit") == unit))["image_id"].to_list()
            assert [int(a["src"].split("=")[1]) for tag, a in page.tags if tag == "img"] == images
        for image in set(top["image_id"]) | set(range(1, 12)):
            query = (
                "select layer, unit from top_images join neuron_concepts using (layer, unit) "
                f"where image_id = {image} and interpretable"
            )
            assert sorted(units(explorer.page(f"/image?id={image}"))) == sorted(asked(explorer, query).rows())


def test_correlated_neurons_are_those_of_numpy(tested):
    values = asked(
        tested,
        "select unit, image_id, cast(value as double) as value from activations join named_neurons using (neuron_id) "
        "where layer = 'lin1' order by image_id",
    ).pivot(on="unit", index="image_id", values="value")
    mine = {unit: pl.select(pl.corr(values["1"], values[str(unit)])).item() for unit in (0, 2, 3)}
    order = sorted(mine, key=lambda unit: -abs(mine[unit]))
    rows = tested.store.reading().records("near_by_correlation", neuron=11, module="lin1")
    assert [row["unit"] for row in rows] == order
    assert [row["correlation"] for row in rows] == pytest.approx([mine[unit] for unit in order])


def test_an_image_shows_its_predictions_its_edits_and_who_speaks_for_it(tested):
    page = tested.page("/image?id=2")
    predicted = asked(tested, "select network, predicted_class from image_predictions where image_id = 2").rows()
    assert len(predicted) == 2
    assert all(f"{network}" in page.cells and predicted_class in page.cells for network, predicted_class in predicted)
    speakers = asked(
        tested,
        "select layer, unit from top_images join neuron_concepts using (layer, unit) "
        "where image_id = 2 and interpretable order by rank",
    )
    assert sorted(units(page)) == sorted(speakers.rows())


def test_a_neuron_and_an_image_show_where_it_responds(explorer_of, tested):
    explorer = explorer_of(MAPPED)
    top = asked(explorer, "select image_id from top_images where layer = 'conv1' and unit = 2 order by rank")
    page = explorer.page("/neuron?layer=conv1&unit=2")
    assert [a["href"] for tag, a in page.tags if tag == "image"] == [f"/picture?id={it}" for it in top["image_id"]]
    assert page.count("fieldset") == 1
    assert f"face {top['image_id'][0] - 1}.png" in page.text
    image = explorer.page(f"/image?id={top['image_id'][0]}")
    query = (
        "select layer, unit from image_regions join neuron_concepts using (layer, unit) "
        f"where image_id = {top['image_id'][0]} and interpretable"
    )
    assert image.count("image") == len(asked(explorer, query)) > 0
    for address in ("/neuron?layer=conv1&unit=2", "/image?id=1"):
        assert tested.page(address).count("fieldset") == 0
    assert explorer.page("/neuron?layer=lin1&unit=2").count("fieldset") == 0


def test_a_picture_is_the_stored_one_and_a_strip_shows_six(tested):
    stored = asked(tested, "select thumbnail from images where image_id = 3")["thumbnail"][0]
    shown = tested.get("/picture?id=3")
    assert shown.headers["content-type"] == "image/png"
    pictures = [PIL.Image.open(io.BytesIO(data)) for data in (stored, shown.content)]
    assert pictures[0].tobytes() == pictures[1].tobytes()
    strip = PIL.Image.open(io.BytesIO(tested.get("/strip?layer=conv1&unit=0").content))
    assert strip.size == (308, 48)
    assert "svg" in tested.get("/picture?id=12345").headers["content-type"]


def test_a_concept_lists_its_neurons_by_layer(tested):
    carried = asked(tested, "select layer, unit from neuron_concepts where concept = 'Frown' order by z desc").rows()
    page = tested.page("/concept?name=Frown")
    assert sorted(units(page)) == sorted(carried)
    assert f"It labels {len(carried)} neuron" in page.text


def test_an_edit_lists_the_images_that_it_changed(tested):
    flipped = asked(tested, "select image_id, kind from edit_flips where edit_id = 1")
    assert len(flipped)
    for kind in ("all", "gained", "lost", "other"):
        found = flipped if kind == "all" else flipped.filter(pl.col("kind") == kind)
        page = tested.page(f"/edit?id=1&kind={kind}")
        shown = {int(a["src"].split("=")[1]) for tag, a in page.tags if tag == "img"}
        assert shown == set(found["image_id"])


def test_two_dissections_are_compared(two):
    page = two.page("/compare?a=1&b=3")
    [layer] = asked(
        two, "select * from layer_changes where dissection_id = 1 and other_dissection_id = 3 limit 1"
    ).to_dicts()
    assert layer["layer"] in page.cells
    assert "Choose two different dissections" in two.page("/compare?a=1&b=1").text
    assert "There is no dissection 77" in two.page("/compare?a=1&b=77", 404).text
    # Without a choice: the shown dissection beside the newest other one of its network.
    known = asked(two, "select dissection_id, network, shown from dissection_summary order by dissection_id desc")
    [shown] = known.filter(pl.col("shown")).to_dicts()
    others = known.filter(~pl.col("shown"))
    alike = others.filter(pl.col("network") == shown["network"])
    expected = [(alike if len(alike) else others)["dissection_id"][0], shown["dissection_id"]]
    chosen = [a["value"] for tag, a in two.page("/compare").tags if tag == "option" and "selected" in a]
    assert list(map(int, chosen)) == expected


def test_a_named_dissection_is_shown_on_every_page_and_kept_in_every_link(two):
    for address in ("/?dissection=1", "/neurons?dissection=1", "/neuron?layer=conv1&unit=0&dissection=1"):
        page = two.page(address)
        assert "dissection 1." in page.text
        inside = [link for link in links(page) if re.match(r"/(\?|[a-z]+\?|$)", link)]
        assert inside
        assert [link for link in inside if "dissection=" not in link] == []
    assert "There is no dissection 99" in two.page("/neurons?dissection=99", 404).text


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/neuron?layer=nowhere&unit=0", "There is no layer nowhere; there are conv1, lin1"),
        ("/neuron?layer=conv1&unit=99", "conv1 has no unit 99; it has 4, from 0"),
        ("/neuron?layer=conv1", "names its layer and its unit"),
        ("/neuron?layer=conv1&unit=-1", "unit is a whole number from 0"),
        ("/neuron?layer=conv1&unit=1e9", "unit is a whole number from 0"),
        ("/image?id=98765", "There is no image 98765"),
        ("/image?id=99999999999999999999", "id is a whole number from 0"),
        ("/concept?name=No+such", "There is no concept No such"),
        ("/edit?id=55", "There is no measured edit 55"),
        ("/nowhere", "There is no page at this address"),
    ],
)
def test_what_is_not_there_is_said(tested, address, said):
    assert said in tested.page(address, 404).text


@pytest.mark.parametrize("address", [*ADDRESSES, f"/concept?name={quote(HARMFUL.concepts[0])}"])
def test_names_with_markup_are_only_text(explorer_of, address):
    explorer = explorer_of(HARMFUL)
    for layer in HARMFUL.layers:
        answer = explorer.get(
            address.replace("layer=conv1", f"layer={quote(layer)}").replace("Smile", quote(HARMFUL.concepts[1]))
        )
        page = Page(answer.text)
        handlers = [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
        sources = [a.get("src") for tag, a in page.tags if tag in ("script", "img") and a.get("type") is None]
        assert handlers == []
        assert [source for source in sources if not re.match(r"/(static|picture|strip)", source or "")] == []
        assert [a for tag, a in page.tags if tag == "style" or "style" in a] == []


def test_dissections_whose_labels_cannot_be_compared_say_so(two):
    totals = "select sum(num_labelled) from layer_changes where dissection_id = 1 and other_dissection_id = 3"
    [labelled] = asked(two, totals).row(0)
    page = two.page("/compare?a=1&b=3")
    assert ("No label can be compared" in page.text) == (not labelled)
    assert "Of 0 neurons" not in page.text


def test_all_neurons_of_a_concept_are_those_with_the_label(tested):
    counted = asked(tested, "select concept, count(*) as n from neuron_concepts where concept is not null group by all")
    for concept, n in counted.rows():
        page = tested.page(f"/neurons?concept={quote(concept)}")
        assert f"{n} neuron" in page.text
        assert concept in [a.get("value") for tag, a in page.tags if tag == "input"]


def test_an_image_that_labelled_nothing_is_said_to_be_none(tested):
    [image] = asked(tested, "select min(image_id) from named_images where split = 'test'").row(0)
    assert "not one of the images that the neurons were labelled on" in tested.page(f"/image?id={image}").text


def test_pictures_are_asked_for_again_because_another_file_may_be_served_there(tested):
    assert "no-cache" in tested.get("/picture?id=1").headers["cache-control"]
    assert "no-cache" in tested.get("/strip?layer=conv1&unit=0").headers["cache-control"]
