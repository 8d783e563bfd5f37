"""Weights of CLIP in the files that people have, with the names that open_clip gives them.

weights = read(Path("ViT-B-32.pt"))       # OpenAI's, a TorchScript archive; its code is not run
weights = read(Path("clip-vit-base"))     # a folder of transformers: config.json, model.safetensors
weights = read(Path("epoch_32.pt"))       # a training checkpoint of open_clip
weights.fill(model)                       # as open_clip fills its models

Also plain state dicts. A file of transformers is named by its folder, because config.json states what shapes do not
show.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dissectdb.extract.models import clip_names, pickles, torchscript
from dissectdb.extract.models.file_kinds import foreign_kind, is_safetensors
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.text_files import MEGABYTE, one_line, read_text

MASK = "attn_mask"  # a constant of the text tower, which TorchScript stores like a weight
OF_OPENAI = ("input_resolution", "context_length", "vocab_size")  # numbers that its archives hold beside the weights
FILES_OF_TRANSFORMERS = ("model.safetensors", "pytorch_model.bin")
# transformers leaves a value out of config.json if it is its own default.
HEADS = {"clip": (12, 8), "siglip": (12, 12)}  # of the image and the text tower
QUICK = {"quick_gelu": True, "gelu": False}
SIGLIP_IMAGES = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "resize_mode": "squash"}


@dataclass(frozen=True)
class ClipWeights:
    """Weights with open_clip's names, and what their file states about the model.

    quick_gelu: whether it has OpenAI's activation; None if the file does not state it. heads: of attention, in the
    image and the text tower. preprocessing: of images, with open_clip's names.
    """

    tensors: dict[str, Tensor]
    quick_gelu: bool | None = None
    heads: tuple[int, int] | None = None
    preprocessing: dict[str, Any] = field(default_factory=dict)

    def fill(self, model: Any) -> None:
        """Load the weights into a model of open_clip, as its own loader does. Raises torch's error on other sizes."""
        from open_clip.convert import convert_state_dict
        from open_clip.model import convert_to_custom_text_state_dict

        tensors = convert_state_dict(model, dict(self.tensors))
        if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
            tensors = convert_to_custom_text_state_dict(tensors)
        tensors.pop("text.transformer.embeddings.position_ids", None)
        for name in ("logit_scale", "logit_bias"):  # a number, or a row of one number
            if name in tensors and getattr(model, name, None) is not None:
                tensors[name] = tensors[name].reshape(getattr(model, name).shape)
        if "logit_bias" not in tensors and getattr(model, "logit_bias", None) is not None:
            tensors["logit_bias"] = torch.zeros_like(model.logit_bias)
        # open_clip's own loader would stretch position embeddings to the architecture's sizes, and only log it: weights
        # of another image size would give embeddings that nobody trained.
        model.load_state_dict(tensors)
        _refuse_other_heads(model, self.heads)


