"""What a study runs on, and how exactly.

device = prepare(study)     # sets torch's switches as the study asks
choose("auto")              # a CUDA GPU, else Apple's, else the CPU
"""

from __future__ import annotations

import os

import torch

from dissectdb.extract.study import Study, StudyError


def prepare(study: Study) -> torch.device:
    """The device of a study, with torch told how exact to be. Raises StudyError for one that is not here."""
    be_deterministic(study.deterministic)
    allow_tf32(study.network is not None and study.network.precision == "tf32")
    return choose(study.device)


def choose(name: str) -> torch.device:
    """auto: a CUDA GPU, else Apple's, else the CPU. Raises StudyError for a device that is not here."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, available in here.items() if available)
    if not here[name]:
        raise StudyError(
            f"device {name!r} is not here; there is {', '.join(k for k, ok in here.items() if ok)}, or auto"
        )
    return torch.device(name)


def be_deterministic(wanted: bool) -> None:
    """Whether torch may use only what gives the same bits each time on a GPU; on a CPU it does so anyhow.

    What has no such form raises torch's error, which names it. See torch.use_deterministic_algorithms.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts; costs 8 MB a handle
    torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.benchmark = False  # it would choose by timings, which differ


def allow_tf32(allowed: bool) -> None:
    """Whether a GPU may round the factors of products in float32 to 10 bits, which it does several times as fast.

    Torch allows it for convolutions unless told otherwise; activations are then off by 1e-3.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
