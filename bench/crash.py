"""Disturb commands (kill, interrupt, full disk, damaged log) and test that nothing is lost.

python -m bench.crash                               # 292 kills and 200 other disturbances
python -m bench.crash --only "at any time:modify:7" # one of them again

First every command runs on a small study undisturbed. Then each command is disturbed at a random moment and run again.
After that every table, view and file must equal those of the undisturbed run, including surrogate ids and the bytes of
the edited network; no other file may lie beside the warehouse, and `check` must pass. A signal that stops a command, a
full disk and an unreadable log must each give one line that tells what to do. A full disk is a small tmpfs if one can
be mounted (by root), else a limit on the size of files.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.crash_lab import COMMANDS, Lab, Moment
from bench.made import show

SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}
TRIES = 8  # attempts to draw a moment before the end of a run


@dataclass(frozen=True)
class Trial:
    """One disturbance of a command.

    chance: the source of its random numbers. start: where in a run the first disturbance of this kind comes, 0 to 1.
    world: the folder that the command runs in; no other trial uses it at the same time.
    """

    lab: Lab
    command: str
    number: int
    chance: random.Random
    start: float
    world: Path

    def begin(self) -> None:
        """Make the folder `world` as it is before the command."""
        self.lab.start(self.command, self.world)

    def run_plainly(self) -> bool:
        """Whether the command runs again without --full-refresh: every second build does."""
        return self.command == "build" and self.number % 2 == 1

    def judge(self) -> str | None:
        """What is wrong after the same command has run again, or None."""
        return self.lab.judge(self.world, self.command, self.run_plainly())

    def look(self) -> str | None:
        """What status or check report as wrong before the command runs again, or None."""
        for name in ("status", "check"):
            ended = self.lab.run(self.world, name)
            unmade = any(ended.complaint(3, word) is None for word in ("run: dissectdb extract", "no such warehouse"))
            if not unmade and (wrong := ended.complaint(0)):
                return f"{name} before the rerun: {wrong}"
        return None

    def draw(self, *verbs: str, earlier: int = 0) -> Moment:
        """A random moment within, right before or right after an event of these kinds.

        earlier: how many moments before this one came after the end of the run. Each makes the next one earlier.
        """
        events = self.lab.events[self.command]
        kind = self.chance.choice(sorted({e.kind for e in events if e.kind.split()[0] in verbs}))
        event = self.chance.choice([event for event in events if event.kind == kind])
        share = self.chance.choice([0.0, self.chance.random(), 1.0])
        if kind == "run":
            share = self.share() * 0.7**earlier
        return Moment(kind, event.number, share, event.seconds)

    def share(self) -> float:
        """Where in the whole run, 0 to 1. The golden ratio spreads successive trials over its length."""
        return (0.618034 * self.number + self.start) % 1


# ---------------------------------------------------------------- disturbances

Outcome = tuple[str, str | None]  # the moments of the disturbance, and what is wrong


def kill(*verbs: str, often: tuple[int, ...] = (1,)) -> Callable[[Trial], Outcome]:
    """Kill the command in an event of these kinds. often: how many times in a row; one of these numbers is drawn."""

    def disturb(trial: Trial) -> Outcome:
        trial.begin()
        moments: list[str] = []
        for _ in range(trial.chance.choice(often)):
            for place in range(TRIES):
                moment = trial.draw(*(verbs if not moments else ("run",)), earlier=place)
                ended = trial.lab.run(trial.world, trial.command, moment)
                if ended.code == -signal.SIGKILL:
                    moments.append(str(moment))
                    break
                if wrong := ended.complaint(0):
                    return "; ".join([*moments, str(moment)]), f"before it was killed: {wrong}"
                if not moments:
                    trial.begin()  # the run ended before the moment came
        if not moments:
            return "", "was never killed"
        wrong = trial.look() if trial.chance.random() < 0.5 else None
        return "; ".join(moments), wrong or trial.judge()

    return disturb


def interrupt(name: str) -> Callable[[Trial], Outcome]:
    """Stop the command by a signal that it handles. It must exit with 130 and print one line."""

    def disturb(trial: Trial) -> Outcome:
        for place in range(TRIES):
            trial.begin()
            moment = trial.draw("run", earlier=place)
            ended = trial.lab.run(trial.world, trial.command, moment, SIGNALS[name])
            if ended.code != 0:
                wrong = ended.complaint(130, "the same command continues") or trial.look() or trial.judge()
                return str(moment), wrong
            if wrong := trial.lab.judge_end(trial.world, trial.command):
                return str(moment), f"went on to its end, and {wrong}"
        return "", "was never stopped"

    return disturb


def damage(how: str) -> Callable[[Trial], Outcome]:
    """Cut or change the log of a killed run. The next run must either repeat the lost work or tell what to do."""

    def disturb(trial: Trial) -> Outcome:
        for _ in range(8 * TRIES):
            trial.begin()
            moment = trial.draw("commit", "insert", "make", "close")
            trial.lab.run(trial.world, trial.command, moment)
            logs = [log for log in trial.world.glob("*wal*") if log.stat().st_size]
            if logs:
                break
        else:
            return "", "left no log"
        log = trial.chance.choice(logs)
        content = bytearray(log.read_bytes())
        whole = len(content)
        place = trial.chance.choice([0, trial.chance.randrange(whole), whole - 1])
        if how == "cut":
            content = content[:place]
        else:
            content[place] ^= 1 << trial.chance.randrange(8)
        log.write_bytes(content)
        what = f"{moment}; {log.name} {how} at {place} of {whole}"
        ended = trial.lab.run(trial.world, trial.command, plain=trial.run_plainly())
        if ended.code != 3:
            wrong = ended.complaint(0)
            return what, wrong or trial.lab.judge_end(trial.world, trial.command)
        if wrong := ended.complaint(3, ".wal", ";"):
            return what, wrong
        log.unlink()  # as the message asks
        return what, trial.judge()

    return disturb


def fill_the_disk(trial: Trial) -> Outcome:
    """Let the disk run full during a run.

    The run must print one line, what is stored must stay readable, and with more space the run must continue.
    """
    need = most_on_disk(trial)
    share = 0.05 + 0.9 * trial.share()
    for _ in range(TRIES):
        with small_disk(trial, int(share * need)) as (largest, grow):
            ended = trial.lab.run(trial.world, trial.command, largest=largest)
            if ended.code != 0:
                wrong = ended.complaint(1, "no space left for", "run the same command again") or trial.look()
                grow()
                return f"{int(share * need):,} of {need:,} bytes more", wrong or trial.judge()
        share *= 0.7
    return "", "never ran out of space"


def most_on_disk(trial: Trial) -> int:
    """About how many bytes an undisturbed run adds to the folder at its largest."""
    trial.begin()
    done = [event for event in trial.lab.events[trial.command] if event.kind == "commit"]
    before = size(trial.world)
    trial.lab.run(trial.world, trial.command, Moment("commit", len(done), 1.0))
    return max(size(trial.world) - before, 1 << 16)


def size(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def small_disk(trial: Trial, more: int) -> Iterator[tuple[int | None, Callable[[], object]]]:
    """Put the trial's folder on a disk with `more` free bytes.

    Yields a limit on the size of a file, None if the disk itself is small, and a function that lifts the limit.
    """
    parent = trial.world.parent
    if not CAN_MOUNT:
        warehouse = trial.lab.folder / f"before {trial.command}" / "warehouse.duckdb"
        trial.begin()
        yield (warehouse.stat().st_size if warehouse.exists() else 0) + more, lambda: None
        return

    def resize(size: int | str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", parent], check=True)

    shutil.rmtree(trial.world, ignore_errors=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", parent], check=True)
    try:
        trial.begin()
        used = os.statvfs(parent)
        resize((used.f_blocks - used.f_bfree) * used.f_frsize + more)
        yield None, lambda: resize("1g")
    finally:
        subprocess.run(["umount", parent], check=True)


def can_mount() -> bool:
    """Whether a tmpfs can be mounted here."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
        if os.geteuid() or not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
        return True


