"""Read logits from whatever a network returns. Planning a study finds out how to read them, and checks it.

answer, outputs = find_answer(model, recipe, output=None, classes=7)  # a few passes over 2 or 3 images; StudyError
logits = answer.run(model, images)                                    # (image, class), float32
logits = answer.logits(output)                                        # the same, from the network's return value

A network may return a tensor, tuple, list, mapping or object with several parts. The logits are the part with one
number for each class and image. Probabilities and percentages become logits whose softmax gives the same
probabilities. A network with one number per image has two classes. A network without a classifier has no logits: if a
model of timm or transformers has none, or if the study has output = "none".
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dissectdb.extract.models import repeatability
from dissectdb.extract.models.preprocessing import Recipe
from dissectdb.extract.models.repeatability import IMAGES
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.text_files import one_line

log = logging.getLogger("dissectdb")

TINY = torch.finfo(torch.float32).tiny
BELOW_1 = 1 - 2**-24  # the largest float32 below 1


Scale = Literal["logits", "probabilities", "sigmoids", "features"]
NO_LOGITS = "none"  # network.output of a network without a classifier


@dataclass(frozen=True)
class Answer:
    """How logits are read from a network's return value.

    part: the keys and indices that lead to the logits, joined by dots; None: the return value is the logits.
    scale: what the numbers are; sigmoids are probabilities that need not add up to 1; features are no logits.
    single: the network has one number per image, and it is above 0 for the second of two classes.
    fewest: how many images a pass needs; 2 if the network drops the image axis of a single image.
    """

    part: str | None = None
    scale: Scale = "logits"
    single: bool = False
    fewest: int = 1

    def run(self, model: nn.Module, images: Tensor) -> Tensor:
        """Logits (image, class) of prepared images; or features (image, any), if the network has no logits."""
        return self.logits(model(self.padded(images)))[: len(images)]

    def padded(self, images: Tensor) -> Tensor:
        """The images, repeated once if a pass needs more of them."""
        return torch.cat([images, images]) if len(images) < self.fewest else images

    def logits(self, output: object) -> Tensor:
        """Logits (image, class) from the network's return value."""
        values = tensor_of(output, self.part)
        return self.as_logits(values.reshape(len(values), -1))

    def as_logits(self, values: Tensor) -> Tensor:
        """Logits (…, class) of the network's own numbers (…, output)."""
        values = values.float()
        if self.scale == "probabilities":
            values = values.clamp(min=TINY).log()
        elif self.scale == "sigmoids":
            values = values.clamp(TINY, BELOW_1).logit()
        return F.pad(values, (1, 0)) if self.single else values  # softmax of (0, x) is (1 - sigmoid(x), sigmoid(x))

    def marks(self) -> list[str]:
        """What a fingerprint must include about how logits are read; empty if the first tensor is the logits."""
        if self.scale == "features":
            return ["no logits"]
        is_first = not self.part or set(self.part.split(".")) == {"0"}
        return [
            *([] if is_first else [f"output {self.part}"]),
            *([] if self.scale == "logits" else [self.scale]),
            *(["two classes"] if self.single else []),
        ]


PLAIN = Answer()


# ---------------------------------------------------------------- parts


def part_of(output: object, part: str | None) -> object:
    """The part of an output that a dotted path of keys and indices leads to. Raises StudyError if there is none."""
    if not part:
        return output
    if isinstance(output, Mapping) and part in output:
        return output[part]
    step, _, rest = part.partition(".")
    try:
        if isinstance(output, Mapping):
            inner = output[step] if step in output else output[int(step)]
        elif isinstance(output, tuple | list) and step.isdigit():
            inner = output[int(step)]
        else:
            inner = getattr(output, step)
    except (LookupError, ValueError, AttributeError):
        raise StudyError(f"network.output: there is no {part}; the network returns {_listed(output)}") from None
    return part_of(inner, rest)


def tensor_of(output: object, part: str | None) -> Tensor:
    """The part of an output. It is a tensor: find_answer has checked that."""
    values = part_of(output, part)
    assert isinstance(values, Tensor), f"{part} is {type(values).__name__} now"
    return values


