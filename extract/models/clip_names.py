"""Names and sizes of CLIP's weights: transformers' names as open_clip's, and which architecture the sizes are of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dissectdb.extract.study import StudyError

# transformers' name → open_clip's, in order. A name that ends in .T is of a matrix that is transposed.
CLIP = [
    (r"text_model\.embeddings\.token_embedding\.weight", r"token_embedding.weight"),
    (r"text_model\.embeddings\.position_embedding\.weight", r"positional_embedding"),
    (r"text_model\.final_layer_norm\.", r"ln_final."),
    (r"text_projection\.weight", r"text_projection.T"),
    (r"text_model\.encoder\.layers\.", r"transformer.resblocks."),
    (r"vision_model\.embeddings\.class_embedding", r"visual.class_embedding"),
    (r"vision_model\.embeddings\.patch_embedding\.", r"visual.conv1."),
    (r"vision_model\.embeddings\.position_embedding\.weight", r"visual.positional_embedding"),
    (r"vision_model\.pre_layrnorm\.", r"visual.ln_pre."),
    (r"vision_model\.post_layernorm\.", r"visual.ln_post."),
    (r"visual_projection\.weight", r"visual.proj.T"),
    (r"vision_model\.encoder\.layers\.", r"visual.transformer.resblocks."),
]
SIGLIP = [
    (r"text_model\.embeddings\.token_embedding\.weight", r"text.token_embedding.weight"),
    (r"text_model\.embeddings\.position_embedding\.weight", r"text.positional_embedding"),
    (r"text_model\.final_layer_norm\.", r"text.ln_final."),
    (r"text_model\.head\.", r"text.text_projection."),
    (r"text_model\.encoder\.layers\.", r"text.transformer.resblocks."),
    (r"vision_model\.embeddings\.patch_embedding\.", r"visual.trunk.patch_embed.proj."),
    (r"vision_model\.embeddings\.position_embedding\.weight", r"visual.trunk.pos_embed"),
    (r"vision_model\.post_layernorm\.", r"visual.trunk.norm."),
    (r"vision_model\.head\.probe", r"visual.trunk.attn_pool.latent"),
    (r"vision_model\.head\.attention\.out_proj\.", r"visual.trunk.attn_pool.proj."),
    (r"vision_model\.head\.layernorm\.", r"visual.trunk.attn_pool.norm."),
    (r"vision_model\.head\.mlp\.", r"visual.trunk.attn_pool.mlp."),
    (r"vision_model\.encoder\.layers\.", r"visual.trunk.blocks."),
]
IN_BLOCKS = [
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
    ("self_attn.out_proj.", "attn.out_proj."),
]
IN_TIMM_BLOCKS = [("layer_norm1.", "norm1."), ("layer_norm2.", "norm2."), ("self_attn.out_proj.", "attn.proj.")]
JOINED = r"self_attn\.[qkv]_proj\."  # three matrices there, one here


def are_of_transformers(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a CLIP of transformers has weights of these names."""
    return any(name.startswith(("text_model.", "vision_model.")) for name in tensors)


