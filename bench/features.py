"""Measure a study of sparse features with pictures, from CSR and from the dense array, each in a new process.

    python -m bench.features                                       # small: 400 images, 300 features
    python -m bench.features --images 10000 --features 24576       # the size of a common sparse autoencoder

Made features fire on --share of the images, most of them on images near a concept; the pictures are small noise. Both
ways extract with `--activations none`, then make the report. Peak memory is the largest resident size.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.machines import CLI, run
from bench.made import show

HEAD = ("layer", "file, MB", "command", "seconds", "CPU, s", "peak, MB", "warehouse, MB")
CONCEPTS, DIMENSIONS, SIDE = 25, 64, 24
NEURONS_AT_ONCE = 1024  # of the dense array, while it is made
WAYS = ("sparse", "dense")
STUDY = """
warehouse = "{way}.duckdb"
device = "cpu"
[dataset]
name = "pictures"
kind = "folder"
path = "pictures"
[arrays]
path = "{way}.safetensors"
name = "made"
[[concept_sets]]
name = "made"
source = "concepts.txt"
[[dissections]]
concepts = "made"
scorer = "soft_wpmi"
rule = "q"
null_draws = 2000
"""


def make(folder: Path, images: int, features: int, share: float) -> None:
    """Write pictures, and for each way a study with its file of float16."""
    import numpy as np
    import PIL.Image
    import torch
    from safetensors.torch import save_file

    random = np.random.default_rng(0)

    def unit(rows: int) -> np.ndarray:
        made = random.standard_normal((rows, DIMENSIONS), dtype=np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    (folder / "pictures").mkdir()
    for position, pixels in enumerate(random.integers(256, size=(images, SIDE, SIDE), dtype=np.uint8)):
        PIL.Image.fromarray(pixels).save(folder / "pictures" / f"{position:06}.png", compress_level=1)
    embeddings, concepts = unit(images), unit(CONCEPTS)
    dense, firing = np.zeros((images, features), np.float16), max(round(share * images), 1)
    for start in range(0, features, NEURONS_AT_ONCE):
        count = min(NEURONS_AT_ONCE, features - start)
        preferred = concepts[random.integers(CONCEPTS, size=count)] + 0.3 * unit(count)
        values = embeddings @ preferred.T + 0.1 * random.standard_normal((images, count), dtype=np.float32)
        values -= np.partition(values, images - firing, axis=0)[images - firing] - np.float32(0.01)
        dense[:, start : start + count] = np.maximum(values, 0) * (values >= 0.01)
    row, column = np.nonzero(dense)
    sparse: dict[str, np.ndarray] = {
        "indptr": np.searchsorted(row, np.arange(images + 1)),
        "indices": column.astype(np.int32),
        "data": dense[row, column],
        "shape": np.array(dense.shape),
    }
    parts = {f"layer/features/{part}": array for part, array in sparse.items()}
    layers: dict[str, dict[str, np.ndarray]] = {"dense": {"layer/features": dense}, "sparse": parts}
    for way in WAYS:
        arrays = {"image_embedding": embeddings, "concept_embedding": concepts, **layers[way]}
        save_file({key: torch.from_numpy(array) for key, array in arrays.items()}, folder / f"{way}.safetensors")
        (folder / f"{way}.toml").write_text(STUDY.format(way=way))
    (folder / "concepts.txt").write_text("".join(f"concept {number}\n" for number in range(CONCEPTS)))


def measure(folder: Path, ways: list[str]) -> Iterator[tuple[object, ...]]:
    """A row for each way and command. Raises SystemExit with the last line of a command that fails."""
    for way in ways:
        size = (folder / f"{way}.safetensors").stat().st_size / 1e6
        warehouse = folder / f"{way}.duckdb"
        for name, arguments in (
            ("extract", [str(folder / f"{way}.toml"), "--activations", "none"]),
            ("report", ["--warehouse", str(warehouse), "-o", str(folder / f"{way}.html")]),
        ):
            done = run([name, *arguments])
            if done.exit_code:
                raise SystemExit(f"{name} of {way}: {done.said}")
            stored = warehouse.stat().st_size / 1e6
            numbers = (f"{done.seconds:.1f}", f"{done.cpu:.1f}", f"{done.peak:,.0f}", f"{stored:,.0f}")
            yield (way, f"{size:,.1f}", name, *numbers)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.features", description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--features", type=int, default=300)
    parser.add_argument("--share", type=float, default=0.005, help="of the images that a feature fires on")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # In a new process, because a child's peak is at least its parent's size when it starts.
        numbers = f"{options.images}, {options.features}, {options.share}"
        code = f"from bench.features import *; make(Path({str(folder)!r}), {numbers})"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=CLI.parent)
        title = f"{options.images:,} images, {options.features:,} features that fire on {options.share:.1%}"
        show(title, HEAD, measure(folder, options.ways))


if __name__ == "__main__":
    main()
