"""Compare the time and memory of our scorers with those of CLIP-Dissect's code.

git clone https://github.com/Trustworthy-ML-Lab/CLIP-dissect CHECKOUT
python -m bench.scorers CHECKOUT
python -m bench.scorers CHECKOUT --scorers rank_reorder --concepts 25 --limit 60

Both get the same synthetic inputs: 28,709 images, 4,096 neurons, embeddings with realistic cosines. The original
starts with activations and cosines in memory, ours with activations and embeddings in memory. Both end with a label for
every neuron. With 25 concepts, ours is also timed from activations in a warehouse (DuckDB) to labels. Each case runs in
a new process. CPU s are those of all threads: on a machine that others load, they say more than seconds. Memory is the
peak resident size of the process, with inputs and PyTorch. If a sample of the neurons shows that a case would take
longer than --limit seconds, it is not run: its time is scaled up from the sample and marked with ~.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dissectdb.extract.study.scorers import SCORERS

ORIGINALS = {
    "soft_wpmi": "soft_wpmi",
    "wpmi": "wpmi",
    "cos": "cos_similarity",
    "cos_cubed": "cos_similarity_cubed",
    "rank_reorder": "rank_reorder",
}
SAMPLE = 64  # neurons that are timed to predict the time for all
HEAD = (
    "scorer", "concepts", "original, s", "ours, s", "faster", "original, CPU s", "ours, CPU s", "less CPU",
    "original, GB", "ours, GB",
)  # fmt: skip
STORED_HEAD = ("scorer", "computed by", "top images built, s", "faster", "built too, s", "faster", "GB")


# ---------------------------------------------------------------- one case, in a new process


def make_activations(images: int, neurons: int) -> np.ndarray:
    """Gaussian activations (image, neuron). A sample of fewer neurons does not have the values of the first columns."""
    return np.random.default_rng(5).standard_normal((images, neurons), dtype=np.float32)


@contextlib.contextmanager
def measure(done: dict[str, float]) -> Iterator[None]:
    """Enter the seconds of the block, and those of all its threads on a processor."""
    start, before = time.perf_counter(), os.times()
    yield
    after = os.times()
    done["seconds"] = time.perf_counter() - start
    done["cpu"] = after.user + after.system - before.user - before.system


def run_original(case: dict[str, Any]) -> dict[str, float]:
    """Seconds from activations and cosines to labels, by the code of the checkout."""
    import torch

    module = load_original(Path(case["checkout"]))
    world = make_world(case)
    activations = torch.from_numpy(make_activations(case["images"], case["neurons"]))
    cosines = torch.from_numpy(world.images) @ torch.from_numpy(world.concepts).T
    score = getattr(module, ORIGINALS[case["scorer"]])
    done: dict[str, float] = {}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), measure(done):
        score(cosines, activations, device="cpu").argmax(dim=1)
    return done


def load_original(checkout: Path) -> types.ModuleType:
    """The similarity.py of the checkout. If a package is missing that it imports but does not use here, replace it."""
    stand_ins: dict[str, dict[str, Any]] = {
        "tqdm": {"tqdm": lambda items: items},
        "scipy": {"stats": None},
        "matplotlib": {"pyplot": None},
    }
    for name, parts in stand_ins.items():
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)
            vars(sys.modules[name]).update(parts)
    spec = importlib.util.spec_from_file_location("original_similarity", checkout / "similarity.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{checkout / 'similarity.py'} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_world(case: dict[str, Any]) -> Any:
    """Embeddings of 512 dimensions."""
    from bench.made import embeddings

    return embeddings(case["images"], case["concepts"], seed=0, dimensions=511)


def run_ours(case: dict[str, Any]) -> dict[str, float]:
    """Seconds from activations and embeddings to labels, all in memory."""
    from dissectdb.extract.scoring.problem import Array, Settings
    from dissectdb.extract.scoring.scorers import score_layer

    world = make_world(case)
    activations = make_activations(case["images"], case["neurons"])
    done: dict[str, float] = {}
    with measure(done):
        score_layer(Settings.defaults(case["scorer"]), Array(activations), world.images, world.concepts, keep=1)
    return done


# ---------------------------------------------------------------- from a warehouse


def fill_warehouse(path: Path, case: dict[str, Any]) -> None:
    """Write activations and embeddings into a warehouse, as an extraction does."""
    from bench import stored

    stored.fill(path, make_activations(case["images"], case["neurons"]), make_world(case))


def run_stored(case: dict[str, Any]) -> dict[str, float]:
    """Seconds to build top images and statistics, and seconds from then to labels."""
    from bench import stored

    return stored.measure(Path(case["warehouse"]), case["scorer"], case["engine"])


WORK = {"original": run_original, "ours": run_ours, "stored": run_stored}


def run_case(case: dict[str, Any]) -> None:
    """Run one case in this process; prints seconds and memory as JSON."""
    print(json.dumps(WORK[case["who"]](case) | {"gigabytes": peak_memory()}))


def peak_memory() -> float:
    """The peak of this process's resident memory, in GB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would also count the parent's memory
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024 / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