def as_in_open_clip(path: Path, tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The weights of transformers' CLIPModel or SiglipModel with open_clip's names. kind: clip or siglip.

    Raises StudyError if it is half a model, or has a weight of another name.
    """
    for tower in ("text_model.", "vision_model."):
        if not any(name.startswith(tower) for name in tensors):
            raise StudyError(f"{path}: has no {tower.rstrip('.')}; images and concepts need both towers of CLIP")
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith("position_ids") or re.search(r"self_attn\.[kv]_proj\.", name):
            continue
        if re.search(r"self_attn\.q_proj\.", name):
            names = [name.replace(".q_proj.", f".{part}_proj.") for part in "qkv"]
            if lost := [each for each in names if each not in tensors]:
                raise StudyError(f"{path}: has {name} but not {lost[0]}")
            tensor = torch.cat([tensors[each] for each in names])
        named.update(_renamed(path, name, tensor, kind))
    return named


def _renamed(path: Path, name: str, tensor: Tensor, kind: str) -> dict[str, Tensor]:
    if name in ("logit_scale", "logit_bias"):
        return {name: tensor}
    if in_proj := re.fullmatch(r"vision_model\.head\.attention\.in_proj_(weight|bias)", name):
        query, rest = tensor[: len(tensor) // 3], tensor[len(tensor) // 3 :]
        pool = "visual.trunk.attn_pool"
        return {f"{pool}.q.{in_proj[1]}": query, f"{pool}.kv.{in_proj[1]}": rest}
    for theirs, ours in CLIP if kind == "clip" else SIGLIP:
        new, times = re.subn(f"^{theirs}", ours, name)
        if times:
            break
    else:
        raise StudyError(f"{path}: {name} is not a weight of transformers' {kind} models")
    in_timm = new.startswith("visual.trunk.blocks.")
    for theirs, ours in IN_TIMM_BLOCKS if in_timm else IN_BLOCKS if "resblocks." in new else ():
        new = new.replace(theirs, ours)
    new = re.sub(r"self_attn\.q_proj\.(weight|bias)", r"attn.qkv.\1" if in_timm else r"attn.in_proj_\1", new)
    if new.endswith(".T"):
        return {new.removesuffix(".T"): tensor.T}
    return {new: tensor[None] if new == "visual.trunk.pos_embed" else tensor}


# ---------------------------------------------------------------- sizes, to recognise an architecture by


def sizes_of_weights(tensors: Mapping[str, Tensor]) -> dict[str, object]:
    """The sizes that weights with open_clip's names show; those of an unknown kind of tower are left out."""
    shapes = {re.sub(r"^text\.", "", name): tuple(tensor.shape) for name, tensor in tensors.items()}
    sizes: dict[str, object] = {}
    for key, name, axis in (
        ("vocabulary", "token_embedding.weight", 0), ("text width", "token_embedding.weight", 1),
        ("context", "positional_embedding", 0), ("image width", "visual.conv1.weight", 0),
        ("patch", "visual.conv1.weight", -1), ("patch", "visual.trunk.patch_embed.proj.weight", -1),
        ("embedding", "text_projection", -1), ("embedding", "text_projection.weight", 0),
    ):  # fmt: skip
        if len(shapes.get(name, ())) > 0:
            sizes[key] = shapes[name][axis]
    sizes["text layers"] = _count(shapes, r"transformer\.resblocks\.(\d+)\.")
    if "visual.layer1.0.conv1.weight" in shapes:
        sizes["image layers"] = tuple(_count(shapes, rf"visual\.layer{part}\.(\d+)\.") for part in (1, 2, 3, 4))
        sizes["image width"], grid, sizes["patch"] = shapes["visual.layer1.0.conv1.weight"][0], 0, None
        grid = _side(shapes.get("visual.attnpool.positional_embedding", (0,))[0] - 1)
        sizes["image size"] = 32 * grid
    elif "visual.conv1.weight" in shapes:
        sizes["image layers"] = _count(shapes, r"visual\.transformer\.resblocks\.(\d+)\.")
        sizes["image size"] = int(shapes["visual.conv1.weight"][-1]) * _side(
            shapes.get("visual.positional_embedding", (0,))[0] - 1
        )
    elif "visual.trunk.pos_embed" in shapes and "patch" in sizes:
        sizes["image layers"] = _count(shapes, r"visual\.trunk\.blocks\.(\d+)\.")
        tokens = shapes["visual.trunk.pos_embed"][1] - ("visual.trunk.cls_token" in shapes)
        sizes["image size"] = int(shapes["visual.trunk.patch_embed.proj.weight"][-1]) * _side(tokens)
    return sizes


def sizes_of_config(config: dict[str, Any]) -> dict[str, object]:
    """The same sizes of a model config of open_clip, as far as it states them."""
    image, text = config["vision_cfg"], config["text_cfg"]
    sizes: dict[str, object] = {"embedding": config["embed_dim"], "image size": image.get("image_size", 224)}
    if "hf_model_name" not in text:
        sizes |= {
            "vocabulary": text.get("vocab_size", 49408), "text width": text.get("width", 512),
            "context": text.get("context_length", 77), "text layers": text.get("layers", 12),
        }  # fmt: skip
    if timm := image.get("timm_model_name"):
        if patch := re.search(r"patch(\d+)", timm):
            sizes["patch"] = int(patch[1])
        return sizes
    layers = image.get("layers", 12)
    is_resnet = isinstance(layers, list)
    return sizes | {
        "image width": image.get("width", 768),
        "image layers": tuple(layers) if is_resnet else layers,
        "patch": None if is_resnet else image.get("patch_size", 16),
    }


def _count(names: Mapping[str, object], pattern: str) -> int:
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def _side(tokens: int) -> int:
    return round(max(tokens, 0) ** 0.5)
