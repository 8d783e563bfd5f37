"""An extraction beside the same work by CLIP-Dissect's code: speed, memory, and how far both are from the floor.

git clone https://github.com/Trustworthy-ML-Lab/CLIP-dissect CHECKOUT
python -m bench.extract CHECKOUT
python -m bench.extract CHECKOUT --images 1024 --repeat 1 --profile

Both read the same PNG files, the demo's faces in a folder a class, and give them to the full-width VGGNet (random weights,
ten layers, averages of maps) and to the demo's CLIP; both end with a label by soft_wpmi for every neuron. Ours is the
command `extract`. The original is its describe_neurons.py, run as it is but for what it cannot have here, its models
(see run_original). Each run is a process of its own, in turn, on as many threads; the best of --repeat counts.

Images per second: from models in memory to all activations and embeddings in files. Ours also enters hashes, thumbnails
and predictions of the images in that time, and has p, q and views behind its labels. The floor: the operations that the
two networks cannot do without, at the rate of a large matrix product.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from bench.made import show
from bench.scorers import peak_memory

HERE = Path(__file__).resolve().parent.parent
LAYERS = [*(f"conv{block}{half}" for block in "1234" for half in "ab"), "lin1", "lin2"]
HEAD = (
    "pipeline", "images/s", "extraction, s", "study to labels, s", "share of the floor", "host, MB",
    "each of its workers, MB", "device, MB", "written, MB",
)  # fmt: skip


class Clock:
    """Seconds within wrapped functions, without those in wrapped functions that they call, by thread and name."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, bool], float] = defaultdict(float)
        self.span: dict[str, tuple[float, float]] = {}  # when the latest call of a name started and ended
        self.inner = threading.local()

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        """Time every call of owner.attribute under a name."""
        function = getattr(owner, attribute)

        def timed(*values: Any, **named: Any) -> Any:
            outside, self.inner.seconds = getattr(self.inner, "seconds", 0.0), 0.0
            start = time.perf_counter()
            try:
                return function(*values, **named)
            finally:
                spent = time.perf_counter() - start
                main = threading.current_thread() is threading.main_thread()
                self.seconds[name, main] += spent - self.inner.seconds
                self.span[name] = start, start + spent
                self.inner.seconds = outside + spent

        setattr(owner, attribute, timed)


# ---------------------------------------------------------------- one run, in a process of its own


def run_ours(folder: Path, case: dict[str, Any], clock: Clock) -> float:
    """Seconds of the extraction within the command extract, with what --profile asks for timed."""
    import cli
    from extract import blocks, catalog, clip, defects, hooks, images, jobs, preprocess, ranking, summaries
    from warehouse import database

    clock.wrap(jobs, "make_plan", "loading models, hashing files")
    clock.wrap(cli, "label", "labels")
    if case["profile"]:
        for owner, attribute, name in (
            (database.Warehouse, "load", "waiting for the writer"),
            (catalog, "enter_dataset", "scan: waiting and rows"),
            (images, "inspect_file", "scan: hashes, thumbnails, defects"),
            (images, "decode", "decoding"),
            (defects, "decode", "scan: decoding"),
            (catalog, "embed_concept_set", "embedding concepts"),
            (jobs, "compute", "waiting for pixels, copies, checks"),
            (preprocess.Recipe, "apply", "preprocessing"),
            (blocks, "_run_network", "network forward"),
            (clip.Clip, "embed_images", "CLIP forward"),
            (hooks, "pool", "pooling hooks"),
            (ranking, "top_lists", "top lists"),
            (summaries, "sums", "sums"),
            (summaries, "few_values", "few values"),
            (database, "_write", "writing to the database"),
        ):
            clock.wrap(owner, attribute, name)
    with redirect_stdout(sys.stderr):
        cli.extract(folder / "study.toml", folder / "warehouse.duckdb", device=case["device"])
    return clock.span["labels"][0] - clock.span["loading models, hashing files"][1]


