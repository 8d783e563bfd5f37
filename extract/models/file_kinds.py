"""Tell the kind of a file by its content, because a file called `weights.pt` may be anything.

foreign_kind(path)   # "an HTML page; the download failed, …", or None for a file that may hold weights for torch
is_safetensors(path)

Reads the first and last bytes of a file and the names in an archive; unpacks and runs nothing.
"""

from __future__ import annotations

import codecs
import re
import tarfile
import zipfile
from pathlib import Path

HEAD = 4096  # bytes read from the start of a file

TO_TORCH = "export its weights to safetensors, or to a state dict of torch"
UNPACK = "unpack it and name the checkpoint within"
MAGIC: list[tuple[bytes, str]] = [
    (b"\x89HDF\r\n\x1a\n", f"an HDF5 file, as Keras writes; {TO_TORCH}"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch that with git lfs pull"),
    (b"GGUF", f"a GGUF file, as llama.cpp reads; {TO_TORCH}"),
    (b"\x93NUMPY", "a single NumPy array, not a checkpoint"),
    (b"MATLAB 5.0", f"a MATLAB file; {TO_TORCH}"),
    (b"\x1f\x8b", f"compressed with gzip; {UNPACK}"),
    (b"BZh", f"compressed with bzip2; {UNPACK}"),
    (b"\xfd7zXZ\0", f"compressed with xz; {UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"compressed with zstd; {UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {UNPACK}"),
    (b"Rar!", f"a RAR archive; {UNPACK}"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
    (b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1", f"a file of Lua Torch; {TO_TORCH}"),
]
LEVELDB_END = bytes.fromhex("57fb808b247547db")  # ends the .index of a TensorFlow checkpoint


def is_safetensors(path: Path) -> bool:
    """Whether the file begins like safetensors: with the length of a header, then JSON."""
    with path.open("rb") as file:
        head = file.read(9)
    length = int.from_bytes(head[:8], "little")
    return len(head) == 9 and head[8:] == b"{" and length + 8 <= path.stat().st_size


def foreign_kind(path: Path) -> str | None:
    """What the file is and what to do, if it is known to hold no weights that torch can read; else None.

    Raises OSError, and zipfile's errors for a damaged archive.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD)
        file.seek(max(size - 8, 0))
        end = file.read(8)
    if not size:
        return "empty; a download or a copy did not finish"
    if kind_by_magic := next((kind for magic, kind in MAGIC if head.startswith(magic)), None):
        return kind_by_magic
    if head[4:8] == b"TFL3":
        return f"a TensorFlow Lite model; {TO_TORCH}"
    if end == LEVELDB_END or re.search(r"\.data-\d+-of-\d+$", path.name):
        return f"part of a TensorFlow checkpoint; {TO_TORCH}"
    if head[0] == 8 and len(head) > 2 and head[1] < 32 and head[2] in (0x12, 0x1A, 0x22, 0x3A, 0x42):
        return f"a TensorFlow graph; {TO_TORCH}" if path.suffix == ".pb" else f"an ONNX model; {TO_TORCH}"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _archive(archive.namelist())
    if head[257:262] == b"ustar" and not {"storages", "tensors", "pickle"} & set(_names_in_tar(path)):
        return f"a tar archive; {UNPACK}"
    return _text(head, path.suffix)


def _archive(names: list[str]) -> str | None:
    if any(name.endswith("data.pkl") for name in names):
        return None  # torch.save wrote it, or torch.jit.save, which torch names itself
    if names and all(name.endswith(".npy") for name in names):
        return f"an archive of NumPy arrays (.npz); {TO_TORCH}"
    if any(name.endswith(".weights.h5") for name in names):
        return f"a Keras model; {TO_TORCH}"
    if any(name.endswith("archive_format") for name in names):
        return "a program of torch.export; save the state_dict() of its module with torch.save"
    inside = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"a zip archive of other files ({inside}); {UNPACK}" if names else f"an empty zip archive; {UNPACK}"


def _names_in_tar(path: Path) -> list[str]:
    """The first names in a tar archive; empty if it is damaged, which torch reports later."""
    try:
        with tarfile.open(path, "r:") as archive:
            return [member.name for _, member in zip(range(100), archive, strict=False)]
    except (tarfile.TarError, OSError, ValueError):
        return []


def _text(head: bytes, suffix: str) -> str | None:
    """What a text file is; None if it is not text."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < HEAD)
    except UnicodeDecodeError:
        return None
    if any(not letter.isprintable() and letter not in "\r\n\t\f\ufeff" for letter in text):
        return None
    if re.match(r"[c(\]}]", text) and text.rstrip().endswith("."):
        return None  # a pickle of protocol 0, which is text
    start = text.lstrip("\ufeff \r\n\t")[:200].lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<!--")):
        return "an HTML page; the download failed, so open the address in a browser"
    if start.startswith("<"):
        return "an XML file, perhaps a server's message that the download failed"
    if suffix in (".py", ".ipynb") or re.search(r"^\s*(import|from|def|class) \w", text, re.MULTILINE):
        return "source code; name the file of weights, and the code in network.architecture"
    if start.startswith("model_checkpoint_path"):
        return f"the list of a TensorFlow checkpoint's files; {TO_TORCH}"
    if start.startswith(("{", "[")):
        return "JSON text, not a file of weights"
    return "a text file, not a file of weights"
