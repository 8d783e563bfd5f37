"""Compare the speed and memory of an extraction with those of CLIP-Dissect's code and with the least possible time.

git clone https://github.com/Trustworthy-ML-Lab/CLIP-dissect CHECKOUT
python -m bench.extract CHECKOUT --profile
python -m bench.extract CHECKOUT --clip ViT-B-16   # an architecture of open_clip with random weights, not the demo's
python -m bench.extract --count       # the least work for FER2013 with the VGGNet and CLIP ViT-B/16, on this device

Both pipelines read the same PNG files (the demo's faces) and use the full-width VGGNet (random weights, ten layers,
averaged maps) and the same CLIP, by default the demo's. Both end with a label by soft_wpmi for every neuron: ours runs
the command `extract`, the original its describe_neurons.py. Each run is a new process. The pipelines run in turn, with
the same number of threads, and the table has the best of --repeat runs.
"Extraction" starts with the models in memory and ends when all activations and embeddings are in files. Ours also
writes hashes, thumbnails and predictions, and computes p, q and views. "Core-seconds" is the time that all cores
worked for it. The floor is the time for the networks' arithmetic alone, at the rate of a large matrix product.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.util
import json
import os
import pkgutil
import resource
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import timeit
import types
from collections import defaultdict
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.made import show
from bench.scorers import peak_memory

if TYPE_CHECKING:
    from torch import nn

    from dissectdb.extract.models.clip import Clip

FER_IMAGES, FER_NEURONS = 28_709, 10_112
HERE = Path(__file__).resolve().parent.parent
LAYERS = [*(f"conv{block}{half}" for block in "1234" for half in "ab"), "lin1", "lin2"]
HEAD = ("pipeline", "images/s", "extraction, s", "core-seconds", "study to labels, s", "share of the floor",
        "host, MB", "device, MB", "written, MB")  # fmt: skip
COUNTED = ("what", "amount", "measured rate", "least seconds")
STEPS = {
    "waiting for the writer: a block": "queue.Queue.put",
    "waiting for the writer: the end": "threading.Thread.join",
    "between blocks": "dissectdb.warehouse.database.Warehouse.load",
    "opening the database": "dissectdb.warehouse_file.WarehouseFile.to_write",
    "scores, p, q": "dissectdb.extract.scoring.labels.label",
    "views": "dissectdb.pipeline.build_views",
    "scan: waiting": "dissectdb.extract.record.catalog.enter_dataset",
    "entering network and layers": "dissectdb.extract.record.extraction.enter",
    "hashing weights": "dissectdb.extract.fingerprints.of_weights",
    "scan: hashes, thumbnails": "dissectdb.extract.images.folder_source.inspect_file",
    "scan: decoding": "dissectdb.extract.images.decoding.decode",
    "embedding concepts": "dissectdb.extract.record.catalog.embed_concept_set",
    "waiting for pixels, copies": "dissectdb.extract.record.network_plan.compute",
    "preprocessing": "dissectdb.extract.models.preprocessing.Recipe.apply",
    "network forward": "dissectdb.extract.record.blocks._run_network",
    "CLIP forward": "dissectdb.extract.models.clip.Clip.embed_images",
    "pooling hooks": "dissectdb.extract.models.hooks.pool",
    "top lists": "dissectdb.extract.scoring.topk.top_lists",
    "sums": "dissectdb.extract.record.summaries.sums",
    "few values": "dissectdb.extract.record.summaries.few_values",
    "writing to the database": "dissectdb.warehouse.units.write",
}


class Clock:
    """Seconds in wrapped functions, by name and thread, without those in wrapped functions that they call."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])  # on the main thread, on other threads
        self.inner = threading.local()
        self.span: dict[str, tuple[float, ...]] = {}  # name → its last call: start and end; the core-seconds until each

    def wrap(self, name: str, place: str) -> None:
        """Time every call of a function or method under a name. place: its module and its own name, joined by dots."""
        path, _, attribute = place.rpartition(".")
        owner = pkgutil.resolve_name(path)
        function = getattr(owner, attribute)

        def timed(*values: Any, **named: Any) -> Any:
            outside, self.inner.seconds = getattr(self.inner, "seconds", 0.0), 0.0
            start, cores = time.perf_counter(), sum(os.times()[:4])
            try:
                return function(*values, **named)
            finally:
                end, beside = time.perf_counter(), threading.current_thread() is not threading.main_thread()
                self.seconds[name][beside] += end - start - self.inner.seconds
                self.inner.seconds = outside + end - start
                self.span[name] = start, end, cores, sum(os.times()[:4])

        setattr(owner, attribute, timed)


