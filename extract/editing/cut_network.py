"""Cut a network at a layer, so that the part before it runs once per image and only the part after it once per edit.

cut = cut_at(network.model, [tap], (1, 40, 40))        # at the first of the layers that an edit scales
kept = cut.before(images)                              # the layer's output, and all else that the rest reads
logits = cut.after(kept, {"lin2": Scaling(s, t)})      # (image, class), as of the network with scaled weights
logits = cut.after_all(kept, [change, change, …])      # (edit, image, class); as matrix products if possible

Scaling the weight rows of a layer is linear in its output (docs/methods.md, section 6): with weights times s and biases
times t, z' = s (z - b) + t b. torch.fx cuts the network if it can trace its code. Otherwise the whole network runs for
every edit, with a hook that replaces the layer's output: the same logits, more slowly.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dissectdb.extract.models.hooks import Tap, first_tensor
from dissectdb.extract.models.logits import PLAIN, Answer, part_of
from dissectdb.extract.study import StudyError

TOLERANCE = 1e-4  # of logits; a cut that differs more is not used
MAX_SHARED_SCALES = 4  # edits with at most so many different scales share matrix products
EDITS_AT_ONCE = 128  # edits in one matrix product


@dataclass(frozen=True)
class Scaling:
    """The factors of a layer's weight rows and of its biases, (unit,) each."""

    weight: Tensor
    bias: Tensor


Change = Mapping[str, Scaling]  # layer → how it is scaled
Kept = tuple[Tensor, ...]  # what Cut.before returns, each with the images as first axis


