"""How many bytes and how much time a thumbnail takes, by its format and size.

python -m bench.thumbnails FOLDER

FOLDER holds photographs. "now" is what a scan stores; PNG is what it stored before, without compression.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image

from bench.made import show
from dissectdb.extract.images.decoding import IMAGE_NAMES, Pixels, decode, png, thumbnail

IMAGES = 100


def jpeg(pixels: Pixels, side: int) -> bytes:
    """A JPEG of at most `side` pixels a side, made as a thumbnail is."""
    image, file = PIL.Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((side, side), PIL.Image.Resampling.BILINEAR, reducing_gap=1.0)
    image.save(file, "JPEG", quality=80)
    return file.getvalue()


def small_png(pixels: Pixels) -> bytes:
    """A PNG of at most 64 pixels a side that is not compressed."""
    image = PIL.Image.fromarray(pixels)
    image.thumbnail((64, 64))
    return png(np.asarray(image))


def measure(make: Callable[[Pixels], bytes], images: list[Pixels]) -> tuple[str, str]:
    """Mean bytes, and milliseconds of CPU time, of one thumbnail; the best of three rounds."""
    best, size = float("inf"), 0
    for _ in range(3):
        start = time.process_time()
        size = sum(len(make(pixels)) for pixels in images)
        best = min(best, time.process_time() - start)
    return f"{size / len(images):,.0f}", f"{1e3 * best / len(images):.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    files = [path for path in sorted(parser.parse_args().folder.rglob("*")) if path.suffix.lower() in IMAGE_NAMES]
    images = [decode(path) for path in files[:IMAGES]]
    ways: dict[str, Callable[[Pixels], bytes]] = {
        "now": thumbnail,
        "PNG, 64": small_png,
        **{f"JPEG, {side}": partial(jpeg, side=side) for side in (128, 192, 224, 256)},
    }
    rows = ((name, *measure(make, images)) for name, make in ways.items())
    show(f"{len(images)} images of {images[0].shape}", ("thumbnail", "bytes", "CPU, ms"), rows)


if __name__ == "__main__":
    main()
