"""Compare the speed of a scan of images with that of decoding alone.

python -m bench.scan                                   # 8,000 made lines of FER2013 and 1,000 made JPEGs of 500 × 375
python -m bench.scan --fer fer2013.csv --workers 2 16
python -m bench.scan --small                           # a few images

"Decoding alone": as many processes as workers, each of which decodes its share of the images in a loop and hands
nothing over; the start of the processes is not counted. "Scan": open_source(…).scan() to its end, with hashes,
thumbnails, defects and the pixels in the file for later reading; the start of its processes is counted. "Share" is
the second by the first. CPU is user and system time of all processes, an image: where other jobs use the same cores,
its share means more than that of the rates.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from functools import partial
from multiprocessing import Barrier, Process, Value
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from bench.made import show
from dissectdb.extract.images import fer2013, fer2013_source
from dissectdb.extract.images.decoding import decode
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.study import Dataset

HEAD = ("kind", "images", "workers", "decoding alone, images/s", "scan, images/s", "share",
        "decoding CPU, ms", "scan CPU, ms", "share of CPU")  # fmt: skip


def made_csv(folder: Path, images: int) -> Path:
    """A file like FER2013's, of random pixels."""
    random, path = np.random.default_rng(0), folder / "made.csv"
    with path.open("w") as file:
        file.write("emotion,pixels,Usage\n")
        for number in range(images):
            usage = ("Training", "PublicTest", "PrivateTest")[max(0, 10 * number // images - 7)]
            file.write(f"{number % 7},{' '.join(map(str, random.integers(0, 256, 48 * 48)))},{usage}\n")
    return path


def made_jpegs(folder: Path, images: int) -> Path:
    """A folder of smooth colours with noise, 500 × 375, about 70 kB each."""
    random, root = np.random.default_rng(0), folder / "jpegs"
    for number in range(images):
        smooth = PIL.Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).resize((500, 375))
        noisy = np.asarray(smooth) + random.normal(0, 8, (375, 500, 1))
        path = root / "train" / f"class{number % 10}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return root


def decode_line(columns: list[int], line: bytes) -> object:
    """The pixels of a line."""
    return fer2013.pixels_of(fer2013.fields(line, columns)[1])


def decode_share(work: Any, items: list[Any], together: Any, cpu: Any) -> None:
    """Decode images between two meetings of all processes; then add the CPU seconds to `cpu`."""
    together.wait()
    began = time.process_time()
    for item in items:
        work(item)
    with cpu.get_lock():
        cpu.value += time.process_time() - began
    together.wait()


def decoding_alone(kind: str, path: Path, workers: int) -> tuple[float, float]:
    """Images a second, and CPU seconds an image."""
    items: list[Any]
    if kind == "fer2013":
        work: Any = partial(decode_line, fer2013_source.find_columns(path))
        items = [line for _, line in fer2013_source.lines(path)][: 4000 * workers]
    else:
        work, items = decode, sorted(path.rglob("*.jpg"))
    together, cpu = Barrier(workers + 1), Value("d", 0.0)
    processes = [Process(target=decode_share, args=(work, items[k::workers], together, cpu)) for k in range(workers)]
    for process in processes:
        process.start()
    together.wait()
    began = time.perf_counter()
    together.wait()
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    return len(items) / seconds, cpu.value / len(items)


def scan(kind: str, path: Path, workers: int) -> tuple[int, float, float]:
    """Images, seconds and CPU-seconds of a scan."""
    source = open_source(Dataset.model_validate({"name": "bench", "kind": kind, "path": path}))
    source.workers = workers
    began, cpu = time.perf_counter(), sum(os.times()[:4])
    images = sum(1 for _ in source.scan())
    return images, time.perf_counter() - began, sum(os.times()[:4]) - cpu


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.scan", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--fer", type=Path, help="FER2013's CSV; default: made lines")
    parser.add_argument("--jpegs", type=Path, help="a folder of .jpg files; default: made ones")
    parser.add_argument("--workers", type=int, nargs="+", default=[])
    parser.add_argument("--small", action="store_true", help="few images")
    options = parser.parse_args(arguments)
    logging.getLogger("dissectdb").setLevel(logging.ERROR)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        csv = options.fer or made_csv(Path(folder), 300 if options.small else 8000)
        jpegs = options.jpegs or made_jpegs(Path(folder), 30 if options.small else 1000)
        for kind, path in (("fer2013", csv), ("folder", jpegs)):
            for workers in options.workers or [len(os.sched_getaffinity(0))]:
                alone, least = decoding_alone(kind, path, workers)
                images, seconds, cpu = scan(kind, path, workers)
                rate, cpu = images / seconds, cpu / images
                rows.append((kind, f"{images:,}", workers, f"{alone:,.0f}", f"{rate:,.0f}", f"{rate / alone:.2f}",
                             f"{1e3 * least:.3f}", f"{1e3 * cpu:.3f}", f"{least / cpu:.2f}"))  # fmt: skip
    show("scan", HEAD, rows)


if __name__ == "__main__":
    main(sys.argv[1:])
