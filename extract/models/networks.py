"""Build the network that is probed, by name, and load its weights without running code from the file.

network = load(study.network)
network.model      # in eval mode, float32, on the CPU
network.classes    # the names of its outputs

architecture: vggnet, torchvision:NAME, timm:NAME, hf:NAME_OR_FOLDER, or path/to/file.py:function, called with
`arguments`.
"""

from __future__ import annotations

import importlib.metadata
import logging
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from dissectdb.did_you_mean import did_you_mean
from dissectdb.extract import fingerprints, study
from dissectdb.extract.models import checkpoints, fetching, hugging_face, rebuilding, recipes, repeatability
from dissectdb.extract.models.hooks import modules_by_name
from dissectdb.extract.models.imports import NO_IMPORTS, Imports
from dissectdb.extract.models.logits import PLAIN, Answer
from dissectdb.extract.models.opened_files import OUR_NAMES
from dissectdb.extract.models.preprocessing import Recipe
from dissectdb.extract.models.user_code import PREFIX, UserCode
from dissectdb.extract.study import StudyError

if TYPE_CHECKING:
    from dissectdb.extract.models.control_networks import ControlOf

log = logging.getLogger("dissectdb")

WEIGHTS = 'name a checkpoint, "pretrained" (for torchvision:, timm: and hf:), or "random", with network.seed'
WAY_OUT = 'download them elsewhere and name the file: network.weights = "FILE"'

# Package versions became part of the fingerprint late. The versions current then are left out of it, so that networks
# in older warehouses keep their fingerprints until a package changes.
VERSIONS_BEFORE = {"timm": "1.0.31", "torchvision": "0.29.1"}
NOT_COUNTED = {"numpy", "torch", *OUR_NAMES}  # torch's version is in the table `extractions`


@dataclass(frozen=True, kw_only=True)
class NetworkIdentity:
    """What a warehouse stores about a network.

    classes: the names of its outputs; () if it has no classifier. fingerprint: SHA-256 of everything that its outputs
    depend on. precision: of its arithmetic. control: what it is a control of. files: that a user's code was loaded from
    or has read.
    """

    name: str
    architecture: str
    weights: str | None
    classes: tuple[str, ...]
    fingerprint: str
    precision: str = "float32"
    control: ControlOf | None = None
    files: Sequence[Path] = ()
    imports: Imports = NO_IMPORTS

    def preprocessing(self) -> str:
        """The preprocessing of its images, as JSON; {} if unknown."""
        return "{}"

    def modules(self) -> Mapping[str, nn.Module | None]:
        """Every module under each of its names; None for a module of which only the outputs are known."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Network(NetworkIdentity):
    """A network that can be run.

    code: what stands for the code in the fingerprint, a JSON value. answer: how its logits are read. labels: names of
    its outputs in its own configuration; () if there are none.
    """

    model: nn.Module
    recipe: Recipe
    code: object = None
    answer: Answer = PLAIN
    labels: tuple[str, ...] = ()

    def preprocessing(self) -> str:
        return self.recipe.as_json()

    def modules(self) -> Mapping[str, nn.Module]:
        return modules_by_name(self.model)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (image, class) of prepared images; features without a classifier."""
        return self.answer.run(self.model, images)


def load(settings: study.Network, recipe: Recipe | None = None) -> Network:
    """Build the network that a study names and give it its weights. Raises StudyError.

    recipe: how images are prepared; None: as the study or the weights' metadata say.
    """
    model, code = _build(settings)
    if isinstance(settings.weights, Path):
        note = checkpoints.fill(model, settings.weights, settings.weights_key, settings.weights_left_out)
        if note:
            log.info(f"network {settings.name}, weights {settings.weights.name}: {note}")
    elif settings.weights is None:
        _refuse_library(settings, model)
    refuse_nan(model, f"network {settings.name}", settings.weights)
    recipe = recipe or recipes.find(settings, model)
    repeatability.eval_mode(model)
    if code is not None:
        images = repeatability.noise(recipe)[:2]
        output = _run_once(model, images, code)
        _refuse_drawn(settings, model, code, images, output)
    weights = str(settings.weights) if settings.weights else None
    network = describe(model, settings, recipe, weights, code=_code(settings.architecture, model, code))
    if settings.architecture.startswith("hf:"):
        files = hugging_face.files(settings.architecture.removeprefix("hf:"))
        return replace(network, files=files, labels=hugging_face.labels(model))
    return network if code is None else replace(network, files=code.files(), imports=code.imports())


