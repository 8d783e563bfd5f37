"""Kill a command at a chosen moment, as a power cut would.

kill("extract", {"one/study.toml": ("insert", "activations", 6)})   # within the transaction, after that insert
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

from dissectdb import ROOT

# (insert | commit | build | replace, the table of an insert or commit, else "", which one counts)
Moment = tuple[str, str, int]

# Runs a command in a fork for each folder, and kills the fork when the moment has come.
KILLER = """
import os, signal, sys
sys.path[:0] = {paths}
from tests.support import worlds
from dissectdb.extract.editing import edits
from dissectdb.extract.models import networks
from dissectdb.extract.record import blocks
from dissectdb.warehouse import units, view_files, view_tables
view_files.load_views()  # once, for all forks

def die(moment, table, seen):
    if (moment, table) == (wanted[0], wanted[1]):
        seen.append(table)
        if len(seen) == wanted[2]:
            os.kill(os.getpid(), signal.SIGKILL)

def watch():
    insert, write, replace = units.insert, units.write, os.replace
    materialize = view_tables.materialize
    seen = []
    def watched_insert(connection, table, rows):
        insert(connection, table, rows)
        die("insert", table, seen)
    def watched_write(connection, path, unit):
        tables = []
        pairs = unit.items() if hasattr(unit, "items") else unit
        write(connection, path, ((tables.append(table) or table, rows) for table, rows in pairs))
        for table in tables:
            die("commit", table, seen)
    def watched_materialize(*arguments):
        die("build", "", seen)
        return materialize(*arguments)
    def watched_replace(*arguments):
        die("replace", "", seen)
        replace(*arguments)
    units.insert, units.write, view_tables.materialize = watched_insert, watched_write, watched_materialize
    os.replace = watched_replace

for study, wanted in {moments}:
    pid = os.fork()
    if pid == 0:
        watch()
        done = worlds.command({command!r}, study)
        print(done, file=sys.stderr)
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (wanted, status)
"""


def kill(command: str, moments: Mapping[str, Moment]) -> None:
    """Run the command on each study and kill it at its moment; fails where that moment never comes."""
    paths = [str(ROOT)]
    script = KILLER.format(paths=paths, moments=list(moments.items()), command=command)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
