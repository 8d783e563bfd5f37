"""Check that a network gives the same answers when it is built again and gets the same weights.

refuse_other_answers("net.py:make", model, again, images, output, seeded=False)   # StudyError names what differs

A file of weights holds only parameters and saved buffers. Anything else that is drawn at random while the network is
built differs in the next run: plain tensors, layers in a plain list, a random order of channels, unsaved buffers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from dissectdb.extract.models import repeatability
from dissectdb.extract.study import StudyError

OF_TORCH = set(vars(nn.Module()))  # attributes of every module: parameters, hooks and the like
MAX_NAMED = 3  # attributes that a message names


def refuse_other_answers(
    what: str, model: nn.Module, again: nn.Module, images: Tensor, output: object, seeded: bool
) -> None:
    """Raises StudyError if two builds of a network give different outputs, or different outputs of modules.

    output: of `model`, in eval mode, for the images. seeded: both were built with network.seed. A network that cannot
    be run, or that answers differently in each pass, is not refused here: logits.py refuses it.
    """
    repeatability.eval_mode(again)
    names = differing(model, again)
    try:
        with torch.inference_mode():
            if not names and repeatability.same_output(output, again(images.clone()), len(images)):
                return  # the usual case, without the watched passes, which take several times as long
        first, repeated, other = (repeatability.watch(network, images) for network in (model, model, again))
    except Exception:  # whatever a user's network raises
        return
    if not repeatability.same(first, repeated) or repeatability.same(first, other):
        return
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    named = f": {', '.join(names[:MAX_NAMED])}{more}" if names else ""
    if seeded:
        way_out = "network.seed seeds torch, numpy's global generator and Python's random: draw from one of these"
    else:
        way_out = (
            "make it a parameter or a buffer that the file of weights holds (layers belong into an nn.ModuleList), "
            "or draw it from a generator with a seed of its own"
        )
    raise StudyError(
        f"network: the answers of {what} depend on random numbers that are drawn while it is built and that are not "
        f"in its weights{named}; {way_out}"
    )


def differing(model: nn.Module, again: nn.Module) -> list[str]:
    """Attributes of the modules, outside their saved weights, that differ between two builds."""
    names = []
    modules_again = dict(again.named_modules())
    for path, module in model.named_modules():
        if path not in modules_again:
            continue
        own, attributes_again = _unsaved(module), _unsaved(modules_again[path])
        names += [
            f"{path}.{key}" if path else key
            for key in own
            if key not in attributes_again or not _equal(own[key], attributes_again[key])
        ]
    return names


def _unsaved(module: nn.Module) -> dict[str, object]:
    """A module's attributes and its unsaved buffers."""
    plain = {key: value for key, value in vars(module).items() if key not in OF_TORCH}
    return plain | {key: module._buffers.get(key) for key in module._non_persistent_buffers_set}


def _equal(one: object, other: object) -> bool:
    """Whether two values are equal. Objects of other kinds, such as functions, count as equal."""
    if isinstance(one, nn.Module) and isinstance(other, nn.Module):
        return _equal(one.state_dict(), other.state_dict())
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and bool(torch.isclose(one, other, rtol=0, atol=0, equal_nan=True).all())
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return list(one) == list(other) and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, bool | int | float | str | bytes | np.generic):
        return one == other
    return True
