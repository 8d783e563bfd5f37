"""The tensors of a checkpoint that a network does not take: which may be left out, and which may not.

others, unexpected = unused_names(match, entries, ["aux"])    # names to mention, names to refuse

A tensor that is left out must not be able to change the network's answers. So within the network's modules only counts,
profilers' counters and masks that were already applied are left out. Adapters that are not merged and masks that were
not applied are refused wherever they are. Elsewhere these are left out and mentioned:
- tensors outside the prefix, and in other dicts than the weights;
- losses and metrics, by the name of their module, unless the network has a module of that name;
- copies of the network's own tensors (an average, a teacher).
Anything else is an error. A ResNet-34 holds all tensors of a ResNet-18, and more: without this rule it would fill one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dissectdb.extract.models.tensor_kinds import (
    Entry,
    Match,
    counts_only,
    is_adapter,
    is_mask,
    is_training_state,
    masked,
    plain,
    splits,
)

AVERAGES = {"ema", "teacher", "averaged", "average", "avg", "swa", "shadow", "momentum", "target", "best"}
MEASURES = {"criterion", "criteria", "loss", "losses", "metric", "metrics", "accuracy", "acc", "auroc", "confmat"}
COUNTERS = {"total_ops", "total_params"}  # of thop


def unused_names(match: Match, entries: Sequence[Entry], allowed: Sequence[str]) -> tuple[list[str], list[str]]:
    """The other names of a checkpoint: those that may be left out and are mentioned, and those that may not."""
    dicts = {entry.keys for entry in match.found.values()}
    if not dicts:  # nothing fits: the largest dict shows best what the file holds
        [(largest, _)] = Counter(entry.keys for entry in entries).most_common(1)
        dicts = {largest}
    taken = {id(entry) for entry in match.found.values()}
    shapes = {rest: match.own[name].shape for rest, name in match.names.items()}
    found = {rest: match.found[name].tensor for rest, name in match.names.items() if name in match.found}
    modules = {rest.partition(".")[0] for rest in match.names}
    left_out, unexpected = [], []
    for entry in entries:
        if id(entry) in taken:
            continue
        apart = entry.keys not in dicts and len(dicts) == 1
        bare = plain(entry.dotted)
        inside = bool(match.found) and bare.startswith(match.prefix)
        name = bare[len(match.prefix) :] if inside else entry.dotted if apart else entry.name
        outside = bool(match.found) and not inside and not match.cut
        if any(is_under(each, word) for word in allowed for each in (name, entry.name, entry.dotted)):
            left_out.append(name)
        elif apart and (not match.found or _is_no_network(entry, match)):
            continue
        elif match.found and is_training_state(name) and name.partition(".")[0] not in modules:
            left_out.append(name)
        elif is_adapter(name) and entry.tensor.numel() > 1:
            unexpected.append(name)
        elif is_mask(name) and (applied := masked(name, entry.tensor, found)) is not None:
            (left_out if applied else unexpected).append(name)
        else:
            elsewhere = outside or (apart and not (inside and name.partition(".")[0] in modules))
            may = elsewhere or _is_harmless(name, entry.tensor, modules, shapes)
            (left_out if may else unexpected).append(name)
    return left_out, unexpected


def _is_no_network(entry: Entry, match: Match) -> bool:
    """Whether a tensor in another dict than the weights' is no part of any network, or of another copy of this one."""
    if is_training_state(entry.dotted) or entry.tensor.numel() == 1:
        return True
    if is_adapter(entry.dotted) or is_mask(entry.dotted):
        return False
    return (
        not (entry.tensor.is_floating_point() or entry.tensor.is_complex())
        or any(is_under(plain(entry.dotted), plain(rival)) for rival in match.rivals)
        or bool((AVERAGES | MEASURES) & words(entry.dotted))
    )


def _is_harmless(name: str, tensor: Tensor, modules: set[str], shapes: Mapping[str, torch.Size]) -> bool:
    """Whether a tensor cannot belong to the network; see the module's text."""
    top, _, last = name.partition(".")[0], *name.rpartition(".")[1:]
    if last in COUNTERS or counts_only(name, tensor, top in modules):
        return True
    if top in modules:
        return False
    if MEASURES & words(top):
        return True
    copied = any(shapes.get(rest) == tensor.shape for _, rest in splits(name)[1:])
    return copied and bool(AVERAGES & words(top))


def is_under(name: str, prefix: str) -> bool:
    """Whether a dotted name is the prefix, or begins with it and a dot."""
    return f"{name}.".startswith(f"{prefix.rstrip('.')}.")


def words(text: str) -> set[str]:
    """What a name is made of, in lower case."""
    return set(re.split(r"[._]", text.lower()))
