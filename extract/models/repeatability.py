"""Check that a network gives an image the same answer each time; find the module that does not.

one, another = watch(model, images), watch(model, images)
refuse_random(model, one, another)                     # StudyError: active dropout, a state that changes
refuse_mixing(model, one, watch(model, images[:2]))    # StudyError: an answer that depends on the rest of the batch

During a pass, hooks reduce every input and output of every module to three numbers per image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dissectdb.extract.models.preprocessing import Recipe
from dissectdb.extract.study import StudyError

IMAGES = 3  # of the longest pass

# Tolerances, (relative, absolute). Batches of another size are summed in another order.
SAME_BATCH, OTHER_BATCH = (1e-4, 1e-6), (1e-3, 1e-4)
SAMPLE = 4096  # numbers of a tensor that are compared, per image

Digest = list[Tensor]  # for each tensor (image, 3), or (1, 3) if its first axis is not the images


@dataclass(frozen=True)
class Call:
    """One run of a module. shapes: of its outputs."""

    name: str
    inputs: Digest
    outputs: Digest
    shapes: list[tuple[int, ...]]


@dataclass(frozen=True)
class Pass:
    """A network's output for some images, and the calls of its modules, in the order in which they ended."""

    images: int
    output: object
    calls: list[Call]


def noise(recipe: Recipe) -> Tensor:
    """Three prepared images of noise (image, channel, H, W): one over all values, a dark one and a light one."""
    channels, height, width = recipe.shape
    channels = max(recipe.channels) + 1 if recipe.channels else channels
    shape = (IMAGES, height, width) if channels == 1 else (IMAGES, height, width, channels)
    numbers = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0))
    lowest, divisor = torch.tensor([0, 0, 192]), torch.tensor([1, 4, 4])
    per_image = [-1] + [1] * (len(shape) - 1)
    pixels = lowest.view(per_image) + numbers // divisor.view(per_image)
    return recipe.apply(pixels.to(torch.uint8), torch.device("cpu"))


def eval_mode(model: nn.Module) -> None:
    """Put every module into eval mode, even one that overrides train()."""
    for module in model.eval().modules():
        module.training = False


def watch(model: nn.Module, images: Tensor) -> Pass:
    """Run a network over images and record the calls of its modules. Errors of the network pass through."""
    calls: list[Call] = []
    with torch.inference_mode(), _hooked(model, len(images), calls):
        return Pass(len(images), model(images.clone()), calls)


