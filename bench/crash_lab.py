"""Run commands in forked processes, send a signal at a chosen moment, and check what they left behind.

lab = Lab(folder)                      # runs every command undisturbed on a small study, as the reference
world = lab.start("modify", folder)    # a copy of the study as it is before the command
ended = lab.run(world, "modify", Moment("commit", 3, 0.5))    # killed half way through the third commit
wrong = lab.judge(world, "modify")     # None if the rerun ends like the undisturbed run

The process that forks has imported torch and the models' code, so that each run starts at once. It has used neither,
because their threads would not survive a fork.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import resource
import select
import shutil
import signal
import struct
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import torch

from dissectdb.commands import app, terminal  # noqa: F401, for the forks
from dissectdb.extract.models import batches
from dissectdb.extract.record import blocks
from dissectdb.extract.scoring import labels  # noqa: F401, for the forks
from dissectdb.warehouse.view_files import load_views
from tests.support import worlds

# Columns of times, which differ from run to run. Everything else must be equal, including ids and counts of commits.
LEFT_OUT = {"seconds", "started_at", "finished_at", "created_at", "chosen_at", "opened_at", "built_at"}
LEFT_OUT_OF = {"view_parts": {"fingerprint"}}  # it also depends on the times in the rows
LONGEST = 120.0  # seconds without a request, after which a run counts as hung

# In this order: each command starts from what the one before it left.
COMMANDS = {
    "extract": ("extract", "study.toml", "--deterministic"),
    "modify": ("modify", "study.toml", "--deterministic"),
    "effects": ("effects", "study.toml", "--deterministic"),
    "build": ("build", "--full-refresh", "--deterministic", "-w", "warehouse.duckdb"),
}
LOOKS = {"check": ("check", "-w", "warehouse.duckdb"), "status": ("status", "-w", "warehouse.duckdb")}

ADDED = """
[effects]
layers = ["lin", "conv2"]
images = 15
neurons = 3
controls = 4

[[dissections]]
concepts = "looks"
scorer = "rank_reorder"
rank_fraction = 0.2
null_draws = 1000
top_k = 5

[[dissections]]
concepts = "shapes"
scorer = "cos"
engine = "kernel"
top_k = 5
null_draws = 1000

