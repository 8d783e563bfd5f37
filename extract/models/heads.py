"""Attention heads as units: how much each head adds to its layer's output.

heads = find(model, ["blocks.0.attn"], (3, 224, 224))["blocks.0.attn"]
heads.count, heads.hooked                     # 12, "blocks.0.attn.proj"
heads.norms(module, inputs, named)            # (image, token, head), from a hook on heads.hooked

A layer's output is W [z1, …, zH] + b: W is its output projection and zh the output of head h. A head's share is Wh zh,
and its unit is the Euclidean norm of that, at each token. Wh zh is what the next layer sees of a head. zh alone is not:
turning zh and Wh against each other changes its numbers and nothing else in the network.

A projection that is a module is listened to. torch's MultiheadAttention computes everything in one function, so that zh
is computed once more from its inputs. Both are tried on noise: the shares and b must sum to the layer's output.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dissectdb.extract.study import StudyError

COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads")  # attributes with the number of heads
TOLERANCE = 1e-4  # of the sum of the shares, relative to the largest output


@dataclass(frozen=True)
class Heads:
    """The heads of an attention layer. hooked: the module that is listened to, the projection or the layer itself."""

    hooked: str
    count: int

    def norms(self, module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
        """The norm of each head's share of the output, (…, head); the other axes are the output's.

        module: the hooked one, with its inputs.
        """
        outputs, weight = _before_projection(module, inputs, named)
        of_heads = zip(outputs.chunk(self.count, -1), weight.chunk(self.count, 1), strict=True)
        return torch.stack([(output @ rows.T).norm(dim=-1) for output, rows in of_heads], -1)


def find(model: nn.Module, layers: Sequence[str], image_shape: Sequence[int]) -> dict[str, Heads | StudyError]:
    """The heads of each layer, or why it has none that can be recorded, from a pass over two images of noise."""
    if not layers:
        return {}
    modules = dict(model.named_modules(remove_duplicate=False))
    parameter = next(model.parameters(), torch.zeros(0))
    images = torch.rand(2, *image_shape, generator=torch.Generator().manual_seed(0)).to(parameter)
    found: dict[str, Heads | StudyError] = {}
    handles = []
    for layer in dict.fromkeys(layers):
        listening = _Listening(layer, modules[layer], found)
        linear = [(n, m) for n, m in modules[layer].named_modules(prefix=layer) if isinstance(m, nn.Linear)]
        handles += [m.register_forward_hook(listening.to_projection(name), with_kwargs=True) for name, m in linear]
        handles += [modules[layer].register_forward_hook(listening.to_layer, with_kwargs=True)]
    try:
        with torch.inference_mode():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


class _Listening:
    """Hooks that find the projection of a layer: the linear layer that runs last and whose output is the layer's."""

    def __init__(self, layer: str, module: nn.Module, found: dict[str, Heads | StudyError]) -> None:
        self.layer, self.found = layer, found
        self.counts = {number for part in module.modules() for number in _counts(part)}
        self.last: tuple[str, nn.Linear, tuple[Any, ...], dict[str, Any], Tensor] | None = None

    def to_projection(self, name: str) -> Any:
        def hook(module: nn.Linear, inputs: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> None:
            self.last = (name, module, inputs, named, output)

        return hook

    def to_layer(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: object) -> None:
        """Enter the layer's heads, or the reason why they cannot be recorded."""
        try:
            self.found[self.layer] = self._heads(module, inputs, named, output)
        except StudyError as error:
            self.found[self.layer] = error

    def _heads(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: object) -> Heads:
        if len(self.counts) != 1:
            raise self._refused(
                f"{type(module).__name__} is no attention layer" if not self.counts else "it has several"
            )
        [count] = self.counts
        while isinstance(output, tuple | list) and output:
            output = output[0]
        if isinstance(module, nn.MultiheadAttention):
            heads, bias = Heads(self.layer, count), module.out_proj.bias
        else:
            if self.last is None or not isinstance(output, Tensor) or not torch.equal(self.last[-1], output):
                raise self._refused(
                    f"{type(module).__name__} does not return what a linear layer in it computes last; name the module "
                    "with the output projection"
                )
            name, module, inputs, named, _ = self.last
            heads, bias = Heads(name, count), self.last[1].bias
        try:
            outputs, weight = _before_projection(module, inputs, named)
        except NotImplementedError as error:
            raise self._refused(f"they cannot be computed from its inputs: {error}") from None
        if weight.shape[1] % count:
            raise self._refused(
                f"its projection takes {weight.shape[1]} numbers, which {count} heads do not share evenly"
            )
        assert isinstance(output, Tensor), "every attention layer returns one"
        total = nn.functional.linear(outputs, weight, bias)
        if total.shape != output.shape or (total - output).abs().max() > TOLERANCE * output.abs().max():
            raise self._refused(f"the shares of {count} heads do not sum to its output")
        return heads

    def _refused(self, why: str) -> StudyError:
        return StudyError(f"network.layers: {self.layer} has no heads that can be recorded: {why}")


def _counts(module: nn.Module) -> list[int]:
    """The number of heads that a module states, if any."""
    return [number for name in COUNTS if type(number := getattr(module, name, None)) is int and number > 0][:1]


def _before_projection(module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The outputs of all heads, (…, head × channel), and the weight of the projection. module: as in Heads.norms.

    Raises NotImplementedError for a form of MultiheadAttention that vision networks do not use.
    """
    if not isinstance(module, nn.MultiheadAttention):
        return inputs[0] if inputs else named["input"], module.get_parameter("weight")
    given = inspect.signature(nn.MultiheadAttention.forward).bind(module, *inputs, **named).arguments
    if any(given.get(mask) is not None for mask in ("key_padding_mask", "attn_mask")):
        raise NotImplementedError("it has a mask")
    query, key, value = given["query"], given["key"], given["value"]
    if module.in_proj_weight is None or module.bias_k is not None or module.add_zero_attn or query.ndim != 3:
        raise NotImplementedError("it has keys or values of its own")
    weights, bias_of_all = module.in_proj_weight.chunk(3), module.in_proj_bias
    biases: Sequence[Tensor | None] = [None] * 3 if bias_of_all is None else bias_of_all.chunk(3)
    projected = [
        nn.functional.linear(tokens if module.batch_first else tokens.transpose(0, 1), weight, bias)
        .unflatten(-1, (module.num_heads, -1))
        .transpose(1, 2)
        for tokens, weight, bias in zip((query, key, value), weights, biases, strict=True)
    ]  # each (image, head, token, channel)
    outputs = nn.functional.scaled_dot_product_attention(*projected).transpose(1, 2).flatten(2)
    return outputs if module.batch_first else outputs.transpose(0, 1), module.out_proj.weight
