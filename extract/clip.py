"""CLIP through open_clip: images and concepts to embeddings of unit length in one space.

clip = load(study.clip, device)
clip.embed_images(clip.recipe.apply(images, device))      # (image, dimension)
clip.embed_concepts(["Smile"], ["a face with {}"])        # (concept, dimension)

Any architecture of open_clip with one of its pretrained tags or a local file of weights, and architectures of
your own described by a model config as open_clip has them.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extract import fingerprints, study
from extract.preprocess import Recipe
from extract.study import StudyError

TEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class Clip:
    """A CLIP model. logit_scale: the trained factor on cosines; logit_bias: SigLIP's, else None."""

    name: str
    weights: str
    model: nn.Module
    tokenize: Callable[[list[str]], Tensor]
    recipe: Recipe
    logit_scale: float
    logit_bias: float | None
    fingerprint: str
    device: torch.device

    @property
    def precision(self) -> str:
        return "float16" if self.device.type == "cuda" else "float32"

    @torch.inference_mode()
    def embed_images(self, pixels: Tensor) -> Tensor:
        """(image, dimension) float32 of unit length, for preprocessed images on the model's device."""
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.precision == "float16"):
            embeddings = self.model.encode_image(pixels)
        return F.normalize(embeddings.float(), dim=-1)

    @torch.inference_mode()
    def embed_concepts(self, concepts: Sequence[str], templates: Sequence[str]) -> Tensor:
        """(concept, dimension) float32 of unit length on the CPU: the mean over templates of unit embeddings."""
        means = []
        for concept in concepts:
            texts = [template.replace("{}", concept) for template in templates]
            parts = [
                F.normalize(
                    self.model.encode_text(self.tokenize(texts[start : start + TEXTS_AT_ONCE]).to(self.device)).float(),
                    dim=-1,
                )
                for start in range(0, len(texts), TEXTS_AT_ONCE)
            ]
            means.append(F.normalize(torch.cat(parts).mean(0), dim=0))
        return torch.stack(means).cpu()


def load(settings: study.Clip, device: torch.device) -> Clip:
    """Load the CLIP that a study names. Raises StudyError."""
    if settings.config is not None:
        _add_config(settings.config, settings.architecture)
    _check_names(settings)
    try:
        # A local file holds the weights; open_clip's own cautions about untagged weights say nothing new.
        logging.disable(logging.WARNING)
        model, _, _ = open_clip.create_model_and_transforms(
            settings.architecture, pretrained=settings.weights, device=device, weights_only=True
        )
    except Exception as error:  # open_clip raises whatever the reading of a file or a hub raises
        raise StudyError(f"clip: {settings.architecture} could not take {settings.weights}: {error}") from error
    finally:
        logging.disable(logging.NOTSET)
    recipe = _recipe(model)
    bias = getattr(model, "logit_bias", None)
    return Clip(
        name=settings.architecture,
        weights=settings.weights,
        model=model.eval(),
        tokenize=open_clip.get_tokenizer(settings.architecture),
        recipe=recipe,
        logit_scale=float(model.logit_scale.detach().exp()),
        logit_bias=None if bias is None else float(bias.detach()),
        fingerprint=fingerprints.of_values(
            open_clip.get_model_config(settings.architecture),
            recipe.as_dict(),
            fingerprints.of_weights(model.state_dict()),
        ),
        device=device,
    )


def _add_config(config: Path, architecture: str) -> None:
    if not config.is_file():
        raise StudyError(f"clip.config: {config}: no such file")
    if config.stem != architecture:
        raise StudyError(f"clip.architecture is {architecture!r}, but open_clip names {config} {config.stem!r}")
    if architecture not in open_clip.list_models():
        open_clip.add_model_config(config)
    if architecture not in open_clip.list_models():
        raise StudyError(f"clip.config: {config} is no model config of open_clip (embed_dim, vision_cfg, text_cfg)")


def _check_names(settings: study.Clip) -> None:
    models = open_clip.list_models()
    if settings.architecture not in models and ":" not in settings.architecture:
        close = ", ".join(difflib.get_close_matches(settings.architecture, models, n=3))
        hint = f"did you mean {close}? " if close else ""
        raise StudyError(f"clip.architecture: open_clip has no {settings.architecture!r}; {hint}or give clip.config")
    if "/" in settings.weights or "." in settings.weights:
        if not Path(settings.weights).is_file():
            raise StudyError(f"clip.weights: {settings.weights}: no such file")
        return
    tags = open_clip.list_pretrained_tags_by_model(settings.architecture)
    if settings.weights not in tags:
        raise StudyError(
            f"clip.weights: {settings.architecture} has no pretrained tag {settings.weights!r}; "
            f"it has {', '.join(tags) or 'none'}; or name a file"
        )


def _recipe(model: nn.Module) -> Recipe:
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
        interpolation=settings["interpolation"],
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        fill=float(settings.get("fill_color", 0)),
    )