@dataclass(frozen=True)
class Cut:
    """A cut network. start: everything up to the first layer. rest: everything after it; None: not cut, all runs."""

    model: nn.Module
    taps: Mapping[str, Tap]
    first: str
    start: nn.Module | None
    rest: nn.Module | None
    last: LastLayer | None = None
    answer: Answer = PLAIN

    @property
    def is_slow(self) -> bool:
        """Whether the whole network runs for every edit."""
        return self.rest is None

    def before(self, images: Tensor) -> Kept:
        """The layer's output for prepared images, and all else that the rest of the network reads."""
        if self.start is None:
            return (images,)
        return tuple(tensor[: len(images)] for tensor in self.start(self.answer.padded(images)))

    def after(self, kept: Kept, change: Change, amounts: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits (image, class) of the changed network.

        amounts: layer → (image, unit), the share of the change that is applied, 0 to 1. Default: all of it.
        """
        images = len(kept[0])
        kept = tuple(map(self.answer.padded, kept))
        amounts = {layer: self.answer.padded(amount) for layer, amount in (amounts or {}).items()}
        if self.rest is None:
            with self._hooked(self.model, change, amounts):
                return self.answer.logits(self.model(kept[0]))[:images]
        output = self._scaled(self.first, kept[0], change, amounts)
        later_change = {layer: scaling for layer, scaling in change.items() if layer != self.first}
        with self._hooked(self.rest, later_change, amounts):
            return self.answer.logits(self.rest(output, *(tensor.clone() for tensor in kept[1:])))[:images]

    def after_all(self, kept: Kept, changes: Sequence[Change]) -> Tensor:
        """Logits (edit, image, class) of each change."""
        if self.last is None or any(set(change) - {self.first} for change in changes):
            return torch.stack([self.after(kept, change) for change in changes])
        module = self.model.get_submodule(self.first)
        scalings = [change.get(self.first) or unchanged(module, kept[0].shape[1]) for change in changes]
        return self.answer.as_logits(self.last.outputs(kept[0], getattr(module, "bias", None), scalings))

    def _scaled(self, layer: str, output: Tensor, change: Change, amounts: Mapping[str, Tensor]) -> Tensor:
        """The output of a changed layer, always as a new tensor, because later operations may work in place."""
        if layer not in change:
            return output.clone()
        axis = self.taps[layer].unit_axis
        shape = [1] * output.ndim
        shape[axis] = -1
        bias = getattr(self.model.get_submodule(layer), "bias", None)
        weight, amount = change[layer].weight.view(shape), amounts.get(layer)
        if bias is None:
            scaled = output * weight
        else:
            bias = bias.detach().view(shape)
            scaled = (output - bias) * weight + bias * change[layer].bias.view(shape)
        if amount is None:
            return scaled
        shape[self.taps[layer].image_axis] = len(amount)
        return output + amount.view(shape) * (scaled - output)

    @contextmanager
    def _hooked(self, model: nn.Module, change: Change, amounts: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside the block, hooks replace the outputs of the changed layers."""

        def replace(layer: str) -> Callable[..., object]:
            def hook(module: nn.Module, inputs: tuple, output: object) -> object:
                scaled = self._scaled(layer, first_tensor(output, layer), change, amounts)
                return (scaled, *output[1:]) if isinstance(output, tuple | list) else scaled

            return hook

        handles = [model.get_submodule(layer).register_forward_hook(replace(layer)) for layer in change]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def unchanged(module: nn.Module, units: int) -> Scaling:
    """The scaling that leaves a layer as it is."""
    ones = torch.ones(units, device=next(module.parameters()).device)
    return Scaling(ones, ones)


# ---------------------------------------------------------------- before a linear head


@dataclass(frozen=True)
class LastLayer:
    """What follows a layer (image, unit) if it is only elementwise functions and then a linear head."""

    hidden: nn.Module  # the elementwise functions, from the layer's output to the head's input
    head: nn.Linear

    def outputs(self, output: Tensor, bias: Tensor | None, scalings: Sequence[Scaling]) -> Tensor:
        """(edit, image, class): the head's outputs for each edit. Edits with few different scales share hidden values.

        Let h_v be the hidden values if all units are scaled by v, and m_v the mask of the units that an edit scales by
        v. The edit's outputs are Σ_v h_v (m_v W), so one matrix product per v computes many edits.
        """
        classes, device = len(self.head.weight), output.device
        out = torch.zeros(len(scalings), len(output), classes, device=device)
        bias = torch.zeros(output.shape[1], device=device) if bias is None else bias.detach()
        shared: dict[tuple[float, float], list[tuple[int, Tensor]]] = defaultdict(list)
        for edit, scaling in enumerate(scalings):
            pairs, pair_index = _pairs(scaling)
            if len(pairs) > MAX_SHARED_SCALES:
                hidden = self.hidden((output - bias) * scaling.weight + bias * scaling.bias)
                out[edit] = hidden @ self.head.weight.T
                continue
            for index, pair in enumerate(pairs.tolist()):
                shared[tuple(pair)].append((edit, pair_index == index))
        for (weight, shift), members in shared.items():
            hidden = self.hidden((output - bias) * weight + bias * shift)
            for first in range(0, len(members), EDITS_AT_ONCE):
                chunk = members[first : first + EDITS_AT_ONCE]
                masked = torch.cat([self.head.weight * units for _, units in chunk])
                product = (hidden @ masked.T).view(len(output), len(chunk), classes)
                out[[edit for edit, _ in chunk]] += product.transpose(0, 1)
        return out if self.head.bias is None else out + self.head.bias


def _pairs(scaling: Scaling) -> tuple[Tensor, Tensor]:
    """The different (weight, bias) scales, (pair, 2), and for each unit the index of its pair."""
    numbers = torch.stack([scaling.weight, scaling.bias], 1)
    keys = torch.view_as_complex(numbers).view(torch.int64)  # two float32 as one int64, which sorts ten times as fast
    pairs, pair_index = keys.unique(return_inverse=True)
    return torch.view_as_real(pairs.view(torch.complex64)), pair_index


ELEMENTWISE_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh, nn.Sigmoid, nn.Softplus,
    nn.Identity, nn.modules.dropout._DropoutNd, nn.BatchNorm1d,
)  # fmt: skip
ELEMENTWISE_FUNCTIONS = {
    F.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.hardswish, F.dropout, F.softplus,
    torch.relu, torch.relu_, torch.tanh, torch.sigmoid, F.relu_,
}  # fmt: skip


def _last_layer(rest: fx.GraphModule, output: Tensor, answer: Answer) -> LastLayer | None:
    """The LastLayer of an output (image, unit); None if anything else follows it."""
    nodes: list[fx.Node] = list(rest.graph.nodes)
    result = nodes.pop()
    try:
        logits = part_of(result.args[0], answer.part)
    except StudyError:  # the part does not exist before the network runs
        return None
    if output.ndim != 2 or sum(node.op == "placeholder" for node in nodes) != 1:
        return None
    head = nodes[-1]
    chain = [node for node in nodes if node.op not in ("placeholder", "get_attr") and node is not head]
    module = rest.get_submodule(str(head.target)) if head.op == "call_module" else None
    if not isinstance(module, nn.Linear) or logits is not head or not all(_single(rest, n) for n in chain):
        return None
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in nodes[:-1]:
        copies[node] = graph.node_copy(node, lambda input_node: copies[input_node])
    graph.output(copies[head.all_input_nodes[0]])
    return LastLayer(fx.GraphModule(rest, graph), module)


