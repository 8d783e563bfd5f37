"""Decide about the tensors of a checkpoint that the network lacks: which are left out, and which are an error.

left_out, unexpected = unused_names(match, entries, ["aux"])    # names to mention, names to refuse

A tensor that is left out must not be able to change the network's answers. So within the network's modules only counts,
profilers' counters and masks that were already applied are left out. Adapters that are not merged, and masks that were
not applied, are refused everywhere. Outside the network's modules these are left out and mentioned:
- tensors outside the prefix, or in other dicts than the weights;
- losses and metrics, by the name of their module, unless the network has a module of that name;
- copies of the network's own tensors (an average, a teacher).
Anything else is an error. Without this rule a ResNet-34 would fill a ResNet-18, because it has all of its tensors.
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
    """The names of a checkpoint that the network lacks: those that may be left out, and those that may not."""
    dicts = {entry.keys for entry in match.found.values()}
    if not dicts:  # nothing fits, so the message describes the largest dict
        [(largest, _)] = Counter(entry.keys for entry in entries).most_common(1)
        dicts = {largest}
    taken = {id(entry) for entry in match.found.values()}
    shapes = {rest: match.own[name].shape for rest, name in match.names.items()}
    weights = {rest: match.found[name].tensor for rest, name in match.names.items() if name in match.found}
    modules = {rest.partition(".")[0] for rest in match.names}
    left_out, unexpected = [], []
    for entry in entries:
        if id(entry) in taken:
            continue
        is_in_other_dict = entry.keys not in dicts and len(dicts) == 1
        bare = plain(entry.dotted)
        is_inside = bool(match.found) and bare.startswith(match.prefix)
        name = bare[len(match.prefix) :] if is_inside else entry.dotted if is_in_other_dict else entry.name
        is_outside = bool(match.found) and not is_inside and not match.cut
        if any(
            is_under(candidate, allowed_name)
            for allowed_name in allowed
            for candidate in (name, entry.name, entry.dotted)
        ):
            left_out.append(name)
        elif is_in_other_dict and (not match.found or _is_no_network(entry, match)):
            continue
        elif match.found and is_training_state(name) and name.partition(".")[0] not in modules:
            left_out.append(name)
        elif is_adapter(name) and entry.tensor.numel() > 1:
            unexpected.append(name)
        elif is_mask(name) and (applied := masked(name, entry.tensor, weights)) is not None:
            (left_out if applied else unexpected).append(name)
        else:
            is_elsewhere = is_outside or (is_in_other_dict and not (is_inside and name.partition(".")[0] in modules))
            may_be_left_out = is_elsewhere or _is_harmless(name, entry.tensor, modules, shapes)
            (left_out if may_be_left_out else unexpected).append(name)
    return left_out, unexpected


def _is_no_network(entry: Entry, match: Match) -> bool:
    """Whether a tensor outside the weights' dict belongs to no network, or to another copy of this one."""
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
    """Whether a tensor cannot change the network's answers; the module's docstring has the rules."""
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
    """The words of a name, in lower case: what dots and underscores separate."""
    return set(re.split(r"[._]", text.lower()))
