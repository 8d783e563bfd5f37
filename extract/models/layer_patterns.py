"""Find the modules that the patterns of a study's layers stand for.

layers = resolve(model, study.network.layers, (3, 224, 224))   # the layers by name; those without a pattern stay

blocks.*.mlp: * and ? do not cross a dot, ** does. [0-3] is one of these characters. ** alone is every module, and kind
keeps the modules of one kind:

conv, linear: convolutions and linear layers
attention: modules whose class is called …Attention…, and that do not lie in such a module
block: members of lists of modules (Sequential, ModuleList, ModuleDict) that have modules of their own

Modules that do not run, or whose output is not one set of units for each image, are left out, and the log names them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence

from torch import nn

from dissectdb.did_you_mean import choices
from dissectdb.extract.models import hooks
from dissectdb.extract.study import Layer, StudyError
from dissectdb.extract.study.class_names import few
from dissectdb.extract.study.values import Kind

log = logging.getLogger("dissectdb")

LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def resolve(model: nn.Module, layers: Sequence[Layer], image_shape: Sequence[int]) -> tuple[Layer, ...]:
    """The layers, with each pattern replaced by the modules that it stands for, in the order of the network.

    image_shape: (channel, H, W) of the network's input. Logs the list. Raises StudyError for a pattern without a
    module that can be recorded.
    """
    if not any(layer.is_pattern for layer in layers):
        return tuple(layers)
    by_name = [layer for layer in layers if not layer.is_pattern]
    found = [(layer, _expand(model, layer)) for layer in layers if layer.is_pattern]
    if unknown := [layer for layer in by_name if layer.name not in hooks.modules_by_name(model)]:
        hooks.find_taps(model, unknown, image_shape)  # raises
    wanted = dict.fromkeys([*by_name, *(layer for _, of_pattern in found for layer in of_pattern)])
    recordable, reasons = _recordable(model, list(wanted), image_shape)
    for pattern, of_pattern in found:
        if of_pattern and not any(layer in recordable for layer in of_pattern):
            raise StudyError(
                f"network.layers: no module of {_shown(pattern)} can be recorded; {reasons[of_pattern[0]]}"
            )
    resolved = {_key(layer): layer for layer in [*recordable.values(), *by_name]}
    _tell(found, list(resolved.values()), {layer.name: reason for layer, reason in reasons.items()})
    return tuple(resolved.values())


def _key(layer: Layer) -> tuple[str, str]:
    return layer.name, layer.way


def _expand(model: nn.Module, pattern: Layer) -> list[Layer]:
    """A layer for each module that a pattern fits. Raises StudyError if it fits none."""
    names = {name: module for name, module in model.named_modules() if name}
    fitting = compiled(pattern.name)
    kinds = dict(_kinds(model)) if pattern.kind else {}
    chosen = [
        name
        for name in names
        if fitting.fullmatch(name) and (pattern.kind is None or pattern.kind in kinds.get(name, ()))
    ]
    if not chosen and not (pattern.kind and pattern.name == "**"):  # a network without attention is no mistake of "all"
        hint = choices(pattern.name, list(names), "it has")
        raise StudyError(f"network.layers: {_shown(pattern)} fits no module of {type(model).__name__}; {hint}")
    return [pattern.model_copy(update={"name": name, "kind": None}) for name in chosen]


def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern of dotted names."""
    meanings = {"**.": r"(?:.*\.)?", "**": ".*", "*": r"[^.]*", "?": r"[^.]"}
    parts = re.split(r"(\*\*\.|\*\*|\*|\?|\[[^\]]+\])", pattern)
    return re.compile(
        "".join(
            meanings.get(part) or (part if part.startswith("[") and part[-1] == "]" else re.escape(part))
            for part in parts
        )
    )


def _kinds(model: nn.Module) -> Iterator[tuple[str, set[Kind]]]:
    """The kinds of each module, by its name."""
    of_attention: tuple[str, ...] = ()
    for name, module in model.named_modules():
        kinds: set[Kind] = set()
        if isinstance(module, nn.modules.conv._ConvNd):
            kinds.add("conv")
        if isinstance(module, nn.Linear):
            kinds.add("linear")
        if "Attention" in type(module).__name__ and not name.startswith(of_attention or ("\0",)):
            kinds.add("attention")
            of_attention += (f"{name}.",)
        parent = model.get_submodule(name.rpartition(".")[0])
        if isinstance(parent, LISTS) and type(module) not in LISTS and any(True for _ in module.children()):
            kinds.add("block")
        yield name, kinds


def _recordable(
    model: nn.Module, layers: Sequence[Layer], image_shape: Sequence[int]
) -> tuple[dict[Layer, Layer], dict[Layer, str]]:
    """Layer → the layer as it can be recorded, in the order of the network; layer → why it cannot be."""
    two, three = (hooks.output_shapes(model, layers, (count, *image_shape), lenient=True) for count in (2, 3))
    modules = hooks.modules_by_name(model)
    heads = hooks.find_heads(model, [layer.name for layer in two.shapes if layer.units == "heads"], image_shape)
    recordable: dict[Layer, Layer] = {}
    reasons: dict[Layer, str] = {}
    taps: set[hooks.Tap] = set()
    for layer, shape in two.shapes.items():
        module, size = modules[layer.name], shape[1:]
        is_known = isinstance(module, (*hooks.CHANNELS_FIRST, *hooks.CHANNELS_LAST, nn.LayerNorm))
        ends_in_channels = len(size) == 3 and size[0] == size[1] != size[2]  # images are square, so maps are too
        asked = layer.model_copy(update={"layout": "channels_last"}) if ends_in_channels and not is_known else layer
        try:
            shapes = shape, three.shapes.get(layer, ())
            is_of_heads = layer.units == "heads"
            tap = (
                hooks.of_heads(layer, heads[layer.name], *shapes)
                if is_of_heads
                else hooks.tap_of(asked, module, *shapes)
            )
        except StudyError as error:
            reasons[layer] = str(error).removeprefix("network.layers: ")
            continue
        if tap not in taps:  # an output without places is the same in every pooling
            recordable[layer] = asked
            taps.add(tap)
    for layer in layers:
        if layer not in two.shapes:
            calls = two.calls[layer.name]
            missing = f"has no call {layer.call}" if layer.call and calls < layer.call else "returns no tensor"
            reasons[layer] = f"{layer.name} {missing if calls else 'does not run as a module'}"
    return recordable, reasons


def _shown(pattern: Layer) -> str:
    return f"{pattern.name}, kind {pattern.kind}," if pattern.kind else pattern.name


def _tell(found: Sequence[tuple[Layer, Sequence[Layer]]], layers: Sequence[Layer], reasons: dict[str, str]) -> None:
    """Log what the patterns came to, and what was left out."""
    patterns = list(dict.fromkeys(pattern.name for pattern, _ in found))
    of_patterns = {layer.name for _, of_pattern in found for layer in of_pattern}
    names = list(dict.fromkeys(layer.name for layer in layers))
    came_to = [name for name in names if name in of_patterns]
    log.info(f"network.layers: {' and '.join(patterns)} came to {len(came_to)} modules: {', '.join(came_to)}")
    if last := [layer.name for layer in layers if layer.layout == "channels_last"]:
        log.info(f"network.layers: the maps of {few(last)} end in channels: their first two sizes are equal")
    left_out = {name: reason for name, reason in reasons.items() if name not in names}
    if left_out:
        first = next(iter(left_out.values()))
        log.info(f"network.layers: {len(left_out)} modules cannot be recorded: {few(left_out)}; the first: {first}")
