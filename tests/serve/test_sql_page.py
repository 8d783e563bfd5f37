"""The SQL page: it reads, and nothing else; its tables, charts and files."""

from __future__ import annotations

import io
import json
import re
from html import unescape
from urllib.parse import quote, urlencode

import polars as pl
import pytest

from dissectdb.serve.pages import sql
from tests.support.explorers import Explorer
from tests.support.guarded import folder_state

HOSTILE = [
    "copy layers to 'SECRET'",
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('/etc/passwd')",
    "from '/etc/passwd'",
    "select * from glob('/*')",
    "attach '/etc/passwd' as other",
    "install httpfs",
    "load httpfs",
    "set disabled_filesystems = ''",
    "pragma database_list",
    "create table x (a integer)",
    "create view x as select 1",
    "drop table layers",
    "delete from layers",
    "insert into layers select * from layers",
    "update layers set position = 0",
    "select getenv('HOME')",
    "select * from duckdb_settings()",
    "select current_setting('home_directory')",
    "select 1; drop table layers",
    "explain analyze copy layers to 'SECRET'",
    "export database 'SECRET'",
    "call pragma_version()",
    "set variable dissection = 1",
    "select * from query('select 1')",
    "use memory",
    "checkpoint",
    "vacuum",
]


def cells(explorer: Explorer, query: str) -> list[str]:
    """The cells of the answer to a query."""
    html = explorer.get(f"/sql?q={quote(query)}").text
    return [unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", html, re.DOTALL)]


@pytest.mark.parametrize("query", HOSTILE)
@pytest.mark.parametrize("address", ["/sql", "/sql.csv", "/sql.parquet"])
def test_a_query_that_does_more_than_read_is_refused(tested, query, address):
    folder = tested.store.path.parent
    before = folder_state(folder)
    answer = tested.get(f"{address}?q={quote(query.replace('SECRET', str(folder / 'stolen')))}")
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text if address == "/sql" else answer.text
    assert "root:" not in answer.text
    assert folder_state(folder) == before


def test_a_query_shows_its_rows(tested):
    query = "select layer, neurons from layer_summary order by position"
    assert cells(tested, query) == ["conv1", "4", "lin1", "4"]
    assert "2 rows" in tested.page(f"/sql?q={quote(query)}").text


def test_what_is_wrong_with_a_query_is_said(tested):
    assert "did you mean neurons" in tested.page("/sql?q=select+neuron+from+layer_summary", 400).text
    assert (
        "no table or view named layer_sumary; did you mean layer_summary"
        in tested.page("/sql?q=from+layer_sumary", 400).text
    )


@pytest.mark.parametrize(
    "query", ["describe layers", "show tables", "summarize layers", "explain select 1", "values (1)"]
)
def test_other_reading_statements_are_answered(tested, query):
    assert cells(tested, query)
    assert "alert" not in tested.get(f"/sql?q={quote(query)}").text


def test_a_long_answer_is_cut_and_says_so(tested):
    page = tested.page("/sql?q=" + quote("select * from range(5000) t(k)"))
    assert len(page.cells) == sql.SHOWN
    assert "and there are more" in page.text


def test_values_of_any_type_are_shown_as_text(tested):
    values = "'<b>&' as a, null as b, [1, 2] as c, {'x': 1} as d, thumbnail as e, true as f, date '2026-01-02' as g"
    shown = cells(tested, f"select {values} from images limit 1")
    assert shown[:4] == ["<b>&", "–", "[1, 2]", "{'x': 1}"]
    assert shown[4].endswith("bytes")
    assert shown[5:] == ["True", "2026-01-02"]


def test_files_hold_the_rows_with_their_types(tested):
    query = "select layer, neurons, num_interpretable from layer_summary order by position"
    csv = tested.get(f"/sql.csv?q={quote(query)}")
    parquet = tested.get(f"/sql.parquet?q={quote(query)}")
    assert "attachment" in csv.headers["content-disposition"]
    rows = pl.read_parquet(io.BytesIO(parquet.content))
    assert rows["layer"].to_list() == ["conv1", "lin1"]
    assert pl.read_csv(csv.content).rows() == rows.rows()


def test_a_file_holds_every_column(tested):
    query = "select 1 a, [1, 2] l, {'x': 1} s, map {'k': 2} m, [3, 4]::int[2] r, '\\xAB\\x00'::blob b, interval 1 day i"
    csv = tested.get(f"/sql.csv?q={quote(query)}").text
    assert csv == "a,l,s,m,r,b,i\n" + """1,"[1, 2]",{'x': 1},{k=2},"[3, 4]",AB00,1 day\n"""
    rows = pl.read_parquet(io.BytesIO(tested.get(f"/sql.parquet?q={quote(query)}").content))
    assert rows.columns == ["a", "l", "s", "m", "r", "b", "i"]
    assert rows["l"].to_list() == [[1, 2]]
    assert rows["b"].to_list() == [b"\xab\0"]
    assert tested.get(f"/sql.csv?q={quote('select row(1, 2) as r')}").text == 'r\n"(1, 2)"\n'


@pytest.mark.parametrize("address", ["/sql", "/sql.csv", "/sql.parquet"])
@pytest.mark.parametrize(
    "value", ["'infinity'::date", "'-infinity'::timestamptz", "date '290000-01-01'", "time '24:00:00'"]
)
def test_a_time_that_cannot_be_shown_is_refused(tested, address, value):
    answer = tested.get(f"{address}?q={quote(f'select {value} as t')}")
    assert answer.status_code == 400
    assert "which cannot be shown; cast it to VARCHAR" in answer.text
    assert tested.get(f"{address}?q={quote(f'select ({value})::varchar as t')}").status_code == 200


def test_what_frames_cannot_hold_is_shown_as_text(tested):
    query = 'select interval 25 hour a, [interval 1 day] b, \'101\'::bit c, union_value(u := 7) d, 1::hugeint "e""f"'
    assert cells(tested, query) == ["25:00:00", "[1 day]", "101", "7", "1"]
    assert cells(tested, f"select {2**128 - 1}::uhugeint a") == [str(2**128 - 1)]
    assert "two columns are called a" in tested.get(f"/sql?q={quote('select 1 a, interval 1 day a')}").text


def test_an_answer_is_cut_at_its_bytes_and_says_so(tested, monkeypatch):
    monkeypatch.setattr(sql, "SAVED_BYTES", 1 << 20)
    monkeypatch.setattr(sql, "SHOWN_BYTES", 1 << 20)
    query = "select k, repeat('x', 20000) as a from range(900) t(k)"
    csv = tested.get(f"/sql.csv?q={quote(query)}")
    height = int(re.search(r"query-first-(\d+)-rows.csv", csv.headers["content-disposition"])[1])
    assert len(csv.text.splitlines()) == 1 + height
    assert 20 < height <= (1 << 20) / 20_000
    assert "there are more (an answer holds at most 1 MB)" in tested.page(f"/sql?q={quote(query)}").text
    wide = tested.get("/sql.csv?q=" + quote("select repeat('x', 2000000) as a"))
    assert (wide.status_code, wide.text) == (400, "one row holds more than 1 MB; select parts of it")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            "Invalid Input Error: maximum total string size for regular string buffers",
            "hold more than 2 GB in 256 rows",
        ),
        ("Out of Memory Error: failed to allocate", "the query needs more memory"),
        ("Conversion Error: Could not convert", "Could not convert"),
    ],
)
def test_what_fails_while_rows_are_read_is_said_in_one_line(tested, monkeypatch, error, said):
    def fails(batches, most_bytes):
        raise OSError(error)

    monkeypatch.setattr(sql, "_within", fails)
    assert said in tested.page("/sql?q=select+1", 400).text
    assert tested.get("/sql.csv?q=select+1").status_code == 400


