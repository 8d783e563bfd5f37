"""The edits of a world as its warehouse holds them, and the edited network built and run by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from tests.support.worlds import NETWORK, World

CONTROLS, SHUFFLES = 12, 3  # as the study of a world says

OTHER_SCALES = "select layer, unit, 1 + unit / 4 as scale"


def copied(world: World, folder: Path) -> World:
    return World(Path(shutil.copytree(world.folder, folder / "world")))


def state(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["params"]


def edits(world: World) -> dict[str, dict]:
    """The rows of `edits`, by name."""
    return {row["name"]: row for row in world.rows("select * from edits order by edit_id")}


def saved(world: World) -> dict[str, dict]:
    """The rows of `networks` that an edit made, by the edit's name."""
    rows = world.rows(
        """
        select networks.*, edits.name as edit from networks inner join edits on networks.edit_id = edits.edit_id
        """
    )
    return {row["edit"]: row for row in rows}


def scales(world: World, edit_id: int, column: str = "scale") -> dict[tuple[str, int], float]:
    """The scales that were applied, by (layer, unit)."""
    rows = world.rows(
        f"""
        select layer, unit, {column} as scale from edit_scales
        inner join named_neurons on edit_scales.neuron_id = named_neurons.neuron_id where edit_id = {edit_id}
        """
    )
    return {(row["layer"], row["unit"]): row["scale"] for row in rows}


def array(world: World, edit: dict, column: str = "scale") -> np.ndarray:
    """The scales of an edit of one layer, (unit,)."""
    scale_of = scales(world, edit["edit_id"], column)
    return np.array([scale_of[edit["layer"], unit] for unit in range(len(scale_of))])


def scaled(world: World, edit_id: int) -> dict[str, torch.Tensor]:
    """The state of the original network with the rows and biases scaled as `edit_scales` says."""
    values = {key: tensor.clone() for key, tensor in state(world.folder / "net.pt").items()}
    for key, column in (("weight", "scale"), ("bias", "bias_scale")):
        for (layer, unit), scale in scales(world, edit_id, column).items():
            values[f"{layer}.{key}"][unit] *= torch.tensor(scale, dtype=torch.float32)
    return values


def logits(values: dict[str, torch.Tensor], images: list[Path]) -> torch.Tensor:
    """The logits of image files, (image, class), by a forward pass written here."""
    import PIL.Image

    scope: dict = {}
    exec(NETWORK, scope)
    model = scope["make"]()
    model.load_state_dict(values)
    pixels = np.stack([np.asarray(PIL.Image.open(path)) for path in images])[:, None] / np.float32(255)
    with torch.inference_mode():
        return model((torch.from_numpy(pixels) - 0.5) / 0.25)


# ---------------------------------------------------------------- controls


def controls(world: World, kind: str) -> list[dict]:
    return [row for row in edits(world).values() if row["control"] == kind]
