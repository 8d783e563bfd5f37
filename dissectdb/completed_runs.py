"""Recognise a run that has nothing to do, by its files' sizes and times, without loading a network.

run = Run("extract", study, file, NOTHING)
if result := run.result():              # what the same run came to the last time; None if it must be done
    return result["dissection_id"]
with run.listening():                   # do it
    run.enter(opened, {"dissection_id": 1}, network)   # at its end, if it leaves nothing to do

A run is known if command, study, files and program are the same, if the network's imports lead to the same files, and
if nobody has written since to the tables that the result depends on. Files are compared by path, size and times of
change; only a run that is not known reads them. A byte that changed while size and times stayed is found by
`check --deep` and with --rehash.

Imports no torch.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dissectdb import ROOT
from dissectdb.extract.fingerprints import of_values
from dissectdb.extract.models.imports import Imports, places
from dissectdb.given import Given
from dissectdb.progress import REPEATED

if TYPE_CHECKING:
    from dissectdb import Study, Warehouse
    from dissectdb.extract.models.networks import NetworkIdentity
    from dissectdb.warehouse_file import WarehouseFile

Command = Literal["extract", "modify", "effects"]

UNREAD = {  # keys of a study that do not change what a command writes
    "extract": {"warehouse", "device", "edits", "sweeps", "protocol", "effects"},
    "modify": {"warehouse", "device", "effects"},
    "effects": {"warehouse", "device", "edits", "sweeps", "protocol"},
}
OWN_TABLES = {  # tables that only this command writes, by their beginnings; the others' results do not depend on them
    "extract": (),
    "modify": ("edit", "split_openings"),
    "effects": ("ablation",),
    "judge": ("rival",),
}
# modify also writes an edited network and its predictions into these. Their ledger is compared, without such networks.
SHARED = ("networks", "predictions", "extractions", "extraction_blocks")
OUR_ROOMS = ("dissectdb", "extract", "warehouse", "sql")  # their code decides what a run writes

log = logging.getLogger("dissectdb")


class Run:
    """A command with its study and warehouse. options: what else its result depends on, as JSON values."""

    def __init__(self, command: Command, study: Study, file: WarehouseFile, given: Given, **options: object) -> None:
        self.command: Command = command
        self.file = file
        self.said: list[tuple[int, str]] = []  # level and text
        paths: set[str] = set()
        # A function that loads its weights itself may read them by compiled code, and then not all files are known.
        self.is_knowable = study.network is None or study.network.weights is not None
        self.is_knowable &= not given.is_something  # an object has no time of change
        self.is_knowable &= study.dataset is None or not study.dataset.runs_code  # a Dataset reads files of its own
        try:
            asked = _with_absolute_paths(study.model_dump(exclude=UNREAD[command]), paths)
            paths |= _listed_files(study)
            self.fingerprint = of_values(command, asked, options)
        except (RecursionError, ValueError):  # arguments nested too deep, or too large: building the network reports it
            self.fingerprint, self.is_knowable = "", False
        self.paths = sorted(paths)
        self.started = time.time_ns()
        self.files = _stats(self.paths)  # as they are before the run reads them

    def result(self) -> dict[str, Any] | None:
        """What the run came to, as it was entered, after what it said is logged again.

        None if it must be done, because something that it depends on may have changed.
        """
        from dissectdb import WarehouseError

        if not self.is_knowable or not self.file.path.exists():
            return None
        try:
            with self.file.to_read() as opened:
                result = self._find(opened)
                if result is None or any(opened.build(dry_run=True)):
                    return None
        except WarehouseError:  # the run itself mends or reports it
            return None
        for level, text in result["said"]:
            log.log(level, text)
        return result

    def _find(self, opened: Warehouse) -> dict[str, Any] | None:
        tables = opened.rows("select 1 from information_schema.tables where table_name = 'completed_runs'")
        if tables.is_empty():  # a reader opens a warehouse from before this table as it is
            return None
        rows = opened.rows(
            "select files, inputs, state, result from completed_runs where fingerprint = $fingerprint",
            {"fingerprint": self.fingerprint},
        )
        for files, inputs, state, result in rows.iter_rows():
            found = dict(json.loads(result))
            imports = Imports(*found.get("imports", ()))
            if inputs == self._inputs(files, imports) and state == self._state(opened):
                return found
        return None

    def known_in(self, opened: Warehouse) -> dict[str, Any] | None:
        """As result(), of a warehouse that is open, whose views may be stale. Nothing is logged."""
        return self._find(opened) if self.is_knowable else None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside the block, what is logged and is to be REPEATED becomes part of the result."""

        def keep(record: logging.LogRecord) -> None:
            if getattr(record, REPEATED, record.levelno >= logging.WARNING):
                self.said.append((record.levelno, record.getMessage()))

        handler = logging.Handler()
        handler.emit = keep  # type: ignore[method-assign]
        log.addHandler(handler)
        try:
            yield
        finally:
            log.removeHandler(handler)

    def enter(
        self,
        opened: Warehouse,
        result: Mapping[str, object],
        network: NetworkIdentity,
        *,
        written: Sequence[Path] = (),
    ) -> None:
        """Write that the run is complete. written: its files, beside those that the study names and the network read.

        Nothing is written if a file may have changed while the run read it, or if not all files are known.
        """
        times = [time for _, _, *both in (*self.files, *_stats(network.files)) for time in both]
        if not self.is_knowable or max(times, default=0) >= self.started or _stats(self.paths) != self.files:
            return
        opened.discard({"completed_runs": "fingerprint = $fingerprint"}, {"fingerprint": self.fingerprint})
        files = [os.path.abspath(path) for path in (*network.files, *written)]
        row = {
            "fingerprint": self.fingerprint,
            "command": self.command,
            "files": files,
            "inputs": self._inputs(files, network.imports),
            "state": self._state(opened),
            "result": json.dumps({**result, "said": list(dict.fromkeys(self.said)), "imports": network.imports}),
            "completed_at": datetime.now(UTC).replace(tzinfo=None),
        }
        opened.write({"completed_runs": [row]})

    def _inputs(self, files: Iterable[Path | str], imports: Imports) -> str:
        """A digest of everything outside the warehouse that the result depends on."""
        return of_values(self.files, _stats(files), places(imports), _program())

    def _state(self, opened: Warehouse) -> str:
        """A digest of the versions of the tables that the result depends on."""
        others = [start for command, starts in OWN_TABLES.items() if command != self.command for start in starts]
        rows = opened.rows(
            """
            select table_name as name, version::varchar as version from table_versions
            where not list_contains($shared, table_name) and table_name != 'completed_runs'
            and not list_bool_or(list_transform($others, lambda start: starts_with(table_name, start)))
            union all
            select key, value from warehouse_info where key in ('schema_version', 'views')
            union all
            select 'ledger', bit_xor(hash(networks, extractions, extraction_blocks))::varchar from extractions
            left join networks on extractions.network_id = networks.network_id
            left join extraction_blocks on extractions.extraction_id = extraction_blocks.extraction_id
            where networks.edit_id is null or $edited
            order by 1
            """,
            {"others": others, "shared": list(SHARED), "edited": self.command == "modify"},
        )
        return of_values(rows.rows())