def test_a_file_that_is_cut_says_so_in_its_name(tested, monkeypatch):
    monkeypatch.setattr(sql, "SAVED", 3)
    answer = tested.get("/sql.csv?q=" + quote("select * from range(9) t(k)"))
    assert "query-first-3-rows.csv" in answer.headers["content-disposition"]
    assert len(answer.text.splitlines()) == 4


def test_a_query_is_stopped_after_its_time(tested, monkeypatch):
    monkeypatch.setattr(sql, "SECONDS", 0.2)
    endless = "select count(*) from range(1000000000) a(x), range(1000000) b(y) where x % 7 = y % 5"
    assert "was stopped after 0.2 s; add WHERE or LIMIT" in tested.page(f"/sql?q={quote(endless)}", 400).text
    assert cells(tested, "select 1 as a") == ["1"]


@pytest.mark.parametrize("kind", ["bars", "line", "points", "histogram"])
def test_a_chart_draws_the_chosen_columns(tested, kind):
    query = 'select layer as "a.b[0]", neurons as n, num_interpretable as k from layer_summary order by position'
    values = {"q": query, "chart": kind, "x": "a.b[0]" if kind == "bars" else "n", "y": "k"}
    page = tested.page(f"/sql?{urlencode(values)}")
    [held] = [json.loads(text) for text in page.data if "query-chart" in text]
    drawing = held["query-chart"]
    assert len(drawing["data"]["values"]) == 2
    fields = {channel["field"] for channel in drawing["encoding"].values() if "field" in channel}
    assert fields <= set(drawing["data"]["values"][0])