CAN_MOUNT = can_mount()

# Disturbance → the function that makes it, and how many trials of it each command gets at --kills 60.
KINDS: dict[str, tuple[Callable[[Trial], Outcome], int]] = {
    "at any time": (kill("run"), 24),
    "two or three times in a row": (kill("run", "commit", "insert", often=(2, 3)), 10),
    "inside a transaction": (kill("begin", "insert", "delete", "update"), 10),
    "at a commit": (kill("commit"), 8),
    "while a view is made": (kill("make"), 6),
    "while the file is opened": (kill("open"), 6),
    "while it is checkpointed": (kill("close"), 6),
    "while the network is saved": (kill("save", "rename"), 12),
    "SIGINT": (interrupt("SIGINT"), 10),
    "SIGTERM": (interrupt("SIGTERM"), 10),
    "log cut": (damage("cut"), 12),
    "log changed by a bit": (damage("changed"), 12),
    "full disk": (fill_the_disk, 6),
}
NEEDS = {"while a view is made": {"make"}, "while the network is saved": {"save"}}


@dataclass(frozen=True)
class Asked:
    """What identifies a trial."""

    kind: str
    command: str
    number: int
    seed: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.command}:{self.number}"


LAB: Lab  # main sets it before it forks the processes that run the trials


def attempt(asked: Asked) -> tuple[Asked, str, str | None]:
    """Run a trial in this process's own folder; returns the moments of its disturbances, and what is wrong or None."""
    place = LAB.folder / f"process {os.getpid()}"
    place.mkdir(exist_ok=True)
    start = random.Random(f"{asked.seed} {asked.kind} {asked.command}").random()
    chance = random.Random(f"{asked.seed} {asked}")
    trial = Trial(LAB, asked.command, asked.number, chance, start, place / "world")
    moments, wrong = KINDS[asked.kind][0](trial)
    return asked, moments, wrong


