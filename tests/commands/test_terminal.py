"""What people see: tables at any width, signs and colours of the terminal, stages, and the commands to type next."""

from __future__ import annotations

import io
import json
import math
import os
import pty
import re
import shlex
import subprocess
import sys
import time
from datetime import datetime

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from dissectdb import ROOT
from dissectdb.commands import cells, screen, stages, tables
from dissectdb.commands.terminal import found_labels
from tests.support.worlds import World, command

STYLES = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch):
    """Prints on a terminal of so many columns; returns the lines that it shows."""
    for name in ("LC_ALL", "LANG", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)

    def shown(show, columns: int, stream: str = "stdout") -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        with monkeypatch.context() as patch:
            out = Terminal()
            patch.setattr(sys, stream, out)
            show()
        return [line.rstrip() for line in STYLES.sub("", out.getvalue()).splitlines()]

    return shown


# ---------------------------------------------------------------- cells


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a loaded machine
@given(st.lists(st.one_of(st.none(), st.floats(-1e300, 1e300), st.sampled_from([math.inf, math.nan])), min_size=1))
def test_a_rounded_number_is_near_its_value_and_only_0_reads_as_0(values):
    column = cells.texts(pl.Series("x", values, pl.Float64), screen.UNICODE)
    finite = [abs(value) for value in values if value is not None and abs(value) < float("inf")]
    largest = max(finite, default=0)
    for value, text in zip(values, column.cells, strict=True):
        if value is None:
            assert text == "–"
        elif value != value or abs(value) == float("inf"):
            assert text == str(value)
        else:
            read = float(text.replace(",", ""))
            assert (read == 0) == (value == 0)
            assert abs(read - value) <= max(0.501e-3 * largest, 0.5 * abs(value))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([54.1171, 2.0, -0.1], ["54.12", "2.00", "-0.10"]),
        ([1e-5, 0.3, 0.0, None], ["1e-05", "0.3000", "0.0000", "–"]),
        ([6e-5, 0.5], ["6e-05", "0.5000"]),
        ([0.004, 54.1171], ["0.004", "54.12"]),
        ([-9.0, 1.0], ["-9", "1"]),
        ([1234567.25], ["1,234,567"]),
        ([1234, None], ["1,234", "–"]),
        ([True, False, None], ["true", "false", "–"]),
        ([b"ab", b"x", None], ["2 bytes", "1 byte", "–"]),
        ([[0.123456, 1.0], [], None], ["[0.1235, 1]", "[]", "–"]),
        ([list(range(512))], ["[0, 1, 2, 3, 4, … 507 more]"]),
        ([{"a": 1, "b": [None, "x"]}], ["{a: 1, b: [–, x]}"]),
        ([datetime(2026, 1, 2, 3, 4, 5, 678901)], ["2026-01-02 03:04:05"]),
        (["a\x1b[31m\nb\u202e"], [r"a\x1b[31m\nb\u202e"]),
    ],
)
def test_cells_are_written_for_reading(values, expected):
    assert cells.texts(pl.Series("x", values), screen.UNICODE).cells == expected


def test_sums_and_decimals_keep_their_digits(finished: World):
    done = finished.run("query", "select 12345::hugeint as whole, 1.50::decimal(4, 2) as price")
    assert done.out.splitlines()[-1].split() == ["12,345", "1.50"]


# ---------------------------------------------------------------- tables


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cf", "Mn", "Me", "Mc")), max_size=30)
FRAMES = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.tuples(*[st.one_of(st.none(), TEXTS)] * width), max_size=6).map(
        lambda rows: pl.DataFrame(rows, {f"column_{index}": pl.String for index in range(width)}, orient="row")
    )
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a loaded machine
@given(FRAMES)
def test_a_wide_terminal_shows_what_a_pipe_gets(frame):
    columns = cells.columns(frame, screen.UNICODE, {})
    out = io.StringIO()
    room = sum(map(tables._natural, columns)) + tables.GAP * (len(columns) - 1)
    console = screen.console_of(out)
    console.width = room
    console.print(tables._rich_table(columns, tables.fit(columns, room), screen.UNICODE))
    plain = [line.rstrip() for line in tables.plain_lines(frame, screen.UNICODE) if line != "no rows"]
    assert [line.rstrip() for line in out.getvalue().removesuffix("\n").split("\n")] == plain


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a loaded machine
@given(FRAMES, st.integers(20, 200))
def test_widths_fit_and_as_many_columns_as_possible_are_shown(frame, room):
    columns = cells.columns(frame, screen.UNICODE, {})
    widths = tables.fit(columns, room)
    gaps = tables.GAP * (len(widths) - 1)
    assert sum(widths) + gaps <= room
    least = [tables._least(column) for column in columns]
    assert len(widths) == len(columns) or sum(least[: len(widths) + 1]) + gaps + tables.GAP > room
    natural = [tables._natural(column) for column in columns]
    if len(widths) == len(columns) and sum(natural) + gaps <= room:
        assert widths == natural, "nothing is folded if everything fits"