@contextmanager
def _hooked(model: nn.Module, images: int, calls: list[Call]) -> Iterator[None]:
    names = {module: name for name, module in model.named_modules()}
    running: list[Digest] = []

    def before(module: nn.Module, inputs: tuple, named: Mapping) -> None:
        running.append(_digest((inputs, named), images))

    def after(module: nn.Module, inputs: tuple, output: object) -> None:
        shapes = [tuple(tensor.shape) for tensor in _tensors(output)]
        calls.append(Call(names[module], running.pop(), _digest(output, images), shapes))

    handles = [module.register_forward_pre_hook(before, with_kwargs=True) for module in names]
    handles += [module.register_forward_hook(after) for module in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif hasattr(value, "__dict__"):  # a dataclass, or an object with the parts as attributes
        yield from (part for part in vars(value).values() if isinstance(part, Tensor))


def _digest(value: object, images: int) -> Digest:
    """For each tensor and image: the mean, a weighted mean and the mean absolute value of a sample of its numbers.

    The weighted mean distinguishes outputs of the same mean and size, such as those of a softmax.
    """
    digest = []
    for tensor in _tensors(value):
        tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        rows = images if tensor.ndim and len(tensor) == images else 1
        numbers = tensor.reshape(rows, -1)
        numbers = numbers[:, :: numbers.shape[1] // SAMPLE + 1]
        numbers = numbers if numbers.dtype == torch.float64 else numbers.float()
        weights = torch.arange(1.0, numbers.shape[1] + 1, dtype=numbers.dtype, device=numbers.device).cos_()
        sums = torch.stack([numbers.sum(1), numbers @ weights, torch.linalg.vector_norm(numbers, 1, 1)], 1)
        digest.append(sums / max(numbers.shape[1], 1))
    return digest


def _differ(one: Digest, other: Digest, images: int, tolerance: tuple[float, float]) -> bool:
    """Whether the digests of the first images differ."""
    relative, absolute = tolerance
    for a, b in zip(one, other, strict=False):
        if tolerance is OTHER_BATCH and min(len(a), len(b)) < images:
            continue  # its first axis is not the images, so batches of different size cannot be compared
        a, b = a[:images], b[:images]
        allowed = absolute + relative * a[:, 2:].abs()
        if not ((a - b).abs() <= allowed).logical_or(a.isnan() & b.isnan()).logical_or(a == b).all():
            return True
    return False


def shaped_alike(one: Pass, other: Pass) -> bool:
    """Whether the modules of both passes yield the same shapes, apart from the number of images."""
    if [call.name for call in one.calls] != [call.name for call in other.calls]:
        return False
    return all(
        [_for(shape, one.images, other.images) for shape in a.shapes] == b.shapes
        for a, b in zip(one.calls, other.calls, strict=True)
    )


def _for(shape: tuple[int, ...], images: int, others: int) -> tuple[int, ...]:
    return (others, *shape[1:]) if shape and shape[0] == images else shape


def refuse_random(model: nn.Module, one: Pass, another: Pass) -> None:
    """Raises StudyError, naming the module, if two passes over the same images differ."""
    if where := _culprit(model, one, another, SAME_BATCH):
        raise StudyError(
            f"network: the same images are answered differently each time, because of {where}; something in it is "
            "random or keeps a state in eval mode (F.dropout(x) without training=self.training?): turn it off"
        )


def refuse_non_finite(model: nn.Module, one: Pass, logits: Tensor) -> None:
    """Raises StudyError, naming the module, if the logits (image, class) of every image are NaN or infinite.

    For some images of noise they may be, because no real image looks like noise. Extraction checks the real images.
    """
    if logits.isfinite().all(1).any():
        return
    name = type(model).__name__
    if not logits.isnan().any() and not (logits == torch.inf).any():
        index = int((logits == -torch.inf).any(0).nonzero()[0])
        raise StudyError(
            f"network: the logits of {name} are -infinity for output {index} (from 0); a class that is masked needs a "
            "finite number, such as -10000"
        )
    is_bad = torch.isnan if logits.isnan().any() else torch.isinf
    for index, call in enumerate(one.calls):
        if any(is_bad(digest).any() for digest in call.outputs) and not any(
            is_bad(digest).any() for digest in call.inputs
        ):
            where = f", because of {_described(model, one.calls, index, None)}"
            break
    else:
        where = ""
    raise StudyError(
        f"network: the logits of {name} are NaN or infinite for images of noise{where}; "
        "the network or its input range is not what its weights expect"
    )


def refuse_mixing(model: nn.Module, one: Pass, fewer: Pass) -> None:
    """Raises StudyError if an answer depends on the other images of a batch. fewer: a pass over the first of `one`."""
    if where := _culprit(model, one, fewer, OTHER_BATCH):
        raise StudyError(
            f"network: the answer to an image depends on the other images of its batch, because of {where}; it uses "
            "statistics of the batch in eval mode (track_running_stats = False?): use running statistics"
        )


def same_output(one: object, other: object, images: int) -> bool:
    """Whether two outputs for the same images are the same."""
    return not _differ(_digest(one, images), _digest(other, images), images, SAME_BATCH)


def same(one: Pass, another: Pass) -> bool:
    """Whether the modules yield the same in two passes over the same images."""
    return [call.name for call in one.calls] == [call.name for call in another.calls] and not any(
        _differ(a.outputs, b.outputs, one.images, SAME_BATCH) for a, b in zip(one.calls, another.calls, strict=True)
    )


def _culprit(model: nn.Module, one: Pass, other: Pass, tolerance: tuple[float, float]) -> str | None:
    """The first module to end whose inputs are the same and whose outputs are not; children end before parents."""
    images, differing_inputs = min(one.images, other.images), None
    for index, (a, b) in enumerate(zip(one.calls, other.calls, strict=False)):
        if a.name != b.name:
            return f"{type(model).__name__}.forward, which runs other modules each time"
        if _differ(a.inputs, b.inputs, images, tolerance):
            differing_inputs = index if differing_inputs is None else differing_inputs
        elif _differ(a.outputs, b.outputs, images, tolerance):
            return _described(model, one.calls, index, differing_inputs)
    return None


def _described(model: nn.Module, calls: Sequence[Call], index: int, differing_inputs: int | None) -> str:
    """A module's name and class, and where in its forward the values begin to differ."""
    name = calls[index].name
    kind = type(model.get_submodule(name)).__name__
    if not any(True for _ in model.get_submodule(name).children()):
        return f"{name} ({kind})" if name else f"{kind}.forward"
    inside = f"{name} ({kind}.forward)" if name else f"{kind}.forward"
    last = index if differing_inputs is None else differing_inputs
    before = calls[last - 1].name if last else ""
    is_inside = before != name and before.startswith(f"{name}." if name else "")
    between = f", after {before}" if is_inside else ""
    return f"{inside}{between}" if differing_inputs is None else f"{inside}{between}, before {calls[last].name}"
