"""A network that is there already, as an object: copied, hashed and described like one that a study names.

network = load(model, study.network)     # a copy in eval mode, float32, on the CPU; the model stays as it is
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from dissectdb.extract import study
from dissectdb.extract.models import given_code, networks, recipes, repeatability
from dissectdb.extract.models.given_code import WAY_OUT
from dissectdb.extract.models.networks import Network
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.text_files import one_line
from dissectdb.given import OBJECT, architecture_of


def load(model: object, settings: study.Network) -> Network:
    """The network of a given model. Raises StudyError if it cannot be copied, or a part of it cannot be hashed."""
    if not isinstance(model, nn.Module):
        raise StudyError(f"network: a {type(model).__name__} was given, not a torch module (torch.nn.Module)")
    if settings.weights is not None:
        raise StudyError("network.weights has no effect: the given model has its weights; leave it out")
    if not settings.architecture.startswith(OBJECT):
        raise StudyError(
            f"network.architecture: {settings.architecture} is code, and a model is given; write its class, "
            f"architecture = {architecture_of(model)!r}, or leave Given(model=…) out"
        )
    copied = _copied(_unwrapped(model))
    networks.refuse_nan(copied, f"network {settings.name}", None)
    recipe = recipes.find(settings, copied)
    images = repeatability.noise(recipe)[:2]

    def run() -> None:
        try:
            with torch.inference_mode():
                copied(images.clone())
        except Exception:  # any error of the user's code; it is reported when the logits are looked for
            return

    code = given_code.of_model(copied, run)
    stands_for_code = ["object", code.digest, networks.versions_of(code.packages)]
    return networks.describe(copied, settings, recipe, None, code=stands_for_code)


def _unwrapped(model: nn.Module) -> nn.Module:
    """The network within torch's wrappers for several devices and for compilation, whose layers have its names."""
    parallel = nn.DataParallel | nn.parallel.DistributedDataParallel
    while True:
        if isinstance(model, parallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def _copied(model: nn.Module) -> nn.Module:
    """A copy of a model in eval mode, float32, on the CPU. Raises StudyError."""
    if any(isinstance(parameter, nn.parameter.UninitializedParameter) for parameter in model.parameters()):
        raise StudyError("network: it has lazy layers that were never run; run it on one batch first")
    try:
        remembered = {id(value): value.detach().clone() for value in _derived(model)}
        copied = copy.deepcopy(model, remembered).cpu().float()
    except (TypeError, RuntimeError, AttributeError, pickle.PicklingError, NotImplementedError) as error:
        raise StudyError(f"network: it cannot be copied ({one_line(error, 120)}); {WAY_OUT}") from error
    repeatability.eval_mode(copied)
    return copied


def _derived(model: nn.Module) -> Iterator[Tensor]:
    """Tensors in the modules' attributes that were computed, as forward may leave some; deepcopy refuses these."""
    values = [value for module in model.modules() for value in vars(module).values()]
    while values:
        value = values.pop()
        if isinstance(value, Tensor) and value.grad_fn is not None:
            yield value
        elif isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list | tuple):
            values += value


def control(network: Network, settings: study.Network, kind: str) -> Network:
    """A copy of a given network with the name of its control, to be shuffled. Raises StudyError for fresh weights."""
    if kind == "initialised":
        raise StudyError(
            f"controls.networks: fresh weights need a function that builds {network.name} anew; take 'initialised' "
            f"out, or {WAY_OUT}"
        )
    return replace(network, name=settings.name, model=copy.deepcopy(network.model))