"""

WRITES = re.compile(r'(insert into|delete from|update|create or replace table) "?(\w+)')


@dataclass(frozen=True)
class Event:
    """Something that a run did, counted by kind from 1."""

    kind: str
    number: int
    seconds: float


@dataclass(frozen=True)
class Moment:
    """When a signal comes. share: how far into the event, 0 for right before it, 1 for right after it."""

    kind: str
    number: int
    share: float
    seconds: float = 0.0  # how long the event takes undisturbed

    def __str__(self) -> str:
        return f"{self.share:.2f} of {self.kind} {self.number}"


@dataclass(frozen=True)
class Ended:
    """How a run ended, and what it printed. code: negative if a signal ended it."""

    code: int
    out: str
    err: str

    def complaint(self, code: int, *words: str) -> str | None:
        """What is wrong; None if it ended with this code and, if words are given, with one line that holds them all."""
        lines = self.err.strip().splitlines()
        ours = [line for line in lines if line.startswith("dissectdb: ")]
        if self.code != code:
            return f"exit code {self.code} instead of {code}: {' / '.join(lines[-3:])}"
        if "Traceback" in self.err or "Exception ignored" in self.err:
            return f"a traceback: {lines[-1]}"
        if words and (ours != lines[-1:] or not all(word in ours[0] for word in words)):
            return f"not one line with {', '.join(words)}: {' / '.join(lines[-3:])}"
        return None


# ---------------------------------------------------------------- a run and its end


def fork(body: Callable[[int], int], log: Path, sign: int = signal.SIGKILL) -> Ended:
    """Run `body` in a forked process; returns how it ended.

    body gets the writing end of a pipe. After it writes a number of seconds, the signal comes when they have passed.
    """
    sys.stdout.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for number, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(log.with_suffix(f".{name}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            code = body(writer)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    while True:
        if not select.select([reader], [], [], LONGEST)[0]:
            os.kill(child, signal.SIGABRT)
            break
        if not (asked := os.read(reader, 8)):
            break
        time.sleep(struct.unpack("d", asked)[0])
        os.kill(child, sign)
    os.close(reader)
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), *(log.with_suffix(f".{end}").read_text() for end in ("out", "err")))


class Observer:
    """Counts the events of a run, and has the signal sent at its moment."""

    def __init__(self, pipe: int, moment: Moment | None, sign: int) -> None:
        self.pipe, self.moment, self.sign = pipe, moment, sign
        self.counts: Counter[str] = Counter()
        self.events: list[Event] = []
        self.lock = threading.Lock()

    @contextmanager
    def event(self, kind: str) -> Iterator[float | None]:
        """Count the block as one event. The value is the share of the moment if it is in this event, else None."""
        with self.lock:
            self.counts[kind] += 1
            number = self.counts[kind]
        due = self.moment if self.moment and (self.moment.kind, self.moment.number) == (kind, number) else None
        if due and due.share == 0:
            os.kill(os.getpid(), self.sign)
        elif due and due.share < 1:
            os.write(self.pipe, struct.pack("d", due.share * due.seconds))
        started = time.perf_counter()
        try:
            yield due.share if due else None
        finally:
            self.events.append(Event(kind, number, time.perf_counter() - started))
            if due and due.share == 1:
                os.kill(os.getpid(), self.sign)

    def put(self, owner: Any, name: str, kind: str | Callable[..., str | None]) -> None:
        """Count every call of a function as an event of this kind."""
        call = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            what = kind if isinstance(kind, str) else kind(*arguments)
            if what is None:
                return call(*arguments, **options)
            with self.event(what):
                return call(*arguments, **options)

        setattr(owner, name, watched)

    def put_all(self) -> None:
        """Observe the writes to the warehouse, those to the edited network's file, and the run as a whole."""
        connection = duckdb.DuckDBPyConnection
        self.put(connection, "execute", lambda self, query, *rest: writes(query))
        for name in ("begin", "commit", "close"):
            self.put(connection, name, name)
        self.put(duckdb, "connect", "open")
        self.put(os, "replace", "rename")
        self.put(app, "app", "run")
        save = torch.save

        def half(state: object, path: str | os.PathLike[str]) -> None:
            with self.event("save") as share:
                if share is None or not 0 < share < 1:
                    return save(state, path)
                whole = io.BytesIO()
                save(state, whole)
                Path(path).write_bytes(whole.getvalue()[: int(share * whole.tell())])
                os.kill(os.getpid(), self.sign)

        torch.save = half  # type: ignore[assignment]  # checkpoints.py passes no more than these two


def writes(query: str) -> str | None:
    """The kind of event that a statement is, None if it does not write."""
    if found := WRITES.match(query):
        return f"{'make' if found[1].startswith('create') else found[1].split()[0]} {found[2]}"
    return None


def command(arguments: tuple[str, ...], folder: Path, observer: Observer | None, largest: int | None) -> int:
    """Run a command in a folder as the shell would; returns its exit code. largest: bytes, of any file."""
    os.chdir(folder)
    sys.argv = ["dissectdb", *arguments]
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the background job of a shell ignores it
    torch.set_num_threads(1)
    blocks.BLOCK, batches.batch_size = worlds.BLOCK, lambda device: worlds.BATCH
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    if observer:
        observer.put_all()
    try:
        app.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


# ---------------------------------------------------------------- what a run left


def left_out(table: str) -> set[str]:
    """The columns of a table that are not compared."""
    return LEFT_OUT | LEFT_OUT_OF.get(table, set())


def contents(folder: Path) -> dict[str, str]:
    """Table, view or file → the number of its rows and a hash of its content."""
    found = {}
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as connection:
        columns = connection.execute(
            "select table_name, list(column_name order by column_index) from duckdb_columns() where not internal "
            "and table_name in (select table_name from duckdb_tables()) group by all"
        ).fetchall()
        queries = {name: ", ".join(f'"{each}"' for each in of if each not in left_out(name)) for name, of in columns}
        queries = {f"table {name}": f'select {kept} from "{name}"' for name, kept in queries.items()}
        queries["columns"] = "select table_name, column_name, data_type, comment from duckdb_columns()"
        queries["views"] = "select view_name, sql, comment from duckdb_views()"
        for name, query in queries.items():
            rows = sorted(repr(row).replace(str(folder), "") for row in connection.execute(query).fetchall())
            found[name] = f"{len(rows):,} rows, {hashlib.sha256(chr(10).join(rows).encode()).hexdigest()[:8]}"
    for path in sorted(folder.rglob("*")):
        if path.name != "warehouse.duckdb" and "__pycache__" not in path.parts:
            what = hashlib.sha256(path.read_bytes()).hexdigest()[:8] if path.is_file() else "a folder"
            found[f"file {path.relative_to(folder)}"] = what
    return found