def _single(rest: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node computes each unit from that unit alone."""
    if len(node.all_input_nodes) != 1:
        return False
    if node.op == "call_module":
        return isinstance(rest.get_submodule(str(node.target)), ELEMENTWISE_MODULES)
    if node.op == "call_method":
        return node.target in ("relu", "relu_", "sigmoid", "tanh", "contiguous")
    return node.op == "call_function" and node.target in ELEMENTWISE_FUNCTIONS


# ---------------------------------------------------------------- cutting


def cut_at(model: nn.Module, taps: Sequence[Tap], image_shape: Sequence[int], answer: Answer = PLAIN) -> Cut:
    """Cut a network at the first of the taps.

    model: in eval mode. taps: in running order. image_shape: (channel, H, W). The cut is tried on two images of noise;
    if its logits differ, the returned Cut runs the whole network.
    """
    by_name = {tap.layer: tap for tap in taps}
    first = taps[0].layer
    uncut = Cut(model, by_name, first, None, None, answer=answer)
    device = next(model.parameters()).device
    images = torch.rand(2, *image_shape, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        expected = answer.run(model, images)
        try:
            weighted = [tap.layer for tap in taps if hasattr(model.get_submodule(tap.layer), "weight")]
            start, rest = _parts(model, first, {*weighted, first})
            kept = start(images)
            if not all(isinstance(tensor, Tensor) and tensor.ndim and len(tensor) == 2 for tensor in kept):
                return uncut
            cut = Cut(model, by_name, first, start, rest, _last_layer(rest, kept[0], answer), answer)
            logits = [cut.after(kept, {}), *cut.after_all(kept, [{}])]
        except Exception:  # torch.fx and networks may raise anything; the whole network is used then
            return uncut
    is_close = all(torch.allclose(tensor, expected, rtol=TOLERANCE, atol=TOLERANCE) for tensor in logits)
    return cut if is_close and by_name[first].image_axis == 0 else uncut


class _Tracer(fx.Tracer):
    """Does not trace into the given layers, whatever their class, because their outputs are what is changed."""

    def __init__(self, layers: Collection[str]) -> None:
        super().__init__()
        self.layers = layers

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return name in self.layers or super().is_leaf_module(module, name)


def _parts(model: nn.Module, layer: str, layers: Collection[str]) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The part up to the layer, which also computes all else that the rest reads, and the rest. Raises ValueError.

    layers: this one and those that may be changed with it. The rest runs them even if they do not depend on it.
    """
    traced = fx.GraphModule(model, _Tracer(layers).trace(model))
    nodes = list(traced.graph.nodes)
    calls = [node for node in nodes if node.op == "call_module" and node.target in layers]
    if [node.target for node in calls].count(layer) != 1 or {node.target for node in calls} != {*layers}:
        raise ValueError(f"{layer} is not called once, or another layer is not")
    calls.sort(key=lambda node: node.target != layer)
    later = set(calls[1:])
    for node in nodes:
        if any(input_node is calls[0] or input_node in later for input_node in node.all_input_nodes):
            later.add(node)
    if calls[0] in later:
        raise ValueError(f"{layer} needs a layer that runs after it")
    crossing = [calls[0]]
    crossing += [
        node
        for node in nodes
        if node not in later and node is not calls[0] and node.op != "get_attr" and any(u in later for u in node.users)
    ]
    start, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in nodes:
        if node not in later and node.op != "output":
            copies[node] = start.node_copy(node, lambda input_node: copies[input_node])
    start.output(tuple(copies[node] for node in crossing))
    start.eliminate_dead_code(_has_effects)
    first = _fused(fx.GraphModule(traced, start))
    rest, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for index, node in enumerate(crossing):
        copies[node] = rest.placeholder(f"kept_{index}")
    for node in nodes:
        if node.op == "get_attr" and any(user in later for user in node.users):
            copies[node] = rest.node_copy(node, lambda input_node: copies[input_node])
    for node in nodes:
        if node in later:
            copies[node] = rest.node_copy(node, lambda input_node: copies[input_node])
    return first, fx.GraphModule(traced, rest)


def _fused(module: fx.GraphModule) -> fx.GraphModule:
    """Fold batch norms into the convolutions before them, which saves a tenth of the time up to a late layer."""
    modules = dict(module.named_modules())
    for node in list(module.graph.nodes):
        norm = modules.get(str(node.target))
        if node.op != "call_module" or not isinstance(norm, nn.BatchNorm2d):
            continue
        before = node.all_input_nodes[0]
        if before.op != "call_module":
            continue
        if type(modules[before.target]) is nn.Conv2d and len(before.users) == 1 and norm.running_var is not None:
            name = f"{before.target}_fused".replace(".", "_")
            module.add_submodule(name, fuse_conv_bn_eval(modules[before.target], norm))
            before.target = name
            node.replace_all_uses_with(before)
            module.graph.erase_node(node)
    module.recompile()
    return module


IN_PLACE = {operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem}


def _has_effects(node: fx.Node) -> bool:
    """Whether a node must stay even if its result is not used, because it may work in place."""
    return node.op == "call_module" or node.is_impure() or node.target in IN_PLACE or str(node.target).endswith("_")
