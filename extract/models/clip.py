"""CLIP through open_clip: images and concepts to embeddings of unit length in one space.

clip = load(study.clip, device)
clip.embed_images(clip.recipe.apply(images, device))      # (image, dimension)
clip.embed_concepts(["Smile"], ["a face with {}"])        # (concept, dimension)

Takes any architecture of open_clip, with one of its pretrained tags or local weights (clip_files), any architecture
that you describe in a model config in open_clip's format, and models of open_clip on the Hugging Face hub or in a
folder.

open_clip takes as long to load as torch, and studies of arrays share this module: functions import it.
"""

from __future__ import annotations

import copy
import json
import logging
import pickle
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dissectdb.did_you_mean import did_you_mean
from dissectdb.extract import fingerprints, study
from dissectdb.extract.models import clip_files, devices, fetching, networks, pickles, text_tower
from dissectdb.extract.models.memory import run_halving_on_oom
from dissectdb.extract.models.preprocessing import Recipe
from dissectdb.extract.models.text_tower import TextTower
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.class_names import few
from dissectdb.extract.study.text_files import MEGABYTE, one_line, read_text
from dissectdb.extract.study.values import brief
from dissectdb.progress import REPEATED

TEXTS_AT_ONCE = {"cpu": 64, "gpu": 4096}
# Floating-point operations for one image, below which a GPU embeds images in float32 if the study sets no precision.
# At 40 TFLOP/s that is at least 20,000 images a second. ViT-B/32 takes 9e9, ViT-B/16 35e9.
SMALL = 2e9
log = logging.getLogger("dissectdb")


