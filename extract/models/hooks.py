"""Record the outputs of layers while a network runs.

taps = find_taps(model, study.network.layers, (1, 40, 40))
with record(model, taps) as seen:
    output = model(images)
seen[taps[0].name]   # (image, unit), on the device

Maps are pooled over space, and tokens over their axis, so that each unit of each layer is one number per image. Units
are channels, or the heads of an attention layer (dissectdb.extract.models.heads).
If a module runs several times in a forward pass, the call that the study names is recorded, by default the last.
The hooks are removed after the block, also after an error.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor, nn

from dissectdb.did_you_mean import choices
from dissectdb.extract.models.grids import Grid, as_maps, with_grids
from dissectdb.extract.models.heads import Heads
from dissectdb.extract.models.heads import find as find_heads
from dissectdb.extract.study import Layer, StudyError, read_as, way, written

log = logging.getLogger("dissectdb")


Hook = Callable[..., None]


@dataclass(frozen=True)
class Tap:
    """A layer, and how its output becomes (image, unit).

    layer: the module's path. pooling: avg, max, cls, or none for an output without places. call: which run of the
    module in a pass, from 1; None: the last. name: unique in the study: the module's path, followed by how it is read
    if the study reads it in several ways. heads: if they are the units. grid: of its maps; None if it has no places, or
    if they are unknown.
    """

    layer: str
    units: int
    pooling: str
    image_axis: int
    unit_axis: int
    name: str = ""
    call: int | None = None
    heads: Heads | None = None
    grid: Grid | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.layer)

    @property
    def read_as(self) -> str:
        """The pooling, as a warehouse stores it: "avg", "avg of heads"."""
        return read_as(self.pooling, "heads" if self.heads else "channels")

    def output(self, module: nn.Module, inputs: tuple, named: dict[str, object], output: object) -> Tensor:
        """The layer's output before pooling, from a hook on its module, or on that of its heads."""
        return self.heads.norms(module, inputs, named) if self.heads else first_tensor(output, self.layer)


Look = Callable[[Tap, Tensor, Tensor], None]


