"""Vision models of the library transformers, from a folder or by their name on the Hugging Face hub.

model = build("google/vit-base-patch16-224", "pretrained", {}, "network vit: the weights of hf:google/…")
recipe("models/vit")     # how its image processor prepares images
labels(model)            # the names of its outputs, from its configuration; () without any

A classifier is built as such. Any other vision model, and the image tower of a CLIP, is built without a head and makes
no predictions. Weights are read from safetensors only, and code beside them never runs. A folder is
read without the network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from dissectdb.extract.models import fetching
from dissectdb.extract.models.preprocessing import Recipe
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.class_names import few
from dissectdb.extract.study.text_files import one_line

WAY_OUT = "download its folder elsewhere and name it: network.architecture = 'hf:FOLDER'"
RESAVED = "load the model where you trust it, and save_pretrained writes them"
PLACES = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")  # in a configuration; not what a model is
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # numbers of PIL


def build(name: str, weights: str | Path | None, arguments: Mapping[str, object], what: str) -> nn.Module:
    """The model, with its own weights if weights = "pretrained", else with fresh ones. Raises StudyError.

    arguments: replace keys of its configuration. what: its weights, for messages.
    """
    transformers = _library()
    _refuse_folder(name, weights == "pretrained")
    with _reading(name, what):
        config, unused = transformers.AutoConfig.from_pretrained(
            name, trust_remote_code=False, return_unused_kwargs=True, **arguments
        )
        if unused := {key: value for key, value in unused.items() if key != "trust_remote_code"}:
            raise StudyError(f"network.arguments: the configuration of {name} has no {few(map(str, unused))}")
        config, kind = _kind(transformers, config, name)
        if weights != "pretrained":
            return kind(config)
        model, found = kind.from_pretrained(
            name,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=False,
            output_loading_info=True,
        )
    if lacking := sorted(found["missing_keys"]):
        raise StudyError(f"{what} lack {few(lacking)}, which would be random; {kind.__name__} needs them")
    return model


def _refuse_folder(name: str, is_pretrained: bool) -> None:
    """Raises StudyError if a folder is missing, or has no configuration or no weights as safetensors."""
    folder, hint = Path(name), "name a folder that save_pretrained of transformers has written"
    if folder.is_absolute() and not folder.is_dir():
        raise StudyError(f"network.architecture: {name}: no such folder; {hint}")
    if not folder.is_dir():
        return  # a name of the hub
    if not (folder / "config.json").is_file():
        raise StudyError(f"network.architecture: {name} has no config.json; {hint}")
    if is_pretrained and not any(folder.glob("*.safetensors")):
        pickled = next(iter(sorted(folder.glob("*.bin"))), None)
        found = f"only {pickled.name}, and reading that could run code" if pickled else "no other weights either"
        raise StudyError(f"network.architecture: {name} has no weights as safetensors, {found}; {RESAVED}")


def _kind(transformers: ModuleType, config: Any, name: str) -> tuple[Any, Any]:
    """The class of the model, and its part of the configuration. Raises StudyError if it does not take images."""
    named = (config.architectures or [""])[0]
    if "ForImageClassification" in named and hasattr(transformers, named):
        return config, getattr(transformers, named)
    config = getattr(config, "vision_config", config)  # of a CLIP: its image tower
    try:
        kind = transformers.MODEL_MAPPING[type(config)]
    except KeyError:
        raise StudyError(f"network.architecture: transformers has no model for {name} ({config.model_type})") from None
    if kind.main_input_name != "pixel_values":
        raise StudyError(f"network.architecture: {name} is a {kind.__name__}, which takes no images")
    return config, kind


def identity(model: Any) -> list[object]:
    """What stands for the model in a fingerprint: its class and its configuration, wherever it came from."""
    config = json.loads(model.config.to_json_string(use_diff=False))
    return [f"hf:{type(model).__name__}", {key: value for key, value in config.items() if key not in PLACES}]


def files(name: str) -> list[Path]:
    """The files of a model's folder; none for a name of the hub."""
    folder = Path(name)
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def labels(model: Any) -> tuple[str, ...]:
    """The names of a classifier's outputs, in order; () if its configuration only numbers them."""
    names = getattr(model.config, "id2label", None) or {}
    if "ForImageClassification" not in type(model).__name__ or sorted(names) != list(range(len(names))):
        return ()
    in_order = tuple(str(names[index]) for index in range(len(names)))
    return () if in_order == tuple(f"LABEL_{index}" for index in range(len(names))) else in_order


def recipe(name: str) -> Recipe:
    """The recipe of the image processor beside the weights, checked against the processor itself. Raises StudyError."""
    from dissectdb.extract.models import recipes

    source = f"the image processor of hf:{name}"
    with _reading(name, f"network: {source}"):
        try:
            processor = _library().AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
        except OSError as error:
            if not Path(name).is_dir():
                raise
            raise StudyError(
                f"network.input is missing, and {name} has no image processor (preprocessor_config.json): "
                f"{one_line(error)}"
            ) from error
    size, scaled, resize = _sizes(processor, source)
    found = recipes.recipe_of(
        source,
        size=size,
        resize=resize,
        scaled=scaled,
        interpolation=RESAMPLING.get(int(getattr(processor, "resample", None) or 2), "another way"),
        mean=processor.image_mean if processor.do_normalize else (),
        std=processor.image_std if processor.do_normalize else (),
        floor_crop=True,
    )

    def transform(image: Image.Image) -> Tensor:
        return processor(image, return_tensors="pt")["pixel_values"][0]

    return recipes.checked(found, transform, source)


def _sizes(processor: Any, source: str) -> tuple[tuple[int, int], int, Literal["squash", "shortest"]]:
    """(height, width) of a prepared image, the pixels that are scaled to, and the way. Raises StudyError."""
    size, crop = dict(processor.size or {}), dict(getattr(processor, "crop_size", None) or {})
    is_cropped = bool(getattr(processor, "do_center_crop", False))
    cropped = (crop.get("height") or 0, crop.get("width") or 0)
    shortest, sides = size.get("shortest_edge"), (size.get("height") or 0, size.get("width") or 0)
    if shortest and hasattr(processor, "crop_pct"):  # ConvNeXt's: small images are cropped, and large ones squashed
        is_small = shortest < 384
        scaled = int(shortest / processor.crop_pct) if is_small else shortest
        return (shortest, shortest), scaled, "shortest" if is_small else "squash"
    if processor.do_resize and is_cropped and shortest:
        return cropped, shortest, "shortest"
    if processor.do_resize and all(sides):
        return cropped if is_cropped else sides, sides[0], "squash"
    raise StudyError(
        f"network.input is missing, and {source} makes images of no fixed size ({size}); write [network.input]"
    )


@contextmanager
def _reading(name: str, what: str) -> Iterator[None]:
    """Inside the block, a folder is read, or the hub is asked; errors of transformers become StudyError."""
    transformers = _library()
    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with nullcontext() if Path(name).is_dir() else fetching.from_hub(what, WAY_OUT):
            yield
    except StudyError:
        raise
    except Exception as error:
        if "use_safetensors" in str(error):  # what the message says to set is not the user's to set
            raise StudyError(
                f"{what} are not there as safetensors, and reading others could run code; {RESAVED}"
            ) from None
        raise StudyError(f"{what}: {one_line(error)}") from error
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


def _library() -> ModuleType:
    try:
        import transformers
    except ImportError:
        raise StudyError("hf: needs the package transformers: pip install 'dissectdb[hf]'") from None
    return transformers