def plan(kills: int, seed: int) -> list[Asked]:
    """All trials."""
    asked = []
    for kind, (_, often) in KINDS.items():
        for command in COMMANDS:
            done = {event.kind.split()[0] for event in LAB.events[command]}
            if NEEDS.get(kind, set()) <= done:
                asked += [Asked(kind, command, number, seed) for number in range(max(1, round(often * kills / 60)))]
    return asked


def main() -> None:
    """Print the table; exits 1 if a trial failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.crash", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--kills", type=int, default=60, help="about how many kills per command; other disturbances in proportion"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", help="only trials whose kind:command:number, printed for a failure, contains this")
    parser.add_argument("--progress", action="store_true", help="name each trial on stderr when it is done")
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        global LAB
        LAB = Lab(Path(folder))
        asked = plan(options.kills, options.seed)
        asked = [each for each in asked if options.only is None or options.only in str(each)]
        tried: Counter[tuple[str, str]] = Counter()
        failed: Counter[tuple[str, str]] = Counter()
        with (
            multiprocessing.get_context("fork").Pool(options.processes) as pool,
            contextlib.suppress(KeyboardInterrupt),  # then the table holds the trials until Ctrl-C
        ):
            for each, moments, wrong in pool.imap_unordered(attempt, random.Random(0).sample(asked, len(asked))):
                tried[each.kind, each.command] += 1
                failed[each.kind, each.command] += wrong is not None
                if options.progress:
                    spent = time.perf_counter() - started
                    print(f"{tried.total()} of {len(asked)}, {spent:.0f} s: {each}", file=sys.stderr, flush=True)
                if wrong or options.only:
                    print(f'--seed {each.seed} --only "{each}"  at {moments}: {wrong or "as it should be"}', flush=True)
        for place in LAB.folder.glob("process *"):
            if place.is_mount():  # the pool ended its process before it could unmount
                subprocess.run(["umount", place], check=True)
    rows = [
        (*row, tried[row], tried[row] - failed[row], failed[row])
        for row in dict.fromkeys((each.kind, each.command) for each in asked)
    ]
    total = ("all", "", tried.total(), tried.total() - failed.total(), failed.total())
    disk = "a tmpfs" if CAN_MOUNT else "a largest size of files"
    title = f"Seed {options.seed}, {time.perf_counter() - started:,.0f} s; a full disk is {disk}"
    show(title, ("disturbance", "command", "tried", "survived", "failed"), [*rows, total])
    sys.exit(1 if failed.total() else 0)


if __name__ == "__main__":
    main()
