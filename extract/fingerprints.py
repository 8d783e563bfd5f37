"""SHA-256 of content: what a thing is, whatever it is called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def of_values(*values: object) -> str:
    """Of anything that JSON can hold; a path counts by its text."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def of_array(values: np.ndarray) -> str:
    """Of an array's type, shape and bytes."""
    import numpy as np

    digest = hashlib.sha256(f"{values.dtype} {values.shape}\n".encode())
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def of_file(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_weights(state: Mapping[str, Tensor]) -> str:
    """Of a state dict: every tensor's name, type, shape and bytes, by name."""
    import torch  # here, because a run with nothing to do needs of_values without it

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
