"""Tell the kind of a checkpoint's tensor by its name: weight, part of a weight, adapter, mask, optimizer state.

folded(entries, names)       # weight_orig × weight_mask becomes weight; g · v/|v| becomes weight
is_training_state("grads")   # a dict with the names and shapes of the weights that holds no weights
is_adapter(name)             # a low-rank update that is not merged: without it, the network answers differently
masked(name, mask, weights)  # whether a mask was applied to its weight
way_out(names)               # advice for the user about names that the network does not have
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# Names that wrapper classes add, also in the middle: nn.DataParallel(self.features) gives "features.module.0.weight".
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Parts of a dotted name, in lower case.
TRAINING_STATE = re.compile(
    r"(.*_)?(optimi[sz]ers?|optim)(_.*)?|opts?(_states?)?(_dict)?(_?[gd]|\d+)?"
    r"|(.*_)?(grad|grads|gradient|gradients)(_(sum|sq|mean|square|norm|buffer|state|accum\w*|dict|avg).*)?"
    r"|(max_)?exp_avgs?(_.*)?|exp_inf|momentum(_buffers?|_state|_dict|s)?|momenta|velocit(y|ies)"
    r"|((first|second)_)?moments?|square_avgs?|acc_deltas?|fisher(_.*)?|hessians?|(lr_)?schedulers?(_.*)?|(grad_)?scalers?"
)
ADAPTER = re.compile(
    r"(.*_)?(lora|dora|loha|lokr|hada|ia3|peft)(_.*)?|(.*_)?adapters?(_.*)?|(.*_)?deltas?|task_vectors?|prompt_embeddings?"
)
MASK = re.compile(r"(.*_)?masks?")
# Parts of the names of tensors that cannot change an answer: counters, and tables of positions.
COUNTS = {"count", "counter", "num", "step", "steps", "epoch", "iter", "iters", "iteration", "iterations", "updates"}
COUNTS |= {"tracked", "averaged", "initted", "initialized", "seen", "version"}
POSITIONS = {"position_ids", "relative_position_index"}
WAYS_OUT = (
    (ADAPTER, "an adapter is not merged: merge it into the weights (in peft: merge_and_unload()) and save them"),
    (re.compile("parametrizations"), "call torch.nn.utils.parametrize.remove_parametrizations on each module and save"),
    (re.compile(r"(weight_|bias_)?masks?"), "a mask is not applied: multiply the weights by it "
     "(torch.nn.utils.prune.remove) and save"),
    (re.compile(r"weight_[guv]|.*_orig"), "call torch.nn.utils.remove_weight_norm, remove_spectral_norm or "
     "prune.remove on each module and save"),
    (re.compile(r".*(zero_point|fake_quant|packed_params).*|activation_post_process"), "these are of a quantised "
     "network: save its weights in floating point"),
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A tensor of a checkpoint. keys: of the dicts around it; name: its own key."""

    keys: tuple[str, ...]
    name: str
    tensor: Tensor

    @property
    def dotted(self) -> str:
        return ".".join((*self.keys, self.name))


@dataclass(frozen=True)
class Match:
    """Which tensors of a file are a network's, if all its names follow one prefix.

    cut: what all of the network's own names begin with, where the file leaves it out. rivals: other prefixes that fit
    as well, as values for network.weights_key.
    """

    prefix: str
    cut: str
    found: dict[str, Entry]  # own name → entry
    missing: list[str]
    misshapen: list[str]
    own: Mapping[str, Tensor]  # the network's tensors by name
    names: Mapping[str, str]  # what follows the prefix in the file → own name
    rivals: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return not (self.missing or self.misshapen)


def splits(dotted: str) -> list[tuple[str, str]]:
    """(prefix, rest) for every prefix that ends with a dot, and for the empty one."""
    ends = [0, *(match.end() for match in re.finditer(r"\.", dotted))]
    return [(dotted[:end], dotted[end:]) for end in ends]


def plain(name: str) -> str:
    """A dotted name without the parts that wrapper classes add."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _any_part(pattern: re.Pattern[str], dotted: str) -> bool:
    return any(pattern.fullmatch(part) for part in dotted.lower().split("."))


def is_training_state(dotted: str) -> bool:
    """Whether a part of the name means an optimizer's state, a gradient or the like."""
    return _any_part(TRAINING_STATE, dotted)


def is_adapter(dotted: str) -> bool:
    """Whether a part of the name means a tensor that is added to the weights when the network runs."""
    return _any_part(ADAPTER, dotted)


def is_mask(dotted: str) -> bool:
    """Whether a part of the name means a mask."""
    return _any_part(MASK, dotted)