class Tokenizer(Protocol):
    """A tokenizer of open_clip: texts to (text, token). context_length: the tokens that it cuts a text to."""

    context_length: int

    def __call__(self, texts: list[str], /) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class ClipIdentity:
    """What a warehouse stores about a CLIP.

    logit_scale: the trained factor on cosines. logit_bias: SigLIP's; None for other models. precision: of image
    embeddings; concepts are always embedded in float32.
    """

    name: str
    weights: str
    logit_scale: float
    logit_bias: float | None
    fingerprint: str
    precision: str

    def preprocessing(self) -> str:
        """The preprocessing of its images, as JSON; {} if unknown."""
        return "{}"

    def embed_concepts(self, concepts: Sequence[str], templates: Sequence[str]) -> Tensor:
        """(concept, dimension) float32 of unit length on the CPU."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Clip(ClipIdentity):
    """A CLIP that can be run. model: open_clip's model, which is untyped."""

    model: Any
    tokenize: Tokenizer
    recipe: Recipe
    device: torch.device

    def preprocessing(self) -> str:
        return self.recipe.as_json()

    @torch.inference_mode()
    def embed_images(self, pixels: Tensor) -> Tensor:
        """(image, dimension) float32 of unit length, for preprocessed images on the model's device."""
        return F.normalize(self.encode(self.model, pixels).float(), dim=-1)

    def encode(self, model: Any, pixels: Tensor) -> Tensor:
        """(image, dimension), by this model or a copy of it, in the CLIP's precision."""
        wanted, weights = getattr(torch, self.precision), next(model.visual.parameters()).dtype
        with (
            devices.full_precision(self.device),
            torch.autocast(self.device.type, dtype=wanted, enabled=wanted != weights),
        ):
            return model.encode_image(pixels.to(weights))

    @cached_property
    def text_tower(self) -> TextTower:
        """The model's text tower."""
        with devices.full_precision(self.device):
            return text_tower.of(self.model, self.tokenize, self.device)

    @torch.inference_mode()
    def embed_concepts(self, concepts: Sequence[str], templates: Sequence[str]) -> Tensor:
        """(concept, dimension) float32 of unit length on the CPU: the mean over templates of unit embeddings."""
        prompts = [template.replace("{}", concept) for concept in concepts for template in templates]
        tokens = self.tokenize(prompts)
        by_length = self.text_tower.lengths(tokens).argsort(stable=True)  # texts of like length go together
        sums: Tensor | None = None  # the sum over templates has the direction of their mean

        def embed(texts: Tensor, _: int) -> None:
            nonlocal sums
            with devices.full_precision(self.device):
                embeddings = self.text_tower(tokens[texts].to(self.device))
            if sums is None:
                sums = embeddings.new_zeros(len(concepts), embeddings.shape[1])
            sums.index_add_(0, (texts // len(templates)).to(self.device), embeddings)

        for texts in by_length.split(TEXTS_AT_ONCE["cpu" if self.device.type == "cpu" else "gpu"]):
            run_halving_on_oom(embed, texts, "text")
        assert sums is not None, "neither concepts nor templates are ever empty"
        return F.normalize(sums, dim=-1).cpu()


def warn_of_cut_texts(clip: Clip, concepts: Sequence[str], templates: Sequence[str]) -> None:
    """Warn of texts that are longer than CLIP's context, because CLIP reads only their beginning."""
    cut = cut_texts(clip, concepts, templates)
    if not cut:
        return
    concept, template, tokens = max(cut, key=lambda text: text[2])
    in_template = "" if template == "{}" else f" in the template {brief(template)}"
    longest = f"{brief(concept)}{in_template} has {tokens}"
    which_texts = f"{len(cut):,} texts are longer; the longest, {longest}" if len(cut) > 1 else longest
    log.warning(
        "%s reads the first %d tokens of a text, and %s. What is past them is cut off: shorten it",
        clip.name,
        clip.tokenize.context_length,
        which_texts,
        extra={REPEATED: False},
    )


def cut_texts(clip: Clip, concepts: Sequence[str], templates: Sequence[str]) -> list[tuple[str, str, int]]:
    """(concept, template, tokens) of each text longer than CLIP's context. Start and end tokens count."""
    context = clip.tokenize.context_length
    cut = []
    for template in templates:
        for concept in concepts:
            text = template.replace("{}", concept)
            # A token is at least one byte, so most texts need not be tokenised.
            if len(text.encode()) > context - 3 and (tokens := _count_tokens(clip.tokenize, text)) > context:
                cut.append((concept, template, tokens))
    return cut


def _count_tokens(tokenize: Any, text: str) -> int:
    import open_clip

    if isinstance(tokenize, open_clip.SimpleTokenizer):
        return len(tokenize.encode(text)) + 2
    return len(tokenize.tokenizer(tokenize.clean_fn(text)).input_ids)  # of transformers, as SigLIP has it


def loaded() -> Any:
    """The package open_clip. Raises StudyError if it cannot be imported."""
    try:
        import open_clip
    except Exception as error:  # also what its dependencies raise: transformers, torchvision, timm
        raise StudyError(
            f"clip needs the package open_clip, which cannot be imported ({type(error).__name__}: {one_line(error)}); "
            "install it again: pip install --force-reinstall open_clip_torch"
        ) from error
    return open_clip


def load(settings: study.Clip, device: torch.device) -> Clip:
    """Load the CLIP that a study names. Raises StudyError."""
    open_clip = loaded()

    refuse_unknown(settings)
    weights = settings.weights or settings.architecture
    stored = _stored_weights(settings)
    try:
        # A local file holds the weights; open_clip's own warnings about untagged weights add nothing.
        logging.disable(logging.WARNING)
        with _fetching(settings), pickles.with_stand_ins():
            config = open_clip.get_model_config(settings.architecture)
            quick_gelu = _quick_gelu(settings, stored, config)
            model = open_clip.create_model(
                settings.architecture,
                pretrained=None if stored else settings.weights,
                device=device,
                weights_only=True,
                force_quick_gelu=quick_gelu,
                force_preprocess_cfg=_images(settings, stored),
                pretrained_text=False,
                require_pretrained=stored is None,
            )
            if stored:
                stored.fill(model)
            tokenize = open_clip.get_tokenizer(settings.architecture)
    except StudyError:
        raise
    except Exception as error:  # open_clip passes on any error of reading a file or of the hub
        hint = clip_files.looks_like(stored.tensors, settings.architecture) if stored else ""
        why = f"{_why(error)}{'; ' if hint else ''}{hint}"
        raise StudyError(f"clip: {settings.architecture} could not take {weights}: {why}") from error
    finally:
        logging.disable(logging.NOTSET)
    networks.refuse_nan(model, f"clip {settings.architecture}", weights)
    recipe = replace(_recipe(model), channels=settings.channels)
    probe = torch.zeros(1, *recipe.shape, device=device)
    networks.prefer_channels_last(model.eval(), lambda: model.encode_image(probe))
    full_weights = model.state_dict()
    bias = getattr(model, "logit_bias", None)
    # Only a precision that the study sets is in the fingerprint: a device's own default gives nearly the same numbers.
    chosen = [] if settings.precision == "auto" else [settings.precision]
    precision = default_precision(model, probe) if settings.precision == "auto" else settings.precision
    if precision != "float32":
        _keep_images_in(model, getattr(torch, precision), probe)
    return Clip(
        name=settings.architecture,
        weights=weights,
        model=model.eval(),
        tokenize=tokenize,
        recipe=recipe,
        logit_scale=float(model.logit_scale.detach().exp()),
        logit_bias=None if bias is None else float(bias.detach()),
        fingerprint=fingerprints.of_values(
            config | ({"quick_gelu": True} if quick_gelu else {}),
            recipe.as_dict(),
            fingerprints.of_weights(full_weights),
            *chosen,
        ),
        device=device,
        precision=precision,
    )


def _stored_weights(settings: study.Clip) -> clip_files.ClipWeights | None:
    """The weights of a local file or folder; None for those that open_clip finds itself, and those of NumPy."""
    if settings.weights is None or not _is_file(settings.weights) or _is_of_numpy(Path(settings.weights)):
        return None
    try:
        return clip_files.read(Path(settings.weights))
    except StudyError as error:
        raise StudyError(f"clip: {settings.architecture} could not take {error}") from error


def _quick_gelu(settings: study.Clip, stored: clip_files.ClipWeights | None, config: dict[str, Any]) -> bool:
    """Whether the weights were trained with OpenAI's quick GELU although the architecture may have another.

    open_clip only warns. Raises StudyError if the architecture has it and the weights were trained without it.
    """
    import open_clip

    if stored is None:
        tag = open_clip.get_pretrained_cfg(settings.architecture, settings.weights or "")
        return bool((tag or {}).get("quick_gelu"))
    if stored.quick_gelu is False and config.get("quick_gelu"):
        other = settings.architecture.removesuffix("-quickgelu")
        raise StudyError(
            f"clip: {settings.weights} was trained with GELU, and {settings.architecture} has the quick GELU; "
            f"write architecture = {other!r}"
        )
    return bool(stored.quick_gelu)


def _images(settings: study.Clip, stored: clip_files.ClipWeights | None) -> dict[str, Any]:
    """How images are prepared for local weights, with open_clip's names; {} where it finds that itself."""
    if settings.weights is None or not _is_file(settings.weights):
        return {}
    return clip_files.usual_preprocessing(settings.architecture) | (stored.preprocessing if stored else {})


def _fetching(settings: study.Clip) -> AbstractContextManager[None]:
    """A context for open_clip's downloads from the Hugging Face hub: the weights of a tag, and some tokenizers."""
    import open_clip

    if settings.architecture.startswith(open_clip.factory.HF_HUB_PREFIX):
        way_out = 'download its folder elsewhere and write architecture = "local-dir:FOLDER"'
        return fetching.from_hub(f"clip: {settings.architecture}", way_out)
    text = open_clip.get_model_config(settings.architecture)["text_cfg"]
    is_tag = settings.weights is not None and not _is_file(settings.weights)
    parts = (["the weights"] if is_tag else []) + (["the tokenizer"] if "hf_tokenizer_name" in text else [])
    if not parts:
        return nullcontext()
    what = f"clip: {' or '.join(parts)} of {settings.architecture}{f', {settings.weights},' if is_tag else ''}"
    way_out = 'download them elsewhere and name the file: clip.weights = "FILE"' if is_tag else "fill its cache first"
    return fetching.from_hub(what, way_out)


def default_precision(model: Any, probe: Tensor) -> str:
    """The precision of image embeddings if the study sets none. probe: one image (1, channel, size, size)."""
    return "float16" if probe.device.type == "cuda" and not is_small(model, probe) else "float32"


def is_small(model: Any, probe: Tensor) -> bool:
    """Whether an image takes fewer than SMALL floating-point operations."""
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:  # without gradients, fused attention counts 0
        model.encode_image(probe)
    return counter.get_total_flops() < SMALL


def _keep_images_in(model: Any, kind: torch.dtype, probe: Tensor) -> None:
    """Store the image weights in half precision, if the model runs so; else autocast converts them in each pass."""
    full = model.visual
    model.visual = copy.deepcopy(full).to(kind)
    try:
        with torch.inference_mode():
            model.encode_image(probe.to(kind))
    except RuntimeError:  # the model mixes in float32 numbers of its own
        model.visual = full


def _add_config(config: Path, architecture: str) -> None:
    import open_clip

    if not config.is_file():
        raise StudyError(f"clip.config: {config}: no such file")
    if config.stem != architecture:
        raise StudyError(f"clip.architecture is {architecture!r}, but open_clip names {config} {config.stem!r}")
    try:
        parts = json.loads(read_text(config, MEGABYTE)) if config.suffix == ".json" else None
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(f"clip.config: {config}: not readable as JSON: {one_line(error)}") from error
    if not isinstance(parts, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= parts.keys():
        raise StudyError(
            f"clip.config: {config} is not a model config of open_clip, a .json with embed_dim, vision_cfg, text_cfg"
        )
    open_clip.add_model_config(config)  # each time, because an earlier file of that name may have differed


def _why(error: Exception) -> str:
    """The error in one line, shortened: for weights that do not fit, the first keys."""
    if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
        return pickles.why_unreadable(error)
    misfits = [
        f"{len(names)} weights are {kind.lower()}: {few(names)}"
        for kind, keys in re.findall(r"(Missing|Unexpected) key\(s\) in state_dict: (.*)", str(error))
        if (names := re.findall(r'"([^"]+)"', keys))
    ]
    misfits += re.findall(r"(size mismatch for .*?)\.?$", str(error), re.MULTILINE)[:1]
    return one_line("; ".join(misfits) or error) or type(error).__name__


def _is_file(weights: str) -> bool:
    return "/" in weights or "." in weights


def _is_of_numpy(path: Path) -> bool:
    return path.suffix in (".npz", ".npy")  # of big_vision, which open_clip reads


def refuse_unknown(settings: study.Clip) -> None:
    """Raises StudyError for an architecture, a tag or a file that is not there. Loads no weights."""
    open_clip = loaded()

    if settings.config is not None:
        _add_config(settings.config, settings.architecture)
    kind, _, location = settings.architecture.partition(":")
    if kind == "local-dir":
        _check_folder(Path(location))
    if kind in study.WHOLE_CLIPS:
        return
    models = open_clip.list_models()
    if settings.architecture not in models:
        hint = did_you_mean(settings.architecture, models, 3, after=" ")
        raise StudyError(
            f"clip.architecture: open_clip has no {settings.architecture!r}; {hint}or give clip.config, "
            "hf-hub:ORGANISATION/NAME or local-dir:FOLDER"
        )
    assert settings.weights is not None, "the study refuses it"
    if _is_file(settings.weights):
        path = Path(settings.weights)
        if not path.exists():
            raise StudyError(f"clip.weights: {path}: no such file")
        if not path.is_file() and not path.is_dir():  # opening a pipe would block for ever
            raise StudyError(f"clip.weights: {path}: it is not a file")
        if _is_of_numpy(path):
            pickles.refuse_unfit(path, arrays=True)
        return
    tags = open_clip.list_pretrained_tags_by_model(settings.architecture)
    if settings.weights not in tags:
        hint = did_you_mean(settings.weights, tags, after=" ")
        raise StudyError(
            f"clip.weights: {settings.architecture} has no pretrained tag {settings.weights!r}; {hint}"
            f"it has {', '.join(tags) or 'none'}; or name a file"
        )


def _check_folder(folder: Path) -> None:
    """Raises StudyError unless the folder is one that open_clip wrote, with weights that carry no code."""
    if not (folder / "open_clip_config.json").is_file():
        why = "it has no open_clip_config.json" if folder.is_dir() else "no such folder"
        raise StudyError(f"clip.architecture: {folder}: {why}")
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".safetensors", ".bin", ".pth")]
    if not files:
        raise StudyError(f"clip.architecture: {folder}: it has no weights (.safetensors, .bin or .pth)")
    for path in files:
        pickles.refuse_unfit(path)


def _recipe(model: Any) -> Recipe:
    """The image preprocessing that the model was trained with."""
    settings = model.visual.preprocess_cfg
    size = settings["size"]
    width, height = (size, size) if isinstance(size, int) else size
    if width != height:
        raise StudyError(f"clip: {width} × {height} images; only square ones are supported")
    return Recipe(
        size=width,
        mode="rgb",
        resize=settings["resize_mode"],
        interpolation="bilinear" if settings["interpolation"] == "bilinear" else "bicubic",  # as open_clip reads it
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        fill=float(settings.get("fill_color", 0)),
    )