class Lab:
    """A small study, and what each command leaves if it is not disturbed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.references: dict[str, dict[str, str]] = {}
        self.events: dict[str, list[Event]] = {}
        load_views()  # here, so that the forks need not load them
        made = fork(lambda pipe: make_study(folder / "before extract"), folder / "making")
        assert made.code == 0, made.err
        names = [*COMMANDS, "the end"]
        for name, after in pairwise(names):
            world = self.start(name, folder / f"before {after}")
            for _ in range(2):  # twice, because a first run is slower
                ended, self.events[name] = self.record(self.start(name, folder / "recorded"), name)
                assert ended.code == 0, ended.err
            assert (ended := self.run(world, name)).code == 0, ended.err
            self.references[name] = self.contents(world)
            if differences := compare(self.contents(folder / "recorded"), self.references[name]):
                raise SystemExit(f"{name} differs between two undisturbed runs: {differences}")

    def start(self, name: str, folder: Path) -> Path:
        """A copy of the world before a command."""
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(self.folder / f"before {name}", folder))

    def run(
        self,
        world: Path,
        name: str,
        moment: Moment | None = None,
        sign: int = signal.SIGKILL,
        largest: int | None = None,
        plain: bool = False,
    ) -> Ended:
        """Run a command. largest: the most bytes that a file may grow to. plain: build only what is stale."""
        arguments = (COMMANDS | LOOKS)[name]
        if plain:
            arguments = tuple(each for each in arguments if each != "--full-refresh")

        def body(pipe: int) -> int:
            return command(arguments, world, Observer(pipe, moment, sign) if moment else None, largest)

        return fork(body, self.log(world), sign)

    def record(self, world: Path, name: str) -> tuple[Ended, list[Event]]:
        """Run a command undisturbed; returns how it ended, and its events."""

        def body(pipe: int) -> int:
            observer = Observer(pipe, None, signal.SIGKILL)
            code = command(COMMANDS[name], world, observer, None)
            self.log(world).with_suffix(".json").write_text(json.dumps([vars(event) for event in observer.events]))
            return code

        ended = fork(body, self.log(world))
        if ended.code:
            return ended, []
        return ended, [Event(**each) for each in json.loads(self.log(world).with_suffix(".json").read_text())]

    def contents(self, world: Path) -> dict[str, str]:
        """What contents() returns, called in a fork, because the process that forks must not use DuckDB."""

        def body(pipe: int) -> int:
            self.log(world).with_suffix(".json").write_text(json.dumps(contents(world)))
            return 0

        ended = fork(body, self.log(world))
        return json.loads(self.log(world).with_suffix(".json").read_text()) if ended.code == 0 else {ended.err: ""}

    def judge(self, world: Path, name: str, plain: bool = False) -> str | None:
        """What is wrong after the command was run again, or None."""
        wrong = self.run(world, name, plain=plain).complaint(0)
        return (f"rerun: {wrong}" if wrong else None) or self.judge_end(world, name)

    def judge_end(self, world: Path, name: str) -> str | None:
        """What differs from the world that the undisturbed command leaves, or None."""
        if differences := compare(self.contents(world), self.references[name]):
            return f"differs: {differences}"
        wrong = self.run(world, "check").complaint(0)
        return f"check: {wrong}" if wrong else None

    @staticmethod
    def log(world: Path) -> Path:
        """The file for the output of its runs; outside, because the world is compared and its disk may be full."""
        return world.parent.with_name(f"{world.parent.name} {world.name}.log")


def compare(found: dict[str, str], expected: dict[str, str]) -> str:
    """What differs, in one line; empty if nothing does."""
    names = [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
    return "; ".join(f"{name}: {found.get(name)}, not {expected.get(name)}" for name in names[:6])


def make_study(folder: Path) -> int:
    """Make a study of 111 images in blocks of 32, with edits, effects and three scorers; returns an exit code."""
    world = worlds.make_world(folder)
    text = world.study.read_text(encoding="utf-8").replace("top_k = 5\n", "top_k = 5\nnull_draws = 1000\n")
    world.study.write_text(text, encoding="utf-8")
    world.change('[[concept_sets]]\nname = "looks"', f'{ADDED}[[concept_sets]]\nname = "looks"')
    return 0
