"""Fill a network from a checkpoint of another program, and save one in the same form.

note = fill(model, Path("last.ckpt"))    # 'without the prefix "model."; left out: criterion.weight', or ""
save_like(edited, Path("edited.ckpt"), Path("last.ckpt"))

A checkpoint is read as one list of tensors with dotted names: the keys of the dicts around a tensor, then its own key.
So a prefix (`model.`, `module._orig_mod.`) and the key of a dict (`state_dict`, `net`) are treated alike: both are what
the file puts before the network's names. No list of prefixes is needed: weight_matching.py takes the prefix that fits
the most names.

Every tensor of the network must be in the file, except:
- num_batches_tracked of a batch norm, which torch before 0.4.1 did not save;
- a tensor that shares its memory with another one that is in the file.

Weights that are stored in two parts (pruning, weight norm) are computed; tensor_kinds.py has the rules. Any other
tensor of the file is either left out, and the note mentions it, or refused; unused_tensors.py has the rules.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dissectdb.did_you_mean import did_you_mean
from dissectdb.extract.models.file_kinds import is_safetensors
from dissectdb.extract.models.pickles import StandIn, read_pickle, why_unreadable
from dissectdb.extract.models.tensor_kinds import (
    Entry,
    Match,
    folded,
    way_out,
)
from dissectdb.extract.models.unused_tensors import is_under, unused_names
from dissectdb.extract.models.weight_matching import (
    best_match,
    is_average,
    listed,
    own_names,
    prefix_in_dict,
    weights_key,
)
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.text_files import one_line
from dissectdb.output import replacing

MAX_DEPTH = 4  # nested dicts
MOST_OF_HEADS = 4  # tensors whose shape depends on the number of outputs: weights and biases of a head and a second one
NAMES_OF_CLASSES = ("classes", "class_names", "class_to_idx", "idx_to_class", "categories", "labels")


def read(path: Path) -> list[Entry]:
    """Every tensor of a checkpoint that has a key. Runs no code from the file. Raises StudyError."""
    if path.is_dir():
        raise StudyError(f"{path}: is a folder, not a checkpoint")
    if not path.is_file():
        hint = did_you_mean(path.name, os.listdir(path.parent) if path.parent.is_dir() else [], before="; ")
        raise StudyError(f"{path}: no such checkpoint{hint}")
    try:
        if is_safetensors(path):
            return [Entry((), name, tensor) for name, tensor in load_file(path).items()]
    except Exception as error:  # an OSError, or safetensors' own error
        raise StudyError(f"{path}: {why_unreadable(error)}") from error
    values = read_pickle(path)
    entries = list(_walk(values, (), set()))
    if not entries:
        held = f"a dict of {listed([str(key) for key in values])}" if isinstance(values, dict) else _kind(values)
        raise StudyError(f"{path}: no state dict (names with tensors), at the top or in a dict inside; it is {held}")
    return entries


def _kind(values: object) -> str:
    return "an object of another kind" if isinstance(values, StandIn) else f"of type {type(values).__name__}"


def _walk(values: object, keys: tuple[str, ...], seen: set[int]) -> Iterator[Entry]:
    if not isinstance(values, (dict, list, tuple)) or id(values) in seen or len(keys) > MAX_DEPTH:
        return
    seen.add(id(values))  # a dict may contain itself, or the same dict several times
    if not isinstance(values, dict):
        values = {
            str(index): value_in_list
            for index, value_in_list in enumerate(values)
            if isinstance(value_in_list, (dict, list, tuple))
        }
    for key, value in values.items():
        if isinstance(key, str) and isinstance(value, Tensor):
            yield Entry(keys, key, value)
        elif isinstance(key, str):
            yield from _walk(value, (*keys, key), seen)


def fill(model: nn.Module, path: Path, key: str | None = None, left_out: Sequence[str] = ()) -> str:
    """Fill the model from a checkpoint; return a note on what was taken and left out, or "".

    key: the prefix of the weights, needed if several fit. left_out: names in the file that may be ignored.
    Raises StudyError that names what is missing, unexpected or misshapen, and leaves the model unchanged.
    """
    own = model.state_dict()
    entries, computed = _read_under(path, key, own)
    match = best_match(model, entries, path, key)
    ignored, unexpected = unused_names(match, entries, left_out)
    if match.missing or match.misshapen or unexpected:
        problems = {"missing": match.missing, "unexpected": unexpected, "of another shape": match.misshapen}
        parts = [f"{len(names)} {kind}: {listed(names)}" for kind, names in problems.items() if names]
        parts += _hints(model, match, unexpected)
        raise StudyError(f"{path} does not fit {type(model).__name__}: {'; '.join(parts)}")
    _refuse_lossy(own, match, f"{path} does not fit {type(model).__name__}")
    try:
        model.load_state_dict({name: entry.tensor for name, entry in match.found.items()}, strict=False)
    except Exception as error:  # of tensors that are none to copy: without values, or of another layout
        raise StudyError(f"{path} does not fit {type(model).__name__}: {one_line(error)}") from error
    note = [f'without the prefix "{prefix}"'] if (prefix := prefix_in_dict(match)) else []
    note += [f'with "{match.cut}" put before its names'] if match.cut else []
    note += computed
    note += [f"left out: {listed(_by_module(ignored))}"] if ignored else []
    if match.rivals:
        note.append(f'"{weights_key(match)}" is taken; also there: {listed(match.rivals)} (see network.weights_key)')
    elif is_average(match) and key is None:
        note.append(
            f'"{weights_key(match)}" is taken, by its name an average or another copy of the weights; no others fit'
        )
    return "; ".join(note)


def other_outputs(model: nn.Module, path: Path) -> int | None:
    """The number of outputs of the checkpoint's network, if it differs from the model in that alone; else None.

    Raises StudyError if the file cannot be read, or holds several sets of weights that fit.
    """
    own = model.state_dict()
    match = best_match(model, _read_under(path, None, own)[0], path, None)
    shapes = [(own[name].shape, entry.tensor.shape) for name, entry in match.found.items()]
    other = [(mine, stored) for mine, stored in shapes if mine != stored]
    counts = {(mine[:1], stored[:1]) for mine, stored in other}
    if match.missing or len(counts) != 1 or len(other) > MOST_OF_HEADS:
        return None
    if any(len(mine) != len(stored) or mine[1:] != stored[1:] for mine, stored in other):
        return None
    [(_, (count,))] = counts
    return count


def class_names(path: Path, outputs: int) -> tuple[str, ...]:
    """The names of the outputs that a training program has saved beside the weights, in order; () without any."""
    values = {} if is_safetensors(path) else read_pickle(path)
    if not isinstance(values, dict):
        return ()
    for inside in (values, *(value for value in values.values() if isinstance(value, dict))):
        for key in NAMES_OF_CLASSES:
            names = _in_order(inside.get(key))
            if len(names) == len(set(names)) == outputs:
                return names
    return ()


def _in_order(named: object) -> tuple[str, ...]:
    """Names in a list, or in a dict of name → number or number → name with all numbers from 0; () for anything else."""
    if isinstance(named, dict):
        pairs = [(b, a) if isinstance(b, int) else (a, b) for a, b in named.items()]
        by_number = dict(pairs)
        named = [by_number.get(number) for number in range(len(pairs))]
    if not isinstance(named, list | tuple) or not all(isinstance(name, str) and name for name in named):
        return ()
    return tuple(named)


def _refuse_lossy(own: Mapping[str, Tensor], match: Match, what: str) -> None:
    """Raises StudyError if copying a tensor into the network's own would lose information."""
    pairs = {name: (own[name], entry.tensor) for name, entry in match.found.items()}
    if complex_ := [
        name for name, (own_tensor, stored) in pairs.items() if stored.is_complex() and not own_tensor.is_complex()
    ]:
        raise StudyError(
            f"{what}: the file has complex weights where the network's are real ({listed(complex_)}), and their "
            "imaginary parts would be lost; build the complex network, or save real weights"
        )
    real = {
        name for name, (own_tensor, _) in pairs.items() if own_tensor.is_floating_point() or own_tensor.is_complex()
    }
    if cast := [n for n in real if not (pairs[n][1].is_floating_point() or pairs[n][1].is_complex())]:
        raise StudyError(
            f"{what}: {len(cast)} weights are not real numbers ({min(cast)} is {pairs[min(cast)][1].dtype}), as of a "
            "quantised network; save the weights of the network in floating point"
        )
    for name in pairs.keys() - real:
        own_tensor, stored = pairs[name]
        if stored.is_floating_point() and not torch.equal(stored.to(own_tensor.dtype).to(stored.dtype), stored):
            raise StudyError(f"{what}: {name} holds fractions, where the network has {own_tensor.dtype}")


