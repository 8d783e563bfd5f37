"""Measure on one machine, on its CPU and its GPU, what decides how long a study takes.

python -m bench.device                 # at most 8 minutes
python -m bench.device --minutes 3 -o device.md
python -m bench.device --small         # tiny sizes: shows within two minutes of two cores that every measurement runs

It states the machine, then measures, smallest first, and prints one table. A measurement that the minutes left do not
allow is named and left out. All networks have random weights, so nothing is downloaded; images are the demo's faces, as
a CSV in the form of FER2013, and drawn photographs of 500 × 375 pixels as JPEG. What a whole command costs is measured
by running it in a new process, imports and all.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.extract import HERE, LAYERS, clip_settings, matrix_rate, operations, random_clip
from bench.made import text

HEAD = ("measurement", "size", "device", "result", "seconds")
SCORERS = ("pearson", "wpmi", "soft_wpmi")
CONCEPTS = ("a smile", "a frown", "open eyes", "raised brows", "an open mouth", "a dark picture", "a bright picture")


@dataclass(frozen=True)
class Sizes:
    """How much is measured. guess: the seconds that each measurement may take on a slow device, by its name."""

    faces: int
    photographs: int
    scored: tuple[int, int, int]  # images, neurons, concepts
    prompts: int
    clip: str | None  # of the study of faces; None: the demo's
    photo_network: str
    guess: dict[str, float]


FULL = Sizes(
    35_887, 50_000, (28_709, 10_112, 20_000), 2_000, "ViT-B-16", "torchvision:resnet50",
    {"floors": 10, "texts": 10, "scores": 60, "made": 90, "faces": 60, "idle": 10, "edits": 40, "agreement": 60,
     "made photographs": 60, "photographs": 90},
)  # fmt: skip
SMALL = Sizes(
    400, 60, (500, 64, 40), 20, None, "torchvision:resnet18",
    {"floors": 5, "texts": 2, "scores": 2, "made": 2, "faces": 20, "idle": 3, "edits": 15, "agreement": 20,
     "made photographs": 2, "photographs": 20},
)  # fmt: skip


class Bench:
    """The measurements. Each yields rows of HEAD without the seconds, and leaves its files in the folder."""

    def __init__(self, sizes: Sizes, devices: list[str], folder: Path, threads: str | None) -> None:
        self.sizes, self.devices, self.folder, self.threads = sizes, devices, folder, threads
        self.best = devices[-1]  # cuda, if there is one

    def all(self) -> list[tuple[str, Callable[[], Iterator[tuple[object, ...]]]]]:
        """Names and measurements, smallest first."""
        return [
            ("floors", self.floors),
            ("texts", self.texts),
            ("scores", self.scores),
            ("made", self.made_faces),
            ("faces", self.faces),
            ("idle", self.idle),
            ("edits", self.edits),
            ("agreement", self.agreement),
            ("made photographs", self.made_photographs),
            ("photographs", self.photographs),
        ]

    def floors(self) -> Iterator[tuple[object, ...]]:
        """The rate of a matrix product, and the images a second that the networks could reach at it."""
        import open_clip
        import torch

        from dissectdb.extract.models import devices
        from dissectdb.extract.models.vggnet import VGGNet

        devices.allow_tf32(False)
        for device in self.devices:
            for kind in (torch.float32, torch.float16 if device == "cuda" else torch.bfloat16):
                rate = matrix_rate(kind, device)
                yield "matrix product", str(kind)[6:], device, f"{rate / 1e12:,.3g} TFLOP/s"
                for name, model, shape in (
                    ("VGGNet", VGGNet().eval(), (1, 40, 40)),
                    ("CLIP ViT-B/16", open_clip.create_model("ViT-B-16").eval().visual, (3, 224, 224)),
                ):
                    most = rate / operations(model, shape, "cpu")
                    yield f"{name}, most that is possible", str(kind)[6:], device, f"{most:,.0f} images/s"

    def texts(self) -> Iterator[tuple[object, ...]]:
        """Prompts through a text tower of the size of CLIP ViT-B/32."""
        import torch

        from dissectdb.extract import study
        from dissectdb.extract.models import clip

        settings = study.Clip(architecture="ViT-B-32", weights=str(random_clip(self.folder, "ViT-B-32")))
        for device in self.devices:
            loaded = clip.load(settings, torch.device(device))
            words = [f"concept number {number}" for number in range(self.sizes.prompts)]
            loaded.embed_concepts(words[:2], ["a photo of a {}"])
            started = time.perf_counter()
            loaded.embed_concepts(words, ["a photo of a {}"])
            rate = len(words) / (time.perf_counter() - started)
            yield "texts, CLIP ViT-B/32", f"{len(words):,} prompts", device, f"{rate:,.0f} texts/s"

    def scores(self) -> Iterator[tuple[object, ...]]:
        """Labels of all neurons from activations and embeddings in memory."""
        import torch

        from bench.made import embeddings
        from dissectdb.extract.scoring.problem import Array, Settings
        from dissectdb.extract.scoring.scorers import score_layer

        images, neurons, concepts = self.sizes.scored
        world = embeddings(images, concepts, seed=0, dimensions=511)
        activations = np.random.default_rng(5).standard_normal((images, neurons), dtype=np.float32)
        size = f"{concepts:,} concepts × {neurons:,} neurons × {images:,} images"
        for scorer in SCORERS:
            layer, settings = Array(activations), Settings.defaults(scorer)

            def score(layer: Any = layer, settings: Any = settings) -> None:
                score_layer(settings, layer, world.images, world.concepts, keep=100, device=self.best)
                if self.best == "cuda":
                    torch.cuda.synchronize()

            yield f"scores, {scorer}", size, self.best, f"{min(timeit.repeat(score, number=1, repeat=2)):.3g} s"

    def made_faces(self) -> Iterator[tuple[object, ...]]:
        """Draws the faces, as a CSV in the form of FER2013, and writes the study."""
        from dissectdb.extract.demo import faces

        drawn = faces.draw(min(self.sizes.faces, 4000), seed=0)
        usages = ("Training",) * 8 + ("PublicTest", "PrivateTest")
        chance = np.random.default_rng(0)
        with (self.folder / "fer2013.csv").open("w", encoding="utf-8") as file:
            file.write("emotion,pixels,Usage\n")
            for number in range(self.sizes.faces):
                face = number % len(drawn.pixels)
                noise = chance.integers(0, 2 if number >= len(drawn.pixels) else 1, drawn.pixels[face].shape)
                pixels = " ".join(map(str, (drawn.pixels[face] // 2 * 2 + noise).ravel().tolist()))
                usage = usages[number * len(usages) // self.sizes.faces]
                file.write(f"{drawn.emotions[face]},{pixels},{usage}\n")
        write_study(self.folder, self.sizes.clip)
        yield "(faces drawn)", f"{self.sizes.faces:,} images", "cpu", ""

    def faces(self) -> Iterator[tuple[object, ...]]:
        """A study of the faces from nothing to labels, on the best device."""
        yield from self.extraction("faces", "faces", self.sizes.faces)

    def extraction(self, study: str, what: str, images: int) -> Iterator[tuple[object, ...]]:
        """A whole extraction, and the rate of its passes from the ledger."""
        warehouse = self.warehouse(study)
        seconds = self.command("extract", study, warehouse)
        size = f"{images:,} images"
        yield f"{what}: study to labels", size, self.best, f"{seconds:,.1f} s"
        yield f"{what}: passes", size, self.best, f"{rate_of_passes(warehouse):,.0f} images/s"

    def idle(self) -> Iterator[tuple[object, ...]]:
        """The same command again."""
        seconds = min(self.command("extract", "faces", self.warehouse("faces")) for _ in range(2))
        yield "faces: a run with nothing to do", "", self.best, f"{seconds:,.2f} s"

    def edits(self) -> Iterator[tuple[object, ...]]:
        """modify with a grid of edits, and effects."""
        for command in ("modify", "effects"):
            seconds = self.command(command, "faces", self.warehouse("faces"))
            yield f"faces: {command}", "", self.best, f"{seconds:,.1f} s"

    def agreement(self) -> Iterator[tuple[object, ...]]:
        """The demo's study on the CPU and on the best device: equal labels, and what check --deep says of the other."""
        if self.best == "cpu":
            yield "demo: labels as on the CPU", "", "", "no GPU to compare with"
            return
        first, second = (self.folder / f"demo-{device}.duckdb" for device in ("cpu", "best"))
        images = ("--set", "dataset.images=1200") if self.sizes is SMALL else ()
        demo = HERE / "studies" / "demo.toml"
        for warehouse, device in ((first, "cpu"), (second, self.best)):
            run("extract", demo, "-w", warehouse, "--device", device, *images)
        equal, neurons = same_labels(first, second)
        yield "demo: labels as on the CPU", f"{neurons:,} neurons", self.best, f"{equal:.2%}"
        done = started("check", "--deep", demo, "-w", first, *images, "--set", f"device={self.best}")
        yield "demo: check --deep of the CPU's warehouse", "", self.best, f"exit code {done.returncode}"

    def made_photographs(self) -> Iterator[tuple[object, ...]]:
        """Draws photographs as JPEG; each is written several times, with another pixel."""
        import PIL.Image

        chance = np.random.default_rng(0)
        folder = self.folder / "photographs" / "things"
        folder.mkdir(parents=True)
        for number in range(self.sizes.photographs):
            if number % 100 == 0:
                coarse = chance.integers(0, 256, (24, 32, 3), np.uint8)
                picture = PIL.Image.fromarray(coarse).resize((500, 375), PIL.Image.Resampling.BICUBIC)
            picture.putpixel((number % 100, 0), (255, 0, number // 100 % 256))
            picture.save(folder / f"{number:06}.jpg", quality=90)
        write_photo_study(self.folder, self.sizes)
        yield "(photographs drawn)", f"{self.sizes.photographs:,} images", "cpu", ""

    def photographs(self) -> Iterator[tuple[object, ...]]:
        """A folder of JPEG files through a ResNet and CLIP to labels."""
        yield from self.extraction("photographs", "photographs", self.sizes.photographs)

    def warehouse(self, study: str) -> Path:
        """The warehouse of a study of the folder."""
        return self.folder / f"{study}.duckdb"

    def command(self, name: str, study: str, warehouse: Path) -> float:
        """Seconds of a command on a study of the folder."""
        threads = ("--threads", self.threads) if self.threads else ()
        return run(name, self.folder / f"{study}.toml", "-w", warehouse, "--device", self.best, *threads)


def run(*arguments: object) -> float:
    """Seconds of a command in a new process. Raises SystemExit with its last lines if it fails."""
    before = time.perf_counter()
    done = started(*arguments)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - before


def started(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A command that ran in a new process."""
    command = [sys.executable, str(HERE / "cli.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)


def rate_of_passes(warehouse: Path) -> float:
    """Images a second in the passes, by the times in the ledger."""
    from dissectdb.warehouse import Warehouse

    query = """
        select sum(images) / sum(seconds) as rate from (
            select distinct split_id, block, images, seconds from extraction_blocks
            inner join extractions on extraction_blocks.extraction_id = extractions.extraction_id
        )
    """
    with Warehouse(warehouse, read_only=True) as opened:
        return float(opened.rows(query)["rate"][0])


def same_labels(first: Path, second: Path) -> tuple[float, int]:
    """The share of neurons with the same label in two warehouses, and their number."""
    from dissectdb.warehouse import Warehouse

    labels = []
    for path in (first, second):
        with Warehouse(path, read_only=True) as opened:
            labels.append(dict(opened.rows("select layer || ' ' || unit, concept from neuron_concepts").rows()))
    both = labels[0].keys() | labels[1].keys()
    return sum(labels[0].get(key) == labels[1].get(key) for key in both) / len(both), len(both)


# ---------------------------------------------------------------- studies


def write_study(folder: Path, clip: str | None) -> None:
    """faces.toml: the full VGGNet with ten layers, a grid of edits, and effects."""
    import torch
    from safetensors.torch import save_file

    from dissectdb.extract.models.vggnet import VGGNet

    torch.manual_seed(0)
    save_file(VGGNet().state_dict(), folder / "vggnet.safetensors")
    layers = ", ".join(f'"{layer}"' for layer in LAYERS)
    study = f"""
        dataset = {{ name = "faces", kind = "fer2013", path = "fer2013.csv" }}
        concept_sets = [{{ name = "words", source = "words.txt" }}]
        dissections = [{{ concepts = "words" }}]
        sweeps = [{{ name = "grid", rules = ["paper"], layers = ["lin2"], taus = [-1.0, 0.0], factors = [1.5, 3.0] }}]
        effects = {{ layers = ["lin2"] }}
        clip = {clip_settings(folder, clip)}
        [network]
        name = "vggnet"
        architecture = "vggnet"
        weights = "vggnet.safetensors"
        layers = [{layers}]
        input = {{ size = 40, mode = "grey" }}"""
    (folder / "words.txt").write_text("\n".join(CONCEPTS), "utf-8")
    (folder / "faces.toml").write_text(study, "utf-8")


def write_photo_study(folder: Path, sizes: Sizes) -> None:
    """photographs.toml: a ResNet with random weights, its last two stages."""
    study = f"""
        dataset = {{ name = "photographs", kind = "folder", path = "photographs", probing_split = "all" }}
        concept_sets = [{{ name = "words", source = "words.txt" }}]
        dissections = [{{ concepts = "words", {"top_k = 20, " if sizes is SMALL else ""}null_draws = 10000 }}]
        clip = {clip_settings(folder, sizes.clip)}
        [network]
        name = "resnet"
        architecture = "{sizes.photo_network}"
        weights = "random"
        layers = ["layer3", "layer4"]
        input = {{ size = 224, mode = "rgb" }}"""
    (folder / "photographs.toml").write_text(study, "utf-8")


# ---------------------------------------------------------------- the table


def machine(devices: list[str]) -> str:
    """One sentence on the machine."""
    import torch

    cards = [torch.cuda.get_device_name(0)] if "cuda" in devices else []
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{', '.join(cards) or 'no GPU'}; Python {platform.python_version()}, torch {torch.__version__}"
    )


def rows_within(bench: Bench, minutes: float) -> Iterator[tuple[object, ...]]:
    """The rows of HEAD. A measurement whose guess exceeds the time left is named as left out."""
    started = time.perf_counter()
    for name, measure in bench.all():
        left = 60 * minutes - (time.perf_counter() - started)
        if bench.sizes.guess[name] > left:
            yield name, "", "", f"left out: {left:.0f} s left", ""
            continue
        before = time.perf_counter()
        for row in measure():
            yield *row, f"{time.perf_counter() - before:.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.device", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="begin no measurement that would take longer")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", help="of the database, as in the commands")
    parser.add_argument("-o", "--output", type=Path, help="also write the table to this file, row by row")
    options = parser.parse_args()
    from dissectdb.extract.models import devices

    chosen = devices.choose(options.device).type
    names = ["cpu"] if chosen == "cpu" else ["cpu", chosen]
    folder = Path(tempfile.mkdtemp(prefix="dissectdb-device-"))
    try:
        bench = Bench(SMALL if options.small else FULL, names, folder, options.threads)
        lines = [machine(names), "", f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
        for line in (*lines, *(f"| {' | '.join(map(text, row))} |" for row in rows_within(bench, options.minutes))):
            print(line, flush=True)
            if options.output:
                with options.output.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