def in_process(who: str, **case: Any) -> dict[str, Any]:
    """Run a case in a new process."""
    command = [sys.executable, "-m", "bench.scorers", "--case", json.dumps({"who": who, **case})]
    environment = dict(os.environ)
    if who == "original" and case["scorer"] == "soft_wpmi" and case["concepts"] > 10_000:
        # So freed arrays of 8 MB are returned to the system. Otherwise its memory grows to over 24 GB.
        environment["MALLOC_MMAP_THRESHOLD_"] = str(1 << 22)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode:
        return {
            "failed": f"failed ({done.returncode})",
            "seconds": float("nan"),
            "cpu": float("nan"),
            "gigabytes": float("nan"),
        }
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------- the tables


def measured(who: str, options: argparse.Namespace, **case: Any) -> dict[str, Any]:
    """Seconds and memory of a case. If it would take too long, only the seconds that a sample predicts."""
    if case["concepts"] > 100 and options.neurons > 4 * SAMPLE:
        one, two = (in_process(who, **case | {"neurons": count}) for count in (SAMPLE, 2 * SAMPLE))
        whole = {
            name: one[name] + max(two[name] - one[name], 0) / SAMPLE * (options.neurons - SAMPLE)
            for name in ("seconds", "cpu")
        }
        if whole["seconds"] > options.limit:
            return whole | {"gigabytes": float("nan"), "guessed": True}
    return in_process(who, **case)


def compare(options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """One row per scorer and number of concepts."""
    for concepts in options.concepts:
        for scorer in options.scorers:
            case = {"scorer": scorer, "concepts": concepts, "images": options.images, "neurons": options.neurons}
            theirs = measured("original", options, checkout=str(options.checkout), **case)
            ours = measured("ours", options, **case)
            options.original[scorer, concepts] = theirs
            yield (
                scorer, f"{concepts:,}", seconds(theirs), seconds(ours), times(theirs, ours["seconds"]),
                cpu(theirs), cpu(ours), times(theirs, ours["cpu"], "cpu"), memory(theirs), memory(ours),
            )  # fmt: skip


def from_warehouse(options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """One row per scorer and engine, at the first number of concepts."""
    concepts = options.concepts[0]
    case = {"concepts": concepts, "images": options.images, "neurons": options.neurons}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "warehouse.duckdb"
        fill_warehouse(path, case)
        for scorer in options.scorers:
            for engine in ("kernel",) if SCORERS[scorer].reads_activations else ("sql", "kernel"):
                done = in_process("stored", warehouse=str(path), scorer=scorer, engine=engine)
                theirs = options.original[scorer, concepts]
                both = done["built"] + done["labelled"]
                yield (
                    scorer, engine, f"{done['labelled']:.2f}", times(theirs, done["labelled"]), f"{both:.2f}",
                    times(theirs, both), memory(done),
                )  # fmt: skip


def seconds(done: dict[str, Any]) -> str:
    """The seconds as text, or the reason why they were not measured."""
    if "failed" in done:
        return done["failed"]
    return f"not run: ~{done['seconds']:.0f}" if "guessed" in done else f"{done['seconds']:.2f}"


def cpu(done: dict[str, Any]) -> str:
    """The seconds on a processor as text."""
    return f"~{done['cpu']:.0f}" if "guessed" in done else f"{done['cpu']:.2f}"


def times(theirs: dict[str, Any], ours: float, of: str = "seconds") -> str:
    """How many times as fast ours is."""
    return f"{'~' if 'guessed' in theirs else ''}{theirs[of] / ours:.1f} ×"


def memory(done: dict[str, Any]) -> str:
    """Peak memory in GB."""
    return "–" if np.isnan(done["gigabytes"]) else f"{done['gigabytes']:.1f}"


def main() -> None:
    """Print both tables, or run one case."""
    parser = argparse.ArgumentParser(prog="python -m bench.scorers", description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path, nargs="?", help="folder with CLIP-Dissect's similarity.py")
    parser.add_argument("--images", type=int, default=28_709)
    parser.add_argument("--neurons", type=int, default=4096)
    parser.add_argument("--concepts", type=int, nargs="+", default=[25, 1000, 20_000])
    parser.add_argument("--scorers", nargs="+", choices=list(ORIGINALS), default=list(ORIGINALS))
    parser.add_argument("--limit", type=float, default=120, help="seconds that a case may take")
    parser.add_argument("--no-warehouse", action="store_true", help="print only the first table")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        run_case(options.case)
        return
    if options.checkout is None or not (options.checkout / "similarity.py").exists():
        parser.error("CHECKOUT must be a folder that holds CLIP-Dissect's similarity.py")
    from bench.made import show

    options.original = {}
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    show(f"In memory: {options.images:,} images, {options.neurons:,} neurons", HEAD, compare(options))
    if not options.no_warehouse:
        show(f"From a warehouse, {options.concepts[0]} concepts", STORED_HEAD, from_warehouse(options))
    print(f"\nload after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