def _read_under(path: Path, key: str | None, own: Collection[str]) -> tuple[list[Entry], list[str]]:
    """The tensors of a checkpoint under the study's prefix, and notes on those that were computed.

    own: the network's names. Raises StudyError if nothing has the prefix.
    """
    names = {rest for _, rests in own_names(own) for rest in rests}
    entries, computed = folded(read(path), names)
    if key is None:
        return entries, computed
    if under_key := [entry for entry in entries if is_under(entry.dotted, key)]:
        return under_key, computed
    keys = sorted({".".join(entry.keys) or entry.dotted.partition(".")[0] for entry in entries})
    raise StudyError(f"network.weights_key: {path} has no {key!r}; it has {listed(keys)}")


def _hints(model: nn.Module, match: Match, unexpected: Sequence[str]) -> list[str]:
    """What probably causes a misfit: another head, no head, or a part that the study does not build."""
    if advice := way_out([*unexpected, *match.missing]):
        return [advice + (", or name them in network.weights_left_out if the network needs none" if match.fits else "")]
    if match.fits:
        return ["build the network that they belong to, or name them in network.weights_left_out if it needs none"]
    weights = [name for name, tensor in model.state_dict().items() if tensor.ndim > 1]
    head = weights[-1].rpartition(".")[0] if weights else ""
    concerned = [*match.missing, *(text.partition(" ")[0] for text in match.misshapen)]
    if match.misshapen and weights[-1:] != [name for name in weights[-1:] if name in match.found]:
        return []  # the head shares its memory with another module
    if not match.found or {name.rpartition(".")[0] for name in concerned} != {head}:
        return []
    if match.missing:
        return [] if unexpected else [f"the head ({head}) is absent: the file holds only what comes before it"]
    own, stored = model.state_dict()[weights[-1]], match.found[weights[-1]].tensor
    return [f"the head ({head}) is another's: {len(stored)} outputs instead of {len(own)}; see network.arguments"]