def run_ours(folder: Path, case: dict[str, Any], clock: Clock) -> tuple[float, float]:
    """Seconds and core-seconds of the extraction. It does the same as the command extract, which also prints tables."""
    from dissectdb import Study, pipeline

    loading = "loading models, hashing files"
    steps = {loading: "dissectdb.extract.record.extraction.make_plan", "labels": "dissectdb.pipeline.label"} | (
        STEPS if case["profile"] else {}
    )
    for name, place in steps.items():
        clock.wrap(name, place)
    warehouse = folder / "left" / "warehouse.duckdb"
    pipeline.extract(Study.load(folder / "study.toml", {"device": case["device"]}), warehouse)
    pipeline.refuse_broken_contracts(warehouse)
    (_, start, _, before), (end, _, after, _) = clock.span[loading], clock.span["labels"]
    return end - start, after - before


def run_original(folder: Path, case: dict[str, Any], clock: Clock) -> tuple[float, float]:
    """Seconds and core-seconds of the extraction within describe_neurons.py: batches of 200, 8 workers per data loader.

    Some things are replaced. Packages that are missing: of pandas only the one function that it uses. The weights
    that it would download: by the study's, with its own preprocessing for CLIP and PIL's for the network. The length of
    a tokenized text: by that of the CLIP.
    """
    from torchvision import transforms

    def frame(columns: dict[str, Any]) -> Any:
        text = json.dumps(columns, default=float)
        return types.SimpleNamespace(to_csv=lambda path, index: Path(path).write_text(text, "utf-8"))

    packages: dict[str, dict[str, Any]] = {
        "pandas": {"DataFrame": frame},
        "scipy": {"stats": None},
        "matplotlib": {"pyplot": None},
        "pkg_resources": {"packaging": __import__("packaging.version")},
    }
    for name, parts in packages.items():
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = stand_in(name, parts)
    sys.path.insert(0, case["checkout"])
    theirs, data_utils = pkgutil.resolve_name("clip"), pkgutil.resolve_name("data_utils")
    network, clip = load_models(folder, case["device"])
    squash = transforms.Compose([transforms.Grayscale(), transforms.Resize((40, 40)), transforms.ToTensor()])
    tokenize, length = theirs.tokenize, clip.tokenize.context_length
    theirs.tokenize = lambda texts: tokenize(texts, context_length=length)
    theirs.load = lambda name, device: (clip.model, theirs.clip._transform(clip.recipe.size))
    data_utils.get_target_model = lambda name, device: (network, squash)
    data_utils.DATASET_ROOTS["broden"] = str(folder / "faces" / "validation")
    clock.wrap("extraction", "utils.save_activations")
    sys.argv = [
        "describe_neurons.py", "--target_model=vggnet", f"--target_layers={','.join(LAYERS)}",
        f"--device={case['device']}", f"--concept_set={folder}/concepts.txt",
        f"--activation_dir={folder}/left/activations", f"--result_dir={folder}/left/results",
    ]  # fmt: skip
    runpy.run_path(str(Path(case["checkout"]) / "describe_neurons.py"), run_name="__main__")
    start, end, before, after = clock.span["extraction"]
    return end - start, after - before


def stand_in(name: str, parts: dict[str, Any]) -> types.ModuleType:
    """A module that holds these names. It has a spec, because other packages ask whether it is installed."""
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(module).update(parts)
    return module


def load_models(folder: Path, device: str) -> tuple[nn.Module, Clip]:
    """The study's network, on the device, and its CLIP."""
    import torch

    from dissectdb.extract.models import clip, networks
    from dissectdb.extract.study import Study

    study = Study.load(folder / "study.toml").with_network("bench.extract")
    loaded = clip.load(study.clip, torch.device(device))
    if device == "cuda":  # the original's CLIP runs in half precision there too
        loaded.model.encode_image = torch.autocast("cuda", torch.float16)(loaded.model.encode_image)
    return networks.load(study.network).model.to(device), loaded


