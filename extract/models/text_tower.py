"""The text tower of a CLIP, which reads a text to its end and not to the end of the model's context.

encode = text_tower.of(model, tokenize, device)
encode(tokens)      # (text, dimension), for padded tokens (text, token)

Where a token sees only those before it, and the embedding is read at the end of the text, the padding after the end
changes nothing. Most CLIPs are so. SigLIP and CoCa are not: they read the padding too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

PROBES = ["a", "a photo of a face with a smile"]
SAME = 1e-6  # the largest difference of unit embeddings that is rounding
BY_POSITION = ("positional_embedding", "attn_mask")  # of open_clip's towers; they have the length of the context


class _Encode(nn.Module):
    """encode_text as a module, for functional_call."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Any:
        return self.model.encode_text(tokens)


@dataclass(frozen=True)
class TextTower:
    """A model's text tower. padding: the token that follows a text's end. cuts: whether padding is left out."""

    encode: _Encode
    padding: int
    cuts: bool

    def lengths(self, tokens: Tensor) -> Tensor:
        """(text,) the number of tokens of each text that the tower reads, for padded tokens (text, token)."""
        if not self.cuts:
            return torch.full((len(tokens),), tokens.shape[1])
        places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        return ((tokens != self.padding) * places).amax(1)

    def __call__(self, tokens: Tensor) -> Tensor:
        """(text, dimension) of unit length and float32. Reads up to the end of the longest text."""
        length = int(self.lengths(tokens).max())
        changed = {}
        if length < tokens.shape[1]:
            for name, tensor in (*self.encode.named_parameters(), *self.encode.named_buffers()):
                if name in [f"model.{tower}{last}" for tower in ("", "text.") for last in BY_POSITION]:
                    changed[name] = tensor[(slice(length),) * (2 if name.endswith("attn_mask") else 1)]
        embeddings = functional_call(self.encode, changed, (tokens[:, :length],))
        return F.normalize(embeddings.float(), dim=-1)


@torch.inference_mode()
def of(model: Any, tokenize: Callable[[list[str]], Tensor], device: torch.device) -> TextTower:
    """The text tower of a model of open_clip. Leaves padding out if two texts have the same embeddings without it."""
    tokens, nothing = tokenize(PROBES).to(device), tokenize([""])
    padded = TextTower(_Encode(model), int(nothing[0, -1]), cuts=False)
    cutting = TextTower(padded.encode, padded.padding, cuts=True)
    expected = padded(tokens)
    try:
        alone = torch.cat([cutting(text[None]) for text in tokens])
    except (RuntimeError, ValueError, IndexError):  # a tower of one length
        return padded
    return cutting if float((alone - expected).abs().max()) <= SAME else padded