def read(path: Path) -> ClipWeights:
    """Read the weights of a file or folder; runs no code of it. Raises StudyError, which begins with the path."""
    if path.is_dir():
        return _read_folder(path)
    tensors = _tensors(path)
    if clip_names.are_of_transformers(tensors):
        beside = "" if (path.parent / "config.json").is_file() else ", with its config.json beside it"
        raise StudyError(
            f"{path}: weights of transformers; name the folder{beside}: clip.weights = {str(path.parent)!r}"
        )
    if not tensors:
        raise StudyError(f"{path}: holds no tensors")
    is_of_openai = {*OF_OPENAI} <= tensors.keys()
    weights = {name: tensor for name, tensor in tensors.items() if name not in OF_OPENAI}
    return ClipWeights(weights, quick_gelu=True if is_of_openai else None)


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, with their own names."""
    try:
        if is_safetensors(path):
            return load_file(path)
        if kind := foreign_kind(path):
            raise StudyError(f"{path}: not a readable checkpoint: it is {kind}")
        if torchscript.is_archive(path):
            return {name: tensor for name, tensor in torchscript.read(path).items() if not name.endswith(MASK)}
    except StudyError:
        raise
    except Exception as error:  # an OSError, or safetensors' or zipfile's own error
        raise StudyError(f"{path}: {pickles.why_unreadable(error)}") from error
    stored = pickles.read_pickle(path)
    if isinstance(stored, Mapping) and isinstance(stored.get("state_dict"), Mapping):
        stored = stored["state_dict"]  # of a training checkpoint, which also has the optimizer's
    if not isinstance(stored, Mapping) or not all(isinstance(name, str) for name in stored):
        raise StudyError(f"{path}: holds no state dict")
    tensors = {name: value for name, value in stored.items() if isinstance(value, Tensor)}
    for prefix in ("module.", "_orig_mod."):  # of a model that was trained on several GPUs, or compiled
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


# ---------------------------------------------------------------- transformers


def _read_folder(folder: Path) -> ClipWeights:
    if not (folder / "config.json").is_file():
        if (folder / "open_clip_config.json").is_file():
            raise StudyError(
                f'{folder}: a folder of open_clip; write architecture = "local-dir:{folder}", and no weights'
            )
        raise StudyError(f"{folder}: a folder without config.json; name a file of weights, or a folder of transformers")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted({*_json(index).get("weight_map", {}).values()})
        parts = [_tensors(_inside(folder, shard)) for shard in shards]
        return _of_transformers(folder, index, {name: tensor for part in parts for name, tensor in part.items()})
    for name in FILES_OF_TRANSFORMERS:
        if (folder / name).is_file():
            return _of_transformers(folder, folder / name, _tensors(folder / name))
    raise StudyError(f"{folder}: has no {' or '.join(FILES_OF_TRANSFORMERS)}")


def _inside(folder: Path, shard: object) -> Path:
    if not isinstance(shard, str) or Path(shard).name != shard or not (folder / shard).is_file():
        raise StudyError(f"{folder}: model.safetensors.index.json names {shard!r}, which is not there")
    return folder / shard


def _of_transformers(folder: Path, path: Path, tensors: dict[str, Tensor]) -> ClipWeights:
    if not (folder / "config.json").is_file():
        raise StudyError(
            f"{path}: weights of transformers, whose config.json must lie beside them: it states the heads"
        )
    config = _json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in HEADS:
        raise StudyError(
            f"{folder}: config.json describes a model of type {kind!r}, not a CLIP (clip) or SigLIP (siglip)"
        )
    towers = [config.get(f"{tower}_config") or {} for tower in ("vision", "text")]
    image_heads, text_heads = (
        int(tower.get("num_attention_heads", default)) for tower, default in zip(towers, HEADS[kind], strict=True)
    )
    named = clip_names.as_in_open_clip(path, tensors, kind)
    images = _preprocessing(folder, kind)
    if kind == "siglip":  # open_clip's architectures have SigLIP's activation
        return ClipWeights(named, None, (image_heads, text_heads), images)
    activations = {tower.get("hidden_act", "quick_gelu") for tower in towers}
    if len(activations) > 1 or not activations <= QUICK.keys():
        names = ", ".join(sorted(map(str, activations)))
        raise StudyError(f"{folder}: config.json has the activation {names}; open_clip has {' or '.join(QUICK)}")
    return ClipWeights(named, QUICK[activations.pop()], (image_heads, text_heads), images)


def _preprocessing(folder: Path, kind: str) -> dict[str, Any]:
    """What preprocessor_config.json states of images; without it, what models of this kind take."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return SIGLIP_IMAGES if kind == "siglip" else {}
    stated = _json(path)
    size, crop = stated.get("size"), stated.get("crop_size")
    edges = [tuple(each.values()) if isinstance(each, dict) else (each,) for each in (size, crop) if each is not None]
    crops = stated.get("do_center_crop", kind == "clip")
    if crops and len({edge for several in edges for edge in several}) > 1:
        raise StudyError(f"{path}: resizes to {size} and crops {crop}; only one size is supported")
    found = {
        "mean": tuple(stated["image_mean"]) if "image_mean" in stated else None,
        "std": tuple(stated["image_std"]) if "image_std" in stated else None,
        "interpolation": {2: "bilinear", 3: "bicubic"}.get(stated.get("resample", 3)),
        "resize_mode": "shortest" if crops else "squash",
    }
    if found["interpolation"] is None:
        raise StudyError(f"{path}: resample = {stated['resample']!r}; only 2 (bilinear) and 3 (bicubic) are supported")
    usual = SIGLIP_IMAGES if kind == "siglip" else {}
    return usual | {key: value for key, value in found.items() if value is not None}


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(read_text(path, 16 * MEGABYTE))
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(f"{path}: not readable as JSON: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise StudyError(f"{path}: not a table of JSON")
    return values


def _refuse_other_heads(model: Any, heads: tuple[int, int] | None) -> None:
    """Shapes of weights do not show how many heads attention has, so that a wrong number would go unnoticed."""
    text = model.text if hasattr(model, "text") else model.transformer
    for tower, modules, stated in zip(("image", "text"), (model.visual, text), heads or (), strict=False):
        own = next((int(module.num_heads) for module in modules.modules() if hasattr(module, "num_heads")), stated)
        if own != stated:
            raise StudyError(f"its config.json has {stated} heads in the {tower} tower, and the architecture has {own}")


# ---------------------------------------------------------------- which architecture


def usual_preprocessing(architecture: str) -> dict[str, Any]:
    """What all pretrained weights of an architecture take as images: a local file of weights does not state it."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    stated = [open_clip.get_pretrained_cfg(architecture, tag) for tag in tags]
    usual = {}
    for key in ("mean", "std", "interpolation", "resize_mode"):
        values = {tuple(each[key]) if isinstance(each.get(key), list) else each.get(key) for each in stated}
        if len(values) == 1 and None not in values:
            usual[key] = values.pop()
    return usual


def looks_like(tensors: Mapping[str, Tensor], named: str = "") -> str:
    """«these weights look like ViT-B-16», by their shapes; empty if nothing of open_clip is near, or the named one."""
    import open_clip

    sizes = clip_names.sizes_of_weights(tensors)
    if len(sizes) < 4:
        return ""
    matches: dict[str, tuple[int, int]] = {}  # sizes that differ, and then: those that are equal
    for name in open_clip.list_models():
        own = clip_names.sizes_of_config(open_clip.get_model_config(name))
        shared = own.keys() & sizes.keys()
        differ = sum(own[key] != sizes[key] for key in shared)
        matches[name] = (differ, differ - len(shared))
    best = min(matches.values())
    nearest = [name for name, match in matches.items() if match == best]
    nearest = [name for name in nearest if name.removesuffix("-quickgelu") == name or name[:-10] not in nearest]
    nearest = sorted(nearest, key=len)[:3]
    if best[0] > 3 or named in nearest:
        return ""
    return f"these weights {'look like' if not best[0] else 'are nearest to'} {' or '.join(nearest)}"
