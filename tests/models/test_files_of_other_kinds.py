"""Files that are not checkpoints: each is refused, and the message names its kind."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dissectdb.extract.models.checkpoints import read
from tests.support.mistakes import mistake


def zipped(*names: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "x")

    return make


def tarred(path: Path) -> None:
    (path.parent / "inner.pth").write_bytes(b"x")
    with tarfile.open(path, "w") as archive:
        archive.add(path.parent / "inner.pth", "inner.pth")


def exported(path: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), path)


def onnx_like(path: Path) -> None:
    path.write_bytes(b"\x08\x0a\x12\x07pytorch\x1a\x052.4.0:\x8c\x01\n\x0bfc")


def bytes_of(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "HDF5": (bytes_of(b"\x89HDF\r\n\x1a\n" + bytes(100)), "it is an HDF5 file, as Keras writes; export its weights"),
    "ONNX": (onnx_like, "it is an ONNX model"),
    "HTML": (bytes_of(b"\n<!DOCTYPE html><html><title>Quota exceeded"), "it is an HTML page; the download failed"),
    "XML": (bytes_of(b"<?xml version='1.0'?><Error><Code>AccessDenied"), "it is an XML file, perhaps a server's"),
    "LFS": (bytes_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n"), "it is a Git LFS p"),
    "source code": (bytes_of(b"# a net\nimport torch\n\nclass Net:\n    pass\n"), "it is source code; name the file"),
    "text": (bytes_of(b"accuracy 71.2\n"), "it is a text file"),
    "JSON": (bytes_of(b'{"epoch": 3}'), "it is JSON text"),
    "nothing": (bytes_of(b""), "it is empty; a download or a copy did not finish"),
    "npz": (lambda path: np.savez(path.open("wb"), a=np.ones(3)), "it is an archive of NumPy arrays (.npz)"),
    "npy": (lambda path: np.save(path.open("wb"), np.ones(3)), "it is a single NumPy array"),
    "TFLite": (bytes_of(b"\x1c\0\0\0TFL3" + bytes(50)), "it is a TensorFlow Lite model"),
    "TensorFlow": (bytes_of(bytes(60) + bytes.fromhex("57fb808b247547db")), "it is part of a TensorFlow checkpoint"),
    "list of TensorFlow": (bytes_of(b'model_checkpoint_path: "model.ckpt-3"\n'), "it is the list of a TensorFlow"),
    "GGUF": (bytes_of(b"GGUF\x03\0\0\0" + bytes(50)), "it is a GGUF file"),
    "Keras": (zipped("config.json", "model.weights.h5", "metadata.json"), "it is a Keras model"),
    "zip": (zipped("resnet/net.pth", "README"), "it is a zip archive of other files (resnet/net.pth, README); unp"),
    "tar": (tarred, "it is a tar archive; unpack it"),
    "gzip": (bytes_of(gzip.compress(b"x")), "it is compressed with gzip; unpack it"),
    "image": (bytes_of(b"\x89PNG\r\n\x1a\n" + bytes(50)), "it is a PNG image"),
    "a program": (exported, "it is a program of torch.export"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors", "net.ckpt"])
@pytest.mark.parametrize("what", KINDS)
def test_a_file_of_another_kind_is_refused_and_its_kind_is_named(tmp_path: Path, what: str, name: str) -> None:
    if what == "a program" and name != "net.pt":
        pytest.skip("torch.export writes other endings with a warning")
    make, said = KINDS[what]
    make(tmp_path / name)
    assert mistake(lambda: read(tmp_path / name)).startswith(f"{tmp_path / name}: not a readable checkpoint: {said}")