def describe(
    model: nn.Module,
    settings: study.Network,
    recipe: Recipe,
    weights: str | None,
    name: str | None = None,
    *,
    code: object,
) -> Network:
    """The network with its fingerprint, which leaves out the name. code: that of the loaded network."""
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
        code=code,
    )


def with_answer(network: Network, answer: Answer) -> Network:
    """The network with an answer. Any answer but the plain one changes the fingerprint."""
    marks = answer.marks()
    fingerprint = fingerprints.of_values(network.fingerprint, *marks) if marks else network.fingerprint
    return replace(network, answer=answer, fingerprint=fingerprint)


# ---------------------------------------------------------------- the code is a part of the network


def _run_once(model: nn.Module, images: Tensor, code: UserCode) -> object:
    """What a user's network returns. Afterwards `code` has noted the files that the network imports and reads."""
    try:
        with torch.inference_mode():
            return code.run(lambda: model(images.clone()))
    except Exception:  # any error of the user's code; network_plan.load_network runs it again and reports the error
        return None


def _code(architecture: str, model: nn.Module, code: UserCode | None) -> object:
    """What stands for the code in the fingerprint: a name or a hash, the user's other modules, and package versions.

    Packages are those that define a module of the network, and those that the user's code imports. Without modules
    and versions it is the plain name or hash, as in older warehouses.
    """
    main: object = hugging_face.identity(model) if architecture.startswith("hf:") else architecture
    modules: Mapping[str, str] = {}
    packages = {type(module).__module__.partition(".")[0] for module in model.modules()}
    if code is not None:
        main, modules = f"{code.digest}:{architecture.rpartition(':')[2]}", code.modules()
        packages |= code.packages()
    counted = versions_of(package for package in packages if not package.startswith(PREFIX))
    return [main, modules, counted] if modules or counted else main


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The versions of packages that count in a fingerprint."""
    versions = {package: _version(package) for package in set(packages) - NOT_COUNTED}
    return {name: version for name, version in versions.items() if version and version != VERSIONS_BEFORE.get(name)}


def _version(package: str) -> str | None:
    """The version of a package's distribution, without the build (+cu130); None if there is no distribution."""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # the distribution and the package differ in name
        distributions = _distributions().get(package)
        if not distributions:
            return None
        version = importlib.metadata.version(distributions[0])
    return version.partition("+")[0]


_distributions = cache(importlib.metadata.packages_distributions)  # takes a second


# ---------------------------------------------------------------- building


def _is_file(architecture: str) -> bool:
    return architecture.rpartition(":")[0].endswith(".py")


def _refuse_library(settings: study.Network, model: nn.Module) -> None:
    """Raises StudyError if the study names no weights for a library's network: its weights would be random."""
    if not _is_file(settings.architecture) and model.state_dict():
        raise StudyError(f"network.weights is missing, and {settings.architecture} would be random: {WEIGHTS}")


def _refuse_drawn(settings: study.Network, model: nn.Module, code: UserCode, images: Tensor, output: object) -> None:
    """Raises StudyError if a second call of the user's function builds a network that answers differently.

    The second network takes the weights of the first if these come from a file. Without a file, the weights that the
    function returns must be the same each time.
    """
    again = _build_again(settings, code)
    if again is None:
        return
    if isinstance(settings.weights, Path):
        again.load_state_dict(model.state_dict(), strict=False)
    elif settings.weights is None:
        tensors_again = again.state_dict()
        for name, tensor in model.state_dict().items():
            if name not in tensors_again or fingerprints.of_weights({"": tensor}) != fingerprints.of_weights(
                {"": tensors_again[name]}
            ):
                raise StudyError(
                    f"network.weights is missing, and {settings.architecture} is random: {name} differs when it is "
                    f"called again; {WEIGHTS}"
                )
    rebuilding.refuse_other_answers(settings.architecture, model, again, images, output, settings.weights == "random")


def _build_again(settings: study.Network, code: UserCode) -> nn.Module | None:
    """Build the model a second time, from the file or, if it cannot be loaded twice, from the loaded code.

    If neither works: returns None with a warning, or raises StudyError if the study names no weights.
    """
    try:
        return _build(settings)[0]
    except StudyError as error:  # for example, a registry accepts a name only once
        try:
            return _build(settings, code)[0]
        except StudyError:
            if settings.weights is None:
                raise error from None
            log.warning(
                f"network {settings.name}: {settings.architecture} cannot be called twice, so it is not known whether "
                f"its answers depend on random numbers that are drawn while it is built ({error})"
            )
            return None