def drawn(explorer: Explorer, query: str, kind: str) -> list[dict]:
    """The values of the chart of a query."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    page = explorer.page(f"/sql?{urlencode({'q': query, 'chart': kind})}")
    held = [json.loads(text, parse_constant=refuse) for text in page.data if "query-chart" in text]
    return held[0]["query-chart"]["data"]["values"] if held else []


def test_bars_of_rows_with_the_same_x_are_refused(tested):
    query = "select layer, unit, z from neuron_concepts"
    assert drawn(tested, query, "bars") == []
    said = "several rows have the same layer, so there are no bars; choose points, or aggregate in SQL"
    assert said in tested.page(f"/sql?{urlencode({'q': query, 'chart': 'bars'})}").text
    assert len(drawn(tested, query, "points")) == 8


@pytest.mark.parametrize("kind", ["bars", "line", "points", "histogram"])
def test_a_chart_leaves_out_what_is_no_number(tested, kind):
    y = "case k when 0 then 'nan'::double when 1 then '-inf'::double else 2.5 end"
    columns = f"{y} as x" if kind == "histogram" else f"k as x, {y} as y"
    query = f"select {columns} from range(3) t(k)"
    assert [list(row.values())[-1] for row in drawn(tested, query, kind)] == [None, None, 2.5]
    assert "2 values are NaN or infinite" in tested.page(f"/sql?{urlencode({'q': query, 'chart': kind})}").text


def test_decimals_are_drawn_as_numbers(tested):
    assert list(drawn(tested, "select 'a' as x, 1.25::decimal(9, 2) as y", "bars")[0].values()) == ["a", 1.25]


def test_names_for_completion_are_those_of_the_warehouse(tested):
    names = tested.get("/names.json").json()
    assert "concept" in names["neuron_concepts"]


def test_the_query_stays_in_the_page_as_text(tested):
    query = "select '</textarea><script>alert(1)</script>' as a"
    assert cells(tested, query) == ["</textarea><script>alert(1)</script>"]
    assert [script for script in tested.page(f"/sql?q={quote(query)}").scripts if "alert" in script] == []


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/?dissection=1x", "The address says dissection=1x; dissection is a whole number from 0 to 2147483647"),
        ("/sql?q=select+1&dissection=-1", "dissection=-1; dissection is a whole number"),
        ("/sql.csv?q=select+1&dissection=99999999999", "dissection is a whole number"),
        ("/sql?q=select+1&chart=pie", "chart=pie; chart is one of none, bars, line, points, histogram"),
        ("/neurons?state=deed", "state=deed; state is one of any, believed, robust, unsure, unlabelled, dead"),
        ("/neurons?sort=zz", "sort is one of place, z, q"),
        ("/neurons?order=falling", "order is one of up, down"),
        ("/neurons?q=abc", "q=abc; q is a number, such as 0.05"),
        ("/neurons?q=nan", "q is a number"),
        ("/neurons?page=two", "page is a whole number"),
        ("/neuron?layer=conv1&unit=first", "unit is a whole number"),
    ],
)
def test_a_mistyped_value_of_an_address_is_named(tested, address, said):
    assert said in tested.page(address, 404).text
