"""Build the views and check the contracts with every combination of threads and memory, each in a new process.

    python -m bench.machines                                       # FER2013's size, 15 machines
    python -m bench.machines --images 500 --neurons 100 --threads 2 16 --memories 500MB default   # faster

Synthetic activations of 11 layers (sizes in proportion to the VGGNet's) are extracted as a study with [arrays]. Then
`build --full-refresh` and `check` run on the same file with every number of threads and every limit of memory. More
threads than cores are slower, but need as much memory as on a machine with that many cores. Peak memory is the largest
resident size.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CLI = Path(__file__).resolve().parent.parent / "cli.py"
IMAGES, NEURONS = 35_887, 10_119
SHARES = (64, 64, 128, 128, 256, 256, 512, 512, 4096, 4096, 7)  # one number per layer, in proportion to its neurons
CONCEPTS, CLASSES, DIMENSIONS = 25, 7, 64
INTERPRETABLE = 0.3  # share of the neurons
THREADS, MEMORIES = (2, 8, 16, 64, 128), ("500MB", "2GB", "default")
HEAD = ("threads", "memory", "build, s", "peak, MB", "exit", "check, s", "peak, MB", "exit")
STUDY = """
warehouse = "warehouse.duckdb"
device = "cpu"
[arrays]
path = "features.safetensors"
name = "made"
[[concept_sets]]
name = "made"
source = "concepts.txt"
[[dissections]]
concepts = "made"
rule = "q"
null_draws = 2000
[[dissections]]
concepts = "made"
engine = "sql"
rule = "q"
null_draws = 2000
"""


@dataclass(frozen=True)
class Run:
    """One command. peak: MB. said: the last line on stderr. cpu: user and system seconds."""

    seconds: float
    peak: float
    exit_code: int
    said: str
    cpu: float


def make(folder: Path, images: int, neurons: int) -> None:
    """Write a study of synthetic arrays: noise, neurons that prefer a concept's images, and a dead one per layer."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    random = np.random.default_rng(0)

    def unit(rows: int) -> np.ndarray:
        made = random.standard_normal((rows, DIMENSIONS), dtype=np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    embeddings, concepts = unit(images), unit(CONCEPTS)
    arrays = {"image_embedding": embeddings, "concept_embedding": concepts}
    for number, share in enumerate(SHARES):
        units = max(neurons * share // sum(SHARES), 2)
        preferred = concepts[random.integers(CONCEPTS, size=units)] + 0.5 * unit(units)
        values = 0.5 * random.standard_normal((images, units), dtype=np.float32)
        values += 4 * (random.random(units) < INTERPRETABLE) * (embeddings @ preferred.T)
        values[:, 0] = 0.5
        arrays[f"layer/{number:02}"] = values
    arrays["class"] = random.integers(CLASSES, size=images)
    arrays["predicted"] = np.where(random.random(images) < 0.7, arrays["class"], random.integers(CLASSES, size=images))
    save_file({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / "features.safetensors")
    (folder / "concepts.txt").write_text("".join(f"concept {number}\n" for number in range(CONCEPTS)))
    (folder / "study.toml").write_text(STUDY)


def run(arguments: Sequence[str], environment: dict[str, str] | None = None) -> Run:
    """Run a command of dissectdb in a new process."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, CLI, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=os.environ | (environment or {}),
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        last = said.read().strip().rpartition("\n")[2]
    cpu = usage.ru_utime + usage.ru_stime
    return Run(time.perf_counter() - start, usage.ru_maxrss / 1e3, process.returncode, last, cpu)


def measure(warehouse: Path, threads: int, memory: str) -> Iterator[Run]:
    """Run `build --full-refresh`, then `check`."""
    flags = ["--warehouse", str(warehouse), "--threads", str(threads)]
    flags += [] if memory == "default" else ["--memory", memory]
    yield run(["build", "--full-refresh", *flags])
    yield run(["check", *flags])


def row(warehouse: Path, threads: int, memory: str) -> list[object]:
    """A row of the table. The last line of a failed command is printed to stderr."""
    cells: list[object] = [threads, memory]
    for done in measure(warehouse, threads, memory):
        cells += [f"{done.seconds:.1f}", f"{done.peak:,.0f}", done.exit_code]
        if done.exit_code:
            print(done.said, file=sys.stderr)
    return cells


def main() -> int:
    """Print the table; returns 1 if a run failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.machines", description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--neurons", type=int, default=NEURONS)
    parser.add_argument("--threads", type=int, nargs="+", default=THREADS)
    parser.add_argument("--memories", nargs="+", default=MEMORIES, help="500MB, 2GB, …, or default")
    parser.add_argument("--folder", type=Path, help="keep the files here, and use those of an earlier run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        warehouse = folder / "warehouse.duckdb"
        if not warehouse.exists():
            # In a new process, because a child's peak is at least its parent's size when it starts.
            code = f"from bench.machines import *; make(Path({str(folder)!r}), {options.images}, {options.neurons})"
            subprocess.run([sys.executable, "-c", code], check=True, cwd=CLI.parent)
            made = run(["extract", str(folder / "study.toml")])
            if made.exit_code:
                print(f"extract: {made.said}", file=sys.stderr)
                return 1
            print(f"extract: {made.seconds:.1f} s, peak {made.peak:,.0f} MB\n")
        print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
        failed = False
        for memory in options.memories:
            for threads in options.threads:
                cells = row(warehouse, threads, memory)
                failed |= any(cells[4::3])
                print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
