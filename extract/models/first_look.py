"""What a first study says about a network: arguments, preprocessing, class names and layers, found by building it.

found = look("torchvision:resnet18", Path("last.ckpt"), ("cat", "dog"))
found.keys       # of [network]: {"arguments": {"num_classes": 2}, "layers": ["layer?"], …}
found.assumed    # {"arguments": "the checkpoint's head has 2 outputs"}: what was concluded, by key

The network is built with random weights, so that nothing is downloaded; only a checkpoint is read.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from dissectdb.extract.models import checkpoints, classes, hugging_face, layer_patterns, networks, recipes
from dissectdb.extract.models.logits import find_answer
from dissectdb.extract.models.preprocessing import Recipe
from dissectdb.extract.study import Input, Layer, Network, StudyError
from dissectdb.extract.study.class_names import few

log = logging.getLogger("dissectdb")

# Patterns of the blocks of common networks, the most particular first. The first one is taken that fits at least two
# modules, most of which have modules of their own: blocks, and no single operations.
BLOCKS = (
    "layer[0-9]",  # ResNet, Wide ResNet, ResNeXt
    "features.denseblock?",  # DenseNet
    "inception*", "Mixed_*",  # GoogLeNet, Inception v3
    "stage?", "trunk_output.*", "stages.*",  # ShuffleNet; RegNet; ConvNeXt of timm
    "blocks.*",  # ViT, EfficientNet of timm, MaxViT
    "encoder.layers.*",  # ViT of torchvision
    "layers.*",  # Swin of timm
    "features.*",  # ConvNeXt, EfficientNet, MobileNet and Swin of torchvision
    "**.stages.*", "**.layer.*", "**.layers.*", "**.blocks.*",  # of transformers, or inside another module
)  # fmt: skip
SINGLE = ("conv", "linear")  # kinds of modules that are recorded of a network without blocks
MOST_SINGLE = 40  # of them; a network with more has blocks under other names
SIDES = (224, 32, 64, 96, 128, 299, 256, 384, 512, 48, 40, 28)  # pixels that are tried where nothing says the size
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # ImageNet's
OF_VGGNET = {"size": 40, "mode": "grey", "rounding": False}  # as it was trained on FER2013
OUTPUTS = {"vggnet": ("classes",), "torchvision": ("num_classes",), "timm": ("num_classes",), "hf": ("num_labels",)}
OUTPUTS_OF_CODE = ("num_classes", "classes", "n_classes")  # arguments that a user's function may have
MOST_NAMES = 100  # of classes that are written into a study


@dataclass
class FoundNetwork:
    """keys: of [network], without name, architecture and weights. assumed: key → what it was concluded from."""

    keys: dict[str, Any] = field(default_factory=dict)
    assumed: dict[str, str] = field(default_factory=dict)

    def assume(self, key: str, value: Any, why: str) -> None:
        """Add a key with what it was concluded from."""
        self.keys[key], self.assumed[key] = value, why


def look(architecture: str, weights: Path | str | None, image_classes: Sequence[str]) -> FoundNetwork:
    """What is known about a network without a study. Raises StudyError.

    weights: a checkpoint, "pretrained", "random", or None if the user's function loads them.
    """
    found = FoundNetwork()
    settings = Network.model_validate(
        {
            "name": architecture,
            "architecture": architecture,
            "weights": weights,
            "input": {"size": 224},
            "layers": ["*"],
        }
    )
    model = _built(settings)
    if isinstance(settings.weights, Path):
        model = _filled(model, settings, settings.weights, found)
        settings = settings.model_copy(update={"arguments": found.keys.get("arguments", {})})
    recipe = _prepared(model, settings, found)
    _name_classes(model, settings, recipe, image_classes, found)
    _choose_layers(model, recipe, found)
    return found


def _built(settings: Network, **arguments: Any) -> nn.Module:
    """The network with random weights, or with those that a user's function gives it."""
    weights = None if settings.weights is None else "random"
    settings = settings.model_copy(update={"weights": weights, "arguments": arguments})
    assert settings.input is not None
    return networks.load(settings, recipes.of_input(settings.input)).model


def _filled(model: nn.Module, settings: Network, path: Path, found: FoundNetwork) -> nn.Module:
    """The network with the checkpoint's number of outputs, and with its weights."""
    count = checkpoints.other_outputs(model, path)
    library = settings.architecture.partition(":")[0]
    for name in OUTPUTS.get(library, OUTPUTS_OF_CODE) if count else ():
        try:
            model = _built(settings, **{name: count})
        except StudyError:  # a user's function calls it otherwise
            continue
        found.assume("arguments", {name: count}, f"the checkpoint's head has {count} outputs")
        break
    note = checkpoints.fill(model, path)
    found.assumed["weights"] = f"{path.name} fits{f', {note}' if note else ''}"
    return model


# ---------------------------------------------------------------- preprocessing


