"""Decode an image, hash it, make a thumbnail, and find defects.

    pixels = decode(path)  # uint8, (height, width) grey or (height, width, 3) RGB; raises Unreadable
    facts = inspect(pixels)
    facts.sha256, facts.thumbnail, facts.defect  # "…", b"\\x89PNG…", None or "blank"

16-bit grey becomes 8-bit by leaving out the low bits: decode(path, bits=12) takes values from 0 to 4,095.

A defect found here depends on one image alone. Repeats concern two images; repeats.py finds them.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import threading
import warnings
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageFile, ImageOps, PngImagePlugin, features

Pixels = NDArray[np.uint8]

THUMBNAIL = 224  # pixels of the longer side
AROUND = (200, 256)  # or as many, if the image divided by a whole number has them
EXACT = 64  # pixels a side up to which a thumbnail is the image itself

# Pillow's own limit (256 MB as RGB): beyond it a header of a few bytes may ask for any amount of memory.
MAX_PIXELS = 89_478_485

# Pillow's other decoders are not used, whatever a file is called: some start programs (EPS), others are little tested.
AVIF = features.check("avif")  # Pillow 11.3 and newer, unless it was built without
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", *(["AVIF"] if AVIF else []))
IMAGE_NAMES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm",
    *([".avif"] if AVIF else []),
)  # fmt: skip

# An image is blank if the standard deviation of its values (0 to 255) is below this in every channel. Chosen on
# FER2013. Below the limit are its 12 black frames (0.0), an empty grey one (0.7) and a black one with a small light
# (4.1). The next image is a dark but clear face (9.1), and so are most of the 40 after it; the others are placeholders
# (crossed-out cameras, "image removed" notices), which no standard deviation tells from a faint face. The share of the
# commonest value does not help either: drawings and half-lit faces have as high a share as placeholders.
BLANK_DEVIATION = 6.0
GRID = 10_000  # about how many pixels of a large image are looked at first


class Unreadable(Exception):
    """The pixels of an image could not be read; the message gives the reason."""


class _Settings:
    """Pillow's own settings inside a with-block, whatever the program has set, and no warnings.

    An image must not be readable in one program and unreadable in another, or in the processes that scan a large set,
    which know nothing of what the program has set. They hold for all threads while one of them is inside.
    """

    OWN = (
        (ImageFile, "LOAD_TRUNCATED_IMAGES", False),
        (PIL.Image, "MAX_IMAGE_PIXELS", MAX_PIXELS),
        (PngImagePlugin, "MAX_TEXT_CHUNK", 1 << 20),
        (PngImagePlugin, "MAX_TEXT_MEMORY", 64 << 20),
    )

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._quiet = warnings.catch_warnings(action="ignore")  # an error if the program makes warnings errors
                self._quiet.__enter__()
                self._of_program = [getattr(module, name) for module, name, _ in self.OWN]
                for module, name, value in self.OWN:
                    setattr(module, name, value)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                for (module, name, _), value in zip(self.OWN, self._of_program, strict=True):
                    setattr(module, name, value)
                self._quiet.__exit__(None, None, None)


_SETTINGS = _Settings()


class Facts(NamedTuple):
    """What is stored about an image.

    defect: None, "blank", "blank: …" or "unreadable: …". bits: how many bits the highest value of a 16-bit image takes,
    at least 8; None for other images.
    """

    sha256: str
    width: int | None = None
    height: int | None = None
    thumbnail: bytes | None = None
    defect: str | None = None
    bits: int | None = None


def decode(file: Path | bytes, bits: int = 16) -> Pixels:
    """The first frame of an image file or of its bytes, upright: uint8, (height, width) grey or (height, width, 3) RGB.

    Transparency is dropped, as in the loaders that networks are trained with. bits: how many of its 16 bits an image of
    16-bit grey uses, 8 to 16; the highest 8 of them are kept.
    """
    return to_bytes(_open(file, bits)[0], bits)


def to_bytes(values: NDArray[np.uint8] | NDArray[np.uint16], bits: int) -> Pixels:
    """The highest 8 of `bits` bits of 16-bit values; 8-bit values as they are. Raises Unreadable for a larger value."""
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    if values.max() >> bits:
        raise Unreadable(f"a 16-bit value of {values.max()} is more than dataset.bits = {bits} can hold")
    return (values >> (bits - 8)).astype(np.uint8)


def _open(file: Path | bytes, bits: int) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], PIL.Image.Image | None]:
    """The first frame, upright: uint16 if it is stored as 16-bit grey, else uint8. Raises Unreadable.

    With it, Pillow's picture of these pixels, if there is one.
    """
    try:
        source = io.BytesIO(file) if isinstance(file, bytes) else file
        with _SETTINGS, PIL.Image.open(source, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise Unreadable(f"{width} × {height} pixels, more than the {MAX_PIXELS:,} that are decoded")
            if bits < 16 and any(";16" in str(part) for part in image.tile) and not image.mode.startswith("I"):
                raise Unreadable("16-bit colour, of which Pillow reads only the high bytes; convert it to 8 bits")
            is_scaled = image.format == "PPM" and image.mode == "I"  # by Pillow, from the file's own range to 16 bits
            ImageOps.exif_transpose(image, in_place=True)
            return of_picture(image, is_scaled), image if image.mode in ("L", "RGB") else None
    except Unreadable:
        raise
    except PIL.UnidentifiedImageError:  # its message may hold a memory address, which differs in each run
        raise Unreadable(f"not a picture in any of {', '.join(FORMATS)}") from None
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    except Exception as error:  # bad bytes lead Pillow to struct.error, IndexError, SyntaxError, …
        raise Unreadable(f"{type(error).__name__}: {error}") from None


def of_picture(image: PIL.Image.Image, is_scaled: bool = False) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The values of an open picture: uint16 if it is 16-bit grey, else uint8. Raises Unreadable.

    is_scaled: whether Pillow has scaled its values to 16 bits.
    """
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)  # in this machine's order of bytes
    if is_scaled:
        return (np.asarray(image) >> 8).astype(np.uint8)
    if image.mode in ("I", "F"):
        raise Unreadable(f"pixels of mode {image.mode}: no telling which value is white")
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    return np.array(image if image.mode == mode else image.convert(mode))  # a copy, because torch needs writable memory