@contextmanager
def record(model: nn.Module, taps: Sequence[Tap], look: Look | None = None) -> Iterator[dict[str, Tensor]]:
    """Collect the pooled output (image, unit) of each tap during one forward pass, by the tap's name.

    look: called for each tap with a grid, with its maps (image, unit, row, column) and the pooled output. The maps of
    all layers do not fit into memory at once, and a module after the layer may change them in place.
    """
    seen: dict[str, Tensor] = {}

    def keep(tap: Tap) -> Hook:
        calls = count(1)

        def hook(module: nn.Module, inputs: tuple, named: dict[str, object], output: object) -> None:
            if tap.call in (None, next(calls)):
                tensor = tap.output(module, inputs, named, output)
                seen[tap.name] = pool(tensor, tap).detach()
                if look and tap.grid:
                    look(tap, as_maps(tensor.detach(), tap), seen[tap.name])

        return hook

    modules = modules_by_name(model)
    hooked = [modules[tap.heads.hooked if tap.heads else tap.layer] for tap in taps]
    handles = [
        module.register_forward_hook(keep(tap), with_kwargs=True) for module, tap in zip(hooked, taps, strict=True)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def modules_by_name(model: nn.Module) -> dict[str, nn.Module]:
    """Every module under each of its names."""
    return dict(model.named_modules(remove_duplicate=False))


def pool(output: Tensor, tap: Tap) -> Tensor:
    """A layer's output, pooled to (image, unit)."""
    output = output.movedim((tap.image_axis, tap.unit_axis), (0, 1))
    if output.ndim == 2:
        return output.clone()  # an in-place ReLU after the layer would change it
    output = output.flatten(2)  # (image, unit, place)
    if tap.pooling == "cls":
        return output[:, :, 0].clone()
    return output.amax(2) if tap.pooling == "max" else output.mean(2)


def has_tensor(output: object) -> bool:
    """Whether first_tensor finds a tensor."""
    while isinstance(output, tuple | list) and output:
        output = output[0]
    return isinstance(output, Tensor)


def first_tensor(output: object, layer: str) -> Tensor:
    """A layer's output tensor, or the first of a tuple (attention returns its weights second)."""
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise StudyError(
            f"network.layers: {layer} returns {type(output).__name__}, not a tensor; name a module inside it "
            "(network.output names a part of what the whole network returns, not of a layer's)"
        )
    return output


def find_taps(model: nn.Module, layers: Sequence[Layer], image_shape: Sequence[int]) -> list[Tap]:
    """How to read each layer, in the order in which the network runs them.

    image_shape: (channel, H, W) of the network's input. The image axis is measured: it is the axis that grows from
    two to three images. Raises StudyError for a layer that does not exist or does not run, or whose unit axis is
    unclear.
    """
    modules = modules_by_name(model)
    for layer in layers:
        if layer.name not in modules:
            names = [name for name in modules if name]
            hint = choices(layer.name, names, "it has")
            raise StudyError(f"network.layers: {type(model).__name__} has no layer {layer.name}; {hint}")
    two, three = (output_shapes(model, layers, (count, *image_shape)) for count in (2, 3))
    if silent := [layer.name for layer in layers if layer.name not in two.calls]:
        raise StudyError(f"network.layers: {', '.join(silent)} did not run in a forward pass")
    for layer in layers:
        calls = two.calls[layer.name]
        if layer.call is not None and layer.call > calls:
            raise StudyError(
                f"network.layers: {layer.name} runs {calls} time(s) in a pass; there is no call {layer.call}"
            )
        if layer.call is None and calls > 1:
            log.info(
                f"network.layers: {layer.name} runs {calls} times in a pass, and its last output is recorded; "
                f'{{ name = "{layer.name}", call = 1 }} asks for the first'
            )
    heads = find_heads(model, [layer.name for layer in two.shapes if layer.units == "heads"], image_shape)
    taps = [
        of_heads(layer, heads[layer.name], two.shapes[layer], three.shapes[layer])
        if layer.units == "heads"
        else tap_of(layer, modules[layer.name], two.shapes[layer], three.shapes[layer])
        for layer in two.shapes
    ]
    return _told_apart(with_grids(taps, list(two.shapes.values()), model, image_shape))


def of_heads(layer: Layer, heads: Heads | StudyError, two: tuple[int, ...], three: tuple[int, ...]) -> Tap:
    """How to read the heads of a layer whose outputs have these shapes. Raises StudyError."""
    if isinstance(heads, StudyError):
        raise heads
    tap = tap_of(layer.model_copy(update={"layout": "channels_last"}), nn.Module(), two, three)
    if tap.pooling == "none":
        raise StudyError(f"network.layers: {tap.layer} has no tokens over which heads could be pooled")
    return replace(tap, units=heads.count, unit_axis=len(two) - 1, heads=heads)


def _told_apart(taps: Sequence[Tap]) -> list[Tap]:
    """The taps, each with a unique name. Raises StudyError if two of them read the same output."""
    taps_per_module = Counter(tap.layer for tap in taps)
    named_taps = [
        tap if taps_per_module[tap.layer] == 1 else replace(tap, name=written(tap.layer, way(tap.read_as, tap.call)))
        for tap in taps
    ]
    for tap in named_taps:
        if named_taps.count(tap) > 1:
            raise StudyError(
                f"network.layers: {tap.layer} appears twice, and its output has no places to pool over, so that both "
                "are the same; keep one"
            )
    return named_taps


@dataclass(frozen=True)
class Shapes:
    """Output shapes of layers, in the order in which the network ran them; calls: how often each module ran."""

    shapes: dict[Layer, tuple[int, ...]]
    calls: Counter[str]


def output_shapes(
    model: nn.Module, layers: Sequence[Layer], shape: tuple[int, ...], *, lenient: bool = False
) -> Shapes:
    """The shapes of the layers' outputs, from a pass over images of zeros.

    lenient: a layer that returns no tensor has no shape. Otherwise it is a StudyError.
    """
    seen = Shapes({}, Counter())

    def keep(name: str) -> Hook:
        of_module = [layer for layer in layers if layer.name == name]

        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            seen.calls[name] += 1
            if lenient and not has_tensor(output):
                return
            for layer in of_module:
                if layer.call in (None, seen.calls[name]):
                    seen.shapes.pop(layer, None)
                    seen.shapes[layer] = tuple(first_tensor(output, name).shape)

        return hook

    modules = modules_by_name(model)
    names = dict.fromkeys(layer.name for layer in layers)
    handles = [modules[name].register_forward_hook(keep(name)) for name in names]
    parameter = next(model.parameters(), torch.zeros(0))
    try:
        with torch.inference_mode():
            model(torch.zeros(shape, device=parameter.device, dtype=parameter.dtype))
    except StudyError:
        raise
    except Exception as error:  # networks reject inputs with any kind of error; timm's use assertions
        channels, height, width = shape[1:]
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise StudyError(
            f"network.input: {type(model).__name__} does not take {channels} × {height} × {width} images: {reason}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return seen


def tap_of(layer: Layer, module: nn.Module, two: tuple[int, ...], three: tuple[int, ...]) -> Tap:
    """How to read a layer whose outputs have these shapes for two and for three images. Raises StudyError."""
    growing = [axis for axis, (a, b) in enumerate(zip(two, three, strict=False)) if a != b]
    if len(two) != len(three) or len(growing) != 1 or two[growing[0]] != 2:
        raise StudyError(
            f"network.layers: the output of {layer.name} has no axis of images ({two} for two, {three} for three)"
        )
    [image_axis] = growing
    other_axes = [axis for axis in range(len(two)) if axis != image_axis]
    if len(two) == 2:
        return Tap(layer.name, two[other_axes[0]], "none", image_axis, other_axes[0], call=layer.call)
    if len(two) not in (3, 4, 5):
        raise StudyError(f"network.layers: {layer.name} has outputs {two}; a neuron needs maps, tokens or units")
    first = isinstance(module, CHANNELS_FIRST)
    tokens = len(two) == 3 and not first
    if layer.pooling == "cls" and not tokens:
        raise StudyError(f"network.layers: {layer.name} has maps {two}; pooling 'cls' is for tokens, use avg or max")
    last = (
        tokens or layer.layout == "channels_last" or isinstance(module, CHANNELS_LAST) or type(module) is nn.LayerNorm
    )
    sizes = [two[axis] for axis in other_axes]
    if len(other_axes) == 3 and not (first or last) and sizes[0] == sizes[1] != sizes[2]:
        # Images are square, so maps are too: the two equal axes are height and width.
        raise StudyError(
            f"network.layers: {layer.name} has outputs {two}, which end in channels; set layout = 'channels_last'"
        )
    unit_axis = other_axes[-1] if last else other_axes[0]
    _agree_with_module(layer, module, two, unit_axis)
    return Tap(layer.name, two[unit_axis], layer.pooling, image_axis, unit_axis, call=layer.call)


# Modules whose unit axis is fixed. timm's LayerNorm2d is a subclass of LayerNorm with units on the other axis.
CHANNELS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
CHANNELS_LAST = (nn.Linear, nn.MultiheadAttention, nn.Embedding)


def _agree_with_module(layer: Layer, module: nn.Module, shape: tuple[int, ...], unit_axis: int) -> None:
    """Raises StudyError if the module's own number of units differs from the axis that units are read from."""
    for attribute in ("out_channels", "out_features", "num_features", "embed_dim"):
        units = getattr(module, attribute, None)
        if isinstance(units, int) and units != shape[unit_axis]:
            raise StudyError(
                f"network.layers: {layer.name} declares {units} units, but its output is {shape} with "
                f"{shape[unit_axis]} on axis {unit_axis}; for channels-last maps set layout = 'channels_last'"
            )


def weight_norms(module: nn.Module, units: int) -> list[tuple[float | None, float | None, float | None]]:
    """(L1, L2, bias) of each unit's weight row; None where the module has no such row."""
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    # A transposed convolution's rows are inputs, not units; PReLU's weight scales only negative values.
    has_other_rows = isinstance(module, nn.modules.conv._ConvTransposeNd | nn.PReLU)
    if not isinstance(weight, Tensor) or has_other_rows or weight.ndim == 0 or len(weight) != units:
        return [(None, None, None)] * units
    rows = weight.detach().double().reshape(units, -1)
    has_biases = isinstance(bias, Tensor) and bias.shape == (units,)
    biases = bias.detach().double().tolist() if bias is not None and has_biases else [None] * units
    return list(zip(rows.abs().sum(1).tolist(), rows.norm(dim=1).tolist(), biases, strict=True))
