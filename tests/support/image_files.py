"""Image datasets written by a test: lines of fer2013.csv, and folders of image files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL.Image
from hypothesis import HealthCheck, settings

from dissectdb.extract.images.scan import Image
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.study import Dataset

quickly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape or (48, 48), np.uint8)


def line(pixels: np.ndarray, emotion: object = 3, usage: str = "Training") -> str:
    return f"{emotion},{' '.join(map(str, pixels.ravel()))},{usage}"


def fer2013(path: Path, *lines: str, header: str = "emotion,pixels,Usage", **settings: object):
    path.write_text("\n".join([header, *lines]) + "\n")
    return open_source(Dataset(name="faces", kind="fer2013", path=path, **settings))


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, **options)
    return path


def folder(path: Path, **settings: object):
    return open_source(Dataset(name="photos", kind="folder", path=path, **settings))


def scan(source) -> dict[str, Image]:
    """The images by path."""
    return {image.path: image for image in source.scan()}


def shown(image: Image) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(image.thumbnail)))


def small_folder(path: Path, count: int = 6, splits: tuple[str, ...] = ("train", "test")) -> Path:
    for number in range(count):
        for index, (split, name) in enumerate((s, c) for s in splits for c in ("sad", "happy")):
            save(path / split / name / f"{number}.png", noise(100 * index + number, 12, 9))
    return path