def _build(settings: study.Network, code: UserCode | None = None) -> tuple[nn.Module, UserCode | None]:
    """The model that the study names, and the user's code if the model comes from a file. Raises StudyError.

    code: loaded before; None: load it.
    """
    if settings.weights != "random":
        return _built(settings, code)
    with _seeded(settings.seed):
        return _built(settings, code)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Inside the block, the default generators of torch, Python and numpy are seeded; afterwards they are restored."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def _built(settings: study.Network, code: UserCode | None) -> tuple[nn.Module, UserCode | None]:
    architecture, arguments = settings.architecture, settings.arguments
    pretrained = settings.weights == "pretrained"
    library, _, name = architecture.partition(":")
    try:
        if _is_file(architecture):
            model, code = _call_users_function(architecture, arguments, code)
        elif architecture == "vggnet":
            from dissectdb.extract.models.vggnet import VGGNet

            model = VGGNet(**arguments)
        elif library == "torchvision":
            import torchvision

            _refuse_unavailable(architecture, name.lower(), torchvision.models.list_models())
            weights = torchvision.models.get_model_weights(name).DEFAULT if pretrained else None
            if weights is not None:
                fetching.refuse_unreachable(
                    weights.url, f"network {settings.name}: the weights of {architecture}", WAY_OUT
                )
            model = torchvision.models.get_model(name, weights=weights, **arguments)
        elif library == "timm":
            import timm

            model_name = name.partition(".")[0]  # a tag of the weights may follow
            if ":" not in name and not timm.is_model(model_name):
                _refuse_unavailable(architecture, model_name, timm.list_models())
            what = f"network {settings.name}: the weights of {architecture}"
            with fetching.from_hub(what, WAY_OUT) if pretrained else nullcontext():
                model = timm.create_model(name, pretrained=pretrained, **arguments)
        elif library == "hf":
            what = f"network {settings.name}: the weights of {architecture}"
            model = hugging_face.build(name, settings.weights, arguments, what)
        else:
            hint = did_you_mean(library, ("vggnet", "torchvision", "timm", "hf"), before="; ")
            raise StudyError(
                f"network.architecture: {architecture!r} is not one of vggnet, torchvision:NAME, timm:NAME, "
                f"hf:NAME, path/to/file.py:function{hint}"
            )
    except StudyError:
        raise
    except Exception as error:  # a library or a user's function may raise anything
        raise StudyError(f"network {settings.name}: {architecture} could not be built: {_first_line(error)}") from error
    if pretrained and library not in ("torchvision", "timm", "hf"):
        raise StudyError(
            f"network.weights: 'pretrained' is for torchvision:, timm: and hf:; {architecture} needs a file"
        )
    return model.float(), code


def _refuse_unavailable(architecture: str, name: str, available: Collection[str]) -> None:
    if name not in available:
        hint = did_you_mean(name, available, 3, before="; ")
        raise StudyError(f"network.architecture: {architecture}: no such network{hint}")


def _call_users_function(
    architecture: str, arguments: Mapping[str, object], code: UserCode | None
) -> tuple[nn.Module, UserCode]:
    file, _, function = architecture.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise StudyError(f"network.architecture: {path}: no such file")
    code = code or UserCode(path)
    if not hasattr(code.main, function):
        hint = did_you_mean(function, vars(code.main), before="; ")
        raise StudyError(f"network.architecture: {path} has no function {function}{hint}")
    model = code.function(function)(**arguments)
    if not isinstance(model, nn.Module):
        raise StudyError(f"network.architecture: {path}:{function} returned {type(model).__name__}, not a torch module")
    return model, code


def refuse_nan(model: nn.Module, what: str, weights: str | Path | None) -> None:
    """Raises StudyError that names the first weight that is NaN or infinite."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise StudyError(f"{what}: {name} holds NaN or infinity{f' in {weights}' if weights else ''}")


def prefer_channels_last(model: nn.Module, run: Callable[[], object]) -> None:
    """Store a model's weights channels last, if it runs so: its convolutions then need no reordered copies.

    run: a pass through the model. If it fails, for instance because the model takes a view of a feature map, the model
    is left as it was.
    """
    if any(weights.ndim > 4 for weights in model.parameters()):
        return
    model.to(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            run()
    except RuntimeError:
        model.to(memory_format=torch.contiguous_format)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