def counts_only(name: str, tensor: Tensor, in_module: bool) -> bool:
    """Whether integers or flags cannot change a network's answers: a count, or positions in order."""
    if tensor.is_floating_point() or tensor.is_complex() or is_mask(name):
        return False
    last = name.rpartition(".")[2]
    if last in POSITIONS or (tensor.numel() == 1 and (not in_module or COUNTS & set(last.lower().split("_")))):
        return True
    return tensor.dtype != torch.bool and torch.equal(tensor.flatten(), torch.arange(tensor.numel()).to(tensor.dtype))


def masked(name: str, mask: Tensor, weights: Mapping[str, Tensor]) -> bool | None:
    """Whether a mask was applied to its weight; None if it belongs to none of the weights."""
    for _, rest in splits(name):
        parts = [part for part in rest.split(".") if not re.fullmatch("masks?", part)]
        bare = re.sub(r"_masks?$", "", ".".join(parts))
        for target in (bare, f"{bare}.weight", f"{bare}weight"):
            weight = weights.get(target)
            if weight is not None and weight.shape == mask.shape:
                return torch.equal(weight, weight * mask.to(weight.dtype))
    return None


def way_out(names: Collection[str]) -> str:
    """Advice about names that the network does not have; empty if they are of no known kind."""
    return next((text for pattern, text in WAYS_OUT if any(_any_part(pattern, name) for name in names)), "")


# ---------------------------------------------------------------- weights that are computed from parts


def _pruned(original: Tensor, mask: Tensor) -> Tensor | None:
    if not original.is_floating_point() or original.shape != mask.shape or mask.is_complex():
        return None
    return original * mask.to(original.dtype)


def _scaled(direction: Tensor, length: Tensor) -> Tensor | None:
    """Weight norm: g · v / |v|. The norm is over the axes that g does not have."""
    if not (direction.is_floating_point() and length.is_floating_point()) or length.ndim not in (0, direction.ndim):
        return None
    axes = [axis for axis in range(direction.ndim) if length.ndim == 0 or length.shape[axis] == 1]
    kept = [axis for axis in range(direction.ndim) if axis not in axes]
    if len(kept) > 1 or any(length.shape[axis] != direction.shape[axis] for axis in kept):
        return None
    norm = torch.linalg.vector_norm(direction, dim=axes, keepdim=True) if axes else direction.abs()
    return direction * (length / norm)


# Weights in two parts: the end of one part's name, what replaces it in the other part's name and in the weight's name,
# how the two parts are joined, and words for the note.
FORMS: tuple[tuple[re.Pattern[str], str, str, Callable[[Tensor, Tensor], Tensor | None], str], ...] = (
    (re.compile(r"_orig$"), "_mask", "", _pruned, "pruned: weight_orig × weight_mask"),
    (re.compile(r"_v$"), "_g", "", _scaled, "weight norm: g · v/|v|"),
    (re.compile(r"parametrizations\.(\w+)\.original1$"), r"parametrizations.\1.original0", r"\1", _scaled,
     "weight norm: g · v/|v|"),
)  # fmt: skip


def folded(entries: Sequence[Entry], names: Collection[str]) -> tuple[list[Entry], list[str]]:
    """The entries, with weights computed from their two parts, and notes on what was computed.

    names: what the network's tensors may be called in a checkpoint. If the network itself has the parts, they are not
    joined.
    """
    by_key = {(entry.keys, entry.name): entry for entry in entries}
    changed: dict[int, Entry | None] = {}
    kinds: Counter[str] = Counter()
    for entry in entries:
        for ending, partner, rest, join, kind in FORMS:
            partner_entry = by_key.get((entry.keys, ending.sub(partner, entry.name)))
            weight = replace(entry, name=ending.sub(rest, entry.name))
            if (
                partner_entry is None
                or partner_entry is entry
                or (weight.keys, weight.name) in by_key
                or _depends_on_more(entry, by_key)
            ):
                continue
            if not _is_one_of(weight, names) or _is_one_of(entry, names):
                continue
            tensor = join(entry.tensor, partner_entry.tensor)
            if tensor is not None:
                changed |= {id(entry): replace(weight, tensor=tensor), id(partner_entry): None}
                kinds[kind] += 1
    joined = [changed.get(id(entry), entry) for entry in entries]
    return [entry for entry in joined if entry is not None], [f"{kind} ({n} tensors)" for kind, n in kinds.items()]


def _is_one_of(entry: Entry, names: Collection[str]) -> bool:
    return any(rest in names for _, rest in splits(plain(entry.dotted)))


def _depends_on_more(entry: Entry, entry_keys: Collection[tuple[tuple[str, ...], str]]) -> bool:
    """Whether a weight has more than two parts: spectral norm's u, or a second parametrization."""
    if match := re.match(r"(.*parametrizations\.\w+\.)original1$", entry.name):
        return sum(keys == entry.keys and name.startswith(match[1]) for keys, name in entry_keys) > 2
    return (entry.keys, re.sub("_orig$", "_u", entry.name)) in entry_keys and entry.name.endswith("_orig")