def operations(run: Any, shape: tuple[int, ...], device: str) -> int:
    """FLOP of a pass over one image of this shape."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # With gradients. Without them attention is one fused operation, which the counter does not count.
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        run(torch.zeros(1, *shape, device=device))
    return counter.get_total_flops()


def matrix_rate(kind: Any, device: str) -> float:
    """FLOP per second of a large matrix product."""
    import torch

    size = 8192 if device == "cuda" else 1024
    matrix = torch.rand(size, size, device=device).to(kind)
    seconds: list[float] = []
    while len(seconds) < 8 and sum(seconds) < 2:  # a CPU without instructions for bfloat16 takes seconds for one
        seconds += timeit.repeat(lambda: (matrix @ matrix)[0, 0].item(), number=1, repeat=1)  # item() waits for it
    return 2 * size**3 / min(seconds)


def floor(folder: Path, device: str) -> dict[str, float]:
    """FLOP per image of both networks, and FLOP per second of a matrix product."""
    import torch

    network, clip = load_models(folder, device)
    return {
        "network": operations(network, (1, 40, 40), device),
        "clip": operations(clip.model.encode_image, clip.recipe.shape, device),
        "rate": matrix_rate(torch.bfloat16 if device == "cuda" else torch.float32, device),
    }


def count_fer2013(device: str) -> Iterator[tuple[str, ...]]:
    """Rows on the least work for FER2013's train images (VGGNet, ten layers; CLIP ViT-B/16) and its measured rate."""
    import open_clip
    import torch

    from dissectdb.extract.models import devices
    from dissectdb.extract.models.vggnet import VGGNet

    devices.allow_tf32(False)
    half = torch.float16 if device == "cuda" else torch.bfloat16
    clip = open_clip.create_model("ViT-B-16").eval().visual
    totals = [
        FER_IMAGES * operations(model, shape, "cpu")
        for model, shape in ((VGGNet().eval(), (1, 40, 40)), (clip, (3, 224, 224)))
    ]
    rates = {kind: matrix_rate(kind, device) for kind in (torch.float32, half)}
    numbers = FER_IMAGES * (FER_NEURONS + 7 + 512)
    there, here = torch.empty(1 << 28, dtype=torch.uint8, device=device), torch.empty(1 << 28, dtype=torch.uint8)
    here = here.pin_memory() if device == "cuda" else here

    def copied(to: Any, of: Any) -> float:
        def once() -> None:
            to.copy_(of)
            if device == "cuda":
                torch.cuda.synchronize()

        return (1 << 28) / min(timeit.repeat(once, number=1, repeat=5))

    for what, amount, rate, unit in (
        ("VGGNet, float32", totals[0], rates[torch.float32], "FLOP"),
        ("CLIP ViT-B/16, float32", totals[1], rates[torch.float32], "FLOP"),
        (f"CLIP ViT-B/16, {str(half)[6:]}", totals[1], rates[half], "FLOP"),
        ("pixels to the device", FER_IMAGES * 48 * 48, copied(there, here), "B"),
        ("activations, logits, embeddings back", 4 * numbers, copied(here, there), "B"),
    ):
        yield what, f"{amount / 1e9:,.1f} G{unit}", f"{rate / 1e9:,.0f} G{unit}/s", f"{amount / rate:,.2f}"


def run_case(case: dict[str, Any]) -> dict[str, Any]:
    """Run one case in this process; returns what was measured."""
    import torch

    folder, clock = Path(case["folder"]), Clock()
    torch.set_num_threads(case["threads"])
    if case["who"] == "floor":
        return floor(folder, case["device"])
    run = {"ours": run_ours, "original": run_original}[case["who"]]
    (folder / "left").mkdir()
    with redirect_stdout(sys.stderr):
        extraction, cores = run(folder, case, clock)
    return {
        "extraction": extraction,
        "cores": cores,
        "whole": time.time() - case["started"],
        "host": peak_memory() * 1e3,
        "worker": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3,
        "device": torch.cuda.max_memory_allocated() / 1e6 if case["device"] == "cuda" else 0,
        "written": sum(file.stat().st_size for file in (folder / "left").rglob("*")) / 1e6,
        "profile": clock.seconds,
    }


def in_process(case: dict[str, Any]) -> dict[str, Any]:
    """Run a case in a new process. Its seconds include the start of the process and its imports."""
    command = [sys.executable, "-m", "bench.extract", "--case", json.dumps(case | {"started": time.time()})]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    if done.returncode:
        raise SystemExit(f"{case['who']} failed:\n{done.stderr[-3000:]}")
    shutil.rmtree(Path(case["folder"]) / "left", ignore_errors=True)
    return json.loads(done.stdout)


def clip_settings(folder: Path, clip: str | None) -> str:
    """The table [clip] of a study: the demo's, or an architecture of open_clip whose random weights are saved."""
    if clip is None:
        demo = HERE / "extract" / "demo" / "dissectdb-face-rn"
        return f'{{ architecture = "{demo.name}", config = "{demo}.json", weights = "{demo}.safetensors" }}'
    return f'{{ architecture = "{clip}", weights = "{random_clip(folder, clip)}" }}'


