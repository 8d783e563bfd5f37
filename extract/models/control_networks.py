"""Control networks: the study's network with shuffled or with fresh weights. They show what a score is worth.

control = control_network(network, study.network, "shuffled", seed=0)

A scorer that calls the neurons of such a network interpretable, too, says little about the trained one (Heap et al.
2025, arXiv 2501.17727).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from dissectdb.extract import study
from dissectdb.extract.models import given_model, networks
from dissectdb.extract.models.networks import Network
from dissectdb.extract.study import StudyError
from dissectdb.given import OBJECT

Kind = Literal["shuffled", "initialised"]


@dataclass(frozen=True)
class ControlOf:
    """What a control network was made of: the fingerprint of the original, how, and the seed."""

    original: str
    kind: Kind
    seed: int


def control_network(network: Network, settings: study.Network, kind: Kind, seed: int) -> Network:
    """The control of a loaded network, built anew from its settings.

    shuffled: the numbers of each weight and bias change places within it; buffers, such as the statistics of batch
    norms, stay. initialised: the weights are those that the architecture draws. Raises StudyError if the control has
    the weights of the network itself.
    """
    named = settings.model_copy(update={"name": f"{network.name} ({kind})", "classes": network.classes})
    if kind == "initialised":
        named = named.model_copy(update={"weights": "random", "seed": seed})
    is_given = settings.architecture.startswith(OBJECT)
    control = given_model.control(network, named, kind) if is_given else networks.load(named, network.recipe)
    if kind == "shuffled":
        shuffle(control.model, seed)
        control = networks.describe(control.model, named, control.recipe, control.weights, code=control.code)
    control = networks.with_answer(control, network.answer)
    if control.fingerprint == network.fingerprint:
        if kind == "shuffled":
            reason = "each weight has one value only"
        elif settings.weights == "random":
            reason = "it has fresh weights of this seed itself; take the control out, or set another controls.seed"
        else:
            reason = "its function loads them itself"
        raise StudyError(f"controls.networks: the {kind} network has the same weights as {network.name}: {reason}")
    return replace(control, control=ControlOf(network.fingerprint, kind, seed))


@torch.no_grad()
def shuffle(model: nn.Module, seed: int) -> None:
    """Put the numbers of each parameter into random order, in place."""
    random = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        order = torch.randperm(parameter.numel(), generator=random)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))