def leaves(output: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Each part that is not a container, with the path to it."""
    if isinstance(output, Mapping):
        parts = list(output.items())
    elif isinstance(output, tuple | list):
        parts = list(enumerate(output))
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        parts = [(field.name, getattr(output, field.name)) for field in dataclasses.fields(output)]
    else:
        yield path, output
        return
    for key, value in parts:
        yield from leaves(value, f"{path}.{key}" if path else str(key))


def _listed(output: object) -> str:
    """What the network returns, in a few words."""
    parts = [f"{path}: {_shape(value)}" if path else _shape(value) for path, value in leaves(output)]
    more = ", …" if len(parts) > 8 else ""
    return f"{', '.join(parts[:8]) or 'nothing'}{more}"


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


# ---------------------------------------------------------------- finding


def find_answer(model: nn.Module, recipe: Recipe, output: str | int | None, classes: int) -> tuple[Answer, int]:
    """How to read the network's logits, and how many there are; 0 if it has none.

    model: on the CPU. output: the part that the study names. classes: how many there are, 0 if that is unknown.
    Raises StudyError if no part can be the logits, or if the network answers the same images differently.
    """
    repeatability.eval_mode(model)
    images = repeatability.noise(recipe)
    passes = {count: _pass(model, images[:count]) for count in (IMAGES, 2)}
    outputs = {count: one_pass.output for count, one_pass in passes.items()}
    has_logits = not (output == NO_LOGITS or (output is None and _is_backbone(model)))
    part = _find_part(model, outputs, output, classes) if has_logits else _find_features(model, outputs)
    repeatability.refuse_random(model, passes[IMAGES], _pass(model, images))
    repeatability.refuse_mixing(model, passes[IMAGES], passes[2])
    if not has_logits:
        log.info(f"network: {type(model).__name__} has no classifier: no predictions are stored, accuracy is unknown")
        return Answer(part, "features", fewest=_fewest(model, images, passes[IMAGES], part)), 0
    values = _per_image(tensor_of(passes[IMAGES].output, part), IMAGES).float()
    repeatability.refuse_non_finite(model, passes[IMAGES], values)
    fewest = _fewest(model, images, passes[IMAGES], part)
    answer = Answer(part, _scale(model, images, values, part), values.shape[1] == 1, fewest)
    return answer, max(values.shape[1], 2)


def _pass(model: nn.Module, images: Tensor) -> repeatability.Pass:
    try:
        return repeatability.watch(model, images)
    except Exception as error:  # whatever a library's or a user's network raises
        shape = " × ".join(map(str, images.shape[1:]))
        reason = one_line(next(iter(str(error).strip().splitlines()), type(error).__name__))
        raise StudyError(f"network.input: {type(model).__name__} does not take {shape} images: {reason}") from error


def _fewest(model: nn.Module, images: Tensor, together: repeatability.Pass, part: str | None) -> int:
    """1 if the network handles a single image like a batch, 2 if it drops the image axis of a single image.

    Raises StudyError if the answer to an image differs when the image is alone.
    """
    try:
        alone = repeatability.watch(model, images[IMAGES - 1 :])
    except Exception:  # the network squeezes the image axis away and then uses it
        return 2
    if not repeatability.shaped_alike(alone, together):
        return 2
    own_values, batch_values = part_of(alone.output, part), tensor_of(together.output, part)
    if not isinstance(own_values, Tensor) or own_values.numel() * IMAGES != batch_values.numel():
        return 2
    own_values, batch_values = own_values.reshape(-1).float(), _per_image(batch_values, IMAGES)[IMAGES - 1].float()
    if not (own_values.isfinite().all() and batch_values.isfinite().all()):
        return 1  # not refused here: extraction refuses it and names the layer and the image
    if not torch.allclose(own_values, batch_values, rtol=1e-3, atol=1e-4 + 1e-3 * float(batch_values.abs().max())):
        raise StudyError(
            f"network: {type(model).__name__} answers an image differently after other images in its batch; "
            "something in it runs along the axis of the images (a recurrent layer without batch_first=True, a cumsum?)"
        )
    return 1


def _find_part(model: nn.Module, outputs: Mapping[int, object], named: str | int | None, classes: int) -> str | None:
    """The path to the logits: the one that the study names, else the only part that can be the logits."""
    of_three, name = outputs[IMAGES], type(model).__name__
    if named is not None:
        part = str(named)
        if problem := _unfit([part_of(value, part) for value in outputs.values()]):
            raise StudyError(f"network.output: {part} of {name} {problem}")
        return part
    if isinstance(getattr(of_three, "logits", None), Tensor) or (
        isinstance(of_three, Mapping) and "logits" in of_three
    ):
        if problem := _unfit([part_of(value, "logits") for value in outputs.values()]):
            raise StudyError(f"network.output: logits of {name} {problem}")
        log.info(f"network: the part logits of what {name} returns is used")
        return "logits"
    if isinstance(of_three, Tensor):
        if problem := _unfit(list(outputs.values())):
            raise StudyError(f"network.output: what {name} returns {problem}")
        return None
    return _choose(name, of_three, _fitting(outputs), classes)


def _is_backbone(model: nn.Module) -> bool:
    """Whether a model of timm or transformers says itself that it has no classifier."""
    library = type(model).__module__.partition(".")[0]
    if library == "timm":
        return getattr(model, "num_classes", None) == 0
    return library == "transformers" and "ForImageClassification" not in type(model).__name__


def _find_features(model: nn.Module, outputs: Mapping[int, object]) -> str:
    """The path to the first tensor whose first axis is the images. Raises StudyError if there is none."""
    parts_of_two = dict(leaves(outputs[2]))
    for path, three in leaves(outputs[IMAGES]):
        if _images_first(three, IMAGES) and _images_first(parts_of_two.get(path), 2):
            return path
    raise StudyError(
        f"network: no part of what {type(model).__name__} returns has the images on its first axis; for {IMAGES} "
        f"images it is {_listed(outputs[IMAGES])}; name a function that returns the part that does, such as a "
        "detector's backbone: network.architecture = 'FILE.py:FUNCTION'"
    )


def _images_first(value: object, images: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == images


def _fitting(outputs: Mapping[int, object]) -> dict[str, int]:
    """Path → numbers per image, for each part that could be the logits."""
    outputs_by_path = {}
    parts_of_two = dict(leaves(outputs[2]))
    for path, value in leaves(outputs[IMAGES]):
        if _unfit([value, parts_of_two.get(path)]) is None and isinstance(value, Tensor):
            outputs_by_path[path] = _per_image(value, IMAGES).shape[1]
    return outputs_by_path


def _choose(name: str, output: object, outputs_by_path: Mapping[str, int], classes: int) -> str:
    """The path of the part that is the logits. Raises StudyError if several parts could be."""
    if not outputs_by_path:
        raise StudyError(
            f"network.output: no part of what {name} returns has one number for each class and image; for {IMAGES} "
            f"images it is {_listed(output)}; have it return the logits of a classifier, or set network.output = 'none'"
        )
    if classes > 2:  # one number per image beside the scores is something else
        outputs_by_path = {path: count for path, count in outputs_by_path.items() if count > 1} or outputs_by_path
    matching = [path for path, count in outputs_by_path.items() if max(count, 2) == classes]
    if len(outputs_by_path) == 1 or matching == [next(iter(outputs_by_path))]:
        part = next(iter(outputs_by_path))
        log.info(f"network: part {part} of what {name} returns is used as the logits; network.output can name another")
        return part
    hint = matching[0] if matching else list(outputs_by_path)[-1]
    why = f" (as many outputs as there are classes, {classes})" if matching else ""
    raise StudyError(
        f"network.output: several parts of what {name} returns could be the logits; for {IMAGES} images it is "
        f"{_listed(output)}; name one, such as network.output = {hint if hint.isdigit() else repr(hint)}{why}"
    )


def _unfit(values: Sequence[object]) -> str | None:
    """Why the values for three and for two images cannot be logits; None if they can."""
    three, two = values
    if not isinstance(three, Tensor) or not isinstance(two, Tensor):
        return f"is {_shape(three)}, not a tensor; it must hold one number for each class and image"
    what = f"is {_shape(three)} for {IMAGES} images"
    if not three.is_floating_point():
        return f"holds whole numbers ({three.dtype}): classes, not scores; return the scores, before any argmax"
    if three.ndim == 0 or (len(three), len(two)) != (IMAGES, 2) or three.shape[1:] != two.shape[1:]:
        return f"{what} and {_shape(two)} for 2; its first axis must be the images"
    if sum(size > 1 for size in three.shape[1:]) > 1:
        return (
            f"{what}, scores at many places; a classifier has one for each class: average them, name another part, or "
            "set network.output = 'none' if it has no classifier"
        )
    if three.numel() == 0:
        return f"{what}: no numbers at all"
    return None


def _per_image(values: Tensor, images: int) -> Tensor:
    return values.reshape(images, -1)


# ---------------------------------------------------------------- probabilities


def _scale(model: nn.Module, images: Tensor, values: Tensor, part: str | None) -> Scale:
    """Whether the numbers (image, output) are logits or probabilities. Logs a warning for probabilities."""
    if (values < 0).any():
        return "logits"
    name = type(model).__name__
    if values.shape[1] > 1 and (values.sum(1) - 1).abs().max() < 1e-3:
        log.warning(f"network: {name} ends in probabilities, not logits (a softmax?); their logarithm is used")
        return "probabilities"
    last, before = _last_operations(model, images, part)
    if last not in AFFINE and (total := _total(values)):
        log.warning(
            f"network: the outputs of {name} add up to {total:g} for each image; they are taken for probabilities "
            f"times {total:g} (a softmax before that?), and their logarithm is used"
        )
        return "probabilities"
    if last in ("Mul", "Div") and before == "Sigmoid":
        raise StudyError(
            f"network: {name} ends in a sigmoid times a number; have it return the number before the sigmoid"
        )
    if (values > 1 + 1e-6).any():
        return "logits"
    if last == "Sigmoid":
        many = ", and a softmax over them, although it was not trained so" if values.shape[1] > 1 else ""
        log.warning(f"network: {name} ends in a sigmoid; the logits before it are used{many}")
        return "sigmoids"
    if values.any() and last not in AFFINE:  # all zeros is an untrained head
        if values.shape[1] == 1 and last in BOUNDING:
            raise StudyError(
                f"network: the one output of {name} lies between 0 and 1, and nothing tells whether it is a "
                "probability; have it return the number before the sigmoid, or two numbers for each image"
            )
        log.warning(
            f"network: all outputs of {name} lie between 0 and 1 and are taken for logits; if they are "
            "probabilities, have it return the logits"
        )
    return "logits"


# Last operations that may have put a number between 0 and 1. "" means unknown: gradients were off.
BOUNDING = {"", "Clamp", "ClampMin", "ClampMax", "Reciprocal", "Div"}
AFFINE = {"Addmm", "Mm", "Linear", "Convolution", "Mean"}  # their results are unbounded
# Autograd operations that do not change the numbers.
KEEPING = {
    "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Select", "Slice", "Clone", "ToCopy", "Alias",
    "Permute", "Transpose", "T", "Expand", "Contiguous",
}  # fmt: skip


def _total(values: Tensor) -> float | None:
    """The sum of each image's numbers (image, output), none below 0, if it is the same for each image; else None."""
    sums = values.sum(1)
    total = float(sums.mean())
    if values.shape[1] == 1 or total <= 0 or (sums - total).abs().max() > 1e-3 * total:
        return None
    percent = abs(total - 100) < 0.1
    if not percent and torch.allclose(values, values[:1].expand_as(values), rtol=1e-3, atol=1e-3 * total):
        return None  # the outputs do not depend on the image, so equal sums mean nothing
    return 100.0 if percent else total


def _last_operations(model: nn.Module, images: Tensor, part: str | None) -> tuple[str, str]:
    """The names of the network's last operation and of the one before it, as autograd recorded them.

    A name is empty if autograd recorded nothing; the second also if the last operation has several inputs.
    """
    try:
        with torch.enable_grad():
            last = _changing(tensor_of(model(images[:2].requires_grad_().clone()), part).grad_fn)
    except Exception:  # not every network can be run with gradients
        return "", ""
    if last is None:
        return "", ""
    inputs = [step for step, _ in last.next_functions if step is not None]
    before = _changing(inputs[0]) if len(inputs) == 1 else None
    return _name(last), "" if before is None else _name(before)


def _changing(step: Any) -> Any:
    """The nearest operation, at or before this one, that changes numbers."""
    while step is not None and _name(step) in KEEPING:
        step = step.next_functions[0][0]
    return step


def _name(step: Any) -> str:
    return step.name().partition("Backward")[0]
