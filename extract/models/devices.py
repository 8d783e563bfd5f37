"""The device that a study runs on, and the precision of its arithmetic.

device = prepare(study)     # sets torch's global switches from the study's settings
choose("auto")              # a CUDA GPU, else Apple's, else the CPU
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dissectdb.extract.study import Study, StudyError


def prepare(study: Study) -> torch.device:
    """The device of a study; also sets torch's switches. Raises StudyError if this machine has no such device."""
    be_deterministic(study.deterministic)
    allow_tf32(study.network is not None and study.network.precision == "tf32")
    return choose(study.device)


def choose(name: str) -> torch.device:
    """auto: a CUDA GPU, else Apple's, else the CPU. Raises StudyError if this machine has no such device."""
    is_available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, available in is_available.items() if available)
    if not is_available[name]:
        present = ", ".join(kind for kind, available in is_available.items() if available)
        raise StudyError(f"device {name!r} is not available; there is {present}, or auto")
    return torch.device(name)


def be_deterministic(wanted: bool) -> None:
    """If wanted, let torch use only operations that give the same bits each time on a GPU. On a CPU all do.

    Afterwards an operation without a deterministic version raises an error of torch that names it.
    See torch.use_deterministic_algorithms.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its start; costs 8 MB per handle
    torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.benchmark = False  # it would choose algorithms by timing them, and timings differ


def allow_tf32(allowed: bool) -> None:
    """If allowed, let a GPU round the factors of float32 products to 10 bits: several times as fast.

    Torch's own default allows it for convolutions, which puts activations off by 1e-3.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Within it a GPU rounds no factors. On a CPU, where several threads compute, it leaves the switches alone."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    if device.type != "cuda" or not allowed:
        yield
        return
    allow_tf32(False)
    try:
        yield
    finally:
        allow_tf32(True)