def _by_module(names: Sequence[str]) -> list[str]:
    """The names. Those of one module are joined into one entry with their number."""
    tops: dict[str, list[str]] = {}
    for name in names:
        tops.setdefault(name.partition(".")[0], []).append(name)
    return [
        names_of_module[0] if len(names_of_module) == 1 else f"{top}.* ({len(names_of_module)} tensors)"
        for top, names_of_module in tops.items()
    ]


# ---------------------------------------------------------------- saving


def save_like(model: nn.Module, path: Path, example: Path | None, key: str | None = None) -> None:
    """Write the weights like an example checkpoint: same format, dicts and names. Never leaves half a file.

    example: None for plain safetensors; otherwise the model must fit it. key: as in `fill`. Raises StudyError.
    """
    # Cloned, because safetensors refuses tensors that share memory, and a checkpoint stores each of them.
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    entries = {} if example is None else best_match(model, _read_under(example, key, state)[0], example, key).found
    in_safetensors = example is None or is_safetensors(example)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        if in_safetensors:
            named = {entries[name].name if entries else name: state[name] for name in entries or state}
            save_file(named, unfinished)
        else:
            torch.save(_nested([(entry, state[name]) for name, entry in entries.items()]), unfinished)


def _nested(tensors: Sequence[tuple[Entry, Tensor]]) -> dict[str, object]:
    """The tensors in nested dicts, by the keys of their entries."""
    top: dict = {}
    for entry, tensor in tensors:
        values = top
        for key in entry.keys:
            values = values.setdefault(key, {})
        values[entry.name] = tensor
    return top