def run_original(folder: Path, case: dict[str, Any], clock: Clock) -> float:
    """Seconds of the extraction within CLIP-Dissect's describe_neurons.py, at its batch size of 200 and with its 8 workers a data loader.

    Replaced: packages that it imports and need not be here (pandas, which it writes its result with, among them); the
    weights that it would download, by those of ours, behind its own preprocessing and the network's; the number of
    tokens of a text, which the demo's CLIP has fewer of.
    """
    from torchvision import transforms

    for name, parts in {
        "pandas": {"DataFrame": Frame},
        "scipy": {"stats": None},
        "matplotlib": {"pyplot": None},
        "pkg_resources": {"packaging": __import__("packaging.version")},
    }.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(parts)
    sys.path.insert(0, case["checkout"])
    import clip as theirs
    import data_utils
    import utils

    network, clip = load_models(folder, case["device"])
    squash = transforms.Compose([transforms.Grayscale(), transforms.Resize((40, 40)), transforms.ToTensor()])
    tokenize = theirs.tokenize
    theirs.tokenize = lambda texts: tokenize(texts, context_length=24)
    theirs.load = lambda name, device: (clip.model, theirs.clip._transform(clip.recipe.size))
    data_utils.get_target_model = lambda name, device: (network, squash)
    data_utils.DATASET_ROOTS["broden"] = str(folder / "faces" / "validation")
    clock.wrap(utils, "save_activations", "extraction")
    options = {
        "target_model": "vggnet", "target_layers": ",".join(LAYERS), "device": case["device"],
        "concept_set": folder / "concepts.txt", "activation_dir": folder / "original", "result_dir": folder / "results",
    }  # fmt: skip
    sys.argv = ["describe_neurons.py", *(f"--{name}={value}" for name, value in options.items())]
    with redirect_stdout(sys.stderr):
        runpy.run_path(str(Path(case["checkout"]) / "describe_neurons.py"), run_name="__main__")
    start, end = clock.span["extraction"]
    return end - start


class Frame:
    """What the original uses of a DataFrame."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns = columns

    def to_csv(self, path: str, index: bool) -> None:
        """Write the columns."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.columns, *zip(*self.columns.values(), strict=True)])


def load_models(folder: Path, device: str) -> tuple[Any, Any]:
    """The study's network, on the device, and its CLIP (a Clip)."""
    import torch

    from extract import clip, networks
    from extract.study import Study

    study = Study.load(folder / "study.toml")
    loaded = clip.load(study.clip, torch.device(device))
    if device == "cuda":  # where the original's CLIP is in half precision too
        loaded.model.encode_image = torch.autocast("cuda", torch.float16)(loaded.model.encode_image)
    return networks.load(study.network).model.to(device), loaded


def floor(folder: Path, case: dict[str, Any]) -> dict[str, float]:
    """Operations an image of both networks, and operations a second of a matrix product."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network, clip = load_models(folder, case["device"])
    counted = []
    shapes = ((network, (1, 1, 40, 40)), (clip.model.encode_image, (1, 3, clip.recipe.size, clip.recipe.size)))
    for run, shape in shapes:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            run(torch.zeros(shape, device=case["device"]))
        counted.append(counter.get_total_flops())
    on_gpu = case["device"] == "cuda"
    size = 8192 if on_gpu else 2048
    one = torch.rand(size, size, device=case["device"], dtype=torch.bfloat16 if on_gpu else torch.float32)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        (one @ one)[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - start)
    return {"network": counted[0], "clip": counted[1], "rate": 2 * size**3 / best}


def run_case(case: dict[str, Any]) -> None:
    """The process of one run: prints what it measured as JSON."""
    import resource

    import torch

    folder, clock = Path(case["folder"]), Clock()
    torch.set_num_threads(case["threads"])
    if case["who"] == "floor":
        print(json.dumps(floor(folder, case)))
        return
    extraction = {"ours": run_ours, "original": run_original}[case["who"]](folder, case, clock)
    result = {
        "extraction": extraction,
        "whole": time.time() - case["started"],
        "host": peak_memory() * 1e3,
        "workers": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3,
        "device": torch.cuda.max_memory_allocated() / 1e6 if case["device"] == "cuda" else float("nan"),
        "profile": [[name, main, seconds] for (name, main), seconds in clock.seconds.items()],
    }
    print(json.dumps(result))


def in_process(case: dict[str, Any]) -> dict[str, Any]:
    """Run a case in a process of its own; seconds are counted from its start, imports and all."""
    command = [sys.executable, "-m", "bench.extract", "--case", json.dumps(case | {"started": time.time()})]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    if done.returncode:
        raise SystemExit(f"{case['who']} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------- both


def prepare(folder: Path, images: int) -> None:
    """Faces as PNG files, the network's weights, the concepts and the study that names them."""
    import PIL.Image
    import torch
    from safetensors.torch import save_file

    from extract.demo import faces
    from extract.vggnet import VGGNet

    drawn = faces.draw(images, seed=0)
    for number, (pixels, emotion) in enumerate(zip(drawn.pixels, drawn.emotions, strict=True)):
        path = folder / "faces" / "validation" / faces.CLASSES[emotion] / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(pixels).save(path)
    torch.manual_seed(0)
    save_file(VGGNet().state_dict(), folder / "vggnet.safetensors")
    (folder / "concepts.txt").write_text("\n".join(faces.CONCEPTS), "utf-8")
    demo = HERE / "extract" / "demo" / "dissectdb-face-rn"
    (folder / "study.toml").write_text(
        f"""
        dataset = {{ name = "faces", kind = "folder", path = "faces", probing_split = "validation" }}
        concept_sets = [{{ name = "expressions", source = "concepts.txt" }}]
        dissections = [{{ concepts = "expressions" }}]
        clip = {{ architecture = "{demo.name}", config = "{demo}.json", weights = "{demo}.safetensors" }}
        [network]
        name = "vggnet"
        architecture = "vggnet"
        weights = "vggnet.safetensors"
        layers = {json.dumps(LAYERS)}
        input = {{ size = 40, mode = "grey" }}  # rounded as the original's, so that both compute the same
        """,
        "utf-8",
    )