def _with_absolute_paths(value: object, paths: set[str]) -> object:
    """The value with each path in it made absolute, and added to paths: by its type, or text that names a file."""
    if isinstance(value, dict):
        return {key: _with_absolute_paths(each, paths) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_absolute_paths(each, paths) for each in value]
    if not isinstance(value, Path | str):
        return value
    file, function = str(value).removeprefix("local-dir:"), ""  # a folder with a CLIP
    if ".py:" in file:
        file, _, function = file.rpartition(":")
    if isinstance(value, Path) or (("/" in file or "." in file) and "\0" not in file and os.path.lexists(file)):
        paths.add(os.path.abspath(file))
        return [os.path.abspath(file), function]
    return value


# ---------------------------------------------------------------- files


def _listed_files(study: Study) -> set[str]:
    """The files that images are read from and that the study names only by a list or a pattern."""
    from dissectdb import StudyError

    if study.dataset is None:
        return set()
    found: set[str] = set()
    for dataset in (study.dataset, *study.dataset.sources):
        try:
            if dataset.kind == "manifest":
                from dissectdb.extract.images.manifest_source import files

                found |= {os.path.abspath(path) for path in files(dataset)}
            elif dataset.kind == "webdataset" and dataset.path is not None:
                from dissectdb.extract.images.tar_source import expanded

                found |= {os.path.abspath(path) for path, *_ in expanded(dataset.path)}
        except StudyError:  # the run itself reports it
            continue
    return found


Stat = tuple[str, int, int, int]  # path, bytes, and when content and entry changed, in nanoseconds


def _stats(paths: Iterable[Path | str]) -> list[Stat]:
    """The size and times of files, and of all files in folders. A file that is not there has a size of -1."""
    return [stat for path in paths for stat in _stats_of(str(path))]


def _stats_of(path: str) -> Iterator[Stat]:
    try:
        found = os.stat(path)
        if os.path.isdir(path):
            yield from _stats_in(path)
            return
        yield path, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    except OSError:
        yield path, -1, 0, 0


def _stats_in(folder: str) -> Iterator[Stat]:
    """Of the files in a folder, at any depth. Links to folders are not followed, as where images are looked for."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _stats_in(entry.path)
        elif not entry.is_dir():
            yield from _stats_of(entry.path)


def _program() -> list[object]:
    """What stands for the program: our files, Python, and the installed packages."""
    ours = [
        (str(file), found.st_size, found.st_mtime_ns)
        for room in OUR_ROOMS
        for file in sorted((ROOT / room).rglob("*"))
        if file.suffix in (".py", ".sql", ".toml", ".txt", ".json", ".safetensors") and (found := file.stat())
    ]
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *sys.path}
    # An installation changes these folders, because it adds a folder that has the version in its name.
    packages = [
        (place, os.stat(place).st_mtime_ns)
        for place in sorted(places)
        if place.endswith(("site-packages", "dist-packages")) and os.path.isdir(place)
    ]
    return [sys.version, ours, packages]
