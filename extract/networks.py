"""The networks that are probed: built by name, with weights from a file that cannot carry code.

network = load(study.network)
network.model      # in eval mode, float32, on the CPU
network.classes    # the names of its outputs

architecture: vggnet, torchvision:NAME, timm:NAME, or path/to/file.py:function (called with `arguments`).
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from extract import fetching, fingerprints, study
from extract.answers import PLAIN, Answer
from extract.preprocess import Recipe
from extract.study import StudyError
from extract.texts import one_line

MOST_UNPACKED = 10  # times its size; torch does not compress, so that a checkpoint of its own comes to 1
WAY_OUT = 'download them elsewhere and name the file: network.weights = "FILE"'
NESTED_KEYS = ("params", "state_dict", "model")  # where checkpoints keep their weights, if not at the top


@dataclass(frozen=True)
class Network:
    """A network as a study names it. fingerprint: SHA-256 of all that its outputs depend on."""

    name: str
    architecture: str
    weights: str | None
    model: nn.Module
    classes: tuple[str, ...]
    recipe: Recipe
    fingerprint: str
    precision: str = "float32"
    answer: Answer = PLAIN

    def logits(self, images: Tensor) -> Tensor:
        """Logits (image, class) of prepared images."""
        return self.answer.run(self.model, images)


def load(settings: study.Network) -> Network:
    """Build the network that a study names and give it its weights. Raises StudyError."""
    model = _build(settings)
    if isinstance(settings.weights, Path):
        load_weights(model, settings.weights)
    refuse_nan(model, f"network {settings.name}", settings.weights)
    recipe = Recipe(**settings.input.model_dump())
    return describe(model.eval(), settings, recipe, str(settings.weights) if settings.weights else None)


def describe(
    model: nn.Module, settings: study.Network, recipe: Recipe, weights: str | None, name: str | None = None
) -> Network:
    """The network with its fingerprint; the name is not part of it, the code of a user's own function is."""
    code = settings.architecture
    if _is_file(code):
        path = Path(code.rpartition(":")[0])
        code = f"{fingerprints.of_file(path)}:{code.rpartition(':')[2]}"
    return Network(
        name=name or settings.name,
        architecture=settings.architecture,
        weights=weights,
        model=model,
        classes=settings.classes,
        recipe=recipe,
        fingerprint=fingerprints.of_values(
            code,
            settings.arguments,
            settings.classes,
            recipe.as_dict(),
            fingerprints.of_weights(model.state_dict()),
            *([] if settings.precision == "float32" else [settings.precision]),
        ),
        precision=settings.precision,
    )


def with_answer(network: Network, answer: Answer) -> Network:
    """The network, and how its logits are read; part of the fingerprint where that is not the plain way."""
    marks = answer.marks()
    fingerprint = fingerprints.of_values(network.fingerprint, *marks) if marks else network.fingerprint
    return replace(network, answer=answer, fingerprint=fingerprint)


def _is_file(architecture: str) -> bool:
    return architecture.rpartition(":")[0].endswith(".py")


def _build(settings: study.Network) -> nn.Module:
    architecture, arguments = settings.architecture, settings.arguments
    pretrained = settings.weights == "pretrained"
    library, _, name = architecture.partition(":")
    try:
        if _is_file(architecture):
            model = _call_users_function(architecture, arguments)
        elif architecture == "vggnet":
            from extract.vggnet import VGGNet

            model = VGGNet(**arguments)
        elif library == "torchvision":
            import torchvision

            _refuse_unknown(architecture, name.lower(), torchvision.models.list_models())
            weights = torchvision.models.get_model_weights(name).DEFAULT if pretrained else None
            if weights is not None:
                fetching.refuse_unreachable(
                    weights.url, f"network {settings.name}: the weights of {architecture}", WAY_OUT
                )
            model = torchvision.models.get_model(name, weights=weights, **arguments)
        elif library == "timm":
            import timm

            plain = name.partition(".")[0]  # what follows is a tag of its weights
            if ":" not in name and not timm.is_model(plain):
                _refuse_unknown(architecture, plain, timm.list_models())
            what = f"network {settings.name}: the weights of {architecture}"
            with fetching.from_hub(what, WAY_OUT) if pretrained else nullcontext():
                model = timm.create_model(name, pretrained=pretrained, **arguments)
        else:
            close = difflib.get_close_matches(library, ("vggnet", "torchvision", "timm"), n=1)
            raise StudyError(
                f"network.architecture: {architecture!r} is none of vggnet, torchvision:NAME, timm:NAME, "
                f"path/to/file.py:function{f'; did you mean {close[0]}?' if close else ''}"
            )
    except StudyError:
        raise
    except Exception as error:  # whatever a library or a user's function raises, the study named it
        raise StudyError(f"network {settings.name}: {architecture} could not be built: {_first_line(error)}") from error
    if pretrained and library not in ("torchvision", "timm"):
        raise StudyError(f"network.weights: 'pretrained' is for torchvision: and timm:; {architecture} needs a file")
    return model.float()