def written(folder: Path, who: str) -> float:
    """MB that a run left; they are deleted."""
    paths = [path for path in folder.iterdir() if path.name.startswith("warehouse.duckdb")]
    if who == "original":
        paths = [folder / "original", folder / "results"]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 1e6
    for file in files:
        file.unlink()
    return size


def row(who: str, runs: list[dict[str, Any]], images: int, floor_seconds: float) -> tuple[str, ...]:
    """A line of the table, of the fastest run."""
    best = min(runs, key=lambda run: run["extraction"])
    device = "–" if best["device"] != best["device"] else f"{best['device']:,.0f}"
    return (
        who, f"{images / best['extraction']:.1f}", f"{best['extraction']:.2f}", f"{min(r['whole'] for r in runs):.2f}",
        f"{100 * floor_seconds / best['extraction']:.0f} %", f"{best['host']:,.0f}",
        f"{best['workers']:,.0f}" if best["workers"] else "–", device, f"{best['written']:,.0f}",
    )  # fmt: skip


def profile(run: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Where the seconds of a run are, on its main thread and beside it."""
    names: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for name, main, seconds in run["profile"]:
        names[name][not main] += seconds
    names["imports and all else"][0] = run["whole"] - sum(main for main, _ in names.values())
    for name, (main, beside) in sorted(names.items(), key=lambda item: -sum(item[1])):
        yield name, f"{main:.2f}", f"{beside:.2f}"


def main() -> None:
    """Print the tables, or run one case."""
    parser = argparse.ArgumentParser(prog="python -m bench.extract", description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path, nargs="?", help="folder with CLIP-Dissect's describe_neurons.py")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--profile", action="store_true", help="one more run of ours: where its seconds go")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        run_case(options.case)
        return
    if options.checkout is None or not (options.checkout / "describe_neurons.py").exists():
        parser.error("CHECKOUT must be a folder that holds CLIP-Dissect's describe_neurons.py")
    import torch

    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, options.images)
        case = {"folder": name, "device": device, "threads": options.threads, "profile": False,
                "checkout": str(options.checkout.resolve())}  # fmt: skip
        least = in_process(case | {"who": "floor"})
        seconds = options.images * (least["network"] + least["clip"]) / least["rate"]
        files = sum(file.stat().st_size for file in folder.rglob("*.png")) / 1e6
        print(f"Load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {device}, {options.threads} threads.")
        print(
            f"Floor: {least['network'] / 1e9:.3f} + {least['clip'] / 1e9:.3f} GFLOP an image (network, CLIP) at "
            f"{least['rate'] / 1e9:,.0f} GFLOP/s are {seconds:.2f} s. Image files: {files:.1f} MB."
        )
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "original": []}
        for _ in range(options.repeat):
            for who, done in runs.items():
                run = in_process(case | {"who": who})
                done.append(run | {"written": written(folder, who)})
                print(f"{who}: {run['extraction']:.1f} s, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
        show(
            f"{options.images:,} images", HEAD, (row(who, done, options.images, seconds) for who, done in runs.items())
        )
        if options.profile:
            run = in_process(case | {"who": "ours", "profile": True})
            show("Ours, seconds", ("where", "main thread", "other threads"), profile(run))
    print(f"\nLoad after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