def inspect(pixels: Pixels, shown: Sequence[int] = (), picture: PIL.Image.Image | None = None) -> Facts:
    """The facts about decoded pixels, (height, width) or (height, width, channel).

    picture: the same pixels as Pillow has them, of which the thumbnail is then made. It is changed.
    shown: the channels of the thumbnail, one or three. Without them, two channels show the first, and four or more the
    first three.
    """
    return Facts(
        sha256=pixel_hash(pixels),
        width=pixels.shape[1],
        height=pixels.shape[0],
        thumbnail=thumbnail(_shown(pixels, shown), picture),
        defect="blank" if is_blank(pixels) else None,
    )


def inspect_file(file: Path | bytes, bits: int = 16) -> tuple[Facts, Pixels | None]:
    """The facts about an image file or its bytes, and its pixels. An unreadable one has the hash of its bytes."""
    try:
        values, picture = _open(file, bits)
        pixels = to_bytes(values, bits)
        facts = inspect(pixels, picture=picture)
    except Unreadable as problem:
        sha256 = hashlib.sha256(file).digest() if isinstance(file, bytes) else file_hash(file)
        return Facts(sha256.hex(), defect=f"unreadable: {problem}"), None
    if values.dtype == np.uint8:
        return facts, pixels
    used = max(int(values.max()).bit_length(), 8)
    if facts.defect == "blank" and used < bits and inspect(to_bytes(values, used)).defect is None:
        facts = facts._replace(defect=f"blank: 16-bit values that use {used} bits; set dataset.bits")
    return facts._replace(bits=used), pixels