WIDE = pl.DataFrame(
    {
        "layer": ["conv1b", "lin2"],
        "unit": [1, 1200],
        "concept": ["Smile", "Twinkling or Crinkled Eyes"],
        "uninterpretable_accuracy": [0.5, None],
        "runner_up": ["a", "an eyelid that is raised"],
        "q": [0.00001, 0.25],
    }
)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_is_as_wide_as_the_terminal_and_names_what_it_leaves_out(terminal, width):
    lines = terminal(lambda: tables.show(WIDE), width)
    assert max(map(cell_len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    left_out = re.search(r"left out, because the terminal is narrow: (.*); a wider", text)
    named = left_out[1].split(", ") if left_out else []
    assert named == {60: ["runner_up", "q"], 80: [], 200: []}[width]
    for number in ("1,200", "0.5000", "–"):
        assert number in text, "numbers are not folded"
    assert ("1e-05" in text) == ("q" not in named)
    if width == 200:
        assert lines[0].split() == WIDE.columns


def test_a_name_of_a_column_is_folded_before_texts_are(terminal):
    lines = terminal(lambda: tables.show(WIDE.select("concept", "uninterpretable_accuracy")), 45)
    assert [line.split() for line in lines[:2]] == [["uninterpretable_"], ["concept", "accuracy"]]
    assert any("Twinkling or Crinkled Eyes" in line for line in lines)


def test_a_terminal_gets_the_first_rows_of_many_and_a_pipe_gets_all(terminal, monkeypatch, capsys):
    monkeypatch.setattr(tables, "ROWS", 10)
    frame = pl.DataFrame({"number": range(1234)})
    lines = terminal(lambda: tables.write(frame, "table", None), 80)
    assert lines[-2:] == ["     9", "… 1,224 more rows; --format csv, or a pipe, gets all"]
    assert len(lines) == 2 + 10 + 1
    tables.write(frame, "table", None)
    assert len(capsys.readouterr().out.splitlines()) == 2 + 1234


def test_no_rows_are_said(terminal, capsys):
    empty = WIDE.head(0)
    assert terminal(lambda: tables.write(empty, "table", None), 200)[-1] == "no rows"
    for format in ("table", "vertical"):
        tables.write(empty, format, None)
        assert capsys.readouterr().out.splitlines()[-1] == "no rows"


def test_markdown_holds_each_row_in_a_line_of_as_many_cells(finished: World):
    done = finished.run(
        "query", "select 'a|b' as text, 0.12345::double as number, null as nothing", "--format", "markdown"
    )
    assert done.out == "| text | number | nothing |\n|---|---:|---|\n| a\\|b | 0.1235 | – |\n"


def test_vertical_has_a_line_per_column_and_whole_texts(finished: World, terminal):
    done = finished.run("query", "select 1 as unit, repeat('word ', 100) as text", "--format", "vertical")
    assert done.out.splitlines() == ["── 1 ──", "unit  1", f"text  {'word ' * 100}"]
    frame = pl.DataFrame({"unit": [1], "text": ["word " * 100]})
    lines = terminal(lambda: tables.write(frame, "vertical", None), 60)
    assert max(map(len, lines)) <= 60
    assert " ".join(lines[2:]).split() == ["text", *["word"] * 100]


@pytest.mark.parametrize("format", ["json", "csv"])
def test_formats_for_programs_are_not_rounded(finished: World, format):
    done = finished.run("query", "select 0.123456789::double as x, 1234567 as y", "--format", format)
    assert "0.123456789" in done.out
    assert "1234567" in done.out


# ---------------------------------------------------------------- signs and colours


@pytest.mark.parametrize(
    ("variables", "encoding", "expected"),
    [
        ({}, "utf-8", screen.UNICODE),
        ({"LANG": "en_US.UTF-8"}, "UTF-8", screen.UNICODE),
        ({"LANG": "C"}, "utf-8", screen.ASCII),
        ({"LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, "utf-8", screen.ASCII),
        ({"LC_ALL": "C.UTF-8", "LANG": "C"}, "utf-8", screen.UNICODE),
        ({}, "ascii", screen.ASCII),
        ({}, "cp1252", screen.ASCII),
    ],
)
def test_unicode_is_for_streams_that_show_it(variables, encoding, expected, monkeypatch):
    for name in ("LC_ALL", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert screen.signs_of(io.TextIOWrapper(io.BytesIO(), encoding)) is expected


@pytest.mark.parametrize("show", [lambda: tables.show(WIDE, title="×"), lambda: screen.put("≤ – …")])
def test_a_locale_without_unicode_gets_ascii(terminal, monkeypatch, show):
    monkeypatch.setenv("LANG", "C")
    assert "".join(terminal(show, 80)).isascii()


def test_a_stream_that_cannot_take_a_name_gets_it_written_out(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    tables.show(pl.DataFrame({"concept": ["façade"]}))
    sys.stdout.flush()
    assert raw.getvalue().splitlines()[-1] == rb"fa\xe7ade"


@pytest.mark.parametrize(
    ("variables", "colours"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)], ids=str
)
def test_colour_is_for_terminals_that_want_it(monkeypatch, variables, colours):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", **variables}.items():
        monkeypatch.setenv(name, value)
    for stream, expected in ((Terminal(), colours), (io.StringIO(), False)):
        screen.put("a warning", "yellow", stream=stream)
        assert ("\x1b[33m" in stream.getvalue()) == expected


def test_names_cannot_steer_the_terminal(terminal):
    frame = pl.DataFrame({"concept": ["\x1b]0;title\x07[bold]Smile[/bold]"]})
    assert terminal(lambda: tables.show(frame), 80)[-1] == r"\x1b]0;title\x07[bold]Smile[/bold]"


def test_an_error_is_wrapped_on_a_terminal_and_its_command_is_not(terminal, capsys):
    error = (
        "dissectdb: the warehouse was made by an older version; bring it up to date with: dissectdb build -w "
        + "x" * 30
    )
    lines = terminal(lambda: screen.put_error(error), 40, "stderr")
    assert max(map(len, lines[:-1])) <= 40
    assert lines[-1] == f"  dissectdb build -w {'x' * 30}"
    assert " ".join(" ".join(lines).split()) == error
    screen.put_error(error)
    assert capsys.readouterr().err == f"{error}\n", "in a log it is one line"


# ---------------------------------------------------------------- stages


def test_a_log_file_gets_one_line_per_stage(capsys, monkeypatch):
    clock = iter([0.0, 5.0, 12.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with stages.Stage("looking") as progress:
        progress(1200, 2500)
    assert capsys.readouterr().err == "looking: 1,200 images in 12.5 s, 96 per second\n"


def test_a_long_stage_adds_lines_at_growing_gaps(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with stages.Stage("looking", unit="concepts") as progress:
        for second in range(1, 7201):
            now = float(second)
            progress(second, 7200 if second > 40 else None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "looking: 30 concepts, 1 per second"
    assert lines[1] == "looking: 60 of 7,200, 1 per second, 1 h 59 min left"
    assert lines[-1] == "looking: 7,200 concepts in 2 h 0 min, 1 per second"
    assert 12 <= len(lines) <= 20


def test_a_stage_with_nothing_to_do_or_an_error_has_no_line(capsys):
    with stages.Stage("looking"):
        pass
    with pytest.raises(ZeroDivisionError), stages.Stage("looking") as progress:
        progress(1, 0 // 0)
    assert capsys.readouterr().err == ""
    with stages.Stage("loading", unit=""):
        pass
    assert capsys.readouterr().err == "loading: 0.0 s\n"


def on_terminal(arguments: list[object], columns: int) -> tuple[int, str]:
    """Run a command on a terminal of its own; returns its exit code and everything that it wrote there."""
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "LC_ALL", "LANG")}
    environment |= {"COLUMNS": str(columns), "TERM": "xterm-256color"}
    words = [sys.executable, ROOT / "cli.py", *map(str, arguments)]
    running = subprocess.Popen(words, stdout=theirs, stderr=theirs, stdin=theirs, env=environment, cwd=ROOT)
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux: the other side is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    return running.wait(), written.decode()


def test_a_run_on_a_terminal_updates_its_line_and_notes_stand_above_it(new_world: World):
    code, written = on_terminal(["extract", new_world.study], 70)
    assert code == 0, written
    assert "\x1b[2K" in written, "a line is written anew"
    lines = [STYLES.sub("", line.rpartition("\x1b[2K")[2]).strip() for line in written.split("\r\n")]
    for stage in ("extracting net: 111 images in ", "labelling and building: "):
        assert len([line for line in lines if line.startswith(stage)]) == 1, lines
    assert "left out: blank 1, repeats 1, unreadable 1" in lines
    assert "Found" in lines


# ---------------------------------------------------------------- found, and next


def next_commands(out: str) -> list[list[str]]:
    """The commands below "Next", each as its words."""
    return [shlex.split(line)[1:] for line in out.partition("\nNext\n")[2].splitlines() if line.startswith("  ")]


def test_commands_say_what_was_found_and_what_to_type_next(modified: World, monkeypatch):
    monkeypatch.chdir(modified.folder)
    for name in ("extract", "modify"):
        done = modified.run(name, modified.study)
        assert done.code == 0, done.err
        commands = next_commands(done.out)
        assert [words[0] for words in commands][:2] == ["report", "query"]
        for words in commands:
            if words[0] in ("report", "query"):
                assert words[1:3] == ["-w", "warehouse.duckdb"]
                followed = command(*words)
                assert followed.code == 0, (words, followed.err)
    labelled = modified.rows(
        "select count(*) filter (where interpretable) as labelled, count(*) as n from neuron_labels"
    )
    assert labelled
    done = modified.extract()
    [counts] = modified.rows("select sum(num_interpretable) as right, sum(neurons) as n from layer_summary")
    assert f"{int(counts['right'])} of {int(counts['n'])} neurons are interpretable" in done.out


def test_neurons_of_a_layer_without_a_null_are_not_counted_as_uninterpretable():
    layers = pl.DataFrame({"neurons": [4, 8], "num_interpretable": [3, None]})
    others = {"commonest": pl.DataFrame(), "How often the network is right": pl.DataFrame({"accuracy": [None]})}
    found = found_labels({"Layers": layers, **others})
    assert found[:2] == [
        "3 of 4 neurons are interpretable (75.0 %)", "not tested against chance: 8 more neurons, without a null",
    ]  # fmt: skip
    found = found_labels({"Layers": layers[1:], **others})
    assert found[0] == "not tested against chance: 8 neurons, without a null"


def test_the_next_command_repeats_the_options_of_this_one(new_world: World, monkeypatch):
    monkeypatch.chdir(new_world.folder)
    options = ("-w", new_world.folder / "a b.duckdb", "--set", "edits=[{ name = 'paper', layer = 'lin' }]")
    done = new_world.extract(*options)
    assert done.code == 0, done.err
    [again] = [words for words in next_commands(done.out) if words[0] == "modify"]
    assert again == ["modify", "study.toml", "--set", options[3], "-w", "a b.duckdb"]


def test_warnings_are_counted_and_each_note_is_printed_once(new_world: World):
    done = new_world.extract()
    printed = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert f"  {len(printed)} warnings, printed while it ran\n" in done.out
    assert len(set(printed)) == len(printed) > 0


def test_rows_as_json_are_not_for_people(finished: World):
    rows = json.loads(finished.run("query", "select null as nothing, 0.5 as half", "--format", "json").out)
    assert rows == [{"nothing": None, "half": 0.5}]
