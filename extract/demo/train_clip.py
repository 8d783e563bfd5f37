"""Train a small CLIP from scratch on drawn faces.

    open_clip.add_model_config("dissectdb-face-rn.json")
    model = train_clip(draw(20_000, 1000), epochs=8)  # an open_clip model

There are three losses:

- CLIP's own: each image must match its caption among those of the batch.
- SigLIP's sigmoid (Zhai et al. 2023, arXiv 2303.15343) between each image and a prompt for each concept and emotion.
  Its target is the truth, because a caption names only some of the concepts that a face shows.
- A linear prediction of the action units from the last feature map. With binary targets alone, the first useful
  features need many more images.

The linear prediction and the sigmoid's bias are not part of the model.
"""

from __future__ import annotations

import math
import time

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dissectdb.extract.demo.captions import TEXTS, TRAINED_TEMPLATES, captions, prompts
from dissectdb.extract.demo.faces import CLASSES, Faces
from dissectdb.extract.demo.render import ACTION_UNITS

CLIP_NAME = "dissectdb-face-rn"
CONTRAST = 12.0  # the sigmoid's scale. With it, cosines differ by about 0.5, so a softmax over concepts is not flat
WARM_UP = 60  # steps


def train_clip(train: Faces, epochs: int, batch: int = 64, peak: float = 2e-3) -> nn.Module:
    """Train a model; returns it in evaluation mode. peak: the highest learning rate."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    lesson = _Lesson(peak)
    images = enlarge(torch.from_numpy(train.pixels), lesson.size)
    emotions = np.eye(len(CLASSES), dtype=bool)[train.emotions]
    targets = torch.from_numpy(np.hstack([train.truth, emotions])).float()
    units = torch.from_numpy(train.controls[:, : len(ACTION_UNITS)])
    per_epoch = len(images) // batch
    for epoch in range(1, epochs + 1):
        began, losses = time.perf_counter(), []
        for chosen in torch.randperm(len(images))[: per_epoch * batch].split(batch):
            said = captions(train.truth[chosen], train.emotions[chosen], rng)
            pixels = images[chosen].flip(-1) if rng.random() < 0.5 else images[chosen]
            lesson.set_rate(peak, epochs * per_epoch)
            losses.append(lesson.step(pixels, said, targets[chosen], units[chosen]))
        told = ", ".join(f"{name} {value:.4f}" for name, value in zip(LOSSES, np.mean(losses, 0), strict=True))
        print(f"clip epoch {epoch}/{epochs}: {told}, {time.perf_counter() - began:.0f} s", flush=True)
    return lesson.finish()


def enlarge(pixels: Tensor, size: int) -> Tensor:
    """uint8 (image, 48, 48) → uint8 (image, size, size), bicubic, as open_clip's preprocessing does."""
    parts = []
    for part in pixels.split(1000):
        floats = part[:, None].float()
        large = F.interpolate(floats, (size, size), mode="bicubic", antialias=True, align_corners=False)
        parts.append(large[:, 0].round().clamp(0, 255).byte())
    return torch.cat(parts)


def normalise(pixels: Tensor) -> Tensor:
    """uint8 (image, size, size) → float (image, 3, size, size), with open_clip's mean and standard deviation."""
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN)[:, None, None]
    spread = torch.tensor(open_clip.OPENAI_DATASET_STD)[:, None, None]
    return (pixels[:, None].float() / 255 - mean) / spread


LOSSES = ("caption", "prompt", "units")


class _Lesson:
    """The model, the layers that are trained with it but are not part of it, and the optimizer."""

    def __init__(self, peak: float) -> None:
        self.model = open_clip.create_model(CLIP_NAME)
        self.size = open_clip.get_model_config(CLIP_NAME)["vision_cfg"]["image_size"]
        self.tokenize = open_clip.get_tokenizer(CLIP_NAME)
        # With open_clip's 0.02 all prompts start with nearly the same embedding, so the concepts cannot be told apart.
        nn.init.normal_(self.model.token_embedding.weight, std=0.3)
        with torch.no_grad():
            self.model.positional_embedding.mul_(3)
        asked = [self.tokenize(prompts(text, TRAINED_TEMPLATES)) for text in TEXTS]
        self.asked = torch.stack(asked)  # (text, template, token)
        self.bias = nn.Parameter(torch.tensor(-3.0))
        self.guess = nn.LazyLinear(len(ACTION_UNITS))
        self.maps: list[Tensor] = []
        self.hook = self.model.visual.layer4.register_forward_hook(lambda layer, given, out: self.maps.append(out))
        with torch.no_grad():
            self.model.encode_image(torch.zeros(2, 3, self.size, self.size))
            self.guess(self.maps.pop().mean((2, 3)))
        weights = [*self.model.parameters(), *self.guess.parameters(), self.bias]
        matrices = [weight for weight in weights if weight.ndim >= 2]
        others = [weight for weight in weights if weight.ndim < 2]
        groups = [{"params": matrices, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))
        self.steps = 0
        self.model.train()

    def set_rate(self, peak: float, steps: int) -> None:
        """Set the learning rate: it rises linearly for WARM_UP steps, then falls as a cosine to 0 at `steps`."""
        done = self.steps / steps
        rate = peak * min((self.steps + 1) / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * done))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.steps += 1

    def step(self, pixels: Tensor, said: list[str], target: Tensor, units: Tensor) -> tuple[float, ...]:
        """Train on one batch; returns the losses in the order of LOSSES."""
        template = torch.randint(len(TRAINED_TEMPLATES), (len(TEXTS),))
        tokens = torch.cat([self.tokenize(said), self.asked[torch.arange(len(TEXTS)), template]])
        image = self.model.encode_image(normalise(pixels), normalize=True)
        text = self.model.encode_text(tokens, normalize=True)
        caption, prompt = text[: len(said)], text[len(said) :]
        logits, own = self.model.logit_scale.exp() * image @ caption.T, torch.arange(len(image))
        losses = (
            (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2,
            F.binary_cross_entropy_with_logits(CONTRAST * image @ prompt.T + self.bias, target),
            F.mse_loss(self.guess(self.maps.pop().mean((2, 3))), units),
        )
        self.optimizer.zero_grad(set_to_none=True)
        (0.15 * losses[0] + 5 * losses[1] + 10 * losses[2]).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))
        return tuple(float(loss.detach()) for loss in losses)

    def finish(self) -> nn.Module:
        """The model in evaluation mode, without the hook."""
        self.hook.remove()
        return self.model.eval()