def _refuse_unknown(architecture: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        close = ", ".join(difflib.get_close_matches(name, known, n=3))
        hint = f"; did you mean {close}?" if close else ""
        raise StudyError(f"network.architecture: {architecture}: no such network{hint}")


def _call_users_function(architecture: str, arguments: Mapping[str, object]) -> nn.Module:
    file, _, function = architecture.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise StudyError(f"network.architecture: {path}: no such file")
    spec = importlib.util.spec_from_file_location(f"dissectdb_user_{path.stem}", path)
    assert spec is not None  # a path that ends in .py always has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    if not hasattr(module, function):
        close = difflib.get_close_matches(function, vars(module), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise StudyError(f"network.architecture: {path} has no function {function}{hint}")
    model = getattr(module, function)(**arguments)
    if not isinstance(model, nn.Module):
        raise StudyError(f"network.architecture: {path}:{function} returned {type(model).__name__}, no torch module")
    return model


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """The state dict of a file, and the key that it stands under (None: at the top). Runs no code of the file."""
    if path.is_dir():
        raise StudyError(f"{path}: is a folder, not a checkpoint")
    if not path.is_file():
        close = difflib.get_close_matches(path.name, os.listdir(path.parent) if path.parent.is_dir() else [], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise StudyError(f"{path}: no such checkpoint{hint}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path), None
    except Exception as error:  # an OSError, or one of safetensors' own
        raise StudyError(f"{path}: {why_unreadable(error)}") from error
    values = read_pickle(path)
    key = next((key for key in NESTED_KEYS if isinstance(values, dict) and isinstance(values.get(key), dict)), None)
    state = values[key] if key else values
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise StudyError(f"{path}: no state dict, neither at the top nor under {', '.join(NESTED_KEYS)}")
    return dict(state), key


def read_pickle(path: Path, mapped: bool = False) -> object:
    """What torch.save put into a file; runs no code of it. mapped: values are read when they are asked for."""
    try:
        _refuse_bomb(path)
        with warnings.catch_warnings(action="ignore"):  # about old pickles
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and zipfile.is_zipfile(path))
    except StudyError:
        raise
    except Exception as error:  # torch raises whatever its reader of pickles stumbles over
        raise StudyError(f"{path}: {why_unreadable(error)}") from error


def refuse_bomb(path: Path) -> None:
    """Raises StudyError where a file asks for far more memory than it is large; for who has torch.load called."""
    try:
        _refuse_bomb(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise StudyError(f"{path}: {why_unreadable(error)}") from error


def _refuse_bomb(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        calls = _holds(path, b"bytearray")
    else:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            unpacked = sum(part.file_size for part in parts)
            if unpacked > MOST_UNPACKED * path.stat().st_size:
                raise StudyError(
                    f"{path}: would unpack to {unpacked / 1e6:,.0f} MB, which no checkpoint does; "
                    "save its state_dict() with torch.save"
                )
            calls = any(b"bytearray" in archive.read(part) for part in parts if part.filename.endswith(".pkl"))
    if calls:  # torch lets it pass, of any size
        raise StudyError(f"{path}: holds more than tensors (bytearray), of any size; save its state_dict() only")


def _holds(path: Path, word: bytes) -> bool:
    with path.open("rb") as file:
        end = b""
        while block := file.read(1 << 20):
            if word in end + block:
                return True
            end = block[-len(word) :]
    return False


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill the model from a checkpoint; raises StudyError with every key that is missing, unexpected or misshapen."""
    state, _ = read_checkpoint(path)
    if state and all(name.startswith("module.") for name in state):  # saved from DataParallel
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    own = model.state_dict()
    problems = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ],
    }
    if any(problems.values()):
        parts = [f"{len(names)} {kind}: {_some(names)}" for kind, names in problems.items() if names]
        raise StudyError(f"{path} does not fit {type(model).__name__}: {'; '.join(parts)}")
    try:
        model.load_state_dict(state)
    except Exception as error:  # of tensors that are none to copy: without values, or of another layout
        raise StudyError(f"{path} does not fit {type(model).__name__}: {one_line(error)}") from error


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def refuse_nan(model: nn.Module, what: str, weights: str | Path | None) -> None:
    """Raises StudyError that names the first weight that is NaN or infinite."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise StudyError(f"{what}: {name} holds NaN or infinity{f' in {weights}' if weights else ''}")


def prefer_channels_last(model: nn.Module, run: Callable[[], object]) -> None:
    """Keep a model's weights channels last, where it runs so: its convolutions then need no copies in another order.

    run: a pass through the model. One that takes a view of its feature maps, for instance, does not run so, and is left
    as it was.
    """
    if any(weights.ndim > 4 for weights in model.parameters()):
        return
    model.to(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            run()
    except RuntimeError:
        model.to(memory_format=torch.contiguous_format)


def save_like(model: nn.Module, path: Path, example: Path | None) -> None:
    """Write the weights in the format of an example checkpoint (safetensors without one), never half-written."""
    # Cloned, because safetensors refuses weights that share memory; a checkpoint names each of them anyway.
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    key = None if example is None or example.suffix == ".safetensors" else read_checkpoint(example)[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        if example is None or example.suffix == ".safetensors":
            save_file(state, unfinished)
        else:
            torch.save({key: state} if key else state, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def why_unreadable(error: Exception) -> str:
    """What reading a file of weights failed of, in one line."""
    if found := re.search(r"GLOBAL ([\w.]+)|(TorchScript)", str(error)):
        what = found[1] or found[2]
        return f"holds more than tensors ({what}), and loading it could run code; save its state_dict() only"
    if isinstance(error, pickle.UnpicklingError):  # whose own words advise to run the code
        return "not a readable checkpoint: it holds more or other things than tensors; save its state_dict() only"
    return f"not a readable checkpoint: {one_line(_first_line(error))}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def recipe_json(recipe: Recipe) -> str:
    """The recipe as text, the same for the same recipe."""
    return json.dumps(recipe.as_dict(), sort_keys=True)