def _prepared(model: nn.Module, settings: Network, found: FoundNetwork) -> Recipe:
    """The recipe of the network's images. It becomes a key unless the weights' metadata have it."""
    library = settings.architecture.partition(":")[0]
    try:
        recipe, source = recipes.of_metadata(settings.model_copy(update={"input": None}), model)
    except StudyError as error:
        if library in ("timm", "hf"):
            log.warning(error)
        return _assumed_recipe(model, settings, found)
    keys = _as_input(recipe)
    if settings.weights == "pretrained" or library == "hf" or keys is None:
        found.assumed["input"] = f"left out: {source} say it: {recipe.described()}"
    else:
        why = f"of {source}; ASSUMED: your network was trained so too; if not, change it"
        found.assume("input", keys, why)
    return recipe


def _as_input(recipe: Recipe) -> dict[str, Any] | None:
    """The keys of [network.input] that say a recipe; None if none do."""
    keys: dict[str, Any] = {"size": recipe.size, "resize": recipe.scaled or recipe.resize}
    keys |= {"interpolation": recipe.interpolation, "mean": list(recipe.mean), "std": list(recipe.std)}
    keys = {key: value for key, value in keys.items() if value != []}
    return keys if recipes.of_input(Input(**keys)) == recipe else None


def _assumed_recipe(model: nn.Module, settings: Network, found: FoundNetwork) -> Recipe:
    """A recipe that the network runs with, where nothing says how its images were prepared."""
    if settings.architecture == "vggnet":
        found.assume("input", OF_VGGNET, "as the VGGNet of FER2013 has it; change it if yours was trained otherwise")
        return recipes.of_input(Input.model_validate(OF_VGGNET))
    channels = next(
        (module.in_channels for module in model.modules() if isinstance(module, nn.modules.conv._ConvNd)), 3
    )
    ways: dict[int, dict[str, Any]] = {1: {"mode": "grey"}, 3: {"mean": MEAN, "std": STD}}
    of_channels = ways.get(channels, {"mode": "bands", "channels": list(range(channels))})
    for size in SIDES:
        keys = {"size": size, **of_channels}
        recipe = recipes.of_input(Input(**keys))
        try:
            find_answer(model, recipe, None, 0)
        except StudyError as error:
            if str(error).startswith("network.input"):
                continue  # it does not take this size
        why = "ASSUMED: nothing says how images were prepared in training; put in what your training program did"
        found.assume("input", keys, why)
        return recipe
    raise StudyError(
        f"network: {type(model).__name__} runs on no square images of {channels} channels and "
        f"{', '.join(map(str, sorted(SIDES)))} pixels; write a study by hand, with [network.input]"
    )


# ---------------------------------------------------------------- classes and layers


def _name_classes(
    model: nn.Module, settings: Network, recipe: Recipe, image_classes: Sequence[str], found: FoundNetwork
) -> None:
    """Name the outputs, if the checkpoint or the images' classes do; a library's own names need no key."""
    _, outputs = find_answer(model, recipe, None, len(image_classes))
    stored: tuple[str, ...] = ()
    if isinstance(settings.weights, Path):
        stored = checkpoints.class_names(settings.weights, outputs)
    if stored:
        found.assume("classes", list(stored), "the checkpoint names its outputs so")
        return
    labels = hugging_face.labels(model) if settings.architecture.startswith("hf:") else ()
    names = classes.name_outputs(settings, outputs, image_classes, labels)
    if image_classes and names == tuple(image_classes) and len(names) <= MOST_NAMES:
        why = "ASSUMED: the outputs are the classes of the images, in the order of their names; check the order"
        found.assume("classes", list(names), why)


def _choose_layers(model: nn.Module, recipe: Recipe, found: FoundNetwork) -> None:
    """The blocks of the network, or its single convolutions and linear layers."""
    for pattern in _patterns(model):
        try:
            layers = layer_patterns.resolve(model, pattern, recipe.shape)
        except StudyError:
            continue  # none of them can be recorded
        names = [layer.name for layer in layers]
        if len(names) > 1:
            kinds = " and ".join(layer.kind for layer in pattern if layer.kind)
            what = f"the modules of kind {kinds}" if kinds else "the blocks"
            keys = [layer.name if layer.kind is None else {"name": layer.name, "kind": layer.kind} for layer in pattern]
            found.assume("layers", keys, f"{what}: {few(names, 12)}")
            return
    raise StudyError(f"network.layers: no blocks or layers were found in {type(model).__name__}; write a study by hand")


def _patterns(model: nn.Module) -> list[list[Layer]]:
    """Patterns that may stand for the layers to record, the best first."""
    modules = {name: module for name, module in model.named_modules() if name}
    fitting = []
    for pattern in BLOCKS:
        members = [module for name, module in modules.items() if layer_patterns.compiled(pattern).fullmatch(name)]
        if len(members) > 1 and sum(any(True for _ in member.children()) for member in members) > len(members) / 2:
            fitting.append([Layer(name=pattern)])
    single = [[Layer(name="**", kind="conv"), Layer(name="**", kind="linear")]]
    count = sum(isinstance(module, nn.modules.conv._ConvNd | nn.Linear) for module in modules.values())
    blocks = [[Layer(name="**", kind="block")]]
    return [*fitting, *(single + blocks if count <= MOST_SINGLE else blocks + single)]