def random_clip(folder: Path, clip: str) -> Path:
    """A new file with random weights of an architecture of open_clip."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    weights = folder / "clip.safetensors"
    save_file({name: part.contiguous() for name, part in open_clip.create_model(clip).state_dict().items()}, weights)
    return weights


def prepare(folder: Path, images: int, clip: str | None = None) -> None:
    """Write the faces as PNG files, the network's weights, the concepts, and the study that names them.

    clip: an architecture of open_clip. Default: the demo's CLIP.
    """
    import PIL.Image
    import torch
    from safetensors.torch import save_file

    from dissectdb.extract.demo import faces
    from dissectdb.extract.models.vggnet import VGGNet

    drawn = faces.draw(images, seed=0)
    for number, (pixels, emotion) in enumerate(zip(drawn.pixels, drawn.emotions, strict=True)):
        path = folder / "faces" / "validation" / faces.CLASSES[emotion] / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(pixels).save(path)
    torch.manual_seed(0)
    save_file(VGGNet().state_dict(), folder / "vggnet.safetensors")
    (folder / "concepts.txt").write_text("\n".join(faces.CONCEPTS), "utf-8")
    study = f"""
        dataset = {{ name = "faces", kind = "folder", path = "faces", probing_split = "validation" }}
        concept_sets = [{{ name = "expressions", source = "concepts.txt" }}]
        dissections = [{{ concepts = "expressions", scorer = "soft_wpmi" }}]
        clip = {clip_settings(folder, clip)}
        [network]
        name = "vggnet"
        architecture = "vggnet"
        weights = "vggnet.safetensors"
        layers = {json.dumps(LAYERS)}
        input = {{ size = 40, mode = "grey" }}  # rounded as PIL does, so that both pipelines compute the same"""
    (folder / "study.toml").write_text(study, "utf-8")


def row(who: str, runs: list[dict[str, Any]], images: int, floor_seconds: float) -> tuple[str, ...]:
    """A row of the table: the least of each time, and the most of each memory, over all runs."""
    least = {name: min(run[name] for run in runs) for name in ("extraction", "cores", "whole")}
    most = {name: max(run[name] for run in runs) for name in ("host", "worker", "device", "written")}
    host = f"{most['host']:,.0f}" + (f", each of 8 workers {most['worker']:,.0f}" if who == "original" else "")
    return (
        who, f"{images / least['extraction']:.1f}", *(f"{seconds:.2f}" for seconds in least.values()),
        f"{100 * floor_seconds / least['extraction']:.0f} %", host, f"{most['device']:,.0f}", f"{most['written']:,.0f}",
    )  # fmt: skip


def profile(run: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Rows on where a run spends its seconds, on its main thread and on others."""
    rest = run["whole"] - sum(main for main, _ in run["profile"].values())
    parts = run["profile"] | {"imports and all else": [rest, 0.0]}
    for name, (main, beside) in sorted(parts.items(), key=lambda item: -sum(item[1])):
        yield name, f"{main:.2f}", f"{beside:.2f}"


def main() -> None:
    """Print the tables, or run one case."""
    parser = argparse.ArgumentParser(prog="python -m bench.extract", description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path, nargs="?", help="folder with CLIP-Dissect's describe_neurons.py")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--clip", metavar="NAME", help="an architecture of open_clip; default: the demo's CLIP")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--profile", action="store_true", help="run ours once more and print where its time goes")
    parser.add_argument("--count", action="store_true", help="only print the least work for FER2013 at full size")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run_case(options.case)))
        return
    from dissectdb.extract.models import devices

    device = devices.choose(options.device).type
    if options.count:
        show(f"FER2013, {FER_IMAGES:,} images, {FER_NEURONS:,} neurons, on {device}", COUNTED, count_fer2013(device))
        return
    if options.checkout is None or not (options.checkout / "describe_neurons.py").exists():
        parser.error("CHECKOUT must be a folder that holds CLIP-Dissect's describe_neurons.py")
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), options.images, options.clip)
        case = {"folder": folder, "device": device, "threads": options.threads,
                "profile": False, "checkout": str(options.checkout.resolve())}  # fmt: skip
        runs: dict[str, list[dict[str, Any]]] = {"floor": [], "ours": [], "original": []}
        for who in [*runs] * options.repeat:
            runs[who].append(in_process(case | {"who": who}))
            print(f"{who}, load {os.getloadavg()[0]:.1f}: {runs[who][-1]}", file=sys.stderr, flush=True)
        least = max(runs.pop("floor"), key=lambda run: run["rate"])
        bound = options.images * (least["network"] + least["clip"]) / least["rate"]
        print(f"{os.cpu_count()} cores, {options.threads} threads, {case['device']}, load {os.getloadavg()[0]:.1f}.\n"
              f"Floor: network {least['network'] / 1e9:.3f}, CLIP {least['clip'] / 1e9:.3f} GFLOP per image, at "
              f"{least['rate'] / 1e9:,.0f} GFLOP/s {bound:.2f} s.")  # fmt: skip
        show(f"{options.images:,} images", HEAD, [row(who, done, options.images, bound) for who, done in runs.items()])
        if options.profile:
            run = in_process(case | {"who": "ours", "profile": True})
            show("Ours, seconds", ("where", "main thread", "other threads"), profile(run))


if __name__ == "__main__":
    main()