def pixel_hash(pixels: Pixels) -> str:
    """SHA-256 of mode, shape and values: equal exactly where two images look the same to a network."""
    mode = {1: "L", 3: "RGB"}.get(channels := channels_of(pixels), f"{channels} channels")
    digest = hashlib.sha256(f"{mode} {pixels.shape[0]} {pixels.shape[1]}\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def is_file(path: Path) -> bool:
    """Whether a file is there; False of a name that no file can have, which is too long or holds a NUL."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def file_hash(path: Path) -> bytes:
    """SHA-256 of a file's bytes; of none where it cannot be opened, so that a dead link counts as one."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (OSError, ValueError):  # of a name that no file can have
        return hashlib.sha256().digest()


def is_blank(pixels: Pixels) -> bool:
    """Whether nothing can be seen: the standard deviation of every channel is below BLANK_DEVIATION.

    The squares of some values about their own mean add up to no more than those of all values. So a large image is not
    blank if the values of a coarse grid suffice, as they nearly always do.
    """
    step = 1 + math.isqrt(pixels.shape[0] * pixels.shape[1] // GRID)
    some = (pixels if pixels.ndim == 2 else pixels[..., 1])[::step, ::step].ravel()  # of RGB, the green values
    if _variance(some) * len(some) > BLANK_DEVIATION**2 * pixels.shape[0] * pixels.shape[1]:
        return False
    planes = [pixels] if channels_of(pixels) in (1, 3) else [pixels[..., index] for index in range(pixels.shape[2])]
    histograms = [PIL.Image.fromarray(plane).histogram() for plane in planes]
    counts = np.array(histograms, np.float64).reshape(-1, 256)  # (channel, value)
    values = np.arange(256.0)
    mean = counts @ values / counts.sum(1)
    variance = counts @ values**2 / counts.sum(1) - mean**2
    return bool(variance.max() < BLANK_DEVIATION**2)


def _variance(values: NDArray[np.uint8]) -> float:
    wide = values.astype(np.float64)  # which holds such sums of whole numbers exactly
    return float(wide @ wide) / len(wide) - (float(wide.sum()) / len(wide)) ** 2


def channels_of(pixels: Pixels) -> int:
    """The number of channels of decoded pixels."""
    return 1 if pixels.ndim == 2 else pixels.shape[2]


def _shown(pixels: Pixels, channels: Sequence[int]) -> Pixels:
    """The pixels as grey or RGB, by these of their channels."""
    count = channels_of(pixels)
    if not channels or count <= max(channels):
        channels = () if count in (1, 3) else (0,) if count == 2 else (0, 1, 2)
    if not channels:
        return pixels
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    return np.ascontiguousarray(planes[..., channels[0]] if len(channels) == 1 else planes[..., list(channels)])


def thumbnail(pixels: Pixels, picture: PIL.Image.Image | None = None) -> bytes:
    """A JPEG of 200 to 256 pixels on the longer side, or of all; of a small image, a PNG. picture: as of inspect().

    A photograph's JPEG of 224 pixels takes fewer bytes than its PNG of 64, which is not compressed (bench.thumbnails).
    Means of whole squares of pixels take a third of the time that any other size takes (bench.scan).
    """
    if max(pixels.shape[:2]) <= EXACT:
        return png(pixels)
    image = picture or PIL.Image.fromarray(pixels)
    image.info = {}  # a comment of the file would be written into the thumbnail
    factor = -(-max(image.size) // AROUND[1])
    if max(image.size) >= AROUND[0] * factor:
        image = image.reduce(factor)
    else:
        image.thumbnail((THUMBNAIL, THUMBNAIL), PIL.Image.Resampling.BILINEAR, reducing_gap=1.0)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue()


def png(pixels: Pixels) -> bytes:
    """A PNG file whose pixels are not compressed.

    Packing takes as long as all the rest of a small image's scan. FER2013's faces take 2,420 bytes in place of 1,739,
    and in the warehouse, where DuckDB packs them, 11 % more.
    """
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each row starts with the number of its filter, 0
    rows[:, 1:] = pixels.reshape(height, -1)
    head = _png_head(width, height, 0 if pixels.ndim == 2 else 2)
    return head + _png_part(b"IDAT", zlib.compress(rows.data, 0)) + PNG_END


@lru_cache
def _png_head(width: int, height: int, colour: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _png_part(b"IHDR", header)


def _png_part(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


PNG_END = _png_part(b"IEND", b"")
