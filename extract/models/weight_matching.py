"""Find a network's weights in a checkpoint: the tensors under the prefix that fits the most names and shapes.

match = best_match(model, entries, path, key=None)
weights_key(match)       # what the file puts before the network's names: "state_dict.model"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dissectdb.extract.models.tensor_kinds import (
    WRAPPERS,
    Entry,
    Match,
    is_adapter,
    is_mask,
    is_training_state,
    plain,
    splits,
)
from dissectdb.extract.models.unused_tensors import AVERAGES, words
from dissectdb.extract.study import StudyError

MAX_PREFIXES = 50  # that are tried; those that fit the most tensors first
CONVENTIONAL = ("", "state_dict", "model_state_dict", "model", "params", "net", "network", "weights")
COUNTED = "num_batches_tracked"


def _by_plain_name(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Entries by dotted name. Wrappers are left out of the names if the names stay unique."""
    named = {plain(entry.dotted): entry for entry in entries}
    return named if len(named) == len(entries) else {entry.dotted: entry for entry in entries}


def own_names(own: Collection[str]) -> list[tuple[str, dict[str, str]]]:
    """Ways to shorten a network's names: (common beginning, {rest: name}). The first one cuts nothing.

    A rest keeps at least the name of its module.
    """
    names = {plain(name): name for name in own}
    names = names if len(names) == len(own) else {name: name for name in own}
    ways = [("", names)]
    cut = ""
    while all(name.count(".") > cut.count(".") + 1 for name in names):
        firsts = {name[len(cut) :].partition(".")[0] for name in names}
        if len(firsts) != 1:
            break
        cut += f"{firsts.pop()}."
        ways.append((cut, {name[len(cut) :]: full for name, full in names.items()}))
    return ways


def best_match(model: nn.Module, tensors: Sequence[Entry], path: Path, key: str | None) -> Match:
    """The match of the prefix that fits the most tensors.

    Raises StudyError if several prefixes fit completely and none is conventional. Moments and gradients have the names
    and shapes of the weights, so they are taken only if the study names them.
    """
    own = model.state_dict()
    if not own:
        raise StudyError(f"network.weights: {type(model).__name__} has no tensors to take from {path}")
    entries = _by_plain_name(tensors)
    matches: list[Match] = []
    not_weights: list[Match] = []
    for cut, names in own_names(own):
        counts: Counter[str] = Counter()
        for dotted, entry in entries.items():
            for prefix, rest in splits(dotted):
                if rest in names:
                    counts[prefix] += 1_000_000 * (entry.tensor.shape == own[names[rest]].shape) + 1
        matches_of_cut = [_match(own, entries, prefix, cut, names) for prefix, _ in counts.most_common(MAX_PREFIXES)]
        complete = [match for match in matches_of_cut if match.fits]
        if weights := [match for match in complete if key is not None or not _is_beside_weights(match)]:
            return _chosen(weights, path)
        not_weights += complete
        matches += matches_of_cut
    if not_weights:
        raise StudyError(
            f"{path}: only {listed([weights_key(match) for match in not_weights])} fits {type(model).__name__}, and by "
            "its name it holds an optimizer's state, gradients, masks or updates, not weights; save the network's "
            "state_dict(), or name this one in network.weights_key if it does hold weights"
        )
    return max(sorted(matches, key=_unusual), key=_score, default=Match("", "", {}, list(own), [], own, {}))


def _is_beside_weights(match: Match) -> bool:
    return any(test(match.prefix) for test in (is_training_state, is_adapter, is_mask))


def _match(
    own: Mapping[str, Tensor], entries: Mapping[str, Entry], prefix: str, cut: str, names: Mapping[str, str]
) -> Match:
    entry_by_name = {name: entries[prefix + rest] for rest, name in names.items() if prefix + rest in entries}
    memory = {own[name].data_ptr() for name in entry_by_name if own[name].numel()}
    missing = [
        name
        for name, tensor in own.items()
        if name not in entry_by_name and name.rpartition(".")[2] != COUNTED and tensor.data_ptr() not in memory
    ]
    misshapen = [
        f"{name} {tuple(entry.tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, entry in entry_by_name.items()
        if entry.tensor.shape != own[name].shape
    ]
    return Match(prefix, cut, entry_by_name, missing, misshapen, own, names)


def _score(match: Match) -> tuple[int, int]:
    return len(match.found) - len(match.misshapen), len(match.found)


def _chosen(matches: Sequence[Match], path: Path) -> Match:
    """Choose among prefixes that fit completely: prefer conventional dicts to others, and weights to averages."""
    different = [matches[0], *(match for match in matches[1:] if not _same(matches[0], match))]
    first, *rivals = sorted(different, key=_unusual)
    if rivals and _unusual(first) == _unusual(rivals[0]):
        keys = listed([weights_key(match) for match in (first, *rivals)])
        raise StudyError(f"{path} holds several sets of weights that fit: {keys}; choose one by network.weights_key")
    return replace(first, rivals=tuple(weights_key(match) for match in rivals))


def _same(one: Match, other: Match) -> bool:
    """Whether two prefixes hold the same values."""
    return one.found.keys() == other.found.keys() and all(
        entry.tensor.layout == torch.strided
        and entry.tensor.device == other.found[name].tensor.device != torch.device("meta")
        and torch.equal(entry.tensor, other.found[name].tensor)
        for name, entry in one.found.items()
    )


def _unusual(match: Match) -> tuple[bool, int]:
    """A sort key: conventional prefixes first, averages of the weights last."""
    first = match.prefix.partition(".")[0]
    rank = CONVENTIONAL.index(first) if first in CONVENTIONAL else len(CONVENTIONAL)
    return is_average(match), rank


def is_average(match: Match) -> bool:
    """Whether a prefix's name means an average or another copy of the weights."""
    return bool(AVERAGES & words(match.prefix))


def weights_key(match: Match) -> str:
    """The value of network.weights_key that selects a match: what the file puts before the network's names."""
    name, entry = next(iter(match.found.items()))
    parts = entry.dotted.split(".")
    for _ in range(plain(name)[len(match.cut) :].count(".") + 1):
        while parts and parts[-1] in WRAPPERS:
            parts.pop()
        parts.pop()
    return ".".join(parts)


def prefix_in_dict(match: Match) -> str:
    """What the network's names begin with, within their dict in the file."""
    keys = ".".join(next(iter(match.found.values())).keys)
    prefix = weights_key(match)[len(keys) :].lstrip(".")
    return f"{prefix}." if prefix else ""


def listed(names: Sequence[str]) -> str:
    """The first few of many names, for a message."""
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
