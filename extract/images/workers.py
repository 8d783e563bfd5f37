"""Inspect images in processes of their own, which do not share Python's lock.

for facts, stored in in_processes(inspect_file, paths, at_once=8, workers=16, store=pixel_file):
    ...                                   # in the order of the paths

A process is started by its command line, because one of `multiprocessing` would run the user's script again. It ends
when its pipe is closed, in whatever way the parent ends, and a Ctrl-C does not reach it. It loads no torch.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from itertools import chain, islice
from typing import IO, Any, TypeVar

from dissectdb.extract.images.pixel_cache import PixelFile, SharedFile
from dissectdb.extract.threads import in_order
from dissectdb.machine import available_cores

Item = TypeVar("Item")
Inspected = tuple[Any, ...]  # the last of it: the image's pixels, or None

START = (
    "import sys, pickle; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from dissectdb.extract.images.workers import serve; serve()"
)
MOST_WORKERS = 32  # more would wait for the parent
# glibc gives the memory of a photograph back to the system and asks for it again at the next one. That takes a third of
# decoding. So told, it keeps up to 64 MB; pieces of 32 MB and more it gives back in any case.
KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"} | KEPT_MEMORY


class WorkerDied(Exception):
    """A process that inspects images has ended before its work."""


def can_start() -> bool:
    """Whether processes can be started by the command line of this Python, and can share a file."""
    return os.name == "posix" and bool(sys.executable)


def in_processes(
    work: Callable[[Item], Inspected], items: Iterable[Item], *, at_once: int, workers: int, store: PixelFile
) -> Iterator[Inspected]:
    """Yield work(item) for each item, in order, with the pixels' place in `store` in place of the pixels.

    work: a function of a module, or a `partial` of one. at_once: items per hand-over. workers: the most processes; more
    than cores are not started. Where there is no room for the pixels, there is None. Raises WorkerDied.
    """
    workers = min(workers, MOST_WORKERS, available_cores())
    items = iter(items)
    chunks = iter(lambda: list(islice(items, at_once)), [])
    started: list[Worker] = []
    of_thread = threading.local()
    shared = store.shared()

    def start() -> None:
        of_thread.worker = Worker(work, shared)
        started.append(of_thread.worker)

    answers = in_order(
        lambda chunk: of_thread.worker.ask(chunk), chunks, threads=workers, ahead=3 * workers, prepare=start
    )
    try:
        with closing(answers):  # so that no thread still asks a process when it is ended
            yield from chain.from_iterable(answers)
    finally:
        for worker in started:
            worker.end()


class Worker:
    """A process, as the parent sees it."""

    def __init__(self, work: Callable[[Any], Inspected], shared: SharedFile | None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if sys.__stderr__ else subprocess.DEVNULL,  # its number may be that of a file by now
            pass_fds=[shared.descriptor] if shared else [],
            env=os.environ | ENVIRONMENT,
            start_new_session=True,  # a Ctrl-C on the terminal reaches only the parent, which then closes the pipes
        )
        assert self.process.stdin is not None, "a pipe was asked for"
        assert self.process.stdout is not None, "a pipe was asked for"
        self.to: IO[bytes] = self.process.stdin
        self.answers: IO[bytes] = self.process.stdout
        self.to.write(pickle.dumps(sys.path) + pickle.dumps((work, shared)))
        self.to.flush()

    def ask(self, chunk: list[Any]) -> list[Inspected]:
        """The results of a chunk. Raises WorkerDied, or what `work` raised."""
        try:
            self.to.write(pickle.dumps(chunk, protocol=5))
            self.to.flush()
            answer = pickle.load(self.answers)
        except (OSError, EOFError, pickle.UnpicklingError):
            code = self.process.wait()
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise WorkerDied(f"a process that reads images {how}; if there is enough memory, run it again") from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def end(self) -> None:
        """Close the pipes, upon which the process ends, and wait for that."""
        for pipe in (self.answers, self.to):
            with suppress(OSError):  # it has ended, and something was still to be written
                pipe.close()
        self.process.wait()


def serve() -> None:
    """Answer chunks until the pipe is closed. What runs in the process."""
    chunks, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    try:
        work, shared = pickle.load(chunks)
        while True:
            answers.write(pickle.dumps(_answer(work, pickle.load(chunks), shared), protocol=5))
            answers.flush()
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):
        os._exit(0)  # the parent has closed the pipe or has ended


def _answer(work: Callable[[Any], Inspected], chunk: list[Any], shared: SharedFile | None) -> object:
    try:
        results = [work(item) for item in chunk]
    except Exception as error:
        return error
    wanted = [result[-1] for result in results]
    places = shared.add(wanted) if shared else [None] * len(wanted)
    return [(*result[:-1], place) for result, place in zip(results, places, strict=True)]
